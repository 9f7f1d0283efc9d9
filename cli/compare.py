"""``contrastkit compare``: trained runs side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contrastkit.cli import screen
from contrastkit.cli.files import out_file
from contrastkit.cli.options import OutputOptions, takes_options
from contrastkit.cli.results import interval, write_reports, write_sheet
from contrastkit.names import as_typed

if TYPE_CHECKING:
    from contrastkit.compare import Comparison, Pooled, Row

TITLES = {
    "loss": "loss",
    "monitor": "kNN (train), %",
    "knn": "kNN, %",
    "probe": "probe, %",
    "finetune": "fine-tuned, %",
}


@takes_options
def compare(
    *,
    runs: Annotated[list[Path], typer.Argument(help="Run folders written by 'contrastkit train'.", metavar="RUN")],
    curves: Annotated[Path | None, out_file("the overlaid curves", ".png", default="compare.png")] = None,
    output: OutputOptions,
) -> None:
    """Compare runs by the settings in which they differ.

    Runs that differ by their seed alone share a row: mean +- standard deviation.
    """
    from contrastkit.compare import compare as compared

    comparison = compared(runs)
    report_comparison(comparison, curves)
    write_reports(comparison.as_json(), output.json)


def report_comparison(comparison: "Comparison", curves: Path | None, folder: Path | None = None) -> None:
    """Print a comparison and draw its curves to ``curves``, by default into ``folder`` or the current one."""
    from contrastkit.compare import comparison_chart

    screen.lines(comparison.notices)
    folders = [Path(row.runs[0]).resolve().name for row in comparison.rows]
    shown = [key for key in TITLES if any(key in row.numbers for row in comparison.rows)]
    unfinished = any(not row.finished for row in comparison.rows)
    screen.table(
        f"Runs on {comparison.data}",
        ("runs", *comparison.settings, "seeds", *(["epochs"] if unfinished else []), *(TITLES[key] for key in shown)),
        [
            (
                _runs(row, folders),
                *(as_typed(row.settings[name]) if name in row.settings else "" for name in comparison.settings),
                len(row.seeds),
                *([f"{row.epochs} of {row.of_epochs}"] if unfinished else []),
                *(_cell(key, row.numbers.get(key), len(row.runs)) for key in shown),
            )
            for row in comparison.rows
        ],
        narrow=True,
    )
    screen.lines(_explained(comparison))
    write_sheet("curves", lambda path: comparison_chart(path, comparison), curves, folder, "compare.png")


def _runs(row: "Row", folders: list[str]) -> str:
    """The first run, by the last part of its path where that tells the rows apart, and how many others there are."""
    name = Path(row.runs[0]).resolve().name
    first = name if folders.count(name) == 1 else row.runs[0]
    return first if len(row.runs) == 1 else f"{first} +{len(row.runs) - 1}"


def _cell(key: str, number: "Pooled | None", runs: int) -> str:
    if number is None:
        return ""
    if key == "loss":
        text = f"{number.mean:.4g}" + ("" if number.std is None else f" +- {number.std:.2g}")
    else:
        text = f"{100 * number.mean:.2f}" + ("" if number.std is None else f" +- {100 * number.std:.2f}")
        text += f" [{interval(number.interval)}]" if number.interval is not None else ""
    return text if number.n == runs else f"{text} (n = {number.n})"


def _explained(comparison: "Comparison") -> list[str]:
    """What the columns are."""
    lines = []
    for key, how in comparison.evaluations.items():
        values = {name: value for name, value in how.items() if name != "n" and not isinstance(value, dict)}
        entries = ", ".join(f"{name} {as_typed(value)}" for name, value in values.items())
        lines.append(f"{TITLES[key].removesuffix(', %')}: top-1 on {how['n']:,} test {comparison.items}, {entries}")
    numbers = [number for row in comparison.rows for number in row.numbers.values()]
    if any(number.std is not None for number in numbers):
        lines.append("+-: standard deviation over seeds (n - 1)")
    if any(number.interval is not None for number in numbers):
        lines.append("[low - high]: 95 % Wilson interval of one run")
    return lines
