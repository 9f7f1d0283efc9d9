"""`python -m benchmarks.methods`: write the README's table of methods, the one that `contrastkit methods` prints."""

from benchmarks.table import README, between
from contrastkit.cards import CARDS
from contrastkit.checkpoint import write_text
from contrastkit.methods import overview

BEGIN, END = "<!-- python -m benchmarks.methods -->", "<!-- end of methods -->"


def section() -> str:
    """What stands between the README's marks."""
    table = overview()
    lines = [f"| {' | '.join(table[0])} |", "|---" * len(table[0]) + "|"]
    for row in table:
        link = f"[{row['paper']}](https://arxiv.org/abs/{CARDS[row['method']].arxiv})"
        cells = row | {"method": f"`{row['method']}`", "also": row["also"] and f"`{row['also']}`", "paper": link}
        lines.append(f"| {' | '.join(cells.values())} |")
    return "\n".join(lines)


def main() -> None:
    write_text(README, between(README.read_text(), BEGIN, END, section()))


if __name__ == "__main__":
    main()
