"""A treatment, an outcome and instruments, with the covariates projected out (Frisch & Waugh 1933; Lovell 1963)."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from contrastkit.causal.folds import Rows
from contrastkit.errors import UserError
from contrastkit.tables.checks import Floats
from contrastkit.tables.covariates import Covariates, design

NOTHING = 1e-10  # share of the sum of squares of a column that is rounding


@dataclass(frozen=True, eq=False)
class Sample:
    """What is left of the columns.

    Attributes:
        y, d: outcome and treatment, float64 [n].
        Z: the instruments, float64 [n, k], orthonormal: no estimate or test changes with the basis of their span.
        W: ones and the covariates, float64 [n, q], orthonormal.
        groups: clusters of the rows, int64 [n], if any.
    """

    y: Floats
    d: Floats
    Z: Floats
    W: Floats
    groups: Rows | None

    @classmethod
    def of(cls, y: Floats, d: Floats, instruments: Covariates, W: Covariates | None, groups: Rows | None) -> Self:
        """The sample of outcomes y [n], treatments d [n], instruments and covariates, whose columns are independent.

        Raises:
            UserError: too few rows or clusters, the covariates or the instruments determine treatment or outcome, or
                the treatment the outcome.
        """
        Z = instruments.x[:, instruments.without_reference_levels()]
        given = np.ones((len(y), 1)) if W is None else design(W.x[:, W.without_reference_levels()])
        if len(y) <= Z.shape[1] + given.shape[1] + 1:
            raise UserError(
                f"{len(y)} rows for {Z.shape[1]} instruments and {given.shape[1]} other coefficients: too few"
            )
        if groups is not None and groups.max() + 1 <= Z.shape[1]:
            raise UserError(f"{groups.max() + 1} clusters for {Z.shape[1]} instruments: too few to weigh them")
        Q = np.linalg.qr(given)[0]
        left = [column - Q @ (Q.T @ column) for column in (y, d, Z)]
        for values, kept, name in ((y, left[0], "outcome"), (d, left[1], "treatment")):
            if kept @ kept <= NOTHING * ((values - values.mean()) ** 2).sum():
                raise UserError(f"the covariates determine the {name}: leave out the one that is derived from it")
        basis = np.linalg.qr(left[2] / np.linalg.norm(left[2], axis=0))[0]
        y, d = left[0], left[1]
        for name, values in (("treatment", d), ("outcome", y)):
            rest = values - basis @ (basis.T @ values)
            if rest @ rest <= NOTHING * (values @ values):
                raise UserError(f"the instruments determine the {name}: leave out the one from which it is derived")
        rest = y - (d @ y) / (d @ d) * d
        if rest @ rest <= NOTHING * (y @ y):
            raise UserError("the treatment determines the outcome: there is nothing to estimate")
        return cls(y, d, basis, Q, groups)

    def df(self, coefficients: int) -> int:
        """Residual degrees of freedom of a regression on the covariates and this many further columns; with G clusters,
        G - 1."""
        n, q = self.W.shape
        return n - q - coefficients if self.groups is None else int(self.groups.max())

    def covariance(self, scores: Floats, others: Floats | None = None, *, coefficients: int) -> Floats:
        """The sum over rows, or clusters, of the outer products of scores [n, k] with themselves or ``others`` [n, k]:
        HC1, times n over the residual degrees of freedom; with clusters, times G/(G - 1)."""
        others = scores if others is None else others
        if self.groups is None:
            return scores.T @ others * (len(scores) / self.df(coefficients))
        sums = np.zeros((2, self.df(0) + 1, scores.shape[1]))
        np.add.at(sums[0], self.groups, scores)
        np.add.at(sums[1], self.groups, others)
        return sums[0].T @ sums[1] * (sums.shape[1] / (sums.shape[1] - 1))
