"""Weights of training images: from a file to the images by their names, and into probe and fine-tuning, compared with
plain loops."""

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastkit.augment import View
from contrastkit.cli.main import main
from contrastkit.data import ArraySource, DataSet, Loader, Source, open_data
from contrastkit.errors import UserError
from contrastkit.evaluate import EvaluationSubject, finetune, probe
from contrastkit.evaluate import linear as module
from contrastkit.evaluate.features import Features
from contrastkit.evaluate.finetune_report import FineTuned
from contrastkit.evaluate.identity import image_ids
from contrastkit.evaluate.linear import linear_probe
from contrastkit.evaluate.protocol import moco_protocol
from contrastkit.evaluate.weighting import ImageWeights, weighted
from contrastkit.parts.build import build_encoder
from tests.data.pictures import png
from tests.schemas import read_report

KIND: dict[str, Any] = {"name": "tiny", "channels": 3, "size": 8}


def shades(n: int, seed: int) -> ArraySource:
    """Noise on three levels of brightness, the classes."""
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    x = 25 * y[:, None, None, None] + torch.randint(0, 200, (n, 3, 8, 8), generator=g)
    return ArraySource("shades", x.byte(), y, classes=["dim", "mid", "light"])


def subject(train: Source | None = None) -> EvaluationSubject:
    torch.manual_seed(11)
    encoder = build_encoder(**KIND)
    encoder(torch.rand(16, 3, 8, 8))  # statistics of batch norm
    train = train or shades(60, 1)
    data = DataSet("shades", train=train, test=shades(30, 2), pretrain=train)
    return EvaluationSubject(data=data, encoders={"f": encoder.eval()}, size=8, kind=KIND)


def drawn(n: int, seed: int = 5) -> np.ndarray:
    """Weights between 0 and 5, a fifth of them 0, of any mean."""
    g = np.random.default_rng(seed)
    return g.uniform(0, 5, n) * (np.arange(n) % 5 > 0)


def file_of(path: Path, names: Any, w: np.ndarray, column: str = "image_id") -> Path:
    """Weights in a file, the rows in another order."""
    frame = pd.DataFrame({column: names, "weight": w})
    frame.sample(frac=1, random_state=3).to_csv(path, index=False)
    return path


# ------------------------------------------------------------------------------------------------------- the probe


def features(n: int, seed: int) -> Features:
    centres = torch.randn(3, 10, generator=torch.Generator().manual_seed(7))
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    return Features((centres[y] + torch.randn(n, 10, generator=g)).relu(), y)


def trained(x: Tensor, y: Tensor, w: np.ndarray, rate: float, epochs: int, batch: int, seed: int) -> nn.Linear:
    """A layer trained by torch in float64 on sum_i w_i l_i / n, with w of mean 1."""
    g, n = torch.Generator().manual_seed(seed), len(y)
    fc = nn.Linear(10, 3).double()
    with torch.no_grad():
        fc.weight.copy_(0.01 * torch.randn(10, 3, generator=g).T)
        fc.bias.zero_()
    optimizer, steps, step = torch.optim.SGD(fc.parameters(), lr=rate, momentum=0.9), math.ceil(n / batch), 0
    for _ in range(epochs):
        for rows in torch.randperm(n, generator=g).tensor_split(steps):
            optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / (epochs * steps))) / 2
            loss = torch.zeros((), dtype=torch.float64)
            for i in rows.tolist():
                loss = loss - w[i] / w.mean() * F.log_softmax(fc(x[i].double()), dim=0)[y[i]] / len(rows)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    return fc


