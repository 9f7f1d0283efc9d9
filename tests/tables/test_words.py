"""Columns of text that are no factors."""

import numpy as np
import pandas as pd
import pytest

from contrastkit.errors import UserError
from contrastkit.tables.covariates import Covariates
from contrastkit.tables.words import is_number, no_factor

N = 60
G = np.random.default_rng(0)
NUMBERS = G.uniform(1000, 99999, N)
DAYS = pd.date_range("2020-01-01", periods=N)


@pytest.mark.parametrize(
    ("texts", "what"),
    [
        ([f"{day:%Y-%m-%d}" for day in DAYS], "dates or times"),
        ([f"{day:%Y-%m-%d %H:%M:%S}" for day in DAYS], "dates or times"),
        ([f"{day:%d.%m.%Y}" for day in DAYS], "dates or times"),
        ([f"{day:%m/%d/%y}" for day in DAYS], "dates or times"),
        ([f"{day:%B %d, %Y}" for day in DAYS], "dates or times"),
        ([f"{i // 60 + 7:02}:{i % 60:02}" for i in range(N)], "dates or times"),
        ([f"{x:,.2f}" for x in NUMBERS], "decimal commas or thousands separators"),
        ([f"{x:,.0f}" for x in NUMBERS], "decimal commas or thousands separators"),
        ([f"{x:.3f}".replace(".", ",") for x in NUMBERS], "decimal commas or thousands separators"),
        ([f"{x:,.2f}".translate({44: 46, 46: 44}) for x in NUMBERS], "decimal commas or thousands separators"),
        ([f"{x / 1e3:.2f}%" for x in NUMBERS], "numbers with a unit"),
        ([f"{x:.1f} kg" for x in NUMBERS], "numbers with a unit"),
        ([f"${x:.2f}" for x in NUMBERS], "numbers with a unit"),
        ([f"EUR {x:.2f}" for x in NUMBERS], "numbers with a unit"),
        ([f"P{i:04}" for i in range(N)], "identifiers"),
        ([f"{x:.0f}-{i}" for i, x in enumerate(NUMBERS)], "identifiers"),
        ([f"town {i % 40}" for i in range(N)], "identifiers"),
    ],
)
def test_what_a_column_seems_to_be_is_said(texts: list[str], what: str) -> None:
    with pytest.raises(UserError, match=f"c: its [0-9]+ different texts in 60 rows seem to be .*{what}.* leave c out"):
        Covariates.of(pd.DataFrame({"c": texts}))


def test_a_factor_is_a_factor() -> None:
    returning, few, waves = [f"town {i % 25}" for i in range(N)], [f"{i % 20}%" for i in range(N)], ["2020-01-01", "-"]
    for texts in (returning, few, waves * 30):
        assert Covariates.of(pd.DataFrame({"c": texts})).shape == (N, len(set(texts)))
    assert Covariates.of(pd.DataFrame({"c": pd.Categorical([f"P{i}" for i in range(N)])})).shape == (N, N)  # as told
    assert no_factor("c", ["a", "b"], 2) == ""


def test_a_word_among_numbers_is_named_and_what_to_do() -> None:
    frame = pd.DataFrame({"c": ["1", "2.5", "NA", "4"]})
    with pytest.raises(UserError, match="c: 'NA' is not a number, but others are: .* say so with --missing 'NA'"):
        Covariates.of(frame)
    with pytest.raises(UserError, match="c: '3,5' is not a number, but others are: correct it"):
        Covariates.of(frame.replace("NA", "3,5"))


def test_numbers_are_what_pandas_reads_as_such() -> None:
    for text in ("1", "-1.5", "+.5", "3.", "1e-5", " 7 ", "1_000", "nan", "inf", "0x1", "1,5", "", "-", "1e", "--1"):
        read = pd.to_numeric(pd.Series([text.strip()]), errors="coerce").abs().between(0, 1e300).item()
        assert is_number(text) == (read and text not in ("0x1", "")), text
