"""The directory of named data sets, of images and of tables. Imports nothing heavy."""

import os
from pathlib import Path


def data_directory(explicit: Path | None = None, recorded: str | None = None) -> Path | None:
    """The absolute path of the directory of named data sets, or None.

    The order of precedence: ``explicit``; ``recorded`` by a run, if it still exists; $CONTRASTKIT_DATA; ``recorded``.
    """
    if explicit is None and (recorded is None or not Path(recorded).is_dir()):
        explicit = Path(os.environ["CONTRASTKIT_DATA"]) if os.environ.get("CONTRASTKIT_DATA") else None
    directory = explicit or (Path(recorded) if recorded is not None else None)
    return None if directory is None else directory.expanduser().resolve()
