"""Signals that make a training save and stop."""

import signal
import threading
from collections.abc import Callable
from typing import Self

PATIENCE = 3.0  # seconds after a signal in which a step may end without a word


class Signals:
    """SIGTERM, SIGHUP and Ctrl-C make the loop save and stop at the end of its step; a second Ctrl-C aborts at once.

    A second SIGTERM does not: schedulers signal whole process groups, and torchrun forwards signals that its workers
    have already received. A SIGHUP that the caller ignores, as nohup does, stays ignored.

    Attributes:
        received: number of the first signal; None if there was none.
    """

    def __init__(self, log: Callable[[str], None]) -> None:
        """``log`` is told of a step that takes longer to end than :data:`PATIENCE`."""
        self.received: int | None = None
        self._log = log
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Self:
        self._previous = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self._timer is not None:
            self._timer.cancel()

    def _handle(self, number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, self._previous[signal.SIGINT])
        if self.received is None:
            self.received = number
            name = signal.Signals(number).name
            self._timer = threading.Timer(PATIENCE, self._log, [f"received {name}: waiting for the end of this step"])
            self._timer.daemon = True
            self._timer.start()
