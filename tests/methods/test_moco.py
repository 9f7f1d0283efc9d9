"""MoCo against its equations, written out as loops in float64."""

import math
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contrastkit import ops
from contrastkit.bench.case import reference
from contrastkit.errors import UserError
from contrastkit.methods import RECIPES, BuildContext
from contrastkit.methods.moco import MoCo, MoCoRecipe
from contrastkit.parts.norm import SplitBatchNorm2d
from contrastkit.types import Step
from tests.methods.small import batch, move_target

N, K, C = 8, 20, 16


def recipe(**numbers: Any) -> MoCoRecipe:
    row = RECIPES["moco-v2/tiny"]
    assert isinstance(row, MoCoRecipe)
    return replace(row, **{"batch": N, "K": K, "dim": C, "hidden": 32, "bn_groups": 1, "symmetric": False, **numbers})


def build(**numbers: Any) -> MoCo:
    torch.manual_seed(0)
    method = recipe(**numbers).build(BuildContext(channels=3, size=16, images=64, world=1, seed=3))
    move_target(method.target)
    return method.train()


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
    method, b = build(), batch(N)
    expected = infonce_loop(*towers(method, *b.views), method.queue.keys.double(), method.tau)
    assert method(b, 0.0).loss.item() == pytest.approx(expected, rel=1e-5)


def test_loss_is_lightlys() -> None:
    """With the same queue; theirs is normalised when it is made, and is filled after the look-up as ours."""
    lightly = pytest.importorskip("lightly.loss")
    method, b = build(), batch(N)
    theirs = lightly.NTXentLoss(temperature=method.tau, memory_bank_size=(K, C))
    theirs.memory_bank.bank.copy_(method.queue.keys.T if theirs.memory_bank.bank.shape == (C, K) else method.queue.keys)
    q, k = towers(method, *b.views)
    assert method(b, 0.0).loss.item() == pytest.approx(theirs(q.float(), k.float()).item(), rel=1e-5)


def test_symmetric_loss_is_the_sum_of_both_directions() -> None:
    method, b = build(symmetric=True), batch(N)
    x1, x2 = b.views
    expected = sum(
        infonce_loop(*towers(method, q, k), method.queue.keys.double(), method.tau) for q, k in ((x1, x2), (x2, x1))
    )
    step = method(b, 0.0)
    assert step.loss.item() == pytest.approx(expected, rel=1e-5)
    keys = torch.cat([towers(method, x, x)[1] for x in (x1, x2)])
    torch.testing.assert_close(step.memory.double(), keys, atol=1e-5, rtol=0)  # both views' keys go into the queue


def test_queries_are_normalised_in_groups_and_their_keys_in_others() -> None:
    """Eq. 1 with split batch norm, each group through a tower of plain batch norm."""
    method, plain, b = build(bn_groups=2), build(), batch(N)
    plain.online.load_state_dict(method.online.state_dict())
    x_q, x_k = b.views
    with torch.no_grad():
        q = torch.cat([unit(plain.online(part)) for part in x_q.chunk(2)])
    expected = infonce_loop(q, method.keys(x_k, 0.7).double(), method.queue.keys.double(), method.tau)
    step = method(b, 0.7)
    assert step.loss.item() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(step.memory, method.keys(x_k, 0.7))


@pytest.mark.parametrize("symmetric", [False, True])
def test_top1_is_the_share_of_queries_nearest_to_their_positive(symmetric: bool) -> None:
    method, b = build(symmetric=symmetric), batch(N)
    x1, x2 = b.views
    directions = [(x1, x2), (x2, x1)] if symmetric else [(x1, x2)]
    with torch.no_grad():
        q, k = towers(method, *directions[0])
        method.queue.keys[0] = 10 * q[:3].sum(0) - 10 * q[3:].sum(0)  # wins over some positives and loses to others
    hits = []
    for pair in directions:
        q, k = towers(method, *pair)
        for i in range(N):
            hits.append(all(float(q[i] @ k[i]) > float(q[i] @ key) for key in method.queue.keys.double()))
    assert 0 < sum(hits) < len(hits)
    assert method(b, 0.0).logs["top1"].item() == pytest.approx(sum(hits) / len(hits))


@torch.no_grad()
def test_keys_are_normalised_among_other_images_and_come_back_in_order() -> None:
    """Shuffling BN: key i is image i's, but its batch statistics come from a random half, not from its neighbours."""
    method, x = build(bn_groups=2), batch(N).views[1]
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
    method, x = build(bn_groups=2), batch(N).views[1]
    first = method.keys(x, progress=0.25)
    assert torch.equal(first, method.keys(x, progress=0.25))
    assert not torch.equal(first, method.keys(x, progress=0.25 + 1e-6))  # one step of a million
    method.seed = 4
    assert not torch.equal(first, method.keys(x, progress=0.25))


