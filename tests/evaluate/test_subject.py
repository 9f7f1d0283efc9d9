"""The subject of an evaluation: its images, their size, its baselines, and its notices."""

import dataclasses
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import contrastkit
from contrastkit import run as run_module
from contrastkit import starting
from contrastkit.data import ArraySource, DataSet, open_data
from contrastkit.errors import UserError
from contrastkit.evaluate import EvaluationSubject, embed, knn, probe, retrieve
from contrastkit.evaluate import subject as module
from contrastkit.evaluate.features import Features, encode, raw_pixels
from contrastkit.evaluate.fit import applicable
from contrastkit.evaluate.linear import linear_probe
from contrastkit.evaluate.made import made
from contrastkit.evaluate.neighbours import knn_accuracy
from contrastkit.evaluate.origin import encoder_hash
from contrastkit.evaluate.summary import summarise
from contrastkit.parts.build import build_encoder
from contrastkit.run import Run


def noise(n: int, C: int, seed: int) -> ArraySource:
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % C
    x = 20 * y[:, None, None, None] + torch.randint(0, 120, (n, 3, 12, 12), generator=g)
    return ArraySource("noise", x.byte(), y)


def data_set(C: int = 6, test: bool = True) -> DataSet:
    train = noise(90, C, 1)
    return DataSet("noise", train, noise(40, C, 2) if test else None, train)


