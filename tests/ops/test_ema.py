import math

import pytest
import torch

from contrastkit import ops

OPS = ("ema_",)
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
SHAPES = [(), (1,), (0,), (7,), (3, 5), (16, 3, 3, 3), (70001,)]


def truth(a, p, m):
    return m * a.double() + (1 - m) * p.double()


@pytest.mark.parametrize("p_dtype", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", [0.3, 0.5, 0.99])
def test_the_average_is_the_exact_one_rounded(device, dtype, p_dtype, m):
    averages = [torch.randn(s, device=device).to(dtype) for s in SHAPES]
    params = [torch.randn(s, device=device).to(p_dtype) for s in SHAPES]
    expected = [truth(a, p, m) for a, p in zip(averages, params, strict=True)]
    sizes = [a.abs().double() + p.abs().double() for a, p in zip(averages, params, strict=True)]
    ops.ema_(averages, params, m)
    arithmetic = 4 * torch.finfo(torch.float64 if torch.float64 in (dtype, p_dtype) else torch.float32).eps
    for a, e, size in zip(averages, expected, sizes, strict=True):
        bound = torch.finfo(dtype).eps / 2 * e.abs() + arithmetic * size + torch.finfo(dtype).tiny
        assert ((a.double() - e).abs() <= bound).all()


def test_the_small_share_of_the_parameter_is_not_a_difference_of_floats(device):
    a, p, m = torch.zeros(40, device=device), torch.ones(40, device=device), 0.9999
    ops.ema_([a], [p], m)
    torch.testing.assert_close(a.double().cpu(), torch.full((40,), 1 - m, dtype=torch.float64), rtol=1e-7, atol=0)


def test_lists_of_mixed_dtypes_and_more_tensors_than_one_launch_holds(device):
    n = 2100  # the last ones are all of one pair of dtypes, which goes into launches of 960
    averages = [torch.randn(3, device=device).to(DTYPES[i % 4 if i < 100 else 0]) for i in range(n)]
    params = [torch.randn(3, device=device).to(DTYPES[i // 4 % 4 if i < 100 else 0]) for i in range(n)]
    expected = [truth(a, p, 0.9).to(a.dtype) for a, p in zip(averages, params, strict=True)]
    ops.ema_(averages, params, 0.9)
    for a, e in zip(averages, expected, strict=True):
        torch.testing.assert_close(a, e)


@pytest.mark.parametrize("dtype", DTYPES)
def test_m_of_0_copies_and_m_of_1_keeps(device, dtype):
    a, p = torch.randn(1001, device=device).to(dtype), torch.randn(1001, device=device).to(dtype)
    before = a.clone()
    ops.ema_([a], [p], 1.0)
    assert torch.equal(a, before)
    ops.ema_([a], [p], 0.0)
    assert torch.equal(a, p)


@pytest.mark.slow
@pytest.mark.parametrize("m", [0.0, 0.9999])
def test_averages_beyond_the_caches_are_exact_too(device, m):
    averages = [torch.randn(2900, 2900, device=device), torch.randn(7, device=device)]
    params = [torch.randn(2900, 2900, device=device).T, torch.randn(7, device=device)]
    expected, version = [truth(a, p, m) for a, p in zip(averages, params, strict=True)], averages[1]._version
    ops.ema_(averages, params, m)
    for a, p, e in zip(averages, params, expected, strict=True):
        torch.testing.assert_close(a.double(), e, rtol=3e-7, atol=3e-7)
        assert m > 0 or torch.equal(a, p)
    assert averages[1]._version > version


def test_a_value_that_is_not_finite_shows(device):
    a = torch.tensor([1.0, math.inf, math.nan, 1.0], device=device).bfloat16()
    ops.ema_([a], [torch.tensor([math.nan, 1.0, 1.0, 1.0], device=device)], 0.9)
    assert a.isfinite().tolist() == [False, False, False, True]


def test_strides(device):
    storage = torch.randn(8, 6, 5, 4, device=device)
    cases = [
        (storage.clone().contiguous(memory_format=torch.channels_last), storage * 2),  # layouts differ
        (storage.clone().transpose(0, 3), (storage * 3).transpose(0, 3)),  # dense, permuted
        (storage.clone()[::2, 1:, :, ::3], (storage * 4)[::2, 1:, :, ::3]),  # with holes
        (storage.clone()[1, 1, 1, 1:], torch.randn(3, device=device)),  # not aligned to a vector
    ]
    expected = [truth(a, p, 0.75) for a, p in cases]
    holes, base = cases[2][0], cases[2][0]._base.clone()
    ops.ema_([a for a, _ in cases], [p for _, p in cases], 0.75)
    for (a, _), e in zip(cases, expected, strict=True):
        torch.testing.assert_close(a.double(), e, rtol=1e-6, atol=1e-6)
    assert torch.equal(holes._base[1::2], base[1::2]) and torch.equal(holes._base[:, 0], base[:, 0])


def test_autograd_stays_out_but_learns_of_the_write(device):
    a, p = torch.ones(3, device=device), torch.zeros(3, device=device, requires_grad=True)
    product = (a * p).sum()  # saves a for backward
    ops.ema_([a], [p], 0.9)
    assert not a.requires_grad
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


def test_an_empty_list_is_nothing_to_do(device):
    ops.ema_([], [], 0.9)


def test_the_same_bits_on_any_number_of_threads(device):
    a, p = torch.randn(300_001, device=device), torch.randn(300_001, device=device)
    runs = []
    threads = torch.get_num_threads()
    for n in (1, 2, 3):
        torch.set_num_threads(n)
        runs.append(a.clone())
        ops.ema_([runs[-1]], [p], 0.99)
    torch.set_num_threads(threads)
    assert torch.equal(runs[0], runs[1]) and torch.equal(runs[0], runs[2])


def test_opcheck():
    averages, params = [torch.randn(5), torch.randn(2, 3).bfloat16()], [torch.randn(5), torch.randn(2, 3)]
    torch.library.opcheck(torch.ops.contrastkit.ema_, (averages, params, 0.9))


def test_compiles_whole():
    def step(averages, params):
        params = [p * 2 for p in params]
        ops.ema_(averages, params, 0.9)
        return averages[0].sum() + averages[1].sum()

    params = [torch.randn(3), torch.randn(2, 2)]
    eager, compiled = ([torch.zeros(3), torch.ones(2, 2)] for _ in range(2))
    expected = step(eager, params)
    result = torch.compile(step, fullgraph=True, backend="aot_eager")(compiled, params)
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(compiled, eager)


@pytest.mark.parametrize(
    ("averages", "params", "m", "message"),
    [
        ([torch.zeros(2)], [], 0.9, "1 averages but 0 params"),
        ([torch.zeros(2)], [torch.zeros(3)], 0.9, "pair 0 does not match"),
        ([torch.zeros(2)], [torch.zeros(2, device="meta")], 0.9, "on meta"),
        ([torch.zeros(2, dtype=torch.int64)], [torch.zeros(2)], 0.9, "must be floating"),
        ([torch.zeros(2)], [torch.zeros(2)], 1.1, r"in \[0, 1\]"),
        ([torch.zeros(2)], [torch.zeros(2)], math.nan, r"in \[0, 1\]"),
    ],
)
def test_what_does_not_fit_is_refused(device, averages, params, m, message):
    with pytest.raises(ValueError, match=message):
        ops.ema_(averages, params, m)
