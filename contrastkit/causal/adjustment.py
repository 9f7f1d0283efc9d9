"""The columns to adjust for, according to a causal graph."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from contrastkit.causal import graph as graphs
from contrastkit.errors import UserError, listed


class Adjustment(NamedTuple):
    """Treatment, outcome and covariates of a graph, and a sentence that says why these."""

    treatment: str
    outcome: str | None
    covariates: Sequence[str]
    sentence: str


def adjustment(
    source: str | None,
    columns: Iterable[Any],
    treatment: str | None = None,
    outcome: str | None = None,
    covariates: Sequence[str] = (),
) -> Adjustment:
    """What to adjust for among the columns of a table: the covariates given, if the graph allows them, else the
    smallest set that closes every back-door path, of equal ones the first.

    Args:
        source: a causal graph (:func:`contrastkit.causal.graph.read`). Its variables that are no columns are taken as
            unobserved. None leaves all as it is given.
        treatment, outcome: None for those that the graph marks.

    Raises:
        UserError: no graph, no such variables, no set of columns closes every path, or not those given; none need be
            adjusted for and none is given; or, without a graph, no treatment or no covariates.
    """
    if source is None:
        if treatment is None:
            raise UserError("no treatment: name the column with --treatment")
        if not covariates:
            raise UserError("no covariates: name the columns to adjust for with --covariates")
        return Adjustment(treatment, outcome, covariates, "")
    causes, known = graphs.read(source), set(map(str, columns))
    T, Y = graphs.question(causes, treatment, outcome)
    graphs.require_known(causes, [T, Y, *covariates])
    latent = graphs.marked(causes, "latent")
    absent = [name for name in graphs.variables(causes) if name not in {T, Y, *latent, *known}]
    missing = f"; not in the table: {listed(absent, 6)}" if absent else ""
    if covariates:
        if not graphs.adjusts(causes, T, Y, covariates):
            raise UserError(
                f"according to the graph, {listed(covariates, 6)} is no set to adjust for: leave --covariates out, and "
                "it is chosen, or see contrastkit causal graph"
            )
        return Adjustment(T, Y, tuple(covariates), f"the graph allows adjusting for {', '.join(covariates)}{missing}")
    found = graphs.identify(causes, T, Y, unobserved=absent)
    if not found.backdoor_sets:
        raise UserError(_no_set(causes, T, Y, found, absent))
    chosen = min(found.backdoor_sets, key=len)
    if not chosen:
        raise UserError(
            f"the graph has no open back-door path from {T} to {Y}: no adjustment is needed; for a more precise "
            f"estimate, name with --covariates a column that precedes {T}"
        )
    others = "" if len(found.backdoor_sets) == 1 else f", the smallest of {len(found.backdoor_sets)} sets"
    return Adjustment(T, Y, chosen, f"the graph says to adjust for {', '.join(chosen)}{others}{missing}")


def _no_set(causes: Any, T: str, Y: str, found: graphs.Identified, absent: Sequence[str]) -> str:
    """Why no set of columns will do, and what else there is."""
    commands, ways = [], []
    if found.instruments:
        commands.append(f"contrastkit causal iv --instruments {','.join(found.instruments)}")
    if found.frontdoor_sets:
        commands.append(f"contrastkit causal front-door --mediators {','.join(found.frontdoor_sets[0])}")
    if commands:
        ways.append(f"use {' or '.join(commands)}")
    measured = graphs.identify(causes, T, Y).backdoor_sets if absent else []
    if measured:
        lacking = min(([name for name in Z if name in absent] for Z in measured), key=len)
        ways.append(f"measure {', '.join(lacking)}")
    hidden = [path for path in found.open_ if "<->" in path or {*path.split()} & {*absent}]
    path = (hidden or list(found.open_))[0]
    what = ", or ".join(ways) or "measure what confounds them"
    return f"no set of columns closes every back-door path from {T} to {Y}, such as {path}: {what}"
