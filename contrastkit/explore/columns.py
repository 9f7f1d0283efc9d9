"""Tables of results as .csv files."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from contrastkit.checkpoint import write_with


def write_columns(path: Path, columns: Mapping[str, Iterable[object]]) -> None:
    """Write columns of one length below their names to a .csv file, atomically; bytes of file names that are no text
    are escaped."""

    def write(file: Path) -> None:
        with file.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
            table = csv.writer(stream)
            table.writerow(columns)
            table.writerows(zip(*columns.values(), strict=True))

    write_with(path, write)
