"""The compiled extension `contrastkit._C`: loaded where it fits, left aside with one line where it does not.

Importing this module is cheap; torch is imported by `load()` and `info()`.
"""

import importlib
import importlib.machinery
import logging
import os
import re
from pathlib import Path
from typing import Any

OPS = (
    "infonce",
    "infonce_dkeys",
    "ntxent",
    "ntxent_dz",
    "bank_loss",
    "bank_update_",
    "queue_push_",
    "ema_",
    "sinkhorn",
)

_build: dict[str, Any] | None = None  # what _C says of itself, once it is loaded
_aside: str | None = None  # why it is not


def load() -> None:
    """Load `_C`, whose kernels register themselves with torch's dispatcher. `contrastkit.ops` calls it once.

    An extension that was built for another torch is never opened: that may crash the process. The version is read from
    the file. Whatever stands in the way, the references serve, and `info()` says why; one line is logged,
    except where nothing was built or the user asked for the references with CONTRASTKIT_REFERENCE=1.
    """
    global _build, _aside
    import torch

    _build, _aside = None, None
    if os.environ.get("CONTRASTKIT_REFERENCE") == "1":
        _aside = "CONTRASTKIT_REFERENCE=1"
        return
    # Beside this file and nowhere else: an editable install would offer the one of another copy.
    spec = importlib.machinery.PathFinder.find_spec("contrastkit._C", [str(Path(__file__).parent)])
    if spec is None or spec.origin is None:
        _aside = "not built"
        return
    built_for = _torch_of(Path(spec.origin))
    if built_for != torch.__version__:
        _aside = f"built for torch {built_for}, this is torch {torch.__version__}: build it again"
    else:
        try:
            _build = importlib.import_module("contrastkit._C").build
        except Exception as error:  # whatever it is, the references serve
            _aside = f"cannot be loaded: {' '.join(str(error).split())}"
    if _aside is not None:
        logging.getLogger("contrastkit").warning("contrastkit._C left aside, the reference ops serve: %s", _aside)


def _torch_of(extension: Path) -> str | None:
    """The torch version that an extension's file carries as text (csrc/module.cpp), without loading it."""
    found = re.search(rb"contrastkit built for torch ([^\0]+)\0", extension.read_bytes())
    return found.group(1).decode() if found else None


def info() -> dict[str, Any]:
    """Which kernel serves which op, and what the extension is.

    Returns:
        `ops`: {op: {"cpu": kernel, "cuda": kernel}}, a kernel being "reference", "C++ (ISA)" or "CUDA".
        `extension`: None, or what `_C` was built with: torch, cuda, compiler, isas, isa (the one in use), cuda_archs.
        `aside`: None, or why there is no extension.
    """
    import torch

    import contrastkit.ops  # noqa: F401  (defines the ops and loads _C)

    def kernel(op: str, device: str) -> str:
        if not torch._C._dispatch_has_kernel_for_dispatch_key(f"contrastkit::{op}", device):
            return "reference"
        return "CUDA" if device == "CUDA" or _build is None else f"C++ ({_build['isa']})"

    ops = {op: {device.lower(): kernel(op, device) for device in ("CPU", "CUDA")} for op in OPS}
    return {"ops": ops, "extension": _build, "aside": _aside}
