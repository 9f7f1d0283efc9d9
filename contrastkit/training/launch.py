"""Start a training: assemble data, method, optimizer and run folder, or resume a run."""

from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import torch
from torch import nn

from contrastkit import dist, precision
from contrastkit.data import DataSet, Loader, Source
from contrastkit.errors import UserError
from contrastkit.methods import BuildContext, Method, Recipe
from contrastkit.monitor import Monitor
from contrastkit.run import Run
from contrastkit.training import state
from contrastkit.training.loop import fit
from contrastkit.training.options import MAY_CHANGE, Options
from contrastkit.training.progress import NullReporter, Reporter, TeeReporter
from contrastkit.training.session import Session


@dataclass
class Outcome:
    """How a training ended."""

    run: Run
    step: int
    finished: bool
    signalled: bool  # received a signal to stop, possibly after the last step
    seconds: float  # of training, without evaluations and checkpoints
    images_per_s: float
    evaluation: dict[str, float] = field(default_factory=dict)  # the monitor's latest


def train(
    name: str,
    recipe: Recipe,
    options: Options,
    *,
    out: Path,
    resume: bool = False,
    stop_after: int | None = None,
    reporter: Reporter | None = None,
    data: DataSet | None = None,
    encoder: nn.Module | None = None,
) -> Outcome:
    """Train a recipe into a run folder, or resume the run that is there.

    Args:
        name: ``method/row``, for the record.
        out: the run folder. It must not hold a run, unless ``resume``.
        stop_after: stop after this many epochs of the schedule.
        data: the data set, if already open.
        encoder: a module to train in place of the recipe's encoder; the recipe names it ``module:NAME``.

    Raises:
        UserError: the data cannot be opened (:func:`contrastkit.data.open_data`) or do not suit the recipe; the folder
            already holds a run, or holds none or another one to resume; the loss is not finite.
    """
    device = dist.init(options.device)
    # Resolved once: a run keeps its precision, wherever it is resumed.
    options = replace(options, precision=precision.resolve(options.precision, device))
    data = data or options.open_data()
    recipe.check(data.pretrain)
    loader = _loader(data.pretrain, recipe, options, device)
    torch.manual_seed(options.seed)
    context = _context(data.pretrain, recipe, options, encoder)
    method = _build(name, recipe, context, options, device)
    if resume:
        run = _reopen(name, recipe, options, data.pretrain, out)
    else:
        run = _create(name, recipe, options, data, context, out)
    monitor = _monitor(data, method, recipe, context, options, device)
    session = _session(name, method, recipe, options, loader, monitor, run, reporter or NullReporter(), device)
    start = session.resume() if resume else 0
    run.note_environment()
    dist.barrier()
    if options.compile:
        for part in method.compiled:
            part.compile()
    for line in (_summary(method, recipe, options, context, device), *method.notices):
        session.reporter.log(line)
    end = session.steps if stop_after is None else min(session.steps, stop_after * loader.steps_per_epoch)
    try:
        step = fit(session, start=start, end=end)
        return _finish(session, step)
    finally:
        run.close()


def _loader(source: Source, recipe: Recipe, options: Options, device: torch.device) -> Loader:
    return Loader(
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


def _context(source: Source, recipe: Recipe, options: Options, encoder: nn.Module | None) -> BuildContext:
    return BuildContext(
        channels=source.channels,
        modalities=tuple((source.modalities or {}).values()),
        size=recipe.image_size(source.size),
        images=len(source),
        world=dist.world_size(),
        seed=options.seed,
        encoder=encoder,
    )


def _build(name: str, recipe: Recipe, context: BuildContext, options: Options, device: torch.device) -> Method:
    method = recipe.build(context)
    if options.compile and not method.compiled:
        raise UserError(f"{name} has nothing to compile: drop --compile")
    return method.to(device).to(memory_format=torch.channels_last)


def _monitor(
    data: DataSet, method: Method, recipe: Recipe, context: BuildContext, options: Options, device: torch.device
) -> Monitor:
    return Monitor(
        data,
        recipe.views,
        size=context.size,
        seed=options.seed,
        device=device,
        every=options.monitor_every,
        chance_loss=method.chance_loss,
        workers=options.workers,
    )


def _session(
    name: str,
    method: Method,
    recipe: Recipe,
    options: Options,
    loader: Loader,
    monitor: Monitor,
    run: Run,
    reporter: Reporter,
    device: torch.device,
) -> Session:
    return Session(
        name,
        method,
        recipe,
        loader,
        recipe.build_optimizer(method),
        run=run,
        monitor=monitor,
        reporter=TeeReporter(reporter, run),
        device=device,
        autocast=precision.autocast(options.precision, device),
        save_every=options.save_every,
    )


def _create(name: str, recipe: Recipe, options: Options, data: DataSet, context: BuildContext, out: Path) -> Run:
    source = data.pretrain
    record = {
        "name": name,
        "recipe": asdict(recipe),
        "options": options.to_json(),
        "data": {
            "name": data.name,
            "images": len(source),
            "rate": source.sample_rate,
            "modalities": source.modalities,
            "fingerprint": source.fingerprint(),
        },
        "encoder": recipe.encoder_options(context),
    }
    return Run.create(out, record, writes=dist.rank() == 0)


def _reopen(name: str, recipe: Recipe, options: Options, source: Source, out: Path) -> Run:
    """Open the run to resume, and record the options that changed.

    Raises:
        UserError: something that determines the run's results has changed.
    """
    run = Run.open(out, writes=dist.rank() == 0)
    record = run.record
    if record["name"] != name:
        raise UserError(f"{out} holds a run of {record['name']}, not of {name}: choose another --out or --resume")
    original = recipe.from_json(record["recipe"])
    for item in fields(original):
        if (value := getattr(original, item.name)) != getattr(recipe, item.name):
            raise UserError(f"a run keeps its recipe: {out} has {item.name} = {value}; drop the option")
    new_options = options.to_json()
    for option, value in record["options"].items():
        if option not in MAY_CHANGE and value != new_options[option]:
            raise UserError(f"a run keeps its {option}: {out} has {value}; drop the option")
    if record["data"]["fingerprint"] != source.fingerprint():
        raise UserError(f"{out} was trained on other data: resume with the same --data")
    if record["options"] != new_options:
        run.write_record(record | {"options": new_options})
    return run


def _summary(method: Method, recipe: Recipe, options: Options, context: BuildContext, device: torch.device) -> str:
    encoder = method.online.encoder
    parameters = sum(p.numel() for p in encoder.parameters()) / 1e6
    return (
        f"encoder {recipe.encoder}: {encoder.stem} stem for {context.size} {recipe.modality.unit}, "
        f"{encoder.dim} features, {parameters:.2f} M parameters; "
        f"{device}, {options.precision}{', compiled' if options.compile else ''}"
    )


def _finish(session: Session, step: int) -> Outcome:
    """Write the encoder of a finished training, or log how to resume a stopped one."""
    run, meter, finished = session.run, session.meter, step == session.steps
    if session.stopped and not finished:
        session.reporter.log(
            f"stopped by a signal after step {step} of {session.steps}: resume with --resume {run.path}"
        )
    if finished:
        dist.average_batch_norm(session.method)
        if run.writes:
            state.write_encoder(session.method, run)
    dist.barrier()
    signalled = session.stopped or session.signals.received
    return Outcome(run, step, finished, signalled, meter.seconds, meter.images_per_s, session.monitor.latest)
