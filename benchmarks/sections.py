"""`python -m benchmarks.sections`: write the tables of measurements and of JSON keys in README.md and docs/.

A table is generated from benchmarks/results, or from docs/schemas, between
`<!-- python -m benchmarks.sections NAME -->` and `<!-- end of NAME -->` in any of these files.
benchmarks/results/README.md has all timings of the operators.
"""

import json
import math
import re
import statistics
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import RESULTS, ablations, distillation, schemas
from benchmarks.captions import table as captions
from benchmarks.causal_tables import causal, confounders, confounders_ways, coverage, effects, nonlinear, stable
from benchmarks.clip_memory import table as clip_memory
from benchmarks.designs import table as designs
from benchmarks.learning import BASELINES, METHODS, UNTRAINED
from benchmarks.masked import table as masked
from benchmarks.photos import table as photos
from benchmarks.stable_images import table as stable_images
from benchmarks.survival import table as survival
from benchmarks.tables import Rows, markdown, results, spread
from contrastkit.bench import CEILINGS
from contrastkit.cards import CARDS, DISTILLATIONS, SUPERVISED, MethodCard
from contrastkit.checkpoint import write_text
from contrastkit.methods.rows import rows_of

ROOT = Path(__file__).parent.parent
PARTIAL = ("embedding_bag",)  # does only half of an operator's work


def methods(cards: Mapping[str, MethodCard] = CARDS) -> str:
    """The table that `contrastkit methods` prints."""
    rows = [
        [
            f"`{card.name}`",
            f"`{', '.join(card.aliases)}`" if card.aliases else "",
            f"[{card.paper}](https://arxiv.org/abs/{card.arxiv})",
            card.query,
            card.dictionary,
            card.target,
            "yes" if card.negatives else "no",
            ", ".join(rows_of(card.name)),
        ]
        for card in cards.values()
    ]
    return markdown(("method", "also", "paper", "query", "dictionary", "target", "negatives", "recipes"), rows)


def learning() -> str:
    """One line per method, averaged over its seeds, with the gain over its untrained encoder."""
    measured = results("learning-cifar10")
    rows = []
    for name in (*BASELINES, *METHODS):
        seeds = [row for row in measured if row["method"] == name]
        if not seeds:
            continue
        own = next((untrained for untrained, method in UNTRAINED.items() if method == name), "untrained")
        baseline = [row["knn"] for row in measured if row["method"] == own]
        gain = statistics.fmean(row["knn"] for row in seeds) - statistics.fmean(baseline or [math.nan])
        minutes = [row["cpu_minutes"] for row in seeds if row["cpu_minutes"] is not None]
        rows.append(
            [
                name,
                str(len(seeds)),
                str(seeds[0]["epochs"] or ""),
                f"{statistics.fmean(minutes):.1f}" if minutes else "",
                spread([row["knn"] for row in seeds]),
                "" if name in UNTRAINED else f"{gain:+.1f}",
                spread([row["linear"] for row in seeds]),
            ]
        )
    return markdown(("method", "seeds", "epochs", "CPU minutes", "kNN", "above untrained", "linear probe"), rows)


def copies() -> str:
    """Precision and recall of planted copies, by features alone and with the pixels' word."""

    def percent(share: float | None) -> str:
        return "" if share is None else f"{share:.1f}"

    rows = [
        [
            row["encoder"],
            f"{row['threshold']:g}",
            f"{row['features']['pairs']:,}",
            *(percent(row[how][what]) for how in ("features", "pixels") for what in ("precision", "recall")),
            *(percent(share) for share in row["pixels"]["ways"].values()),
        ]
        for row in results("copies-cifar10")
    ]
    ways = results("copies-cifar10")[0]["pixels"]["ways"]
    head = (
        "features by",
        "threshold",
        "pairs",
        "precision",
        "recall",
        "precision, by pixels too",
        "recall, by pixels too",
    )
    return markdown((*head, *ways), rows)


