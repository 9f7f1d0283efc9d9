import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from contrastkit import dist, ops
from contrastkit.bench import measure
from contrastkit.ops import extension
from tests.ops.vectors import pairs, unit

pytestmark = pytest.mark.usefixtures("default_device")
OPS = ("clip_loss", "clip_loss_dxy")


def by_hand(x, y, tau, ids):
    """CLIP's Fig. 3 as a double loop over Python floats: losses, log-sum-exps, and whether the partner comes first."""
    results = []
    for left, right in ((x, y), (y, x)):
        a, b = left.double().tolist(), right.double().tolist()
        loss, lse, top1 = [], [], []
        for i, q in enumerate(a):
            kept = [j for j in range(len(b)) if j == i or ids is None or ids[j] != ids[i]]
            s = {j: math.fsum(u * v for u, v in zip(q, b[j], strict=True)) / tau for j in kept}
            m = max(s.values())
            lse.append(m + math.log(math.fsum(math.exp(v - m) for v in s.values())))
            loss.append(lse[-1] - s[i])
            top1.append(s[i] == m)
        results.append((loss, lse, top1))
    loss, lse, top1 = zip(*results, strict=True)
    return torch.tensor(loss, dtype=torch.float64), torch.tensor(lse, dtype=torch.float64), torch.tensor(top1)


def eager(x, y, tau, ids=None):
    """As open_clip writes it: both matrices of logits, cross-entropy with the diagonal; equal ids masked."""
    s, labels = x @ y.T / tau, torch.arange(len(x))
    if ids is not None:
        same = (ids[:, None] == ids) & ~torch.eye(len(x), dtype=torch.bool)
        s = s.masked_fill(same, -torch.inf)
    return torch.stack([F.cross_entropy(logits, labels, reduction="none") for logits in (s, s.T)])


