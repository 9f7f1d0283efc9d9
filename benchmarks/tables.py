"""What the tables of measurements share."""

import json
import statistics
from typing import Any

from benchmarks import RESULTS

Rows = list[dict[str, Any]]


def results(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def markdown(head: tuple[str, ...], rows: list[list[str]]) -> str:
    """A table; without rows, that there is nothing to show yet."""
    if not rows:
        return "Not measured yet."
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(cells)} |" for cells in rows)])


def spread(values: list[float]) -> str:
    """The mean, and the standard deviation if there are several values; "" of none."""
    if not values:
        return ""
    mean = f"{statistics.fmean(values):.1f}"
    return f"{mean} +- {statistics.stdev(values):.1f}" if len(values) > 1 else mean
