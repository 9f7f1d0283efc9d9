"""The models that estimators learn, and how they are cross-fitted."""

from dataclasses import dataclass
from typing import Any

from contrastkit.causal.folds import require_folds
from contrastkit.causal.learners import check_cross_fitted, flexible, outcome_learner, propensity_learner
from contrastkit.causal.names import EstimatorName
from contrastkit.causal.propensity import Propensity
from contrastkit.errors import UserError

CROSS_FITTED = ("aipw", "dml", "tlearner")
USERS = {  # field -> option, and the estimators that it concerns
    "outcome": ("outcome-model", CROSS_FITTED),
    "propensity": ("propensity-model", ("strata", "ipw", "overlap", "aipw", "dml")),
    "folds": ("folds", CROSS_FITTED),
    "repeats": ("repeats", CROSS_FITTED),
    "clip": ("clip", ("aipw",)),
}


@dataclass(frozen=True)
class Models:
    """The models of outcome and treatment by name, and their cross-fitting.

    Attributes:
        outcome, propensity: see :mod:`contrastkit.causal.learners`.
        folds, repeats, clip: see :class:`contrastkit.causal.estimate.AIPW`.
        seed: of the folds, and of models that draw.
    """

    outcome: str = "linear"
    propensity: str = "logistic"
    folds: int = 5
    repeats: int = 3
    clip: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise a UserError for a number of folds that no sample can have."""
        require_folds(self.folds)

    def of_outcome(self) -> Any:
        """The outcome model, unfitted."""
        return outcome_learner(self.outcome, self.seed)

    def of_propensity(self) -> Propensity:
        """The propensity model, unfitted, which cross-fits itself if it is flexible."""
        return propensity_model(self.propensity, seed=self.seed)

    def require_used(self, estimator: EstimatorName) -> None:
        """Raise a UserError if a value other than the default has no part in an estimator."""
        for name, (option, users) in USERS.items():
            if getattr(self, name) != getattr(Models, name) and estimator not in users:
                raise UserError(f"--{option} applies to {', '.join(users)} only: leave it out for {estimator}")

    @property
    def cross_fitting(self) -> dict[str, int]:
        """The arguments that estimators share."""
        return {"folds": self.folds, "repeats": self.repeats, "seed": self.seed}


def propensity_model(name: str, *, folds: int | None = None, seed: int = 0) -> Propensity:
    """A propensity model by name, unfitted; ``folds`` is by default 0 for logistic regression and 5 for others.

    Raises:
        UserError: as :func:`contrastkit.causal.learners.propensity_learner`, or a flexible model without folds.
    """
    classifier = propensity_learner(name, seed)
    if folds is None:
        folds = 5 if flexible(classifier) else 0
    check_cross_fitted(classifier, folds)
    return Propensity(classifier, folds=folds, seed=seed)
