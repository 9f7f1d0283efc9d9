"""The training loop: read, backward, step, write. The order is essential to these methods, and fits on one page."""

from contrastkit import dist, optim
from contrastkit.training.session import Session


def fit(session: Session, *, start: int, end: int) -> int:
    """Train from step ``start`` to step ``end`` of the schedule, or until the session stops it.

    Returns:
        The number of completed steps of the schedule.
    """
    method, recipe, optimizer = session.method, session.recipe, session.optimizer
    model = dist.data_parallel(method)
    step = start
    method.train()
    with session.running():
        for batch in session.timed(session.loader.batches(start, end)):
            batch = batch.to(session.device)
            progress = step / session.steps
            with session.autocast():
                out = model(batch, progress)  # reads
            out.loss.backward()
            optim.apply_schedule(optimizer, progress, recipe.schedule_at(progress))
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            method.after_step(batch, out, progress)  # writes
            step += 1
            if session.after_step(step, out):
                break
    return step
