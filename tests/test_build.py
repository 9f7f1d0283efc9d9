"""The extension: what is built when, what is loaded, and what happens where it does not fit."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch

from contrastkit.ops import extension

ROOT = Path(__file__).parents[1]
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")


def run(*command: str | Path, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("CONTRASTKIT_", "PYTHONPATH"))}
    return subprocess.run(command, cwd=cwd, env=environment | variables, capture_output=True, text=True, timeout=900)


def info_with(extension: bytes | None, folder: Path, **variables: str) -> tuple[dict, str]:
    """What a process says that finds the package with this file as _C, after it has used an op; and its stderr."""
    shutil.copytree(ROOT / "contrastkit", folder / "contrastkit", ignore=shutil.ignore_patterns("_C*", "__pycache__"))
    if extension is not None:
        (folder / "contrastkit" / f"_C{SUFFIX}").write_bytes(extension)
    code = (
        "import json, torch; from contrastkit import ops; from contrastkit.ops import extension\n"
        "a = torch.zeros(3); ops.ema_([a], [torch.ones(3)], 0.5); assert a.tolist() == [0.5] * 3\n"
        "print(json.dumps(extension.info()))"
    )
    process = run(sys.executable, "-c", code, cwd=folder, PYTHONPATH=str(folder), **variables)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout), process.stderr


def built_extension() -> Path:
    if extension.info()["extension"] is None:
        pytest.skip(f"contrastkit._C is {extension.info()['aside']}")
    import contrastkit._C

    return Path(contrastkit._C.__file__)


@pytest.mark.slow
def test_one_for_another_torch_is_left_aside_unopened(tmp_path):
    file = b"\0 not even a library; contrastkit built for torch 1.0.0+other\0"
    info, stderr = info_with(file, tmp_path)
    assert info["aside"].startswith("built for torch 1.0.0+other, this is torch " + torch.__version__)
    assert info["extension"] is None
    assert {kernel for op in info["ops"].values() for kernel in op.values()} == {"reference"}
    assert stderr.count("\n") == 1 and info["aside"] in stderr


def test_one_that_cannot_be_loaded_is_left_aside(tmp_path):
    file = b"\0 not a library; contrastkit built for torch " + torch.__version__.encode() + b"\0"
    info, stderr = info_with(file, tmp_path)
    assert info["aside"].startswith("cannot be loaded: ")
    assert stderr.count("\n") == 1 and info["aside"] in stderr


@pytest.mark.slow
def test_without_one_the_references_serve_in_silence(tmp_path):
    info, stderr = info_with(None, tmp_path)
    assert (info["aside"], info["extension"], stderr) == ("not built", None, "")


@pytest.mark.slow
def test_the_references_serve_on_request(tmp_path):
    info, stderr = info_with(built_extension().read_bytes(), tmp_path, CONTRASTKIT_REFERENCE="1")
    assert (info["aside"], info["extension"], stderr) == ("CONTRASTKIT_REFERENCE=1", None, "")


def test_the_real_one_says_how_it_was_built_and_serves():
    assert extension.torch_version(built_extension()) == torch.__version__
    info = extension.info()
    assert info["extension"]["torch"] == torch.__version__
    assert info["extension"]["isa"] in info["extension"]["isas"].split()
    assert {op["cpu"] for op in info["ops"].values()} == {f"C++ ({info['extension']['isa']})"}
    assert info["ops"]["ema_"]["cuda"] == ("CUDA" if info["extension"]["cuda"] else "reference")


def test_every_op_is_listed_with_the_kernels_that_are_registered():
    sources = "".join(path.read_text() for path in (ROOT / "contrastkit" / "ops").glob("*.py"))
    defined = set(re.findall(r'LIBRARY\.define\(\s*f?"(\w+)\(', sources))
    info = extension.info()
    assert len(defined) == sources.count("LIBRARY.define(") and info["ops"].keys() == defined
    for device in ("cpu", "cuda"):
        registered = set(re.findall(r'm\.impl\("(\w+)"', (ROOT / "csrc" / device / "register.cpp").read_text()))
        built = info["extension"] is not None and (device == "cpu" or info["extension"]["cuda"] != "")
        kernels = {op for op, kernel in info["ops"].items() if kernel[device] != "reference"}
        assert kernels == (registered if built else set())


def test_without_a_compiler_there_is_no_extension():
    process = run(sys.executable, "setup.py", "--version", CXX="no-such-compiler")
    assert process.returncode == 0 and "the reference ops are used" in process.stderr


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"CXX": "no-such-compiler", "CONTRASTKIT_CPP": "1"}, "no C++ compiler"),
        ({"CONTRASTKIT_CPP": "yes"}, "CONTRASTKIT_CPP must be 0 or 1"),
        ({"CXX": sys.executable, "CONTRASTKIT_CUDA": "1", "CUDA_HOME": "/nowhere"}, "CONTRASTKIT_CUDA=1, but "),
    ],
)
def test_what_was_asked_for_and_cannot_be_is_an_error(variables, message):
    process = run(sys.executable, "setup.py", "--version", **variables)
    assert process.returncode != 0 and message in process.stderr


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution of what git knows, so that no build of this folder slips in."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("sdist")
    for name in run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z").stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    process = run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", out, source, cwd=source)
    assert process.returncode == 0, process.stderr
    return next(out.glob("*.tar.gz"))


@pytest.mark.slow
@pytest.mark.parametrize("compiler", [True, False])
def test_the_sdist_installs_with_a_compiler_and_without(sdist, tmp_path, compiler):
    target = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "--target", target, sdist]
    variables = {"CONTRASTKIT_CUDA": "0"} if compiler else {"CXX": "no-such-compiler"}
    process = run(*command, cwd=tmp_path, **variables)
    assert process.returncode == 0, process.stderr
    code = (
        "import json, contrastkit.cli.main; from contrastkit.ops import extension; print(json.dumps(extension.info()))"
    )
    process = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(target))
    assert process.returncode == 0, process.stderr
    info = json.loads(process.stdout)
    if compiler:
        assert info["aside"] is None and info["ops"]["ema_"]["cpu"].startswith("C++")
    else:
        assert info["aside"] == "not built" and info["ops"]["ema_"]["cpu"] == "reference"
