"""Where named data sets lie: the option, then what the run recorded, then the variable."""

import errno
import os
import shlex
from pathlib import Path

import pytest
import typer

import contrastkit
from contrastkit.cli.files import writable
from contrastkit.cli.main import main
from contrastkit.directories import data_directory, given_path, local_path, require_file
from contrastkit.errors import UserError, explain


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


@pytest.mark.parametrize(
    "command",
    [
        "train moco --out=s3://b/x", "train moco --resume=gs://b/x", "train moco --json=s3://b/x.json",
        "knn https://b/x", "finetune --out=s3://b/x", "transfer detect --data=voc --out=s3://b/x", "export --out=s3://b/x",
        "embed --encoder=tiny --out=hdfs://b/x.npz", "shards make --out=s3://b/x", "ablate byol-norm --out=s3://b/x",
        "map --sheet=s3://b/x.png", "stable fit --out=s3://b/x.json", "causal weight --out=s3://b/x.csv",
    ],
)  # fmt: skip
def test_the_url_of_a_place_elsewhere_is_one_line(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would become a folder named "s3:"."""
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command)) == 2
    assert "://b/x" in (said := " ".join(capsys.readouterr().err.split())) and "is a URL, but must be a path on" in said
    assert not list(tmp_path.iterdir())


def test_a_program_gives_paths_on_its_machine_too(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for out in ("s3://b/x", Path("s3://b/x")):
        with pytest.raises(UserError, match="^s3:/.*b/x is a URL, but must be a path on this machine: mount or copy"):
            contrastkit.train("moco", str(images), out=out)
    assert not list(tmp_path.iterdir())
    assert local_path("a:/x") == Path("a:/x") and local_path("runs/s3:/x") == Path("runs/s3:/x")


def test_a_tilde_is_the_home_folder(moco_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(moco_run.parent))
    for command in ("knn ~/run --device=cpu", "train moco --resume=~/run", "embed ~/run --out=~/features.npz"):
        assert main(command.split()) == 0
    assert (moco_run.parent / "features.npz").exists()
    assert contrastkit.load("~/run").dim == contrastkit.load(moco_run).dim


# --------------------------------------------------------------------------------- why a file cannot be read or written


def refused(path: Path) -> str:
    with pytest.raises(UserError) as error:
        require_file(path, ", did you mean x")
    return str(error.value).replace(str(path), "PATH")


def test_a_file_that_cannot_be_read_is_told_apart_from_a_missing_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    require_file(file)
    assert refused(tmp_path / "none") == "no such file: PATH, did you mean x"
    assert refused(tmp_path) == "PATH is a folder: give a file"
    assert refused(Path("/dev/null")) == "PATH is no regular file: give a file"
    assert refused(file / "below") == "PATH cannot be read: Not a directory"
    assert refused(tmp_path / ("x" * 300)) == "PATH cannot be read: File name too long"

    def forbidden(path: Path, *_: object) -> int:  # what the superuser never sees
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "open", forbidden)
    assert refused(file) == "PATH cannot be read: Permission denied"


def test_a_file_that_cannot_be_written_is_told_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("")

    def why(path: Path) -> str:
        with pytest.raises(typer.BadParameter) as error:
            writable(path)
        return error.value.message.replace(str(path), "PATH").replace(str(tmp_path), "DIR")

    assert writable(file) == file and writable(tmp_path / "new") == tmp_path / "new"
    assert why(tmp_path) == "DIR cannot be written: it is a folder".replace("DIR", "PATH")
    assert why(tmp_path / "no" / "x") == "PATH cannot be written: no such folder: DIR/no"
    assert why(file / "x") == "PATH cannot be written: DIR/file is no folder"
    assert why(tmp_path / ("x" * 300)) == "PATH cannot be written: File name too long"
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert why(tmp_path / "new") == "PATH cannot be written: no permission"


def test_the_systems_errors_are_told_by_name_without_numbers() -> None:
    denied = PermissionError(errno.EACCES, "Permission denied", "some/file")
    assert explain(denied) == "some/file: Permission denied"
    assert explain(OSError("disk on fire")) == "disk on fire"
