"""The run folder: everything a training leaves behind.

recipe.json            what was asked for: recipe, data, encoder, seed; enough to resume and to load the encoder
environment.json       what it ran on, one entry for each start
metrics.jsonl          one JSON object a line: {"step", "epoch", "loss", ...}
log.txt                what was said
events.*               the metrics for TensorBoard
curves.png             the metrics drawn
checkpoints/last.pt    the newest state, with epoch-NNNN.pt every --save-every epochs
encoder.safetensors    the encoder alone, at the end
"""

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

RECIPE, ENVIRONMENT, METRICS, LOG, ENCODER, CURVES = (
    "recipe.json",
    "environment.json",
    "metrics.jsonl",
    "log.txt",
    "encoder.safetensors",
    "curves.png",
)


class Run:
    """A run folder that exists. ``writes`` is False on all processes but the first, which then change nothing."""

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path = path
        self.writes = writes
        self.checkpoints = path / "checkpoints"
        self.last = self.checkpoints / "last.pt"
        self._board: Any = None

    @classmethod
    def create(cls, path: Path, record: dict[str, Any], *, writes: bool = True) -> "Run":
        """Make the folder for a new run.

        Raises:
            UserError: it already holds a run (never overwritten), or cannot be made.
        """
        run = cls(path, writes=writes)
        if writes:
            if (path / RECIPE).exists():
                raise UserError(f"{path} already holds a run: resume it with --resume {path}, or give another --out")
            try:
                run.checkpoints.mkdir(parents=True, exist_ok=True)
                run.write_record(record)
            except OSError as error:
                raise UserError(f"the run folder {path} cannot be written: {error.strerror}") from error
        return run

    @classmethod
    def open(cls, path: Path, *, writes: bool = True) -> "Run":
        """The run that is in a folder.

        Raises:
            UserError: there is none.
        """
        run = cls(path, writes=writes)
        if not (path / RECIPE).is_file():
            raise UserError(f"{path} holds no run (no {RECIPE}): give the folder that 'contrastkit train' wrote")
        if writes:
            checkpoint.sweep(path)
            checkpoint.sweep(run.checkpoints)
        return run

    @property
    def record(self) -> dict[str, Any]:
        try:
            return json.loads((self.path / RECIPE).read_text())
        except ValueError as error:
            raise UserError(f"{self.path / RECIPE} is damaged: {error}") from error

    def write_record(self, record: dict[str, Any]) -> None:
        if self.writes:
            checkpoint.write_text(self.path / RECIPE, json.dumps(record, indent=2) + "\n")

    def note_environment(self) -> None:
        """Add what this start runs on to environment.json."""
        if not self.writes:
            return
        file = self.path / ENVIRONMENT
        starts = json.loads(file.read_text()) if file.exists() else []
        starts.append(environment())
        checkpoint.write_text(file, json.dumps(starts, indent=2) + "\n")

    def log(self, line: str) -> None:
        """Add a line to log.txt, with the time."""
        if self.writes:
            with open(self.path / LOG, "a") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")

    def add_metrics(self, row: dict[str, Any]) -> None:
        """Add a row of metrics; ``row["step"]`` says when."""
        if not self.writes:
            return
        with open(self.path / METRICS, "a") as file:
            file.write(json.dumps(row) + "\n")
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self.path), purge_step=row["step"])
        for name, value in row.items():
            if name not in ("step", "epoch") and isinstance(value, int | float):
                self._board.add_scalar(name, value, row["step"])
        self._board.flush()

    def metrics(self) -> list[dict[str, Any]]:
        """All rows of metrics.jsonl; a last line torn by a crash is left out."""
        return list(_rows(self.path / METRICS))

    def rewind(self, step: int) -> None:
        """Drop the rows that a run which was killed had written after the checkpoint it resumes from."""
        if self.writes and (self.path / METRICS).exists():
            kept = [json.dumps(row) + "\n" for row in self.metrics() if row["step"] <= step]
            checkpoint.write_text(self.path / METRICS, "".join(kept))

    def save(self, state: dict[str, Any], *, keep: str | None = None) -> None:
        """Write checkpoints/last.pt, and a copy named ``keep`` that later saves leave alone."""
        if self.writes:
            checkpoint.save(self.last, state)
            if keep is not None:
                checkpoint.write_with(self.checkpoints / keep, lambda file: shutil.copyfile(self.last, file))

    def load(self) -> dict[str, Any]:
        return checkpoint.load(self.last)

    @property
    def last_good(self) -> str:
        """Where the newest checkpoint is, for an error message."""
        return f"last good checkpoint: {self.last if self.last.exists() else 'none yet'}"

    def close(self) -> None:
        """Finish the event file and draw curves.png."""
        if self._board is not None:
            self._board.close()
            self._board = None
        if self.writes and (rows := self.metrics()):
            checkpoint.write_with(self.path / CURVES, lambda file: draw_curves(rows, file))


def environment() -> dict[str, Any]:
    """Versions and devices, as environment.json and ``contrastkit info`` show them."""
    import torch
    import torchvision

    import contrastkit
    from contrastkit.ops import extension

    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "contrastkit": contrastkit.__version__,
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
    """Every metric against the epoch, one small panel each."""
    from matplotlib.figure import Figure

    names = [
        name
        for name in dict.fromkeys(name for row in rows for name in row)
        if name not in ("step", "epoch", "seconds") and any(isinstance(row.get(name), int | float) for row in rows)
    ]
    columns = 3
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(4 * columns, 2.6 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).flat
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


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return
