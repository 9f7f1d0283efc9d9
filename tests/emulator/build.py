"""Compiles csrc/cuda with g++ against emulator.h; objects are reused until their source or a header changes."""

import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch.utils import cpp_extension

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FOLDER = ROOT / "build" / "emulator"
CXX = shutil.which(os.environ.get("CXX", "g++"))
FLAGS = ["-std=c++20", "-O1", "-g0", "-fPIC", "-fvisibility=hidden", "-fno-strict-aliasing", "-w"]
FLAGS += [f"-I{HERE}", f"-include{HERE}/emulator.h"]
TRAPS = ["-fsanitize=alignment", "-fsanitize-undefined-trap-on-error"]  # a misaligned vector access traps


def missing() -> str:
    """Why the emulator cannot be built, "" if it can."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return "it switches stacks on Linux on x86-64 only"
    return "" if CXX else "no C++ compiler"


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def compile_to(target: Path, *arguments: str) -> None:
    if not target.is_file():
        part = target.with_name(f"{target.name}.{os.getpid()}")
        result = subprocess.run([str(CXX), *arguments, "-o", str(part)], capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError(f"{' '.join(arguments)}:\n{result.stderr}")
        part.replace(target)


def objects(sources: list[Path]) -> list[str]:
    """Build what is missing, two files at a time."""
    csrc = ROOT / "csrc"
    headers = [p for p in sorted([*csrc.glob("*.*"), *csrc.glob("cuda/*"), *HERE.rglob("*.h")]) if p.suffix != ".cu"]
    common = digest(torch.__version__.encode(), *map(str.encode, FLAGS + TRAPS), *(p.read_bytes() for p in headers))
    FOLDER.mkdir(parents=True, exist_ok=True)
    include = [f"-I{path}" for path in cpp_extension.include_paths()]

    def build(source: Path) -> str:
        target = FOLDER / f"{source.stem}-{digest(common.encode(), source.read_bytes())}.o"
        traps = TRAPS if source.suffix == ".cu" else []
        compile_to(target, *FLAGS, *traps, *include, "-c", "-x", "c++", str(source))
        return str(target)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(build, sources))


def linked(name: str, sources: list[Path], *options: str) -> Path:
    parts = objects(sources)
    target = FOLDER / f"{name}-{digest(*map(str.encode, parts))}"
    torch_lib = Path(torch.__file__).parent / "lib"
    compile_to(target, *options, *parts, f"-L{torch_lib}", f"-Wl,-rpath,{torch_lib}", "-ltorch_cpu", "-lc10")
    return target


def program(source: Path) -> Path:
    """One file as a separate program."""
    return linked(source.stem, [source, HERE / "emulator.cpp"])


@functools.cache
def load() -> dict[str, Callable[..., object]]:
    """Load the kernels of csrc/cuda, for the dispatch key PrivateUse3; return them by op name."""
    cuda = ROOT / "csrc" / "cuda"
    sources = [*sorted(cuda.glob("*.cu")), cuda / "tf32.cpp", *sorted(HERE.glob("*.cpp"))]
    torch.ops.load_library(str(linked("emulated", sources, "-shared")))
    key = "PrivateUse3"  # as in register.cpp
    keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))
    names = [op.removeprefix("contrastkit::") for op in torch._C._dispatch_get_registrations_for_dispatch_key(key)]
    ops = {name: getattr(torch.ops.contrastkit, name).default for name in names if "::" not in name}
    return {name: functools.partial(op.redispatch, keys) for name, op in ops.items()}
