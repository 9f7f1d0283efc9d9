"""Treatments and outcomes in words: the same rows, coded by hand, give the same numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from contrastkit.causal.study import read
from contrastkit.cli.main import main
from tests.causal.simulated import world


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    """Three arms in words, in numbers and as truth values, beside 0 and 1; the third arm is far from the others."""
    x, t, y = world(300)
    arm = np.where(np.arange(300) % 5 == 0, 2, t)
    frame = pd.DataFrame({"a": x[:, 0] + 9 * (arm == 2), "b": x[:, 1], "t": t, "y": y, "arm": arm})
    frame["drug"] = np.array(["placebo", "drug", "surgery"])[arm]
    frame["yes"], frame["flag"] = np.where(t == 1, "yes", "no"), t == 1
    frame["cured"] = np.where(y > 0, "cured", "ill")
    frame.to_csv(tmp_path / "t.csv", index=False)
    return frame


def reported(tmp_path: Path, command: str, *words: str, treatment: str) -> Any:
    given = [f"--data={tmp_path / 't.csv'}", "--covariates=a,b", f"--treatment={treatment}", *words]
    given += [f"--out={tmp_path / 'out.csv'}"] if command in ("weight", "match") else []
    assert main(["causal", command, *given, f"--json={tmp_path / 'r.json'}"]) in (0, 1)
    return json.loads((tmp_path / "r.json").read_text()), (tmp_path / "out.csv").exists() and pd.read_csv(
        tmp_path / "out.csv"
    ).to_dict("list")


@pytest.mark.parametrize("command", ["estimate", "balance", "propensity", "weight", "match", "refute"])
def test_two_words_are_as_0_and_1(command: str, tmp_path: Path, table: pd.DataFrame) -> None:
    rest = {"estimate": ["--outcome=y"], "refute": ["--outcome=y", "--estimator=ols", "--draws=20"]}.get(command, [])
    coded, written = reported(tmp_path, command, *rest, treatment="t")
    coded.pop("treatment", None)
    for treatment, words in (("yes", ["--treated=yes"]), ("flag", []), ("flag", ["--treated=true"])):
        found, out = reported(tmp_path, command, *rest, *words, treatment=treatment)
        found.pop("treatment", None)
        assert found == coded and out == written, (treatment, words)


@pytest.mark.parametrize("command", ["estimate", "balance", "propensity", "weight", "match", "refute"])
def test_of_more_arms_two_are_compared_and_the_rest_is_counted(
    command: str, tmp_path: Path, table: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = {"estimate": ["--outcome=y"], "refute": ["--outcome=y", "--estimator=ols", "--draws=20"]}.get(command, [])
    coded, written = reported(tmp_path, command, *rest, "--rows=arm!=2", treatment="t")
    coded.pop("treatment", None)
    assert "left out" not in capsys.readouterr().out
    for treatment, one, other in (("drug", "drug", "placebo"), ("arm", "1", "0")):
        words = [f"--treated={one}", f"--untreated={other}"]
        found, out = reported(tmp_path, command, *rest, *words, treatment=treatment)
        found.pop("treatment", None)
        assert found == coded and out == written
        said = " ".join(capsys.readouterr().out.split())
        assert f"60 rows with other values of {treatment} are left out" in said


def test_exchanged_words_reverse_the_sign(tmp_path: Path, table: pd.DataFrame) -> None:
    how: Any = {"treatment": "drug", "covariates": ["a"], "outcome": "y"}
    first = read(str(tmp_path / "t.csv"), treated="drug", untreated="placebo", **how)
    other = read(str(tmp_path / "t.csv"), treated="placebo", untreated="drug", **how)
    assert (first.T == ~other.T).all() and first.T.sum() == (table.drug == "drug").sum()
    assert (first.notices, len(first.T)) == (("60 rows with other values of drug are left out",), 240) and len(
        first.outcomes()
    ) == 240


def test_an_outcome_in_words_is_whether_it_has_a_value(
    tmp_path: Path, table: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    table.assign(y=(table.cured == "cured").astype(int)).to_csv(tmp_path / "t.csv", index=False)
    coded, _ = reported(tmp_path, "estimate", "--outcome=y", treatment="t")
    capsys.readouterr()
    found, _ = reported(tmp_path, "estimate", "--outcome=cured", "--outcome-value=cured", treatment="t")
    assert found["rows"] == coded["rows"] and "cured=cured by t" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--treatment=yes"], "the treatment must be 0 or 1, not no, yes: name the treated value with --treated"),
        (["--treatment=arm"], "--treated and --untreated, or use causal arms, or causal dose for amounts"),
        (["--treatment=drug"], "not drug, placebo, surgery: name two of its values to compare with --treated and"),
        (["--treatment=drug", "--treated=drug"], "drug has 3 values (drug, placebo, surgery): name the one to compare"),
        (["--treatment=drug", "--treated=drg", "--untreated=placebo"], "no such value, did you mean 'drug'?"),
        (["--treatment=drug", "--treated=drug", "--untreated=9"], "--untreated 9: drug has no such value (its values"),
        (["--treatment=drug", "--treated=drug", "--untreated=drug"], "--treated and --untreated are both drug"),
        (["--treatment=yes", "--untreated=no"], "--untreated no: name the treated value too, with --treated"),
        (["--treatment=t", "--treated=2"], "--treated 2: t has no such value (its values: 0, 1)"),
        (["--treatment=t", "--outcome=cured"], "(cured, ill): name the one that counts as 1 with --outcome-value"),
        (["--treatment=t", "--outcome=cured", "--outcome-value=well"], "--outcome-value well: cured has no such value"),
        (["--treatment=t", "--outcome-value=well"], "--outcome-value well: name the column with --outcome"),
    ],
)
def test_what_does_not_tell_the_arms_is_refused(
    words: list[str], says: str, tmp_path: Path, table: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["causal", "estimate", f"--data={tmp_path / 't.csv'}", "--covariates=a,b", *words]
    assert main([*given, *([] if any(word.startswith("--outcome") for word in words) else ["--outcome=y"])]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_the_words_of_both_arms_are_shown(
    tmp_path: Path, table: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [f"--data={tmp_path / 't.csv'}", "--covariates=a,b", "--outcome=y"]
    for words, label in (
        (["--treatment=drug", "--treated=drug", "--untreated=placebo"], "drug (drug against placebo)"),
        (["--treatment=yes", "--treated=yes"], "yes (yes against no)"),
        (["--treatment=t"], "t"),
    ):
        assert main(["causal", "estimate", *given, *words]) == 0
        assert f"y by {label}: " in " ".join(capsys.readouterr().out.split())