class MeanColour(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


# ---------------------------------------- from objects


def test_from_objects_each_call_is_its_parts() -> None:
    torch.manual_seed(0)
    encoder, data = build_encoder("tiny", channels=3, size=12).eval(), data_set()
    subject = EvaluationSubject(data=data, encoders={"tiny": encoder, "mean": MeanColour(), "pixels": None}, size=12)
    assert data.test is not None and subject.n_classes == 6
    features = {
        "tiny": [encode(encoder, source, size=12) for source in (data.train, data.test)],
        "pixels": [raw_pixels(source, size=12) for source in (data.train, data.test)],
    }
    found, probed = knn(subject, k=3, T=0.5), probe(subject, epochs=2, seeds=2, seed=4)
    assert list(found.accuracy) == list(probed.probe) == ["tiny", "mean", "pixels"]
    for name, (train, test) in features.items():
        assert found.accuracy[name] == knn_accuracy(train, test, k=3, T=0.5, n_classes=6)
        assert probed.probe[name] == linear_probe(train, test, n_classes=6, epochs=2, seeds=(4, 5))
        standardised = (Features((x - train.x.mean(0)) / (train.x.var(0, correction=0) + 1e-6).sqrt(), y)
                        for x, y in ((train.x, train.y), (test.x, test.y)))  # fmt: skip
        own = probe(dataclasses.replace(subject, encoders={name: subject.encoders[name]}), epochs=2, seeds=1,
                    protocol="standardised")  # fmt: skip
        expected = linear_probe(*standardised, n_classes=6, epochs=2, seeds=(0,))
        assert own.probe[name].accuracy == expected.accuracy and own.protocol == "standardised"
    (summary,) = summarise(dataclasses.replace(subject, encoders={"tiny": encoder})).values()
    assert summary.knn == knn_accuracy(*features["tiny"], n_classes=6)
    assert summary.linear == linear_probe(*features["tiny"], n_classes=6)
    assert summary.percentages == {
        "knn": 100 * summary.knn.top1,
        "linear": 100 * summary.linear.accuracy.top1,
        "linear_std": 100 * statistics.stdev(summary.linear.seeds),
    }


@pytest.mark.parametrize(
    ("labels", "test", "split", "names"),
    [
        (True, True, False, ("knn", "probe")),
        (True, True, True, ("knn", "probe", "retrieve")),
        (False, True, True, ("retrieve",)),
        (False, True, False, ("embed",)),
        (True, False, False, ("embed",)),
        (True, False, True, ("embed",)),
        (False, False, True, ("embed",)),
    ],
)
def test_the_evaluations_that_apply(labels: bool, test: bool, split: bool, names: tuple[str, ...]) -> None:
    train, held_out = (
        noise(9, 3, k) if labels else ArraySource("noise", noise(9, 3, k).images, torch.full((9,), -1)) for k in (0, 1)
    )
    colour: dict[str, Any] = {"colour": "lab"} if split else {}
    encoder = build_encoder("tiny", channels=3, size=12, **colour)
    assert applicable(encoder, DataSet("noise", train, held_out if test else None, train)) == names
    bare = ArraySource("noise", noise(9, 3, 0).images)
    assert applicable(encoder, DataSet("noise", bare, noise(9, 3, 0), bare)) == (("retrieve",) if split else ("embed",))


def test_any_module_can_be_evaluated() -> None:
    subject = EvaluationSubject(data=data_set(), encoders={"mean": MeanColour()}, size=12)
    embedding = embed(subject, split="train")
    assert embedding.features.shape == (90, 3)
    expected = subject.data.train.fetch(torch.arange(90))
    assert isinstance(expected, Tensor)
    np.testing.assert_allclose(embedding.features, expected.float().mean((2, 3)).numpy() / 255, rtol=1e-5)


@pytest.mark.parametrize(("C", "counted"), [(5, False), (6, True)])
def test_top5_of_five_classes_is_none(C: int, counted: bool) -> None:
    """Five guesses among five classes are always right, so their share is meaningless."""
    torch.manual_seed(0)
    encoder = build_encoder("tiny", channels=3, size=12).eval()
    subject = EvaluationSubject(data=data_set(C), encoders={"tiny": encoder}, size=12)
    assert subject.n_classes == C
    accuracies = [
        knn(subject).accuracy["tiny"],
        probe(subject, epochs=1, seeds=1).probe["tiny"].accuracy,
        probe(subject, epochs=1, protocol="moco", lr=0.1).probe["tiny"].accuracy,
    ]
    assert [accuracy.top5 is not None for accuracy in accuracies] == [counted] * 3


def test_progress_is_told_for_each_encoder() -> None:
    calls: list[tuple[str, int, int | None]] = []
    subject = EvaluationSubject(data=data_set(), encoders={"mean": MeanColour(), "pixels": None}, size=12, batch=50)
    knn(subject, on_progress=lambda *line: calls.append(line))
    assert [line for line in calls if "mean" in line[0]] == [
        ("encoding 130 images: mean", n, 130) for n in (50, 90, 130)
    ]
    assert calls[-1] == ("encoding 130 images: pixels", 130, 130)


def test_what_cannot_be_evaluated() -> None:
    bare = DataSet("bare", ArraySource("bare", noise(9, 3, 0).images), noise(9, 3, 0), noise(9, 3, 0))
    half = DataSet("half", noise(9, 3, 0), ArraySource("half", noise(9, 3, 0).images), noise(9, 3, 0))
    encoders: dict[str, nn.Module | None] = {"mean": MeanColour(), "pixels": None}
    for data, says in (
        (bare, "bare has no labels"),
        (half, "the test part of half has no labels"),
        (data_set(test=False), "hold one out with --val-fraction"),
    ):
        for call in (knn, probe, summarise):
            with pytest.raises(UserError, match=says):
                call(EvaluationSubject(data=data, encoders=encoders, size=12))
    subject = EvaluationSubject(data=data_set(), encoders=encoders, size=12)
    with pytest.raises(UserError, match="embed takes one encoder, not 2: mean, pixels"):
        embed(subject)
    with pytest.raises(UserError, match="a run of cmc"):
        retrieve(subject)
    wrong: Any
    for wrong, says in (
        ({"protocol": "rate"}, "--protocol must be one of rates, standardised, moco, not rate"),
        ({"epochs": 0}, "--epochs must be at least 1, not 0"),
        ({"seeds": 0}, "--seeds must be at least 1, not 0"),
    ):
        with pytest.raises(UserError, match=says):
            probe(subject, **wrong)
    wrong = "tset"
    with pytest.raises(UserError, match="--split must be train, test or all, not tset"):
        embed(dataclasses.replace(subject, encoders={"mean": MeanColour()}), split=wrong)
    only_pixels = dataclasses.replace(subject, encoders={"pixels": None})
    with pytest.raises(UserError, match="not raw pixels: use --protocol rates"):
        probe(only_pixels, protocol="moco")
    no_test = EvaluationSubject(data=data_set(test=False), encoders={"mean": MeanColour()}, size=12)
    assert set(embed(no_test).split) == {"train"}
    with pytest.raises(UserError, match="no test part: use --split train"):
        embed(no_test, split="test")


def test_raw_pixels_of_sounds_are_refused(sounds: Path) -> None:
    data = open_data(str(sounds), val_fraction=0.2)
    with pytest.raises(UserError, match="sounds, which have no pixels"):
        knn(EvaluationSubject(data=data, encoders={"pixels": None}, size=1600))


def test_sounds_are_called_so(sounds: Path) -> None:
    source = open_data(str(sounds)).train
    encoders: dict[str, nn.Module | None] = {"wave": build_encoder("wave-tiny", channels=1, size=1600)}
    subject = EvaluationSubject(data=DataSet("sounds", source, None, source), encoders=encoders, size=1600)
    calls: list[str] = []
    subject.features("wave", source, on_progress=lambda *line: calls.append(line[0]))
    assert set(calls) == {f"encoding {len(source):,} sounds: wave"}


# ---------------------------------------- a run


def test_a_run_brings_its_data_its_split_and_its_size(moco_run: Path, hard_images: Path) -> None:
    subject = EvaluationSubject.open(moco_run)
    with np.load(hard_images) as file:
        pixels = file["images"]
    assert subject.data.test is not None
    assert (len(subject.data.train), len(subject.data.test)) == (210, 70) and len(pixels) == 280
    again = EvaluationSubject.open(moco_run, seed=7).data.test
    assert again is not None and torch.equal(again.labels, subject.data.test.labels), "the split is the run's own"
    assert (subject.size, subject.run, subject.reports, subject.notices) == (16, moco_run, moco_run, ())
    (encoder,) = subject.encoders.values()
    assert isinstance(encoder, nn.Module) and not encoder.training
    expected = contrastkit.load(moco_run).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in encoder.state_dict().items())


