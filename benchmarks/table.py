"""`python -m benchmarks.table`: write the README's table of operators from benchmarks/results/*-paper.json, and every
way of every case, other dtypes too, into benchmarks/results/README.md."""

import json
from pathlib import Path
from typing import Any

from contrastkit.bench import CEILINGS

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
PARTIAL = ("embedding_bag",)  # does half of the work
BEGIN, END = "<!-- python -m benchmarks.table -->", "<!-- end -->"


def table(rows: list[dict[str, Any]]) -> str:
    """One line for each op and shape: its official code, the best other way, ours, and what the machine allows."""
    cases: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    both = {(row["op"], row["shape"]) for row in rows if row["direction"] == "forward+backward"}
    for row in rows:
        key = (row["op"], row["shape"])
        measured = row["op"] not in CEILINGS and row["median_ms"] is not None
        if measured and (row["direction"] == "forward+backward" or key not in both):
            cases.setdefault(key, {})[row["impl"]] = row
    lines = [
        "| op and shape | official code | best alternative | contrastkit | of the floor | extra memory |",
        "|---|---|---|---|---|---|",
    ]
    for (op, shape), ways in cases.items():
        ours, eager = ways["ours"], ways["eager"]
        peers = [row for impl, row in ways.items() if impl not in ("ours", "eager", "reference", *PARTIAL)]
        best = min(peers, key=lambda row: row["median_ms"], default=None)
        beside = f"{ms(best)} {best['impl']}, {ratio(best, ours)}" if best else ""
        lines.append(
            f"| {op} {shape} | {ms(eager)}, {ratio(eager, ours)} | {beside} | {ms(ours)} "
            f"| {ours['floor_ms'] / ours['median_ms']:.2f} | {ours['extra_mib']:.2g} MiB |"
        )
    return "\n".join(lines)


def ms(row: dict[str, Any]) -> str:
    return f"{row['median_ms']:.3g}"


def ratio(row: dict[str, Any], ours: dict[str, Any]) -> str:
    times = row["median_ms"] / ours["median_ms"]
    return f"{times:.2f}x" if times < 2 else f"{times:.1f}x"  # a loss of a hundredth must not read as a tie


def section() -> str:
    """What stands between the README's marks."""
    parts = []
    for path in sorted(RESULTS.glob("*-paper.json")):
        rows = json.loads(path.read_text())
        ceilings = ", ".join(f"{row['op']} {row['note']}" for row in rows if row["op"] in CEILINGS)
        parts.append(f"{path.stem}, {rows[0]['dtype']} ({ceilings}):\n\n{table(rows)}")
    return "\n\n".join(parts)


def everything() -> str:
    """Every way of every case of every file."""
    parts = ["Medians; written by `python -m benchmarks.table` from the files beside this one."]
    for path in sorted(RESULTS.glob("*-paper*.json")):
        rows = json.loads(path.read_text())
        lines = [
            "| op, shape and direction | way | ms | spread | ours is | of the floor | extra MiB |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in rows:
            case = f"{row['op']} {row['shape']} {row['direction']}"
            if row["median_ms"] is None:
                lines.append(f"| {case} | {row['impl']} | {row['note']} | | | | |")
                continue
            same = ("op", "shape", "direction")
            ours = next((r for r in rows if r["impl"] == "ours" and all(r[k] == row[k] for k in same)), row)
            cells = (case, row["impl"], ms(row), f"{row['iqr_ms']:.2g}", "" if ours is row else ratio(row, ours))
            share, extra = row["floor_ms"] / row["median_ms"], row["extra_mib"]
            lines.append(f"| {' | '.join(cells)} | {share:.2f} | {extra:.2g} |")
        parts.append(f"## {path.stem}\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def main() -> None:
    README.write_text(between(README.read_text(), BEGIN, END, section()))
    (RESULTS / "README.md").write_text(everything())


def between(text: str, begin: str, end: str, section: str) -> str:
    """The text with what stands between two marks replaced."""
    return f"{text.split(begin)[0]}{begin}\n{section}\n{end}{text.split(end)[1]}"


if __name__ == "__main__":
    main()
