"""Maps of patches: attention, similarity and components, against loops."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contrastkit.cli.main import main
from contrastkit.errors import UserError
from contrastkit.explore import attend
from contrastkit.explore.attending import draw_maps
from contrastkit.parts.attention import class_attention
from contrastkit.parts.build import build_encoder
from tests.explore.photos import photo


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("photos")
    for i in range(2):
        photo(i, 16).save(root / f"{i}.png")
    return [root / "0.png", root / "1.png"]


def test_attention_is_that_of_loops() -> None:
    """The last layer's queries, keys and softmax, written out in float64."""
    torch.manual_seed(0)
    vit = {"depth": 2, "embed_dim": 12, "num_heads": 3, "reg_tokens": 2, "patch_size": 8}
    encoder = build_encoder("timm:vit_tiny_patch16_224", channels=3, size=24, vit=vit).double().eval()
    images = torch.rand(2, 3, 24, 16).double()
    encoder.trunk.set_input_size((24, 16))
    with torch.no_grad():
        found = class_attention(encoder, images)
        trunk = encoder.trunk
        x = trunk.norm_pre(trunk.patch_drop(trunk._pos_embed(trunk.patch_embed(encoder.normalise(images)))))
        last = trunk.blocks[-1]
        x = last.norm1(trunk.blocks[0](x))
        weight, bias = last.attn.qkv.weight.detach(), last.attn.qkv.bias.detach()
    assert found.shape == (2, 3, 3, 2)
    for n in range(2):
        for head in range(3):
            rows = slice(4 * head, 4 * head + 4)
            q = weight[rows] @ x[n, 0] + bias[rows]
            scores = []
            for token in range(3 + 6):
                key = weight[12:24][rows] @ x[n, token] + bias[12:24][rows]
                scores.append(float(q @ key) / math.sqrt(4))
            total = sum(map(math.exp, scores))
            expected = [math.exp(s) / total for s in scores[3:]]
            np.testing.assert_allclose(found[n, head].detach().flatten(), expected, rtol=1e-6)
    assert last.attn.fused_attn, "left as it was"
    assert not last.attn.attn_drop._forward_hooks


@pytest.mark.parametrize("name", ["tiny", "resnet18", "timm:vit_relpos_small_patch16_224"])
def test_encoders_without_a_class_token_have_no_attention(name: str) -> None:
    if name.startswith("timm"):
        encoder = build_encoder(name, channels=3, size=32, vit={"depth": 1, "embed_dim": 12, "num_heads": 2})
    else:
        encoder = build_encoder(name, channels=3, size=32)
    assert class_attention(encoder.eval(), torch.rand(1, 3, 32, 32)) is None


def test_similarity_and_components_are_those_of_the_maps(moco_run: Path, files: list[Path], tmp_path: Path) -> None:
    from contrastkit import load
    from contrastkit.augment.plain import plain_view

    report = attend(moco_run, files, size=32, at=(0.8, 0.3), device="cpu")
    assert report.grid == (4, 4) and report.patch == (1, 3) and report.attention is None and report.entropy is None
    with torch.no_grad():
        maps = load(moco_run).maps(report.images).double()
    for n in range(2):
        chosen = maps[n, :, 1, 3]
        for row in range(4):
            for column in range(4):
                other = maps[n, :, row, column]
                expected = chosen @ other / chosen.norm() / other.norm()
                assert report.similarity[n, row, column].item() == pytest.approx(expected.item(), abs=1e-5)
    flat = maps.permute(0, 2, 3, 1).reshape(32, -1).numpy()
    centred = flat - flat.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    found = report.components.reshape(32, 3).numpy()
    for c in range(3):
        inner = (found[:, c] > 0) & (found[:, c] < 1)
        assert abs(np.corrcoef(centred[inner] @ axes[c], found[inner, c])[0, 1]) == pytest.approx(1, abs=1e-4)
    assert found.min() == 0 and found.max() == 1
    pixels = torch.stack([torch.from_numpy(np.asarray(photo(i, 16)).copy()).permute(2, 0, 1) for i in range(2)])
    torch.testing.assert_close(report.images, plain_view(pixels, 32, 3))
    draw_maps(report, tmp_path / "x.png")
    report.save(tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as saved:
        assert set(saved) == {"names", "components", "similarity"} and saved["similarity"].shape == (2, 4, 4)


@pytest.mark.slow
def test_a_run_of_a_transformer(hard_images: Path, files: list[Path], tmp_path: Path) -> None:
    train = ["train", "moco-v3", f"--data={hard_images}", "--encoder=timm:vit_tiny_patch16_224", "--size=64"]
    quick = ["--recipe=tiny", "--epochs=1", "--batch=140", "--device=cpu", "--monitor-every=0", "--workers=0"]
    assert main([*train, *quick, f"--out={tmp_path / 'run'}"]) == 0
    report = attend(tmp_path / "run", files, device="cpu")
    assert report.attention is not None and report.attention.shape == (2, 3, 4, 4)
    p = report.attention[1, 0].double().flatten()
    p = p / p.sum()
    assert report.entropy is not None
    assert report.entropy[1, 0] == pytest.approx(-sum(float(v) * math.log2(v) for v in p), abs=1e-6)
    assert len(report.as_json()["images"][0]["entropy"]) == 3
    draw_maps(report, tmp_path / "x.png")


def test_what_is_refused(moco_run: Path, files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "noise.png").write_bytes(b"no image")
    cases: list[tuple[list[Path], dict[str, Any], str]] = [
        ([tmp_path / "noise.png"], {}, "noise.png cannot be read as an image: "),
        ([tmp_path / "nowhere.png"], {}, "no such file: "),
        ([tmp_path], {}, "is a folder: give a file"),
        ([], {}, "nothing to look at: give image files"),
        (files, {"at": (0.5, 1.5)}, r"^--at must lie in \[0, 1\], not 1\.5$"),
        (files, {"size": 8}, "^the feature maps of images of 8 px are a single patch: raise --size$"),
        (files, {"size": 0}, "^--size must "),
    ]
    for images, how, says in cases:
        with pytest.raises(UserError, match=says):
            attend(moco_run, images, device="cpu", **how)
