"""The effect of a treatment along single paths (Avin, Shpitser & Pearl 2005): what an effect would be if the change of
its cause were seen along one path of the graph alone."""

from itertools import islice, pairwise
from typing import NamedTuple

import networkx as nx
import numpy as np

from contrastkit.causal.structural.model import Do, StructuralModel, Values
from contrastkit.errors import UserError
from contrastkit.tables.checks import Floats

MOST = 50  # paths


class PathEffect(NamedTuple):
    """The effect along a path, by simulation.

    Attributes:
        mc_error: the standard error of the simulation. se: that of the bootstrap, which includes it; None without.
    """

    path: tuple[str, ...]
    effect: float
    mc_error: float
    se: float | None = None


def path_effects(
    model: StructuralModel, noise: Values, before: Do, after: Do, outcome: str
) -> tuple[PathEffect, list[PathEffect]]:
    """The total effect on an outcome of changing one variable, and the effects along each path.

    Along a path, each variable takes the changed value of the one before it, and of its other causes the values that
    they have without the change. In linear models the effects are products of coefficients, and add up to the total.

    Raises:
        UserError: the interventions do not set the same single variable, it is the outcome, the outcome has more than
            two levels, or there are more than fifty paths.
    """
    (treatment, *others), same = tuple(before), set(before) == set(after)
    if others or not same:
        raise UserError(
            "--outcome: effects along paths are those of one variable: give --do twice, with two values of it"
        )
    if treatment == outcome or len(model.variables[outcome].levels) > 2:
        raise UserError(f"--outcome {outcome}: choose a variable of numbers or two levels, other than {treatment}")
    paths = list(islice(nx.all_simple_paths(model.graph, treatment, outcome), MOST + 1))
    if len(paths) > MOST:
        raise UserError(f"--outcome {outcome}: more than {MOST} paths lead there from {treatment}")
    base, changed = model.simulated(noise, before), model.simulated(noise, after)
    effects = []
    for path in sorted(paths, key=lambda path: (len(path), path)):
        along = changed[treatment]
        for cause, name in pairwise(path):
            along = model.value(name, base | {cause: along}, noise)
        effects.append(_effect(path, along - base[outcome]))
    return _effect([treatment, outcome], changed[outcome] - base[outcome]), effects


def _effect(path: list[str], difference: Floats) -> PathEffect:
    return PathEffect(tuple(path), float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference))))
