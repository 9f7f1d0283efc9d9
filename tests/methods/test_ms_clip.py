"""MS-CLIP: what is shared and what is not, against CLIP of the same shape and blocks written out in float64."""

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

import contrastkit
from contrastkit.cli.main import main
from contrastkit.errors import UserError
from contrastkit.methods import RECIPES, BuildContext
from contrastkit.methods.clip import CLIP, CLIPRecipe
from contrastkit.methods.ms_clip import MSCLIPRecipe
from contrastkit.parts.joint import ImageTextEncoder
from contrastkit.parts.shared import Share, parameters
from contrastkit.parts.text import padded
from contrastkit.parts.vit import ResidualStem
from contrastkit.types import Batch
from tests.methods import small
from tests.methods.small import captions, gradients
from tests.methods.test_clip import expected_loss

N, WIDTH, DEPTH, HEADS, DIM, SIDE = 8, 16, 3, 2, 12, 16
MODES: tuple[Share, ...] = ("all", "attention", "none")
TRAINING = ["--device=cpu", "--batch=32", "--size=12", "--width=16", "--depth=2", "--heads=2", "--dim=16"]


def recipe(**numbers: Any) -> MSCLIPRecipe:
    row = RECIPES["ms-clip/tiny"]
    assert isinstance(row, MSCLIPRecipe)
    sizes = {"width": WIDTH, "depth": DEPTH, "heads": HEADS, "dim": DIM}
    return replace(row, **{"batch": N, "vocabulary": 300, "epochs": 10, **sizes, **numbers})


def context() -> BuildContext:
    return BuildContext(channels=3, size=SIDE, images=N, seed=3, captions=captions(N))


def build(**numbers: Any) -> CLIP:
    torch.manual_seed(0)
    method = recipe(**numbers).build(context()).train()
    assert isinstance(method, CLIP)
    return method


def batch() -> Batch:
    return small.batch(N, (SIDE,))


def tokens(method: CLIP) -> Tensor:
    ids, _ = method.tokenizer.encode(["one", "a longer text", "x y z"])
    return padded(ids, method.tokenizer.end)


# --------------------------------------------------------------------------------------------------------- the numbers


