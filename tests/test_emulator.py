import subprocess

import pytest

from tests.emulator import build


@pytest.mark.slow
def test_faults_that_a_gpu_may_forgive_show():
    if build.missing():
        pytest.skip(f"no emulator: {build.missing()}")
    ran = subprocess.run([build.program(build.HERE / "faults.cu")], capture_output=True, text=True, check=True)
    actual = dict(line.split(": ", 1) for line in ran.stdout.splitlines())
    stuck = "emulated kernel: threads of block 0 wait for each other:"
    assert actual == {
        "some": f"{stuck} 40 at __syncthreads; 24 have ended;",
        "both": f"{stuck} 48 at __syncthreads; 16 in __shfl_xor_sync;",
        "mask": "emulated kernel: __shfl_sync by a lane outside its mask",
        "size": "emulated kernel: a GPU would refuse this launch",
        "race": "1",
        "shared": "11",  # NaN in static and in dynamic shared memory
        "copy": "2 1 2 0",  # the first group is there, the second after its wait, with zeros behind
        "product": "0",
        "tf32": "3f802000 3f800000",  # half a unit goes up, a quarter down
    }
