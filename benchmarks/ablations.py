"""`python -m benchmarks.ablations [--data-dir DIR] [WHAT ...]`: what the papers' ablations say, on a small budget.

Runs `contrastkit ablate` with each method's `tiny` row on a part of CIFAR-10: the first IMAGES training images and the
first TEST test images, for EPOCHS epochs, seed 0. What is measured is not repeated, and stopped trainings are resumed.
The rows go to benchmarks/results/ablations.json, the charts to docs/ablations. `--chart` draws these alone.
"""

import argparse
import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

from benchmarks import RESULTS
from benchmarks.tables import markdown, results
from contrastkit.ablation import ABLATIONS, AblationReport, AblationRow, ablate, draw
from contrastkit.checkpoint import write_json
from contrastkit.data import ArraySource, open_data
from contrastkit.memory import keep_freed_memory
from contrastkit.npz import write_npz
from contrastkit.training.plan import plan, replaced

FILE = RESULTS / "ablations.json"
CHARTS = Path(__file__).parent.parent / "docs" / "ablations"
IMAGES, TEST, EPOCHS = 3000, 2000, 3
WHAT = tuple(name for name in ABLATIONS if name != "byol-norm")  # which has a file of its own, on all of CIFAR-10


def part(data_dir: Path | None, path: Path) -> Path:
    """The first images of CIFAR-10 as an .npz file, which is made once."""
    if not path.exists():
        data = open_data("cifar10", data_dir=data_dir)
        arrays: dict[str, Any] = {}
        for prefix, source, n in (("", data.train, IMAGES), ("test_", data.test, TEST)):
            assert isinstance(source, ArraySource) and source.labels is not None
            arrays |= {f"{prefix}images": source.images[:n].numpy(), f"{prefix}labels": source.labels[:n].numpy()}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_npz(path, arrays)
    return path


def measure(what: str, data: Path, runs: Path) -> AblationReport:
    """All rows of an ablation, one after the other."""
    change = replaced({"epochs": EPOCHS})
    options = {"data": str(data), "device": "cpu", "monitor_every": EPOCHS}
    base = plan(ABLATIONS[what].method, options, change=change, row="tiny")
    rows = []
    for row in ablate(what, base, change, out=runs / what):
        print(f"{what}: {row.name}: linear {row.linear:.1f} %, kNN {row.knn:.1f} %, {row.seconds:.0f} s", flush=True)
        rows.append(row)
    return AblationReport.of(what, base, rows)


def report_of(measured: dict[str, Any]) -> AblationReport:
    """A report from what :meth:`AblationReport.as_json` made of it."""
    own = {item.name: measured[item.name] for item in fields(AblationReport)}
    return AblationReport(**own | {"rows": [AblationRow(**row) for row in own["rows"]]})


def byol_norm() -> AblationReport:
    """The debate's trainings on all of CIFAR-10, from the ablation.json of `contrastkit ablate byol-norm`."""
    recorded = results("byol-norm-cifar10")
    rows = [AblationRow(**row) for row in recorded["rows"]]
    named = {"recipe": recorded["name"], "data": "cifar10", "seed": recorded["seed"]}
    return AblationReport(ablation="byol-norm", epochs=recorded["recipe"]["epochs"], rows=rows, **named)


def section(what: str) -> str:
    """What the paper concludes, the published numbers beside the measured ones, and the chart."""
    ablation, measured = ABLATIONS[what], recorded_results().get(what)
    parts = [f"{ablation.source}: {ablation.claim}. Published: {ablation.unit}."]
    if measured is None:
        printed = [[name, _printed(row.published)] for name, row in ablation.rows.items() if row.published is not None]
        return "\n\n".join([*parts, *([markdown(("", "published"), printed)] if printed else []), "Not measured yet."])
    rows = []
    for row in report_of(measured).rows:
        rank = "" if row.rank is None else f"{row.rank:.1f}"
        linear = f"{row.linear:.1f} +- {row.linear_std:.1f}"
        rows.append([row.name, _printed(row.published), linear, f"{row.knn:.1f}", rank])
    parts.append(markdown(("", "published", "linear probe", "kNN", "effective rank"), rows))
    return "\n\n".join([*parts, f"![{ablation.title}](ablations/{what}.png)"])


def _printed(published: float | str | None) -> str:
    return f"{published:.1f}" if isinstance(published, float) else published or ""


def recorded_results() -> dict[str, Any]:
    """What is measured so far, by ablation."""
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", nargs="*", metavar="WHAT", help=", ".join(WHAT))
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("CONTRASTKIT_DATA"))
    parser.add_argument("--runs", type=Path, default=Path("runs/ablations"), help="folder for data and runs")
    parser.add_argument("--chart", action="store_true", help="only draw the charts")
    args = parser.parse_args()
    keep_freed_memory()
    if unknown := [what for what in args.what if what not in WHAT]:
        parser.error(f"'{unknown[0]}' is unknown (known: {', '.join(WHAT)})")
    CHARTS.mkdir(exist_ok=True)
    for what in args.what or WHAT:
        if not args.chart:
            data = part(args.data_dir, args.runs / f"cifar10-{IMAGES}.npz")
            report = measure(what, data, args.runs).as_json()
            write_json(FILE, recorded_results() | {what: report})
        if what in (measured := recorded_results()):
            draw(report_of(measured[what]), CHARTS / f"{what}.png")
    draw(byol_norm(), CHARTS / "byol-norm.png")


if __name__ == "__main__":
    main()
