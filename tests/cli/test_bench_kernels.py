"""bench-kernels as a command: its options reach the library, its rows the file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contrastkit import bench
from contrastkit.cli.main import main


def test_each_option_reaches_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    row = {
        "op": "queue", "shape": "8 x 8", "direction": "forward", "impl": "ours", "median_ms": 2.0, "iqr_ms": 0.1,
        "extra_mib": 1.0, "floor_ms": 1.0, "note": "",
    }  # fmt: skip

    def run(**how: Any) -> Iterator[dict[str, Any]]:
        asked.append(how)
        return iter([row])

    monkeypatch.setattr(bench, "run", run)
    usual = {"op": None, "device": "cpu", "dtype": "float32", "preset": "quick"}
    for changed in ({}, {"op": "queue"}, {"device": "cuda"}, {"dtype": "bfloat16"}, {"preset": "paper"}):
        given = [f"--{name}={value}" for name, value in changed.items()]
        assert main(["bench-kernels", *given, f"--json={tmp_path / 'x.json'}"]) == 0
        assert asked[-1] == usual | changed
        assert json.loads((tmp_path / "x.json").read_text()) == [row]
