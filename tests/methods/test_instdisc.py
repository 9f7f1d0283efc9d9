"""InstDisc against its equations, written out as loops in float64."""

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastkit.errors import UserError
from contrastkit.methods import RECIPES, BuildContext
from contrastkit.methods.instdisc import InstDisc, InstDiscRecipe
from contrastkit.optim import learning_rate
from contrastkit.parts.dictionary import MemoryBank
from contrastkit.types import Batch
from tests.methods import small
from tests.methods.small import gradients, step, step_memory

N, M, K, C, TAU = 8, 40, 12, 16, 0.1
INDEX = torch.tensor([3, 39, 0, 17, 22, 8, 5, 30])


def recipe(**numbers: Any) -> InstDiscRecipe:
    row = RECIPES["instdisc/tiny"]
    assert isinstance(row, InstDiscRecipe)
    return replace(row, **{"batch": N, "K": K, "dim": C, "tau": TAU, "loss": "nce", "centre": False, **numbers})


def build(images: int = M, **numbers: Any) -> InstDisc:
    torch.manual_seed(0)
    return recipe(**numbers).build(BuildContext(channels=3, size=16, images=images, world=1, seed=3)).train()


def batch(seed: int = 1, index: Tensor = INDEX) -> Batch:
    return small.batch(len(index), (16,), seed=seed, index=index)


def features(method: InstDisc, b: Batch) -> Tensor:
    """v of Sec. 3, float64, with a gradient."""
    v = method.online(b.views[0])
    return (v / v.norm(dim=1, keepdim=True)).double()


def drawn(method: InstDisc, b: Batch, progress: float = 0.0) -> Tensor:
    return method.bank.draw(b.index, K, seed=3, progress=progress)


def s(v: Tensor, row: Tensor) -> Tensor:
    return (v * row.double()).sum() / TAU


def partition(v: Tensor, bank: Tensor, rows: Tensor) -> float:
    """Z: M times the mean of exp(v_i . v / tau), over all that the batch has drawn, the own rows too (Sec. 3.2)."""
    total = sum(math.exp(float(s(v[i], bank[rows[i, k]]))) for i in range(len(rows)) for k in range(rows.shape[1]))
    return len(bank) * total / rows.numel()


def nce_loop(v: Tensor, bank: Tensor, rows: Tensor, Z: float) -> Tensor:
    """Eqs. 4 to 7: P, the posterior h, and the log-likelihood of data and noise. Noise is uniform, P_n = 1 / M."""
    total = torch.zeros((), dtype=torch.float64)
    noise = (rows.shape[1] - 1) / len(bank)  # m P_n
    for i in range(len(rows)):
        for k, y in enumerate(rows[i].tolist()):
            P = torch.exp(s(v[i], bank[y])) / Z
            h = P / (P + noise)
            total = total - torch.log(h if k == 0 else 1 - h)
    return total / len(rows)


def softmax_loop(v: Tensor, bank: Tensor, rows: Tensor) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(rows)):
        e = [torch.exp(s(v[i], bank[y])) for y in rows[i].tolist()]
        total = total - torch.log(e[0] / sum(e))
    return total / len(rows)


def full_loop(v: Tensor, bank: Tensor, index: Tensor) -> Tensor:
    """Eq. 2: the softmax over all images."""
    total = torch.zeros((), dtype=torch.float64)
    for i, y in enumerate(index.tolist()):
        e = [torch.exp(s(v[i], row)) for row in bank]
        total = total - torch.log(e[y] / sum(e))
    return total / len(index)


def proximal_loop(v: Tensor, bank: Tensor, index: Tensor) -> Tensor:
    """The second term of Eq. 9."""
    return sum(((v[i] - bank[y].double()) ** 2).sum() for i, y in enumerate(index.tolist())) / len(index)  # type: ignore[return-value]


