"""Memory that processes share, used again from result to result: new shared memory takes the system about as long as
decoding and augmenting what it is for."""

import contextlib
import io
import math
import mmap
import pickle
import weakref
from typing import Any

import torch
from torch import Tensor

ALIGNED = 64  # bytes


class Slots:
    """Parts of memory for the tensors of one result each, in the process that makes it and in the one that takes it,
    from which the former is forked. A slot is lent again once no tensor in it is left in the latter."""

    def __init__(self, n: int, room: int) -> None:
        """
        Args:
            room: bytes of a slot. None of them is used until it is written. Where the system refuses so many, or they
                are 0, there are no slots.
        """
        self._memory: list[mmap.mmap] = []
        with contextlib.suppress(OSError):
            self._memory += [mmap.mmap(-1, room) for _ in range(n if room else 0)]
        self._read: list[weakref.ref[memoryview] | None] = [None] * len(self._memory)  # by the tensors of a result
        self._lent: set[int] = set()

    def lend(self) -> int | None:
        """A slot to write a result into; None if all are in use."""
        for k, read in enumerate(self._read):
            if k not in self._lent and (read is None or read() is None):
                self._lent.add(k)
                return k
        return None

    def give_back(self, k: int) -> None:
        """Return a slot that was lent, but not written to."""
        self._lent.discard(k)

    def take_back(self) -> None:
        """Take all slots back whose results will not be read."""
        self._lent.clear()

    def write(self, k: int, result: Any) -> bytes | None:
        """Put a result's tensors into a slot; what else there is of it, for :meth:`read`. None if they do not fit."""
        rest = io.BytesIO()
        try:
            _Writer(rest, self._memory[k]).dump(result)
        except _TooLarge:
            return None
        return rest.getvalue()

    def read(self, k: int, rest: bytes) -> Any:
        """The result in a slot, whose tensors are dense, and remain where they are."""
        memory = memoryview(self._memory[k])
        result = _Reader(io.BytesIO(rest), memory).load()
        self._read[k] = weakref.ref(memory)
        self.give_back(k)
        return result


class _TooLarge(Exception):
    pass


class _Writer(pickle.Pickler):
    def __init__(self, file: io.BytesIO, memory: mmap.mmap) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._memory, self._end = memory, 0

    def persistent_id(self, value: object) -> object:
        if not isinstance(value, Tensor):
            return None
        start, n = self._end, value.numel()
        if start + value.nbytes > len(self._memory):
            raise _TooLarge
        if n:
            torch.frombuffer(self._memory, dtype=value.dtype, count=n, offset=start).copy_(value.reshape(-1))
        self._end = -(-(start + value.nbytes) // ALIGNED) * ALIGNED
        return value.dtype, value.shape, start


class _Reader(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, memory: memoryview) -> None:
        super().__init__(file)
        self._memory = memory

    def persistent_load(self, place: tuple[torch.dtype, torch.Size, int]) -> Tensor:
        dtype, shape, start = place
        if not (n := math.prod(shape)):
            return torch.empty(shape, dtype=dtype)
        return torch.frombuffer(self._memory, dtype=dtype, count=n, offset=start).view(shape)
