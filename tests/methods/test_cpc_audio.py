"""CPC on sound against its equation, written as loops in float64; the reach of its predictions, and bad input."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import contrastkit
from contrastkit.augment import Window, middle, windows
from contrastkit.cli.main import main
from contrastkit.errors import UserError
from contrastkit.methods import RECIPES, BuildContext
from contrastkit.methods.cpc_audio import CPCAudio, CPCAudioRecipe
from contrastkit.parts.encoder import WaveEncoder
from contrastkit.training import Options, Plan
from contrastkit.training.launch import launch
from contrastkit.types import Batch

N, T, K, TAU = 3, 800, 2, 0.5  # sounds, samples (10 frames of 80), steps ahead


def recipe(**numbers: Any) -> CPCAudioRecipe:
    row = RECIPES["cpc-audio/tiny"]
    assert isinstance(row, CPCAudioRecipe)
    defaults: dict[str, Any] = {"batch": N, "steps_to_predict": K, "tau": TAU, "views": (Window(size=T),)}
    return replace(row, **defaults | numbers)


def build(**numbers: Any) -> CPCAudio:
    torch.manual_seed(0)
    return recipe(**numbers).build(BuildContext(channels=1, size=T, images=64, seed=0)).train()


def batch() -> Batch:
    x = 0.1 * torch.randn(N, 1, 1, T, generator=torch.Generator().manual_seed(1))
    return Batch([x], torch.arange(N), torch.full((N,), -1))


def encoded(method: CPCAudio, x: Tensor) -> tuple[Tensor, Tensor]:
    encoder = method.online.encoder
    assert isinstance(encoder, WaveEncoder)
    z = encoder.frames(x)
    return z, encoder.contexts(z)


def equation(method: CPCAudio, z: Tensor, c: Tensor) -> Tensor:
    """Sec. 3.1: a prediction from every context for every k, and all frames of the batch to find it among."""
    every = []
    frames = z.shape[1]
    for k, W_k in enumerate(method.W, start=1):
        W, terms = W_k.weight.double(), []
        for n in range(N):
            for t in range(frames - k):
                predicted = W @ c[n, t]
                scores = torch.stack([predicted @ z[m, s] / TAU for m in range(N) for s in range(frames)])
                terms.append(scores.logsumexp(0) - predicted @ z[n, t + k] / TAU)
        every.append(torch.stack(terms).mean())
    return torch.stack(every).mean()


def test_loss_and_gradient_are_the_papers() -> None:
    method, b = build(), batch()
    z, c = encoded(method, b.views[0])
    z64, c64 = z.detach().double().requires_grad_(), c.detach().double().requires_grad_()
    expected = equation(method, z64, c64)
    expected.backward()
    actual = method(b, 0.0)
    assert actual.loss.item() == pytest.approx(expected.item(), rel=1e-5)

    gradients: dict[str, Tensor] = {}
    encoder = method.online.encoder
    frames, contexts = encoder.frames, encoder.contexts

    def record(name: str, x: Tensor) -> Tensor:
        x.register_hook(lambda g: gradients.__setitem__(name, gradients.get(name, 0) + g))
        return x

    encoder.frames = lambda x: record("z", frames(x))  # type: ignore[assignment]
    encoder.contexts = lambda x: record("c", contexts(x.detach()))  # type: ignore[assignment]
    method(b, 0.0).loss.backward()
    torch.testing.assert_close(gradients["z"].double(), z64.grad, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(gradients["c"].double(), c64.grad, atol=1e-6, rtol=1e-4)


def test_top1_is_the_share_of_predictions_that_find_their_frame() -> None:
    method, b = build(), batch()
    z, c = encoded(method, b.views[0])
    hits = []
    keys = z.detach().flatten(0, 1)
    for k, W_k in enumerate(method.W, start=1):
        for n in range(N):
            for t in range(z.shape[1] - k):
                hits.append(int((keys @ W_k(c[n, t]).detach()).argmax()) == n * z.shape[1] + t + k)
    assert method(b, 0.0).logs["top1"].item() == pytest.approx(sum(hits) / len(hits), abs=1e-6)


def test_a_context_has_not_heard_what_it_predicts() -> None:
    """Nothing of a frame more than a convolution's reach ahead: neither the net nor its norms leak the future."""
    method, x = build(), batch().views[0]
    _, before = encoded(method, x)
    changed = x.clone()
    changed[..., 400:] = 0.1
    _, after = encoded(method, changed)
    reach = 2  # frames whose receptive field (about 300 samples) touches sample 400
    assert torch.equal(before[:, : 5 - reach], after[:, : 5 - reach])
    assert not torch.equal(before[:, 6:], after[:, 6:])
    alone = encoded(method, x[:1])[1]
    torch.testing.assert_close(alone, before[:1], atol=1e-5, rtol=1e-4)  # no batch statistics either


