"""The recipes of a method, built in or defined in a file, and the row that suits the images."""

import sys
from hashlib import sha256
from pathlib import Path
from types import ModuleType

from contrastkit.directories import given_path, require_file
from contrastkit.errors import UserError, check_choice, suggest
from contrastkit.methods import EVERY
from contrastkit.methods.base import Recipe
from contrastkit.names import DISTILLED, METHODS, is_file, split_name
from contrastkit.parts.build import SMALL

LOW = 48  # pixels: up to here, ``32`` shows an image nearly as it is, and suits a small machine too


def recipes_of(method: str) -> dict[str, Recipe]:
    """The recipes of a method, ``method/row`` -> recipe; the first one is for images of ImageNet's size.

    Args:
        method: a key of ``names.METHODS``, aliases included, or a value of ``names.DISTILLED``; or
            ``path/to/file.py:NAME``, a file that defines ``RECIPES = {"NAME/row": ..., ...}`` as the modules of
            :mod:`contrastkit.methods` do. The file is executed. Its recipes are called ``file.py:NAME/row``, whatever
            its folder.

    Raises:
        UserError: no such method, or the file does not define it.
    """
    if is_file(method):
        return _recipes_of_file(method)
    check_choice("method", method, (*METHODS, *DISTILLED.values()))
    own = METHODS.get(method, method)
    return {name: recipe for name, recipe in EVERY.items() if split_name(name)[0] == own}


def rows_of(method: str) -> dict[str, Recipe]:
    """:func:`recipes_of` with the rows' own names: row -> recipe."""
    return {split_name(name)[1]: recipe for name, recipe in recipes_of(method).items()}


def _recipes_of_file(method: str) -> dict[str, Recipe]:
    text, _, name = method.rpartition(":")
    path = given_path(text).resolve()
    require_file(path, "; give the file that defines the method, path/to/file.py:NAME")
    recipes = getattr(_executed(path), "RECIPES", None)
    if not isinstance(recipes, dict) or not recipes or not all(_is_row(*item) for item in recipes.items()):
        raise UserError(f'{path} defines no RECIPES = {{"{name}/row": recipe, ...}}')
    rows = {f"{path.name}:{key}": recipe for key, recipe in recipes.items() if split_name(key)[0] == name}
    if not rows:
        known = sorted({split_name(key)[0] for key in recipes})
        raise UserError(f"{path} defines no method '{name}'{suggest(name, known)} (it defines {', '.join(known)})")
    return rows


def _is_row(key: object, recipe: object) -> bool:
    return isinstance(key, str) and key.count("/") == 1 and isinstance(recipe, Recipe)


def _executed(path: Path) -> ModuleType:
    """The file as a module, executed once for each content: an edited file is executed anew.

    Raises:
        UserError: it cannot be executed.
    """
    source = path.read_bytes()
    module = ModuleType(f"contrastkit_method_{sha256(bytes(path) + source).hexdigest()}")
    if module.__name__ in sys.modules:
        return sys.modules[module.__name__]
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look up their module
    try:
        exec(compile(source, path, "exec"), vars(module))  # an import would trust bytecode of the same second
    except BaseException as error:
        del sys.modules[module.__name__]
        if isinstance(error, KeyboardInterrupt):
            raise
        raise UserError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    return module


def choose_row(
    recipes: dict[str, Recipe],
    *,
    size: int,
    encoder: str | None,
    orientation_matters: bool,
    small_machine: bool = False,
    row: str | None = None,
) -> str:
    """The name of the recipe for a set of images.

    Args:
        recipes: the recipes of one method, from :func:`recipes_of`.
        size: shorter side of the images in pixels.
        encoder: the requested encoder, if any: ``tiny`` selects ``tiny``, and one of several published recipes for
            photos (``imagenet-...``) the first of its own.
        orientation_matters: whether a flip would change an image's meaning.
        small_machine: whether the published recipes for photos are too large for it: photos then get ``small``, unless
            the encoder is requested that these recipes are for.
        row: the requested row, if any; overrides the choice.

    Raises:
        UserError: no such row; the nearest is suggested.
    """
    method = split_name(next(iter(recipes)))[0]
    rows = [split_name(name)[1] for name in recipes]
    if row is None:
        if orientation_matters and size <= SMALL and encoder in (None, "tiny") and "digits" in rows:
            best = "digits"
        elif encoder == "tiny":
            best = "tiny"
        else:
            best = _best(recipes, method, size=size, encoder=encoder, small_machine=small_machine)
        row = best if best in rows else rows[0]  # those of sounds have other names, and a file may define one alone
    if row not in rows:
        raise UserError(f"{method} has no recipe '{row}'{suggest(row, rows)} (rows: {', '.join(rows)})")
    return f"{method}/{row}"


def _best(recipes: dict[str, Recipe], method: str, *, size: int, encoder: str | None, small_machine: bool) -> str:
    """The row for images that are no digits."""
    small = recipes.get(f"{method}/small") if small_machine and size > LOW else None
    if small is None and size <= SMALL:
        return "32"
    for name, recipe in recipes.items():
        row = split_name(name)[1]
        if row.startswith("imagenet") and recipe.encoder == encoder and (small is None or small.encoder != encoder):
            return row
    return "imagenet" if small is None else "small"
