"""Small sets of images and sounds, short runs and two processes for many tests; and why tests were skipped."""

import itertools
import multiprocessing
import os
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch: each pytest worker has a core, not the machine

import numpy as np
import pytest
import torch
import torch.distributed
from PIL import Image
from scipy.io import wavfile

torch.set_num_threads(1)  # the nets are tiny: more threads would only wait for each other
# Autograd starts its threads at the first backward, one for each device; after that, forked processes cannot use it. A
# test with fake tensors pretends that there is a GPU: the first backward comes before it.
torch.ones((), requires_grad=True).backward()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many tests were skipped, by reason."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"skipped {count:4d}: {reason}")


@pytest.fixture(scope="session", autouse=True)
def alike_everywhere() -> Iterator[None]:
    """Tests do not see the shell's CONTRASTKIT_DATA, except those whose module reads it on import; and trainings do not
    draw their curves, which takes longer than the training, nor estimate their memory, which runs the method once more.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CONTRASTKIT_DATA", raising=False)
        patch.setattr("contrastkit.run.draw_curves", lambda rows, path, **how: path.touch())
        patch.setattr("contrastkit.training.launch.require_memory", lambda *args, **how: None)
        yield


@pytest.fixture(autouse=True)
def seed() -> None:
    """What a test draws depends neither on the tests before it nor on the process that runs it."""
    torch.default_generator.manual_seed(0)  # torch.manual_seed keeps its stack for CUDA: a thousand times as long


def _noise(n: int, classes: int, tints: tuple[int, int], spread: int, seed: int, path: Path) -> Path:
    """n colour images of 16 x 16 pixels in an .npz, with their labels: each class a tint under noise."""
    g = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    tint = g.uniform(*tints, size=(classes, 1, 1, 3))
    pixels = np.clip(tint[labels] + g.normal(0, spread, size=(n, 16, 16, 3)), 0, 255).astype(np.uint8)
    np.savez(path, images=pixels, labels=labels)
    return path


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """320 images of four classes, whose tints are plain to see."""
    return _noise(320, 4, (40, 215), 25, 0, tmp_path_factory.mktemp("images") / "noise.npz")


@pytest.fixture(scope="session")
def environments(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``images``, of three environments."""
    path = tmp_path_factory.mktemp("environments") / "places.npz"
    with np.load(images) as arrays:
        np.savez(path, **arrays, environment=np.array(["north", "south", "west"])[np.arange(320) // 4 % 3])
    return path


@pytest.fixture(scope="session")
def hard_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """280 images of seven classes, whose tints nearly drown in noise."""
    return _noise(280, 7, (100, 155), 80, 1, tmp_path_factory.mktemp("hard") / "hard.npz")


def _trained(method: str, data: Path, out: Path) -> Path:
    from contrastkit.cli.main import main

    quick = ["--encoder=tiny", "--device=cpu", "--epochs=1", "--batch=32", "--K=64", "--size=12", "--monitor-every=0"]
    assert main(["train", method, f"--data={data}", f"--out={out}", *quick, "--val-fraction=0.25"]) == 0
    return out


@pytest.fixture(scope="session")
def moco_run(hard_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of MoCo for an epoch on ``hard_images``, a quarter of them held out."""
    return _trained("moco", hard_images, tmp_path_factory.mktemp("moco") / "run")


@pytest.fixture(scope="session")
def cmc_run(hard_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of CMC, which has an encoder for each of two views."""
    return _trained("cmc", hard_images, tmp_path_factory.mktemp("cmc") / "run")


@pytest.fixture(scope="session")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 .wav files at 8 kHz, a quarter of a second and longer, in two folders: low and high notes under noise."""
    g, root = np.random.default_rng(0), tmp_path_factory.mktemp("sounds")
    for i in range(160):
        note, pitch = ("low", 200) if i % 2 else ("high", 500)
        t = np.arange(g.integers(2000, 3000)) / 8000
        wave = 0.2 * np.sin(2 * np.pi * (pitch + g.uniform(0, 40)) * t) + g.normal(0, 0.02, len(t))
        (root / note).mkdir(exist_ok=True)
        wavfile.write(root / note / f"{i:03d}.wav", 8000, (wave * 32767).astype(np.int16))
    return root


@pytest.fixture(scope="session")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """180 images of six tints under noise, in images/, three captions each, in captions.token."""
    g, root = np.random.default_rng(0), tmp_path_factory.mktemp("captioned") / "tints"
    tints = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200), "yellow": (200, 200, 40)}
    tints |= {"violet": (200, 40, 200), "gray": (120, 120, 120)}
    lines = []
    (root / "images").mkdir(parents=True)
    for i in range(180):
        name, tint = list(tints.items())[i % 6]
        pixels = np.clip(g.normal(tint, 30, (20, 20, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{i:03d}.png")
        for k, text in enumerate((f"A {name} square .", f"this picture, number {i}, is {name}", f"all {name} ({i})")):
            lines.append(f"{i:03d}.png#{k}\t{text}\n")
    (root / "captions.token").write_text("".join(lines))
    return root


@pytest.fixture(scope="session")
def clip_run(captioned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of CLIP for two epochs on ``captioned``, two fifths of them held out."""
    from contrastkit.cli.main import main

    out = tmp_path_factory.mktemp("clip") / "run"
    quick = ["--encoder=tiny", "--device=cpu", "--epochs=2", "--batch=32", "--size=12", "--monitor-every=0"]
    towers = ["--text-width=16", "--text-layers=1", "--dim=16"]
    assert main(["train", "clip", f"--data={captioned}", f"--out={out}", "--val-fraction=0.4", *quick, *towers]) == 0
    return out


@pytest.fixture
def two_processes(tmp_path: Path) -> Callable[[Callable[[int], None]], None]:
    """Call work(rank) in two forked processes that share a process group."""

    def child(rank: int, group: Path, work: Callable[[int], None], failures: multiprocessing.SimpleQueue) -> None:
        try:
            torch.distributed.init_process_group("gloo", init_method=f"file://{group}", rank=rank, world_size=2)
            work(rank)
        except BaseException:
            failures.put(traceback.format_exc())

    groups = (tmp_path / f"group-{n}" for n in itertools.count())

    def run(work: Callable[[int], None]) -> None:
        torch.testing.assert_close(torch.zeros(()), torch.zeros(()))  # imports sympy once instead of in every child
        fork = multiprocessing.get_context("fork")
        failures = fork.SimpleQueue()
        group = next(groups)
        children = [fork.Process(target=child, args=(rank, group, work, failures)) for rank in range(2)]
        for process in children:
            process.start()
        for process in children:
            process.join(120)
            assert process.exitcode is not None, "a process hangs"
        assert failures.empty(), failures.get()

    return run
