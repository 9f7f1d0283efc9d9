"""Each environment held out in turn: kNN by a loop over images, the probe by trainings for each name, and refusals."""

import re
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import contrastkit
from contrastkit.cli.main import main
from contrastkit.data import FileSource, Source, open_data
from contrastkit.errors import UserError
from contrastkit.evaluate import EvaluationSubject, hold_out_each, knn
from contrastkit.evaluate import subject as module
from contrastkit.evaluate.features import raw_pixels
from contrastkit.evaluate.held_out import weights_file
from tests.data.pictures import png
from tests.schemas import read_report

PLACES, CLASSES = ("art", "photo", "sketch"), ("ant", "bee", "cow")
PIXELS = ["--encoder=pixels", "--size=4"]
QUICK = ["--epochs=5", "--seeds=2"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Plain tints that are those of the classes but for much noise, and in a sketch hardly; one file is unreadable."""
    g, folder = np.random.default_rng(0), tmp_path_factory.mktemp("held") / "set"
    for k, place in enumerate(PLACES):
        for c, name in enumerate(CLASSES):
            for i in range(8 + 2 * k):
                tint = 110 + (30, 45, 8)[k] * np.eye(3)[c] + g.normal(0, 25, 3)
                png(folder / place / name / f"{i:02d}.png", tuple(int(v) for v in tint), (4, 4))
    (folder / "photo" / "bee" / "99.png").write_bytes(b"no image")
    return f"{folder}/ENVIRONMENT/CLASS"


def asked(command: str, root: str, file: Path, *options: str) -> Any:
    assert main([command, f"--data={root}", *PIXELS, *options, "--max-bad=0.1", f"--json={file}"]) == 0
    return read_report(command, file)


def test_knn_is_a_loop_over_the_images_of_the_other_environments(
    root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = asked("knn", root, tmp_path / "x.json", "--k=1", "--hold-out=each")
    source = open_data(root).train
    assert isinstance(source, FileSource)
    tints: list[tuple[str, str, Any]] = []
    for path in source.paths:
        if not path.endswith("99.png"):
            place, name, _ = path.split("/")
            pixel = source.fetch(source.labels.new_tensor([source.paths.index(path)]))[0].numpy()[:, 0, 0]
            tints.append((place, name, np.repeat(pixel / 255 - 0.5, 16)))
    shares = {}
    for place in PLACES:
        right = []
        for _, name, x in (each for each in tints if each[0] == place):
            others = [each for each in tints if each[0] != place]
            cosine = [x @ z / np.linalg.norm(x) / np.linalg.norm(z) for _, _, z in others]
            right.append(others[int(np.argmax(cosine))][1] == name)
        shares[place] = (float(np.mean(right)), len(right))
    found = report["environments"]["raw pixels"]
    for name, (share, n) in shares.items():
        assert found["environments"][name]["top1"] == pytest.approx(share) and found["environments"][name]["n"] == n
    top1 = [share for share, _ in shares.values()]
    assert len({round(share, 9) for share in top1}) == 3, "else a wrong order would not be seen"
    assert found["average"] == pytest.approx(statistics.fmean(top1)) and found["worst"] == pytest.approx(min(top1))
    assert found["deviation"] == pytest.approx(statistics.pstdev(top1))
    assert report["held_out"].keys() == set(PLACES) and report["k"] == 1
    printed = flat(capsys.readouterr().out)
    assert "each environment held out in turn" in printed and f"{100 * min(top1):.2f} %" in printed
    assert "1 of 91 training images cannot be read" in printed


def test_the_probe_is_that_of_each_environment_by_name_and_encodes_an_image_once(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = {place: asked("probe", root, tmp_path / "x.json", *QUICK, f"--test-part={place}") for place in PLACES}
    encoded: list[int] = []

    def spy(source: Source, **how: Any) -> Any:
        encoded.append(len(source))
        return raw_pixels(source, **how)

    monkeypatch.setattr(module, "raw_pixels", spy)
    report = asked("probe", root, tmp_path / "x.json", *QUICK, "--hold-out=each")
    assert encoded == [91]
    for place in PLACES:
        assert report["held_out"][place]["probe"] == alone[place]["probe"]
        one = alone[place]["probe"]["raw pixels"]["accuracy"]
        assert report["environments"]["raw pixels"]["environments"][place]["top1"] == pytest.approx(one["top1"])


def test_weights_are_those_of_the_file_of_each_environment(root: str, tmp_path: Path) -> None:
    """Without the images of a class, whose weights are 0, no classifier knows it: another one in each environment."""
    for place, absent in zip(PLACES, CLASSES, strict=True):
        paths = list(open_data(root, test_part=place).train.paths)
        weights = [0.0 if path.split("/")[1] == absent else 1.0 for path in paths]
        pd.DataFrame({"path": paths, "weight": weights}).to_csv(tmp_path / f"w-{place}.csv", index=False)
    file = f"--weights={tmp_path / 'w-ENVIRONMENT.csv'}"
    report = asked("probe", root, tmp_path / "x.json", "--epochs=30", "--seeds=1", file, "--hold-out=each")
    for place, absent in zip(PLACES, CLASSES, strict=True):
        own = report["held_out"][place]
        assert own["weights"]["file"].endswith(f"w-{place}.csv")
        assert own["probe"]["raw pixels"]["per_class"][absent]["top1"] == 0
    with pytest.raises(UserError, match="give a file for each, such as weights-ENVIRONMENT.csv"):
        weights_file(tmp_path / "w.csv", "art")


@pytest.mark.parametrize(("method", "says"), [("moco", "without their labels"), ("erm", "with their labels: its acc")])
def test_a_run_on_all_environments_says_that_it_has_seen_them(
    method: str, says: str, environments: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    how = ["--recipe=tiny", "--epochs=1", "--batch=64", "--size=12", "--monitor-every=0", f"--out={run}"]
    assert main(["train", method, f"--data={environments}", *how]) == 0
    assert main(["knn", str(run), "--hold-out=each", f"--json={tmp_path / 'x.json'}"]) == 0
    assert f"{run} was trained on images that it is evaluated on here, {says}" in flat(capsys.readouterr().out)
    assert read_report("knn", tmp_path / "x.json")["held_out"].keys() == {"north", "south", "west"}
    assert not (run / "knn.json").exists()


def test_a_run_on_all_environments_is_tested_on_one(root: str, tmp_path: Path) -> None:
    """What it was trained on has not changed, though the training part of the evaluation is another."""
    run = tmp_path / "run"
    contrastkit.train("moco", root, out=run, row="tiny", epochs=1, batch=32, size=12, monitor_every=0, max_bad=0.1)
    subject = EvaluationSubject.open(run, test_part="photo")
    assert subject.notices[-1] == f"{run} was trained on images that it is evaluated on here, without their labels"
    (Path(root).parent.parent / "art" / "ant" / "new.png").write_bytes(b"")
    with pytest.raises(UserError, match="has changed since .* was trained on it"):
        EvaluationSubject.open(run)


def flat(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def test_what_cannot_be_held_out_is_refused(
    root: str, images: Path, environments: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*words: str) -> str:
        assert main(list(words)) == 2
        return flat(capsys.readouterr().err)

    knn_on = ["knn", "--encoder=pixels", "--hold-out=each"]
    assert "does not say what environment an image is of" in said(*knn_on, f"--data={images}")
    assert "has a test part already" in said(*knn_on, f"--data={environments}", "--val-fraction=0.2")
    assert "--confusion draws one classifier" in said(*knn_on, f"--data={root}", "--confusion=c.png")
    assert "--plot draws one" in said("probe", *knn_on[1:], f"--data={root}", "--plot=c.png")
    assert "only knn and probe hold out every" in said(
        "finetune", "--encoder=tiny", f"--data={root}", "--hold-out=each"
    )
    assert "--hold-out nowhere: " in said(*knn_on[:2], f"--data={root}", "--hold-out=nowhere")
    one = open_data(str(environments))
    one.train.environment = np.full(len(one.train), "north")
    with pytest.raises(UserError, match="has the environment north alone"):
        hold_out_each(EvaluationSubject(data=one, encoders={"x": None}, size=8), lambda part, _: knn(part))
