"""The effect of a treatment by instruments: two-stage least squares, with what tells whether to trust it."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Unpack

import numpy as np

from contrastkit.causal import graph as graphs
from contrastkit.causal.columns import Columns, Values
from contrastkit.causal.form import Form
from contrastkit.causal.inference import Effect, Wald
from contrastkit.causal.instruments.anderson_rubin import Interval, anderson_rubin
from contrastkit.causal.instruments.sample import Sample
from contrastkit.causal.instruments.strength import FirstStage, first_stage
from contrastkit.causal.instruments.two_stage import (
    Overidentification,
    endogeneity,
    least_squares,
    overidentification,
    two_stage,
)
from contrastkit.causal.remarks import FEW_CLUSTERS
from contrastkit.causal.study import AS_COLUMNS
from contrastkit.errors import UserError, listed
from contrastkit.tables.checks import Floats
from contrastkit.tables.covariates import Covariates, check_independent


@dataclass(frozen=True)
class InstrumentalEffect:
    """The effect of a unit more of ``treatment`` on ``outcome``.

    Attributes:
        least_squares: the estimate without instruments. two_stage: that with them.
        anderson_rubin: the 95 % set of effects that weak instruments do not bias: intervals, with ends that may be
            infinite.
        first_stage, endogeneity: see :mod:`contrastkit.causal.instruments`. overidentification: None for one
            instrument, likewise.
        compliers: the share of units that the instrument moves, for an instrument and a treatment of 0 and 1 without
            covariates; otherwise None.
        notices: what was filled or left out.
    """

    treatment: str
    outcome: str
    instruments: tuple[str, ...]
    covariates: tuple[str, ...]
    n: int
    least_squares: Effect
    two_stage: Effect
    anderson_rubin: tuple[Interval, ...]
    first_stage: FirstStage
    endogeneity: Wald
    overidentification: Overidentification | None
    compliers: float | None
    notices: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def kind(self) -> str:
        """Of the Anderson-Rubin set: bounded, unbounded, all or empty."""
        ends = [end for interval in self.anderson_rubin for end in interval]
        if not ends:
            return "empty"
        if ends == [-math.inf, math.inf]:
            return "all"
        return "unbounded" if any(map(math.isinf, ends)) else "bounded"

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {
            "anderson_rubin": {"kind": self.kind, "intervals": self.anderson_rubin},
            "first_stage": asdict(self.first_stage) | {"weak": self.first_stage.weak},
        }


def instrumental_effect(
    columns: Columns,
    *,
    treatment: str | None = None,
    outcome: str | None = None,
    instruments: Sequence[str] = (),
    covariates: Sequence[str] = (),
    form: Form = AS_COLUMNS,
    cluster: str | None = None,
    graph: str | None = None,
    **values: Unpack[Values],
) -> InstrumentalEffect:
    """The effect of a treatment by instruments.

    Args:
        treatment, outcome: columns, of numbers unless values are named; those that the graph marks, if any.
        instruments: columns; words become factors. With a graph, those that it implies by default.
        covariates: columns that instruments are only valid given. form: what becomes of them.
        values: see :func:`contrastkit.causal.study.read`.
        cluster: column of labels of rows that may depend on one another.
        graph: a causal graph (:func:`contrastkit.causal.graph.read`) that the instruments must agree with.

    Raises:
        UserError: no instruments, or not those of the graph; or columns that the estimators cannot use.
    """
    covariates = form.names(covariates)
    if graph is not None:
        causes = graphs.read(graph)
        treatment, outcome = graphs.question(causes, treatment, outcome)
        instruments = _of_graph(causes, treatment, outcome, instruments, covariates, columns.names)
    used = columns.used(treatment, outcome, instruments, "instruments", covariates, cluster, form=form, **values)
    Z, W = used.others, used.W
    check_independent(Covariates.joined([*([] if W is None else [W]), Z]))
    sample = Sample.of(used.y, used.d, Z, W, used.groups)
    stage = first_stage(sample)
    return InstrumentalEffect(
        treatment=used.treatment,
        outcome=used.outcome,
        instruments=tuple(instruments),
        covariates=tuple(covariates),
        n=len(used.y),
        least_squares=least_squares(sample),
        two_stage=two_stage(sample),
        anderson_rubin=tuple(anderson_rubin(sample)),
        first_stage=stage,
        endogeneity=endogeneity(sample),
        overidentification=overidentification(sample),
        compliers=_compliers(Z, used.d) if W is None else None,
        notices=used.notices,
        remarks=_remarks(sample, stage),
    )


def _of_graph(
    causes: Any, T: str, Y: str, named: Sequence[str], covariates: Sequence[str], columns: Sequence[str]
) -> Sequence[str]:
    """The instruments named, or all that the graph has among the columns, given these covariates.

    Raises:
        UserError: the graph has none, or not those named.
    """
    graphs.identify(causes, T, Y)  # which refuses unknown names
    graphs.require_known(causes, [*named, *covariates])
    hidden = graphs.marked(causes, "latent")
    among = named or [name for name in columns if name in causes and name not in hidden]
    found = graphs.instruments_given(causes, T, Y, covariates, among=among)
    if wrong := [name for name in named if name not in found]:
        raise UserError(f"{listed(wrong, 4)}: no instrument according to the graph{_given(covariates)}: leave it out")
    if not found:
        raise UserError(
            f"the graph has no instrument among the columns{_given(covariates)}: name --covariates given which there "
            "is one, or see what contrastkit causal graph finds"
        )
    return found


def _given(covariates: Sequence[str]) -> str:
    return f" given {listed(covariates, 4)}" if covariates else ""


def _compliers(Z: Covariates, d: Floats) -> float | None:
    """The difference of the shares treated with and without the instrument, if both are 0 and 1."""
    z = Z.x[:, Z.without_reference_levels()]
    if z.shape[1] != 1 or not (np.isin(z, (0, 1)).all() and np.isin(d, (0, 1)).all()):
        return None
    return abs(float(d[z[:, 0] == 1].mean() - d[z[:, 0] == 0].mean()))


def _remarks(sample: Sample, stage: FirstStage) -> tuple[str, ...]:
    found = []
    if stage.weak:
        found.append(
            f"weak instruments: effective F {stage.effective_f:.1f}, below {stage.critical:.1f}; the 2SLS interval may "
            "be wrong: use that of Anderson and Rubin"
        )
    if sample.groups is not None and (n := int(sample.groups.max()) + 1) < FEW_CLUSTERS:
        found.append(f"only {n} clusters: standard errors from so few are too small")
    return tuple(found)
