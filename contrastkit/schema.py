"""Values read from files, checked against the type hints of the code that takes them."""

import collections.abc
import contextlib
import dataclasses
import inspect
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union

from torch import Tensor

from contrastkit.bounds import bounds_of
from contrastkit.errors import UserError

T = TypeVar("T")

NOUNS: dict[Any, str] = {
    bool: "true or false",
    float: "a number",
    int: "a whole number",
    str: "a text",
    Path: "a path",
    Tensor: "a tensor",
    types.NoneType: "null",
}


class Newer(UserError):
    """A file has a value that this version does not know; the message is its place."""


@contextlib.contextmanager
def reading(file: Path) -> Iterator[None]:
    """Name the file whose values are checked within.

    Raises:
        UserError: one is missing, wrong or unknown.
    """
    try:
        yield
    except Newer as error:
        raise UserError(f"{file} was written by a newer contrastkit: it has {error}") from error
    except UserError as error:
        raise UserError(f"{file} is damaged: {error}") from error


def typed(hint: Any, value: Any, place: str) -> Any:
    """``value`` as the hint says: lists become tuples, objects become dataclasses, texts become paths.

    Hints of other kinds than JSON's and ``Tensor`` accept anything.

    Args:
        place: of the value in its file, such as ``options.seed``, for the message.

    Raises:
        UserError: it is of another type.
        Newer: an object has a key that its dataclass lacks.
    """
    origin, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is Annotated:
        kept = typed(arguments[0], value, place)
        if isinstance(value, int | float) and (bounds := bounds_of(hint)) is not None:
            bounds[0].check(place, value)
        return kept
    if origin in (Union, types.UnionType):
        return _one_of(arguments, value, place)
    if origin is Literal:
        if not any(type(value) is type(choice) and value == choice for choice in arguments):
            raise _wrong(place, f"one of {', '.join(map(str, arguments))}", value)
        return value
    if origin in (dict, collections.abc.Mapping):
        return _mapping(arguments or (Any, Any), value, place)
    if origin in (list, tuple, collections.abc.Sequence):
        return _sequence(origin, arguments, value, place)
    if dataclasses.is_dataclass(origin):
        return instance(typing.cast(type, origin), value, place)
    if origin in NOUNS:
        return _plain(origin, value, place)
    return value


def instance(kind: type[T], value: Any, place: str, **hints: Any) -> T:
    """The dataclass ``kind`` with the values of an object that has exactly its fields.

    Args:
        hints: for fields that ``kind`` annotates less exactly.

    Raises:
        UserError: a field is missing or wrong, or the values do not suit each other.
        Newer: the object has another key.
    """
    if not isinstance(value, dict):
        raise _wrong(place, "an object", value)
    hints = typing.get_type_hints(kind) | hints
    names = [item.name for item in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for name in names:
        if name not in value:
            raise UserError(f"{_inside(place, name)} is missing")
    for name in value:
        if name not in names:
            raise Newer(_inside(place, name))
    return kind(**{name: typed(hints[name], value[name], _inside(place, name)) for name in names})


def arguments(function: Any, values: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Keyword arguments of a function, checked against its hints.

    Raises:
        UserError: one is missing or wrong.
        Newer: the function has no such parameter.
    """
    parameters, hints = inspect.signature(function).parameters, typing.get_type_hints(function, include_extras=True)
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in values:
            raise UserError(f"{_inside(place, name)} is missing")
    for name in values:
        if name not in parameters:
            raise Newer(_inside(place, name))
    return {name: typed(hints[name], value, _inside(place, name)) for name, value in values.items()}


def _one_of(hints: tuple[Any, ...], value: Any, place: str) -> Any:
    if value is None and types.NoneType in hints:
        return None
    *others, last = [hint for hint in hints if hint is not types.NoneType]
    for hint in others:
        with contextlib.suppress(UserError):
            return typed(hint, value, place)
    return typed(last, value, place)


def _mapping(hints: tuple[Any, ...], value: Any, place: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(place, "an object", value)
    key, item = hints
    for name in value:
        typed(key, name, f"a key of {place}")
    if item is Any:
        return value  # the same object: a state_dict has attributes
    return {name: typed(item, inner, _inside(place, name)) for name, inner in value.items()}


def _sequence(origin: Any, hints: tuple[Any, ...], value: Any, place: str) -> Any:
    if not isinstance(value, list | tuple):
        raise _wrong(place, "a list", value)
    if origin is tuple and hints and hints[-1] is not Ellipsis:
        if len(value) != len(hints):
            raise _wrong(place, f"a list of {len(hints)}", value)
    else:
        hints = (hints[0] if hints else Any,) * len(value)
    items = [typed(hint, item, f"{place}[{i}]") for i, (hint, item) in enumerate(zip(hints, value, strict=True))]
    return items if origin is list else tuple(items)


def _plain(kind: Any, value: Any, place: str) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise _wrong(place, NOUNS[kind], value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise UserError(f"{place} must be a number of at most 64 bits")
    return value


def _inside(place: str, name: object) -> str:
    return f"{place}.{name}" if place else str(name)


def _wrong(place: str, noun: str, value: Any) -> UserError:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return UserError(f"{place or 'it'} must be {noun}, not {text if len(text) <= 40 else f'{text[:40]} ...'}")
