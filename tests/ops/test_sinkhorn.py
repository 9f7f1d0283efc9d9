import math

import pytest
import torch

from contrastkit import dist, ops
from contrastkit.bench import measure
from contrastkit.ops import extension

OPS = ("sinkhorn", "sinkhorn_begin", "sinkhorn_sums", "sinkhorn_end_")
PASSES = torch.ops.contrastkit


def by_hand(scores, epsilon, iterations):
    """main_swav.py's `distributed_sinkhorn` in float64, line by line, in the log domain: no score is too large."""
    logQ = scores.double().cpu() / epsilon
    N, K = logQ.shape
    for _ in range(iterations):
        logQ = logQ - logQ.logsumexp(0, keepdim=True) - math.log(K)
        logQ = logQ - logQ.logsumexp(1, keepdim=True) - math.log(N)
    return logQ.exp() * N


def cosines(N, K, device, dtype=torch.float32):
    return (torch.rand(N, K, device=device, dtype=torch.float64) * 2 - 1).to(dtype)


SHAPES = [(1, 1), (1, 7), (5, 1), (3, 2), (7, 13), (64, 33), (300, 40), (9, 517), (600, 260)]


@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize(("N", "K"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_codes_are_the_official_ones(device, dtype, N, K, iterations):
    scores = cosines(N, K, device, dtype)
    codes = ops.sinkhorn(scores, iterations=iterations)
    rtol = 1e-11 if dtype == torch.float64 else 2e-5
    torch.testing.assert_close(codes.double().cpu(), by_hand(scores, 0.05, iterations), rtol=rtol, atol=1e-3 * rtol)
    assert codes.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_scores_are_taken_as_they_are(device, dtype):
    scores = cosines(40, 50, device, dtype)  # in float16 exp(1 / 0.05) would overflow
    codes = ops.sinkhorn(scores)
    assert codes.dtype == torch.float32
    torch.testing.assert_close(codes.double().cpu(), by_hand(scores, 0.05, 3), rtol=2e-5, atol=1e-8)


def test_rows_sum_to_one_and_many_iterations_use_all_prototypes_alike(device):
    codes = ops.sinkhorn(cosines(60, 12, device), epsilon=0.2, iterations=200).double()
    torch.testing.assert_close(codes.sum(1), torch.ones_like(codes[:, 0]), rtol=1e-6, atol=0)
    torch.testing.assert_close(codes.sum(0), torch.full_like(codes[0], 60 / 12), rtol=1e-5, atol=0)


def test_equal_scores_give_uniform_codes(device):
    codes = ops.sinkhorn(torch.full((6, 5), 0.3, device=device))
    torch.testing.assert_close(codes, torch.full_like(codes, 1 / 5))


def test_a_constant_added_to_all_scores_changes_nothing(device):
    scores = cosines(20, 9, device)
    torch.testing.assert_close(ops.sinkhorn(scores + 2**10), ops.sinkhorn(scores + 2**10 - 2**10), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [4.0, 100.0, 1e4])
def test_scores_far_beyond_exp(device, size, dtype):
    scores = cosines(30, 11, device, dtype) * size  # swav's exp(scores / 0.05) is infinite from 4.4 on
    codes = ops.sinkhorn(scores)
    atol = 3e-7 * size / 0.05 if dtype == torch.float32 else 1e-10  # float32 keeps 7 digits of the exponent
    torch.testing.assert_close(codes.double().cpu(), by_hand(scores, 0.05, 3), rtol=0, atol=atol)


@pytest.mark.parametrize("epsilon", [0.05, 0.02, 0.005])
def test_prototypes_far_from_every_sample_get_their_share(device, epsilon):
    x = torch.nn.functional.normalize(torch.randn(20, 8, device=device) * 0.05 + 1, dim=1)  # collapsed features
    scores = x @ torch.nn.functional.normalize(torch.randn(300, 8, device=device), dim=1).T
    torch.testing.assert_close(
        ops.sinkhorn(scores, epsilon=epsilon).double().cpu(), by_hand(scores, epsilon, 3), rtol=1e-4, atol=1e-6
    )


def test_a_constant_added_to_a_prototype_changes_nothing(device):
    scores = cosines(8, 5, device)
    shifted = scores - torch.tensor([0.0, 64.0, 0.0, -2048.0, 0.0], device=device)
    near = shifted + torch.tensor([0.0, 64.0, 0.0, -2048.0, 0.0], device=device)  # after rounding
    torch.testing.assert_close(ops.sinkhorn(shifted), ops.sinkhorn(near), rtol=1e-5, atol=1e-9)


def test_an_empty_prototype_stays_empty_and_harms_nobody(device):
    scores = cosines(8, 5, device)
    full = ops.sinkhorn(scores)
    empty = torch.full((8, 1), -torch.inf, device=device)
    codes = ops.sinkhorn(torch.cat([scores, empty], dim=1))
    assert (codes[:, 5] == 0).all()
    torch.testing.assert_close(codes[:, :5], full, rtol=1e-5, atol=1e-9)


def test_one_sample_alone_with_its_prototype(device):
    scores = torch.full((4, 3), -50.0, device=device)
    scores[:, 0] = 0.0
    scores[3] = torch.tensor([-100.0, -100.0, -60.0])  # its weight in the first sums is exp(-1200)
    codes = ops.sinkhorn(scores)
    assert codes.isfinite().all() and codes[3].argmax() == 2


def test_nan_shows(device):
    scores = cosines(4, 3, device)
    scores[1, 1] = torch.nan
    assert ops.sinkhorn(scores).isnan().any()


@pytest.mark.parametrize(("N", "K"), [(0, 3), (3, 0), (0, 0)])
def test_nothing_of_nothing(device, N, K):
    assert ops.sinkhorn(torch.zeros(N, K, device=device)).shape == (N, K)


def test_strided_scores_and_no_gradient(device):
    scores = cosines(14, 20, device).T[::2]
    leaf = scores.clone().requires_grad_()
    codes = ops.sinkhorn(leaf)
    assert not codes.requires_grad and torch.equal(leaf, scores)
    torch.testing.assert_close(ops.sinkhorn(scores), codes)


def test_passes_over_parts_make_the_whole(device):
    scores = cosines(23, 17, device, torch.float64)
    parts = [scores[:4] * 9, scores[4:9], scores[9:]]
    tops = torch.cat(parts).amax(0)
    E, t = (list(x) for x in zip(*(PASSES.sinkhorn_begin(part, tops, 0.05) for part in parts), strict=True))
    t = sum(t)
    for _ in range(2):
        t = sum(PASSES.sinkhorn_sums(e, t, 17 / 23) for e in E)
    for e in E:
        PASSES.sinkhorn_end_(e, t)
    torch.testing.assert_close(torch.cat(E), ops.sinkhorn(torch.cat(parts)))


def test_two_processes_equal_one(device, two_processes):
    if device == "cuda":
        pytest.skip("gloo, for the CPU")
    scores = cosines(24, 7, device, torch.float64) * torch.linspace(1, 2, 24)[:, None]
    expected = by_hand(scores, 0.1, 3)
    two_processes(
        lambda rank: torch.testing.assert_close(
            ops.sinkhorn(dist.local_shard(scores), epsilon=0.1, across_ranks=True), dist.local_shard(expected)
        )
    )


def test_the_same_bits_on_any_number_of_threads(request, device):
    if request.node.callspec.params["device"] == "reference" or extension.info()["ops"][OPS[0]][device] == "reference":
        pytest.skip("torch's products, of which the reference is made, promise no such thing")
    scores, threads, runs = cosines(333, 1500, device), torch.get_num_threads(), []
    for n in (1, 2, 3):
        torch.set_num_threads(n)
        runs.append(ops.sinkhorn(scores))
    torch.set_num_threads(threads)
    assert torch.equal(runs[0], runs[1]) and torch.equal(runs[0], runs[2])


def test_nothing_of_the_scores_size_but_the_codes(request, device):
    if request.node.callspec.params["device"] != "cpu":
        pytest.skip("the reference holds a few")
    scores = cosines(2048, 500, "cpu")
    assert measure.peak_memory(lambda: ops.sinkhorn(scores), "cpu") < 1.1 * 2048 * 500 * 4


def test_opcheck():
    scores = cosines(6, 5, "cpu")
    torch.library.opcheck(PASSES.sinkhorn, (scores, 0.05, 3))
    torch.library.opcheck(PASSES.sinkhorn, (scores.T.contiguous().T, 0.05, 3))
    tops = scores.amax(0)
    torch.library.opcheck(PASSES.sinkhorn_begin, (scores, tops, 0.05))
    E, t = PASSES.sinkhorn_begin(scores, tops, 0.05)
    torch.library.opcheck(PASSES.sinkhorn_sums, (E, t, 0.5))
    torch.library.opcheck(PASSES.sinkhorn_end_, (E, t))


def test_compiles_whole_with_any_batch():
    compiled = torch.compile(lambda x: ops.sinkhorn(x * 2).sum(0), fullgraph=True, dynamic=True, backend="aot_eager")
    for N in (4, 6, 11):
        scores = cosines(N, 5, "cpu")
        torch.testing.assert_close(compiled(scores), ops.sinkhorn(scores * 2).sum(0))


@pytest.mark.parametrize(
    ("scores", "options", "message"),
    [
        (torch.zeros(3), {}, r"scores must be floating \[N, K\], got float32\[3\]"),
        (torch.zeros(3, 2, dtype=torch.int64), {}, "floating"),
        (torch.zeros(3, 2), {"epsilon": 0.0}, "epsilon must be above 0"),
        (torch.zeros(3, 2), {"epsilon": torch.nan}, "epsilon must be above 0"),
        (torch.zeros(3, 2), {"iterations": 0}, "iterations must be at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(scores, options, message):
    with pytest.raises(ValueError, match=message):
        ops.sinkhorn(scores, **options)
