"""BYOL against its equations, written out as loops in float64."""

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contrastkit import losses
from contrastkit.errors import UserError
from contrastkit.loading import load
from contrastkit.methods import RECIPES, BuildContext
from contrastkit.methods.byol import BYOL, TAU, BYOLRecipe
from contrastkit.monitor import STD, collapse
from contrastkit.optim import build_optimizer
from contrastkit.parts.norm import WSConv2d, WSLinear
from contrastkit.training import Options, Plan
from contrastkit.training.launch import launch
from contrastkit.types import Batch
from tests.methods.small import assert_same_gradients, batch, move_target, random_pair

N, C, K = 8, 16, 20


def recipe(**numbers: Any) -> BYOLRecipe:
    row = RECIPES["byol/tiny"]
    assert isinstance(row, BYOLRecipe)
    return replace(row, **{"batch": N, "dim": C, "hidden": 32, **numbers})


def build(**numbers: Any) -> BYOL:
    torch.manual_seed(0)
    method = recipe(**numbers).build(BuildContext(channels=3, size=16, images=64, world=1, seed=3))
    move_target(method.target)
    return method.train()


def cosine_loop(p: Tensor, z: Tensor) -> Tensor:
    """<p, z> / (|p| |z|), one number after the other."""
    dot, pp, zz = p.new_zeros(()), p.new_zeros(()), p.new_zeros(())
    for a, b in zip(p, z, strict=True):
        dot, pp, zz = dot + a * b, pp + a * a, zz + b * b
    return dot / (pp.sqrt() * zz.sqrt())


def regression_loop(p: Tensor, z: Tensor) -> Tensor:
    """Eq. 2 as the distance that it is: || p / |p| - z / |z| ||^2, averaged over the images."""
    total = p.new_zeros(())
    for i in range(len(p)):
        p_norm = sum(float(0) + a * a for a in p[i]) ** 0.5
        z_norm = sum(float(0) + b * b for b in z[i]) ** 0.5
        for a, b in zip(p[i], z[i], strict=True):
            total = total + (a / p_norm - b / z_norm) ** 2
    return total / len(p)


