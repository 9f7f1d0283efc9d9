"""MoCo v3 against its equations, written out as loops in float64, and against its code's choices one by one."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastkit import dist
from contrastkit.errors import UserError
from contrastkit.methods import RECIPES, BuildContext
from contrastkit.methods.moco_v3 import MoCoV3, MoCoV3Recipe
from contrastkit.optim import SchedulePoint, apply_schedule, build_optimizer
from contrastkit.parts.build import build_encoder
from contrastkit.types import Batch
from tests.methods.small import batch, move_target

N, C, TAU = 8, 16, 0.3


def recipe(row: str = "tiny", **numbers: Any) -> MoCoV3Recipe:
    base = RECIPES[f"moco-v3/{row}"]
    assert isinstance(base, MoCoV3Recipe)
    return replace(base, **{"batch": N, "dim": C, "hidden": 32, "tau": TAU, **numbers})


def build(row: str = "tiny", *, size: int = 16, **numbers: Any) -> MoCoV3:
    torch.manual_seed(0)
    method = recipe(row, **numbers).build(BuildContext(channels=3, size=size, images=64, seed=3))
    move_target(method.target)
    return method.train()


def vit(**numbers: Any) -> MoCoV3:
    return build("imagenet-vit", size=32, **{"encoder": "timm:test_vit", "heads": 8, **numbers})


def contrastive_loop(q: Tensor, k: Tensor, first: int, tau: float) -> Tensor:
    """2 tau times Eq. 1, averaged over the queries, of which q_i has the positive k_(first + i)."""
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(q)):
        products = [torch.stack([q[i, c] * k[j, c] for c in range(q.shape[1])]).sum() for j in range(len(k))]
        terms = [torch.exp(product / tau) for product in products]
        total = total - torch.log(terms[first + i] / sum(terms))
    return 2 * tau * total / len(q)


def unit(x: Tensor) -> Tensor:
    return (x / x.norm(dim=1, keepdim=True)).double()


@torch.no_grad()
def towers(method: MoCoV3, x: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys of one view; each goes through the networks by itself, as batch norm sees."""
    return unit(method.predictor(method.online(x))), unit(method.target.tower(x))


@pytest.mark.parametrize("tau", [TAU, 1.0])
def test_loss_is_both_directions_of_equation_1_times_two_tau(tau: float) -> None:
    method, b = build(tau=tau), batch(N)
    (q1, k1), (q2, k2) = (towers(method, x) for x in b.views)
    expected = contrastive_loop(q1, k2, 0, tau) + contrastive_loop(q2, k1, 0, tau)
    assert method(b, 0.0).loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("rank", [0, 1])
