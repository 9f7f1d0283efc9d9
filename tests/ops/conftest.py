"""Tests of an op with kernels run on its reference and on each kernel that is there."""

import sys

import pytest
import torch

from contrastkit import kernels


@pytest.fixture(params=["reference", "cpu", "cuda"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The device to test on; for "reference", the module's OP is served by its reference even where _C is built."""
    op = request.module.OP
    if request.param == "reference":
        module = sys.modules[f"contrastkit.ops.{op.split('_')[0]}"]
        monkeypatch.setattr(torch.ops.contrastkit, op, module._reference)
        return "cpu"
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    if kernels.info()["ops"][op][request.param] == "reference":
        pytest.skip(f"no {request.param} kernel: contrastkit._C is {kernels.info()['aside'] or 'built without it'}")
    return request.param


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)
