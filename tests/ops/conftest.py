"""Tests of ops with kernels run on the references and on each available kernel."""

from collections.abc import Iterator

import pytest
import torch

from contrastkit.bench.case import reference
from contrastkit.ops import extension
from tests.emulator import build


@pytest.fixture(params=["reference", "cpu", pytest.param("emulated", marks=pytest.mark.slow), "cuda"])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The device to test on; for "reference", the references are used for the module's OPS even if _C is built.

    For "emulated", the kernels of csrc/cuda serve the CPU (tests/emulator).
    """
    ops = request.module.OPS
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    if request.param == "cpu" and extension.info()["ops"][ops[0]]["cpu"] == "reference":
        pytest.skip(f"no cpu kernel: contrastkit._C is {extension.info()['aside'] or 'built without it'}")
    if request.param in ("cpu", "cuda"):
        yield request.param
        return
    if request.param == "emulated" and build.missing():
        pytest.skip(f"no emulator: {build.missing()}")
    override = torch.library.Library("contrastkit", "IMPL")
    for op in ops:
        kernel = reference(op) if request.param == "reference" else build.load()[op]
        override.impl(op, kernel, "CPU", allow_override=True)
    yield "cpu"
    override._destroy()


@pytest.fixture
def default_device(device: str) -> Iterator[None]:
    """Tensors are made on the device of the test."""
    torch.set_default_device(device)
    yield
    torch.set_default_device(None)
