"""The card of a method: its description for readers."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class MethodCard:
    """The description of a method, shown by ``contrastkit methods`` and ``contrastkit train --help``."""

    name: str  # as in ``contrastkit train NAME`` and in the names of its recipes, "NAME/tiny"
    word: str | None = None  # of ``contrastkit distill WORD``, where that is not the name
    aliases: Mapping[str, str] = field(default_factory=dict)  # other names, each with its own summary
    summary: str  # a line of ``contrastkit train --help``
    title: str  # of the paper
    paper: str  # authors and year
    arxiv: str  # number of the paper
    query: str
    dictionary: str
    target: str
    negatives: bool
    idea: str  # a paragraph
    equation: str  # plain text, the paper's letters
    published: tuple[tuple[str, str, str], ...] = ()  # measurement, result, source