@pytest.mark.parametrize("activation", ["gelu", "quickgelu"])
def test_sharing_nothing_is_clip_with_such_a_transformer(activation: Any) -> None:
    """As many parameters, and with equal weights the same features, loss and chance."""
    ours = build(share="none", activation=activation)
    row = RECIPES["clip/tiny"]
    assert isinstance(row, CLIPRecipe)
    sizes = {"text_width": WIDTH, "text_layers": DEPTH, "text_heads": HEADS, "dim": DIM, "activation": activation}
    numbers = {"batch": N, "vocabulary": 300, "epochs": 10}
    vit: dict[str, Any] = {"patch_size": 4, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    if activation == "quickgelu":
        vit["act_layer"] = "quick_gelu"

    class WithTransformer(CLIPRecipe):
        def encoder_options(self, context: BuildContext) -> dict[str, Any]:
            return super().encoder_options(context) | {"name": "timm:vit_base_patch32_clip_224", "vit": vit}

    clip = WithTransformer(**{**vars(row), **sizes, **numbers}).build(context()).train()
    assert {k: v.shape for k, v in clip.state_dict().items()} == {k: v.shape for k, v in ours.state_dict().items()}
    clip.load_state_dict(ours.state_dict())
    assert torch.equal(clip(batch(), 0.5).loss, ours(batch(), 0.5).loss)
    assert torch.equal(clip.text(tokens(ours)), ours.text(tokens(ours)))
    assert clip.chance_loss == ours.chance_loss == math.log(N)


def norm(x: Tensor, layer: nn.Module) -> Tensor:
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt() * layer.weight.double() + layer.bias.double()


def linear(x: Tensor, layer: Any) -> Tensor:
    return x @ layer.weight.double().T + layer.bias.double()


def block(x: Tensor, norms: Any, attention: Any, mlp: Any, *, causal: bool) -> Tensor:
    """A block of one sequence [L, width], head by head and place by place (Vaswani et al. 2017, Sec. 3)."""
    q, k, v = linear(norm(x, norms.norm1), attention.qkv).chunk(3, dim=1)
    C, places = WIDTH // HEADS, len(x)
    seen = torch.zeros_like(x)
    for head in range(HEADS):
        at = slice(head * C, (head + 1) * C)
        for i in range(places):
            last = i + 1 if causal else places
            weights = torch.softmax(torch.stack([q[i, at] @ k[j, at] for j in range(last)]) / C**0.5, 0)
            seen[i, at] = sum(w * v[j, at] for j, w in enumerate(weights))
    x = x + linear(seen, attention.proj)
    return x + linear(F.gelu(linear(norm(x, norms.norm2), mlp.fc1)), mlp.fc2)


def test_both_towers_compute_with_the_image_towers_matrices() -> None:
    """Written out: images through its blocks with their norms, texts through the same matrices with theirs."""
    method = build(share="all").eval()
    with torch.no_grad():  # norms that differ, or they could be confused
        for p in method.parameters():
            if p.ndim == 1:
                p.add_(0.3 * torch.randn_like(p))
    trunk: Any = method.online.encoder.trunk
    image = torch.rand(1, 3, SIDE, SIDE)
    x = trunk.patch_embed(method.online.encoder.normalise(image))[0].double()
    x = torch.cat([trunk.cls_token[0].double(), x]) + trunk.pos_embed[0].double()
    x = norm(x, trunk.norm_pre)
    for layer in trunk.blocks:
        x = block(x, layer, layer.attn, layer.mlp, causal=False)
    expected = norm(x[0], trunk.norm) @ method.online.head.weight.double().T
    torch.testing.assert_close(method.online(image)[0].double(), expected, atol=1e-5, rtol=1e-4)

    (ids,), _ = method.tokenizer.encode(["a longer text"])
    y = method.text.tokens.weight[ids].double() + method.text.positions[: len(ids)].double()
    for own, layer in zip(method.text.blocks, trunk.blocks, strict=True):
        y = block(y, own, layer.attn, layer.mlp, causal=True)
    expected = norm(y[-1], method.text.norm) @ method.text.projection.weight.double().T
    torch.testing.assert_close(method.text(torch.tensor([ids]))[0].double(), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("share", MODES)
@pytest.mark.parametrize("loss", ["clip", "siglip"])
def test_loss_and_gradients_are_clips(share: Share, loss: str) -> None:
    """Those of shared parameters too: the sum of what images and texts want."""
    method, b = build(share=share, loss=loss), batch()
    assert method.captions is not None
    ids = method.captions.draw(b.index, seed=3, epoch=5)
    texts = [captions(N).texts[c].lower() for c in ids]
    z = method.online(b.views[0]).double()
    y = method.text.encode(texts, method.tokenizer).double()
    x, y = (v / v.norm(dim=1, keepdim=True) for v in (z, y))
    expected = expected_loss(
        x, y, texts, torch.exp(method.log_t.double()), None if method.b is None else method.b.double()
    )
    actual = method(b, 0.5).loss
    assert actual.item() == pytest.approx(expected.item(), rel=1e-5)
    for g, g_expected in zip(gradients(actual, method), gradients(expected, method), strict=True):
        torch.testing.assert_close(g, g_expected, atol=3e-4 * g_expected.abs().max().clamp(min=1e-3).item(), rtol=0)


# ------------------------------------------------------------------------------------------------------------- sharing


@pytest.mark.parametrize(("share", "moves"), [("all", True), ("attention", True), ("none", False)])
def test_images_alone_move_texts_where_blocks_are_shared(share: Share, moves: bool) -> None:
    method = build(share=share)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    before = method.text(tokens(method)).detach()
    method.online(batch().views[0]).square().sum().backward()
    optimizer.step()
    assert torch.equal(method.text(tokens(method)), before) is not moves


@pytest.mark.parametrize("copied", [False, True])
def test_what_is_shared_has_one_storage_and_norms_have_their_own(copied: bool) -> None:
    """Also in a copy of the method, and in another type."""
    for share, names in (("all", {"qkv", "out", "hidden", "mlp_out"}), ("attention", {"qkv", "out"}), ("none", set())):
        method: Any = build(share=share)
        method = copy.deepcopy(method).double() if copied else method
        for own, image in zip(method.text.blocks, method.online.encoder.trunk.blocks, strict=True):
            pairs = {"qkv": image.attn.qkv, "out": image.attn.proj, "hidden": image.mlp.fc1, "mlp_out": image.mlp.fc2}
            for name, theirs in pairs.items():
                ours = getattr(own, name)
                assert (ours.weight.data_ptr() == theirs.weight.data_ptr()) is (name in names), (share, name)
                assert (ours.bias.data_ptr() == theirs.bias.data_ptr()) is (name in names), (share, name)
                assert ours.weight.dtype == (torch.float64 if copied else torch.float32)
            assert own.norm1 is not image.norm1 and own.norm2 is not image.norm2
            assert own.norm1.weight.data_ptr() != image.norm1.weight.data_ptr()


def test_parameters_are_counted_once_and_told() -> None:
    """By hand: a block has 3 w^2 + 3 w and w^2 + w of attention, 8 w^2 + 5 w of perceptron, two norms of 2 w."""
    w, words, context = WIDTH, build().tokenizer.size, 77
    norms, attention, mlp = DEPTH * 4 * w, DEPTH * (4 * w * w + 4 * w), DEPTH * (8 * w * w + 5 * w)
    # patches, class token, positions, first and last norm, projection
    images = 3 * 4 * 4 * w + w + 17 * w + 4 * w + norms + w * DIM
    texts = words * w + context * w + 2 * w + norms + w * DIM
    expected = {
        "all": (images, texts, attention + mlp),
        "attention": (images + mlp, texts + mlp, attention),
        "none": (images + attention + mlp, texts + attention + mlp, 0),
    }
    for share, counts in expected.items():
        method = build(share=share)
        assert parameters(method.online, method.text) == counts
        assert sum(counts) + 1 == sum(p.numel() for p in method.parameters())  # and the temperature
    assert build(share="all").notices[-1] == (
        f"{images:,} parameters of images, {texts:,} of texts, {attention + mlp:,} of both: {sum(expected['all']):,}"
    )


def test_blocks_start_as_clips_text_transformer() -> None:
    torch.manual_seed(0)
    method: Any = recipe(width=128, heads=4, depth=4).build(context())
    for layer in method.online.encoder.trunk.blocks:
        deviations = {
            layer.attn.qkv: 128**-0.5, layer.attn.proj: 128**-0.5 * 8**-0.5, layer.mlp.fc1: 256**-0.5,
            layer.mlp.fc2: 128**-0.5 * 8**-0.5,
        }  # fmt: skip
        for matrix, std in deviations.items():
            assert matrix.weight.std().item() == pytest.approx(std, rel=0.03)
        assert not layer.attn.qkv.bias.any()
    assert method.online.encoder.trunk.pos_embed.std().item() == pytest.approx(128**-0.5, rel=0.1)


# ------------------------------------------------------------------------------------------------- early specialisation


def test_the_stem_takes_the_first_block_of_images_and_texts_keep_one() -> None:
    method: Any = build(early_specialisation=True)
    trunk, blocks = method.online.encoder.trunk, method.text.blocks
    assert (len(trunk.blocks), len(blocks)) == (DEPTH - 1, DEPTH)
    assert isinstance(trunk.patch_embed.proj, ResidualStem)
    assert [name for name, _ in blocks[0].named_children()] == ["norm1", "norm2", "qkv", "out", "hidden", "mlp_out"]
    for own, image in zip(blocks[1:], trunk.blocks, strict=True):
        assert own.qkv is image.attn.qkv and own.mlp_out is image.mlp.fc2


@pytest.mark.parametrize(("side", "channels"), [(2, [16]), (4, [8, 16]), (32, [1, 2, 4, 8, 16])])
def test_the_stem_halves_and_doubles(side: int, channels: list[int]) -> None:
    """Of ViT-B/32 in the official code 48, 96, 192, 384 and 768 channels; its residual layers as a convolution each, of
    which the shortcut is the centre."""
    torch.manual_seed(0)
    stem: Any = ResidualStem(3, 16, side.bit_length() - 1).eval()
    x = torch.rand(2, 3, 64, 64)
    convolutions = [m for m in stem.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert [m.out_channels for m in convolutions] == channels
    assert stem(x).shape == (2, 16, 64 // side, 64 // side)
    y = F.relu(F.conv2d(x, stem[0].weight, stride=2, padding=1) / (1 + 1e-5) ** 0.5)
    for layer in list(stem)[3:-1]:
        kernel = layer.conv.weight.clone()
        kernel[:, :, 1, 1] += layer.shortcut.weight[:, :, 0, 0]
        y = F.relu(F.conv2d(y, kernel, stride=2, padding=1) / (1 + 1e-5) ** 0.5)
    torch.testing.assert_close(stem(x), F.conv2d(y, stem[-1].weight))


# ------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ({"width": 18, "heads": 4}, "--width 18 must be a multiple of --heads 4"),
        ({"patch_size": 5}, "a view of 16 pixels does not divide into this transformer's patches of 5: --size"),
        ({"encoder": "resnet18"}, "ms-clip shares the blocks of a plain vision transformer, which this encoder is not"),
        ({"encoder": "tiny"}, "ms-clip shares the blocks of a plain vision transformer, which this encoder is not"),
        ({"encoder": "timm:eva02_tiny_patch14_224"}, "ms-clip shares the blocks of a plain vision transformer"),
        (
            {"encoder": "timm:vit_giant_patch14_reg4_dinov2", "width": 20},
            "ms-clip shares the blocks of a plain vision transformer",
        ),
        ({"share": "norms"}, "--share must be one of all, attention, none, not 'norms'"),
        ({"early_specialisation": True, "depth": 1}, "a residual stem takes the place of the first of"),
        ({"early_specialisation": True, "patch_size": 16, "width": 12, "heads": 3}, "multiple of 8, not 12"),
        ({"batch": 1}, "a batch of one pair has no negatives"),
    ],
)
def test_what_cannot_be_shared_is_refused(numbers: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        build(**numbers)


def test_a_module_is_refused() -> None:
    with pytest.raises(UserError, match="name an encoder instead of giving a module"):
        recipe().build(replace(context(), encoder=nn.Flatten()))


# ------------------------------------------------------------------------------------------------------------- the run


def train(data: Path, out: Path, *more: str) -> int:
    given = ["train", "ms-clip", f"--data={data}", f"--out={out}", "--val-fraction=0.4", "--monitor-every=0", *TRAINING]
    return main([*given, *more])


@pytest.mark.parametrize(
    "more",
    [
        ("--early-specialisation",),
        pytest.param((), marks=pytest.mark.slow),
        pytest.param(("--share=attention",), marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_ends_as_one_that_never_stopped(captioned: Path, tmp_path: Path, more: tuple[str, ...]) -> None:
    """Its files hold what is shared once, and give both towers."""
    half, whole = tmp_path / "half", tmp_path / "whole"
    assert train(captioned, whole, "--epochs=2", *more) == 0
    assert train(captioned, half, "--epochs=2", "--stop-after=1", *more) == 0
    assert main(["train", "ms-clip", "--resume", str(half)]) == 0
    ours, theirs = contrastkit.load(half), contrastkit.load(whole)
    assert isinstance(ours, ImageTextEncoder) and isinstance(theirs, ImageTextEncoder)
    images, texts = torch.rand(3, 3, 12, 12), ["a red square", "something else entirely"]
    assert torch.equal(ours.text(texts), theirs.text(texts)) and torch.equal(ours.image(images), theirs.image(images))

    method: Any = contrastkit.loading.load_method(whole)
    assert torch.equal(theirs.image(images), F.normalize(method.online(images), dim=1))
    assert torch.equal(theirs.text(texts), F.normalize(method.text.encode(texts, method.tokenizer), dim=1))
    encoder, text = load_file(whole / "encoder.safetensors"), load_file(whole / "text.safetensors")
    assert "trunk.blocks.0.attn.qkv.weight" in encoder
    assert [name for name in text if ".qkv." in name] == (
        ["text.blocks.0.qkv.bias", "text.blocks.0.qkv.weight"] if "--early-specialisation" in more else []
    )
    weights = [v for v in (*encoder.values(), *text.values()) if v.is_floating_point()]
    buffers = sum(b.numel() for b in method.buffers() if b.is_floating_point())
    assert sum(v.numel() for v in weights) == sum(p.numel() for p in method.parameters()) + buffers


def test_commands_on_encoders_and_texts_take_its_run(
    captioned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert train(captioned, out, "--epochs=1", "--early-specialisation") == 0
    told = capsys.readouterr().out
    assert "parameters of images" in told and "of both" in told
    assert main(["retrieve", str(out)]) == 0
    sheet = f"--sheet={tmp_path / 'attend.png'}"
    assert main(["attend", str(out), str(captioned / "images" / "000.png"), "--size=16", sheet]) == 0
    assert main(["export", str(out), "--to=timm", f"--out={tmp_path / 'timm'}"]) == 2
    assert "its first block is a residual stem" in capsys.readouterr().err
