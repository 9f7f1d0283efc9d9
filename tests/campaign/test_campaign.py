"""The campaign, as slow tests; and, fast, that its tables are about every command."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from contrastkit.cli.main import app
from tests.campaign import faults, inputs, kills
from tests.campaign.trial import Trial
from tests.cli.option_table import options_of


def passes(trials: Iterable[Trial]) -> int:
    """Check that trials have found nothing; returns how many there were."""
    lines = [(trial.line(), bool(trial.problems)) for trial in trials]
    assert not [line for line, failed in lines if failed], "\n".join(line for line, _ in lines)
    return len(lines)


def test_every_command_has_its_bad_inputs() -> None:
    rows = inputs.table()
    assert len(rows) == len({(row.line, row.nobody) for row in rows}) >= 200
    commands = {command for command, _ in options_of(app)}
    assert [command for command in commands if not any(row.line.startswith(command) for row in rows)] == []
    assert [row.line for row in rows if not row.says] == []


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that others may pass through, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder).resolve()


@pytest.mark.slow
def test_bad_inputs(open_folder: Path) -> None:
    assert passes(inputs.trials(open_folder, processes=1)) >= 200


@pytest.mark.slow
@pytest.mark.parametrize("chain", range(kills.CHAINS))
def test_killed_trainings(chain: int, tmp_path: Path) -> None:
    assert passes(kills.training(chain, tmp_path)) == kills.KILLS + 2


@pytest.mark.slow
def test_killed_finetunes(tmp_path: Path) -> None:
    assert passes(kills.finetunes(tmp_path)) == kills.FINETUNES + 3


@pytest.mark.slow
def test_killed_evaluations(tmp_path: Path) -> None:
    assert passes(kills.evaluations(tmp_path)) == kills.EVALUATIONS + 1


@pytest.mark.slow
@pytest.mark.parametrize("name", faults.FAULTS)
def test_fault(name: str, open_folder: Path) -> None:
    assert passes([faults.meet(name, open_folder / "fault")]) == 1
