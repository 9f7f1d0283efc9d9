"""SimCLR against its equation, written out as loops in float64, and against the official code's numbers."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import contrastkit
from contrastkit import dist, losses, ops
from contrastkit.errors import UserError
from contrastkit.methods import RECIPES, BuildContext
from contrastkit.methods.simclr import SimCLR, SimCLRRecipe
from contrastkit.optim import learning_rate
from contrastkit.parts.build import build_encoder
from contrastkit.parts.norm import _SyncBatchNorm
from contrastkit.training import Options, Plan
from contrastkit.training.launch import launch
from contrastkit.types import Batch
from tests.methods.small import batch, move_target

N, K, C = 6, 20, 16
CONTEXT = BuildContext(channels=3, size=16, images=64, world=1, seed=3)


def recipe(name: str = "simclr-v1/tiny", **numbers: Any) -> SimCLRRecipe:
    row = RECIPES[name]
    assert isinstance(row, SimCLRRecipe)
    return replace(row, **{"batch": N, "dim": C, "hidden": 32, **numbers})


def build(name: str = "simclr-v1/tiny", **numbers: Any) -> SimCLR:
    torch.manual_seed(0)
    method = recipe(name, **numbers).build(CONTEXT)
    if method.memory:
        move_target(method.target)
    return method.train()


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=1, keepdim=True)


def loss_of_code(z: Tensor, tau: float, keys: Tensor | None = None) -> Tensor:
    """objective.py: loss_a + loss_b, each the mean over its view's rows of Eq. 1; ``keys`` are further negatives."""
    n = len(z) // 2
    views = []
    for view in range(2):
        total = torch.zeros((), dtype=torch.float64)
        for i in range(view * n, view * n + n):
            j = (i + n) % (2 * n)
            denominator = torch.zeros((), dtype=torch.float64)
            for k in range(2 * n):
                if k != i:
                    denominator = denominator + torch.exp(z[i] @ z[k] / tau)
            for key in () if keys is None else keys:
                denominator = denominator + torch.exp(z[i] @ key / tau)
            total = total - torch.log(torch.exp(z[i] @ z[j] / tau) / denominator)
        views.append(total / n)
    return views[0] + views[1]


def outputs_and_loss(method: SimCLR, b: Batch) -> tuple[Tensor, Tensor]:
    """What the tower gave [2N, C], with its gradient kept, and the loss."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, args: object, out: Tensor) -> None:
        out.retain_grad()
        seen.append(out)

    handle = method.online.register_forward_hook(keep)
    loss = method(b, 0.0).loss
    handle.remove()
    return seen[0], loss


def loss_of_crops(z: Tensor, tau: float, n: int) -> Tensor:
    """The module's multi-crop: each crop looks up each of the two full-size ones, among those of the other images."""
    crops = z.view(-1, n, z.shape[1])
    total = torch.zeros((), dtype=torch.float64)
    for target in (0, 1):
        for view in range(len(crops)):
            if view == target:
                continue
            for i in range(n):
                s = [torch.exp(crops[view, i] @ crops[t, j] / tau) for t in (0, 1) for j in range(n) if j != i]
                positive = torch.exp(crops[view, i] @ crops[target, i] / tau)
                total = total - torch.log(positive / (positive + torch.stack(s).sum()))
    return total / ((len(crops) - 1) * n)


@pytest.mark.parametrize("sizes", [(16, 16), (16, 16, 8), (16, 16, 8, 8, 8)])
def test_small_crops_look_up_the_full_size_ones_of_their_image(sizes: tuple[int, ...]) -> None:
    """With two crops it is the official code's loss; the gradient also flows to what is looked up."""
    b = batch(N, sizes)
    views = tuple(replace(recipe().views[0], size=size) for size in sizes)
    method = build(views=views, tau=0.3)
    x, loss = outputs_and_loss(method, b)
    loss.backward()
    exact = x.detach().double().requires_grad_()
    expected = loss_of_crops(unit(exact), 0.3, N)
    if len(sizes) == 2:
        assert expected.item() == pytest.approx(loss_of_code(unit(exact), 0.3).item())
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert x.grad is not None and exact.grad is not None
    torch.testing.assert_close(x.grad.double(), exact.grad, atol=1e-5 * exact.grad.abs().max().item(), rtol=1e-4)


