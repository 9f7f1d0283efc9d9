"""The memory that is free."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from contrastkit import memory
from contrastkit.memory import available_memory

MiB = 2**20


@pytest.mark.parametrize(
    ("membership", "limits", "least"),
    [
        ("0::/\n", {"memory.max": f"{MiB}\n"}, MiB),
        ("0::/\n", {"memory.max": "max\n"}, None),
        ("0::/\n", {}, None),
        ("0::/slurm/job_7/step_0\n", {"slurm/job_7/memory.max": f"{2 * MiB}\n", "memory.max": "max\n"}, 2 * MiB),
        ("5:cpuset:/\n4:memory:/job\n0::/\n", {"memory/job/memory.limit_in_bytes": f"{3 * MiB}\n"}, 3 * MiB),
        ("4:memory:/not/seen/here\n", {"memory/memory.limit_in_bytes": f"{MiB}\n"}, MiB),
        ("4:cpuset:/job\n", {"memory/job/memory.limit_in_bytes": f"{MiB}\n", "memory.max": f"{MiB}\n"}, None),
    ],
)
def test_limits_of_containers_and_jobs_count(
    membership: str, limits: dict[str, str], least: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in limits.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(text)
    (tmp_path / "membership").write_text(membership)
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(memory, "MEMBERSHIP", tmp_path / "membership")
    assert available_memory() == least if least else available_memory() > 16 * MiB


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
@pytest.mark.parametrize("start", ["keep_freed_memory()", "main(['--version'])"])
def test_memory_that_was_freed_is_used_again(start: str) -> None:
    """Ten blocks of 64 MiB, one after the other: fresh pages for one, not for each. So it is after any command."""
    program = f"""
import resource
from contrastkit.cli.main import main
from contrastkit.memory import keep_freed_memory
{start}
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(2):
    before = faults()
    for _ in range(5):
        bytearray(64 * 2**20)
print((faults() - before) * resource.getpagesize() / 2**20)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout.split()[-1]) < 64
