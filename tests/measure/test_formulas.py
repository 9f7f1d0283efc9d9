"""The label-free numbers against loops in float64 and closed forms."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from contrastkit.measure import formulas
from contrastkit.measure.formulas import alignment, alpha_req, lidar, rankme, uniformity

Array = NDArray[np.float64]


def entropy_rank(weights: Array) -> float:
    shares = [weight / sum(weights) + 1e-7 for weight in weights]
    return math.exp(-sum(p * math.log(p) for p in shares if p > 0))


def with_spectrum(s: Array, n: int, g: np.random.Generator) -> Array:
    """A centred matrix [n, D] with these singular values."""
    u = g.normal(size=(n, len(s)))
    u, _ = np.linalg.qr(u - u.mean(0))
    v, _ = np.linalg.qr(g.normal(size=(len(s), len(s))))
    return (u * s) @ v.T


def test_rankme_of_equal_singular_values_is_their_number() -> None:
    g = np.random.default_rng(0)
    assert rankme(torch.from_numpy(with_spectrum(np.ones(24), 90, g))) == pytest.approx(24, rel=1e-4)
    assert rankme(torch.from_numpy(5 + np.zeros((30, 8)))) == pytest.approx(1, abs=1e-4)
    assert rankme(torch.eye(12)) == pytest.approx(12, rel=1e-4)
    assert rankme(torch.randn(6, 400)) <= 6 + 1e-3, "at most the number of images"
    assert math.isnan(rankme(torch.zeros(9, 4)))


def test_rankme_against_the_definition_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formulas, "BLOCK", 7)
    x = 3 + np.random.default_rng(1).normal(size=(50, 9)) * np.arange(1, 10)
    expected = entropy_rank(np.sqrt(np.linalg.eigvalsh(x.T @ x)))
    assert rankme(torch.from_numpy(x)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("alpha", [0.6, 1.0, 2.5])
def test_alpha_of_a_power_law_is_its_exponent(alpha: float) -> None:
    s: Array = 3.0 * np.arange(1, 121, dtype=np.float64) ** (-alpha / 2)
    law = alpha_req(torch.from_numpy(with_spectrum(s, 300, np.random.default_rng(2)) + 100))
    assert (law.alpha, law.r2, law.last) == (pytest.approx(alpha, abs=1e-6), pytest.approx(1), 100)


def test_alpha_is_the_weighted_line_through_eigenvalues_11_to_100() -> None:
    g = np.random.default_rng(3)
    s = np.sort(g.uniform(0.1, 5, 130))[::-1]
    j = np.arange(11, 101)
    slope, _ = np.polyfit(np.log(j), np.log(s[10:100] ** 2), 1, w=np.sqrt(1 / j))
    assert alpha_req(torch.from_numpy(with_spectrum(s, 200, g))).alpha == pytest.approx(-slope, rel=1e-6)


def test_too_few_directions_have_no_alpha() -> None:
    g = np.random.default_rng(4)
    for directions, defined in ((19, False), (20, True)):
        x = with_spectrum(1 / np.arange(1, directions + 1), 60, g) @ np.eye(directions, 64)
        law = alpha_req(torch.from_numpy(x).float())
        assert math.isfinite(law.alpha) == defined and law.last == directions


def test_uniformity_and_alignment_against_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formulas, "BLOCK", 4)
    views = np.random.default_rng(5).normal(size=(11, 5, 6)) * 7
    unit = views / np.sqrt((views**2).sum(2, keepdims=True))
    x = unit[:, 0]
    pairs = [((x[i] - x[j]) ** 2).sum() for i in range(11) for j in range(i)]
    expected = math.log(sum(math.exp(-2 * d) for d in pairs) / len(pairs))
    assert uniformity(torch.from_numpy(views[:, 0])) == pytest.approx(expected, rel=1e-9)
    apart = [((unit[i, a] - unit[i, a + 1]) ** 2).sum() for i in range(11) for a in (0, 2)]  # the fifth has no partner
    assert alignment(torch.from_numpy(views)) == pytest.approx(sum(apart) / len(apart), rel=1e-9)


def test_uniformitys_memory_does_not_grow_with_the_number_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0

    class Watched(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor) and not out._is_view():
                largest = max(largest, out.numel())
            return out

    monkeypatch.setattr(formulas, "BLOCK", 8)
    x = torch.randn(100, 3)
    with Watched():
        uniformity(x)
    assert largest == 8 * 8


def test_uniformity_of_known_points() -> None:
    point = torch.ones(5, 3)
    assert uniformity(point) == pytest.approx(0, abs=1e-6)
    assert uniformity(torch.tensor([[2.0, 0], [-1, 0]])) == pytest.approx(-8), "opposite points: a square of 4"
    assert uniformity(torch.eye(40)) == pytest.approx(-4), "orthogonal ones: a square of 2"
    spread = torch.randn(3000, 512, generator=torch.Generator().manual_seed(0))
    assert uniformity(spread) == pytest.approx(-4 + 8 / 512, abs=0.01), (
        "the mean, and half the variance, of -2 (2 - 2 s)"
    )
    assert alignment(torch.ones(4, 2, 3)) == 0 and alignment(torch.tensor([[[1.0, 0], [-1, 0]]])) == 4


def lda(views: Array, delta: float = 1e-4) -> float:
    """LiDAR with loops and the root of the scatter."""
    n, q, D = views.shape
    means = [sum(views[i]) / q for i in range(n)]
    grand = sum(means) / n
    between = sum(np.outer(m - grand, m - grand) for m in means) / (n - 1)
    within = sum(np.outer(v - means[i], v - means[i]) for i in range(n) for v in views[i]) / (n * (q - 1))
    values, vectors = np.linalg.eigh(within + delta * np.eye(D))
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    return entropy_rank(np.linalg.eigvalsh(root @ between @ root).clip(0))


def test_lidar_against_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formulas, "BLOCK", 3)
    g = np.random.default_rng(6)
    views = g.normal(size=(20, 1, 5)) * [4, 3, 1, 1, 0.02] + g.normal(size=(20, 4, 5)) * [1, 3, 0.1, 2, 0.01]
    assert lidar(torch.from_numpy(views)) == pytest.approx(lda(views), rel=1e-8)
    few = views[:4]
    assert lidar(torch.from_numpy(few)) == pytest.approx(lda(few), rel=1e-5) and lda(few) < 3 + 1e-4


def test_lidar_counts_the_directions_that_tell_images_apart() -> None:
    """Alike but for noise: one direction of ten has the images, the others the views."""
    g = torch.Generator().manual_seed(0)
    apart, noise = torch.randn(400, 1, 10, generator=g), torch.randn(400, 8, 10, generator=g)
    one = torch.eye(10)[0]
    assert lidar(apart + 1e-3 * noise) == pytest.approx(10, rel=0.02)
    assert lidar(1000 * apart * one + noise) == pytest.approx(1, abs=0.01)
    same: Tensor = torch.ones(5, 3, 4)
    assert math.isnan(lidar(same))
