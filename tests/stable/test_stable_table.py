"""Tables of features."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from contrastkit.errors import UserError
from contrastkit.stable.table import ENVIRONMENT, IDENTIFIER, WORDS, read
from contrastkit.tables.text import Reading


def test_tables(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2, 3], "b": [True, False, True], "word": ["x", "y", "x"], "y": [0.5, 1, 2]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    table = read(tmp_path / "t.csv", label="y", environment="word")
    assert table.X.names == ("a", "b") and table.X.x.tolist() == [[1, 1], [2, 0], [3, 1]]
    assert table.label is not None and table.label.tolist() == [0.5, 1, 2]
    assert table.environment is not None and table.environment.tolist() == ["x", "y", "x"]
    some = read(tmp_path / "t.csv", features=("a",), rows=["word=x"])
    assert some.X.x.tolist() == [[1], [3]] and some.label is None
    for letters in ({"features": "a"}, {"rows": "a"}):
        with pytest.raises(UserError, match=r"must be a list of names, not 'a': give \['a'\]"):
            read(tmp_path / "t.csv", **letters)  # type: ignore[arg-type]
    features = np.arange(8, dtype=np.float32).reshape(4, 2)
    split = np.array(["train", "train", "test", "test"])
    arrays: dict[str, Any] = {"features": features, "labels": np.array([1, 0, 1, 1]), "split": split}
    arrays |= {"classes": np.array(["cat", "dog"]), "fold": np.arange(4)}  # fold: numeric, but no feature
    np.savez(tmp_path / "f.npz", **arrays)
    embedded = read(tmp_path / "f.npz", environment="split")
    assert embedded.X.x.tolist() == features.tolist() and embedded.X.names == ("x0", "x1")
    assert embedded.label is not None and embedded.label.tolist() == ["dog", "cat", "dog", "dog"]
    assert embedded.environment is not None and embedded.environment.tolist() == split.tolist()
    np.savez(tmp_path / "bare.npz", features=features, labels=np.array([1, 0, -1, 0]), classes=np.array([]))
    assert read(tmp_path / "bare.npz").label is None


def test_a_column_of_numbers_but_one_is_not_left_out(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b,word,y\n1,2,x,0\n2,?,y,1\n3,4,x,0\n")
    with pytest.raises(UserError, match="b: '\\?' is not a number, but others are"):
        read(path, label="y")
    assert read(path, label="y", rows=["word=x"]).X.names == ("a", "b")  # without that row it is of numbers
    assert read(path, label="y", rows=["word=x"]).left_out == {}
    path.write_text("a,b,word,y\n1,2,x,0\n2,3,y,1\n")
    assert read(path, label="y").left_out == {WORDS: ("word",)} and read(path, label="y").X.names == ("a", "b")


def test_environments_and_identifiers_are_no_features_unless_named(tmp_path: Path) -> None:
    g = np.random.default_rng(0)
    frame = pd.DataFrame(g.normal(size=(40, 2)), columns=["a", "width"])
    frame = frame.assign(environment=g.integers(0, 3, 40), patient_id=g.integers(0, 9, 40), n=np.arange(40), y=frame.a)
    frame.to_csv(tmp_path / "t.csv")  # with row numbers
    table = read(tmp_path / "t.csv", label="y")
    assert table.X.names == ("a", "width")
    assert table.left_out == {ENVIRONMENT: ("environment",), IDENTIFIER: ("Unnamed: 0", "patient_id", "n")}
    assert read(tmp_path / "t.csv", label="y", environment="environment").X.names == ("a", "width")
    assert read(tmp_path / "t.csv", features=["a", "n", "environment"]).X.names == ("a", "n", "environment")


def test_how_a_table_is_read_reaches_the_file(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("1,?,0\n2,5,1\n3,4,0\n4,2,1\n")
    table = read(tmp_path / "t.csv", label="y", reading=Reading(header=["a", "b", "y"], missing=["?"]), rows=["b!="])
    assert table.X.x.tolist() == [[2, 5], [3, 4], [4, 2]] and table.row_ids().numbers.tolist() == [1, 2, 3]
    with pytest.raises(UserError, match="b: '\\?' is not a number, but others are: .* say so with --missing '\\?'"):
        read(tmp_path / "t.csv", reading=Reading(header=["a", "b", "y"]))
    np.savez(tmp_path / "f.npz", features=np.eye(3))
    with pytest.raises(UserError, match="leave them out for an .npz file"):
        read(tmp_path / "f.npz", reading=Reading(missing=["?"]))
