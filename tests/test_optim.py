"""Optimisers against their recurrences written out in float64, schedules against closed forms and published tables."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from contrastkit.errors import UserError
from contrastkit.optim import (
    LARS,
    ParamGroup,
    SchedulePoint,
    apply_schedule,
    build_optimizer,
    decay_groups,
    learning_rate,
)

RATES = [0.3, 0.25, 0.5, 0.1, 0.02, 0.02]  # it changes: only then do the two kinds of momentum differ


def problem(dtype: torch.dtype = torch.float64) -> tuple[list[nn.Parameter], list[list[torch.Tensor]]]:
    """A matrix, a vector and a matrix of zeros, and their gradients at every step."""
    g = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (5,), (2, 2)]
    params = [nn.Parameter(torch.randn(s, generator=g, dtype=torch.float64).to(dtype)) for s in shapes]
    params[2].data.zero_()
    grads = [[torch.randn(s, generator=g, dtype=torch.float64).to(dtype) for s in shapes] for _ in RATES]
    return params, grads


def run(optimizer: torch.optim.Optimizer, params: list[nn.Parameter], grads: list[list[torch.Tensor]]) -> None:
    for step, lr in enumerate(RATES):
        for p, g in zip(params, grads[step], strict=True):
            p.grad = g.clone()
        apply_schedule(optimizer, step / len(RATES), SchedulePoint(lr=lr))
        optimizer.step()


def norm(values: list[float]) -> float:
    return math.sqrt(sum(v * v for v in values))


def lars_by_hand(
    w: list[float],
    grads: list[list[float]],
    *,
    wd: float,
    eta: float,
    inside: bool,
    clip: bool = False,
    momentum: float = 0.9,
) -> list[float]:
    w, v = list(w), [0.0] * len(w)
    for lr, g in zip(RATES, grads, strict=True):
        u = [gi + wd * wi for gi, wi in zip(g, w, strict=True)]
        q = eta * norm(w) / norm(u) if eta and norm(w) > 0 and norm(u) > 0 else 1.0
        if clip and eta:  # solo-learn, lars.py with clip_lr
            q = min(q / lr, 1.0)
        for i in range(len(w)):
            if inside:  # SimCLR, lars_optimizer.py with classic_momentum
                v[i] = momentum * v[i] + lr * q * u[i]
                w[i] = w[i] - v[i]
            else:  # MoCo v3, optimizer.py
                v[i] = momentum * v[i] + q * u[i]
                w[i] = w[i] - lr * v[i]
    return w


@pytest.mark.parametrize("inside", [True, False])
def test_lars_is_the_papers_recurrence(inside: bool) -> None:
    params, grads = problem()
    start = [p.detach().flatten().tolist() for p in params]
    groups = decay_groups(params)
    optimizer = build_optimizer(groups, "lars", lr=1.0, weight_decay=0.05, lr_inside_momentum=inside)
    run(optimizer, params, grads)
    for i, p in enumerate(params):
        excluded = p.ndim <= 1
        expected = lars_by_hand(
            start[i],
            [step[i].flatten().tolist() for step in grads],
            wd=0.0 if excluded else 0.05,
            eta=0.0 if excluded else 0.001,
            inside=inside,
        )
        assert p.flatten().tolist() == pytest.approx(expected, rel=1e-12)


def test_a_clipped_trust_takes_the_shorter_of_two_steps() -> None:
    """Its own, relative to the tensor, and SGD's: some of these steps are one, some the other."""
    params, grads = problem()
    w = params[0].detach().flatten().tolist()
    flat = [step[0].flatten().tolist() for step in grads]
    ends = {eta: lars_by_hand(w, flat, wd=0.05, eta=eta, inside=False, clip=True) for eta in (0.05, 1e9)}
    assert ends[0.05] != lars_by_hand(w, flat, wd=0.05, eta=0.05, inside=False)
    assert ends[1e9] == lars_by_hand(w, flat, wd=0.05, eta=0.0, inside=False) != ends[0.05]
    for eta, expected in ends.items():
        params, _ = problem()
        optimizer = build_optimizer(
            decay_groups(params[:1]), "lars", lr=1.0, weight_decay=0.05, trust=eta, trust_clip=True
        )
        run(optimizer, params, grads)
        assert params[0].flatten().tolist() == pytest.approx(expected, rel=1e-12)


