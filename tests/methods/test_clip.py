"""CLIP against its equations as loops in float64; its vocabulary, its files, and what it refuses."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

import contrastkit
from contrastkit import dist
from contrastkit.cli.main import main
from contrastkit.data import Captions
from contrastkit.errors import UserError
from contrastkit.methods import RECIPES, BuildContext
from contrastkit.methods.clip import CLIP, CLIPRecipe, contrast
from contrastkit.parts.joint import ImageTextEncoder
from contrastkit.run import Run
from contrastkit.types import Batch
from tests.methods import small
from tests.methods.small import gradients, step

N = 8
CAPTIONS = Captions(
    [["a red plane", "a plane"], ["boats"], ["Boats"], ["two ships"], ["a field of grass", "grass"], ["a plane"], ["x"]]
    + [["seven", "eight", "nine"]]
)
QUICK = ["--encoder=tiny", "--device=cpu", "--batch=32", "--size=12", "--text-width=16", "--text-layers=1", "--dim=16"]


def recipe(**numbers: Any) -> CLIPRecipe:
    row = RECIPES["clip/tiny"]
    assert isinstance(row, CLIPRecipe)
    return replace(row, **{"batch": N, "dim": 12, "text_width": 16, "vocabulary": 300, "epochs": 10, **numbers})


def build(captions: Captions | None = CAPTIONS, **numbers: Any) -> CLIP:
    torch.manual_seed(0)
    return recipe(**numbers).build(BuildContext(channels=3, size=16, images=N, seed=3, captions=captions)).train()


def batch(index: Tensor | None = None) -> Batch:
    return small.batch(N, (16,), index=index)


def drawn(method: CLIP, b: Batch, epoch: int) -> list[str]:
    """The caption of each image, as the tower sees it."""
    assert method.captions is not None
    return [CAPTIONS.texts[c].lower() for c in method.captions.draw(b.index, seed=3, epoch=epoch)]


def expected_loss(x: Tensor, y: Tensor, ids: list[Any], t: Tensor, b: Tensor | None) -> Tensor:
    """Fig. 3 of CLIP, or SigLIP's Eq. 1, pair by pair; equal ids are left out."""
    total, n = x.new_zeros(()), len(x)
    for i in range(n):
        others = [j for j in range(n) if j != i and ids[j] != ids[i]]
        if b is None:
            for a, k in ((x, y), (y, x)):
                s = [t * (a[i] * k[j]).sum() for j in (i, *others)]
                total = total - torch.log(torch.exp(s[0]) / sum(map(torch.exp, s))) / 2
        else:
            total = total - torch.log(torch.sigmoid(t * (x[i] * y[i]).sum() + b))
            for j in others:
                total = total - torch.log(torch.sigmoid(-(t * (x[i] * y[j]).sum() + b)))
    return total / n


@pytest.mark.parametrize("loss", ["clip", "siglip"])
def test_loss_and_gradients_are_the_papers(loss: str) -> None:
    """Of all that is trained, the temperature too. Images 1 and 2 have the caption boats, others may."""
    method, b = build(loss=loss), batch()
    texts = drawn(method, b, 5)
    assert len(set(texts)) < N
    z = method.online(b.views[0]).double()
    y = method.text.encode(texts, method.tokenizer).double()
    x, y = (v / v.norm(dim=1, keepdim=True) for v in (z, y))
    scale = torch.exp(method.log_t.double())
    expected = expected_loss(x, y, texts, scale, None if method.b is None else method.b.double())
    actual = method(b, 0.5).loss
    assert actual.item() == pytest.approx(expected.item(), rel=1e-5)
    for g, g_expected in zip(gradients(actual, method), gradients(expected, method), strict=True):
        torch.testing.assert_close(g, g_expected, atol=3e-4 * g_expected.abs().max().clamp(min=1e-3).item(), rtol=0)


