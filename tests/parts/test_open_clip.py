"""Models of open_clip, of random weights, beside what clip makes of them: features, texts, tokens, a run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

import contrastkit
from contrastkit import starting
from contrastkit.cli.main import main
from contrastkit.errors import UserError
from contrastkit.methods import RECIPES, BuildContext
from contrastkit.methods.clip import CLIP, CLIPRecipe
from contrastkit.parts import open_clip as module
from contrastkit.parts.open_clip import converted, open_clip_weights
from contrastkit.parts.tokenizer import Tokenizer
from contrastkit.training.plan import replaced

open_clip = pytest.importorskip("open_clip")
TEXTS = [
    "a red plane",
    "Two  boats, moored;\tin 1984!",
    "don't \u00e9t\u00e9 \u4e2d\u6587 \U0001f600",
    "",
    "very long " * 60,
]


def reduced(name: str, **vision: Any) -> Any:
    """A model of open_clip with two layers of 64 features, its weights random, none of them zero or one."""
    config = open_clip.get_model_config(name)
    tower = {"width": 64, "layers": 2, "head_width": 32, "patch_size": 16, "image_size": 48} | vision
    config["vision_cfg"] = config["vision_cfg"] | tower
    config["text_cfg"] = config["text_cfg"] | {"width": 32, "heads": 2, "layers": 2}
    network = open_clip.CLIP(**config)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(0.05 * torch.randn_like(value))
    network.visual.image_mean, network.visual.image_std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    return network.eval()


@pytest.fixture(autouse=True)
def small_vits(monkeypatch: pytest.MonkeyPatch) -> None:
    """timm's vit_base_patch16_clip_224 and its quickgelu, as wide and deep as :func:`reduced`."""
    whole = timm.create_model

    def create(name: str, **how: Any) -> nn.Module:
        if "_clip_" not in name:
            return whole(name, **how)
        return whole(name, **{"embed_dim": 64, "depth": 2, "num_heads": 2} | how)

    monkeypatch.setattr(timm, "create_model", create)
    monkeypatch.setattr(module, "SIZES", {64: "base"})


def built(network: Any, size: int = 48) -> CLIP:
    weights = converted(network, "open_clip:X/y")
    recipe = replaced({"encoder": weights.encoder, **weights.numbers})(RECIPES["clip/tiny"])
    assert isinstance(recipe, CLIPRecipe)
    torch.manual_seed(1)
    return recipe.build(BuildContext(channels=3, size=size, images=9, weights=weights)).eval()


@torch.no_grad()
@pytest.mark.parametrize(("name", "timms"), [("ViT-B-32", "clip_224"), ("ViT-B-32-quickgelu", "clip_quickgelu_224")])
def test_both_towers_compute_what_open_clip_computes(name: str, timms: str) -> None:
    network = reduced(name)
    method = built(network)
    images = torch.rand(3, 3, 48, 48)
    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1) for values in (network.visual.image_mean, network.visual.image_std)
    )
    x = network.encode_image((images - mean) / std, normalize=True)
    torch.testing.assert_close(F.normalize(method.online(images), dim=1), x, atol=1e-5, rtol=0)
    y = network.encode_text(open_clip.get_tokenizer(name)(TEXTS), normalize=True)
    torch.testing.assert_close(F.normalize(method.text.encode(TEXTS, method.tokenizer), dim=1), y, atol=1e-5, rtol=0)
    assert method.log_t.item() == network.logit_scale.item() != pytest.approx(RECIPES["clip/tiny"].batch)
    other = built(reduced(name.removesuffix("-quickgelu") if "quick" in name else f"{name}-quickgelu"))
    assert (
        method.recipe.activation != other.recipe.activation
        and method.recipe.encoder == f"timm:vit_base_patch16_{timms}"
    )


def test_its_tokens_are_openais() -> None:
    ours, _ = Tokenizer(module._tokenizer(open_clip.tokenizer.SimpleTokenizer(), 77)).encode(TEXTS)
    for row, theirs in zip(ours, open_clip.get_tokenizer("ViT-B-32")(TEXTS).tolist(), strict=True):
        assert row == theirs[: len(row)] and not any(theirs[len(row) :])


