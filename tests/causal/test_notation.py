"""Graphs as text: dagitty's examples with the edges that its manual draws, and random graphs in random writing."""

import re

import networkx as nx
import numpy as np
import pytest

from contrastkit.causal.graph import identify, marked, question, read
from contrastkit.causal.notation import parse
from contrastkit.cli.main import main
from contrastkit.errors import UserError

DAGITTY = """dag {
bb="-5.2,-6.2,5.3,5.3"
"birth weight" [exposure,pos="-2.2,-1.5"]
D [outcome,pos="1.4,-1.5"]
E-1 [adjusted, pos="-2.2, [1.6]"]  // a comment
U [latent,pos="0,0"]
Z [pos="-0.3,-0.1"]
"birth weight" -> D [beta=".3"]
E-1 -> "birth weight" E-1 -> Z
U -> {D Z}; Z <-> W
}
"""


def test_a_graph_of_dagitty() -> None:
    graph = parse(DAGITTY)
    b = "birth weight"
    assert set(graph.edges) == {
        (b, "D"), ("E-1", b), ("E-1", "Z"), ("U", "D"), ("U", "Z"), ("W <-> Z", "W"), ("W <-> Z", "Z"),
    }  # fmt: skip
    assert set(graph) == {b, "D", "E-1", "U", "Z", "W", "W <-> Z"}
    assert (marked(graph, "exposure"), marked(graph, "outcome"), marked(graph, "adjusted")) == ([b], ["D"], ["E-1"])
    assert set(marked(graph, "latent")) == {"U", "W <-> Z"}
    assert question(graph) == (b, "D") and question(graph, "Z", "W") == ("Z", "W")
    assert identify(graph, b, "D").adjusted_suffices  # of b <- E-1 -> Z <- U -> D the collider Z is left alone
    assert parse("dag{ X [exposure] Y [outcome] X -> Y <- Z }").edges == {("X", "Y"): 0, ("Z", "Y"): 0}.keys()


@pytest.mark.parametrize(
    ("text", "edges"),
    [
        ("a-b -> c-d-e", {("a-b", "c-d-e")}),
        ("a->b", {("a", "b")}),
        ("a<-b", {("b", "a")}),
        ("a-1->b-2<-c", {("a-1", "b-2"), ("c", "b-2")}),
        ("y <- t -> m; m <- u", {("t", "y"), ("t", "m"), ("u", "m")}),
        ("{a b} -> c <- {d}", {("a", "c"), ("b", "c"), ("d", "c")}),
        ("birth  weight -> x\nx -> y", {("birth weight", "x"), ("x", "y")}),
        ('"a -> b" -> "c;d"', {("a -> b", "c;d")}),
        ("digraph { a ->\n b }", {("a", "b")}),
        ("digraph { subgraph cluster_1 { label=x; a -> b } -> c }", {("a", "b"), ("a", "c"), ("b", "c")}),
        ("dag { a -> b b -> c }", {("a", "b"), ("b", "c")}),
        ("graph -> node", {("graph", "node")}),
        ("größe -> 体重", {("größe", "体重")}),
    ],
)
def test_ways_to_write_edges(text: str, edges: set[tuple[str, str]]) -> None:
    assert set(parse(text).edges) == edges


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a -> b\nb ->", 2, "'b ->' is not an edge"),
        ("a -> b\n-> c\nd -> e", 2, "'-> c' is not an edge"),
        ("a -> b\n\nb -> c [x", 3, "it is not closed: write ] behind it"),
        ("a -> b\n'c -> d", 2, "''c -> d' is not an edge"),
        ('a -> b; "c -> d', 1, 'it is not closed: write " behind it'),
        ("dag {\na -> b\n", 2, "is not an edge"),
        ("dag {\na -> b }\n}", 3, "'}' is not an edge"),
        ("dag {\na -- b }", 2, "it has no direction; write ->, or <-> for a hidden common cause"),
        ("a -> b\na -- b", 2, "it has no direction"),
        ("a @-> b", 1, "'a @-> b' is not an edge"),
        ("a -> -> b", 1, "is not an edge"),
        ("a <-> a", 1, "joins a variable with itself"),
        ('"" -> a', 1, "is not an edge"),
        ("{" * 60 + "a" + "}" * 60, 1, "nested more than 50 deep"),
    ],
)
def test_what_is_damaged_is_one_line_with_its_number(text: str, line: int, says: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)) as error:
        parse(text)
    assert f"line {line}: " in str(error.value) and "\n" not in str(error.value)


