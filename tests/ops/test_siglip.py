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
OPS = ("siglip_loss", "siglip_loss_dxy")


def by_hand(x, y, t, b, ids):
    """SigLIP's Algorithm 1 as a double loop over Python floats, and whether each partner comes first."""
    a, c = x.double().tolist(), y.double().tolist()
    loss, top1 = [], []
    for i, q in enumerate(a):
        kept = [j for j in range(len(c)) if j == i or ids is None or ids[j] != ids[i]]
        u = {j: t * math.fsum(v * w for v, w in zip(q, c[j], strict=True)) + b for j in kept}
        softplus = [math.log1p(math.exp(-abs(z))) + max(z, 0) for z in (-u[j] if j == i else u[j] for j in kept)]
        loss.append(math.fsum(softplus))
        top1.append(u[i] == max(u.values()))
    return torch.tensor(loss, dtype=torch.float64), torch.tensor(top1)


def eager(x, y, t, b, ids=None):
    """As open_clip writes it: log-sigmoids of the matrix, 1 on the diagonal and -1 elsewhere, 0 for equal ids."""
    own = torch.eye(len(x), dtype=torch.bool)
    terms = -F.logsigmoid((2.0 * own - 1) * (t * x @ y.T + b))
    if ids is not None:
        terms = terms.masked_fill((ids[:, None] == ids) & ~own, 0)
    return terms.sum(1)


