"""How effects differ between units, from the pseudo-outcomes of :class:`contrastkit.causal.estimate.AIPW`, whose mean
given covariates is the effect given them (the DR-learner of Kennedy 2023, "Towards optimal doubly robust estimation of
heterogeneous causal effects").

    projection.py      linear projections of pseudo-outcomes, their errors and Wald tests
    grouping.py        groups of units by the levels of a column, or bins of a number
    ranking.py         whether predicted effects rank units that the model has not seen
    learners.py        the models of effects, by name
    picture.py         effects of groups
"""
