"""Structural causal models of a table (Pearl, Causality, 2nd ed. 2009, Chapter 7): every variable is a function of its
causes in a graph and of noise of its own, which is independent of that of the others.

    variables.py       columns as numbers or as levels
    mechanisms.py      the function of one variable: a regression with additive noise, or a classifier
    model.py           all of them: what happens under interventions, and what would have happened in a row
    checks.py          how well mechanisms predict, and what their residuals tell of the graph
    paths.py           effects along paths
"""
