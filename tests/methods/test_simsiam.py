"""SimSiam against its equations, written out as loops in float64, and its switches."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contrastkit import losses
from contrastkit.errors import UserError
from contrastkit.methods import RECIPES, BuildContext
from contrastkit.methods.simsiam import SimSiam, SimSiamRecipe
from contrastkit.monitor import STD, collapse
from contrastkit.optim import SchedulePoint, apply_schedule, build_optimizer, learning_rate
from contrastkit.training import Options, Plan
from contrastkit.training.launch import launch
from contrastkit.types import Batch
from tests.methods.small import assert_same_gradients, batch, random_pair

N, C = 8, 16


def recipe(**numbers: Any) -> SimSiamRecipe:
    row = RECIPES["simsiam/tiny"]
    assert isinstance(row, SimSiamRecipe)
    return replace(row, **{"batch": N, "dim": C, "hidden": 32, "bottleneck": 8, **numbers})


def build(**numbers: Any) -> SimSiam:
    torch.manual_seed(0)
    return recipe(**numbers).build(BuildContext(channels=3, size=16, images=64, world=1, seed=3)).train()


def d_loop(p: Tensor, z: Tensor) -> Tensor:
    """Eq. 1, averaged over the images, one number after the other."""
    total = p.new_zeros(())
    for i in range(len(p)):
        dot, pp, zz = p.new_zeros(()), p.new_zeros(()), p.new_zeros(())
        for a, b in zip(p[i], z[i], strict=True):
            dot, pp, zz = dot + a * b, pp + a * a, zz + b * b
        total = total - dot / (pp.sqrt() * zz.sqrt())
    return total / len(p)


def outputs(method: SimSiam, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
    """Projections and predictions of each view, in float64."""
    z = [method.online(x) for x in batch.views]
    return [x.double() for x in z], [method.predictor(x).double() for x in z]


def test_negative_cosine_and_its_gradient_are_equation_1() -> None:
    p, z = random_pair(N, C)
    truth = p.clone().requires_grad_()
    expected = d_loop(truth, z)
    expected.backward()
    single = p.float().requires_grad_()
    actual = losses.negative_cosine(single, z.float())
    actual.mean().backward()
    assert actual.shape == (N,) and actual.dtype == torch.float32
    assert actual.mean().item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(single.grad.double(), truth.grad, rtol=1e-4, atol=1e-6)


def test_negative_cosine_agrees_with_lightly() -> None:
    lightly = pytest.importorskip("lightly.loss")
    p, z = (x.float() for x in random_pair(N, C))
    assert losses.negative_cosine(p, z).mean().item() == pytest.approx(
        lightly.NegativeCosineSimilarity()(p, z).item(), rel=1e-5
    )


def test_the_loss_is_half_of_both_directions_with_the_other_side_constant() -> None:
    """Eq. 4; the traps: a sum in place of the mean, and a gradient through z."""
    method, b = build(), batch(N)
    truth, through = copy.deepcopy(method), copy.deepcopy(method)
    step = method(b, 0.3)
    step.loss.backward()
    z, p = outputs(truth, b)
    expected = d_loop(p[0], z[1].detach()) / 2 + d_loop(p[1], z[0].detach()) / 2
    expected.backward()
    assert step.memory is None and step.loss.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)
    assert_same_gradients(method, truth)
    z, p = outputs(through, b)
    (d_loop(p[0], z[1]) / 2 + d_loop(p[1], z[0]) / 2).backward()
    with pytest.raises(AssertionError):
        assert_same_gradients(method, through)
    open_ended = build(stop_gradient=False)  # Sec. 4.1: the same loss, another gradient
    step = open_ended(b, 0.3)
    step.loss.backward()
    assert step.loss.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)
    assert_same_gradients(open_ended, through)


def test_each_view_is_normalised_by_itself() -> None:
    """The trap: both views through the tower together would share their batch statistics."""
    method, b = build(), batch(N)
    dark = Batch([b.views[0], 0.2 * b.views[1]], b.index, b.label)
    z, p = outputs(copy.deepcopy(method), dark)
    expected = d_loop(p[0], z[1]) / 2 + d_loop(p[1], z[0]) / 2
    together = copy.deepcopy(method)
    both = together.online(torch.cat(list(dark.views)))
    z, p = both.double().chunk(2), together.predictor(both).double().chunk(2)
    assert abs((d_loop(p[0], z[1]) / 2 + d_loop(p[1], z[0]) / 2).item() - expected.item()) > 1e-3
    assert method(dark, 0.0).loss.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)


def test_one_direction_is_the_first_view_predicting_the_second() -> None:
    """Sec. 4.6: D(p1, stopgrad(z2)), not halved."""
    method, b = build(symmetric=False), batch(N)
    truth = copy.deepcopy(method)
    step = method(b, 0.0)
    step.loss.backward()
    z, p = outputs(truth, b)
    expected = d_loop(p[0], z[1].detach())
    expected.backward()
    assert step.loss.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)
    assert_same_gradients(method, truth)


# ---------------------------------------------------------------------------------------------------------- the heads


def layers(module: nn.Module) -> list[str]:
    def name_of(m: nn.Module) -> str:
        if isinstance(m, nn.Linear):
            return f"{m.in_features}-{m.out_features}{'' if m.bias is None else ' bias'}"
        return f"{type(m).__name__}{' plain' if isinstance(m, nn.BatchNorm1d) and not m.affine else ''}"

    return [name_of(m) for m in module.children()]


def test_heads_are_the_official_codes() -> None:
    """builder.py: three layers, the last norm without scale and shift; the predictor ends in a bias, not a norm."""
    row = RECIPES["simsiam/imagenet"]
    with torch.device("meta"):
        method = row.build(BuildContext(channels=3, size=224, images=64))
    assert isinstance(method, SimSiam)
    hidden = ["2048-2048", "BatchNorm1d", "ReLU"]
    assert layers(method.online.head) == [*hidden, *hidden, "2048-2048", "BatchNorm1d plain"]
    assert layers(method.predictor) == ["2048-512", "BatchNorm1d", "ReLU", "512-2048 bias"]


@pytest.mark.parametrize(
    ("batch_norm", "projector", "predictor"),
    [  # Table 3
        ("none", ["128-32 bias", "ReLU", "32-16 bias"], ["16-8 bias", "ReLU", "8-16 bias"]),
        ("hidden", ["128-32", "BatchNorm1d", "ReLU", "32-16 bias"], ["16-8", "BatchNorm1d", "ReLU", "8-16 bias"]),
        ("default", ["128-32", "BatchNorm1d", "ReLU", "32-16", "BatchNorm1d plain"],
         ["16-8", "BatchNorm1d", "ReLU", "8-16 bias"]),
        ("all", ["128-32", "BatchNorm1d", "ReLU", "32-16", "BatchNorm1d plain"],
         ["16-8", "BatchNorm1d", "ReLU", "8-16 bias", "BatchNorm1d plain"]),
    ],
)  # fmt: skip
def test_batch_norm_goes_where_table_3_has_it(batch_norm: Any, projector: list[str], predictor: list[str]) -> None:
    method = build(batch_norm=batch_norm, layers=2)
    assert layers(method.online.head) == projector and layers(method.predictor) == predictor
    assert method(batch(N), 0.0).loss.isfinite()


def test_residual_branches_start_at_zero_where_the_official_code_has_it() -> None:
    assert recipe(zero_init=True).encoder_options(BuildContext(channels=3, size=16, images=64))["zero_init"]
    blocks = build(zero_init=True).online.encoder.trunk.blocks
    assert all(block.bn2.weight.eq(0).all() for block in blocks)
    assert all(block.bn2.weight.eq(1).all() for block in build().online.encoder.trunk.blocks)


# ---------------------------------------------------------------------------------------------- predictor (Table 1)


def test_without_a_predictor_the_projections_meet_each_other() -> None:
    method, b = build(predictor="none"), batch(N)
    z, _ = outputs(copy.deepcopy(method), b)
    assert method(b, 0.0).loss.item() == pytest.approx(d_loop(z[0], z[1]).item(), rel=1e-5, abs=1e-6)
    assert not list(method.predictor.parameters())
    build_optimizer(method.param_groups(), "sgd", lr=0.1, weight_decay=0)  # an empty group is no obstacle


def test_a_random_predictor_stays_as_it_was_drawn() -> None:
    method, b = build(predictor="random"), batch(N)
    before = {name: p.clone() for name, p in method.named_parameters()}
    optimizer = build_optimizer(method.param_groups(), "sgd", lr=0.1, weight_decay=1e-2)
    method(b, 0.0).loss.backward()
    optimizer.step()
    for name, p in method.named_parameters():
        assert torch.equal(p, before[name]) == name.startswith("predictor"), name


@pytest.mark.parametrize("fixed", [True, False])
def test_the_predictors_rate_can_stay_while_the_others_falls(fixed: bool) -> None:
    """--fix-pred-lr (Table 1, last row); everything is decayed, biases and norms too."""
    row = recipe(fix_pred_lr=fixed, lr=0.1)
    method = row.build(BuildContext(channels=3, size=16, images=64))
    optimizer = build_optimizer(method.param_groups(), "sgd", lr=row.lr, weight_decay=1e-4)
    in_predictor = {id(p) for p in method.predictor.parameters()}
    for progress, expected in ((0.0, 0.1), (0.25, 0.0853553), (0.5, 0.05), (0.9, 0.0024472)):
        lr = learning_rate(progress, schedule="cosine", base_lr=row.lr)
        apply_schedule(optimizer, progress, SchedulePoint(lr=lr))
        for group in optimizer.param_groups:
            predictor = all(id(p) in in_predictor for p in group["params"])
            assert group["lr"] == pytest.approx(0.1 if predictor and fixed else expected, rel=1e-4)
            assert group["weight_decay"] == 1e-4
    grouped = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert grouped == {id(p) for p in method.parameters()}


# ----------------------------------------------------------------------------------------------------------- collapse


def test_one_batch_is_learned_and_the_outputs_stay_apart() -> None:
    """Collapse would lower the loss too."""
    method, b = build(), batch(N)
    optimizer = build_optimizer(method.param_groups(), "sgd", lr=0.1, weight_decay=0)
    curve = []
    for _ in range(25):
        step = method(b, 0.5)
        step.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        curve.append(step.loss.item())
    assert abs(curve[0]) < 0.3 and curve[-1] < -0.7
    with torch.no_grad():
        assert collapse(*(method.online(x) for x in b.views))["std"] > 3 * STD


@pytest.mark.slow
@pytest.mark.parametrize("stop_gradient", [False, True])
def test_without_stop_gradient_it_collapses_and_the_monitor_says_so(
    stop_gradient: bool, images: Path, tmp_path: Path
) -> None:
    """Sec. 4.1, with batch norm in the hidden layers only (Table 3b, as good a SimSiam as the default): the least loss
    there is, and outputs that are all alike."""
    views = tuple(replace(view, size=12) for view in recipe().views)
    row = recipe(
        stop_gradient=stop_gradient, batch_norm="hidden", epochs=6, batch=32, lr=0.1, warmup_epochs=0.0, dim=64,
        hidden=64, bottleneck=32, views=views,
    )  # fmt: skip
    options = Options(data=str(images), device="cpu", seed=5, precision="float32", monitor_every=3)
    outcome = launch(Plan.of("simsiam/tiny", row, options, tmp_path / "run"))
    collapsed = "collapse: the outputs hardly differ" in (tmp_path / "run" / "log.txt").read_text()
    if stop_gradient:
        assert not collapsed and outcome.evaluation["std"] > 3 * STD and outcome.evaluation["loss"] > -0.9
    else:
        assert collapsed and outcome.evaluation["std"] < STD and outcome.evaluation["loss"] < -0.97


# --------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ({"dim": 0}, "--dim must be at least 1, not 0"),
        ({"layers": 0}, "--layers must be at least 1"),
        ({"hidden": -2}, "--hidden must be at least 1"),
        ({"bottleneck": 0}, "--bottleneck must be at least 1"),
        ({"batch": 1}, "batch norm needs at least two images: raise --batch to 2 or more"),
        ({"views": RECIPES["simsiam/tiny"].views[:1]}, "takes 2 views, not 1"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(numbers: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        recipe(**numbers).build(BuildContext(channels=3, size=16, images=64))
