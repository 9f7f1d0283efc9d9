"""Standard output and error that take any text, and whose loss does not end the work."""

import contextlib
import errno
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import contrastkit

PACKAGE = os.path.dirname(contrastkit.__file__)


class Stream:
    """A text stream that discards what it is given once it cannot write, as when ``| head`` has closed the pipe or the
    disk is full. A full disk is told on standard error; a reader that has left wants no message."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream or open(os.devnull, "w")  # noqa: SIM115 (stays open; None if the caller closed it)
        with contextlib.suppress(AttributeError, ValueError):  # not a file, or already read from
            self._stream.reconfigure(encoding="utf-8", errors="backslashreplace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._discarding():
            self._stream.write(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        with self._discarding():
            self._stream.flush()

    @contextlib.contextmanager
    def _discarding(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())  # also takes what is still buffered
            os.close(nowhere)
            if error.errno != errno.EPIPE and self is sys.stdout:
                sys.stderr.write(f"standard output cannot be written, and is discarded: {error.strerror}\n")


@contextlib.contextmanager
def safe() -> Iterator[None]:
    """Make the standard streams :class:`Stream`, and warnings of this package one line each, while the context lasts,
    in this process and those that it starts."""
    streams, formatted = (sys.stdout, sys.stderr), warnings.formatwarning

    def in_one_line(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        own = filename.startswith(PACKAGE)  # said to the user; those of other packages are for developers
        return f"{message}\n" if own else formatted(message, category, filename, lineno, line)

    sys.stdout, sys.stderr = Stream(sys.stdout), Stream(sys.stderr)
    warnings.formatwarning = in_one_line
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = streams
        warnings.formatwarning = formatted
