"""Where correlation comes from: simulated worlds of which the truth is known.

Causation, confounding and selection are the three sources. Simpson's paradox is confounding that turns a sign;
mediation and M-bias are two ways in which adjusting for more makes it worse.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from contrastkit.causal.estimate import DifferenceInMeans, Estimator, Regression
from contrastkit.causal.graph import identify, parse
from contrastkit.checkpoint import write_with
from contrastkit.tables.checks import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ERRORS = 3.0  # standard errors within which an estimate is right
COLOURS = {"recovers": "#009e73", "biased": "#e69f00", "worse": "#c1272d"}
INK = "#222222"
POINTS = 600  # of the data that are drawn


@dataclass(frozen=True)
class World:
    """A study whose causes are written down.

    Attributes:
        sentence: what is seen, what is true, and why.
        graph: of its variables (:func:`contrastkit.causal.graph.parse`); ``at`` says where each is drawn, in [0, 1]^2.
        truth: the mean effect of ``treatment``, which is 0 or 1, on ``outcome``.
        simulate: a pandas frame of n rows of what is observed; ``unobserved`` are the variables that it lacks.
        colour_by: the variable that the picture colours by.
        parts: queries of frames by name: parts of the data that somebody might look at alone.
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
    """What an analyst finds who adjusts for some variables, by regression. ``verdict``: recovers (within three standard
    errors of the truth), biased, or worse (biased by more than the naive analyst)."""

    name: str
    covariates: tuple[str, ...]
    effect: float
    se: float
    error: float
    verdict: Literal["recovers", "biased", "worse"]


def adjustments(world: World, frame: Any) -> list[Adjustment]:
    """The naive analyst, then those who adjust for each set that the graph says to, then for what it says not to, then
    those who look at a part of the data."""
    identified = identify(parse(world.graph), world.treatment, world.outcome, unobserved=world.unobserved)
    good = [chosen for chosen in identified.backdoor_sets if chosen]
    base = good[0] if good else ()
    bad = [(*base, name) for name in (*identified.never, *identified.colliders)]
    asked: list[tuple[str, tuple[str, ...], Any]] = [("nothing", (), frame)]
    asked += [(", ".join(chosen), chosen, frame) for chosen in (*good, *bad)]
    asked += [(name, (), frame.query(query)) for name, query in world.parts.items()]
    rows: list[Adjustment] = []
    for name, chosen, rows_of in asked:
        T, Y = rows_of[world.treatment], rows_of[world.outcome]
        if chosen:
            estimator: Estimator = Regression().fit(rows_of[list(chosen)], T, Y)
        else:
            estimator = DifferenceInMeans().fit(T.to_numpy(), T, Y)  # which needs covariates, and ignores them
        error = estimator.effect_ - world.truth
        verdict: Literal["recovers", "biased", "worse"] = "biased"
        if abs(error) <= ERRORS * estimator.se_:
            verdict = "recovers"
        elif rows and abs(error) > abs(rows[0].error):
            verdict = "worse"
        rows.append(Adjustment(name, chosen, estimator.effect_, estimator.se_, error, verdict))
    return rows


# --------------------------------------------------------------------------------------------------------------- worlds


def _chance(g: np.random.Generator, logit: Floats | float, n: int) -> NDArray[np.int64]:
    """0 or 1 [n], 1 with the probability of this logit."""
    return (g.uniform(size=n) < 1 / (1 + np.exp(-np.asarray(logit)))).astype(np.int64)


def _causation(n: int, g: np.random.Generator) -> Any:
    import pandas as pd  # takes a while

    light = _chance(g, 0.0, n)
    return pd.DataFrame({"light": light, "growth": 2.0 * light + g.normal(size=n)})


def _confounding(n: int, g: np.random.Generator) -> Any:
    import pandas as pd

    heat = g.normal(size=n)
    ice = _chance(g, 1.5 * heat, n)
    return pd.DataFrame({"heat": heat, "ice cream": ice, "drownings": 1.5 * heat + g.normal(size=n)})


def _selection(n: int, g: np.random.Generator) -> Any:
    import pandas as pd

    view, food = _chance(g, 0.0, n), g.normal(size=n)
    still = (2.0 * view + 1.5 * food + 0.5 * g.normal(size=n) > 1.5).astype(np.int64)
    return pd.DataFrame({"view": view, "food": food, "open": still})