def ablation() -> str:
    """`contrastkit ablate byol-norm` on CIFAR-10."""
    rows = []
    for row in results("byol-norm-cifar10")["rows"]:
        rank = "" if row["rank"] is None else f"{row['rank']:.1f}"
        rows.append([row["name"], f"{row['published']:.1f}", f"{row['linear']:.1f}", f"{row['knn']:.1f}", rank])
    return markdown(("", "published", "linear probe", "kNN", "effective rank"), rows)


def operators() -> str:
    """One table per machine, with its ceilings."""
    parts = []
    for path in sorted(RESULTS.glob("*-paper.json")):
        rows = json.loads(path.read_text())
        ceilings = ", ".join(f"{row['op']} {row['note']}" for row in rows if row["op"] in CEILINGS)
        parts.append(f"{path.stem}, {rows[0]['dtype']} ({ceilings}):\n\n{best_ways(rows)}")
    return "\n\n".join(parts)


def best_ways(measured: Rows) -> str:
    """One line per op and shape: official code, the best alternative, ours, and the floor of the machine."""
    cases: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    both = {(row["op"], row["shape"]) for row in measured if row["direction"] == "forward+backward"}
    for row in measured:
        key = (row["op"], row["shape"])
        timed = row["op"] not in CEILINGS and row["median_ms"] is not None
        if timed and (row["direction"] == "forward+backward" or key not in both):
            cases.setdefault(key, {})[row["impl"]] = row
    rows = []
    for (op, shape), ways in cases.items():
        ours, eager = ways["ours"], ways["eager"]
        peers = [row for impl, row in ways.items() if impl not in ("ours", "eager", "reference", *PARTIAL)]
        best = min(peers, key=lambda row: row["median_ms"], default=None)
        rows.append(
            [
                f"{op} {shape}",
                f"{ms(eager)}, {ratio(eager, ours)}",
                f"{ms(best)} {best['impl']}, {ratio(best, ours)}" if best else "",
                ms(ours),
                f"{ours['floor_ms'] / ours['median_ms']:.2f}",
                f"{ours['extra_mib']:.2g} MiB",
            ]
        )
    head = ("op and shape", "official code", "best alternative", "contrastkit", "of the floor", "extra memory")
    return markdown(head, rows)


def ms(row: dict[str, Any]) -> str:
    return f"{row['median_ms']:.3g}"


def ratio(row: dict[str, Any], ours: dict[str, Any]) -> str:
    times = row["median_ms"] / ours["median_ms"]
    return f"{times:.2f}x" if times < 2 else f"{times:.1f}x"  # a loss of 1 % must not look like a tie


def every_way() -> str:
    """benchmarks/results/README.md: all timings of all files, in every dtype."""
    parts = ["Medians; written by `python -m benchmarks.sections` from the files in this folder."]
    for path in sorted(RESULTS.glob("*-paper*.json")):
        measured = json.loads(path.read_text())
        rows = []
        for row in measured:
            case = f"{row['op']} {row['shape']} {row['direction']}"
            if row["median_ms"] is None:
                rows.append([case, row["impl"], row["note"], "", "", "", ""])
                continue
            same = ("op", "shape", "direction")
            ours = next((r for r in measured if r["impl"] == "ours" and all(r[k] == row[k] for k in same)), row)
            cells = [case, row["impl"], ms(row), f"{row['iqr_ms']:.2g}", "" if ours is row else ratio(row, ours)]
            rows.append([*cells, f"{row['floor_ms'] / row['median_ms']:.2f}", f"{row['extra_mib']:.2g}"])
        head = (
            "op, shape and direction",
            "implementation",
            "ms",
            "IQR",
            "speedup of ours",
            "of the floor",
            "extra MiB",
        )
        parts.append(f"## {path.stem}\n\n{markdown(head, rows)}")
    return "\n\n".join(parts) + "\n"