def test_after_step_moves_the_target_and_the_queue() -> None:
    method, b = build(m=0.9), batch(N)
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
    method, b = build(m=0.0), batch(N)
    step = method(b, 0.0)
    before = {name: value.clone() for name, value in method.target.named_buffers() if "running" in name}
    method.after_step(b, step, 0.0)
    assert all(torch.equal(value, before[name]) for name, value in method.target.named_buffers() if "running" in name)
    for target, online in zip(method.target.parameters(), method.online.parameters(), strict=True):
        torch.testing.assert_close(target, online)  # m = 0: the target is the detached tower


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bn_groups", [1, 2])
def test_a_positive_is_never_among_its_own_negatives(
    symmetric: bool, bn_groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training's look-ups against a list of keys that grows at its end: only its newest K are ever looked up in."""
    method = build(symmetric=symmetric, bn_groups=bn_groups, m=0.9)
    optimizer = torch.optim.SGD(method.online.parameters(), lr=0.05)
    looked_up: list[tuple[Tensor, Tensor]] = []  # positives and keys, as they were

    def infonce(q: Tensor, positive: Tensor, keys: Tensor, **how: Any) -> tuple[Tensor, Tensor, Tensor]:
        looked_up.append((positive.clone(), keys.clone()))
        return ops_infonce(q, positive, keys, **how)

    ops_infonce = ops.infonce
    monkeypatch.setattr(ops, "infonce", infonce)
    every_key = rows(method.queue.keys)
    for step in range(9):  # 72 or 144 keys into 20 places: the queue wraps, in the middle of a batch too
        looked_up.clear()
        out: Step = method(batch(N, seed=step), step / 9)
        out.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        method.after_step(batch(N, seed=step), out, step / 9)
        assert len(looked_up) == (2 if symmetric else 1)
        positives = [row for positive, _ in looked_up for row in rows(positive)]
        assert len(set(positives)) == len(positives) and not set(positives) & set(every_key)
        for _, keys in looked_up:
            assert sorted(rows(keys)) == sorted(every_key[-K:])
        every_key += rows(out.memory)  # all of them are negatives of later steps
        assert sorted(every_key[-len(positives) :]) == sorted(positives)


def rows(x: Tensor) -> list[tuple[float, ...]]:
    return [tuple(row) for row in x.tolist()]


@torch.no_grad()
def test_more_processes_than_groups_each_normalise_their_own_images() -> None:
    """--bn-groups 1 on two processes: plain batch norm on each is two groups already, so keys must be shuffled."""
    row = RECIPES["moco-v2/tiny"]
    assert isinstance(row, MoCoRecipe) and row.bn_groups == 1
    row = replace(row, K=64)
    method = row.build(BuildContext(channels=3, size=16, images=64, world=2, seed=0))
    norms = [type(m) for m in method.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and set(norms) == {nn.BatchNorm2d}
    assert method.groups == 2 and "2 groups, one per process" in method.notices[0]
    alone = row.build(BuildContext(channels=3, size=16, images=64, world=1, seed=0))
    assert alone.groups == 1 and not alone.notices


def test_a_queue_of_more_keys_than_images_is_said() -> None:
    assert not build(K=64).notices
    assert "65 keys of 64 images" in build(K=65).notices[0]


@pytest.mark.parametrize(("bn_groups", "world", "each"), [(8, 2, 4), (4, 1, 4), (8, 4, 2), (2, 1, 2)])
def test_groups_are_shared_out_among_the_processes(bn_groups: int, world: int, each: int) -> None:
    method = recipe(batch=16, bn_groups=bn_groups).build(
        BuildContext(channels=3, size=16, images=64, world=world, seed=0)
    )
    norms = [m for m in method.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and all(isinstance(m, SplitBatchNorm2d) and m.groups == each for m in norms)
    assert method.groups == bn_groups and not method.notices


def test_uniform_similarities_cost_log_k_plus_1() -> None:
    method = build()
    nn.init.zeros_(method.queue.keys)
    for p in (*method.online.head.parameters(), *method.target.tower.head.parameters()):
        nn.init.zeros_(p)
    nn.init.ones_(method.online.head[-1].bias[: C // 2])  # q and k are orthogonal unit vectors
    nn.init.ones_(method.target.tower.head[-1].bias[C // 2 :])
    assert method(batch(N), 0.0).loss.item() == pytest.approx(math.log(K + 1), rel=1e-6)
    assert method.chance_loss == pytest.approx(math.log(K + 1))
    assert build(symmetric=True).chance_loss == pytest.approx(2 * math.log(K + 1))


@pytest.mark.parametrize(
    ("numbers", "world", "says"),
    [
        ({"bn_groups": 3}, 1, "3 batch-norm groups must divide --batch 8"),
        ({"bn_groups": 4}, 3, "4 batch-norm groups must divide --batch 8 and be a multiple of the 3 process"),
        ({"bn_groups": 2}, 3, "3 batch-norm groups must divide --batch 8"),
        ({"bn_groups": 8}, 1, "each of the 8 batch-norm groups would hold one image: raise --batch to 16 or lower"),
        ({"batch": 1}, 1, "each of the 1 batch-norm groups would hold one image"),
        ({"views": RECIPES["moco-v2/tiny"].views[:1]}, 1, "takes 2 views, not 1"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(numbers: dict[str, Any], world: int, says: str) -> None:
    with pytest.raises(UserError, match=says):
        recipe(**numbers).build(BuildContext(channels=3, size=16, images=64, world=world, seed=0))


def test_the_loss_curve_on_the_kernels_is_the_references() -> None:
    def curve() -> list[float]:
        method = build(symmetric=True)
        optimizer = torch.optim.SGD(method.online.parameters(), lr=0.05, momentum=0.9)
        losses = []
        for step in range(12):
            out = method(batch(N, seed=step), 0.0)
            losses.append(out.loss.item())
            optimizer.zero_grad()
            out.loss.backward()
            optimizer.step()
            method.after_step(batch(N, seed=step), out, 0.0)
        return losses

    kernels = curve()
    references = torch.library.Library("contrastkit", "IMPL")
    for op in ("infonce", "queue_push_", "ema_"):
        references.impl(op, reference(op), "CPU", allow_override=True)
    try:
        assert curve() == pytest.approx(kernels, rel=2e-4)
    finally:
        references._destroy()
    assert kernels[-1] != pytest.approx(kernels[0], rel=1e-2)
