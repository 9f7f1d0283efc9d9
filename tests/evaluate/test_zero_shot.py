"""Zero-shot classification against loops in float64, its files, and the command."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from contrastkit.cli.main import main
from contrastkit.data import plain_batches
from contrastkit.errors import UserError
from contrastkit.evaluate import EvaluationSubject, zero_shot
from contrastkit.evaluate.prompts import Prompts, read_names, read_templates, spoken
from contrastkit.evaluate.zero_shot import class_centres
from contrastkit.intervals import wilson
from contrastkit.loading import load
from tests.schemas import read_report

TINTS = {"DarkRed": (200, 40, 40), "gray_field": (120, 120, 120), "green": (40, 200, 40), "navyBlue": (40, 40, 200)}
TINTS |= {"violet": (200, 40, 200), "yellow": (200, 200, 40)}
NAMES = "violet\tviolet, all violet\nDarkRed\tred\ngreen\tgreen\nnavyBlue\tblue\nyellow\tyellow\ngray_field\tgray\n"
TEMPLATES = "A {} square .\nall {}, {}\n"


@pytest.fixture(scope="module")
def tints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 images of six classes, one folder each."""
    g, root = np.random.default_rng(3), tmp_path_factory.mktemp("zero-shot") / "tints"
    for known, tint in TINTS.items():
        (root / known).mkdir(parents=True)
        for i in range(8):
            pixels = np.clip(g.normal(tint, 30, (20, 20, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / known / f"{i}.png")
    return root


def files(folder: Path, names: str = NAMES, templates: str = TEMPLATES) -> dict[str, Any]:
    paths = {"classes": folder / "names.txt", "templates": folder / "templates.txt"}
    for path, text in zip(paths.values(), (names, templates), strict=True):
        path.write_text(text)
    return paths


def unit(row: list[float]) -> list[float]:
    length = math.sqrt(sum(value * value for value in row))
    return [value / length for value in row]


@torch.no_grad()
def test_classes_are_those_of_a_loop(clip_run: Path, tints: Path, tmp_path: Path) -> None:
    """Each text alone on the sphere, their mean, the mean on the sphere; the largest cosine."""
    subject = EvaluationSubject.open(clip_run, data=str(tints))
    report = zero_shot(subject, **files(tmp_path))
    encoder: Any = load(clip_run)
    known = sorted(TINTS)
    names = {"violet": ["violet", "all violet"], "DarkRed": ["red"], "navyBlue": ["blue"], "gray_field": ["gray"]}
    centres = []
    for each in known:
        rows = []
        for name in names.get(each, [each]):
            for text in (f"A {name} square .", f"all {name}, {name}"):
                rows.append(unit(encoder.text([text])[0].double().tolist()))
        centres.append(unit([sum(column) / len(rows) for column in zip(*rows, strict=True)]))
    source = subject.data.train
    x = torch.cat([encoder.image(batch.views[0]) for batch in plain_batches(source, size=subject.size)]).double()
    right, among_five, answers = 0, 0, dict[tuple[str, str], int]()
    for row, y in zip(x.tolist(), source.labels.tolist(), strict=True):
        s = [sum(a * b for a, b in zip(row, centre, strict=True)) for centre in centres]
        order = sorted(range(6), key=lambda c: -s[c])
        right, among_five = right + (order[0] == y), among_five + (y in order[:5])
        answers[known[y], known[order[0]]] = answers.get((known[y], known[order[0]]), 0) + 1
    assert report.accuracy.n == 48 and list(report.names) == known
    assert report.accuracy.top1 == pytest.approx(right / 48) and report.accuracy.top5 == pytest.approx(among_five / 48)
    assert 0 < right < 48, "a test that could not fail"
    assert report.accuracy.interval == wilson(right / 48, 48) and report.top5_interval == wilson(among_five / 48, 48)
    assert report.chance == {"top1": pytest.approx(1 / 6), "top5": pytest.approx(5 / 6)}
    told = {(true, taken): n for true, result in report.per_class.items() for taken, n in result.answers.items()}
    assert told == answers
    prompts = Prompts(report.names, report.templates)
    found, cut = class_centres(encoder, prompts)
    torch.testing.assert_close(found.double(), torch.tensor(centres, dtype=torch.float64), atol=1e-6, rtol=0)
    assert cut == 0


def test_without_files_folders_are_put_into_words(clip_run: Path, tints: Path, tmp_path: Path) -> None:
    subject = EvaluationSubject.open(clip_run, data=str(tints), val_fraction=0.5)
    report = zero_shot(subject)
    assert report.accuracy.n == 24
    assert report.templates == ("a photo of a {}.",)
    assert [own for (own,) in report.names.values()] == [
        "dark red",
        "gray field",
        "green",
        "navy blue",
        "violet",
        "yellow",
    ]
    assert report.notices == (
        'the classes are called as their folders are, in words (DarkRed -> "dark red", gray_field -> "gray field", '
        "...); --classes gives other names",
        'the template is "a photo of a {}."; --templates gives others',
    )
    written = files(tmp_path, "a\nb\ng\nn\nv, w\ny" + " long" * 80)
    given = zero_shot(subject, **written)
    assert [list(own) for own in given.names.values()] == [["a"], ["b"], ["g"], ["n"], ["v", "w"], ["y" + " long" * 80]]
    assert given.notices == ("2 prompts have more than 77 tokens and are cut",)
    alike = zero_shot(subject, **files(tmp_path, "a\nb\ng\nA\nv\ny"))
    assert alike.notices == ("DarkRed, navyBlue have the same names, so the first of them is always the answer",)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("AnnualCrop", "annual crop"), ("golf_ball", "golf ball"), ("red-eyed_Vireo", "red eyed vireo"), ("x", "x"),
        ("TV", "TV"), ("n01440764", "n01440764"), ("__", "__"), ("Café", "café"),
    ],
)  # fmt: skip
def test_names_of_folders_as_words(folder: str, name: str) -> None:
    assert spoken(folder) == name


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a\n\nc\n", "line 2 of .* has no name of the class B"),
        ("a\nb\n", "has 2 line\\(s\\) for 3 classes \\(A, B, C\\): give a name a line in their order"),
        ("A\ta\nB\t , \nC\tc", "line 2 of .* has no name of the class B"),
        ("A\ta\nB\tb\nC\t", "line 3 of .* has no name of the class C"),
        ("A\ta\nC\tc\n", "has no name of B: give each class a line"),
        ("A\ta\nB\tb\nC\tc\nD\td", "line 4 of .* names the class 'D', which the images do not have"),
        ("A\ta\nb\tb\nC\tc", "names the class 'b', which the images do not have, did you mean 'B'\\?"),
        ("A\ta\nA\tb\nC\tc", "line 2 of .* names the class A again: join its names by commas"),
        ("A\ta\nb\nC\tc", "line 2 of .* has no tab, unlike the first"),
        ("a\nB\tb\nC\tc", "line 2 of .* has a tab, unlike the first"),
        ("", "is empty: give one line or more"),
        ("\n \n", "is empty: give one line or more"),
    ],
)
def test_names_that_are_refused(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text(text)
    with pytest.raises(UserError, match=says):
        read_names(file, ["A", "B", "C"])


def test_names_in_their_order_or_by_class(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_bytes(b"\xef\xbb\xbfred fox, fox \r\n blue\r\n\r\n")
    assert read_names(file, ["A", "B"]) == {"A": ("red fox", "fox"), "B": ("blue",)}
    file.write_text("B\tblue\nA\tfox,red fox\n")
    assert list(read_names(file, ["A", "B"]).items()) == [("A", ("fox", "red fox")), ("B", ("blue",))]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a {}\n\nb {}\n", "line 2 of .* is empty: write a template"),
        ("a {}\nb\n", "line 2 of .* has no {}, where the name of the class goes"),
        ("\n", "is empty: give one line or more"),
    ],
)
def test_templates_that_are_refused(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "templates.txt"
    file.write_text(text)
    with pytest.raises(UserError, match=says):
        read_templates(file)
    file.write_text("a {}, {}.\n {} {x} \n")
    assert Prompts({"A": ("é",), "B": ("b", "c")}, read_templates(file)).of("B") == [
        "a b, b.", "b {x}", "a c, c.", "c {x}",
    ]  # fmt: skip


def test_prompts_that_are_refused() -> None:
    two = {"A": ("a",), "B": ("b",)}
    for names, templates, says in (
        ({"A": ("a",)}, ("{}",), "at least two classes"),
        ({"A": ("a",), "B": ()}, ("{}",), "the class B has an empty name, or none"),
        (two, (), "there is no template"),
        (two, ("{}", " "), "template 2 is empty"),
        (two, ("{}", "a"), 'template 2, "a", has no {}'),
    ):
        with pytest.raises(UserError, match=says):
            Prompts(names, templates)


def test_what_cannot_be_classified_is_refused(clip_run: Path, moco_run: Path, images: Path, tints: Path) -> None:
    how: Any
    for run, how, says in (
        (moco_run, {"data": str(tints)}, "zero-shot classification needs a run of clip, .*run has no text tower"),
        (clip_run, {}, "the images of tints have no labels to evaluate with"),
        (clip_run, {"data": str(images)}, "the 4 classes of noise have no names: give them with --classes FILE"),
    ):
        with pytest.raises(UserError, match=says):
            zero_shot(EvaluationSubject.open(run, **how))


def test_the_command(clip_run: Path, tints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(clip_run, run)
    how = [f"--{name}={path}" for name, path in files(tmp_path).items()]
    assert main(["zero-shot", str(run), f"--data={tints}", *how, f"--json={tmp_path / 'x.json'}"]) == 0
    printed = capsys.readouterr().out
    report = read_report("zero-shot", run / "zero-shot.json")
    assert report == json.loads((tmp_path / "x.json").read_text())
    assert (run / "zero-shot-confusion.png").is_file()
    a = report["accuracy"]
    assert "tints has no test part: all of its 48 images are classified" in printed
    assert "zero-shot on tints, 48 images of 6 classes, 14 texts" in " ".join(printed.split())
    assert f"{100 * a['top1']:.2f} %" in printed and "16.67 %" in printed
    assert "{:.1f} - {:.1f}".format(*(100 * end for end in report["top5_interval"])) in printed
    assert main(["zero-shot", str(run), f"--data={tints}", f"--confusion={tmp_path / 'own.png'}"]) == 0
    assert (tmp_path / "own.png").is_file()