def test_recipe_json_is_read_once(moco_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    contents = Path.read_bytes

    def spy(path: Path) -> bytes:
        read.append(path.name)
        return contents(path)

    monkeypatch.setattr(Path, "read_bytes", spy)
    EvaluationSubject.open(moco_run, baselines=True)
    assert read.count(run_module.RECIPE) == 1


def test_another_data_set_is_seen_at_the_runs_size_and_not_reported_in_the_run(moco_run: Path, tmp_path: Path) -> None:
    g = np.random.default_rng(0)
    np.savez(tmp_path / "other.npz", images=g.integers(0, 256, (20, 24, 24, 3)).astype(np.uint8), labels=np.arange(20))
    other = EvaluationSubject.open(moco_run, data=str(tmp_path / "other.npz"), val_fraction=0.5)
    assert (other.run, other.reports, other.data.name, other.size) == (moco_run, None, "other", 16)


def test_the_split_of_another_data_set_is_drawn_by_the_seed(moco_run: Path, images: Path) -> None:
    def held_out(**how: Any) -> list[str]:
        test = EvaluationSubject.open(moco_run, val_fraction=0.25, **how).data.test
        assert test is not None
        return [test.fingerprint()]

    assert held_out(data=str(images), seed=1) != held_out(data=str(images), seed=2)
    assert held_out(seed=1) == held_out(seed=2), "its own split is the run's"


def test_evaluating_on_images_trained_on_is_a_notice(moco_run: Path) -> None:
    (notice,) = EvaluationSubject.open(moco_run, val_fraction=0.3).notices
    assert "was trained on images that it is evaluated on here" in notice
    assert EvaluationSubject.open(moco_run, val_fraction=0.25).notices == ()


def test_the_untrained_baseline_is_the_encoder_alone(moco_run: Path, hard_images: Path) -> None:
    beside = knn(EvaluationSubject.open(moco_run, baselines=True, seed=3))
    assert list(beside.accuracy) == [str(moco_run), "untrained tiny", "raw pixels"]
    for name, found in (("tiny", "untrained tiny"), ("pixels", "raw pixels")):
        record = json.loads((moco_run / "recipe.json").read_text())["options"]
        assert record["seed"] == 0
        subject = EvaluationSubject.open(encoder=name, data=str(hard_images), val_fraction=0.25, size=16, seed=0)
        if name == "tiny":  # the split is the run's, the weights follow the seed
            torch.manual_seed(3)
            encoder = build_encoder("tiny", channels=3, size=16).eval()
            subject = dataclasses.replace(subject, encoders={"tiny": encoder})
        assert list(knn(subject).accuracy.values()) == [beside.accuracy[found]]


# ---------------------------------------- an encoder by name


def test_either_a_run_or_an_encoder(moco_run: Path) -> None:
    with pytest.raises(UserError, match="nothing to evaluate"):
        EvaluationSubject.open()
    with pytest.raises(UserError, match="not both"):
        EvaluationSubject.open(moco_run, encoder="tiny")


@pytest.mark.parametrize(
    ("how", "size"), [({}, 16), ({"pretrained": True}, 224), ({"pretrained": True, "size": 64}, 64)]
)
def test_small_images_are_enlarged_for_published_weights(
    images: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any], size: int
) -> None:
    arguments: dict[str, Any] = {}

    def build(name: str, **how: Any) -> nn.Module:
        arguments.update(how, name=name)
        return MeanColour()

    monkeypatch.setattr(starting, "build_encoder", build)
    subject = EvaluationSubject.open(encoder="resnet18", data=str(images), val_fraction=0.2, **how)
    assert arguments == {"name": "resnet18", "channels": 3, "size": size, "pretrained": "pretrained" in how}
    assert subject.size == size
    assert list(subject.encoders) == [f"resnet18, {'its published weights' if how else 'untrained'}"]


