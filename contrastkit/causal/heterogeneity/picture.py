"""A picture of effects in groups."""

from collections.abc import Sequence
from pathlib import Path

from contrastkit.causal.inference import Effect
from contrastkit.figures import INK, chart, plain, shortened

Panel = tuple[str, Sequence[tuple[str, Effect]]]  # what the groups are by; their names and effects


def draw(panels: Sequence[Panel], everyone: Effect, title: str, path: Path) -> None:
    """Draw the effects of the groups of each panel, with the mean effect of all, to a .png."""
    heights = [1 + len(groups) for _, groups in panels]
    note = (
        "Points and bars: mean effect of a group, 95 % interval. Dashed line, band: of all units. Thin line: no effect."
    )
    with chart(path, title, height=1.2 + 0.32 * sum(heights), note=note) as figure:
        rows = figure.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=heights)
        for axes, (name, groups) in zip(rows[:, 0], panels, strict=True):
            places = range(0, -len(groups), -1)
            axes.axvspan(everyone.low, everyone.high, color="#DDDDDD", linewidth=0)
            axes.axvline(everyone.effect, color=INK, linestyle="--", linewidth=0.8)
            axes.axvline(0, color=INK, linewidth=0.5)
            effects = [effect for _, effect in groups]
            bars = [[e.effect - e.low for e in effects], [e.high - e.effect for e in effects]]
            axes.errorbar([e.effect for e in effects], places, xerr=bars, fmt="o")
            axes.set_yticks(places, [plain(shortened(group, 30)) for group, _ in groups])
            axes.set(ylim=(-len(groups) + 0.4, 0.6))
            axes.set_title(plain(f"by {name}"))
