"""A resumed run equals an uninterrupted one, bit for bit: every method, with bank, queue, centre and prototypes."""

from dataclasses import replace
from pathlib import Path

import pytest

from contrastkit.methods.distillation import DistillationRecipe
from contrastkit.training import Options, Outcome, Plan
from contrastkit.training.launch import launch
from contrastkit.types import Modality
from tests.methods.small import teacher
from tests.methods.test_contract import ROWS, STATES
from tests.rows import fast_if
from tests.same import assert_same_run


def run(
    name: str, data: Path, out: Path, *, labelled: Path | None, stop_after: int | None = None, resume: bool = False
) -> Outcome:
    row = ROWS[name]
    largest, views = max(view.size for view in row.views), row.views
    if row.modality is not Modality.SOUND:
        views = tuple(replace(view, size=16 * view.size // largest) for view in views)
    recipe = replace(row, epochs=2, batch=32, views=views)
    beside = None if labelled is None else str(labelled)
    options = Options(data=str(data), labelled=beside, val_fraction=0.6, device="cpu", seed=5)
    plan = Plan.of(name.split()[0], recipe, options, out, resume=resume)
    if isinstance(recipe, DistillationRecipe):
        plan = replace(plan, teacher=teacher(4))
    return launch(plan, stop_after=stop_after)


@pytest.mark.parametrize("name", fast_if(STATES.__contains__, ROWS))
def test_one_epoch_resume_one_epoch_are_two(
    name: str, images: Path, sounds: Path, captioned: Path, environments: Path, tmp_path: Path
) -> None:
    straight, parts = tmp_path / "straight", tmp_path / "parts"
    data = sounds if ROWS[name].modality is Modality.SOUND else images
    if getattr(ROWS[name], "needs_environments", False):
        data = environments
    labelled = None  # the monitor asks for labels, which images with captions have not
    if ROWS[name].learns_from_captions:
        data, labelled = captioned, images
    assert run(name, data, straight, labelled=labelled).finished
    assert not run(name, data, parts, labelled=labelled, stop_after=1).finished
    assert run(name, data, parts, labelled=labelled, resume=True).finished
    assert_same_run(parts, straight)
