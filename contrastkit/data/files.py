"""Images in files."""

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contrastkit.data.encoded import START, EncodedSource
from contrastkit.data.source import Source, digest


class FileSource(EncodedSource):
    """Image files below a folder."""

    root: Path

    def found_in(self, other: Source, most: int | None = None) -> Tensor | None:
        """Compares the first bytes of those files whose sizes are in both sources."""
        if not isinstance(other, FileSource):
            return None
        sizes = self._sizes(), other._sizes()
        same = [np.flatnonzero(np.isin(mine, theirs)) for mine, theirs in (sizes, sizes[::-1])]
        if most is not None and sum(map(len, same)) > most:
            return None
        mine, theirs = (
            [(size[i], digest(source._start(i))) for i in positions.tolist()]
            for source, size, positions in zip((self, other), sizes, same, strict=True)
        )
        known, found = set(theirs), torch.zeros(len(self), dtype=torch.bool)
        found[torch.from_numpy(same[0])] = torch.tensor([item in known for item in mine], dtype=torch.bool)
        return found

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
