"""`python -m benchmarks.ablation`: write the README's table of `contrastkit ablate byol-norm` on CIFAR-10, from
benchmarks/results/byol-norm-cifar10.json, which is that command's ablation.json."""

import json

from benchmarks.table import README, RESULTS, between
from contrastkit.checkpoint import write_text

BEGIN, END = "<!-- python -m benchmarks.ablation -->", "<!-- end of ablation -->"


def section() -> str:
    """What stands between the README's marks."""
    lines = ["| | published | linear probe | kNN | effective rank |", "|---|---|---|---|---|"]
    for row in json.loads((RESULTS / "byol-norm-cifar10.json").read_text())["rows"]:
        rank = "" if row["rank"] is None else f"{row['rank']:.1f}"
        lines.append(f"| {row['name']} | {row['published']:.1f} | {row['linear']:.1f} | {row['knn']:.1f} | {rank} |")
    return "\n".join(lines)


def main() -> None:
    write_text(README, between(README.read_text(), BEGIN, END, section()))


if __name__ == "__main__":
    main()