def test_where_the_learning_rate_enters_matters_only_when_it_changes() -> None:
    ends = []
    for inside in (True, False):
        params, grads = problem()
        changing = LARS([params[0]], lr=0.3, weight_decay=0.05, lr_inside_momentum=inside)
        constant = LARS([params[1]], lr=0.3, weight_decay=0.05, lr_inside_momentum=inside)
        for step, lr in enumerate(RATES):
            params[0].grad, params[1].grad = grads[step][0].clone(), grads[step][1].clone()
            changing.param_groups[0]["lr"] = lr
            changing.step()
            constant.step()
        ends.append(params)
    torch.testing.assert_close(ends[0][1], ends[1][1], rtol=1e-12, atol=0)
    assert (ends[0][0] - ends[1][0]).abs().max() > 1e-5


def test_lars_resumes_from_its_state() -> None:
    params, grads = problem()
    whole = LARS(params, lr=0.1)
    for g in grads:
        for p, gi in zip(params, g, strict=True):
            p.grad = gi.clone()
        whole.step()
    again, _ = problem()
    first = LARS(again, lr=0.1)
    for i, g in enumerate(grads):
        if i == 3:
            state = first.state_dict()
            first = LARS(again, lr=0.1)
            first.load_state_dict(state)
        for p, gi in zip(again, g, strict=True):
            p.grad = gi.clone()
        first.step()
    for a, b in zip(params, again, strict=True):
        assert torch.equal(a, b)


def test_sgd_is_its_recurrence() -> None:
    params, grads = problem()
    w, g = params[0].detach().flatten().tolist(), [step[0].flatten().tolist() for step in grads]
    optimizer = build_optimizer([ParamGroup(params=params)], "sgd", lr=1.0, weight_decay=0.05)
    run(optimizer, params, grads)
    v = [0.0] * len(w)
    for lr, gt in zip(RATES, g, strict=True):
        for i in range(len(w)):
            v[i] = 0.9 * v[i] + gt[i] + 0.05 * w[i]
            w[i] -= lr * v[i]
    assert params[0].flatten().tolist() == pytest.approx(w, rel=1e-12)


def test_adamw_decays_apart_from_the_moments() -> None:
    params, grads = problem()
    w, g = params[0].detach().flatten().tolist(), [step[0].flatten().tolist() for step in grads]
    optimizer = build_optimizer([ParamGroup(params=params)], "adamw", lr=1.0, weight_decay=0.05, betas=(0.9, 0.95))
    run(optimizer, params, grads)
    m, s = [0.0] * len(w), [0.0] * len(w)
    for t, (lr, gt) in enumerate(zip(RATES, g, strict=True), start=1):
        for i in range(len(w)):
            w[i] -= lr * 0.05 * w[i]
            m[i] = 0.9 * m[i] + 0.1 * gt[i]
            s[i] = 0.95 * s[i] + 0.05 * gt[i] ** 2
            w[i] -= lr * (m[i] / (1 - 0.9**t)) / (math.sqrt(s[i] / (1 - 0.95**t)) + 1e-8)
    assert params[0].flatten().tolist() == pytest.approx(w, rel=1e-9)


def test_groups_leave_biases_and_norms_out_of_decay_and_adaptation() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    net[2].bias.requires_grad_(False)
    weights, vectors = decay_groups(net.parameters())
    assert {id(p) for p in weights.params} == {id(net[0].weight), id(net[2].weight)}
    assert {id(p) for p in vectors.params} == {id(net[0].bias), id(net[1].weight), id(net[1].bias)}
    assert (weights.decay, weights.adapt, vectors.decay, vectors.adapt) == (True, True, False, False)


