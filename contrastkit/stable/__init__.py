"""Predictors whose errors stay the same across environments.

Modules about a table, as the commands read it:

    table.py            :class:`Table`: features, label and environment, from a file
    components.py       the features that weights are computed from
    workflow.py         reweight a table, fit a model to it, evaluate it (``stable reweight``, ``fit``, ``evaluate``)

Modules about arrays: features X [n, p], outcome Y [n].

    reweight.py         methods that return weights under which the features are independent
    predict.py          weighted linear models, and their errors in each environment

Simulated data (``stable simulate``):

    simulate.py         samples: selection, collinear causes, a confounded treatment
    environments.py     samples from several environments as one table
    coloured.py         images whose colour misleads in the test

``names.py`` has the choices of the options.
"""
