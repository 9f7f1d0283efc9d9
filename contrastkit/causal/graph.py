"""Which variables to adjust for, according to a causal graph (Pearl, Causality, 2nd ed. 2009)."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

import networkx as nx

from contrastkit.causal import notation
from contrastkit.causal.separation import (
    LISTED,
    component,
    connected,
    connected_given,
    families,
    minimal_sets,
    simple_paths,
)
from contrastkit.directories import given_path, require_file
from contrastkit.errors import UserError, listed, suggest


def read(source: str) -> nx.DiGraph:
    """Read a graph from text (:func:`contrastkit.causal.notation.parse`), or from a .gml file, or one of text: .dot,
    .dag or .txt. Labels of a .gml file are read as text: 1 is "1".

    Raises:
        UserError: there is no such file, it cannot be read, two variables have the same name, or there is a cycle.
    """
    if not source.endswith((".dot", ".dag", ".txt", ".gml")):
        return _acyclic(notation.parse(source))
    path = given_path(source)
    require_file(path)
    if path.suffix != ".gml":
        try:
            return _acyclic(notation.parse(path.read_text("utf-8-sig")))
        except UnicodeDecodeError as error:
            raise UserError(f"cannot read {path}: it is not text") from error
    try:
        given = nx.read_gml(path)
    except RecursionError as error:
        raise UserError(f"cannot read {path}: its brackets are nested too deeply") from error
    except (nx.NetworkXError, ValueError, TypeError) as error:
        raise UserError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    if not given.is_directed():
        raise UserError(f"{path}: its edges have no direction: add 'directed 1'")
    graph = nx.DiGraph()
    for name in map(str, given):
        if name in graph:
            raise UserError(f"{path}: two variables are named {name}: rename one of them")
        graph.add_node(name)
    graph.add_edges_from((str(cause), str(effect)) for cause, effect in given.edges())
    return _acyclic(graph)


def _acyclic(graph: nx.DiGraph) -> nx.DiGraph:
    if not nx.is_directed_acyclic_graph(graph):
        cycle = [cause for cause, _ in nx.find_cycle(graph)]
        raise UserError(f"{' -> '.join(cycle[:8])} -> ... is a cycle: remove one of its edges")
    return graph


def marked(graph: nx.DiGraph, role: notation.Role) -> list[str]:
    """The variables with a role in the text of the graph."""
    return [name for name, roles in graph.nodes(data="roles") if roles and role in roles]


def question(graph: nx.DiGraph, treatment: str | None = None, outcome: str | None = None) -> tuple[str, str]:
    """Treatment and outcome: as given, or the exposure and the outcome that the graph marks.

    Raises:
        UserError: one is not given, and the graph marks none, or several.
    """
    found = []
    exposures, outcomes = marked(graph, "exposure"), marked(graph, "outcome")
    for given, known, option in ((treatment, exposures, "treatment"), (outcome, outcomes, "outcome")):
        names = known if given is None else [given]
        if len(names) != 1:
            among = f"; the graph marks {', '.join(names)}" if names else ""
            raise UserError(f"no single {option}: name it with --{option}{among}")
        found += names
    return found[0], found[1]


@dataclass(frozen=True)
class Identified:
    """What a graph implies about the effect of T on Y.

    Attributes:
        causal: directed paths from T to Y, as text, at most a hundred. backdoor: likewise the paths with an arrow into
            T; ``open_`` lists those that are open without adjustment.
        backdoor_sets: the minimal sets of observed variables that close all back-door paths: all for up to twelve
            candidates, otherwise some, at most a hundred; [()] if no adjustment is needed, [] if none suffices.
        frontdoor_sets: minimal sets of observed mediators with which the front-door formula identifies the effect;
            likewise.
        instruments: observed variables that affect T, and Y only through T.
        never: descendants of T: adjusting for them hides part of the effect or opens a path.
        colliders: non-descendants of T that, added to one of these sets, open a path that the set closes.
        adjusted: the variables that the text of the graph marks as adjusted for. adjusted_suffices: whether they are a
            back-door set: no descendants of T, and every back-door path is closed.
    """

    causal: list[str]
    backdoor: list[str]
    open_: list[str]
    backdoor_sets: list[tuple[str, ...]]
    frontdoor_sets: list[tuple[str, ...]]
    instruments: list[str]
    never: list[str]
    colliders: list[str]
    adjusted: list[str]
    adjusted_suffices: bool


def identify(graph: nx.DiGraph, T: str, Y: str, *, unobserved: Collection[str] = ()) -> Identified:
    """Identify the effect of T on Y from the observed variables.

    Args:
        unobserved: variables that are not measured, besides those that the graph marks as latent.

    Raises:
        UserError: a name is not in the graph, or T and Y are not two observed variables.
    """
    require_known(graph, [T, Y, *unobserved])
    hidden = {*unobserved, *marked(graph, "latent")}
    if T == Y or {T, Y} & hidden:
        raise UserError("treatment and outcome must be two different observed variables")
    descendants = nx.descendants(graph, T)
    between = descendants & nx.ancestors(graph, Y)
    observed = sorted(set(graph) - {T, Y} - hidden)
    before = [name for name in observed if name not in descendants]
    cut = graph.copy()
    cut.remove_edges_from(list(graph.out_edges(T)))
    back = list(islice(_back_doors(graph, T, Y), LISTED))
    sets, opening = _backdoor(cut, T, Y, before)
    mediators = [name for name in observed if name in between]
    moved, moving = connected(graph, T), connected(cut, Y)
    adjusted = [name for name in marked(graph, "adjusted") if name not in (T, Y)]
    return Identified(
        causal=[_text(graph, path) for path in islice(_causal(graph, T, Y), LISTED)],
        backdoor=[_text(graph, path) for path in back],
        open_=[_text(graph, path) for path in back if not _colliders(graph, path)],
        backdoor_sets=sets,
        frontdoor_sets=_frontdoor(graph, cut, T, Y, mediators),
        instruments=[name for name in before if name in moved and name not in moving],
        never=[name for name in observed if name in descendants],
        colliders=[name for name in before if name in opening],
        adjusted=adjusted,
        adjusted_suffices=set(adjusted) <= set(before) and adjusts(graph, T, Y, adjusted),
    )


def variables(graph: nx.DiGraph) -> list[str]:
    """The variables of a graph, without the nodes that stand for its edges a <-> b."""
    return [name for name in graph if not _is_common_cause(graph, name)]


def require_known(graph: nx.DiGraph, names: Collection[str]) -> None:
    """Raise a UserError if a name is not a variable of the graph."""
    known = variables(graph)
    for name in names:
        if name not in known:
            raise UserError(f"the graph has no '{name}'{suggest(name, known)} (it has {listed(known, 20) or 'none'})")


def adjusts(graph: nx.DiGraph, T: str, Y: str, Z: Collection[str]) -> bool:
    """Whether Z is a back-door set: no descendants of T, and every path into T is closed (Pearl 2009, Def. 3.3.1)."""
    cut = graph.copy()
    cut.remove_edges_from(list(graph.out_edges(T)))
    return {T, Y, *nx.descendants(graph, T)}.isdisjoint(Z) and nx.is_d_separator(cut, T, Y, set(Z))


def instruments_given(graph: nx.DiGraph, T: str, Y: str, W: Collection[str], *, among: Collection[str]) -> list[str]:
    """Those of the variables ``among`` that are instruments given W: neither they nor W are descendants of T, and given
    W they are connected with T, and with Y through T alone (Brito & Pearl 2002; van der Zander et al. 2015)."""
    cut, below = graph.copy(), {T, Y, *nx.descendants(graph, T)}
    cut.remove_edges_from(list(graph.out_edges(T)))
    if not below.isdisjoint(W):
        return []
    return [
        name
        for name in among
        if name not in below.union(W)
        and not nx.is_d_separator(graph, name, T, set(W))
        and nx.is_d_separator(cut, name, Y, set(W))
    ]


def mediates(graph: nx.DiGraph, T: str, Y: str, M: Collection[str], C: Collection[str] = ()) -> bool:
    """Whether the front-door formula holds with mediators M, given covariates C that precede them (Pearl 2009, Def.
    3.3.3): M intercept all directed paths, and the back doors from T to M and from M to Y are closed, these by T."""
    without, behind, ahead = graph.copy(), graph.copy(), graph.copy()
    without.remove_nodes_from(M)
    behind.remove_edges_from(list(graph.out_edges(T)))
    ahead.remove_edges_from(list(graph.out_edges(M)))
    return (
        {T, Y}.isdisjoint(M)
        and {*M, *nx.descendants(graph, T)}.isdisjoint(C)
        and Y not in nx.descendants(without, T)
        and nx.is_d_separator(behind, T, set(M), set(C))
        and nx.is_d_separator(ahead, set(M), Y, {T, *C})
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
    hidden = {*unobserved, *marked(graph, "latent")}
    observed = [name for name in graph if name not in hidden]
    return str(identify_effect_auto(graph, [T], [Y], observed, estimand_type=EstimandType.NONPARAMETRIC_ATE)).strip()


def _causal(graph: nx.DiGraph, T: str, Y: str) -> Iterator[list[str]]:
    towards = nx.ancestors(graph, Y) | {Y}
    return simple_paths(T, Y, lambda name: [effect for effect in graph.succ[name] if effect in towards])


def _back_doors(graph: nx.DiGraph, T: str, Y: str) -> Iterator[list[str]]:
    return simple_paths(T, Y, lambda name: [*graph.pred[name], *(() if name == T else graph.succ[name])])


def _backdoor(cut: nx.DiGraph, T: str, Y: str, before: list[str]) -> tuple[list[tuple[str, ...]], set[str]]:
    """The minimal sets of ``before`` that separate T and Y in the graph without the edges out of T, and the variables
    that open a path when added to one of them. Only ancestors of T and Y are in such a set (van der Zander et al.
    2014), and only others open a path: those below both what is joined to T and what is joined to Y."""
    ancestors = nx.ancestors(cut, T) | nx.ancestors(cut, Y) | {T, Y}
    near = families(cut, ancestors)
    candidates = [name for name in before if name in ancestors]
    sets = minimal_sets(candidates, lambda Z: Y not in component(near, T, Z))
    others = [name for name in nx.topological_sort(cut) if name not in ancestors]
    opening: set[str] = set()
    for Z in sets:
        below = []
        for end in (T, Y):
            joined = component(near, end, Z)
            for name in others:
                if not joined.isdisjoint(cut.pred[name]):
                    joined.add(name)
            below.append(joined - ancestors)
        opening |= below[0] & below[1]
    return sets, opening


def _frontdoor(graph: nx.DiGraph, cut: nx.DiGraph, T: str, Y: str, mediators: list[str]) -> list[tuple[str, ...]]:
    """The minimal sets of mediators of Pearl's Definition 3.3.3: they intercept all directed paths, T and they share no
    open back door, and T closes those of them and Y."""
    if not mediators:
        return []
    behind = connected(cut, T)
    relevant = nx.ancestors(graph, T) | nx.ancestors(graph, Y) | {T, Y}
    causes = {name: list(graph.pred[name]) for name in relevant}
    effects = {name: [effect for effect in graph.succ[name] if effect in relevant] for name in relevant}

    def suffices(M: set[str]) -> bool:
        """Whether a part of M is such a set. The last condition does not hold for all supersets, but this does: what
        has an open back door under all of M has one under any part of it, which keeps more edges."""
        while Y not in component(effects, T, M):
            exposed = M & connected_given(causes, effects, Y, T, M)
            if not exposed:
                return True
            M = M - exposed
        return False

    return minimal_sets([name for name in mediators if name not in behind], suffices)


def _colliders(graph: nx.DiGraph, path: list[str]) -> list[str]:
    return [
        b for a, b, c in zip(path, path[1:], path[2:], strict=False) if graph.has_edge(a, b) and graph.has_edge(c, b)
    ]


def _text(graph: nx.DiGraph, path: list[str]) -> str:
    text = path[0]
    for a, b in pairwise(path):
        if not _is_common_cause(graph, b):
            arrow = "<->" if _is_common_cause(graph, a) else "->" if graph.has_edge(a, b) else "<-"
            text += f" {arrow} {b}"
    return text


def _is_common_cause(graph: nx.DiGraph, name: str) -> bool:
    """Whether a node is no variable of its own, but stands for an edge a <-> b."""
    return " <-> " in name and name == " <-> ".join(sorted(graph.succ[name])) and not graph.pred[name]
