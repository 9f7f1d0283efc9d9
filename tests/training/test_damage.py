"""Damaged files of a run folder are one line, never a traceback: each value of each file, spoiled in each way."""

import copy
import json
import re
import shutil
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import contrastkit
from contrastkit.errors import UserError
from contrastkit.evaluate import EvaluationSubject, knn
from contrastkit.loading import load_method
from contrastkit.record import SINCE_2, SINCE_3, SINCE_4, SINCE_5
from contrastkit.run import Run
from contrastkit.training import Plan
from contrastkit.training.launch import launch
from contrastkit.training.plan import plan

Keys = tuple[Any, ...]

WRONG: dict[str, Any] = {
    "null": None,
    "text": "x",
    "list": [],
    "huge": 10**400,
    "nested": {"a": [{"b": None}]},
}


def places(value: Any, above: Keys = ()) -> Iterator[Keys]:
    """The keys that lead to each value below; of values of one kind, such as a list's or weights, to the first."""
    items = list(value.items() if isinstance(value, dict) else enumerate(value))
    alike = above == ("method",) or (items and isinstance(items[0][0], int))
    for key, inner in items[:1] if alike else items:
        yield (*above, key)
        if isinstance(inner, dict | list | tuple):
            yield from places(inner, (*above, key))


def spoiled(value: Any) -> Iterator[tuple[str, Any]]:
    """What is wrong, and copies of a value in which one value below is missing or of another type; and foreign ones."""
    others: list[Any] = [None, [], "x", 3]
    for wrong in others:
        yield f"all of it: {wrong!r}", wrong
    for keys in places(value):
        for how in ("missing", *WRONG):
            spoilt = copy.deepcopy(value)
            inner = spoilt
            for key in keys[:-1]:
                inner = inner[key]
            if isinstance(inner, tuple):  # of an optimizer's options
                continue
            if how == "missing":
                del inner[keys[-1]]
            else:
                inner[keys[-1]] = WRONG[how]
            yield f"{'.'.join(map(str, keys))}: {how}", spoilt


def planned(run: Path) -> Plan:
    return plan("moco-v2", {}, change=lambda recipe: recipe, out=run, resume=True)


def resume(run: Path) -> None:
    launch(planned(run))


def one_line(use: Callable[[Path], object], run: Path, damage: str) -> str | None:
    """The message if the run is refused; None if its use works."""
    try:
        use(run)
    except UserError as error:
        assert "\n" not in str(error), damage
        return str(error)
    except Exception as error:
        raise AssertionError(f"{damage}: {use}: {type(error).__name__}: {error}") from error
    return None


@pytest.fixture
def damaged(moco_run: Path, tmp_path: Path) -> Path:
    """A copy of a run, to be spoiled; its own resumption changes files, so they are restored before each use."""
    return Path(shutil.copytree(moco_run, tmp_path / "run"))


@pytest.mark.slow
def test_recipe_json(damaged: Path) -> None:
    file = damaged / "recipe.json"
    whole = json.loads(file.read_text())
    refused = 0
    for damage, value in spoiled(whole):
        third: Callable[[Path], object] = planned if damage.startswith("recipe") else resume
        for use in (EvaluationSubject.open, load_method, third):
            file.write_text(json.dumps(value))
            message = one_line(use, damaged, damage)
            refused += message is not None
    assert refused > 500
    for text in ("", "{", "[" * 100_000, "\xff", "1" * 5000):
        file.write_text(text, "latin-1")
        for use in (EvaluationSubject.open, contrastkit.load, load_method, resume):
            assert "recipe.json is damaged" in str(one_line(use, damaged, text[:9]))


@pytest.mark.parametrize(
    ("keys", "value", "says"),
    [
        (("options", "seed"), "x", "is damaged: options.seed must be a whole number, not 'x'"),
        (("options", "compile"), 1, "is damaged: options.compile must be true or false, not 1"),
        (("data", "images"), None, "is damaged: data.images must be a whole number, not null"),
        (("encoder", "size"), [], "is damaged: encoder.size must be a whole number, not []"),
        (("recipe", "views", 0, "blur_p"), "x", "is damaged: recipe.views[0].blur_p must be a number, not 'x'"),
        (("recipe", "epochs"), 0, "is damaged: --epochs must be at least 1, not 0"),
        (("options", "frobnicate"), 1, "was written by a newer contrastkit: it has options.frobnicate"),
        (("recipe", "frobnicate"), 1, "was written by a newer contrastkit: it has recipe.frobnicate"),
        (("format",), 7, "was written by a newer contrastkit: it has format 7, this version reads formats up to 6"),
        (
            ("recipe", "views", 0, "interpolation"),
            "x",
            "is damaged: recipe.views[0].interpolation must be one of bilinear, bicubic, not 'x'",
        ),
    ],
)
def test_the_message_names_what_is_wrong(damaged: Path, keys: Keys, value: Any, says: str) -> None:
    file = damaged / "recipe.json"
    record = inner = json.loads(file.read_text())
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    file.write_text(json.dumps(record))
    with pytest.raises(UserError, match=f"^{re.escape(f'{file} {says}')}$"):
        resume(damaged)


def test_what_is_missing_is_named(damaged: Path) -> None:
    file = damaged / "recipe.json"
    record = json.loads(file.read_text())
    del record["options"]["seed"]
    file.write_text(json.dumps(record))
    with pytest.raises(UserError, match="is damaged: options.seed is missing"):
        contrastkit.load(damaged)


