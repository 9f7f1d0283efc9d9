"""Identification on the textbook's graphs, and against d-separation written out over all paths."""

import itertools
import re
from importlib.util import find_spec
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from contrastkit.causal.graph import identify, read
from contrastkit.causal.notation import parse
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


def separated(graph: nx.DiGraph, a: str, b: str, Z: set[str]) -> bool:
    return all(blocked(graph, tuple(path), Z) for path in nx.all_simple_paths(graph.to_undirected(), a, b))


def front_door(graph: nx.DiGraph, M: set[str]) -> bool:
    """Definition 3.3.3 of Pearl 2009, path by path."""
    if any(not M & set(path) for path in nx.all_simple_paths(graph, "t", "y")):
        return False
    doors = [p for m in M for p in nx.all_simple_paths(graph.to_undirected(), "t", m) if graph.has_edge(p[1], "t")]
    if not all(blocked(graph, tuple(p), set()) for p in doors):
        return False
    rest = nx.DiGraph([edge for edge in graph.edges if edge[0] not in M])
    rest.add_nodes_from(graph)
    return all(separated(rest, m, "y", {"t"}) for m in M)


@pytest.mark.slow
def test_front_doors_instruments_and_colliders_of_random_graphs() -> None:
    """Hidden variables among them: with all observed, few graphs have an instrument or need a front door."""
    g = np.random.default_rng(1)
    found = {"front": 0, "instruments": 0, "colliders": 0, "paths": 0}
    for _ in range(2000):
        names = ["t", "y", "a", "b", "c", "d", "e"]
        order = g.permutation(names).tolist()
        if order.index("t") > order.index("y"):
            continue
        graph = nx.DiGraph([(u, v) for u, v in itertools.combinations(order, 2) if g.uniform() < 0.3])
        graph.add_nodes_from(names)
        hidden = set(g.permutation(list("abcde"))[: g.integers(3)].tolist())
        result = identify(graph, "t", "y", unobserved=hidden)
        observed, below = sorted(set("abcde") - hidden), nx.descendants(graph, "t")
        mediators = [m for m in observed if m in below and "y" in nx.descendants(graph, m)]
        every = [set(M) for size in range(1, 6) for M in itertools.combinations(mediators, size)]
        good = [M for M in every if front_door(graph, M)]
        assert list(map(set, result.frontdoor_sets)) == [M for M in good if not any(other < M for other in good)]
        cut = graph.copy()
        cut.remove_edges_from(list(graph.out_edges("t")))
        before = [name for name in observed if name not in below]
        assert result.instruments == [
            z for z in before if not separated(graph, z, "t", set()) and separated(cut, z, "y", set())
        ]
        assert result.colliders == [
            name
            for name in before
            if any(not separated(cut, "t", "y", {*Z, name}) for Z in result.backdoor_sets if name not in Z)
        ]
        plain = graph.to_undirected()
        doors = [p for p in nx.all_simple_paths(plain, "t", "y") if graph.has_edge(p[1], "t")]
        assert sorted(re.split(" -> | <- ", path) for path in result.backdoor) == sorted(doors)[:100]
        causal = nx.all_simple_paths(graph, "t", "y")
        assert sorted(path.split(" -> ") for path in result.causal) == sorted(causal)
        for name, some in zip(found, (good, result.instruments, result.colliders, doors), strict=True):
            found[name] += bool(some)
    assert min(found.values()) > 10, found


def test_a_clique_beside_the_ways_to_the_outcome_takes_no_time() -> None:
    """Its simple paths, of which none reaches the outcome, are as many as the orders of its variables."""
    names = [f"a{i}" for i in range(40)]
    clique = "; ".join(f"{a} -> {b}" for a, b in itertools.combinations(names, 2))
    result = identify(parse(f"u -> t; t -> y; u -> a0; {clique}"), "t", "y")
    assert result.causal == ["t -> y"] and result.backdoor == [] and result.backdoor_sets == [()]
    assert result.instruments == [*sorted(names), "u"]


