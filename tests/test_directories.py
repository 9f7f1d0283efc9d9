"""Where named data sets lie: the option, then what the run recorded, then the variable."""

import shlex
from pathlib import Path

import pytest

import contrastkit
from contrastkit.cli.main import main
from contrastkit.directories import data_directory, given_path
from contrastkit.errors import UserError


def test_the_order_of_what_names_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, recorded, variable = tmp_path / "given", tmp_path / "recorded", tmp_path / "variable"
    recorded.mkdir()
    monkeypatch.delenv("CONTRASTKIT_DATA", raising=False)
    assert data_directory() is None
    monkeypatch.setenv("CONTRASTKIT_DATA", str(variable))
    assert data_directory(given, recorded) == given
    assert data_directory(None, recorded) == recorded
    assert data_directory(Path("."), recorded) == Path.cwd()


def test_a_recorded_directory_that_has_gone_is_the_last_resort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, variable = tmp_path / "gone", tmp_path / "variable"
    monkeypatch.setenv("CONTRASTKIT_DATA", str(variable))
    assert data_directory(None, gone) == data_directory() == variable
    monkeypatch.setenv("CONTRASTKIT_DATA", "")
    assert data_directory(None, gone) == gone
    assert data_directory() is None


def test_a_path_as_a_user_gives_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert given_path("~/x") == tmp_path / "x" and given_path(Path("a/~")) == Path("a/~")
    for path, says in (("", "a path is empty"), ("~nobody-here/x", "no such user")):
        with pytest.raises(UserError, match=says):
            given_path(path)


@pytest.mark.parametrize(
    "command",
    [
        "train moco --out=", "train moco --resume=", "train moco --data-dir=", "train moco --json=", "knn ''",
        "probe --encoder=tiny --plot=", "embed --encoder=tiny --out=", "retrieve ''", "ablate byol-norm --out=",
        "views moco --out=", "causal estimate --json=", "stable fit --out=", "stable evaluate ''",
    ],
)  # fmt: skip
def test_an_empty_path_is_one_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Typer takes one for the current folder."""
    assert main(shlex.split(command)) == 2
    assert "a path is empty: name a file or a folder" in capsys.readouterr().err


def test_a_tilde_is_the_home_folder(moco_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(moco_run.parent))
    for command in ("knn ~/run --device=cpu", "train moco --resume=~/run", "embed ~/run --out=~/features.npz"):
        assert main(command.split()) == 0
    assert (moco_run.parent / "features.npz").exists()
    assert contrastkit.load("~/run").dim == contrastkit.load(moco_run).dim
