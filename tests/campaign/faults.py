"""Faults of processes, disks and machines, each met by the real command, which must end in time, say what happened in
one line, leave no process and no temporary file, and leave what it had saved as it was.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.campaign import faults_disks, faults_processes, faults_ranks  # noqa: F401 (each adds its own)
from tests.campaign.box import FAULTS, Box
from tests.campaign.trial import Trial


def trials(folder: Path, only: str = "") -> Iterator[Trial]:
    folder.chmod(0o755)  # nobody passes through
    for n, name in enumerate(FAULTS):
        if only in name:
            yield meet(name, folder / f"fault-{n}")


def meet(name: str, folder: Path) -> Trial:
    box = Box(name, folder)
    FAULTS[name](box)
    shutil.rmtree(folder, ignore_errors=True)
    return box.trial
