"""Identification on the textbook's graphs, and against d-separation written out over all paths."""

import itertools
from importlib.util import find_spec
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from contrastkit.causal.graph import identify, parse, read
from contrastkit.cli.main import main
from contrastkit.errors import UserError


@pytest.mark.parametrize(
    ("text", "hidden", "backdoor", "frontdoor", "instruments", "never", "colliders"),
    [
        ("z -> t; z -> y; t -> y", "", [("z",)], [], [], [], []),  # a confounder
        ("t -> m -> y", "", [()], [("m",)], [], ["m"], []),  # a mediator
        ("t -> y; t -> c; y -> c", "", [()], [], [], ["c"], []),  # a common effect
        ("a -> t; a -> m; b -> m; b -> y; t -> y", "a,b", [()], [], [], [], ["m"]),  # M-bias (Greenland 2003)
        ("u -> t; u -> y; t -> m -> y", "u", [], [("m",)], [], ["m"], []),  # smoking, tar, cancer (Pearl, Fig. 3.5)
        ("i -> t; u -> t; u -> y; t -> y", "u", [], [], ["i"], [], []),  # an instrument
        ("t -> y; z -> y", "", [()], [], [], [], []),
        (  # Pearl, Fig. 3.4: {x3, x4} and {x4, x5} are admissible, {x4} alone is not
            "x1 -> x3; x1 -> x4; x2 -> x4; x2 -> x5; x3 -> t; x4 -> t; x4 -> y; x5 -> y; t -> x6 -> y",
            "", [("x1", "x4"), ("x2", "x4"), ("x3", "x4"), ("x4", "x5")], [("x6",)], [], ["x6"], [],
        ),
    ],
)  # fmt: skip
def test_the_textbooks_graphs(
    text: str, hidden: str, backdoor: list[tuple[str, ...]], frontdoor: list[tuple[str, ...]], instruments: list[str],
    never: list[str], colliders: list[str],
) -> None:  # fmt: skip
    result = identify(parse(text), "t", "y", unobserved=[name for name in hidden.split(",") if name])
    assert result.backdoor_sets == backdoor
    assert result.frontdoor_sets == frontdoor
    assert result.instruments == instruments and result.never == never and result.colliders == colliders


def blocked(graph: nx.DiGraph, path: tuple[str, ...], Z: set[str]) -> bool:
    """Definition 1.2.3 of Pearl 2009, node by node."""
    for a, b, c in zip(path, path[1:], path[2:], strict=False):
        collider = graph.has_edge(a, b) and graph.has_edge(c, b)
        if collider and not ({b} | nx.descendants(graph, b)) & Z:
            return True
        if not collider and b in Z:
            return True
    return False


def test_minimal_back_door_sets_of_random_graphs() -> None:
    g = np.random.default_rng(0)
    some = 0
    for _ in range(200):
        names = ["t", "y", "a", "b", "c", "d"]
        order = g.permutation(names).tolist()
        graph = nx.DiGraph([(u, v) for u, v in itertools.combinations(order, 2) if g.uniform() < 0.5])
        graph.add_nodes_from(names)
        if order.index("t") > order.index("y"):
            continue
        allowed = set("abcd") - nx.descendants(graph, "t")
        paths = [p for p in nx.all_simple_paths(graph.to_undirected(), "t", "y") if graph.has_edge(p[1], "t")]
        good = [
            set(Z)
            for size in range(5)
            for Z in itertools.combinations(sorted(allowed), size)
            if all(blocked(graph, tuple(p), set(Z)) for p in paths)
        ]
        least = [Z for Z in good if not any(other < Z for other in good)]
        assert [set(Z) for Z in identify(graph, "t", "y").backdoor_sets] == least
        some += any(least)
    assert some > 5


def test_paths_are_told_with_their_arrows() -> None:
    result = identify(parse("z -> t, z -> y\nt -> y; w -> t; w -> c; y -> c"), "t", "y")
    assert result.causal == ["t -> y"]
    assert set(result.backdoor) == {"t <- z -> y", "t <- w -> c <- y"} and result.open_ == ["t <- z -> y"]