def input_speed() -> str:
    """The whole input by library, in images a second, and how many times as fast ours is; then our stages, threads and
    memory."""
    measured = results("input")
    rates = {(row["work"], row["stage"], row["impl"]): row.get("images_per_second") for row in measured}
    whole = [row for row in measured if row["stage"] == "whole"]
    others = [name for name in dict.fromkeys(row["impl"] for row in whole) if name != "ours"]
    rows = []
    for work in dict.fromkeys(row["work"] for row in whole):
        ours = rates[work, "whole", "ours"]
        stages = (rates.get((work, stage, "ours")) for stage in ("decode", "augment"))
        times = (rates.get((work, "whole", name)) for name in others)
        cells = [f"{ours:,.0f}", *("" if rate is None else f"{rate:,.0f}" for rate in stages)]
        rows.append([work, *cells, *("" if rate is None else f"{ours / rate:.1f}x" for rate in times)])
    threads = " and ".join(f"{row['ratio']:.2f} ({row['work']})" for row in measured if row["stage"] == "threads")
    (memory,) = (row["mib"] for row in measured if row["stage"] == "memory")
    table = markdown(("images, views", "images/s", "decoding", "augmenting", *others), rows)
    return (
        f"{table}\n\nTwo threads augment as many times as fast as one: {threads}. Beside images and views, a thread "
        f"needs {memory:.1f} MiB."
    )


def training_speed() -> str:
    """Images a second of an epoch of training, and of the older code's; medians of the repeats."""
    measured = results("training-speed")
    rows = []
    for method in dict.fromkeys(row["method"] for row in measured):
        found = {
            name: [row for row in measured if (row["method"], row["impl"]) == (method, name)]
            for name in ("ours", "older")
        }
        rate = {name: statistics.median(row["images_per_second"] for row in same) for name, same in found.items()}
        waiting = {name: statistics.median(row["waiting"] for row in same) for name, same in found.items()}
        cells = (f"{rate[name]:,.0f}, waiting {waiting[name]:.0%}" for name in ("ours", "older"))
        rows.append([method, *cells, f"{rate['ours'] / rate['older']:.2f}x"])
    return markdown(("training", "images/s", "at 0c1a6b5", "times as fast"), rows)


def scaled_decoding() -> str:
    """kNN with scaled decoding and without, means +- standard deviations over seeds."""
    measured = results("scaled-decoding")
    rows = []
    for size in dict.fromkeys(row["size"] for row in measured):
        same = [row for row in measured if row["size"] == size]
        found = [[row["knn"] for row in same if row["scaled"] is scaled] for scaled in (False, True)]
        rows.append([f"{size} px", str(len(found[0])), *map(spread, found)])
    return markdown(("views", "seeds", "whole images", "scaled decoding"), rows)


SECTIONS: dict[str, Callable[[], str]] = {
    "methods": methods,
    "distillations": partial(methods, DISTILLATIONS),
    "supervised": partial(methods, SUPERVISED),
    "crd": distillation.crd_table,
    "few_labels": distillation.labels_table,
    "learning": learning,
    "ablation": ablation,
    **{f"ablation_{what.replace('-', '_')}": partial(ablations.section, what) for what in ablations.WHAT},
    "confounders": confounders,
    "confounders_ways": confounders_ways,
    "causal": causal,
    "effects": effects,
    "coverage": coverage,
    "nonlinear": nonlinear,
    "stable": stable,
    "stable_images": stable_images,
    "input": input_speed,
    "training": training_speed,
    "scaled_decoding": scaled_decoding,
    "operators": operators,
    "clip_memory": clip_memory,
    "copies": copies,
    "designs": designs,
    "survival": survival,
    "masked": masked,
    "photos": photos,
    "captions": captions,
    "shared": schemas.shared,
    **{f"keys_{name.replace('-', '_')}": partial(schemas.keys_of, name) for name in schemas.names()},
}
MARKED = re.compile(r"<!-- python -m benchmarks\.sections (\w+) -->\n(.*?)\n<!-- end of \1 -->", re.DOTALL)


def pages() -> list[Path]:
    """The files that may contain sections."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def filled(page: str) -> str:
    """The text with all its sections regenerated."""
    return MARKED.sub(
        lambda m: f"<!-- python -m benchmarks.sections {m[1]} -->\n{SECTIONS[m[1]]()}\n<!-- end of {m[1]} -->", page
    )


def main() -> None:
    for path in pages():
        write_text(path, filled(path.read_text()))
    write_text(RESULTS / "README.md", every_way())


if __name__ == "__main__":
    main()
