import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from contrastkit import dist, ops
from contrastkit.bench import measure
from contrastkit.ops import extension
from tests.ops.vectors import unit

pytestmark = pytest.mark.usefixtures("default_device")
OPS = ("ntxent", "ntxent_dz")


def by_hand(z, tau, n):
    """SimCLR's Eq. 1 as a double loop over Python floats: loss, log-sum-exp, and whether the other view comes first."""
    rows = z.double().tolist()
    loss, lse, top1 = [], [], []
    for i, x in enumerate(rows):
        group = i // (2 * n) * 2 * n
        other = group + (i - group + n) % (2 * n)
        s = {j: math.fsum(a * b for a, b in zip(x, y, strict=True)) / tau for j, y in enumerate(rows) if j != i}
        m = max(s.values())
        lse.append(m + math.log(math.fsum(math.exp(v - m) for v in s.values())))
        loss.append(lse[-1] - s[other])
        top1.append(s[other] == m)
    return torch.tensor(loss, dtype=torch.float64), torch.tensor(lse, dtype=torch.float64), torch.tensor(top1)


def eager(z, tau):
    """As SimCLR's implementations write it: the whole matrix, its diagonal masked, cross-entropy."""
    s = (z @ z.T / tau).masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
    return F.cross_entropy(s, (torch.arange(len(z)) + len(z) // 2) % len(z), reduction="none")


@pytest.mark.parametrize("tau", [0.07, 1.0])
@pytest.mark.parametrize(("n", "C"), [(1, 1), (2, 3), (13, 7), (64, 5), (65, 16), (150, 33)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_are_the_double_loops(dtype, n, C, tau):
    z = unit(2 * n, C, dtype=dtype)
    loss, lse, top1 = ops.ntxent(z, tau=tau)
    expected = by_hand(z, tau, n)
    tolerance: dict[str, Any] = {"rtol": 0, "atol": 1e-12 if dtype == torch.float64 else 1e-5}
    torch.testing.assert_close(loss.double(), expected[0], **tolerance)
    torch.testing.assert_close(lse.double(), expected[1], **tolerance)
    assert (top1 == expected[2]).float().mean() > (0.99 if C > 1 else 0)  # with one channel all similarities are ties
    assert loss.dtype == lse.dtype == dtype


@pytest.mark.parametrize(("scale", "tau"), [(1.0, 0.01), (5.0, 0.1), (1.0, 1.0)])
@pytest.mark.parametrize(("n", "C"), [(3, 2), (64, 128), (192, 40), (321, 131)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_gradients_are_torchs_in_float64(dtype, n, C, scale, tau):
    z, g = (scale * unit(2 * n, C)).to(dtype).requires_grad_(), torch.rand(2 * n)
    loss, *_ = ops.ntxent(z, tau=tau)
    (dz,) = torch.autograd.grad(loss, z, g)
    exact = z.detach().double().requires_grad_()
    expected = eager(exact, tau)
    (true,) = torch.autograd.grad(expected, exact, g.double())
    size = scale**2 / tau  # of the logits: float32 has a relative precision
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=4e-7 * max(size, 1))
    assert dz.dtype == dtype
    assert (dz.double() - true).abs().max() <= (torch.finfo(dtype).eps + 4e-6 * max(1.0, size)) * true.abs().max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_errs_no_more_than_twice_torch_in_it(dtype):
    z = unit(32, 24).to(dtype)

    def both(loss_of, dtype=dtype):
        leaf = z.to(dtype).requires_grad_()
        loss = loss_of(leaf)
        return loss, *torch.autograd.grad(loss.sum(), leaf)

    ours, truth = both(lambda z: ops.ntxent(z, tau=0.2)[0]), both(lambda z: eager(z, 0.2), torch.float64)
    for own, theirs, true in zip(ours, both(lambda z: eager(z, 0.2)), truth, strict=True):
        assert (own.double() - true).abs().max() <= 2 * (theirs.double() - true).abs().max() + 1e-6


@pytest.mark.parametrize("n", [1, 2, 5])
def test_gradcheck(n):
    z = torch.randn(2 * n, 3, dtype=torch.float64, requires_grad=True)
    tau = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z, tau: ops.ntxent(z, tau=tau)[0], (z, tau))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "groups", "C"), [(2, 3, 5), (70, 2, 33), (12, 7, 128)])
def test_a_part_of_the_rows_is_the_part_of_the_whole(n, groups, C, dtype):
    N, tau = 2 * n * groups, torch.tensor(0.2, dtype=torch.float64)
    z, g = unit(N, C, dtype=dtype), torch.rand(N, dtype=dtype)
    loss, lse, top1 = by_hand(z, 0.2, n)
    tolerance: dict[str, Any] = {"rtol": 0, "atol": 1e-12 if dtype == torch.float64 else 1e-5}
    loss, lse = loss.to(dtype), lse.to(dtype)
    whole = torch.ops.contrastkit.ntxent_dz(g, loss, lse, z, tau, n, 0, N)
    for first, last in [(0, 2 * n), (2 * n, 4 * n), (N - 2 * n, N), (1, N - 1)]:
        part = torch.ops.contrastkit.ntxent(z, tau, n, first, last)
        torch.testing.assert_close(part[0], loss[first:last], **tolerance)
        torch.testing.assert_close(part[1], lse[first:last], **tolerance)
        assert torch.equal(part[2], top1[first:last])
        dz = torch.ops.contrastkit.ntxent_dz(g, loss, lse, z, tau, n, first, last)
        torch.testing.assert_close(dz, whole[first:last], **tolerance)


def test_equals_infonce_with_two_exclusions():
    z, row = unit(22, 6), torch.arange(22)
    other = (row + 11) % 22
    loss, lse, top1 = ops.infonce(z, z[other], z, tau=0.3, exclude=torch.stack([row, other], dim=1))
    result = ops.ntxent(z, tau=0.3)
    torch.testing.assert_close(result[0], loss)
    torch.testing.assert_close(result[1], lse)
    assert torch.equal(result[2], top1)


def test_equal_similarities_give_log_of_their_number():
    loss, _, top1 = ops.ntxent(unit(1, 8).expand(300, 8), tau=0.07)
    torch.testing.assert_close(loss, torch.full((300,), math.log(299), dtype=torch.float64))
    assert top1.all()  # a tie is a hit


def test_one_image_has_nothing_to_lose():
    z = unit(2, 4, dtype=torch.float32).requires_grad_()
    loss, lse, top1 = ops.ntxent(z, tau=0.1)
    assert (loss == 0).all() and top1.all() and (torch.autograd.grad(loss.sum(), z)[0] == 0).all()
    torch.testing.assert_close(lse, (z[0] @ z[1]).detach().expand(2) / 0.1)


def test_an_empty_batch_is_nothing_to_do():
    z = torch.zeros(0, 4, requires_grad=True)
    loss, *_ = ops.ntxent(z, tau=0.1)
    assert loss.shape == (0,) and torch.autograd.grad(loss.sum(), z)[0].shape == (0, 4)


def test_a_small_loss_keeps_its_digits():
    e = F.one_hot(torch.tensor([0, 1, 0, 1]), 2).float()
    loss = ops.ntxent(e, tau=0.05)[0]  # log(1 + 2 e^-20): lse - s would be 0 in float32
    torch.testing.assert_close(
        loss.double(), torch.full((4,), math.log1p(2 * math.exp(-20))).double(), rtol=1e-6, atol=0
    )


def test_logits_far_beyond_exp_stay_finite():
    z = unit(140, 8, dtype=torch.float32).requires_grad_()
    loss = ops.ntxent(z, tau=1e-4)[0]
    torch.testing.assert_close(loss.double(), by_hand(z, 1e-4, 70)[0], rtol=1e-4, atol=1e-2)
    assert torch.autograd.grad(loss.sum(), z)[0].isfinite().all()


def test_nan_shows_in_every_loss_and_is_no_hit():
    z = unit(6, 3, dtype=torch.float32)
    z[1, 0] = math.nan
    loss, _, top1 = ops.ntxent(z, tau=1.0)
    assert loss.isnan().all() and not top1.any()


def test_strided_rows():
    z = unit(7, 10).T[::1, ::2]
    torch.testing.assert_close(ops.ntxent(z, tau=0.3)[0], by_hand(z, 0.3, 5)[0])


def test_lse_and_top1_carry_no_gradient():
    z = unit(6, 4).requires_grad_()
    loss, lse, top1 = ops.ntxent(z, tau=0.2)
    assert not lse.requires_grad and not top1.requires_grad


def test_the_same_bits_on_any_number_of_threads(request, device):
    if request.node.callspec.params["device"] == "reference" or extension.info()["ops"][OPS[0]][device] == "reference":
        pytest.skip("torch's products, of which the reference is made, promise no such thing")
    z, threads, runs = unit(1100, 24, dtype=torch.float32).requires_grad_(), torch.get_num_threads(), []
    for n in (1, 2, 3):
        torch.set_num_threads(n)
        results = ops.ntxent(z, tau=0.1)
        runs.append([*results, *torch.autograd.grad(results[0].sum(), z)])
    torch.set_num_threads(threads)
    assert all(torch.equal(x, y) for other in runs[1:] for x, y in zip(runs[0], other, strict=True))


def test_memory_grows_with_N_and_not_with_its_square(request):
    if request.node.callspec.params["device"] != "cpu":
        pytest.skip("the reference works on blocks of four million logits")

    def peak(N):
        z = unit(N, 16, dtype=torch.float32).requires_grad_()
        return measure.peak_memory(lambda: torch.autograd.grad(ops.ntxent(z, tau=0.1)[0].mean(), z), "cpu")

    assert peak(4096) < 16 * 4096 * 16 * 4  # a matrix of logits would be 64 MiB
    assert peak(4096) < 2.2 * peak(2048)


def test_two_processes_equal_one(device, two_processes):
    if device == "cuda":
        pytest.skip("gloo, for the CPU")
    z, tau = unit(24, 5), torch.tensor(0.3, dtype=torch.float64)
    z1, z2 = z.view(2, 2, 6, 5).unbind(1)  # each process has six images, in two views
    whole = torch.cat([z1.reshape(12, 5), z2.reshape(12, 5)]).requires_grad_()
    leaf = tau.clone().requires_grad_()
    loss = eager(whole, leaf)
    dz, dtau = torch.autograd.grad(loss.square().mean(), (whole, leaf))
    both = [t.detach().view(2, 2, 6, *t.shape[1:]).transpose(0, 1).flatten(0, 2) for t in (loss, dz)]

    def work(rank):
        own, leaf = dist.local_shard(z).clone().requires_grad_(), tau.clone().requires_grad_()
        loss, lse, top1 = ops.ntxent(own, tau=leaf, across_ranks=True)
        assert not lse.requires_grad and not top1.requires_grad
        torch.testing.assert_close(loss, dist.local_shard(both[0]))
        loss.square().mean().backward()
        torch.testing.assert_close(own.grad / 2, dist.local_shard(both[1]))  # DDP's mean over ranks
        torch.testing.assert_close(dist.all_reduce_mean(leaf.grad), dtau)

    two_processes(work)


def test_opcheck():
    z, tau = unit(12, 3), torch.tensor(0.2, dtype=torch.float64)
    row = torch.ones(12, dtype=torch.float64)
    torch.library.opcheck(torch.ops.contrastkit.ntxent_dz, (row, row, row, z, tau, 3, 6, 12))
    torch.library.opcheck(torch.ops.contrastkit.ntxent, (z.requires_grad_(), tau.requires_grad_(), 6, 0, 12))


def test_compiles_whole_with_any_batch():
    def step(z):
        loss, lse, _ = ops.ntxent(F.normalize(z, dim=1), tau=0.2)
        return loss.mean() + lse.mean()

    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend="aot_eager")
    for n in (4, 6, 11):
        z = unit(2 * n, 5, dtype=torch.float32).requires_grad_()
        torch.testing.assert_close(torch.autograd.grad(compiled(z), z), torch.autograd.grad(step(z), z))


@pytest.mark.parametrize(
    ("z", "tau", "message"),
    [
        (torch.zeros(3, 2), 0.1, r"z must be floating \[2n, C\], got float32\[3, 2\]"),
        (torch.zeros(4), 0.1, r"\[2n, C\]"),
        (torch.zeros(4, 2, dtype=torch.int64), 0.1, "floating"),
        (torch.zeros(4, 2), 0.0, "above 0"),
        (torch.zeros(4, 2), torch.ones(1), "0-dim"),
        (torch.zeros(4, 2), torch.tensor(0.1, device="meta"), "tau is on meta"),
    ],
)
def test_what_does_not_fit_is_refused(z, tau, message):
    with pytest.raises(ValueError, match=message):
        ops.ntxent(z, tau=tau)
