"""CMC against its equations, written out as loops in float64."""

import copy
import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import contrastkit
from contrastkit.cli.main import main
from contrastkit.colour import COLOURS
from contrastkit.errors import UserError
from contrastkit.methods import RECIPES, BuildContext
from contrastkit.methods.cmc import CMC, CMCRecipe
from contrastkit.optim import learning_rate
from contrastkit.parts.encoder import SplitEncoder
from contrastkit.training import Options, Plan
from contrastkit.training.launch import launch
from contrastkit.types import Batch
from tests.methods import small
from tests.methods.small import gradients, step, step_memory

N, M, K, C, TAU = 6, 40, 10, 16, 0.1
INDEX = torch.tensor([3, 39, 0, 17, 22, 8])
Bank = dict[int, Tensor]  # view -> [M, C]


def recipe(**numbers: Any) -> CMCRecipe:
    row = RECIPES["cmc/tiny"]
    assert isinstance(row, CMCRecipe)
    return replace(
        row, **{"batch": N, "K": K, "dim": C, "tau": TAU, "loss": "nce", "width": 0.25, "centre": False, **numbers}
    )


def build(images: int = M, channels: int = 3, **numbers: Any) -> CMC:
    torch.manual_seed(0)
    return recipe(**numbers).build(BuildContext(channels=channels, size=16, images=images, world=1, seed=3)).train()


def batch(seed: int = 1, index: Tensor = INDEX) -> Batch:
    return small.batch(len(index), (16,), seed=seed, index=index)


def features(method: CMC, b: Batch) -> list[Tensor]:
    """z of each view, float64, with a gradient: its channels through its own encoder and head, to unit length."""
    encoder, z = method.online.encoder, []
    space = COLOURS[method.recipe.colour]
    x = (space.convert(b.views[0]) - torch.tensor(space.mean).view(3, 1, 1)) / torch.tensor(space.std).view(3, 1, 1)
    first = 0
    for view, width in enumerate(space.groups):
        f = method.online.head.heads[view](encoder.trunk[view](x[:, first : first + width]))
        z.append((f / f.norm(dim=1, keepdim=True)).double())
        first += width
    return z


def drawn(method: CMC, b: Batch, progress: float = 0.0) -> list[list[int]]:
    """One set of draws for all views, the image's own row first."""
    return method.bank.draw(b.index, K, seed=3, progress=progress).tolist()


def edges(V: int, objective: str) -> list[tuple[int, int]]:
    """Unordered pairs of the graph, Sec. 3.3: those with the first view, or all."""
    return [(0, j) for j in range(1, V)] if objective == "core" else list(itertools.combinations(range(V), 2))


def scores(z: Tensor, bank: Tensor, rows: list[list[int]]) -> list[list[Tensor]]:
    """Features of one view against the bank of another."""
    return [[(z[i] * bank[y].double()).sum() / TAU for y in row] for i, row in enumerate(rows)]


def one_way(z: Tensor, bank: Tensor, rows: list[list[int]], loss: str, Z: float | None) -> tuple[Tensor, float]:
    """The contrast of a view with another's bank, Eq. 3 or Sec. 3.4, and Z: M times the batch's mean where unset."""
    s = scores(z, bank, rows)
    if Z is None:
        Z = M * sum(math.exp(x.item()) for row in s for x in row) / (N * (K + 1))
    total = torch.zeros((), dtype=torch.float64)
    for row in s:
        if loss == "softmax":
            total = total - torch.log(torch.exp(row[0]) / sum(torch.exp(x) for x in row))
            continue
        for k, x in enumerate(row):
            P = torch.exp(x) / Z
            h = P / (P + K / M)
            total = total - torch.log(h if k == 0 else 1 - h)
    return total / N, Z


def whole(method: CMC, b: Batch, objective: str, constants: dict[tuple[int, int], float], progress: float) -> Tensor:
    """The sum over the graph's edges, both directions; ``constants`` [anchor, target] are used, and set where unset."""
    z, rows = features(method, b), drawn(method, b, progress)
    total = torch.zeros((), dtype=torch.float64)
    for i, j in edges(len(z), objective):
        for a, t in ((i, j), (j, i)):
            one, constants[a, t] = one_way(
                z[a], method.bank.rows[:, t], rows, method.recipe.loss, constants.get((a, t))
            )
            total = total + one
    return total