def test_it_starts_at_the_published_temperature_and_stays_below_100() -> None:
    method = build()
    assert method.log_t.exp().item() == pytest.approx(1 / 0.07) and method.b is None
    sigmoids = build(loss="siglip")
    assert sigmoids.b is not None and sigmoids.log_t.exp().item() == pytest.approx(10) and sigmoids.b.item() == -10
    for start, end in ((7.0, math.log(100)), (-1.0, 0.0), (3.0, 3.0)):
        with torch.no_grad():
            method.log_t.fill_(start)
        step(method, batch(), 0.0)
        assert method.log_t.item() == pytest.approx(end)


def test_neither_the_temperature_nor_biases_and_norms_are_decayed() -> None:
    method = build(loss="siglip", beta2=0.97, eps=1e-5, weight_decay=0.3)
    optimizer = recipe(beta2=0.97, eps=1e-5, weight_decay=0.3).build_optimizer(method)
    decayed, kept = optimizer.param_groups
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.3, 0.0)
    assert {p.ndim for p in kept["params"]} == {0, 1} and min(p.ndim for p in decayed["params"]) == 2
    assert decayed["betas"] == (0.9, 0.97) and decayed["eps"] == 1e-5


def test_the_epoch_of_the_schedule_draws_the_caption(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of one epoch draw one caption of an image, also where it is rounded down: 1 / 49 * 49 < 1."""
    method, asked = build(epochs=49), list[int]()
    assert method.captions is not None
    draw = method.captions.draw

    def noting(index: Tensor, *, seed: int, epoch: int) -> Tensor:
        asked.append(epoch)
        return draw(index, seed=seed, epoch=epoch)

    monkeypatch.setattr(method.captions, "draw", noting)
    for done in range(10):
        method(batch(), done / (49 * 2))
    assert asked == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_chance_is_the_loss_of_what_tells_nothing_apart() -> None:
    x = F.normalize(torch.ones(N, 4), dim=1)
    log_t, ids = torch.tensor(2.0), torch.arange(N)
    loss, _ = contrast(x, x, ids, log_t=log_t, b=None)
    assert build().chance_loss == pytest.approx(loss.item(), rel=1e-6)
    b = torch.tensor(-math.log(N - 1) - math.exp(2.0))  # the best constant: every pair with probability 1 / N
    loss, _ = contrast(x, x, ids, log_t=log_t, b=b)
    assert build(loss="siglip").chance_loss == pytest.approx(loss.item(), rel=1e-6)
    for other in (b - 0.1, b + 0.1):
        assert contrast(x, x, ids, log_t=log_t, b=other)[0] > loss


@pytest.mark.parametrize("b", [None, torch.tensor(-2.0)])
def test_two_processes_contrast_their_pairs_together(
    b: Tensor | None, two_processes: Callable[[Callable[[int], None]], None]
) -> None:
    """The mean over the processes is the whole's, and so is the mean of their gradients."""
    g = torch.Generator().manual_seed(0)
    x, y = (F.normalize(torch.randn(N, 5, generator=g), dim=1).requires_grad_() for _ in range(2))
    ids, log_t = torch.tensor([0, 1, 2, 3, 4, 1, 6, 0]), torch.tensor(1.5, requires_grad=True)
    whole, hits = contrast(x, y, ids, log_t=log_t, b=b)
    expected = torch.autograd.grad(whole, (x, y, log_t))

    def work(rank: int) -> None:
        loss, own_hits = contrast(dist.local_shard(x), dist.local_shard(y), dist.local_shard(ids), log_t=log_t, b=b)
        torch.testing.assert_close(dist.all_reduce_mean(loss.detach()), whole.detach())
        torch.testing.assert_close(dist.all_reduce_mean(own_hits), hits)
        for actual, g in zip(torch.autograd.grad(loss, (x, y, log_t)), expected, strict=True):
            torch.testing.assert_close(dist.all_reduce_mean(actual), g)

    two_processes(work)


def test_a_frozen_encoder_stays_as_it_starts() -> None:
    """Weights, batch norm's statistics, mode; and it is no part of what the optimizer has."""
    context = BuildContext(channels=3, size=16, images=N, seed=3, captions=CAPTIONS, encoder=build().online.encoder)
    chosen = recipe(frozen=True, lr=0.1)
    method = chosen.build(context).train()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    optimizer = chosen.build_optimizer(method)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert not held & {id(p) for p in method.online.encoder.parameters()}
    assert not method.online.encoder.training and method.text.training and method.online.head.training
    method(batch(), 0.0).loss.backward()
    optimizer.step()
    kept = {name for name, value in method.state_dict().items() if torch.equal(value, before[name])}
    assert kept >= {name for name in before if name.startswith("online.encoder.")}
    assert not kept & {"online.head.weight", "text.projection.weight", "log_t"}
    n = sum(value.numel() for name, value in before.items() if name.startswith(("text.", "online.head", "log_t")))
    assert method.notices[-1] == f"the encoder is frozen: {n:,} parameters are trained, of projection and text tower"
    method.eval().train()
    assert not method.online.encoder.training


def test_a_frozen_encoder_of_random_weights_is_refused(captioned: Path, tmp_path: Path, clip_run: Path) -> None:
    with pytest.raises(UserError, match="--frozen would keep the encoder at random weights: give it others"):
        build(frozen=True)
    out = tmp_path / "run"
    assert train(captioned, out, "--monitor-every=0", "--frozen", f"--init-from={clip_run}", "--lr=0.01") == 0
    old, new = (load_file(run / "encoder.safetensors") for run in (clip_run, out))
    assert old.keys() == new.keys() and all(torch.equal(old[name], new[name]) for name in old)
    texts = [contrastkit.load(run).text(["red"]) for run in (clip_run, out)]
    assert not torch.allclose(*texts)
    assert main(["train", "clip", "--extend", str(out), "--epochs=3", "--out", str(tmp_path / "longer")]) == 0


@pytest.mark.parametrize(
    ("numbers", "captions", "says"),
    [
        ({"batch": 1}, CAPTIONS, "a batch of one pair has no negatives: raise --batch"),
        ({}, Captions([["one"], ["One", "ONE"]]), "all captions are the same text"),
        ({"text_heads": 3}, CAPTIONS, "--text-width 16 must be a multiple of --text-heads 3"),
        ({"context": 2}, CAPTIONS, "--context must be at least 3"),
        ({"vocabulary": 100}, CAPTIONS, "--vocabulary must be at least 258"),
        ({"views": RECIPES["moco-v2/tiny"].views}, CAPTIONS, "takes one view, not 2"),
    ],
)
def test_what_cannot_be_trained_is_refused(numbers: dict[str, Any], captions: Captions, says: str) -> None:
    with pytest.raises(UserError, match=says):
        build(captions, **numbers)


def test_captions_that_are_cut_are_told() -> None:
    assert build().notices == [
        "12 captions, 10 of them different, of at most 13 tokens; the vocabulary has 275",  # boats, a plane: twice
        "309,568 parameters of images, 12,416 of texts: 321,984",
    ]
    assert build(context=4).notices[1] == "captions of more than 4 tokens are cut (6): --context"


# ------------------------------------------------------------------------------------------------------------- the run


def train(data: Path, out: Path, *more: str) -> int:
    return main(["train", "clip", f"--data={data}", f"--out={out}", "--val-fraction=0.4", "--epochs=2", *QUICK, *more])


def test_a_run_gives_an_encoder_of_images_and_texts(clip_run: Path, captioned: Path) -> None:
    encoder = contrastkit.load(clip_run)
    assert isinstance(encoder, ImageTextEncoder)
    images = torch.rand(3, 3, 12, 12)
    texts = ["a red square", "A RED  square", "something else entirely, of many words"]
    x, y = encoder.image(images), encoder.text(texts)
    assert x.shape == y.shape == (3, 16)
    torch.testing.assert_close(torch.cat([x, y]).norm(dim=1), torch.ones(6))
    torch.testing.assert_close(y[0], y[1])
    method = contrastkit.loading.load_method(clip_run)
    torch.testing.assert_close(x, F.normalize(method.online(images), dim=1))
    torch.testing.assert_close(encoder.text(texts[2:])[0], y[2], atol=1e-6, rtol=1e-5)  # another length of the batch
    torch.testing.assert_close(encoder(images), method.online.encoder(images))
    wrong: Any
    for wrong in ("a red square", []):
        with pytest.raises(UserError, match="takes a list of texts"):
            encoder.text(wrong)
    with pytest.raises(UserError, match="takes floats"):
        encoder.image(torch.zeros(1, 3, 12, 12, dtype=torch.uint8))


def test_an_unfinished_run_gives_that_of_its_checkpoint(captioned: Path, tmp_path: Path) -> None:
    """And ends as one that never stopped, on as many threads."""
    half, whole = tmp_path / "half", tmp_path / "whole"
    assert train(captioned, whole, "--monitor-every=0") == 0
    assert train(captioned, half, "--monitor-every=0", "--stop-after=1") == 0
    assert not (half / "text.safetensors").exists()
    before = contrastkit.load(half).text(["a red square"])
    assert train(captioned, half, "--resume", str(half)) == 2  # --out and --resume
    vocabulary = (half / "tokenizer.json").read_bytes()
    assert main(["train", "clip", "--resume", str(half)]) == 0
    assert (half / "tokenizer.json").read_bytes() == vocabulary == (whole / "tokenizer.json").read_bytes()
    after = contrastkit.load(half).text(["a red square"])
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, contrastkit.load(whole).text(["a red square"]), atol=0, rtol=0)


