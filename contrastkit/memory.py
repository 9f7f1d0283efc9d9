"""How much memory there is."""

import os
from pathlib import Path

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
