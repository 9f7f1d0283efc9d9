"""Attempts to refute an estimate. Each ends in PASS or FAIL and one sentence.

    verdict.py         what an attempt ends in; fits to many samples
    placebo.py         where nothing should change, or nothing should be found
    confounding.py     a made-up confounder, to any strength
    hidden_bias.py     E-values, Rosenbaum bounds
    attempts.py        all of them

``X`` are :class:`contrastkit.tables.covariates.Covariates` [n, p], ``t`` is bool [n], ``y`` float64 [n]. ``first`` is
an estimator that :func:`fitted` gave: its effect is what is doubted, and a clone of it is fitted each time. Nothing of
an earlier fit is used again, and nothing is written to.
"""

from contrastkit.causal.refute.attempts import refute
from contrastkit.causal.refute.hidden_bias import GAMMA
from contrastkit.causal.refute.verdict import DRAWS, Verdict, digits, fitted

__all__ = ["DRAWS", "GAMMA", "Verdict", "digits", "fitted", "refute"]
