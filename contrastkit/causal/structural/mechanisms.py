"""The mechanism of a variable: what it is made of, from its causes and its noise.

Each has ``noise`` [n], one value for each row of the table, drawn by :meth:`drawn`, and ``value(x, u)``, what the
variable is for features x [m, k] of its causes and noise u [m].
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from contrastkit.causal.boosting import BoostClassifier
from contrastkit.causal.folds import Rows
from contrastkit.causal.learners import learned, outcome_learner, predicted
from contrastkit.causal.names import MechanismModel
from contrastkit.tables.checks import Floats

FOLDS = 5


class Mechanism(Protocol):
    """What makes a variable."""

    def drawn(self, n: int, g: np.random.Generator) -> Floats:
        """Noise [n] of new rows."""

    def value(self, x: Floats, u: Floats) -> Floats:
        """The variable [m] for causes x [m, k] and noise u [m]."""

    def abducted(self, x: Floats, value: Floats, g: np.random.Generator) -> Floats:
        """Noise [m] with which causes x [m, k] have given these values [m]: drawn, where several have."""


@dataclass(frozen=True, eq=False)
class Root:
    """A variable without causes: its noise is its value, drawn from the table's."""

    values: Floats  # [n]

    def drawn(self, n: int, g: np.random.Generator) -> Floats:
        return g.choice(self.values, n)

    def value(self, x: Floats, u: Floats) -> Floats:
        return u

    def abducted(self, x: Floats, value: Floats, g: np.random.Generator) -> Floats:
        return value


@dataclass(frozen=True, eq=False)
class Additive:
    """A number: a regression plus noise, drawn from its residuals of rows that it has not seen, less their mean."""

    model: Any
    residuals: Floats  # [n]

    def drawn(self, n: int, g: np.random.Generator) -> Floats:
        return g.choice(self.residuals - self.residuals.mean(), n)

    def value(self, x: Floats, u: Floats) -> Floats:
        return predicted(self.model, x) + u

    def abducted(self, x: Floats, value: Floats, g: np.random.Generator) -> Floats:
        return value - predicted(self.model, x)


@dataclass(frozen=True, eq=False)
class Discrete:
    """Levels: the one in whose part of [0, 1), as long as its probability, a uniform number lies. For two levels, it is
    the mechanism in which no change that makes the second likelier ever turns it into the first."""

    model: Any
    levels: int

    def drawn(self, n: int, g: np.random.Generator) -> Floats:
        return g.uniform(size=n)

    def value(self, x: Floats, u: Floats) -> Floats:
        ends = self._ends(x)
        return (u[:, None] >= ends[:, 1:-1]).sum(1).astype(np.float64)

    def abducted(self, x: Floats, value: Floats, g: np.random.Generator) -> Floats:
        ends, rows, place = self._ends(x), np.arange(len(x)), value.astype(np.int64)
        low, high = ends[rows, place], ends[rows, place + 1]
        return low + (high - low) * g.uniform(size=len(x))

    def _ends(self, x: Floats) -> Floats:
        """Where the parts of the levels begin and end, [m, levels + 1]."""
        p = probabilities(self.model, x, self.levels)
        return np.column_stack([np.zeros(len(x)), np.cumsum(p, axis=1)[:, :-1], np.ones(len(x))])


@dataclass(frozen=True, eq=False)
class Fitted:
    """A mechanism and what it predicts for rows that it has not seen: numbers [n], or probabilities [n, levels]."""

    mechanism: Mechanism
    held_out: Floats | None = None


def fit(x: Floats, y: Floats, levels: int, kind: MechanismModel, order: Rows, seed: int = 0) -> Fitted:
    """The mechanism of values y [n] with causes x [n, k], of numbers or, if there are any, of levels.

    Args:
        order: of the rows, pseudo-random, in which they are dealt into five folds.
    """
    if not x.shape[1]:
        return Fitted(Root(y))
    model, place = _model(levels, kind, seed), np.empty(len(y), np.int64)
    place[order] = np.arange(len(y))
    held_out = np.empty((len(y), levels) if levels else len(y))
    for k in range(FOLDS):
        train, test = order[place[order] % FOLDS != k], place % FOLDS == k
        part = learned(model, x[train], y[train])
        held_out[test] = probabilities(part, x[test], levels) if levels else predicted(part, x[test])
    whole = learned(model, x[order], y[order])
    return Fitted(Discrete(whole, levels) if levels else Additive(whole, y - held_out), held_out)


def probabilities(model: Any, x: Floats, levels: int) -> Floats:
    """The probability of each level, [m, levels], by a fitted classifier that may not have seen all of them."""
    p = np.zeros((len(x), levels))
    p[:, model.classes_.astype(np.int64)] = model.predict_proba(x)
    return p


def _model(levels: int, kind: MechanismModel, seed: int) -> Any:
    if not levels:
        return outcome_learner(kind, seed)
    if kind == "linear":
        # a trace of a penalty, for levels that a cause tells for certain
        return make_pipeline(StandardScaler(), LogisticRegression(C=1e4, solver="newton-cholesky"))
    return BoostClassifier() if levels == 2 else HistGradientBoostingClassifier(random_state=seed % 2**32)
