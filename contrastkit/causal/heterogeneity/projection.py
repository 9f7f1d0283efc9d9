"""Linear projections of pseudo-outcomes on functions of the covariates (Semenova & Chernozhukov 2021, "Debiased machine
learning of conditional average treatment effects and other causal functions")."""

from dataclasses import dataclass

import numpy as np

from contrastkit.causal.estimate.base import clustered, satterthwaite
from contrastkit.causal.folds import Rows
from contrastkit.causal.inference import Effect, Wald
from contrastkit.tables.checks import Bools, Floats


@dataclass(frozen=True, eq=False)
class Projection:
    """The regression of psi [n] on the columns of Z [n, k].

    Attributes:
        coefficients: float64 [k]. influence: float64 [n, k], how far each unit moves them.
        groups: clusters of the units, int64 [n], if any.
    """

    coefficients: Floats
    influence: Floats
    groups: Rows | None

    @property
    def df(self) -> int:
        """Residual degrees of freedom; with G clusters, G - 1."""
        n, k = self.influence.shape
        return n - k if self.groups is None else int(self.groups.max())

    def covariance(self) -> Floats:
        """Of the coefficients, [k, k]: HC2; with clusters, of the influences summed within them, times G/(G - 1)."""
        each = self.influence
        if self.groups is None:
            return each.T @ each
        sums = np.zeros((self.df + 1, each.shape[1]))
        np.add.at(sums, self.groups, each)
        return sums.T @ sums * (len(sums) / (len(sums) - 1))

    def coefficient(self, j: int) -> Effect:
        return Effect.of(float(self.coefficients[j]), float(np.sqrt(self.covariance()[j, j])), self.df)

    def mean(self, j: int, inside: Bools, t: Bools, s: Floats) -> Effect:
        """The j-th coefficient as the mean of the units ``inside`` a group [n], with the degrees of freedom of Welch
        and Satterthwaite for arms t [n] and sample weights s [n], as estimators have them; with clusters, of those in
        the group, two or more."""
        influence = self.influence[inside, j]
        if self.groups is not None:
            present, of = np.unique(self.groups[inside], return_inverse=True)
            return Effect.of(float(self.coefficients[j]), clustered(influence, of), len(present) - 1)
        df = satterthwaite(influence, (t[inside], ~t[inside]), s[inside])
        return Effect.of(float(self.coefficients[j]), float(np.linalg.norm(influence)), df)

    def contrast(self, weights: Floats) -> Effect:
        """The combination of the coefficients with these weights [k]."""
        variance = float(weights @ self.covariance() @ weights)
        return Effect.of(float(weights @ self.coefficients), float(np.sqrt(variance)), self.df)

    def test(self, R: Floats) -> Wald:
        """The test that R [q, k] times the coefficients is 0."""
        return Wald.of(R @ self.coefficients, R @ self.covariance() @ R.T, self.df)


def project(Z: Floats, psi: Floats, s: Floats, groups: Rows | None = None) -> Projection:
    """The regression of psi [n] on the columns of Z [n, k], of full rank, with sample weights s [n].

    Residuals are divided by the root of 1 minus their leverage (HC2; MacKinnon & White 1985): with indicators of groups
    and equal weights, errors are those of the means of the groups, each its standard deviation over root n.
    """
    root = np.sqrt(s)
    Q, R = np.linalg.qr(Z * root[:, None])
    coefficients = np.linalg.solve(R, Q.T @ (root * psi))
    residual = root * (psi - Z @ coefficients)
    leverage = np.minimum((Q**2).sum(1), 1 - 1e-12)
    influence = np.linalg.solve(R, (Q * (residual / np.sqrt(1 - leverage))[:, None]).T).T
    return Projection(coefficients, influence, groups)