def _simpson(n: int, g: np.random.Generator) -> Any:
    import pandas as pd

    large = (g.uniform(size=n) < 343 / 700).astype(np.int64)
    surgery = (g.uniform(size=n) < np.where(large, 263 / 343, 87 / 357)).astype(np.int64)
    success = (g.uniform(size=n) < np.where(large, 0.67, 0.87) + 0.06 * surgery).astype(np.int64)
    return pd.DataFrame({"large": large, "surgery": surgery, "success": success})


def _mediation(n: int, g: np.random.Generator) -> Any:
    import pandas as pd

    training = _chance(g, 0.0, n)
    skill = 1.5 * training + g.normal(size=n)
    return pd.DataFrame({"training": training, "skill": skill, "pay": skill + 0.5 * training + g.normal(size=n)})


def _m_bias(n: int, g: np.random.Generator) -> Any:
    import pandas as pd

    income, genes = g.normal(size=n), g.normal(size=n)
    education = _chance(g, 2.0 * income, n)
    mother = income + genes + 0.3 * g.normal(size=n)
    sugar = 1.5 * genes - 0.5 * education + g.normal(size=n)
    return pd.DataFrame({"education": education, "mother": mother, "sugar": sugar})


WORLDS = (
    World(
        "causation",
        "Plants get more light by lot. What is seen is what is: the lot leaves no other reason.",
        "light -> growth",
        {"light": (0.1, 0.5), "growth": (0.9, 0.5)},
        "light", "growth", 2.0, _causation,
    ),
    World(
        "confounding",
        "Where ice cream is sold more people drown, and it drowns nobody: heat sells it, and sends people swimming.",
        "heat -> ice cream; heat -> drownings",
        {"heat": (0.5, 0.85), "ice cream": (0.1, 0.2), "drownings": (0.9, 0.2)},
        "ice cream", "drownings", 0.0, _confounding, colour_by="heat",
    ),
    World(
        "selection",
        "A view of the sea spoils no cook, but either keeps a restaurant open: among those still open, and for whoever "
        "adjusts for that, the food is worse where the view is good.",
        "view -> open; food -> open",
        {"view": (0.1, 0.8), "food": (0.9, 0.8), "open": (0.5, 0.15)},
        "view", "food", 0.0, _selection, colour_by="open", parts={"those open only": "open == 1"},
    ),
    World(
        "Simpson's paradox",
        "Surgery is better for small kidney stones and for large ones, and looks worse for all: the hard cases get it. "
        "(After Charig et al. 1986.)",
        "large -> surgery; large -> success; surgery -> success",
        {"large": (0.5, 0.85), "surgery": (0.1, 0.2), "success": (0.9, 0.2)},
        "surgery", "success", 0.06, _simpson, colour_by="large",
        parts={"small stones only": "large == 0", "large stones only": "large == 1"},
    ),
    World(
        "mediation",
        "Training pays because it teaches: whoever compares people of the same skill takes away most of what it does.",
        "training -> skill -> pay; training -> pay",
        {"training": (0.1, 0.2), "skill": (0.5, 0.85), "pay": (0.9, 0.2)},
        "training", "pay", 2.0, _mediation, colour_by="skill",
    ),
    World(
        "M-bias",
        "Education lowers blood sugar. A mother's diabetes comes before both, and still must not be adjusted for: it "
        "ties the family's income to its genes, and nobody measured either. (After Greenland 2003.)",
        "income -> education; income -> mother; genes -> mother; genes -> sugar; education -> sugar",
        {
            "income": (0.1, 0.9), "genes": (0.9, 0.9), "mother": (0.5, 0.55),
            "education": (0.1, 0.15), "sugar": (0.9, 0.15),
        },
        "education", "sugar", -0.5, _m_bias, unobserved=("income", "genes"), colour_by="mother",
    ),
)  # fmt: skip


def visit(n: int, seed: int) -> list[tuple[World, Any, list[Adjustment]]]:
    """Every world with a frame of n rows of it, and what analysts find there."""
    visits = []
    for k, world in enumerate(WORLDS):
        frame = world.simulate(n, np.random.default_rng([seed, k]))
        visits.append((world, frame, adjustments(world, frame)))
    return visits


