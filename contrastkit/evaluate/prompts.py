"""What zero-shot classification tells a text tower of each class: names, in templates."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from contrastkit.directories import require_file
from contrastkit.errors import UserError, listed, suggest

PLACE = "{}"  # of the name in a template
TEMPLATE = "a photo of a {}."  # Radford et al. 2021, Sec. 3.1.4


@dataclass(frozen=True, slots=True)
class Prompts:
    """The texts that stand for each class.

    Attributes:
        names: class -> its names, synonyms of each other, in the order of the classes.
        templates: each with :data:`PLACE`, where the name goes.
    """

    names: Mapping[str, Sequence[str]]
    templates: Sequence[str] = (TEMPLATE,)

    def __post_init__(self) -> None:
        if len(self.names) < 2:
            raise UserError("there is nothing to choose between: give images of at least two classes")
        for known, names in self.names.items():
            if not names or not all(name.strip() for name in names):
                raise UserError(f"the class {known} has an empty name, or none: give each class a name")
        if not self.templates:
            raise UserError(f'there is no template: give at least one, such as "{TEMPLATE}"')
        for number, template in enumerate(self.templates, start=1):
            if not template.strip():
                raise UserError(f'template {number} is empty: write one such as "{TEMPLATE}"')
            if PLACE not in template:
                raise UserError(f'template {number}, "{template}", has no {PLACE}, where the name of the class goes')

    def of(self, known: str) -> list[str]:
        """Every name of a class in every template."""
        return [template.replace(PLACE, name) for name in self.names[known] for template in self.templates]

    @property
    def notices(self) -> list[str]:
        """Classes whose texts are the same."""
        by_names: dict[frozenset[str], list[str]] = {}
        for known, names in self.names.items():
            by_names.setdefault(frozenset(name.lower() for name in names), []).append(known)
        return [
            f"{listed(same, 4)} have the same names, so the first of them is always the answer"
            for same in by_names.values()
            if len(same) > 1
        ]


def spoken(folder: str) -> str:
    """The name of a class in words: AnnualCrop is "annual crop", golf_ball "golf ball"."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|[\W_]+", " ", folder).split()
    return " ".join(word if word.isupper() else word.lower() for word in words) or folder


def read_names(file: Path, classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The names of classes in a file of text: one class a line, in the order of ``classes``, or CLASS<TAB>NAME in any
    order; synonyms are separated by commas.

    Raises:
        UserError: a class without a name, a name without a class, a class named twice, or a mixture of both forms.
    """
    lines = _lines(file)
    tabs = ["\t" in line for line in lines]
    if any(tabs) != all(tabs):
        raise UserError(f"line {tabs.index(not tabs[0]) + 1} of {file} has {'no' if tabs[0] else 'a'} tab, unlike the "
                        "first: give NAME, or CLASS<TAB>NAME, in all lines")  # fmt: skip
    if not all(tabs) and len(lines) != len(classes):
        raise UserError(
            f"{file} has {len(lines):,} line(s) for {len(classes):,} classes ({listed(classes, 4)}): give a name a "
            "line in their order, or CLASS<TAB>NAME"
        )
    named: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines, start=1):
        known, text = line.split("\t", 1) if all(tabs) else (classes[number - 1], line)
        known, names = known.strip(), tuple(name.strip() for name in text.split(",") if name.strip())
        if known not in classes:
            raise UserError(
                f"line {number} of {file} names the class {known!r}, which the images do not have"
                f"{suggest(known, classes)} (they have {listed(classes, 6)})"
            )
        if known in named:
            raise UserError(f"line {number} of {file} names the class {known} again: join its names by commas")
        if not names:
            raise UserError(f"line {number} of {file} has no name of the class {known}")
        named[known] = names
    if missing := [known for known in classes if known not in named]:
        raise UserError(f"{file} has no name of {listed(missing, 4)}: give each class a line, CLASS<TAB>NAME")
    return {known: named[known] for known in classes}


def read_templates(file: Path) -> tuple[str, ...]:
    """The templates in a file of text, one a line.

    Raises:
        UserError: there is none, or one is empty or has no place for a name.
    """
    lines = _lines(file)
    for number, line in enumerate(lines, start=1):
        if PLACE not in line:
            wrong = f"has no {PLACE}, where the name of the class goes" if line else "is empty"
            raise UserError(f'line {number} of {file} {wrong}: write a template such as "{TEMPLATE}"')
    return tuple(lines)


def _lines(file: Path) -> list[str]:
    """The lines of a file, without blanks around them and without empty ones at its end.

    Raises:
        UserError: it cannot be read, is not in UTF-8 or has no text.
    """
    require_file(file)
    try:
        lines = [line.strip(" \r") for line in file.read_text("utf-8-sig").rstrip("\r\n ").split("\n")]
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not in UTF-8: convert it") from error
    if lines == [""]:
        raise UserError(f"{file} is empty: give one line or more")
    return lines
