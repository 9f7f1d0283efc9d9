"""The .npz files of ``contrastkit embed``, and principal components of their features."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from contrastkit.directories import require_file
from contrastkit.errors import UserError
from contrastkit.npz import read_npz
from contrastkit.tables.checks import Floats


@dataclass(frozen=True)
class Embeddings:
    """Features of n images and their metadata.

    Attributes:
        features: the output of the encoder, [n, p].
        labels: [n], class names if the classes have names; None if any image lacks a label.
        columns: every other array [n] by name, such as ``split``.
    """

    features: NDArray[Any]
    labels: NDArray[Any] | None
    columns: dict[str, NDArray[Any]]


def read_embeddings(path: Path) -> Embeddings:
    """Read a file written by ``contrastkit embed``.

    Raises:
        UserError: there is no such file, it was not written by ``contrastkit embed``, or some images were unreadable.
    """
    require_file(path)
    arrays = read_npz(path, "a file written by 'contrastkit embed'")
    features, labels, classes = (arrays.pop(key, np.empty(0)) for key in ("features", "labels", "classes"))
    if features.ndim != 2 or 0 in features.shape or features.dtype.kind not in "biuf":
        raise UserError(f"{path} has no two-dimensional array 'features': give a file written by 'contrastkit embed'")
    n = len(features)
    readable = arrays.pop("readable", np.ones(n, dtype=bool))
    if not readable.all():
        raise UserError(
            f"{path} has no features of {int((~readable).sum())} images, which could not be read: take them out of the "
            "data set and embed it again"
        )
    columns = {key: values for key, values in arrays.items() if values.shape == (n,)}
    if labels.shape != (n,) or (labels.dtype.kind in "iu" and (labels < 0).any()):  # -1: an image without a label
        return Embeddings(features, None, columns)
    named = labels.dtype.kind in "iu" and classes.ndim == 1 and len(classes) > labels.max()
    return Embeddings(features, classes[labels] if named else labels, columns)


def principal_components(
    x: Floats, components: int, *, solver: Literal["covariance_eigh", "auto"] = "covariance_eigh"
) -> Floats:
    """The first principal components of x [n, p], float64 [n, k], without components that are only rounding error.

    Args:
        components: from 1 to min(n, p).
        solver: of scikit-learn; ``auto`` uses a randomised one where x is wide.
    """
    from sklearn.decomposition import PCA  # slow to import

    pca = PCA(components, svd_solver=solver, random_state=0).fit(x)
    real = pca.explained_variance_ > 1e-12 * pca.explained_variance_[0]
    return np.ascontiguousarray(pca.transform(x)[:, real])  # row-major: the memory layout affects how sums round
