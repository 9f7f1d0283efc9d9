"""The run folder: all files that a training writes.

recipe.json            the request: recipe, data, encoder, seed; enough to resume and to load the encoder
environment.json       versions and devices, one entry per start
metrics.jsonl          one JSON object per line: {"step", "epoch", "loss", ...}
log.txt                the lines of the log
events.*               the metrics for TensorBoard
curves.png             plots of the metrics
checkpoints/last.pt    the latest state, and epoch-NNNN.pt every --save-every epochs
encoder.safetensors    the encoder alone, at the end; its metadata describe it (contrastkit.export.description)
text.safetensors       of clip, at the end: the text tower and both projections; and from the start
tokenizer.json         its vocabulary
classifier.safetensors of a distillation or a training with labels, at the end: the encoder and its last layer
classifier.json        of the latter: its accuracy on the test images
.lock                  while the run is written to: the process that does
"""

import contextlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from contrastkit import checkpoint, lock, schema
from contrastkit.board import Board
from contrastkit.curves import draw_curves
from contrastkit.environment import environment
from contrastkit.errors import UserError, explain
from contrastkit.record import Checkpoint, Record, json_value

RECIPE, ENVIRONMENT, METRICS = "recipe.json", "environment.json", "metrics.jsonl"
LOG, ENCODER, CURVES = "log.txt", "encoder.safetensors", "curves.png"
TEXT, TOKENIZER, CLASSIFIER, TESTED = "text.safetensors", "tokenizer.json", "classifier.safetensors", "classifier.json"


class Taken(UserError):
    """A folder for a new run already holds one, or another process is making one there."""


