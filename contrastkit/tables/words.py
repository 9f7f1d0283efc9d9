"""Columns of text: words among numbers, and what a column of very many different words seems to be."""

import re
from collections.abc import Sequence

MANY = 20  # a text column of more different values may be something else than a factor
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_MEASURED = re.compile(rf"(?:[€$£¥]|[A-Z]{{3}} )? ?{_NUMBER} ?([^\d\s]{{0,8}})")  # $3, EUR 3.5, 12 kg, 45%
_DATE = (
    r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}([ T]\d{1,2}:\d\d.*)?|\d{1,2}:\d\d(:\d\d)?"  # 2020-12-31 23:59, 31/12/20, 23:59
    r"|\d{1,2}[ .-]+[A-Za-z]{3,9}[ .,-]+\d{2,4}|[A-Za-z]{3,9} \d{1,2},? \d{4}"  # 31 Dec 2020, December 31, 2020
)


def is_number(text: str) -> bool:
    """Whether a text is a finite number in decimal digits: neither ``nan`` nor ``1_000``, which Python would take."""
    return re.fullmatch(_NUMBER, text.strip()) is not None


def among_numbers(name: str, word: str) -> str:
    """The error for a word in a column of numbers."""
    advice = "correct it, or make all of them text"
    if not re.search(r"\d", word):
        advice = f"if it stands for a missing value, say so with --missing '{word}'; else {advice}"
    return f"{name}: '{word}' is not a number, but others are: {advice}"


def no_factor(name: str, values: Sequence[str], rows: int) -> str:
    """The error for a text column with these different values in this many rows that seems to be something else than a
    factor; empty if it may well be one: its values are few, or words that return."""
    if len(values) <= MANY or not (what := _seems([value.strip() for value in values], rows)):
        return ""
    return f"{name}: its {len(values):,} different texts in {rows:,} rows seem to be {what} leave {name} out"


def _seems(values: Sequence[str], rows: int) -> str:
    def all_match(pattern: str) -> bool:
        return all(re.fullmatch(pattern, value) for value in values)

    if all_match(_DATE):
        return "dates or times: convert them to numbers, such as days since the first, or"
    if all_match(r"[+-]?\d+([., '\u00a0]\d+)*"):
        return "numbers with decimal commas or thousands separators: write 1234.5 for 1,234.5 or 1.234,5, or"
    units = {found[1] if (found := _MEASURED.fullmatch(value)) else None for value in values}
    if None not in units and len(units) <= 3:  # more suffixes than that make identifiers
        return "numbers with a unit: write 45 for 45%, all in the same unit, or"
    return "identifiers, which tell the rows apart:" if len(values) > rows / 2 else ""