def test_frames_are_those_of_the_paper() -> None:
    """20,480 samples make 128 frames of 512 features, and contexts of 256 (Sec. 3.1)."""
    encoder = RECIPES["cpc-audio/speech"].build_encoder(BuildContext(channels=1, size=20480, images=1))
    assert isinstance(encoder, WaveEncoder)
    with torch.no_grad():
        z = encoder.frames(torch.zeros(1, 1, 1, 20480))
        assert z.shape == (1, 128, 512) and encoder.contexts(z).shape == (1, 128, 256)
        assert encoder(torch.zeros(2, 1, 1, 20480)).shape == (2, 256) == (2, encoder.dim)
    tiny = build().online.encoder
    assert tiny.frames(torch.zeros(1, 1, 1, T)).shape == (1, T // 80, 64)


def test_a_feature_is_the_mean_of_the_contexts() -> None:
    method, x = build().eval(), batch().views[0]
    z, c = encoded(method, x)
    torch.testing.assert_close(method.online(x), torch.stack([c[:, t] for t in range(c.shape[1])]).mean(0))
    assert method.chance_loss == pytest.approx(math.log(N * 10))


# ------------------------------------------------------------------------------------------------------------ windows


def ramp(n: int) -> Tensor:
    return torch.arange(n, dtype=torch.int16).view(1, 1, -1)


def test_a_window_is_a_stretch_drawn_uniformly_and_a_short_clip_goes_round() -> None:
    clips, index = [ramp(100)] * 2000 + [ramp(7)] * 2000, torch.arange(4000)
    cut = (windows(clips, Window(size=90), seed=0, time=1, index=index, v=0) * 2**15).long()
    assert cut.shape == (4000, 1, 1, 90)
    starts = cut[:, 0, 0, 0]
    for part, clip, places in ((slice(2000), 100, 11), (slice(2000, 4000), 7, 7)):
        for start, row in zip(starts[part].tolist(), cut[part, 0, 0].tolist(), strict=True):
            assert row == [(start + j) % clip for j in range(90)]
        counts = torch.bincount(starts[part], minlength=places)
        assert len(counts) == places and (counts > 0.7 * 2000 / places).all(), "every place is as likely"
    again = windows(clips[:5], Window(size=90), seed=0, time=1, index=index[:5], v=0) * 2**15
    assert torch.equal(again.long(), cut[:5]), "a function of the sound, not of the batch"
    other = windows(clips[:500], Window(size=90), seed=0, time=2, index=index[:500], v=0) * 2**15
    assert not torch.equal(other.long(), cut[:500])


def test_what_is_judged_is_the_middle() -> None:
    cut = middle([ramp(10), ramp(3)], 4) * 2**15
    assert cut.flatten(1).tolist() == [[3, 4, 5, 6], [0, 1, 2, 0]]


# -------------------------------------------------------------------------------------------------------- the commands


def test_a_folder_of_sounds_is_trained_on_and_judged(
    sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two notes are distinguished far better than by the untrained encoder; the run's encoder takes waveforms."""
    out = tmp_path / "run"
    numbers = ["--encoder=tiny", "--epochs=3", "--size=1600", "--batch=16", "--workers=0", "--device=cpu"]
    assert main(["train", "cpc-audio", f"--data={sounds}", "--val-fraction=0.2", f"--out={out}", *numbers]) == 0
    printed = capsys.readouterr().out
    assert "recipe cpc-audio/tiny" in printed and "128 sounds at 8,000 Hz" in printed and "1600 samples" in printed
    assert main(["knn", str(out), "--baselines", "--workers=0"]) == 0
    printed = capsys.readouterr().out
    assert "untrained" in printed and "pixels" not in printed
    assert main(["knn", "--encoder=tiny", f"--data={sounds}", "--val-fraction=0.2", "--workers=0"]) == 0
    assert "wave-tiny, untrained" in capsys.readouterr().out
    encoder = contrastkit.load(out)
    assert encoder(-torch.ones(2, 1, 1, 1600)).shape == (2, 128)
    with pytest.raises(UserError, match=r"takes floats in \[-1, 1\], not torch.int16: divide samples by 32,768"):
        encoder(torch.zeros(2, 1, 1, 1600, dtype=torch.int16))


def test_what_does_not_fit_is_said_in_one_line(
    sounds: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = f"--out={tmp_path / 'none'}"
    moco = tmp_path / "moco"
    quick = ["--encoder=tiny", "--size=12", "--batch=32", "--K=64", "--epochs=1", "--monitor-every=0", "--device=cpu"]
    assert main(["train", "moco", f"--data={images}", f"--out={moco}", *quick]) == 0
    capsys.readouterr()
    for command, says in (
        (["train", "cpc-audio", out], "contains images, this method learns from sounds"),
        (["train", "moco", f"--data={sounds}", out], "contains sounds, this method learns from images: use cpc-audio"),
        (["train", "cpc-audio", f"--data={sounds}", out, "--encoder=resnet18"], "use wave or tiny for sounds"),
        (
            ["train", "cpc-audio", f"--data={sounds}", out, "--encoder=tiny", "--size=640"],
            "8 frames, too few to predict 8",
        ),
        (["train", "cpc-audio", f"--data={sounds}", out, "--tau=0"], "--tau must be above 0"),
        (["knn", "--encoder=pixels", f"--data={sounds}"], "--encoder pixels is for images"),
        (["knn", "--encoder=resnet18", f"--data={sounds}"], "use wave or tiny for sounds"),
        (["knn", "--encoder=wave", f"--data={images}"], "is for sounds"),
        (["train", "moco", f"--data={images}", out, "--encoder=wave"], "is for sounds"),
        (["probe", "--encoder=tiny", f"--data={sounds}", "--val-fraction=0.2", "--protocol=moco"], "these are sounds"),
        (["views", "digits", f"--data={sounds}", f"--out={tmp_path / 's.png'}"], "which cannot be drawn"),
        (["knn", str(moco), f"--data={sounds}"], "was trained on images"),
        (["knn", "--encoder=tiny", f"--data={sounds}", "--size=40"], "40 samples are less than a frame of 80"),
    ):
        assert main(command) == 2
        captured = capsys.readouterr().err
        assert says in captured and captured.count("\n") == 1, captured
    assert not (tmp_path / "none").exists()
    with pytest.raises(UserError, match="--steps-to-predict must be at least 1"):
        recipe(steps_to_predict=0)
    with pytest.raises(UserError, match="this method takes one view, not 2"):
        recipe(views=(Window(size=T), Window(size=T)))


def test_it_cannot_be_compiled_and_says_so(sounds: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cpc-audio/tiny has nothing to compile: drop --compile"):
        launch(
            Plan.of(
                "cpc-audio/tiny", RECIPES["cpc-audio/tiny"], Options(data=str(sounds), compile=True), tmp_path / "run"
            )
        )
    assert not (tmp_path / "run").exists()
