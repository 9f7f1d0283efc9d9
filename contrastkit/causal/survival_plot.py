"""A picture of survival curves."""

from pathlib import Path

import numpy as np

from contrastkit.causal.survival import SurvivalEffects
from contrastkit.causal.weighted_survival import Arm
from contrastkit.figures import COLOURS, chart, legend, plain
from contrastkit.tables.checks import Floats

TICKS = 6  # times at which those at risk are counted


def survival_plot(effects: SurvivalEffects, path: Path) -> None:
    """Plot the curves of both arms with their bands, and below them the units at risk, to a .png."""
    estimand = effects.weighted.estimand
    weighted = "" if effects.weighted.weights is None else f" if the whole target population ({estimand}) were in it"
    note = (
        f"Share of each arm without {plain(effects.event)}{weighted}; bands: pointwise 95 % intervals. Below: units at "
        "risk, each counted once."
    )
    ticks = np.linspace(0, effects.horizon, TICKS)
    title = f"{effects.event} by {effects.treatment}, {effects.weighted.by}"
    with chart(path, title, height=4.8, note=note) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1))
        for arm, colour in zip(effects.arms, COLOURS, strict=False):
            steps = {name: _steps(arm, name, effects.horizon) for name in ("time", "survival", "low", "high")}
            above.fill_between(steps["time"], steps["low"], steps["high"], step="post", color=colour, alpha=0.2, lw=0)
            above.step(steps["time"], steps["survival"], where="post", color=colour, label=arm.name)
        above.set(ylabel=f"without {plain(effects.event)}", ylim=(None, 1))
        for row, curve in enumerate(effects.curves):
            for tick, count in zip(ticks, curve.at_risk(ticks), strict=True):
                below.text(tick, -row, f"{count:,}", ha="center", va="center", fontsize="small")
        below.set(xlabel=plain(effects.time), xticks=ticks, ylim=(-1.6, 0.6), yticks=(0, -1))
        below.set_yticklabels([arm.name for arm in effects.arms])
        below.grid(False)
        legend(figure)


def _steps(arm: Arm, name: str, horizon: float) -> Floats:
    """A column of the curve, from 1 at time 0 to the horizon."""
    values = getattr(arm.curve, name)
    first, last = (0.0, horizon) if name == "time" else (1.0, values[-1])
    return np.concatenate([[first], values, [last]])
