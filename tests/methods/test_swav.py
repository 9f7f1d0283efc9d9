"""SwAV against its equations and the official code's rules, written out as loops in float64."""

import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit import losses, ops
from contrastkit.errors import UserError
from contrastkit.methods import RECIPES, BuildContext
from contrastkit.methods.swav import SwAV, SwAVRecipe
from contrastkit.optim import SchedulePoint, apply_schedule, build_optimizer, learning_rate
from contrastkit.parts.dictionary import Queue
from contrastkit.types import Batch, Step
from tests.methods.small import batch

N, K, C = 8, 12, 16
CROPS = (16, 16, 8, 8, 8)
CONTEXT = BuildContext(channels=3, size=16, images=64, world=1, seed=3)


def recipe(views: tuple[int, ...] = CROPS, **numbers: Any) -> SwAVRecipe:
    row = RECIPES["swav/tiny"]
    assert isinstance(row, SwAVRecipe)
    small = {"batch": N, "K": K, "dim": C, "hidden": 32, "queue_length": 0, "epochs": 10, "epsilon": 0.05}
    return replace(row, views=tuple(replace(row.views[0], size=size) for size in views), **{**small, **numbers})


def build(views: tuple[int, ...] = CROPS, **numbers: Any) -> SwAV:
    torch.manual_seed(0)
    return recipe(views, **numbers).build(CONTEXT).train()


def embeddings(method: SwAV, b: Batch) -> Tensor:
    """[V, N, C]: crops of one size through the encoder together, all through the head together."""
    sizes = list(dict.fromkeys(view.shape[-1] for view in b.views))
    runs = [torch.cat([view for view in b.views if view.shape[-1] == size]) for size in sizes]
    z = method.online.head(torch.cat([method.online.encoder(run) for run in runs]))
    return (z / z.norm(dim=1, keepdim=True)).view(len(b.views), N, -1)


def sinkhorn_loop(scores: Tensor, epsilon: float, iterations: int) -> list[list[float]]:
    """The official code's: Q [K, B] sums to 1; each iteration divides its rows to 1/K, then its columns to 1/B."""
    B, k = scores.shape
    Q = [[math.exp(float(scores[i, j]) / epsilon) for i in range(B)] for j in range(k)]
    total = sum(map(sum, Q))
    Q = [[x / total for x in row] for row in Q]
    for _ in range(iterations):
        for j in range(k):
            of_row = sum(Q[j])
            Q[j] = [x / of_row / k for x in Q[j]]
        for i in range(B):
            of_column = sum(Q[j][i] for j in range(k))
            for j in range(k):
                Q[j][i] /= of_column * B
    return [[Q[j][i] * B for j in range(k)] for i in range(B)]


def loss_loop(scores: Tensor, q: list[list[list[float]]], tau: float) -> Tensor:
    """Eqs. 1 and 2 over all crops, scores float64 [V, N, K] with gradient, codes plain numbers."""
    V, n, k = scores.shape
    total = scores.new_zeros(())
    for i in range(len(q)):
        of_code = scores.new_zeros(())
        for v in range(V):
            if v == i:
                continue
            for x in range(n):
                normaliser = sum(torch.exp(scores[v, x, j] / tau) for j in range(k))
                for j in range(k):
                    of_code = of_code - q[i][x][j] * torch.log(torch.exp(scores[v, x, j] / tau) / normaliser) / n
        total = total + of_code / (V - 1)
    return total / len(q)


@pytest.mark.parametrize(
    ("views", "numbers"),
    [
        ((16, 16), {}),
        (CROPS, {}),
        ((16, 16, 8), {"assign": 1, "tau": 0.2, "epsilon": 0.03, "iterations": 1}),
    ],
)
def test_loss_and_gradient_are_those_of_the_swapped_prediction(views: tuple[int, ...], numbers: dict[str, Any]) -> None:
    """Codes are numbers in the transcription: a gradient through them would show."""
    method, b = build(views, **numbers), batch(N, views)
    other = copy.deepcopy(method)
    r = method.recipe
    scores = embeddings(other, b).double() @ other.prototypes.weight.double().T
    q = [sinkhorn_loop(scores[i].detach(), r.epsilon, r.iterations) for i in range(r.assign)]
    expected = loss_loop(scores, q, r.tau)
    expected.backward()

    loss = method(b, 0.5).loss
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for (name, p), p_other in zip(method.named_parameters(), other.parameters(), strict=True):
        assert p.grad is not None and p_other.grad is not None
        scale = p_other.grad.abs().max().item()
        assert scale > 0
        torch.testing.assert_close(p.grad, p_other.grad, atol=2e-4 * scale, rtol=0, msg=(name + ": {}").format)


