"""Build contrastkit._C from csrc/; everything else about the package is in pyproject.toml.

Without a C++ compiler no extension is built and the reference ops are used. Environment variables:
    CONTRASTKIT_CPP=0|1         0: never build the extension; 1: fail without a compiler
    CONTRASTKIT_CUDA=0|1        default: 1 if nvcc is found and its CUDA has the same major version as torch's
    TORCH_CUDA_ARCH_LIST        default "8.0;9.0+PTX"
"""

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup

CSRC = Path("csrc")
ISAS = {"baseline": []}
if platform.machine().lower() in ("x86_64", "amd64"):
    ISAS["avx2"] = ["-mavx2", "-mfma"]
    ISAS["avx512"] = [*ISAS["avx2"], "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mprefer-vector-width=512"]


def env_flag(variable: str) -> bool | None:
    value = os.environ.get(variable, "")
    if value not in ("", "0", "1"):
        sys.exit(f"{variable} must be 0 or 1, not {value!r}")
    return bool(int(value)) if value else None


def run(*command: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True)
    return result.stdout + result.stderr if result.returncode == 0 else ""


def compiler() -> str:
    """The version line of the C++ compiler, "" without one."""
    cxx = os.environ.get("CXX", "c++").split()
    return run(*cxx, "--version").partition("\n")[0] if shutil.which(cxx[0]) else ""


def cuda() -> str:
    """The version of nvcc to build with, "" for none. Sets CUDA_HOME before torch's build tools read it."""
    import torch

    requested = env_flag("CONTRASTKIT_CUDA")
    if requested is False or (requested is None and torch.version.cuda is None):
        return ""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    nvcc = f"{home}/bin/nvcc" if home else shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    version = re.search(r"release ([\d.]+)", run(nvcc, "--version") if Path(nvcc).is_file() else "")
    problem = (
        f"this torch {torch.__version__} is not a CUDA build"
        if torch.version.cuda is None
        else f"nvcc was not found ({nvcc} does not run)"
        if version is None
        else f"nvcc has CUDA {version[1]}, torch has {torch.version.cuda}: their major versions must match"
        if version[1].split(".")[0] != torch.version.cuda.split(".")[0]
        else ""
    )
    if problem and requested:
        sys.exit(f"CONTRASTKIT_CUDA=1, but {problem}")
    if problem or version is None:
        print(f"contrastkit: not building CUDA kernels: {problem}", file=sys.stderr)
        return ""
    # nvcc may be a wrapper outside its toolkit; a dry run prints the toolkit's path.
    top = re.search(r"TOP=(\S+)", run(nvcc, "--dryrun", "-x", "cu", os.devnull))
    os.environ["CUDA_HOME"] = os.path.realpath(top[1]) if top else str(Path(nvcc).parents[1])
    os.environ.setdefault("TORCH_CUDA_ARCH_LIST", "8.0;9.0+PTX")
    return version[1]


def write_if_changed(path: Path, text: str) -> None:
    """Write a file unless it is unchanged, so that ninja recompiles nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)


def extension() -> tuple[list[Extension], dict[str, type]]:
    cxx = compiler()
    if env_flag("CONTRASTKIT_CPP") is False or not cxx:
        if env_flag("CONTRASTKIT_CPP"):
            sys.exit("CONTRASTKIT_CPP=1, but there is no C++ compiler")
        print("contrastkit: not building the extension; the reference ops are used", file=sys.stderr)
        return [], {}
    nvcc = cuda()

    import torch
    from torch.utils.cpp_extension import BuildExtension, CppExtension, CUDAExtension

    class Build(BuildExtension):
        """Compiles csrc/cpu/simd once per instruction set, with its flags and into its own folder."""

        def build_extension(self, ext: Extension) -> None:
            temp = Path(self.build_temp).absolute()
            info = {
                "TORCH": torch.__version__,
                "COMPILER": cxx,
                "ISAS": " ".join(ISAS),
                "CUDA": nvcc,
                "CUDA_ARCHS": os.environ["TORCH_CUDA_ARCH_LIST"] if nvcc else "",
            }
            write_if_changed(temp / "build_info.h", "".join(f'#define BUILD_{k} "{v}"\n' for k, v in info.items()))
            ext.include_dirs = [str(temp), *ext.include_dirs]
            for isa, flags in ISAS.items():
                ext.extra_objects += self.compiler.compile(
                    [str(CSRC.absolute() / "cpu" / "simd" / "kernels.cpp")],
                    output_dir=str(temp / isa),
                    macros=[("CONTRASTKIT_ISA", isa), *X86_64],
                    include_dirs=[],  # without torch's headers: see csrc/cpu/simd/kernels.h
                    extra_postargs=["-std=c++17", "-O3", "-g0", "-fvisibility=hidden", "-ffp-contract=fast", *flags],
                )
            super().build_extension(ext)

    X86_64 = [("CONTRASTKIT_X86_64", "1")] if "avx2" in ISAS else []
    sources = [CSRC / "module.cpp", *sorted(CSRC.glob("cpu/*.cpp"))]
    if nvcc:
        sources += [*sorted(CSRC.glob("cuda/*.cpp")), *sorted(CSRC.glob("cuda/*.cu"))]
    # Threads come from the OpenMP runtime that torch has loaded: compile for OpenMP, but link no runtime.
    openmp = ["-fopenmp"] if sys.platform == "linux" else []
    kind = CUDAExtension if nvcc else CppExtension
    built = kind(
        "contrastkit._C",
        [str(path) for path in sources],
        depends=[str(path) for path in sorted([*CSRC.rglob("*.*h"), CSRC / "ops.inc"])],
        define_macros=X86_64,
        extra_compile_args={
            "cxx": ["-O3", "-g0", "-fvisibility=hidden", *openmp],
            "nvcc": ["-O3", "-Xcompiler", "-fvisibility=hidden"],
        },
    )
    return [built], {"build_ext": Build}


ext_modules, cmdclass = extension()
setup(ext_modules=ext_modules, cmdclass=cmdclass)