def test_rates_of_groups() -> None:
    a, b, c = (nn.Parameter(torch.ones(1)) for _ in range(3))
    groups = [ParamGroup(params=[a]), ParamGroup(params=[b], fixed_lr=0.5), ParamGroup(params=[c], lr_scale=10.0)]
    optimizer = build_optimizer(groups, "sgd", lr=1.0, weight_decay=0.0)
    apply_schedule(optimizer, 0.3, SchedulePoint(lr=0.02))
    assert [group["lr"] for group in optimizer.param_groups] == [0.02, 0.5, pytest.approx(0.2)]


@pytest.mark.parametrize("name", ["sgd", "lars", "adamw"])
def test_a_frozen_group_stays_bit_equal_then_moves(name: str) -> None:
    free, frozen = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    groups = [ParamGroup(params=[free]), ParamGroup(params=[frozen], frozen_until=0.5)]
    optimizer = build_optimizer(groups, name, lr=0.1, weight_decay=0.1)  # type: ignore[arg-type]
    for progress, moves in ((0.0, False), (0.49, False), (0.5, True)):
        free.grad, frozen.grad = torch.ones(2, 2), torch.ones(2, 2)
        apply_schedule(optimizer, progress, SchedulePoint(lr=0.1))
        before = free.detach().clone()
        optimizer.step()
        assert not torch.equal(free, before)
        assert torch.equal(frozen, torch.ones(2, 2)) is not moves


def test_clipping_per_tensor_and_globally() -> None:
    a, b, c = (nn.Parameter(torch.zeros(4)) for _ in range(3))
    groups = [ParamGroup(params=[a, b], clip=3.0), ParamGroup(params=[c])]
    optimizer = build_optimizer(groups, "sgd", lr=0.1, weight_decay=0.0)

    def fill() -> None:
        a.grad, b.grad, c.grad = torch.full((4,), 5.0), torch.full((4,), 0.5), torch.full((4,), 6.0)

    fill()
    apply_schedule(optimizer, 0.0, SchedulePoint(lr=0.1))
    assert [p.grad.norm().item() for p in (a, b, c)] == pytest.approx([3.0, 1.0, 12.0])  # norms were 10, 1, 12
    fill()
    apply_schedule(optimizer, 0.0, SchedulePoint(lr=0.1, clip_norm=1.0))
    whole = math.sqrt(3.0**2 + 1.0**2 + 12.0**2)
    assert [p.grad.norm().item() for p in (a, b, c)] == pytest.approx([3 / whole, 1 / whole, 12 / whole], rel=1e-5)


def test_nothing_to_train_and_unknown_names() -> None:
    p = nn.Parameter(torch.ones(1), requires_grad=False)
    with pytest.raises(UserError, match="nothing to train"):
        build_optimizer([ParamGroup(params=[p])], "sgd", lr=0.1, weight_decay=0.0)
    with pytest.raises(UserError, match="unknown optimizer 'adm'"):
        build_optimizer([ParamGroup(params=[nn.Parameter(torch.ones(1))])], "adm", lr=0.1, weight_decay=0.0)  # type: ignore[arg-type]


def test_mocos_steps_fall_on_the_published_epochs() -> None:
    steps = 37  # a number that divides nothing
    table = [(0, 0.03), (119, 0.03), (120, 0.003), (159, 0.003), (160, 0.0003), (199, 0.0003)]
    for epoch, expected in table:
        for step in (0, 1, steps - 1):
            progress = (epoch * steps + step) / (200 * steps)
            lr = learning_rate(progress, schedule="step", base_lr=0.03, milestones=(0.6, 0.8))
            assert lr == pytest.approx(expected), (epoch, step)


@pytest.mark.parametrize("steps", [1, 7, 195, 5004])
def test_mocos_cosine_changes_once_an_epoch(steps: int) -> None:
    epochs = 200
    for epoch in (0, 1, 57, 100, 199):
        expected = 0.03 * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
        for step in {0, steps // 2, steps - 1}:
            progress = (epoch * steps + step) / (epochs * steps)
            assert learning_rate(progress, schedule="cosine", base_lr=0.03, epochs=epochs) == pytest.approx(expected)


def test_warm_up_rises_every_step_also_where_the_rate_changes_once_an_epoch() -> None:
    def lr(progress: float) -> float:
        return learning_rate(progress, schedule="cosine", base_lr=1.0, warmup=2.5 / 10, epochs=10)

    for step in range(25):  # ten steps an epoch
        assert lr(step / 100) == pytest.approx(step / 25)
    assert lr(0.25) == lr(0.29) == 1.0  # the rest of the third epoch is at the top
    assert lr(0.3) == lr(0.39) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.05 / 0.75)))


