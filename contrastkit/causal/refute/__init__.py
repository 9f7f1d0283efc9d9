"""Checks that try to refute an estimate. Each ends in PASS, FAIL or NOT RUN with one sentence.

    verdict.py         the result of a check; fits to many samples
    placebo.py         placebo treatments and outcomes, random covariates, subsets
    confounding.py     simulated confounders of any strength
    hidden_bias.py     E-values, Rosenbaum bounds
    attempts.py        all checks

``X`` is :class:`contrastkit.tables.covariates.Covariates` [n, p], ``t`` bool [n], ``y`` float64 [n]. ``first`` is an
estimator from :func:`fitted`, whose effect is checked; clones of it are fitted. Nothing is reused from an earlier fit,
and no input is written to.
"""

from contrastkit.causal.refute.attempts import checks, refute
from contrastkit.causal.refute.hidden_bias import GAMMA
from contrastkit.causal.refute.verdict import DRAWS, Verdict, digits, fitted

__all__ = ["DRAWS", "GAMMA", "Verdict", "checks", "digits", "fitted", "refute"]
