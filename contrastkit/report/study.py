"""A page on a study: what was asked, assumed, compared, estimated, and what could be said against it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from contrastkit.causal import graph as graphs
from contrastkit.causal.compare import Estimate
from contrastkit.causal.diagnostics import THRESHOLD, Balance, balance_table, love_plot
from contrastkit.causal.effects import Effects, estimate_effects
from contrastkit.causal.estimand import without_suffix
from contrastkit.causal.estimate import Estimator
from contrastkit.causal.models import Models
from contrastkit.causal.names import Estimand, EstimatorName, Measure
from contrastkit.causal.propensity import overlap_plot
from contrastkit.causal.refutation import Refutation, refute_study
from contrastkit.causal.refute import DRAWS, GAMMA, Verdict, digits
from contrastkit.causal.scores import Scores, propensity_scores
from contrastkit.causal.study import Study
from contrastkit.errors import UserError
from contrastkit.report.content import Block, Code, Facts, Missing, Page, RunContent, Section, Table, Text
from contrastkit.report.pictures import drawn
from contrastkit.report.study_charts import forest_chart, graph_chart
from contrastkit.tables.checks import as_outcome
from contrastkit.version import __version__

AMONG = {"ATT": "the treated", "ATC": "the untreated", "ATE": "all units", "ATO": "the units with overlap"}
ASSUMED = (
    "No cause of both treatment and outcome is missing among the covariates; every unit could have been in either arm; "
    "and the treatment of one unit does not change the outcome of another. The data cannot show the first and the last."
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is done with a study.

    Attributes:
        estimator, estimand, measure: of the estimate that the page is about.
        placebo: the study of an outcome that the treatment cannot have affected, if there is one.
        graph: a causal graph, if one is given.
        sample_weight, cluster: columns.
        draws, gamma: see :func:`contrastkit.causal.refute.refute`.
    """

    estimator: EstimatorName = "entropy"
    estimand: Estimand = "ATT"
    measure: Measure = "difference"
    models: Models = Models()
    placebo: Study | None = None
    graph: str | None = None
    sample_weight: str | None = None
    cluster: str | None = None
    draws: int = DRAWS
    gamma: float = GAMMA
    seed: int = 0


def study_page(
    study: Study, plan: Plan, commands: Sequence[str], on_step: Callable[[str], None] = lambda step: None
) -> Page:
    """What the page says.

    Args:
        commands: that make its parts one by one.
        on_step: called with the name of each part when it is begun.

    Raises:
        UserError: the estimator refuses the study, or it has no outcome.
    """
    how: dict[str, Any] = {name: getattr(plan, name) for name in ("models", "sample_weight", "cluster", "seed")}
    on_step("estimating")
    effects = estimate_effects(study, estimand=plan.estimand, measure=plan.measure, **how)
    row = next((row for row in effects.rows if row.name == plan.estimator), Estimate(plan.estimator))
    if row.refused:
        raise UserError(f"{plan.estimator}: {row.refused}")
    on_step("refuting")
    refutation = refute_study(
        study, plan.estimator, estimand=plan.estimand, placebo=plan.placebo, draws=plan.draws, gamma=plan.gamma, **how
    )
    on_step("comparing the arms")
    fitted = refutation.estimate
    sections = (
        Section("question", "The question", tuple(_question(study, fitted))),
        Section("graph", "What is assumed", tuple(_assumed(study, plan.graph))),
        Section("overlap", "Overlap", tuple(_overlap(study, plan))),
        Section("balance", "Balance", tuple(_balance(study, fitted, plan.estimator))),
        Section("estimates", "Estimates", tuple(_estimates(effects, plan.estimator))),
        Section("refutation", "Attempts to refute it", tuple(_refuted(refutation, plan.measure))),
        Section("sensitivity", "What a hidden cause would do", tuple(_sensitivity(refutation.verdicts))),
        Section("reproduce", "Reproduce", (Text("Each part by itself, and this page:"), Code(tuple(commands)))),
    )
    title = f"The effect of {study.treatment_label} on {study.outcome_label}"
    lead = summary(study, row, refutation, plan.measure)
    run = RunContent(study.source, lead, refutation.passed, _status(refutation), sections)
    return Page(title, __version__, None, (run,))