def test_queries_look_among_the_keys_of_all_processes(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes: the second one's positives begin in the middle. Values and gradients."""
    monkeypatch.setattr(dist, "world_size", lambda: 2)
    monkeypatch.setattr(dist, "rank", lambda: rank)
    g = torch.Generator().manual_seed(0)
    q, k = (F.normalize(torch.randn(n, C, generator=g), dim=1) for n in (N // 2, N))
    single = q.clone().requires_grad_()
    loss, hits = build().contrast(single, k)
    loss.backward()
    theirs = q.double().requires_grad_()
    expected = contrastive_loop(theirs, k.double(), rank * N // 2, TAU)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(single.grad.double(), theirs.grad, atol=1e-6, rtol=1e-5)
    nearest = (q @ k.T).argmax(1)
    assert hits.item() == pytest.approx((nearest == rank * N // 2 + torch.arange(N // 2)).float().mean().item())


def test_uniform_similarities_cost_four_tau_log_n() -> None:
    method = build()
    q, k = torch.zeros(N, C), torch.zeros(N, C)
    q[:, 0] = k[:, 1] = 1
    once = method.contrast(q, k)[0].item()
    assert once == pytest.approx(2 * TAU * math.log(N), rel=1e-6)
    assert method.chance_loss == pytest.approx(2 * once)


def test_all_hits_of_views_that_are_alike() -> None:
    method = build(predictor_norm=True)
    method.predictor = nn.Sequential()
    method.target.tower.load_state_dict(method.online.state_dict())
    x = batch(N).views[0]
    assert method(Batch([x, x], torch.arange(N), torch.arange(N)), 0.0).logs["top1"] == 1


@pytest.mark.parametrize(
    ("row", "crop_min", "blur_p"),
    [("imagenet", 0.2, (1.0, 0.1)), ("imagenet-vit", 0.08, (1.0, 0.1)), ("32", 0.08, (0, 0))],
)
def test_the_two_views_differ_in_blur_and_solarization(row: str, crop_min: float, blur_p: tuple[float, float]) -> None:
    views = RECIPES[f"moco-v3/{row}"].views
    actual = [(v.crop_min, v.blur_p, v.solarize_p) for v in views]
    assert actual == [(crop_min, blur_p[0], 0.0), (crop_min, blur_p[1], 0.2)]


def layers(head: nn.Module) -> list[tuple[object, ...]]:
    """(widths, bias) of linear layers, (width, affine) of batch norms, activations by name."""
    layers_of_head: list[tuple[object, ...]] = []
    for layer in head.children():
        if isinstance(layer, nn.Linear):
            layers_of_head.append((layer.in_features, layer.out_features, layer.bias is not None))
        elif isinstance(layer, nn.BatchNorm1d):
            layers_of_head.append((layer.num_features, layer.affine))
        else:
            layers_of_head.append((type(layer).__name__,))
    return layers_of_head


def test_heads_of_a_resnet() -> None:
    """Two layers, batch norm after each, at last one without scale and shift; the predictor ends with none."""
    with torch.device("meta"):
        method = RECIPES["moco-v3/imagenet"].build(BuildContext(channels=3, size=224, images=1 << 20))
    assert isinstance(method, MoCoV3)
    first = [(2048, 4096, False), (4096, True), ("ReLU",)]
    assert layers(method.online.head) == [*first, (4096, 256, False), (256, False)]
    assert layers(method.predictor) == [(256, 4096, False), *first[1:], (4096, 256, False)]


def test_heads_of_a_transformer() -> None:
    """Three layers, and a predictor that ends with a batch norm too. ViT-S has 12 heads, timm's has 6."""
    with torch.device("meta"):
        method = RECIPES["moco-v3/imagenet-vit"].build(BuildContext(channels=3, size=224, images=1 << 20))
    assert isinstance(method, MoCoV3)
    first, second = [(384, 4096, False), (4096, True), ("ReLU",)], [(4096, 4096, False), (4096, True), ("ReLU",)]
    assert layers(method.online.head) == [*first, *second, (4096, 256, False), (256, False)]
    assert layers(method.predictor) == [(256, 4096, False), (4096, True), ("ReLU",), (4096, 256, False), (256, False)]
    blocks = list(method.online.encoder.trunk.get_submodule("blocks").children())
    assert len(blocks) == 12 and all(block.attn.num_heads == 12 for block in blocks)
    assert {m.eps for m in method.online.encoder.trunk.modules() if isinstance(m, nn.LayerNorm)} == {1e-6}


def test_residual_branches_of_the_papers_resnet_begin_at_zero() -> None:
    for row, begins in (("imagenet", True), ("32", False)):
        trunk = build(row, encoder="resnet18").online.encoder.trunk
        scales = [m.bn2.weight for m in trunk.modules() if hasattr(m, "conv2")]
        assert len(scales) == 8 and all((not w.any()) == begins for w in scales)


def test_the_predictor_has_no_target() -> None:
    assert not any("predictor" in name for name, _ in build().target.named_parameters())


@pytest.mark.parametrize("m_cos", [True, False])
@pytest.mark.parametrize("progress", [0.0, 0.25, 0.5, 1.0])
def test_after_step_averages_parameters_with_a_momentum_that_rises_to_1(progress: float, m_cos: bool) -> None:
    method, b = build(m=0.9, m_cos=m_cos), batch(N)
    step = method(b, progress)
    before = {name: value.clone() for name, value in method.target.tower.state_dict().items()}
    method.after_step(b, step, progress)
    m = 1 - (1 - 0.9) * (math.cos(math.pi * progress) + 1) / 2 if m_cos else 0.9
    online = dict(method.online.named_parameters())
    for name, value in method.target.tower.state_dict().items():
        expected = before[name]  # batch-norm statistics are the target's own
        if name in online:
            expected = (m * before[name].double() + (1 - m) * online[name].detach().double()).float()
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-5)


def test_a_transformers_patches_and_positions_stay_and_all_else_is_decayed() -> None:
    method, b = vit(), batch(N, (32, 32))
    trunk = method.online.encoder.trunk
    assert [group.decay for group in method.param_groups()] == [True]
    params = method.param_groups()[0].params
    fixed = [trunk.get_parameter(name) for name in ("pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias")]
    assert not any(p is q for p in params for q in fixed)
    assert any(p.ndim == 1 for p in params), "biases and norms are decayed too"
    assert len(params) == len([*method.online.parameters(), *method.predictor.parameters()]) - len(fixed)
    before = [p.clone() for p in fixed]
    optimizer = build_optimizer(method.param_groups(), "adamw", lr=0.01, weight_decay=0.1)
    for step in range(2):
        out = method(b, step / 2)
        out.loss.backward()
        assert all(p.grad is not None and p.grad.any() for p in params)
        apply_schedule(optimizer, step / 2, SchedulePoint(lr=0.01))
        optimizer.step()
        optimizer.zero_grad()
        method.after_step(b, out, step / 2)
    assert all(torch.equal(p, q) for p, q in zip(fixed, before, strict=True))
    assert vit(stop_grad_conv1=False).online.encoder.trunk.patch_embed.proj.weight.requires_grad


def test_lars_spares_biases_and_norms() -> None:
    matrices, rest = build("imagenet", encoder="resnet18").param_groups()
    assert matrices.decay and matrices.adapt and all(p.ndim > 1 for p in matrices.params)
    assert not rest.decay and not rest.adapt and all(p.ndim == 1 for p in rest.params)


def test_the_encoder_of_a_run_is_built_again_from_its_options() -> None:
    method = vit()
    context = BuildContext(channels=3, size=32, images=64)
    options = json.loads(json.dumps(method.recipe.encoder_options(context)))
    again = build_encoder(**options).eval()
    again.load_state_dict(method.online.encoder.state_dict())
    x = batch(N, (32, 32)).views[0]
    assert torch.equal(again(x), method.online.encoder.eval()(x))


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ({"views": RECIPES["moco-v3/tiny"].views[:1]}, "takes 2 views, not 1"),
        ({"batch": 1}, "--batch must be at least 2, not 1: the negatives are the batch's other images"),
        ({"tau": 0.0}, "--tau must be above 0"),
        ({"m": 1.1}, r"--m must lie in \[0, 1\]"),
        ({"dim": 0}, "--dim must be at least 1"),
        ({"layers": 0}, "--layers must be at least 1"),
        ({"heads": -1}, "--heads must not be negative"),
        ({"encoder": "timm:test_vit", "heads": 7}, "cannot be built"),
        ({"encoder": "timm:test_vit"}, "does not divide into this transformer's patches of 16"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(numbers: dict[str, Any], says: str) -> None:
    size = 32 if "heads" in numbers else 40
    with pytest.raises(UserError, match=says):
        recipe(**numbers).build(BuildContext(channels=3, size=size, images=64))


def test_few_negatives_and_a_resnets_numbers_for_a_transformer_are_said() -> None:
    assert "each query has only 7 negatives" in build().notices[0]
    assert build(batch=256).notices == []
    assert "--recipe imagenet-vit" in vit(optimizer="lars", batch=256).notices[0]
    assert "moco-v3/imagenet-vit" in RECIPES
    assert "--heads 12 has no effect: tiny is not a vision transformer" in build(heads=12).notices[1]
    assert vit(batch=256).notices == []
