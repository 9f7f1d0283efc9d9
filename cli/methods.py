"""``contrastkit methods``: all methods in one table; one of them with its idea, its equation and its numbers."""

import dataclasses
import itertools
import typing
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from contrastkit.cli import screen
from contrastkit.cli.options import Debug, Json
from contrastkit.cli.train import per_row, shown

from contrastkit.errors import UserError, suggest
from contrastkit.names import METHODS

if TYPE_CHECKING:
    from contrastkit.augment import View
    from contrastkit.methods import Recipe


def methods(
    name: Annotated[
        str | None, typer.Argument(help=f"Tell all of this one: {', '.join(METHODS)}.", metavar="[METHOD]")
    ] = None,
    json: Json = None,
    debug: Debug = False,
) -> None:
    """List the methods, or tell one's idea, its equation, its numbers and where they are published."""
    if name is not None and name not in METHODS:
        raise UserError(f"unknown method '{name}'{suggest(name, METHODS)} (known: {', '.join(METHODS)})")
    from contrastkit.methods import ABOUT, RECIPES, overview

    rows = {row["method"]: row for row in overview() if name is None or row["method"] == METHODS[name]}
    recipes: dict[str, dict[str, Recipe]] = {
        method: {key.split("/")[1]: recipe for key, recipe in RECIPES.items() if key.startswith(f"{method}/")}
        for method in rows
    }
    if json is not None:
        from contrastkit.cli.main import write_json

        numbers = {m: {row: dataclasses.asdict(recipe) for row, recipe in recipes[m].items()} for m in rows}
        write_json(json, {m: dataclasses.asdict(ABOUT[m]) | {"recipes": numbers[m]} for m in rows})
    if name is None:
        columns = ("method", "paper", "query", "dictionary", "target", "neg.", "recipes")
        screen.words("methods (neg.: with negatives)", columns, map(_narrow, rows.values()), whole=("method", "neg."))
        screen.say("\nThe idea, the equation and the numbers of one: contrastkit methods METHOD")
    else:
        _tell(rows[METHODS[name]], recipes[METHODS[name]])
    screen.say("Each number of a recipe is an option: contrastkit train METHOD --help")


def _narrow(row: dict[str, str]) -> list[str]:
    """A row of the table of methods, for a terminal: other names under the name, recipes broken anywhere."""
    method, also, *cells, recipes = row.values()
    return [f"{method}\n({also})" if also else method, *cells, recipes.replace(",", "")]


def _tell(row: dict[str, str], recipes: dict[str, "Recipe"]) -> None:
    """One method, from its idea to what it reached."""
    from contrastkit.methods import ABOUT, Recipe

    about = ABOUT[row["method"]]
    screen.say(f"{about.title}\n{about.paper}, https://arxiv.org/abs/{about.arxiv}\n")
    screen.paragraph(about.idea)
    screen.say("\n" + "\n".join(f"    {line}" for line in about.equation.splitlines()) + "\n")
    screen.pairs(row["method"], [(key, row[key]) for key in row if row[key] and key not in ("method", "paper")])

    notes = _notes(type(next(iter(recipes.values()))))
    of_all = _notes(Recipe).keys()
    own = {
        name: {row: getattr(recipe, name) for row, recipe in recipes.items()} for name in notes if name not in of_all
    }
    common = {
        name: {row: getattr(recipe, name) for row, recipe in recipes.items()} for name in of_all if name != "views"
    }
    of_views = _notes(type(next(iter(recipes.values())).views[0]))
    views = {name: {row: per_view(recipe.views, name) for row, recipe in recipes.items()} for name in of_views}
    _numbers("its own numbers", own, notes)
    _numbers("the training", {name: values for name, values in common.items() if _is_on(values)}, notes)
    _numbers("the views", {name: values for name, values in views.items() if _is_on(values)}, of_views)
    if about.published:
        screen.words("\npublished results", ("", "", "where"), about.published)
    screen.say("")


def _numbers(title: str, numbers: dict[str, dict[str, Any]], notes: dict[str, str]) -> None:
    """A line for each number: its value, or that of each recipe where they differ, and what it is."""
    lines = [(name, "\n".join(per_row(values)), notes[name]) for name, values in numbers.items()]
    screen.words(f"\n{title}", ("", "recipe: value", "what it is (where it is published)"), lines, whole=("",))


def _is_on(values: dict[str, Any]) -> bool:
    """Whether any recipe uses what this number is for."""
    return any(shown(value) not in ("0", "false", "none") for value in values.values())


def _notes(kind: type[Any]) -> dict[str, str]:
    """What each number of a recipe or of a view is: the note of its field."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: typing.get_args(hints[field.name])[1] for field in dataclasses.fields(kind)}


def per_view(views: Sequence["View"], name: str) -> str:
    """'0.5' where the views agree, else '2 x 224, 6 x 96' in their order."""
    values = [shown(getattr(view, name)) for view in views]
    if len(set(values)) == 1:
        return values[0]
    runs = [(value, len(list(run))) for value, run in itertools.groupby(values)]
    return ", ".join(value if n == 1 else f"{n} x {value}" for value, n in runs)