@pytest.mark.slow
@torch.no_grad()
def test_every_weight_is_taken_and_positions_are_resampled() -> None:
    network = reduced("ViT-B-32")
    weights = converted(network, "open_clip:X/y")
    names = {name for name, _ in network.named_parameters()}
    assert len(weights.tensors) + len(weights.beside) == len(names) and weights.size == 48
    method = built(network, size=64)
    record = weights.match(method.online.encoder).record
    assert (record.left_out, record.missing, record.positions) == ([], [], [9, 16])
    assert record.mean == pytest.approx(open_clip.OPENAI_DATASET_MEAN) and record.normalisation == "its own numbers"


def test_other_numbers_are_refused() -> None:
    weights = converted(reduced("ViT-B-32"), "open_clip:X/y")
    recipe: Any = replaced({"encoder": weights.encoder, **weights.numbers})(RECIPES["clip/tiny"])
    with pytest.raises(UserError, match="--text-width is 128, but open_clip:X/y was built with 32: drop --text-width"):
        replace(recipe, text_width=128).build(BuildContext(channels=3, size=48, images=9, weights=weights))


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (lambda: reduced("RN50", layers=[1, 1, 1, 1]), "an image tower that is no vision transformer of CLIP's"),
        (lambda: reduced("ViT-B-32", width=96), "an image tower that timm has not"),
        (lambda: reduced("ViT-B-32", head_width=16), "an image tower that timm has not"),
        (lambda: reduced("ViT-B-32", layers=3), "an image tower that timm has not"),
        (lambda: reduced("ViT-B-32", pool_type="avg"), "an image tower that is no vision transformer of CLIP's"),
        (lambda: nn.Linear(2, 2), "a text tower of its own"),
    ],
)
def test_models_of_another_kind_are_refused(network: Any, says: str) -> None:
    with pytest.raises(UserError, match=f"open_clip:X/y has {says}"):
        converted(network(), "open_clip:X/y")


def test_weights_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_clip, "create_model", lambda *_, **how: pytest.fail("something was fetched"))
    for name, says in (
        ("ViT-B-33/openai", "open_clip has no model 'ViT-B-33', did you mean 'ViT-B-32'"),
        ("ViT-B-32/", "open_clip:ViT-B-32/ does not name weights of ViT-B-32: give open_clip:ViT-B-32/openai, "),
        ("ViT-B-32", "open_clip:ViT-B-32 does not name weights of ViT-B-32: give open_clip:ViT-B-32/openai, "),
        ("RN50/nothing", "open_clip:RN50/nothing has an image tower that is no vision transformer of CLIP's"),
        ("RN50x4/openai", "open_clip:RN50x4/openai has an image tower that is no vision transformer of CLIP's"),
        ("coca_base/x", "open_clip:coca_base/x does not name weights of coca_base: there are none"),
    ):
        with pytest.raises(UserError, match=says):
            open_clip_weights(name)

    def offline(*_: Any, **how: Any) -> None:
        assert how["force_quick_gelu"] is True
        raise OSError("We couldn't connect\nto the hub")

    monkeypatch.setattr(open_clip, "create_model", offline)
    with pytest.raises(UserError, match="open_clip's cache and could not be fetched: We couldn't connect$"):
        open_clip_weights("ViT-B-32/openai")


@pytest.mark.slow
def test_a_run_begins_with_both_towers_and_keeps_their_vocabulary(
    captioned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = reduced("ViT-B-32-quickgelu")
    monkeypatch.setattr(starting, "open_clip_weights", lambda name: converted(network, f"open_clip:{name}"))
    out = tmp_path / "run"
    how = ["--init-from=open_clip:X/y", "--recipe=tiny", "--epochs=1", "--batch=32", "--lr=0", "--monitor-every=0"]
    assert main(["train", "clip", f"--data={captioned}", f"--out={out}", *how, "--val-fraction=0.4"]) == 0
    joint: Any = contrastkit.load(out)
    with torch.no_grad():
        expected = network.encode_text(open_clip.get_tokenizer("ViT-B-32")(TEXTS), normalize=True)
        torch.testing.assert_close(joint.text(TEXTS), expected, atol=1e-5, rtol=0)
    assert joint.tokenizer.size == 49408
    assert main(["knn", "--init-from=open_clip:X/y", f"--data={captioned}", "--val-fraction=0.4"]) == 2  # no labels
