"""transfer segment and detect as commands: what each option hands over, what is said and written."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from contrastkit.cli.main import main
from contrastkit.errors import UserError
from contrastkit.parts.build import build_encoder
from contrastkit.transfer import TransferSubject
from tests.schemas import read_report
from tests.transfer.sets import halves, write_boxes, write_masks, xml


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    lists = {part: {f"{part}{k}": halves(k) for k in range(3)} for part in ("train", "val")}
    return write_masks(tmp_path / "halves", lists | {"mine": {"m": halves(9)}})


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    pytest.importorskip("torchmetrics")
    pytest.importorskip("faster_coco_eval")
    lists = {part: {f"{part}{k}": xml([("cat", 3, 3, 30, 25)]) for k in range(3)} for part in ("trainval", "test")}
    return write_boxes(tmp_path / "cats", lists | {"mine": {"m": xml([("cat", 3, 3, 30, 25)])}})


def handed_over(command: str, data: Path, *options: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a command gives to the library: the arguments of the subject, of the set and of the task, in plain words."""
    got: dict[str, Any] = {}
    torch.manual_seed(0)
    encoder = build_encoder("tiny", channels=3, size=16)

    def opened(**how: Any) -> TransferSubject:
        got.update(how)
        return TransferSubject(encoders={"tiny": encoder}, trained=frozenset(), size=16)

    def task(subject: Any, data: Any, *args: Any, **how: Any) -> None:
        got.update({"lists": data.notices[:2], "args": args}, **how)
        raise UserError("enough")

    monkeypatch.setattr(TransferSubject, "open", opened)
    monkeypatch.setattr(f"contrastkit.transfer.{command}", task)
    assert main(["transfer", command, "RUN", f"--data={data}", f"--out={data.parent / 'out'}", *options]) == 2
    for name in ("log", "on_progress"):
        got.pop(name)
    return got


OF_SUBJECT = {
    "--encoder=tiny": ("encoder", "tiny"), "--pretrained": ("pretrained", True), "--baselines": ("baselines", True),
    "--workers=3": ("workers", 3), "--device=cpu": ("device", "cpu"), "--seed=4": ("seed", 4),
}  # fmt: skip


