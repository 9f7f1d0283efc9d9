"""When two trainings count as the same, and a copy of one."""

import shutil
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from contrastkit.run import CURVES, ENCODER, ENVIRONMENT, LOG, METRICS, RECIPE, Run


def flat(value: object, name: str = "") -> dict[str, object]:
    """Every leaf of a checkpoint under its path."""
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in flat(item, f"{name}/{key}").items()}
    if isinstance(value, list | tuple):
        return {k: v for key, item in enumerate(value) for k, v in flat(item, f"{name}/{key}").items()}
    return {name: value}


def assert_same_run(a: Path, b: Path) -> None:
    """Bit-equal checkpoints and encoders, equal losses."""
    one, two = (flat(torch.load(run / "checkpoints" / "last.pt", weights_only=True)) for run in (a, b))
    assert one.keys() == two.keys()
    assert any(isinstance(v, Tensor) for v in one.values())
    for name, value in one.items():
        if isinstance(value, Tensor):
            assert torch.equal(value, two[name]), name  # type: ignore[arg-type]
        elif name != "/meter/seconds":
            assert value == two[name], name
    assert (a / "encoder.safetensors").read_bytes() == (b / "encoder.safetensors").read_bytes()
    losses = [[(m["step"], m.get("loss"), m["knn"]) for m in Run(run).metrics()] for run in (a, b)]
    assert losses[0] == losses[1]


def assert_alike(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    """The same tensors, each within 1e-4 of its scale: what other sums in float32 may do to it in twenty steps."""
    assert a.keys() == b.keys()
    for name, value in a.items():
        scale = value.double().abs().max().clamp(min=1e-3).item()  # of the tensor: a single element may be near zero
        torch.testing.assert_close(b[name], value, atol=1e-4 * scale, rtol=0, msg=partial("{}: {}".format, name))


def copy_as_trained(run: Path, copy: Path) -> None:
    """Copy what training has written of a run: tests that share it may have evaluated it since."""
    files = {RECIPE, ENVIRONMENT, METRICS, LOG, ENCODER, CURVES}
    copy.mkdir(parents=True)
    for name in files:
        shutil.copy2(run / name, copy / name)
    shutil.copytree(run / "checkpoints", copy / "checkpoints")
