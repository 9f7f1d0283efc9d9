"""The memory that is free."""

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
