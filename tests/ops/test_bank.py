import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from contrastkit import ops
from contrastkit.bench import measure
from contrastkit.ops import extension
from tests.ops.vectors import unit

pytestmark = pytest.mark.usefixtures("default_device")
OPS = ("bank_loss", "bank_update_")
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def by_hand(query, bank, index, tau, Z):
    """InstDisc's Eqs. 4 to 7, and the softmax over the drawn rows, as loops over Python floats."""
    query, rows, index = query.double().tolist(), bank.double().tolist(), index.tolist()
    m, Pn = len(index[0]) - 1, 1 / len(rows)
    loss, lse, top1 = [], [], []
    for q, drawn in zip(query, index, strict=True):
        s = [math.fsum(a * b for a, b in zip(q, rows[y], strict=True)) / tau for y in drawn]
        top = max(s)
        lse.append(top + math.log(math.fsum(math.exp(x - top) for x in s)))
        top1.append(s[0] == top)
        if Z is None:
            loss.append(lse[-1] - s[0])
        else:
            P = [math.exp(x) / Z for x in s]
            positive = P[0] / (P[0] + m * Pn)  # h(i, v)
            noise = [1 - p / (p + m * Pn) for p in P[1:]]
            loss.append(-math.log(positive) - math.fsum(math.log(h) for h in noise))
    return torch.tensor(loss, dtype=torch.float64), torch.tensor(lse, dtype=torch.float64), torch.tensor(top1)


def eager(query, bank, index, tau, Z):
    """The same in differentiable torch, as in lib/NCEAverage.py, with a copy of the drawn rows."""
    s = torch.einsum("n...c,nk...c->n...k", query, bank[index]) / tau
    if Z is None:
        return s.logsumexp(-1) - s[..., 0]
    m = index.shape[1] - 1
    x = s - (Z.to(s.dtype) * m / len(bank)).log()[..., None]
    return F.softplus(-x[..., 0]) + F.softplus(x[..., 1:]).sum(-1)


SHAPES = [(1, 3, 2, 1), (2, 5, 7, 3), (3, 50, 40, 31), (2, 97, 33, 128), (4, 20, 16, 131)]  # N, M, m, C
Z_ = pytest.mark.parametrize("Z", [None, 60.0])


