"""``contrastkit methods``: all methods in one table; one of them with its idea, its equation and its numbers."""

import dataclasses
import itertools
import typing
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from contrastkit.cli import screen
from contrastkit.cli.options import Debug, Json
from contrastkit.cli.train import shown

from contrastkit.errors import UserError, suggest
from contrastkit.names import METHODS

if TYPE_CHECKING:
    from contrastkit.methods import Recipe
    from contrastkit.views import View


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
        columns = [key for key in next(iter(rows.values())) if key != "also"]
        screen.words("methods", columns, map(_narrow, rows.values()), whole=("method", "negatives"))
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
    from contrastkit.views import View

    about = ABOUT[row["method"]]
    screen.say(f"{about.title}\n{about.paper}, https://arxiv.org/abs/{about.arxiv}\n")
    screen.paragraph(about.idea)
    screen.say("\n" + "\n".join(f"    {line}" for line in about.equation.splitlines()) + "\n")
    screen.pairs(row["method"], [(key, row[key]) for key in row if row[key] and key not in ("method", "paper")])

    notes = _notes(type(next(iter(recipes.values()))))
    del notes["views"]  # a table of their own
    of_all = _notes(Recipe).keys()
    names = [*(name for name in notes if name not in of_all), *(name for name in notes if name in of_all)]
    lines = [(name, *(shown(getattr(recipe, name)) for recipe in recipes.values()), notes[name]) for name in names]
    columns = ("", *recipes, "what it is (where it is published)")
    screen.words("\nrecipes", columns, [line for line in lines if line[0] not in of_all or _is_on(line)])
    lines = [
        (name, *(per_view(recipe.views, name) for recipe in recipes.values()), note)
        for name, note in _notes(View).items()
    ]
    screen.words("\nviews", columns, filter(_is_on, lines))
    if about.published:
        screen.words("\npublished", ("", "", "where"), about.published)
    screen.say("")


def _is_on(line: tuple[str, ...]) -> bool:
    """Whether any recipe uses what this number is for."""
    return bool(set(line[1:-1]) - {"0", "false", "none"})


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