@pytest.mark.parametrize("loss", ["nce", "softmax"])
@pytest.mark.parametrize(
    ("colour", "objective"), [("lab", "full"), ("ycbcr", "core"), ("lab-full", "full"), ("lab-full", "core")]
)
def test_loss_and_gradient_are_the_papers(colour: str, objective: str, loss: str) -> None:
    method, b = build(colour=colour, objective=objective, loss=loss), batch()
    expected = whole(method, b, objective, {}, 0.0)
    actual = method(b, 0.0).loss
    assert actual.item() == pytest.approx(expected.item(), rel=1e-5)
    for g, g_expected in zip(gradients(actual, method.online), gradients(expected, method.online), strict=True):
        torch.testing.assert_close(g, g_expected, atol=3e-4 * g_expected.abs().max().clamp(min=1e-3).item(), rtol=0)


def test_of_two_views_the_core_is_the_full_graph_and_of_three_it_is_not() -> None:
    b = batch()
    for colour, same in (("lab", True), ("lab-full", False)):
        full, core = (build(colour=colour, objective=o)(b, 0.0).loss for o in ("full", "core"))
        assert torch.equal(full, core) == same
        assert (full > core) == (not same)  # six one-way terms, or four


@pytest.mark.parametrize("m_z", [1.0, 0.9])
@pytest.mark.parametrize("colour", ["lab", "lab-full"])
def test_every_ordered_pair_has_a_Z_of_its_own_from_the_first_batch(colour: str, m_z: float) -> None:
    method = build(colour=colour, m_z=m_z)
    first, second = batch(1), batch(2, (INDEX + 1) % M)
    constants: dict[tuple[int, int], float] = {}
    with torch.no_grad():
        whole(method, first, "full", constants, 0.0)
        step(method, first, 0.0)
        V = method.V
        assert method.bank.Z.shape == (V - 1, V) and len(constants) == V * (V - 1)
        for (anchor, target), Z in constants.items():
            actual = method.bank.Z[(target - anchor) % V - 1, target].item()
            assert actual == pytest.approx(Z, rel=1e-5)
        others: dict[tuple[int, int], float] = {}
        whole(method, second, "full", others, 0.1)
        expected = whole(method, second, "full", dict(constants), 0.1)
        assert step(method, second, 0.1).loss.item() == pytest.approx(expected.item(), rel=1e-5)
        for (anchor, target), Z in constants.items():
            actual = method.bank.Z[(target - anchor) % V - 1, target].item()
            assert actual == pytest.approx(m_z * Z + (1 - m_z) * others[anchor, target], rel=1e-5)


