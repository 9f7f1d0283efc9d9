"""Runs and models, and the same ones damaged."""

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from contrastkit.cli.main import main


def models(folder: Path) -> None:
    """Models of `stable fit`, damaged."""
    words = ["stable", "fit", f"--data={folder / 'table.csv'}", "--features=x,z", "--label=y", "--out"]
    with contextlib.redirect_stdout(io.StringIO()):
        assert main([*words, str(folder / "model.json")]) == 0
    whole = json.loads((folder / "model.json").read_text())
    changed: dict[str, Any] = {
        "m-list.json": [],
        "m-null.json": None,
        "m-text.json": {**whole, "coefficients": "x"},
        "m-short.json": {**whole, "coefficients": [[1.0]]},
        "m-nan.json": {**whole, "intercept": [float("nan")]},
        "m-format.json": {**whole, "format": 99},
        "m-kind.json": {**whole, "kind": "forest"},
        "m-names.json": {**whole, "names": [1, 2]},
    }
    for key in whole:
        changed[f"m-no-{key}.json"] = {name: value for name, value in whole.items() if name != key}
    for name, value in changed.items():
        (folder / name).write_text(json.dumps(value))
    (folder / "m-cut.json").write_text(json.dumps(whole)[:40])
    (folder / "m-empty.json").write_text("")
    (folder / "m-binary.json").write_bytes(bytes(range(256)))


def runs(folder: Path) -> None:
    """A run, and copies of it with one file damaged; ``r-FILE-HOW``."""
    quick = ["--encoder=tiny", "--device=cpu", "--epochs=1", "--batch=16", "--K=32", "--size=8", "--monitor-every=0"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.chdir(folder):
        for method, out in (("moco", "run"), ("cmc", "cmcrun")):
            assert main(["train", method, "--data=good.npz", *quick, f"--out={out}"]) == 0
        towers = ["--text-width=8", "--text-heads=2", "--text-layers=1", "--dim=8", "--vocabulary=258"]
        clip = [
            "--data=captioned",
            *(word for word in quick if "--K" not in word),
            *towers,
            "--batch=2",
            "--out=cliprun",
        ]
        assert main(["train", "clip", *clip]) == 0
        for file, words in {
            "f-run.npz": ["run"], "f-cmc.npz": ["cmcrun"], "f-tokens.npy": ["run", "--tokens"],
            "f-other.npz": ["run", "--data=unlabelled.npz"],
        }.items():  # fmt: skip
            assert main(["embed", *words, f"--out={file}"]) == 0
    files = {
        "recipe": "recipe.json", "metrics": "metrics.jsonl", "environment": "environment.json",
        "last": "checkpoints/last.pt", "encoder": "encoder.safetensors",
    }  # fmt: skip
    g = np.random.default_rng(6)
    for short, file in files.items():
        data = (folder / "run" / file).read_bytes()
        spoilt = {
            "cut": data[: len(data) // 2],
            "empty": b"",
            "noise": g.bytes(len(data)),
            "json": b"[]\n[]\n",
            "gone": None,
        }
        for how, bytes_ in spoilt.items():
            run = Path(shutil.copytree(folder / "run", folder / f"r-{short}-{how}"))
            (run / file).unlink()
            if short != "encoder":
                (run / "encoder.safetensors").unlink(missing_ok=True)
            if bytes_ is not None:
                (run / file).write_bytes(bytes_)
        run = Path(shutil.copytree(folder / "run", folder / f"r-pipe-{short}"))
        (run / file).unlink()
        if short != "encoder":
            (run / "encoder.safetensors").unlink(missing_ok=True)
        os.mkfifo(run / file)
    record = json.loads((folder / "run" / "recipe.json").read_text())
    values: dict[str, Callable[[Any], Any]] = {
        "newer": lambda r: r | {"format": 99},
        "method": lambda r: r | {"name": "mocha/tiny"},
        "othermethod": lambda r: r | {"name": "byol/tiny"},
        "nodata": lambda r: r | {"options": r["options"] | {"data": "/nowhere/at/all"}},
        "otherdata": lambda r: r | {"data": r["data"] | {"fingerprint": "0" * 16}},
        "encoder": lambda r: r | {"encoder": r["encoder"] | {"name": "resnet999"}},
        "width": lambda r: r | {"encoder": r["encoder"] | {"width": 3}},
        "size": lambda r: r | {"encoder": r["encoder"] | {"size": -3}},
        "batch": lambda r: r | {"recipe": r["recipe"] | {"batch": "many"}},
    }
    for name, change in values.items():
        run = Path(shutil.copytree(folder / "run", folder / f"r-value-{name}"))
        (run / "recipe.json").write_text(json.dumps(change(json.loads(json.dumps(record)))))
