"""Identifiers of rows, and files of weights: the right weight for each row, whatever their order."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from contrastkit.errors import UserError
from contrastkit.tables.files import read_table
from contrastkit.tables.identity import DIGEST, RowIds, is_identifier, read_weights


def people(n: int = 40) -> pd.DataFrame:
    g = np.random.default_rng(0)
    return pd.DataFrame({"age": g.integers(20, 30, n), "city": g.choice(["Ulm", "Bonn"], n), "x": g.normal(size=n)})


def written(path: Path, frame: pd.DataFrame, weights: np.ndarray) -> Path:
    pd.DataFrame(RowIds.of(frame).columns() | {"weight": weights}).to_csv(path, index=False)
    return path


def test_weights_are_a_column_with_a_row_for_each(tmp_path: Path) -> None:
    path = tmp_path / "w.csv"
    pd.DataFrame({"unit": [0, 1], "weight": [0.5, 3]}).to_csv(path, index=False)
    assert read_weights(path, 2)[0].tolist() == [0.5, 3]
    with pytest.raises(UserError, match="has 2 weights for 1,000 rows"):
        read_weights(path, 1000)
    for column, says in (
        ("wieght", "no column 'weight', did you mean 'wieght'"),
        ("weight", "contains values that are not numbers"),
    ):
        pd.DataFrame({column: ["much", "more"]}).to_csv(path, index=False)
        with pytest.raises(UserError, match=says):
            read_weights(path, 2)


@pytest.mark.parametrize("identified", [True, False])
def test_weights_follow_their_rows(identified: bool, tmp_path: Path) -> None:
    frame = people()
    frame.loc[[3, 5]] = frame.loc[[4, 4]].to_numpy()  # three equal rows
    if identified:
        frame.insert(1, "patient_id", [f"{i:03}" for i in np.random.default_rng(1).permutation(40)])
    weights = np.random.default_rng(2).uniform(size=40)
    weights[[3, 5]] = weights[4]
    path = written(tmp_path / "w.csv", frame, weights)
    assert pd.read_csv(path).columns.tolist() == (["patient_id"] if identified else ["row", DIGEST]) + ["weight"]
    for rows in (np.arange(40), np.random.default_rng(3).permutation(40)):
        frame.iloc[rows].to_csv(tmp_path / "t.csv", index=False)
        table = read_table(tmp_path / "t.csv")  # as numbers, types may differ
        read, remark = read_weights(path, 40, RowIds.of(table))
        assert read == pytest.approx(weights[rows])
        assert ("in another order" in remark) == (rows[0] != 0)
    other = frame.assign(patient_id=[f"p{i}" for i in range(40)]) if identified else frame.assign(x=-frame.x)
    with pytest.raises(UserError, match="is not of these rows: 40 of 40 are not in it"):
        read_weights(path, 40, RowIds.of(other))
    pd.DataFrame({"weight": weights}).to_csv(path, index=False)
    read, remark = read_weights(path, 40, RowIds.of(frame))
    assert (read == weights).all() and "taken in the order of the rows" in remark


def test_only_equal_rows_share_a_digest() -> None:
    frame = people(3000).assign(x=lambda f: f.x.round(1))
    ids = RowIds.of(frame).ids
    groups = frame.groupby(list(frame.columns)).ngroup()
    assert len(set(ids)) == groups.nunique() == len(set(zip(ids, groups, strict=True)))
    assert (RowIds.of(frame.astype({"age": float})).ids == ids).all()


def test_an_identifier_is_told_by_its_name_or_by_counting() -> None:
    n = 30
    numbers, text = pd.Series(np.arange(n) % 7), pd.Series([f"p{i}" for i in range(n)])
    for name in ("id", "ID", "patient_id", "Patient ID", "patientId", "uuid", "index", "Unnamed: 0", "id_patient"):
        assert is_identifier(numbers.rename(name)) and is_identifier(text.rename(name))
        assert not is_identifier((numbers / 2 + 0.25).rename(name))  # a measurement
    for name in ("idle", "width", "paid", "grid", "kid", "indexed", "SAID"):
        assert not is_identifier(numbers.rename(name)), name
    counted = pd.Series(np.random.default_rng(0).permutation(n) + 5, name="n")
    assert is_identifier(counted) and not is_identifier(counted.replace(7, 8)) and not is_identifier(counted[:20])
