"""Who gains: the effect in groups of units, its regression on covariates, and whether predicted effects rank units."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from contrastkit.causal.compare import LINEAR
from contrastkit.causal.estimate import AIPW
from contrastkit.causal.folds import Rows
from contrastkit.causal.form import is_file
from contrastkit.causal.heterogeneity import picture
from contrastkit.causal.heterogeneity.grouping import Grouping, grouped
from contrastkit.causal.heterogeneity.learners import effect_learner
from contrastkit.causal.heterogeneity.projection import project
from contrastkit.causal.heterogeneity.ranking import Ranking, predicted_effects, ranked
from contrastkit.causal.inference import Effect, Wald
from contrastkit.causal.models import Models
from contrastkit.causal.names import EffectModel
from contrastkit.causal.remarks import FEW_UNITS, on_sample
from contrastkit.causal.study import Study
from contrastkit.errors import UserError, check_choice, listed
from contrastkit.tables.checks import Bools, Floats, as_outcome
from contrastkit.tables.covariates import Covariates, standardised
from contrastkit.tables.files import check_names

BINS = 4
PARTS = ("least", "second", "third", "fourth", "most")  # fifths of the units, by predicted effect


@dataclass(frozen=True)
class Group:
    """The mean effect of a group of units; ``predicted`` is the mean of what a model predicts for them, None if none
    does."""

    name: str
    n_treated: int
    n_untreated: int
    effect: Effect
    predicted: float | None = None

    def as_json(self) -> dict[str, Any]:
        values = {"group": self.name, "n_treated": self.n_treated, "n_untreated": self.n_untreated}
        return values | asdict(self.effect) | ({} if self.predicted is None else {"predicted": self.predicted})


@dataclass(frozen=True)
class By:
    """The effects in the groups by a column, and the test that they are equal."""

    column: str
    groups: tuple[Group, ...]
    equal: Wald


@dataclass(frozen=True)
class ConditionalEffects:
    """How the effect of ``treatment`` on ``outcome`` differs between units.

    Attributes:
        all: the mean effect (ATE).
        by: the groups of each column.
        linear: the best linear projection of the effect on the columns: its coefficients by name, the first of which is
            the effect at the mean of the columns. flat: the test that the others are 0.
        ranking: units by predicted effect; None where ``refusal`` says why there is none. parts: the effect in fifths.
        effects: float64 [n], the effect that a model of all units predicts for each; None without a ranking.
        remarks: on the sample and on the models.
    """

    treatment: str
    outcome: str
    learner: EffectModel
    all: Group
    by: tuple[By, ...]
    linear: dict[str, Effect]
    flat: Wald
    ranking: Ranking | None
    parts: tuple[Group, ...]
    effects: Floats | None
    refusal: str
    remarks: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        by = [{"column": b.column, "rows": [g.as_json() for g in b.groups], "equal": asdict(b.equal)} for b in self.by]
        ranking = None if self.ranking is None else {
            "rows": [group.as_json() for group in self.parts],
            "difference": asdict(self.ranking.difference),
            "slope": asdict(self.ranking.slope),
        }  # fmt: skip
        return {
            "treatment": self.treatment, "outcome": self.outcome, "all": self.all.as_json(), "by": by,
            "linear": {
                "rows": [{"term": name} | asdict(value) for name, value in self.linear.items()],
                "flat": asdict(self.flat),
            },
            "learner": self.learner, "ranking": ranking, "refusal": self.refusal or None, "remarks": self.remarks,
        }  # fmt: skip

    def plot(self, path: Path) -> None:
        """Draw the effects of the groups to a .png."""
        panels = [(b.column, [(g.name, g.effect) for g in b.groups]) for b in self.by]
        if self.parts:
            panels.append(("predicted effect", [(g.name, g.effect) for g in self.parts]))
        picture.draw(panels, self.all.effect, f"Effect of {self.treatment} on {self.outcome}", path)


def conditional_effects(
    study: Study,
    by: Sequence[str],
    *,
    bins: int = BINS,
    learner: EffectModel = "linear",
    models: Models = LINEAR,
    sample_weight: str | None = None,
    cluster: str | None = None,
    seed: int = 0,
) -> ConditionalEffects:
    """How the effect differs by these covariates.

    All of it is made of the pseudo-outcomes of the cross-fitted doubly robust estimator of the ATE (:class:`AIPW`),
    averaged over its repeats, whose mean in a group is the effect in it. The mean effect is therefore that of ``causal
    estimate --estimand ATE``, but for the mean over repeats where that has the median.

    Args:
        study: with an outcome.
        by: names of covariates. They must be adjusted for: the mean of pseudo-outcomes given another column is not the
            effect given it.
        bins: of a number that has more than six different values.
        learner: the model of effects by which units are ranked.
        models, seed: of outcome and treatment.
        sample_weight, cluster: columns, as of :func:`contrastkit.causal.effects.estimate_effects`.

    Raises:
        UserError: there is no outcome, a name is no covariate or its groups are unfit, or the estimator refuses the
            study.
    """
    check_choice("learner", learner, get_args(EffectModel))
    _check_by(study, by)
    X, t, y = study.X, study.T, as_outcome(study.outcomes(), len(study.T))
    clusters = None if cluster is None else study.clusters(cluster)
    s = np.ones_like(y) if sample_weight is None else study.sample_weights(sample_weight)
    models = replace(models, seed=seed % 2**32)
    groupings = [grouped(X, column, t, bins=bins, gaps=_gaps(study, column)) for column in dict.fromkeys(by)]
    fitted = AIPW(
        "ATE", model=models.of_outcome(), propensity=models.of_propensity(), clip=models.clip, **models.cross_fitting
    ).fit(X, t, y, s, clusters=clusters)
    assert fitted.pseudo_outcomes_ is not None
    units = _Units(fitted.pseudo_outcomes_, t, s, clusters)
    rows = tuple(units.by(grouping) for grouping in groupings)
    linear, flat = units.linear(X, by)
    ranking, effects, refusal = units.ranked(X, y, learner, models)
    return ConditionalEffects(
        treatment=study.treatment_label,
        outcome=str(study.outcome),
        learner=learner,
        all=units.group("all", np.ones_like(t)),
        by=rows,
        linear=linear,
        flat=flat,
        ranking=ranking,
        parts=() if ranking is None else _fifths(ranking, t),
        effects=effects,
        refusal=refusal,
        remarks=(*on_sample(X, {"treated": t, "untreated": ~t}, y, clusters), *fitted.remarks_, *_small(rows)),
    )


def _check_by(study: Study, by: Sequence[str]) -> None:
    check_names("by", by)
    if not by:
        raise UserError("no columns: name with --by the covariates by which the effect may differ")
    for column in by:
        study.check_covariate("--by", column, study.covariates, ": adjust for it too, with --covariates")
        if is_file(column):
            raise UserError(f"--by {column}: a file of features has no groups: name a column")
        if column not in study.X.origins:
            terms = listed(study.covariates[column], 3)
            raise UserError(f"--by {column}: the formula has it in {terms} alone: add it by itself")


def _gaps(study: Study, column: str) -> Bools:
    """Which values are missing in the table, and filled in X, [n]."""
    gaps = study.frame[column].isna() if column in study.frame else np.zeros(len(study.T))
    return np.asarray(gaps, bool)


@dataclass(frozen=True, eq=False)
class _Units:
    """What effects of groups are made of."""

    psi: Floats  # [n]
    t: Bools  # [n]
    s: Floats  # [n], sample weights
    clusters: Rows | None  # [n]

    def group(self, name: str, inside: Bools) -> Group:
        """The effect on the units ``inside`` a group."""
        mean = project(inside[:, None].astype(np.float64), self.psi, self.s, self.clusters)
        return _group(name, inside, self.t, mean.mean(0, inside, self.t, self.s))

    def by(self, grouping: Grouping) -> By:
        """The effects of all groups, and the test that they are equal."""
        means = project(grouping.indicators(), self.psi, self.s, self.clusters)
        groups = []
        for k, name in enumerate(grouping.names):
            inside = grouping.of == k
            if self.clusters is not None and np.ptp(self.clusters[inside]) == 0:
                raise UserError(f"--by {grouping.column}: all units of {name} are in one cluster: join it with another")
            groups.append(_group(name, inside, self.t, means.mean(k, inside, self.t, self.s)))
        differences = np.eye(len(groups))[1:] - np.eye(len(groups))[0]
        return By(grouping.column, tuple(groups), means.test(differences))

    def linear(self, X: Covariates, by: Sequence[str]) -> tuple[dict[str, Effect], Wald]:
        """The projection on columns less their means, and the test that it is flat."""
        columns = [j for j in X.without_reference_levels() if X.origins[j] in by]
        x = X.x[:, columns]
        centred = x - np.average(x, axis=0, weights=self.s)
        fitted = project(np.column_stack([np.ones_like(self.psi), centred]), self.psi, self.s, self.clusters)
        names = ["at the mean", *(X.names[j] for j in columns)]
        return {name: fitted.coefficient(k) for k, name in enumerate(names)}, fitted.test(np.eye(len(names))[1:])

    def ranked(
        self, X: Covariates, y: Floats, learner: EffectModel, models: Models
    ) -> tuple[Ranking | None, Floats | None, str]:
        """The ranking of the units and the effects [n] that a model of all predicts, or why there are none."""
        try:
            predicted = predicted_effects(X, self.t, y, self.s, self.clusters, learner, models=models)
            ranking = ranked(self.psi, *predicted, self.t, self.s, self.clusters)
            z = replace(X, x=standardised(X.x))
            return ranking, effect_learner(learner, z, self.t, y, self.s, self.clusters, models=models)(z.x), ""
        except UserError as error:
            return None, None, str(error)


def _group(name: str, inside: Bools, t: Bools, effect: Effect, predicted: float | None = None) -> Group:
    return Group(name, int((t & inside).sum()), int((~t & inside).sum()), effect, predicted)


def _fifths(ranking: Ranking, t: Bools) -> tuple[Group, ...]:
    present = np.unique(ranking.parts[ranking.parts >= 0])
    return tuple(
        _group(PARTS[k], ranking.parts == k, t, effect, predicted)
        for k, effect, predicted in zip(present, ranking.groups, ranking.predicted, strict=True)
    )


def _small(rows: Sequence[By]) -> list[str]:
    """A remark on each column with groups of few units."""
    found = []
    for by in rows:
        few = [group.name for group in by.groups if min(group.n_treated, group.n_untreated) < FEW_UNITS]
        if few:
            found.append(f"{by.column}: {', '.join(few)}: fewer than {FEW_UNITS} of an arm, too few for an interval")
    return found