def test_after_step_moves_the_rows_of_every_view() -> None:
    method, b = build(m=0.3), batch()
    before = method.bank.rows.clone()
    step(method, b, 0.0)
    z = features(method, b)
    expected = before.double()
    for i, y in enumerate(INDEX.tolist()):
        for view in range(2):
            row = [0.3 * r + 0.7 * x for r, x in zip(before[y, view].tolist(), z[view][i].tolist(), strict=True)]
            length = math.sqrt(sum(x * x for x in row))
            expected[y, view] = torch.tensor([x / length for x in row], dtype=torch.float64)
    torch.testing.assert_close(method.bank.rows.double(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("loss", ["nce", "softmax"])
@pytest.mark.parametrize(
    ("colour", "objective", "terms"), [("lab", "full", 2), ("lab-full", "full", 6), ("lab-full", "core", 4)]
)
def test_uniform_similarities_cost_chance(colour: str, objective: str, terms: int, loss: str) -> None:
    method = build(colour=colour, objective=objective, loss=loss)
    nn.init.zeros_(method.bank.rows)
    one = math.log(K + 1) + (K * math.log((K + 1) / K) if loss == "nce" else 0)
    assert method(batch(), 0.0).loss.item() == pytest.approx(terms * one, rel=1e-5)
    assert method.chance_loss == pytest.approx(terms * one)


def test_top1_is_the_share_of_look_ups_that_find_their_row() -> None:
    method, b = build(), batch()
    z, rows = features(method, b), drawn(method, b)
    method.bank.rows[INDEX[:3], 1] = 100 * (z[0][:3] - z[0].mean(0)).detach().float()
    hits = []
    for anchor, target in ((0, 1), (1, 0)):
        hits += [
            float(row[0]) >= max(map(float, row))
            for row in scores(z[anchor].detach(), method.bank.rows[:, target], rows)
        ]
    assert 0 < sum(hits) < 2 * N
    assert method(b, 0.0).logs["top1"].item() == pytest.approx(sum(hits) / (2 * N))


def test_each_encoder_sees_its_own_channels_alone() -> None:
    """Grays differ in L alone; of no two does the encoder of ab see anything different."""
    method = build().eval()
    assert isinstance(method.online.encoder, SplitEncoder)
    seen: list[Tensor] = []
    for trunk in method.online.encoder.trunk:
        trunk.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    grays = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1).expand(3, 3, 16, 16)
    f = method.online.encoder(grays)
    brightness, colour = seen
    assert brightness.shape == (3, 1, 16, 16) and colour.shape == (3, 2, 16, 16)
    torch.testing.assert_close(brightness[:, 0, 0, 0], torch.tensor([-1.0, (53.389 - 50) / 50, 1.0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        colour[:, :, 0, 0], torch.tensor([[-6.025 / 92.208, 6.69 / 101.168]]).expand(3, 2), atol=1e-3, rtol=0
    )
    first, second = method.online.encoder.dims
    assert (f[0, :first] - f[2, :first]).abs().max() > 1e-2
    torch.testing.assert_close(f[0, first:], f[2, first:], atol=1e-3, rtol=0)
    assert f.shape[1] == first + second == method.online.encoder.dim


def test_the_papers_encoders_are_two_resnets_of_half_the_width() -> None:
    row = RECIPES["cmc/imagenet"]
    with torch.device("meta"):
        encoder = row.build_encoder(BuildContext(channels=3, size=224, images=1 << 16, world=1, seed=0))
    assert isinstance(encoder, SplitEncoder) and encoder.dims == [1024, 1024]
    assert [trunk.conv1.weight.shape for trunk in encoder.trunk] == [(64, 1, 7, 7), (64, 2, 7, 7)]
    million = sum(p.numel() for p in encoder.parameters()) / 1e6
    assert 11.5 < million < 12.5  # 12 M, README of HobbitLong/CMC


def test_views_are_cropped_and_flipped_and_nothing_else() -> None:
    for name in ("cmc/imagenet", "cmc/32", "cmc/tiny"):
        (view,) = RECIPES[name].views
        assert view.jitter_p == view.gray_p == view.blur_p == view.solarize_p == 0 and view.flip_p == 0.5


@pytest.mark.parametrize("loss", ["nce", "softmax"])
def test_a_step_allocates_nothing_of_size_batch_times_bank(loss: str) -> None:
    images, n = 100_000, 64
    method = build(images, loss=loss, dim=8)
    b = Batch([torch.rand(n, 3, 8, 8)], torch.arange(n) * 1000, torch.full((n,), -1))

    assert step_memory(method, b) < images * n * 4 / 2


def test_the_rate_is_the_published_one() -> None:
    row = RECIPES["cmc/imagenet"]
    for epoch, factor in ((0, 1), (119, 1), (120, 0.1), (159, 0.1), (160, 0.01), (199, 0.01), (200, 1e-3), (239, 1e-3)):
        rate = learning_rate(
            (epoch + 0.5) / 240,
            schedule=row.schedule,
            base_lr=row.lr,
            milestones=row.milestones,
            gamma=row.gamma,
            epochs=row.epochs if row.lr_per_epoch else None,
        )
        assert rate == pytest.approx(0.03 * factor), epoch


@pytest.mark.parametrize("colour", ["ycbcr", "lab-full"])
def test_a_runs_encoder_takes_rgb_images(colour: str, images: Path, tmp_path: Path) -> None:
    small = recipe(colour=colour, batch=64, epochs=1, loss="softmax", K=64)
    out = launch(Plan.of("cmc/tiny", small, Options(data=str(images), device="cpu", monitor_every=0), tmp_path / "run"))
    assert out.finished
    encoder = contrastkit.load(tmp_path / "run")
    assert isinstance(encoder, SplitEncoder)
    features = encoder(torch.rand(2, 3, 16, 16))
    assert features.shape == (2, encoder.dim) and encoder.dim == 32 * len(COLOURS[colour].groups)
    again = copy.deepcopy(encoder)
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(again(x), encoder(x))


@pytest.mark.parametrize(
    ("numbers", "where", "says"),
    [
        ({}, {"channels": 1}, "made of RGB images, these have 1 channel"),
        ({}, {"channels": 4}, "made of RGB images, these have 4 channel"),
        ({"K": M + 1}, {}, "--K 41 draws are more than the 40 images"),
        ({"K": 1}, {"images": 1}, "at least two images"),
        ({"views": RECIPES["moco-v2/tiny"].views}, {}, "takes one view, not 2"),
        ({"colour": "labb"}, {}, "--colour must be one of lab, ycbcr, lab-full, not 'labb'"),
        ({"encoder": "timm:resnet10t"}, {}, "use --width 1"),
        (
            {"centre": True, "batch": 1},
            {},
            "--centre, a batch norm, needs at least two images: raise --batch to 2 or more",
        ),
        ({"K": 0}, {}, "--K must be at least 1"),
        ({"dim": 0}, {}, "--dim must be at least 1"),
        ({"m": 1.5}, {}, r"--m must lie in \[0, 1\], not 1.5"),
        ({"m_z": -0.1}, {}, r"--m-z must lie in \[0, 1\]"),
        ({"tau": 0.0}, {}, "--tau must be above 0"),
        ({"width": 0.0}, {}, "--width must be at least 0.03125"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(numbers: dict[str, Any], where: dict[str, int], says: str) -> None:
    with pytest.raises(UserError, match=says):
        build(**where, **numbers)


# -------------------------------------------------------------------------------------------------- several modalities


def test_each_modality_has_an_encoder_of_its_channels_alone() -> None:
    small = replace(recipe(), K=16, colour="lab")
    method = small.build(BuildContext(channels=6, modalities=(3, 1, 2), size=16, images=64))
    encoder = method.online.encoder
    assert isinstance(encoder, SplitEncoder) and len(encoder.dims) == 3
    assert [trunk.conv1.in_channels for trunk in encoder.trunk] == [3, 1, 2]
    images = torch.rand(2, 6, 16, 16, generator=torch.Generator().manual_seed(3))
    whole = encoder.eval()(images).split(encoder.dims, dim=1)
    start = 0
    for i, n in enumerate((3, 1, 2)):
        changed = images.clone()
        changed[:, start : start + n] = 0.5
        start += n
        parts = encoder(changed).split(encoder.dims, dim=1)
        for j in range(3):
            assert torch.equal(parts[j], whole[j]) == (j != i)


def test_a_run_on_two_senses_is_judged_by_retrieval(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], moco_run: Path
) -> None:
    """Each scene is a colour in one sense and that colour's place on a gray scale in the other: easily matched."""
    g = np.random.default_rng(0)
    for sense in ("rgb", "depth"):
        (tmp_path / sense).mkdir()
    for i in range(48):
        shade = 5 * i + 5
        noise = g.integers(0, 5, size=(16, 16))
        rgb = np.stack([shade + noise, 250 - shade + noise, np.full((16, 16), 128)], 2).astype(np.uint8)
        Image.fromarray(rgb).save(tmp_path / "rgb" / f"{i}.png")
        Image.fromarray((shade + g.integers(0, 5, size=(16, 16))).astype(np.uint8)).save(
            tmp_path / "depth" / f"{i}.png"
        )
    data = f"--data=rgb={tmp_path / 'rgb'},depth={tmp_path / 'depth'}"
    numbers = ["--encoder=tiny", "--size=16", "--K=32", "--batch=12", "--epochs=12", "--workers=0", "--device=cpu"]
    out = tmp_path / "run"
    assert main(["train", "cmc", data, f"--out={out}", "--val-fraction=0.25", "--monitor-every=0", *numbers]) == 0
    assert f"contrastkit retrieve {out}" in capsys.readouterr().out
    assert main(["retrieve", str(out), "--workers=0"]) == 0
    actual = json.loads((out / "retrieval.json").read_text())["retrieval"]
    assert list(actual) == ["rgb -> depth", "depth -> rgb"]
    assert all(one["n"] == 12 and one["median_rank"] < 4 for one in actual.values()), "chance is 6.5"
    assert "chance" in capsys.readouterr().out

    turned = f"--data=depth={tmp_path / 'depth'},rgb={tmp_path / 'rgb'}"
    assert main(["retrieve", str(out), turned, "--val-fraction=0.25"]) == 2
    assert "was trained on rgb, depth, but depth+rgb has depth, rgb" in capsys.readouterr().err
    assert main(["train", "cmc", data, f"--out={tmp_path / 'none'}", *numbers, "--colour=ycbcr"]) == 2
    assert "these data have several modalities" in capsys.readouterr().err

    assert main(["retrieve", str(moco_run)]) == 2
    assert "has one encoder for all views" in capsys.readouterr().err
