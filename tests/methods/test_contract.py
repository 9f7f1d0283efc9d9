"""What every method promises, over every method's tiny row, and over those with parts that the row leaves out: batch
norm in four groups, SimCLR's memory, the estimate of NCE's Z, SigLIP's loss, MS-CLIP's stem."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from contrastkit.augment import Window
from contrastkit.methods import EVERY, RECIPES, BuildContext, Method, Recipe
from contrastkit.methods.distillation import DistillationRecipe
from contrastkit.optim import build_optimizer
from contrastkit.parts.norm import SplitBatchNorm2d
from contrastkit.types import Batch, Modality, Step
from tests.methods.small import captions, step_memory, teacher
from tests.rows import fast_if

N, GROUPS = 16, 4
SMALL = {
    "K": 64,
    "out_dim": 64,
    "queue_length": 32,
    "queue_epochs": 0.5,
    "patch": 8,
    "stride": 4,
    "penalty_weight": 2.0,
    "components": 3,
    "unevenness": 0.1,
    "depth": 2,
}  # a queue's keys, a bank's draws, prototypes; a penalty beside which the risk counts; well determined weights


def rows() -> dict[str, Recipe]:
    variants = {}
    for name, recipe in EVERY.items():
        if "/tiny" in name:
            small: dict[str, Any] = {"batch": N, **{k: v for k, v in SMALL.items() if hasattr(recipe, k)}}
            if recipe.modality is Modality.SOUND:
                small["views"] = (Window(size=1600),)
            variants[name] = replace(recipe, **small)
            if hasattr(recipe, "bn_groups"):
                variants[f"{name} in groups"] = replace(recipe, **small | {"bn_groups": GROUPS})
            if hasattr(recipe, "memory"):
                variants[f"{name} with memory"] = replace(recipe, **small | {"memory": 64})
            if recipe.learns_from_captions:
                variants[f"{name} with sigmoids"] = replace(recipe, **small | {"loss": "siglip"})
            if hasattr(recipe, "early_specialisation"):
                specialised: dict[str, Any] = {"early_specialisation": True, "share": "attention"}
                variants[f"{name} with a stem"] = replace(recipe, **small | specialised)
            if hasattr(recipe, "alpha"):
                variants[f"{name} with labels"] = replace(recipe, **small | {"alpha": 0.5})
            if hasattr(recipe, "eta"):
                variants[f"{name} with classes"] = replace(recipe, **small | {"groups": "environment-class"})
            if hasattr(recipe, "m_z"):
                variants[f"{name} with NCE"] = replace(recipe, **small | {"loss": "nce", "m_z": 0.9})
    return variants


ROWS = rows()
every_row = pytest.mark.parametrize("name", ROWS)
# Of each family the row with most to remember. Tests of whole trainings leave the others to `make test-all`.
FAMILIES = (
    "instdisc/tiny with NCE", "cpc-v1/tiny", "cpc-audio/tiny", "invaspread/tiny", "cmc/tiny", "moco-v2/tiny in groups",
    "simclr-v2/tiny with memory", "byol/tiny", "swav/tiny", "simsiam/tiny", "clip/tiny", "moco-v3/tiny", "dino/tiny",
    "mae/tiny", "ms-clip/tiny with sigmoids", "crd/tiny-crd+kd", "simclr-v2-distill/tiny with labels", "erm/tiny",
    "irm/tiny", "groupdro/tiny", "stablenet/tiny",
)  # fmt: skip

# One row for each kind of state that checkpoints keep and processes share: a bank, a queue behind a shuffle, gathered
# views, a target, prototypes, two towers, a teacher beside two banks, a memory of features.
STATES = (
    "instdisc/tiny with NCE", "moco-v2/tiny in groups", "simclr-v2/tiny with memory", "byol/tiny", "swav/tiny",
    "clip/tiny", "crd/tiny-crd+kd", "stablenet/tiny",
)  # fmt: skip


every_family = pytest.mark.parametrize("name", fast_if(FAMILIES.__contains__, ROWS))


def context(recipe: Recipe, **changes: int) -> BuildContext:
    """The context of a row here: images of three channels, or sounds."""
    defaults: dict[str, Any] = {
        "channels": 1 if recipe.modality is Modality.SOUND else 3,
        "size": 16,
        "images": 64,
        "world": 1,
        "seed": 0,
        "captions": captions(64) if recipe.learns_from_captions else None,
    }
    if recipe.learns_from_labels:
        images = changes.get("images", 64)
        defaults |= {"labels": torch.arange(images, device="cpu") % 5, "n_classes": 5}
        defaults |= {"environments": torch.arange(images, device="cpu") // 5 % 3, "n_environments": 3}
    if isinstance(recipe, DistillationRecipe):
        defaults["teacher"] = teacher(5)
    return BuildContext(**defaults | changes)


def build(name: str, *, seed: int = 0) -> Method:
    torch.manual_seed(seed)
    return ROWS[name].build(context(ROWS[name])).train()


def batch(name: str, seed: int = 0) -> Batch:
    g = torch.Generator().manual_seed(seed)
    views = [torch.rand(N, 3, 16, 16, generator=g) for _ in ROWS[name].views]
    if hasattr(ROWS[name], "mask_ratio"):  # stripes each: of noise no hidden part can be predicted
        rate, x = torch.linspace(0.2, 1.5, N).view(N, 1, 1, 1), torch.arange(16)
        stripes = 0.5 + 0.4 * torch.sin(rate * (x.view(16, 1) + 2 * x) + seed)
        views = [stripes.expand(N, 3, 16, 16) + 0.02 * view for view in views]
    if ROWS[name].modality is Modality.SOUND:  # a tone each
        pitch, t = torch.linspace(200, 1500, N).view(N, 1, 1, 1), torch.arange(1600) / 8000
        views = [0.3 * torch.sin(2 * torch.pi * pitch * t) + 0.02 * torch.randn(N, 1, 1, 1600, generator=g)]
    return Batch(views, torch.arange(N), torch.full((N,), -1))


def train(method: Method, name: str, steps: range, optimizer: torch.optim.Optimizer) -> list[float]:
    losses = []
    for step in steps:
        b = batch(name, seed=step)
        out: Step = method(b, step / 10)
        out.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        method.after_step(b, out, step / 10)
        losses.append(out.loss.item())
    return losses


def optimizer(method: Method, lr: float = 0.05) -> torch.optim.Optimizer:
    return build_optimizer(method.param_groups(), "sgd", lr=lr, weight_decay=1e-4)


def memory_of(out: Step) -> list[Tensor]:
    """Every tensor of a step that outlives it."""
    return [x for x in tree_leaves((out.memory, out.logs)) if isinstance(x, Tensor)]


def test_each_family_has_a_fast_row() -> None:
    assert {type(ROWS[name]) for name in FAMILIES} == {type(recipe) for recipe in ROWS.values()}


@pytest.mark.parametrize("name", [name for name in ROWS if name.endswith("in groups")])
def test_the_rows_in_groups_split_every_batch_norm(name: str) -> None:
    """Else the tests below would say nothing about groups."""
    norms = [m for m in build(name).modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and all(isinstance(m, SplitBatchNorm2d) and m.groups == GROUPS for m in norms)


@every_row
def test_forward_only_reads(name: str) -> None:
    method, b = build(name), batch(name)
    before = {k: v.clone() for k, v in method.state_dict().items()}
    views, random = [v.clone() for v in b.views], torch.get_rng_state()
    method(b, 0.5)
    for key, value in method.state_dict().items():
        if not key.endswith(("running_mean", "running_var", "num_batches_tracked")):
            assert torch.equal(value, before[key]), key
    assert all(torch.equal(x, y) for x, y in zip(b.views, views, strict=True)), "the images were written to"
    assert torch.equal(torch.get_rng_state(), random), "torch's generator was moved: draw from contrastkit.rng"


@every_row
def test_forward_is_a_function_of_state_batch_and_progress(name: str) -> None:
    first = build(name)
    second = copy.deepcopy(first)
    torch.manual_seed(1)
    one = first(batch(name), 0.5)
    torch.manual_seed(2)
    two = second(batch(name), 0.5)
    assert torch.equal(one.loss, two.loss)
    assert all(torch.equal(x, y) for x, y in zip(memory_of(one), memory_of(two), strict=True))


@every_row
def test_all_that_is_trained_gets_a_gradient_and_no_target_does(name: str) -> None:
    method = build(name)
    out: Step = method(batch(name), 0.5)
    out.loss.backward()
    for key, p in method.named_parameters():
        if key.startswith("target."):
            assert p.grad is None and not p.requires_grad, key
        elif not p.requires_grad:  # the shift that a last batch norm has not (SimCLR, MoCo v3): 0 for good; positions
            assert p.grad is None and (key.endswith(".pos_embed") or (key.endswith(".bias") and not p.any())), key
        else:
            assert p.grad is not None and p.grad.abs().sum() > 0, key
    assert not any(x.requires_grad for x in memory_of(out)), "the memory would keep the graph alive"


class Unordered(TorchDispatchMode):
    """Collects the operations that torch's threads sum in the order in which they come: on the CPU, the gradient of
    x[index]. That of an embedding or of index_select adds in a fixed order."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        bound = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | (kwargs or {})
        if "index_put" in func.name() and bound.get("accumulate") and bound["values"].numel() > 1:
            self.found.append(func.name())
        return func(*args, **(kwargs or {}))


