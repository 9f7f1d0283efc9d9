"""What every method promises, over every method's tiny row."""

from dataclasses import replace

import pytest
import torch

from contrastkit.methods import RECIPES, Method
from contrastkit.optim import build_optimizer
from contrastkit.types import Batch, Step

TINY = [name for name in RECIPES if name.endswith("/tiny")]
N = 16


def build(name: str) -> Method:
    torch.manual_seed(0)
    recipe = replace(RECIPES[name], batch=N)
    if hasattr(recipe, "K"):
        recipe = replace(recipe, K=64)
    return recipe.build(channels=3, size=16, world=1, seed=0).train()


def batch(name: str, seed: int = 0) -> Batch:
    g = torch.Generator().manual_seed(seed)
    views = [torch.rand(N, 3, 16, 16, generator=g) for _ in RECIPES[name].views]
    return Batch(views, torch.arange(N), torch.full((N,), -1))


def train(method: Method, name: str, steps: range, optimizer: torch.optim.Optimizer) -> list[float]:
    losses = []
    for step in steps:
        b = batch(name, seed=step)
        out: Step = method(b, step / 10)
        out.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        method.after_step(b, out, step / 10)
        losses.append(out.loss.item())
    return losses


def optimizer(method: Method, lr: float = 0.05) -> torch.optim.Optimizer:
    return build_optimizer(method.param_groups(), "sgd", lr=lr, weight_decay=1e-4)


@pytest.mark.parametrize("name", TINY)
def test_forward_only_reads(name: str) -> None:
    method = build(name)
    before = {k: v.clone() for k, v in method.state_dict().items()}
    method(batch(name), 0.5)
    for key, value in method.state_dict().items():
        if not key.endswith(("running_mean", "running_var", "num_batches_tracked")):
            assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("name", TINY)
def test_all_that_is_trained_gets_a_gradient_and_no_target_does(name: str) -> None:
    method = build(name)
    method(batch(name), 0.5).loss.backward()
    for key, p in method.named_parameters():
        if key.startswith("target."):
            assert p.grad is None and not p.requires_grad, key
        else:
            assert p.grad is not None and p.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", TINY)
def test_save_load_continue_is_not_stopping(name: str) -> None:
    whole = build(name)
    o = optimizer(whole)
    straight = train(whole, name, range(6), o)

    first = build(name)
    o1 = optimizer(first)
    before = train(first, name, range(3), o1)
    second = build(name)
    o2 = optimizer(second)
    second.load_state_dict(first.state_dict())
    o2.load_state_dict(o1.state_dict())
    assert before + train(second, name, range(3, 6), o2) == straight
    for key, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


@pytest.mark.parametrize("name", TINY)
def test_one_batch_can_be_learned(name: str) -> None:
    method = build(name)
    o, b = optimizer(method, lr=0.1), batch(name)
    losses = []
    for _ in range(25):
        out = method(b, 0.5)
        out.loss.backward()
        o.step()
        o.zero_grad()
        losses.append(out.loss.item())  # nothing is written: the dictionary stays
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("name", list(RECIPES))
def test_every_row_builds(name: str) -> None:
    recipe = RECIPES[name]
    with torch.device("meta"):  # the shapes alone: no weights are made
        method = recipe.build(channels=3, size=recipe.views[0].size, world=1, seed=0)
        z = method.online.eval()(torch.empty(2, 3, recipe.views[0].size, recipe.views[0].size))
    assert z.shape == (2, 128) and z.is_meta
