"""Refuting an estimate of a study, by a named estimator."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from contrastkit.causal.compare import estimators
from contrastkit.causal.estimate import Estimator
from contrastkit.causal.names import Estimand, EstimatorName
from contrastkit.causal.refute import DRAWS, GAMMA, Verdict, fitted, refute
from contrastkit.causal.sets import NAMED
from contrastkit.causal.study import Study, read
from contrastkit.errors import UserError


@dataclass(frozen=True)
class Refutation:
    """An estimate and the verdicts on it.

    Attributes:
        estimate: the fitted estimator, with a standard error.
    """

    estimator: EstimatorName
    estimate: Estimator
    verdicts: tuple[Verdict, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(verdict.passed for verdict in self.verdicts)

    def as_json(self) -> dict[str, Any]:
        fitted = self.estimate
        estimate = {"estimator": self.estimator, "estimand": fitted.estimand_, "effect": fitted.effect_}
        return {"estimate": estimate | {"se": fitted.se_}, "verdicts": [asdict(verdict) for verdict in self.verdicts]}


def refute_study(
    study: Study,
    estimator: EstimatorName = "entropy",
    *,
    estimand: Estimand = "ATT",
    placebo: Study | None = None,
    draws: int = DRAWS,
    gamma: float = GAMMA,
    seed: int = 0,
    on_estimate: Callable[[Estimator], None] = lambda estimate: None,
    on_verdict: Callable[[Verdict], None] = lambda verdict: None,
) -> Refutation:
    """Estimate the effect and run every check of :func:`contrastkit.causal.refute.refute` on it.

    Args:
        placebo: study of an outcome that the treatment cannot have affected (:func:`read_placebo`).
        draws, gamma, seed: see there.
        on_estimate, on_verdict: called with each result at once, since checks take minutes.

    Raises:
        UserError: the study has no outcome, or the estimator refuses it or has another estimand.
    """
    known = estimators(estimand, seed=seed)
    if estimator not in known:
        raise UserError(f"{estimator} does not estimate the {estimand}: choose another, or one of {', '.join(known)}")
    outcomes = study.outcomes()
    estimate = fitted(known[estimator], study.X, study.T, outcomes, draws=draws, seed=seed)
    on_estimate(estimate)
    other = None if placebo is None else (str(placebo.outcome), placebo.X, placebo.outcomes())
    verdicts = []
    for verdict in refute(study.X, study.T, outcomes, estimate, placebo=other, draws=draws, gamma=gamma, seed=seed):
        on_verdict(verdict)
        verdicts.append(verdict)
    return Refutation(estimator, estimate, tuple(verdicts))


def read_placebo(
    source: str,
    study: Study,
    outcome: str,
    *,
    covariates: Sequence[str] = (),
    without: Sequence[str] = (),
    data_dir: Path | None = None,
    components: int = 10,
) -> Study:
    """Read the same units with an outcome that the treatment cannot have affected.

    Args:
        source, covariates, data_dir, components: the arguments that ``study`` was read with, see
            :func:`contrastkit.causal.study.read`.
        outcome: column of the placebo outcome, which is not a covariate then.
        without: covariates that determine the placebo outcome, and are not adjusted for.

    Raises:
        UserError: it is the outcome of the study, ``without`` names unknown covariates, or no covariates are left.
    """
    if outcome == study.outcome:
        raise UserError("the placebo outcome must differ from the outcome: name another column")
    adjusted = list(covariates or NAMED[source].covariates)
    for name in without:
        if name not in adjusted:
            raise UserError(f"--without {name}: not one of the covariates")
    adjusted = [name for name in adjusted if name not in (outcome, *without)]
    if not adjusted:
        raise UserError("no covariates are left to adjust the placebo outcome for: name fewer with --without")
    return read(
        source, treatment=study.treatment, outcome=outcome, covariates=adjusted, data_dir=data_dir,
        components=components,
    )  # fmt: skip