@pytest.mark.parametrize("proximal", [0.0, 30.0])
@pytest.mark.parametrize("loss", ["nce", "softmax", "full"])
def test_loss_and_gradient_are_the_papers(loss: str, proximal: float) -> None:
    method, b = build(loss=loss, proximal=proximal), batch()
    bank, rows, v = method.bank.rows, drawn(method, b), features(method, b)
    if loss == "nce":
        expected = nce_loop(v, bank, rows, partition(v.detach(), bank, rows))  # Z is a constant: no gradient
    else:
        expected = softmax_loop(v, bank, rows) if loss == "softmax" else full_loop(v, bank, b.index)
    expected = expected + proximal * proximal_loop(v, bank, b.index)
    actual = method(b, 0.0).loss
    assert actual.item() == pytest.approx(expected.item(), rel=1e-5)
    for g, g_expected in zip(gradients(actual, method.online), gradients(expected, method.online), strict=True):
        torch.testing.assert_close(g, g_expected, atol=2e-4 * g_expected.abs().max().item(), rtol=0)


@torch.no_grad()
def test_centred_features_have_nothing_in_common() -> None:
    """Each dimension less its mean over the batch, over its standard deviation, then to unit length."""
    method, b = build(centre=True), batch()
    linear, _ = method.online.head.children()
    assert linear.bias is None
    y = (method.online.encoder(b.views[0]) @ linear.weight.T).double()
    expected = torch.empty(N, C, dtype=torch.float64)
    for c in range(C):
        mean = sum(y[:, c]) / N
        variance = sum((y[i, c] - mean) ** 2 for i in range(N)) / N
        expected[:, c] = (y[:, c] - mean) / torch.sqrt(variance + 1e-5)
    expected /= expected.norm(dim=1, keepdim=True)
    v, _ = method(b, 0.0).memory
    torch.testing.assert_close(v.double(), expected, atol=1e-4, rtol=0)


def test_Z_is_set_once_from_the_first_batch() -> None:
    method = build()
    first = batch(1)
    rows = drawn(method, first)
    Z = partition(features(method, first).detach(), method.bank.rows, rows)
    assert not method.bank.is_set and method.bank.Z.item() == 0
    method(first, 0.0)
    assert not method.bank.is_set and method.bank.Z.item() == 0  # forward only reads
    step(method, first, 0.0)
    assert method.bank.is_set and method.bank.Z.item() == pytest.approx(Z, rel=1e-5)

    second = batch(2, (INDEX + 1) % M)
    v, rows = features(method, second), drawn(method, second, 0.1)
    own = partition(v.detach(), method.bank.rows, rows)
    expected = nce_loop(v, method.bank.rows, rows, Z)
    assert abs(expected.item() - nce_loop(v, method.bank.rows, rows, own).item()) > 1e-2
    kept = method.bank.Z.clone()
    assert step(method, second, 0.1).loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.equal(method.bank.Z, kept)


def test_Z_can_be_averaged() -> None:
    method = build(m_z=0.9)
    first, second = batch(1), batch(2, (INDEX + 1) % M)
    Z = partition(features(method, first).detach(), method.bank.rows, drawn(method, first))
    step(method, first, 0.0)
    assert method.bank.Z.item() == pytest.approx(Z, rel=1e-5)
    v, rows = features(method, second), drawn(method, second, 0.1)
    expected = nce_loop(v, method.bank.rows, rows, Z).item()  # the average until now
    own = partition(v.detach(), method.bank.rows, rows)
    assert step(method, second, 0.1).loss.item() == pytest.approx(expected, rel=1e-5)
    assert method.bank.Z.item() == pytest.approx(0.9 * Z + 0.1 * own, rel=1e-5)


def test_a_set_Z_survives_a_resume() -> None:
    method = build()
    step(method, batch(1), 0.0)
    other = build()
    other.load_state_dict(method.state_dict())
    assert other.bank.is_set and torch.equal(other.bank.Z, method.bank.Z)
    b = batch(2, (INDEX + 1) % M)
    assert torch.equal(copy.deepcopy(method)(b, 0.1).loss, other(b, 0.1).loss)


