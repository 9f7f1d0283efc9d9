"""Sources of correlation: simulated worlds with a known truth.

Causation, confounding and selection are the three sources. Simpson's paradox is confounding that reverses a sign;
mediation and M-bias are two ways in which more adjustment makes the estimate worse.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from contrastkit import figures
from contrastkit.causal.drawing import draw_graph
from contrastkit.causal.estimate import DifferenceInMeans, Estimator, Regression
from contrastkit.causal.graph import identify
from contrastkit.causal.notation import parse
from contrastkit.figures import INK, SMALL, chart
from contrastkit.tables.checks import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ERRORS = 3.0  # standard errors from the truth within which an estimate recovers it
COLOURS = dict(zip(("biased", "recovers", "worse"), figures.COLOURS[1:], strict=False))
POINTS = 600  # data points in the picture


@dataclass(frozen=True)
class World:
    """A study with known causes.

    Attributes:
        sentence: what the data show, what is true, and why.
        graph: graph of its variables (:func:`contrastkit.causal.graph.parse`), drawn at the positions ``at`` in [0,
            1]^2.
        truth: the average effect of ``treatment``, which is 0 or 1, on ``outcome``.
        simulate: returns a pandas frame of the observed variables, n rows; it lacks those in ``unobserved``.
        colour_by: variable that colours the picture.
        parts: named queries for parts of the data that an analyst might use alone.
    """

    name: str
    sentence: str
    graph: str
    at: Mapping[str, tuple[float, float]]
    treatment: str
    outcome: str
    truth: float
    simulate: Callable[[int, np.random.Generator], Any]
    unobserved: tuple[str, ...] = ()
    colour_by: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Adjustment:
    """An estimate by regression with adjustment for some variables. ``verdict``: recovers (within three standard errors
    of the truth), biased, or worse (more biased than the naive estimate)."""

    name: str
    covariates: tuple[str, ...]
    effect: float
    se: float
    error: float
    verdict: Literal["recovers", "biased", "worse"]


def adjustments(world: World, frame: Any) -> list[Adjustment]:
    """The estimates without adjustment, with each adjustment set of the graph, with variables that the graph warns
    against, and in parts of the data."""
    identified = identify(parse(world.graph), world.treatment, world.outcome, unobserved=world.unobserved)
    valid = [chosen for chosen in identified.backdoor_sets if chosen]
    base = valid[0] if valid else ()
    invalid = [(*base, name) for name in (*identified.never, *identified.colliders)]
    analyses: list[tuple[str, tuple[str, ...], Any]] = [("nothing", (), frame)]
    analyses += [(", ".join(chosen), chosen, frame) for chosen in (*valid, *invalid)]
    analyses += [(name, (), frame.query(query)) for name, query in world.parts.items()]
    rows: list[Adjustment] = []
    for name, chosen, data in analyses:
        T, Y = data[world.treatment], data[world.outcome]
        if chosen:
            estimator: Estimator = Regression().fit(data[list(chosen)], T, Y)
        else:
            estimator = DifferenceInMeans().fit(T.to_numpy(), T, Y)  # any covariates: they are ignored
        error = estimator.effect_ - world.truth
        verdict: Literal["recovers", "biased", "worse"] = "biased"
        if abs(error) <= ERRORS * estimator.se_:
            verdict = "recovers"
        elif rows and abs(error) > abs(rows[0].error):
            verdict = "worse"
        rows.append(Adjustment(name, chosen, estimator.effect_, estimator.se_, error, verdict))
    return rows


# --------------------------------------------------------------------------------------------------------------- worlds


def _bernoulli(g: np.random.Generator, logit: Floats | float, n: int) -> NDArray[np.int64]:
    """0 or 1 [n], 1 with the probability of this logit."""
    return (g.uniform(size=n) < 1 / (1 + np.exp(-np.asarray(logit)))).astype(np.int64)


def _causation(n: int, g: np.random.Generator) -> Any:
    light = _bernoulli(g, 0.0, n)
    return pd.DataFrame({"light": light, "growth": 2.0 * light + g.normal(size=n)})


def _confounding(n: int, g: np.random.Generator) -> Any:
    heat = g.normal(size=n)
    ice = _bernoulli(g, 1.5 * heat, n)
    return pd.DataFrame({"heat": heat, "ice cream": ice, "drownings": 1.5 * heat + g.normal(size=n)})


def _selection(n: int, g: np.random.Generator) -> Any:
    view, food = _bernoulli(g, 0.0, n), g.normal(size=n)
    still = (2.0 * view + 1.5 * food + 0.5 * g.normal(size=n) > 1.5).astype(np.int64)
    return pd.DataFrame({"view": view, "food": food, "open": still})


def _simpson(n: int, g: np.random.Generator) -> Any:
    large = (g.uniform(size=n) < 343 / 700).astype(np.int64)
    surgery = (g.uniform(size=n) < np.where(large, 263 / 343, 87 / 357)).astype(np.int64)
    success = (g.uniform(size=n) < np.where(large, 0.67, 0.87) + 0.06 * surgery).astype(np.int64)
    return pd.DataFrame({"large": large, "surgery": surgery, "success": success})


def _mediation(n: int, g: np.random.Generator) -> Any:
    training = _bernoulli(g, 0.0, n)
    skill = 1.5 * training + g.normal(size=n)
    return pd.DataFrame({"training": training, "skill": skill, "pay": skill + 0.5 * training + g.normal(size=n)})


def _m_bias(n: int, g: np.random.Generator) -> Any:
    income, genes = g.normal(size=n), g.normal(size=n)
    education = _bernoulli(g, 2.0 * income, n)
    mother = income + genes + 0.3 * g.normal(size=n)
    sugar = 1.5 * genes - 0.5 * education + g.normal(size=n)
    return pd.DataFrame({"education": education, "mother": mother, "sugar": sugar})


WORLDS = (
    World(
        "causation",
        "Plants get more light at random. The correlation is causal: randomisation leaves no other explanation.",
        "light -> growth",
        {"light": (0.1, 0.5), "growth": (0.9, 0.5)},
        "light", "growth", 2.0, _causation,
    ),
    World(
        "confounding",
        "Where more ice cream is sold, more people drown, but ice cream does not cause it: heat drives both "
        "its sales and swimming.",
        "heat -> ice cream; heat -> drownings",
        {"heat": (0.5, 0.85), "ice cream": (0.1, 0.2), "drownings": (0.9, 0.2)},
        "ice cream", "drownings", 0.0, _confounding, colour_by="heat",
    ),
    World(
        "selection",
        "A sea view does not make food worse, but either a view or good food keeps a restaurant open: among those "
        "still open, or adjusting for that, food is worse where the view is good.",
        "view -> open; food -> open",
        {"view": (0.1, 0.8), "food": (0.9, 0.8), "open": (0.5, 0.15)},
        "view", "food", 0.0, _selection, colour_by="open", parts={"those open only": "open == 1"},
    ),
    World(
        "Simpson's paradox",
        "Surgery is better for small and for large kidney stones, yet looks worse overall: it is used for hard cases. "
        "(After Charig et al. 1986.)",
        "large -> surgery; large -> success; surgery -> success",
        {"large": (0.5, 0.85), "surgery": (0.1, 0.2), "success": (0.9, 0.2)},
        "surgery", "success", 0.06, _simpson, colour_by="large",
        parts={"small stones only": "large == 0", "large stones only": "large == 1"},
    ),
    World(
        "mediation",
        "Training raises pay by raising skill: comparing people of equal skill removes most of its effect.",
        "training -> skill -> pay; training -> pay",
        {"training": (0.1, 0.2), "skill": (0.5, 0.85), "pay": (0.9, 0.2)},
        "training", "pay", 2.0, _mediation, colour_by="skill",
    ),
    World(
        "M-bias",
        "Education lowers blood sugar. A mother's diabetes precedes both, but must not be adjusted for: that links the "
        "family's income to its genes, and neither is observed. (After Greenland 2003.)",
        "income -> education; income -> mother; genes -> mother; genes -> sugar; education -> sugar",
        {
            "income": (0.1, 0.9), "genes": (0.9, 0.9), "mother": (0.5, 0.55),
            "education": (0.1, 0.15), "sugar": (0.9, 0.15),
        },
        "education", "sugar", -0.5, _m_bias, unobserved=("income", "genes"), colour_by="mother",
    ),
)  # fmt: skip


def visit(n: int, seed: int) -> list[tuple[World, Any, list[Adjustment]]]:
    """Simulate n rows of every world and estimate the effect with each adjustment."""
    visits = []
    for k, world in enumerate(WORLDS):
        frame = world.simulate(n, np.random.default_rng([seed, k]))
        visits.append((world, frame, adjustments(world, frame)))
    return visits


# -------------------------------------------------------------------------------------------------------------- picture


def picture(visits: Sequence[tuple[World, Any, list[Adjustment]]], path: Path) -> None:
    """Plot each world of :func:`visit` to a .png: its graph, the data with the effect under each adjustment, and these
    effects with 95 % intervals."""
    note = (
        "Left: causes; dashed: not observed. Middle: data, and the effect under each adjustment; dotted: the true "
        "effect. Right: the effect under each adjustment, with its 95 % interval."
    )
    with chart(
        path, "What to adjust for: studies with known causes", height=2.2 * len(visits) + 0.9, note=note
    ) as figure:
        rows = figure.subplots(len(visits), 3, squeeze=False, width_ratios=(1, 1.1, 1.3))
        for (causes, data, effects), (world, frame, estimates) in zip(rows, visits, strict=True):
            _draw_graph(causes, world)
            _draw_data(data, world, frame, estimates)
            _draw_effects(effects, world, estimates)


def _draw_graph(axes: "Axes", world: World) -> None:
    roles = dict.fromkeys(world.unobserved, "unobserved") | {world.treatment: "treatment", world.outcome: "outcome"}
    draw_graph(axes, parse(world.graph).edges, world.at, roles)
    axes.set_title(world.name, loc="left", weight="bold")


def _draw_data(axes: "Axes", world: World, frame: Any, estimates: Sequence[Adjustment]) -> None:
    from matplotlib import colormaps

    t, y = frame[world.treatment].to_numpy(), frame[world.outcome].to_numpy().astype(float)
    z = frame[world.colour_by].to_numpy() if world.colour_by else np.zeros(len(t))
    tint = colormaps["viridis"](0.9 * rankdata(z, "min") / len(z))
    if np.isin(y, (0, 1)).all():  # shares instead of points, sized by their number of rows
        for value in np.unique(z):
            part = [(z == value) & (t == arm) for arm in (0, 1)]
            shares, colour = [y[rows].mean() for rows in part], tint[z == value][0]
            axes.plot((0, 1), shares, color=colour)
            axes.scatter((0, 1), shares, [600 * rows.mean() for rows in part], colour[None])
            at = (1, shares[1])
            axes.annotate(f"{world.colour_by} = {value:g}", at, (12, 0), textcoords="offset points", va="center")
    else:
        jitter = np.random.default_rng(0).uniform(-0.2, 0.2, size=len(t))
        axes.scatter((t + jitter)[:POINTS], y[:POINTS], 7, tint[:POINTS], alpha=0.6, linewidths=0)
    ends = np.array([-0.3, 1.3])
    for estimate in reversed(estimates):
        if estimate.name not in world.parts:
            axes.plot(ends, y.mean() + (ends - t.mean()) * estimate.effect, color=COLOURS[estimate.verdict], lw=2.5)
    axes.plot(ends, y.mean() + (ends - t.mean()) * world.truth, color=INK, ls=":")
    axes.set_xticks((0, 1), (f"no {world.treatment}", world.treatment))
    axes.set(ylabel=world.outcome, xlim=(-0.4, 1.6))
    axes.set_title(f"colour: {world.colour_by}" if world.colour_by else "")


def _draw_effects(axes: "Axes", world: World, estimates: Sequence[Adjustment]) -> None:
    axes.axvline(0, color="lightgrey", lw=1)
    axes.axvline(world.truth, color=INK, ls=":")
    axes.text(world.truth, 1, "truth", transform=axes.get_xaxis_transform(), ha="center", va="bottom", fontsize=SMALL)
    for k, estimate in enumerate(estimates):
        colour, white = COLOURS[estimate.verdict], {"boxstyle": "square,pad=0.05", "fc": "white", "ec": "none"}
        axes.errorbar(estimate.effect, -k, xerr=1.96 * estimate.se, fmt="o", color=colour, capsize=3)
        axes.annotate(
            estimate.verdict, (estimate.effect, -k), (0, 6), textcoords="offset points", ha="center", color=colour,
            bbox=white, fontsize=SMALL,
        )  # fmt: skip
    axes.set_yticks(range(0, -len(estimates), -1), [estimate.name for estimate in estimates])
    axes.set(ylim=(-len(estimates) + 0.4, 0.8), xlabel=f"effect of {world.treatment} on {world.outcome}")
    axes.set_title("adjusted for", loc="right", x=-0.02)
    axes.margins(x=0.2)
