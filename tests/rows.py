"""Rows of a parametrised test, of which `make test` runs some."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def fast_if(fast: Callable[[Any], bool], rows: Iterable[Any]) -> list[Any]:
    """Rows, each a value or a tuple of them; those that are not fast are marked as slow."""
    return [
        row if fast(row) else pytest.param(*(row if isinstance(row, tuple) else (row,)), marks=pytest.mark.slow)
        for row in rows
    ]
