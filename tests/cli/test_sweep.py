"""sweep: a run for each combination and seed, resumed bit for bit, the same one after the other and side by side."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from contrastkit import evaluate, precision
from contrastkit import sweep as sweeps
from contrastkit.cli import recipe_options
from contrastkit.cli.main import main
from contrastkit.errors import UserError
from contrastkit.evaluate.made import weights_of
from contrastkit.methods import RECIPES
from contrastkit.run import Run
from contrastkit.sweep import combinations
from contrastkit.training import Outcome, Plan, series, teaching
from tests.schemas import read_report

QUICK = ["--encoder=tiny", "--device=cpu", "--batch=64", "--K=64", "--size=12", "--monitor-every=0", "--workers=0"]
NAMES = [f"lr-{lr}-seed-{seed}" for lr in ("0.03", "0.06") for seed in (0, 1)]


def command(images: Path, out: Path, *more: str, epochs: int = 1) -> list[str]:
    files = [f"--data={images}", f"--out={out}", f"--epochs={epochs}"]
    return ["sweep", "moco", *files, *QUICK, "--val-fraction=0.2", "--lr=0.03,0.06", "--seeds=2", *more]


def same_bits(a: Path, b: Path) -> bool:
    ours, theirs = (load_file(run / "encoder.safetensors") for run in (a, b))
    return ours.keys() == theirs.keys() and all(bool((ours[name] == theirs[name]).all()) for name in ours)


@pytest.fixture(scope="module")
def swept(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sweep") / "all"
    assert main(command(images, out)) == 0
    return out


def test_a_run_for_each_combination_and_seed(
    swept: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is what train makes of the same options; its kNN is that of the command; repeated, nothing is trained."""
    assert sorted(path.parent.name for path in swept.glob("*/recipe.json")) == sorted(NAMES)
    alone = ["train", "moco", f"--data={images}", f"--out={tmp_path / 'alone'}", "--epochs=1", *QUICK]
    assert main([*alone, "--val-fraction=0.2", "--lr=0.06", "--seed=1"]) == 0
    assert same_bits(swept / "lr-0.06-seed-1", tmp_path / "alone")
    assert not same_bits(swept / "lr-0.06-seed-1", swept / "lr-0.06-seed-0")
    subject = evaluate.EvaluationSubject.open(swept / "lr-0.03-seed-1", device="cpu")
    report = json.loads((swept / "lr-0.03-seed-1" / "knn.json").read_text())
    assert report["made"]["weights"] == weights_of(swept / "lr-0.03-seed-1"), "as the command writes it"
    report = read_report("knn", swept / "lr-0.03-seed-1" / "knn.json")
    assert next(iter(report["accuracy"].values()))["top1"] == evaluate.knn(subject).accuracy[str(subject.run)].top1

    rows = read_report("sweep", swept / "compare.json")["rows"]
    assert [(row["settings"], row["seeds"]) for row in rows] == [({"lr": 0.03}, [0, 1]), ({"lr": 0.06}, [0, 1])]
    assert all(row["numbers"]["knn"]["n"] == 2 for row in rows) and (swept / "compare.png").is_file()

    def refuse(*args: Any, **how: Any) -> Outcome:
        raise AssertionError("trained again")

    monkeypatch.setattr(series, "launch", refuse)
    for name in NAMES:  # as a copy may leave it: the weights say that the evaluation is theirs, whatever the dates
        (swept / name / "encoder.safetensors").touch()
    monkeypatch.setattr(sweeps, "knn", refuse)
    capsys.readouterr()
    assert main(command(images, swept)) == 0
    printed = capsys.readouterr().out
    assert printed.count("already trained") == 4 and "+- " in printed and "kNN, %" in printed


