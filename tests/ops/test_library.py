from collections.abc import Callable

import pytest
import torch

from contrastkit import ops
from contrastkit.ops.library import temperature
from tests.ops.vectors import unit

OPS = (
    "infonce", "infonce_dkeys", "ntxent", "ntxent_dz", "bank_loss", "bank_update_", "queue_push_", "sinkhorn",
    "sinkhorn_begin", "sinkhorn_sums", "sinkhorn_end_",
)  # fmt: skip


LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "infonce": lambda q, p, k, tau: ops.infonce(q, p, k, tau=tau)[0],
    "ntxent": lambda q, p, k, tau: ops.ntxent(q, tau=tau)[0],
    "bank_loss": lambda q, p, k, tau: ops.bank_loss(q, k.detach(), torch.arange(18).view(6, 3), tau=tau)[0],
}
DIFFERENTIABLE = [("infonce", i) for i in range(4)] + [(op, i) for op in ("ntxent", "bank_loss") for i in (0, 3)]


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


RAW = torch.ops.contrastkit


@pytest.mark.parametrize(
    "call",
    [
        lambda f, i: RAW.infonce(f(4, 2), f(4, 2), f(3, 2), f(1), None, None, i(4), None, True),
        lambda f, i: RAW.infonce(f(4, 2), f(4, 2), f(3, 2), f(0), None, None, None, None, True),
        lambda f, i: RAW.infonce(f(4, 2), f(4, 2), f(3, 2), f(1), i(2, 1), None, None, None, True),
        lambda f, i: RAW.infonce(f(4, 2), f(4, 2), f(3, 2), f(1), None, None, i(4), i(2), True),
        lambda f, i: RAW.infonce(f(4, 2), f(3, 2), f(3, 2), f(1), None, None, None, None, True),
        lambda f, i: RAW.infonce_dkeys(f(1), f(4), f(4, 2), f(3, 2), f(1), None, None, None, None),
        lambda f, i: RAW.ntxent(f(4, 2), f(1), 0, 0, 4),
        lambda f, i: RAW.ntxent(f(4, 2), f(1), 2, 0, 5),
        lambda f, i: RAW.ntxent_dz(f(1), f(1), f(1), f(400, 2), f(1), 200, 0, 400),
        lambda f, i: RAW.bank_loss(f(4, 1, 2), f(9, 1, 3), i(4, 2), f(1), None, True),
        lambda f, i: RAW.bank_loss(f(4, 1, 2), f(9, 1, 2), i(3, 2), f(1), None, True),
        lambda f, i: RAW.bank_loss(f(4, 1, 2), f(9, 1, 2), i(4, 2), f(1), f(2), True),
        lambda f, i: RAW.bank_update_(f(9, 2), i(4), f(3, 2), 0.5),
        lambda f, i: RAW.queue_push_(f(9, 2), i(1), f(3, 2), None, True),
        lambda f, i: RAW.sinkhorn(f(9), 0.05, 3),
        lambda f, i: RAW.sinkhorn_begin(f(9, 2), f(3), 0.05),
        lambda f, i: RAW.sinkhorn_sums(f(9, 200), f(2), 1.0),
        lambda f, i: RAW.sinkhorn_sums(f(9, 2), f(2).double(), 1.0),
        lambda f, i: RAW.sinkhorn_end_(f(9, 200), f(2)),
    ],
)
def test_a_kernel_called_past_the_public_function_checks_what_it_will_read(device, request, call):
    if request.node.callspec.params["device"] == "reference":
        pytest.skip("torch's own operators check")
    with pytest.raises((RuntimeError, ValueError, IndexError), match="expected|must|together|positive|not z's"):
        call(lambda *s: torch.rand(*s, device=device), lambda *s: torch.zeros(*s, dtype=torch.int64, device=device))
