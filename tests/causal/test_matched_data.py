"""Matched data against weighted regressions of statsmodels and MatchIt's definitions."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from contrastkit.causal.matches import match
from contrastkit.causal.study import read
from contrastkit.cli.main import main
from tests.causal.simulated import varied
from tests.schemas import read_report

NEAR: dict[str, Any] = {"metric": "scaled", "calipers": {"a": 0.4}}


def table(tmp_path: Path, **more: Any) -> Path:
    x, t, y = varied(150)
    place = np.where(np.arange(150) % 4 == 0, None, "here")
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1].round(), "t": t.astype(int), "y": y, "place": place} | more)
    frame.to_csv(tmp_path / "table.csv", index=False)
    return tmp_path / "table.csv"


def arguments(how: dict[str, Any]) -> list[str]:
    words = []
    for name, value in how.items():
        if name == "calipers":
            words += [f"--caliper={column}={width}" for column, width in value.items()]
        elif value is False:
            words.append(f"--no-{name}")
        else:
            words.append(f"--{name}" if value is True else f"--{name}={value}")
    return words


WAYS: list[dict[str, Any]] = [
    {}, {"ratio": 2, "estimand": "ATE"}, {"metric": "scaled", "ties": False, "estimand": "ATC"}, NEAR,
    {"replacement": False}, {"replacement": False, "ratio": 2, **NEAR}, {"replacement": False, "optimal": True},
    {"kind": "full"}, {"kind": "full", "estimand": "ATE", **NEAR}, {"kind": "subclass", "strata": 4},
    {"kind": "coarsened", "bins": 4},
]  # fmt: skip


@pytest.mark.parametrize("how", WAYS, ids=lambda how: " ".join(arguments(how)))
def test_the_weighted_regression_on_the_file_gives_the_difference(tmp_path: Path, how: dict[str, Any]) -> None:
    given = [f"--data={table(tmp_path)}", "--treatment=t", "--outcome=y", "--covariates=a,b", *arguments(how)]
    out, file, report = tmp_path / "out.csv", tmp_path / "matched.csv", tmp_path / "r.json"
    assert main(["causal", "match", *given, f"--out={out}", f"--matched={file}", f"--json={report}"]) == 0
    found, frame = read_report("causal-match", report), pd.read_csv(tmp_path / "table.csv")
    data = pd.read_csv(file)
    regression = sm.WLS(data.y, sm.add_constant(data.t), weights=data.weights).fit()
    assert regression.params["t"] == pytest.approx(found["difference"])
    if "kind" in how:
        assert main(["causal", "match", *given, f"--out={out}", "--no-bias-correction", f"--json={report}"]) == 0
        assert read_report("causal-match", report)["effect"] == pytest.approx(found["difference"]) != found["effect"]
    assert (data.groupby("subclass").t.nunique() == 2).all() and set(data.subclass) == set(
        range(1, data.subclass.nunique() + 1)
    )
    known = match(read(str(tmp_path / "table.csv"), treatment="t", outcome="y", covariates=["a", "b"]), **how).matching
    has_score = getattr(known, "propensity_", None) is not None
    with_uses = "kind" not in how and how.get("replacement", True)
    assert list(data.columns) == [*frame, *["id"] * with_uses, *["distance"] * has_score, "weights", "subclass"]
    rows = data["id"].to_numpy() if with_uses else np.flatnonzero(known.weights_ > 0)
    pd.testing.assert_frame_equal(data[list(frame)], frame.iloc[rows].reset_index(drop=True))
    if has_score:
        assert data.distance.to_numpy() == pytest.approx(known.propensity_.scores_[rows])
    if with_uses:
        assert np.bincount(rows, data.weights, minlength=150) == pytest.approx(uses(known))
        for _, group in data.groupby("subclass"):
            assert group.weights.iloc[0] == 1 and group.weights.iloc[1:].sum() == pytest.approx(1)
            assert (group.t.iloc[1:] != group.t.iloc[0]).all()
    else:
        assert data.weights.to_numpy() == pytest.approx(known.weights_[rows])


def uses(known: Any) -> Any:
    """How often each unit is used: once as one that is matched, and by its shares as a partner."""
    count = np.zeros(150)
    for i in {i for i, _ in known.pairs_.tolist()}:
        count[i] += 1
    for (_, j), share in zip(known.pairs_.tolist(), known.shares_.tolist(), strict=True):
        count[j] += share
    return count


def test_pairs_of_the_file_are_those_of_the_other(tmp_path: Path) -> None:
    given = [f"--data={table(tmp_path)}", "--treatment=t", "--covariates=a,b", "--no-replacement"]
    out, file = tmp_path / "out.csv", tmp_path / "matched.csv"
    assert main(["causal", "match", *given, f"--out={out}", f"--matched={file}"]) == 0
    data, frame = pd.read_csv(file), pd.read_csv(tmp_path / "table.csv")
    found = {frozenset(group.y) for _, group in data.groupby("subclass")}
    assert found == {frozenset((frame.y[i], frame.y[j])) for i, j in pd.read_csv(out)[["unit", "partner"]].to_numpy()}


def test_columns_of_the_same_name_are_refused_and_an_identifier_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, file = tmp_path / "out.csv", tmp_path / "matched.csv"
    study = ["--treatment=t", "--covariates=a,b", f"--out={out}", f"--matched={file}"]
    data = table(tmp_path, weights=np.arange(150) % 7, id=np.arange(150) % 3)
    assert main(["causal", "match", f"--data={data}", *study]) == 2
    assert "the table has columns of its own named id, weights: rename them" in capsys.readouterr().err
    assert not out.exists() and not file.exists()
    data = table(tmp_path, id=[f"p{i}" for i in range(150)])
    assert main(["causal", "match", f"--data={data}", *study]) == 0
    assert list(pd.read_csv(file)) == [*pd.read_csv(data), "distance", "weights", "subclass"]