def test_one_loss_a_row_and_its_gradient_in_float64() -> None:
    g = torch.Generator().manual_seed(0)
    scores = torch.rand(4, N, K, generator=g).requires_grad_()
    q = torch.rand(2, N, K, generator=g).softmax(-1)
    rows = losses.swapped_prediction(scores, q, tau=0.1)
    for x in range(N):
        truth = loss_loop(scores.detach()[:, x : x + 1].double(), q[:, x : x + 1].tolist(), 0.1)
        assert rows[x].item() == pytest.approx(truth.item(), rel=1e-5)
    rows.mean().backward()
    wide = scores.detach().double().requires_grad_()
    loss_loop(wide, q.tolist(), 0.1).backward()
    assert scores.grad is not None and wide.grad is not None
    torch.testing.assert_close(scores.grad.double(), wide.grad, atol=1e-7, rtol=1e-4)


class Spy:
    """What goes into Sinkhorn's algorithm, and what comes out."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.scores: list[Tensor] = []
        self.codes: list[Tensor] = []
        self.real = ops.sinkhorn
        monkeypatch.setattr(ops, "sinkhorn", self)

    def __call__(self, scores: Tensor, *, epsilon: float, iterations: int, across_ranks: bool) -> Tensor:
        assert across_ranks, "one process and many must balance the same batch"
        codes = self.real(scores, epsilon=epsilon, iterations=iterations, across_ranks=across_ranks)
        self.scores.append(scores.clone())
        self.codes.append(codes.clone())
        return codes


def test_codes_come_from_the_full_size_crops_alone_and_sum_to_1(monkeypatch: pytest.MonkeyPatch) -> None:
    method, b, spy = build(), batch(N, CROPS), Spy(monkeypatch)
    step = method(b, 0.5)
    expected = embeddings(method, b) @ method.prototypes.weight.T
    assert len(spy.scores) == 2
    for i in range(2):
        assert not spy.codes[i].requires_grad
        torch.testing.assert_close(spy.scores[i], expected[i].detach(), atol=1e-5, rtol=0)
        torch.testing.assert_close(spy.codes[i].sum(1), torch.ones(N))
        # A sum over the images is N/K for each prototype, or nearly so after three iterations.
        torch.testing.assert_close(spy.codes[i].sum(0), torch.full((K,), N / K), atol=0.3 * N / K, rtol=0)
    torch.testing.assert_close(step.memory, embeddings(method, b)[:2].detach(), atol=1e-5, rtol=0)
    hits = [int(expected[1, x].argmax()) == int(spy.codes[0][x].argmax()) for x in range(N)]
    assert step.logs["top1"].item() == pytest.approx(sum(hits) / N)


def test_scores_are_float32_where_the_encoder_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of bfloat16's last bits is 8 % of a code at epsilon = 0.05."""
    method, b, spy = build(), batch(N, CROPS), Spy(monkeypatch)
    with torch.autocast("cpu", torch.bfloat16):
        step = method(b, 0.5)
    expected = step.memory.double() @ method.prototypes.weight.detach().double().T
    assert step.loss.dtype == torch.float32
    for i in range(2):
        torch.testing.assert_close(spy.scores[i].double(), expected[i], atol=1e-6, rtol=0)


def test_equal_scores_cost_log_k() -> None:
    method = build()
    torch.nn.init.zeros_(method.prototypes.weight)
    assert method(batch(N, CROPS), 0.5).loss.item() == pytest.approx(math.log(K), rel=1e-6)
    assert method.chance_loss == pytest.approx(math.log(K))


def test_one_prototype_of_a_batch_would_be_the_collapse_that_codes_forbid() -> None:
    """All images at one point: codes stay uniform, and the loss cannot fall below ln K at the best prototypes."""
    method = build()
    torch.nn.init.zeros_(method.online.head[-1].weight)
    torch.nn.init.ones_(method.online.head[-1].bias)
    with torch.no_grad():
        method.prototypes.weight[0] = C**-0.5  # nearest to all of them
    assert method(batch(N, CROPS), 0.5).loss.item() > math.log(K)


