"""Embeddings in files of each format: the same numbers, tokens, and what does not fit in memory."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from contrastkit.errors import UserError
from contrastkit.evaluate import Embedding, EvaluationSubject, embed
from contrastkit.evaluate import embedding as module
from contrastkit.evaluate.origin import encoder_hash
from contrastkit.parts.build import build_encoder


@pytest.fixture
def subject(images: Path) -> EvaluationSubject:
    return EvaluationSubject.open(encoder="tiny", data=str(images), val_fraction=0.25, size=16, device="cpu")


def equal(a: Embedding, b: Embedding) -> None:
    for name in ("features", "labels", "split", "classes", "readable", "paths"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), name)
    assert a.origin == b.origin


def test_each_format_has_the_same_features(subject: EvaluationSubject, tmp_path: Path) -> None:
    embedding = embed(subject)
    for name in ("a.npz", "b.npy"):
        embedding.save(tmp_path / name)
        equal(Embedding.open(tmp_path / name), embedding)
    mapped = embed(subject, out=tmp_path / "c.npy")  # written as it is made
    equal(Embedding.open(tmp_path / "c.npy"), embedding)
    assert isinstance(mapped.features, np.memmap)
    np.testing.assert_array_equal(np.load(tmp_path / "c.npy"), embedding.features)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.npy", "b.rows.npz", "c.npy", "c.rows.npz"]


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_table_has_a_row_for_each_image(ending: str, subject: EvaluationSubject, tmp_path: Path) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    embedding = embed(subject)
    object.__setattr__(embedding, "paths", np.array([f"{i}, b.png" for i in range(320)]))
    object.__setattr__(embedding, "classes", np.array(list("abcd")))
    embedding.labels[5] = -1
    embedding.save(tmp_path / f"x{ending}")
    read: Any = pd.read_csv if ending == ".csv" else pd.read_parquet
    frame = read(tmp_path / f"x{ending}")
    assert list(frame.columns) == ["path", "label", "split", *(f"f{j}" for j in range(128))]
    np.testing.assert_array_equal(frame.iloc[:, 3:].to_numpy(np.float32), embedding.features)
    assert frame["path"].tolist() == embedding.paths.tolist() and frame["split"].tolist() == embedding.split.tolist()
    assert frame["label"].isna().tolist() == [i == 5 for i in range(320)]
    assert [name for i, name in enumerate(frame["label"]) if i != 5] == [
        "abcd"[label] for i, label in enumerate(embedding.labels) if i != 5
    ]


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_table_has_whole_labels_and_any_name(ending: str, subject: EvaluationSubject, tmp_path: Path) -> None:
    """Labels without names stay whole numbers beside one that is missing; a file name need not be text."""
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    embedding = embed(subject)
    names = [os.fsdecode(b"caf\xe9.png"), *(f"{i}.png" for i in range(319))]
    object.__setattr__(embedding, "paths", np.array(names))
    object.__setattr__(embedding, "classes", np.array([], dtype=str))
    embedding.labels[5] = -1
    embedding.save(tmp_path / f"x{ending}")
    read: Any = partial(pd.read_csv, dtype=str) if ending == ".csv" else pd.read_parquet
    frame = read(tmp_path / f"x{ending}")
    assert frame["path"].tolist() == [r"caf\udce9.png", *names[1:]]
    expected = [str(label) for label in embedding.labels if label >= 0]
    assert frame["label"].dropna().map(str).tolist() == expected and frame["label"].isna().sum() == 1


def test_tokens_are_the_positions_of_the_maps(subject: EvaluationSubject, tmp_path: Path) -> None:
    tokens = embed(subject, split="test", tokens=True, out=tmp_path / "x.npy")
    (encoder,) = subject.encoders.values()
    with torch.no_grad():
        maps = encoder.eval().maps(subject.data.test.fetch(torch.arange(80)).float() / 255)
    assert tokens.features.shape == (80, 2, 2, 128)
    for row in range(2):
        for column in range(2):
            expected = maps[:, :, row, column].numpy()
            np.testing.assert_allclose(tokens.features[:, row, column], expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match=r"^a \.csv has one row an image, which has several tokens"):
        embed(subject, tokens=True, out=tmp_path / "x.csv")
    pixels = EvaluationSubject(data=subject.data, encoders={"raw pixels": None}, size=16)
    with pytest.raises(UserError, match="^raw pixels has no feature maps"):
        embed(pixels, tokens=True)


def test_what_does_not_fit_in_memory_goes_to_a_file(
    subject: EvaluationSubject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "available_memory", lambda: 320 * 128 * 4 - 1)
    with pytest.raises(UserError, match=r"write them to an \.npy file \(--out features\.npy\)"):
        embed(subject)
    assert embed(subject, out=tmp_path / "x.npy").features.shape == (320, 128)


def test_a_failed_embedding_leaves_the_old_file(subject: EvaluationSubject, tmp_path: Path) -> None:
    embed(subject, out=tmp_path / "x.npy")
    before = Embedding.open(tmp_path / "x.npy")
    with pytest.raises(UserError, match="--split must be"):
        embed(subject, split="none", out=tmp_path / "x.npy")  # type: ignore[arg-type]
    equal(Embedding.open(tmp_path / "x.npy"), before)
    assert len(list(tmp_path.iterdir())) == 2


def test_files_of_two_embeddings_are_told_apart(subject: EvaluationSubject, tmp_path: Path) -> None:
    embed(subject, split="train", out=tmp_path / "x.npy")
    np.save(tmp_path / "x.npy", np.load(tmp_path / "x.npy") + 1)
    with pytest.raises(UserError, match="belong to different embeddings: embed again"):
        Embedding.open(tmp_path / "x.npy")
    (tmp_path / "x.rows.npz").unlink()
    with pytest.raises(
        UserError, match=r"no such file: .*x\.rows\.npz, which 'contrastkit embed' writes beside x\.npy"
    ):
        Embedding.open(tmp_path / "x.npy")


def test_parquet_without_pyarrow(subject: EvaluationSubject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contrastkit.evaluate.embedding_files.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^writing \.parquet files needs pyarrow: pip install pyarrow$"):
        embed(subject, out=Path("x.parquet"))


def test_the_hash_of_an_encoder_is_that_of_its_weights() -> None:
    def hashed(seed: int, **how: Any) -> str:
        torch.manual_seed(seed)
        return encoder_hash(build_encoder("tiny", channels=3, size=16, **how))

    assert hashed(0) == hashed(0) != hashed(1)
    assert len({hashed(0), hashed(0, patch=8, stride=4), hashed(0, patch=8, stride=8), encoder_hash(None)}) == 4
    encoder = build_encoder("tiny", channels=3, size=16)
    before = encoder_hash(encoder)
    encoder.trunk.bn1.running_mean[3] += 1e-6
    assert encoder_hash(encoder) != before