def test_a_run_of_an_earlier_format_is_not_frozen(clip_run: Path, tmp_path: Path) -> None:
    shutil.copytree(clip_run, tmp_path / "run")
    file, record = tmp_path / "run" / "recipe.json", Run.open(clip_run).record
    values = json.loads(file.read_text())
    assert values["format"] == 6 and values["recipe"].pop("frozen") is False
    file.write_text(json.dumps(values | {"format": 5}))
    assert Run.open(tmp_path / "run").record == record
    contrastkit.load(tmp_path / "run")
    file.write_text(json.dumps(values))
    with pytest.raises(UserError, match="is damaged: recipe.frozen is missing"):
        contrastkit.load(tmp_path / "run")


def test_a_resumed_run_reads_its_vocabulary(
    captioned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert train(captioned, out, "--monitor-every=0", "--stop-after=1") == 0
    monkeypatch.setattr("contrastkit.parts.tokenizer.Tokenizer.trained", lambda *_, **__: pytest.fail("made another"))
    assert main(["train", "clip", "--resume", str(out)]) == 0
    longer = tmp_path / "longer"
    assert main(["train", "clip", "--extend", str(out), "--epochs=3", "--out", str(longer)]) == 0
    assert (longer / "tokenizer.json").read_bytes() == (out / "tokenizer.json").read_bytes()
    capsys.readouterr()
    (out / "tokenizer.json").write_text(json.dumps({"version": "1.0"}))
    assert main(["train", "clip", "--resume", str(out)]) == 2
    assert f"{out}/tokenizer.json is damaged" in capsys.readouterr().err
    (out / "tokenizer.json").unlink()
    assert main(["train", "clip", "--resume", str(out)]) == 2
    assert "tokenizer.json: the weights of the run mean nothing without it" in capsys.readouterr().err


def test_images_without_captions_are_refused(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(images, tmp_path / "run") == 2
    error = capsys.readouterr().err
    says = "noise has no captions, from which this method learns: give a folder with captions.csv, a table"
    assert error.count("\n") == 1 and says in error
    assert not (tmp_path / "run").exists()
