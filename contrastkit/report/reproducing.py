"""The section on how to repeat what a run folder holds: the training into another folder, and its evaluations there."""

import os
from collections.abc import Sequence
from pathlib import Path

from contrastkit.directories import current_folder
from contrastkit.evaluate.made import Made
from contrastkit.record import Record
from contrastkit.report.commands import again, called, line, training
from contrastkit.report.content import Block, Code, Text

ELSEWHERE = "# as it was called, when the run was in another place:"


def commands(run: Path, record: Record, folder: str | None, evaluations: Sequence[Made]) -> list[Block]:
    """
    Args:
        folder: in which the training was started, if that is known.
        evaluations: what made the files of the run.
    """
    known = {each for each in (folder, *(made.folder for made in evaluations)) if each is not None}
    place = run if known <= {current_folder()} else run.resolve()  # relative paths are of one folder
    command, note = training(record, again(place))
    target = again(place) if command else place
    steps = [(command, folder)] if command else []
    steps += [(_repeated(made, run, target), made.folder) for made in evaluations]
    notes = [Text(note)] if note else []
    if not steps:
        return [*notes]
    lines, here = [], None
    for text, folder in steps:
        if folder not in (here, None):
            lines.append(line(["cd", str(folder)]))
            here = folder
        lines += text.splitlines()
    if any(folder is None for _, folder in steps):
        notes.append(
            Text("An earlier version did not record in which folder it was called: relative paths are of that.")
        )
    what = "The training anew, into another folder, and the evaluations of that" if command else "The evaluations"
    return [Text(f"{what}, as they were called:"), Code((*lines, line(["contrastkit", "report", str(target)]))), *notes]


def _repeated(made: Made, run: Path, target: Path) -> str:
    """The command of an evaluation, of the folder ``target`` instead of the run's."""
    program, words = made.command[:2], made.command[2:]
    moved = [_moved(word, run, target, made.folder) for word in words]
    text = called([*program, *moved])
    return text if moved != words or run == target else f"{ELSEWHERE}\n{text}"


def _moved(word: str, run: Path, target: Path, folder: str | None) -> str:
    """A word of a command that was called in ``folder``: a path of the run or within it is one of the target."""
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    if not value or "\0" in value:
        return word
    path, own = (os.path.realpath(os.path.join(folder or os.curdir, each)) for each in (value, run.resolve()))
    if not Path(path).is_relative_to(own):
        return word
    return f"{option}{equals}{target / Path(path).relative_to(own)}"
