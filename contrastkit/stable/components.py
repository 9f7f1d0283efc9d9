"""The features that weights are made by: principal components, or the features themselves."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

from contrastkit.causal.study import independent
from contrastkit.errors import UserError
from contrastkit.stable.checks import features
from contrastkit.stable.table import Table

EMBEDDED = 20  # components of an embedding, unless a number is asked for


def to_reweight(table: Table, components: int | None = None) -> Any:
    """A pandas frame [n, k]: the first principal components of the features, or the features themselves.

    Args:
        components: how many, at most; those that are rounding are left out. 0 takes the features themselves; None is
            20 for an embedding and 0 for other tables.

    Raises:
        UserError: more components than rows or features, no feature varies, or, of a table taken as it is, one column
            is a weighted sum of others.
    """
    X = table.X
    most = min(X.shape)
    if components is None:
        components = min(EMBEDDED, most) if table.embedded else 0
    if components > most:
        raise UserError(f"--components {components}: {len(X):,} rows of {X.shape[1]:,} features have {most:,} at most")
    if components and most > 1:
        return _principal_components(X, components)
    if not table.embedded:  # there, constant or repeated units are no mistake of the user's
        independent(X.loc[:, (X.iloc[0] != X).any()])  # a constant column plays no part
    return X


def _principal_components(X: Any, components: int) -> Any:
    x, _ = features(X)
    if not np.ptp(x, axis=0).any():
        raise UserError("no feature varies: there are no principal components")
    pca = PCA(components, random_state=0).fit(x)
    real = pca.explained_variance_ > 1e-12 * pca.explained_variance_[0]  # the others are rounding
    z = pca.transform(x)[:, real]
    return pd.DataFrame(z, columns=[f"component {j}" for j in range(z.shape[1])])
