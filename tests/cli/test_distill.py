"""``contrastkit distill``: what it writes, that it resumes as it went, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import contrastkit
from contrastkit.cli.main import main
from contrastkit.data import open_data
from contrastkit.evaluate.classifier import ClassifierRecord, save_classifier
from contrastkit.evaluate.features import encode
from contrastkit.evaluate.supervised import LinearClassifier
from contrastkit.loading import load_method
from contrastkit.parts.build import build_encoder
from contrastkit.record import Record
from tests.same import assert_same_run
from tests.schemas import read_report

KIND: dict[str, Any] = {
    "name": "tiny",
    "channels": 3,
    "size": 16,
    "width": 0.25,
    "projector_layers": 1,
    "projector_width": 24,
}
QUICK = ["--epochs=2", "--batch=32", "--device=cpu", "--val-fraction=0.2"]


def teacher(path: Path, *, seed: int = 0, n_classes: int = 4, size: int = 16) -> Path:
    """A classifier of the images, as fine-tuning writes it, that has learned nothing."""
    torch.manual_seed(seed)
    classifier = LinearClassifier(build_encoder(**KIND), n_classes)
    path.mkdir(parents=True, exist_ok=True)
    record = ClassifierRecord(encoder=KIND, neck=(), n_classes=n_classes, classes=None, size=size)
    save_classifier(path / "model.safetensors", classifier, record)
    return path


def distil(images: Path, *more: str, method: str = "crd") -> int:
    small = ["--K=32", "--encoder=tiny"] if method == "crd" else []
    return main(["distill", method, f"--data={images}", *QUICK, *small, *more])


def line(capsys: pytest.CaptureFixture[str], code: int) -> str:
    assert code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("error: "), err
    return err


@pytest.fixture(scope="module")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("distil")
    taught = teacher(folder / "teacher")
    out = [f"--teacher={taught}", f"--out={folder / 'run'}", f"--json={folder / 'report.json'}"]
    assert distil(images, "--recipe=tiny-crd+kd", *out) == 0
    return folder / "run"


def test_a_distillation_writes_what_it_is_worth(run: Path, images: Path) -> None:
    report = read_report("distill", run.parent / "report.json")
    assert report["name"] == "crd/tiny-crd+kd" and report["finished"]
    assert json.loads((run / "distill.json").read_text()) == {"name": "crd/tiny-crd+kd", "test": report["test"]}
    data = open_data(str(images), val_fraction=0.2)
    assert data.test is not None
    answers = {}
    files = {"student": run / "classifier.safetensors", "teacher": run.parent / "teacher/model.safetensors"}
    for name, file in files.items():
        classify = contrastkit.load_classifier(file)
        found = encode(classify, data.test, size=16)
        answers[name] = found.x.argmax(1)
        share = sum(a == b for a, b in zip(answers[name].tolist(), found.y.tolist(), strict=True)) / len(found.y)
        assert report["test"][name]["top1"] == pytest.approx(share) and report["test"][name]["n"] == len(found.y)
    same = sum(a == b for a, b in zip(answers["student"].tolist(), answers["teacher"].tolist(), strict=True))
    assert report["test"]["agreement"] == pytest.approx(same / len(data.test))


def test_the_teacher_is_in_the_record_and_in_no_checkpoint(run: Path) -> None:
    record = Record.read(run / "recipe.json")
    assert record.teacher is not None
    assert record.teacher.source == str((run.parent / "teacher/model.safetensors").resolve())
    assert (record.teacher.dim, record.teacher.n_classes, len(record.teacher.sha256)) == (24, 4, 64)
    state = torch.load(run / "checkpoints/last.pt", weights_only=True)["method"]
    assert {name.split(".")[0] for name in state} == {"online", "embed_s", "embed_t", "bank"}


def test_the_encoder_is_that_of_any_run(run: Path) -> None:
    classify = contrastkit.load_classifier(run / "classifier.safetensors")
    x = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(contrastkit.load(run)(x), classify.encoder(x))
    assert load_method(run).online.head.weight.equal(classify.fc.weight)
    assert main(["knn", str(run)]) == 0


def test_a_resumed_run_ends_as_one_that_never_stopped(run: Path, images: Path) -> None:
    half = run.parent / "half"
    taught = [f"--teacher={run.parent / 'teacher'}", f"--out={half}", "--stop-after=1"]
    assert distil(images, "--recipe=tiny-crd+kd", *taught) == 0
    assert not (half / "classifier.safetensors").exists()
    assert main(["distill", "crd", f"--resume={half}"]) == 0
    assert_same_run(run, half)
    assert (half / "classifier.safetensors").read_bytes() == (run / "classifier.safetensors").read_bytes()


def test_another_teacher_is_refused_and_a_moved_one_is_not(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taught, out = teacher(tmp_path / "teacher"), tmp_path / "run"
    assert distil(images, f"--teacher={taught}", f"--out={out}", "--stop-after=1", "--monitor-every=0") == 0
    taught.rename(tmp_path / "moved")
    capsys.readouterr()
    assert "no such file" in line(capsys, main(["distill", "crd", f"--resume={out}"]))
    teacher(taught, seed=1)
    assert "has other weights than the teacher" in line(capsys, main(["distill", "crd", f"--resume={out}"]))
    assert main(["distill", "crd", f"--resume={out}", f"--teacher={tmp_path / 'moved'}"]) == 0


def test_simclrs_student_is_built_like_its_teacher(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taught, out = teacher(tmp_path / "teacher"), tmp_path / "run"
    assert distil(images, f"--teacher={taught}", f"--out={out}", method="simclr-v2") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "names no classes: its output 0 is taken for the first class of noise, '0', and so on" in told
    classify = contrastkit.load_classifier(out / "classifier.safetensors")
    own = {name: value.shape for name, value in classify.state_dict().items()}
    theirs = contrastkit.load_classifier(taught / "model.safetensors").state_dict()
    assert own == {name: value.shape for name, value in theirs.items()}
    record = Record.read(out / "recipe.json")
    assert record.name == "simclr-v2-distill/tiny" and record.recipe["views"][0]["size"] == 16


def test_a_smaller_student_is_the_recipes(tmp_path: Path, images: Path) -> None:
    taught, out = teacher(tmp_path / "teacher"), tmp_path / "run"
    more = [f"--teacher={taught}", f"--out={out}", "--encoder=cifar-resnet8", "--recipe=tiny", "--finetune-from=0"]
    assert distil(images, *more, "--stop-after=1", "--monitor-every=0", method="simclr-v2") == 0
    encoder = Record.read(out / "recipe.json").encoder
    assert (encoder["name"], encoder["width"], encoder["projector_layers"]) == ("cifar-resnet8", 1.0, 0)


def test_a_distillation_is_found_by_each_of_its_names(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, says in {
        "train crd": "error: crd distils a teacher: use contrastkit distill crd\n",
        "sweep crd": "error: crd distils a teacher: use contrastkit distill crd\n",
        "train simclr-v2-distill": "error: simclr-v2-distill distils a teacher: use contrastkit distill simclr-v2\n",
        "distill simclr-v2-distill": "error: a distillation needs a teacher: give --teacher",
        "train simclr-v3": "error: No such command 'simclr-v3'",
    }.items():
        assert line(capsys, main([*words.split(), f"--data={images}"])).startswith(says)
    assert main(["train", "simclr-v2", "--help"]) == 0, "a method has the word of its distillation"


def test_python_distils_too(tmp_path: Path, images: Path) -> None:
    how: dict[str, Any] = {"encoder": "tiny", "epochs": 1, "batch": 32, "monitor_every": 0, "device": "cpu"}
    outcome = contrastkit.train(
        "crd", images, row="tiny-kd", teacher=teacher(tmp_path / "teacher"), out=tmp_path / "run", **how
    )
    assert outcome.finished and (tmp_path / "run/classifier.safetensors").is_file()


@pytest.mark.parametrize(
    ("of", "more", "says"),
    [
        (None, [], "a distillation needs a teacher: give --teacher"),
        ({"n_classes": 3}, [], "knows 3 classes, noise has 4"),
        ({}, ["--size=12"], "was trained on images of 16 px, and the views have 12: give --size 16"),
        ({}, ["--teacher-encoder=tiny"], "says of which network it is: drop --teacher-encoder"),
        ({}, ["--r=0"], "with --r 0 and --a 0 nothing trains the student's last layer"),
        (
            {},
            ["--recipe=tiny-kd", "--negatives=all"],
            "with --b 0 there is no effect of --K, --negatives: leave them out, or",
        ),
        ({}, ["--recipe=tiny", "--T=9"], "with --a 0 there is no effect of --T: leave it out, or raise --a"),
        ({}, ["--K=1000"], "--K 1000 draws are more than the 256 images"),
    ],
)
def test_what_cannot_be_distilled_is_refused(
    tmp_path: Path,
    images: Path,
    capsys: pytest.CaptureFixture[str],
    of: dict[str, Any] | None,
    more: list[str],
    says: str,
) -> None:
    taught = [] if of is None else [f"--teacher={teacher(tmp_path / 'teacher', **of)}"]
    assert says in line(capsys, distil(images, *taught, f"--out={tmp_path / 'run'}", *more))
    assert not (tmp_path / "run").exists()
