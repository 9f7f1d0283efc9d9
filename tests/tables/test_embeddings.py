"""The .npz of ``contrastkit embed``, and principal components against a singular value decomposition."""

from pathlib import Path

import numpy as np
import pytest

from contrastkit.errors import UserError
from contrastkit.tables.embeddings import principal_components, read_embeddings


def test_labels_are_names_where_the_classes_have_some(tmp_path: Path) -> None:
    path, features = tmp_path / "f.npz", np.arange(8, dtype=np.float32).reshape(4, 2)
    labels, classes, split = np.array([1, 0, 1, 1]), np.array(["cat", "dog"]), np.array(["train"] * 3 + ["test"])
    np.savez(path, features=features, labels=labels, classes=classes, split=split, of_all=np.ones(3))
    result = read_embeddings(path)
    assert (result.features == features).all() and result.labels is not None
    assert result.labels.tolist() == ["dog", "cat", "dog", "dog"]
    assert list(result.columns) == ["split"] and (result.columns["split"] == split).all()
    np.savez(path, features=features, labels=labels, classes=np.array([]))
    result = read_embeddings(path)
    assert result.labels is not None and result.labels.tolist() == [1, 0, 1, 1]
    np.savez(path, features=features, labels=labels - 1, classes=classes)  # -1: without a label
    assert read_embeddings(path).labels is None


def test_what_embed_did_not_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.npz"
    with pytest.raises(UserError, match="no such file"):
        read_embeddings(path)
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match="as a file written by 'contrastkit embed'"):
        read_embeddings(path)
    for arrays in ({"labels": np.ones(3)}, {"features": np.ones(3)}, {"features": np.ones((0, 3))}):
        np.savez(path, **arrays)
        with pytest.raises(UserError, match="has no two-dimensional array 'features'"):
            read_embeddings(path)


@pytest.mark.parametrize("solver", ["covariance_eigh", "auto"])
def test_components_are_those_of_a_singular_value_decomposition(solver: str) -> None:
    g = np.random.default_rng(0)
    x = g.normal(size=(60, 3)) @ g.normal(size=(3, 8)) + 5  # the other five are rounding
    z = principal_components(x, 6, solver=solver)  # type: ignore[arg-type]
    U, S, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    assert z.flags.c_contiguous and z.shape == (60, 3) and np.abs(z) == pytest.approx(np.abs(U[:, :3] * S[:3]))
    assert principal_components(x, 2, solver=solver).shape == (60, 2)  # type: ignore[arg-type]