# -------------------------------------------------------------------------------------------------------------- picture


def picture(visits: Sequence[tuple[World, Any, list[Adjustment]]], path: Path) -> None:
    """For each of the worlds that :func:`visit` gives its graph, the data with the effect as each analyst sees it, and
    these effects with their 95 % intervals, into a .png."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 2.5 * len(visits)), layout="constrained")
    rows = figure.subplots(len(visits), 3, squeeze=False, width_ratios=(1, 1.1, 1.3))
    for (causes, data, effects), (world, frame, analysts) in zip(rows, visits, strict=True):
        _draw_graph(causes, world)
        _draw_data(data, world, frame, analysts)
        _draw_effects(effects, world, analysts)
    write_with(path, lambda file: figure.savefig(file, format="png", dpi=110))


def _draw_graph(axes: "Axes", world: World) -> None:
    axes.set(xlim=(-0.15, 1.15), ylim=(0, 1))
    axes.axis("off")
    axes.set_title(world.name, loc="left", weight="bold")
    boxes = {}
    for name, (x, y) in world.at.items():
        edge, style = ("grey", "--") if name in world.unobserved else (INK, "-")
        face = "#dceaf7" if name in (world.treatment, world.outcome) else "white"
        box = {"boxstyle": "round,pad=0.4", "fc": face, "ec": edge, "ls": style}
        boxes[name] = axes.text(x, y, name, ha="center", va="center", color=edge, bbox=box).get_bbox_patch()
    for cause, effect in parse(world.graph).edges:
        arrow = {"arrowstyle": "-|>", "color": INK, "patchA": boxes[cause], "patchB": boxes[effect], "shrinkB": 2}
        axes.annotate("", world.at[effect], world.at[cause], arrowprops=arrow)


def _draw_data(axes: "Axes", world: World, frame: Any, analysts: Sequence[Adjustment]) -> None:
    from matplotlib import colormaps

    t, y = frame[world.treatment].to_numpy(), frame[world.outcome].to_numpy().astype(float)
    z = frame[world.colour_by].to_numpy() if world.colour_by else np.zeros(len(t))
    tint = colormaps["viridis"](0.9 * rankdata(z, "min") / len(z))
    if np.isin(y, (0, 1)).all():  # shares instead of points, as large as they count
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
    for analyst in reversed(analysts):
        if analyst.name not in world.parts:
            axes.plot(ends, y.mean() + (ends - t.mean()) * analyst.effect, color=COLOURS[analyst.verdict], lw=2.5)
    axes.plot(ends, y.mean() + (ends - t.mean()) * world.truth, color=INK, ls=":")
    axes.set_xticks((0, 1), (f"no {world.treatment}", world.treatment))
    axes.set(ylabel=world.outcome, xlim=(-0.4, 1.6))
    axes.set_title(f"colour: {world.colour_by}" if world.colour_by else "", loc="left", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_effects(axes: "Axes", world: World, analysts: Sequence[Adjustment]) -> None:
    axes.axvline(0, color="lightgrey", lw=1)
    axes.axvline(world.truth, color=INK, ls=":")
    axes.text(world.truth, 1, "truth", transform=axes.get_xaxis_transform(), ha="center", va="bottom", fontsize=9)
    for k, analyst in enumerate(analysts):
        colour, white = COLOURS[analyst.verdict], {"boxstyle": "square,pad=0.05", "fc": "white", "ec": "none"}
        axes.errorbar(analyst.effect, -k, xerr=1.96 * analyst.se, fmt="o", color=colour, capsize=3)
        axes.annotate(
            analyst.verdict, (analyst.effect, -k), (0, 6), textcoords="offset points", ha="center", color=colour,
            bbox=white, fontsize=9,
        )  # fmt: skip
    axes.set_yticks(range(0, -len(analysts), -1), [analyst.name for analyst in analysts])
    axes.set(ylim=(-len(analysts) + 0.4, 0.8), xlabel=f"effect of {world.treatment} on {world.outcome}")
    axes.set_title("adjusted for", loc="right", fontsize=9, x=-0.02)
    axes.margins(x=0.2)
    axes.spines[["top", "right"]].set_visible(False)
