"""How strongly the instruments move the treatment."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import ncx2

from contrastkit.causal.inference import Wald
from contrastkit.causal.instruments.sample import Sample
from contrastkit.tables.checks import Floats

BIAS = 0.1  # of two-stage least squares, relative to the worst case, that weak instruments must not exceed


@dataclass(frozen=True)
class FirstStage:
    """The regression of the treatment on instruments and covariates.

    Attributes:
        f: the robust F test of the instruments. partial_r2: their share of the variance that covariates leave.
        effective_f: the effective F of Montiel Olea & Pflueger (2013), with one instrument the robust F.
        critical: the value that it exceeds with probability 5 % where the bias is a tenth of the worst.
    """

    f: Wald
    partial_r2: float
    effective_f: float
    critical: float

    @property
    def weak(self) -> bool:
        return self.effective_f < self.critical


def first_stage(sample: Sample) -> FirstStage:
    """The first stage of a sample."""
    k = sample.Z.shape[1]
    coefficients = sample.Z.T @ sample.d
    scores = sample.Z * (sample.d - sample.Z @ coefficients)[:, None]
    V = sample.covariance(scores, coefficients=k)
    return FirstStage(
        f=Wald.of(coefficients, V, sample.df(k)),
        partial_r2=float(coefficients @ coefficients / (sample.d @ sample.d)),
        effective_f=float(coefficients @ coefficients / np.trace(V)),
        critical=critical_value(V),
    )


def critical_value(V: Floats, bias: float = BIAS) -> float:
    """The 5 % critical value of the effective F for first-stage coefficients of orthonormal instruments with covariance
    V [k, k], by the simplified procedure of Montiel Olea & Pflueger (2013, with Patnaik's approximation): it supposes
    the worst bias of two-stage least squares."""
    x = 1 / bias
    trace, largest = float(np.trace(V)), float(np.linalg.eigvalsh(V)[-1])
    effective = trace**2 * (1 + 2 * x) / (float((V**2).sum()) + 2 * x * trace * largest)
    return float(ncx2.ppf(0.95, effective, x * effective) / effective)
