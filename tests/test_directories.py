"""Where named data sets lie: the option, then what the run recorded, then the variable."""

from pathlib import Path

import pytest

from contrastkit.directories import data_directory


def test_the_order_of_what_names_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, recorded, variable = tmp_path / "given", tmp_path / "recorded", tmp_path / "variable"
    recorded.mkdir()
    monkeypatch.delenv("CONTRASTKIT_DATA", raising=False)
    assert data_directory() is None
    monkeypatch.setenv("CONTRASTKIT_DATA", str(variable))
    assert data_directory(given, str(recorded)) == given
    assert data_directory(None, str(recorded)) == recorded
    assert data_directory(Path("."), str(recorded)) == Path.cwd()


def test_a_recorded_directory_that_has_gone_is_the_last_resort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, variable = tmp_path / "gone", tmp_path / "variable"
    monkeypatch.setenv("CONTRASTKIT_DATA", str(variable))
    assert data_directory(None, str(gone)) == data_directory() == variable
    monkeypatch.setenv("CONTRASTKIT_DATA", "")
    assert data_directory(None, str(gone)) == gone
    assert data_directory() is None
