"""Run folders of untrained encoders of every kind, without a training."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from contrastkit.checkpoint import save_tensors
from contrastkit.methods import RECIPES
from contrastkit.options import Options
from contrastkit.parts.build import build_encoder
from contrastkit.parts.encoder import Encoder
from contrastkit.record import DataRecord, Record


def write_run(
    folder: Path, options: dict[str, Any], *, method: str = "moco-v2/tiny", rate: int | None = None
) -> Encoder:
    """A finished run of 12 steps whose encoder is ``build_encoder(**options)``, with random batch-norm statistics.

    Returns the encoder in eval mode."""
    torch.manual_seed(0)
    encoder = build_encoder(**options).eval()
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    record = Record(
        name=method,
        recipe=asdict(RECIPES[method]),
        options=Options(data="/home/someone/photos", device="cpu", seed=3),
        data=DataRecord(name="photos", images=1234, rate=rate, modalities=None, fingerprint="0" * 16),
        encoder=options,
    )
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text(record.text())
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 12, "epoch": 3, "loss": 1.0}) + "\n")
    save_tensors(folder / "encoder.safetensors", encoder.state_dict(), {})
    return encoder