def test_every_rate_is_trained_on_the_weighted_loss() -> None:
    train, w, rates = features(50, 1), drawn(50), (0.03, 0.3)
    given = replace(train, weights=torch.from_numpy(w).float())
    W, b = module._train(given, rates, n_classes=3, epochs=3, batch=16, seed=5, device="cpu")
    for r, rate in enumerate(rates):
        fc = trained(train.x, train.y, w, rate, 3, 16, seed=5)
        torch.testing.assert_close(W[:, r].T.double(), fc.weight.detach(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(b[r].double(), fc.bias.detach(), rtol=1e-4, atol=1e-5)


def test_held_out_images_count_by_their_weights() -> None:
    """The rate is chosen by the weighted share of right answers, mean over the splits."""
    train, w, rates = features(30, 1), drawn(30), (0.01, 0.3)
    splits = [(torch.arange(15, 30), torch.arange(15)), (torch.arange(15), torch.arange(15, 30))]
    given = replace(train, weights=torch.from_numpy(w).float())
    result = linear_probe(given, features(9, 2), n_classes=3, rates=rates, epochs=3, seeds=(6,), splits=splits)
    for rate, found in zip(rates, result.validation, strict=True):
        shares = []
        for rest, held in splits:
            fc = trained(train.x[rest], train.y[rest], w[rest], rate, 3, 256, seed=6)
            right = (fc(train.x[held].double()).argmax(1) == train.y[held]).numpy()
            shares.append(sum(w[i] * ok for i, ok in zip(held.tolist(), right, strict=True)) / w[held].sum())
        assert found == pytest.approx(sum(shares) / 2, rel=1e-5)


def test_a_part_without_weight_is_refused() -> None:
    none = replace(features(30, 1), weights=torch.arange(30) // 15 * 1.0)
    splits = [(torch.arange(15, 30), torch.arange(15))]
    with pytest.raises(UserError, match="all images of a part have weight 0: raise the penalty"):
        linear_probe(none, features(9, 2), n_classes=3, rates=(0.1,), epochs=1, splits=splits)


def test_the_papers_protocol_is_weighted() -> None:
    s = subject()
    train, w = copy.copy(s.data.train), torch.from_numpy(drawn(60)).float()
    train.weights = w
    encoder: Any = s.encoders["f"]
    result = moco_protocol(encoder, train, shades(30, 2), size=8, n_classes=3, lr=0.5, epochs=1, batch=20, seed=4)
    view = View(size=8, crop_min=0.08, flip_p=0.5, jitter_p=0.0, gray_p=0.0)
    W, b = 0.01 * torch.randn(3, 128, generator=torch.Generator().manual_seed(4)), torch.zeros(3)
    vW, vb, losses = torch.zeros_like(W), torch.zeros_like(b), list[float]()
    for batch in Loader(train, (view,), batch=20, seed=4).batches(0, 3):
        with torch.no_grad():
            x = encoder(batch.views[0])
        own, logits = w[batch.index], x @ W.T + b
        losses.append(float((own * F.cross_entropy(logits, batch.label, reduction="none")).mean()))
        error = own[:, None] * (logits.softmax(1) - F.one_hot(batch.label, 3)) / len(x)
        vW, vb = 0.9 * vW + error.T @ x, 0.9 * vb + error.sum(0)
        W, b = W - 0.5 * vW, b - 0.5 * vb
    assert result.losses == pytest.approx([sum(losses) / 3], rel=1e-3)


# ------------------------------------------------------------------------------------------------------ fine-tuning


def test_fine_tuning_is_that_of_a_weighted_loop(tmp_path: Path) -> None:
    s = subject()
    w = drawn(60)
    encoder: Any = copy.deepcopy(s.encoders["f"])
    file = file_of(tmp_path / "w.csv", image_ids(s.data.train), w)
    numbers = {"epochs": 2, "lr": (0.005,), "train_batch": 20}
    report = finetune(s, numbers=numbers, weights=file, seeds=1, seed=4, precision="float32")
    fc = nn.Linear(128, 3)
    with torch.no_grad():
        fc.weight.copy_(0.01 * torch.randn(3, 128, generator=torch.Generator().manual_seed(4)))
        fc.bias.zero_()
    net = nn.Sequential(encoder, fc).train()
    view = View(size=8, crop_min=0.3, flip_p=0.5, jitter_p=0.0, gray_p=0.0)
    velocity, losses = [torch.zeros_like(p) for p in net.parameters()], list[float]()
    for step, batch in enumerate(Loader(s.data.train, (view,), batch=20, seed=4).batches(0, 6)):
        lr = 0.005 * (1 + math.cos(math.pi * step / 6)) / 2
        logits, total = net(batch.views[0]), torch.zeros(())
        for z, label, i in zip(logits, batch.label, batch.index, strict=True):
            total = total - w[i] / w.mean() * F.log_softmax(z, dim=0)[label] / 20
        grads = torch.autograd.grad(total, list(net.parameters()))
        with torch.no_grad():
            for p, v, g in zip(net.parameters(), velocity, grads, strict=True):
                g = g + (1e-4 * p if p.ndim > 1 else 0)
                v.mul_(0.9).add_(g)
                p.sub_(lr * (g + 0.9 * v))
        losses.append(total.item())
    result = report.results["f, fine-tuned"]
    assert isinstance(result, FineTuned)
    assert result.losses == pytest.approx([sum(losses[:3]) / 3, sum(losses[3:]) / 3], rel=1e-3)
    assert report.weights is not None and report.weights.effective == pytest.approx(w.sum() ** 2 / (w**2).sum())
    assert report.notices[0].startswith(f"60 training images weighted by {file}, from 0 to ")


def test_the_held_out_images_of_fine_tuning_count_by_their_weights(tmp_path: Path) -> None:
    """Where all weight is on one class, a rate is judged by that class alone."""
    s = subject()
    assert s.data.train.labels is not None
    one = (s.data.train.labels == 1).double().numpy() + 1e-6
    file = file_of(tmp_path / "w.csv", image_ids(s.data.train), one)
    numbers = {"epochs": 2, "lr": (0.01, 0.02), "train_batch": 20}
    report = finetune(s, numbers=numbers, weights=file, seeds=1, seed=4, precision="float32")
    result = report.results["f, fine-tuned"]
    assert isinstance(result, FineTuned) and result.validation[-1] == pytest.approx(1, abs=1e-4)
    assert result.accuracy.top1 < 0.6, "all that it was taught is that class"


def test_an_unfinished_fine_tuning_keeps_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from contrastkit.evaluate import finetuning

    s = subject()
    files = [file_of(tmp_path / f"{seed}.csv", image_ids(s.data.train), drawn(60, seed)) for seed in (1, 2)]
    how: dict[str, Any] = {"numbers": {"epochs": 1, "lr": (0.01,)}, "seeds": 1, "out": tmp_path / "out"}

    def stop(*args: Any, **how: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(finetuning, "linear_probe", stop)
        finetune(s, weights=files[0], **how)
    with pytest.raises(UserError, match="holds an unfinished training with weights of images"):
        finetune(s, weights=files[1], **how)
    finetune(s, weights=files[0], **how)


# ----------------------------------------------------------------------------------- which weight is which image's


def test_images_in_memory_are_known_by_their_pixels(tmp_path: Path) -> None:
    train, w = shades(60, 1), drawn(60)
    file = file_of(tmp_path / "w.csv", image_ids(train), w)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    s, found, lines = weighted(subject(train.subset(order)), file)
    assert s.data.train.weights is not None
    np.testing.assert_allclose(s.data.train.weights, w[order] / w.mean(), rtol=1e-6)
    assert (found.least, found.images) == (0, 60) and found.most == pytest.approx(w.max() / w.mean())
    assert lines[1] == "w.csv has the rows in another order: its weights are assigned by image_id"
    assert train.weights is None, "the set of the caller"


def test_copies_of_an_image_have_names_of_their_own() -> None:
    train = shades(6, 1)
    images = train.images.clone()
    images[4] = images[1]
    names = image_ids(ArraySource("shades", images, train.labels)).tolist()
    assert len(set(names)) == 6 and names[4] == f"{names[1]}-2" and all(name.startswith("x") for name in names)


def test_files_are_known_by_their_paths_and_rows_by_their_numbers(tmp_path: Path) -> None:
    for part, n in (("train", 6), ("test", 2)):
        for name in ("ant", "bee"):
            for i in range(n):
                png(tmp_path / "set" / part / name / f"{i}.png", (i * 9, 80 if name == "ant" else 160, 0), (8, 8))
    data = open_data(str(tmp_path / "set"))
    s, w = EvaluationSubject(data=data, encoders={"raw pixels": None}, size=8), np.arange(12.0)
    for column, names in (("path", data.train.paths), ("image_id", data.train.paths), ("row", np.arange(12))):
        found, _, _ = weighted(s, file_of(tmp_path / "w.csv", names, w, column))
        assert found.data.train.weights is not None
        np.testing.assert_allclose(found.data.train.weights, w / w.mean(), rtol=1e-6)


def test_images_without_a_label_weigh_nothing(tmp_path: Path) -> None:
    train, w = shades(60, 1), drawn(60)
    assert train.labels is not None
    train.labels[:20] = -1
    s, found, _ = weighted(subject(train), file_of(tmp_path / "w.csv", image_ids(train), w))
    assert s.data.train.weights is not None and found.images == 40
    assert s.data.train.weights[20:].mean().item() == pytest.approx(1)
    assert found.effective == pytest.approx(w[20:].sum() ** 2 / (w[20:] ** 2).sum())


@pytest.mark.parametrize(
    ("effective", "says"),
    [(95.0, ": they hardly change anything"), (94.0, "94.0"), (10.0, "10.0"), (9.0, "9.0, 9% of them: most hardly")],
)
def test_too_even_and_too_uneven_weights_are_remarked_on(effective: float, says: str) -> None:
    notice = ImageWeights("w.csv", 100, effective, 0.0, 20.0).notice
    assert says in notice and (":" in notice) is (":" in says)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.drop(columns="image_id"), "does not say whose weights these are: it needs a column image_id"),
        (lambda f: f.iloc[:50], "has 50 weights, but shades has 60 training images: reweight these alone"),
        (lambda f: f.assign(image_id=[f"x{i}" for i in range(60)]), "is not of these rows: 60 of 60 are not in it"),
        (lambda f: f.assign(weight=-f["weight"]), "weights are negative"),
        (lambda f: f.assign(weight=0), "the weights sum to zero"),
        (lambda f: f.assign(weight="x"), "not numbers"),
        (lambda f: f.rename(columns={"weight": "wight"}), "no column 'weight'"),
    ],
)
def test_weights_of_other_images_are_refused(change: Any, says: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"image_id": image_ids(shades(60, 1)), "weight": drawn(60)})
    change(frame).to_csv(tmp_path / "w.csv", index=False)
    with pytest.raises(UserError, match=says):
        probe(subject(), weights=tmp_path / "w.csv", epochs=1, seeds=1)


