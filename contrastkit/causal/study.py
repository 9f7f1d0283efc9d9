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
    x, names, _ = columns(X)
    return x, names


def columns(X: Any) -> tuple[Floats, tuple[str, ...], tuple[int, ...]]:
    """What :func:`covariates` gives, and from which column of X each comes: those of a factor from one."""
    if hasattr(X, "columns"):
        return _frame(X)
    x = np.asarray(X)
    x = x[:, None] if x.ndim == 1 else x
    if x.ndim != 2 or 0 in x.shape:
        raise UserError(f"covariates are rows and columns, not an array of shape {x.shape}")
    names = tuple(f"x{j}" for j in range(x.shape[1]))
    return numbers(x, names), names, tuple(range(x.shape[1]))


def _frame(X: Any) -> tuple[Floats, tuple[str, ...], tuple[int, ...]]:
    labels: list[Hashable] = list(X.columns)
    if twins := [str(label) for label in labels if labels.count(label) > 1]:
        raise UserError(f"two columns are called {twins[0]}: rename one")
    if not labels or not len(X):
        raise UserError(f"covariates are rows and columns, not a frame of shape {X.shape}")
    parts: list[Floats] = []
    names: list[str] = []
    origins: list[int] = []
    for k, label in enumerate(labels):
        column = X[label]
        if column.isna().any():
            raise UserError(
                f"{label}: {int(column.isna().sum())} of {len(column)} values are missing: drop or fill them"
            )
        if column.dtype.kind in "biuf":
            parts.append(numbers(column.to_numpy()[:, None], (str(label),)))
            names.append(str(label))
            origins.append(k)
        elif column.dtype.kind in "Mm":
            raise UserError(f"{label} holds dates: make numbers of them, days since the first for one")
        else:
            text = column.astype(str).to_numpy()
            values = sorted(set(text))
            words = values if column.dtype == "category" else [value for value in values if not _number(value)]
            if not words:
                parts.append(numbers(column.to_numpy()[:, None], (str(label),)))
                names.append(str(label))
                origins.append(k)
                continue
            if len(words) < len(values):
                raise UserError(f"{label}: '{words[0]}' is no number, and others are: mend it, or make words of all")
            parts.extend((text == value)[:, None].astype(np.float64) for value in values)
            names.extend(f"{label}={value}" for value in values)
            origins.extend([k] * len(values))
    return np.concatenate(parts, axis=1), tuple(names), tuple(origins)


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def without_first(origins: Sequence[int]) -> list[int]:
    """The columns but the first of each factor, whose dummies sum to one; ``origins`` as :func:`columns` gives them."""
    return [j for j, k in enumerate(origins) if list(origins).count(k) == 1 or k in origins[:j]]