def test_draws_are_the_own_row_then_any_rows_alike() -> None:
    bank = MemoryBank(M, C, generator=torch.Generator().manual_seed(0))
    index = torch.arange(M)
    rows = bank.draw(index, 2000, seed=0, progress=0.5)
    assert rows.dtype == torch.int64 and torch.equal(rows[:, 0], index)
    counts = torch.bincount(rows[:, 1:].flatten(), minlength=M).double()
    assert len(counts) == M
    expected = M * 2000 / M
    assert ((counts - expected) ** 2 / expected).sum() < M - 1 + 5 * math.sqrt(2 * (M - 1))
    own = (rows[:, 1:] == index[:, None]).double().mean().item()  # as officially, the own row may be drawn too
    assert own == pytest.approx(1 / M, abs=5 * math.sqrt(1 / M / (M * 2000)))


def test_draws_are_a_function_of_seed_progress_and_image() -> None:
    bank = MemoryBank(M, C, generator=torch.Generator().manual_seed(0))

    def draw(index: Tensor = INDEX, seed: int = 0, progress: float = 0.25) -> Tensor:
        return bank.draw(index, K, seed=seed, progress=progress)

    assert torch.equal(draw(INDEX[[4, 1]]), draw()[[4, 1]])  # whatever else is in the batch, on any process
    for other in (draw(seed=1), draw(progress=0.25 + 1e-6), draw((INDEX + 1) % M)):
        assert not torch.equal(other[:, 1:], draw()[:, 1:])
    assert len(set(map(tuple, draw()[:, 1:].tolist()))) == N  # each image has its own draws


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_draws_are_the_same_on_any_device() -> None:
    bank = MemoryBank(M, C, generator=torch.Generator().manual_seed(0))
    here = bank.draw(INDEX, K, seed=0, progress=0.5)
    there = bank.cuda().draw(INDEX.cuda(), K, seed=0, progress=0.5)
    assert there.is_cuda and torch.equal(there.cpu(), here)


def test_rows_begin_uniform_and_are_not_normalised() -> None:
    bank = MemoryBank(5000, C, generator=torch.Generator().manual_seed(0))
    bound = 1 / math.sqrt(C / 3)
    assert bank.rows.amax().item() == pytest.approx(bound, rel=1e-3)
    assert bank.rows.amin().item() == pytest.approx(-bound, rel=1e-3)
    assert bank.rows.var().item() == pytest.approx(bound**2 / 3, rel=0.02)
    lengths = bank.rows.norm(dim=1)
    assert lengths.std() > 0.05 and lengths.square().mean().item() == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize("bank_dtype", ["float32", "bfloat16"])
def test_after_step_moves_the_batchs_rows_and_no_others(bank_dtype: str) -> None:
    method, b = build(m=0.3, bank_dtype=bank_dtype), batch()
    before = method.bank.rows.clone()
    assert str(before.dtype) == f"torch.{bank_dtype}"
    out = method(b, 0.0)
    assert torch.equal(method.bank.rows, before)
    method.after_step(b, out, 0.0)
    expected = before.double()
    for i, y in enumerate(INDEX.tolist()):
        row = [0.3 * r + 0.7 * x for r, x in zip(before[y].tolist(), features(method, b)[i].tolist(), strict=True)]
        length = math.sqrt(sum(x * x for x in row))
        expected[y] = torch.tensor([x / length for x in row], dtype=torch.float64)
    torch.testing.assert_close(
        method.bank.rows.double(), expected, atol=1e-6 if bank_dtype == "float32" else 4e-3, rtol=0
    )
    others = torch.ones(M, dtype=torch.bool).index_fill(0, INDEX, False)
    assert torch.equal(method.bank.rows[others], before[others])