@pytest.mark.parametrize(("tau", "Z"), [(0.07, None), (1.0, None), (0.07, 60.0)])
@pytest.mark.parametrize(("N", "M", "m", "C"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_are_the_loops(dtype, N, M, m, C, tau, Z):
    query, bank, index = unit(N, C, dtype=dtype), unit(M, C, dtype=dtype), torch.randint(0, M, (N, 1 + m))
    loss, lse, top1 = ops.bank_loss(query, bank, index, tau=tau, Z=None if Z is None else torch.tensor(Z))
    expected = by_hand(query, bank, index, tau, Z)
    tolerance: dict[str, Any] = (
        {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 2e-6, "atol": 1e-5}
    )
    torch.testing.assert_close(loss.double(), expected[0], **tolerance)
    torch.testing.assert_close(lse.double(), expected[1], **tolerance)
    assert torch.equal(top1, expected[2]) or C == 1
    assert loss.dtype == lse.dtype == dtype


@pytest.mark.parametrize(("tau", "scale", "Z"), [(0.01, 1.0, None), (0.07, 5.0, 60.0), (1.0, 1.0, 60.0)])
@pytest.mark.parametrize(("N", "V", "M", "m", "C"), [(3, 1, 30, 100, 5), (5, 2, 400, 64, 128), (2, 3, 300, 255, 40)])
@pytest.mark.parametrize("bank_dtype", DTYPES)
def test_gradients_are_torchs_in_float64(bank_dtype, N, V, M, m, C, tau, scale, Z):
    query = (scale * unit(N, V, C, dtype=torch.float32)).requires_grad_()
    bank, index, g = unit(M, V, C).to(bank_dtype), torch.randint(0, M, (N, 1 + m)), torch.rand(N, V)
    Z = None if Z is None else torch.linspace(0.5 * Z, Z, V)
    loss, *_ = ops.bank_loss(query, bank, index, tau=tau, Z=Z)
    (dq,) = torch.autograd.grad(loss, query, g)
    exact = query.detach().double().requires_grad_()
    expected = eager(exact, bank.double(), index, tau, Z)
    (true,) = torch.autograd.grad(expected, exact, g.double())
    size = scale / tau  # of the logits: float32 has a relative precision
    torch.testing.assert_close(loss.double(), expected, rtol=2e-6, atol=1e-6 * max(size, 1))
    assert dq.dtype == torch.float32
    assert (dq.double() - true).abs().max() <= 5e-6 * max(1.0, size) * true.abs().max()


def test_two_banks_in_one_are_two():
    query, bank, index = unit(4, 2, 6), unit(9, 2, 6), torch.randint(0, 9, (4, 6))
    Z = torch.tensor([20.0, 30.0])
    both = ops.bank_loss(query, bank, index, tau=0.1, Z=Z)
    for v in range(2):
        one = ops.bank_loss(query[:, v], bank[:, v], index, tau=0.1, Z=Z[v])
        for x, y in zip(both, one, strict=True):
            torch.testing.assert_close(x[:, v], y)


@Z_
@pytest.mark.parametrize("V", [0, 2])
def test_gradcheck(V, Z):
    shape = (V, 4) if V else (4,)
    query, bank = torch.randn(3, *shape, dtype=torch.float64, requires_grad=True), unit(12, *shape)
    tau, index = torch.tensor(0.7, dtype=torch.float64, requires_grad=True), torch.randint(0, 12, (3, 6))
    Z = None if Z is None else torch.full(shape[:-1], Z, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda q, tau: ops.bank_loss(q, bank, index, tau=tau, Z=Z)[0], (query, tau))


def test_softmax_over_all_rows_is_infonce():
    query, bank = unit(5, 4), unit(11, 4)
    own = torch.tensor([3, 0, 10, 4, 4])
    others = torch.stack([torch.tensor([j for j in range(11) if j != y]) for y in own.tolist()])
    result = ops.bank_loss(query, bank, torch.cat([own[:, None], others], dim=1), tau=0.2)
    expected = ops.infonce(query, bank[own], bank, tau=0.2, exclude=own[:, None])
    for x, y in zip(result, expected, strict=True):
        torch.testing.assert_close(x, y)


@Z_
def test_without_draws(Z):
    query, bank = unit(3, 4).requires_grad_(), unit(5, 4)
    index = torch.tensor([[0], [4], [2]])
    loss, lse, top1 = ops.bank_loss(query, bank, index, tau=0.5, Z=None if Z is None else torch.tensor(Z))
    assert (loss == 0).all() and top1.all() and (torch.autograd.grad(loss.sum(), query)[0] == 0).all()
    torch.testing.assert_close(lse, (query * bank[index[:, 0]]).sum(1).detach() / 0.5)


def test_an_empty_batch_is_nothing_to_do():
    query = torch.zeros(0, 4, requires_grad=True)
    loss, *_ = ops.bank_loss(query, unit(5, 4), torch.zeros(0, 3, dtype=torch.int64), tau=0.5)
    assert loss.shape == (0,) and torch.autograd.grad(loss.sum(), query)[0].shape == (0, 4)


@Z_
def test_low_precision_queries(Z):
    query, bank, index = unit(8, 32).bfloat16().requires_grad_(), unit(40, 32).bfloat16(), torch.randint(0, 40, (8, 9))
    Z = None if Z is None else torch.tensor(Z)
    loss, *_ = ops.bank_loss(query, bank, index, tau=0.1, Z=Z)
    (dq,) = torch.autograd.grad(loss.sum(), query)
    exact = query.detach().double().requires_grad_()
    expected = eager(exact, bank.double(), index, 0.1, Z)
    assert dq.dtype == torch.bfloat16 and loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(dq.double(), torch.autograd.grad(expected.sum(), exact)[0], rtol=2**-8, atol=1e-4)


def test_nan_shows_in_the_loss_and_is_no_hit():
    query, bank = torch.tensor([[math.nan, 0.0], [1.0, 0.0]]), torch.ones(3, 2)
    for Z in (None, torch.tensor(9.0)):
        loss, _, top1 = ops.bank_loss(query, bank, torch.tensor([[0, 1, 2], [1, 2, 0]]), tau=1.0, Z=Z)
        assert loss.isnan().tolist() == [True, False] and top1.tolist() == [False, True]


@Z_
@pytest.mark.parametrize("C", [4, 31])
def test_an_infinite_row_is_met_by_those_who_drew_it(C, Z):
    query, bank = unit(2, C, dtype=torch.float32), unit(40, C, dtype=torch.float32)
    bank[7, 1] = math.inf
    index = torch.randint(8, 40, (2, 20))
    index[0, 11] = 7
    query[0, 1] = 0.5
    loss, *_ = ops.bank_loss(query, bank, index, tau=0.1, Z=None if Z is None else torch.tensor(Z))
    clean = bank.clone()
    clean[7] = 0
    expected = ops.bank_loss(query, clean, index, tau=0.1, Z=None if Z is None else torch.tensor(Z))[0]
    assert not loss[0].isfinite() and loss[1] == expected[1]


def test_strided_inputs():
    query, bank, index = unit(8, 3).T[:, ::2], unit(10, 8)[:, ::2], torch.randint(0, 10, (9, 6)).T[::2, ::2]
    torch.testing.assert_close(ops.bank_loss(query, bank, index, tau=0.3)[0], by_hand(query, bank, index, 0.3, None)[0])


def test_the_bank_may_be_written_before_backward():
    query, bank, index = unit(5, 4).requires_grad_(), unit(9, 4), torch.randint(0, 9, (5, 4))
    expected = torch.autograd.grad(eager(query, bank.clone(), index, 0.2, None).sum(), query)
    loss = ops.bank_loss(query, bank, index, tau=0.2)[0]
    bank.zero_()
    torch.testing.assert_close(torch.autograd.grad(loss.sum(), query), expected)


def test_lse_and_top1_carry_no_gradient():
    query, bank, index = unit(5, 4).requires_grad_(), unit(9, 4), torch.randint(0, 9, (5, 4))
    loss, lse, top1 = ops.bank_loss(query, bank, index, tau=0.2)
    assert not lse.requires_grad and not top1.requires_grad


def test_the_same_bits_on_any_number_of_threads():
    query, bank, index = unit(9, 40, dtype=torch.float32).requires_grad_(), unit(99, 40), torch.randint(0, 99, (9, 300))
    bank, threads, runs = bank.float(), torch.get_num_threads(), []
    for n in (1, 2, 3):
        torch.set_num_threads(n)
        results = ops.bank_loss(query, bank, index, tau=0.1, Z=torch.tensor(50.0))
        runs.append([*results, *torch.autograd.grad(results[0].sum(), query)])
    torch.set_num_threads(threads)
    assert all(torch.equal(x, y) for other in runs[1:] for x, y in zip(runs[0], other, strict=True))


def test_the_drawn_rows_are_never_copied_out(request):
    if request.node.callspec.params["device"] != "cpu" or extension.info()["ops"][OPS[0]]["cpu"] == "reference":
        pytest.skip("the reference copies blocks of them")
    query, bank, index = (
        unit(16, 64, dtype=torch.float32).requires_grad_(),
        unit(999, 64).float(),
        torch.randint(999, (16, 500)),
    )
    peak = measure.peak_memory(
        lambda: torch.autograd.grad(ops.bank_loss(query, bank, index, tau=0.1)[0].sum(), query), "cpu"
    )
    assert peak < 16 * 64 * 4 * 6


@pytest.mark.parametrize("bad", [-1, 9])
def test_an_index_outside_the_bank_is_an_error(device, bad):
    if device == "cuda":
        pytest.skip("a device-side assertion there")
    query, bank = unit(2, 3), unit(9, 3)
    with pytest.raises(IndexError):
        ops.bank_loss(query, bank, torch.tensor([[0, 1], [2, bad]]), tau=0.1)
    with pytest.raises(IndexError):
        ops.bank_update_(bank, torch.tensor([0, bad]), query, m=0.5)


def update_by_hand(bank, index, x, m):
    """One image at a time, starting from the old rows."""
    old, new = bank.double().tolist(), bank.double().tolist()
    for y, f in zip(index.tolist(), x.double().tolist(), strict=True):
        r = [m * a + (1 - m) * b for a, b in zip(old[y], f, strict=True)]
        norm = max(math.sqrt(math.fsum(v * v for v in r)), 1e-12)
        new[y] = [v / norm for v in r]
    return torch.tensor(new, dtype=torch.float64)


@pytest.mark.parametrize(("C", "m"), [(1, 0.5), (5, 0.9), (31, 0.0), (128, 0.5), (131, 0.9)])
@pytest.mark.parametrize("x_dtype", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_update_is_the_exact_one_rounded(dtype, x_dtype, C, m):
    bank, x = unit(20, C).to(dtype), unit(6, C).to(x_dtype)
    index = torch.tensor([3, 19, 0, 3, 7, 3])  # row 3 occurs three times: the last one counts
    expected = update_by_hand(bank, index, x, m)
    ops.bank_update_(bank, index, x, m=m)
    arithmetic = 1e-13 if torch.float64 in (dtype, x_dtype) else 4e-6
    bound = arithmetic + torch.finfo(dtype).eps / 2 * expected.abs() + torch.finfo(dtype).tiny
    bound = bound * (1e3 if C == 1 else 1)  # m a + (1 - m) b may cancel
    assert ((bank.double() - expected).abs() <= bound).all()


def test_slots_are_normalised_each():
    bank, x, index = unit(7, 2, 5), unit(3, 2, 5), torch.tensor([6, 2, 6])
    expected = [update_by_hand(bank[:, v], index, x[:, v], 0.5) for v in range(2)]
    ops.bank_update_(bank, index, x, m=0.5)
    torch.testing.assert_close(bank, torch.stack(expected, dim=1))


def test_an_update_of_strided_rows_of_zero_and_of_nan():
    wide = torch.zeros(6, 4)
    bank, x = wide.T[:, ::2], torch.tensor([[0.0, 0.0, 0.0], [3.0, 0.0, 4.0], [1.0, math.nan, 1.0]])
    ops.bank_update_(bank, torch.tensor([3, 0, 1]), x, m=0.0)
    assert bank[3].tolist() == [0, 0, 0] and bank[1].isnan().all()
    torch.testing.assert_close(bank[0], torch.tensor([0.6, 0.0, 0.8]))
    assert (wide[1::2] == 0).all()


def test_an_update_of_nothing():
    bank = unit(4, 3)
    before = bank.clone()
    ops.bank_update_(bank, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3), m=0.5)
    assert torch.equal(bank, before)


def test_autograd_stays_out_of_updates_but_learns_of_the_write():
    bank, x = unit(4, 2), unit(2, 2).requires_grad_()
    saved = (x * bank[:2]).sum()  # for backward
    ops.bank_update_(bank, torch.tensor([0, 1]), x, m=0.5)
    assert not bank.requires_grad
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        saved.backward()


@Z_
@pytest.mark.parametrize("with_dquery", [False, True])
def test_opcheck(with_dquery, Z):
    query, bank, index = unit(3, 2, 4), unit(6, 2, 4), torch.randint(0, 6, (3, 5))
    tau, Z = torch.tensor(0.2, dtype=torch.float64), None if Z is None else torch.full((2,), Z, dtype=torch.float64)
    query.requires_grad_(with_dquery)
    torch.library.opcheck(torch.ops.contrastkit.bank_loss, (query, bank, index, tau, Z, with_dquery))
    torch.library.opcheck(torch.ops.contrastkit.bank_update_, (bank, index[:, 0], unit(3, 2, 4), 0.5))


def test_compiles_whole_with_any_batch():
    bank, Z = unit(30, 5, dtype=torch.float32), torch.tensor(30.0)

    def step(q, index, bank):
        loss, lse, _ = ops.bank_loss(F.normalize(q, dim=1), bank, index, tau=0.2, Z=Z)
        with torch.no_grad():
            ops.bank_update_(bank, index[:, 0], q, m=0.5)
        return loss.mean() + lse.mean()

    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend="aot_eager")
    for n in (4, 6, 11):
        q, index = unit(n, 5, dtype=torch.float32).requires_grad_(), torch.randint(0, 30, (n, 7))
        ours, theirs = bank.clone(), bank.clone()
        torch.testing.assert_close(
            torch.autograd.grad(compiled(q, index, ours), q), torch.autograd.grad(step(q, index, theirs), q)
        )
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": torch.zeros(4, 3)}, r"bank must be floating \[M, 3\], got float32\[5, 2\]"),
        ({"bank": torch.zeros(5, 1, 2)}, r"bank must be floating \[M, 2\], got float32\[5, 1, 2\]"),
        ({"bank": torch.zeros(5, 2, dtype=torch.int64)}, "floating"),
        ({"index": torch.zeros(3, 2, dtype=torch.int64)}, r"index must be int64 \[4, 1 \+ m\]"),
        ({"index": torch.zeros(4, 0, dtype=torch.int64)}, r"index must have a column of positives, got \[4, 0\]"),
        ({"index": torch.zeros(4, 2)}, "index must be int64"),
        ({"Z": torch.ones(1)}, r"Z must be floating \[\], got float32\[1\]"),
        ({"tau": 0.0}, "above 0"),
        ({"bank": torch.zeros(5, 2, device="meta")}, "bank is on meta"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    arguments = {
        "query": torch.zeros(4, 2),
        "bank": torch.zeros(5, 2),
        "index": torch.zeros(4, 2, dtype=torch.int64),
        "tau": 0.1,
    } | change
    with pytest.raises(ValueError, match=message):
        ops.bank_loss(**arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(4, 3)}, r"x must be floating \[N, 2\], got float32\[4, 3\]"),
        ({"index": torch.zeros(3, dtype=torch.int64)}, r"index must be int64 \[4\], got int64\[3\]"),
        ({"m": 1.5}, r"in \[0, 1\]"),
        ({"index": torch.zeros(4, dtype=torch.int64, device="meta")}, "index is on meta"),
    ],
)
def test_what_does_not_fit_an_update_is_refused(change, message):
    arguments = {
        "bank": torch.zeros(5, 2),
        "index": torch.zeros(4, dtype=torch.int64),
        "x": torch.zeros(4, 2),
        "m": 0.5,
    } | change
    with pytest.raises(ValueError, match=message):
        ops.bank_update_(**arguments)


@pytest.mark.parametrize("C", [3, 33, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_draw_that_is_the_positive_ties(C, dtype):
    query, bank = unit(9, C, dtype=torch.float32), unit(4, C).to(dtype)
    index = torch.ones(9, 30, dtype=torch.int64)
    for Z in (None, torch.tensor(4.0)):
        assert ops.bank_loss(query, bank, index, tau=0.07, Z=Z)[2].all()
