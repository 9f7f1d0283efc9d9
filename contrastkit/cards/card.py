"""What a card says of a method."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class MethodCard:
    """A method for its readers: what ``contrastkit methods`` shows and ``contrastkit train --help`` lists."""

    name: str  # as in ``contrastkit train NAME`` and in the names of its recipes, "NAME/tiny"
    aliases: Mapping[str, str] = field(default_factory=dict)  # other names for it, each with its own summary
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
    published: tuple[tuple[str, str, str], ...] = ()  # what was measured, the number, where it is published