@pytest.mark.parametrize(("with_ids", "t", "b"), [(False, 10.0, -10.0), (True, 3.0, 0.5), (True, 100.0, -2.0)])
@pytest.mark.parametrize(("n", "C"), [(1, 1), (2, 3), (13, 7), (128, 5), (129, 16), (200, 33)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_are_the_double_loops(dtype, n, C, with_ids, t, b):
    x, y = pairs(n, C, dtype=dtype)
    ids = torch.randint(0, max(n // 3, 1), (n,)) if with_ids else None
    loss, top1 = ops.siglip_loss(x, y, t=t, b=b, ids=ids)
    expected = by_hand(x, y, t, b, None if ids is None else ids.tolist())
    rtol = 1e-12 if dtype == torch.float64 else 3e-6
    torch.testing.assert_close(loss.double(), expected[0], rtol=rtol, atol=t * rtol)
    assert (top1 == expected[1]).float().mean() > (0.99 if C > 1 else 0)
    assert loss.dtype == dtype


@pytest.mark.parametrize(("with_ids", "t", "b"), [(False, 10.0, -10.0), (True, 3.0, 0.5), (True, 100.0, -2.0)])
@pytest.mark.parametrize(("n", "C"), [(3, 2), (128, 64), (190, 40), (321, 131)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_gradients_are_torchs_in_float64(dtype, n, C, with_ids, t, b):
    x, y = (z.to(dtype).requires_grad_() for z in pairs(n, C))
    ids, g = torch.randint(0, n, (n,)) if with_ids else None, torch.rand(n)
    loss, _ = ops.siglip_loss(x, y, t=t, b=b, ids=ids)
    exact = [z.detach().double().requires_grad_() for z in (x, y)]
    expected = eager(exact[0], exact[1], t, b, ids)
    torch.testing.assert_close(loss.double(), expected, rtol=3e-6, atol=1e-6 * t)
    truths = torch.autograd.grad(expected, exact, g.double())
    for own, true in zip(torch.autograd.grad(loss, (x, y), g), truths, strict=True):
        assert own.dtype == dtype
        bound = (torch.finfo(dtype).eps + 4e-6 * max(1.0, t)) * true.abs().max()
        assert (own.double() - true).abs().max() <= bound + 1e-12


@pytest.mark.parametrize("ids", [None, [0, 1, 0, 2, 1]])
def test_gradcheck(ids):
    x, y = (torch.randn(5, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    t, b = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (1.3, -0.4))
    chosen = None if ids is None else torch.tensor(ids)
    assert torch.autograd.gradcheck(lambda x, y, t, b: ops.siglip_loss(x, y, t=t, b=b, ids=chosen)[0], (x, y, t, b))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "C", "with_ids"), [(12, 5, True), (200, 33, False), (300, 33, True)])
def test_a_part_of_the_pairs_is_the_part_of_the_whole(n, C, with_ids, dtype):
    t, b = torch.tensor(5.0), torch.tensor(-3.0)
    x, y = pairs(n, C, dtype=dtype)
    ids, g = torch.randint(0, n, (n,)) if with_ids else None, torch.rand(n, dtype=dtype)
    loss, top1 = by_hand(x, y, 5.0, -3.0, None if ids is None else ids.tolist())
    tolerance: dict[str, Any] = {"rtol": 0, "atol": 1e-12 if dtype == torch.float64 else 2e-5}
    whole = torch.ops.contrastkit.siglip_loss_dxy(g, x, y, t, b, ids, 0, n)
    for first, last in [(0, n // 3), (n // 3, n), (1, n - 1), (n, n)]:
        part = torch.ops.contrastkit.siglip_loss(x, y, t, b, ids, first, last)
        torch.testing.assert_close(part[0], loss[first:last].to(dtype), **tolerance)
        assert torch.equal(part[2], top1[first:last])
        gradients = torch.ops.contrastkit.siglip_loss_dxy(g, x, y, t, b, ids, first, last)
        for d, of_all in zip(gradients, whole, strict=True):
            torch.testing.assert_close(d, of_all[first:last], **tolerance)


def test_a_pair_alone_has_its_own_term_only():
    x, y = pairs(4, 3)
    loss, top1 = ops.siglip_loss(x, y, t=2.0, b=-1.0, ids=torch.ones(4, dtype=torch.int64))
    torch.testing.assert_close(loss, -F.logsigmoid(2 * (x * y).sum(1) - 1))
    assert top1.all()


def test_equal_pairs_are_a_tie_and_a_hit():
    x = unit(1, 40, dtype=torch.float32).expand(300, 40)
    assert ops.siglip_loss(x, x, t=7.0, b=-3.0)[1].all()


def test_an_empty_batch_is_nothing_to_do():
    x, y = (torch.zeros(0, 4, requires_grad=True) for _ in range(2))
    loss, _ = ops.siglip_loss(x, y, t=1.0, b=0.0)
    assert loss.shape == (0,) and [d.shape for d in torch.autograd.grad(loss.sum(), (x, y))] == [(0, 4)] * 2


def test_a_small_loss_keeps_its_digits():
    x = torch.eye(2)
    loss, _ = ops.siglip_loss(x, x, t=80.0, b=-40.0)  # 2 log(1 + e^-40)
    torch.testing.assert_close(loss.double(), torch.full((2,), 2 * math.exp(-40)).double(), rtol=1e-5, atol=0)


def test_nan_shows_in_every_loss_it_enters_and_is_no_hit():
    x, y = pairs(6, 3, dtype=torch.float32)
    y[1, 0] = math.nan
    loss, top1 = ops.siglip_loss(x, y, t=1.0, b=0.0)
    assert loss.isnan().all() and not top1.any()


def test_top1_carries_no_gradient():
    x, y = (z.requires_grad_() for z in pairs(6, 4))
    loss, top1 = ops.siglip_loss(x, y, t=1.0, b=0.0)
    assert loss.requires_grad and not top1.requires_grad


@pytest.mark.parametrize("n", [400, 1100])
def test_the_same_bits_on_any_number_of_threads(request, device, n):
    if request.node.callspec.params["device"] == "reference" or extension.info()["ops"][OPS[0]][device] == "reference":
        pytest.skip("torch's products, of which the reference is made, promise no such thing")
    x, y = (z.requires_grad_() for z in pairs(n, 24, dtype=torch.float32))
    threads, runs = torch.get_num_threads(), []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results = ops.siglip_loss(x, y, t=10.0, b=-10.0)
        runs.append([*results, *torch.autograd.grad(results[0].sum(), (x, y))])
    torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for other in runs[1:] for a, b in zip(runs[0], other, strict=True))


def test_memory_grows_with_n_and_not_with_its_square(request):
    if request.node.callspec.params["device"] != "cpu":
        pytest.skip("the reference works on blocks of four million logits")

    def peak(n):
        x, y = (z.requires_grad_() for z in pairs(n, 32, dtype=torch.float32))
        way = lambda: torch.autograd.grad(ops.siglip_loss(x, y, t=10.0, b=-10.0)[0].mean(), (x, y))  # noqa: E731
        return measure.peak_memory(way, "cpu")

    assert peak(4096) < 8 * 4096 * 32 * 4  # a matrix of logits would be 64 MiB
    assert peak(4096) < 2.2 * peak(2048)


@pytest.mark.parametrize("with_ids", [False, True])
def test_two_processes_equal_one(device, two_processes, with_ids):
    if device == "cuda":
        pytest.skip("gloo, for the CPU")
    x, y = (z.requires_grad_() for z in pairs(12, 5))
    t, b = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (6.0, -4.0))
    ids = torch.tensor([0, 1, 2, 3, 4, 5, 6, 1, 0, 9, 9, 2]) if with_ids else None
    loss = eager(x, y, t, b, ids)
    dx, dy, dt, db = torch.autograd.grad(loss.square().mean(), (x, y, t, b))

    def work(rank):
        own = [dist.local_shard(z.detach()).clone().requires_grad_() for z in (x, y)]
        leaves = [v.detach().clone().requires_grad_() for v in (t, b)]
        own_ids = None if ids is None else dist.local_shard(ids)
        mine, top1 = ops.siglip_loss(*own, t=leaves[0], b=leaves[1], ids=own_ids, across_ranks=True)
        assert not top1.requires_grad
        torch.testing.assert_close(mine, dist.local_shard(loss.detach()))
        mine.square().mean().backward()
        for z, d in zip(own, (dx, dy), strict=True):
            torch.testing.assert_close(z.grad / 2, dist.local_shard(d))  # DDP's mean over ranks
        for leaf, d in zip(leaves, (dt, db), strict=True):
            torch.testing.assert_close(dist.all_reduce_mean(leaf.grad), d)

    two_processes(work)


@pytest.mark.parametrize("ids", [None, [0, 1, 2, 0, 4, 5]])
def test_opcheck(ids):
    (x, y), t, b = pairs(6, 3), torch.tensor(2.0, dtype=torch.float64), torch.tensor(-1.0, dtype=torch.float64)
    chosen = None if ids is None else torch.tensor(ids)
    row = torch.ones(6, dtype=torch.float64)
    torch.library.opcheck(torch.ops.contrastkit.siglip_loss_dxy, (row, x, y, t, b, chosen, 2, 5))
    leaves = (x.requires_grad_(), y.requires_grad_(), t.requires_grad_(), b.requires_grad_())
    torch.library.opcheck(torch.ops.contrastkit.siglip_loss, (*leaves, chosen, 0, 6))


x = torch.zeros(4, 2)


@pytest.mark.parametrize(
    ("x", "y", "t", "b", "ids", "message"),
    [
        (torch.zeros(4), x, 1.0, 0.0, None, r"x must be floating \[N, C\], got float32\[4\]"),
        (x, torch.zeros(3, 2), 1.0, 0.0, None, r"y must be floating \[4, 2\], got float32\[3, 2\]"),
        (x, x, 0.0, 0.0, None, "t must be a number above 0"),
        (x, x, 1.0, math.nan, None, "b must be a finite number"),
        (x, x, torch.ones(1), 0.0, None, "t must be a float or a 0-dim"),
        (x, x, 1.0, torch.ones(2), None, "b must be a float or a 0-dim"),
        (x, x, 1.0, torch.tensor(0.1, device="meta"), None, "b is on meta"),
        (x, x, 1.0, 0.0, torch.zeros(3, dtype=torch.int64), r"ids must be int64 \[4\]"),
    ],
)
def test_what_does_not_fit_is_refused(x, y, t, b, ids, message):
    with pytest.raises(ValueError, match=f"siglip_loss: .*{message}"):
        ops.siglip_loss(x, y, t=t, b=b, ids=ids)
