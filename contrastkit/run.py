"""The run folder: all files that a training writes.

recipe.json            the request: recipe, data, encoder, seed; enough to resume and to load the encoder
environment.json       versions and devices, one entry per start
metrics.jsonl          one JSON object per line: {"step", "epoch", "loss", ...}
log.txt                the lines of the log
events.*               the metrics for TensorBoard
curves.png             plots of the metrics
checkpoints/last.pt    the latest state, and epoch-NNNN.pt every --save-every epochs
encoder.safetensors    the encoder alone, at the end
"""

import contextlib
import json
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contrastkit import checkpoint
from contrastkit.errors import UserError
from contrastkit.version import __version__

RECIPE, ENVIRONMENT, METRICS, LOG, ENCODER, CURVES = (
    "recipe.json",
    "environment.json",
    "metrics.jsonl",
    "log.txt",
    "encoder.safetensors",
    "curves.png",
)


class Run:
    """An existing run folder. ``writes`` is True on the first process only; the others change nothing."""

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path = path
        self.writes = writes
        self.checkpoints = path / "checkpoints"
        self.last = self.checkpoints / "last.pt"
        self._board: Any = None

    @staticmethod
    def exists(path: Path) -> bool:
        """Whether a folder holds a run."""
        return (path / RECIPE).is_file()

    @classmethod
    def create(cls, path: Path, record: dict[str, Any], *, writes: bool = True) -> "Run":
        """Create the folder for a new run.

        Raises:
            UserError: it already holds a run (never overwritten), or cannot be created.
        """
        run = cls(path, writes=writes)
        if writes:
            if cls.exists(path):
                raise UserError(f"{path} already holds a run: resume it with --resume {path}, or choose another --out")
            try:
                run.checkpoints.mkdir(parents=True, exist_ok=True)
                run.write_record(record)
            except OSError as error:
                raise UserError(f"the run folder {path} cannot be written: {error.strerror}") from error
        return run

    @classmethod
    def open(cls, path: Path, *, writes: bool = True) -> "Run":
        """Open the run in a folder.

        Raises:
            UserError: there is none.
        """
        run = cls(path, writes=writes)
        if not cls.exists(path):
            raise UserError(f"{path} holds no run (no {RECIPE}): give a folder written by 'contrastkit train'")
        if writes:
            checkpoint.sweep(path)
            checkpoint.sweep(run.checkpoints)
        return run

    @property
    def record(self) -> dict[str, Any]:
        try:
            return json.loads((self.path / RECIPE).read_text("utf-8"))
        except ValueError as error:
            raise UserError(f"{self.path / RECIPE} is damaged: {error}") from error

    def write_record(self, record: dict[str, Any]) -> None:
        if self.writes:
            checkpoint.write_text(self.path / RECIPE, json.dumps(record, indent=2) + "\n")

    def note_environment(self) -> None:
        """Append the environment of this start to environment.json."""
        if not self.writes:
            return
        file = self.path / ENVIRONMENT
        starts = json.loads(file.read_text("utf-8")) if file.exists() else []
        starts.append(environment())
        checkpoint.write_text(file, json.dumps(starts, indent=2) + "\n")

    def log(self, line: str) -> None:
        """Append a line to log.txt, with the time."""
        if self.writes:
            with open(self.path / LOG, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")

    def add_metrics(self, row: dict[str, Any]) -> None:
        """Append a row of metrics, taken at ``row["step"]``."""
        if not self.writes:
            return
        with open(self.path / METRICS, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self.path), purge_step=row["step"])
        for name, value in row.items():
            if name not in ("step", "epoch") and isinstance(value, int | float):
                self._board.add_scalar(name, value, row["step"])
        self._board.flush()

    def metrics(self) -> list[dict[str, Any]]:
        """All rows of metrics.jsonl, except a last line truncated by a crash.

        Raises:
            UserError: another line is damaged.
        """
        file = self.path / METRICS
        lines = file.read_text("utf-8").splitlines() if file.exists() else []
        rows: list[dict[str, Any]] = []
        for number, line in enumerate(lines, start=1):
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                if number < len(lines):
                    raise UserError(f"line {number} of {file} is damaged: repair or delete it") from error
        return rows

    def rewind(self, step: int) -> None:
        """Drop the rows that a killed run wrote after the checkpoint from which it resumes."""
        if self.writes and (self.path / METRICS).exists():
            lines = [json.dumps(row) + "\n" for row in self.metrics() if row["step"] <= step]
            checkpoint.write_text(self.path / METRICS, "".join(lines))

    def save(self, state: dict[str, Any], *, keep: str | None = None) -> None:
        """Write checkpoints/last.pt, and a copy named ``keep`` that later saves do not overwrite."""
        if self.writes:
            checkpoint.save(self.last, state)
            if keep is not None:
                checkpoint.write_with(self.checkpoints / keep, lambda file: shutil.copyfile(self.last, file))

    def load(self) -> dict[str, Any]:
        return checkpoint.load(self.last)

    @contextlib.contextmanager
    def restoring(self) -> Iterator[None]:
        """Load its weights and states within.

        Raises:
            UserError: they do not fit what was built.
        """
        try:
            yield
        except (RuntimeError, ValueError) as error:
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
        """Finish the event file and draw curves.png; that this fails does not hide an error of the training."""
        with contextlib.nullcontext() if kind is None else contextlib.suppress(Exception):
            if self._board is not None:
                self._board.close()
                self._board = None
            if self.writes and (rows := self.metrics()):
                checkpoint.write_with(self.path / CURVES, lambda file: draw_curves(rows, file))


def environment() -> dict[str, Any]:
    """Versions and devices, as environment.json and ``contrastkit info`` show them."""
    import torch
    import torchvision

    from contrastkit.ops import extension

    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "contrastkit": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] or ["cpu"],
        "kernels": extension.info(),
    }


def draw_curves(rows: list[dict[str, Any]], file: Path) -> None:
    """Plot every metric against the epoch, one small panel each."""
    from matplotlib.figure import Figure

    names = [
        name
        for name in dict.fromkeys(name for row in rows for name in row)
        if name not in ("step", "epoch", "seconds") and any(isinstance(row.get(name), int | float) for row in rows)
    ]
    columns = 3
    rows_of_panels = -(-len(names) // columns)
    figure = Figure(figsize=(4 * columns, 2.6 * rows_of_panels), layout="constrained")
    axes = figure.subplots(rows_of_panels, columns, squeeze=False).flat
    for name, axis in zip(names, axes, strict=False):
        points = [(row["epoch"], row[name]) for row in rows if isinstance(row.get(name), int | float)]
        axis.plot(*zip(*points, strict=True), linewidth=1.2, marker="." if len(points) < 30 else None)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("epoch", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
    for axis in list(figure.axes)[len(names) :]:
        axis.remove()
    figure.savefig(file, format="png", dpi=110)
