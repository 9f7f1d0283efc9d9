"""The loop: look up, go back, step, write. The order is the heart of these methods, and it stands on one page.

``train`` assembles a run (data, method, optimizer, folder) or takes one up again; ``fit`` runs it.
"""

import contextlib
import inspect
import math
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from contrastkit import dist, optim
from contrastkit.checkpoint import write_with
from contrastkit.data import DataSet, Loader, open_data
from contrastkit.data.loader import MAX_BAD
from contrastkit.errors import UserError
from contrastkit.methods import RECIPES, BuildContext, Method, Recipe
from contrastkit.monitor import Monitor
from contrastkit.parts.encoder import SMALL
from contrastkit.run import ENCODER, Run
from contrastkit.types import Batch, Step

CHECK_EVERY = 10  # steps between looks at the losses on the host: each look waits for the device
# What may differ from start to start: where the data lie, and how the training is run and watched.
MAY_CHANGE = ("data", "data_dir", "download", "workers", "device", "save_every", "monitor_every", "max_bad")
SAVE_SECONDS = 900.0  # within a long epoch, a checkpoint after this much training


class Watch(Protocol):
    """Who is told what happens. The command line draws it, a test collects it."""

    def say(self, line: str) -> None:
        """A line worth reading, also later: it goes to log.txt too."""

    def tick(self, tick: "Tick") -> None:
        """A step is done."""


class Silent:
    """A watch that looks away."""

    def say(self, line: str) -> None:
        pass

    def tick(self, tick: "Tick") -> None:
        pass


