"""Treatment effects under confounding.

Modules about a study, one for each command: named choices, checked, to a result with ``as_json``.

    study.py            :class:`Study`: a table whose columns have roles
    treatment.py        its column: which rows are compared, and which were treated
    sets.py             named studies
    adjustment.py       the covariates of a study that a graph chooses
    effects.py          every estimate of the effect (``causal estimate``)
    conditional.py      effects in groups, and whether some gain more than others (``causal effects``)
    scores.py           propensity scores and their overlap (``causal propensity``)
    weights.py          weights, by a method or from a file, and the balance under them (``causal weight``, ``balance``)
    balance_checks.py   the balance of what they need not adjust for (``causal balance``)
    matches.py          pairs or strata, their balance and the effect (``causal match``)
    matched_data.py     the matched rows, for other programs
    refutation.py       an estimate and the verdicts on it (``causal refute``)
    columns.py          tables whose columns have other roles
    structure.py        a structural model of a table (``causal model``)
    mediated.py         the effect through mediators (``causal front-door``)
    instrumental.py     the effect by instruments (``causal iv``)
    arms.py             several arms, each against each (``causal arms``)
    dose.py             the outcome by the amount of a treatment (``causal dose``)

Modules and packages about arrays, which know nothing of tables: covariates X [n, p], treatment T [n], outcome Y [n].

    learners.py         models of outcome and treatment by name, models.py how they are cross-fitted
    boosting.py         the flexible one: linear, with products, and trees
    folds.py            folds that do not depend on the order of rows
    propensity.py       the propensity score, trimming, calibration
    weighting/          classes with ``fit(X, T)`` and ``weights_``
    matching/           pairs, and groups of least total distance
    strata.py           weights of strata; coarsened.py, subclasses.py: strata of covariates, of the propensity score
    estimate/           classes with ``fit(X, T, Y)``, ``effect_`` and ``se_``
    heterogeneity/      pseudo-outcomes in groups, on lines, ranked
    structural/         mechanisms of the variables of a graph
    instruments/        two-stage least squares, the first stage, Anderson and Rubin's set
    inference.py        estimates with intervals, and Wald tests
    direct_balancing.py estimators that weight and model the outcome (ARB, DCB)
    compare.py          the estimators by name, and all of them side by side
    diagnostics.py      covariate balance
    refute/             checks of an estimate
    estimand.py         target populations

Without data: ``graph.py`` (what to adjust for), ``separation.py`` (its paths and separations), ``worlds.py`` (simulated
sources of correlation), ``names.py`` (the choices of the options).
"""