def test_small_crops_of_two_processes_are_those_of_one(two_processes: Callable[[Callable[[int], None]], None]) -> None:
    """The mean over the processes of losses and of gradients is the loss and the gradient of all images together."""
    views = tuple(replace(recipe().views[0], size=size) for size in (16, 16, 8))
    z = [unit(torch.randn(N, C, generator=torch.Generator().manual_seed(v), dtype=torch.float64)) for v in range(3)]
    whole = torch.cat(z).requires_grad_()
    expected = loss_of_crops(whole, 0.3, N)
    expected.backward()

    def work(rank: int) -> None:
        method = build(views=views, tau=0.3)
        local = [dist.local_shard(view).float().requires_grad_() for view in z]
        full, small = torch.cat(local[:2]), local[2]
        two, _, _ = ops.ntxent(full, tau=0.3, across_ranks=True)
        of_small, _ = method.look_up(small, full)
        loss = 2 * torch.cat([two, of_small]).mean()
        loss.backward()
        assert dist.all_reduce_mean(loss.detach()).item() == pytest.approx(expected.item(), rel=1e-5)
        assert whole.grad is not None
        for mine, all_images in zip(local, whole.grad.chunk(3), strict=True):
            assert mine.grad is not None
            torch.testing.assert_close(mine.grad.double() / 2, dist.local_shard(all_images), atol=1e-6, rtol=1e-4)

    two_processes(work)


@pytest.mark.parametrize("memory", [0, K])
@pytest.mark.parametrize("tau", [0.1, 0.5])
def test_loss_and_gradient_are_those_of_the_equation_for_both_views(tau: float, memory: int) -> None:
    method, b = build(tau=tau, memory=memory), batch(N)
    x, loss = outputs_and_loss(method, b)
    loss.backward()
    exact = x.detach().double().requires_grad_()
    expected = loss_of_code(unit(exact), tau, method.queue.keys.double() if memory else None)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert x.grad is not None and exact.grad is not None
    torch.testing.assert_close(x.grad.double(), exact.grad, atol=1e-5 * exact.grad.abs().max().item(), rtol=1e-4)


def test_the_loss_is_the_codes_sum_not_the_papers_mean() -> None:
    """Published rates and decays are those of loss_a + loss_b: lightly's mean over 2N rows is half of it."""
    loss = pytest.importorskip("lightly.loss")
    method, b = build(), batch(N)
    x, ours = outputs_and_loss(method, b)
    mean = loss.NTXentLoss(temperature=method.tau)(x[:N].detach(), x[N:].detach())
    assert ours.item() == pytest.approx(2 * mean.item(), rel=1e-5)