def population(estimand: str, t: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whom an effect is on, bool [n]: all (ATE), the treated (ATT), the others (ATC).

    Raises:
        UserError: another estimand.
    """
    known = {"ATE": np.ones_like(t), "ATT": t, "ATC": ~t}
    if estimand not in known:
        raise UserError(f"{estimand} is not among the estimands here: {', '.join(known)}")
    return known[estimand]


def scales(x: Floats) -> Floats:
    """The standard deviation [p] of each column, 1 for a constant one: what to divide by, whatever the units."""
    sd = x.std(0)
    return np.where(sd > 1e-13 * np.abs(x).max(0), sd, 1.0)


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


def arms(T: ArrayLike, n: int) -> NDArray[np.bool_]:
    """What :func:`treatment` gives, of two units at least in each arm.

    Raises:
        UserError: as there, or an arm has one.
    """
    t = treatment(T, n)
    if min(t.sum(), (~t).sum()) < 2:
        raise UserError("an arm of one unit says nothing of chance: two are needed in each")
    return t


def outcome(Y: ArrayLike, n: int) -> Floats:
    """Y as float64 [n].

    Raises:
        UserError: of another length, values that are no finite numbers, or the same for all.
    """
    y = np.asarray(Y).reshape(-1)
    if len(y) != n:
        raise UserError(f"{len(y)} outcomes for {n} rows")
    if y.dtype.kind in "Mm":
        raise UserError("the outcome holds dates: make numbers of them, days since the first for one")
    y = numbers(y[:, None], ("the outcome",))[:, 0]
    if (y == y[0]).all():
        raise UserError("the outcome is the same for all: nothing has an effect on it")
    if np.abs(y).max() > 1e150:
        raise UserError("the outcome is beyond 1e150, whose square is no number: choose other units")
    return y


def effective_sample_size(w: Floats) -> float:
    """(sum w)^2 / sum w^2 (Kish 1965): the size of an unweighted sample with means as precise."""
    return float(w.sum() ** 2 / (w**2).sum())


@dataclass(frozen=True)
class Study:
    """A table's covariates, treatment and outcome, and the true effect where a named set knows it."""

    X: Any  # pandas frame [n, p]
    T: NDArray[np.bool_]  # [n]
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
        known = NAMED[source]
        treatment, covariates = treatment or known.treatment, covariates or known.covariates
        truth = truth if (treatment, outcome) == (known.treatment, known.outcome) else None
    else:
        frame = table(Path(source).expanduser())
    if treatment is None:
        raise UserError("name the column that says who was treated with --treatment")
    if not covariates:
        raise UserError("no covariates: name the columns to adjust for with --covariates")
    own = [name for name in covariates if not name.endswith(".npz")]
    asked = [treatment, *([outcome] if outcome is not None else []), *own]
    for name in asked:
        if name not in frame.columns:
            has = [str(column) for column in frame.columns]
            raise UserError(f"{source} has no column '{name}'{suggest(name, has)} (it has {', '.join(has)})")
        if asked.count(name) > 1:
            raise UserError(f"'{name}' is asked for twice: treatment, outcome and covariates are different columns")
    X = frame[own].reset_index(drop=True)
    for name in covariates:
        if name.endswith(".npz"):
            X = pd.concat([X, features(Path(name).expanduser(), len(frame), components)], axis=1)
    independent(X)
    Y = None if outcome is None else frame[outcome].to_numpy()
    T = arms(frame[treatment].to_numpy(), len(frame))
    return Study(X, T, Y, treatment, outcome, truth)


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
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as held:
            z = held["features"].astype(np.float64)
    except (OSError, ValueError, KeyError, IndexError, TypeError, EOFError, BadZipFile) as error:
        raise UserError(f"{path} holds no features (contrastkit embed writes such a file): {error}") from error
    if z.ndim != 2 or len(z) != n:
        raise UserError(f"{path} holds features of shape {z.shape}, the table {n} rows: they must be of the same units")
    if not np.isfinite(z).all():
        raise UserError(f"{path} holds features that are missing or infinite: encode again")
    if components > min(z.shape):
        raise UserError(f"{path} has {z.shape[1]} features of {n} units: ask for fewer --components than {components}")
    if components:
        pca = PCA(components, svd_solver="covariance_eigh").fit(z)
        real = pca.explained_variance_ > 1e-12 * pca.explained_variance_[0]  # beyond them is the noise of rounding
        z = pca.transform(z)[:, real]
    return pd.DataFrame(z, columns=[f"{path.stem}.{j}" for j in range(z.shape[1])])


def independent(X: Any) -> None:
    """Refuse covariates of which one says nothing, or nothing new. The dummies of a factor may sum to one.

    Raises:
        UserError: a column is constant, the same as another, or a weighted sum of others.
    """
    x, names, origins = columns(X)
    for j, name in enumerate(names):
        if (x[:, j] == x[0, j]).all():
            raise UserError(f"{X.columns[origins[j]]} is the same in all rows: leave it out")
        if not 1e-150 < np.abs(x[:, j]).max() < 1e150:
            raise UserError(f"{name} is beyond 1e150 or below 1e-150, whose squares are no numbers: choose other units")
    kept = without_first(origins)
    if len(x) <= len(kept):
        return  # each follows from the others, as it must
    z = (x[:, kept] - x[:, kept].mean(0)) / scales(x[:, kept])
    R: Any = np.linalg.qr(z, mode="r")
    for j, column in enumerate(kept):
        if abs(R[j, j]) < 1e-7 * np.linalg.norm(R[:, j]):
            weights = np.linalg.solve(R[:j, :j], R[:j, j])
            others = [names[k] for k, weight in zip(kept, weights, strict=False) if abs(weight) > 1e-5]
            how = "says the same as" if len(others) == 1 else "is a weighted sum of"
            raise UserError(f"{names[column]} {how} {', '.join(others)}: leave one out")
