"""The content of a report, as the template shows it: runs, their sections, and the blocks in these."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str
    kind: str = "text"


@dataclass(frozen=True, slots=True)
class Missing:
    """What is not shown: why, and the command that makes it, if one does."""

    why: str
    command: str = ""
    kind: str = "missing"


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values."""

    rows: tuple[tuple[str, str], ...]
    kind: str = "facts"


@dataclass(frozen=True, slots=True)
class Scale:
    """A share with its interval, drawn on a line from 0 to 1; ``chance`` is marked."""

    value: float
    low: float
    high: float
    chance: float


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under named columns; the first cell of each row names it.

    Attributes:
        columns: their names; one of :class:`Scale` cells is only for the eye, its numbers are in other columns.
        numbers: which columns are set flush right.
        folded: whether only the caption is seen until it is asked for.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | Scale, ...], ...]
    numbers: tuple[int, ...] = ()
    note: str = ""
    folded: bool = False
    kind: str = "table"


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture within the page.

    Attributes:
        source: a data URI.
        width, height: in pixels.
        alt: for readers who do not see it.
        caption: below it; "" for none.
    """

    source: str
    width: int
    height: int
    alt: str
    caption: str = ""
    kind: str = "picture"


@dataclass(frozen=True, slots=True)
class Panels:
    """Small pictures side by side, as many as there is room for."""

    pictures: tuple[Picture, ...]
    caption: str = ""
    kind: str = "panels"


@dataclass(frozen=True, slots=True)
class Code:
    """Lines of a shell."""

    lines: tuple[str, ...]
    kind: str = "code"


Block = Text | Missing | Facts | Table | Picture | Panels | Code


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page with a heading."""

    name: str  # within its run, for links
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class RunContent:
    """What the page says about a run.

    Attributes:
        title: its folder.
        lead: what was trained on what, in a sentence.
        finished: whether it has been trained to its end.
        status: how far it has come.
    """

    title: str
    lead: str
    finished: bool
    status: str
    sections: tuple[Section, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A report of one run, or of several beside each other.

    Attributes:
        comparison: of several runs.
        notices: what was left out, one line each, with the name of its run.
    """

    title: str
    version: str
    comparison: Section | None
    runs: tuple[RunContent, ...]

    @property
    def notices(self) -> tuple[str, ...]:
        sections = [(run.title, section) for run in self.runs for section in run.sections]
        if self.comparison is not None:
            sections.insert(0, (self.title, self.comparison))
        return tuple(
            f"{run}: {section.title.lower()}: {block.why}"
            for run, section in sections
            for block in section.blocks
            if isinstance(block, Missing)
        )

    @property
    def pictures(self) -> tuple[Picture, ...]:
        return tuple(self._pictures())

    def _pictures(self) -> Iterator[Picture]:
        comparison = () if self.comparison is None else (self.comparison,)
        for section in (*comparison, *(section for run in self.runs for section in run.sections)):
            for block in section.blocks:
                if isinstance(block, Panels):
                    yield from block.pictures
                elif isinstance(block, Picture):
                    yield block
