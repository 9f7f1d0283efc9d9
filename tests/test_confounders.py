"""The study of images as confounders: what its images show, what decides in it, and what its table counts."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.special import expit

from benchmarks import causal_tables, confounders
from benchmarks.confounders import FACTORS, drawn, measure, pictures, world


def test_the_things_have_mean_0_and_deviation_1() -> None:
    factors = drawn(np.arange(40_000) % 10, 3)
    assert tuple(factors) == FACTORS
    assert factors.mean().abs().max() < 0.02 and (factors.std() - 1).abs().max() < 0.02
    assert factors.corr().to_numpy() == pytest.approx(np.eye(4), abs=0.02)
    assert factors.digit.to_numpy()[:10].tolist() == [-1.0] * 5 + [1.0] * 5


def test_they_are_seen_in_the_images() -> None:
    g, wide = np.random.default_rng(0), np.sqrt(3)
    grey = g.integers(0, 256, (3, 5, 6))
    factors = pd.DataFrame(
        {"digit": 1.0, "thickness": [-wide, wide, 0.0], "colour": [wide, 0.0, -wide], "brightness": [0.0, wide, -wide]}
    )
    found = pictures(grey, factors)
    assert found.shape == (3, 5, 6, 3) and found.dtype == np.uint8
    for i, (thick, red, light) in enumerate([(0, 1, 0.7), (1, 0.5, 1), (0.5, 0, 0.4)]):
        for row, column in np.ndindex(5, 6):
            around = grey[i, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].max()
            ink = light * (thick * around + (1 - thick) * grey[i, row, column])
            assert found[i, row, column] == pytest.approx([red * ink, 0.3 * ink, (1 - red) * ink], abs=0.51)


def test_they_decide_on_treatment_and_outcome_as_is_said() -> None:
    x = drawn(np.arange(20_000) % 10, 1).to_numpy()
    t, y = world(x, 5)
    design = np.column_stack([np.ones(len(x)), x])
    logit = minimize(lambda b: np.mean(np.logaddexp(0, design @ b) - t * (design @ b)), np.zeros(5)).x
    assert logit == pytest.approx([0, 0.6, 0.6, 0.6, 0.6], abs=0.08)
    line = np.linalg.lstsq(np.column_stack([design, t]), y, rcond=None)[0]
    assert line == pytest.approx([0, 1, 1, 1, 1, 2], abs=0.08)


def test_what_features_have_forgotten_is_left_of_the_bias(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a thing that is alone, all of its bias, whose size is an integral; of one that is kept, nothing."""
    g = np.random.default_rng(2)
    factors = drawn(np.arange(1500) % 10, 2)
    features = factors[["digit", "thickness", "brightness"]].to_numpy() @ g.normal(size=(3, 66))
    np.savez(tmp_path / "f.npz", features=features + 0.01 * g.normal(size=features.shape))
    monkeypatch.setattr(confounders, "COMPONENTS", 3)
    monkeypatch.setattr(confounders, "WAYS", ("naive", "entropy"))
    rows = measure(factors, {"colour-blind": [str(tmp_path / "f.npz")]}, draws=4)
    found = {(*row["confounders"], row["covariates"], row["way"]): row for row in rows}
    wide = np.sqrt(3)
    moved = quad(lambda x: x * expit(0.6 * x), -wide, wide)[0] / wide  # of the treated; of the others, minus that
    assert found["colour", "colour-blind", "naive"]["bias"] == pytest.approx(2 * moved, abs=0.1)
    assert found["colour", "colour-blind", "entropy"]["bias"] == pytest.approx(2 * moved, abs=0.15)
    assert found["colour", "colour-blind", "entropy"]["covered"] == 0
    kept = [found[name, "colour-blind", "entropy"] for name in ("digit", "thickness", "brightness")]
    kept += [found[*FACTORS, "these things themselves", "entropy"]]
    assert max(abs(row["bias"]) for row in kept) < 0.15 and min(row["covered"] for row in kept) >= 2
    monkeypatch.setattr(causal_tables, "results", lambda name: json.loads(json.dumps(rows)))
    monkeypatch.setattr(causal_tables, "CONFOUNDERS_WAYS", ("naive", "entropy"))
    lines = causal_tables.confounders().splitlines()
    assert lines[0] == "| adjusted for | digit | thickness | colour | brightness | all four |"
    row = found["colour", "colour-blind", "entropy"]
    assert lines[-1].split(" | ")[3] == f"{row['bias']:.2f} +- {row['deviation']:.2f}"
    every = found[*FACTORS, "colour-blind", "entropy"]
    (line,) = [line for line in causal_tables.confounders_ways().splitlines() if "colour-blind" in line]
    assert line == f"| colour-blind | {every['bias']:.2f} (0 of 4) |"
