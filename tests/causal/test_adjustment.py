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
        ("u -> t; u -> y; t -> y", "ty", "", "such as t <- u -> y: use measure u"),
        ("i -> t -> y; t <-> y", "tyi", "", "t <-> y: use contrastkit causal iv --instruments i"),
        ("t -> m -> y; u -> t; u -> y", "tym", "", "use contrastkit causal front-door --mediators m or measure u"),
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


def test_sets_and_instruments_of_random_graphs_are_those_of_their_paths() -> None:
    """Definitions of the back door and of conditional instruments, over all paths of the skeleton."""
    g = np.random.default_rng(0)
    good = found = 0
    for _ in range(150):
        names = ["t", "y", "a", "b", "c"]
        order = g.permutation(names).tolist()
        edges = [pair for pair in itertools.combinations(order, 2) if g.uniform() < 0.5]
        graph = nx.DiGraph(edges)
        graph.add_nodes_from(names)
        below = nx.descendants(graph, "t")
        skeleton = graph.to_undirected()
        paths = {
            name: [tuple(path) for path in nx.all_simple_paths(skeleton, name, other)]
            for name, other in (("t", "y"), ("a", "t"))
        }
        for Z in itertools.chain.from_iterable(itertools.combinations("abc", k) for k in range(4)):
            into = [path for path in paths["t"] if graph.has_edge(path[1], "t")]
            expected = below.isdisjoint(Z) and all(blocked(graph, path, {*Z}) for path in into)
            assert adjusts(graph, "t", "y", Z) == expected
            good += expected
        cut = graph.copy()
        cut.remove_edges_from(list(graph.out_edges("t")))
        to_y = [tuple(path) for path in nx.all_simple_paths(cut.to_undirected(), "a", "y")]
        for W in ((), ("b",), ("b", "c")):
            moves = not all(blocked(graph, path, {*W}) for path in paths["a"])
            valid = below.isdisjoint(W) and moves and all(blocked(cut, path, {*W}) for path in to_y)
            assert (instruments_given(graph, "t", "y", W, among=["a"]) == ["a"]) == valid
            found += valid
    assert good > 100 and found > 20


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
