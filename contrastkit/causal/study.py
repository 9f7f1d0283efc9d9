"""What every estimator looks at: covariates X, a treatment T, an outcome Y, checked once and never written to."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contrastkit.causal.sets import NAMED, load
from contrastkit.errors import UserError, suggest

Floats = NDArray[np.float64]


def covariates(X: Any) -> tuple[Floats, tuple[str, ...]]:
    """X as float64 [n, p], and the names of its columns.

    Args:
        X: an array [n, p] or a pandas frame. Of a frame's columns, those of strings or categories become one column of
            0 and 1 for each of their values, called ``name=value``: of all values, for distances want them.

    Raises:
        UserError: no rows or columns, missing or infinite values, strings in an array, two columns of one name.
    """
    if hasattr(X, "columns"):
        return _frame(X)
    x = np.asarray(X)
    x = x[:, None] if x.ndim == 1 else x
    if x.ndim != 2 or 0 in x.shape:
        raise UserError(f"covariates are rows and columns, not an array of shape {x.shape}")
    names = tuple(f"x{j}" for j in range(x.shape[1]))
    return numbers(x, names), names


def _frame(X: Any) -> tuple[Floats, tuple[str, ...]]:
    labels: list[Hashable] = list(X.columns)
    if twins := [str(label) for label in labels if labels.count(label) > 1]:
        raise UserError(f"two columns are called {twins[0]}: rename one")
    if not labels or not len(X):
        raise UserError(f"covariates are rows and columns, not a frame of shape {X.shape}")
    parts: list[Floats] = []
    names: list[str] = []
    for label in labels:
        column = X[label]
        if column.isna().any():
            raise UserError(
                f"{label}: {int(column.isna().sum())} of {len(column)} values are missing: drop or fill them"
            )
        if column.dtype.kind in "biuf":
            parts.append(numbers(column.to_numpy()[:, None], (str(label),)))
            names.append(str(label))
        else:
            text = column.astype(str).to_numpy()
            values = sorted(set(text))
            parts.extend((text == value)[:, None].astype(np.float64) for value in values)
            names.extend(f"{label}={value}" for value in values)
    return np.concatenate(parts, axis=1), tuple(names)


def named(x: Floats, names: Sequence[str]) -> Any:
    """What :func:`covariates` gave, as a frame: whoever reads it can name a column in an error."""
    import pandas as pd  # takes a while

    return pd.DataFrame(x, columns=list(names))


def numbers(x: NDArray[Any], names: Sequence[str]) -> Floats:
    """The columns of x [n, p] as float64: x itself where it is that, so that nobody may write to it.

    Raises:
        UserError: one holds no numbers, or missing or infinite ones.
    """
    if x.dtype.kind in "biuf" and np.isfinite(x).all():
        return x.astype(np.float64, copy=False)
    for j, name in enumerate(names):
        try:
            column = x[:, j].astype(np.float64)
        except (TypeError, ValueError) as error:
            raise UserError(f"{name} holds something else than numbers: encode it, or leave it out") from error
        for bad, what in ((np.isnan(column), "missing"), (np.isinf(column), "infinite")):
            if bad.any():
                raise UserError(f"{name}: {int(bad.sum())} of {len(column)} values are {what}: drop or fill them")
    return x.astype(np.float64)


def treatment(T: ArrayLike, n: int) -> NDArray[np.bool_]:
    """T as bool [n]: who was treated.

    Raises:
        UserError: of another length, not of 0 and 1, or one arm is empty.
    """
    t = np.asarray(T).reshape(-1)
    if len(t) != n:
        raise UserError(f"{len(t)} treatments for {n} rows")
    t = numbers(t[:, None], ("the treatment",))[:, 0]
    values = np.unique(t)
    if not set(values) <= {0.0, 1.0}:
        shown = ", ".join(f"{value:g}" for value in values[:4]) + (", ..." if len(values) > 4 else "")
        raise UserError(f"the treatment is 0 or 1, not {shown}: make it so, e.g. above a threshold")
    if len(values) < 2:
        raise UserError(f"nobody is {'untreated' if values[0] else 'treated'}: there is nothing to compare with")
    return t == 1


def outcome(Y: ArrayLike, n: int) -> Floats:
    """Y as float64 [n].

    Raises:
        UserError: of another length, or values that are no finite numbers.
    """
    y = np.asarray(Y).reshape(-1)
    if len(y) != n:
        raise UserError(f"{len(y)} outcomes for {n} rows")
    return numbers(y[:, None], ("the outcome",))[:, 0]


def effective_sample_size(w: Floats) -> float:
    """(sum w)^2 / sum w^2 (Kish 1965): the size of an unweighted sample with means as precise."""
    return float(w.sum() ** 2 / (w**2).sum())


@dataclass(frozen=True)
class Study:
    """A table's covariates, treatment and outcome, and the true effect where a named set knows it."""

    X: Any  # pandas frame [n, p]
    T: NDArray[Any]  # [n]
    Y: NDArray[Any] | None  # [n]
    treatment: str  # the columns' names
    outcome: str | None
    truth: float | None = None


