"""What a training says about itself, before its first step and after a few."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import contrastkit
from contrastkit.data import open_data
from contrastkit.methods import RECIPES, BuildContext
from contrastkit.training import NullReporter, launch, outlook
from contrastkit.training.outlook import Pace, duration, legend, seen_at

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.44, "0.4 s"), (12.4, "12 s"), (89.4, "89 s"), (90.1, "2 min"), (7169, "119 min"), (7201, "2 h 0 min"),
        (9e4, "25 h 0 min"), (2 * 86400, "2 d 0 h"), (100 * 3600 + 1900, "4 d 5 h"),
    ],
)  # fmt: skip
def test_a_duration_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("name", "size", "says"),
    [
        ("moco-v2/small", 500, "seen at 96 px, up to 5 times smaller, so small things are lost: --size shows more"),
        ("moco-v2/small", 224, "images of about 224 px are seen at 96 px: --size changes it"),
        ("swav/small", 224, "seen at 96 and 64 px: --size changes it"),
        ("moco-v2/tiny", 224, "seen at 24 px, up to 9 times smaller, so small things are lost: --size shows more, and "
         "--recipe small is for photos"),
        ("moco-v2/tiny", 8, "images of about 8 px are seen at 24 px, enlarged: --size changes it"),
    ],
)  # fmt: skip
def test_how_large_images_are_seen(name: str, size: int, says: str) -> None:
    source: Any = SimpleNamespace(size=size)
    assert seen_at(RECIPES[name], source, tiny=name.endswith("tiny")).endswith(says)


def pace_over(ends: list[float], *, ahead: int, left: int = 90, **how: Any) -> list[str]:
    """What is said if steps end at these seconds of training."""
    pace, lines = Pace(CPU, ahead=ahead), []
    for end in ends:
        meter: Any = SimpleNamespace(lap=lambda end=end: end)
        pace.mark(meter)
        if (line := pace.project(left, meter, **{"evaluates": False} | how)) is not None:
            lines.append(line)
    return lines


def test_the_pace_is_the_mean_of_the_first_steps_but_one() -> None:
    """The first takes 100 seconds, one of the others 20, and those after the tenth are not counted."""
    ends = [100.0, 102.0, 104.0, 124.0, *(124.0 + 2 * i for i in range(1, 7)), 1000.0, 2000.0]
    line = "the 90 steps to come take about 6 min, 4 s each (mean of 9)"
    assert pace_over(ends, ahead=0) == [line]
    assert pace_over(ends, ahead=0, evaluates=True) == [f"{line}, and evaluations besides"]
    assert pace_over(ends, ahead=0, left=0) == pace_over(ends[:9], ahead=0) == []


@pytest.mark.parametrize("workers", [2, 8, 32])
def test_the_pace_is_that_of_the_processes_that_load_where_training_waits_for_them(workers: int) -> None:
    """A batch takes a process a second, a step 20 ms: batches come in bursts, the first ones while step 1 compiles."""
    ready, ends, now = [1.0] * workers, list[float](), 0.0
    for step in range(100):
        now = max(now, ready[step % workers])
        ready[step % workers] = now + 1  # the process begins its next one
        now += 0.02 if step else 10
        ends.append(now)
    line, *more = pace_over(ends, ahead=workers, left=1000)
    seconds = float(line.rpartition(", ")[2].split()[0])
    assert not more and seconds == pytest.approx(1 / workers, rel=0.3)


def test_the_legend_has_what_the_line_has() -> None:
    """MoCo's K is 64 here: 2 log 65 = 8.35."""
    context = BuildContext(channels=3, size=24, images=100)
    moco, byol = (
        replace(RECIPES[name], encoder="tiny", batch=16, **how).build(context)  # type: ignore[arg-type]
        for name, how in (("moco-v2/tiny", {"K": 64}), ("byol/tiny", {}))
    )
    whole = legend(moco, {"loss": 1.0, "std": 1.0, "rank": 2.0, "knn": 0.5})
    assert whole is not None
    assert whole.startswith(
        "legend: the loss is the sum of both directions; a loss of 8.35 tells nothing apart; kNN is"
    )
    assert "; std is the spread of the outputs" in whole and "; rank is the number of directions" in whole
    assert legend(byol, {"loss": 1.0}) == "legend: the loss is the sum of both directions"
    assert legend(replace(RECIPES["simsiam/tiny"], batch=16).build(context), {"loss": 1.0}) is None


@pytest.mark.parametrize("name", [name for name in RECIPES if name.endswith("/tiny")])
def test_the_loss_at_chance_is_of_all_directions(name: str) -> None:
    """A loss of two directions has a chance loss of two logarithms, by the methods' own count."""
    assert replace(RECIPES[name], batch=16).build(_context(name)).directions == DIRECTIONS.get(name.split("/")[0], 1)


DIRECTIONS = {"moco-v2": 2, "simclr-v1": 2, "simclr-v2": 2, "byol": 2, "moco-v3": 2, "cmc": 2}


def _context(name: str) -> BuildContext:
    return BuildContext(channels=1 if name.startswith("cpc-audio") else 3, size=24, images=5000)


@pytest.mark.parametrize(("name", "precision", "says"), [
    ("moco-v2/small", "float32", "less than 24 GiB together in float32: --recipe imagenet has the paper's numbers"),
    ("moco-v2/small", "bfloat16", "less than 14 GiB together in bfloat16: --recipe imagenet has"),
    ("mine.py:twins/small", "float32", None),
])  # fmt: skip
def test_the_recipe_for_photos_names_the_papers_where_there_is_one(name: str, precision: str, says: str | None) -> None:
    """Not a row of the same name in a user's file, which may have no other."""
    plan: Any = SimpleNamespace(
        name=name, recipe=RECIPES["moco-v2/small"], resumes=False, device=CPU,
        options=SimpleNamespace(precision=precision), data=SimpleNamespace(pretrain=SimpleNamespace(size=224)),
    )  # fmt: skip
    first = outlook.before(plan, 10, None)[0]
    assert says in first if says is not None else first.startswith("images of about 224 px")


def test_a_run_says_what_it_will_take_and_how_it_went(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """320 images, 28 px: 10 steps of 32 an epoch; K = 512 keys are more than the images."""
    lines: list[str] = []
    monkeypatch.setattr(launch, "require_memory", lambda *_, **how: 3 * 2**29)

    class Lines(NullReporter):
        def log(self, line: str) -> None:
            lines.append(line)

    how: dict[str, Any] = {"encoder": "tiny", "epochs": 2, "batch": 32, "K": 512, "size": 12, "device": "cpu"}
    outcome = contrastkit.train("moco", images, out=tmp_path / "run", reporter=Lines(), **how)
    size = open_data(str(images)).pretrain.size
    first = next(i for i, line in enumerate(lines) if line.startswith("epoch 1/2"))
    early = lines[:first]
    assert f"images of about {size} px are seen at 12 px: --size changes it" in early
    (steps,) = [line for line in early if "10 steps an epoch, 20 in all; a step takes at least 1.5 GiB, " in line]
    assert " of memory are free" in steps
    assert any("holds 512 keys of 320 images" in line for line in early)
    assert sum("the 10 steps to come take about" in line for line in early) == 1
    assert lines[first + 1].startswith("legend: the loss is the sum of both directions; a loss of 12.48 ")
    assert sum(line.startswith("legend") for line in lines) == 1
    assert outcome.verdict is not None and lines[-1] == outcome.verdict.line
    assert outcome.verdict.images == 64 and outcome.verdict.epochs == (1, 2)
    written = (tmp_path / "run" / "log.txt").read_text()
    assert all(line in written for line in lines)
