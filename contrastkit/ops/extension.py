"""The compiled extension `contrastkit._C`: loaded if it matches this torch; otherwise the references are used."""

import importlib
import importlib.machinery
import logging
import os
import re
from pathlib import Path
from typing import Any

import torch

from contrastkit.compat import has_kernel, op_names

_build: dict[str, Any] | None = None  # the build record of _C once it is loaded
_reason: str | None = None  # why it is not loaded


def load() -> None:
    """Load `_C`, whose kernels register themselves with torch's dispatcher. `contrastkit.ops` calls it once.

    An extension built for another torch is never opened, which could crash the process; the version is read from the
    file. If it cannot be loaded, the references are used and `info()` reports the reason. It is also logged, unless
    nothing was built or the user requested the references by CONTRASTKIT_REFERENCE=1.
    """
    global _build, _reason
    _build, _reason = None, None
    if os.environ.get("CONTRASTKIT_REFERENCE") == "1":
        _reason = "CONTRASTKIT_REFERENCE=1"
        return
    # Only in this package's folder: an editable install could offer that of another copy.
    spec = importlib.machinery.PathFinder.find_spec("contrastkit._C", [str(Path(__file__).parents[1])])
    if spec is None or spec.origin is None:
        _reason = "not built"
        return
    built_for = torch_version(Path(spec.origin))
    if built_for != torch.__version__:
        _reason = f"built for torch {built_for}, this is torch {torch.__version__}: rebuild it"
    else:
        try:
            _build = importlib.import_module("contrastkit._C").build
        except Exception as error:  # whatever it is, the references are used
            _reason = f"cannot be loaded: {' '.join(str(error).split())}"
    if _reason is not None:
        logging.getLogger("contrastkit").warning("using the reference ops instead of contrastkit._C: %s", _reason)


def torch_version(extension: Path) -> str | None:
    """The torch that an extension was built for, read from its file (csrc/module.cpp) without loading it."""
    text = re.search(rb"contrastkit built for torch ([^\0]+)\0", extension.read_bytes())
    return text.group(1).decode() if text else None


def names() -> list[str]:
    """Every op that the dispatcher has in the namespace `contrastkit`."""
    return op_names("contrastkit")


def info() -> dict[str, Any]:
    """The kernel of each op, and the build of the extension.

    Returns:
        `ops`: {op: {"cpu": kernel, "cuda": kernel}}, a kernel being "reference", "C++ (ISA)" or "CUDA".
        `extension`: None, or the build of `_C`: torch, cuda, compiler, isas, isa (the one in use), cuda_archs.
        `aside`: None, or why the extension is not used.
    """

    def kernel(op: str, device: str) -> str:
        if not has_kernel(f"contrastkit::{op}", device):
            return "reference"
        return "CUDA" if device == "CUDA" or _build is None else f"C++ ({_build['isa']})"

    ops = {op: {device.lower(): kernel(op, device) for device in ("CPU", "CUDA")} for op in names()}
    return {"ops": ops, "extension": _build, "aside": _reason}
