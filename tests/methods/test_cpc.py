"""CPC against its equation, written out as loops in float64 over every side, distance, row, column and candidate."""

import copy
import json
import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contrastkit import ops
from contrastkit.errors import UserError
from contrastkit.methods import RECIPES, BuildContext
from contrastkit.methods.cpc import CPC, CPCRecipe, PixelCNN
from contrastkit.parts.build import build_encoder
from contrastkit.parts.encoder import Encoder, PatchEncoder
from contrastkit.types import Batch

N, SIZE, PATCH, STRIDE, ROWS = 2, 15, 6, 3, 4  # 4 x 4 patches, which cover the image to its edges


def recipe(name: str = "cpc-v2/tiny", **numbers: Any) -> CPCRecipe:
    row = RECIPES[name]
    assert isinstance(row, CPCRecipe)
    views = tuple(replace(view, size=SIZE) for view in row.views)
    small = {"batch": N, "patch": PATCH, "stride": STRIDE, "steps_to_ignore": 1, "steps_to_predict": 2, "views": views}
    return replace(row, **{**small, "target_dim": 5, "blocks": 2, "hidden": 4, "tau": 0.5, **numbers})


def build(**numbers: Any) -> CPC:
    torch.manual_seed(0)
    method = recipe(**numbers).build(BuildContext(channels=3, size=SIZE, images=64, seed=3)).train()
    with torch.no_grad():  # larger predictions: a loss far from chance, or an error would not show
        for p in method.W.parameters():
            p.mul_(5)
    return method


