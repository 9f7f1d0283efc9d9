"""A fingerprint knows what is in the files, not when they were written; one of an earlier version is still accepted."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contrastkit.cli.main import main
from contrastkit.data import Source, open_data
from contrastkit.errors import UserError
from contrastkit.evaluate import EvaluationSubject


def folder(root: Path) -> Path:
    g = np.random.default_rng(0)
    for i in range(12):
        path = root / "ab"[i % 2] / f"{i:02d}.bmp"  # without compression: all have one size
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(g.integers(0, 256, (12, 12, 3)).astype(np.uint8)).save(path)
    return root


def opened(root: Path) -> Source:
    return open_data(str(root)).train


def names_and_labels(source: Source) -> str:
    """The fingerprint that earlier versions recorded."""
    assert source.labels is not None
    text = "\n".join(source.paths).encode() + source.labels.numpy().astype(np.int64).tobytes()
    return hashlib.sha256(text).hexdigest()[:16]


def test_a_copy_with_other_dates_is_the_same_set(tmp_path: Path) -> None:
    fingerprint = opened(folder(tmp_path / "one")).fingerprint()
    shutil.copytree(tmp_path / "one", tmp_path / "two", copy_function=shutil.copy)
    for path in (tmp_path / "two").rglob("*.bmp"):
        os.utime(path, (1, 1))
    assert opened(tmp_path / "two").fingerprint() == fingerprint
    assert opened(tmp_path / "two").changed_since(fingerprint) == ""


@pytest.mark.parametrize("how", ["longer", "other pixels", "gone"])
def test_files_of_the_same_names_with_other_contents_are_another_set(tmp_path: Path, how: str) -> None:
    source = opened(folder(tmp_path))
    fingerprint = source.fingerprint()
    file = tmp_path / "a" / "04.bmp"
    content = file.read_bytes()
    if how == "longer":
        file.write_bytes(content + b"0")
    elif how == "other pixels":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        file.unlink()
    assert source.changed_since(fingerprint) == "images of the same names with other contents"


def test_a_file_outside_the_sample_is_known_by_its_size(tmp_path: Path) -> None:
    for i in range(300):
        (tmp_path / f"{i:03d}.pgm").write_bytes(b"P5 2 2 255 1234")
    fingerprint = opened(tmp_path).fingerprint()
    for i in range(0, 300, 16):
        file = tmp_path / f"{i:03d}.pgm"
        content = file.read_bytes()
        file.write_bytes(content + b" ")
        assert opened(tmp_path).fingerprint() != fingerprint
        file.write_bytes(content)
    assert opened(tmp_path).fingerprint() == fingerprint


def test_names_and_labels_count_as_before(tmp_path: Path) -> None:
    source = opened(folder(tmp_path))
    assert source.fingerprint().split(".")[0] == names_and_labels(source)
    assert source.changed_since(names_and_labels(source)) == ""
    (tmp_path / "a" / "04.bmp").rename(tmp_path / "b" / "04.bmp")
    assert opened(tmp_path).changed_since(source.fingerprint()) == "other images or labels"
    assert opened(tmp_path).changed_since(names_and_labels(source)) == "other images or labels"


def test_aligned_sets_know_the_contents_of_each_modality(tmp_path: Path) -> None:
    data = f"rgb={folder(tmp_path / 'rgb')},depth={folder(tmp_path / 'depth')}"
    source = open_data(data).train
    parts = [f"{name} {names_and_labels(opened(tmp_path / name))}" for name in ("rgb", "depth")]
    before = hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]
    fingerprint = source.fingerprint()
    assert fingerprint.split(".")[0] == before and source.changed_since(before) == ""
    file = tmp_path / "depth" / "a" / "04.bmp"
    file.write_bytes(file.read_bytes() + b"0")
    assert source.changed_since(fingerprint) == "images of the same names with other contents"


def test_a_run_does_not_go_on_with_other_contents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, run = folder(tmp_path / "data"), tmp_path / "run"
    options = ["--encoder=tiny", "--device=cpu", "--epochs=1", "--batch=8", "--K=16", "--size=12", "--workers=0"]
    assert main(["train", "moco", f"--data={data}", f"--out={run}", "--val-fraction=0.25", *options]) == 0
    source = EvaluationSubject.open(run).data.pretrain
    path = data / source.paths[0]
    pixels = path.read_bytes()
    path.write_bytes(pixels[:-1] + bytes([pixels[-1] ^ 1]))
    with pytest.raises(UserError, match="images of the same names with other contents"):
        EvaluationSubject.open(run)
    capsys.readouterr()
    assert main(["train", "moco", f"--resume={run}"]) == 2
    assert "data has images of the same names with other contents" in " ".join(capsys.readouterr().err.split())

    # A record of an earlier version knows names and labels: such a run is judged and resumed as before.
    file = run / "recipe.json"
    record = json.loads(file.read_text())
    record["data"]["fingerprint"] = names_and_labels(source)
    file.write_text(json.dumps(record))
    EvaluationSubject.open(run)
    assert main(["train", "moco", f"--resume={run}"]) == 0


def test_a_set_is_the_same_wherever_it_is_and_whatever_a_seed_holds_out(tmp_path: Path) -> None:
    folder(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    drawn = [open_data(str(tmp_path / name), val_fraction=0.5, seed=seed) for name, seed in (("one", 0), ("two", 1))]
    assert drawn[0].test is not None and drawn[1].test is not None and drawn[0].test.paths != drawn[1].test.paths
    assert drawn[0].fingerprint() == drawn[1].fingerprint()
    (tmp_path / "two" / "a" / "04.bmp").rename(tmp_path / "two" / "b" / "04.bmp")
    assert open_data(str(tmp_path / "two"), val_fraction=0.5).fingerprint() != drawn[0].fingerprint()
    for part in ("train", "test"):
        shutil.copytree(tmp_path / "one", tmp_path / "parts" / part)
    before = open_data(str(tmp_path / "parts")).fingerprint()
    (tmp_path / "parts" / "test" / "a" / "04.bmp").unlink()
    assert open_data(str(tmp_path / "parts")).fingerprint() != before
