"""Options generated from the fields of recipes, views and training options, and recipes changed by their values."""

import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from contrastkit.cli.options import TEST_PART
from contrastkit.errors import UserError
from contrastkit.names import VIEW_NAMES, as_typed, split_name

if typing.TYPE_CHECKING:
    from contrastkit.methods import Recipe

Parameters = list[inspect.Parameter]


def of_training(options: type) -> Parameters:
    """An option for each field of :class:`contrastkit.training.Options`; its help ends with the default."""
    parameters, hints = [], typing.get_type_hints(options, include_extras=True)
    for item in dataclasses.fields(options):
        kind, note, *others = typing.get_args(hints[item.name])
        metavar = next((text for text in others if isinstance(text, str)), None)
        if item.default is not dataclasses.MISSING and kind is not bool and "default" not in note:
            note += "" if item.default is None else f" \\[{as_typed(item.default)}]"
        flag = " ".join(TEST_PART) if item.name == "test_part" else f"--{item.name.replace('_', '-')}"
        parameters.append(_option(item.name, kind, note, flag, None, *others, metavar=metavar))
    return parameters


def of_recipes(recipes: Mapping[str, Any], panel: str = "recipe", *, several: bool = False) -> Parameters:
    """An option for each field of the recipes except their views; its help ends with the numbers of the rows. ``panel``
    is the heading of these options. ``several``: each is a text that :func:`grid` divides at commas."""
    first = next(iter(recipes.values()))
    parameters = []
    for name, hint in typing.get_type_hints(type(first), include_extras=True).items():
        if typing.get_origin(hint) is typing.ClassVar:
            continue
        if name == "views":
            from contrastkit.augment import View  # imports torch

            if first.view_type is View:
                help_ = f"Name of the augmentations: {', '.join(VIEW_NAMES)}."
                parameters.append(
                    _option(name, str, help_, "--views", "views", metavar="NAME,..." if several else None)
                )
            continue
        bare, note, *others = typing.get_args(hint)
        values = {row: getattr(recipe, name) for row, recipe in recipes.items()}
        flag = f"--{name.replace('_', '-')}"
        if bare is bool and not several:
            flag = f"{flag}/--no-{name.replace('_', '-')}"
        kind = str if typing.get_origin(bare) is tuple else bare
        help_ = f"{note} \\[{'; '.join(per_row(values))}]"
        if several:
            parameters.append(_option(name, str, help_, flag, panel, metavar=_several(kind)))
        else:
            parameters.append(_option(name, kind, help_, flag, panel, *others))
    return parameters


def _several(kind: Any) -> str:
    """How values of this type are shown where several can be given."""
    kind = _without_none(kind)
    if typing.get_origin(kind) is typing.Literal:
        return f"<{'|'.join(map(str, typing.get_args(kind)))}>,..."
    return {bool: "true|false,...", int: "INTEGER,...", float: "FLOAT,..."}.get(kind, "TEXT,...")


def _without_none(kind: Any) -> Any:
    """X of ``X | None``."""
    others = [part for part in typing.get_args(kind) if part is not type(None)]
    return others[0] if type(None) in typing.get_args(kind) else kind


def of_views(recipes: dict[str, "Recipe"]) -> Parameters:
    """An option for each number of a view; it takes one value for all views, or a comma-separated value for each."""
    parameters = []
    view_type = next(iter(recipes.values())).view_type
    for name, hint in typing.get_type_hints(view_type, include_extras=True).items():
        kind, note = typing.get_args(hint)[:2]
        values = {
            row: ",".join(dict.fromkeys(as_typed(getattr(v, name)) for v in recipe.views))
            for row, recipe in recipes.items()
        }
        help_ = f"{note} \\[{'; '.join(per_row(values))}]"
        flag = f"--{name.replace('_', '-')}"
        metavar = "|".join(typing.get_args(kind)) if typing.get_origin(kind) is typing.Literal else None
        panel = "views: one value, or one per view"
        parameters.append(_option(f"view_{name}", str, help_, flag, panel, metavar=metavar))
    return parameters


def _option(
    name: str, kind: Any, help_: str, flag: str, panel: str | None, *bounds: Any, metavar: str | None = None
) -> inspect.Parameter:
    """An option whose default is None; ``flag`` has its names, divided by spaces."""
    option = typer.Option(*flag.split(), help=help_, rich_help_panel=panel, show_default=False, metavar=metavar)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option, *bounds]
    )


def per_row(values: dict[str, Any]) -> list[str]:
    """['0.07'], or ['imagenet: 0.07', '32, tiny: 0.1'] where the rows differ. Keys are ``method/row``."""
    rows: dict[str, list[str]] = {}
    for name, value in values.items():
        rows.setdefault(as_typed(value), []).append(split_name(name)[1])
    return list(rows) if len(rows) == 1 else [f"{', '.join(names)}: {value}" for value, names in rows.items()]


def change(numbers: dict[str, Any]) -> Callable[["Recipe"], "Recipe"]:
    """A function that changes a recipe by the values of options: its fields by name, those of its views for all views
    or one by one.

    The function raises:
        UserError: a value is not a number, or their count does not match the views.
    """
    from contrastkit.training.plan import replaced

    return lambda recipe: replaced(typed(recipe, numbers))(recipe)


def typed(recipe: Any, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """The values of options that are given under the names of fields: what was typed with commas becomes tuples, of a
    recipe, or lists, of its views."""
    values: dict[str, Any] = {}
    for name, value in numbers.items():
        field = name.removeprefix("view_")
        if value is None:
            continue
        if name.startswith("view_"):
            hints = typing.get_type_hints(recipe.view_type)
            values[field] = [_parsed(part, field, hints[field]) for part in str(value).split(",")]
        elif isinstance(getattr(recipe, name), tuple) and name != "views":
            values[name] = tuple(_parsed(part, name, float) for part in str(value).split(","))
        else:
            values[name] = value
    return values


def grid(recipe: Any, numbers: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """The values of options that may have several, separated by commas: those with a single one as by :func:`typed`,
    and lists of the others, both by the names of fields. Tuples and the numbers of views have a single one.

    Raises:
        UserError: a value is missing, or of another type than its field.
    """
    fixed: dict[str, Any] = {}
    several: dict[str, list[Any]] = {}
    hints = typing.get_type_hints(type(recipe))
    for name, text in numbers.items():
        if name.startswith("view_") or (name != "views" and isinstance(getattr(recipe, name), tuple)):
            fixed |= typed(recipe, {name: text})
            continue
        kind = str if name == "views" else _without_none(hints[name])
        values = [_parsed(part, name, kind) for part in text.split(",")]
        if "" in values:
            raise UserError(f"--{name.replace('_', '-')}: a value is empty in '{text}'")
        if typing.get_origin(kind) is typing.Literal:  # in any case, as where one is given
            known = {choice.lower(): choice for choice in typing.get_args(kind)}
            values = [known.get(value.lower(), value) for value in values]
        if len(values) == 1:
            fixed[name] = values[0]
        else:
            several[name] = values
    return fixed, several


NOUNS: dict[Any, str] = {float: "a number", int: "an integer", bool: "true or false"}


def _parsed(text: str, name: str, kind: Callable[[str], Any]) -> Any:
    if typing.get_origin(kind) is typing.Literal:
        return text.strip()  # which the view checks
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.strip().lower()]
        return text.strip() if kind is str else kind(text)
    except (ValueError, KeyError) as error:
        raise UserError(f"--{name.replace('_', '-')}: '{text}' is not {NOUNS[kind]}") from error