# ---------------------------------------------------------------------------------------------------------- prototypes


def test_prototypes_have_length_1_before_every_forward() -> None:
    method, b = build(freeze_epochs=0.0), batch(N, CROPS)
    optimizer = build_optimizer(method.param_groups(), "sgd", lr=1.0, weight_decay=0.0)
    norms = method.prototypes.weight.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(K))
    before = method.prototypes.weight.detach().clone()
    for step in range(3):
        out = method(b, step / 10)
        out.loss.backward()
        optimizer.step()
        stepped = method.prototypes.weight.detach().clone()
        assert (stepped.norm(dim=1) - 1).abs().max() > 1e-4
        optimizer.zero_grad()
        method.after_step(b, out, step / 10)
        expected = torch.stack([row / row.norm() for row in stepped.double()])
        torch.testing.assert_close(method.prototypes.weight.double(), expected, atol=1e-6, rtol=0)
    assert (method.prototypes.weight - before).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["sgd", "lars", "adamw"])
def test_frozen_prototypes_stay_and_then_move(name: str) -> None:
    """Neither their gradient nor momentum nor decay reach them (the official code sets the gradient to None)."""
    method, b = build(freeze_epochs=2.0, epochs=10), batch(N, CROPS)
    optimizer = build_optimizer(method.param_groups(), name, lr=0.5, weight_decay=0.1)  # type: ignore[arg-type]
    first = method.prototypes.weight.detach().clone()
    for step in range(40):  # four steps an epoch
        if step not in (0, 1, 6, 7, 8, 9):
            continue
        progress = step / 40
        out = method(b, progress)
        out.loss.backward()
        apply_schedule(optimizer, progress, SchedulePoint(lr=0.5))
        optimizer.step()
        optimizer.zero_grad()
        method.after_step(b, out, progress)
        moved = (method.prototypes.weight - first).abs().max().item()
        assert moved < 1e-6 if step < 8 else moved > 1e-6, step


@pytest.mark.parametrize("per_epoch", [7, 312, 5004])
@pytest.mark.parametrize("name", ["swav/imagenet", "swav/imagenet-256"])
def test_the_published_epoch_of_frozen_prototypes_ends_on_its_step(name: str, per_epoch: int) -> None:
    row = RECIPES[name]
    assert isinstance(row, SwAVRecipe)
    frozen_until = row.freeze_epochs / row.epochs
    steps = row.epochs * per_epoch
    assert (per_epoch - 1) / steps < frozen_until and not per_epoch / steps < frozen_until


def test_everything_is_decayed_and_adapted() -> None:
    """LARC over all parameters: biases and norms are not left out."""
    method = build(freeze_epochs=2.0)
    groups = method.param_groups()
    assert sum(len(group.params) for group in groups) == len(list(method.parameters()))
    assert all(group.decay and group.adapt and group.fixed_lr is None and group.lr_scale == 1 for group in groups)
    assert [group.frozen_until for group in groups] == [0.0, pytest.approx(0.2)]
    assert [p for group in groups if group.frozen_until for p in group.params] == [method.prototypes.weight]


# --------------------------------------------------------------------------------------------------------------- queue


def trained(method: SwAV, steps: range, spy: Spy) -> Iterator[tuple[Batch, Step, float]]:
    """A training of ten epochs of four steps, seen before after_step."""
    optimizer = build_optimizer(method.param_groups(), "sgd", lr=0.1, weight_decay=0.0)
    for step in steps:
        spy.scores.clear()
        spy.codes.clear()
        b = batch(N, (16, 16, 8), seed=step)
        out = method(b, step / 40)
        yield b, out, step / 40
        out.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        method.after_step(b, out, step / 40)