def test_random_graphs_in_random_writing() -> None:
    g = np.random.default_rng(0)
    for _ in range(200):
        names = ["a1", "b-2", "c.3", "d_4", "e-x-5", "6"]
        edges = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if g.uniform() < 0.4]
        parts = [f"{a} -> {b}" if g.uniform() < 0.5 else f"{b}<-{a}" for a, b in edges]
        parts = [f'"{part.split()[0]}"{part[len(part.split()[0]):]}' if " -> " in part and g.uniform() < 0.3 else part
                 for part in parts]  # fmt: skip
        parts = [*g.permutation([*parts, *names])]
        text = g.choice(["; ", "\n", ",", " ;\n\n"]).join(parts)
        form = g.choice(["{}", "dag {{ {} }}", "digraph g {{\n{}\n}}", "strict digraph {{{}}}"])
        graph = parse(form.format(text))
        expected = nx.DiGraph(edges)
        expected.add_nodes_from(names)
        assert set(graph.edges) == set(expected.edges) and set(graph) == set(expected), text


def test_a_hidden_common_cause_is_one_and_has_no_name() -> None:
    """``a <-> b`` is the canonical graph with a latent cause (Pearl 2009, Sec. 2.6), told with its own arrow."""
    short, whole = parse("t -> y; t <-> y; z -> t; m <-> z"), parse("t -> y; u -> t; u -> y; z -> t; v -> m; v -> z")
    one, other = identify(short, "t", "y"), identify(whole, "t", "y", unobserved=["u", "v"])
    assert one.backdoor == one.open_ == ["t <-> y"] and other.backdoor == ["t <- u -> y"]
    for name in ("backdoor_sets", "frontdoor_sets", "instruments", "colliders", "never"):
        assert getattr(one, name) == getattr(other, name)
    assert one.backdoor_sets == [] and one.instruments == ["m", "z"]
    bow = identify(parse("a <-> t; a <-> y; t -> y"), "t", "y")
    assert bow.backdoor == ["t <-> a <-> y"] and bow.backdoor_sets == [()] and bow.colliders == ["a"]
    with pytest.raises(UserError, match=r"no 'u' \(it has t, y, z, m\)"):
        identify(short, "u", "y")


def test_what_the_graph_marks_as_adjusted_is_judged() -> None:
    base = "dag {{ z [adjusted] t [exposure] y [outcome] z -> {{t y}} t -> m -> y {} }}"
    for more, suffices in (("", True), ("m [adjusted]", False), ("u -> {t y} u [latent]", False)):
        graph = parse(base.format(more))
        result = identify(graph, *question(graph))
        assert result.adjusted_suffices is suffices and result.adjusted[0] == "z"


def test_the_command_asks_for_what_the_graph_does_not_mark(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "g.dag").write_text("\ufeff" + DAGITTY)
    assert main(["causal", "graph", str(tmp_path / "g.dag")]) == 0
    printed = capsys.readouterr().out
    assert "effect of birth weight on D" in printed and "{E-1} closes every back-door path" in printed
    assert printed.count("(closed)") == 1
    assert main(["causal", "graph", "dag { a [exposure] b [exposure] a -> y b -> y }", "--outcome=y"]) == 2
    assert "no single treatment: name it with --treatment; the graph marks a, b" in capsys.readouterr().err
    assert main(["causal", "graph", "a -> y", "--treatment=a"]) == 2
    assert "no single outcome: name it with --outcome" in capsys.readouterr().err
    with pytest.raises(UserError, match="is a cycle"):
        read("a -> b <- c; b -> c")
