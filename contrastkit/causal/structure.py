"""A structural model of a table: its checks, interventions, effects along paths and counterfactuals of a row."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import networkx as nx
import numpy as np

from contrastkit.causal.columns import Columns
from contrastkit.causal.estimate.resampling import REFUSED
from contrastkit.causal.form import Form
from contrastkit.causal.graph import read, require_known
from contrastkit.causal.names import MechanismModel
from contrastkit.causal.structural.checks import Check, check
from contrastkit.causal.structural.model import Do, StructuralModel, Values, observed
from contrastkit.causal.structural.paths import PathEffect, path_effects
from contrastkit.causal.study import AS_COLUMNS
from contrastkit.errors import UserError, listed
from contrastkit.tables.identity import DIGEST, RowIds

DRAWS = 10_000
DOUBTFUL = 0.01  # p-value below which a check is remarked on


@dataclass(frozen=True)
class Mean:
    """The mean of a number, or the share of a level, over simulated rows; errors as those of :class:`PathEffect`."""

    name: str
    mean: float
    mc_error: float
    se: float | None = None


@dataclass(frozen=True)
class Intervention:
    """What is set to which values, and the means of the variables then, in the order of the graph."""

    do: dict[str, str]
    means: tuple[Mean, ...]


@dataclass(frozen=True)
class Counterfactual:
    """A variable of the row, as it was and as it would have been under each intervention: a number, or the share of
    each level among the noises with which the row may have come about."""

    name: str
    observed: float
    would_be: tuple[Mean, ...]


@dataclass(frozen=True)
class Structure:
    """What a structural model says.

    Attributes:
        checks: of the mechanisms, in the order of the graph.
        interventions: the first is none, if there are any.
        outcome, total, paths: the effect of the second intervention less the first on the outcome, and along each path.
        row: of ``counterfactuals``, by its identifier or else its number; None without one.
        notices: what was left out.
    """

    mechanism: MechanismModel
    n: int
    draws: int
    refits: int
    checks: tuple[Check, ...]
    interventions: tuple[Intervention, ...]
    outcome: str | None
    total: PathEffect | None
    paths: tuple[PathEffect, ...]
    row: str | None
    counterfactuals: tuple[Counterfactual, ...]
    notices: tuple[str, ...]
    remarks: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        paths = [path._asdict() for path in self.paths]
        return asdict(self) | {"total": None if self.total is None else self.total._asdict(), "paths": paths}


def structure(
    columns: Columns,
    graph: str,
    *,
    mechanism: MechanismModel = "linear",
    do: Sequence[dict[str, str]] = (),
    outcome: str | None = None,
    counterfactual: str | None = None,
    form: Form = AS_COLUMNS,
    draws: int = DRAWS,
    refits: int = 0,
    seed: int = 0,
) -> Structure:
    """Fit a structural model and ask it.

    Args:
        graph: a causal graph (:func:`contrastkit.causal.graph.read`), all of whose variables are columns.
        mechanism: ``linear`` or ``boost``.
        do: interventions: values by variable, as text.
        outcome: the variable on which the effect of the second intervention less the first is taken apart into paths.
        counterfactual: the row to ask what would have been, by its identifier or its number in the table, from 0.
        form: which variables are levels although they are numbers, and whether rows that lack a value are dropped.
        draws: rows to simulate.
        refits: samples of the bootstrap, for standard errors that know of the estimation; 0 for none.

    Raises:
        UserError: a graph or columns that cannot be used, an intervention on no variable or to none of its values, or
            a question that needs others.
    """
    _check_questions(do, outcome, counterfactual, refits)
    columns, notices = columns.variables(sorted(observed(read(graph), columns.names)), form)
    model = StructuralModel.fit(columns, graph, mechanism, seed)
    changes = [model.parsed(given) for given in do]
    if outcome is not None:
        require_known(model.graph, [outcome])
    answers, refused = _answers(model, changes, outcome, draws, seed), 0
    if refits:
        answers, refused = _with_errors(model, answers, changes, outcome, mechanism, refits, draws, seed)
    row, counterfactuals = None, tuple[Counterfactual, ...]()
    if counterfactual is not None:
        row, counterfactuals = _counterfactuals(model, columns, counterfactual, changes, draws, seed)
    checks = tuple(check(model, name, seed) for name in model.order)
    return Structure(
        mechanism=mechanism,
        n=len(columns),
        draws=draws,
        refits=refits,
        checks=checks,
        interventions=tuple(
            Intervention(dict(given), means) for given, means in zip([{}, *do], answers.means, strict=False)
        ),
        outcome=outcome,
        total=answers.total,
        paths=answers.paths,
        row=row,
        counterfactuals=counterfactuals,
        notices=notices,
        remarks=(*_extrapolated(model, do), *_remarks(checks, mechanism, refused, refits)),
    )


def _check_questions(
    do: Sequence[dict[str, str]], outcome: str | None, counterfactual: str | None, refits: int
) -> None:
    if outcome is not None and len(do) != 2:
        raise UserError("--outcome: effects along paths compare two interventions: give --do twice")
    if counterfactual is not None and not do:
        raise UserError("--counterfactual: say what is changed in the row, with --do")
    if refits == 1:
        raise UserError("--refits 1: one sample has no spread: give two or more, or 0 for none")


class _Answers(NamedTuple):
    """What a model says of interventions, none of which is the first, and of effects along paths."""

    means: tuple[tuple[Mean, ...], ...]
    total: PathEffect | None
    paths: tuple[PathEffect, ...]

    def numbers(self) -> list[float]:
        effects = self.paths if self.total is None else (self.total, *self.paths)
        return [mean.mean for means in self.means for mean in means] + [each.effect for each in effects]


def _answers(model: StructuralModel, changes: Sequence[Do], outcome: str | None, draws: int, seed: int) -> _Answers:
    noise = model.noise(draws, seed)
    total, paths = None, list[PathEffect]()
    if outcome is not None:
        total, paths = path_effects(model, noise, changes[0], changes[1], outcome)
    asked: list[Do] = [{}, *changes] if changes else []
    return _Answers(tuple(_means(model, model.simulated(noise, each)) for each in asked), total, tuple(paths))


def _with_errors(
    model: StructuralModel, answers: _Answers, changes: Sequence[Do], outcome: str | None, kind: MechanismModel,
    refits: int, draws: int, seed: int,
) -> tuple[_Answers, int]:  # fmt: skip
    """The answers with standard errors from models of samples that are drawn again, and how many were refused.

    Raises:
        UserError: more than a fifth of the samples are refused.
    """
    numbers, reason = [], ""
    for k in range(refits):
        try:
            again = model.resampled(kind, seed + 1 + k)
            numbers.append(_answers(again, changes, outcome, draws, seed + 1 + k).numbers())
        except UserError as error:
            reason = str(error)
    refused = refits - len(numbers)
    if refused > REFUSED * refits:
        raise UserError(f"{refused} of {refits} samples of the bootstrap are refused ({reason}): leave --refits out")
    se = iter(np.std(numbers, axis=0, ddof=1).tolist())
    means = tuple(tuple(replace(mean, se=next(se)) for mean in each) for each in answers.means)
    total = None if answers.total is None else answers.total._replace(se=next(se))
    return _Answers(means, total, tuple(path._replace(se=next(se)) for path in answers.paths)), refused


def _means(model: StructuralModel, values: Values) -> tuple[Mean, ...]:
    found = []
    for name in model.order:
        features = model.variables[name].encoded(values[name])
        for label, column in zip(model.variables[name].columns(), features.T, strict=True):
            found.append(Mean(label, float(column.mean()), float(column.std(ddof=1) / np.sqrt(len(column)))))
    return tuple(found)


def _counterfactuals(
    model: StructuralModel, columns: Columns, which: str, changes: Sequence[Do], draws: int, seed: int
) -> tuple[str, tuple[Counterfactual, ...]]:
    """The identifier of a row, and what its variables would have been: abduction, action, prediction (Pearl 2009,
    Theorem 7.1.7).

    Raises:
        UserError: there is no such row, or a variable of more than two levels would change, whose value under other
            causes the data do not tell.
    """
    ids = RowIds.of(columns.frame)
    known = np.flatnonzero(ids.ids == which)
    if not len(known) and which.isdecimal():
        known = np.flatnonzero(ids.numbers == int(which))
    if len(known) != 1:
        raise UserError(f"--counterfactual {which}: no such row: give its number, from 0, or its {ids.name}")
    row = {name: float(model.variables[name].values[known[0]]) for name in model.order}
    moved = {
        name
        for change in changes
        for each in change
        for name in nx.descendants(model.graph, each)
        if name not in change
    }
    undetermined = [name for name in model.order if name in moved and len(model.variables[name].levels) > 2]
    if undetermined:
        raise UserError(
            f"--counterfactual: what {listed(undetermined, 4)} would have been, of more than two levels, no data tell: "
            "set it too, or join its levels into two"
        )
    noise = model.abducted(row, draws, seed)
    before = _means(model, {name: np.full(draws, value) for name, value in row.items()})
    after = [_means(model, model.simulated(noise, change)) for change in changes]
    shown = ids.numbers if ids.name == DIGEST else ids.ids
    return str(shown[known[0]]), tuple(
        Counterfactual(observed.name, observed.mean, tuple(would_be))
        for observed, *would_be in zip(before, *after, strict=True)
    )


def _extrapolated(model: StructuralModel, do: Sequence[dict[str, str]]) -> list[str]:
    """A remark on each number that an intervention sets beyond the values observed."""
    found = []
    for name, text in dict.fromkeys(pair for given in do for pair in given.items()):
        variable = model.variables[name]
        low, high = variable.values.min(), variable.values.max()
        if not variable.discrete and not low <= variable.parsed(text) <= high:
            found.append(
                f"{name}={text} is beyond the values observed, {low:g} to {high:g}: what follows is extrapolated"
            )
    return found


def _remarks(checks: Sequence[Check], mechanism: MechanismModel, refused: int, refits: int) -> tuple[str, ...]:
    found = [f"{refused} of {refits} bootstrap samples were refused"] if refused else []
    for each in checks:
        if each.noise is not None and each.noise < DOUBTFUL:
            other = "--mechanism boost" if mechanism == "linear" else "another scale, such as its logarithm"
            found.append(
                f"{each.variable}: its residuals depend on its causes (p {each.noise:.3f}): noise is not only added: "
                f"try {other}, and trust no counterfactual of it"
            )
        if each.others is not None and each.others < DOUBTFUL:
            found.append(
                f"{each.variable}: it depends on more than its causes (p {each.others:.3f}): the graph lacks an edge "
                "or a hidden common cause, or the mechanism misses a curve"
            )
    return tuple(found)