@pytest.mark.parametrize("loss", ["nce", "softmax", "full"])
def test_uniform_similarities_cost_chance(loss: str) -> None:
    method = build(loss=loss)
    nn.init.zeros_(method.bank.rows)  # every s is 0, and Z = M
    expected = {
        "nce": math.log(K + 1) + K * math.log((K + 1) / K),  # h is 1 / (K + 1) everywhere
        "softmax": math.log(K + 1),
        "full": math.log(M),
    }[loss]
    assert method(batch(), 0.0).loss.item() == pytest.approx(expected, rel=1e-5)
    assert method.chance_loss == pytest.approx(expected)
    assert build(loss=loss, proximal=1.0).chance_loss is None


@pytest.mark.parametrize("loss", ["nce", "softmax", "full"])
def test_top1_is_the_share_of_views_nearest_to_their_own_row(loss: str) -> None:
    method, b = build(loss=loss), batch()
    v = F.normalize(method.online(b.views[0]).detach().float(), dim=1)
    method.bank.rows[INDEX[:3]] = 100 * (v[:3] - v.mean(0))
    others = range(M)
    hits = []
    for i, y in enumerate(INDEX.tolist()):
        rows = others if loss == "full" else drawn(method, b)[i, 1:].tolist()
        own = float(s(v[i].double(), method.bank.rows[y]))
        hits.append(all(own >= float(s(v[i].double(), method.bank.rows[j])) for j in rows))
    assert 0 < sum(hits) < N
    assert method(b, 0.0).logs["top1"].item() == pytest.approx(sum(hits) / N)


@pytest.mark.parametrize("loss", ["nce", "softmax", "full"])
def test_a_step_allocates_nothing_of_size_batch_times_bank(loss: str) -> None:
    images, n = 300_000, 64
    method = build(images, loss=loss, dim=8, proximal=1.0)
    b = Batch([torch.rand(n, 3, 8, 8)], torch.arange(n) * 4000, torch.full((n,), -1))

    assert step_memory(method, b) < images * n * 4 / 2


def test_the_rate_is_the_official_codes() -> None:
    row = RECIPES["instdisc/32"]
    for epoch in range(200):  # cifar.py, adjust_learning_rate
        official = 0.03 * (0.1 ** ((epoch - 80) // 40) if epoch >= 80 else 1)
        for within in (0.0, 0.5, 0.99):
            ours = learning_rate(
                (epoch + within) / 200,
                schedule=row.schedule,
                base_lr=row.lr,
                milestones=row.milestones,
                gamma=row.gamma,
                epochs=row.epochs if row.lr_per_epoch else None,
            )
            assert ours == pytest.approx(official), epoch


@pytest.mark.parametrize(
    ("numbers", "images", "says"),
    [
        ({"K": M + 1}, M, "--K 41 draws are more than the 40 images"),
        ({"loss": "softmax", "K": 4096}, 3000, "--K 4096 draws are more than the 3000 images"),
        ({"K": 1}, 1, "at least two images"),
        ({"loss": "full"}, 1, "at least two images"),
        ({"views": RECIPES["moco-v2/tiny"].views}, M, "takes one view, not 2"),
        (
            {"centre": True, "batch": 1},
            M,
            "--centre, a batch norm, needs at least two images: raise --batch to 2 or more",
        ),
        ({"K": 0}, M, "--K must be at least 1"),
        ({"dim": 0}, M, "--dim must be at least 1"),
        ({"m": 1.5}, M, r"--m must lie in \[0, 1\], not 1.5"),
        ({"m_z": -0.1}, M, r"--m-z must lie in \[0, 1\]"),
        ({"tau": 0.0}, M, "--tau must be above 0"),
        ({"proximal": -1.0}, M, "--proximal must not be negative"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(numbers: dict[str, Any], images: int, says: str) -> None:
    with pytest.raises(UserError, match=says):
        build(images, **numbers)


def test_the_whole_bank_needs_no_draws() -> None:
    assert isinstance(build(N, loss="full", K=4096), InstDisc)
