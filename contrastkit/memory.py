"""How much memory there is, and what does not fit."""

import os
from pathlib import Path

from contrastkit.errors import UserError

LIMIT = Path("/sys/fs/cgroup/memory.max")


def available_memory() -> int:
    """Bytes that can be allocated without swapping: the kernel's estimate and the container's limit, where they are
    known; else all memory of the machine."""
    free = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        free += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
        limit = LIMIT.read_text(encoding="utf-8").strip()
        free += [] if limit == "max" else [int(limit)]  # what is used of it may be cached files: nobody can tell
    except OSError:  # no Linux, or no container
        pass
    return min(free)


def require_room(needed: int, what: str, lower: str) -> None:
    """Check that ``needed`` bytes are available.

    Args:
        what: what takes them. lower: the options that make it smaller.

    Raises:
        UserError: they are not.
    """
    if needed > (free := available_memory()):
        raise UserError(
            f"{what} takes {needed / 2**30:,.1f} GiB of memory, and {free / 2**30:,.1f} GiB are free: lower {lower}"
        )