# ------------------------------------------------------------------------------------------------- the commands


def test_from_features_to_weights_to_a_probe(
    hard_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [f"--data={hard_images}", "--val-fraction=0.25", "--encoder=pixels"]
    f, w, equal, seen = (tmp_path / name for name in ("f.npz", "w.csv", "e.csv", "s.json"))
    assert main(["embed", *images, f"--out={f}"]) == 0
    assert main(["stable", "reweight", f"--data={f}", "--rows=split=train", f"--out={w}", "--components=5"]) == 0
    frame = pd.read_csv(w)
    assert list(frame) == ["image_id", "weight"] and len(frame) == 210
    frame.assign(weight=7).to_csv(equal, index=False)
    capsys.readouterr()
    reports = []
    for more in ([], [f"--weights={equal}"], [f"--weights={w}"]):
        assert main(["probe", *images, "--epochs=3", "--seeds=1", *more, f"--json={seen}"]) == 0
        reports.append(read_report("probe", seen))
    plain, same, reweighted = reports
    assert plain["weights"] is None and plain["probe"] == same["probe"] != reweighted["probe"]
    assert same["weights"] == {"file": str(equal), "images": 210, "effective": 210, "least": 1, "most": 1}
    ess = frame["weight"].sum() ** 2 / (frame["weight"] ** 2).sum()
    assert reweighted["weights"]["effective"] == pytest.approx(ess)
    out = " ".join(capsys.readouterr().out.split())
    assert "effective sample size 210.0: they hardly change anything" in out
    assert f"effective sample size {ess:,.1f}" in out
    assert main(["stable", "reweight", f"--data={f}", f"--out={w}", "--components=5"]) == 0
    assert main(["probe", *images, f"--weights={w}"]) == 2
    assert "280 weights, but hard has 210 training images" in capsys.readouterr().err
    assert main(["probe", *images, f"--weights={w}", "--val-fraction=0", "--seed=1"]) == 2
