"""A structural causal model: the mechanisms of all variables."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import networkx as nx
import numpy as np

from contrastkit.causal import graph as graphs
from contrastkit.causal.columns import Columns
from contrastkit.causal.folds import fingerprints, settled_order
from contrastkit.causal.names import MechanismModel
from contrastkit.causal.structural.mechanisms import Fitted, fit
from contrastkit.causal.structural.variables import Variable, variable
from contrastkit.errors import UserError, listed
from contrastkit.tables.checks import Floats

LEAST = 50  # rows
Values = dict[str, Floats]  # of each variable, [m]
Do = Mapping[str, float]  # what variables are set to


@dataclass(frozen=True, eq=False)
class StructuralModel:
    """A graph whose variables have mechanisms.

    Attributes:
        graph: of the variables alone. order: causes before effects.
    """

    graph: nx.DiGraph
    order: tuple[str, ...]
    variables: dict[str, Variable]
    fitted: dict[str, Fitted]

    @classmethod
    def fit(cls, columns: Columns, source: str, kind: MechanismModel = "linear", seed: int = 0) -> Self:
        """Fit the mechanism of every variable of a graph to the columns of a table.

        Raises:
            UserError: no graph, variables that are not observed, too few rows, or columns that cannot be used.
        """
        graph = observed(graphs.read(source), columns.names)
        if len(columns) < LEAST:
            raise UserError(f"{len(columns)} rows: a structural model needs {LEAST} or more")
        return cls.learnt(graph, {name: variable(columns, name) for name in sorted(graph)}, kind, seed)

    @classmethod
    def learnt(cls, graph: nx.DiGraph, variables: dict[str, Variable], kind: MechanismModel, seed: int = 0) -> Self:
        """Fit the mechanisms of a graph to the values of its variables, whatever the order of the rows."""
        order = tuple(nx.lexicographical_topological_sort(graph))
        values = np.column_stack([variables[name].values for name in order])
        rows = settled_order(fingerprints(values), np.zeros(len(values), bool))
        fitted = {}
        for name in order:
            x = encoded(graph, variables, name, {cause: variables[cause].values for cause in graph.pred[name]})
            fitted[name] = fit(x, variables[name].values, len(variables[name].levels), kind, rows, seed)
        return cls(graph, order, variables, fitted)

    def resampled(self, kind: MechanismModel, seed: int) -> Self:
        """The model of as many rows, drawn from these: one sample of the bootstrap.

        Raises:
            UserError: the mechanisms refuse the sample, as where it lacks a level.
        """
        n = len(self.variables[self.order[0]].values)
        rows = np.random.default_rng(seed).integers(0, n, size=n)
        drawn = {name: replace(each, values=each.values[rows]) for name, each in self.variables.items()}
        return self.learnt(self.graph, drawn, kind, seed)

    def features(self, name: str, values: Mapping[str, Floats]) -> Floats:
        """The features [m, k] of the causes of a variable."""
        return encoded(self.graph, self.variables, name, values)

    def noise(self, n: int, seed: int) -> Values:
        """The noise of n new rows."""
        g = np.random.default_rng(seed)
        return {name: self.fitted[name].mechanism.drawn(n, g) for name in self.order}

    def simulated(self, noise: Values, do: Do | None = None) -> Values:
        """The variables of rows with this noise, some of them set to a value: an intervention."""
        do = {} if do is None else do
        values: Values = {}
        for name in self.order:
            values[name] = self.value(name, values, noise) if name not in do else np.full_like(noise[name], do[name])
        return values

    def value(self, name: str, causes: Mapping[str, Floats], noise: Values) -> Floats:
        """A variable [m] for its causes [m] and noise."""
        return self.fitted[name].mechanism.value(self.features(name, causes), noise[name])

    def abducted(self, row: Mapping[str, float], n: int, seed: int) -> Values:
        """The noise with which a row has come about: n draws where several would do, else n times the same."""
        g = np.random.default_rng(seed)
        given = {name: np.full(n, row[name]) for name in self.order}
        return {
            name: self.fitted[name].mechanism.abducted(self.features(name, given), given[name], g)
            for name in self.order
        }

    def parsed(self, text: Mapping[str, str]) -> dict[str, float]:
        """The values of an intervention that the user gives as text.

        Raises:
            UserError: a name is no variable, or a value none of its own.
        """
        graphs.require_known(self.graph, list(text))
        return {name: self.variables[name].parsed(value) for name, value in text.items()}


def encoded(graph: nx.DiGraph, variables: Mapping[str, Variable], name: str, values: Mapping[str, Floats]) -> Floats:
    """The features [m, k] of the causes of a variable, in alphabetical order."""
    causes = sorted(graph.pred[name])
    n = len(next(iter(values.values()))) if values else len(variables[name].values)
    return np.hstack([np.empty((n, 0)), *(variables[cause].encoded(values[cause]) for cause in causes)])


def observed(causes: nx.DiGraph, columns: list[str]) -> nx.DiGraph:
    """The graph of the columns among its variables, without hidden causes of a single variable, which are its noise.

    Raises:
        UserError: another variable is hidden, or there is none.
    """
    latent = graphs.marked(causes, "latent")
    hidden = [name for name in causes if name in latent or name not in columns]
    for name in hidden:
        children = list(causes.succ[name])
        if causes.pred[name] or len(children) > 1:
            who = f"{name}: a hidden common cause" if name not in graphs.variables(causes) else f"{name} is no column"
            raise UserError(
                f"{who}: a structural model needs every variable that is the effect of another, or the cause of two; "
                "estimate single effects by contrastkit causal estimate, iv or front-door with --graph"
            )
    graph = nx.DiGraph(causes.subgraph([name for name in causes if name not in hidden]))
    if not graph.edges:
        raise UserError(f"the graph has no edges between columns of the table (it has {listed(columns, 12)})")
    return graph