@every_row
def test_no_sum_depends_on_which_thread_is_first(name: str) -> None:
    """On busy cores, equal trainings would differ in the last bit, and a resumed run from one that never stopped."""
    method = build(name)
    with Unordered() as unordered:
        method(batch(name), 0.5).loss.backward()
    assert not unordered.found


@pytest.mark.parametrize(
    ("name", "keys"),
    [("moco-v1/tiny", "K"), ("moco-v2/tiny", "K"), ("simclr-v2/tiny", "memory"), ("byol/tiny", "negatives")],
)
def test_a_step_allocates_nothing_of_size_batch_times_queue(name: str, keys: str) -> None:
    """InstDisc's and CMC's banks have such a test of their own, in-batch dictionaries those of the ops."""
    n, queue = 64, 300_000
    numbers: dict[str, Any] = {"batch": n, "dim": 8, keys: queue}
    recipe = replace(RECIPES[name], **numbers)
    method = recipe.build(context(recipe)).train()
    b = Batch([torch.rand(n, 3, 8, 8) for _ in recipe.views], torch.arange(n), torch.full((n,), -1))

    assert step_memory(method, b) < n * queue * 4 / 2


@every_row
def test_what_is_compiled_is_called_in_a_step(name: str) -> None:
    """Of what a method calls by another way than ``forward``, --compile would compile nothing."""
    method, called = build(name), set()
    for part in method.compiled:
        part.register_forward_hook(lambda module, *_: called.add(module))
    method(batch(name), 0.5)
    assert called == set(method.compiled)