def test_a_back_door_through_a_chain_is_open() -> None:
    result = identify(parse("b -> a -> t; b -> y; t -> y"), "t", "y")
    assert result.backdoor == result.open_ == ["t <- a <- b -> y"]


def test_graphs_come_from_files_too(tmp_path: Path) -> None:
    dot = 'strict digraph G {\n  // who causes whom\n  "z" -> t [label="x -> y"];\n  z -> y; /* and */ t -> y\n}\n'
    (tmp_path / "g.dot").write_text(dot)
    edges = {("z", "t"), ("z", "y"), ("t", "y")}
    assert set(read(str(tmp_path / "g.dot")).edges) == edges
    nx.write_gml(nx.DiGraph(sorted(edges)), tmp_path / "g.gml")
    assert set(read(str(tmp_path / "g.gml")).edges) == edges
    (tmp_path / "bad.gml").write_text("no graph")
    for source, says in (
        (str(tmp_path / "none.dot"), "no such file"),
        (str(tmp_path / "bad.gml"), "cannot read"),
        ("a -> b; b -> a", "is a cycle"),
        ("a => b", "is not an edge"),
    ):
        with pytest.raises(UserError, match=says):
            read(source)


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    names = ["--treatment=t", "--outcome=y"]
    assert main(["causal", "graph", "z -> t; z -> y; t -> y", *names, f"--json={tmp_path / 'g.json'}"]) == 0
    printed = capsys.readouterr().out
    assert "{z}" in printed and "t <- z -> y (open)" in printed and (tmp_path / "g.json").exists()
    assert main(["causal", "graph", "z -> t; z -> y; t -> y", *names, "--unobserved=z"]) == 0
    assert "no set of observed variables" in capsys.readouterr().out
    assert main(["causal", "graph", "z -> t; t -> y", "--treatment=tt", "--outcome=y"]) == 2
    assert "no 'tt', did you mean 't'?" in capsys.readouterr().err


def test_dowhy_says_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """Its output if it is installed, otherwise an error that says so."""
    given = ["causal", "graph", "u -> t; u -> y; t -> m -> y", "--treatment=t", "--outcome=y", "--unobserved=u"]
    if find_spec("dowhy") is None:
        assert main([*given, "--dowhy"]) == 2
        assert "dowhy is not installed" in capsys.readouterr().err
        return
    assert main([*given, "--dowhy"]) == 0
    assert "Full-mediation: m intercepts" in capsys.readouterr().out


def test_a_collider_is_named_beside_an_open_back_door_too() -> None:
    result = identify(parse("z -> t; z -> y; u -> t; u -> m; v -> m; v -> y; t -> y"), "t", "y", unobserved=["u", "v"])
    assert result.backdoor_sets == [("z",)] and result.colliders == ["m"]


@pytest.mark.parametrize("k", [12, 30])
def test_many_variables_take_no_longer(k: int) -> None:
    """Trying all subsets of thirty variables would never finish."""
    text = "; ".join(f"z{i} -> t; z{i} -> y" for i in range(k)) + "; t -> y"
    assert identify(parse(text), "t", "y").backdoor_sets == [tuple(sorted(f"z{i}" for i in range(k)))]
    assert identify(parse(text + "; u -> t; u -> y"), "t", "y", unobserved=["u"]).backdoor_sets == []
    names = [f"v{i}" for i in range(k)]
    whole = nx.DiGraph([(a, b) for i, a in enumerate(names) for b in names[i + 1 :]])
    result = identify(whole, names[k // 2], names[-1])
    assert len(result.causal) == min(100, 2 ** (k - 2 - k // 2)) and len(result.backdoor) == 100


def test_how_a_dot_file_is_drawn_is_left_out() -> None:
    graph = parse('strict digraph "g" { rankdir=LR; node [shape=box]; edge [color=red]\n a -> {b c}; {b; c} -> d; e }')
    assert set(graph.edges) == {("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")} and "e" in graph and len(graph) == 5
