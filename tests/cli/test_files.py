"""No file is written over one that is read, or over another that is written."""

from pathlib import Path

import pytest

from contrastkit.cli.main import main

TABLE = "t,y,x\n1,2,3\n0,3,4\n0,4,7\n1,6,9\n1,3,5\n0,2,2\n1,4,4\n0,5,6\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--out=in.csv"], "--out in.csv would overwrite the file of --data: give another file"),
        (["--out=./in.csv"], "--out in.csv would overwrite the file of --data"),
        (["--out=link.csv"], "--out link.csv would overwrite the file of --data"),
        (["--out=a.csv", "--matched=in.csv"], "--matched in.csv would overwrite the file of --data"),
        (["--out=a.csv", "--matched=a.csv"], "--matched and --out are both a.csv: give each a file of its own"),
        (["--out=a.csv", "--json=a.csv"], "--json and --out are both a.csv"),
    ],
)
def test_files_are_not_written_over_others(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.csv").write_text(TABLE)
    Path("link.csv").symlink_to("in.csv")
    columns = ["--data=in.csv", "--treatment=t", "--outcome=y", "--covariates=x"]
    assert main(["causal", "match", *columns, *words]) == 2
    assert says in capsys.readouterr().err
    assert Path("in.csv").read_text() == TABLE and not Path("a.csv").exists()


def test_files_of_features_are_kept_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.csv").write_text(TABLE)
    Path("f.npz").write_bytes(b"features")
    columns = ["--data=in.csv", "--treatment=t", "--covariates=x,f.npz"]
    assert main(["causal", "weight", *columns, "--out=w.csv", "--json=f.npz"]) == 2
    assert "--json f.npz would overwrite the file of --covariates" in capsys.readouterr().err
    assert Path("f.npz").read_bytes() == b"features"


def test_a_device_may_be_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.csv").write_text(TABLE)
    columns = ["--data=in.csv", "--treatment=t", "--covariates=x"]
    assert main(["causal", "weight", *columns, "--out=/dev/null", "--json=/dev/null"]) == 0
