"""Studies from named sets and files."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from contrastkit.causal.columns import open_columns
from contrastkit.causal.study import read
from contrastkit.errors import UserError
from contrastkit.tables.checks import as_column, as_numbers
from contrastkit.tables.text import Reading

IHDP = sorted((Path(os.environ.get("CONTRASTKIT_DATA", "none")) / "causal" / "ihdp").glob("*.csv"))


def trial(folder: Path) -> pd.DataFrame:
    """A table in place of LaLonde's trial."""
    g = np.random.default_rng(0)
    n = 60
    frame = pd.DataFrame(g.integers(0, 2, size=(n, 5)), columns=["treat", "black", "hisp", "marr", "nodegree"])
    frame = frame.assign(age=g.integers(20, 40, n), educ=g.integers(5, 15, n))
    for name in ("re74", "re75", "re78"):
        frame[name] = np.where(g.uniform(size=n) < 0.5, 0.0, g.uniform(1, 9, n))
    (folder / "causal" / "lalonde").mkdir(parents=True)
    frame.to_csv(folder / "causal" / "lalonde" / "nsw_mixtape.csv", index=False)
    return frame


def test_a_named_set_knows_the_truth_of_its_own_outcome_and_treatment_alone(tmp_path: Path) -> None:
    frame = trial(tmp_path)
    study = read("lalonde-trial", data_dir=tmp_path)
    treated = frame.treat == 1
    assert study.truth == pytest.approx(frame.re78[treated].mean() - frame.re78[~treated].mean())
    assert study.X.names[:2] == ("age", "educ") and (treated == study.T).all() and study.treatment == "treat"
    few = ["age", "educ", "re74"]
    assert read("lalonde-trial", outcome="re78", covariates=few, data_dir=tmp_path).truth == study.truth
    assert read("lalonde-trial", outcome="re75", covariates=few, data_dir=tmp_path).truth is None
    assert read("lalonde-trial", treatment="black", outcome="re78", covariates=few, data_dir=tmp_path).truth is None
    assert read("lalonde-trial", treated="1", data_dir=tmp_path).truth is None  # the other way round, it would be wrong
    assert read("lalonde-trial", outcome_value="0", data_dir=tmp_path).truth is None
    assert study.outcome == "re78" and (study.outcomes() == frame.re78).all()


def test_what_cannot_be_a_study_is_said(tmp_path: Path) -> None:
    pd.DataFrame({"t": [0, 1, 0, 1], "y": [1, 2, 3, 4], "a": [1, 4, 2, 8]}).to_csv(tmp_path / "t.csv", index=False)
    np.savez(tmp_path / "f.npz", features=np.array([[1.0, 2], [3, 5], [4, np.nan], [1, 1]]))
    source = str(tmp_path / "t.csv")
    with pytest.raises(UserError, match="no such file: lalond, did you mean 'lalonde'"):
        read("lalond", treatment="t", covariates=["a"])
    with pytest.raises(UserError, match="feature 1: 1 of 4 values are missing"):
        read(source, treatment="t", covariates=[str(tmp_path / "f.npz")])
    with pytest.raises(UserError, match="no such file: .*nothing.npz"):
        read(source, treatment="t", covariates=["a", str(tmp_path / "nothing.npz")])
    for letters in ({"covariates": "a,y"}, {"covariates": ["a"], "rows": "a,y"}):
        with pytest.raises(UserError, match=r"must be a list of names, not 'a,y': give \['a', 'y'\]"):
            read(source, treatment="t", **letters)
    with pytest.raises(UserError, match="treatment, outcome and covariates must be different columns"):
        read(source, treatment="t", outcome="a", covariates=["a"])


def test_tables_of_other_roles_are_read_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "causal" / "lalonde"
    folder.mkdir(parents=True)
    (folder / "nsw_mixtape.csv").write_text("treat,re74,re75,re78\n1,0,1,2\n0,3,0,1\n")
    known = open_columns("lalonde-trial", data_dir=tmp_path, rows=["treat=1"])
    assert len(known) == 1 and known.frame.u74.tolist() == [1] and known.whole == 2
    (tmp_path / "empty.csv").write_text("a,b\n")
    with pytest.raises(UserError, match="empty.csv has no rows"):
        open_columns("empty.csv")
    with pytest.raises(UserError, match="no such file: lalon.csv, did you mean 'lalonde'"):
        open_columns("lalon.csv")
    with pytest.raises(UserError, match=r"rows must be a list of names, not 'a=1'"):
        open_columns("lalonde", rows="a=1")


def test_a_single_column_of_words_is_not_to_be_left_out() -> None:
    with pytest.raises(UserError, match="^the treatment contains values that are not numbers: encode it as numbers$"):
        as_column(np.array(["a", "b"]), "the treatment")
    with pytest.raises(UserError, match="^x contains values that are not numbers: encode it, or leave it out$"):
        as_numbers(np.array([["a"], ["b"]]), ["x"])


def test_missing_treatments_and_outcomes_are_told_by_their_column(tmp_path: Path) -> None:
    frame = pd.DataFrame({"t": [0, 1, 0, 1, None, 1], "y": [1, None, 3, 4, 2, 1], "a": [1, 4, 2, 8, 5, 0]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    for rows, says in (([], r"t: 1 of 6 .*--rows 't!=' drops them"), (["t!="], r"y: 1 of 5 .*--rows 'y!=' drops them")):
        with pytest.raises(UserError, match=says):
            read(str(tmp_path / "t.csv"), treatment="t", outcome="y", covariates=["a"], rows=rows)
    study = read(str(tmp_path / "t.csv"), treatment="t", outcome="y", covariates=["a"], rows=["t!=", "y!="])
    assert study.X.x[:, 0].tolist() == [1, 2, 8, 0] and study.row_ids().numbers.tolist() == [0, 2, 3, 5]


@pytest.mark.skipif(not IHDP, reason="IHDP's data: not in CONTRASTKIT_DATA/causal/ihdp")
def test_the_files_of_ihdp_are_read_by_the_names_of_their_columns() -> None:
    """Which have no header line: treatment, outcome, counterfactual outcome, both means, 25 covariates."""
    x = [f"x{j}" for j in range(1, 26)]
    for path in IHDP:
        numbers = np.loadtxt(path, delimiter=",")
        study = read(
            str(path),
            treatment="t",
            outcome="y",
            covariates=x,
            reading=Reading(header=["t", "y", "ycf", "mu0", "mu1", *x]),
        )
        assert (study.X.x == numbers[:, 5:]).all() and (numbers[:, 0] == study.T).all()
        assert (study.outcomes() == numbers[:, 1]).all() and len(study.T) == 747