def summary(study: Study, row: Estimate, refutation: Refutation, measure: Measure = "difference") -> str:
    """The estimate and the checks in plain words, which claim no more than the tables."""
    among = AMONG.get(without_suffix(row.estimand), "the population of its estimand")
    kept = "" if row.estimand in AMONG else f" ({row.estimand})"
    if measure == "difference":
        text = f"{study.treatment_label} changes the mean of {study.outcome_label} among {among}{kept} by"
    else:
        text = (
            f"the {_named(measure, study)} of {study.outcome_label} by {study.treatment_label} among {among}{kept} is"
        )
    text = f"By {refutation.estimator}, {text} {digits(row.effect)}"
    interval = "" if math.isnan(row.se) else f" (95 % interval {digits(row.low)} to {digits(row.high)})"
    left = f", under weights that leave a largest |SMD| of {row.smd:.3g}, above {THRESHOLD:g}"
    text += interval + (left if row.smd > THRESHOLD else "")
    if not interval:
        text += "; the estimate has no standard error, and so says nothing of chance."
    else:
        null = 0 if measure == "difference" else 1
        text += ": no effect is within the interval." if row.low <= null <= row.high else "."
    failed = [verdict.name for verdict in refutation.verdicts if verdict.passed is False]
    if failed:
        return f"{text} It fails {len(failed)} of the checks below ({', '.join(failed)}): do not take it as the effect."
    return f"{text} It is the effect of the treatment only if what is assumed holds."


def _named(measure: Measure, study: Study) -> str:
    """What readers call a measure: of means of 0 and 1, the ratio is that of risks."""
    if measure == "odds-ratio":
        return "odds ratio"
    return "risk ratio" if np.isin(as_outcome(study.outcomes(), len(study.T)), (0, 1)).all() else "ratio of the means"


def _status(refutation: Refutation) -> str:
    words = [verdict.word for verdict in refutation.verdicts]
    return ", ".join(f"{words.count(word)} {word}" for word in ("PASS", "FAIL", "NOT RUN") if word in words)


def _question(study: Study, fitted: Estimator) -> list[Block]:
    treated = int(study.T.sum())
    among = AMONG.get(without_suffix(fitted.estimand_), "its own units")
    facts = (
        ("data", study.source),
        ("treatment", study.treatment_label),
        ("outcome", study.outcome_label),
        ("units", f"{treated:,} treated, {len(study.T) - treated:,} untreated"),
        ("estimand", f"{fitted.estimand_}: the effect on {among}"),
        ("adjusted for", ", ".join(study.covariates)),
    )
    return [Facts(facts), *(Text(notice) for notice in study.notices)]


def _assumed(study: Study, source: str | None) -> list[Block]:
    if source is None:
        return [Text(ASSUMED), Missing("no causal graph: give one with --graph, and it is checked against the columns")]
    graph = graphs.read(source)
    T, Y = graphs.question(graph, study.treatment, study.outcome)
    columns = set(map(str, study.frame.columns))
    given = dict.fromkeys(study.covariates, "adjusted") | {T: "treatment", Y: "outcome"}
    given |= {name: "unobserved" for name in graph if name not in columns}
    found = graphs.identify(graph, T, Y, unobserved=unobserved(study, source))
    sets = [", ".join(names) or "nothing" for names in found.backdoor_sets]
    facts = (
        ("causal paths", "; ".join(found.causal) or "none: no effect"),
        ("back-door paths", "; ".join(found.backdoor) or "none"),
        ("adjust for", " or ".join(sets)),
        ("never adjust for", ", ".join(found.never) or "nothing named"),
    )
    alt = f"Causal graph with {len(graph)} variables and {graph.number_of_edges()} arrows"
    return [Text(ASSUMED), drawn(partial(graph_chart, graph, given), alt=alt), Facts(facts)]


def unobserved(study: Study, source: str) -> list[str]:
    """The variables of a graph that are no columns of the study."""
    columns = set(map(str, study.frame.columns))
    return [name for name in graphs.variables(graphs.read(source)) if name not in columns]


def _overlap(study: Study, plan: Plan) -> list[Block]:
    try:
        scores = propensity_scores(study, model=plan.models.propensity, seed=plan.seed)
    except UserError as error:
        return [Missing(f"no propensity scores: {error}")]
    picture = drawn(
        partial(overlap_plot, scores.scores, scores.treated), alt="Histograms of the propensity scores of both arms"
    )
    return [picture, Facts(_of_scores(scores)), *(Text(remark) for remark in scores.remarks)]


def _of_scores(scores: Scores) -> tuple[tuple[str, str], ...]:
    kept = scores.within_crump
    return (
        ("model", scores.model),
        ("AUC", f"{scores.auc:.3f}"),
        ("shared area", f"{scores.overlap:.1%}{': little overlap' if scores.little_overlap else ''}"),
        ("Crump's trimming", f"would keep {int(kept.sum()):,} of {len(kept):,} units"),
    )


