"""Launch a planned training: assemble loader, method, optimizer and run folder, and run its steps."""

import signal
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from contrastkit import dist, precision
from contrastkit.data import Loader
from contrastkit.errors import UserError
from contrastkit.evaluate.subject import applicable
from contrastkit.methods import BuildContext, Method
from contrastkit.monitor import Monitor
from contrastkit.record import DataRecord, Record
from contrastkit.run import Run, Taken
from contrastkit.training import state
from contrastkit.training.loop import fit
from contrastkit.training.memory import require_memory, room_beside
from contrastkit.training.plan import Plan, free_folder
from contrastkit.training.progress import NullReporter, Reporter, TeeReporter
from contrastkit.training.session import Session


@dataclass
class Outcome:
    """How a training ended."""

    run: Run
    step: int
    finished: bool
    signal: int | None  # the number of one that it received, possibly after the last step
    seconds: float  # of training, without evaluations and checkpoints
    images_per_s: float
    evaluation: dict[str, float] = field(default_factory=dict)  # the monitor's latest
    applicable: tuple[str, ...] = ()  # the functions of contrastkit.evaluate that apply to the run on its own data


def launch(
    plan: Plan, *, stop_after: int | None = None, reporter: Reporter | None = None, encoder: nn.Module | None = None
) -> Outcome:
    """Train as planned.

    Args:
        stop_after: stop after this many epochs of the schedule.
        encoder: a module to train in place of the recipe's encoder; the recipe names it ``module:NAME``.

    Raises:
        UserError: the recipe cannot be built for these data, the folder of a new run already holds one, the checkpoint
            of the run to resume cannot be read, or the loss is not finite.
    """
    recipe, options, source = plan.recipe, plan.options, plan.data.pretrain
    loader = _loader(plan)
    context = BuildContext.of(source, recipe.image_size(source.size), seed=options.seed, encoder=encoder)
    needed = require_memory(recipe, context, plan.device, precision=options.precision)
    loader.keep_on_device(room_beside(needed, plan.device))
    torch.manual_seed(options.seed)
    method = _build(plan, context)
    monitor, optimizer = _monitor(plan, method, context.size), recipe.build_optimizer(method)
    with loader, _create(plan, context) if plan.record is None else _reopen(plan) as run:
        session = _session(plan, method, loader, optimizer, monitor, run, reporter or NullReporter())
        start = 0 if plan.record is None else session.resume()
        if plan.record is not None and plan.record.options != plan.options:
            run.write_record(replace(plan.record, options=plan.options))
        run.note_environment()
        dist.barrier()
        if options.compile:
            for part in method.compiled:
                part.compile()
        if run.path != plan.out:
            session.reporter.log(f"another command has taken {plan.out} meanwhile: run folder {run.path}")
        summary = _summary(plan, method, context.size)
        for line in (*run.notices, summary, *plan.data.notices, *loader.notices, *method.notices):
            session.reporter.log(line)
        end = session.steps if stop_after is None else min(session.steps, stop_after * loader.steps_per_epoch)
        step = fit(session, start=start, end=end)
        return _finish(session, step, applicable(method.online.encoder, plan.data))


def _loader(plan: Plan) -> Loader:
    options = plan.options
    return Loader(
        plan.data.pretrain,
        plan.recipe.views,
        batch=plan.recipe.batch,
        seed=options.seed,
        workers=options.workers,
        rank=dist.rank(),
        world=dist.world_size(),
        max_bad=options.max_bad,
        device=plan.device,
        scaled=options.scaled_decoding,
    )


def _build(plan: Plan, context: BuildContext) -> Method:
    method = plan.recipe.build(context)
    if plan.options.compile and not method.compiled:
        raise UserError(f"{plan.name} has nothing to compile: drop --compile")
    return method.to(plan.device).to(memory_format=torch.channels_last)


def _monitor(plan: Plan, method: Method, size: int) -> Monitor:
    options = plan.options
    return Monitor(
        plan.data,
        plan.recipe.views,
        size=size,
        seed=options.seed,
        device=plan.device,
        every=options.monitor_every,
        chance_loss=method.chance_loss,
        workers=options.workers,
    )


def _session(
    plan: Plan,
    method: Method,
    loader: Loader,
    optimizer: torch.optim.Optimizer,
    monitor: Monitor,
    run: Run,
    reporter: Reporter,
) -> Session:
    return Session(
        plan.name,
        method,
        plan.recipe,
        loader,
        optimizer,
        run=run,
        monitor=monitor,
        reporter=TeeReporter(reporter, run),
        device=plan.device,
        autocast=precision.autocast(plan.options.precision, plan.device),
        save_every=plan.options.save_every,
    )


def _create(plan: Plan, context: BuildContext) -> Run:
    """Create the run's folder: of the folders that no user has chosen, the first that no other command takes first."""
    run = _claim(plan, _record(plan, context)) if dist.rank() == 0 else None
    out = dist.broadcast_str(str(run.path if run else plan.out))
    return run or Run(Path(out))


def _record(plan: Plan, context: BuildContext) -> Record:
    source = plan.data.pretrain
    return Record(
        name=plan.name,
        recipe=asdict(plan.recipe),
        options=plan.options,
        data=DataRecord(
            name=plan.data.name,
            images=len(source),
            rate=source.sample_rate,
            modalities=source.modalities,
            fingerprint=source.fingerprint(),
        ),
        encoder=plan.recipe.encoder_options(context),
    )


def _claim(plan: Plan, record: Record) -> Run:
    out = plan.out
    while True:
        try:
            return Run.create(out, record)
        except Taken:
            if not plan.numbered:
                raise
            out = free_folder(plan.name, plan.data.name)


def _reopen(plan: Plan) -> Run:
    return Run.open(plan.out, writes=dist.rank() == 0)


def _summary(plan: Plan, method: Method, size: int) -> str:
    recipe, options, encoder = plan.recipe, plan.options, method.online.encoder
    parameters = sum(p.numel() for p in encoder.parameters()) / 1e6
    return (
        f"encoder {recipe.encoder}: {encoder.stem} stem for {size} {recipe.modality.unit}, "
        f"{encoder.dim} features, {parameters:.2f} M parameters; "
        f"{plan.device}, {options.precision}{', compiled' if options.compile else ''}"
    )


def _finish(session: Session, step: int, evaluations: tuple[str, ...]) -> Outcome:
    """Write the encoder of a finished training, or log how to resume a stopped one."""
    run, meter, finished = session.run, session.meter, step == session.steps
    if session.stopped and not finished:
        session.reporter.log(
            f"stopped by a signal after step {step} of {session.steps}: resume with --resume {run.path}"
        )
    if finished:
        dist.average_batch_norm(session.method)
        if run.writes:
            state.write_encoder(session.method, run, step=step)
    dist.barrier()
    number = session.signals.received
    if number is None and session.stopped:  # another process received it
        number = signal.SIGTERM
    latest = session.monitor.latest
    return Outcome(run, step, finished, number, meter.seconds, meter.images_per_s, latest, evaluations)