def test_weights_of_a_file_are_evaluated(images: Path, tmp_path: Path) -> None:
    """Under torchvision's kind of names: the numbers of the encoder itself, beside the same one untrained."""
    torch.manual_seed(9)
    encoder = build_encoder("tiny", channels=3, size=16).eval()
    save_file(encoder.trunk.state_dict(), file := tmp_path / "weights.safetensors")
    on: dict[str, Any] = {"data": str(images), "val_fraction": 0.25, "size": 16}
    subject = EvaluationSubject.open(encoder="tiny", init_from=str(file), baselines=True, **on)
    name = f"tiny, weights of {file}"
    assert list(subject.encoders) == [name, "untrained tiny", "raw pixels"]
    assert made(subject)["made"]["weights"] == encoder_hash(encoder) and subject.kind is not None
    assert any(line.startswith("starting weights: ") for line in subject.notices)
    train, test = subject.labelled_parts()
    expected = knn_accuracy(encode(encoder, train, size=16), encode(encoder, test, size=16), n_classes=4)
    assert knn(subject).accuracy[name] == expected
    assert list(EvaluationSubject.open(encoder="tiny", baselines=True, **on).encoders)[1:] == ["raw pixels"]


def test_weights_of_a_run_name_their_encoder_and_its_size(moco_run: Path, images: Path) -> None:
    subject = EvaluationSubject.open(init_from=str(moco_run), data=str(images))
    (encoder,) = subject.encoders.values()
    assert encoder_hash(encoder) == encoder_hash(contrastkit.load(moco_run))
    assert (subject.size, subject.run, subject.reports) == (Run.open(moco_run).record.encoder["size"], None, None)


