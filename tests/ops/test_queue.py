import math

import pytest
import torch
import torch.nn.functional as F

from contrastkit import ops

OPS = ("queue_push_",)
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def push_by_hand(keys, start, x):
    """One key at a time, in order, in float64."""
    keys = [row.double().tolist() for row in keys]
    for i, row in enumerate(x):
        keys[(start + i) % len(keys)] = row.double().tolist()
    return torch.tensor(keys, dtype=torch.float64), (start + len(x)) % len(keys)


@pytest.mark.parametrize(
    ("K", "C", "N", "start"),
    [
        (8, 4, 3, 0),
        (8, 4, 3, 6),
        (7, 5, 7, 2),
        (7, 5, 23, 3),
        (1, 1, 1, 0),
        (1, 3, 5, 0),
        (64, 131, 17, 60),
        (5, 2, 0, 4),
    ],
)
def test_rows_go_where_one_push_at_a_time_puts_them(device, K, C, N, start):
    keys, x = torch.randn(K, C, device=device), torch.randn(N, C, device=device)
    pointer, n_valid = torch.tensor(start, device=device), torch.tensor(min(start, K), device=device)
    expected, then = push_by_hand(keys, start, x)
    ops.queue_push_(keys, pointer, x, n_valid=n_valid)
    torch.testing.assert_close(keys.double().cpu(), expected, rtol=0, atol=0)
    assert pointer.item() == then
    assert n_valid.item() == min(start + N, K)


@pytest.mark.parametrize("start", [2**63 - 1, -(2**63), -1, 8])
@pytest.mark.parametrize("N", [3, 23])
def test_a_pointer_counts_modulo_the_rows_and_nothing_overflows(device, N, start):
    keys, x = torch.randn(7, 2, device=device), torch.randn(N, 2, device=device)
    pointer, n_valid = torch.tensor(start, device=device), torch.tensor(2**63 - 1, device=device)
    expected, then = push_by_hand(keys, start, x)
    ops.queue_push_(keys, pointer, x, n_valid=n_valid)
    torch.testing.assert_close(keys.double().cpu(), expected, rtol=0, atol=0)
    assert pointer.item() == then and n_valid.item() == 7


@pytest.mark.parametrize("x_dtype", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("C", [1, 32, 131])
def test_normalised_rows_are_the_exact_ones_rounded(device, dtype, x_dtype, C):
    keys, x = torch.zeros(9, C, dtype=dtype, device=device), torch.randn(5, C, device=device).to(x_dtype)
    ops.queue_push_(keys, torch.tensor(0, device=device), x, normalize=True)
    x = x.double()
    truth = x / x.new_tensor([[math.sqrt(math.fsum(v * v for v in row))] for row in x.tolist()])
    # a few roundings of the arithmetic, and one of the storage
    arithmetic = 1e-14 if x_dtype == torch.float64 else 2e-6
    bound = arithmetic + (torch.finfo(dtype).eps / 2 + arithmetic) * truth.abs() + torch.finfo(dtype).tiny
    assert ((keys[:5].double() - truth).abs() <= bound).all()
    assert (keys[5:] == 0).all()


def test_a_zero_row_stays_zero_and_nan_stays_nan(device):
    keys = torch.ones(2, 3, device=device)
    x = torch.tensor([[0.0, 0.0, 0.0], [1.0, math.nan, 1.0]], device=device)
    ops.queue_push_(keys, torch.tensor(0, device=device), x, normalize=True)
    assert (keys[0] == 0).all() and keys[1].isnan().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_storage_rounds_as_torch_does(device, dtype):
    special = torch.tensor([[math.inf, -math.inf, math.nan, 0.0, -0.0, 1e-40, 65519.9, 3.4e38]], device=device)
    x = torch.cat([special, torch.randn(300, 8, device=device) * 10 ** torch.randint(-8, 8, (300, 1), device=device)])
    keys = torch.zeros(301, 8, dtype=dtype, device=device)
    ops.queue_push_(keys, torch.tensor(0, device=device), x)
    torch.testing.assert_close(keys, x.to(dtype), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("normalize", [False, True])
def test_rows_of_the_queue_itself_may_be_pushed(device, normalize):
    keys, pointer = torch.randn(6, 3, device=device), torch.tensor(1, device=device)
    x = keys[:4].clone()
    expected, _ = push_by_hand(keys, 1, torch.nn.functional.normalize(x, dim=1) if normalize else x)
    ops.queue_push_(keys, pointer, keys[:4], normalize=normalize)
    torch.testing.assert_close(keys.double().cpu(), expected, rtol=1e-6, atol=1e-7)


def test_strided_keys_and_rows(device):
    wide = torch.zeros(6, 4, device=device)
    keys, x = wide.T[:, ::2], torch.randn(6, 10, device=device)[::2, 1:9:3]
    ops.queue_push_(keys, torch.tensor(3, device=device), x)
    expected, _ = push_by_hand(torch.zeros(4, 3), 3, x)
    torch.testing.assert_close(keys.double().cpu(), expected, rtol=0, atol=0)
    assert (wide[1::2] == 0).all()


def test_autograd_stays_out_but_learns_of_the_write(device):
    keys, pointer = torch.randn(4, 2, device=device), torch.tensor(0, device=device)
    weight = torch.ones(3, 2, device=device, requires_grad=True)
    product = (weight * keys[:3]).sum()  # saves keys for backward
    ops.queue_push_(keys, pointer, weight)
    assert not keys.requires_grad
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


def test_the_same_bits_every_time(device):
    x = torch.randn(257, 96, device=device)
    runs = []
    for _ in range(3):
        keys = torch.zeros(300, 96, device=device)
        ops.queue_push_(keys, torch.tensor(200, device=device), x, normalize=True)
        runs.append(keys)
    assert torch.equal(runs[0], runs[1]) and torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("n_valid", [None, 3])
def test_opcheck(n_valid):
    n_valid = n_valid if n_valid is None else torch.tensor(n_valid)
    arguments = (torch.randn(5, 3), torch.tensor(4), torch.randn(3, 3), n_valid, True)
    torch.library.opcheck(torch.ops.contrastkit.queue_push_, arguments)


def test_compiles_whole():
    def step(keys, pointer, x):
        x = F.relu(x)
        ops.queue_push_(keys, pointer, x)
        return keys.sum() + x.sum()

    x = torch.randn(3, 2)
    eager, compiled = (torch.zeros(4, 2), torch.tensor(2)), (torch.zeros(4, 2), torch.tensor(2))
    expected = step(*eager, x)
    result = torch.compile(step, fullgraph=True, backend="aot_eager")(*compiled, x)
    assert torch.equal(eager[0], compiled[0]) and torch.equal(eager[1], compiled[1])
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(4, 2), torch.tensor(0), torch.zeros(1, 3)), r"x must be floating \[N, 2\], got float32\[1, 3\]"),
        ((torch.zeros(0, 2), torch.tensor(0), torch.zeros(1, 2)), r"keys must have rows, got \[0, 2\]"),
        ((torch.zeros(4, 2), torch.tensor(0.0), torch.zeros(1, 2)), r"pointer must be int64 \[\]"),
        ((torch.zeros(4, 2), torch.tensor([0]), torch.zeros(1, 2)), r"pointer must be int64 \[\]"),
        ((torch.zeros(4, 2, dtype=torch.int64), torch.tensor(0), torch.zeros(1, 2)), "floating"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ops.queue_push_(*arguments)