class Run:
    """A run folder: to read, or, locked, to write. Of several processes only the first ``writes``; the others change
    nothing.

    Attributes:
        notices: what the user should know about the folder, one line each.
        classes: of the labelled images that the monitor asks about, for the curves; None if they are not known.
    """

    def __init__(self, path: Path, *, writes: bool = False) -> None:
        self.path = path
        self.writes = writes
        self.checkpoints = path / "checkpoints"
        self.last = self.checkpoints / "last.pt"
        self.notices: list[str] = []
        self.classes: int | None = None
        self._board = Board(path)
        self._lock: IO[bytes] | None = None
        self._new, self._before, self._made = False, set[str](), list[Path]()  # what was there, folders made for it
        self._advanced = False  # whether a state after a step of this process is saved

    @staticmethod
    def exists(path: Path) -> bool:
        """Whether a folder holds a run."""
        return (path / RECIPE).is_file()

    @classmethod
    def create(cls, path: Path, record: Record, texts: Mapping[str, str] | None = None) -> "Run":
        """Create the folder for a new run, and lock it. One that extends another gets its last state and its metrics.

        Args:
            texts: further files, name -> contents, as of ``Method.texts``.

        Raises:
            Taken: it already holds a run, which is never overwritten, or another process makes one.
            UserError: it cannot be created.
        """
        run = cls(path, writes=True)
        taken = f"{path} already holds a run: resume it with --resume {path}, or choose another --out"
        if cls.exists(path):
            raise Taken(taken)
        run._made = [folder for folder in (path, *path.parents) if not folder.exists()]
        try:
            run._before = set() if run._made else {item.name for item in path.iterdir()}
            path.mkdir(parents=True, exist_ok=True)
            try:
                run._acquire()
            except lock.Locked as error:
                raise Taken(str(error)) from error
            run._new = not cls.exists(path)
            with run._discarded_on_error():
                run.checkpoints.mkdir(exist_ok=True)
                if record.parent is not None:
                    run._inherit(Run(Path(record.parent.run)))
                for name, text in (texts or {}).items():
                    checkpoint.write_text(path / name, text)
                checkpoint.write_text(path / RECIPE, record.text(), new=True)
        except FileExistsError as error:
            raise (Taken(taken) if cls.exists(path) else _unwritable(path, error)) from error
        except OSError as error:
            raise _unwritable(path, error) from error
        return run

    def _inherit(self, parent: "Run") -> None:
        """Copy the last state and the metrics of another run."""
        checkpoint.write_with(self.last, lambda file: shutil.copyfile(parent.last, file))
        if rows := parent.metrics():
            checkpoint.write_text(self.path / METRICS, "".join(json.dumps(row) + "\n" for row in rows))

    @classmethod
    def open(cls, path: Path, *, writes: bool = False) -> "Run":
        """Open the run in a folder; to write, lock it, and remove what a killed process left half written.

        Raises:
            UserError: there is none, it cannot be written, or another process writes to it.
        """
        run = cls(path, writes=writes)
        if not cls.exists(path):
            raise UserError(f"{path} holds no run (no {RECIPE}): give a folder written by 'contrastkit train'")
        for name in ("checkpoints/last.pt", ENVIRONMENT, METRICS, LOG, ENCODER, TEXT, TOKENIZER, CLASSIFIER):
            file = path / name
            if file.exists() and not file.is_file():  # to read a pipe may never end
                raise UserError(f"{file} is no file: remove what is in its place")
        if writes:
            try:
                run._acquire()
                checkpoint.sweep(path)
                checkpoint.sweep(run.checkpoints)
            except OSError as error:
                run._release()
                raise _unwritable(path, error) from error
        return run

    def _acquire(self) -> None:
        self._lock = lock.acquire(self.path)
        if self._lock is None:
            self.notices.append(
                f"the file system of {self.path} has no locks: see to it that no other process trains in this folder"
            )

    @property
    def record(self) -> Record:
        return Record.read(self.path / RECIPE)

    def write_record(self, record: Record) -> None:
        if self.writes:
            checkpoint.write_text(self.path / RECIPE, record.text())

    def note_environment(self) -> None:
        """Append the environment of this start to environment.json.

        Raises:
            UserError: the file is damaged.
        """
        if not self.writes:
            return
        file = self.path / ENVIRONMENT
        starts: list[dict[str, Any]] = []
        if file.exists():
            with schema.reading(file):
                starts = schema.typed(list[dict[str, Any]], json_value(file.read_bytes()), "")
        starts.append(environment())
        checkpoint.write_text(file, json.dumps(starts, indent=2) + "\n")

    def log(self, line: str) -> None:
        """Append a line to log.txt, with the time."""
        if self.writes:
            checkpoint.append_text(self.path / LOG, f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")

    def add_metrics(self, row: dict[str, Any]) -> str | None:
        """Append a row of metrics, taken at ``row["step"]``; returns as :meth:`Board.add`."""
        if not self.writes:
            return None
        checkpoint.append_text(self.path / METRICS, json.dumps(row) + "\n")
        return self._board.add(row)

    def metrics(self) -> list[dict[str, Any]]:
        """All rows of metrics.jsonl, except a last line truncated by a crash.

        Raises:
            UserError: another line is damaged.
        """
        file = self.path / METRICS
        lines = file.read_bytes().splitlines() if file.exists() else []
        rows: list[dict[str, Any]] = []
        for number, line in enumerate(lines, start=1):
            try:
                value = json_value(line)
            except UserError as error:
                if number < len(lines):
                    raise UserError(f"line {number} of {file} is damaged: repair or delete it") from error
                break
            try:
                row = schema.typed(dict[str, float | None], value, "")
                schema.typed(float, row.get("step"), "step")
            except UserError as error:
                raise UserError(f"line {number} of {file} is damaged ({error}): repair or delete it") from error
            rows.append(row)
        return rows

    def rewind(self, step: int) -> None:
        """Drop the rows that a killed run wrote after the checkpoint from which it resumes."""
        if self.writes and (self.path / METRICS).exists():
            lines = [json.dumps(row) + "\n" for row in self.metrics() if row["step"] <= step]
            checkpoint.write_text(self.path / METRICS, "".join(lines))

    def save(self, state: dict[str, Any], *, keep: str | None = None) -> None:
        """Write checkpoints/last.pt, and a copy named ``keep`` that later saves do not overwrite.

        The copy comes first: a run that is killed before last.pt resumes from the one before and writes both again.
        """
        if not self.writes:
            return
        self._advanced |= state["step"] > 0
        if keep is None:
            checkpoint.save(self.last, state)
        else:
            checkpoint.save(self.checkpoints / keep, state)
            checkpoint.write_with(self.last, lambda file: shutil.copyfile(self.checkpoints / keep, file))

    def load(self) -> Checkpoint:
        """The state in checkpoints/last.pt.

        Raises:
            UserError: there is none yet, it is damaged, or a newer version wrote it.
        """
        state = checkpoint.load(self.last)
        del state["format"]
        with schema.reading(self.last):
            return schema.instance(Checkpoint, state, "")

    @contextlib.contextmanager
    def restoring(self) -> Iterator[None]:
        """Load its weights and states within.

        Raises:
            UserError: they do not fit what was built.
        """
        try:
            yield
        except (RuntimeError, ValueError, TypeError) as error:
            if explain(error) is not None:  # as when the GPU is out of memory
                raise
            raise UserError(
                f"the weights in {self.path} do not fit its recipe.json: one of them, or the module given as encoder, "
                "belongs to another run"
            ) from error

    @property
    def last_good(self) -> str:
        """The location of the latest checkpoint, for an error message."""
        return f"last good checkpoint: {self.last if self.last.exists() else 'none yet'}"

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: type[BaseException] | None, *how: object) -> None:
        """Finish the event file, draw curves.png and unlock the folder; that one of these fails does not hide an error
        of the training. A new run that fails before its first checkpoint leaves nothing."""
        with contextlib.ExitStack() as last:
            last.callback(self._release)
            with contextlib.nullcontext() if kind is None else contextlib.suppress(Exception):
                self._board.close()
                if kind is not None and self._new and not self._advanced:
                    self._discard()
                elif self.writes and (rows := self.metrics()):
                    draw_curves(rows, self.path / CURVES, title=f"Training of {self.path}", classes=self.classes)

    def _release(self) -> None:
        if self._lock is not None:
            lock.release(self._lock)
            self._lock = None

    @contextlib.contextmanager
    def _discarded_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            if self._new:
                self._discard()
            self._release()
            raise

    def _discard(self) -> None:
        """Remove what this process made: its own files, and folders in which there is nothing else."""
        if self.checkpoints.name not in self._before:
            shutil.rmtree(self.checkpoints, ignore_errors=True)
        files = (RECIPE, ENVIRONMENT, METRICS, LOG, ENCODER, CURVES, TEXT, TOKENIZER, CLASSIFIER)
        for pattern in (*files, "events.*", lock.FILE):
            for file in self.path.glob(pattern):
                if file.name not in self._before:
                    file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another command has put something into one of them
            for folder in self._made:
                folder.rmdir()


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(f"the run folder {path} cannot be written: {error.strerror}")
