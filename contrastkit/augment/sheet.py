"""A sheet of images and their views, as the network sees them."""

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from contrastkit.augment.apply import random_views
from contrastkit.augment.rows import View
from contrastkit.figures import Cell, sheet
from contrastkit.memory import require_room
from contrastkit.types import Images

ACROSS = 12  # views side by side
Column = tuple[str, Tensor]  # its head, and a picture [n, C, H, W] of each image


def view_sheet(
    path: Path,
    images: Images,
    views: Sequence[View],
    *,
    index: Tensor,
    draws: int,
    seed: int,
    title: str,
    note: str = "",
    beside: Callable[[Tensor, int], Sequence[Column]] = lambda view, time: (),
) -> None:
    """Draw each image, as a PNG, and to its right its views in the first ``draws`` epochs of a training with that seed.

    All views are shown equally large; the heads of the columns say their size. Images that do not have three channels
    are shown in gray, by their first one.

    Args:
        images, index: as of :func:`contrastkit.augment.random_views`.
        title, note: as of :func:`contrastkit.figures.sheet`.
        beside: further columns of a draw, from its first view [n, C, H, W] and its number from 0.

    Raises:
        UserError: too many views for the memory, or for a picture.
    """
    n = len(images) * draws * len(views)
    require_room(
        12 * len(images) * draws * sum(view.size**2 for view in views), f"a sheet of {n:,} views", "--images or --draws"
    )

    def columns_of(time: int) -> list[Column]:
        own = [
            (f"view {v + 1}\n{view.size} px", random_views(images, view, seed=seed, time=time, index=index, v=v))
            for v, view in enumerate(views)
        ]
        return [*own, *beside(own[0][1], time)]

    made = [columns_of(time) for time in range(draws)]
    together = min(draws, max(1, ACROSS // len(made[0])))  # draws in one row
    rows: list[list[Cell | None]] = []
    heads = []
    for i, image in enumerate(images):
        for first in range(0, draws, together):
            part = made[first : first + together]
            rows.append([Cell(image) if first == 0 else None, *(Cell(view[i]) for draw in part for _, view in draw)])
            heads.append(f"draw {first + 1}" if together == 1 else f"draws {first + 1} to {first + len(part)}")
    columns = ["the image"]
    for draw in range(together):
        which = f"draw {draw + 1}\n" if together == draws > 1 else ""
        columns += [f"{which}{head}" for head, _ in made[draw]]
    sheet(path, rows, title=title, columns=columns, heads=heads if together < draws else (), note=note)
