import math

import pytest
import torch

from contrastkit import bench
from contrastkit.errors import UserError

COLUMNS = ["op", "shape", "dtype", "device", "direction", "impl", "median_ms", "iqr_ms", "extra_mib", "floor_ms"]


def test_rows_of_one_op(monkeypatch):
    monkeypatch.setattr(bench, "BUDGET", 0.0)
    monkeypatch.setattr(bench, "ceilings", lambda device, dtype: (1e9, 1e9))
    rows = list(bench.run(op="queue", dtype="bfloat16"))
    assert all(list(row) == COLUMNS for row in rows)
    assert len(rows) == len({row["impl"] for row in rows}) == 2
    assert all(row["median_ms"] > 0 and row["iqr_ms"] >= 0 for row in rows)
    assert all(math.isclose(row["floor_ms"], 1e3 * 256 * 128 * (4 + 2) / 1e9) for row in rows)


def test_the_ways_of_one_case_agree():
    forward, backward = bench.CASES["infonce"]("cpu", torch.float32, "quick")
    official, ours = (way() for way in forward.ways.values())
    torch.testing.assert_close(official, ours, rtol=1e-5, atol=0)
    official, attention, ours = (way() for way in backward.ways.values())
    torch.testing.assert_close(official[0], ours[0], rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(official[0], attention[1], rtol=1e-4, atol=1e-7)


def test_peak_memory_counts_what_is_held_at_once():
    def way():
        a = torch.empty(2**20)  # 4 MiB
        b = torch.empty(2**20)
        del a, b
        return torch.empty(2**20)

    assert bench.peak_memory(way, "cpu") == 2 * 2**22


@pytest.mark.parametrize("wrong", [{"op": "matmul"}, {"dtype": "int8"}, {"preset": "huge"}, {"device": "tpu"}])
def test_what_cannot_be_measured_is_said(wrong):
    with pytest.raises(UserError, match=next(iter(wrong.values()))):
        next(bench.run(**wrong))
