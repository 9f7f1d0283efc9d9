"""The recipes of a method, built in or defined in a file, and the row that suits the images."""

import importlib.util
import re
import sys
from pathlib import Path

from contrastkit.errors import UserError, suggest
from contrastkit.methods import rows_of
from contrastkit.methods.base import Recipe
from contrastkit.names import METHODS
from contrastkit.parts.build import SMALL


def recipes_of(method: str) -> dict[str, Recipe]:
    """The recipes of a method, ``method/row`` -> recipe; the first one is for images of ImageNet's size.

    Args:
        method: a key of ``names.METHODS``, aliases included; or ``path/to/file.py:NAME``, a file that defines
            ``RECIPES = {"NAME/row": ..., ...}`` as the modules of :mod:`contrastkit.methods` do. The file is executed.
            Its recipes are called ``file.py:NAME/row``, whatever its folder.

    Raises:
        UserError: no such method, or the file does not define it.
    """
    if is_file(method):
        return _recipes_of_file(method)
    if method not in METHODS:
        raise UserError(f"unknown method '{method}'{suggest(method, METHODS)}")
    return {f"{METHODS[method]}/{row}": recipe for row, recipe in rows_of(METHODS[method]).items()}


def is_file(method: str) -> bool:
    """Whether a method is given as ``path/to/file.py:NAME``."""
    return ".py:" in method


def _recipes_of_file(method: str) -> dict[str, Recipe]:
    text, _, name = method.rpartition(":")
    path = Path(text).expanduser().resolve()
    if not path.is_file():
        raise UserError(f"{text} does not exist: give the file that defines the method, path/to/file.py:NAME")
    module_name = "contrastkit_method_" + re.sub(r"\W", "_", str(path))
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module  # dataclasses look up their module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[module_name]
            raise UserError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    recipes = getattr(sys.modules[module_name], "RECIPES", None)
    if not isinstance(recipes, dict) or not all(isinstance(recipe, Recipe) for recipe in recipes.values()):
        raise UserError(f'{path} defines no RECIPES = {{"{name}/row": recipe, ...}}')
    rows = {f"{path.name}:{key}": recipe for key, recipe in recipes.items() if key.startswith(f"{name}/")}
    if not rows:
        known = sorted({key.split("/")[0] for key in recipes})
        raise UserError(f"{path} defines no method '{name}'{suggest(name, known)} (it defines {', '.join(known)})")
    return rows


def choose_row(
    recipes: dict[str, Recipe], *, size: int, encoder: str | None, orientation_matters: bool, row: str | None = None
) -> str:
    """The name of the recipe for a set of images.

    Args:
        recipes: the recipes of one method, from :func:`recipes_of`.
        size: shorter side of the images in pixels.
        encoder: the requested encoder, if any; ``tiny`` selects the small recipes.
        orientation_matters: whether a flip would change an image's meaning.
        row: the requested row, if any; overrides the choice.

    Raises:
        UserError: no such row; the nearest is suggested.
    """
    method = next(iter(recipes)).rpartition("/")[0]
    rows = [name.rpartition("/")[2] for name in recipes]
    if row is None:
        if not next(iter(recipes.values())).modality.has_pixels:
            best = "tiny" if encoder == "tiny" else rows[0]
        elif orientation_matters and size <= SMALL and encoder in (None, "tiny") and "digits" in rows:
            best = "digits"
        elif encoder == "tiny":
            best = "tiny"
        else:
            best = "32" if size <= SMALL else "imagenet"
        row = best if best in rows or not is_file(method) else rows[0]  # a file may define a single row
    if row not in rows:
        raise UserError(f"{method} has no recipe '{row}'{suggest(row, rows)} (rows: {', '.join(rows)})")
    return f"{method}/{row}"
