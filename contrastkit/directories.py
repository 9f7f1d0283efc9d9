"""Where named data sets lie. Imports nothing heavy: images and tables alike are looked up there."""

import os
from pathlib import Path


def data_directory(given: Path | None = None, recorded: str | None = None) -> Path | None:
    """The directory of named data sets, absolute: the one given, else the one a run recorded while it still exists,
    else $CONTRASTKIT_DATA; None where nothing names one."""
    if given is None and (recorded is None or not Path(recorded).is_dir()):
        given = Path(os.environ["CONTRASTKIT_DATA"]) if os.environ.get("CONTRASTKIT_DATA") else None
    directory = given or (Path(recorded) if recorded is not None else None)
    return None if directory is None else directory.expanduser().resolve()
