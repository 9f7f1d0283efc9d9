"""Which variables to adjust for, according to a causal graph (Pearl, Causality, 2nd ed. 2009)."""

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import combinations, islice, pairwise, product
from pathlib import Path

import networkx as nx

from contrastkit.errors import UserError, suggest

MANY = 12  # candidates; with more, a single back-door set is found, and front-door sets of at most FEW variables
FEW = 3
PATHS = 100  # maximum number listed


def parse(text: str) -> nx.DiGraph:
    """Parse a graph such as ``a -> b -> c; d -> b``: edges separated by ``;``, commas or new lines; a single name is a
    node. Other syntax of .dot files (``digraph {}``, ``[...]``, comments, quotes) is ignored.

    Raises:
        UserError: the text is not a list of edges, or the graph has a cycle.
    """
    text = re.sub(r"//[^\n]*|#[^\n]*|/\*.*?\*/|\[[^\]]*\]", "", text, flags=re.S)
    text, dots = re.subn(r"^\s*(strict\s+)?digraph\b[^{]*\{(.*)\}\s*$", r"\2", text, flags=re.S)
    text = re.sub(r"\{([^{}]*)\}", lambda group: "{" + " ".join(re.split(r"[\s;,]+", group[1].strip())) + "}", text)
    graph = nx.DiGraph()
    for part in re.split(r"[;,\n]", text):
        ends = [name.strip().strip('"') for name in part.split("->")]
        if ends == [""] or dots and (ends[0] in ("graph", "node", "edge") or re.fullmatch(r"\w+\s*=.*", ends[0])):
            continue  # empty, or drawing attributes
        groups = [end[1:-1].split() if re.fullmatch(r"\{[^{}]*\}", end) else [end] for end in ends]
        for name in (name for group in groups for name in group):
            if not re.fullmatch(r"[\w .:+]+", name):
                raise UserError(f"'{part.strip()}' is not an edge: write a -> b; b -> c")
        graph.add_nodes_from(groups[0])
        for causes, effects in pairwise(groups):
            graph.add_edges_from(product(causes, effects))
    return _acyclic(graph)


