"""Tables: what ``contrastkit causal`` and ``contrastkit stable`` both stand on, and neither of them owns.

    files.py            .csv and .parquet as a pandas frame; a file of weights
    embeddings.py       the .npz of ``contrastkit embed``, and principal components
    covariates.py       :class:`Covariates`: columns as float64, converted and checked once
    checks.py           treatment, outcome, weights and other numbers, checked
    dependence.py       how far columns depend on one another
    reweighting.py      weights of rows by descent; global balancing

A column becomes a float64 array once, in :meth:`Covariates.of`, and is checked there.
"""
