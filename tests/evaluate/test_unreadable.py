"""Files that cannot be read have no part in an evaluation: neither features nor a label, and they are told."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from contrastkit.cli.main import main
from contrastkit.data import ArraySource, DataSet, FileSource, open_data
from contrastkit.errors import UserError
from contrastkit.evaluate import EvaluationSubject, embed, knn, probe
from contrastkit.evaluate.features import encode, raw_pixels
from contrastkit.parts.build import build_encoder


class MeanColour(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


def folder(root: Path, n: int = 40, bad: tuple[int, ...] = (0, 7, 39)) -> Path:
    """Images whose colour is their number, in two classes; some are no images."""
    for i in range(n):
        path = root / "ab"[i % 2] / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 12), (5 * i, 255 - 5 * i, 3 * i)).save(path)
        if i in bad:
            path.write_bytes(b"torn")
    return root


def subject(root: Path, **options: Any) -> EvaluationSubject:
    data = open_data(str(folder(root)))
    return EvaluationSubject(
        data=DataSet("torn", data.train, open_data(str(root)).train, data.train),
        encoders={"mean": MeanColour()},
        size=12,
        max_bad=0.2,
        **options,
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_each_row_is_its_own_image(tmp_path: Path, workers: int) -> None:
    source = open_data(str(folder(tmp_path))).train
    numbers = [int(Path(path).stem) for path in source.paths]
    torn = [n in (0, 7, 39) for n in numbers]
    for features in (
        encode(MeanColour(), source, size=12, batch=8, workers=workers, max_bad=0.2),
        raw_pixels(source, size=12, workers=workers, max_bad=0.2),
    ):
        assert features.readable is not None and features.readable.tolist() == [not bad for bad in torn]
        assert features.x.isnan().any(1).tolist() == torn
        assert features.y.tolist() == [n % 2 for n in numbers]
        assert len(features.labelled("it").y) == len(features.read().y) == 37
    colours = encode(MeanColour(), source, size=12, max_bad=0.2).x[:, 0]
    for n, colour in zip(numbers, colours.tolist(), strict=True):
        assert n in (0, 7, 39) or colour == pytest.approx(5 * n / 255)


def test_a_whole_batch_of_unreadable_images_is_left_out(tmp_path: Path) -> None:
    source = open_data(str(folder(tmp_path, bad=tuple(range(0, 16, 2))))).train  # the first eight of class a
    features = encode(MeanColour(), source, size=12, batch=8, max_bad=0.5)
    assert features.x.isnan().any(1).tolist() == [True] * 8 + [False] * 32


def test_no_readable_image_is_an_error(tmp_path: Path) -> None:
    source = open_data(str(folder(tmp_path))).train
    for path in source.paths:
        (tmp_path / path).write_bytes(b"torn")
    with pytest.raises(UserError, match=r"no image of .* can be read"):
        encode(MeanColour(), source, size=12, max_bad=1.0)


def test_evaluations_leave_them_out_and_say_so(tmp_path: Path) -> None:
    found = knn(subject(tmp_path), k=1)
    assert found.accuracy["mean"].n == 37 and found.accuracy["mean"].top1 == 1.0
    assert len(found.notices) == 2 and "3 of 40 training images cannot be read and are left out" in found.notices[0]
    probed = probe(subject(tmp_path), epochs=1, seeds=1)
    assert probed.probe["mean"].accuracy.n == 37 and "3 of 40 test images" in probed.notices[1]
    with pytest.raises(UserError, match=r"3 of 40 images .*--max-bad"):
        knn(replace(subject(tmp_path), max_bad=0.01))


def test_the_papers_protocol_tells_those_of_the_labelled_images(tmp_path: Path) -> None:
    for i in (1, 2):
        (tmp_path / "unlabelled").mkdir(exist_ok=True)
        (tmp_path / "unlabelled" / f"{i}.png").write_bytes(b"torn")
    torn = replace(subject(tmp_path), encoders={"tiny": build_encoder("tiny", channels=3, size=12)})
    notices = probe(torn, protocol="moco", epochs=1, lr=0.1).notices
    assert [notice.split(" cannot")[0] for notice in notices] == ["3 of 40 training images", "3 of 40 test images"]


@pytest.mark.parametrize("how", ["take", "take_readable"])
def test_many_unreadable_images_of_a_batch_cost_it_once_more(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_data(str(folder(tmp_path, bad=tuple(range(20))))).train
    read: list[Path] = []
    decode = FileSource._decode

    def counted(self: FileSource, path: Path) -> Tensor:
        read.append(path)
        return decode(self, path)

    monkeypatch.setattr(FileSource, "_decode", counted)
    images, index = getattr(source, how)(torch.arange(40))
    assert len(images) == len(index) and len(source.unreadable) == 20 and len(read) <= 3 * 40


def test_an_embedding_flags_and_names_them(tmp_path: Path) -> None:
    embedding = embed(subject(tmp_path / "data"))
    embedding.save(tmp_path / "features.npz")
    with np.load(tmp_path / "features.npz") as file:
        assert set(file) == {"features", "labels", "split", "classes", "readable", "paths", "origin", "image_id"}
        numbers = [int(Path(path).stem) for path in file["paths"]]
        assert file["paths"][0] == "a/00.png" and len(numbers) == 80
        assert {n for n, readable in zip(numbers, file["readable"], strict=True) if not readable} == {0, 7, 39}
        assert (np.isnan(file["features"]).any(1) == ~file["readable"]).all() and (~file["readable"]).sum() == 6


def test_an_embedding_of_images_without_classes_keeps_its_types() -> None:
    source = ArraySource("plain", torch.zeros(4, 3, 8, 8, dtype=torch.uint8))
    found = embed(EvaluationSubject(data=DataSet("plain", source, None, source), encoders={"m": MeanColour()}, size=8))
    assert found.classes.dtype.kind == found.paths.dtype.kind == "U" and found.classes.shape == (0,)
    assert found.readable.all() and found.paths.tolist() == [""] * 4 and found.environment is None
    source.environment = np.array(["a", "b", "b", "a"])
    found = embed(EvaluationSubject(data=DataSet("plain", source, None, source), encoders={"m": MeanColour()}, size=8))
    assert found.environment is not None and found.environment.tolist() == ["a", "b", "b", "a"]


def test_a_run_is_judged_with_its_own_tolerance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run trained with --max-bad 0.1 can be judged; a stricter value may be asked for."""
    data, run = folder(tmp_path / "data"), tmp_path / "run"
    options = ["--encoder=tiny", "--device=cpu", "--epochs=1", "--batch=8", "--K=16", "--size=12", "--workers=0"]
    assert (
        main(["train", "moco", f"--data={data}", f"--out={run}", "--max-bad=0.1", "--val-fraction=0.25", *options]) == 0
    )
    assert main(["knn", str(run), "--workers=0", "--device=cpu"]) == 0
    assert "cannot be read and are left out" in capsys.readouterr().out
    assert main(["knn", str(run), "--workers=0", "--device=cpu", "--max-bad=0"]) == 2
    assert "--max-bad" in capsys.readouterr().err
    out = tmp_path / "features.npz"
    assert main(["embed", str(run), f"--out={out}", "--workers=0", "--device=cpu"]) == 0
    assert main(["stable", "reweight", f"--data={out}", "--components=1"]) == 2
    assert "could not be read" in capsys.readouterr().err


def test_a_set_that_has_changed_is_not_split_anew(tmp_path: Path) -> None:
    data, run = folder(tmp_path / "data", bad=()), tmp_path / "run"
    options = ["--encoder=tiny", "--device=cpu", "--epochs=1", "--batch=8", "--K=16", "--size=12", "--workers=0"]
    assert main(["train", "moco", f"--data={data}", f"--out={run}", "--val-fraction=0.25", *options]) == 0
    EvaluationSubject.open(run)
    (data / "a" / "00.png").unlink()
    with pytest.raises(UserError, match="has changed since .* was trained on it: it has 29 images, not 30"):
        EvaluationSubject.open(run)
    EvaluationSubject.open(run, data=str(data), val_fraction=0.25)  # named: the user's own choice