def read(
    source: str,
    *,
    treatment: str | None = None,
    outcome: str | None = None,
    covariates: Sequence[str] = (),
    data_dir: Path | None = None,
    components: int = 10,
) -> Study:
    """A study from a .csv or .parquet file, or a named set (:mod:`contrastkit.causal.sets`), which knows its columns.

    Args:
        covariates: columns, and .npz files of features that ``contrastkit embed`` wrote, a row for each of the table's.
        components: of such a file, as many first principal components; 0 takes the features as they are.

    Raises:
        UserError: no such file, not to be read, no such column, one that is two things at once, or covariates of which
            one is constant or follows from others.
    """
    import pandas as pd  # takes a while

    truth = None
    if source in NAMED:
        frame, truth = load(source, data_dir)
        named = NAMED[source]
        treatment, outcome, covariates = treatment or named.treatment, outcome, covariates or named.covariates
        truth = truth if (treatment, outcome) == (named.treatment, named.outcome) else None
    else:
        frame = table(Path(source).expanduser())
    if treatment is None:
        raise UserError("name the column that says who was treated with --treatment")
    if not covariates:
        raise UserError("no covariates: name the columns to adjust for with --covariates")
    columns = [name for name in covariates if not name.endswith(".npz")]
    asked = [treatment, *([outcome] if outcome is not None else []), *columns]
    for name in asked:
        if name not in frame.columns:
            known = [str(column) for column in frame.columns]
            raise UserError(f"{source} has no column '{name}'{suggest(name, known)} (it has {', '.join(known)})")
        if asked.count(name) > 1:
            raise UserError(f"'{name}' is asked for twice: treatment, outcome and covariates are different columns")
    X = frame[columns].reset_index(drop=True)
    for name in covariates:
        if name.endswith(".npz"):
            X = pd.concat([X, features(Path(name).expanduser(), len(frame), components)], axis=1)
    independent(X)
    Y = None if outcome is None else frame[outcome].to_numpy()
    return Study(X, frame[treatment].to_numpy(), Y, treatment, outcome, truth)


def table(path: Path) -> Any:
    """The pandas frame of a .csv or .parquet file.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    import pandas as pd

    if not path.is_file():
        raise UserError(f"{path} is no file{suggest(str(path), NAMED)}")
    if path.suffix not in (".csv", ".parquet"):
        raise UserError(f"{path} is neither .csv nor .parquet")
    try:
        return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except ImportError as error:
        raise UserError(f"{path}: reading .parquet takes pyarrow: pip install pyarrow") from error
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def features(path: Path, n: int, components: int) -> Any:
    """The features of an .npz file as a frame [n, components]: principal components, or the features themselves (0).

    Raises:
        UserError: no such file, no features in it, not n rows of them, or fewer columns than components.
    """
    import pandas as pd
    from sklearn.decomposition import PCA

    try:
        with np.load(path, allow_pickle=False) as held:
            z = held["features"].astype(np.float64)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise UserError(f"{path} holds no features (contrastkit embed writes such a file): {error}") from error
    if z.ndim != 2 or len(z) != n:
        raise UserError(f"{path} holds features of shape {z.shape}, the table {n} rows: they must be of the same units")
    if not np.isfinite(z).all():
        raise UserError(f"{path} holds features that are missing or infinite: encode again")
    if components > min(z.shape):
        raise UserError(f"{path} has {z.shape[1]} features of {n} units: ask for fewer --components than {components}")
    if components:
        z = PCA(components, svd_solver="covariance_eigh").fit_transform(z)
    return pd.DataFrame(z, columns=[f"{path.stem}.{j}" for j in range(z.shape[1])])


def independent(X: Any) -> None:
    """Refuse covariates of which one says nothing, or nothing new. The dummies of a factor may sum to one.

    Raises:
        UserError: a column is constant, the same as another, or a weighted sum of others.
    """
    x, names = covariates(X)
    where = dict(zip(names, x.T, strict=True))
    first = {name: f"{name}=" for name in map(str, X.columns) if name not in where}
    dropped = {next(name for name in names if name.startswith(prefix)) for prefix in first.values()}
    for name, column in where.items():
        if (column == column[0]).all():
            raise UserError(f"{name.split('=')[0] if name in dropped else name} is the same in all rows: leave it out")
    kept = [name for name in names if name not in dropped]
    z = np.column_stack([where[name] for name in kept])
    z = (z - z.mean(0)) / z.std(0)
    if len(z) <= len(kept):
        raise UserError(f"{len(z)} rows are too few for {len(kept)} covariates: leave some out")
    R: Any = np.linalg.qr(z, mode="r")
    for j, name in enumerate(kept):
        if abs(R[j, j]) < 1e-7 * np.linalg.norm(R[:, j]):
            weights = np.linalg.solve(R[:j, :j], R[:j, j])
            others = [other for other, weight in zip(kept, weights, strict=False) if abs(weight) > 1e-5]
            same = len(others) == 1
            raise UserError(
                f"{name} {'says the same as' if same else 'is a weighted sum of'} {', '.join(others)}: leave one out"
            )
