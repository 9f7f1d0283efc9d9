"""Tables of the measurements of `contrastkit causal` and `contrastkit stable`."""

import statistics
from collections.abc import Iterator
from typing import Any

from benchmarks.causal import DATA as CAUSAL_DATA
from benchmarks.confounders import ONE as CONFOUNDERS_ONE
from benchmarks.confounders import WAYS as CONFOUNDERS_WAYS
from benchmarks.nonlinear import MODELS
from benchmarks.tables import Rows, markdown, results
from contrastkit.stable.reweight import METHODS as REWEIGHTINGS


def confounders() -> str:
    """The bias that adjustment by one estimator leaves of each confounder alone, and of all of them."""
    measured = results("confounders")
    sets = list(dict.fromkeys(tuple(row["confounders"]) for row in measured))
    rows = [
        [name, *(f"{row['bias']:.2f} +- {row['deviation']:.2f}" for row in by_set)]
        for name, by_set in adjusted(measured, CONFOUNDERS_ONE, sets)
    ]
    return markdown(("adjusted for", *(of[0] if len(of) == 1 else "all four" for of in sets)), rows)


def confounders_ways() -> str:
    """The bias that each estimator leaves of all confounders together, and how many of its intervals hold the truth."""
    measured, ways = results("confounders"), [way for way in CONFOUNDERS_WAYS if way != "naive"]
    every = [tuple(measured[-1]["confounders"])]
    tables = [dict(adjusted(measured, way, every)) for way in ways]
    rows = [
        [
            name,
            *(
                f"{each[name][0]['bias']:.2f} ({each[name][0]['covered']} of {each[name][0]['draws']})"
                for each in tables
            ),
        ]
        for name in tables[0]
    ]
    return markdown(("adjusted for", *ways), rows)


def adjusted(measured: Rows, way: str, sets: list[tuple[str, ...]]) -> Iterator[tuple[str, Rows]]:
    """The covariates, first none, and the measurements of an estimator with them, for each set of confounders."""
    found = {(tuple(row["confounders"]), row["covariates"], row["way"]): row for row in measured}
    names = list(dict.fromkeys(row["covariates"] for row in measured))
    yield "nothing", [found[of, names[0], "naive"] for of in sets]
    for name in names:
        yield name, [found[of, name, way] for of in sets]


def causal() -> str:
    """Our cost, and that of other packages on the same task and rows."""
    rows = [
        [*of, cost(ours), "; ".join(f"{row['way']} {row.get('note') or times(row, ours)}" for row in others)]
        for of, ours, others in beside("gap")
    ]
    return markdown(("weights", "rows", "contrastkit", "others, and how many times as long"), rows)


def effects() -> str:
    """Our estimates and their cost, and those of other packages."""
    rows = []
    for of, ours, others in beside("effect"):
        ways = (f"{row['way']} {row.get('note') or f'{effect(row)}, {times(row, ours)}'}" for row in others)
        rows.append([*of, effect(ours), cost(ours), "; ".join(ways)])
    return markdown(("estimate", "rows", "contrastkit", "", "others, and how many times as long"), rows)


def beside(kind: str) -> Iterator[tuple[list[str], dict[str, Any], Rows]]:
    """The tasks of a kind: task and rows, our measurement, and those of others."""
    measured = results("causal")
    for ours in measured:
        if ours["way"] == "contrastkit" and kind in ours:
            same = [row for row in measured if (row["task"], row["data"]) == (ours["task"], ours["data"])]
            yield [ours["task"], CAUSAL_DATA[ours["data"]]], ours, [row for row in same if row is not ours]


def cost(row: dict[str, Any]) -> str:
    return f"{row['seconds']:.3g} s, {row['extra_mib']:,.0f} MiB"


def times(row: dict[str, Any], ours: dict[str, Any]) -> str:
    return f"{row['seconds']:.3g} s, {row['seconds'] / ours['seconds']:.2g}x"


def effect(row: dict[str, Any]) -> str:
    return f"{row['effect']:.4f}" + (f" ({row['se']:.4f})" if row["se"] is not None else "")


def coverage() -> str:
    """Share of intervals that hold the truth, by study, rows and estimand."""
    measured = results("coverage")
    ways = dict.fromkeys((row["estimator"], row["models"]) for row in measured)
    found = {(*cell_of(row), row["estimator"], row["models"]): row for row in measured}
    rows = []
    for cell in dict.fromkeys(map(cell_of, measured)):
        shares = (found.get((*cell, *way)) for way in ways)
        rows.append([*map(str, cell), *("" if row is None else f"{row['covered']:.1%}" for row in shares)])
    names = [name if models == "linear" else f"{name}, {models}" for name, models in ways]
    return markdown(("study", "rows", "estimand", *names), rows)


def cell_of(row: dict[str, Any]) -> tuple[str, int, str]:
    return row["study"], row["rows"], row["estimand"]


def nonlinear() -> str:
    """Bias and coverage of aipw by its models; the boosted bias as a part of the linear one."""
    measured = results("nonlinear")
    rows = []
    for study, estimand in dict.fromkeys((row["study"], row["estimand"]) for row in measured):
        same = [row for row in measured if (row["study"], row["estimand"]) == (study, estimand)]
        found = {models: [row for row in same if row["models"] == models] for models in MODELS}
        bias = {models: statistics.fmean(row["error"] for row in each) for models, each in found.items() if each}
        covered = {
            models: statistics.fmean(abs(row["error"]) < 1.96 * row["se"] for row in each)
            for models, each in found.items()
            if each
        }
        cells = [str(len(found["linear"]))]
        cells += [f"{bias[m]:+.3f}, {covered[m]:.0%}" if m in bias else "" for m in MODELS]
        cells.append(f"{abs(bias['boost'] / bias['linear']):.2f}" if abs(bias["linear"]) > 0.1 else "")
        rows.append([study, estimand, *cells])
    return markdown(("study", "estimand", "draws", *MODELS, "boost's bias, of the linear one"), rows)


def stable() -> str:
    """Means over draws, one row per case."""
    titles = {"ols": "least squares", "oracle": "S alone"}
    ways = ("ols", *REWEIGHTINGS, "oracle")
    cases: dict[tuple[Any, ...], dict[str, Rows]] = {}
    for row in results("stable-selection"):
        cases.setdefault((row["mode"], row["r"], row["axes"]), {}).setdefault(row["method"], []).append(row)
    rows = []
    for (mode, r, axes), by_method in cases.items():
        cells = [f"{mode}, {r:g}, {axes}"]
        for way in ways:
            draws = by_method.get(way, [])
            if not draws:
                cells.append("")
                continue
            average, deviation, ess = (
                statistics.fmean(draw[key] for draw in draws) for key in ("average", "deviation", "ess")
            )
            cells.append(f"{average:.3f} / {deviation:.3f}" + ("" if way in titles else f", {ess:,.0f}"))
        rows.append(cells)
    return markdown(("V and S, rate, axes", *(titles.get(way, way) for way in ways)), rows)
