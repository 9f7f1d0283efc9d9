"""Paths and separation in acyclic graphs (Pearl, Causality, 2nd ed. 2009), each answer in time linear in the graph."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import networkx as nx

LISTED = 100  # maximum number of paths, and of minimal sets
BRANCHES = 2**12  # of the search for minimal sets, which is complete for twelve candidates


def simple_paths(start: str, goal: str, neighbours: Callable[[str], Iterable[str]]) -> Iterator[list[str]]:
    """All paths without a repeated node, those through the first neighbours first."""
    path = _completed([start], neighbours(start), goal, neighbours)
    while path:
        yield path
        place = {name: i for i, name in enumerate(path)}
        for i in reversed(range(len(path) - 1)):
            options = list(neighbours(path[i]))
            later = options[options.index(path[i + 1]) + 1 :]
            untried = [name for name in later if place.get(name, i + 1) > i]
            if untried and (longer := _completed(path[: i + 1], untried, goal, neighbours)):
                path = longer
                break
        else:
            return


def _completed(
    path: list[str], options: Iterable[str], goal: str, neighbours: Callable[[str], Iterable[str]]
) -> list[str] | None:
    """The first completion of the path to the goal through one of the options, by depth-first search: what it leaves
    without having found the goal leads nowhere, because the way ahead is blocked by the path alone."""
    tail: list[str] = []
    seen, ahead = set(path), [iter(options)]
    while ahead:
        name = next((name for name in ahead[-1] if name not in seen), None)
        if name is None:
            ahead.pop()
            del tail[-1:]
            continue
        tail.append(name)
        if name == goal:
            return path + tail
        seen.add(name)
        ahead.append(iter(neighbours(name)))
    return None


def families(graph: nx.DiGraph, names: Collection[str]) -> dict[Any, list[Any]]:
    """The moral graph of an ancestral set of names. Instead of an edge for each pair of a family (a variable and its
    causes) each has a node of its own, the tuple (variable,): the graph stays as small as the original."""
    near: dict[Any, list[Any]] = {name: [] for name in names}
    for name in near.copy():
        near[name,] = [name, *graph.predecessors(name)]
        for member in near[name,]:
            near[member].append((name,))
    return near


def component(near: Mapping[Any, Iterable[Any]], start: str, closed: Collection[str]) -> set[Any]:
    """What is reached from ``start`` without entering ``closed``."""
    reached, pending = {start}, [start]
    while pending:
        for other in near[pending.pop()]:
            if other not in reached and other not in closed:
                reached.add(other)
                pending.append(other)
    return reached


def connected(graph: nx.DiGraph, name: str) -> set[str]:
    """The variables that are d-connected with this one without adjustment, itself included: a common cause, or one of
    them, leads to both."""
    causes = {name} | nx.ancestors(graph, name)
    return causes.union(*nx.bfs_layers(graph, causes))


def connected_given(
    causes: Mapping[str, Iterable[str]], effects: Mapping[str, Iterable[str]], name: str, given: str, mute: set[str]
) -> set[str]:
    """The variables that are d-connected with ``name`` given another one, in the graph without the edges out of
    ``mute`` (Shachter 1998)."""
    opened = component(causes, given, mute - {given})
    risen, fallen = {name}, set[str]()  # reached from an effect, or from a cause
    rising, falling = [name], list[str]()
    while rising or falling:
        from_effect = bool(rising)
        at = (rising or falling).pop()
        if at != given if from_effect else at in opened:
            new = [cause for cause in causes[at] if cause not in risen and cause not in mute]
            risen.update(new)
            rising += new
        if at != given and at not in mute:
            new = [effect for effect in effects[at] if effect not in fallen]
            fallen.update(new)
            falling += new
    return (risen | fallen) - {given}


def minimal_sets(candidates: Sequence[str], holds: Callable[[set[str]], bool]) -> list[tuple[str, ...]]:
    """The minimal sets of candidates for which ``holds``, which must hold for their supersets too, smallest first: all
    for up to twelve candidates, otherwise as many as a bounded search finds, at most a hundred.

    Any further minimal set lacks a member of each one found (Reiter 1987): one branch for each."""
    if holds(set()):
        return [()]
    found: list[frozenset[str]] = []
    branches: set[frozenset[str]] = {frozenset()}
    pending: list[frozenset[str]] = [frozenset()]
    for lacking in pending:
        if len(found) == LISTED:
            break
        least = next((known for known in found if not known & lacking), None)
        if least is None:
            rest = [name for name in candidates if name not in lacking]
            if not holds(set(rest)):
                continue
            least = frozenset(_necessary(set(), False, rest, holds))
            found.append(least)
        for name in sorted(least):
            branch = lacking | {name}
            if branch not in branches and len(branches) < BRANCHES:
                branches.add(branch)
                pending.append(branch)
    return sorted((tuple(sorted(names)) for names in found), key=lambda names: (len(names), names))


def _necessary(base: set[str], tried: bool, rest: list[str], holds: Callable[[set[str]], bool]) -> list[str]:
    """A minimal part of ``rest`` that, with ``base``, holds (QuickXplain; Junker 2004): few questions if it is small.
    ``tried``: whether the base has grown, so that it may do alone."""
    if tried and holds(base):
        return []
    if len(rest) == 1:
        return rest
    first, second = rest[: len(rest) // 2], rest[len(rest) // 2 :]
    kept = _necessary(base | set(first), True, second, holds)
    return _necessary(base | set(kept), bool(kept), first, holds) + kept
