"""Numbers of features that need no labels, as the papers define them, in float64.

The monitor's rank, alignment and uniformity (:func:`contrastkit.monitor.collapse`) describe the outputs that a loss
compares, normalised; RankMe, alpha-ReQ and LiDAR take the encoder's features as they are.

Where this departs: the papers compute RankMe and LiDAR of the projector's outputs, RankMe of 25,600 images.
``contrastkit measure`` takes the encoder's features, which are what is used afterwards and what an encoder by name has,
too: 5,000 images, and at most 1,000 under 10 views, unless told otherwise. So values compare with one another, not with
published ones. Uniformity and alignment normalise the features, and so does the k-means behind NMI and ARI; the ranks
and alpha-ReQ take them raw, and depend on their scale. NMI is not adjusted for chance, which stands beside
it; ARI is.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1e-7  # RankMe's, for float32
DELTA = 1e-4  # added to LiDAR's within-class scatter
FIRST, LAST = 11, 100  # the eigenvalues to which alpha-ReQ's line is fitted, counted from 1
FEWEST = 10  # of them, for a slope
ROUNDING = 1e-7  # relative to the largest singular value: what float32 features cannot tell from 0
BLOCK = 2**12  # rows at once; of pairs of images, that many by that many: 128 MiB


class PowerLaw(NamedTuple):
    """The eigenvalues of a covariance as c j^-alpha, j = 1, 2, ...; NaN where too few are above 0."""

    alpha: float
    r2: float  # share of the variance of their logarithms that the line explains
    last: int  # the last eigenvalue of the fit; the first is FIRST


def rankme(x: Tensor) -> float:
    """The effective rank of the features: RankMe (Garrido et al. 2023, arXiv:2210.02885, Eq. 1).

    exp(- sum_k p_k log p_k) with p_k = sigma_k / sum_j sigma_j + 1e-7, of the singular values sigma of x, which is
    neither centred nor normalised. Between 1 and min(N, D); NaN if all features are 0.

    Args:
        x: [N, D].
    """
    s = _singular_values(x)
    return _effective_rank(s / s.sum())


def alpha_req(x: Tensor) -> PowerLaw:
    """The decay of the eigenvalues of the covariance of the features: alpha-ReQ (Agrawal et al. 2022, Sec. 3).

    A line through log lambda_j against log j, its squared errors weighted by 1 / j, as in the authors' code. Their
    range differs from one experiment to the next, such as 6 to 50; here it is eigenvalues 11 to 100, the default of
    their package reptrix, or up to the last one that float32 tells from 0. With fewer than 20 of these, alpha is NaN.

    Args:
        x: [N, D].
    """
    s = _singular_values(x, centred=True)
    last = min(LAST, int((s > ROUNDING * s[0]).sum()))
    if last - FIRST + 1 < FEWEST:
        return PowerLaw(math.nan, math.nan, last)
    j = torch.arange(FIRST, last + 1, dtype=torch.float64)
    a, b, w = j.log(), s[FIRST - 1 : last].square().log(), 1 / j
    from_a, from_b = a - (w * a).sum() / w.sum(), b - (w * b).sum() / w.sum()
    slope = (w * from_a * from_b).sum() / (w * from_a.square()).sum()
    total = (w * from_b.square()).sum()
    left = (w * (from_b - slope * from_a).square()).sum()
    return PowerLaw(-slope.item(), (1 - left / total).item() if total > 0 else math.nan, last)


def uniformity(x: Tensor) -> float:
    """The log of the mean of exp(-2 ||u_i - u_j||^2) over all pairs of images, u normalised (Wang & Isola 2020,
    arXiv:2005.10242, Sec. 4.1.2, t = 2). Between -8 and 0, which is one point for all; N points spread over a sphere of
    many dimensions have about -4.

    Args:
        x: [N, D], N > 1.
    """
    blocks, total, n = x.split(BLOCK), 0.0, len(x)
    for i, rows in enumerate(blocks):
        a = F.normalize(rows.double(), dim=1)
        for j, others in enumerate(blocks[i:], start=i):
            b = F.normalize(others.double(), dim=1)
            squares = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
            near = (-2 * squares.clamp(min=0)).exp()
            total += (near.triu(1) if i == j else near).sum().item()
    return math.log(total / (n * (n - 1) / 2))


def alignment(views: Tensor) -> float:
    """The mean of ||u_a - u_b||^2 over positive pairs, u normalised (Wang & Isola 2020, Sec. 4.1.1, alpha = 2): views
    1 and 2 of an image, 3 and 4, ... Between 0, which is perfect, and 4; 2 for unrelated directions.

    Args:
        views: [N, q, D], q > 1.
    """
    u = F.normalize(views.double(), dim=2)
    q = u.shape[1] // 2 * 2
    return (u[:, 0:q:2] - u[:, 1:q:2]).square().sum(2).mean().item()


def lidar(views: Tensor) -> float:
    """The effective rank of the discriminant of images by their views: LiDAR (Thilak et al. 2024, arXiv:2312.04000,
    Eq. 1 to 4).

    Each image is a class, its q views are its examples. Of S_w^(-1/2) S_b S_w^(-1/2), where S_b is the scatter of the
    classes' means and S_w that within classes plus 1e-4 I, it is exp(- sum_k p_k log p_k) with p_k = lambda_k / sum_j
    lambda_j + 1e-7. Between 1 and min(N - 1, D); NaN if all means are the same.

    1e-4 (delta) is the value that is in use (stable-pretraining, Skean et al. 2025); it is absolute, so that features
    of a scale near 0.01 are compared with it rather than with one another.

    Args:
        views: [N, q, D], N > 1, q > 1.
    """
    (n, q, D), views = views.shape, views.double()
    means = views.mean(1)
    within = torch.zeros(D, D, dtype=torch.float64)
    for rows, mean in zip(views.split(BLOCK), means.split(BLOCK), strict=True):
        difference = (rows - mean[:, None]).flatten(0, 1)
        within += difference.T @ difference
    within = within / (n * (q - 1)) + DELTA * torch.eye(D, dtype=torch.float64)
    # The singular values of the whitened means, squared, are the eigenvalues; S_w = L L^T whitens like its root.
    between = (means - means.mean(0)) / math.sqrt(n - 1)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(within), between.T, upper=False)
    eigenvalues = torch.linalg.svdvals(white).square()
    return _effective_rank(eigenvalues / eigenvalues.sum())


def _effective_rank(p: Tensor) -> float:
    """Of shares [k] that sum to 1; NaN where they are."""
    return torch.special.entr(p + EPSILON).sum().exp().item()


def _singular_values(x: Tensor, *, centred: bool = False) -> Tensor:
    """Of x [N, D], largest first: float64 [min(N, D)]. Blocks of rows are reduced to a triangle one after the other, so
    that no copy of x is made."""
    mean = x.mean(0, dtype=torch.float64) if centred else 0
    triangle = torch.empty(0, x.shape[1], dtype=torch.float64)
    for rows in x.split(BLOCK):
        triangle = torch.linalg.qr(torch.cat([triangle, rows.double() - mean]), mode="r").R
    return torch.linalg.svdvals(triangle)
