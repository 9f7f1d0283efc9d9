"""The memory that is free."""

from pathlib import Path

import pytest

from contrastkit import memory
from contrastkit.memory import available_memory


@pytest.mark.parametrize(("limit", "counts"), [("1048576", True), ("max", False), (None, False)])
def test_a_containers_limit_counts(
    limit: str | None, counts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "memory.max"
    if limit is not None:
        file.write_text(limit)
    monkeypatch.setattr(memory, "LIMIT", file)
    assert available_memory() == 1048576 if counts else available_memory() > 2**24
