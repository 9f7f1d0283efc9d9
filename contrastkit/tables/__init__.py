"""Tables: the foundation shared by ``contrastkit causal`` and ``contrastkit stable``.

    files.py            .csv and .parquet as a pandas frame; a file of weights
    embeddings.py       the .npz of ``contrastkit embed``, and principal components
    covariates.py       :class:`Covariates`: columns as float64, converted and validated once
    checks.py           validation of treatments, outcomes, weights and parameters
    dependence.py       statistical dependence between columns
    reweighting.py      row weights by gradient descent; global balancing

A column is converted to float64 and validated once, in :meth:`Covariates.of`.
"""
