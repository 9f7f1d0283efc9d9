"""InvaSpread against its equation, written out as loops in float64."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from contrastkit import losses
from contrastkit.errors import UserError
from contrastkit.methods import RECIPES, BuildContext
from contrastkit.methods.invaspread import InvaSpread, InvaSpreadRecipe
from contrastkit.optim import learning_rate
from contrastkit.types import Batch
from tests.methods.small import batch

M, C, TAU = 5, 7, 0.1


def recipe(**numbers: Any) -> InvaSpreadRecipe:
    row = RECIPES["invaspread/tiny"]
    assert isinstance(row, InvaSpreadRecipe)
    return replace(row, **{"batch": M, "dim": C, "tau": TAU, **numbers})


def build(**numbers: Any) -> InvaSpread:
    torch.manual_seed(0)
    return recipe(**numbers).build(BuildContext(channels=3, size=16, images=64)).train()


def unit(n: int = 2 * M, seed: int = 0, spread: float = 1.0) -> Tensor:
    """Unit rows, float64; the smaller the spread, the more similar."""
    g = torch.Generator().manual_seed(seed)
    x = torch.ones(n, C, dtype=torch.float64) + spread * torch.randn(n, C, generator=g, dtype=torch.float64)
    return x / x.norm(dim=1, keepdim=True)


def rows_by_loops(f: Tensor, tau: float, *, stop_gradient: bool = True) -> list[Tensor]:
    """Each row's part of 2m times the official loss: -ln P of the positive, -ln(1 - P) of each of 2m - 2 negatives."""
    second = f.detach() if stop_gradient else f
    total = len(f)
    rows = []
    for i in range(total):
        pair = (i + total // 2) % total
        e = {j: torch.exp(f[i] @ second[j] / tau) for j in range(total) if j != i}
        div = sum(e[j] for j in e)  # the positive is in it
        row = -torch.log(e[pair] / div)
        for j in e:
            if j != pair:
                row = row - torch.log(1 - e[j] / div)
        rows.append(row)
    return rows


def ours(f: Tensor, tau: float = TAU) -> Tensor:
    itself = torch.arange(len(f))
    return losses.invaspread(f, f.detach(), itself, itself.roll(len(f) // 2), tau=tau)[0]


@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("tau", [0.1, 0.5])
def test_loss_and_gradient_are_the_equations(spread: float, tau: float) -> None:
    truth = unit(spread=spread).requires_grad_()
    expected = torch.stack(rows_by_loops(truth, tau))
    expected.sum().backward()
    f = truth.detach().float().requires_grad_()
    actual = ours(f, tau)
    actual.sum().backward()
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual.double(), expected, rtol=2e-5, atol=2e-5)
    torch.testing.assert_close(f.grad.double(), truth.grad, rtol=1e-4, atol=1e-4 * float(truth.grad.abs().max()))


def test_the_second_factor_is_a_constant() -> None:
    """The trap: with a gradient through both factors, each view is pulled about twice as hard."""
    f = unit().float().requires_grad_()
    ours(f).mean().backward()
    symmetric = unit().requires_grad_()
    torch.stack(rows_by_loops(symmetric, TAU, stop_gradient=False)).mean().backward()
    assert symmetric.grad.norm() > 1.3 * f.grad.norm()


def test_the_methods_loss_is_the_mean_over_both_views() -> None:
    """Division by 2m, outputs normalised; and the weights get the gradient of the equation with constants."""
    method, b = build(), batch(M)
    out = method(b, 0.3)
    out.loss.backward()
    again = build()
    z = again.online(list(b.views)).double()
    f = z / z.norm(dim=1, keepdim=True)
    expected = sum(rows_by_loops(f, TAU)) / (2 * M)
    expected.backward()
    assert out.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for p, q in zip(method.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-4 * float(q.grad.abs().max()))


def test_the_views_are_encoded_together_and_pair_up() -> None:
    """Rows i and i + m are the two views of image i: swapping one view of two images changes the loss."""
    method, b = build(), batch(M)
    first, second = b.views
    same = Batch([first, first], b.index, b.label)
    mixed = Batch([first, first.roll(1, 0)], b.index, b.label)
    out = method(same, 0.0)
    assert out.logs["top1"] == 1  # a view is nearest to its very copy
    assert method(mixed, 0.0).loss > out.loss + 1


def test_uniform_similarities_cost_a_closed_form() -> None:
    f = torch.zeros(2 * M, C)
    f[:, 0] = 1
    others = 2 * M - 1
    expected = math.log(others) - (others - 1) * math.log(1 - 1 / others)
    assert ours(f).tolist() == pytest.approx([expected] * 2 * M, rel=1e-6)
    assert build().chance_loss == pytest.approx(expected)


def test_spreading_is_paid_for_each_negative() -> None:
    """Positives at similarity 1, all others at 0, tau 1: P+ = e / (e + 2m - 2), and each negative adds -log(1 - P)."""
    f = torch.eye(C)[:M].repeat(2, 1)
    e, negatives = math.e, 2 * M - 2
    div = e + negatives
    expected = -math.log(e / div) - negatives * math.log(1 - 1 / div)
    assert ours(f, tau=1.0).tolist() == pytest.approx([expected] * 2 * M, rel=1e-6)
    assert expected > -math.log(e / div) + 0.5  # InfoNCE alone would be that much less


def test_a_negative_that_takes_nearly_all_the_probability_keeps_its_digits() -> None:
    """1 - P is then far below float32's step at 1, and its logarithm is most of the loss."""
    f = torch.zeros(4, 3, dtype=torch.float64)
    f[0, 0] = f[1, 0] = 1.0  # two images' first views equal,
    f[2, 0] = f[3, 0] = -1.0  # and opposite to their second ones
    expected = torch.stack(rows_by_loops(f, TAU))
    assert expected[0] > 35
    torch.testing.assert_close(ours(f.float()).double(), expected, rtol=1e-5, atol=0)
    beyond = f.float().requires_grad_()  # exp(-2000) is no float32 at all
    loss = ours(beyond, tau=0.001)
    loss.sum().backward()
    assert loss.isfinite().all() and beyond.grad.isfinite().all()


def test_half_of_the_rows_among_all_keys_are_half_of_the_losses() -> None:
    """What a process computes: its rows are images 0 and 1 of 4, its keys everyone's in rank order."""
    f = unit(8).float()
    whole = ours(f)
    keys = torch.cat([f[[0, 1, 4, 5]], f[[2, 3, 6, 7]]])  # each process has first views, then second views
    itself = torch.arange(4)
    loss, top1 = losses.invaspread(keys[:4], keys, itself, itself.roll(2), tau=TAU)
    torch.testing.assert_close(loss, whole[[0, 1, 4, 5]])
    s = f @ f.T - 2 * torch.eye(8)
    assert top1.tolist() == [bool(s[i].argmax() == (i + 4) % 8) for i in (0, 1, 4, 5)]


def test_float32_also_under_autocast() -> None:
    f = unit().float()
    with torch.autocast("cpu", torch.bfloat16):
        inside = ours(f)
    assert torch.equal(inside, ours(f))


@pytest.mark.parametrize(
    ("epoch", "lr"), [(0, 0.03), (119, 0.03), (120, 0.003), (160, 0.003), (200, 0.003), (300, 0.003)]
)
def test_the_rate_is_the_official_codes(epoch: int, lr: float) -> None:
    """Its branches for epochs 160 and 200 are never reached."""
    row = RECIPES["invaspread/32"]
    for progress in (epoch / row.epochs, (epoch + 0.99) / row.epochs):
        actual = learning_rate(
            progress,
            schedule=row.schedule,
            base_lr=row.lr,
            milestones=row.milestones,
            gamma=row.gamma,
            epochs=row.epochs,
        )
        assert actual == pytest.approx(lr)


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ({"batch": 1}, "--batch must be at least 2, not 1: the negatives are the batch's other images"),
        ({"dim": 0}, "--dim must be at least 1"),
        ({"tau": 0.0}, "--tau must be above 0"),
        ({"views": RECIPES["invaspread/tiny"].views[:1]}, "takes 2 views, not 1"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(numbers: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        build(**numbers)


def test_the_views_are_the_official_codes() -> None:
    """demo_seen.py: crop 0.2 to 1, jitter of 0.4 each on every image, then gray 0.2, flip."""
    for view in RECIPES["invaspread/32"].views:
        assert (view.size, view.crop_min, view.crop_max, view.flip_p) == (32, 0.2, 1.0, 0.5)
        assert (view.jitter_p, view.brightness, view.contrast, view.saturation, view.hue) == (1.0, 0.4, 0.4, 0.4, 0.4)
        assert (view.gray_p, view.gray_first, view.blur_p, view.solarize_p) == (0.2, False, 0.0, 0.0)
