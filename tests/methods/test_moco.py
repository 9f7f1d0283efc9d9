"""MoCo against its equations, written out as loops in float64."""

import math
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from torch import Tensor, nn

from contrastkit.errors import UserError
from contrastkit.methods import RECIPES
from contrastkit.methods.moco import MoCo, MoCoRecipe
from contrastkit.types import Batch

N, K, C = 8, 20, 16


def recipe(**numbers: object) -> MoCoRecipe:
    row = RECIPES["moco-v2/tiny"]
    assert isinstance(row, MoCoRecipe)
    return replace(row, **{"batch": N, "K": K, "dim": C, "hidden": 32, "bn_groups": 1, "symmetric": False, **numbers})


def build(**numbers: object) -> MoCo:
    torch.manual_seed(0)
    method = recipe(**numbers).build(channels=3, size=16, world=1, seed=3)
    # A target unlike the online tower, or a test could not tell them apart.
    with torch.no_grad():
        for p in method.target.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return method.train()


def batch() -> Batch:
    g = torch.Generator().manual_seed(1)
    return Batch([torch.rand(N, 3, 16, 16, generator=g) for _ in range(2)], torch.arange(N), torch.full((N,), -1))


def unit(x: Tensor) -> Tensor:
    return (x / x.norm(dim=1, keepdim=True)).double()


def infonce_loop(q: Tensor, k: Tensor, queue: Tensor, tau: float) -> float:
    """Eq. 1 of the paper, averaged over the queries."""
    total = 0.0
    for i in range(len(q)):
        positive = math.exp(float(q[i] @ k[i]) / tau)
        negatives = sum(math.exp(float(q[i] @ queue[j]) / tau) for j in range(len(queue)))
        total -= math.log(positive / (positive + negatives))
    return total / len(q)


@torch.no_grad()
def towers(method: MoCo, x_q: Tensor, x_k: Tensor) -> tuple[Tensor, Tensor]:
    return unit(method.online(x_q)), unit(method.target.tower(x_k))


def test_loss_is_equation_1() -> None:
    method, b = build(), batch()
    expected = infonce_loop(*towers(method, *b.views), method.queue.keys.double(), method.tau)
    assert method(b, 0.0).loss.item() == pytest.approx(expected, rel=1e-5)


def test_symmetric_loss_is_the_sum_of_both_directions() -> None:
    method, b = build(symmetric=True), batch()
    x1, x2 = b.views
    expected = sum(
        infonce_loop(*towers(method, q, k), method.queue.keys.double(), method.tau) for q, k in ((x1, x2), (x2, x1))
    )
    step = method(b, 0.0)
    assert step.loss.item() == pytest.approx(expected, rel=1e-5)
    assert step.memory.shape == (2 * N, C)  # both views' keys go into the queue


@torch.no_grad()
def test_keys_are_normalised_among_other_images_and_come_back_in_order() -> None:
    """Shuffling BN: key i is image i's, but its batch statistics come from a random half, not from its neighbours."""
    method, x = build(bn_groups=2), batch().views[1]
    plain = build(bn_groups=1)
    plain.target.load_state_dict(method.target.state_dict())
    k = method.keys(x, progress=0.3).double()
    neighbours = torch.cat([unit(plain.target.tower(part)) for part in x.chunk(2)])
    assert (k - neighbours).abs().max() > 1e-2, "keys were normalised among their own neighbours: nothing was shuffled"
    # Every key must be its own image's in the company of one of the halves that hold it.
    error = torch.full((N,), math.inf, dtype=torch.float64)
    for half in combinations(range(N), N // 2):
        rows = list(half)
        error[rows] = torch.minimum(error[rows], (k[rows] - unit(plain.target.tower(x[rows]))).abs().amax(1))
    assert error.max() < 1e-4


def test_the_shuffle_is_a_function_of_seed_and_progress() -> None:
    method, b = build(bn_groups=2), batch()
    first = method.keys(b.views[1], progress=0.25)
    assert torch.equal(first, method.keys(b.views[1], progress=0.25))
    assert not torch.equal(first, method.keys(b.views[1], progress=0.26))


def test_after_step_moves_the_target_and_the_queue() -> None:
    method, b = build(m=0.9), batch()
    step = method(b, 0.0)
    target = [p.double().clone() for p in method.target.parameters()]
    queue = method.queue.keys.clone()
    for _ in range(3):  # 24 keys into 20 places: the queue wraps
        method.after_step(b, step, 0.0)
    online = [p.detach().double() for p in method.online.parameters()]
    for before, source, after in zip(target, online, method.target.parameters(), strict=True):
        expected = before
        for _ in range(3):
            expected = 0.9 * expected + 0.1 * source
        torch.testing.assert_close(after.double(), expected, atol=1e-6, rtol=1e-5)
    expected_queue = list(queue)
    for place, key in enumerate(list(step.memory) * 3):
        expected_queue[place % K] = key
    torch.testing.assert_close(method.queue.keys, torch.stack(expected_queue), atol=1e-6, rtol=0)
    assert method.queue.pointer.item() == 24 % K


def test_the_target_keeps_its_own_batch_norm_statistics() -> None:
    method, b = build(m=0.0), batch()
    step = method(b, 0.0)
    before = {name: value.clone() for name, value in method.target.named_buffers() if "running" in name}
    method.after_step(b, step, 0.0)
    assert all(torch.equal(value, before[name]) for name, value in method.target.named_buffers() if "running" in name)
    for target, online in zip(method.target.parameters(), method.online.parameters(), strict=True):
        torch.testing.assert_close(target, online)  # m = 0: the target is the detached tower


def test_a_positive_is_never_among_its_own_negatives() -> None:
    method, b = build(), batch()
    step = method(b, 0.0)
    nearest = (step.memory @ method.queue.keys.T).max()
    assert nearest < 0.999


def test_uniform_similarities_cost_log_k_plus_1() -> None:
    method = build()
    nn.init.zeros_(method.queue.keys)
    for p in (*method.online.head.parameters(), *method.target.tower.head.parameters()):
        nn.init.zeros_(p)
    nn.init.ones_(method.online.head[-1].bias[: C // 2])  # q and k are orthogonal unit vectors
    nn.init.ones_(method.target.tower.head[-1].bias[C // 2 :])
    assert method(batch(), 0.0).loss.item() == pytest.approx(math.log(K + 1), rel=1e-6)
    assert method.chance == pytest.approx(math.log(K + 1))


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ({"bn_groups": 3}, "3 batch-norm groups must divide --batch 8"),
        ({"views": RECIPES["moco-v2/tiny"].views[:1]}, "two views"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(numbers: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        build(**numbers)