@pytest.mark.parametrize(("with_ids", "tau"), [(False, 0.07), (True, 1.0)])
@pytest.mark.parametrize(("n", "C"), [(1, 1), (2, 3), (13, 7), (128, 5), (129, 16), (200, 33)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_are_the_double_loops(dtype, n, C, with_ids, tau):
    x, y = pairs(n, C, dtype=dtype)
    ids = torch.randint(0, max(n // 3, 1), (n,)) if with_ids else None
    loss, lse, top1 = ops.clip_loss(x, y, tau=tau, ids=ids)
    expected = by_hand(x, y, tau, None if ids is None else ids.tolist())
    tolerance: dict[str, Any] = {"rtol": 0, "atol": 1e-12 if dtype == torch.float64 else 1e-5}
    torch.testing.assert_close(loss.double(), expected[0], **tolerance)
    torch.testing.assert_close(lse.double(), expected[1], **tolerance)
    assert (top1 == expected[2]).float().mean() > (0.99 if C > 1 else 0)
    assert loss.dtype == lse.dtype == dtype


@pytest.mark.parametrize(("with_ids", "tau"), [(False, 0.01), (True, 0.1), (True, 1.0)])
@pytest.mark.parametrize(("n", "C"), [(3, 2), (128, 64), (190, 40), (321, 131)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_gradients_are_torchs_in_float64(dtype, n, C, with_ids, tau):
    x, y = (z.to(dtype).requires_grad_() for z in pairs(n, C))
    ids, g = torch.randint(0, n, (n,)) if with_ids else None, torch.rand(2, n)
    loss, *_ = ops.clip_loss(x, y, tau=tau, ids=ids)
    exact = [z.detach().double().requires_grad_() for z in (x, y)]
    expected = eager(exact[0], exact[1], tau, ids)
    size = 1 / tau  # of the logits: float32 has a relative precision
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=4e-7 * max(size, 1))
    truths = torch.autograd.grad(expected, exact, g.double())
    for own, true in zip(torch.autograd.grad(loss, (x, y), g), truths, strict=True):
        assert own.dtype == dtype
        bound = (torch.finfo(dtype).eps + 4e-6 * max(1.0, size)) * true.abs().max()
        assert (own.double() - true).abs().max() <= bound + 1e-12  # torch's 1 - P has the digits of 1


@pytest.mark.parametrize("ids", [None, [0, 1, 0, 2, 1]])
def test_gradcheck(ids):
    x, y = (torch.randn(5, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    tau = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    chosen = None if ids is None else torch.tensor(ids)
    assert torch.autograd.gradcheck(lambda x, y, tau: ops.clip_loss(x, y, tau=tau, ids=chosen)[0], (x, y, tau))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "C", "with_ids"), [(12, 5, True), (200, 33, False), (300, 33, True)])
def test_a_part_of_the_pairs_is_the_part_of_the_whole(n, C, with_ids, dtype):
    tau = torch.tensor(0.2, dtype=torch.float64)
    x, y = pairs(n, C, dtype=dtype)
    ids, g = torch.randint(0, n, (n,)) if with_ids else None, torch.rand(2, n, dtype=dtype)
    loss, lse, top1 = by_hand(x, y, 0.2, None if ids is None else ids.tolist())
    loss, lse = loss.to(dtype), lse.to(dtype)
    tolerance: dict[str, Any] = {"rtol": 0, "atol": 1e-12 if dtype == torch.float64 else 1e-5}
    whole = torch.ops.contrastkit.clip_loss_dxy(g, loss, lse, x, y, tau, ids, 0, n)
    for first, last in [(0, n // 3), (n // 3, n), (1, n - 1), (n, n)]:
        part = torch.ops.contrastkit.clip_loss(x, y, tau, ids, first, last)
        torch.testing.assert_close(part[0], loss[:, first:last], **tolerance)
        torch.testing.assert_close(part[1], lse[:, first:last], **tolerance)
        assert torch.equal(part[2], top1[:, first:last])
        gradients = torch.ops.contrastkit.clip_loss_dxy(g, loss, lse, x, y, tau, ids, first, last)
        for d, of_all in zip(gradients, whole, strict=True):
            torch.testing.assert_close(d, of_all[first:last], **tolerance)


def test_equals_infonce_both_ways():
    x, y = pairs(30, 6)
    ids = torch.randint(0, 20, (30,))
    loss, lse, top1 = ops.clip_loss(x, y, tau=0.3, ids=ids)
    for side, (q, k) in enumerate(((x, y), (y, x))):
        expected = ops.infonce(q, k, k, tau=0.3, ids=(ids, ids))
        torch.testing.assert_close(loss[side], expected[0])
        torch.testing.assert_close(lse[side], expected[1])
        assert torch.equal(top1[side], expected[2])


def test_pairs_of_one_id_have_nothing_to_lose():
    x, y = (z.requires_grad_() for z in pairs(4, 3, dtype=torch.float32))
    loss, _, top1 = ops.clip_loss(x, y, tau=0.1, ids=torch.ones(4, dtype=torch.int64))
    assert (loss == 0).all() and top1.all()
    assert all((d == 0).all() for d in torch.autograd.grad(loss.sum(), (x, y)))


def test_equal_pairs_are_a_tie_and_a_hit():
    x = unit(1, 8).expand(300, 8)
    loss, _, top1 = ops.clip_loss(x, x, tau=0.07)
    torch.testing.assert_close(loss, torch.full((2, 300), math.log(300), dtype=torch.float64))
    assert top1.all()


def test_an_empty_batch_is_nothing_to_do():
    x, y = (torch.zeros(0, 4, requires_grad=True) for _ in range(2))
    loss, *_ = ops.clip_loss(x, y, tau=0.1)
    assert loss.shape == (2, 0) and [d.shape for d in torch.autograd.grad(loss.sum(), (x, y))] == [(0, 4)] * 2


def test_a_small_loss_keeps_its_digits():
    x = F.one_hot(torch.arange(3)).float()
    loss = ops.clip_loss(x, x, tau=0.05)[0]  # log(1 + 2 e^-20): lse - s would be 0 in float32
    expected = torch.full((2, 3), math.log1p(2 * math.exp(-20))).double()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)


def test_logits_far_beyond_exp_stay_finite():
    x, y = (z.requires_grad_() for z in pairs(140, 8, dtype=torch.float32))
    loss = ops.clip_loss(x, y, tau=1e-4)[0]
    torch.testing.assert_close(loss.double(), by_hand(x, y, 1e-4, None)[0], rtol=1e-4, atol=1e-2)
    assert all(d.isfinite().all() for d in torch.autograd.grad(loss.sum(), (x, y)))


def test_nan_shows_in_every_loss_it_enters_and_is_no_hit():
    x, y = pairs(6, 3, dtype=torch.float32)
    y[1, 0] = math.nan
    loss, _, top1 = ops.clip_loss(x, y, tau=1.0)
    assert loss[0].isnan().all() and not top1[0].any()
    assert loss[1, 1].isnan() and loss[1, [0, 2, 3, 4, 5]].isfinite().all()


def test_strided_pairs_of_two_dtypes():
    x, y = unit(7, 10).T[:, ::2], unit(4, 10, dtype=torch.float32).T
    torch.testing.assert_close(ops.clip_loss(x, y, tau=0.3)[0], by_hand(x, y, 0.3, None)[0])


def test_lse_and_top1_carry_no_gradient():
    x, y = (z.requires_grad_() for z in pairs(6, 4))
    loss, lse, top1 = ops.clip_loss(x, y, tau=0.2)
    assert loss.requires_grad and not lse.requires_grad and not top1.requires_grad


@pytest.mark.parametrize("n", [400, 1100])  # tiles of each thread alone, then more than threads
def test_the_same_bits_on_any_number_of_threads(request, device, n):
    if request.node.callspec.params["device"] == "reference" or extension.info()["ops"][OPS[0]][device] == "reference":
        pytest.skip("torch's products, of which the reference is made, promise no such thing")
    x, y = (z.requires_grad_() for z in pairs(n, 24, dtype=torch.float32))
    threads, runs = torch.get_num_threads(), []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results = ops.clip_loss(x, y, tau=0.1)
        runs.append([*results, *torch.autograd.grad(results[0].sum(), (x, y))])
    torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for other in runs[1:] for a, b in zip(runs[0], other, strict=True))


def test_memory_grows_with_n_and_not_with_its_square(request):
    if request.node.callspec.params["device"] != "cpu":
        pytest.skip("the reference works on blocks of four million logits")

    def peak(n):
        x, y = (z.requires_grad_() for z in pairs(n, 32, dtype=torch.float32))
        ids = torch.arange(n)
        way = lambda: torch.autograd.grad(ops.clip_loss(x, y, tau=0.1, ids=ids)[0].mean(), (x, y))  # noqa: E731
        return measure.peak_memory(way, "cpu")

    assert peak(4096) < 8 * 4096 * 32 * 4  # a matrix of logits would be 64 MiB
    assert peak(4096) < 2.2 * peak(2048)


@pytest.mark.parametrize("with_ids", [False, True])
def test_two_processes_equal_one(device, two_processes, with_ids):
    if device == "cuda":
        pytest.skip("gloo, for the CPU")
    x, y = (z.requires_grad_() for z in pairs(12, 5))
    tau = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    ids = torch.tensor([0, 1, 2, 3, 4, 5, 6, 1, 0, 9, 9, 2]) if with_ids else None
    loss = eager(x, y, tau, ids)
    dx, dy, dtau = torch.autograd.grad(loss.square().mean(), (x, y, tau))

    def work(rank):
        own = [dist.local_shard(z.detach()).clone().requires_grad_() for z in (x, y)]
        leaf, own_ids = tau.detach().clone().requires_grad_(), None if ids is None else dist.local_shard(ids)
        mine, lse, top1 = ops.clip_loss(*own, tau=leaf, ids=own_ids, across_ranks=True)
        assert not lse.requires_grad and not top1.requires_grad
        torch.testing.assert_close(mine, dist.local_shard(loss.detach().T).T)
        mine.square().mean().backward()
        for z, d in zip(own, (dx, dy), strict=True):
            torch.testing.assert_close(z.grad / 2, dist.local_shard(d))  # DDP's mean over ranks
        torch.testing.assert_close(dist.all_reduce_mean(leaf.grad), dtau)

    two_processes(work)


@pytest.mark.parametrize("ids", [None, [0, 1, 2, 0, 4, 5]])
def test_opcheck(ids):
    (x, y), tau = pairs(6, 3), torch.tensor(0.2, dtype=torch.float64)
    chosen = None if ids is None else torch.tensor(ids)
    row = torch.ones(2, 6, dtype=torch.float64)
    torch.library.opcheck(torch.ops.contrastkit.clip_loss_dxy, (row, row, row, x, y, tau, chosen, 2, 5))
    leaves = (x.requires_grad_(), y.requires_grad_(), tau.requires_grad_())
    torch.library.opcheck(torch.ops.contrastkit.clip_loss, (*leaves, chosen, 0, 6))


def test_compiles_whole_with_any_batch():
    def step(x, y):
        loss, lse, _ = ops.clip_loss(F.normalize(x, dim=1), y, tau=0.2)
        return loss.mean() + lse.mean()

    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend="aot_eager")
    for n in (4, 6, 11):
        x, y = (z.requires_grad_() for z in pairs(n, 5, dtype=torch.float32))
        torch.testing.assert_close(torch.autograd.grad(compiled(x, y), x), torch.autograd.grad(step(x, y), x))


x = torch.zeros(4, 2)


@pytest.mark.parametrize(
    ("x", "y", "tau", "ids", "message"),
    [
        (torch.zeros(4), x, 0.1, None, r"x must be floating \[N, C\], got float32\[4\]"),
        (x.long(), x, 0.1, None, "x must be floating"),
        (x, torch.zeros(3, 2), 0.1, None, r"y must be floating \[4, 2\], got float32\[3, 2\]"),
        (x, x, 0.0, None, "tau must be a number above 0"),
        (x, x, torch.ones(1), None, "0-dim"),
        (x, x, torch.tensor(0.1, device="meta"), None, "tau is on meta"),
        (x, x, 0.1, torch.zeros(3, dtype=torch.int64), r"ids must be int64 \[4\]"),
        (x, x, 0.1, torch.zeros(4), "ids must be int64"),
    ],
)
def test_what_does_not_fit_is_refused(x, y, tau, ids, message):
    with pytest.raises(ValueError, match=f"clip_loss: .*{message}"):
        ops.clip_loss(x, y, tau=tau, ids=ids)