def outputs(method: BYOL, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
    """Predictions and targets of each view, in float64."""
    p = [method.predictor(method.online(x)).double() for x in batch.views]
    return p, [method.target.tower(x).detach().double() for x in batch.views]


def test_regression_and_its_gradient_are_equation_2() -> None:
    p, z = random_pair(N, C)
    truth = p.clone().requires_grad_()
    expected = regression_loop(truth, z)
    expected.backward()
    single = p.float().requires_grad_()
    actual = losses.regression(single, z.float())
    actual.mean().backward()
    assert actual.shape == (N,) and actual.dtype == torch.float32
    assert actual.mean().item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(single.grad.double(), truth.grad, rtol=1e-4, atol=1e-6)


def test_regression_of_equal_opposite_and_orthogonal_vectors() -> None:
    p = torch.tensor([[3.0, 0.0], [3.0, 0.0], [3.0, 0.0]])
    z = torch.tensor([[0.5, 0.0], [-0.5, 0.0], [0.0, 7.0]])
    assert losses.regression(p, z).tolist() == pytest.approx([0.0, 4.0, 2.0], abs=1e-6)


def test_regression_agrees_with_lightly() -> None:
    lightly = pytest.importorskip("lightly.loss")
    p, z = (x.float() for x in random_pair(N, C))
    expected = 2 + 2 * lightly.NegativeCosineSimilarity()(p, z)
    assert losses.regression(p, z).mean().item() == pytest.approx(expected.item(), rel=1e-6)


def test_both_directions_are_summed_and_the_gradient_is_the_equations() -> None:
    """The trap: half of it, or one direction, is another learning rate."""
    method, b = build(), batch(N)
    truth = copy.deepcopy(method)
    step = method(b, 0.3)
    step.loss.backward()
    p, z = outputs(truth, b)
    expected = regression_loop(p[0], z[1]) + regression_loop(p[1], z[0])
    expected.backward()
    assert step.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert_same_gradients(method, truth)


def test_each_view_is_normalised_by_itself_online_and_target() -> None:
    """The trap: both views through the tower together would share their batch statistics."""
    method, b = build(), batch(N)
    dark = Batch([b.views[0], 0.2 * b.views[1]], b.index, b.label)
    p, z = outputs(copy.deepcopy(method), dark)
    expected = regression_loop(p[0], z[1]) + regression_loop(p[1], z[0])
    together = copy.deepcopy(method)
    both = torch.cat(list(dark.views))
    p, z = together.predictor(together.online(both)).double().chunk(2), together.target.tower(both).double().chunk(2)
    shared = regression_loop(p[0], z[1]) + regression_loop(p[1], z[0])
    assert abs(shared.item() - expected.item()) > 1e-3
    assert method(dark, 0.0).loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_target_uses_the_batchs_statistics_and_keeps_running_ones_of_its_own() -> None:
    """The trap: a target in eval mode, or one whose statistics are averaged too."""
    method, b = build(), batch(N)
    skewed = copy.deepcopy(method)
    for name, buffer in skewed.target.named_buffers():
        if "running" in name:
            buffer.fill_(5.0)
    step = method(b, 0.0)
    assert skewed(b, 0.0).loss.item() == step.loss.item()
    norms = [m for m in method.target.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms and all(m.num_batches_tracked == 2 for m in norms)  # once a view
    before = {name: buffer.clone() for name, buffer in method.target.named_buffers()}
    method.after_step(b, step, 0.0)
    assert all(torch.equal(buffer, before[name]) for name, buffer in method.target.named_buffers())


@pytest.mark.parametrize(
    ("base", "progress", "m"),
    # 1 - (1 - base) (cos(pi k / K) + 1) / 2
    [(0.996, 0.0, 0.996), (0.996, 0.5, 0.998), (0.99, 1 / 3, 0.9925), (0.99, 2 / 3, 0.9975), (0.9, 1.0, 1.0)],
)
def test_after_step_averages_what_the_step_left(base: float, progress: float, m: float) -> None:
    """The traps: an average of the weights before the step, and one whose momentum stays."""
    method, b = build(m=base), batch(N)
    step = method(b, progress)
    assert step.memory is None
    target = [p.double().clone() for p in method.target.parameters()]
    with torch.no_grad():
        for p in method.online.parameters():
            p.add_(0.3)  # the optimizer's step
    online = [p.detach().double() for p in method.online.parameters()]
    method.after_step(b, step, progress)
    for old, source, new in zip(target, online, method.target.parameters(), strict=True):
        torch.testing.assert_close(new.double(), m * old + (1 - m) * source, atol=1e-6, rtol=1e-5)


def test_the_target_starts_as_the_online_tower_and_has_no_predictor() -> None:
    method = recipe().build(BuildContext(channels=3, size=16, images=64))
    for (name, a), (other, b) in zip(
        method.online.named_parameters(), method.target.tower.named_parameters(), strict=True
    ):
        assert name == other and torch.equal(a, b)


def layers(module: nn.Module) -> list[str]:
    return [
        f"{m.in_features}-{m.out_features}{'' if m.bias is None else ' bias'}" if isinstance(m, nn.Linear)
        else type(m).__name__
        for m in module.children()
    ]  # fmt: skip


def test_heads_are_the_official_codes() -> None:
    """Networks.MLP: a bias in the hidden layer, batch norm, ReLU, none of them behind the last, which has no bias."""
    row = RECIPES["byol/imagenet"]
    with torch.device("meta"):
        method = row.build(BuildContext(channels=3, size=224, images=64))
    assert isinstance(method, BYOL)
    assert layers(method.online.head) == ["2048-4096 bias", "BatchNorm1d", "ReLU", "4096-256"]
    assert layers(method.predictor) == ["256-4096 bias", "BatchNorm1d", "ReLU", "4096-256"]
    assert all(m.affine for m in method.modules() if isinstance(m, nn.BatchNorm1d))


def test_biases_and_norms_are_neither_decayed_nor_adapted() -> None:
    matrices, rest = build().param_groups()
    assert (matrices.decay, matrices.adapt, rest.decay, rest.adapt) == (True, True, False, False)
    assert all(p.ndim > 1 for p in matrices.params) and all(p.ndim == 1 for p in rest.params)
    method = build()
    grouped = sum(p.numel() for group in method.param_groups() for p in group.params)
    assert grouped == sum(p.numel() for part in (method.online, method.predictor) for p in part.parameters())


@pytest.mark.parametrize("projector", ["none", "batch", "layer", "group"])
@pytest.mark.parametrize("predictor", ["none", "batch", "layer", "group"])
def test_each_head_has_the_norm_it_is_given(projector: Any, predictor: Any) -> None:
    kinds = {"none": [], "batch": [nn.BatchNorm1d], "layer": [nn.LayerNorm], "group": [nn.GroupNorm]}
    method = build(projector_norm=projector, predictor_norm=predictor)
    for head, norm in (
        (method.online.head, projector), (method.target.tower.head, projector), (method.predictor, predictor),
    ):  # fmt: skip
        assert [type(m) for m in head if not isinstance(m, nn.Linear | nn.ReLU)] == kinds[norm]
        linear = WSLinear if norm == "group" else nn.Linear
        assert {type(m) for m in head if isinstance(m, nn.Linear)} == {linear}
    assert bool(method.notices) == (not {"batch", "group"} & {projector, predictor})


def test_a_queue_of_all_views_is_said() -> None:
    assert not build(negatives=127).notices
    assert "--negatives 128 holds both views of all 64 images" in build(negatives=128).notices[0]


@pytest.mark.parametrize("norm", ["layer", "group"])
def test_without_batch_norm_no_image_knows_of_another(norm: Any) -> None:
    """Group norm and weight standardization in the encoder, the same or layer norm in the heads (arXiv:2010.10241)."""
    method, b = build(encoder_norm="group", projector_norm=norm, predictor_norm=norm), batch(N)
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in method.modules())
    assert all(type(m) is WSConv2d for m in method.modules() if isinstance(m, nn.Conv2d))

    def parts(method: BYOL, n: int) -> float:
        """The mean loss over the batch in parts of n images."""
        rows = [slice(i, i + n) for i in range(0, N, n)]
        actual = [method(Batch([x[r] for x in b.views], b.index[r], b.label[r]), 0.0).loss.item() for r in rows]
        return sum(actual) / len(actual)

    assert parts(method, 1) == pytest.approx(parts(method, N), rel=1e-5)
    assert parts(build(), N // 2) != pytest.approx(parts(build(), N), rel=1e-4)  # with batch norm it does


def test_a_run_without_batch_norm_can_be_loaded(images: Path, tmp_path: Path) -> None:
    """What norms the encoder has is part of the record that loading reads."""
    row = recipe(encoder_norm="group", epochs=1, batch=32, views=tuple(replace(v, size=12) for v in recipe().views))
    options = Options(data=str(images), val_fraction=0.5, device="cpu", monitor_every=0)
    assert launch(Plan.of("byol/tiny", row, options, tmp_path / "run")).finished
    encoder = load(tmp_path / "run")
    assert any(isinstance(m, nn.GroupNorm) for m in encoder.modules())
    assert encoder(torch.rand(2, 3, 12, 12)).isfinite().all()


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
        method.after_step(b, step, 0.5)
        curve.append(step.loss.item())
    assert 3 < curve[0] < 5 and curve[-1] < 0.5 * curve[0]
    with torch.no_grad():
        assert collapse(*(method.online(x) for x in b.views))["std"] > 3 * STD


# ------------------------------------------------------------------------------------------------------- the debate


def test_with_negatives_the_loss_is_mocos_between_prediction_and_target() -> None:
    method, b = build(negatives=K), batch(N)
    assert method.queue is not None
    truth = copy.deepcopy(method)
    step = method(b, 0.0)
    step.loss.backward()
    p, z = outputs(truth, b)
    expected = torch.zeros((), dtype=torch.float64)
    keys = method.queue.keys.double()
    for query, key in ((p[0], z[1]), (p[1], z[0])):
        for i in range(N):
            positive = (cosine_loop(query[i], key[i]) / TAU).exp()
            negatives = sum((cosine_loop(query[i], k) / TAU).exp() for k in keys)
            expected = expected - (positive / (positive + negatives)).log() / N
    expected.backward()
    assert step.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert_same_gradients(method, truth)
    assert method.chance_loss == pytest.approx(2 * math.log(K + 1)) and build().chance_loss is None
    unit = torch.cat([z[1], z[0]])
    unit = unit / unit.norm(dim=1, keepdim=True)
    torch.testing.assert_close(step.memory.double(), unit, atol=1e-5, rtol=0)
    method.after_step(b, step, 0.0)
    torch.testing.assert_close(method.queue.keys[: 2 * N], step.memory)
    torch.testing.assert_close(method.queue.keys[2 * N :], truth.queue.keys[2 * N :])


# --------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ({"m": 1.5}, "--m must lie in \\[0, 1\\], not 1.5"),
        ({"dim": 0}, "--dim must be at least 1, not 0"),
        ({"hidden": 0}, "--hidden must be at least 1"),
        ({"negatives": -1}, "--negatives must not be negative"),
        ({"batch": 1}, "batch norm needs at least two images: raise --batch to 2 or more"),
        ({"views": RECIPES["byol/tiny"].views[:1]}, "takes 2 views, not 1"),
        (
            {"encoder": "timm:resnet10t", "encoder_norm": "group"},
            "only tiny and untrained torchvision ResNets support group norm",
        ),
    ],
)
def test_numbers_that_do_not_fit_are_refused(numbers: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        recipe(**numbers).build(BuildContext(channels=3, size=16, images=64))
