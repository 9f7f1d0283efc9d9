"""The study of a placebo outcome."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from contrastkit.causal.form import Form
from contrastkit.causal.refutation import placebo_study
from contrastkit.causal.study import Study, read
from contrastkit.errors import UserError


def table(folder: Path) -> tuple[str, str]:
    """A table of covariates a, b, group and before, and the features of its units."""
    g = np.random.default_rng(0)
    columns = {name: g.normal(size=40) for name in ("a", "b", "before", "y")}
    group = np.where(np.arange(40) % 3 == 0, "x", "z")
    pd.DataFrame(columns | {"group": group, "t": np.arange(40) % 2}).to_csv(folder / "t.csv", index=False)
    np.savez(folder / "f.npz", features=g.normal(size=(40, 3)))
    return str(folder / "t.csv"), str(folder / "f.npz")


def same(one: Study, other: Study) -> bool:
    numbers = ((one.X.x, other.X.x), (one.T, other.T), (one.outcomes(), other.outcomes()))
    words = [(s.X.names, s.X.origins, s.treatment, s.outcome, s.covariates) for s in (one, other)]
    return words[0] == words[1] and all(np.array_equal(a, b) and a.strides == b.strides for a, b in numbers)


@pytest.mark.parametrize(
    ("without", "adjusted"),
    [
        ([], ["a", "b", "group", "f.npz"]),
        (["a"], ["b", "group", "f.npz"]),
        (["group"], ["a", "b", "f.npz"]),
        (["b", "f.npz"], ["a", "group"]),
    ],
)
def test_a_placebo_study_is_made_of_what_was_read(tmp_path: Path, without: list[str], adjusted: list[str]) -> None:
    source, features = table(tmp_path)

    def named(names: list[str]) -> list[str]:
        return [features if name == "f.npz" else name for name in names]

    covariates = named(["a", "b", "before", "group", "f.npz"])
    study = read(source, treatment="t", outcome="y", covariates=covariates, form=Form(components=2))
    expected = read(source, treatment="t", outcome="before", covariates=named(adjusted), form=Form(components=2))
    for name in (source, features):
        Path(name).unlink()  # nothing is read again
    placebo = placebo_study(study, "before", without=named(without))
    assert same(placebo, expected)
    assert same(placebo_study(placebo, "y"), placebo_study(expected, "y"))  # a study like any other
    assert study.outcome == "y" and len(study.covariates) == 5


def test_a_placebo_outcome_that_cannot_be_is_refused(tmp_path: Path) -> None:
    source, _ = table(tmp_path)
    study = read(source, treatment="t", outcome="y", covariates=["a", "b"])
    for outcome, without, says in (
        ("y", [], "must differ from the outcome"),
        ("t", [], "'t' is used twice: treatment, outcome and covariates must be different columns"),
        ("befor", [], "has no column 'befor', did you mean 'before'"),
        ("before", ["y"], "--without y: not one of the covariates"),
        ("before", ["z"], "--without: .* has no column 'z' .the covariates: a, b"),
        ("a", ["b"], "no covariates are left"),
    ):
        with pytest.raises(UserError, match=says):
            placebo_study(study, outcome, without=without)
