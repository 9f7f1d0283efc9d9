"""retrieve as a command: its table with the chance level."""

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from contrastkit.cli.main import main
from contrastkit.evaluate import EvaluationSubject, retrieve
from tests.schemas import read_report


def test_both_directions_and_chance(cmc_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["retrieve", str(cmc_run)]) == 0
    printed = capsys.readouterr().out
    assert "retrieval on hard, 70 test images" in printed
    report = read_report("retrieve", cmc_run / "retrieval.json")
    assert list(report["retrieval"]) == ["L -> ab", "ab -> L"]
    for pair in report["retrieval"].values():
        assert list(pair["recall"]) == ["1", "5", "10"] and pair["n"] == 70
        assert f"{100 * pair['recall']['10']:.2f} %" in printed
    (chance,) = (line for line in printed.splitlines() if "chance" in line)
    assert "1.43 %" in chance and "7.14 %" in chance and "35.5" in chance


def test_captions_and_images_with_intervals_and_chance(clip_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """72 test images, three captions each; every image's tint is a caption of twelve."""
    assert main(["retrieve", str(clip_run)]) == 0
    printed = capsys.readouterr().out
    assert "retrieval on tints, 72 test images" in printed
    report = read_report("retrieve", clip_run / "retrieval.json")["retrieval"]
    assert list(report) == ["image -> text", "text -> image"]
    sizes = [(pair["queries"], pair["n"]) for pair in report.values()]
    assert sizes == [(72, 2 * 72 + 6), (3 * 72, 72)]
    for pair in report.values():
        low, high = pair["interval"]["10"]
        assert low < pair["recall"]["10"] < high
        assert f"{100 * low:.1f} - {100 * high:.1f}" in printed and f"{100 * pair['chance']['10']:.2f} %" in printed
    assert sum("chance" in line for line in printed.splitlines()) == 2  # each direction has its own


def test_a_bag_of_words_beside_the_towers(clip_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["retrieve", str(clip_run), "--baselines", f"--json={tmp_path / 'x.json'}"]) == 0
    printed = capsys.readouterr().out
    report = read_report("retrieve", tmp_path / "x.json")
    assert f"alpha {report['bag_of_words']['alpha']:g} chosen on" in printed
    rows = [line for line in printed.splitlines() if "bag of words " in line and "%" in line]
    for row, pair in zip(rows, report["bag_of_words"]["retrieval"].values(), strict=True):
        assert f"{100 * pair['recall']['10']:.2f} %" in row and f"{pair['median_rank']:g}" in row


def test_encoder_and_head_are_of_one_checkpoint(cmc_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(cmc_run, run)
    other = {key: value + 1 for key, value in load_file(run / "encoder.safetensors").items()}
    save_file(other, run / "encoder.safetensors")
    again, expected = (retrieve(EvaluationSubject.open(path)) for path in (run, cmc_run))
    assert again == expected


def test_its_encoder_takes_another_size(cmc_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr("contrastkit.evaluate.retrieval.set_image_size", lambda encoder, size: sizes.append(size))
    assert retrieve(EvaluationSubject.open(cmc_run, size=20)).size == 20 and sizes == [20]


def test_a_run_with_one_encoder_is_refused(moco_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["retrieve", str(moco_run)]) == 2
    assert "has one encoder for all views" in capsys.readouterr().err


@pytest.fixture(scope="module")
def method_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CMC under another name, as a method that is defined in a file."""
    path = tmp_path_factory.mktemp("file") / "sensors.py"
    path.write_text('from contrastkit.methods.cmc import TINY\n\nRECIPES = {"pairs/tiny": TINY}\n')
    return path


def test_a_run_of_a_methods_file_is_given_the_file(
    method_file: Path, cmc_run: Path, hard_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"  # as cmc_run is trained
    numbers = ["--encoder=tiny", "--device=cpu", "--epochs=1", "--batch=32", "--K=64", "--size=12", "--monitor-every=0"]
    data = [f"--data={hard_images}", "--val-fraction=0.25"]
    assert main(["train", f"{method_file}:pairs", *data, *numbers, f"--out={run}"]) == 0
    advice = capsys.readouterr().out.splitlines()[-1]
    assert advice.split("   ") == [
        f"evaluate: contrastkit knn {run}",
        f"contrastkit probe {run}",
        f"contrastkit retrieve {run} --method {method_file}:pairs",
    ]
    assert main(["retrieve", str(run)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "say where that file is, --method path/to/sensors.py:pairs" in error
    assert main(["retrieve", str(cmc_run)]) == 0
    assert main(["retrieve", str(run), f"--method={method_file}:pairs"]) == 0
    assert (run / "retrieval.json").read_text() == (cmc_run / "retrieval.json").read_text()
    assert main(["retrieve", str(run), "--method=moco"]) == 2
    assert "holds a run of sensors.py:pairs/tiny, not of moco" in capsys.readouterr().err
