"""The metrics of a run for TensorBoard."""

import contextlib
import os
import socket
import time
from pathlib import Path
from typing import Any, BinaryIO


class Board:
    """The event file of one start of a run. That it cannot be written is said once; the training goes on.

    It is written here and now: TensorBoard's own writer does so in a thread, whose errors end up on the terminal.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None  # made with the first row
        self._failed = False

    def add(self, row: dict[str, Any]) -> str | None:
        """Add a row of metrics, taken at ``row["step"]``.

        Returns:
            A line that says so if the file can no longer be written.
        """
        if self._failed:
            return None
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in row.items()
            if name not in ("step", "epoch") and isinstance(value, int | float)
        ]
        try:
            if self._file is None:
                name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
                self._file = open(self._folder / name, "ab")  # noqa: SIM115 - until close
                self._write(file_version="brain.Event:2")
                # What an earlier start wrote from this step on is obsolete.
                self._write(step=row["step"], session_log=SessionLog(status=SessionLog.START))
            self._write(step=row["step"], summary=Summary(value=values))
            self._file.flush()
        except OSError as error:
            self._failed = True
            self.close()
            return f"TensorBoard's event file cannot be written ({error.strerror or error}): going on without it"
        return None

    def _write(self, **event: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        RecordWriter(self._file).write(Event(wall_time=time.time(), **event).SerializeToString())

    def close(self) -> None:
        """Finish the file."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # what could not be written
                self._file.close()
            self._file = None
