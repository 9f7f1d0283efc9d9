"""DINO against its equations, written out as loops in float64, and against its code's choices one by one."""

import copy
import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from contrastkit import losses
from contrastkit.errors import UserError
from contrastkit.methods import RECIPES, BuildContext
from contrastkit.methods.dino import DINO, DINOHead, DINORecipe
from contrastkit.optim import SchedulePoint, apply_schedule, build_optimizer
from contrastkit.parts.build import build_encoder
from contrastkit.types import Batch, Step
from tests.methods import small
from tests.methods.small import move_target

N, K = 8, 24
TAU_S, TAU_T = 0.1, 0.04


def recipe(row: str = "tiny", **numbers: Any) -> DINORecipe:
    base = RECIPES[f"dino/{row}"]
    assert isinstance(base, DINORecipe)
    return replace(base, **{"batch": N, "out_dim": K, "hidden": 32, "bottleneck": 16, **numbers})


def build(row: str = "tiny", *, size: int = 16, seed: int = 3, **numbers: Any) -> DINO:
    torch.manual_seed(0)
    method = recipe(row, **numbers).build(BuildContext(channels=3, size=size, images=64, seed=seed))
    move_target(method.target)
    method.centre.copy_(0.1 * torch.randn(K))  # unlike zero
    return method.train()


def vit(**numbers: Any) -> DINO:
    """A small transformer on the imagenet row's views, at 32 pixels and 16."""
    views = tuple(replace(view, size=32 if view.size == 224 else 16) for view in RECIPES["dino/imagenet"].views)
    return build("imagenet", size=32, **{"encoder": "timm:test_vit", "views": views, **numbers})


def batch(method: DINO, *, seed: int = 1) -> Batch:
    return small.batch(N, [view.size for view in method.recipe.views], seed=seed)


def softmax_loop(scores: Tensor) -> list[Tensor]:
    terms = [torch.exp(s) for s in scores]
    return [t / sum(terms) for t in terms]


def dino_loop(student: Tensor, teacher: Tensor, centre: Tensor, tau_s: float, tau_t: float) -> list[Tensor]:
    """Eq. 3 of each image, its sum over the pairs divided by their number, as main_dino.py has it."""
    rows = []
    for i in range(student.shape[1]):
        total, pairs = torch.zeros((), dtype=torch.float64), 0
        for a in range(len(teacher)):
            p_t = softmax_loop((teacher[a, i] - centre) / tau_t)
            for v in range(len(student)):
                if v == a:
                    continue
                p_s = softmax_loop(student[v, i] / tau_s)
                total = total - sum(t * torch.log(s) for t, s in zip(p_t, p_s, strict=True))
                pairs += 1
        rows.append(total / pairs)
    return rows


