"""The compiled extension `contrastkit._C`: loaded where it fits; where it does not, the references serve."""

import importlib
import importlib.machinery
import logging
import os
import re
from pathlib import Path
from typing import Any

import torch

from contrastkit.compat import has_kernel, op_names

_build: dict[str, Any] | None = None  # what _C says of itself once it is loaded
_aside: str | None = None  # why it is not


def load() -> None:
    """Load `_C`, whose kernels register themselves with torch's dispatcher. `contrastkit.ops` calls it once.

    An extension that was built for another torch is never opened: that may crash the process. The version is read from
    the file. Whatever stands in the way, the references serve, and `info()` says why; one line is logged,
    except where nothing was built or the user asked for the references with CONTRASTKIT_REFERENCE=1.
    """
    global _build, _aside
    _build, _aside = None, None
    if os.environ.get("CONTRASTKIT_REFERENCE") == "1":
        _aside = "CONTRASTKIT_REFERENCE=1"
        return
    # In this package's folder and nowhere else: an editable install would offer the one of another copy.
    spec = importlib.machinery.PathFinder.find_spec("contrastkit._C", [str(Path(__file__).parents[1])])
    if spec is None or spec.origin is None:
        _aside = "not built"
        return
    built_for = torch_version(Path(spec.origin))
    if built_for != torch.__version__:
        _aside = f"built for torch {built_for}, this is torch {torch.__version__}: build it again"
    else:
        try:
            _build = importlib.import_module("contrastkit._C").build
        except Exception as error:  # whatever it is, the references serve
            _aside = f"cannot be loaded: {' '.join(str(error).split())}"
    if _aside is not None:
        logging.getLogger("contrastkit").warning("not using contrastkit._C but the reference ops: %s", _aside)


def torch_version(extension: Path) -> str | None:
    """The torch that an extension was built for, read from its file (csrc/module.cpp) without loading it."""
    text = re.search(rb"contrastkit built for torch ([^\0]+)\0", extension.read_bytes())
    return text.group(1).decode() if text else None


def names() -> list[str]:
    """Every op that the dispatcher has in the namespace `contrastkit`."""
    return op_names("contrastkit")


def info() -> dict[str, Any]:
    """Which kernel serves which op, and what the extension is.

    Returns:
        `ops`: {op: {"cpu": kernel, "cuda": kernel}}, a kernel being "reference", "C++ (ISA)" or "CUDA".
        `extension`: None, or what `_C` was built with: torch, cuda, compiler, isas, isa (the one in use), cuda_archs.
        `aside`: None, or why there is no extension.
    """

    def kernel(op: str, device: str) -> str:
        if not has_kernel(f"contrastkit::{op}", device):
            return "reference"
        return "CUDA" if device == "CUDA" or _build is None else f"C++ ({_build['isa']})"

    ops = {op: {device.lower(): kernel(op, device) for device in ("CPU", "CUDA")} for op in names()}
    return {"ops": ops, "extension": _build, "aside": _aside}
