"""The style of pictures: what is drawn where, what fits, and that the same call writes the same bytes."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from contrastkit.errors import UserError
from contrastkit.figures import GAP, MARGIN, RIGHT, WRONG, Cell, chart, legend, plain, sheet, shortened, wrapped


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def flat(red: int, green: int, blue: int, h: int = 12, w: int = 12) -> Tensor:
    return torch.tensor([red, green, blue], dtype=torch.uint8)[:, None, None].expand(3, h, w)


def box(image: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """The rectangle that exactly this colour fills: left, top, width, height."""
    rows, columns = np.nonzero((image == colour).all(2))
    left, top, width, height = columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1
    assert len(rows) == width * height, "not filled"
    return int(left), int(top), int(width), int(height)


def hexadecimal(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


# ---------------------------------------- charts


def drawn(path: Path, title: str = "a title", note: str = "a note") -> bytes:
    with chart(path, title, height=3, note=note) as figure:
        for panel in figure.subplots(1, 2):
            panel.plot([1, 2], [3, 4], label="a line")
        legend(figure)
    return path.read_bytes()


def test_a_chart_depends_on_nothing_but_its_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = drawn(tmp_path / "a.png")
    before = dict(matplotlib.rcParams)
    monkeypatch.setitem(matplotlib.rcParams, "font.size", 30.0)
    monkeypatch.setitem(matplotlib.rcParams, "axes.facecolor", "red")
    assert drawn(tmp_path / "b.png") == first, "the user's own style takes no part"
    monkeypatch.undo()
    assert dict(matplotlib.rcParams) == before, "nor is it changed"
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (1200, 450)
        assert picture.info.keys() <= {"dpi", "Software"} and picture.info["Software"] == "contrastkit"


def test_a_chart_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    first = drawn(tmp_path / "a.png")
    with pytest.raises(ZeroDivisionError), chart(tmp_path / "a.png", "another"):
        raise ZeroDivisionError
    assert (tmp_path / "a.png").read_bytes() == first and len(list(tmp_path.iterdir())) == 1


def test_title_legend_panels_and_note_do_not_overlap(tmp_path: Path) -> None:
    long = "a title of many words that goes on until it must be broken into lines, " * 3
    with chart(tmp_path / "a.png", long, note=long) as figure:
        axes = figure.subplots()
        for k in range(9):
            axes.plot([0, 1], [k, k], label=f"the line whose number is {k}")
        axes.set(xlabel="x", ylabel="y", title="a panel")
        legend(figure)
    parts = [text.get_window_extent() for text in figure.texts]
    title, note = sorted(parts, key=lambda part: -part.y0)
    (names,) = figure.legends
    panel, list_of_names = axes.get_tightbbox(), names.get_window_extent()
    assert title.y1 <= figure.bbox.y1 and title.y0 >= list_of_names.y1 > list_of_names.y0 >= panel.y1
    assert panel.y0 >= note.y1 > note.y0 >= 0
    assert all(0 <= part.x0 < part.x1 <= figure.bbox.x1 for part in (title, note, panel, list_of_names))


def test_users_texts_are_drawn_letter_by_letter(tmp_path: Path) -> None:
    """No formula, no error from half a character or one that no font has."""
    drawn(tmp_path / "a.png", title="$x^2$ \udcff \U000f0000 \N{CJK UNIFIED IDEOGRAPH-6570}", note="$\\frac{$")
    assert plain("$5 and $6") == r"\$5 and \$6"
    sheet(tmp_path / "b.png", [[Cell(flat(9, 9, 9), "$\\frac{$ \udcff")]], title="\udcff")


@pytest.mark.parametrize(
    ("text", "most", "short"),
    [("cat", 3, "cat"), ("abcdefgh", 5, "ab…gh"), ("abcdefgh", 4, "ab…h"), ("abcdefgh", 1, "…"), ("", 1, "")],
)
def test_shortened(text: str, most: int, short: str) -> None:
    assert shortened(text, most) == short


def test_wrapped() -> None:
    assert wrapped("one two three", 7) == "one two\nthree"
    assert wrapped("one_two-three/four", 8) == "one_two-\nthree/\nfour"
    assert wrapped("a" * 20, 9) == "aaaa…aaaa"


# ---------------------------------------- sheets


def test_images_lie_in_rows_and_columns(tmp_path: Path) -> None:
    red, green, blue = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    sheet(
        tmp_path / "a.png",
        [[Cell(flat(*red)), None, Cell(flat(*green), "a caption")], [Cell(flat(*blue))]],
        title="a title",
        columns=("first", "second", "third"),
    )
    image = pixels(tmp_path / "a.png")
    left, top, side, height = box(image, red)
    assert (left, side) == (MARGIN + box(image, blue)[0] - left, height), "no heads: at the margin, and a square"
    assert box(image, green) == (left + 2 * (side + GAP), top, side, side), "None leaves its column empty"
    assert box(image, blue)[0] == left and box(image, blue)[1] > top + side + GAP, "below the caption"
    between = image[top : top + side, left + side : left + 2 * side]
    assert (between == 255).all()


def test_an_image_is_fitted_whole(tmp_path: Path) -> None:
    """Enlarged without smoothing, in its proportions; floats are shares of white, other channels are gray."""
    wide = torch.zeros(3, 4, 8)
    wide[0, :, :4], wide[2, :, 4:] = 1.0, 1.0
    gray = torch.full((2, 5, 5), 0.5)
    sheet(tmp_path / "a.png", [[Cell(wide), Cell(gray)]], title="")
    image = pixels(tmp_path / "a.png")
    (x1, y1, w1, h1), (x2, y2, w2, h2) = box(image, (255, 0, 0)), box(image, (0, 0, 255))
    assert (w1, h1, y1, x1 + w1) == (w2, h2, y2, x2) and abs(w1 - h1) <= 1, "both halves, sharp"
    _, top, side, _ = box(image, (128, 128, 128))
    assert side == w1 + w2 and top == y1 - (side - h1) // 2


def test_frames_say_right_and_wrong(tmp_path: Path) -> None:
    def colours(right: bool | None) -> set[tuple[int, ...]]:
        sheet(tmp_path / "a.png", [[Cell(flat(9, 9, 9), right=right)]], title="")
        seen = {tuple(map(int, colour)) for colour in pixels(tmp_path / "a.png").reshape(-1, 3)}
        return seen & {hexadecimal(RIGHT), hexadecimal(WRONG)}

    assert colours(None) == set()
    assert colours(True) == {hexadecimal(RIGHT)}
    assert colours(False) == {hexadecimal(WRONG)}


def test_long_texts_stay_in_their_cells(tmp_path: Path) -> None:
    """They are broken and shortened: a neighbour's column remains white."""
    cells = [Cell(flat(9, 9, 9), "Pneumonoultramicroscopicsilicovolcanoconiosis" * 2), Cell(flat(90, 9, 9))]
    sheet(tmp_path / "a.png", [cells], title="", heads=["a head of many words " * 9])
    image = pixels(tmp_path / "a.png")
    left, top, side, _ = box(image, (90, 9, 9))
    assert (image[top + side + 1 :, left - GAP // 2 :] == 255).all()
    assert (image[top + side + 1 :, : left - GAP] < 255).any()


def test_a_sheet_that_nobody_could_see_is_refused(tmp_path: Path) -> None:
    cell = Cell(flat(9, 9, 9, 1, 1))
    with pytest.raises(UserError, match="a sheet of 400 rows is .* pixels tall, above 65,535: show fewer"):
        sheet(tmp_path / "a.png", [[cell]] * 400, title="")
    with pytest.raises(UserError, match="a sheet of 80 columns leaves 0 pixels for each: show fewer"):
        sheet(tmp_path / "a.png", [[cell] * 80], title="")
    assert list(tmp_path.iterdir()) == []
    sheet(tmp_path / "a.png", [], title="nothing")