def read(source: str) -> nx.DiGraph:
    """Read a graph from a .dot or .gml file, or from text (:func:`parse`).

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    if not source.endswith((".dot", ".gml")):
        return parse(source)
    path = Path(source).expanduser()
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    if path.suffix == ".dot":
        try:
            return parse(path.read_text("utf-8"))
        except UnicodeDecodeError as error:
            raise UserError(f"cannot read {path}: it is not text") from error
    try:
        return _acyclic(nx.DiGraph(nx.read_gml(path)))
    except (nx.NetworkXError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def _acyclic(graph: nx.DiGraph) -> nx.DiGraph:
    if not nx.is_directed_acyclic_graph(graph):
        cycle = " -> ".join(str(edge[0]) for edge in nx.find_cycle(graph))
        raise UserError(f"{cycle} -> ... is a cycle: remove one of its edges")
    return graph


@dataclass(frozen=True)
class Identified:
    """What a graph implies about the effect of T on Y.

    Attributes:
        causal: directed paths from T to Y, as text, at most a hundred. backdoor: likewise the paths with an arrow into
            T; ``open_`` lists those that are open without adjustment.
        backdoor_sets: the minimal sets of observed variables that close all back-door paths; [()] if no adjustment is
            needed, [] if none suffices.
        frontdoor_sets: minimal sets of observed mediators with which the front-door formula identifies the effect.
        instruments: observed variables that affect T, and Y only through T.
        never: descendants of T: adjusting for them hides part of the effect or opens a path.
        colliders: non-descendants of T that, added to one of these sets, open a path that the set closes.
    """

    causal: list[str]
    backdoor: list[str]
    open_: list[str]
    backdoor_sets: list[tuple[str, ...]]
    frontdoor_sets: list[tuple[str, ...]]
    instruments: list[str]
    never: list[str]
    colliders: list[str]


def identify(graph: nx.DiGraph, T: str, Y: str, *, unobserved: Collection[str] = ()) -> Identified:
    """Identify the effect of T on Y from the observed variables.

    Raises:
        UserError: a name is not in the graph, or T and Y are not two observed variables.
    """
    for name in (T, Y, *unobserved):
        if name not in graph:
            raise UserError(f"the graph has no '{name}'{suggest(name, graph.nodes)} (it has {', '.join(graph)})")
    if T == Y or {T, Y} & set(unobserved):
        raise UserError("treatment and outcome must be two different observed variables")
    descendants = nx.descendants(graph, T)
    observed = sorted(set(graph) - {T, Y} - set(unobserved))
    before = [name for name in observed if name not in descendants]
    cut = without(graph, out_of=[T])
    back = list(islice(_back_doors(graph, T, Y), PATHS))
    sets = _backdoor(cut, T, Y, before)
    mediators = [name for name in observed if name in descendants and Y in nx.descendants(graph, name)]
    return Identified(
        causal=[_text(graph, path) for path in islice(nx.all_simple_paths(graph, T, Y), PATHS)],
        backdoor=[_text(graph, path) for path in back],
        open_=[_text(graph, path) for path in back if not _colliders(graph, path)],
        backdoor_sets=sets,
        frontdoor_sets=[M for M in _minimal(mediators, lambda M: _front(graph, T, Y, M)) if M],
        instruments=[
            name
            for name in before
            if not nx.is_d_separator(graph, {name}, {T}, set()) and nx.is_d_separator(cut, {name}, {Y}, set())
        ],
        never=[name for name in observed if name in descendants],
        colliders=[
            name
            for name in before
            if any(not nx.is_d_separator(cut, {T}, {Y}, {*Z, name}) for Z in sets if name not in Z)
        ],
    )


def by_dowhy(graph: nx.DiGraph, T: str, Y: str, *, unobserved: Collection[str] = ()) -> str:
    """The output of the package dowhy: back door, front door, instruments and general adjustment sets.

    Raises:
        UserError: dowhy is not installed.
    """
    try:
        from dowhy.causal_identifier import EstimandType, identify_effect_auto
    except ImportError as error:
        raise UserError("dowhy is not installed: pip install dowhy") from error
    observed = [name for name in graph if name not in unobserved]
    return str(identify_effect_auto(graph, [T], [Y], observed, estimand_type=EstimandType.NONPARAMETRIC_ATE)).strip()


def without(graph: nx.DiGraph, *, out_of: Collection[str]) -> nx.DiGraph:
    """A copy of the graph without the edges that leave these variables."""
    cut = graph.copy()
    cut.remove_edges_from(list(graph.out_edges(out_of)))
    return cut


def _front(graph: nx.DiGraph, T: str, Y: str, M: set[str]) -> bool:
    """Pearl's Definition 3.3.3: M intercepts all directed paths, T and M share no open back door, and T closes those of
    M and Y."""
    rest = graph.subgraph(set(graph) - M)
    if nx.has_path(rest, T, Y) or not M:
        return False
    first = nx.is_d_separator(without(graph, out_of=[T]), {T}, M, set())
    return first and nx.is_d_separator(without(graph, out_of=M), M, {Y}, {T})


def _backdoor(cut: nx.DiGraph, T: str, Y: str, before: list[str]) -> list[tuple[str, ...]]:
    """The minimal sets of ``before`` that separate T and Y in the graph without the edges out of T; a single one if
    there are many candidates."""
    ancestors = nx.ancestors(cut, T) | nx.ancestors(cut, Y)
    candidates = [name for name in before if name in ancestors]
    if not nx.is_d_separator(cut, {T}, {Y}, set(candidates)):  # then no set does (van der Zander et al. 2014)
        return []
    if len(candidates) <= MANY:
        return _minimal(candidates, lambda Z: nx.is_d_separator(cut, {T}, {Y}, Z))
    separator = nx.find_minimal_d_separator(cut, {T}, {Y}, restricted=set(candidates))
    return [tuple(sorted(separator))]


def _minimal(candidates: list[str], holds: Callable[[set[str]], bool]) -> list[tuple[str, ...]]:
    """The minimal sets of candidates for which ``holds``, smallest first."""
    sets: list[tuple[str, ...]] = []
    for size in range((len(candidates) if len(candidates) <= MANY else FEW) + 1):
        for subset in combinations(candidates, size):
            if not any(set(smaller) <= set(subset) for smaller in sets) and holds(set(subset)):
                sets.append(subset)
    return sets


def _back_doors(graph: nx.DiGraph, T: str, Y: str) -> Iterator[list[str]]:
    rest = graph.subgraph(set(graph) - {T}).to_undirected(as_view=True)
    for cause in graph.predecessors(T):
        for path in nx.all_simple_paths(rest, cause, Y):
            yield [T, *path]


def _colliders(graph: nx.DiGraph, path: list[str]) -> list[str]:
    return [
        b for a, b, c in zip(path, path[1:], path[2:], strict=False) if graph.has_edge(a, b) and graph.has_edge(c, b)
    ]


def _text(graph: nx.DiGraph, path: list[str]) -> str:
    arrows = [" -> " if graph.has_edge(a, b) else " <- " for a, b in zip(path, path[1:], strict=False)]
    return path[0] + "".join(arrow + name for arrow, name in zip(arrows, path[1:], strict=True))