def test_both_views_share_one_batch_norm() -> None:
    """model.py: tf.concat(features_list, 0) before the network."""
    method, b = build(), batch(N)
    twin = build()
    x, _ = outputs_and_loss(method, b)
    torch.testing.assert_close(x, twin.online(torch.cat(list(b.views))))
    norms = [m for m in method.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert norms and all(m.num_batches_tracked == 1 for m in norms)


def test_batch_norm_sees_all_processes_and_the_last_shift_stays_away() -> None:
    method = recipe("simclr-v2/tiny", memory=K).build(replace(CONTEXT, world=2))
    norms = [m for m in method.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms and all(type(m) is _SyncBatchNorm for m in norms)
    head = method.online.head
    assert isinstance(head, nn.Sequential) and not head[-1].bias.requires_grad and head[1].bias.requires_grad


def layers(head: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    return [(type(m).__name__, tuple(m.get_parameter("weight").shape)) for m in head.modules() if hasattr(m, "weight")]


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ({"projector": "none"}, []),
        ({"projector": "linear"}, [("Linear", (C, 128)), ("BatchNorm1d", (C,))]),
        (
            {"hidden": None},  # as wide as the encoder
            [("Linear", (128, 128)), ("BatchNorm1d", (128,)), ("Linear", (C, 128)), ("BatchNorm1d", (C,))],
        ),
        (
            {"layers": 3},
            [("Linear", (32, 128)), ("BatchNorm1d", (32,)), ("Linear", (32, 32)), ("BatchNorm1d", (32,)),
             ("Linear", (C, 32)), ("BatchNorm1d", (C,))],
        ),
        (
            {"layers": 3, "finetune_from": 1},  # the first is the encoder's
            [("Linear", (32, 32)), ("BatchNorm1d", (32,)), ("Linear", (C, 32)), ("BatchNorm1d", (C,))],
        ),
        ({"layers": 3, "finetune_from": 2}, [("Linear", (C, 32)), ("BatchNorm1d", (C,))]),
    ],
)  # fmt: skip
def test_the_projector_is_the_codes(numbers: dict[str, Any], expected: list[tuple[str, tuple[int, ...]]]) -> None:
    """model_util.py: no linear layer has a bias, each is followed by batch norm, the last one's without shift."""
    method = build(**numbers)
    head = method.online.head
    assert layers(head) == expected
    assert all(m.bias is None for m in head.modules() if isinstance(m, nn.Linear))
    norms = [m for m in head.modules() if isinstance(m, nn.BatchNorm1d)]
    assert [m.bias.requires_grad for m in norms] == [True] * (len(norms) - 1) + [False] * (len(norms) > 0)
    x, loss = outputs_and_loss(method, batch(N))
    assert x.shape == (2 * N, C if expected else 128) and loss.isfinite()


def test_what_remains_of_v2_is_the_projectors_first_layer(images: Path, tmp_path: Path) -> None:
    """ft_proj_selector = 1: behind the trunk the head's first linear layer, batch norm and ReLU; load gives them."""
    row = recipe("simclr-v2/tiny", batch=64, epochs=1)
    row = replace(row, views=tuple(replace(view, size=12) for view in row.views))
    launch(Plan.of("simclr-v2/tiny", row, Options(data=str(images), device="cpu", monitor_every=0), tmp_path / "run"))
    encoder = contrastkit.load(tmp_path / "run")
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)["method"]
    plain = build_encoder("tiny", channels=3, size=16).eval()
    plain.load_state_dict({k: state[f"online.encoder.{k.replace('trunk', 'trunk.0')}"] for k in plain.state_dict()})
    x = torch.rand(4, 3, 16, 16)
    first = "online.encoder.trunk."
    h = plain(x) @ state[f"{first}1.weight"].T
    mean, variance = state[f"{first}2.running_mean"], state[f"{first}2.running_var"]
    h = (h - mean) / (variance + 1e-5).sqrt() * state[f"{first}2.weight"] + state[f"{first}2.bias"]
    assert encoder.dim == 32
    torch.testing.assert_close(encoder(x), h.clamp(min=0))


def test_v1_keeps_nothing_of_the_projector() -> None:
    assert {k: v.shape for k, v in build().online.encoder.state_dict().items()} == {
        k: v.shape for k, v in build_encoder("tiny", channels=3, size=16).state_dict().items()
    }


def test_residual_branches_start_at_zero_and_stages_can_be_wider() -> None:
    with torch.device("meta"):
        wide = recipe("simclr-v1/32", width=2.0).build(replace(CONTEXT, size=32)).online.encoder
        sk = recipe("simclr-v2/imagenet", encoder="timm:skresnet18").build(replace(CONTEXT, size=224)).online
    assert wide.dim == 1024
    assert any("attn" in name for name, _ in sk.encoder.named_modules()), "no selective kernels"
    narrow = recipe("simclr-v1/32").build(replace(CONTEXT, size=32)).online.encoder
    assert narrow.dim == 512
    last = [m.bn2.weight for m in narrow.modules() if hasattr(m, "conv2")]
    assert len(last) == 8 and not any(w.any() for w in last)


