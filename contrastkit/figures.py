"""The one style of the pictures that the toolkit writes: charts (:func:`chart`) and sheets of small images
(:func:`sheet`).

Each picture is a PNG of at most 1,200 pixels across, legible when shown at 800: its smallest letters are then 10 pixels
high. It has a title and, where something needs to be explained (an error bar, a frame), a note below. The same call
writes the same bytes: no setting of the user's matplotlib takes part, and the file holds no date.
"""

import contextlib
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastkit.checkpoint import write_with
from contrastkit.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

WIDTH, DPI = 8.0, 150  # inches and pixels per inch
PIXELS = round(WIDTH * DPI)
SMALL, TITLE = 8.0, 11.0  # sizes of the smallest and the largest letters in points
# Okabe and Ito (2008), in an order in which neighbours also differ in lightness; their yellow is too light on white.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000")
RIGHT, WRONG = COLOURS[0], COLOURS[3]
INK, GREY = "#222222", "#666666"
# For letters that DejaVu, matplotlib's own, lacks; whichever of them are installed.
FALLBACKS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Arial Unicode MS",
)
TALLEST = 2**16 - 1  # pixels that matplotlib's rasteriser can draw

GAP, MARGIN, FRAME = 14, 18, 5  # of a sheet, in pixels
CELL, NARROW = 180, 24  # its largest and smallest cells
NARROWEST = 700  # so that a title has room


@contextlib.contextmanager
def chart(path: Path, title: str, *, width: float = WIDTH, height: float = 4.0, note: str = "") -> Iterator["Figure"]:
    """A figure in the toolkit's style, written to ``path`` as a PNG, atomically, when the block has ended::

        with chart(path, "top-1 on the test images", note="bars: 95 % interval") as figure:
            axes = figure.subplots()

    Args:
        title: "" for a panel whose axes have their own.
        width, height: in inches.
        note: what the reader needs to understand the marks, such as what error bars stand for.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    title, note = (wrapped(plain(text), most) if text else "" for text, most in ((title, 90), (note, 130)))
    above, below = (
        (_height(text, size) + 16) / DPI / height if text else 0.0 for text, size in ((title, TITLE), (note, SMALL))
    )
    with _style():
        figure = Figure((width, height), DPI, layout=ConstrainedLayoutEngine(rect=(0, below, 1, 1 - above - below)))
        figure.text(0.01, 1 - 8 / DPI / height, title, va="top", weight="bold", size=TITLE)
        figure.text(0.01, 8 / DPI / height, note, va="bottom", size=SMALL, color=GREY)
        yield figure
        _save(figure, path)


def legend(figure: "Figure") -> None:
    """One legend for all panels, between the title and the panels, where it covers nothing."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    handles: dict[str, Any] = {}
    for axes in figure.axes:
        handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    left, bottom, width, height = engine.get()["rect"]
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (left, bottom + height), "borderaxespad": 0.2}
    for columns in range(len(handles), 0, -1):
        drawn = figure.legend(handles.values(), handles.keys(), ncols=columns, **place)
        extent = drawn.get_window_extent(RendererAgg(1, 1, DPI))
        if columns == 1 or extent.width < PIXELS:
            drawn.set_in_layout(False)
            engine.set(rect=(left, bottom, width, height - extent.height / figure.bbox.height))
            break
        drawn.remove()


def plain(text: str) -> str:
    """A user's text as matplotlib draws it letter by letter: no formula between $, no half of a character."""
    return text.encode("utf-8", "backslashreplace").decode().replace("$", r"\$")


def shortened(text: str, most: int) -> str:
    """At most that many characters, with an ellipsis for what is left out of the middle: both ends tell names apart."""
    left = (most - 1) // 2
    return text if len(text) <= most else f"{text[: most - 1 - left]}\N{HORIZONTAL ELLIPSIS}{text[len(text) - left :]}"


def wrapped(text: str, most: int) -> str:
    """Broken into lines of about that many characters."""
    return "\n".join(_lines(text, most, len, most_lines=9))


