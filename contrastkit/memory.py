"""How much memory there is, and what does not fit."""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

from contrastkit.errors import UserError

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # of mallopt (malloc.h)
CGROUPS, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def available_memory() -> int:
    """Bytes that can be allocated without swapping: the kernel's estimate and the limits of the container and of the
    scheduler's job, where they are known; else all memory of the machine."""
    free = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        free += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
        free += _limits()  # what is used of them may be cached files: nobody can tell
    except OSError:  # no Linux
        pass
    return min(free)


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, and allocate from it. By default glibc returns blocks of more
    than some megabytes, such as a batch of views or a layer's outputs, to the system. To provide new pages then takes
    as long as decoding and augmenting, and more than half as long as the rest of a step of EfficientNet on a CPU
    (``benchmarks.freed_memory``). Other C libraries are left as they are."""
    with contextlib.suppress(AttributeError, OSError):  # another library
        c = ctypes.CDLL(None)
        c.mallopt(MMAP_MAX, 0)
        c.mallopt(TRIM_THRESHOLD, 2**31 - 1)


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


def _limits() -> Iterator[int]:
    """The limits of this process's control group, of either version, and of those around it."""
    for line in MEMBERSHIP.read_text(encoding="utf-8").splitlines():
        _, controllers, place = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, name = (CGROUPS / "memory", "memory.limit_in_bytes") if controllers else (CGROUPS, "memory.max")
        inner = root / place.lstrip("/")
        for group in (inner, *inner.parents):
            limit = group / name
            if group.is_relative_to(root) and limit.is_file() and (text := limit.read_text().strip()) != "max":
                yield int(text)
