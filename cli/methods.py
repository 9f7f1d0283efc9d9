"""``contrastkit methods``: all methods in one table, or one with its idea, equation, recipes and results."""

import dataclasses
import itertools
import typing
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contrastkit.cards import CARDS, DISTILLATIONS, EVERY, SUPERVISED, MethodCard
from contrastkit.cli import screen
from contrastkit.cli.options import OutputOptions, takes_options
from contrastkit.cli.recipe_options import per_row
from contrastkit.cli.results import write_reports
from contrastkit.errors import check_choice
from contrastkit.names import METHODS, as_typed, training_command

if TYPE_CHECKING:
    from contrastkit.augment import View, Window


@takes_options
def methods(
    *,
    name: Annotated[
        str | None,
        typer.Argument(help=f"Method to describe: {', '.join((*METHODS, *DISTILLATIONS))}.", metavar="METHOD"),
    ] = None,
    output: OutputOptions,
) -> None:
    """List the methods, or describe one.

    A description has the idea, the equation, every number of the recipes with its source, and published results.
    """
    if name is not None:
        check_choice("method", name, (*METHODS, *DISTILLATIONS))
    cards = list(EVERY.values()) if name is None else [EVERY[METHODS.get(name, name)]]
    if name is None:
        columns = ("method", "paper", "query", "dictionary", "target", "neg.", "recipes")
        tables = {"methods": CARDS, "\ndistillations, of a trained teacher": DISTILLATIONS, "\nwith labels": SUPERVISED}
        for title, of in tables.items():
            rows = map(_cells, of.values())
            screen.words(f"{title} (neg.: uses negatives)", columns, rows, whole=("method", "neg."))
        screen.say("\nDescribe one method: contrastkit methods METHOD")
        screen.say("Options, one for each number of the recipe: contrastkit train METHOD --help, or distill")
    else:
        _show(cards[0])
        command = " ".join(training_command(cards[0].name))
        screen.say(f"Options, one for each number of the recipe: {command} --help")
    write_reports({card.name: _as_json(card) for card in cards}, output.json)


def _as_json(card: MethodCard) -> dict[str, Any]:
    """The card, and every number of the method's recipes."""
    from contrastkit.methods.rows import rows_of

    numbers = {row: dataclasses.asdict(recipe) for row, recipe in rows_of(card.name).items()}
    return dataclasses.asdict(card) | {"recipes": numbers}


def _cells(card: MethodCard) -> list[str]:
    """A row of the table of methods, narrow: aliases under the name, recipes that can wrap anywhere."""
    from contrastkit.methods.rows import rows_of

    name = f"{card.name}\n({', '.join(card.aliases)})" if card.aliases else card.name
    negatives = "yes" if card.negatives else "no"
    return [name, card.paper, card.query, card.dictionary, card.target, negatives, " ".join(rows_of(card.name))]


def _show(card: MethodCard) -> None:
    """One method, from its idea to its published results."""
    from contrastkit.methods import Recipe
    from contrastkit.methods.rows import rows_of

    recipes = rows_of(card.name)
    screen.say(f"{card.title}\n{card.paper}, https://arxiv.org/abs/{card.arxiv}\n")
    screen.paragraph(card.idea)
    screen.say("\n" + "\n".join(f"    {line}" for line in card.equation.splitlines()) + "\n")
    also = [("also", ", ".join(card.aliases))] if card.aliases else []
    screen.pairs(
        card.name,
        [
            *also,
            ("query", card.query),
            ("dictionary", card.dictionary),
            ("target", card.target),
            ("negatives", "yes" if card.negatives else "no"),
            ("recipes", ", ".join(recipes)),
        ],
    )

    first = next(iter(recipes.values()))
    notes, view_notes, shared = _notes(type(first)), _notes(type(first.views[0])), _notes(Recipe)
    values = {name: {row: getattr(recipe, name) for row, recipe in recipes.items()} for name in notes}
    views = {name: {row: per_view(recipe.views, name) for row, recipe in recipes.items()} for name in view_notes}
    _numbers("the method", {name: values[name] for name in notes if name not in shared}, notes)
    _numbers("training", {name: values[name] for name in shared if name != "views" and _is_on(values[name])}, notes)
    _numbers("augmentation", {name: values for name, values in views.items() if _is_on(values)}, view_notes)
    if card.published:
        screen.words("\npublished results", ("", "", "source"), card.published)
    screen.say("")


def _numbers(title: str, numbers: dict[str, dict[str, Any]], notes: dict[str, str]) -> None:
    """One line per number: its value, or that of each recipe where they differ, and its meaning."""
    lines = [(name, "\n".join(per_row(values)), notes[name]) for name, values in numbers.items()]
    screen.words(f"\n{title}", ("", "recipe: value", "meaning (source)"), lines, whole=("",))


def _is_on(values: dict[str, Any]) -> bool:
    """Whether any recipe uses this number."""
    return any(as_typed(value) not in ("0", "false", "none") for value in values.values())


def _notes(kind: type[Any]) -> dict[str, str]:
    """The meaning of each number of a recipe or of a view: the note of its field."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: typing.get_args(hints[field.name])[1] for field in dataclasses.fields(kind)}


def per_view(views: Sequence["View | Window"], name: str) -> str:
    """'0.5' where all views agree, otherwise in order: '2 x 224, 6 x 96'."""
    values = [as_typed(getattr(view, name)) for view in views]
    if len(set(values)) == 1:
        return values[0]
    runs = [(value, len(list(run))) for value, run in itertools.groupby(values)]
    return ", ".join(value if n == 1 else f"{n} x {value}" for value, n in runs)
