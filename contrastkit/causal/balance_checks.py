"""Balance of what was not adjusted for: powers and products of covariates, and the prognostic score."""

from dataclasses import replace

import numpy as np

from contrastkit.causal.diagnostics import balance_table
from contrastkit.causal.positivity import check_varies
from contrastkit.causal.study import Study
from contrastkit.causal.weights import StudyWeights
from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats, as_outcome
from contrastkit.tables.covariates import Covariates, design
from contrastkit.tables.terms import with_terms

PROGNOSTIC = "prognostic score"


def with_checks(
    study: Study,
    weighted: StudyWeights,
    *,
    moments: int = 1,
    interactions: bool = False,
    prognostic: bool = False,
) -> StudyWeights:
    """Weights with the balance, under them, of what they need not balance, beside that of the covariates.

    Args:
        study: what the weights are of; with an outcome, for the prognostic score.
        moments, interactions: the powers and products of the covariates that are not covariates themselves
            (:func:`contrastkit.tables.terms.with_terms`). Terms of terms, and of indicators of gaps, are not made.
        prognostic: :func:`prognostic_score`.

    Raises:
        UserError: there is no outcome, or no prognostic score.
    """
    parts, notices = list[Covariates](), list[str]()
    if moments > 1 or interactions:
        expanded = with_terms(_columns(study), moments=moments, interactions=interactions)
        new = [j for j, name in enumerate(expanded.X.names) if name not in study.X.names]
        notices += expanded.notices
        if new:
            parts.append(expanded.X.select(new))
        else:
            notices.append("no powers or products to check: all are covariates, or determined by them")
    if prognostic:
        score = prognostic_score(study.X, study.T, as_outcome(study.outcomes(), len(study.T)))
        parts.append(Covariates(score[:, None], (PROGNOSTIC,), (PROGNOSTIC,)))
    if not parts:
        return replace(weighted, notices=tuple(notices))
    checks = balance_table(Covariates.joined(parts), study.T, weighted.weights, estimand=weighted.population)
    return replace(weighted, checks=checks, notices=tuple(notices))


def prognostic_score(X: Covariates, t: Bools, y: Floats) -> Floats:
    """The prognostic score [n] (Hansen 2008): the outcome without treatment that the least-squares regression of y [n]
    on X among the untreated predicts for every unit. Its imbalance tells of bias better than that of any covariate
    (Stuart, Lee & Leacy 2013). Linear also for an outcome of 0 and 1.

    Raises:
        UserError: the outcomes of the untreated do not vary, or are no more than the coefficients, or a covariate
            varies among the treated alone.
    """
    if not np.ptp(y[~t]):
        raise UserError("the outcome is the same for all untreated units: there is no prognostic score")
    check_varies(X, ~t)
    A = design(X.x)
    beta, _, rank, _ = np.linalg.lstsq(A[~t], y[~t], rcond=1e-10)
    if (~t).sum() <= rank:
        raise UserError(
            f"{(~t).sum()} untreated units cannot identify the {rank} coefficients of a prognostic score: leave "
            "covariates out"
        )
    score: Floats = A @ beta
    return score


def _columns(study: Study) -> Covariates:
    """The covariates that are columns of the table or features of a file, without terms of them."""
    files = {origin for name, origins in study.covariates.items() if name.endswith(".npz") for origin in origins}
    own = [j for j, origin in enumerate(study.X.origins) if origin in study.covariates or origin in files]
    return study.X.select(own)
