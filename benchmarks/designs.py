"""`python -m benchmarks.designs [STUDY ...] [--draws N]`: how often 95 % intervals hold the truth, and by how much
estimates miss it in the mean, in simulated studies with 400 rows: of risks, three arms, doses, matching in groups,
groups of units, instruments, a front door and a structural model. Writes benchmarks/results/designs.json, or replaces
the rows of some studies there: one for each study, quantity and method. 500 draws take about half an hour on a core,
most of it the bootstrap of doses and of the model.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator
from typing import Any, get_args

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import norm

from benchmarks import RESULTS
from benchmarks.tables import markdown, results
from contrastkit.causal.arms import compare_arms
from contrastkit.causal.columns import Columns
from contrastkit.causal.compare import estimators
from contrastkit.causal.conditional import conditional_effects
from contrastkit.causal.dose import dose_response
from contrastkit.causal.estimate import Estimator, FrontDoor, Grouped, InSubclasses
from contrastkit.causal.instrumental import instrumental_effect
from contrastkit.causal.matching import FullMatching
from contrastkit.causal.models import Models
from contrastkit.causal.names import ArmWeighting, DoseWeighting, Measure
from contrastkit.causal.structure import structure
from contrastkit.causal.study import Study, Units
from contrastkit.causal.subclasses import Subclasses
from contrastkit.checkpoint import write_text
from contrastkit.errors import UserError
from contrastkit.tables.covariates import Covariates

ROWS = 400
WAYS = ("glm", "ipw", "entropy", "cbps", "cbps-over", "aipw")
AT = (-1.0, 0.0, 1.0)  # doses
BOOTSTRAP = 100
Array = Any
# quantity, method, estimate less truth, NaN for a set without one, and interval less truth
Found = tuple[str, str, float, float, float]


def units(x: Array, t: Array, y: Array) -> Units:
    frame = pd.DataFrame({"t": t, "y": y})
    return Units(
        X=Covariates.of(x), Y=frame.y.to_numpy(), treatment="t", outcome="y", covariates={}, frame=frame, source=""
    )  # fmt: skip


def risks(g: np.random.Generator, n: int = ROWS) -> tuple[Array, Array, Array]:
    """A confounded treatment and outcome of 0 and 1, and both probabilities of the outcome, [n, 2]."""
    x = g.normal(size=(n, 2))
    t = g.uniform(size=n) < expit(0.6 * x[:, 0] - 0.2)
    return x, t, expit(np.column_stack([x @ [1, 0.3] + 0.3, x @ [1, 0.3] - 0.5]))


def of_risks(g: np.random.Generator) -> Iterator[Found]:
    x, t, p = risks(g)
    y = g.uniform(size=len(x)) < np.where(t, p[:, 0], p[:, 1])
    means = risks(np.random.default_rng(0), 10**6)[2].mean(0)
    odds = means / (1 - means)
    truths = {"difference": means[0] - means[1], "ratio": np.log(means[0] / means[1])}
    truths["odds-ratio"] = np.log(odds[0] / odds[1])
    for measure in get_args(Measure):
        for name in WAYS:
            fitted = estimators("ATE")[name].fit(x, t, y, measure=measure)
            low, high = fitted.interval()
            truth = truths[measure]
            yield measure.replace("-", " "), name, fitted.effect_ - truth, low - truth, high - truth


def of_arms(g: np.random.Generator) -> Iterator[Found]:
    """Three arms with the effects 0, 1 and 2.5, larger where the first covariate is."""
    x = g.normal(size=(ROWS, 2))
    p = np.exp(np.column_stack([np.zeros(ROWS), 0.5 * x[:, 0], -0.6 * x[:, 1] + 0.3]))
    t = ((p / p.sum(1, keepdims=True)).cumsum(1) < g.uniform(size=ROWS)[:, None]).sum(1)
    effects = np.array([0.0, 1.0, 2.5])
    y = effects[t] * (1 + 0.5 * x[:, 0]) + x @ [1, 2] + g.normal(size=ROWS)
    for by in get_args(ArmWeighting):
        for together in (False, True):
            contrasts = compare_arms(units(x, t, y), by, simultaneous=together).contrasts
            gaps = []
            for each in contrasts:
                truth = effects[int(each.arm)] - effects[int(each.against)]
                gaps.append((each.effect - truth, each.low - truth, each.high - truth))
            if together:  # the interval that is farthest from holding the truth
                _, low, high = max(gaps, key=lambda gap: max(gap[1], -gap[2]))
                yield "all contrasts together", by, math.nan, low, high
            else:
                yield from (("a contrast", by, *gap) for gap in gaps)


def of_doses(g: np.random.Generator) -> Iterator[Found]:
    """Mean outcomes on a line, which curves of three coefficients follow, and by entropy balancing on a parabola too,
    with six."""
    x = g.normal(size=(ROWS, 2))
    t = x @ [0.5, 0.3] + g.normal(size=ROWS)
    ways = [(by, 0.0, 3) for by in get_args(DoseWeighting)] + [("entropy", 0.3, df) for df in (3, 6)]
    for by, bend, df in ways:
        y = t + bend * t**2 + x @ [2, 1] + g.normal(size=ROWS)
        try:
            curve = dose_response(units(x, t, y), by, df=df, at=AT, draws=BOOTSTRAP).curve
        except UserError:  # weights that do not exist
            continue
        what = f"a parabola by {df}" if bend else "a line"
        for point in curve:
            truth = point.dose + bend * point.dose**2
            yield f"{what}, at dose {point.dose:g}", by, point.mean - truth, point.low - truth, point.high - truth


def of_matching(g: np.random.Generator) -> Iterator[Found]:
    """A treatment that adds 1, and the difference of the matched."""
    x = g.normal(size=(ROWS, 2))
    t = g.uniform(size=ROWS) < expit(0.5 * x[:, 0] + 0.3 * x[:, 1] - 1)
    y = t + x @ [2, 1] + g.normal(size=ROWS)
    ways: dict[str, Estimator] = {"full": Grouped(FullMatching("ATT"))}
    for n in (5, 10):
        ways[f"{n} subclasses"] = InSubclasses(Subclasses("ATT", strata=n))
    ways["5 subclasses, uncorrected"] = InSubclasses(Subclasses("ATT", strata=5), bias_correction=False)
    for name, way in ways.items():
        low, high = way.fit(x, t, y).interval()
        yield "effect on the treated", name, way.effect_ - 1, low - 1, high - 1


def of_groups(g: np.random.Generator) -> Iterator[Found]:
    """An effect of 1 in one group and 3 in the other, and its slope in a covariate, which is 2."""
    x, woman = g.normal(size=ROWS), g.integers(0, 2, size=ROWS)
    t = g.uniform(size=ROWS) < expit(0.5 * x + 0.5 * woman - 0.3)
    y = x + woman + t * (1 + 2 * woman + 2 * x) + g.normal(size=ROWS)
    frame = pd.DataFrame({"x": x, "woman": woman, "t": t, "y": y})
    study = Study(
        X=Covariates.of(frame[["x", "woman"]]), T=t, Y=y, treatment="t", outcome="y",
        covariates={"x": ("x",), "woman": ("woman",)}, frame=frame, source="",
    )  # fmt: skip
    found = conditional_effects(study, ["woman"], models=Models(repeats=1))
    for group, truth in zip(found.by[0].groups, (1, 3), strict=True):
        each = group.effect
        yield "effect in a group", "aipw", each.effect - truth, each.low - truth, each.high - truth


def of_instruments(g: np.random.Generator) -> Iterator[Found]:
    """Two instruments of a treatment that adds 2, and whose causes are causes of the outcome."""
    z, hidden = g.normal(size=(ROWS, 2)), g.normal(size=ROWS)
    t = z @ [0.5, 0.3] + hidden + g.normal(size=ROWS)
    frame = pd.DataFrame({"a": z[:, 0], "b": z[:, 1], "t": t, "y": 2 * t + hidden + g.normal(size=ROWS)})
    found = instrumental_effect(Columns(frame, ""), treatment="t", outcome="y", instruments=["a", "b"])
    effect = found.two_stage
    yield "effect", "two stages", effect.effect - 2, effect.low - 2, effect.high - 2
    empty = (math.inf, -math.inf)  # where the instruments contradict each other
    near = min(found.anderson_rubin, key=lambda ends: max(ends[0] - 2, 2 - ends[1]), default=empty)
    yield "effect", "Anderson-Rubin", math.nan, near[0] - 2, near[1] - 2


def of_front_door(g: np.random.Generator) -> Iterator[Found]:
    """A mediator carries an effect of 0.6 * 1.5; a hidden variable is a cause of treatment and outcome."""
    hidden = g.normal(size=ROWS)
    t = g.uniform(size=ROWS) < expit(hidden)
    m = (g.uniform(size=ROWS) < 0.2 + 0.6 * t).astype(int)
    fitted = FrontDoor((0,), repeats=1).fit(pd.DataFrame({"m": m}), t, 1.5 * m + 2 * hidden + g.normal(size=ROWS))
    low, high = fitted.interval()
    yield "effect", "front door", fitted.effect_ - 0.9, low - 0.9, high - 0.9


def of_models(g: np.random.Generator) -> Iterator[Found]:
    """A treatment that adds 1 by itself and 1.5 through a mediator."""
    x = g.normal(size=ROWS)
    t = g.uniform(size=ROWS) < expit(x)
    m = t + 0.5 * x + g.normal(size=ROWS)
    frame = pd.DataFrame({"x": x, "t": t.astype(int), "m": m, "y": t + 1.5 * m + x + g.normal(size=ROWS)})
    found = structure(
        Columns(frame, ""), "x -> t; x -> m; x -> y; t -> m; t -> y; m -> y", do=[{"t": "0"}, {"t": "1"}], outcome="y",
        draws=ROWS, refits=BOOTSTRAP, seed=int(g.integers(10**9)),
    )  # fmt: skip
    assert found.total is not None
    for path in (found.total, *found.paths):
        assert path.se is not None
        truth = 2.5 if path is found.total else 1.5 if "m" in path.path else 1.0
        what = "total effect" if path is found.total else "effect along a path"
        half = norm.ppf(0.975) * path.se
        yield what, "bootstrap", path.effect - truth, path.effect - half - truth, path.effect + half - truth


STUDIES: dict[str, Callable[[np.random.Generator], Iterator[Found]]] = {
    "risks": of_risks,
    "three arms": of_arms,
    "doses": of_doses,
    "matching in groups": of_matching,
    "groups of units": of_groups,
    "instruments": of_instruments,
    "front door": of_front_door,
    "structural model": of_models,
}


def measure_study(study: str, draws: int) -> Iterator[dict[str, Any]]:
    found: dict[tuple[str, str], list[tuple[int, float, float, float]]] = {}
    for seed in range(draws):
        for quantity, method, error, low, high in STUDIES[study](np.random.default_rng([seed, 7])):
            found.setdefault((quantity, method), []).append((seed, error, low, high))
    for (quantity, method), rows in found.items():
        seeds, errors, lows, highs = np.array(rows).T
        answered, point = len(np.unique(seeds)), not math.isnan(errors[0])
        row = {"study": study, "quantity": quantity, "method": method, "draws": answered, "refused": draws - answered}
        row |= {"covered": float(((lows <= 0) & (highs >= 0)).mean())}
        over = {"bias": errors.mean(), "deviation": errors.std()}
        yield row | {key: float(value) if point else None for key, value in over.items()}


def table() -> str:
    """The share of intervals that hold the truth, and the bias, a line for each quantity and method."""
    lines = []
    for row in results("designs"):
        names = [row[key] for key in ("study", "quantity", "method")]
        bias = "" if row["bias"] is None else f"{row['bias'] / row['deviation']:+.2f}"
        lines.append([*names, str(row["draws"]), f"{100 * row['covered']:.1f}", bias])
    return markdown(("study", "quantity", "method", "draws", "covered, %", "bias / spread"), lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=", ".join(STUDIES))
    parser.add_argument("--draws", type=int, default=500)
    args = parser.parse_args()
    if unknown := set(args.studies) - STUDIES.keys():
        parser.error(f"no studies: {', '.join(sorted(unknown))}")
    for study in args.studies or STUDIES:
        rows = list(measure_study(study, args.draws))
        print(*rows, sep="\n", flush=True)
        kept = [row for row in results("designs") if row["study"] != study]
        rows = sorted(kept + rows, key=lambda row: list(STUDIES).index(row["study"]))
        write_text(RESULTS / "designs.json", json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
