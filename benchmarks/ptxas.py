"""Registers and spills of every CUDA kernel, by ptxas: `python -m benchmarks.ptxas > benchmarks/results/ptxas.txt`."""

import re
import subprocess
from pathlib import Path

from torch.utils.cpp_extension import include_paths

CSRC = Path(__file__).parent.parent / "csrc" / "cuda"
ARCHS = ("sm_80", "sm_90")


def main() -> None:
    print(
        f"{'file':<14}{'arch':<7}{'registers':>9}{'spilled bytes, stored and loaded':>34}{'shared bytes':>14}  kernel"
    )
    for source in sorted(CSRC.glob("*.cu")):
        for arch in ARCHS:
            command = ["nvcc", "-O3", "-std=c++20", "-cubin", f"-arch={arch}", "-Xptxas", "-v", "-o", "/dev/null"]
            command += ["--expt-relaxed-constexpr", *(f"-I{path}" for path in include_paths("cuda")), str(source)]
            report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
            report = subprocess.run(["c++filt"], input=report, capture_output=True, text=True, check=True).stdout
            kernels = re.findall(
                r"Compiling entry function '(.+?)' for.*\n.*\n"
                r".* (\d+) bytes spill stores, (\d+) bytes spill loads\n"
                r".*Used (\d+) registers(?:.*, (\d+) bytes smem)?",
                report,
            )
            for name, stored, loaded, registers, shared in sorted(kernels):
                short = re.sub(r"contrastkit::cuda::|\(anonymous namespace\)::|^void |\(.*\)$", "", name)
                spilled = f"{stored} {loaded}"
                print(f"{source.name:<14}{arch:<7}{registers:>9}{spilled:>34}{shared or 0:>14}  {short}", flush=True)


if __name__ == "__main__":
    main()
