"""Images in files."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contrastkit.data.encoded import START, EncodedSource


class FileSource(EncodedSource):
    """Image files below a folder."""

    root: Path

    def _file(self, i: int) -> Path:
        return self.root / self.paths[i]

    def _sizes(self) -> NDArray[np.integer]:
        return np.array([_size(os.path.join(self.root, path)) for path in self.paths], np.int64)

    def _start(self, i: int) -> bytes:
        try:
            with self._file(i).open("rb") as file:
                return file.read(START)
        except OSError:
            return b""


def _size(path: str) -> int:
    """Of a file in bytes; -1 if it is gone."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1
