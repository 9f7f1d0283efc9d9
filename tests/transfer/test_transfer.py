"""Segmentation and detection from end to end, on sets that are plain to see."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from contrastkit import checkpoint
from contrastkit.errors import Interrupted, UserError
from contrastkit.parts.build import build_encoder
from contrastkit.training.signals import Signals
from contrastkit.transfer import (
    Retrieval,
    TransferSubject,
    detect,
    detector_recipe,
    linear_recipe,
    open_boxes,
    open_masks,
    segment,
)
from contrastkit.transfer.segment import CONSTANT, default_size
from tests.rows import fast_if
from tests.transfer.sets import halves, write_boxes, write_masks, xml

CPU = torch.device("cpu")


def subject(*names: str, trained: bool = True) -> TransferSubject:
    encoders = {}
    for seed, name in enumerate(names or ("tiny",)):
        torch.manual_seed(seed)
        encoders[name] = build_encoder("tiny", channels=3, size=16).eval()
    return TransferSubject(encoders=encoders, trained=frozenset(encoders if trained else ()), size=16, workers=0)


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    lists = {
        "train": {f"a{k}": halves(k, classes=(k % 2, 1 - k % 2)) for k in range(8)},
        "val": {f"b{k}": halves(20 + k, size=(24 + k, 40)) for k in range(4)},
    }
    return write_masks(tmp_path / "halves", lists)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["retrieval", "linear"])
def test_masks_are_predicted_where_classes_are_plain_to_see(protocol, masks: Path, tmp_path: Path) -> None:
    data = open_masks(masks)
    head = linear_recipe("tiny", steps=60, batch=4, lr=0.01)
    report = segment(
        subject("first", "second"), data, protocol=protocol, retrieval=Retrieval(k=5), linear=head, size=64
    )
    assert list(report.scores) == ["first", "second", CONSTANT]
    for name in ("first", "second"):
        score = report.scores[name]
        assert score.miou.value > 0.8
        assert score.miou.interval[0] <= score.miou.value <= score.miou.interval[1]
    share = torch.cat([data.test.mask(i).flatten() for i in range(4)]).eq(data.commonest).double().mean().item()
    assert report.scores[CONSTANT].accuracy.value == pytest.approx(share)
    assert report.scores[CONSTANT].miou.value == pytest.approx(share / 2)
    assert report.as_json()["settings"]["seed"] == 0
    assert set(report.shown[0].predicted) == {"first", "second"}
    assert [each.predicted["first"].shape for each in report.shown] == [(24 + k, 40) for k in range(4)]
    report.draw(tmp_path / "sheet.png", data.classes)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width >= 700


def test_the_result_depends_on_neither_workers_nor_earlier_draws(masks: Path) -> None:
    data = open_masks(masks)
    first = segment(subject(), data, size=32, retrieval=Retrieval(memory=40)).as_json()
    torch.rand(3)
    assert segment(replace(subject(), workers=2), data, size=32, retrieval=Retrieval(memory=40)).as_json() == first
    other = segment(replace(subject(), seed=1), data, size=32, retrieval=Retrieval(memory=40)).as_json()
    assert other["scores"] != first["scores"]


@pytest.mark.slow
def test_images_that_give_nothing_to_the_memory_are_counted(masks: Path) -> None:
    few = segment(subject(), open_masks(masks), size=32, retrieval=Retrieval(memory=5))
    assert few.notices == ("--memory takes a patch of each of 5 of 8 training images",)
    assert segment(subject(), open_masks(masks), size=32, retrieval=Retrieval(memory=8)).notices == ()


def test_a_size_that_is_not_given_has_sixteen_patches_on_a_side() -> None:
    encoder = build_encoder("tiny", channels=3, size=16)  # a patch of tiny has 8 pixels
    assert default_size(encoder, 16, CPU) == 128
    assert default_size(encoder, 256, CPU) == 256
    vit = build_encoder("timm:vit_tiny_patch16_224", channels=3, size=64)
    assert default_size(vit, 64, CPU) == 256


def test_a_transformer_is_given_images_of_the_size_asked_for(masks: Path) -> None:
    torch.manual_seed(0)
    vit = build_encoder("timm:vit_tiny_patch16_224", channels=3, size=64)
    found = segment(replace(subject(), encoders={"vit": vit}, size=64), open_masks(masks), size=96)
    assert found.size == 96 and found.scores["vit"].miou.value > 0.3
    with pytest.raises(UserError, match="does not divide"):
        segment(replace(subject(), encoders={"vit": vit}, size=64), open_masks(masks), size=90)


# ----------------------------------------------------------------------------------------------------------- detection


@pytest.fixture
def squares(tmp_path: Path) -> Iterator[Path]:
    """Dark images with a red and a green square."""
    pytest.importorskip("torchmetrics")
    pytest.importorskip("faster_coco_eval")
    g = np.random.default_rng(0)
    lists: dict[str, dict[str, str]] = {"trainval": {}, "test": {}}
    pixels = {}
    for k in range(16):
        image, boxes = g.integers(0, 40, (64, 64, 3)).astype(np.uint8), []
        for name, channel, left in (("green", 1, 2), ("red", 0, 33)):
            x, y, side = left + int(g.integers(0, 6)), int(g.integers(2, 36)), int(g.integers(16, 25))
            image[y : y + side, x : x + side, channel] = 230
            boxes.append((name, x + 1, y + 1, x + side, y + side))
        name = f"s{k}"
        pixels[name] = image
        lists["trainval" if k < 11 else "test"][name] = xml(boxes if k != 3 else [], size=(64, 64))
    root = write_boxes(tmp_path / "squares", lists)
    for name, image in pixels.items():
        Image.fromarray(image).save(root / "JPEGImages" / f"{name}.png")
    yield root


def short(steps: int = 4, **changes):
    return detector_recipe("tiny", steps=steps, batch=3, size=64, **changes)


@pytest.mark.slow
def test_a_detection_that_is_stopped_ends_as_it_would_have(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = open_boxes(squares)
    whole = detect(subject(), data, short(), resamples=2)

    class Stopping:
        received = None

        def __init__(self, log) -> None:
            self.steps = 0

        def __enter__(self):
            return self

        def __exit__(self, *_: object) -> None: ...

    calls = 0

    def received(self) -> int | None:
        nonlocal calls
        calls += 1
        return 15 if calls >= 4 else None  # in the second step

    monkeypatch.setattr("contrastkit.transfer.loop.Signals", type("S", (Stopping,), {"received": property(received)}))
    lines: list[str] = []
    with pytest.raises(Interrupted):
        detect(subject(), data, short(), resamples=2, states=tmp_path, log=lines.append)
    assert (tmp_path / "detect-squares" / "state.pt").exists()
    monkeypatch.setattr("contrastkit.transfer.loop.Signals", Stopping)
    resumed = detect(subject(), data, short(), resamples=2, states=tmp_path, log=lines.append)
    assert any("going on after step" in line for line in lines)
    assert resumed.as_json() == whole.as_json()
    assert not (tmp_path / "detect-squares").exists()


def stop_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training receives SIGTERM as it begins."""

    def enter(self: Signals) -> Signals:
        self._previous, self.received = {}, 15
        return self

    monkeypatch.setattr(Signals, "__enter__", enter)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("nothing", ""),
        (
            "weights",
            "holds an unfinished training with weights .*, not .*: repeat its command to go on with it, add --rest",
        ),
        ("list", "with training part "),
        ("box", "with training part "),
        ("test box", "with test part "),
        ("class", "with classes .*red.*, not .*rot"),
    ],
)
def test_a_detection_does_not_go_on_from_another_training(
    change: str, says: str, squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names and settings are the same."""
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        stop_at_once(patch)
        detect(subject(), open_boxes(squares), short(2), resamples=0, states=tmp_path)
    again, listed = subject(), squares / "ImageSets/Main/trainval.txt"
    note = squares / f"Annotations/{'s15' if change == 'test box' else 's0'}.xml"
    if change == "weights":
        with torch.no_grad():
            next(again.encoders["tiny"].parameters()).mul_(1.01)
    elif change == "list":
        listed.write_text(listed.read_text().replace("s1\n", "", 1))
    elif "box" in change:
        note.write_text(note.read_text().replace("<xmin>", "<xmin>1", 1).replace("<xmax>", "<xmax>1", 1))
    elif change == "class":
        for file in note.parent.iterdir():
            file.write_text(file.read_text().replace("red", "rot"))
    if says:
        with pytest.raises(UserError, match=says):
            detect(again, open_boxes(squares), short(2), resamples=0, states=tmp_path)
    else:
        lines: list[str] = []
        detect(again, open_boxes(squares), short(2), resamples=0, states=tmp_path, log=lines.append)
        assert "going on after step 1 of 2" in lines


@pytest.mark.parametrize(("change", "says"), [("weights", "with weights "), ("mask", "with training part ")])
def test_a_head_does_not_go_on_from_another_training(
    change: str, says: str, masks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(own: TransferSubject, *, restart: bool = False) -> None:
        how: dict[str, Any] = {"linear": linear_recipe("tiny", steps=2, batch=2), "size": 32, "states": tmp_path}
        segment(own, open_masks(masks), protocol="linear", restart=restart, **how)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        stop_at_once(patch)
        train(subject())
    again = subject()
    if change == "weights":
        with torch.no_grad():
            next(again.encoders["tiny"].parameters()).mul_(1.01)
    else:
        Image.fromarray(halves(99)).save(masks / "SegmentationClass" / "a0.png")
    with pytest.raises(UserError, match=says):
        train(again)
    train(again, restart=True)
    assert not (tmp_path / "segment-halves").exists()


@pytest.mark.slow
def test_baselines_come_and_go_between_two_starts(masks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one start has done, another with more encoders does not repeat."""
    one = subject()
    encoders = dict(one.encoders)
    more = replace(one, encoders=encoders | {"another": next(iter(subject().encoders.values()))})

    def train(own: TransferSubject, log: list[str], fail: bool = False) -> None:
        def told(line: str) -> None:
            log.append(line)
            if fail and line.startswith("another"):
                raise Killed

        how: dict[str, Any] = {"linear": linear_recipe("tiny", steps=2, batch=2), "size": 32, "states": tmp_path}
        segment(own, open_masks(masks), protocol="linear", log=told, **how)

    with pytest.raises(Killed):
        train(more, [], fail=True)
    lines: list[str] = []
    train(one, lines)
    assert lines == ["tiny: an earlier start has done it"]
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        stop_at_once(patch)
        train(one, [])
    train(more, lines := [])
    assert "going on after step 1 of 2" in lines


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    ("task", "kill"),
    fast_if(lambda row: row == ("segment", 2), [("segment", 2), ("segment", 7), *(("detect", n) for n in (2, 5, 7))]),
)
def test_a_task_that_is_killed_ends_as_it_would_have(
    task: str, kill: int, squares: Path, masks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the state is written: in the first training, after the first test, in the second training."""
    monkeypatch.setattr("contrastkit.transfer.loop.CHECK_EVERY", 1)
    monkeypatch.setattr("contrastkit.evaluate.journal.SAVE_SECONDS", 0.0)
    monkeypatch.setattr("contrastkit.evaluate.journal.SAVING", 1.0)

    def work(states: Path | None, lines: list[str]) -> tuple[dict[str, Any], list[Any]]:
        own = subject("first", "second")
        if task == "detect":
            found = detect(own, open_boxes(squares), short(4), resamples=0, states=states, log=lines.append)
            return found.as_json(), [each.predicted for each in found.shown]
        recipe = linear_recipe("tiny", steps=4, batch=2)
        data = open_masks(masks)
        done = segment(own, data, protocol="linear", linear=recipe, size=32, states=states, log=lines.append)
        return done.as_json(), [each.predicted for each in done.shown]

    whole, save, n = work(None, []), checkpoint.save, 0

    def dying(path: Path, state: dict[str, Any]) -> None:
        nonlocal n
        save(path, state)
        n += 1
        if n == kill:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(checkpoint, "save", dying)
        work(tmp_path / "states", [])
    lines: list[str] = []
    again = work(tmp_path / "states", lines)
    assert again[0] == whole[0]
    for one, two in zip(again[1], whole[1], strict=True):
        assert repr(one) == repr(two)
    assert f"going on after step {kill if kill < 5 else kill - 5} of 4" in lines or kill == 5
    assert any("first" in line and "earlier start" in line for line in lines) == (kill >= 5)
    assert not list((tmp_path / "states").iterdir())


@pytest.mark.slow
def test_nothing_of_an_untrained_encoder_is_frozen_which_is_told(squares: Path) -> None:
    """Frozen, its norms would keep their initial statistics: a baseline to beat with ease."""
    mixed = replace(subject("run", "untrained tiny"), trained=frozenset({"run"}))
    report = detect(mixed, open_boxes(squares), short(1, norm="frozen", freeze=1), resamples=0)
    assert report.notices == ("untrained tiny: nothing of it is frozen, as it is untrained",)
    assert report.settings["norm"] == "frozen"
    assert detect(mixed, open_boxes(squares), short(1), resamples=0).notices == ()


def test_the_sheet_of_boxes_is_written(squares: Path, tmp_path: Path) -> None:
    report = detect(subject(), open_boxes(squares), short(1), resamples=0)
    report.draw(tmp_path / "sheet.png", ("green", "red"))
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width >= 700


@pytest.mark.slow
def test_squares_that_are_plain_to_see_are_found(squares: Path) -> None:
    report = detect(subject(), open_boxes(squares), short(150, lr=0.02), resamples=20)
    assert report.scores["tiny"].ap50.value > 0.6


def test_weights_of_a_file_are_transferred(tmp_path: Path) -> None:
    torch.manual_seed(9)
    encoder = build_encoder("tiny", channels=3, size=224)
    save_file(encoder.trunk.state_dict(), file := tmp_path / "weights.safetensors")
    opened = TransferSubject.open(encoder="tiny", init_from=str(file), baselines=True, device="cpu")
    name = f"tiny, weights of {file}"
    assert list(opened.encoders) == [name, "untrained tiny"] and opened.trained == {name}
    for key, value in encoder.state_dict().items():
        assert torch.equal(opened.encoders[name].state_dict()[key], value), key
    assert opened.notices[0].startswith("starting weights: ") and "no row of published weights" in opened.notices[-1]