@pytest.mark.parametrize("length", [16, 20, 5])
def test_the_queue_begins_at_its_epoch_and_helps_once_full(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against lists that grow at their ends. 20 is no multiple of the batch; 5 is less than it."""
    method = build((16, 16, 8), queue_length=length, queue_epochs=0.5, freeze_epochs=0.0)
    spy = Spy(monkeypatch)
    pushed: list[list[Tensor]] = [[], []]  # every embedding of either view since the queue began
    used = []
    for step, (_, out, _) in enumerate(trained(method, range(10), spy)):
        weight = method.prototypes.weight.detach().clone()
        for i in range(2):
            own = out.memory[i] @ weight.T
            torch.testing.assert_close(spy.scores[i][-N:], own, atol=1e-5, rtol=0)
            older = spy.scores[i][:-N]
            full = len(pushed[i]) >= length
            assert len(older) == (length if full else 0), step
            if full:
                # The last ones of this view, as today's prototypes score them, in any order.
                expected = torch.stack(pushed[i][-length:]) @ weight.T
                by = expected[:, 0].argsort(), older[:, 0].argsort()
                torch.testing.assert_close(older[by[1]], expected[by[0]], atol=1e-5, rtol=0)
        used.append(len(spy.scores[0]) > N)
        q = torch.stack([codes[-N:] for codes in spy.codes])
        scores = (F.normalize(method.online([*batch(N, (16, 16, 8), seed=step).views]), dim=1) @ weight.T).view(3, N, K)
        expected_loss = losses.swapped_prediction(scores.detach(), q, tau=0.1).mean()
        torch.testing.assert_close(out.loss.detach(), expected_loss, atol=1e-5, rtol=0)
        if step >= 2:  # half an epoch
            for i in range(2):
                pushed[i] += list(out.memory[i])
    first_full = 2 + math.ceil(length / N)
    assert used == [step >= first_full for step in range(10)]


def test_codes_with_a_queue_are_those_of_both_together(monkeypatch: pytest.MonkeyPatch) -> None:
    method = build((16, 16, 8), queue_length=16, queue_epochs=0.0)
    spy = Spy(monkeypatch)
    for _, _, _ in trained(method, range(5), spy):
        pass
    b = batch(N, (16, 16, 8), seed=9)
    with torch.no_grad():
        scores = (embeddings(method, b) @ method.prototypes.weight.T)[0]
        older = method.queues[0].keys @ method.prototypes.weight.T
        expected = sinkhorn_loop(torch.cat([older, scores]).double(), 0.05, 3)[-N:]
        alone = sinkhorn_loop(scores.double(), 0.05, 3)
        actual = method.codes(scores, 0, 0.5)
    torch.testing.assert_close(actual.double(), torch.tensor(expected, dtype=torch.float64), atol=1e-4, rtol=0)
    assert (actual.double() - torch.tensor(alone)).abs().max() > 1e-2, "the queue must make a difference"


def test_the_queue_holds_unit_embeddings_in_float32() -> None:
    """Not scores, which the next step's prototypes would contradict."""
    method, b = build((16, 16, 8), queue_length=24, queue_epochs=0.0), batch(N, (16, 16, 8))
    out = method(b, 0.0)
    before = [queue.keys.clone() for queue in method.queues]
    method.after_step(b, out, 0.0)
    for i, queue in enumerate(method.queues):
        assert queue.keys.shape == (24, C) and queue.keys.dtype == torch.float32
        torch.testing.assert_close(queue.keys[:N], out.memory[i])
        torch.testing.assert_close(queue.keys[:N].norm(dim=1), torch.ones(N))
        assert torch.equal(queue.keys[N:], before[i][N:])
        assert queue.n_valid.item() == queue.pointer.item() == N and not queue.full
    assert not torch.equal(method.queues[0].keys[:N], method.queues[1].keys[:N])


def test_without_a_queue_nothing_is_kept() -> None:
    assert not any("queue" in name for name in build().state_dict())
    with_queue = build(queue_length=16, queue_epochs=5.0).state_dict()
    assert sorted(name for name in with_queue if "queue" in name) == [
        f"queues.{i}.{what}" for i in range(2) for what in ("keys", "n_valid", "pointer")
    ]


def test_a_counted_queue_knows_when_it_is_full() -> None:
    queue = Queue(5, 3, torch.Generator().manual_seed(0), counted=True)
    seen = []
    for _ in range(4):
        queue.push(F.normalize(torch.rand(2, 3), dim=1))
        seen.append((queue.n_valid.item(), queue.full))
    assert seen == [(2, False), (4, False), (5, True), (5, True)]
    resumed = Queue(5, 3, torch.Generator().manual_seed(1), counted=True)
    assert not resumed.full
    resumed.load_state_dict(queue.state_dict())
    assert resumed.full
    assert "n_valid" not in Queue(5, 3, torch.Generator().manual_seed(0)).state_dict()


# ------------------------------------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize(
    ("name", "epoch", "lr"),
    [
        ("swav/imagenet", 0, 0.3),
        ("swav/imagenet", 5, (0.3 + 4.8) / 2),
        ("swav/imagenet", 10, 4.8),
        ("swav/imagenet", 405, (4.8 + 0.0048) / 2),
        ("swav/imagenet", 800, 0.0048),
        ("swav/imagenet-256", 0, 0.6),
        ("swav/imagenet-256", 100, 0.0006 + (0.6 - 0.0006) * (1 + math.sqrt(0.5)) / 2),
        ("swav/imagenet-256", 400, 0.0006),
    ],
)
def test_the_published_schedule(name: str, epoch: int, lr: float) -> None:
    row = RECIPES[name]
    actual = learning_rate(
        epoch / row.epochs,
        schedule=row.schedule,
        base_lr=row.lr,
        warmup=row.warmup_epochs / row.epochs,
        first=row.first_lr,
        final=row.final_lr,
    )
    assert actual == pytest.approx(lr, rel=1e-9)


