"""The error for mistakes of the user, and the names that its messages list or suggest."""

import difflib
import re
from collections.abc import Iterable, Sequence

RESUME = " (a training with a checkpoint goes on with --resume)"


class UserError(Exception):
    """Invalid input. The message is one line: what is wrong, and what to do.

    The command line prints it and exits with code 2 (``--debug`` shows the traceback).
    """


class Interrupted(Exception):
    """A signal stopped the work, whose state has been saved. The command line exits with 128 + ``signal``."""

    def __init__(self, signal: int) -> None:
        super().__init__(f"stopped by signal {signal}")
        self.signal = signal


def explain(error: BaseException) -> str | None:
    """What happened and what to do, in one line; None if only a traceback can tell, which means a bug.

    Besides :class:`UserError`, these are troubles of the machine that no code can rule out.
    """
    text = str(error)
    if isinstance(error, UserError):
        return text
    if isinstance(error, OSError):  # no permission, disk full: the system's message says it
        return f"{error.filename}: {error.strerror}" if isinstance(error.filename, str) and error.strerror else text
    name = type(error).__name__
    if name == "OutOfMemoryError":  # by name, here and below: torch may not be imported
        return "the GPU is out of memory: lower --batch or --size"
    if isinstance(error, MemoryError) or re.search("can(no|')t allocate memory", text.lower()):
        return "out of memory: work on fewer rows or images at once; lower --batch, --size or --workers, if any"
    if name == "RuntimeError" and "Too many open files" in text:  # in which the data-loading processes send tensors
        return "too many open files: lower --workers, or raise the limit with ulimit -n" + RESUME
    if name == "RuntimeError" and ("shared memory" in text or "file </torch_" in text):  # a file in that memory
        return "a data-loading process ran out of shared memory: enlarge /dev/shm or use --workers 0" + RESUME
    if name == "RuntimeError" and text.startswith("DataLoader worker"):
        return "a data-loading process was killed, perhaps for want of memory: lower --workers" + RESUME
    if "gloo/transport" in text or name in ("DistBackendError", "DistNetworkError", "DistStoreError"):
        return "another process of this command has ended, or never began: its own message says why"
    return None


def suggest(word: str, known: Iterable[str]) -> str:
    """ ", did you mean 'x'?" for the known name nearest to a mistyped one, or ""."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), list(by_lower), n=1)
    return f", did you mean '{by_lower[near[0]]}'?" if near else ""


def listed(names: Sequence[str], most: int) -> str:
    """The names, separated by commas; of more than ``most``, the first ones and, after an ellipsis, the last."""
    return ", ".join(names if len(names) <= most else [*names[: most - 1], "...", names[-1]])


def check_choice(what: str, word: str, known: Iterable[str]) -> None:
    """Check that a word is one of the known choices of ``what``, such as an estimand.

    Raises:
        UserError: it is not; the nearest is suggested.
    """
    known = list(known)
    if word not in known:
        raise UserError(f"unknown {what} '{word}'{suggest(str(word), known)} (known: {', '.join(known)})")