@dataclass(frozen=True, slots=True)
class Cell:
    """One picture of a :func:`sheet`.

    Attributes:
        image: uint8, or float in [0, 1], [C, H, W], drawn in colour if C = 3, else its first channel in grey; or None.
        caption: below it, or in its place; may have several lines.
        right: draws a frame that says right or wrong; None: no frame.
    """

    image: "Tensor | None"
    caption: str = ""
    right: bool | None = None


def sheet(
    path: Path,
    rows: Sequence[Sequence[Cell | None]],
    *,
    title: str,
    columns: Sequence[str] = (),
    heads: Sequence[str] = (),
    note: str = "",
) -> None:
    """A grid of pictures, written to ``path`` as a PNG, atomically.

    Cells are squares into which images are fitted whole; very small ones are enlarged without smoothing.
    Texts that do not fit are broken, then shortened.

    Args:
        rows: cells from left to right; None leaves one empty. Rows may differ in length.
        columns, heads: texts above the columns and left of the rows.
        note: what the reader needs to understand the sheet. That frames mean right and wrong is added.

    Raises:
        UserError: too many rows or columns for a picture.
    """
    across = max(map(len, rows), default=0)
    if any(cell is not None and cell.right is not None for row in rows for cell in row):
        note = " · ".join(filter(None, [note, "blue solid frame: right, orange dashed frame: wrong"]))
    with _style():
        page = _Page()
        widest = max((page.width(line) for head in heads for line in head.splitlines()), default=-GAP)
        left = MARGIN + min(PIXELS // 5, widest) + GAP
        cell = min(CELL, (PIXELS - left - MARGIN) // max(1, across) - GAP)
        if cell < NARROW:
            raise UserError(f"a sheet of {across:,} columns leaves {max(0, cell)} pixels for each: show fewer")
        width = max(NARROWEST, left + across * (cell + GAP) + MARGIN)
        y = page.text(title, MARGIN, MARGIN, width - 2 * MARGIN, size=TITLE, weight="bold") + GAP
        below = [page.text(t, left + k * (cell + GAP) + cell // 2, y, cell, ha="center") for k, t in enumerate(columns)]
        y = max([y, *below]) + GAP
        for head, row in zip([*heads, *[""] * len(rows)], rows, strict=False):
            page.text(head, MARGIN, y, left - MARGIN - GAP, lines=4)
            y = max(y + cell, *(page.cell(c, left + k * (cell + GAP), y, cell) for k, c in enumerate(row)), 0) + GAP
        y = page.text(note, MARGIN, y + GAP, width - 2 * MARGIN, lines=6, color=GREY) + MARGIN
        if y > TALLEST:
            raise UserError(f"a sheet of {len(rows):,} rows is {y:,} pixels tall, above {TALLEST:,}: show fewer")
        _save(page.figure(width, y), path)


class _Page:
    """What is drawn on a sheet: x and y are pixels from its left upper corner."""

    def __init__(self) -> None:
        from matplotlib.backends.backend_agg import RendererAgg

        self._renderer = RendererAgg(1, 1, DPI)
        self._texts: list[tuple[int, int, str, dict[str, Any]]] = []
        self._images: list[tuple[int, int, np.ndarray, bool | None]] = []

    def width(self, text: str, size: float = SMALL, weight: str = "normal") -> int:
        """Of one line of text, in pixels."""
        from matplotlib.font_manager import FontProperties

        font = FontProperties(size=size, weight=weight)
        return int(self._renderer.get_text_width_height_descent(text or " ", font, ismath=False)[0])

    def text(self, text: str, x: int, y: int, width: int, *, lines: int = 2, size: float = SMALL, **style: Any) -> int:
        """Place a text of a given width at most; returns where it ends below."""
        text = text.encode("utf-8", "backslashreplace").decode()
        height = _height("", size)
        weight = style.get("weight", "normal")
        for part in text.splitlines():
            for line in _lines(part, width, lambda t: self.width(t, size, weight), most_lines=lines):
                self._texts.append((x, y, line, {"size": size, "color": INK} | style))
                y += height
        return y

    def cell(self, cell: Cell | None, x: int, y: int, side: int) -> int:
        """Place a cell; returns where it ends below."""
        if cell is None:
            return y + side
        if cell.image is None:
            return max(y + side, self.text(cell.caption, x + side // 2, y, side, lines=8, ha="center"))
        self._images.append((x, y, _fitted(cell.image, side), cell.right))
        return self.text(cell.caption, x + side // 2, y + side + GAP, side, ha="center") if cell.caption else y + side

    def figure(self, width: int, height: int) -> "Figure":
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle

        canvas = np.full((height, width, 3), 255, np.uint8)
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
        for x, y, pixels, right in self._images:
            h, w, _ = pixels.shape
            canvas[y : y + h, x : x + w] = pixels
            if right is not None:
                colour, line = (RIGHT, "-") if right else (WRONG, (0, (3, 1.5)))
                at, size = (x - FRAME / 2, height - y - h - FRAME / 2), (w + FRAME, h + FRAME)
                figure.add_artist(
                    Rectangle(at, *size, fill=False, ec=colour, ls=line, lw=FRAME * 72 / DPI, transform=None)
                )
        figure.figimage(canvas)
        for x, y, text, style in self._texts:
            figure.text(x / width, 1 - y / height, text, va="top", parse_math=False, **style)
        return figure


def _fitted(image: "Tensor", side: int) -> np.ndarray:
    """uint8 [H, W, 3], centred on a light square of that side: the whole image, in its proportions."""
    from PIL import Image

    pixels = image.detach().cpu()
    array = (pixels.clamp(0, 1) * 255).round().byte().numpy() if pixels.is_floating_point() else pixels.numpy()
    array = np.repeat(array[:1], 3, 0) if len(array) != 3 else array
    height, width = array.shape[1:]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    how = Image.Resampling.NEAREST if scale >= 4 else Image.Resampling.BICUBIC
    drawn = np.asarray(Image.fromarray(np.ascontiguousarray(array.transpose(1, 2, 0))).resize(size, how))
    square = np.full((side, side, 3), 240, np.uint8)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    square[top : top + size[1], left : left + size[0]] = drawn
    return square


def _lines(text: str, most: float, width: Callable[[str], float], *, most_lines: int) -> list[str]:
    """A line of text broken behind spaces and the joints of names; what is too long even so is shortened."""
    lines = [""]
    for word in re.findall(r"[^ _/,-]*[ _/,-]?", text):
        if width((lines[-1] + word).rstrip()) > most and lines[-1] and len(lines) < most_lines:
            lines.append("")
        lines[-1] += word
    return [_shortest(line.strip(), most, width) for line in lines if line]


def _height(text: str, size: float) -> int:
    """Of a text of that size in points, in pixels, with the space between its lines."""
    return round(1.35 * size * DPI / 72) * (1 + text.count("\n"))


def _shortest(line: str, most: float, width: Callable[[str], float]) -> str:
    n = len(line)
    while n > 1 and width(shortened(line, n)) > most:
        n -= 1
    return shortened(line, n)


@contextlib.contextmanager
def _style() -> Iterator[None]:
    """matplotlib's defaults, whatever the user's own, with what makes the toolkit's style."""
    import matplotlib
    from cycler import cycler
    from matplotlib.font_manager import get_font_names

    fallbacks = [name for name in FALLBACKS if name in get_font_names()]
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # drawn as a box, where no font has it
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "font.family": ["DejaVu Sans", *fallbacks],
                "font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9,
                "xtick.labelsize": SMALL, "ytick.labelsize": SMALL, "legend.fontsize": SMALL,
                "axes.prop_cycle": cycler(color=COLOURS), "axes.titlelocation": "left",
                "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": GREY, "axes.axisbelow": True,
                "axes.grid": True, "grid.color": "#DDDDDD", "grid.linewidth": 0.6,
                "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
                "lines.linewidth": 1.5, "lines.markersize": 4, "errorbar.capsize": 3, "legend.frameon": False,
            }
        )  # fmt: skip
        yield


def _save(figure: "Figure", path: Path) -> None:
    write_with(path, lambda file: figure.savefig(file, format="png", metadata={"Software": "contrastkit"}))
