"""Everything that reaches the terminal: the only file that prints."""

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.status import Status
from rich.table import Table

if TYPE_CHECKING:
    from contrastkit.training import Progress as TrainingProgress

NAME = 20  # columns of the screen for a name, where a table is wide
SILENCE = 60.0  # seconds without output, where there is no terminal, after which a progress line is printed

NARROW: dict[str, Any] = {"box": SIMPLE_HEAD, "padding": (0, 1, 0, 0), "show_edge": False, "pad_edge": False}

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def error(message: str) -> None:
    """One line on the error stream; what it quotes is shortened if it is long."""
    line = _shortened(" ".join(_shortened(word, 300) for word in message.split()), 1000)
    errors.print(f"[red]error:[/red] {escape(line)}")


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


def say(line: str) -> None:
    console.print(escape(line))


def lines(texts: Iterable[str]) -> None:
    for text in texts:
        say(text)


def paragraph(text: str) -> None:
    """Prose, wrapped at spaces."""
    console.print(escape(text), soft_wrap=False)


def working(what: str) -> Status | contextlib.nullcontext[None]:
    """A spinner on a terminal; nothing elsewhere."""
    return console.status(escape(what)) if console.is_terminal else contextlib.nullcontext()


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str, int, int | None], None]]:
    """A progress bar for one task after another on a terminal; nothing elsewhere.

    Yields a function of the task's name, the amount done and the total (None: unknown).
    """
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        current: dict[str, TaskID] = {}

        def show(task: str, completed: int, total: int | None) -> None:
            if task not in current:
                while current:
                    bars.remove_task(current.popitem()[1])
                current[task] = bars.add_task(escape(task), total=total)
            bars.update(current[task], completed=completed)

        yield show


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, narrow: bool = False) -> None:
    """A table; the first column is left-aligned, the others right-aligned. ``narrow`` leaves out vertical lines.

    Columns that do not fit follow below, beside the first again: a number is never divided.
    """
    text = [[str(cell) for cell in row] for row in rows]
    for part, widths in enumerate(_fitting(columns, text, 2 if narrow else 3)):
        out = Table(title=title if part == 0 else None, title_justify="left", **(NARROW if narrow else {}))
        for i, width in widths.items():
            out.add_column(columns[i], justify="left" if i == 0 else "right", overflow="fold", width=width)
        for row in text:
            out.add_row(*(escape(row[i]) for i in widths))
        console.print(out, soft_wrap=False)


def _fitting(columns: Sequence[str], rows: Sequence[Sequence[str]], between: int) -> Iterator[dict[int, int | None]]:
    """The columns of each of the tables that fit on the screen, with their widths; None: as the screen allows."""
    cells = [[column, *(row[i] for row in rows)] for i, column in enumerate(columns)]
    natural = [max(map(cell_len, column)) for column in cells]
    if sum(natural) + between * len(columns) < console.width:
        yield dict.fromkeys(range(len(columns)))
        return
    least = [
        max(cell_len(word) for cell in column for word in [cell, *cell.split()][" " in cell :]) for column in cells
    ]
    first = min(natural[0], NAME)
    part: dict[int, int | None] = {0: None}
    room = console.width - first - between - 1
    for i in range(1, len(columns)):
        if len(part) > 1 and least[i] + between > room:
            yield part
            part, room = {0: None}, console.width - first - between - 1
        part[i] = None if any(" " in cell for cell in cells[i][1:]) else least[i]
        room -= least[i] + between
    yield part


def words(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]], *, whole: Collection[str] = ()) -> None:
    """A table of text: left-aligned, without vertical lines; the columns of ``whole`` are never wrapped."""
    out = Table(title=title, title_justify="left", **NARROW)
    for column in columns:
        out.add_column(column, overflow="fold", no_wrap=column in whole)
    for row in rows:
        out.add_row(*map(escape, row))
    console.print(out, soft_wrap=False)


def pairs(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Names and values, one pair per line."""
    out = Table(title=title, title_justify="left", show_header=False)
    for name, value in rows:
        out.add_row(escape(name), escape(value))
    console.print(out, soft_wrap=False)


class TrainingScreen:
    """A ``Reporter``: a live progress bar on a terminal, elsewhere a plain line now and then."""

    def __init__(self, *, enabled: bool = True) -> None:
        self._enabled = enabled
        self._live: Live | None = None
        self._last_line_at = time.monotonic()
        self._bar = Progress(
            TextColumn("epoch {task.fields[progress].epoch:.1f}/{task.fields[progress].epochs}"),
            BarColumn(bar_width=None),
            TextColumn("loss {task.fields[progress].loss:.3f}  {task.fields[progress].pace}{task.fields[last]}"),
            console=console,
        )
        self._task: Any = None

    def __enter__(self) -> "TrainingScreen":
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def log(self, line: str) -> None:
        if self._enabled:
            self._last_line_at = time.monotonic()
            say(line)

    def on_step(self, progress: "TrainingProgress") -> None:
        if not self._enabled:
            return
        if not console.is_terminal:
            if time.monotonic() - self._last_line_at > SILENCE:
                self.log(f"epoch {progress.epoch:.2f}/{progress.epochs}  loss {progress.loss:.4f}  {progress.pace}")
            return
        fields: dict[str, Any] = {
            "progress": progress,
            "last": f"  kNN {progress.evaluation['knn']:.1%}" if "knn" in progress.evaluation else "",
        }
        if self._live is None:
            self._task = self._bar.add_task("train", total=progress.steps, completed=progress.step, **fields)
            self._live = Live(self._bar, console=console, refresh_per_second=4, transient=True)
            self._live.start()
        self._bar.update(self._task, completed=progress.step, **fields)
