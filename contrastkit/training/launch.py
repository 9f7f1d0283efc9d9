"""Launch a planned training: assemble loader, method, optimizer and run folder, and run its steps."""

import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from contrastkit import dist, precision
from contrastkit.curves import class_count
from contrastkit.data import Loader
from contrastkit.errors import UserError
from contrastkit.evaluate.fit import applicable
from contrastkit.loading import tokenizer_of
from contrastkit.memory import keep_freed_memory
from contrastkit.methods import BuildContext, Method
from contrastkit.monitor import Monitor
from contrastkit.record import DataRecord, Record
from contrastkit.run import Run, Taken
from contrastkit.teachers import notices_of
from contrastkit.training import state
from contrastkit.training.loop import fit
from contrastkit.training.memory import require_memory, room_beside
from contrastkit.training.outlook import before
from contrastkit.training.plan import Plan, free_folder
from contrastkit.training.progress import NullReporter, Reporter, TeeReporter
from contrastkit.training.session import Session
from contrastkit.training.teaching import write_classifier
from contrastkit.training.verdict import Verdict, judge


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
    verdict: Verdict | None = None  # of a finished training, in the first process; None after one epoch


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
    keep_freed_memory()
    recipe, options, source = plan.recipe, plan.options, plan.data.pretrain
    loader = _loader(plan)
    size = recipe.image_size(source.size)
    context = _context(plan, size, encoder)
    needed = require_memory(recipe, context, plan.device, precision=options.precision)
    outlook = before(plan, loader.steps_per_epoch, needed)
    loader.keep_on_device(room_beside(needed, plan.device))
    torch.manual_seed(options.seed)
    method = _build(plan, context)
    monitor, optimizer = _monitor(plan, method, size, loader), recipe.build_optimizer(method)
    with loader, _folder(plan, context, method) as run:
        session = _session(plan, method, loader, optimizer, monitor, run, reporter or NullReporter())
        start = _start(plan, session)
        run.classes = class_count(plan.data.train.labels)
        run.note_environment()
        dist.barrier()
        if options.compile:
            for part in method.compiled:
                part.compile()
        if run.path != plan.out:
            session.reporter.log(f"another command has taken {plan.out} meanwhile: run folder {run.path}")
        summary = _summary(plan, method, size)
        notices = (*plan.data.notices, *loader.notices, *notices_of(plan.teacher, plan.data), *method.notices)
        for line in (*run.notices, summary, *_origin(plan, session), *outlook, *notices):
            session.reporter.log(line)
        if start == 0 and plan.parent is None and run.record.weights is not None:
            session.evaluate_start()
        end = session.steps if stop_after is None else min(session.steps, stop_after * loader.steps_per_epoch)
        step = fit(session, start=start, end=end)
        captions = recipe.learns_from_captions
        outcome = _finish(session, step, applicable(method.online.encoder, plan.data, captions=captions))
        if outcome.finished and run.writes and recipe.learns_from_labels:
            write_classifier(method, run, plan.teacher, plan.data)
        return outcome


def _context(plan: Plan, size: int, encoder: nn.Module | None) -> BuildContext:
    """With the vocabulary of the run that is resumed or extended, if it has one, else with one made of the captions."""
    source, options, tokenizer = plan.data.pretrain, plan.options, None
    if plan.record is not None and plan.recipe.learns_from_captions:
        tokenizer = tokenizer_of(Run(plan.out if plan.parent is None else Path(plan.parent.run)))
    own: dict[str, Any] = {"weights": plan.weights, "tokenizer": tokenizer, "teacher": plan.teacher}
    labelled = plan.recipe.learns_from_labels
    of_data = BuildContext.of(source, size, seed=options.seed, encoder=encoder, labelled=labelled, **own)
    return plan.recipe.prepare(of_data)


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


def _monitor(plan: Plan, method: Method, size: int, loader: Loader) -> Monitor:
    options = plan.options
    return Monitor(
        plan.data,
        plan.recipe.views,
        size=size,
        seed=options.seed,
        device=plan.device,
        every=options.monitor_every,
        chance_loss=method.chance_loss,
        can_collapse=method.can_collapse,
        labels=plan.recipe.uses_labels,
        steps=options.monitor_every * loader.steps_per_epoch,
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


def _folder(plan: Plan, context: BuildContext, method: Method) -> Run:
    """The folder of the run to resume, or a new one: of those that no user has chosen, the first that no other command
    takes first."""
    if plan.resumes:
        return Run.open(plan.out, writes=dist.rank() == 0)
    run = _claim(plan, _record(plan, context, method), method.texts) if dist.rank() == 0 else None
    out = dist.broadcast_str(str(run.path if run else plan.out))
    return run or Run(Path(out))


def _start(plan: Plan, session: Session) -> int:
    """Restore the state of the run to resume or to extend, or save the weights from which a new one starts, so that
    their source is not needed again; return the number of completed steps."""
    if plan.record is None:
        if plan.weights is not None:
            session.save(0)
        return 0
    step = session.resume()
    if plan.parent is not None and step != plan.parent.step:
        raise UserError(f"{plan.parent.run} is being trained: extend it when it has stopped")
    if plan.resumes and plan.record.options != plan.options:
        session.run.write_record(replace(plan.record, options=plan.options))
    return step


def _origin(plan: Plan, session: Session) -> list[str]:
    """What a new run starts from, one line each."""
    if plan.weights is not None and (weights := session.run.record.weights) is not None:
        return weights.lines
    if (parent := plan.parent) is None:
        return []
    steps = parent.epochs * session.loader.steps_per_epoch
    before = replace(plan.recipe, epochs=parent.epochs).schedule_at(max(0, parent.step - 1) / steps)
    after = plan.recipe.schedule_at(parent.step / session.steps)
    return [
        f"extends {parent.run} ({parent.epochs} epochs) from step {parent.step:,} of {session.steps:,}: the learning "
        f"rate goes on at {after.lr:.3g}, where it was {before.lr:.3g}"
    ]


def _record(plan: Plan, context: BuildContext, method: Method) -> Record:
    source = plan.data.pretrain
    weights = None if plan.record is None else plan.record.weights
    if plan.weights is not None:
        weights = plan.weights.match(method.online.encoder).record
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
        weights=weights,
        parent=plan.parent,
        teacher=None if plan.teacher is None else plan.teacher.record,
    )


def _claim(plan: Plan, record: Record, texts: Mapping[str, str]) -> Run:
    out = plan.out
    while True:
        try:
            return Run.create(out, record, texts)
        except Taken:
            if not plan.numbered:
                raise
            out = free_folder(plan.name, plan.data.name)


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
    verdict = None
    if session.stopped and not finished:
        session.reporter.log(
            f"stopped by a signal after step {step} of {session.steps}: resume with --resume {run.path}"
        )
    if finished:
        dist.average_batch_norm(session.method)
        if run.writes:
            state.write_encoder(session.method, run, step=step)
            verdict = _judged(session)
    dist.barrier()
    number = session.signals.received
    if number is None and session.stopped:  # another process received it
        number = signal.SIGTERM
    latest = session.monitor.latest
    return Outcome(run, step, finished, number, meter.seconds, meter.images_per_s, latest, evaluations, verdict)


def _judged(session: Session) -> Verdict | None:
    """How the training went, which is logged."""
    parent = session.run.record.parent
    since = 0 if parent is None else parent.step
    if (verdict := judge(session.run.metrics(), session.monitor.queries, since=since)) is not None:
        but = "" if session.monitor.warning is None else "; but see the warning above"
        session.reporter.log(f"{verdict.line}{but}")
    return verdict