def images(seed: int = 1) -> Tensor:
    return torch.rand(N, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def batch(seed: int = 1) -> Batch:
    return Batch([images(seed)], torch.arange(10, 10 + N), torch.full((N,), -1))


def turned(side: int, r: int, c: int) -> tuple[int, int]:
    """The cell that is at row r, column c once the grid is turned so that a side is on top: 0 above, then counter-
    clockwise turns, which bring the right side up, the lower one, the left one."""
    last = ROWS - 1
    return [(r, c), (c, last - r), (last - r, last - c), (last - c, r)][side]


def pixel_cnn(net: PixelCNN, z: dict[tuple[int, int], Tensor]) -> dict[tuple[int, int], Tensor]:
    """v2's pseudo-code (App. A.2) position by position: 1x1, ReLU, 1x3, a row of zeros on top, 2x1, ReLU, 1x1; add."""
    cells = list(z)
    c = dict(z)
    for block in net.blocks:
        one, three, two, last = (layer for layer in block.children() if isinstance(layer, nn.Conv2d))
        a = {at: torch.relu(one.weight[:, :, 0, 0] @ c[at] + one.bias) for at in cells}
        b = {}
        for row, column in cells:
            b[row, column] = three.bias
            for dx in (-1, 0, 1):
                if 0 <= column + dx < ROWS:
                    b[row, column] = b[row, column] + three.weight[:, :, 0, 1 + dx] @ a[row, column + dx]
        for row, column in cells:
            y = two.weight[:, :, 1, 0] @ b[row, column] + two.bias
            if row > 0:
                y = y + two.weight[:, :, 0, 0] @ b[row - 1, column]
            c[row, column] = c[row, column] + last.weight[:, :, 0, 0] @ torch.relu(y) + last.bias
    return {at: torch.relu(value) for at, value in c.items()}


def loss_by_loops(method: CPC, x: Tensor, *, sides: int, distances: tuple[int, ...], tau: float) -> Tensor:
    """The mean over sides and distances of the mean over predictions, each a cross-entropy over all patches."""
    networks = [network for network in method.context if isinstance(network, PixelCNN)]
    encoder, cells = method.online.encoder, [(r, c) for r in range(ROWS) for c in range(ROWS)]
    z = {}
    for n in range(N):
        for r, c in cells:
            patch = x[n : n + 1, :, r * STRIDE : r * STRIDE + PATCH, c * STRIDE : c * STRIDE + PATCH]
            z[n, r, c] = encoder.trunk((patch - encoder.mean) / encoder.std)[0]
    target = {at: method.online.head(value) for at, value in z.items()}
    parts = []
    for side in range(sides):
        for step, k in enumerate(distances):
            losses = []
            for n in range(N):
                context = pixel_cnn(networks[side], {(r, c): z[n, *turned(side, r, c)] for r, c in cells})
                for r in range(ROWS - k):
                    for c in range(ROWS):
                        guess = method.W[side][step].weight @ context[r, c]
                        logits = {at: guess @ t / tau for at, t in target.items()}
                        true = logits[n, *turned(side, r + k, c)]
                        losses.append(torch.stack(list(logits.values())).logsumexp(0) - true)
            parts.append(torch.stack(losses).mean())
    return torch.stack(parts).mean()


@pytest.mark.parametrize(
    ("numbers", "sides", "distances"),
    [
        ({"directions": 4}, 4, (2, 3)),
        (
            {"directions": 1, "target_dim": 0, "tau": 8.0, "steps_to_ignore": 0, "steps_to_predict": 3},
            1,
            (1, 2, 3),
        ),  # v1
        ({"directions": 2, "steps_to_ignore": 2, "steps_to_predict": 1}, 2, (3,)),
    ],
)
def test_loss_and_gradients_are_the_equations(numbers: dict[str, Any], sides: int, distances: tuple[int, ...]) -> None:
    method, b = build(patch_views="", **numbers), batch()
    out = method(b, 0.2)
    out.loss.backward()
    truth = copy.deepcopy(method).double()
    truth.zero_grad()
    expected = loss_by_loops(truth, b.views[0].double(), sides=sides, distances=distances, tau=method.tau)
    expected.backward()
    assert out.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert abs(expected.item() - math.log(N * ROWS**2)) > 0.1
    for (name, p), q in zip(method.named_parameters(), truth.parameters(), strict=True):
        assert q.grad.abs().max() > 0, name
        torch.testing.assert_close(
            p.grad.double(),
            q.grad,
            rtol=0,
            atol=2e-4 * float(q.grad.abs().max()),
            msg=(name + ": {}").format,
        )


def test_every_prediction_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """bolts' trap: its nested loop counts the farther rows several times."""
    seen: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    infonce = ops.infonce

    def spy(query: Tensor, positive: Tensor, keys: Tensor, **how: Tensor) -> tuple[Tensor, ...]:
        seen.append((query, positive, keys, how["exclude"]))
        return infonce(query, positive, keys, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(ops, "infonce", spy)
    method = build(patch_views="", directions=4)
    method(batch(), 0.0)
    [(query, positive, keys, exclude)] = seen
    assert len(keys) == N * ROWS**2 and exclude.shape == (len(query), 1)
    assert torch.equal(positive, keys[exclude[:, 0]])  # the true patch is the positive and no negative besides
    expected: Counter[int] = Counter()
    for side in range(4):
        for k in (2, 3):
            for n in range(N):
                for r in range(ROWS - k):
                    for c in range(ROWS):
                        row, column = turned(side, r + k, c)
                        expected[n * ROWS**2 + row * ROWS + column] += 1
    assert Counter(exclude[:, 0].tolist()) == expected
    assert len(query) == 4 * N * ROWS * (2 + 1)


def changed_below(x: Tensor, side: int, row: int) -> Tensor:
    """Other pixels wherever no patch of the rows up to ``row``, seen with a side on top, looks."""
    top = x.rot90(side, (2, 3)).clone()
    top[:, :, row * STRIDE + PATCH :] = 1 - top[:, :, row * STRIDE + PATCH :]
    return top.rot90(-side, (2, 3))


def contexts(method: CPC, x: Tensor, side: int) -> Tensor:
    assert isinstance(method.online.encoder, PatchEncoder)
    return method.context[side](method.online.encoder.patches(x).rot90(side, (1, 2)))


@pytest.mark.parametrize("side", range(4))
@torch.no_grad()
def test_a_context_knows_nothing_of_the_rows_below(side: int) -> None:
    method, x = build(), images()
    before = contexts(method, x, side)
    for row in range(ROWS - 1):
        after = contexts(method, changed_below(x, side, row), side)
        torch.testing.assert_close(after[:, : row + 1], before[:, : row + 1], rtol=0, atol=1e-6)
        assert (after[:, row + 1] - before[:, row + 1]).abs().max() > 1e-2  # and its own row it knows


@torch.no_grad()
def test_batch_norm_lets_a_context_know_what_is_below() -> None:
    """Why v2 has layer norm (Sec. 3.1), and the notice for the user."""
    method, x = build(norm="batch"), images()
    difference = contexts(method, changed_below(x, 0, 0), 0)[:, 0] - contexts(method, x, 0)[:, 0]
    assert difference.abs().max() > 1e-2
    assert "batch norm lets a context see" in method.notices[0]
    assert not build().notices
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in build().modules())


# ------------------------------------------------------------------------------------------------------------- patches


@torch.no_grad()
def test_an_image_is_the_mean_of_its_patches() -> None:
    encoder = build().online.encoder.eval()
    assert isinstance(encoder, PatchEncoder)
    x = torch.rand(2, 3, 17, 20)  # 4 rows, 5 columns; 2 pixels are left over on each side
    z = encoder.patches(x)
    assert z.shape == (2, 4, 5, encoder.dim)
    for r in range(4):
        for c in range(5):
            alone = Encoder.forward(encoder, x[:, :, 3 * r : 3 * r + 6, 3 * c : 3 * c + 6])
            torch.testing.assert_close(z[:, r, c], alone, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(encoder(x), z.flatten(1, 2).mean(1))


@pytest.mark.parametrize("name", ["cpc-v1/tiny", "cpc-v2/digits", "cpc-v2/32"])
def test_a_run_finds_the_encoder_from_its_record(name: str) -> None:
    """The options go through recipe.json, and any weights of the method's encoder fit."""
    row = RECIPES[name]
    with torch.device("meta"):
        method = row.build(BuildContext(channels=3, size=row.views[0].size, images=64))
        options = row.encoder_options(BuildContext(channels=3, size=row.views[0].size, images=64))
        encoder = build_encoder(**json.loads(json.dumps(options)))
    assert isinstance(encoder, PatchEncoder) and (encoder.patch, encoder.stride) == (
        options["patch"],
        options["stride"],
    )
    shapes = [{k: v.shape for k, v in e.state_dict().items()} for e in (encoder, method.online.encoder)]
    assert shapes[0] == shapes[1]


def test_v1_ends_with_the_third_stage() -> None:
    with torch.device("meta"):
        encoder = RECIPES["cpc-v1/imagenet"].build_encoder(BuildContext(channels=3, size=256, images=64))
        z = encoder.patches(torch.empty(1, 3, 256, 256))
    assert encoder.dim == 1024 and encoder.stem == "7x7" and z.shape == (1, 7, 7, 1024)


def test_each_patch_has_draws_of_its_own() -> None:
    """The same pixels everywhere: what differs is what was drawn."""
    method = build(patch_views="cpc-v2-patches")
    tile = torch.rand(3, PATCH, PATCH, generator=torch.Generator().manual_seed(0))
    patches = tile.expand(N, ROWS, ROWS, 3, PATCH, PATCH)
    index = torch.tensor([7, 8])
    out = method.augmented(patches, index, 0.25)
    assert out.shape == patches.shape and out.min() >= 0 and out.max() <= 1
    flat = out.flatten(0, 2).flatten(1)
    distance = (flat[:, None] - flat).abs().amax(2) + torch.eye(len(flat))
    assert distance.min() > 1e-3
    assert torch.equal(out, method.augmented(patches, index, 0.25))
    assert torch.equal(out[1:], method.augmented(patches[1:], index[1:], 0.25))  # whatever its batch is
    assert (out - method.augmented(patches, index, 0.25 + 1e-6)).abs().flatten(3).amax(3).min() > 1e-3
    method.seed = 4
    assert (out - method.augmented(patches, index, 0.25)).abs().flatten(3).amax(3).min() > 1e-3


def test_the_encoder_sees_the_augmented_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    method, b = build(patch_views="cpc-v2-patches"), batch()
    assert isinstance(method.online.encoder, PatchEncoder)
    patches = method.online.encoder.cut(b.views[0])
    seen: list[Tensor] = []
    method.online.encoder.trunk.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    method(b, 0.5)
    encoder = method.online.encoder
    expected = (method.augmented(patches, b.index, 0.5).flatten(0, 2) - encoder.mean) / encoder.std
    torch.testing.assert_close(seen[0], expected)
    assert (expected * encoder.std + encoder.mean - patches.flatten(0, 2)).abs().max() > 0.05
    assert torch.equal(build(patch_views="").augmented(patches, b.index, 0.5), patches)


# -------------------------------------------------------------------------------------------------------- closed forms


def test_predictions_of_nothing_cost_the_logarithm_of_all_patches() -> None:
    method = build()
    for p in method.W.parameters():
        nn.init.zeros_(p)
    expected = math.log(N * ROWS**2)
    assert method(batch(), 0.0).loss.item() == pytest.approx(expected, rel=1e-6)
    assert method.chance_loss == pytest.approx(expected)


def test_context_and_matrices_are_trained() -> None:
    method = build()
    [group] = method.param_groups()
    assert {id(p) for p in group.params} == {id(p) for p in method.parameters()}


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        (
            {"patch": 16},
            r"views of 15 px have 0 rows of patches \(--patch 16, --stride 3\), too few to predict 3 ahead: "
            "lower --steps-to-predict or --patch",
        ),
        ({"steps_to_predict": 3}, "views of 15 px have 4 rows of patches .* too few to predict 4 ahead"),
        ({"views": RECIPES["moco-v2/tiny"].views}, "takes one view, not 2"),
        ({"directions": 5}, "--directions must be at most 4, not 5"),
        ({"stages": 2}, "--stages must be at least 3, not 2"),
        ({"patch": 0}, "--patch must be at least 2, not 0"),
        ({"stride": 0}, "--stride must be at least 1, not 0"),
        ({"steps_to_ignore": -1}, "--steps-to-ignore must not be negative, not -1"),
        ({"tau": 0.0}, "--tau must be above 0, not 0"),
        ({"patch_views": "cpc-v3"}, "unknown views 'cpc-v3', did you mean 'cpc-v"),
        (
            {"encoder": "timm:resnet10t"},
            "only tiny and untrained torchvision ResNets support layer norm, not timm:resnet10t",
        ),
    ],
)
def test_numbers_that_do_not_fit_are_refused(numbers: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        build(**numbers)


def test_an_image_smaller_than_a_patch_is_refused() -> None:
    encoder = build().online.encoder
    with pytest.raises(UserError, match="images of 5 px are smaller than a patch of 6"):
        encoder(torch.rand(1, 3, 5, 8))