def test_biases_and_norms_are_neither_decayed_nor_adapted() -> None:
    """lars_optimizer.py, exclude_from_weight_decay = batch_normalization, bias; also from the layer adaptation."""
    method = build("simclr-v2/tiny")
    names = {id(p): name for name, p in method.named_parameters()}
    groups = {group.decay: group for group in method.param_groups()}
    assert groups[True].adapt and not groups[False].adapt
    norms = {
        f"{name}.{part}"
        for name, m in method.named_modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm)
        for part in ("weight", "bias")
    }
    assert {names[id(p)] for p in groups[False].params} == norms - {"online.head.4.bias"}
    assert {names[id(p)] for p in groups[True].params} == {name for name in names.values() if name not in norms}


@pytest.mark.parametrize("name", ["simclr-v1/imagenet", "simclr-v1/32", "simclr-v2/32"])
def test_the_learning_rate_is_inside_the_momentum(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """lars_optimizer.py, classic_momentum: v = 0.9 v + lr trust (g + wd w), w = w - v, over two rates."""
    row = recipe(name)
    w = nn.Parameter(torch.tensor([[3.0, 4.0]]))
    method = build()
    groups = [replace(method.param_groups()[0], params=[w])]
    monkeypatch.setattr(method, "param_groups", lambda: groups)
    optimizer = row.build_optimizer(method)
    exact, v = [3.0, 4.0], [0.0, 0.0]
    for lr, g in ((0.5, [1.0, -2.0]), (2.0, [0.5, 1.0])):
        w.grad = torch.tensor([g])
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        u = [a + row.weight_decay * b for a, b in zip(g, exact, strict=True)]
        trust = 0.001 * math.hypot(*exact) / math.hypot(*u)
        v = [0.9 * a + lr * trust * b for a, b in zip(v, u, strict=True)]
        exact = [a - b for a, b in zip(exact, v, strict=True)]
    assert w[0].tolist() == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize(
    ("epoch", "lr"), [(0, 0.0), (5, 2.4), (10, 4.8), (32.5, 4.8 * (1 + math.sqrt(0.5)) / 2), (55, 2.4), (100, 0.0)]
)
@pytest.mark.parametrize("name", ["simclr-v1/imagenet", "simclr-v2/imagenet"])
def test_the_rate_rises_for_ten_epochs_and_falls_along_a_cosine_every_step(name: str, epoch: float, lr: float) -> None:
    row = RECIPES[name]
    assert row.lr == pytest.approx(0.3 * row.batch / 256) == pytest.approx(0.075 * math.sqrt(row.batch))
    assert not row.lr_per_epoch
    warmup = row.warmup_epochs / row.epochs
    actual = learning_rate(epoch / row.epochs, schedule=row.schedule, base_lr=row.lr, warmup=warmup)
    assert actual == pytest.approx(lr, abs=1e-9)


@pytest.mark.parametrize("memory", [0, K])
def test_uniform_similarities_cost_the_logarithm_of_all_others(memory: int) -> None:
    method = build(memory=memory, projector="linear")
    norm = method.online.head[1]
    nn.init.zeros_(norm.weight)  # every z is the same vector
    nn.init.ones_(norm.bias)
    if memory:
        method.queue.keys.fill_(C**-0.5)
    expected = 2 * math.log(2 * N - 1 + memory)
    assert method(batch(N), 0.0).loss.item() == pytest.approx(expected, rel=1e-5)
    assert method.chance_loss == pytest.approx(expected)


def test_top1_is_the_share_of_views_nearest_to_their_other_view() -> None:
    method, b = build(memory=K), batch(N)
    b.views[1][:4] = b.views[0][:4] + 0.01 * b.views[1][:4]  # the others are lost among the batch
    x, _ = outputs_and_loss(method, b)
    z = unit(x.detach().double())
    method.queue.keys[0] = 1.01 * z[0].float()  # row 0 is lost to the memory
    hits = []
    for i in range(2 * N):
        positive = (i + N) % (2 * N)
        others = [float(z[i] @ z[k]) for k in range(2 * N) if k not in (i, positive)]
        others += [float(z[i] @ key) for key in method.queue.keys.double()]
        hits.append(float(z[i] @ z[positive]) > max(others))
    assert not hits[0] and sum(hits[1:4]) and not all(hits[4:N])
    assert method(b, 0.0).logs["top1"].item() == pytest.approx(sum(hits) / len(hits))


def test_after_step_moves_the_target_and_pushes_both_views_keys() -> None:
    method, b = build(memory=K, m=0.9), batch(N)
    step = method(b, 0.0)
    with torch.no_grad():
        keys = unit(method.target.tower(torch.cat(list(b.views))))
    torch.testing.assert_close(step.memory, keys)
    target = [p.double().clone() for p in method.target.parameters()]
    queue = list(method.queue.keys.clone())
    for _ in range(2):  # 24 keys into 20 places
        method.after_step(b, step, 0.0)
    for before, online, after in zip(target, method.online.parameters(), method.target.parameters(), strict=True):
        o = online.detach().double()
        torch.testing.assert_close(after.double(), 0.9 * (0.9 * before + 0.1 * o) + 0.1 * o, atol=1e-6, rtol=1e-5)
    for place, key in enumerate(list(step.memory) * 2):
        queue[place % K] = key
    torch.testing.assert_close(method.queue.keys, torch.stack(queue), atol=1e-6, rtol=0)


def test_without_memory_there_is_none() -> None:
    method, b = build(), batch(N)
    step = method(b, 0.0)
    before = {k: v.clone() for k, v in method.state_dict().items()}
    method.after_step(b, step, 0.0)
    assert step.memory is None and not any(k.startswith(("target.", "queue.")) for k in before)
    assert all(torch.equal(v, before[k]) for k, v in method.state_dict().items())


@pytest.mark.parametrize("scale", [1e-3, 1.0, 200.0])
def test_the_loss_over_two_dictionaries_together(scale: float) -> None:
    """log(1 + A + B) from log(1 + A) and log(1 + B), equal ones and zeros too; the gradients are shares of the sum."""
    g = torch.Generator().manual_seed(0)
    a, b = (scale * torch.rand(8, generator=g, dtype=torch.float64) for _ in range(2))
    a[0] = b[0]
    a[1] = b[2] = 0.0
    a32, b32 = (x.float().requires_grad_() for x in (a, b))
    loss = losses.infonce_of_union(a32, b32)
    loss.sum().backward()
    assert a32.grad is not None and b32.grad is not None
    for i in range(8):
        A, B = math.expm1(float(a[i])), math.expm1(float(b[i]))
        assert loss[i].item() == pytest.approx(math.log1p(A + B), rel=1e-5, abs=3e-7)
        assert a32.grad[i].item() == pytest.approx((1 + A) / (1 + A + B), rel=1e-5)
        assert b32.grad[i].item() == pytest.approx((1 + B) / (1 + A + B), rel=1e-5)


def test_a_small_batch_and_a_memory_of_every_image_are_said() -> None:
    assert not recipe(batch=256).build(CONTEXT).notices
    small, every = recipe(memory=128).build(CONTEXT).notices
    assert "a batch of 6 gives each view 138 negatives" in small and "both views of all 64 images" in every


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ({"tau": 0.0}, "--tau must be above 0, not 0.0"),
        ({"layers": 1}, "--layers must be at least 2, not 1; for one layer: --projector linear"),
        ({"hidden": 0}, "--hidden must be at least 1, not 0"),
        ({"dim": 0}, "--dim must be at least 1, not 0"),
        ({"width": 0.0}, "--width must be at least 0.03125, not 0.0"),
        ({"finetune_from": 2}, "--finetune-from must lie in 0 to 1, the hidden layers of the projector, not 2"),
        ({"finetune_from": 1, "projector": "linear"}, "--finetune-from must lie in 0 to 0"),
        ({"memory": -1}, "--memory must not be negative, not -1"),
        ({"m": 1.5}, r"--m must lie in \[0, 1\], not 1.5"),
        ({"batch": 1}, "a batch of one image has no negatives: raise --batch to 2 or more"),
        ({"views": RECIPES["simclr-v1/tiny"].views[:1]}, "takes at least 2 views, not 1"),
        (
            {"views": RECIPES["simclr-v1/tiny"].views[:1] * 3, "memory": K},
            "--memory takes two views, not 3: choose other --views, or --memory 0",
        ),
    ],
)
def test_numbers_that_do_not_fit_are_refused(numbers: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        recipe(**numbers).build(CONTEXT)
