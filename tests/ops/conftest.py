"""Tests of an op with kernels run on its reference and on each kernel that is there."""

import sys
from collections.abc import Iterator

import pytest
import torch
from emulator import build

from contrastkit import kernels


@pytest.fixture(params=["reference", "cpu", pytest.param("emulated", marks=pytest.mark.slow), "cuda"])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The device to test on; for "reference", the module's OP is served by its reference even where _C is built.

    For "emulated", the kernels of csrc/cuda serve the CPU (tests/emulator).
    """
    op = request.module.OP
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    if request.param == "cpu" and kernels.info()["ops"][op]["cpu"] == "reference":
        pytest.skip(f"no cpu kernel: contrastkit._C is {kernels.info()['aside'] or 'built without it'}")
    if request.param in ("cpu", "cuda"):
        yield request.param
        return
    override = torch.library.Library("contrastkit", "IMPL")
    if request.param == "reference":
        reference = sys.modules[f"contrastkit.ops.{op.split('_')[0]}"]._reference
        override.impl(op, reference, "CPU", allow_override=True)
    else:
        if build.missing():
            pytest.skip(f"no emulator: {build.missing()}")
        emulated = build.load()
        if op not in emulated:
            pytest.skip("no CUDA kernel")
        for name, kernel in emulated.items():
            override.impl(name, kernel, "CPU", allow_override=True)
    yield "cpu"
    override._destroy()


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)
