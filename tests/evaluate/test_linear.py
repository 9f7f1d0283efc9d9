"""The linear probe compared with torch's autograd and SGD; the images it may use; its notices."""

import json
import math
import statistics
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastkit.errors import UserError
from contrastkit.evaluate import linear as module
from contrastkit.evaluate.features import Features
from contrastkit.evaluate.linear import linear_probe, rates_chart


def blobs(n: int, C: int, seed: int) -> Features:
    centres = torch.randn(C, 10, generator=torch.Generator().manual_seed(7))
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, C, (n,), generator=g)
    return Features((centres[y] + torch.randn(n, 10, generator=g)).relu(), y)


def test_every_rate_is_trained_as_torch_would() -> None:
    train, rates, epochs, batch, C = blobs(50, 4, seed=1), (0.03, 0.3, 3.0), 4, 16, 4
    W, b = module._train(train, rates, n_classes=C, epochs=epochs, batch=batch, seed=5, device="cpu")
    for r, rate in enumerate(rates):
        g = torch.Generator().manual_seed(5)
        fc = nn.Linear(10, C).double()
        with torch.no_grad():
            fc.weight.copy_(0.01 * torch.randn(10, C, generator=g).T)
            fc.bias.zero_()
        optimizer = torch.optim.SGD(fc.parameters(), lr=rate, momentum=0.9)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * 4)
        for _ in range(epochs):
            for rows in torch.randperm(50, generator=g).tensor_split(4):  # 50 images in batches of at most 16
                optimizer.zero_grad()
                F.cross_entropy(fc(train.x[rows].double()), train.y[rows]).backward()
                optimizer.step()
                schedule.step()
        torch.testing.assert_close(W[:, r].T.double(), fc.weight.detach(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(b[r].double(), fc.bias.detach(), rtol=1e-4, atol=1e-5)


def test_it_learns_and_reports() -> None:
    result = linear_probe(blobs(600, 7, seed=1), blobs(300, 7, seed=2), n_classes=7, epochs=20, seeds=(0, 1, 2))
    assert result.accuracy.top1 > 0.75
    assert result.accuracy.top5 is not None and result.accuracy.top5 > result.accuracy.top1
    assert result.accuracy.n == 300
    assert result.accuracy.top1 == pytest.approx(sum(result.seeds) / 3)
    assert result.std == pytest.approx(statistics.stdev(result.seeds))
    best = max(v for v in result.validation if v is not None)
    assert result.validation[result.rates.index(result.rate)] == best
    assert json.loads(json.dumps(asdict(result)))["rate"] == result.rate


def test_the_rate_is_chosen_on_groups_not_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    train = replace(blobs(1020, 3, seed=1), group_ids=torch.arange(20).repeat(51))
    seen: list[tuple[Features, Features]] = []
    real_train, real_score = module._train, module.classified

    def spy_train(features: Features, *args, **kwargs):
        seen.append((features, features))
        return real_train(features, *args, **kwargs)

    def spy_score(features: Features, *args):
        seen[-1] = (seen[-1][0], features)
        return real_score(features, *args)

    monkeypatch.setattr(module, "_train", spy_train)
    monkeypatch.setattr(module, "classified", spy_score)
    linear_probe(train, blobs(9, 3, seed=2), n_classes=3, epochs=1, seeds=(0,))
    rest, validation = (set(part.group_ids.tolist()) for part in seen[0] if part.group_ids is not None)
    assert len(validation) == 2 and len(rest) == 18 and not rest & validation


def test_the_test_images_choose_nothing() -> None:
    train, test = blobs(300, 3, seed=1), blobs(100, 3, seed=2)
    honest = linear_probe(train, test, n_classes=3, epochs=5, seeds=(0,))
    wrong = linear_probe(train, Features(test.x, (test.y + 1) % 3), n_classes=3, epochs=5, seeds=(0,))
    assert (honest.rate, honest.validation) == (wrong.rate, wrong.validation)
    assert wrong.accuracy.top1 < 0.2 < 0.6 < honest.accuracy.top1


def test_the_held_out_tenth_is_not_trained_on() -> None:
    """Random labels can be memorised for training images, but not predicted for others."""
    g = torch.Generator().manual_seed(0)
    noise = Features(torch.randn(1000, 2000, generator=g), torch.randint(0, 2, (1000,), generator=g))
    result = linear_probe(noise, noise, n_classes=2, rates=(1.0,), epochs=30, seeds=(0,))
    assert result.accuracy.top1 > 0.95  # the final classifier has seen them
    assert result.held_out == 100 and result.validation[0] is not None and result.validation[0] < 0.7


def test_of_few_images_each_is_held_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate's score is the mean over the splits of torch's own training; each split has every class on both sides."""
    C, n, epochs, rates = 3, 45, 4, (0.01, 0.3)
    train = blobs(n, C, seed=1)
    train = Features(train.x, torch.arange(n) % C)
    splits: list[tuple[Tensor, Tensor]] = []
    real = module.folds

    def spy(*of: Any) -> list[tuple[Tensor, Tensor]]:
        splits.extend(real(*of))
        return splits

    monkeypatch.setattr(module, "folds", spy)
    result = linear_probe(train, train, n_classes=C, rates=rates, epochs=epochs, seeds=(6,))
    assert result.held_out == n and sorted(torch.cat([held for _, held in splits]).tolist()) == list(range(n))
    shares: dict[float, list[float]] = {rate: [] for rate in rates}
    for rest, held in splits:
        assert sorted([*rest.tolist(), *held.tolist()]) == list(range(n))
        assert train.y[held].bincount().tolist() == [3, 3, 3]
        for rate in rates:
            g = torch.Generator().manual_seed(6)
            fc = nn.Linear(10, C).double()
            with torch.no_grad():
                fc.weight.copy_(0.01 * torch.randn(10, C, generator=g).T)
                fc.bias.zero_()
            optimizer = torch.optim.SGD(fc.parameters(), lr=rate, momentum=0.9)
            for epoch in range(epochs):
                optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * epoch / epochs)) / 2
                optimizer.zero_grad()
                F.cross_entropy(fc(train.x[rest].double()), train.y[rest]).backward()
                optimizer.step()
            shares[rate].append((fc(train.x[held].double()).argmax(1) == train.y[held]).double().mean().item())
    assert result.validation == pytest.approx([statistics.fmean(shares[rate]) for rate in rates])
    assert result.rate == max(rates, key=lambda rate: statistics.fmean(shares[rate]))


def test_one_image_a_class_leaves_the_middle_rate_unchecked() -> None:
    train, test = (Features(torch.eye(4).repeat(n, 1), torch.arange(4).repeat(n)) for n in (1, 5))
    result = linear_probe(train, test, n_classes=4, rates=(1e-9, 30.0, 1.0), epochs=20, seeds=(0,))
    assert (result.rate, result.validation, result.held_out) == (1.0, (), 0)
    assert result.notices == ["no image is left to choose a learning rate on: it is 1, unchecked"]
    assert result.accuracy.top1 == 1
    assert linear_probe(train, train, n_classes=4, rates=(1.0,), epochs=2, seeds=(0,)).notices == []


def test_rates_that_diverge_are_left_out_and_said() -> None:
    train = blobs(100, 3, seed=1)
    result = linear_probe(train, train, n_classes=3, rates=(0.1, 1e39), epochs=3, seeds=(0,))
    assert result.validation[0] is not None and result.validation[1] is None
    assert result.rate == 0.1
    assert any("diverged" in line and "1e+39" in line for line in result.notices)
    with pytest.raises(UserError, match="every learning rate"):
        linear_probe(train, train, n_classes=3, rates=(1e39,), epochs=3)


def test_the_edge_of_the_rates_is_said() -> None:
    result = linear_probe(blobs(100, 3, seed=1), blobs(50, 3, seed=2), n_classes=3, rates=(0.1, 1.0, 10.0), epochs=2)
    assert any("edge" in line for line in replace(result, rate=10.0).notices)
    assert replace(result, rate=1.0).notices == []


def test_of_equally_good_rates_the_smallest_is_taken() -> None:
    easy = Features(torch.eye(3).repeat(20, 1), torch.arange(3).repeat(20))  # right at any rate
    result = linear_probe(easy, easy, n_classes=3, rates=(3.0, 0.3, 1.0), epochs=5, seeds=(0,))
    assert (result.validation, result.rate) == ((1.0, 1.0, 1.0), 0.3)


def test_no_labels() -> None:
    train = blobs(20, 2, seed=1)
    with pytest.raises(UserError, match="needs labels"):
        linear_probe(Features(train.x, torch.full_like(train.y, -1)), train, n_classes=2)
    with pytest.raises(UserError, match="at least two"):
        linear_probe(Features(train.x[:1], train.y[:1]), train, n_classes=2)


def test_the_plot(tmp_path: Path) -> None:
    result = linear_probe(blobs(60, 3, seed=1), blobs(30, 3, seed=2), n_classes=3, epochs=2, rates=(0.1, 1.0, 1e39))
    rates_chart(tmp_path / "rates.png", result, "runs/x")
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")


def test_the_best_rate_is_the_smallest_of_equally_good_ones() -> None:
    rates = (3.0, 0.1, 0.3, 1.0, 0.01)
    assert module._best_rate(rates, (0.8, None, 0.8, 0.7, 0.5)) == 0.3
    assert module._best_rate(rates, (0.1, None, None, 0.7, 0.5)) == 1.0
    with pytest.raises(UserError, match="every learning rate"):
        module._best_rate(rates, (None,) * 5)
