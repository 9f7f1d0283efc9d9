"""The options that commands share, and how a command takes a whole family of them at once.

A family is a frozen dataclass whose fields are ``Annotated[type, typer.Option(...)]``. A command names it as one
parameter; :func:`takes_options` turns that into an option for each field and hands the command the filled dataclass::

    @app.command()
    @takes_options
    def knn(subject: SubjectOptions, k: Annotated[int, typer.Option(help="Number of neighbours.")] = 20) -> None: ...
"""

import dataclasses
import functools
import inspect
import os
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer


def takes_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter of ``command`` that is annotated with a dataclass by that dataclass's fields."""
    hints = typing.get_type_hints(command, include_extras=True)
    families = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    parameters = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name in families:
            parameters += _parameters(families[parameter.name])
        else:
            parameters.append(
                parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[parameter.name])
            )

    @functools.wraps(command)
    def run(**given: Any) -> None:
        for name, family in families.items():
            given[name] = family(**{item.name: given.pop(item.name) for item in dataclasses.fields(family)})
        command(**given)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _parameters(family: Any) -> list[inspect.Parameter]:
    """A keyword parameter for each field of a dataclass, with its annotation and default."""
    hints = typing.get_type_hints(family, include_extras=True)
    return [
        inspect.Parameter(
            item.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if item.default is dataclasses.MISSING else item.default,
            annotation=hints[item.name],
        )
        for item in dataclasses.fields(family)
    ]

Data = Annotated[
    str | None,
    typer.Option(
        help="A named set, a folder of images, an .npz file, or NAME=DIR,NAME=DIR: several modalities of one scene.",
        metavar="NAME|PATH",
    ),
]
DataDir = Annotated[
    Path | None, typer.Option(help="Where named sets lie; else the variable CONTRASTKIT_DATA says it.", metavar="DIR")
]
Download = Annotated[bool, typer.Option("--download", help="Fetch a named set that is not in --data-dir.")]
ValFraction = Annotated[
    float | None,
    typer.Option(help="Hold out this share of the training images, drawn by --seed, and judge on it.", min=0, max=1),
]
Workers = Annotated[int | None, typer.Option(help="Processes that load data; 0 is this one.", min=0)]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, or auto.")]
Seed = Annotated[int, typer.Option(help="Everything random follows from it.", min=0, max=2**63 - 1)]


def writable(path: Path | None) -> Path | None:
    """A file to be written at the end: whether it can be is said at the start."""
    if path is not None and not (path.expanduser().parent.is_dir() and os.access(path.expanduser().parent, os.W_OK)):
        raise typer.BadParameter(f"{path} cannot be written: there is no such folder, or no permission")
    return path


Json = Annotated[
    Path | None,
    typer.Option("--json", help="Write what is printed to this file, as JSON.", metavar="FILE", callback=writable),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def where(given: Path | None, kept: str | None = None) -> Path | None:
    """Where named sets lie: as --data-dir says, else as a run remembers while that is there, else CONTRASTKIT_DATA."""
    if given is None and (kept is None or not Path(kept).is_dir()):
        given = Path(os.environ["CONTRASTKIT_DATA"]) if os.environ.get("CONTRASTKIT_DATA") else None
    found = given or (Path(kept) if kept is not None else None)
    return None if found is None else found.expanduser().resolve()
