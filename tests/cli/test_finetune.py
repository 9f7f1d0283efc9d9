"""finetune as a command: the table, the files, its options, going on, what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from contrastkit import evaluate, load_classifier
from contrastkit.cli.main import app, main
from contrastkit.errors import UserError
from contrastkit.protocols import PROTOCOLS
from tests.schemas import read_report

QUICK = ["--epochs=2", "--lr=0.02,0.05", "--seeds=2", "--precision=float32", "--device=cpu"]


def test_the_table_and_the_files(moco_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--labels-per-class=10", "--baselines"]
    assert main(["finetune", str(moco_run), *few, *QUICK, f"--json={tmp_path / 'x.json'}"]) == 0
    printed = " ".join(capsys.readouterr().out.split())  # a title may be wrapped
    assert "70 labelled training images (10 a class); 2 epochs of 2 steps of 35 images" in printed
    assert "2 learning rates, one chosen on 14 of them that are held out" in printed
    assert "fine-tuning on hard, protocol tiny, 70 labelled training and 70 test images of 16 px" in printed
    report = read_report("finetune", moco_run / "finetune.json")
    assert report == json.loads((tmp_path / "x.json").read_text())
    assert report["labels"] == {"images": 70, "least": 10, "most": 10, "held_out": 14, "test": 70}
    names = [f"{moco_run}, fine-tuned", f"{moco_run}, linear probe", "tiny, from scratch"]
    assert list(report["results"]) == names
    tuned = report["results"][names[0]]
    for row in report["results"].values():
        assert sum(sum(c["answers"].values()) for c in row["per_class"].values()) == 2 * row["accuracy"]["n"]
    assert f"{names[0]} on hard: 7 classes, mean of all classes" in printed and "most often taken for" in printed
    assert (moco_run / "finetune-confusion.png").read_bytes().startswith(b"\x89PNG")
    assert tuned["rates"] == [0.02, 0.05] and len(tuned["validation"]) == len(tuned["seeds"]) == 2
    assert f"{100 * tuned['accuracy']['top1']:.2f} % +- {100 * tuned['std']:.2f}" in printed
    for name in names[::2]:
        for line in ("learning rate 0.02", "learning rate 0.05", "seed 0, learning", "seed 1, learning"):
            assert f"{name}: {line}" in printed
    assert load_classifier(moco_run / "finetune" / "model.safetensors").size == report["size"]


def test_where_it_is_kept(moco_run: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    few = ["--labels-per-class=2", "--epochs=1", "--lr=0.01", "--seeds=1", "--device=cpu"]
    (moco_run / "finetune.json").unlink(missing_ok=True)
    other = [f"--data={images}", "--val-fraction=0.2"]
    assert main(["finetune", str(moco_run), *few, *other]) == 0
    assert not (moco_run / "finetune.json").exists()
    files = {"finetune.json", "finetune-confusion.png", "model.safetensors"}
    assert {file.name for file in (moco_run / "finetune-noise").iterdir()} >= files
    assert main(["finetune", "--encoder=tiny", *few, *other, "--confusion=asked.png"]) == 0
    assert (tmp_path / "asked.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "runs" / "finetune-tiny-noise" / "finetune-confusion.png").exists()
    assert (tmp_path / "runs" / "finetune-tiny-noise" / "model.safetensors").is_file()
    assert main(["finetune", "--encoder=tiny", *few, *other, "--out=here"]) == 0
    assert (tmp_path / "here" / "finetune.json").is_file()


def test_layers_of_the_methods_head(moco_run: Path, tmp_path: Path) -> None:
    few = ["--labels-per-class=2", "--epochs=1", "--lr=0.01", "--seeds=1", "--device=cpu", f"--out={tmp_path}"]
    assert main(["finetune", str(moco_run), *few, "--head-layers=1"]) == 0
    classifier = load_classifier(tmp_path / "model.safetensors")
    assert [type(part).__name__ for part in classifier.neck.children()] == ["Linear", "ReLU"]


# ------------------------------------------------------------------------------------------------- options

OF_THE_CALL: dict[str, tuple[str, Any]] = {
    "--labels-per-class=3": ("few", evaluate.FewLabels(labels_per_class=3)),
    "--label-fraction=0.5": ("few", evaluate.FewLabels(label_fraction=0.5)),
    "--label-list=names": ("few", evaluate.FewLabels(label_list=Path("names"))),
    "--protocol=mae-b": ("protocol", "mae-b"),
    "--weights=w.csv": ("weights", Path("w.csv")),
    "--seeds=5": ("seeds", 5),
    "--seed=7": ("seed", 7),
    "--baselines": ("baselines", True),
    "--precision=bfloat16": ("precision", "bfloat16"),
    "--out=there": ("out", Path("there")),
    "--restart": ("restart", True),
}
OF_THE_PROTOCOL: dict[str, tuple[str, Any]] = {
    "--layers=1": ("layers", 1),
    "--head-layers=1": ("head_layers", 1),
    "--head-std=0.5": ("head_std", 0.5),
    "--batch-norm=eval": ("batch_norm", "eval"),
    "--epochs=7": ("epochs", 7),
    "--train-batch=9": ("train_batch", 9),
    "--optimizer=adamw": ("optimizer", "adamw"),
    "--lr=0.5,1": ("lr", (0.5, 1.0)),
    "--encoder-lr=0.1": ("encoder_lr", 0.1),
    "--layer-decay=0.7": ("layer_decay", 0.7),
    "--momentum=0.5": ("momentum", 0.5),
    "--no-nesterov": ("nesterov", False),
    "--weight-decay=0.2": ("weight_decay", 0.2),
    "--schedule=step": ("schedule", "step"),
    "--milestones=0.5": ("milestones", (0.5,)),
    "--gamma=0.3": ("gamma", 0.3),
    "--warmup-epochs=1": ("warmup_epochs", 1.0),
    "--crop-min=0.2": ("crop_min", 0.2),
    "--flip-p=0.1": ("flip_p", 0.1),
    "--interpolation=bicubic": ("interpolation", "bicubic"),
    "--mixup=0.3": ("mixup", 0.3),
    "--smoothing=0.1": ("smoothing", 0.1),
    "--drop-path=0.1": ("drop_path", 0.1),
}


def test_each_option_reaches_the_library(moco_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def spy(subject: evaluate.EvaluationSubject, **how: Any) -> None:
        given.update(how)
        raise UserError("enough")

    monkeypatch.setattr(evaluate, "finetune", spy)

    def call(*options: str) -> dict[str, Any]:
        assert main(["finetune", str(moco_run), *options]) == 2
        return {name: value for name, value in given.items() if not name.startswith("on_")}

    default = call()
    assert default["out"] == moco_run / "finetune" and default["numbers"] == {}
    for option, (name, value) in OF_THE_CALL.items():
        assert call(option) == default | {name: value} and default[name] != value, option
    for option, (name, value) in OF_THE_PROTOCOL.items():
        assert call(option) == default | {"numbers": {name: value}}, option
        assert getattr(PROTOCOLS["tiny"], name) != value, option


def test_every_option_is_in_a_table() -> None:
    import typer

    from tests.cli.test_options import ELSEWHERE, ENCODER, SUBJECT

    group: Any = typer.main.get_command(app)
    options = {parameter.name for parameter in group.get_command(None, "finetune").params}
    tables = [*OF_THE_CALL, *OF_THE_PROTOCOL, *SUBJECT, *ENCODER]
    names = {option.split("=")[0].removeprefix("--no-").removeprefix("--").replace("-", "_") for option in tables}
    assert options - ELSEWHERE - {"run"} == names - ELSEWHERE


# ------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labels-per-class=31"], "--labels-per-class 31 is more than a class of hard has"),
        (["--label-fraction=0.001"], "leaves no image of"),
        (["--label-list=nowhere"], "--label-list nowhere cannot be read"),
        (["--label-fraction=0.5", "--labels-per-class=2"], "exclude each other"),
        (["--layers=9"], "--layers 9: this encoder has 3"),
        (["--head-layers=5"], "hidden layers to keep"),
        (["--lr=fast"], "--lr: 'fast' is not a number"),
        (["--lr=-1"], "--lr must not be negative"),
        (["--protocol=nothing"], "unknown protocol 'nothing'"),
        (["--layer-decay=0"], "--layer-decay must"),
    ],
)
def test_bad_options(options: list[str], message: str, moco_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["finetune", str(moco_run), *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_sounds_are_refused(sounds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["finetune", "--encoder=tiny", f"--data={sounds}", "--val-fraction=0.2"]) == 2
    assert "fine-tuning crops and flips images, but these are sounds: use probe" in capsys.readouterr().err