def test_every_epochs_first_step_belongs_to_it() -> None:
    for epochs in (3, 49, 200, 1000):
        for steps in (3, 97, 1251):
            for epoch in range(epochs):
                progress = epoch * steps / (epochs * steps)
                at: dict[str, Any] = {"milestones": (epoch / epochs,), "epochs": epochs}
                lr = learning_rate(progress, schedule="step", base_lr=1.0, **at)
                assert lr == pytest.approx(0.1)


def test_warm_up_then_cosine_then_the_end() -> None:
    def lr(progress: float, final: float = 0.0) -> float:
        return learning_rate(progress, schedule="cosine", base_lr=4.8, warmup=0.1, final=final)

    assert [lr(p) for p in (0.0, 0.05, 0.1)] == pytest.approx([0.0, 2.4, 4.8])
    assert lr(0.55) == pytest.approx(2.4)  # half of the cosine
    assert lr(0.1 + 0.9 / 3) == pytest.approx(3.6)  # a third: (1 + cos 60 degrees) / 2 = 3/4
    assert (lr(1.0), lr(1.0, final=0.0048)) == pytest.approx((0.0, 0.0048))


def test_constant() -> None:
    assert [learning_rate(p, schedule="constant", base_lr=0.2, warmup=0.5) for p in (0.25, 0.5, 1.0)] == [0.1, 0.2, 0.2]


# ------------------------------------------------------------------------- numbers that are not the defaults, and edges


@pytest.mark.parametrize("inside", [True, False])
def test_lars_takes_the_momentum_and_the_trust_it_is_given(inside: bool) -> None:
    params, grads = problem()
    w, flat = params[0].detach().flatten().tolist(), [step[0].flatten().tolist() for step in grads]
    expected = lars_by_hand(w, flat, wd=0.05, eta=0.03, inside=inside, momentum=0.6)
    optimizer = build_optimizer(
        [ParamGroup(params=params[:1])],
        "lars",
        lr=1.0,
        weight_decay=0.05,
        momentum=0.6,
        trust=0.03,
        lr_inside_momentum=inside,
    )
    run(optimizer, params, grads)
    assert params[0].flatten().tolist() == pytest.approx(expected, rel=1e-12)


def test_sgd_takes_the_momentum_it_is_given() -> None:
    params, grads = problem()
    expected = lars_by_hand(
        params[0].detach().flatten().tolist(),
        [step[0].flatten().tolist() for step in grads],
        wd=0.05, eta=0.0, inside=False, momentum=0.6,
    )  # fmt: skip
    optimizer = build_optimizer([ParamGroup(params=params)], "sgd", lr=1.0, weight_decay=0.05, momentum=0.6)
    run(optimizer, params, grads)
    assert params[0].flatten().tolist() == pytest.approx(expected, rel=1e-12)


def test_lars_of_a_gradient_of_zero_takes_no_step() -> None:
    p = nn.Parameter(torch.ones(3))
    optimizer = LARS([p], lr=0.1)
    p.grad = torch.zeros(3)
    optimizer.step()
    assert torch.equal(p, torch.ones(3))


def test_lars_asks_a_closure_for_the_loss_and_its_gradient() -> None:
    p = nn.Parameter(torch.ones(3))
    optimizer = LARS([p], lr=0.1, adapt=False)

    def closure() -> float:
        loss = p.square().sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 3.0
    torch.testing.assert_close(p.detach(), torch.full((3,), 0.8))