def test_the_format_has_a_number_and_a_file_without_one_has_the_first(damaged: Path) -> None:
    file = damaged / "recipe.json"
    record = Run.open(damaged).record
    values = json.loads(file.read_text())
    assert values.pop("format") == 6
    assert [values.pop(name) for name in ("weights", "parent")] == [None, None]  # not in the fourth
    for name in SINCE_5:
        values["options"].pop(name)
    file.write_text(json.dumps(values | {"format": 4}))
    assert Run.open(damaged).record == record
    file.write_text(json.dumps(values | {"format": 5, "weights": None, "parent": None}))
    with pytest.raises(UserError, match="is damaged: options.labelled is missing"):
        assert Run.open(damaged).record
    for name in SINCE_4:  # not in the third
        values["options"].pop(name)
    file.write_text(json.dumps(values | {"format": 3}))
    assert Run.open(damaged).record == record
    file.write_text(json.dumps(values | {"format": 4}))
    with pytest.raises(UserError, match="is damaged: options.scaled_decoding is missing"):
        assert Run.open(damaged).record
    for view in values["recipe"]["views"]:  # not in the second
        for name in SINCE_3:
            view.pop(name)
    file.write_text(json.dumps(values | {"format": 2}))
    assert Run.open(damaged).record == record
    for name in SINCE_2:  # not in the first
        values["options"].pop(name)
    file.write_text(json.dumps(values))
    assert Run.open(damaged).record == record
    file.write_text(json.dumps(values | {"format": 2}))
    with pytest.raises(UserError, match="is damaged: options.test_part is missing"):
        assert Run.open(damaged).record


def test_environment_json(damaged: Path) -> None:
    file = damaged / "environment.json"
    for text in ("{", "3", "{}", "null", "[1]", '"x"', "\xff"):
        file.write_text(text, "latin-1")
        with pytest.raises(UserError, match=r"environment\.json is damaged"):
            resume(damaged)
        assert file.read_text("latin-1") == text


@pytest.mark.slow
def test_metrics_jsonl(damaged: Path) -> None:
    file = damaged / "metrics.jsonl"
    row = json.loads(file.read_text().splitlines()[0]) | {"std": 0.5, "rank": 3.0, "knn": 0.5}
    refused = 0
    for damage, value in spoiled(row):
        file.write_text(json.dumps(value) + "\n" + json.dumps(row) + "\n")
        refused += one_line(resume, damaged, damage) is not None
    assert refused > 50


def test_a_damaged_line_of_metrics_is_named(damaged: Path) -> None:
    file = damaged / "metrics.jsonl"
    row = json.loads(file.read_text().splitlines()[0])
    file.write_text(json.dumps(row | {"step": "x"}) + "\n")
    with pytest.raises(UserError, match=r"line 1 of .*metrics\.jsonl is damaged \(step must be a number, not 'x'\)"):
        resume(damaged)


@pytest.mark.slow
def test_last_pt(damaged: Path) -> None:
    """With a batch still to train, so that what only the next step reads is read."""
    last, metrics = damaged / "checkpoints" / "last.pt", damaged / "metrics.jsonl"
    whole = torch.load(last, weights_only=True)
    whole["step"] -= 1
    (damaged / "encoder.safetensors").unlink()
    rows = metrics.read_bytes()
    refused = 0
    for damage, value in spoiled(whole):
        torch.save(value, last)
        metrics.write_bytes(rows)
        for use in (contrastkit.load, resume):
            refused += one_line(use, damaged, damage) is not None
        (damaged / "encoder.safetensors").unlink(missing_ok=True)
    assert refused > 200
    torch.save(whole, last)
    resume(damaged)
    for step, says in ((-1, "step must lie between 0 and"), (10**9, "step must lie between 0 and")):
        torch.save(whole | {"step": step}, last)
        with pytest.raises(UserError, match=says):
            resume(damaged)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_entries_that_are_larger_than_the_checkpoint_are_not_read(damaged: Path, compression: int) -> None:
    """64 MiB of zeros in 64 kB; and one stored entry that stands in the directory of the file again and again."""
    last = damaged / "checkpoints" / "last.pt"
    (damaged / "encoder.safetensors").unlink()
    with zipfile.ZipFile(last) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = max(members, key=lambda name: len(members[name]))
    with zipfile.ZipFile(last, "w", compression) as archive:
        for other, content in members.items():
            archive.writestr(other, bytes(2**26) if other == name and compression else content)
        if compression == zipfile.ZIP_STORED:
            archive.filelist += [archive.getinfo(name)] * (last.stat().st_size // len(members[name]) + 1)
    tracemalloc.start()
    with pytest.raises(UserError, match=r"last\.pt is not a readable checkpoint"):
        contrastkit.load(damaged)
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


def test_features_of_a_damaged_run(damaged: Path) -> None:
    """What opens is evaluated too."""
    file = damaged / "recipe.json"
    whole = json.loads(file.read_text())
    for damage, value in spoiled({"options": whole["options"], "encoder": whole["encoder"], "data": whole["data"]}):
        file.write_text(json.dumps(whole | value if isinstance(value, dict) else value))
        one_line(lambda run: knn(EvaluationSubject.open(run, device="cpu")), damaged, damage)
