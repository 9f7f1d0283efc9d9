"""The section on several runs side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contrastkit.compare import Comparison, Pooled, compare, comparison_chart
from contrastkit.errors import UserError
from contrastkit.names import as_typed
from contrastkit.report.content import Block, Missing, Section, Table, Text
from contrastkit.report.pictures import drawn

# The numbers of a row, as they are headed.
TITLES = {"loss": "loss", "monitor": "kNN, training part", "knn": "kNN", "probe": "probe", "finetune": "fine-tuned"}


def side_by_side(runs: Sequence[Path]) -> Section:
    """Their settings and numbers as a table, and their curves over each other."""
    try:
        comparison = compare(runs)
    except UserError as error:
        blocks: tuple[Block, ...] = (Missing(str(error)),)
    else:
        picture = drawn(
            lambda file: comparison_chart(file, comparison),
            alt="Curves of all runs over each other: " + ", ".join(row.name for row in comparison.rows),
        )
        blocks = (*map(Text, comparison.notices), _table(comparison), picture)
    return Section("comparison", "Side by side", blocks)


def _table(comparison: Comparison) -> Table:
    shown = [key for key in TITLES if any(key in row.numbers for row in comparison.rows)]
    settings = comparison.settings
    rows = [
        (
            ", ".join(row.runs),
            *(_text(row.settings.get(name)) for name in settings),
            ", ".join(map(str, row.seeds)),
            f"{row.epochs} of {row.of_epochs}",
            *(_cell(key, row.numbers.get(key)) for key in shown),
        )
        for row in comparison.rows
    ]
    columns = ("runs", *settings, "seeds", "epochs", *(TITLES[key] for key in shown))
    numbers = tuple(range(len(columns) - len(shown), len(columns)))
    how = "; ".join(
        f"{TITLES[key]}: top-1 on {ways['n']:,} test {comparison.items}" for key, ways in comparison.evaluations.items()
    )
    note = (
        f"{how}{'. ' if how else ''}\N{PLUS-MINUS SIGN}: standard deviation over seeds (n - 1); of one "
        f"run, the 95 % interval (Wilson) of its test {comparison.items} in brackets."
    )
    return Table(f"{len(rows)} settings on {comparison.data}", columns, tuple(rows), numbers, note)


def _text(value: Any) -> str:
    return "" if value is None else as_typed(value)


def _cell(key: str, number: Pooled | None) -> str:
    if number is None:
        return ""
    if key == "loss":
        return f"{number.mean:.4g}" + ("" if number.std is None else f" \N{PLUS-MINUS SIGN} {number.std:.2g}")
    text = f"{100 * number.mean:.2f} %"
    if number.std is not None:
        text += f" \N{PLUS-MINUS SIGN} {100 * number.std:.2f}"
    elif number.interval is not None:
        text += f" ({100 * number.interval[0]:.1f} to {100 * number.interval[1]:.1f})"
    return text