def test_an_optimizer_starts_with_the_numbers_of_its_groups() -> None:
    """Also without a schedule, whose first step would write the rates."""
    a, b, c = (nn.Parameter(torch.ones(1)) for _ in range(3))
    fixed = nn.Parameter(torch.ones(1), requires_grad=False)
    groups = [
        ParamGroup(params=[a, fixed]),
        ParamGroup(params=[b], fixed_lr=0.5, decay=False),
        ParamGroup(params=[c], frozen_until=0.25, clip=3.0, adapt=False),
    ]
    rows = build_optimizer(groups, "lars", lr=0.2, weight_decay=0.1).param_groups
    assert [row["lr"] for row in rows] == [0.2, 0.5, 0.2]
    assert [row["weight_decay"] for row in rows] == [0.1, 0.0, 0.1]
    assert [row["adapt"] for row in rows] == [True, True, False]
    assert [row["frozen_until"] for row in rows] == [0.0, 0.0, 0.25]
    assert [row["clip"] for row in rows] == [None, None, 3.0]
    assert [len(row["params"]) for row in rows] == [1, 1, 1]


def test_a_scheduled_weight_decay_is_written_where_there_is_decay() -> None:
    a, b = (nn.Parameter(torch.ones(1)) for _ in range(2))
    groups = [ParamGroup(params=[a]), ParamGroup(params=[b], decay=False)]
    optimizer = build_optimizer(groups, "adamw", lr=0.2, weight_decay=0.1)
    apply_schedule(optimizer, 0.5, SchedulePoint(lr=0.2))
    assert [row["weight_decay"] for row in optimizer.param_groups] == [0.1, 0.0]
    apply_schedule(optimizer, 0.5, SchedulePoint(lr=0.2, weight_decay=0.3))
    assert [row["weight_decay"] for row in optimizer.param_groups] == [0.3, 0.0]


def test_a_frozen_group_has_no_share_in_the_clipped_norm() -> None:
    """Its gradient is dropped before the norm is taken, so the others keep all of ``max_norm``."""
    free, frozen = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(4))
    groups = [ParamGroup(params=[free]), ParamGroup(params=[frozen], frozen_until=0.5, clip=1.0)]
    optimizer = build_optimizer(groups, "sgd", lr=0.1, weight_decay=0.0)
    for progress, left in ((0.25, 2.0), (0.5, 2 * 10 / math.hypot(10, 1))):
        free.grad, frozen.grad = torch.full((4,), 5.0), torch.full((4,), 50.0)  # norms 10 and 100
        apply_schedule(optimizer, progress, SchedulePoint(lr=0.1, clip_norm=2.0))
        assert free.grad.norm().item() == pytest.approx(left, rel=1e-5)
        assert (frozen.grad is None) == (progress < 0.5)


def test_a_norm_below_the_limit_is_left_alone() -> None:
    p = nn.Parameter(torch.zeros(4))
    optimizer = build_optimizer([ParamGroup(params=[p], clip=3.0)], "sgd", lr=0.1, weight_decay=0.0)
    p.grad = torch.full((4,), 0.5)
    apply_schedule(optimizer, 0.0, SchedulePoint(lr=0.1, clip_norm=2.0))
    assert torch.equal(p.grad, torch.full((4,), 0.5))


def test_a_warm_up_starts_at_first_and_meets_the_schedule() -> None:
    def lr(progress: float) -> float:
        return learning_rate(progress, schedule="cosine", base_lr=1.0, warmup=0.2, first=0.4, final=0.1)

    assert [lr(p) for p in (0.0, 0.1, 0.2, 0.6, 1.0)] == pytest.approx([0.4, 0.7, 1.0, 0.55, 0.1])
    assert learning_rate(1.0, schedule="cosine", base_lr=1.0, warmup=1.0, final=0.1) == pytest.approx(0.1)


def test_a_step_multiplies_by_gamma_at_each_milestone_passed() -> None:
    def lr(progress: float, **how: Any) -> float:
        return learning_rate(progress, schedule="step", base_lr=2.0, milestones=(0.5, 0.75), **how)

    assert [lr(p, gamma=0.5) for p in (0.49, 0.5, 0.74, 0.75, 1.0)] == [2.0, 1.0, 1.0, 0.5, 0.5]
    assert lr(0.5) == pytest.approx(0.2)  # a tenth by default
