"""In which form the columns of a table enter a study as covariates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from contrastkit.directories import given_path
from contrastkit.errors import UserError, suggest
from contrastkit.tables.checks import as_numbers, check_present
from contrastkit.tables.covariates import Covariates, check_independent
from contrastkit.tables.embeddings import principal_components, read_embeddings
from contrastkit.tables.files import check_names
from contrastkit.tables.incomplete import Incomplete, drop_incomplete, with_indicators
from contrastkit.tables.terms import formula_variables, of_formula, with_terms


class Formed(NamedTuple):
    """Covariates of n units; ``origins``: column or .npz file -> its origins in X; ``notices``: what was filled or left
    out, one line each."""

    X: Covariates
    origins: Mapping[str, tuple[str, ...]]
    notices: list[str]


@dataclass(frozen=True, kw_only=True)
class Form:
    """What becomes of columns.

    Attributes:
        components: number of principal components of the features in an .npz file; 0 for the features themselves.
        categorical: columns that are factors although they are numbers, such as postcodes.
        incomplete: whether missing values of treatment, outcome and covariates are refused, their rows dropped, or
            those of covariates filled, with indicators.
        moments: highest power of each column of numbers.
        interactions: whether the products of each two columns are covariates too.
        formula: the covariates in R's language, instead of columns.
    """

    components: int = 10
    categorical: Sequence[str] = ()
    incomplete: Incomplete = "refuse"
    moments: int = 1
    interactions: bool = False
    formula: str | None = None

    def names(self, covariates: Sequence[str]) -> list[str]:
        """The columns and files that are used, of those that are given.

        Raises:
            UserError: a string instead of a list, columns and a formula, a formula that cannot be read or with what
                cannot be combined with one, or ``categorical`` is not among them.
        """
        check_names("covariates", covariates)
        check_names("categorical", self.categorical)
        names = list(covariates)
        if self.formula is not None:
            if columns := [name for name in covariates if not is_file(name)]:
                raise UserError(f"--formula and --covariates {','.join(columns)}: name the columns in one of them")
            if self.categorical or self.moments > 1 or self.interactions or self.incomplete == "indicator":
                raise UserError(
                    "--formula says what becomes of each column, as in C(zip), I(age**2) or age:sex: leave out "
                    "--categorical, --moments, --interactions and --incomplete indicator"
                )
            names += formula_variables(self.formula)
        if unknown := [name for name in self.categorical if name not in names or is_file(name)]:
            raise UserError(f"--categorical {unknown[0]} is no column among the covariates{suggest(unknown[0], names)}")
        return names

    def complete(self, frame: Any, roles: Sequence[str], covariates: Sequence[str] = ()) -> tuple[Any, list[str]]:
        """The rows of a frame that are used, by what is missing in the columns of covariates, or of ``roles``, which
        are never filled; and what is said of it.

        Raises:
            UserError: none are left, or a value is missing in a role whose row is not to be dropped.
        """
        if self.incomplete == "drop":
            kept, said = drop_incomplete(frame, [*roles, *(name for name in covariates if not is_file(name))])
            if not len(kept):
                raise UserError(f"--incomplete drop: {said[0]}, which are all")
            return kept, said
        for name in roles:
            check_present(frame[name], name, droppable=True)
        return frame, []

    def of(self, frame: Any, names: Sequence[str], n: int) -> Formed:
        """The covariates of these rows of a table of n, columns before files.

        Raises:
            UserError: as of :class:`Covariates`, :func:`check_independent`, :func:`of_formula` and :func:`embedded`.
        """
        columns, files = ([name for name in names if is_file(name) == file] for file in (False, True))
        parts, origins, notices = [], dict[str, tuple[str, ...]](), list[str]()
        if self.incomplete == "refuse":
            for name in columns:
                check_present(frame[name], name, droppable=True)
        if self.formula is not None:
            X, origins = of_formula(frame, self.formula)
            parts.append(X)
        elif columns:
            X, of_columns, notices = self._of_columns(frame, columns)
            parts.append(X)
            origins |= of_columns
        for name in files:
            features = embedded(given_path(name), n, self.components, frame.index.to_numpy())
            origins[name] = features.origins
            parts.append(features)
        X = Covariates.joined(parts)
        check_independent(X)
        return Formed(X, origins, notices)

    def _of_columns(self, frame: Any, columns: Sequence[str]) -> Formed:
        chosen, notices, indicated = frame[list(columns)].copy(), list[str](), dict[str, str]()
        for name in self.categorical:
            chosen[name] = levels(chosen[name])
        if self.incomplete == "indicator":
            chosen, indicated, notices = with_indicators(chosen)
        for name in self.categorical:
            chosen[name] = chosen[name].astype("category")
        expanded = with_terms(Covariates.of(chosen), moments=self.moments, interactions=self.interactions)
        origins = {name: [name] for name in columns}
        for indicator, name in indicated.items():
            origins[name].append(indicator)
        for term, parents in expanded.parents.items():
            for parent in dict.fromkeys(indicated.get(parent, parent) for parent in parents):
                origins[parent].append(term)
        return Formed(expanded.X, {name: tuple(own) for name, own in origins.items()}, [*notices, *expanded.notices])


def is_file(covariate: str) -> bool:
    return covariate.endswith(".npz")


def levels(column: Any) -> Any:
    """A pandas column as text, but for missing values."""
    return column.map(
        lambda value: f"{value:g}" if isinstance(value, float) else str(value), na_action="ignore"
    ).astype(object)


def embedded(path: Path, n: int, components: int, rows: Any = slice(None)) -> Covariates:
    """The features in an .npz file of n rows of ``contrastkit embed`` as covariates, of these rows or all: this number
    of principal components, or the features themselves (0).

    Raises:
        UserError: no such file, no features in it, not n rows, or fewer features than components.
    """
    features = read_embeddings(path).features
    if len(features) != n:
        raise UserError(f"{path} has features of {len(features)} units, but the table has {n} rows: use the same units")
    z = as_numbers(features[rows], [f"{path}: feature {j}" for j in range(features.shape[1])])
    if components > min(z.shape):
        raise UserError(f"{path} has {z.shape[1]} features of {len(z)} units: use fewer than {components} --components")
    if components:
        z = principal_components(z, components)
    names = tuple(f"{path.stem}.{j}" for j in range(z.shape[1]))
    return Covariates(z, names, names)
