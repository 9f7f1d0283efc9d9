"""What data can tell against a structural model."""

from dataclasses import dataclass

import networkx as nx
import numpy as np

from contrastkit.causal.structural.mechanisms import Additive
from contrastkit.causal.structural.model import StructuralModel
from contrastkit.tables.checks import Floats
from contrastkit.tables.dependence import independence

ROWS = 1000  # of a test
TINY = 1e-12


@dataclass(frozen=True)
class Check:
    """How well the mechanism of a variable predicts rows that it has not seen, and whether its noise is noise.

    Attributes:
        causes: of the variable, in the graph.
        fit: the share of its variance that is predicted, or of the deviance of a discrete one, at most 1; None without
            causes.
        noise: the p-value of residuals that are independent of the causes; None for a discrete variable, or without
            causes.
        others: that of residuals, or of a variable without causes, that are independent of the variables which are
            neither its causes nor its effects, direct or not, as the graph says; None if there are none, or it is
            discrete and has causes.
    """

    variable: str
    causes: tuple[str, ...]
    discrete: bool
    fit: float | None
    noise: float | None
    others: float | None


def check(model: StructuralModel, name: str, seed: int = 0) -> Check:
    """Check the mechanism of one variable."""
    variable, fitted = model.variables[name], model.fitted[name]
    causes = sorted(model.graph.pred[name])
    strangers = set(model.graph) - {name, *causes} - nx.descendants(model.graph, name)
    residual = None
    if isinstance(fitted.mechanism, Additive):
        residual = fitted.mechanism.residuals[:, None]
    elif not causes:
        residual = variable.encoded(variable.values)
    values = {each: model.variables[each].values for each in model.graph}

    def test(names: set[str]) -> float | None:
        if residual is None or not names:
            return None
        features = np.hstack([model.variables[each].encoded(values[each]) for each in sorted(names)])
        rows = np.random.default_rng(seed).permutation(len(features))[:ROWS]
        return independence(residual[rows], features[rows], seed=seed)

    return Check(
        variable=name,
        causes=tuple(causes),
        discrete=variable.discrete,
        fit=None if fitted.held_out is None else _fit(variable.values, fitted.held_out, variable.discrete),
        noise=test(set(causes)),
        others=test(strangers),
    )


def _fit(y: Floats, held_out: Floats, discrete: bool) -> float:
    if not discrete:
        return 1 - float(((y - held_out) ** 2).sum() / ((y - y.mean()) ** 2).sum())
    place = y.astype(np.int64)
    shares = np.bincount(place, minlength=held_out.shape[1]) / len(y)
    likelihood = np.log(held_out[np.arange(len(y)), place].clip(TINY)).sum()
    return 1 - float(likelihood / np.log(shares[place]).sum())
