"""The estimating equations that weights solve, and how an estimate depends on them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contrastkit.tables.checks import Floats


@dataclass(frozen=True, eq=False)
class Equations:
    """Weights w_i(beta), where beta solves sum_i score_i(eta_i) A_i = 0 and eta_i = A_i'beta.

    Attributes:
        A: float64 [n, k]; columns may be linearly dependent.
        score: float64 [n]. curvature: float64 [n], minus its derivative by eta_i; not negative.
        slope: float64 [n], the derivative of log w_i by eta_i.
    """

    A: Floats
    score: Floats
    curvature: Floats
    slope: Floats

    def carried(self, own: Floats) -> tuple[Floats, Floats, Floats]:
        """How far units move K estimates through beta [K, n], which part of their own influence is explained by the
        equations [K, n], and the leverage of each unit on beta [n].

        Args:
            own: float64 [K, n], the derivatives of the estimates by log w_i.
        """
        projected, leverage = leverages(self.A, self.curvature)
        moved = (own * self.slope) @ self.A @ projected.T
        return self.score * moved, np.sign(self.slope) * self.curvature * moved, leverage


@dataclass(frozen=True, eq=False)
class MultinomialEquations:
    """Weights h(x_i)/e_k(x_i) of units of arm k, where e is multinomial logistic in A by maximum likelihood.

    Attributes:
        A: float64 [n, k]; columns may be linearly dependent.
        e: float64 [n, K], the scores. codes: int64 [n], the arms from 0.
        focal: the arm whose score is h; None for h = 1.
    """

    A: Floats
    e: Floats
    codes: NDArray[np.int64]
    focal: int | None

    @property
    def curvature(self) -> Floats:
        """Minus the second derivative of the log likelihood by the coefficients of all arms but the first, arm by arm,
        [(K - 1) k, (K - 1) k]."""
        e, arms = self.e, range(1, self.e.shape[1])
        return np.block([[(self.A.T * (e[:, a] * ((a == b) - e[:, b]))) @ self.A for b in arms] for a in arms])

    def carried(self, own: Floats) -> tuple[Floats, Floats, Floats]:
        """As :meth:`Equations.carried`; no part is taken as explained, and leverages are not known."""
        score = self._indicators(self.codes) - self.e[:, 1:]  # also the derivative of log e_k
        slope = -score if self.focal is None else self._indicators(self.focal) - self._indicators(self.codes)
        reach = np.einsum("kn,na,ni->kai", own, slope, self.A, optimize=True)
        solved = reach.reshape(len(own), -1) @ np.linalg.pinv(self.curvature, rcond=1e-10, hermitian=True)
        through = np.einsum("kai,na,ni->kn", solved.reshape(reach.shape), score, self.A, optimize=True)
        return through, np.zeros_like(own), np.zeros(len(self.A))

    def _indicators(self, code: int | NDArray[np.int64]) -> Floats:
        """Whether the arm is each but the first, [n, K - 1] or [1, K - 1]."""
        return (np.atleast_1d(code)[:, None] == np.arange(1, self.e.shape[1])).astype(np.float64)


@dataclass(frozen=True, eq=False)
class MomentEquations:
    """Weights w_i(beta), where beta makes sum_i P m_i = 0, combinations P of more conditions than coefficients, as the
    generalised method of moments does; m_i is r_i1 A_i, ..., r_iM A_i, one after the other.

    Attributes:
        A: float64 [n, k], of full rank. residuals: float64 [M, n], r.
        slope: float64 [n], the derivative of log w_i by eta_i = A_i'beta.
        solved: float64 [k, M k], P over its product with the derivative of sum_i m_i by beta.
    """

    A: Floats
    residuals: Floats
    slope: Floats
    solved: Floats

    def carried(self, own: Floats) -> tuple[Floats, Floats, Floats]:
        """As :meth:`Equations.carried`, with P as given; no part is taken as explained, and leverages are not known."""
        reach = -(own * self.slope) @ self.A @ self.solved  # [K, M k]
        parts = np.split(reach, len(self.residuals), axis=1)
        through = sum(part @ self.A.T * r for part, r in zip(parts, self.residuals, strict=True))
        return np.asarray(through), np.zeros_like(own), np.zeros(len(self.A))


def leverages(A: Floats, w: Floats) -> tuple[Floats, Floats]:
    """A times the pseudo-inverse of A'wA [n, k], and the leverage [n] of each row on the regression on A with weights
    w [n]; at most 1 - 1e-6, since a row that has all of it has no residual either."""
    projected = A @ np.linalg.pinv((A * w[:, None]).T @ A, rcond=1e-10, hermitian=True)
    return projected, np.minimum(w * np.einsum("ij,ij->i", projected, A), 1 - 1e-6)


Solved = Equations | MultinomialEquations | MomentEquations
