"""The state file of a work of several trainings: what is done, and how far the current one has come."""

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, Self

import torch
from torch import Tensor, nn

from contrastkit import checkpoint, lock, schema
from contrastkit.errors import UserError, explain
from contrastkit.evaluate.supervised import Diverged, LoopState
from contrastkit.record import OptimizerState

STATE = "state.pt"
WEIGHTS = "weights"  # among the options
SAVE_SECONDS = 30.0  # of training between two saves, at least
SAVING = 0.03  # share of the time that saves may take: large states on slow disks are saved less often


@dataclass(frozen=True)
class Current:
    """The state of an unfinished training."""

    key: str
    loop: LoopState
    model: dict[str, Any]
    optimizer: OptimizerState
    rng: Tensor
    cuda_rng: Tensor | None


@dataclass(frozen=True)
class _State:
    options: str
    done: dict[str, dict[str, Any]]
    current: Current | None


class Keeper(Protocol):
    """Saves the state of a training."""

    def __call__(self, loop: LoopState, *, now: bool = False) -> None: ...


class Journal:
    """Trainings done one after the other, each under a key, so that a work that was killed goes on where it was.

    Without a folder nothing is kept. Used as a context, it holds the folder's lock; the state is discarded when the
    work has ended, or :class:`Diverged`, and with it the folder, if nothing else is in it.

    Attributes:
        begun: whether the folder holds the state of an earlier start.
    """

    def __init__(
        self,
        folder: Path | None,
        options: Mapping[str, Any],
        *,
        weights: Mapping[str, str] | None = None,
        device: str | torch.device = "cpu",
        restart: bool = False,
    ) -> None:
        """
        Args:
            options: all that determines the results, as JSON has it.
            weights: by key, a hash of what a training starts from. Another start may have more keys or fewer, so long
                as it has one of them.
            device: where the trainings run, whose generator is kept.
            restart: discard an earlier state.

        Raises:
            UserError: the folder holds the state of a work with other options, or a damaged one; or another process
                works there.
        """
        self.file = None if folder is None else folder / STATE
        self._device = torch.device(device)
        self._lock: IO[bytes] | None = None
        self._options = json.loads(json.dumps({**options, **({} if weights is None else {WEIGHTS: weights})}))
        self._done: dict[str, dict[str, Any]] = {}
        self._current: Current | None = None
        self._saved, self._pause = time.monotonic(), 0.0
        self.begun = False
        if folder is None or self.file is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = lock.acquire(folder)
            checkpoint.sweep(folder)
            if restart:
                self.file.unlink(missing_ok=True)
            if self.file.exists():
                self._read(self.file)
        except OSError as error:
            raise UserError(f"{folder} cannot be written: {error.strerror}") from error
        except BaseException:
            self._release()
            raise

    def _read(self, file: Path) -> None:
        state = checkpoint.load(file)
        del state["format"]
        with schema.reading(file):
            read = schema.instance(_State, state, "")
            options = json.loads(read.options)
        then, now = _shared(options, self._options)
        if other := sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name)):
            texts = [f"{name} {_short(then.get(name))}, not {_short(now.get(name))}" for name in other]
            raise UserError(
                f"{file.parent} holds an unfinished training with {'; '.join(texts)}: repeat its command to go on "
                "with it, add --restart to discard it, or choose another --out"
            )
        if WEIGHTS in options:  # keep what is known of other keys, too
            self._options[WEIGHTS] = options[WEIGHTS] | self._options[WEIGHTS]
        self._done, self._current, self.begun = read.done, read.current, True

    def result(self, key: str) -> dict[str, Any] | None:
        """What :meth:`finish` has recorded for a training; None if it is not done."""
        return self._done.get(key)

    def resume(self, key: str, model: nn.Module, optimizer: torch.optim.Optimizer) -> LoopState | None:
        """Restore the training of this key, if it was interrupted: into the model, the optimizer and torch's
        generators.

        Raises:
            UserError: its state does not fit them.
        """
        current = self._current
        if current is None or current.key != key:
            return None
        try:
            model.load_state_dict(current.model)
            optimizer.load_state_dict(vars(current.optimizer))
            torch.set_rng_state(current.rng)
            if current.cuda_rng is not None and self._device.type == "cuda":
                torch.cuda.set_rng_state(current.cuda_rng, self._device)
        except (RuntimeError, ValueError, TypeError) as error:
            if explain(error) is not None:
                raise
            raise UserError(f"{self.file} is damaged: its state does not fit; add --restart to discard it") from error
        return current.loop

    def keeper(self, key: str, model: nn.Module, optimizer: torch.optim.Optimizer) -> "Keeper":
        """A function that saves the state of a training unless the last save was a moment ago, or always if ``now``: at
        most every :data:`SAVE_SECONDS`, and in at most :data:`SAVING` of the time."""

        def keep(loop: LoopState, *, now: bool = False) -> None:
            recent = time.monotonic() - self._saved < max(SAVE_SECONDS, self._pause)
            if self.file is None or (recent and not now):
                return
            cuda = torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None
            state = OptimizerState(**optimizer.state_dict())
            self._current = Current(key, loop, model.state_dict(), state, torch.get_rng_state(), cuda)
            self._save()

        return keep

    def finish(self, key: str, result: dict[str, Any]) -> None:
        """Record the result of a training: numbers, texts, lists and tensors."""
        self._done[key], self._current = result, None
        self._save()

    def _save(self) -> None:
        if self.file is None:
            return
        current = self._current
        plain = None if current is None else vars(current) | {
            "loop": vars(current.loop), "optimizer": vars(current.optimizer)
        }  # fmt: skip
        begun = time.monotonic()
        checkpoint.save(self.file, {"options": json.dumps(self._options), "done": self._done, "current": plain})
        self._saved = time.monotonic()
        self._pause = (self._saved - begun) * (1 / SAVING - 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *how: object) -> None:
        # a work that diverged has nothing to go on with: it is repeated with other options
        if self.file is not None and (kind is None or issubclass(kind, Diverged)):
            self.file.unlink(missing_ok=True)
        if self.file is not None and not self.file.exists():
            (self.file.parent / lock.FILE).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it has other files
                self.file.parent.rmdir()
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            lock.release(self._lock)
            self._lock = None


def _shared(then: dict[str, Any], now: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of two starts, with the weights of the keys that both have, or of all if there is none."""
    both = then.get(WEIGHTS, {}).keys() & now.get(WEIGHTS, {}).keys()
    if not both:
        return then, now

    def of_both(options: dict[str, Any]) -> dict[str, Any]:
        return options | {WEIGHTS: {key: options[WEIGHTS][key] for key in sorted(both)}}

    return of_both(then), of_both(now)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]} ..."
