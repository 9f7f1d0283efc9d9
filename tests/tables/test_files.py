"""Tables and weights from files, and the direction of imports."""

import ast
from pathlib import Path

import pandas as pd
import pytest

import contrastkit
from contrastkit.errors import UserError
from contrastkit.tables.files import check_columns, read_table
from contrastkit.tables.identity import read_weights


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
        ("t.txt", "give a .csv or .parquet file"),
        ("t.csv", "cannot read"),
        ("none.csv", "no such file"),
    ):
        with pytest.raises(UserError, match=says):
            read_table(tmp_path / name)


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
