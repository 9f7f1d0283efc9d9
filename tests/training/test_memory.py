"""The memory of a step, against closed forms and against what a step on the CPU really allocates."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from contrastkit.bench import measure
from contrastkit.cli.main import main
from contrastkit.errors import UserError
from contrastkit.methods import RECIPES, BuildContext, Recipe
from contrastkit.training import launch, memory
from contrastkit.training.memory import LARGE, is_small, require_memory, room_beside, step_bytes
from contrastkit.types import Batch

CONTEXT = BuildContext(channels=3, size=32, images=1000)
CPU = torch.device("cpu")


def peak_of_a_step(recipe: Recipe) -> float:
    """Bytes allocated at the peak of a forward and backward pass."""
    batch = recipe.batch
    method = recipe.build(CONTEXT).train()
    views = [torch.rand(batch, 3, view.size, view.size) for view in recipe.views]
    index = torch.arange(batch)
    return measure.peak_memory(lambda: method(Batch(views, index, index), 0.0).loss.backward(), "cpu")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "how"), [("simclr-v1/32", {}), ("moco-v2/32", {"K": 2048})])
def test_an_image_more_takes_what_a_step_allocates_for_it(name: str, how: dict[str, Any]) -> None:
    recipes = [replace(RECIPES[name], batch=batch, encoder="tiny", **how) for batch in (16, 32)]
    allocated = peak_of_a_step(recipes[1]) - peak_of_a_step(recipes[0])
    estimates = [step_bytes(recipe, CONTEXT) or 0 for recipe in recipes]
    assert 0.75 * allocated < estimates[1] - estimates[0] < 1.25 * allocated


def test_it_grows_with_the_batch() -> None:
    recipe = RECIPES["simclr-v1/32"]
    one, two, three = (step_bytes(replace(recipe, batch=n * 256), CONTEXT) or 0 for n in (1, 2, 3))
    assert three - two == pytest.approx(two - one, rel=0.01) and two - one > 2**30


def test_a_step_that_does_not_fit_is_refused_before_the_run_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(RECIPES["simclr-v1/32"], batch=512)
    needed = step_bytes(recipe, CONTEXT)
    assert needed is not None
    monkeypatch.setattr(memory, "free_bytes", lambda device: needed + 1)
    assert require_memory(recipe, CONTEXT, CPU, precision="float32") == needed
    monkeypatch.setattr(memory, "free_bytes", lambda device: needed // 2)
    with pytest.raises(
        UserError, match=r"a step of batch 512 takes at least 5.\d GiB .*lower --batch \(to about 25\d\)"
    ):
        require_memory(recipe, CONTEXT, CPU, precision="float32")


def test_images_may_take_half_of_what_a_step_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    assert [room_beside(needed, CPU) for needed in (0, 400, 1000, None)] == [500, 300, 0, 250]


@pytest.mark.parametrize(
    ("gib", "world", "precision", "small"),
    [
        (23.6, 1, "bfloat16", False), (15.6, 1, "bfloat16", False), (11.9, 1, "bfloat16", True),
        (23.6, 1, "float32", True), (24, 1, "float32", False), (8, 4, "float32", False), (79, 1, "float32", False),
    ],
)  # fmt: skip
def test_gpus_count_together(
    monkeypatch: pytest.MonkeyPatch, gib: float, world: int, precision: str, small: bool
) -> None:
    """A GPU sold with 24 GB has less than 24 GiB, and one with 16 GB less than 16."""
    card = SimpleNamespace(total_memory=int(gib * 2**30))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    monkeypatch.setattr(memory.dist, "world_size", lambda: world)
    monkeypatch.setattr(memory.dist, "broadcast_str", lambda text: text)
    assert is_small(torch.device("cuda", 0), precision) == small and is_small(CPU, precision)


@pytest.mark.parametrize("precision", LARGE)
def test_a_step_of_mocos_published_recipe_fits_a_device_that_is_not_small(precision: str) -> None:
    """But a card of little less than it needs does not get it."""
    context = BuildContext(channels=3, size=224, images=1_281_167)
    needed = step_bytes(RECIPES["moco-v2/imagenet"], context, precision=precision)
    assert needed is not None and 0.8 * LARGE[precision] < needed / 2**30 < LARGE[precision]


def test_launch_asks_before_it_makes_the_run(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launch, "require_memory", require_memory)
    monkeypatch.setattr(memory, "free_bytes", lambda device: 2**20)
    run = tmp_path / "run"
    assert main(["train", "moco", f"--data={images}", f"--out={run}", "--encoder=tiny", "--device=cpu"]) == 2
    assert "are free: lower --batch" in capsys.readouterr().err and not run.exists()


def test_draws_are_left_alone() -> None:
    state = torch.get_rng_state()
    step_bytes(RECIPES["byol/tiny"], CONTEXT)
    assert torch.equal(torch.get_rng_state(), state)
