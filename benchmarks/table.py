"""`python -m benchmarks.table`: write the README's table of operators from benchmarks/results/*-paper.json."""

import json
from pathlib import Path
from typing import Any

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
        measured = row["op"] not in ("copy", "gemm") and row["median_ms"] is not None
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
    return f"{row['median_ms'] / ours['median_ms']:.1f}x"


def section() -> str:
    """What stands between the README's marks."""
    parts = []
    for path in sorted(RESULTS.glob("*-paper.json")):
        rows = json.loads(path.read_text())
        ceilings = ", ".join(f"{row['op']} {row['note']}" for row in rows if row["op"] in ("copy", "gemm"))
        parts.append(f"{path.stem}, {rows[0]['dtype']} ({ceilings}):\n\n{table(rows)}")
    return "\n\n".join(parts)


def between(text: str, begin: str, end: str, section: str) -> str:
    """The text with what stands between two marks replaced."""
    return f"{text.split(begin)[0]}{begin}\n{section}\n{end}{text.split(end)[1]}"


def main() -> None:
    README.write_text(between(README.read_text(), BEGIN, END, section()))


if __name__ == "__main__":
    main()