@dataclass(frozen=True, slots=True)
class Tick:
    """Where the training is: for a progress line."""

    step: int
    steps: int  # of the whole schedule
    epoch: float
    epochs: int
    loss: float
    images_per_s: float
    seconds_left: float  # at this speed, without monitors
    waiting: float  # share of the time spent waiting for data
    memory_mib: float
    last: dict[str, float]  # what the monitor last saw

    @property
    def pace(self) -> str:
        left = timedelta(seconds=round(self.seconds_left))
        return (
            f"{self.images_per_s:,.0f} images/s  waiting {self.waiting:.0%}  {self.memory_mib:,.0f} MiB  {left} to go"
        )


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a recipe is run: everything that does not belong to the method."""

    data: str
    data_dir: Path | None = None
    download: bool = False
    val_fraction: float | None = None
    workers: int = 0
    device: str = "auto"
    seed: int = 0
    precision: str = "auto"
    compile: bool = False
    max_bad: float = MAX_BAD
    save_every: int = 0
    monitor_every: int = 1

    def open_data(self) -> DataSet:
        """The data set; one process alone downloads it, the others find it there."""
        if self.download and dist.rank() > 0:
            dist.barrier()
        data = self._open()
        if self.download and dist.rank() == 0:
            dist.barrier()
        return data

    def _open(self) -> DataSet:
        return open_data(
            self.data,
            data_dir=self.data_dir,
            download=self.download,
            val_fraction=self.val_fraction,
            seed=self.seed,
        )


@dataclass
class Outcome:
    """How a training ended."""

    run: Run
    step: int
    finished: bool
    signalled: bool  # asked to end, be it after the very last step
    seconds: float  # of training, without monitors and checkpoints
    images_per_s: float
    last: dict[str, float] = field(default_factory=dict)


def train(
    name: str,
    recipe: Recipe,
    options: Options,
    *,
    out: Path,
    resume: bool = False,
    stop_after: int | None = None,
    watch: Watch | None = None,
    data: DataSet | None = None,
) -> Outcome:
    """Train a recipe into a run folder, or go on with the run that is there.

    Args:
        name: ``method/row``, for the record.
        out: the run folder. It must hold no run, unless ``resume``.
        stop_after: leave after this many epochs of the schedule.
        data: the data set, if it is open already.

    Raises:
        UserError: the data cannot be had (:func:`contrastkit.data.open_data`), the recipe does not fit them, the folder
            holds a run or none (:class:`contrastkit.run.Run`) or one of another recipe, or the loss is not finite.
    """
    watch = watch or Silent()
    device = dist.init(options.device)
    options = replace(
        options, precision=resolved_precision(options.precision, device)
    )  # a run keeps it wherever it goes on
    first = dist.rank() == 0
    data = data or options.open_data()
    source = data.pretrain
    recipe.check(source)
    loader = Loader(
        source,
        recipe.views,
        batch=recipe.batch,
        seed=options.seed,
        workers=options.workers,
        rank=dist.rank(),
        world=dist.world_size(),
        max_bad=options.max_bad,
        device=device,
    )
    torch.manual_seed(options.seed)
    size = image_size(recipe, source.size)
    context = BuildContext(
        channels=source.channels,
        modalities=tuple((source.modalities or {}).values()),
        size=size,
        images=len(source),
        world=dist.world_size(),
        seed=options.seed,
    )
    method = recipe.build(context)
    if options.compile and not method.compiled:
        raise UserError(f"{name} has nothing to compile: leave --compile out")
    method = method.to(device).to(memory_format=torch.channels_last)
    optimizer = recipe.build_optimizer(method)
    meter = Meter(recipe.batch)
    words = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(options).items()}
    if resume:
        run, step = Run.open(out, writes=first), 0
        record = run.recipe
        _agree(record, name, recipe, words, out)
        if record["data"]["fingerprint"] != source.fingerprint():
            raise UserError(f"the data are not those that {out} was trained on: resume with the same --data")
        if record["options"] != words:
            run.write_recipe(record | {"options": words})
        if run.last.exists():
            step = _restore(run, name, method, optimizer, meter, device)
        else:
            watch.say(f"{out} has no checkpoint yet: it begins anew")
        run.rewind(step)
    else:
        record = {
            "name": name,
            "recipe": asdict(recipe),
            "options": words,
            "data": {
                "name": data.name,
                "images": len(source),
                "rate": source.sample_rate,
                "modalities": source.modalities,
                "fingerprint": source.fingerprint(),
            },
            "encoder": recipe.encoder_options(context),
        }
        run = Run.create(out, record, writes=first)
        step = 0
    run.note_environment()
    dist.barrier()
    autocast, arithmetic = _autocast(options.precision, device), options.precision
    if options.compile:
        for part in method.compiled:
            part.compile()
        arithmetic += ", compiled"
    told = _Both(watch, run)
    encoder = method.online.encoder
    told.say(
        f"encoder {recipe.encoder}: {encoder.stem} stem for {size} {recipe.modality.unit}, "
        f"{encoder.dim} features, "
        f"{sum(p.numel() for p in encoder.parameters()) / 1e6:.2f} M parameters; {device}, {arithmetic}"
    )
    for notice in method.notices:
        told.say(notice)
    monitor = Monitor(
        data,
        recipe.views,
        size=size,
        seed=options.seed,
        device=device,
        every=options.monitor_every,
        chance_loss=method.chance_loss,
        workers=options.workers,
    )
    monitor.resume(run.metrics())
    try:
        return fit(
            method,
            recipe,
            loader,
            optimizer,
            run,
            monitor,
            name=name,
            device=device,
            autocast=autocast,
            step=step,
            meter=meter,
            save_every=options.save_every,
            stop_after=stop_after,
            watch=told,
        )
    finally:
        run.close()


def _agree(record: dict[str, Any], name: str, recipe: Recipe, words: dict[str, Any], out: Path) -> None:
    """A run keeps what its numbers depend on.

    Raises:
        UserError: it was asked to go on with something else.
    """
    if record["name"] != name:
        raise UserError(f"{out} holds a run of {record['name']}, not of {name}: give another --out or --resume")
    kept = recipe_from_json(name, record["recipe"])
    for item in fields(kept):
        if (value := getattr(kept, item.name)) != getattr(recipe, item.name):
            raise UserError(f"a run keeps its recipe: {out} has {item.name} = {value}; leave the option out")
    for word, value in record["options"].items():
        if word not in MAY_CHANGE and value != words[word]:
            raise UserError(f"a run keeps its {word}: {out} has {value}; leave the option out")


def image_size(recipe: Recipe, source_size: int) -> int:
    """Side in pixels at which an encoder is judged: as its views were, or small images as they are where these are a
    little larger. A crop enlarges what it shows, so an encoder expects whole images of up to 4/3 of the views' side
    (Touvron et al. 2019, "Fixing the train-test resolution discrepancy"). Of sounds, samples."""
    view = recipe.views[0].size
    fits = view <= source_size <= min(SMALL, round(view * 4 / 3))
    return source_size if fits and not recipe.encoder.startswith("timm:") else view


def fit(
    method: Method,
    recipe: Recipe,
    loader: Loader,
    optimizer: torch.optim.Optimizer,
    run: Run,
    monitor: Monitor,
    *,
    name: str,
    device: torch.device,
    autocast: Callable[[], contextlib.AbstractContextManager[object]],
    step: int,
    meter: "Meter",
    save_every: int,
    stop_after: int | None,
    watch: Watch,
) -> Outcome:
    """Run the schedule from ``step`` to its end, to ``stop_after`` epochs, or to a signal; save before leaving."""
    model: nn.Module = _distribute(method) if dist.world_size() > 1 else method
    per_epoch = loader.steps_per_epoch
    steps = recipe.epochs * per_epoch
    end = min(steps, stop_after * per_epoch) if stop_after is not None else steps
    stop = False

    def save(keep: str | None = None) -> None:
        with meter.paused():
            own = own_state(method, device)
            dist.average_batch_norm(method)
            if not all(bool(p.isfinite().all()) for p in method.parameters()):
                raise UserError(f"a weight is not finite after step {step}: lower --lr; {_last_good(run)}")
            state = {
                "name": name,
                "step": step,
                "meter": meter.state_dict(),
                "method": method.state_dict(),
                "optimizer": optimizer.state_dict(),
                "own": dist.gather_objects(own),
            }
            run.save(state, keep=keep)
            restore_own_state(own, method, device)
            meter.unsaved = 0.0

    method.train()
    with Signals() as signals, meter.running():
        while step < end:
            epoch = step // per_epoch
            for batch in meter.waits(loader.batches(step, (epoch + 1) * per_epoch)):
                batch = _to(batch, device)
                progress = step / steps
                lr = optim.learning_rate(
                    progress,
                    schedule=recipe.schedule,
                    base_lr=recipe.lr,
                    warmup=recipe.warmup_epochs / recipe.epochs,
                    first=recipe.first_lr,
                    final=recipe.final_lr,
                    milestones=recipe.milestones,
                    gamma=recipe.gamma,
                    epochs=recipe.epochs if recipe.lr_per_epoch else None,
                )
                with autocast():
                    result: Step = model(batch, progress)
                result.loss.backward()
                decay = recipe.final_weight_decay
                if decay is not None:
                    decay = optim.cosine(progress, recipe.weight_decay, decay)
                optim.apply_schedule(optimizer, progress, lr, decay)
                optim.clip_gradients(optimizer, recipe.clip_norm)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                method.after_step(batch, result, progress)
                step += 1

                meter.add(result)
                signalled = signals.received and dist.world_size() == 1
                if signalled or step % CHECK_EVERY == 0 or step % per_epoch == 0:
                    meter.read(step, lr, run)
                    tick = meter.tick(step, steps, recipe, monitor.last)
                    watch.tick(tick)
                    asked = signals.received, meter.unsaved > SAVE_SECONDS, loader.has_news
                    stop, overdue, unreadable = dist.any_of(asked, device)
                    if unreadable:
                        for path, reason in loader.share_unreadable():
                            watch.say(f"cannot read {path} ({reason}): substituted the next image")
                    if step % per_epoch == 0:  # the epoch's own end saves
                        break
                    if stop or overdue:
                        save()
                    if stop:
                        break
            if step % per_epoch:
                break

            done = step // per_epoch
            row = {"step": step, "epoch": done, "lr": lr, **meter.row(), "unreadable": len(loader.unreadable)}
            if monitor.due(done, step == steps):
                with meter.paused():
                    dist.average_batch_norm(method)
                    row |= monitor.look(method.online, row["loss"], autocast)
                if monitor.warning:
                    watch.say(monitor.warning)
            run.record(row)
            watch.say(_epoch_line(row, tick))
            save(f"epoch-{done:04d}.pt" if save_every and done % save_every == 0 else None)
            if stop:
                break
    finished = step == steps
    if stop and not finished:
        watch.say(f"stopped by a signal after step {step} of {steps}: go on with --resume {run.path}")
    if finished and run.writes:
        write_encoder(method, run)
    dist.barrier()
    return Outcome(run, step, finished, stop or signals.received, meter.seconds, meter.images_per_s, monitor.last)


def own_state(method: Method, device: torch.device) -> dict[str, Any]:
    """What each process has to itself: its generators, and its batch-norm statistics, of which others see the mean."""
    return {
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "batch_norm": [s.cpu().clone() for s in dist.batch_norm_statistics(method)] if dist.world_size() > 1 else [],
    }


def restore_own_state(own: dict[str, Any], method: Method, device: torch.device) -> None:
    torch.set_rng_state(own["rng"])
    if device.type == "cuda" and own["cuda_rng"] is not None:
        torch.cuda.set_rng_state(own["cuda_rng"], device)
    if own["batch_norm"]:
        for statistic, kept in zip(dist.batch_norm_statistics(method), own["batch_norm"], strict=True):
            statistic.copy_(kept)


def write_encoder(method: Method, run: Run) -> None:
    """encoder.safetensors: what remains after training."""
    from safetensors.torch import save_file

    tensors = {k: v.detach().cpu().contiguous() for k, v in method.online.encoder.state_dict().items()}
    write_with(run.path / ENCODER, lambda file: save_file(tensors, file))


class Meter:
    """What the loop measures: losses, the clock of the training (evaluation and checkpoints left out), the waiting.

    Losses stay on the device until :meth:`read`. The means of an epoch survive a resume in its middle.
    """

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.seconds = 0.0  # of training, since the run began
        self.unsaved = 0.0  # of training, since the last checkpoint
        self.sums: dict[str, float] = {}  # over the epoch
        self.count = 0  # steps of the epoch that are in sums
        self.loss = math.nan  # newest
        self.images_per_s = math.nan  # since this start
        self._pending: list[dict[str, Tensor]] = []
        self._images = 0
        self._waited = self._spent = 0.0
        self._since: float | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "sums": self.sums, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seconds, self.sums, self.count = state["seconds"], state["sums"], state["count"]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        self._since = time.perf_counter()
        try:
            yield
        finally:
            self._lap()
            self._since = None

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time in here is not training."""
        self._lap()
        try:
            yield
        finally:
            self._since = time.perf_counter()

    def waits(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Pass batches on, and count the time until each is there."""
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self._waited += time.perf_counter() - began
            if batch is None:
                return
            yield batch

    def add(self, step: Step) -> None:
        self._pending.append({"loss": step.loss.detach(), **{k: v.detach() for k, v in step.logs.items()}})
        self._images += self.batch

    def read(self, step: int, lr: float, run: Run) -> None:
        """Bring the losses to the host.

        Raises:
            UserError: one of them is not finite.
        """
        names = list(self._pending[0])
        values = dist.all_reduce_mean(torch.stack([torch.stack([p[n].float() for n in names]) for p in self._pending])).tolist()
        first = step - len(self._pending) + 1
        self._pending.clear()
        for i, row in enumerate(values):
            if not math.isfinite(row[0]):
                raise UserError(
                    f"the loss is {row[0]} at step {first + i}, learning rate {lr:.3g}: "
                    f"lower --lr, add --warmup-epochs or --clip-norm; {_last_good(run)}"
                )
            for name, value in zip(names, row, strict=True):
                self.sums[name] = self.sums.get(name, 0.0) + value
            self.count += 1
            self.loss = row[0]
        self._lap()
        self.images_per_s = self._images / self._spent

    def tick(self, step: int, steps: int, recipe: Recipe, last: dict[str, float]) -> Tick:
        return Tick(
            step=step,
            steps=steps,
            epoch=step / steps * recipe.epochs,
            epochs=recipe.epochs,
            loss=self.loss,
            images_per_s=self.images_per_s,
            seconds_left=(steps - step) * self.batch / self.images_per_s,
            waiting=self._waited / self._spent,
            memory_mib=_memory_mib(),
            last=last,
        )

    def row(self) -> dict[str, float]:
        """The epoch's means, then start anew."""
        means = {name: total / self.count for name, total in self.sums.items()}
        self.sums, self.count = {}, 0
        return {
            **means,
            "images_per_s": self.images_per_s,
            "waiting": self._waited / self._spent,
            "memory_mib": _memory_mib(),
            "seconds": self.seconds,
        }

    def _lap(self) -> None:
        now = time.perf_counter()
        assert self._since is not None
        spent, self._since = now - self._since, now
        self.seconds += spent
        self.unsaved += spent
        self._spent += spent


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


class _Both:
    """Tell the watch, and log.txt."""

    def __init__(self, watch: Watch, run: Run) -> None:
        self.tick, self._watch, self._run = watch.tick, watch, run

    def say(self, line: str) -> None:
        self._watch.say(line)
        self._run.say(line)


def _epoch_line(row: dict[str, float], tick: Tick) -> str:
    words = [f"epoch {row['epoch']:.0f}/{tick.epochs}", f"loss {row['loss']:.4f}", tick.pace]
    if "knn" in row:
        words.append(f"kNN {row['knn']:.1%}")
    if "std" in row:
        words.append(f"std {row['std']:.2f}/sqrt(d)")
    if "rank" in row:
        words.append(f"rank {row['rank']:.0f}")
    return "  ".join(words)


def _distribute(method: Method) -> nn.Module:
    """DDP without its broadcasts: every rank writes its own queue, identically, and all begin alike, as the seed or the
    checkpoint says, which holds the batch-norm statistics of each."""
    keyword = "forward_sync_buffers"
    if keyword not in inspect.signature(nn.parallel.DistributedDataParallel).parameters:
        keyword = "broadcast_buffers"  # its older name
    no_broadcast: dict[str, Any] = {keyword: False, "init_sync": False}
    return nn.parallel.DistributedDataParallel(method, **no_broadcast)


def _last_good(run: Run) -> str:
    return f"last good checkpoint: {run.last if run.last.exists() else 'none yet'}"


def _to(batch: Batch, device: torch.device) -> Batch:
    views = [v.to(device, non_blocking=True, memory_format=torch.channels_last) for v in batch.views]
    return Batch(views, batch.index.to(device, non_blocking=True), batch.label)


def resolved_precision(asked: str, device: torch.device) -> str:
    """What "auto" stands for: bfloat16 where it helps (a GPU since Ampere, a CPU with bfloat16 instructions)."""
    if asked != "auto":
        return asked
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = torch.cpu._is_avx512_bf16_supported()
    return "bfloat16" if fast else "float32"


def _autocast(precision: str, device: torch.device) -> Callable[[], contextlib.AbstractContextManager[object]]:
    if precision == "float32":
        return contextlib.nullcontext
    return lambda: torch.autocast(device.type, torch.bfloat16)


def _memory_mib() -> float:
    """Most memory held so far: of the GPU in use, else of this process."""
    if torch.cuda.is_available() and (held := torch.cuda.max_memory_allocated()):
        return held / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _restore(
    run: Run, name: str, method: Method, optimizer: torch.optim.Optimizer, meter: "Meter", device: torch.device
) -> int:
    """Put the newest checkpoint back; return its step."""
    state = run.load()
    if state["name"] != name:
        raise UserError(f"{run.path} holds a checkpoint of {state['name']}, not of {name}")
    try:
        method.load_state_dict(state["method"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{run.last} does not fit the run's recipe.json: one of them is of another run") from error
    if len(state["own"]) == dist.world_size():  # else the means serve, and fresh generators
        restore_own_state(state["own"][dist.rank()], method, device)
    meter.load_state_dict(state["meter"])
    return state["step"]


def recipe_from_json(name: str, numbers: dict[str, Any]) -> Recipe:
    """The recipe that recipe.json holds: lists become tuples, dicts become views."""
    base = RECIPES[name]
    values = {}
    for item in fields(base):
        value = numbers[item.name]
        if item.name == "views":
            value = tuple(type(base.views[0])(**view) for view in value)
        elif isinstance(value, list):
            value = tuple(value)
        values[item.name] = value
    return type(base)(**values)