def _balance(study: Study, fitted: Estimator, estimator: str) -> list[Block]:
    if fitted.weights_ is None:
        return [Missing(f"{estimator} has no weights under which the arms could be compared")]
    balance = balance_table(study.X, study.T, fitted.weights_, estimand=without_suffix(fitted.estimand_))
    alt = f"Love plot: the largest difference is {balance.worst_before:.3f} before, {balance.worst:.3f} after"
    side = "within" if balance.balanced else "above"
    (treated, treated_after), (untreated, untreated_after) = balance.n
    return [
        drawn(lambda path: love_plot(balance, path, after=estimator), alt=alt),
        Text(
            f"The largest difference that is left, {balance.worst:.4f}, is {side} {THRESHOLD:g}. Effective sample "
            f"sizes before and after: treated {treated:,.1f} and {treated_after:,.1f}, untreated {untreated:,.1f} and "
            f"{untreated_after:,.1f}."
        ),
        _balance_rows(balance),
    ]


def _balance_rows(balance: Balance) -> Table:
    rows = tuple(
        (name, *(_number(value, 4) for value in (*smd, *ratio, *ks)))
        for name, smd, ratio, ks in zip(balance.names, balance.smd, balance.variance_ratio, balance.ks, strict=True)
    )
    columns = ("covariate", "SMD", "SMD after", "variance ratio", "ratio after", "KS", "KS after")
    return Table("Each covariate before and after weighting", columns, rows, tuple(range(1, 7)), folded=True)


def _estimates(effects: Effects, chosen: str) -> list[Block]:
    ratio = effects.measure != "difference"
    rows = tuple(
        (
            row.name, row.estimand, *((digits(row.treated), digits(row.untreated)) if ratio else ()),
            digits(row.effect), _digits(row.se), _digits(row.low), _digits(row.high), _number(row.ess, 1),
            _number(row.smd, 3),
        )
        for row in effects.estimates
    )  # fmt: skip
    note = "low, high: 95 % interval. ESS: the smaller arm's effective sample size. |SMD|: the largest that is left."
    columns = ["estimator", "estimand", "effect", "SE", "low", "high", "ESS", "|SMD|"]
    if ratio:
        columns[2:3] = ["with", "without", effects.measure.replace("-", " ")]
        note = f"with, without: mean outcomes. SE: of the logarithm, of which the interval is too. {note}"
    if effects.truth is not None:
        note += f" An experiment found {effects.truth:,.2f}."
    said = [f"{', '.join(names)}: {text}" for text, names in (effects.refusals | effects.remarks_on_rows).items()]
    return [
        drawn(partial(forest_chart, effects, chosen), alt="Estimates with their intervals; the table has the numbers"),
        Table("Every estimator on the same units", tuple(columns), rows, tuple(range(2, len(columns))), note),
        *(Text(text) for text in (*effects.remarks, *said)),
    ]


def _refuted(refutation: Refutation, measure: Measure) -> list[Block]:
    rows = tuple((verdict.name, verdict.word, verdict.sentence) for verdict in refutation.verdicts)
    blocks: list[Block] = [
        Table(f"Checks of the estimate by {refutation.estimator}", ("check", "", "what was found"), rows)
    ]
    if measure != "difference":
        blocks.append(
            Text(
                f"The checks, and what a hidden cause would do, are of the difference of means, "
                f"{digits(refutation.estimate.effect_)}: they know no other measure."
            )
        )
    if not any(verdict.name == "placebo outcome" for verdict in refutation.verdicts):
        blocks.append(Missing("no outcome that the treatment cannot have affected, the best check: --placebo-outcome"))
    return blocks


def _sensitivity(verdicts: Sequence[Verdict]) -> list[Block]:
    blocks: list[Block] = []
    for verdict in verdicts:
        if "grid" in verdict.numbers:
            strengths = [f"{strength:.0%}" for strength in verdict.numbers["strengths"]]
            rows = tuple(
                (strength, *("refused" if effect is None else digits(effect) for effect in row))
                for strength, row in zip(strengths, verdict.numbers["grid"], strict=True)
            )
            note = "Rows: its partial R^2 with the treatment; columns: with the outcome."
            numbers = tuple(range(1, len(strengths) + 1))
            blocks.append(Table("The effect with one more confounder", ("", *strengths), rows, numbers, note))
    return blocks or [Missing("no confounder could be simulated: see the checks")]


def _digits(value: float) -> str:
    return "" if math.isnan(value) else digits(value)


def _number(value: float, decimals: int) -> str:
    return "" if math.isnan(value) else f"{value:,.{decimals}f}"