def scores(V: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Cosines of V views, of two views of the teacher, and a centre."""
    g = torch.Generator().manual_seed(seed)
    student, teacher = (0.3 * torch.randn(v, N, K, generator=g) for v in (V, 2))
    return student, teacher, 0.2 * torch.randn(K, generator=g)


@pytest.mark.parametrize("V", [2, 3, 6])
def test_loss_is_equation_3(V: int) -> None:
    student, teacher, centre = scores(V)
    weights = torch.linspace(0.5, 2, N)  # each row's gradient by itself
    ours = student.clone().requires_grad_()
    actual = losses.dino(ours, teacher, centre, tau_s=TAU_S, tau_t=TAU_T)
    (actual * weights).sum().backward()
    theirs = student.double().requires_grad_()
    expected = torch.stack(dino_loop(theirs, teacher.double(), centre.double(), TAU_S, TAU_T))
    (expected * weights.double()).sum().backward()
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual.double(), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(ours.grad.double(), theirs.grad, atol=1e-6, rtol=1e-4)


def test_loss_is_lightlys() -> None:
    lightly = pytest.importorskip("lightly.loss")
    student, teacher, centre = scores(5)
    theirs = lightly.DINOLoss(output_dim=K, teacher_temp=TAU_T, student_temp=TAU_S)
    theirs.center.copy_(centre)
    expected = theirs(list(teacher), list(student), teacher_temp=TAU_T)
    actual = losses.dino(student, teacher, centre, tau_s=TAU_S, tau_t=TAU_T).mean()
    assert actual.item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_uniform_student_pays_log_k_and_a_good_one_the_teachers_entropy() -> None:
    _, teacher, centre = scores(4)
    uniform = losses.dino(torch.zeros(4, N, K), teacher, centre, tau_s=TAU_S, tau_t=TAU_T)
    assert uniform.tolist() == pytest.approx([math.log(K)] * N)
    assert build().chance_loss == pytest.approx(math.log(K))
    p = losses.sharpened(teacher[0], centre, TAU_T)
    student = (teacher[0] - centre) * TAU_S / TAU_T
    actual = losses.dino(student.expand(2, -1, -1), teacher[:1].expand(2, -1, -1), centre, tau_s=TAU_S, tau_t=TAU_T)
    torch.testing.assert_close(actual, -(p * p.log()).sum(-1))


class Largest(TorchDispatchMode):
    """The most elements of any tensor made."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **kwargs or {})
        self.most = max([self.most, *(x.numel() for x in tree_leaves(out) if isinstance(x, Tensor))])
        return out


def test_the_loss_holds_nothing_larger_than_the_students_output() -> None:
    student, teacher, centre = scores(6)
    student.requires_grad_()
    with Largest() as seen:
        losses.dino(student, teacher, centre, tau_s=TAU_S, tau_t=TAU_T).mean().backward()
    assert seen.most == 6 * N * K  # not 10 pairs


def test_views_are_the_papers() -> None:
    """Of 2 x 224 + 8 x 96 pixels: size, crop, probability of blur and of solarization."""
    both = [(224, 0.4, 1.0, 1.0, 0.0), (224, 0.4, 1.0, 0.1, 0.2)]
    assert seen("imagenet") == [*both, *[(96, 0.05, 0.4, 0.5, 0.0)] * 8]
    both = [(224, 0.14, 1.0, 1.0, 0.0), (224, 0.14, 1.0, 0.1, 0.2)]
    assert seen("imagenet-r50") == [*both, *[(96, 0.05, 0.14, 0.5, 0.0)] * 8]
    assert seen("32") == [(32, 0.4, 1.0, 0.0, 0.0), (32, 0.4, 1.0, 0.0, 0.2)]


def seen(row: str) -> list[tuple[float, ...]]:
    views = RECIPES[f"dino/{row}"].views
    return [(v.size, v.crop_min, v.crop_max, v.blur_p, v.solarize_p) for v in views]


@torch.no_grad()
def outputs(method: DINO, b: Batch) -> tuple[Tensor, Tensor]:
    """Student [V, N, K] and teacher [2, N, K]; crops of one size go through batch norm together."""
    large, small = torch.cat(list(b.views[:2])), torch.cat(list(b.views[2:]))
    student = method.online.head(torch.cat([method.online.encoder(large), method.online.encoder(small)]))
    teacher = method.target.tower.head(method.target.tower.encoder(large))
    return student.view(-1, N, K).double(), teacher.view(2, N, K).double()


@pytest.mark.parametrize("make", [build, vit])
def test_the_step_is_the_loss_of_all_views_and_the_mean_of_the_teachers_outputs(make: Callable[..., DINO]) -> None:
    method = make(drop_path=0.0)
    b = batch(method)
    student, teacher = outputs(method, b)
    expected = torch.stack(dino_loop(student, teacher, method.centre.double(), TAU_S, TAU_T)).mean()
    step = method(b, 0.0)
    assert step.loss.item() == pytest.approx(expected.item(), rel=1e-4)
    mean = [sum(teacher[a, i, k].item() for a in range(2) for i in range(N)) / (2 * N) for k in range(K)]
    assert step.memory.tolist() == pytest.approx(mean, abs=1e-5)
    p = torch.softmax((teacher - method.centre) / TAU_T, -1)
    assert step.logs["entropy"].item() == pytest.approx(-(p * p.log()).sum(-1).mean().item(), rel=1e-4)


def test_the_teacher_sees_the_global_views_alone() -> None:
    method = build()
    b, other = batch(method), batch(method, seed=2)
    mean = method(b, 0.0).memory
    mixed = Batch([*b.views[:2], *other.views[2:]], b.index, b.label)
    step = method(mixed, 0.0)
    assert torch.equal(step.memory, mean)
    mixed = Batch([b.views[0], other.views[1], *b.views[2:]], b.index, b.label)
    assert not torch.equal(method(mixed, 0.0).memory, mean)


@pytest.mark.parametrize("m_cos", [True, False])
@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_after_step_moves_the_teacher_and_then_the_centre(progress: float, m_cos: bool) -> None:
    method = build(m=0.9, m_cos=m_cos, centre_m=0.8)
    b = batch(method)
    step = method(b, progress)
    centre = method.centre.double()
    before = {name: value.clone() for name, value in method.target.tower.state_dict().items()}
    method.after_step(b, step, progress)
    m = 1 - (1 - 0.9) * (math.cos(math.pi * progress) + 1) / 2 if m_cos else 0.9
    online = dict(method.online.named_parameters())
    for name, value in method.target.tower.state_dict().items():
        expected = before[name]  # batch-norm statistics are the teacher's own
        if name in online:
            expected = (m * before[name].double() + (1 - m) * online[name].detach().double()).float()
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(method.centre.double(), 0.8 * centre + 0.2 * step.memory.double(), atol=1e-6, rtol=1e-5)
    assert "centre" in method.state_dict(), "a resumed run would begin with a centre of zero"


def test_the_teachers_temperature_rises_linearly_epoch_by_epoch() -> None:
    """np.linspace(0.04, 0.07, 30), then 0.07: the README's longer training."""
    numbers = recipe("imagenet", epochs=300, tau_t=0.07, warmup_tau_t=0.04, warmup_teacher_epochs=30)
    steps = 7  # an epoch
    for epoch in (0, 1, 2, 15, 28, 29, 30, 31, 299):
        expected = 0.04 + 0.03 * min(epoch, 29) / 29
        for step in range(steps):
            progress = (epoch * steps + step) / (300 * steps)
            assert numbers.teacher_temperature(progress) == pytest.approx(expected, rel=1e-9), (epoch, step)
    assert recipe("imagenet").teacher_temperature(0.0) == 0.04
    assert recipe(tau_t=0.07, warmup_teacher_epochs=1).teacher_temperature(0.0) == 0.04  # np.linspace(0.04, 0.07, 1)
    method = build(tau_t=0.07, warmup_tau_t=0.04, warmup_teacher_epochs=12, epochs=24)
    b = batch(method)
    student, teacher = outputs(method, b)
    for progress, tau in ((0.0, 0.04), (6.5 / 24, 0.04 + 0.03 * 6 / 11), (0.9, 0.07)):
        loss = torch.stack(dino_loop(student, teacher, method.centre.double(), TAU_S, tau)).mean()
        assert method(b, progress).loss.item() == pytest.approx(loss.item(), rel=1e-4)


def test_gradients_are_clipped_tensor_by_tensor() -> None:
    """A global norm would make all of them smaller; here those within the limit stay as they are."""
    method = build(clip=3.0)
    groups = method.param_groups()
    assert all(group.clip == 3.0 for group in groups) and recipe().clip_norm == 0
    params = [p for group in groups for p in group.params]
    for i, p in enumerate(params):
        p.grad = torch.full_like(p, (10 if i % 2 else 1) / math.sqrt(p.numel()))  # norm 10 or 1
    apply_schedule(build_optimizer(groups, "adamw", lr=0.1, weight_decay=0.04), 1.0, SchedulePoint(lr=0.1))
    for i, p in enumerate(params):
        assert p.grad.norm().item() == pytest.approx(3 if i % 2 else 1, rel=1e-4)
    assert all(group.clip is None for group in build(clip=0.0).param_groups())


def test_only_matrices_are_decayed_and_more_at_the_end() -> None:
    method = vit()
    matrices, rest, last = method.param_groups()
    assert matrices.decay and last.decay and not rest.decay
    assert all(p.ndim > 1 for p in matrices.params) and all(p.ndim <= 1 for p in rest.params)
    assert any(p is method.online.encoder.trunk.pos_embed for p in matrices.params)
    numbers = recipe("imagenet")
    optimizer = build_optimizer(method.param_groups(), "adamw", lr=0.1, weight_decay=numbers.weight_decay)
    for progress, decay in ((0.0, 0.04), (0.5, 0.22), (1.0, 0.4)):
        scheduled = 0.4 + 0.5 * (0.04 - 0.4) * (1 + math.cos(math.pi * progress))
        apply_schedule(optimizer, progress, SchedulePoint(lr=0.1, weight_decay=scheduled))
        assert [group["weight_decay"] for group in optimizer.param_groups] == pytest.approx([decay, 0, decay])


def test_the_last_layer_stays_as_drawn_in_the_first_epoch() -> None:
    """Its decay too: the gradient is None, not zero."""
    method = build(epochs=4, freeze_epochs=1.0, optimizer="adamw")
    head = method.online.head
    assert isinstance(head, DINOHead)
    before, first = head.last.weight.clone(), head.mlp.get_parameter("0.weight").clone()
    optimizer = build_optimizer(method.param_groups(), "adamw", lr=0.01, weight_decay=0.4)
    for progress, moves in ((0.0, False), (0.249, False), (0.25, True)):
        method(batch(method), progress).loss.backward()
        apply_schedule(optimizer, progress, SchedulePoint(lr=0.01))
        optimizer.step()
        optimizer.zero_grad()
        assert torch.equal(head.last.weight, before) == (not moves)
    assert not torch.equal(head.mlp.get_parameter("0.weight"), first)


def test_the_head_gives_cosines_unless_its_last_layer_is_free() -> None:
    x = torch.randn(5, 128)
    for free in (False, True):
        head = DINOHead(128, recipe(norm_last_layer=not free, head_bn=False))
        z = head.mlp(x)
        z = z / z.norm(dim=1, keepdim=True)
        w = head.last.weight / head.last.weight.norm(dim=1, keepdim=True)
        expected = torch.stack([torch.stack([a @ b for b in w]) for a in z]).detach()
        torch.testing.assert_close(head(x), expected, atol=1e-5, rtol=1e-4)
        with torch.no_grad():
            head.last.weight.mul_(torch.linspace(0.5, 3, K)[:, None])  # lengths do not count
        torch.testing.assert_close(head(x), expected, atol=1e-5, rtol=1e-4)
        assert (head.length is None) == (not free)
        if head.length is not None:
            with torch.no_grad():
                head.length.mul_(2)
            torch.testing.assert_close(head(x), 2 * expected, atol=1e-5, rtol=1e-4)
    method = build(norm_last_layer=False)
    assert any(p is method.online.head.length for p in method.param_groups()[-1].params)


def test_the_papers_head() -> None:
    with torch.device("meta"):
        method = RECIPES["dino/imagenet"].build(BuildContext(channels=3, size=224, images=1 << 20))
    head = method.online.head
    assert isinstance(head, DINOHead) and head.length is None
    linear = [(m.in_features, m.out_features) for m in head.mlp if isinstance(m, nn.Linear)]
    assert linear == [(384, 2048), (2048, 2048), (2048, 256)]
    assert [type(m) for m in head.mlp] == [nn.Linear, nn.GELU, nn.Linear, nn.GELU, nn.Linear]  # no batch norm
    assert head.last.weight.shape == (65536, 256) and head.last.bias is None
    scores = method.online([torch.empty(2, 3, 224, 224, device="meta"), torch.empty(4, 3, 96, 96, device="meta")])
    assert scores.shape == (6, 65536)  # positions follow the size of the crops
    drawn = DINOHead(384, recipe("imagenet", hidden=256))
    assert drawn.mlp[0].weight.std().item() == pytest.approx(0.02, rel=0.05) and not drawn.mlp[0].bias.any()


def test_drop_path_is_the_students_and_a_function_of_seed_and_progress() -> None:
    method = vit(drop_path=0.5)
    b = batch(method)
    state = torch.get_rng_state()
    first = method(b, 0.25)
    assert torch.equal(torch.get_rng_state(), state), "torch's generator was moved"
    torch.manual_seed(99)
    again = method(b, 0.25)
    assert torch.equal(first.loss, again.loss)
    later = method(b, 0.25 + 1e-6)  # one step of a million
    assert not torch.equal(first.loss, later.loss)
    assert torch.equal(first.memory, later.memory), "the teacher's paths drop too"
    other = copy.deepcopy(method)
    other.seed += 1
    assert not torch.equal(first.loss, other(b, 0.25).loss)
    assert torch.equal(vit(drop_path=0.0)(b, 0.25).loss, method.eval()(b, 0.25).loss)


def test_a_transformer_takes_global_and_local_crops() -> None:
    method = vit(drop_path=0.0)
    assert [view.size for view in method.recipe.views] == [32, 32] + [16] * 8
    step: Step = method(batch(method), 0.5)
    step.loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.online.parameters())
    options = json.loads(json.dumps(method.recipe.encoder_options(BuildContext(channels=3, size=32, images=64))))
    again = build_encoder(**options).eval()
    again.load_state_dict(method.online.encoder.state_dict())
    x = batch(method).views[-1]
    assert torch.equal(again(x), method.online.encoder.eval()(x))


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ({"views": RECIPES["dino/tiny"].views[:1]}, "takes at least 2 views, not 1"),
        ({"out_dim": 1}, "--out-dim must be at least 2"),
        ({"layers": 0}, "--layers must be at least 1"),
        ({"tau_t": 0.0}, "--tau-t must be above 0"),
        ({"warmup_tau_t": -1.0}, "--warmup-tau-t must be above 0"),
        ({"m": 1.5}, r"--m must lie in \[0, 1\]"),
        ({"centre_m": -0.1}, r"--centre-m must lie in \[0, 1\]"),
        ({"clip": -1.0}, "--clip must not be negative"),
        ({"freeze_epochs": -1.0}, "--freeze-epochs must not be negative"),
        ({"drop_path": 1.0}, r"--drop-path must lie in \[0, 1\)"),
        ({"batch": 1, "head_bn": True}, "--head-bn, batch norm in the head, needs at least two images: raise --batch"),
        # Global crops of the right size, local ones of 24 pixels.
        (
            {
                "encoder": "timm:test_vit",
                "views": tuple(replace(v, size=32 if i < 2 else 24) for i, v in enumerate(recipe().views)),
            },
            "a view of 24 pixels does not divide into this transformer's patches of 16",
        ),
    ],
)
def test_numbers_that_do_not_fit_are_refused(numbers: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        recipe(**numbers).build(BuildContext(channels=3, size=32, images=64))


def test_more_dimensions_than_images_and_other_oddities_are_said() -> None:
    assert build(freeze_epochs=1.0).notices == []
    assert (
        "more output dimensions (65) than images (64): lower --out-dim"
        in recipe(out_dim=65).build(BuildContext(channels=3, size=16, images=64)).notices
    )
    assert "--freeze-epochs 2 of 2" in build(freeze_epochs=2.0, epochs=2).notices[0]
    assert "tiny is not a vision transformer" in build(drop_path=0.1).notices[0]
    assert vit(drop_path=0.1).notices == []
