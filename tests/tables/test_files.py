"""Tables and weights from files, and the direction of imports."""

import ast
import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import contrastkit
from contrastkit.errors import UserError
from contrastkit.tables.files import check_columns, read_table, select_rows
from contrastkit.tables.text import Reading


def test_a_long_list_of_columns_is_shortened() -> None:
    frame = pd.DataFrame(columns=[f"x{j}" for j in range(1, 14)])
    with pytest.raises(UserError, match=r"\(it has x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, \.\.\., x13\)"):
        check_columns(frame, "t.csv", ["weight"], "columns")
    with pytest.raises(UserError, match=r"x11, x12\)"):
        check_columns(frame.drop(columns="x13"), "t.csv", ["weight"], "columns")


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("a,b\n")
    (tmp_path / "t.csv").write_text("")
    for name, says in (
        ("t.txt", r"give a .csv, .tsv \(also .gz\) or .parquet file"),
        ("t.csv", "cannot read"),
        ("none.csv", "no such file"),
    ):
        with pytest.raises(UserError, match=says):
            read_table(tmp_path / name)


def table(folder: Path, text: str | bytes) -> Path:
    path = folder / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_table_is_what_pandas_wrote(tmp_path: Path) -> None:
    g = np.random.default_rng(0)
    frame = pd.DataFrame({"a": g.normal(size=50), "b c": g.integers(0, 9, 50), "word": g.choice(["x, y", "z"], 50)})
    frame["gaps"] = np.where(frame.a > 0, frame.a, np.nan)
    for separator in ",;\t":
        for encoding in ("utf-8", "utf-8-sig"):
            frame.to_csv(tmp_path / "t.csv", index=False, sep=separator, encoding=encoding)
            pd.testing.assert_frame_equal(read_table(tmp_path / "t.csv"), frame)
    frame.to_csv(tmp_path / "t.csv")  # with row numbers, whose column has no name
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.csv").drop(columns="Unnamed: 0"), frame)
    frame.to_csv(tmp_path / "t.csv", index=False, header=False)
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.csv", Reading(header=list(frame.columns))), frame)
    numbers = pd.DataFrame(g.normal(size=(5, 3)))  # whose names are 0, 1, 2
    numbers.to_csv(tmp_path / "t.csv", index=False)
    assert (read_table(tmp_path / "t.csv").to_numpy() == numbers.to_numpy()).all()


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz", "t.tsv.gz", "T.CSV"])
@pytest.mark.parametrize("how", [{}, {"separator": "|"}, {"encoding": "utf-16"}, {"encoding": "cp1252"}])
def test_a_table_is_what_pandas_wrote_in_any_dialect(name: str, how: dict[str, str], tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1.5, -2.25, 1e-3], "b": [1, 2, 3], "word": ["gr\u00fc\u00df", "x, y", "z;"]})
    separator = how.get("separator", "\t" if ".tsv" in name else ",")
    frame.to_csv(tmp_path / name, index=False, sep=separator, encoding=how.get("encoding", "utf-8"))
    pd.testing.assert_frame_equal(read_table(tmp_path / name, Reading(**how)), frame)  # type: ignore[arg-type]


def test_decimal_commas_are_read_where_it_is_said(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1.5, -2.25], "b": [1, 2]})
    frame.to_csv(tmp_path / "t.csv", index=False, sep=";", decimal=",")
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.csv", Reading(decimal=",")), frame)
    (tmp_path / "t.csv").write_text("1,5;2\n3,5;4\n")
    with pytest.raises(UserError, match="has numbers instead of names"):
        read_table(tmp_path / "t.csv", Reading(decimal=","))
    one = table(tmp_path, "a\n1,5\n2,5\n")
    assert read_table(one, Reading(decimal=",")).a.tolist() == [1.5, 2.5]


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"separator": "--"}, "--separator '--': give one character, or tab"),
        ({"separator": ",", "decimal": ","}, "--separator and --decimal are both ','"),
        ({"encoding": "nope"}, "unknown encoding 'nope': try cp1252"),
        ({"encoding": "hex"}, "unknown encoding 'hex'"),  # of bytes
    ],
)
def test_marks_without_meaning_are_refused(how: dict[str, str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        Reading(**how)  # type: ignore[arg-type]


def test_how_a_text_is_written_does_not_apply_to_parquet(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"")
    with pytest.raises(UserError, match="is no text: leave --header, --separator, --encoding and --decimal out"):
        read_table(tmp_path / "t.parquet", Reading(encoding="cp1252"))


CUT = gzip.compress(b"a,b\n1,2\n" * 99, mtime=0)[:-20]


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", CUT, b"\x1f\x8b\x08garbage"], ids=["plain", "cut", "garbage"])
def test_a_damaged_compressed_file_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "t.csv.gz").write_bytes(content)
    with pytest.raises(UserError, match="cannot read .*t.csv.gz") as error:
        read_table(tmp_path / "t.csv.gz")
    assert "\n" not in str(error.value)


def test_blanks_are_no_part_of_names_and_values(tmp_path: Path) -> None:
    frame = read_table(table(tmp_path, "\n a , b,c\n1, x,\n\n2, y, 3\n"))
    assert list(frame.columns) == ["a", "b", "c"] and frame.b.tolist() == ["x", "y"] and frame.c[1] == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b,a\n1,2,3\n", "two columns named 'a': rename one of them"),
        ("a,b, a\n1,2,3\n", "two columns named 'a'"),
        ("a,b\n1,2,3\n4,5,6\n", "line 2 has 3 fields for 2 columns"),  # of which pandas makes row labels
        ("a,b\n0,2,3\n1,5,6\n", "line 2 has 3 fields for 2 columns"),
        ("a,b\n1,2\n4,5,6\n", "line 3 has 3 fields for 2 columns"),
        ("a,b,c\n1,2,3\n4,5\n", "line 3 has 2 fields for 3 columns"),  # which pandas fills up
        ("a,b\n1\n", "line 2 has 1 fields for 2 columns"),
        ('a,b\n1,"x\n4,5\n6,7\n', "the quotes opened in line 2 are never closed"),
        ('a,b\n1,2\n3,"x\n4,5\n6,7\n', "the quotes opened in line 3 are never closed"),
        ("1,5.5,0\n0,6.8,1\n", "has numbers instead of names: name its columns with --header"),
        ("\n\n", "it is empty"),
        ("a,b\n1,gr\u00fc\u00df\n".encode("latin-1"), "not text in UTF-8: say which with --encoding, as cp1252"),
        ("a,b\n1,2\n".encode("utf-16"), "not text in UTF-8"),
    ],
)
def test_a_damaged_file_is_one_line(text: str | bytes, says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says) as error:
        read_table(table(tmp_path, text))
    assert "\n" not in str(error.value)


