"""Labelled images beside those to train on: the monitor, knn and probe use them, and no label reaches the training."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

import contrastkit
from contrastkit.cli.main import main
from contrastkit.data import ArraySource, DataSet, FileSource, open_data
from contrastkit.data.dataset import with_labelled
from contrastkit.errors import UserError
from contrastkit.evaluate import EvaluationSubject
from contrastkit.evaluate.classified import classified
from contrastkit.evaluate.distilled import distilled
from contrastkit.record import Record
from contrastkit.run import Run
from contrastkit.training import NullReporter, Options
from contrastkit.training.seen import Seen
from tests.methods import small

QUICK: dict[str, Any] = {"encoder": "tiny", "batch": 32, "K": 64, "size": 12, "device": "cpu", "epochs": 1}


def pictures(folder: Path, names: list[str], seed: int, *, mode: str = "RGB", side: int = 12) -> Path:
    g = np.random.default_rng(seed)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shape = (side, side, 3) if mode == "RGB" else (side, side)
        Image.fromarray(g.integers(0, 256, shape, np.uint8), mode).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("many") / "photos", [f"{i:03d}.png" for i in range(64)], 0)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of ten, one dark and one bright, which any encoder tells apart."""
    folder = tmp_path_factory.mktemp("few") / "labelled"
    for i in range(20):
        name, pixels = ("dark", 30) if i % 2 else ("bright", 220)
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((12, 12, 3), pixels + i, np.uint8)).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def run(photos: Path, labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("labelled") / "run"
    contrastkit.train("moco", photos, labelled=labelled, val_fraction=0.4, out=out, **QUICK)
    return out


def test_the_run_is_trained_on_all_images_and_on_no_label(run: Path, photos: Path, tmp_path: Path) -> None:
    """Bit by bit as without the labelled images."""
    contrastkit.train("moco", photos, out=tmp_path / "plain", monitor_every=0, **QUICK)
    plain, with_labels = (torch.load(p / "checkpoints/last.pt", weights_only=True) for p in (tmp_path / "plain", run))
    for name, value in plain["method"].items():
        assert torch.equal(value, with_labels["method"][name]), name
    record: Record = Run.open(run).record
    assert record.data.name == "photos" and record.data.images == 64
    assert record.options.labelled is not None and Path(record.options.labelled).name == "labelled"


def test_the_monitor_knn_and_probe_use_the_labelled_images(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Run.open(run).metrics()[0]["knn"] == 1.0, "dark and bright"
    subject = EvaluationSubject.open(run, device="cpu")
    train, test = subject.labelled_parts()
    assert (len(train), len(test), train.name, subject.n_classes) == (12, 8, "labelled", 2)
    assert subject.reports == run
    assert any("the labelled images" in notice for notice in subject.notices)
    assert main(["knn", str(run), "--device", "cpu", "--k", "3"]) == 0
    assert "kNN on labelled" in capsys.readouterr().out and (run / "knn.json").exists()
    with pytest.raises(UserError, match="photos has no labels"):
        EvaluationSubject.open(run, data=Run.open(run).record.options.data, device="cpu").labelled_parts()


def test_knn_needs_the_images_of_the_training_no_more(
    photos: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = pictures(tmp_path / "mine", ["a.png", "b.png", "c.png"], 3)
    contrastkit.train("moco", mine, labelled=labelled, val_fraction=0.4, out=tmp_path / "run", **QUICK | {"batch": 2})
    for file in mine.iterdir():
        file.unlink()
    mine.rmdir()
    assert len(EvaluationSubject.open(tmp_path / "run", device="cpu").labelled_parts()[0]) == 12


def test_views_are_of_all_images_of_the_training(run: Path) -> None:
    """The parts are those of the labelled images: the others have none."""
    request = dict.fromkeys(("data", "data_dir", "test_part", "layout", "stretch", "background")) | {"download": False}
    seen = Seen.open(str(run), request)
    assert seen.trained and len(seen.source) == 64


def test_a_resume_keeps_the_labelled_images(run: Path, photos: Path, labelled: Path, tmp_path: Path) -> None:
    contrastkit.train("moco", out=run, resume=True)
    contrastkit.train("moco", photos, out=tmp_path / "plain", **QUICK)
    with pytest.raises(UserError, match="was trained without --labelled: drop it, and evaluate"):
        contrastkit.train("moco", labelled=labelled, out=tmp_path / "plain", resume=True)


def test_labelled_images_from_memory(photos: Path, tmp_path: Path) -> None:
    class Few(TensorDataset):
        targets = [0, 1] * 8

    g = torch.Generator().manual_seed(0)
    few = Few(torch.randint(0, 256, (16, 3, 12, 12), generator=g, dtype=torch.uint8))
    outcome = contrastkit.train("moco", photos, labelled=few, val_fraction=0.5, out=tmp_path / "run", **QUICK)
    assert "knn" in outcome.evaluation
    with pytest.raises(UserError, match="trained on data handed over in Python, Few"):
        EvaluationSubject.open(tmp_path / "run")


def array_set(name: str, channels: int, labels: list[int] | None, seed: int = 0, n: int = 6) -> DataSet:
    g = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, channels, 8, 8), generator=g, dtype=torch.uint8)
    source = ArraySource(name, images, None if labels is None else torch.tensor(labels))
    return DataSet(name, source, None, source)


def test_an_accuracy_is_of_the_labelled_images_by_their_name(photos: Path, labelled: Path) -> None:
    data = with_labelled(open_data(str(photos)), open_data(str(labelled), val_fraction=0.4))
    teacher, how = small.teacher(2), dict[str, Any](size=12, max_bad=0.0)
    taught, alone = distilled(teacher.classifier, teacher, data, **how), classified(teacher.classifier, data, **how)
    assert taught is not None and alone is not None and data.test is not None
    assert taught.data == alone.data == "labelled" and taught.student.n == alone.accuracy.n == len(data.test)
    with pytest.raises(UserError, match="the teacher knows 1 classes, the test images of labelled have 2"):
        distilled(teacher.classifier, small.teacher(1), data, **how)


def test_grey_labelled_images_serve_an_encoder_of_colour_but_not_the_other_way_round() -> None:
    colour, grey = (array_set(f"c{n}", n, [0, 1] * 3, n) for n in (3, 1))
    assert with_labelled(colour, grey).train is grey.train and with_labelled(colour, grey).pretrain is colour.pretrain
    with pytest.raises(UserError, match=r"--labelled c3 has images of 3 channel\(s\), but c1 has images of 1 channel"):
        with_labelled(grey, colour)


@pytest.mark.parametrize("labels", [None, [-1] * 6])
def test_labelled_images_must_have_labels(labels: list[int] | None) -> None:
    with pytest.raises(UserError, match="--labelled few has no labels: put its images in one folder per class"):
        with_labelled(array_set("many", 3, None), array_set("few", 3, labels))


def test_sounds_are_no_labelled_images(photos: Path, sounds: Path) -> None:
    with pytest.raises(UserError, match="--labelled .* has sounds at 8,000 Hz .*, but photos has images of 3 channel"):
        Options(data=str(photos), labelled=str(sounds)).open_data()


def test_equal_files_are_counted(tmp_path: Path) -> None:
    """Five of eight files, under other names; equal sizes alone do not count."""
    many = pictures(tmp_path / "many", [f"{i}.bmp" for i in range(20)], 0)
    few = pictures(tmp_path / "few", ["a/0.bmp", "b/1.bmp", "b/2.bmp"], 1)
    for i in range(5):
        (few / "ab"[i % 2] / f"copy{i}.bmp").write_bytes((many / f"{i}.bmp").read_bytes())
    data = Options(data=str(many), labelled=str(few)).open_data()
    assert "5 of the training images of few are in many, too" in data.notices
    found = data.train.found_in(data.pretrain)
    assert isinstance(data.train, FileSource) and found is not None
    assert [data.train.paths[i][2:6] for i in found.nonzero()[:, 0].tolist()] == ["copy"] * 5
    assert (
        data.train.found_in(data.pretrain, most=8) is None and data.train.found_in(data.pretrain, most=28) is not None
    )
    assert "few has no test part for knn and probe: hold one out with --val-fraction 0.2" in data.notices


def test_equal_arrays_are_counted(tmp_path: Path) -> None:
    many, few = array_set("many", 3, None, 0), array_set("few", 3, [0, 1] * 3, 1)
    few.train.images[2] = many.pretrain.images[4]
    found = few.train.found_in(many.pretrain)
    assert found is not None and found.nonzero().tolist() == [[2]]
    none = few.train.found_in(array_set("others", 3, None, 2).pretrain)
    assert none is not None and not none.any()


def test_the_layout_is_for_the_labelled_file_too(tmp_path: Path, photos: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, 6, 7, 6), np.uint8)
    np.savez(tmp_path / "x.npz", images=images, labels=np.arange(8) % 2)
    both = Options(data=str(tmp_path / "x.npz"), labelled=str(tmp_path / "x.npz"), layout="NCHW")
    assert both.open_data().train.channels == 6
    beside = Options(data=str(tmp_path / "x.npz"), labelled=str(photos), layout="NCHW")
    assert beside.labelled_layout is None


class Lines(NullReporter):
    def __init__(self) -> None:
        self.text = io.StringIO()

    def log(self, line: str) -> None:
        self.text.write(line + "\n")


def test_the_screen_says_which_labels_are_used(photos: Path, labelled: Path, tmp_path: Path) -> None:
    lines = Lines()
    contrastkit.train("moco", photos, labelled=labelled, val_fraction=0.4, out=tmp_path / "run", reporter=lines,
                      stop_after=1, **QUICK)  # fmt: skip
    assert "labels for the monitor, knn and probe: labelled, 12 training and 8 test images\n" in lines.text.getvalue()
    assert open_data(str(photos)).train.labels is None
