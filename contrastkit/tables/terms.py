"""Powers and products of covariates, and model matrices of formulas."""

import re
from collections.abc import Mapping
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from contrastkit.errors import UserError, listed
from contrastkit.tables.checks import Floats
from contrastkit.tables.covariates import Covariates, standardised

DETERMINED = 1e-7  # of a column's length: what others do not explain of it


class Expanded(NamedTuple):
    """Covariates and terms of them; ``parents``: term -> the origins it is made of; ``notices``: what is left out."""

    X: Covariates
    parents: Mapping[str, tuple[str, ...]]
    notices: list[str]


def with_terms(X: Covariates, *, moments: int = 1, interactions: bool = False) -> Expanded:
    """Covariates with the powers of their numbers up to ``moments`` and, with ``interactions``, the products of each
    two columns. Terms that the other columns determine are left out.

    Of a factor, every indicator but the first takes part; powers are of columns with more than two values. Terms are of
    the values as they are, as in cobalt and WeightIt: with the columns themselves they span what centred ones would.
    """
    columns = X.without_reference_levels()
    terms: dict[str, tuple[tuple[str, ...], Floats]] = {}
    for j in columns:
        if len(np.unique(X.x[:, j])) > 2:
            for power in range(2, moments + 1):
                terms[f"{X.names[j]}^{power}"] = (X.origins[j],), X.x[:, j] ** power
    if interactions:
        for j, k in combinations(columns, 2):
            if X.origins[j] != X.origins[k]:
                terms[f"{X.names[j]} * {X.names[k]}"] = (X.origins[j], X.origins[k]), X.x[:, j] * X.x[:, k]
    if not terms:
        return Expanded(X, {}, [])
    own, added = X.x[:, columns], np.column_stack([term for _, term in terms.values()])
    kept = _undetermined(np.column_stack([own, added]))[own.shape[1] :]
    parents = {name: parents for (name, (parents, _)), keep in zip(terms.items(), kept, strict=True) if keep}
    left = [name for name in terms if name not in parents]
    notices = [f"{len(left):,} terms are left out, which others determine: {listed(left, 6)}"] if left else []
    more = Covariates(added[:, kept], tuple(parents), tuple(parents))
    return Expanded(Covariates.joined([X, more]), parents, notices)


def _undetermined(x: Floats) -> Any:
    """Which columns of x [n, p] are neither constant nor a linear combination of those before them, bool [p]."""
    z = standardised(x)
    R: Any = np.linalg.qr(z, mode="r")
    lengths = np.linalg.norm(z, axis=0)
    diagonal = np.zeros(z.shape[1])
    diagonal[: len(R)] = np.abs(np.diagonal(R))  # with fewer rows than columns, the rest is determined
    return (lengths > 0) & (diagonal > DETERMINED * lengths)


def formula_variables(formula: str) -> list[str]:
    """The columns that a formula names, sorted.

    Raises:
        UserError: formulaic is not installed, or the formula cannot be read, has a left-hand side, or names no column.
    """
    Formula = _formulaic().Formula
    try:
        parsed = Formula(_right(formula))
    except Exception as error:
        raise _wrong(formula, error) from error
    if hasattr(parsed, "lhs"):
        raise UserError(f"--formula {formula}: give the right-hand side alone, as in 'age + C(city) + age:C(city)'")
    if not (names := sorted(map(str, parsed.required_variables))):
        raise UserError(f"--formula {formula}: it names no column")
    return names


def of_formula(frame: Any, formula: str) -> tuple[Covariates, dict[str, tuple[str, ...]]]:
    """The columns of a formula of the language of R, without its intercept, by formulaic, and those that each variable
    takes part in. Factors have an indicator for each level but the first.

    Raises:
        UserError: as of :func:`formula_variables`, or it cannot be evaluated with this frame.
    """
    variables = formula_variables(formula)
    try:
        with np.errstate(all="ignore"):  # what is not finite is refused below
            matrix = _formulaic().model_matrix(f"1 + {_right(formula)}", frame, context={}, na_action="raise")
        x = matrix.to_numpy(dtype=np.float64)
    except Exception as error:
        raise _wrong(formula, error) from error
    names = [str(name) for name in matrix.columns]
    kept = tuple(name for name in names if name != "Intercept")
    if not np.isfinite(x).all():
        worst = names[int((~np.isfinite(x)).any(axis=0).argmax())]
        raise UserError(f"--formula {formula}: {worst} is not a finite number in some rows")
    places = matrix.model_spec.variable_indices
    used = {name: tuple(names[j] for j in places.get(name, ())) for name in variables}
    return Covariates(x[:, [names.index(name) for name in kept]], kept, kept), used


def _right(formula: str) -> str:
    return re.sub(r"^\s*~", "", formula)


def _formulaic() -> Any:
    try:
        import formulaic
    except ImportError as error:
        raise UserError('--formula needs formulaic: pip install "contrastkit[formula]"') from error
    return formulaic


def _wrong(formula: str, error: Exception) -> UserError:
    coloured = r"\x1b?\S?\[[\d;]*m|[\u29da\u29db]"  # formulaic shows where it failed
    said = re.sub(coloured, "", " ".join(str(error).split()))
    return UserError(f"--formula {formula}: {said or type(error).__name__}")
