import math
import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from contrastkit import ops
from contrastkit.bench import measure
from contrastkit.ops import extension
from tests.ops.vectors import unit

pytestmark = pytest.mark.usefixtures("default_device")
OPS = ("infonce", "infonce_dkeys")
module = sys.modules["contrastkit.ops.infonce"]


def masked(i, j, exclude, n_valid, ids):
    return (
        (exclude is not None and j in exclude[i].tolist())
        or (n_valid is not None and j >= int(n_valid))
        or (ids is not None and ids[0][i] == ids[1][j])
    )


def by_hand(query, positive, keys, tau, exclude=None, n_valid=None, ids=None):
    """The definition as a double loop over Python floats."""
    query, positive, keys = (t.double().tolist() for t in (query, positive, keys))
    loss, lse, top1 = [], [], []
    for i, (q, p) in enumerate(zip(query, positive, strict=True)):
        s = math.fsum(a * b for a, b in zip(q, p, strict=True)) / tau
        negatives = [
            math.fsum(a * b for a, b in zip(q, k, strict=True)) / tau
            for j, k in enumerate(keys)
            if not masked(i, j, exclude, n_valid, ids)
        ]
        m = max([s, *negatives])
        lse.append(m + math.log(math.fsum(math.exp(x - m) for x in [s, *negatives])))
        loss.append(lse[-1] - s)
        top1.append(all(s >= x for x in negatives))
    return torch.tensor(loss, dtype=torch.float64), torch.tensor(lse, dtype=torch.float64), torch.tensor(top1)


def eager(query, positive, keys, tau, exclude=None, n_valid=None, ids=None):
    """The loss in differentiable torch as MoCo's code writes it, with masked logits."""
    mask = [[masked(i, j, exclude, n_valid, ids) for j in range(len(keys))] for i in range(len(query))]
    negatives = (query @ keys.T).masked_fill(torch.tensor(mask, dtype=torch.bool).reshape(len(query), -1), -torch.inf)
    logits = torch.cat([(query * positive).sum(1, keepdim=True), negatives], dim=1) / tau
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.int64), reduction="none")


