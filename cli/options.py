"""The options that commands share: the same words everywhere."""

import os
from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    str | None,
    typer.Option(
        help="A set's name, a folder of images, an .npz file, or NAME=DIR,NAME=DIR: several senses of the same scenes.",
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
