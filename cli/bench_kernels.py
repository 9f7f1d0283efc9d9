"""``contrastkit bench-kernels``: the kernels compared with their alternatives."""

import itertools
from typing import Annotated, Any, Literal

import typer

from contrastkit.cli import screen
from contrastkit.cli.options import OutputOptions, takes_options
from contrastkit.cli.results import write_reports


@takes_options
def bench_kernels(
    *,
    op: Annotated[str | None, typer.Option(help="Time this op only.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    preset: Annotated[
        Literal["quick", "paper"], typer.Option(help="Shapes to time: small ones, or those of the papers.")
    ] = "quick",
    output: OutputOptions,
) -> None:
    """Time the kernels against the best alternatives."""
    from contrastkit import bench

    rows: list[dict[str, Any]] = []
    cases = itertools.groupby(
        bench.run(op=op, device=device, dtype=dtype, preset=preset),
        key=lambda row: (row["op"], row["shape"], row["direction"]),
    )
    for case, group in cases:  # each is printed once it is measured
        measured = list(group)
        rows += measured
        if case[0] in bench.CEILINGS:
            screen.say(f"{case[0]} of {case[1]}, {dtype} on {device}: {measured[0]['note']}")
        else:
            _table(f"{' '.join(case)}, {dtype} on {device}", measured)
    write_reports(rows, output.json)


def _table(title: str, measured: list[dict[str, Any]]) -> None:
    """Print one case, the fastest implementation first, and its notes."""
    ours = next(row["median_ms"] for row in measured if row["impl"] == "ours")
    screen.table(
        f"{title}, lower bound {measured[0]['floor_ms']:.3g} ms",
        ("", "median ms", "IQR ms", "extra MiB", "speedup of ours", "of the floor"),
        [_cells(row, ours) for row in sorted(measured, key=lambda row: row["median_ms"] or float("inf"))],
    )
    screen.lines(f"  {row['impl']}: {row['note']}" for row in measured if row["note"])


def _cells(row: dict[str, Any], ours: float) -> tuple[str, ...]:
    if row["median_ms"] is None:
        return (row["impl"], "-", "-", "-", "-", "-")
    numbers = (row["median_ms"], row["iqr_ms"], row["extra_mib"])
    faster = "" if row["impl"] == "ours" else f"{row['median_ms'] / ours:.2f}x"
    return (row["impl"], *(f"{number:.3g}" for number in numbers), faster, f"{row['floor_ms'] / row['median_ms']:.2f}")
