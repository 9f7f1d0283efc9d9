"""Tables: the foundation shared by ``contrastkit causal`` and ``contrastkit stable``.

    files.py            files as a pandas frame; its rows
    text.py             .csv, .tsv and their dialects
    incomplete.py       missing values: rows dropped, or indicators
    terms.py            powers, products and formulas of columns
    identity.py         identifiers of rows; a file of weights
    words.py            columns of text: words among numbers, what is no factor
    embeddings.py       the .npz of ``contrastkit embed``, and principal components
    covariates.py       :class:`Covariates`: columns of finite numbers, named; standardisation
    checks.py           validation of numbers, treatments, outcomes, weights and parameters
    ties.py             numbers that differ only by rounding
    dependence.py       statistical dependence between columns
    reweighting.py      row weights by gradient descent; global balancing

:class:`Covariates` have been converted to float64 and validated; a function that takes them does not repeat
it. Treatments, outcomes and weights are arrays, which each estimator validates.
"""
