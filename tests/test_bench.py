import math
import sys

import pytest
import torch

from contrastkit import bench
from contrastkit.bench import measure
from contrastkit.errors import UserError

COLUMNS = [
    "op",
    "shape",
    "dtype",
    "device",
    "direction",
    "impl",
    "median_ms",
    "iqr_ms",
    "extra_mib",
    "floor_ms",
    "note",
]


@pytest.fixture
def hurried(monkeypatch):
    """One sample or so of each way, on a machine of a billion bytes and FLOP a second; nothing is compiled."""
    monkeypatch.setattr(measure, "BUDGET", 0.0)
    monkeypatch.setattr(measure, "MIN_SAMPLES", 2)
    ceilings = {
        "copy": measure.Ceiling(1e9, "B", "1 MiB", 0.1),
        "stream": measure.Ceiling(2e9, "B", "sum, 1 MiB", 0.1),
        "gemm": measure.Ceiling(1e9, "FLOP", "1 x 1 x 1", 0.1),
    }
    monkeypatch.setattr(measure, "ceilings", lambda device, dtype: ceilings)
    monkeypatch.setattr(torch, "compile", lambda eager, **options: eager)


def test_rows_of_one_op(hurried):
    rows = list(bench.run(op="queue", dtype="bfloat16"))
    ceilings, rows = rows[:3], rows[3:]
    assert tuple(row["op"] for row in ceilings) == bench.CEILINGS
    assert all(list(row) == COLUMNS for row in ceilings + rows)
    assert [row["impl"] for row in rows] == ["eager", "reference", "ours"]
    assert all(row["median_ms"] > 0 and row["iqr_ms"] >= 0 for row in rows)
    assert all(math.isclose(row["floor_ms"], 1e3 * 256 * 128 * (4 + 2) / 1e9) for row in rows)


def test_an_alternative_that_is_missing_says_so(hurried, monkeypatch):
    monkeypatch.setattr(
        "sys.modules", {**sys.modules, "lightly": None, "lightly.loss": None, "lightly.loss.swav_loss": None}
    )
    rows = {row["impl"]: row for row in bench.run(op="sinkhorn")}
    assert rows["lightly"]["median_ms"] is None and rows["lightly"]["note"] == "lightly is not installed"
    assert rows["ours"]["median_ms"] > 0


@pytest.mark.parametrize("op", ["infonce", "ntxent", "clip", "siglip", "bank", "sinkhorn", "augment"])
def test_the_ways_of_one_case_agree(hurried, op):
    for case in bench.CASES[op]("cpu", torch.float32, "quick"):
        results = {}
        for name, way in measure.warm(case.ways)[0].items():
            output = way()
            # Of a loss and its gradient, the gradient.
            results[name] = output[-1] if isinstance(output, tuple) else output
        assert {"eager", "ours"} <= results.keys()
        rtol = 1e-3 if op == "bank" else 2e-4  # the official NCE adds 1e-7 to each denominator
        atol = 1e-4 if op == "augment" else 2e-6  # a hue is a quotient of differences
        same = {"infonce": {"sdpa"}, "clip": {"linear_cross_entropy"}, "siglip": {"chunked"}}.get(op, set())
        for name in ({"compile", "ours"} | same) & results.keys():
            torch.testing.assert_close(results[name], results["eager"], rtol=rtol, atol=atol)


def test_peak_memory_counts_what_is_held_at_once():
    def way():
        a = torch.empty(2**20)  # 4 MiB
        b = torch.empty(2**20)
        del a, b
        return torch.empty(2**20)

    assert measure.peak_memory(way, "cpu") == 2 * 2**22


@pytest.mark.parametrize("wrong", [{"op": "matmul"}, {"dtype": "int8"}, {"preset": "huge"}, {"device": "tpu"}])
def test_what_cannot_be_measured_is_said(wrong):
    with pytest.raises(UserError, match=next(iter(wrong.values()))):
        next(bench.run(**wrong))
