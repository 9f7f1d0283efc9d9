"""A causal graph as a picture."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from contrastkit.figures import GREY, INK, plain, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = 22  # letters of a variable
FACES = {"treatment": "#dceaf7", "outcome": "#dceaf7", "adjusted": "#dff0d8"}


def draw_graph(
    axes: "Axes",
    edges: Iterable[tuple[str, str]],
    at: Mapping[str, tuple[float, float]],
    roles: Mapping[str, str],
    *,
    bend: float = 0.0,
) -> None:
    """Draw variables in boxes and arrows between them.

    Args:
        at: variable -> its place, in [0, 1] both ways.
        roles: variable -> ``treatment``, ``outcome``, ``adjusted`` or ``unobserved``; others are white.
        bend: of the arrows, past what stands between.
    """
    axes.set(xlim=(-0.15, 1.15), ylim=(0, 1))
    axes.axis("off")
    boxes: dict[str, Any] = {}
    for name, (x, y) in at.items():
        role = roles.get(name, "")
        colour, style = (GREY, "--") if role == "unobserved" else (INK, "-")
        box = {"boxstyle": "round,pad=0.4", "fc": FACES.get(role, "white"), "ec": colour, "ls": style}
        text = axes.text(x, y, plain(shortened(name, NAME)), ha="center", va="center", color=colour, bbox=box)
        boxes[name] = text.get_bbox_patch()
    for cause, effect in edges:
        arrow = {"arrowstyle": "-|>", "color": INK, "patchA": boxes[cause], "patchB": boxes[effect], "shrinkB": 2}
        arrow["connectionstyle"] = f"arc3,rad={bend}"
        axes.annotate("", at[effect], at[cause], arrowprops=arrow)