@pytest.mark.slow
def test_all_runs_start_from_the_same_weights(
    swept: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As those of train; the sweep keeps its weights, and others are refused."""
    start, other = (f"--init-from={swept / name}" for name in NAMES[:2])
    assert main(command(images, tmp_path / "all", start, "--seeds=1")) == 0
    alone = ["train", "moco", f"--data={images}", f"--out={tmp_path / 'alone'}", "--epochs=1", *QUICK]
    assert main([*alone, "--val-fraction=0.2", "--lr=0.06", start]) == 0
    assert same_bits(tmp_path / "all" / NAMES[2], tmp_path / "alone")
    assert not same_bits(tmp_path / "alone", swept / NAMES[2])
    for changed in ([other], []):
        capsys.readouterr()
        assert main(command(images, tmp_path / "all", "--seeds=1", *changed)) == 2
        assert "is a sweep with another start: choose another --out" in capsys.readouterr().err
    assert main(command(images, tmp_path / "wide", start, "--encoder=resnet18")) == 2
    assert "does not fit the encoder" in capsys.readouterr().err and not (tmp_path / "wide").exists()


@pytest.mark.slow
def test_a_stopped_sweep_goes_on_bit_for_bit(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal in the middle of the second run: the first is not trained again, the second resumed."""
    assert main(command(images, tmp_path / "whole", "--seeds=1", epochs=2)) == 0
    real, launched = series.launch, []

    def launch(plan: Plan, **how: Any) -> Outcome:
        launched.append((plan.out.name, plan.resumes))
        if len(launched) != 2:
            return real(plan, **how)
        return replace(real(plan, stop_after=1, **how), signal=signal.SIGINT)

    monkeypatch.setattr(series, "launch", launch)
    capsys.readouterr()
    assert main(command(images, tmp_path / "cut", "--seeds=1", epochs=2)) == 130
    assert "stopped after 1 of 2 runs: repeat the command to go on" in capsys.readouterr().out
    assert main(command(images, tmp_path / "cut", "--seeds=1", epochs=2)) == 0
    assert launched == [(NAMES[0], False), (NAMES[2], False), (NAMES[2], True)]
    assert all(same_bits(tmp_path / "cut" / name, tmp_path / "whole" / name) for name in (NAMES[0], NAMES[2]))


def test_a_damaged_run_ends_no_other(
    swept: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(shutil.copytree(swept, tmp_path / "all"))
    (out / NAMES[0] / "recipe.json").write_text("{")
    shutil.rmtree(out / NAMES[1])
    assert main(command(images, out)) == 2
    printed, error = capsys.readouterr()
    assert f"1 of 4 runs failed (first {NAMES[0]}: " in error and "recipe.json is damaged" in error
    assert f"{NAMES[1]}: trained" in printed and printed.count("already trained") == 2


def test_the_row_and_precision_are_those_of_the_first_start(
    swept: Path, images: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever suits the machine on which the same command goes on; what is asked for stays."""

    def elsewhere(recipes: Any, **how: Any) -> str:
        return "moco-v2/32" if how["row"] is None else f"moco-v2/{how['row']}"

    monkeypatch.setattr(teaching, "choose_row", elsewhere)
    fast = json.loads((swept / "sweep.json").read_text())["precision"] == "bfloat16"
    monkeypatch.setattr(precision, "cpu_has_fast_bfloat16", lambda: not fast)
    assert main(command(images, swept)) == 0
    printed = capsys.readouterr().out
    assert "recipe moco-v2/tiny on" in printed and printed.count("already trained") == 4
    other = f"--precision={'float32' if fast else 'bfloat16'}"
    for more, says in (("--recipe=32", "another name: choose"), (other, "with another precision")):
        assert main([*command(images, swept), more]) == 2
        assert says in capsys.readouterr().err


def bug(task: Any) -> None:
    raise ZeroDivisionError("in the program")


@pytest.mark.slow
def test_a_program_error_in_a_process_has_its_traceback(swept: Path) -> None:
    """As it would end a series without processes; no one line could say what is wrong."""
    record = Run.open(swept / NAMES[0]).record
    tasks = [
        series.Task(record.name, record.recipe_of(type(RECIPES[record.name]), swept), record.options, swept / NAMES[0])
    ]
    with pytest.raises(series.ProgramError, match=r"(?s)lr-0.03-seed-0:\nTraceback.*in bug.*ZeroDivisionError: in the"):
        list(series.train_each(tasks, data={}, then=bug, jobs=2))


def fails_in(out: Path, name: str) -> None:
    (out / name / "recipe.json").mkdir(parents=True)  # a folder in place of the file


def test_a_run_that_fails_loses_no_other(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails_in(tmp_path, NAMES[0])
    assert main(command(images, tmp_path, "--seeds=1")) == 2
    printed, error = capsys.readouterr()
    assert f"1 of 2 runs failed (first {NAMES[0]}: " in error and error.count("\n") == 1
    assert f"1 of 2: {NAMES[0]}: failed: " in printed and f"2 of 2: {NAMES[2]}: trained" in printed
    rows = json.loads((tmp_path / "compare.json").read_text())["rows"]
    assert [row["runs"] for row in rows] == [[str(tmp_path / NAMES[2])]]


@pytest.mark.slow
def test_side_by_side_gives_the_same_bits(
    swept: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A process for each run; one that fails loses no other."""
    fails_in(tmp_path, "lr-0.12-seed-0")
    assert main(command(images, tmp_path, "--lr=0.03,0.06,0.12", "--seeds=1", "--jobs=2")) == 2
    assert "1 of 3 runs failed (first lr-0.12-seed-0: the run folder" in capsys.readouterr().err
    for name in (NAMES[0], NAMES[2]):
        assert same_bits(tmp_path / name, swept / name), name
        ours, theirs = (json.loads((out / name / "knn.json").read_text())["accuracy"] for out in (tmp_path, swept))
        assert list(ours.values()) == list(theirs.values())


@pytest.mark.slow
def test_side_by_side_all_start_from_the_same_weights(swept: Path, images: Path, tmp_path: Path) -> None:
    start = f"--init-from={swept / NAMES[0]}"
    for out, more in (("one", []), ("two", ["--jobs=2"])):
        assert main(command(images, tmp_path / out, start, "--seeds=1", *more)) == 0
    assert all(same_bits(tmp_path / "one" / name, tmp_path / "two" / name) for name in (NAMES[0], NAMES[2]))
    assert not same_bits(tmp_path / "two" / NAMES[2], swept / NAMES[2])


def test_another_sweep_is_refused(
    swept: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = images.with_name("other.npz")
    other.write_bytes(images.read_bytes())
    for more, says in (
        (["--lr=0.03"], "a sweep with another lr: choose another --out"),
        (["--tau=0.3"], "with another tau"),
        (["--tau=0.1,0.3"], "a sweep with one tau: choose another --out"),
        (["--seed=1"], "with another seed"),
        (["--lr=0.03,0.03"], "two runs lr-0.03: give each value once"),
        (["--lr=0.03,"], "--lr: '' is not a number"),
        (["--lr=0.03,-1"], "--lr must not be negative"),
        (["--K=64,x"], "--K: 'x' is not an integer"),
        (["--schedule=cosine,cubic"], "--schedule must be one of"),
        (["--jobs=0"], "--jobs must be at least 1"),
        ([f"--out={swept / NAMES[0]}"], "holds a run: choose another --out for the sweep"),
    ):
        assert main([*command(images, swept), *more]) == 2
        assert says in capsys.readouterr().err, more
    (tmp_path / "sweep.json").write_text("{")
    assert main(command(images, tmp_path)) == 2
    assert "sweep.json is damaged" in capsys.readouterr().err


@pytest.mark.slow
def test_a_sweep_is_extended(swept: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By values and by seeds: what is there is not trained again, and its own command still goes on."""
    out = Path(shutil.copytree(swept, tmp_path / "all"))
    assert main([*command(images, out), "--lr=0.03,0.09", "--seeds=3"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("already trained") == 2 and printed.count(": trained") == 4
    record = json.loads((out / "sweep.json").read_text())
    assert (record["grid"], record["number_of_seeds"]) == (["lr-0.03", "lr-0.06", "lr-0.09"], 3)
    rows = json.loads((out / "compare.json").read_text())["rows"]
    assert [(row["settings"], row["seeds"]) for row in rows] == [({"lr": 0.03}, [0, 1, 2]), ({"lr": 0.09}, [0, 1, 2])]
    assert main(command(images, out)) == 0
    assert capsys.readouterr().out.count("already trained") == 4
    assert json.loads((out / "sweep.json").read_text()) == record


def test_values_are_divided_at_commas() -> None:
    recipe: Any = RECIPES["moco-v2/tiny"]
    texts = {
        "lr": "0.1, 1e-05",
        "symmetric": "true,False",
        "schedule": "STEP,cosine",
        "milestones": "0.1,0.2",
        "K": "9",
    }
    fixed, several = recipe_options.grid(recipe, texts | {"view_blur_p": "0.1,0.2"})
    assert fixed == {"milestones": (0.1, 0.2), "K": 9, "blur_p": [0.1, 0.2]}
    assert several == {"lr": [0.1, 1e-5], "symmetric": [True, False], "schedule": ["step", "cosine"]}
    made = combinations(recipe, fixed, several)
    assert list(made)[:3] == [
        "lr-0.1-symmetric-true-schedule-step", "lr-0.1-symmetric-true-schedule-cosine",
        "lr-0.1-symmetric-false-schedule-step",
    ]  # fmt: skip
    assert len(made) == 8
    last = made["lr-1e-05-symmetric-false-schedule-cosine"]
    assert last == replace(
        recipe, lr=1e-5, symmetric=False, schedule="cosine", milestones=(0.1, 0.2), K=9,
        views=tuple(replace(view, blur_p=p) for view, p in zip(recipe.views, (0.1, 0.2), strict=True)),
    )  # fmt: skip
    assert list(combinations(recipe, {}, {})) == [""]
    with pytest.raises(UserError, match="two runs"):
        combinations(recipe, {}, {"encoder": ["timm:a/b", "timm:a-b"]})


def commands_of(group: int) -> list[str]:
    """The command lines of the processes of a group. Of one that has ended and is still to be collected it is empty."""
    lines = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended since
            if os.getpgid(int(folder.name)) == group:
                lines.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return list(filter(None, lines))


@pytest.mark.slow
def test_ctrl_c_stops_all_processes_and_the_command_resumes(images: Path, tmp_path: Path) -> None:
    """As a terminal sends it, to the whole group; none of them is left, and the end is that of a sweep in one go.

    Python's own resource tracker may be seen a little longer: it ends when it finds that the command has ended.
    """
    arguments = command(images, tmp_path / "cut", "--seeds=1", "--jobs=2", epochs=40)
    process = subprocess.Popen(
        [sys.executable, "-m", "contrastkit", *arguments], start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    while not list((tmp_path / "cut").glob("*/checkpoints/last.pt")):
        assert process.poll() is None
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 130 and "Traceback" not in error
    assert [line for line in commands_of(process.pid) if "resource_tracker" not in line] == []
    assert main(arguments) == 0
    assert main(command(images, tmp_path / "whole", "--seeds=1", epochs=40)) == 0
    assert all(same_bits(tmp_path / "cut" / name, tmp_path / "whole" / name) for name in (NAMES[0], NAMES[2]))
