"""Instrumental variables: one treatment, one or more instruments, and errors that heteroskedasticity does not bias.

sample.py          what is left of the columns when the covariates are projected out; sandwich covariances
two_stage.py       two-stage least squares, the test of endogeneity, tests of overidentification
strength.py        the first stage
anderson_rubin.py  the interval that weak instruments do not bias
"""
