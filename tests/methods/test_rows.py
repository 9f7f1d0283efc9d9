"""Methods of files: found, refused in one line, trained, resumed and evaluated as the built-in ones."""

import json
import pickle
import re
from pathlib import Path

import pytest

import contrastkit
from contrastkit.cli.main import main
from contrastkit.errors import UserError
from contrastkit.loading import load_method
from contrastkit.methods import RECIPES
from contrastkit.methods.rows import choose_row, recipes_of
from tests.same import assert_same_run

FILE = '''
"""Two views of an image should be alike, and their dimensions not (after Barlow Twins, arXiv:2103.03230)."""

from dataclasses import dataclass, replace
from typing import Annotated

from torch import nn

from contrastkit.augment import VIEWS
from contrastkit.methods import BuildContext, Method, Recipe
from contrastkit.parts.heads import Tower
from contrastkit.types import Batch, Step


@dataclass(frozen=True, kw_only=True)
class TwinsRecipe(Recipe):
    """The numbers of twins."""

    redundancy: Annotated[float, "weight of the redundancy term (Eq. 1)"] = 0.005

    def build(self, context: BuildContext) -> "Twins":
        return Twins(self, context)


class Twins(Method[None]):
    def __init__(self, recipe: TwinsRecipe, context: BuildContext) -> None:
        super().__init__()
        encoder = recipe.build_encoder(context)
        self.online = Tower(encoder, nn.Sequential(nn.Linear(encoder.dim, 16), nn.BatchNorm1d(16)))
        self.redundancy = recipe.redundancy

    def forward(self, batch: Batch, progress: float) -> Step[None]:
        z1, z2 = (nn.functional.normalize(self.online(view).float(), dim=0) for view in batch.views)
        C = z1.T @ z2
        invariance = (C.diagonal() - 1).square().sum()
        redundancy = C.square().sum() - C.diagonal().square().sum()
        return Step(loss=invariance + self.redundancy * redundancy, memory=None, logs={"invariance": invariance})


TINY = TwinsRecipe(
    encoder="tiny", epochs=2, batch=32, lr=0.05, weight_decay=1e-4,
    views=tuple(replace(view, size=12) for view in VIEWS["moco-cifar"]),
)
RECIPES = {"twins/tiny": TINY, "twins/32": replace(TINY, encoder="resnet18"), "other/imagenet": TINY}
'''  # fmt: skip


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mine") / "mine.py"
    path.write_text(FILE)
    return path


def test_a_files_recipes_go_by_its_name_and_fit_the_images(file: Path) -> None:
    recipes = recipes_of(f"{file}:twins")
    assert list(recipes) == ["mine.py:twins/tiny", "mine.py:twins/32"]
    for size, encoder, row in ((32, None, "32"), (224, "tiny", "tiny"), (224, None, "tiny")):  # no imagenet: the first
        chosen = choose_row(recipes, size=size, encoder=encoder, orientation_matters=False)
        assert chosen == f"mine.py:twins/{row}"
    with pytest.raises(UserError, match=re.escape("mine.py:twins has no recipe 'tinny', did you mean 'tiny'")):
        choose_row(recipes, size=32, encoder=None, orientation_matters=False, row="tinny")


def test_built_in_methods_by_every_name() -> None:
    assert list(recipes_of("moco")) == [name for name in RECIPES if name.startswith("moco-v2/")]
    assert recipes_of("swav")["swav/imagenet"] is RECIPES["swav/imagenet"]


