"""infonce and ntxent at the edges of tiles of rows, keys and channels, in every dtype of the tensor cores."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from contrastkit import ops

pytestmark = pytest.mark.usefixtures("default_device")
OPS = ("infonce", "infonce_dkeys", "ntxent", "ntxent_dz")
TAU = 0.1
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def unit(*shape, dtype):
    return F.normalize(torch.randn(*shape), dim=-1).to(dtype).requires_grad_()


def agree(loss, lse, logits, positive, leaves, dtype):
    """With the softmax over the whole matrix of logits, minus infinity where masked, in float64."""
    truths = torch.cat([positive, logits], dim=1).logsumexp(1)
    g = torch.rand(len(loss)) / len(loss)
    torch.testing.assert_close(lse.double(), truths, rtol=1e-6, atol=5e-6)
    torch.testing.assert_close(loss.double(), truths - positive[:, 0], rtol=1e-6, atol=5e-6)
    gradients = torch.autograd.grad(loss, leaves, g)
    for own, true in zip(gradients, torch.autograd.grad(truths - positive[:, 0], leaves, g.double()), strict=True):
        bound = 2 * torch.finfo(dtype).eps + 4e-5  # the reference gradients are rounded to the leaves' dtype, too
        assert (own.double() - true.double()).abs().max() <= bound * true.abs().max()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("N", "K", "C"),
    [
        (1, 1, 1), (63, 31, 16), (65, 33, 64), (128, 64, 65), (129, 65, 128), (65, 99, 131), (129, 200, 257),
        (63, 9, 600), (1, 200, 64),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", DTYPES)
def test_infonce(dtype, N, K, C, masked):
    q, p, k = unit(N, C, dtype=dtype), unit(N, C, dtype=dtype), unit(K, C, dtype=dtype)
    chosen: dict[str, Any] = {}
    mask = torch.zeros(N, K, dtype=torch.bool)
    if masked:
        exclude, ids = torch.randint(-1, K, (N, 2)), (torch.randint(0, 5, (N,)), torch.randint(0, 5, (K,)))
        chosen = {"exclude": exclude, "ids": ids, "n_valid": torch.tensor(K - K // 3)}
        mask = (exclude[:, None] == torch.arange(K)[:, None]).any(2) | (ids[0][:, None] == ids[1])
        mask[:, K - K // 3 :] = True
    loss, lse, _ = ops.infonce(q, p, k, tau=TAU, **chosen)
    logits = (q.double() @ k.double().T / TAU).masked_fill(mask, -torch.inf)
    agree(loss, lse, logits, (q.double() * p.double()).sum(1, keepdim=True) / TAU, (q, p, k), dtype)


@pytest.mark.parametrize(("n", "C"), [(1, 4), (16, 64), (32, 130), (33, 128), (65, 40), (97, 256), (20, 300)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_ntxent(dtype, n, C):
    z = unit(2 * n, C, dtype=dtype)
    loss, lse, _ = ops.ntxent(z, tau=TAU)
    logits = z.double() @ z.double().T / TAU
    row = torch.arange(2 * n)
    positive = logits[row, (row + n) % (2 * n)][:, None]
    masked = logits.clone()
    masked[row, row] = masked[row, (row + n) % (2 * n)] = -torch.inf
    agree(loss, lse, masked, positive, (z,), dtype)


@pytest.mark.parametrize("n", [1, 7, 32, 33])
@pytest.mark.parametrize("dtype", DTYPES)
def test_parts_of_several_groups_are_those_of_the_whole(dtype, n):
    groups, tau = 3, torch.tensor(TAU)
    z = unit(groups * 2 * n, 24, dtype=dtype).detach()
    N = len(z)
    g = torch.randn(N)
    row = torch.arange(N)
    other = torch.where(row % (2 * n) < n, row + n, row - n)
    loss, lse, _ = torch.ops.contrastkit.ntxent(z, tau, n, 0, N)
    exclude = torch.stack([row, other], dim=1)
    torch.testing.assert_close(ops.infonce(z, z[other], z, tau=TAU, exclude=exclude)[0], loss, rtol=1e-5, atol=5e-6)
    whole = torch.ops.contrastkit.ntxent_dz(g, loss, lse, z, tau, n, 0, N)
    for first, last in [(0, 1), (2 * n, 4 * n), (n, N - 1), (N, N)]:
        part = torch.ops.contrastkit.ntxent(z, tau, n, first, last)
        torch.testing.assert_close(part[0], loss[first:last], rtol=1e-6, atol=5e-6)
        torch.testing.assert_close(part[1], lse[first:last], rtol=1e-6, atol=5e-6)
        dz = torch.ops.contrastkit.ntxent_dz(g, loss, lse, z, tau, n, first, last)
        bound = (2 * torch.finfo(dtype).eps + 4e-6) * whole.abs().max()  # weights are rounded at other scales
        torch.testing.assert_close(dz, whole[first:last], rtol=0, atol=bound.item())


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-9, 1.0, 1e6])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_of_any_size(dtype, size):
    z = unit(130, 24, dtype=dtype)
    loss, _, _ = ops.ntxent(z, tau=TAU)
    (dz,) = torch.autograd.grad(loss, z, torch.full((130,), size), retain_graph=True)
    (one,) = torch.autograd.grad(loss, z, torch.ones(130))
    bound = 4 * torch.finfo(dtype).eps * one.double().abs().max() * size
    bound += torch.finfo(dtype).tiny * torch.finfo(dtype).eps  # resolution of the leaf's dtype near 0
    if torch.isfinite((one.double() * size).to(dtype)).all():
        assert (dz.double() - one.double() * size).abs().max() <= bound


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_at_any_address(dtype):
    memory = unit(1 + 70 * 16, dtype=torch.float32).detach().to(dtype)
    q, k = unit(9, 16, dtype=dtype), memory[1:].view(70, 16).requires_grad_()
    at_an_offset = ops.infonce(q, q, k, tau=TAU)[0]
    moved = k.detach().clone().requires_grad_()
    torch.testing.assert_close(at_an_offset, ops.infonce(q, q, moved, tau=TAU)[0], rtol=0, atol=0)