def test_names_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = table(tmp_path, "1,5.5,0\n0,6.8,1\n")
    for header, says in ((["t", "y"], "line 1 has 3 fields for 2 columns"), (["t", "y", "t"], "two columns named 't'")):
        with pytest.raises(UserError, match=says):
            read_table(path, Reading(header=header))
    with pytest.raises(UserError, match=r"no column 't' \(it has Ulm, 3\); name the columns of a file without"):
        check_columns(read_table(table(tmp_path, "Ulm,3\nBonn,4\n")), "t.csv", ["t"], "columns")


def test_empty_fields_are_missing_and_words_only_where_it_is_said(tmp_path: Path) -> None:
    words = ["NA", "None", "null", "n/a", "nan", "NaN", "-", ""]
    path = table(tmp_path, "word,x\n" + "\n".join(f"{word},{i}" for i, word in enumerate(words)))
    assert read_table(path).word.fillna("missing").tolist() == [*words[:-1], "missing"]
    reading = Reading(missing=["NA", "-", "3"])
    frame = read_table(path, reading)
    assert frame.word.isna().tolist() == [word in ("NA", "-", "") for word in words]
    assert frame.x.isna().tolist() == [i == 3 for i in range(8)]
    pytest.importorskip("pyarrow")
    read_table(path).to_parquet(tmp_path / "t.parquet")
    for name in ("word", "x"):
        assert (read_table(tmp_path / "t.parquet", reading)[name].isna() == frame[name].isna()).all()


def test_rows_are_chosen_by_conditions(tmp_path: Path) -> None:
    frame = pd.DataFrame({"city": ["Ulm", "Bonn", "Ulm", None], "n": [1, 2, 10, 2.0], "n=1": ["a", "a", "b", "c"]})
    for conditions, rows, constant in (
        (["city=Ulm"], [0, 2], ["city"]),
        (["city!=Ulm"], [1, 3], []),
        (["city="], [3], ["city"]),
        (["city!="], [0, 1, 2], []),
        (["n=2"], [1, 3], ["n"]),  # as numbers: 2 and 2.0
        (["n!=1", "city=Ulm"], [2], ["city"]),
        (["n=1=a"], [0, 1], ["n=1"]),
        ([], [0, 1, 2, 3], []),
    ):
        chosen, alike = select_rows(frame, "t.csv", conditions)
        assert (chosen.index.tolist(), alike) == (rows, constant)
    for condition, says in (
        ("city=Kiel", r"no row of t.csv has city = Kiel \(its values: Ulm, Bonn"),
        ("town=Ulm", "no column 'town'"),
        ("city", "give COLUMN=VALUE or COLUMN!=VALUE"),
        ("n>1", "--rows n>1: only = and != are understood"),
        ("n <= 1", "--rows n <= 1: only = and != are understood"),
        ("m>1", "no column 'm>1'"),
    ):
        with pytest.raises(UserError, match=says):
            select_rows(frame, "t.csv", [condition])


@pytest.mark.parametrize(
    ("package", "others"), [("tables", ("causal", "stable")), ("causal", ("stable",)), ("stable", ("causal",))]
)
def test_tables_are_the_floor_of_both(package: str, others: tuple[str, ...]) -> None:
    for path in (Path(contrastkit.__file__).parent / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for module in modules:
                assert not module.startswith(tuple(f"contrastkit.{other}" for other in others)), f"{path}: {module}"