def masks(kind, N, K):
    chosen: dict[str, Any] = {}
    if kind in ("exclude", "all"):
        chosen["exclude"] = torch.randint(-1, K, (N, 3))
    if kind in ("n_valid", "all"):
        chosen["n_valid"] = torch.tensor(K // 2)
    if kind in ("ids", "all"):
        chosen["ids"] = (torch.randint(0, 4, (N,)), torch.randint(0, 4, (K,)))
    return chosen


SHAPES = [(1, 1, 1), (7, 13, 5), (3, 2, 11), (31, 67, 16), (2, 128, 3)]


@pytest.mark.parametrize("kind", ["none", "exclude", "n_valid", "ids", "all"])
@pytest.mark.parametrize(("N", "K", "C"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_are_the_double_loops(dtype, N, K, C, kind):
    query, positive, keys = unit(N, C, dtype=dtype), unit(N, C, dtype=dtype), unit(K, C, dtype=dtype)
    chosen = masks(kind, N, K)
    loss, lse, top1 = ops.infonce(query, positive, keys, tau=0.1, **chosen)
    expected = by_hand(query, positive, keys, 0.1, **chosen)
    tolerance: dict[str, Any] = {"rtol": 0, "atol": 1e-12 if dtype == torch.float64 else 1e-5}
    torch.testing.assert_close(loss.double(), expected[0], **tolerance)
    torch.testing.assert_close(lse.double(), expected[1], **tolerance)
    assert torch.equal(top1, expected[2])
    assert loss.dtype == lse.dtype == dtype


def in_float64(query, positive, keys, tau, n_valid=None):
    """Loss, log-sum-exp, top-1 and the queries' gradient of the sum of losses, by torch in float64."""
    q, p, k = (t.detach().double() for t in (query, positive, keys))
    q.requires_grad_()
    logits = torch.cat([(q * p).sum(1, keepdim=True), q @ k[:n_valid].T], dim=1) / tau
    lse = logits.logsumexp(1)
    loss = lse - logits[:, 0]
    (dq,) = torch.autograd.grad(loss.sum(), q)
    return loss, lse, logits[:, 0] >= logits[:, 1:].amax(1), dq


@pytest.mark.parametrize(("scale", "tau"), [(1.0, 0.01), (5.0, 0.07), (1.0, 1.0)])
@pytest.mark.parametrize(("N", "K", "C"), [(300, 4173, 40), (13, 700, 128), (257, 129, 3), (2, 20000, 33)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_many_tiles_chunks_and_blocks(dtype, N, K, C, scale, tau):
    q, p, k = (scale * unit(n, C).to(dtype) for n in (N, N, K))
    valid = K - 5
    q.requires_grad_()
    loss, lse, top1 = ops.infonce(q, p, k, tau=tau, n_valid=torch.tensor(valid))
    (dq,) = torch.autograd.grad(loss.sum(), q)
    expected = in_float64(q, p, k, tau, valid)
    size = scale**2 / tau  # of the logits: float32 has a relative precision
    for result, true in ((loss, expected[0]), (lse, expected[1])):
        torch.testing.assert_close(result.double(), true, rtol=1e-6, atol=4e-7 * size)
    assert (top1 == expected[2]).float().mean() > 0.99  # ties of rounded products may differ
    bound = torch.finfo(dtype).eps + 4e-6 * max(1.0, size)
    assert (dq.double() - expected[3]).abs().max() <= bound * expected[3].abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_index_outside_pads_and_any_count_beyond_the_keys_is_all(device, dtype):
    q, p, k = (unit(n, 4).to(device, dtype).requires_grad_() for n in (5, 5, 300))
    outside = torch.tensor([[-(2**63), -1, 300, 2**63 - 1]], device=device).expand(5, 4)
    count = torch.tensor(2**63 - 1, device=device)

    def gradients(exclude=None, n_valid=None):
        return torch.autograd.grad(ops.infonce(q, p, k, tau=0.2, exclude=exclude, n_valid=n_valid)[0].sum(), (q, p, k))

    for other in (gradients(exclude=outside), gradients(n_valid=count)):
        assert all(torch.equal(a, b) for a, b in zip(other, gradients(), strict=True))
    none = ops.infonce(q, p, k, tau=0.2, n_valid=torch.tensor(-(2**63), device=device))[0]
    assert (none == 0).all()


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_blocks_of_rows_change_nothing(monkeypatch, rows):
    q, p, k = (unit(*s).requires_grad_() for s in [(11, 4), (11, 4), (9, 4)])
    chosen = masks("all", 11, 9)
    whole = torch.autograd.grad(ops.infonce(q, p, k, tau=0.2, **chosen)[0].square().sum(), (q, p, k))
    monkeypatch.setattr("contrastkit.ops.library._BLOCK", {"cpu": rows * 9})
    loss, _, top1 = ops.infonce(q, p, k, tau=0.2, **chosen)
    torch.testing.assert_close(torch.autograd.grad(loss.square().sum(), (q, p, k)), whole)
    assert torch.equal(top1, by_hand(q, p, k, 0.2, **chosen)[2])


@pytest.mark.parametrize("kind", ["none", "exclude", "n_valid", "ids", "all"])
def test_gradcheck(kind):
    q, p, k = (torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in [(5, 3), (5, 3), (6, 3)])
    tau = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    chosen = masks(kind, 5, 6)
    assert torch.autograd.gradcheck(lambda q, p, k, tau: ops.infonce(q, p, k, tau=tau, **chosen)[0], (q, p, k, tau))


def test_every_gradient_alone_is_the_one_of_all_together():
    leaves = [unit(5, 3), unit(5, 3), unit(6, 3), torch.tensor(0.3, dtype=torch.float64)]
    g = torch.randn(5, dtype=torch.float64)

    def gradients(needed):
        xs = [t.clone().requires_grad_(i in needed) for i, t in enumerate(leaves)]
        loss = ops.infonce(*xs[:3], tau=xs[3])[0]
        return torch.autograd.grad(loss, [xs[i] for i in needed], g)

    for i, whole in enumerate(gradients(range(4))):
        torch.testing.assert_close(gradients([i])[0], whole, rtol=0, atol=1e-15)


def test_one_matrix_may_be_query_and_keys():
    z = unit(8, 4).requires_grad_()  # NT-Xent: 4 images, two views; each row excludes itself and its positive
    row = torch.arange(8)
    other = (row + 4) % 8
    exclude = torch.stack([row, other], dim=1)
    loss = ops.infonce(z, z[other], z, tau=0.5, exclude=exclude)[0].mean()
    s = (z @ z.T / 0.5).masked_fill(torch.eye(8, dtype=torch.bool), -torch.inf)
    expected = F.cross_entropy(s, other)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, z), torch.autograd.grad(expected, z))


@pytest.mark.parametrize("q_dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("k_dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_low_precision_errs_no_more_than_twice_torch_in_it(q_dtype, k_dtype):
    q, p, k = unit(16, 32).to(q_dtype), unit(16, 32).to(k_dtype), unit(64, 32).to(k_dtype)
    low = min(q_dtype, k_dtype, key=lambda d: -torch.finfo(d).eps)  # the coarser of the two

    def both(loss_of, dtype=None):
        xs = [(t if dtype is None else t.to(dtype)).requires_grad_() for t in (q.clone(), p.clone(), k.clone())]
        loss = loss_of(*xs)
        return [loss, *torch.autograd.grad(loss.sum(), xs)]

    ours = both(lambda q, p, k: ops.infonce(q, p, k, tau=0.2)[0])
    reference, truth = (both(lambda q, p, k: eager(q, p, k, 0.2), dtype) for dtype in (low, torch.float64))
    assert ours[0].dtype == torch.float32
    assert [t.dtype for t in ours[1:]] == [q_dtype, k_dtype, k_dtype]
    for own, theirs, true in zip(ours, reference, truth, strict=True):
        error, allowed = (own.double() - true).abs().max(), (theirs.double() - true).abs().max()
        assert error <= 2 * allowed + 1e-6


def test_accumulation_is_in_float32():
    q, k = unit(4, 512).bfloat16(), unit(4096, 512).bfloat16()
    loss = ops.infonce(q, q, k, tau=0.07)[0]
    torch.testing.assert_close(loss.double(), in_float64(q, q, k, 0.07)[0], rtol=1e-5, atol=1e-5)


def test_autocast_has_no_say():
    q, p, k = (unit(*s, dtype=torch.float32).requires_grad_() for s in [(8, 16), (8, 16), (32, 16)])

    def step():
        loss = ops.infonce(q, p, k, tau=0.1)[0]
        return loss, *torch.autograd.grad(loss.sum(), (q, p, k))

    plain = step()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for a, b in zip(step(), plain, strict=True):
            assert torch.equal(a, b) and a.dtype == torch.float32


@pytest.mark.parametrize(
    "how", [{"n_valid": torch.tensor(0)}, {"ids": (torch.zeros(3).long(), torch.zeros(5).long())}, {}]
)
def test_a_row_without_negatives_costs_nothing(how):
    q, p, k = unit(3, 4).requires_grad_(), unit(3, 4), unit(5 if how else 0, 4).requires_grad_()
    loss, lse, top1 = ops.infonce(q, p, k, tau=0.1, **how)
    assert (loss == 0).all() and top1.all()
    torch.testing.assert_close(lse, (q * p).sum(1).detach() / 0.1)
    for g in torch.autograd.grad(loss.sum(), (q, k)):
        assert (g == 0).all()


def test_equal_similarities_give_log_of_their_number():
    e = F.one_hot(torch.zeros(4, dtype=torch.int64), 8).double()
    loss, _, top1 = ops.infonce(e, e, e[:1].expand(99, 8), tau=0.07)
    torch.testing.assert_close(loss, torch.full((4,), math.log(100), dtype=torch.float64))
    assert top1.all()  # a tie is a hit


@pytest.mark.parametrize("C", [3, 33, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_negative_that_equals_the_positive_ties(request, C, dtype):
    if request.node.callspec.params["device"] != "cpu":
        pytest.skip("torch's products and tensor cores round one dot product in several ways")
    q, p = unit(50, C).to(dtype), unit(1, C).to(dtype).expand(50, C)
    assert ops.infonce(q, p, p[:1].expand(70, C), tau=0.1)[2].all()
    assert ops.infonce(p, p, p, tau=0.07)[2].all()  # collapsed


def test_what_lies_beyond_n_valid_may_be_anything():
    q, p, k = unit(5, 4), unit(5, 4), unit(9, 4)
    k[6:] = torch.nan
    leaves = [t.requires_grad_() for t in (q, p, k)]
    loss, lse, top1 = ops.infonce(*leaves, tau=0.2, n_valid=torch.tensor(6))
    result = [loss, lse, top1, *torch.autograd.grad(loss.sum(), leaves)]
    few = [q, p, k[:6].detach().requires_grad_()]
    loss, lse, top1 = ops.infonce(*few, tau=0.2)
    expected = [loss, lse, top1, *torch.autograd.grad(loss.sum(), few)]
    expected[-1] = torch.cat([expected[-1], torch.zeros(3, 4, dtype=torch.float64)])
    for a, b in zip(result, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_nothing_of_the_logits_size_is_ever_held(request, device):
    if request.node.callspec.params["device"] == "reference" or extension.info()["ops"][OPS[0]][device] == "reference":
        pytest.skip("the reference holds blocks of them")
    N, K, C = 1024, 8192, 16
    q, p, k = (unit(n, C, dtype=torch.float32).requires_grad_() for n in (N, N, K))

    def step():
        return torch.autograd.grad(ops.infonce(q, p, k, tau=0.1)[0].sum(), (q, p, k))

    assert measure.peak_memory(step, device) < N * K * 4 / 4


def test_memory_grows_with_the_rows(request, device):
    if request.node.callspec.params["device"] != "cpu":
        pytest.skip("the CPU kernels' parts")
    N, C = 32768, 32
    q, k = unit(N, C, dtype=torch.float32), unit(2048, C, dtype=torch.float32)
    assert measure.peak_memory(lambda: ops.infonce(q.requires_grad_(), q.detach(), k, tau=0.1), device) < 4 * N * C * 4


def test_a_small_loss_keeps_its_digits():
    q = F.one_hot(torch.tensor([0]), 2).float().requires_grad_()
    k = F.one_hot(torch.tensor([1]), 2).float()
    loss = ops.infonce(q, q.detach(), k, tau=0.05)[0]  # log(1 + e^-20): lse - s would be 0 in float32
    torch.testing.assert_close(loss.item(), math.log1p(math.exp(-20)), rtol=1e-6, atol=0)


def test_logits_far_beyond_exp_stay_finite():
    q, p, k = (unit(*s, dtype=torch.float32).requires_grad_() for s in [(6, 8), (6, 8), (20, 8)])
    loss, lse, _ = ops.infonce(q, p, k, tau=1e-4)
    torch.testing.assert_close(loss.double(), by_hand(q, p, k, 1e-4)[0], rtol=1e-4, atol=1e-2)
    assert all(g.isfinite().all() for g in torch.autograd.grad(loss.sum(), (q, p, k)))


def test_nan_shows_in_the_loss_and_is_no_hit():
    q = torch.tensor([[math.nan, 0.0], [1.0, 0.0]])
    loss, _, top1 = ops.infonce(q, torch.ones(2, 2), torch.zeros(3, 2), tau=1.0)
    assert loss.isnan().tolist() == [True, False]
    assert top1.tolist() == [False, True]


def test_strided_inputs():
    q, p, k = unit(5, 8)[:, ::2], unit(4, 5).T, unit(4, 7).T
    torch.testing.assert_close(ops.infonce(q, p, k, tau=0.3)[0], by_hand(q, p, k, 0.3)[0])


def test_keys_without_gradient_may_be_written_before_backward(monkeypatch):
    q, p, k = unit(5, 4).requires_grad_(), unit(5, 4), unit(9, 4)
    expected = torch.autograd.grad(eager(q, p, k, 0.2).sum(), q)
    loss = ops.infonce(q, p, k, tau=0.2)[0]
    k.zero_()  # a queue is overwritten; MoCo's official code clones it therefore
    torch.testing.assert_close(torch.autograd.grad(loss.sum(), q), expected)


def test_lse_and_top1_carry_no_gradient():
    q, p, k = unit(5, 4).requires_grad_(), unit(5, 4), unit(9, 4)
    loss, lse, top1 = ops.infonce(q, p, k, tau=0.2)
    assert not lse.requires_grad and not top1.requires_grad


def test_the_same_bits_on_any_number_of_threads(request, device):
    if request.node.callspec.params["device"] == "reference" or extension.info()["ops"][OPS[0]][device] == "reference":
        pytest.skip("torch's products, of which the reference is made, promise no such thing")
    q, p, k = (unit(n, 24, dtype=torch.float32) for n in (270, 270, 5000))
    threads, runs = torch.get_num_threads(), []
    for n in (1, 2, 3):
        torch.set_num_threads(n)
        leaf = q.clone().requires_grad_()
        loss, lse, top1 = ops.infonce(leaf, p, k, tau=0.1)
        runs.append([loss, lse, top1, *torch.autograd.grad(loss.sum(), leaf)])
    torch.set_num_threads(threads)
    assert all(torch.equal(x, y) for other in runs[1:] for x, y in zip(runs[0], other, strict=True))


def test_the_same_bits_every_time():
    q, p, k = (unit(*s, dtype=torch.float32).requires_grad_() for s in [(64, 32), (64, 32), (1000, 32)])
    runs = [torch.autograd.grad(ops.infonce(q, p, k, tau=0.1)[0].sum(), (q, p, k)) for _ in range(3)]
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(run, runs[0], strict=True))


@pytest.mark.parametrize("with_dquery", [False, True])
@pytest.mark.parametrize("kind", ["none", "all"])
def test_opcheck(kind, with_dquery):
    q, p, k = unit(5, 3), unit(5, 3), unit(6, 3)
    chosen = masks(kind, 5, 6)
    extra = (chosen.get("exclude"), chosen.get("n_valid"), *chosen.get("ids", (None, None)))
    tau = torch.tensor(0.2, dtype=torch.float64)
    xs = [t.requires_grad_(with_dquery) for t in (q, p, k, tau)]
    torch.library.opcheck(torch.ops.contrastkit.infonce, (*xs, *extra, with_dquery))
    xs = [t.detach() for t in xs]
    torch.library.opcheck(
        torch.ops.contrastkit.infonce_dkeys, (torch.ones(5).double(), torch.ones(5).double(), xs[0], *xs[2:], *extra)
    )


def test_compiles_whole_with_any_batch():
    def step(q, p, k):
        loss, lse, _ = ops.infonce(F.normalize(q, dim=1), p, k, tau=0.2)
        return loss.mean() + lse.mean()

    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend="aot_eager")
    for n in (4, 6, 11):
        xs = [unit(*s, dtype=torch.float32).requires_grad_() for s in [(n, 4), (n, 4), (3 * n, 4)]]
        torch.testing.assert_close(torch.autograd.grad(compiled(*xs), xs), torch.autograd.grad(step(*xs), xs))


def test_compiles_whole():
    q, p, k = (unit(*s, dtype=torch.float32).requires_grad_() for s in [(8, 4), (8, 4), (16, 4)])
    tau = torch.tensor(0.2, requires_grad=True)

    def step(q, p, k, tau):
        loss, lse, _ = ops.infonce(F.normalize(q, dim=1), p, k, tau=tau)
        return loss.mean() + lse.mean()

    expected = torch.autograd.grad(step(q, p, k, tau), (q, p, k, tau))
    result = torch.autograd.grad(torch.compile(step, fullgraph=True, backend="aot_eager")(q, p, k, tau), (q, p, k, tau))
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positive": torch.zeros(3, 2)}, r"positive must be floating \[4, 2\], got float32\[3, 2\]"),
        ({"keys": torch.zeros(3, 5)}, r"keys must be floating \[K, 2\]"),
        ({"query": torch.zeros(4, 2, dtype=torch.int64)}, "floating"),
        ({"tau": 0.0}, "above 0"),
        ({"tau": math.nan}, "above 0"),
        ({"tau": torch.ones(1)}, "0-dim"),
        ({"exclude": torch.zeros(4, dtype=torch.int64)}, r"exclude must be int64 \[4, E\]"),
        ({"n_valid": torch.tensor(1.0)}, "n_valid must be int64"),
        ({"ids": (torch.zeros(4).long(), torch.zeros(4).long())}, r"key_ids must be int64 \[3\]"),
        ({"keys": torch.zeros(3, 2, device="meta")}, "keys is on meta and the other inputs on cpu"),
        ({"n_valid": torch.tensor(1, device="meta")}, "n_valid is on meta and the other inputs on"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    arguments = {
        "query": torch.zeros(4, 2),
        "positive": torch.zeros(4, 2),
        "keys": torch.zeros(3, 2),
        "tau": 0.1,
    } | change
    with pytest.raises(ValueError, match=message):
        ops.infonce(**arguments)
