"""Signals that ask a training to save and leave."""

import signal
import threading


class Signals:
    """SIGTERM and Ctrl-C ask the loop to save and leave; a second Ctrl-C leaves at once.

    A second SIGTERM does not: schedulers signal a whole group, and torchrun passes on what its workers already had.
    """

    def __init__(self) -> None:
        self.received = False

    def __enter__(self) -> "Signals":
        self._old = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._old[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: object) -> None:
        self.received = True
        signal.signal(signal.SIGINT, self._old[signal.SIGINT])
