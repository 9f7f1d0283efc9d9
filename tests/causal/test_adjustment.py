"""The covariates that a graph chooses, against d-separation written out, and what is refused."""

import itertools
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import pytest

from contrastkit.causal.adjustment import adjustment
from contrastkit.causal.graph import adjusts, instruments_given
from contrastkit.causal.notation import parse
from contrastkit.causal.study import read
from contrastkit.cli.main import main
from contrastkit.errors import UserError
from tests.causal.test_graph import blocked


@pytest.mark.parametrize(
    ("graph", "columns", "chosen", "sentence"),
    [
        ("z -> t; z -> y; t -> y", "tyz", ("z",), "the graph says to adjust for z"),
        ("z -> t; z -> y; t -> y", "tyzxw", ("z",), "the graph says to adjust for z"),
        ("u -> z -> t; u -> y; t -> y", "tyz", ("z",), "the graph says to adjust for z; not in the table: u"),
        ("u -> z -> t; u -> y; t -> y", "tyzu", ("u",), "adjust for u, the smallest of 2 sets"),
        ("dag {t [exposure] y [outcome] u [latent] u -> {z y} z -> t -> y}", "tyzu", ("z",), "adjust for z"),
        ("a -> {t y}; b -> {t y}; t -> y", "tyab", ("a", "b"), "adjust for a, b"),
    ],
)
def test_the_smallest_set_among_the_columns(graph: str, columns: str, chosen: tuple[str, ...], sentence: str) -> None:
    given = (None, None) if "exposure" in graph else ("t", "y")
    found = adjustment(graph, columns, *given)
    assert (found.treatment, found.outcome, found.covariates) == ("t", "y", chosen)
    assert found.sentence.endswith(sentence)


@pytest.mark.parametrize(
    ("graph", "columns", "covariates", "says"),
    [
        ("t <-> y; t -> y", "tyz", "", "no set of columns closes .*, such as t <-> y: measure what confounds"),
        ("z -> {t y}; u -> {t y}; t -> y", "tyz", "", "no set of columns closes .*, such as t <- u -> y: measure u$"),
        ("u -> t; u -> y; t -> y", "ty", "", "such as t <- u -> y: measure u"),
        ("i -> t -> y; t <-> y", "tyi", "", "t <-> y: use contrastkit causal iv --instruments i"),
        ("t -> m -> y; u -> t; u -> y", "tym", "", "use contrastkit causal front-door --mediators m, or measure u"),
        ("t -> m -> y; z -> y", "tymz", "", "no adjustment is needed; for a more precise estimate, name with --cov"),
        ("t -> m -> y; z -> y; z -> t", "tymz", "m", "according to the graph, m is no set to adjust for"),
        ("t -> m -> y; z -> y; z -> t", "tymz", "q", "the graph has no 'q'"),
        ("t -> m", "tym", "", "the graph has no 'y'"),
    ],
)  # fmt: skip
def test_what_the_graph_does_not_allow_is_refused(graph: str, columns: str, covariates: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        adjustment(graph, columns, "t", "y", covariates)
    assert "\n" not in str(error.value)


def test_sets_of_random_graphs_are_those_of_their_paths() -> None:
    """The definition of the back door, over all paths of the skeleton."""
    g = np.random.default_rng(0)
    good = 0
    for _ in range(100):
        graph = drawn(g, ["t", "y", "a", "b", "c"])
        below = nx.descendants(graph, "t")
        paths = [tuple(path) for path in nx.all_simple_paths(graph.to_undirected(), "t", "y")]
        into = [path for path in paths if graph.has_edge(path[1], "t")]
        for Z in itertools.chain.from_iterable(itertools.combinations("abc", k) for k in range(4)):
            expected = below.isdisjoint(Z) and all(blocked(graph, path, {*Z}) for path in into)
            assert adjusts(graph, "t", "y", Z) == expected
            good += expected
    assert good > 100


def test_sets_and_instruments_give_the_effect_of_linear_models() -> None:
    """Without sampling: the total effect of t on y, from the covariance of a model with random coefficients. Where a
    set or an instrument is refused that is no effect of t, the formula gives another number."""
    g = np.random.default_rng(0)
    found = {"set": 0, "no set": 0, "instrument": 0, "no instrument": 0}
    for k in range(200):
        names = ["t", "y", "a", "b", "u"]
        graph = drawn(g, names) if k % 2 else drawn(g, ["u", "b", "a", "t", "y"], shuffled=False)
        B = np.array([[g.normal() * graph.has_edge(cause, name) for cause in names] for name in names])
        total = np.linalg.inv(np.eye(5) - B)
        S, below = total @ total.T, nx.descendants(graph, "t")
        if "y" not in below:
            continue
        T, Y, effect = 0, 1, total[1, 0]
        for W in ((), ("a",), ("b",), ("a", "b")):
            if not below.isdisjoint(W):
                continue
            rows = [names.index(name) for name in W]
            left = S - S[:, rows] @ np.linalg.pinv(S[np.ix_(rows, rows)]) @ S[rows]
            same = bool(np.isclose(left[T, Y] / left[T, T], effect, rtol=1e-6))
            assert adjusts(graph, "t", "y", W) == same
            found["set" if same else "no set"] += 1
            if "a" in W or "a" in below or abs(left[2, T]) < 1e-9:
                continue
            same = bool(np.isclose(left[2, Y] / left[2, T], effect, rtol=1e-6))
            assert (instruments_given(graph, "t", "y", W, among=["a"]) == ["a"]) == same
            found["instrument" if same else "no instrument"] += 1
    assert min(found.values()) > 10


def drawn(g: np.random.Generator, names: list[str], *, shuffled: bool = True) -> nx.DiGraph:
    """A random graph, half of whose edges are there, in any order or in that of the names."""
    order = g.permutation(names).tolist() if shuffled else names
    graph = nx.DiGraph(pair for pair in itertools.combinations(order, 2) if g.uniform() < 0.5)
    graph.add_nodes_from(names)
    return graph


def test_an_effect_of_the_treatment_is_no_instrument() -> None:
    causes = parse("t -> y; t -> a; t <-> y; z -> t")
    assert instruments_given(causes, "t", "y", (), among=["a", "z"]) == ["z"]


def test_a_study_and_a_command_take_the_graphs_covariates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    g = np.random.default_rng(0)
    z, w = g.normal(size=(2, 200))
    t = (g.uniform(size=200) < 1 / (1 + np.exp(-z))).astype(int)
    data = tmp_path / "t.csv"
    pd.DataFrame({"z": z, "w": w, "t": t, "y": z + w + t}).to_csv(data, index=False)
    graph = "z -> t; {z w u} -> y; t -> y"
    study = read(str(data), treatment="t", outcome="y", graph=graph)
    assert study.X.names == ("z",) and study.notices == ("the graph says to adjust for z; not in the table: u",)
    checked = read(str(data), treatment="t", outcome="y", covariates=["z", "w"], graph=graph)
    assert checked.notices == ("the graph allows adjusting for z, w; not in the table: u",)
    assert read(str(data), treatment="t", outcome="y", covariates=["w"]).notices == ()
    report: Any = f"--json={tmp_path / 'r.json'}"
    given = [f"--data={data}", "--treatment=t", "--outcome=y"]
    assert main(["causal", "balance", *given, f"--graph={graph}", report]) in (0, 1)
    assert study.notices[0] in capsys.readouterr().out
    assert '"names": [\n    "z"\n  ]' in (tmp_path / "r.json").read_text()
    assert main(["causal", "balance", *given, "--graph=t <-> y"]) == 2
    assert "no set of columns closes every back-door path" in capsys.readouterr().err
