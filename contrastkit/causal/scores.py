"""Propensity scores of a study: discrimination, calibration and overlap."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from contrastkit.causal.models import propensity_model
from contrastkit.causal.propensity import calibration, crump, within
from contrastkit.causal.study import Study
from contrastkit.tables.checks import Bools, Floats

LEVELS = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)  # of the reported quantiles
LITTLE_OVERLAP = 0.25  # shared area of the score distributions below which the ATE rests on few units


@dataclass(frozen=True)
class Scores:
    """Propensity scores and their diagnostics.

    Attributes:
        scores: float64 [n], in (0, 1). treated: bool [n].
        auc, overlap, clipped: see :class:`contrastkit.causal.propensity.Propensity`.
        remarks: see there too.
        alpha: threshold of Crump's trimming. within_crump: bool [n], the scores in [alpha, 1 - alpha].
    """

    treatment: str
    model: str
    scores: Floats
    treated: Bools
    auc: float
    overlap: float
    clipped: int
    remarks: tuple[str, ...]
    alpha: float
    within_crump: Bools

    @property
    def little_overlap(self) -> bool:
        return self.overlap < LITTLE_OVERLAP

    def quantiles(self, *, treated: bool) -> Floats:
        """The scores of one arm at :data:`LEVELS`, [7]."""
        quantiles: Floats = np.quantile(self.scores[self.treated == treated], LEVELS)
        return quantiles

    def worst_calibration(self) -> tuple[float, float]:
        """The mean score and the share treated in the decile of the scores where they differ most."""
        mean, share, _ = calibration(self.scores, self.treated).T
        worst = np.abs(share - mean).argmax()
        return float(mean[worst]), float(share[worst])

    def as_json(self) -> dict[str, Any]:
        arms = (("treated", True), ("untreated", False))
        return {
            "treatment": self.treatment,
            "model": self.model,
            "auc": self.auc,
            "overlap": self.overlap,
            "clipped": self.clipped,
            "remarks": self.remarks,
            "alpha": self.alpha,
            "kept": {name: int(self.within_crump[self.treated == arm].sum()) for name, arm in arms},
            "levels": LEVELS,
            "quantiles": {name: self.quantiles(treated=arm).tolist() for name, arm in arms},
            "calibration": calibration(self.scores, self.treated).tolist(),
        }


def propensity_scores(study: Study, *, model: str = "logistic", folds: int | None = None, seed: int = 0) -> Scores:
    """Fit a propensity model to a study.

    Args:
        model: its name (:func:`contrastkit.causal.learners.propensity_learner`): logistic regression is by maximum
            likelihood.
        folds: number of cross-fitting folds, 0 for none; None for 0 with logistic and 5 with the others.
        seed: seed of the folds and the classifier.

    Raises:
        UserError: unknown model, the covariates separate the arms, there are more folds than units of an arm, or none
            for a flexible model.
    """
    fitted = propensity_model(model, folds=folds, seed=seed).fit(study.X, study.T)
    alpha = crump(fitted.scores_)
    return Scores(
        treatment=study.treatment_label,
        model=model,
        scores=fitted.scores_,
        treated=study.T,
        auc=fitted.auc_,
        overlap=fitted.overlap_,
        clipped=fitted.clipped_,
        remarks=tuple(fitted.remarks_),
        alpha=alpha,
        within_crump=within(fitted.scores_, alpha),
    )