def test_weights_that_cannot_be_evaluated_are_refused(moco_run: Path, images: Path, tmp_path: Path) -> None:
    state = build_encoder("tiny", channels=3, size=16).trunk.state_dict()
    whole, part = tmp_path / "whole.safetensors", tmp_path / "part.safetensors"
    save_file(state, whole)
    save_file({name: value for name, value in state.items() if name != list(state)[-2]}, part)
    data = str(images)
    for how, says in (
        ({"init_from": str(whole), "data": data}, "does not say of which network it is: name it with --encoder"),
        ({"init_from": str(whole), "encoder": "tiny"}, "name the images with --data"),
        ({"init_from": str(part), "encoder": "tiny", "data": data}, "lacks 1 tensors of tiny, which would stay random"),
        ({"init_from": str(whole), "encoder": "tiny", "pretrained": True}, "both give weights"),
        ({"init_from": "pretrained:resnet18", "encoder": "resnet50"}, "is not of --encoder resnet50"),
        ({"init_from": str(whole), "encoder": "pixels", "data": data}, "--init-from applies to --encoder with the"),
        ({"init_from": str(whole), "run": moco_run}, "not both"),
    ):
        with pytest.raises(UserError, match=says):
            EvaluationSubject.open(**how)


def test_how_images_are_encoded_is_kept(images: Path) -> None:
    subject = EvaluationSubject.open(encoder="pixels", data=str(images), batch=7, workers=2, device="cpu", size=5)
    assert (subject.batch, subject.workers, subject.size) == (7, 2, 5)
    assert subject.device == torch.device("cpu")
    assert EvaluationSubject.open(encoder="pixels", data=str(images)).workers == 0, "as images in memory need"


def test_where_named_sets_lie_and_whether_they_are_fetched(
    moco_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments: dict[str, Any] = {}
    record = Run.open(moco_run).record
    opened = open_data(record.options.data, val_fraction=0.25)

    def spy(**how: Any) -> DataSet:
        arguments.update(how)
        return opened

    monkeypatch.setattr(module, "open_data", spy)
    EvaluationSubject.open(encoder="pixels", data="cifar10", data_dir=tmp_path, download=True, seed=9)
    rest: dict[str, Any] = dict.fromkeys(["val_fraction", "test_part", "layout", "stretch", "background"])
    assert arguments == {"data": "cifar10", "data_dir": tmp_path, "download": True, "seed": 9} | rest
    EvaluationSubject.open(encoder="pixels", data="cifar10")
    assert (arguments["data_dir"], arguments["download"]) == (None, False)
    options = dataclasses.replace(record.options, data_dir=Path("recorded"))
    monkeypatch.setattr(Run, "record", dataclasses.replace(record, options=options))
    EvaluationSubject.open(moco_run)
    assert (arguments["data_dir"], arguments["recorded_dir"]) == (None, Path("recorded"))


def test_a_run_is_evaluated_on_images_read_as_it_read_them(
    images: Path, moco_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments: dict[str, Any] = {}
    opened = open_data(str(images), val_fraction=0.2)

    def spy(**how: Any) -> DataSet:
        arguments.update(how)
        return opened

    def given(**how: Any) -> dict[str, Any]:
        EvaluationSubject.open(moco_run, **how)
        return {name: arguments[name] for name in ("val_fraction", "test_part", "layout", "stretch", "background")}

    monkeypatch.setattr(module, "open_data", spy)
    compared: list[Any] = []
    monkeypatch.setattr(module, "require_unchanged", lambda *args: compared.append(args))
    record = Run.open(moco_run).record
    recorded: dict[str, Any] = {
        "val_fraction": None,
        "test_part": "val",
        "layout": "NCHW",
        "stretch": True,
        "background": "black",
    }
    options = dataclasses.replace(record.options, **recorded)
    monkeypatch.setattr(Run, "record", dataclasses.replace(record, options=options))
    assert given() == recorded
    assert given(test_part="dev") == recorded | {"test_part": "dev"}
    assert len(compared) == 2, "also with another test part: what was trained on is the same"
    assert given(val_fraction=0.5) == recorded | {"val_fraction": 0.5, "test_part": None}
    assert given(stretch=False, background="red", layout="NHWC") == recorded | {
        "stretch": False, "background": "red", "layout": "NHWC"
    }  # fmt: skip
    assert given(data=str(images)) == recorded | {"test_part": None, "layout": None}, "the pixels, not the split"
    assert len(compared) == 2