@pytest.mark.slow
def test_a_method_of_a_file_trains_resumes_is_evaluated_and_loads(
    file: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train = ["train", f"{file}:twins"]
    start = [f"--data={images}", "--val-fraction=0.2", "--encoder=tiny", "--device=cpu", "--redundancy=0.01"]
    assert main([*train, *start, f"--out={whole}"]) == 0
    assert main([*train, *start, f"--out={parts}", "--stop-after=1"]) == 0
    assert f"resume: contrastkit train {file}:twins --resume {parts}" in capsys.readouterr().out
    assert main([*train, f"--resume={parts}"]) == 0
    assert_same_run(parts, whole)
    record = json.loads((whole / "recipe.json").read_text())
    assert record["name"] == "mine.py:twins/tiny" and record["recipe"]["redundancy"] == 0.01
    assert main(["knn", str(whole)]) == 0
    assert contrastkit.load(whole).dim == 128
    assert load_method(whole, method=f"{file}:twins").redundancy == 0.01
    with pytest.raises(UserError, match=r"trained with mine.py:twins: .* --method path/to/mine.py:twins"):
        load_method(whole)


def test_the_file_may_move(file: Path, images: Path, tmp_path: Path) -> None:
    start = [f"--data={images}", "--encoder=tiny", "--device=cpu", "--stop-after=1", f"--out={tmp_path / 'run'}"]
    assert main(["train", f"{file}:twins", *start]) == 0
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / "mine.py"
    moved.write_text(file.read_text())
    assert main(["train", f"{moved}:twins", f"--resume={tmp_path / 'run'}"]) == 0


def test_its_numbers_are_options(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", f"{file}:twins", "--help"]) == 0
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--redundancy" in out and "weight of the" in out and "The numbers of twins." in out


def test_an_edited_file_is_executed_anew(tmp_path: Path) -> None:
    """Also an edit of the same length in the same second, which Python's bytecode cache does not see."""
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    (first, _), again = recipes_of(f"{path}:twins").values(), recipes_of(f"{path}:twins")
    assert again["mine.py:twins/tiny"] is first and first.epochs == 2
    path.write_text(FILE.replace("epochs=2", "epochs=3"))
    edited = recipes_of(f"{path}:twins")["mine.py:twins/tiny"]
    assert edited.epochs == 3
    assert pickle.loads(pickle.dumps(first)) == first and pickle.loads(pickle.dumps(edited)) == edited


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        (None, "twins", "; give the file that defines the method"),
        ("def", "twins", "cannot be run: SyntaxError"),
        ("import nowhere", "twins", "cannot be run: ModuleNotFoundError: No module named 'nowhere'"),
        ("x = 1", "twins", 'defines no RECIPES = {"twins/row": recipe, ...}'),
        ("import sys; sys.exit('no GPU')", "twins", "cannot be run: SystemExit: no GPU"),
        ("RECIPES = {'twins/tiny': 3}", "twins", "defines no RECIPES"),
        ("RECIPES = {}", "twins", "defines no RECIPES"),
        (FILE + "RECIPES[3] = TINY", "twins", "defines no RECIPES"),
        (FILE + "RECIPES = {'twins': TINY}", "twins", 'defines no RECIPES = {"twins/row": recipe, ...}'),
        (FILE, "twinz", "defines no method 'twinz', did you mean 'twins'? (it defines other, twins)"),
    ],
)
def test_what_is_no_method_is_one_line(
    text: str | None, name: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text)
    assert main(["train", f"{path}:{name}", "--data=digits"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and says in error


def test_a_run_of_another_method_is_not_resumed(
    file: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    start = [f"--data={images}", "--encoder=tiny", "--device=cpu", "--stop-after=1", f"--out={out}"]
    assert main(["train", f"{file}:twins", *start]) == 0
    assert main(["train", "moco", f"--resume={out}"]) == 2
    says = "holds a run of mine.py:twins/tiny, not of moco: contrastkit train path/to/mine.py:twins --resume"
    assert says in capsys.readouterr().err
    record = out / "recipe.json"
    record.write_text(record.read_text().replace("mine.py:twins/tiny", "vicreg/tiny"))
    assert main(["train", "moco", f"--resume={out}"]) == 2
    assert "this version has no method vicreg" in capsys.readouterr().err
