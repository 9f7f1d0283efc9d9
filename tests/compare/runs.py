"""Run folders that no training made: what their files say is what a test needs."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from contrastkit.intervals import wilson
from contrastkit.methods import RECIPES
from contrastkit.options import Options
from contrastkit.record import DataRecord, Record
from contrastkit.run import ENCODER, METRICS, RECIPE

EPOCHS = 3


def made(
    path: Path,
    *,
    method: str = "moco-v2/tiny",
    seed: int = 0,
    losses: tuple[float, ...] = (3.0, 2.0, 1.0),
    monitor: float | None = 0.5,
    options: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    finished: bool = True,
    size: int = 16,
    **changes: Any,
) -> Path:
    """A run of a method with changed numbers, whose loss and kNN of each epoch are given."""
    recipe = replace(RECIPES[method], epochs=EPOCHS, **changes)
    asked: dict[str, Any] = {"data": "photos", "seed": seed, "precision": "float32"}
    images: dict[str, Any] = {"name": "photos", "images": 90, "rate": None, "modalities": None, "fingerprint": "ab.cd"}
    record = Record(
        name=method,
        recipe=asdict(recipe),
        options=Options(**asked | (options or {})),
        data=DataRecord(**images | (data or {})),
        encoder={"name": "tiny", "channels": 3, "size": size},
    )
    path.mkdir(parents=True)
    (path / RECIPE).write_text(record.text())
    rows = [
        {"step": 9 * epoch, "epoch": epoch, "loss": loss, "knn": monitor, "std": 1.0, "rank": 9.0}
        for epoch, loss in enumerate(losses, start=1)
    ]
    (path / METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    if finished:
        (path / ENCODER).touch()
    return path


def accuracy(top1: float, n: int = 90) -> dict[str, Any]:
    return {"top1": top1, "top5": None, "n": n, "interval": wilson(top1, n)}


def knn(run: Path, top1: float, **how: Any) -> None:
    """Give a run a knn.json, with a baseline behind its own accuracy."""
    n = how.pop("n", 90)
    report = {"data": "photos", "k": 20, "T": 0.1, "size": 16} | how
    report["accuracy"] = {str(run): accuracy(top1, n), "raw pixels": accuracy(0.25, n)}
    (run / "knn.json").write_text(json.dumps(report))


def probe(run: Path, top1: float, **how: Any) -> None:
    result = {"accuracy": accuracy(top1), "rate": 3.0, "std": 0.001, "seeds": [top1] * 3}
    report = {"data": "photos", "protocol": "rates", "size": 16, "probe": {str(run): result}} | how
    (run / "probe.json").write_text(json.dumps(report))


def finetuned(run: Path, top1: float, images: int = 40) -> None:
    labels = {"images": images, "least": images // 4, "most": images // 4, "held_out": 8, "test": 90}
    report = {
        "data": "photos", "protocol": "tiny", "numbers": {"epochs": 60}, "size": 16, "precision": "float32",
        "labels": labels, "results": {"fine-tuned": {"accuracy": accuracy(top1)}}, "model": None,
    }  # fmt: skip
    (run / "finetune.json").write_text(json.dumps(report))
