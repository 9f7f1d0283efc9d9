"""MAE against its equation, as loops in float64, against the official forward, and its code's choices one by one."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastkit import rng
from contrastkit.errors import UserError
from contrastkit.methods import RECIPES, BuildContext
from contrastkit.methods.mae import MAE, MAERecipe
from contrastkit.parts.build import build_encoder
from contrastkit.parts.patches import assembled, moments, patches
from tests.methods.small import batch

N, SIZE, SIDE, SEED = 4, 24, 4, 3
L, KEPT = 36, 9
SMALL = {"width": 32, "depth": 2, "heads": 4, "decoder_width": 16, "decoder_depth": 2, "decoder_heads": 2, "batch": N}


def recipe(**numbers: Any) -> MAERecipe:
    base = RECIPES["mae/tiny"]
    assert isinstance(base, MAERecipe)
    return replace(base, **SMALL | numbers)


def context(**changes: Any) -> BuildContext:
    return BuildContext(**{"channels": 3, "size": SIZE, "images": 64, "seed": SEED} | changes)


def build(**numbers: Any) -> MAE:
    torch.manual_seed(0)
    return recipe(**numbers).build(context()).train()


def pixel(images: Tensor, n: int, patch: int, number: int) -> float:
    """Number ``number`` of a patch: patches and pixels row by row, channels last."""
    row, column = divmod(patch, SIZE // SIDE)
    place, channel = divmod(number, 3)
    return images[n, channel, row * SIDE + place // SIDE, column * SIDE + place % SIDE].item()


def loss_loop(predicted: Tensor, images: Tensor, hidden: Tensor, *, norm_pix: bool) -> float:
    """Sec. 3: the squared error of the hidden patches alone, over each patch's own deviation (unbiased)."""
    P, total = SIDE * SIDE * 3, 0.0
    for n in range(len(images)):
        for k, patch in enumerate(hidden[n].tolist()):
            x = [pixel(images, n, patch, p) for p in range(P)]
            if norm_pix:
                mean = sum(x) / P
                variance = sum((value - mean) ** 2 for value in x) / (P - 1)
                x = [(value - mean) / math.sqrt(variance + 1e-6) for value in x]
            total += sum((predicted[n, k, p].item() - x[p]) ** 2 for p in range(P)) / P
    return total / hidden.numel()