@every_row
def test_the_monitor_sees_the_towers_outputs_past_the_tower(name: str) -> None:
    """The tower may be compiled, and another batch size would recompile it."""
    method = build(name).eval()
    view = batch(name).views[0]
    expected = method.online(view)
    method.online.register_forward_pre_hook(lambda *_: pytest.fail("the tower was called"))
    assert torch.equal(method.embed(view), expected)
    assert expected.ndim == 2 and len(expected) == N


@every_row
def test_what_is_trained_is_what_gets_a_gradient(name: str) -> None:
    method = build(name)
    trained = [p for group in method.param_groups() for p in group.params]
    assert len(set(map(id, trained))) == len(trained), "a parameter is in two groups"
    assert set(map(id, trained)) == {id(p) for p in method.parameters() if p.requires_grad}


@every_family
def test_save_load_continue_is_not_stopping(name: str) -> None:
    whole = build(name)
    o = optimizer(whole)
    straight = train(whole, name, range(6), o)

    first = build(name)
    o1 = optimizer(first)
    before = train(first, name, range(3), o1)
    second = build(name, seed=1)  # other weights: all that counts must come from the state
    o2 = optimizer(second)
    second.load_state_dict(first.state_dict())
    o2.load_state_dict(o1.state_dict())
    assert before + train(second, name, range(3, 6), o2) == straight
    for key, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


@every_family
def test_one_batch_can_be_learned(name: str) -> None:
    method = build(name)
    gentle = name.startswith("ms-clip") or name.endswith("sigmoids")  # SGD throws them off
    o, b = optimizer(method, lr=0.003 if gentle else 0.1), batch(name)
    losses = []
    for _ in range(25):
        out = method(b, 0.5)
        out.loss.backward()
        o.step()
        o.zero_grad()
        floor = out.logs.get("entropy", 0.0)  # a cross-entropy to soft targets (DINO) cannot fall below theirs
        losses.append((out.loss - floor).item())  # nothing is written: the dictionary stays
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("name", fast_if(lambda name: name.endswith(("/imagenet", "/32")), EVERY))
def test_every_row_builds(name: str) -> None:
    recipe = EVERY[name]
    side = recipe.views[0].size
    shape = (1, 1, side) if recipe.modality is Modality.SOUND else (3, side, side)
    with torch.device("meta"):  # the shapes alone: no weights are made
        images = 1 << 16  # more than any bank's draws
        method = recipe.build(context(recipe, size=side, images=images))
        z = method.online.eval()(torch.empty(2, *shape))
    assert z.shape[0] == 2 and z.ndim == 2 and z.is_meta