@pytest.mark.parametrize("option", OF_SUBJECT)
def test_the_options_of_the_subject_reach_it(option: str, masks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = handed_over("segment", masks, monkeypatch=monkeypatch)
    name, value = OF_SUBJECT[option]
    assert usual["run"] == Path("RUN")
    assert handed_over("segment", masks, option, monkeypatch=monkeypatch) == usual | {name: value}


@pytest.mark.parametrize(
    ("options", "name", "field", "value"),
    [
        (["--k=3"], "retrieval", "k", 3),
        (["--T=0.5"], "retrieval", "T", 0.5),
        (["--memory=77"], "retrieval", "memory", 77),
        (["--size=40"], "size", None, 40),
        (["--restart"], "restart", None, True),
        (["--protocol=linear"], "protocol", None, "linear"),
        (["--protocol=linear", "--recipe=dinov3"], "linear", "steps", 40_000),
        (["--protocol=linear", "--steps=9"], "linear", "steps", 9),
        (["--protocol=linear", "--batch=9"], "linear", "batch", 9),
        (["--protocol=linear", "--lr=0.5"], "linear", "lr", 0.5),
    ],
)
def test_the_options_of_segment_reach_it(options, name, field, value, masks, monkeypatch) -> None:
    usual = handed_over("segment", masks, monkeypatch=monkeypatch)
    changed = handed_over("segment", masks, *options, monkeypatch=monkeypatch)
    before, after = (got[name] if field is None else getattr(got[name], field) for got in (usual, changed))
    assert after == value != before


@pytest.mark.parametrize(
    ("option", "field", "value"),
    [
        ("--recipe=moco-voc", "steps", 24_000),
        ("--head=c4", "head", "c4"),
        ("--steps=9", "steps", 9),
        ("--batch=9", "batch", 9),
        ("--lr=0.5", "lr", 0.5),
        ("--size=90", "size", 90),
        ("--norm=frozen", "norm", "frozen"),
        ("--freeze=2", "freeze", 2),
        ("--resamples=7", "resamples", 7),
        ("--restart", "restart", True),
    ],
)
def test_the_options_of_detect_reach_it(option, field, value, boxes, monkeypatch) -> None:
    usual = handed_over("detect", boxes, monkeypatch=monkeypatch)
    changed = handed_over("detect", boxes, option, monkeypatch=monkeypatch)
    before, after = (got[field] if field in got else getattr(got["args"][0], field) for got in (usual, changed))
    assert after == value != before


@pytest.mark.parametrize(
    ("option", "said"), [("--train-list=mine", "halves/mine"), ("--test-list=mine", "halves/mine")]
)
def test_lists_are_those_asked_for(option: str, said: str, masks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lists = handed_over("segment", masks, option, monkeypatch=monkeypatch)["lists"]
    assert [line.startswith(said) for line in lists] == [option.startswith("--train"), option.startswith("--test")]


def test_segment_writes_report_and_sheet_beside_its_run(
    moco_run: Path, masks: Path, capsys: Any, tmp_path: Path
) -> None:
    words = ["transfer", "segment", str(moco_run), f"--data={masks}", "--size=32", "--device=cpu", "--baselines"]
    assert main([*words, f"--json={tmp_path / 'x.json'}", "--workers=0"]) == 0
    report = read_report("transfer-segment", moco_run / "transfer" / "segment-halves-retrieval.json")
    assert report == json.loads((tmp_path / "x.json").read_text())
    assert list(report["scores"]) == [str(moco_run), "untrained tiny", "the commonest class"]
    assert (moco_run / "transfer" / "segment-halves-retrieval.png").stat().st_size > 1000
    text = capsys.readouterr().out
    assert "halves/train: 3 images" in text and "untrained tiny" in text and "mIoU" in text


def test_detect_writes_report_and_sheet(boxes: Path, tmp_path: Path, capsys: Any) -> None:
    words = ["transfer", "detect", "--encoder=tiny", f"--data={boxes}", "--device=cpu", "--workers=0", "--resamples=3"]
    assert main([*words, "--steps=1", "--size=64", f"--out={tmp_path / 'new' / 'out'}"]) == 0
    report = read_report("transfer-detect", tmp_path / "new" / "out" / "detect-cats.json")
    assert report["settings"]["steps"] == 1
    assert list(report["scores"]) == ["tiny, untrained"]
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == ["detect-cats.json", "detect-cats.png"]
    text = capsys.readouterr().out
    assert "cats/trainval: 3 images, 3 boxes" in text and "AP50" in text


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--protocol=linear", "--k=3"], "--k applies to --protocol retrieval only"),
        (["--steps=3"], "--steps applies to --protocol linear only"),
        (["--encoder=resnet19"], "unknown encoder 'resnet19'"),
        ([], "nothing to transfer"),
        (["nowhere"], "nowhere holds no run"),
        (["nowhere", "--encoder=tiny"], "give a run folder or --encoder"),
        (["--encoder=tiny", "--out=FILE"], "it is no folder"),
        (["--encoder=timm:vit_tiny_patch16_224", "--size=90"], "--size must be a multiple of 16"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(options, says: str, masks: Path, capsys: Any) -> None:
    (masks.parent / "file").write_text("")
    options = [option.replace("FILE", str(masks.parent / "file")) for option in options]
    before = sorted(masks.parent.rglob("*"))
    out = [] if any(option.startswith("--out") for option in options) else [f"--out={masks.parent / 'new'}"]
    assert main(["transfer", "segment", f"--data={masks}", *options, *out]) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert sorted(masks.parent.rglob("*")) == before


def test_recipes_of_the_library_can_be_chosen() -> None:
    from contrastkit.transfer import detector, linear

    for command, recipes in (("segment", linear.RECIPES), ("detect", detector.RECIPES)):
        for name in recipes:
            words = ["transfer", command, "--data=nowhere", f"--recipe={name}", "--encoder=tiny"]
            assert main([*words, *(["--protocol=linear"] if command == "segment" else [])]) == 2
