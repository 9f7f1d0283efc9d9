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


@pytest.mark.parametrize("width", [40, 60, 80, 300])
@pytest.mark.parametrize("narrow", [True, False])
def test_a_number_is_never_divided(narrow: bool, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many columns, and beside a long name and a sentence; each is there once, in its row."""
    file = io.StringIO()
    monkeypatch.setattr(screen, "console", Console(file=file, width=width, soft_wrap=True))
    columns = ["", *(f"wide column {j}" for j in range(12)), "verdict"]
    numbers = [[f"-{1234567 + 1000 * i + j:,}.12" for j in range(12)] for i in range(3)]
    rows = [[f"name_{i}_" + "x" * 40, *numbers[i], "it is not what it seems to be"] for i in range(3)]
    screen.table("title", columns, rows, narrow=narrow)
    printed = file.getvalue()
    assert printed.count("title") == 1 and max(map(len, printed.splitlines())) <= width
    for row in numbers:
        lines = [next(line for line in printed.splitlines() if number in line) for number in row]
        assert [printed.count(number) for number in row] == [1] * 12
        assert (len(set(lines)) == 1) == (width == 300)
    assert "seems" in printed