@pytest.mark.slow
def test_large_graphs_take_seconds() -> None:
    n = 1000
    chain = identify(parse(" -> ".join(["t", *(f"m{i}" for i in range(n)), "y"])), "t", "y")
    assert len(chain.causal) == 1 and chain.causal[0].count("->") == n + 1 and len(chain.never) == n
    assert len(chain.frontdoor_sets) == 100 and all(len(M) == 1 for M in chain.frontdoor_sets)
    n = 5000
    back = "t <- " + " <- ".join(f"z{i}" for i in range(n))
    edges = "; ".join(f"z{i + 1} -> z{i}" for i in range(n - 1))
    confounded = identify(parse(f"z0 -> t; {edges}; z{n - 1} -> y; t -> y"), "t", "y")
    assert confounded.backdoor == confounded.open_ == [f"{back} -> y"]
    assert len(confounded.backdoor_sets) == 100 and all(len(Z) == 1 for Z in confounded.backdoor_sets)
    many = [f"m{i}" for i in range(200)]
    parallel = identify(parse("; ".join(f"t -> {m} -> y" for m in many)), "t", "y")
    assert parallel.frontdoor_sets == [tuple(sorted(many))] and len(parallel.causal) == 100


def test_some_minimal_sets_are_found_where_there_are_many() -> None:
    """Rungs of a ladder between treatment and outcome."""
    edges = "; ".join(f"l{i + 1} -> l{i} -> r{i}; r{i + 1} -> r{i}" for i in range(60))
    graph = parse(f"{edges}; l0 -> t; r0 -> t; l60 -> y; r60 -> y; t -> y")
    sets = identify(graph, "t", "y").backdoor_sets
    assert 12 < len(set(sets)) == len(sets) <= 100
    cut = nx.DiGraph([edge for edge in graph.edges if edge != ("t", "y")])
    for Z in sets[::3]:
        assert nx.is_d_separator(cut, "t", "y", set(Z))
        assert not any(nx.is_d_separator(cut, "t", "y", set(Z) - {name}) for name in Z)


def test_many_minimal_sets_are_cut_short() -> None:
    """One of each of fifty pairs: 2^50 sets."""
    text = "; ".join(f"a{i} -> t; b{i} -> a{i}; b{i} -> y" for i in range(50))
    sets = identify(parse(f"{text}; t -> y"), "t", "y").backdoor_sets
    assert len(set(sets)) == 100
    for Z in sets:
        assert sorted(int(name[1:]) for name in Z) == list(range(50))


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


@pytest.mark.parametrize(
    ("suffix", "text", "says"),
    [
        ("dot", "[" * 100_000, "is not closed"),
        ("dot", "a -> b " + "/* " * 50_000, "is not closed"),
        ("dot", "digraph {" * 10_000, "is not an edge"),
        ("dot", "{" * 100_000, "is not an edge"),
        ("dot", "}" * 100_000, "is not an edge"),
        ("dot", "{" + " ".join(f"a{i}" for i in range(8000)) + "} -> {" + " ".join(f"b{i}" for i in range(8000)) + "}",
         "more than 1,000,000 edges"),
        ("dot", " -> ".join(f"v{i % 5000}" for i in range(5001)), "v0 -> .* is a cycle"),
        ("gml", "graph [ " * 20_000 + "]" * 20_000, "nested too deeply"),
        ("gml", "[" * 100_000, "cannot read"),
        ("gml", 'graph [ directed 1 node [ id 0 label "a" ] node [ id 1 label "a" ] ]', "duplicated"),
        ("gml", 'graph [ directed 1 node [ id 0 label 1 ] node [ id 1 label "1" ] ]', "two variables are named 1"),
        ("gml", "graph [ directed 1 node [ id 0 label [ a 1 ] ] ]", "cannot read"),
        ("gml", 'graph [ node [ id 0 label "a" ] node [ id 1 label "b" ] edge [ source 0 target 1 ] ]', "no direction"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_graph_is_one_line(
    suffix: str, text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / f"g.{suffix}").write_text(text)
    assert main(["causal", "graph", str(tmp_path / f"g.{suffix}"), "--treatment=t", "--outcome=y"]) == 2
    told = capsys.readouterr().err.strip()
    assert re.search(says, told) and "\n" not in told and len(told) < 500


def test_numbers_name_variables_too(tmp_path: Path) -> None:
    nodes = " ".join(f"node [ id {i} label {i} ]" for i in (1, 2, 3))
    edges = " ".join(f"edge [ source {a} target {b} ]" for a, b in ((1, 2), (1, 3), (2, 3)))
    (tmp_path / "g.gml").write_text(f"graph [ directed 1 {nodes} {edges} ]")
    assert identify(read(str(tmp_path / "g.gml")), "2", "3").backdoor_sets == [("1",)]


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
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())  # in a cell, whose lines are broken
    assert "Full-mediation: m intercepts" in said


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
