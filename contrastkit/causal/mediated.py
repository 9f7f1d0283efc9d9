"""The effect of a treatment through mediators, where its confounders are not observed: the front door."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Unpack

from contrastkit.causal import graph as graphs
from contrastkit.causal.columns import Columns, Values
from contrastkit.causal.compare import LINEAR
from contrastkit.causal.estimate import DifferenceInMeans, FrontDoor
from contrastkit.causal.form import Form
from contrastkit.causal.inference import Effect
from contrastkit.causal.models import Models
from contrastkit.causal.remarks import on_sample
from contrastkit.causal.study import AS_COLUMNS
from contrastkit.errors import UserError, listed
from contrastkit.tables.checks import as_arms, as_outcome
from contrastkit.tables.covariates import Covariates, check_independent


@dataclass(frozen=True)
class MediatedEffect:
    """The effect (ATE) of ``treatment`` on ``outcome`` by the front-door formula, beside the difference in means."""

    treatment: str
    outcome: str
    mediators: tuple[str, ...]
    covariates: tuple[str, ...]
    n_treated: int
    n_untreated: int
    naive: Effect
    front_door: Effect
    notices: tuple[str, ...]  # what was filled or left out
    remarks: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def mediated_effect(
    columns: Columns,
    *,
    treatment: str | None = None,
    outcome: str | None = None,
    mediators: Sequence[str] = (),
    covariates: Sequence[str] = (),
    form: Form = AS_COLUMNS,
    cluster: str | None = None,
    graph: str | None = None,
    models: Models = LINEAR,
    seed: int = 0,
    **values: Unpack[Values],
) -> MediatedEffect:
    """The effect of a treatment through mediators.

    Args:
        treatment, outcome: columns, of 0 and 1 and of numbers unless values are named; those that the graph marks, if
            any.
        mediators: columns that carry the whole effect, whose causes are the treatment and nothing that also causes
            treatment or, but for the treatment, outcome. With a graph, the smallest set that it implies by default.
        covariates: columns given which that holds. form: what becomes of them.
        values: see :func:`contrastkit.causal.study.read`.
        cluster: column of labels of rows that may depend on one another.
        graph: a causal graph (:func:`contrastkit.causal.graph.read`) that the mediators must agree with.
        models, seed: of outcome and treatment.

    Raises:
        UserError: no mediators, or not those of the graph; or data that the estimator refuses.
    """
    covariates = form.names(covariates)
    if graph is not None:
        causes = graphs.read(graph)
        treatment, outcome = graphs.question(causes, treatment, outcome)
        mediators = _of_graph(causes, treatment, outcome, mediators, covariates, columns.names)
    used = columns.used(
        treatment, outcome, mediators, "mediators", covariates, cluster, form=form, two_arms=True, **values
    )
    y, t = as_outcome(used.y, len(used.y)), as_arms(used.d, len(used.y))
    X = Covariates.joined([used.others, *([] if used.W is None else [used.W])])
    check_independent(X)
    estimator = FrontDoor(
        tuple(range(used.others.shape[1])), model=models.of_outcome(), propensity=models.of_propensity(),
        folds=models.folds, repeats=models.repeats, clip=models.clip, seed=seed % 2**32,
    ).fit(X, t, y, clusters=used.groups)  # fmt: skip
    naive = DifferenceInMeans().fit(X, t, y, clusters=used.groups)
    return MediatedEffect(
        treatment=used.treatment,
        outcome=used.outcome,
        mediators=tuple(mediators),
        covariates=tuple(covariates),
        n_treated=int(t.sum()),
        n_untreated=int((~t).sum()),
        naive=Effect.of(naive.effect_, naive.se_, naive.df_),
        front_door=Effect.of(estimator.effect_, estimator.se_, estimator.df_),
        notices=used.notices,
        remarks=(*on_sample(X, {"treated": t, "untreated": ~t}, y, used.groups), *estimator.remarks_),
    )


def _of_graph(
    causes: Any, T: str, Y: str, named: Sequence[str], covariates: Sequence[str], columns: Sequence[str]
) -> Sequence[str]:
    """The mediators named, or the smallest set of columns with which the front-door formula holds.

    Raises:
        UserError: there is none, or it does not hold with those named.
    """
    graphs.require_known(causes, [T, Y, *named, *covariates])
    given = f" given {listed(covariates, 4)}" if covariates else ""
    if named:
        if not graphs.mediates(causes, T, Y, named, covariates):
            raise UserError(
                f"according to the graph, the front-door formula does not hold with {listed(named, 4)}{given}: see "
                "contrastkit causal graph"
            )
        return named
    absent = [name for name in graphs.variables(causes) if name not in (T, Y, *columns)]
    sets = graphs.identify(causes, T, Y, unobserved=absent).frontdoor_sets
    fitting = [M for M in sets if graphs.mediates(causes, T, Y, M, covariates)]
    if not fitting:
        raise UserError(f"the graph has no front door among the columns{given}: see contrastkit causal graph")
    return min(fitting, key=len)
