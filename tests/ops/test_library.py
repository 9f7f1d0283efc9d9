from collections.abc import Callable

import pytest
import torch

from contrastkit import ops
from contrastkit.ops.library import temperature
from tests.ops.vectors import unit

OPS = (
    "infonce", "infonce_dkeys", "ntxent", "ntxent_dz", "clip_loss", "clip_loss_dxy", "siglip_loss",
    "siglip_loss_dxy", "bank_loss", "bank_update_", "queue_push_", "sinkhorn",
    "sinkhorn_begin", "sinkhorn_sums", "sinkhorn_end_",
)  # fmt: skip


LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "infonce": lambda q, p, k, tau: ops.infonce(q, p, k, tau=tau)[0],
    "ntxent": lambda q, p, k, tau: ops.ntxent(q, tau=tau)[0],
    "clip_loss": lambda q, p, k, tau: ops.clip_loss(q, p, tau=tau)[0],
    "siglip_loss": lambda q, p, k, tau: ops.siglip_loss(q, p, t=tau, b=-1.0)[0],
    "bank_loss": lambda q, p, k, tau: ops.bank_loss(q, k.detach(), torch.arange(18).view(6, 3), tau=tau)[0],
}
DIFFERENTIABLE = [("infonce", i) for i in range(4)] + [(op, i) for op in ("ntxent", "bank_loss") for i in (0, 3)]
DIFFERENTIABLE += [(op, i) for op in ("clip_loss", "siglip_loss") for i in (0, 1, 3)]


@pytest.mark.parametrize("of", [torch.sum, lambda loss: loss.square().sum()], ids=["linear", "square"])
@pytest.mark.parametrize(("op", "i"), DIFFERENTIABLE)
def test_a_penalty_on_a_gradient_is_refused_and_never_counts_nothing(device, op, i, of):
    leaves = [unit(6, 4), unit(6, 4), unit(18, 4), torch.tensor(0.3, dtype=torch.float64)]
    leaves[i].requires_grad_()
    loss = of(LOSSES[op](*leaves))
    (first,) = torch.autograd.grad(loss, leaves[i], create_graph=True)
    (plain,) = torch.autograd.grad(of(LOSSES[op](*leaves)), leaves[i])
    assert torch.equal(first, plain)  # using its value is no second derivative
    with pytest.raises(RuntimeError, match="no second derivative"):
        first.square().sum().backward()


@pytest.mark.parametrize("tau", [0, -1.0, float("nan"), "0.1", None, [0.1]])
def test_a_temperature_is_a_number_above_0(tau):
    with pytest.raises(ValueError, match="op: tau must be a number above 0"):
        temperature("op", tau, torch.device("cpu"))


def test_a_temperature_stays_on_the_cpu_whatever_the_default_device():
    with torch.device("meta"):
        assert temperature("op", 0.5, torch.device("meta")).device.type == "cpu"


@pytest.mark.parametrize(("op", "i"), DIFFERENTIABLE)
def test_forward_mode_is_refused_and_never_zero(op, i):
    leaves = [unit(6, 4), unit(6, 4), unit(18, 4), torch.tensor(0.3, dtype=torch.float64)]

    def of(x):
        return LOSSES[op](*leaves[:i], x, *leaves[i + 1 :]).sum()

    with pytest.raises(NotImplementedError, match=f"{op}: forward-mode"):
        torch.func.jvp(of, (leaves[i],), (torch.ones_like(leaves[i]),))
