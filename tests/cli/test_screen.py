"""Progress: a bar on a terminal, nothing elsewhere."""

import io

import pytest
from rich.console import Console

from contrastkit.cli import screen


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_of_one_task_after_another(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(screen, "console", Console(file=file, force_terminal=terminal, width=100))
    with screen.progress() as on_progress:
        on_progress("encoding [run]", 10, 30)
        on_progress("linear probe", 0, None)
        on_progress("linear probe", 2, 7)
    drawn = file.getvalue()
    assert ("linear probe" in drawn) is terminal
    assert terminal or not drawn.strip()