@pytest.mark.parametrize("norm_pix", [True, False])
def test_loss_is_the_error_of_the_hidden_patches(norm_pix: bool) -> None:
    method, b, outputs = build(norm_pix=norm_pix), batch(N, (SIZE,)), list[Tensor]()
    method.online.register_forward_hook(lambda *args: outputs.append(args[2]))
    loss = method(b, 0.25).loss.item()
    _, hidden = method.mask(b.index, 0.25)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (b.views[0].double() - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    assert outputs[0].shape == (N, L - KEPT, SIDE * SIDE * 3)
    assert loss == pytest.approx(loss_loop(outputs[0], normalised, hidden, norm_pix=norm_pix), rel=1e-5)


def test_the_deviation_of_a_patch_is_unbiased() -> None:
    x = torch.tensor([[[1.0, 2.0, 6.0], [5.0, 5.0, 5.0]]])
    mean, deviation = moments(x)
    assert mean.flatten().tolist() == [3, 5]
    assert deviation.flatten().tolist() == pytest.approx([math.sqrt(7 + 1e-6), 1e-3])  # 14 / 2, not 14 / 3


def test_patches_go_row_by_row_and_back() -> None:
    images = torch.rand(2, 3, SIZE, 2 * SIZE)
    parts = patches(images, SIDE)
    assert parts.shape == (2, 2 * L, 48)
    assert torch.equal(assembled(parts, SIDE, 2 * SIZE // SIDE), images)
    square = patches(images[..., :SIZE], SIDE)
    expected = [[pixel(images, 1, patch, p) for p in range(48)] for patch in range(L)]
    assert square[1].tolist() == expected


def test_a_mask_is_a_function_of_seed_step_and_image() -> None:
    method = build()
    index = torch.tensor([5, 40, 7])
    shown, hidden = method.mask(index, 0.5)
    for n, image in enumerate(index.tolist()):
        noise = rng.uniform(SEED, 2**39, torch.tensor([image]), -8, L)[0].tolist()
        order = sorted(range(L), key=noise.__getitem__)
        assert shown[n].tolist() == order[:KEPT] and hidden[n].tolist() == order[KEPT:]
    alone = method.mask(torch.tensor([40]), 0.5)
    assert torch.equal(alone[0][0], shown[1]) and torch.equal(alone[1][0], hidden[1])
    others = [method.mask(index, 0.5 + 2**-20), recipe().build(context(seed=SEED + 1)).mask(index, 0.5)]
    assert not any(torch.equal(other, shown) for other, _ in others)


def test_every_patch_is_hidden_as_often() -> None:
    _, hidden = build().mask(torch.arange(4000), 0.0)
    share = torch.bincount(hidden.flatten(), minlength=L) / 4000
    assert share.mean() == pytest.approx(0.75) and (share - 0.75).abs().max() < 0.03


def positions(grid: int, dim: int) -> Tensor:
    """Of util/pos_embed.py: half of the dimensions for the column, half for the row; the class token has zeros."""
    rows = [[0.0] * dim]
    for row in range(grid):
        for column in range(grid):
            values: list[float] = []
            for place in (column, row):
                angles = [place / 10000 ** (i / (dim // 4)) for i in range(dim // 4)]
                values += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            rows.append(values)
    return torch.tensor(rows, dtype=torch.float64)


def transformer(x: Tensor, state: dict[str, Tensor], prefix: str, depth: int, heads: int) -> Tensor:
    """Pre-norm blocks of attention and a GELU layer, then a norm."""

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return scaled * state[f"{prefix}{name}.weight"] + state[f"{prefix}{name}.bias"]

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ state[f"{prefix}{name}.weight"].T + state[f"{prefix}{name}.bias"]

    for k in range(depth):
        block = f"blocks.{k}"
        q, keys, v = linear(norm(x, f"{block}.norm1"), f"{block}.attn.qkv").chunk(3, dim=-1)
        parts = []
        for head in range(heads):
            own = slice(head * q.shape[-1] // heads, (head + 1) * q.shape[-1] // heads)
            scores = q[..., own] @ keys[..., own].transpose(1, 2) / math.sqrt(q.shape[-1] // heads)
            parts.append(scores.softmax(-1) @ v[..., own])
        x = x + linear(torch.cat(parts, -1), f"{block}.attn.proj")
        hidden = linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1")
        x = x + linear(hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2, f"{block}.mlp.fc2")
    return norm(x, "norm")


def official(state: dict[str, Tensor], images: Tensor, noise: Tensor) -> Tensor:
    """The forward of models_mae.py as the paper describes it (Sec. 3), on normalised images: shuffle, drop, encode,
    append mask tokens, unshuffle, decode, and average the error over a mask of all patches."""
    trunk, grid = "online.encoder.trunk.", SIZE // SIDE
    shuffle = noise.argsort(1)
    restore = shuffle.argsort(1)
    projected = F.conv2d(
        images, state[f"{trunk}patch_embed.proj.weight"], state[f"{trunk}patch_embed.proj.bias"], stride=SIDE
    )
    x = projected.flatten(2).transpose(1, 2) + positions(grid, 32)[1:]
    x = torch.stack([tokens[order[:KEPT]] for tokens, order in zip(x, shuffle, strict=True)])
    x = torch.cat([state[f"{trunk}cls_token"].expand(len(x), -1, -1), x], dim=1)
    x = transformer(x, state, trunk, depth=2, heads=4)

    decoder = "online.decoder."
    x = x @ state[f"{decoder}embed.weight"].T + state[f"{decoder}embed.bias"]
    every = torch.cat([x[:, 1:], state[f"{decoder}mask_token"].expand(len(x), L - KEPT, -1)], dim=1)
    every = torch.stack([tokens[order] for tokens, order in zip(every, restore, strict=True)])
    x = torch.cat([x[:, :1], every], dim=1) + positions(grid, 16)
    x = transformer(x, state, decoder, depth=2, heads=2)
    predicted = (x @ state[f"{decoder}predict.weight"].T + state[f"{decoder}predict.bias"])[:, 1:]

    target = images.reshape(len(images), 3, grid, SIDE, grid, SIDE)
    target = torch.einsum("nchpwq->nhwpqc", target).reshape(len(images), L, -1)
    target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
    mask = torch.ones(len(images), L, dtype=torch.float64)
    mask[:, :KEPT] = 0
    mask = mask.gather(1, restore)
    return ((predicted - target).square().mean(-1) * mask).sum() / mask.sum()


def test_loss_and_gradients_are_those_of_the_official_forward() -> None:
    method, b = build(), batch(N, (SIZE,), index=torch.tensor([9, 3, 60, 4]))
    with torch.no_grad():
        for p in method.parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn_like(p))  # biases and scales at 0 and 1 would hide a mistake
    out = method(b, 0.75)
    out.loss.backward()
    state = {name: p.detach().double().requires_grad_() for name, p in method.named_parameters()}
    images = method.online.encoder.normalise(b.views[0]).double()
    expected = official(state, images, rng.uniform(SEED, rng.at_step(0.75), b.index, rng.MASKS, L))
    expected.backward()
    assert out.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    trained = {name: p for name, p in method.named_parameters() if p.requires_grad}
    assert trained.keys() == state.keys() - {"online.encoder.trunk.pos_embed"}
    for name, p in trained.items():
        reference = state[name].grad
        assert p.grad is not None and reference is not None, name
        torch.testing.assert_close(p.grad.double(), reference, rtol=1e-3, atol=1e-6, msg=(name + ": {}").format)


def test_the_encoder_sees_the_visible_patches_alone() -> None:
    method, b = build(), batch(N, (SIZE,))
    lengths: dict[str, set[int]] = {"encoder": set(), "decoder": set()}
    for name, blocks in (("encoder", method.online.encoder.trunk.blocks), ("decoder", method.online.decoder.blocks)):
        for block in blocks:
            block.register_forward_pre_hook(lambda module, args, name=name: lengths[name].add(args[0].shape[1]))
    method(b, 0.0)
    assert lengths == {"encoder": {1 + KEPT}, "decoder": {1 + L}}


def test_what_is_hidden_does_not_reach_the_predictions() -> None:
    method, b = build().eval(), batch(N, (SIZE,))
    shown, hidden = method.mask(b.index, 0.0)
    parts = patches(b.views[0], SIDE)
    one, two = parts.clone(), parts.clone()
    for n in range(N):
        one[n, hidden[n]] = 0.5
        two[n, shown[n, 0]] = 0.5
    before, same, other = (method.online(assembled(x, SIDE, SIZE // SIDE), shown, hidden) for x in (parts, one, two))
    assert torch.equal(before, same) and not torch.allclose(before, other)


def test_positions_are_maes_and_fixed() -> None:
    method = build()
    table = method.online.encoder.trunk.pos_embed
    torch.testing.assert_close(table[0].double(), positions(SIZE // SIDE, 32), atol=1e-6, rtol=0)
    torch.testing.assert_close(
        method.online.decoder.positions[0].double(), positions(SIZE // SIDE, 16), atol=1e-6, rtol=0
    )
    assert not table.requires_grad and "online.decoder.positions" not in dict(method.named_parameters())


def test_matrices_begin_xavier_uniform_and_norms_have_the_papers_epsilon() -> None:
    method = build(width=64)
    trunk, decoder = method.online.encoder.trunk, method.online.decoder
    bounds = {
        trunk.patch_embed.proj: 6 / (3 * SIDE * SIDE + 64),  # a convolution, as a linear layer
        trunk.blocks[1].attn.qkv: 6 / (64 + 3 * 64),
        trunk.blocks[0].mlp.fc1: 6 / (64 + 256),
        decoder.embed: 6 / (64 + 16),
        decoder.predict: 6 / (16 + 48),
    }
    for layer, square in bounds.items():
        largest = layer.weight.abs().max().item()
        assert 0.95 * math.sqrt(square) < largest <= math.sqrt(square), layer
        assert isinstance(layer, nn.Conv2d) or not layer.bias.any()
    for token in (trunk.cls_token, decoder.mask_token):
        assert 0.01 < token.std() < 0.03
    assert {m.eps for m in method.modules() if isinstance(m, nn.LayerNorm)} == {1e-6}


def test_features_that_differ_little_are_no_collapse() -> None:
    method = build()
    assert not method.can_collapse and method.chance_loss is None


def test_adamw_has_maes_betas_and_spares_biases_and_norms() -> None:
    method = build()
    optimizer = method.recipe.build_optimizer(method)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert [(group["betas"], group["weight_decay"]) for group in optimizer.param_groups] == [
        ((0.9, 0.95), 0.05), ((0.9, 0.95), 0.0)
    ]  # fmt: skip
    matrices, rest = ({p.ndim for p in group["params"]} for group in optimizer.param_groups)
    assert matrices == {2, 3, 4} and rest == {1}  # the tokens are decayed, as in main_pretrain.py


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_the_encoder_of_a_run_is_built_again_from_its_options(pool: str) -> None:
    method, x = build(pool=pool).eval(), batch(N, (SIZE,)).views[0]
    options = json.loads(json.dumps(method.recipe.encoder_options(context())))
    again = build_encoder(**options).eval()
    again.load_state_dict(method.online.encoder.state_dict())
    tokens = again.trunk.forward_features(again.normalise(x))
    expected = tokens[:, 0] if pool == "token" else tokens[:, 1:].mean(1)
    assert torch.equal(again(x), expected)
    assert torch.equal(method.embed(x), expected)


def test_a_reconstruction_keeps_what_is_visible_and_fills_in_the_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    method, b = build().eval(), batch(N, (SIZE,))
    x = b.views[0]
    shown, hidden = method.mask(b.index, 0.5)
    # An oracle's predictions: then the reconstruction is the image.
    monkeypatch.setattr(method.online, "forward", lambda images, shown, hidden: method.targets(images, hidden))
    masked, filled = method.reconstruct(x, b.index, 0.5)
    torch.testing.assert_close(filled, x, atol=1e-5, rtol=0)
    parts, original = patches(masked, SIDE), patches(x, SIDE)
    for n in range(N):
        torch.testing.assert_close(parts[n, shown[n]], original[n, shown[n]], atol=1e-6, rtol=0)
        colours = parts[n, hidden[n]].view(-1, 3)
        torch.testing.assert_close(colours, torch.tensor([0.485, 0.456, 0.406]).expand_as(colours))


def test_a_module_is_trained_as_it_is() -> None:
    module = timm.create_model("test_vit", img_size=SIZE, patch_size=SIDE, num_classes=0)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    method = recipe().build(context(encoder=module))
    assert method.online.encoder.trunk is module
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    with pytest.raises(UserError, match=r"the transformer is built for images of 24 px: choose --size 24"):
        recipe(views=RECIPES["mae/32"].views).build(context(encoder=module))


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ({"mask_ratio": 0.0}, r"--mask-ratio must lie in \(0, 1\), not 0.0"),
        ({"mask_ratio": 1.0}, r"--mask-ratio must lie in \(0, 1\), not 1.0"),
        ({"mask_ratio": 0.99}, "--mask-ratio 0.99 leaves none of a view's 36 patches visible: change it"),
        ({"mask_ratio": 1e-9}, "--mask-ratio 1e-09 leaves none of a view's 36 patches masked: change it"),
        ({"patch_size": 24}, "leaves none of a view's 1 patches visible: change it, or lower --patch-size"),
        ({"patch_size": 5}, "a view of 24 pixels does not divide into this transformer's patches of 5"),
        ({"patch_size": 0}, "a view of 24 pixels does not divide into this transformer's patches of 16"),
        (
            {"encoder": "tiny"},
            "mae hides patches from a vision transformer .*, which this encoder is not: use one like",
        ),
        ({"encoder": "timm:resnet10t"}, "which this encoder is not: use one like timm:vit_base_patch16_224"),
        ({"encoder": "timm:vit_small_patch16_224.dino", "pool": "token", "heads": 5}, "cannot be built"),
        ({"width": 30, "heads": 2}, "the positions need a width that is a multiple of 4, not 30: change --width"),
        ({"decoder_width": 18}, "--decoder-width must be a multiple of 4, for its positions, and of --decoder-heads 2"),
        ({"decoder_heads": 3}, "and of --decoder-heads 3, not 16"),
        ({"views": RECIPES["moco-v3/tiny"].views}, "takes one view, not 2"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(numbers: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        recipe(**numbers).build(context())


def test_a_transformer_with_more_tokens_than_patches_is_refused() -> None:
    """Register tokens, or no class token: which rows are patches is then another question."""
    for name in ("deit_tiny_distilled_patch16_224", "vit_base_patch16_siglip_224"):
        with torch.device("meta"), pytest.raises(UserError, match="which this encoder is not"):
            recipe(encoder=f"timm:{name}").build(context())


@pytest.mark.parametrize(("patches", "ratio", "seen"), [(196, 0.75, 49), (196, 0.8, 39), (40, 0.9, 4), (16, 0.75, 4)])
def test_as_many_patches_are_visible_as_in_the_official_code(patches: int, ratio: float, seen: int) -> None:
    """int(L (1 - ratio)), but for the rounding of 40 x (1 - 0.9)."""
    assert recipe(mask_ratio=ratio).visible(patches) == seen
