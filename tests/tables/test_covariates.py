"""Covariates of arrays and frames."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from contrastkit.causal.compare import compare, estimators
from contrastkit.causal.diagnostics import balance_table
from contrastkit.causal.refute import fitted, refute
from contrastkit.causal.study import read
from contrastkit.errors import UserError
from contrastkit.tables.checks import as_numbers
from contrastkit.tables.covariates import Covariates, check_independent
from tests.causal.simulated import world


def test_frames_are_read_by_their_kinds() -> None:
    frame = pd.DataFrame({"age": [1, 2], "race": ["b", "a"], "married": [True, False]})
    result = Covariates.of(frame)
    assert result.names == ("age", "race=a", "race=b", "married")
    assert result.x.tolist() == [[1, 0, 1, 1], [2, 1, 0, 0]]
    with pytest.raises(UserError, match="race: 1 of 2 values are missing"):
        Covariates.of(frame.assign(race=["a", None]))
    with pytest.raises(UserError, match="two columns are named age"):
        Covariates.of(pd.concat([frame, frame[["age"]]], axis=1))


def test_numbers_among_words_and_words_among_numbers() -> None:
    frame = pd.DataFrame({"age": ["31", "42", "unknown"], "x=1": [1.0, 2.0, 4.0]})
    with pytest.raises(UserError, match="age: 'unknown' is not a number, but others are"):
        Covariates.of(frame)
    frame["age"] = pd.Series(np.array([31.0, 42.0, 50.0], dtype=object))
    result = Covariates.of(frame.assign(group=["a", "b", "b"]))
    assert result.names == ("age", "x=1", "group=a", "group=b") and result.origins == ("age", "x=1", "group", "group")
    assert result.x[:, 0].tolist() == [31, 42, 50]
    with pytest.raises(UserError, match="age contains dates"):
        Covariates.of(frame.assign(age=pd.to_datetime(["2020-01-01"] * 3)))


def test_what_says_nothing_new_is_named() -> None:
    g = np.random.default_rng(0)
    frame = pd.DataFrame({"a": g.normal(size=50), "b": g.normal(size=50), "group": g.choice(["x", "y", "z"], 50)})
    check_independent(Covariates.of(frame))
    for column, says in (
        (np.full(50, 3.0), "c is the same in all rows"),
        (frame.a, "c is equivalent to a"),
        (-2 * frame.a + 1, "c is equivalent to a"),
        (frame.a - 3 * frame.b, "c is a linear combination of a, b"),
        ((frame.group == "y") * 1.0, "c is equivalent to group=y"),
        (["one"] * 50, "c is the same in all rows"),
    ):
        with pytest.raises(UserError, match=says) as error:
            check_independent(Covariates.of(frame.assign(c=column)))
        assert "leave" in str(error.value)
    two = frame.iloc[[0, 1]].assign(group=["x", "y"])  # of two rows all columns follow from one another
    check_independent(Covariates.of(two))


def test_what_is_covariates_already_is_left_alone() -> None:
    X = Covariates.of(np.arange(6.0).reshape(3, 2))
    assert Covariates.of(X) is X and X.names == X.origins == ("x0", "x1") and X.shape == (3, 2) and len(X) == 3


def test_columns_are_chosen_joined_and_added() -> None:
    frame = pd.DataFrame({"age": [1, 2, 5], "race": ["b", "a", "c"], "married": [True, False, True]})
    X = Covariates.of(frame)
    assert X.without_reference_levels() == [0, 2, 3, 4]  # all of race but the first
    assert Covariates.of(frame.assign(race="a")).without_reference_levels() == [0, 1, 2]  # of a single level it stays
    some = X.select([4, 2]).take(np.array([2, 0]))
    assert (some.names, some.origins, some.x.tolist()) == (("married", "race=b"), ("married", "race"), [[1, 0], [1, 1]])
    more = Covariates.joined([some, Covariates.of(np.array([[3.0], [4.0]]))]).with_column(np.array([7.0, 8.0]), "noise")
    assert more.names == ("married", "race=b", "x0", "noise") and more.x.tolist() == [[1, 0, 3, 7], [1, 1, 4, 8]]
    assert more.origins == ("married", "race", "x0", "noise")
    with pytest.raises(UserError, match="two columns are named race"):
        Covariates.joined([some, Covariates.of(frame[["race"]][:2])])
    with pytest.raises(UserError, match="two columns are named 1"):
        Covariates.of(pd.DataFrame([[1, 2]], columns=[1, "1"]))


def test_a_column_of_a_table_becomes_numbers_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One conversion serves all estimators, and the refutation of one."""
    x, t, y = world(200)
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "group": np.where(x[:, 2] > 0, "high", "low"), "t": t, "y": y})
    frame.to_csv(tmp_path / "t.csv", index=False)
    converted: list[str] = []

    def spy(x: np.ndarray, names: Sequence[str]) -> np.ndarray:
        converted.extend(names)
        return as_numbers(x, names)

    monkeypatch.setattr("contrastkit.tables.covariates.as_numbers", spy)
    study = read(str(tmp_path / "t.csv"), treatment="t", outcome="y", covariates=["a", "b", "group"])
    assert study.Y is not None and not any(row.refused for row in compare(study.X, study.T, study.Y))
    first = fitted(estimators("ATT")["entropy"], study.X, study.T, study.Y)
    assert len(list(refute(study.X, study.T, study.Y, first, draws=20))) == 6
    balance_table(study.X, study.T, first.weights_)
    assert converted == ["a", "b"]  # and of group, words, its 0 and 1
