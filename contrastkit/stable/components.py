"""The features that weights are computed from: principal components, or the features themselves."""

import numpy as np

from contrastkit.errors import UserError
from contrastkit.stable.table import Table
from contrastkit.tables.checks import check_magnitude
from contrastkit.tables.covariates import Covariates, check_independent
from contrastkit.tables.embeddings import principal_components

EMBEDDED = 20  # default number of components of an embedding


def to_reweight(table: Table, components: int | None = None) -> Covariates:
    """The first principal components of the features [n, k], or the features themselves.

    Args:
        components: maximum number; components that are only rounding error are dropped. 0 for the features
            themselves; None for 20 of an embedding and 0 of other tables.

    Raises:
        UserError: more components than rows or features, no feature varies, or, without components, a column of a
            table is a linear combination of others.
    """
    X = table.X
    most = min(X.shape)
    if components is None:
        components = min(EMBEDDED, most) if table.embedded else 0
    if components > most:
        raise UserError(f"--components {components}: {len(X):,} rows of {X.shape[1]:,} features have at most {most:,}")
    varying = np.flatnonzero(np.ptp(X.x, axis=0))
    if components and most > 1:
        check_magnitude(X.x, X.names)
        if not len(varying):
            raise UserError("no feature varies: there are no principal components")
        z = principal_components(X.x, components, solver="auto")
        names = tuple(f"component {j}" for j in range(z.shape[1]))
        return Covariates(z, names, names)
    if not table.embedded:  # in an embedding, constant or repeated units are normal
        check_independent(X.select(varying.tolist()))  # constant columns are ignored
    return X
