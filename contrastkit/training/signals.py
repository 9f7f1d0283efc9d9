"""Signals that make a training save and stop."""

import signal
import threading


class Signals:
    """SIGTERM and Ctrl-C make the loop save and stop; a second Ctrl-C aborts immediately.

    A second SIGTERM does not: schedulers signal whole process groups, and torchrun forwards signals that its workers
    have already received.
    """

    def __init__(self) -> None:
        self.received = False

    def __enter__(self) -> "Signals":
        self._previous = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: object) -> None:
        self.received = True
        signal.signal(signal.SIGINT, self._previous[signal.SIGINT])