def test_two_hundred_photos_can_be_trained() -> None:
    RECIPES["swav/small"].build(BuildContext(channels=3, size=96, images=200))


def test_multi_crop_rows() -> None:
    crops = {
        name: [(v.size, v.crop_min, v.crop_max) for v in RECIPES[name].views] for name in RECIPES if "swav/imag" in name
    }
    small = (96, 0.05, 0.14)
    assert crops == {
        "swav/imagenet": [(224, 0.14, 1.0)] * 2 + [small] * 6,
        "swav/imagenet-160": [(160, 0.14, 1.0)] * 2 + [small] * 4,
        "swav/imagenet-256": [(224, 0.14, 1.0)] * 2 + [small] * 6,
    }


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ({"K": 1}, "--K must be at least 2"),
        ({"iterations": 0}, "--iterations must be at least 1"),
        ({"assign": 0}, "--assign must be at least 1"),
        ({"queue_length": -1}, "--queue-length must not be negative"),
        ({"hidden": -1}, "--hidden must not be negative"),
        ({"tau": 0.0}, "--tau must be above 0"),
        ({"epsilon": float("nan")}, "--epsilon must be a finite number, not nan"),
        ({"queue_epochs": -1.0}, "--queue-epochs must not be negative"),
        ({"freeze_epochs": -1.0}, "--freeze-epochs must not be negative"),
        ({"K": 65}, "65 prototypes are more than the 64 images: lower --K"),
        ({"assign": 6}, "--assign 6: there are only 5 views"),
        ({"views": (16,)}, "takes at least 2 views, not 1"),
        ({"queue_length": 15}, r"--queue-length 15 must be a multiple of the number of processes \(2\)"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(numbers: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        recipe(**numbers).build(replace(CONTEXT, world=2))


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ({}, "12 prototypes share 8 embeddings of batch and queue"),
        ({"queue_length": 4}, None),
        ({"queue_length": 100}, "the queue of 100 repeats images, there are only 64"),
        ({"queue_length": 4, "queue_epochs": 10.0}, "the queue is never used: --queue-epochs 10 of 10"),
        ({"queue_length": 4, "freeze_epochs": 10.0}, "the prototypes are never trained: --freeze-epochs 10 of 10"),
    ],
)
def test_what_does_not_meet_the_assumptions_is_said(numbers: dict[str, Any], says: str | None) -> None:
    notices = build(**numbers).notices
    assert len(notices) == (says is not None)
    assert says is None or says in notices[0]


@pytest.mark.parametrize("queue", [0, 20])
def test_the_loss_is_lightlys(queue: int) -> None:
    lightly = pytest.importorskip("lightly.loss")
    g = torch.Generator().manual_seed(0)
    scores = (torch.rand(5, N, K, generator=g) * 2 - 1).requires_grad_()
    older = torch.rand(2, queue, K, generator=g) * 2 - 1
    q = torch.stack([ops.sinkhorn(torch.cat([older[i], scores[i]]))[-N:] for i in range(2)])
    loss = losses.swapped_prediction(scores, q, tau=0.1).mean()
    (ours,) = torch.autograd.grad(loss, scores)
    views = list(scores)
    theirs = lightly.SwaVLoss()(views[:2], views[2:], list(older) if queue else None)
    torch.testing.assert_close(loss, theirs[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(ours, torch.autograd.grad(theirs[0], scores)[0], atol=1e-6, rtol=0)
