"""The rows of the ablations against the papers, and what each row changes in the network."""

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import nn

from contrastkit.ablation import ABLATIONS
from contrastkit.augment import augment, draw
from contrastkit.methods import RECIPES, BuildContext
from contrastkit.methods.byol import BYOL
from contrastkit.methods.moco import MoCo
from contrastkit.methods.simclr import SimCLR
from contrastkit.methods.simsiam import SimSiam
from contrastkit.methods.swav import SwAV
from contrastkit.parts.norm import WSConv2d, WSLinear
from tests.methods.small import batch

CONTEXT = BuildContext(channels=3, size=24, images=400)
N = 6

# Row: the published number, or word, and what is changed. Typed in from the papers.
PUBLISHED: dict[str, dict[str, tuple[Any, dict[str, Any] | None]]] = {
    # Fetterman & Albrecht 2020, "Performance for each variation"
    "byol-norm": {
        "contrastive loss": (
            44.1,
            {"projector_norm": "none", "predictor_norm": "none", "negatives": 4096, "m": 0.99, "lr": 0.03},
        ),
        "BYOL": (57.7, {"projector_norm": "batch", "predictor_norm": "batch"}),
        "batch norm in the projector only": (55.3, {"projector_norm": "batch", "predictor_norm": "none"}),
        "batch norm in the predictor only": (48.0, {"projector_norm": "none", "predictor_norm": "batch"}),
        "no norm": (28.3, {"projector_norm": "none", "predictor_norm": "none"}),
        "layer norm": (29.4, {"projector_norm": "layer", "predictor_norm": "layer"}),
        "random": (28.8, None),
    },
    # Richemond et al. 2020, abstract
    "norm": {
        "batch norm": (74.3, {"encoder_norm": "batch", "projector_norm": "batch", "predictor_norm": "batch"}),
        "group norm everywhere": (
            73.9, {"encoder_norm": "group", "projector_norm": "group", "predictor_norm": "group"},
        ),
        "group norm in the encoder only": (
            None, {"encoder_norm": "group", "projector_norm": "batch", "predictor_norm": "batch"},
        ),
        "group norm in the heads only": (
            None, {"encoder_norm": "batch", "projector_norm": "group", "predictor_norm": "group"},
        ),
        "untrained": (None, None),
    },
    # SimCLR, Fig. 8: a plot
    "projector": {
        "none": (None, {"projector": "none"}),
        "linear, dim = 32": (None, {"projector": "linear", "dim": 32}),
        "linear, dim = 128": (None, {"projector": "linear", "dim": 128}),
        "linear, dim = 512": (None, {"projector": "linear", "dim": 512}),
        "non-linear, dim = 32": (None, {"projector": "nonlinear", "dim": 32}),
        "non-linear, dim = 128": (None, {"projector": "nonlinear", "dim": 128}),
        "non-linear, dim = 512": (None, {"projector": "nonlinear", "dim": 512}),
        "untrained": (None, None),
    },
    # SwAV, Fig. 3, left
    "multi-crop": {
        "SwAV, two crops": (70.1, {"views": [24, 24]}),
        "SwAV, multi-crop": (74.1, {"views": [24, 24, 16, 16]}),
        "SimCLR, two crops": (68.2, {"views": [24, 24]}),
        "SimCLR, multi-crop": (70.6, {"views": [24, 24, 16, 16]}),
        "untrained": (None, None),
    },
    # MoCo v1, Sec. 4.1, "Ablation: momentum" (K = 4096, m = 0.999)
    "dictionary": {
        **{f"K = {K}": (None, {"K": K}) for K in (128, 256, 512, 1024, 2048)},
        "K = 4096": (59.0, {"K": 4096}),
        "K = 8192": (None, {"K": 8192}),
        "K = 16384": (None, {"K": 16384}),
        "m = 0": ("fails", {"m": 0.0}),
        "m = 0.9": (55.2, {"m": 0.9}),
        "m = 0.99": (57.8, {"m": 0.99}),
        "m = 0.999": (59.0, {"m": 0.999}),
        "m = 0.9999": (58.9, {"m": 0.9999}),
        "untrained": (None, None),
    },
    # SimSiam, Fig. 2, Table 1, Table 3
    "siamese": {
        "SimSiam": (67.7, {}),
        "no stop-gradient": (0.1, {"stop_gradient": False}),
        "no predictor": (0.1, {"predictor": "none"}),
        "predictor fixed at random": (1.5, {"predictor": "random"}),
        "predictor's rate constant": (68.1, {"fix_pred_lr": True}),
        "the same, no batch norm": (34.6, {"fix_pred_lr": True, "batch_norm": "none"}),
        "the same, batch norm in hidden layers": (67.4, {"fix_pred_lr": True, "batch_norm": "hidden"}),
        "the same, batch norm everywhere": ("unstable", {"fix_pred_lr": True, "batch_norm": "all"}),
        "untrained": (None, None),
    },
}  # fmt: skip


def base_of(what: str, row: str) -> Any:
    ablation = ABLATIONS[what]
    return RECIPES[f"{ablation.rows[row].method or ablation.method}/tiny"]


def recipe_of(what: str, row: str) -> Any:
    recipe = ABLATIONS[what].rows[row].of(base_of(what, row))
    assert recipe is not None
    return recipe


def test_each_published_ablation_is_checked() -> None:
    assert {*PUBLISHED, "augmentations"} == ABLATIONS.keys()


@pytest.mark.parametrize("what", PUBLISHED)
def test_rows_are_the_papers(what: str) -> None:
    """Names, order, numbers; and only what is named is changed: one budget for all."""
    ablation = ABLATIONS[what]
    assert list(ablation.rows) == list(PUBLISHED[what])
    for row, (published, changes) in PUBLISHED[what].items():
        assert ablation.rows[row].published == published, row
        base = base_of(what, row)
        if changes is None:
            assert ablation.rows[row].of(base) is None
            continue
        recipe = recipe_of(what, row)
        differing = {f.name for f in fields(recipe) if getattr(recipe, f.name) != getattr(base, f.name)}
        assert differing <= changes.keys(), row
        for name, value in changes.items():
            actual = [view.size for view in recipe.views] if name == "views" else getattr(recipe, name)
            assert actual == value, (row, name)


def test_a_row_says_all_that_it_is_about() -> None:
    """Also where the recipe has another value: the seven trainings of a base with layer norm are the same."""
    others: dict[str, dict[str, Any]] = {
        "byol-norm": {"projector_norm": "layer"}, "norm": {"encoder_norm": "group"},
        "siamese": {"stop_gradient": False, "fix_pred_lr": True, "batch_norm": "all", "predictor": "none"},
        "projector": {"projector": "linear"},
    }  # fmt: skip
    for what, other in others.items():
        for row, variant in ABLATIONS[what].rows.items():
            if variant.changes is not None:
                assert recipe_of(what, row) == variant.of(replace(base_of(what, row), **other)), row


# --------------------------------------------------------------------------------------------------- what is changed


def built(what: str, row: str) -> Any:
    torch.manual_seed(0)
    return replace(recipe_of(what, row), batch=N).build(CONTEXT).train()


def kinds(module: nn.Module) -> list[str]:
    return [type(child).__name__ for child in module.children()]


def test_projectors() -> None:
    heads = {row: built("projector", row).online.head for row in PUBLISHED["projector"] if row != "untrained"}
    assert type(heads["none"]) is nn.Identity
    for dim in (32, 128, 512):
        linear, nonlinear = heads[f"linear, dim = {dim}"], heads[f"non-linear, dim = {dim}"]
        assert kinds(linear) == ["Linear", "BatchNorm1d"] and linear[0].out_features == dim
        assert kinds(nonlinear) == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d"]
        assert nonlinear[3].out_features == dim


def test_dictionaries() -> None:
    for K in (128, 16384):
        method = built("dictionary", f"K = {K}")
        assert isinstance(method, MoCo) and method.queue.keys.shape[0] == K
    for row, m in (("m = 0", 0.0), ("m = 0.9", 0.9)):
        method, b = built("dictionary", row), batch(N, (24, 24))
        before = [p.clone() for p in method.target.parameters()]
        with torch.no_grad():
            for p in method.online.parameters():
                p.add_(1)
        method.after_step(b, method(b, 0.0), 0.0)
        for old, new, online in zip(before, method.target.parameters(), method.online.parameters(), strict=True):
            torch.testing.assert_close(new, m * old + (1 - m) * online)


def test_what_keeps_simsiam_from_collapsing() -> None:
    methods = {row: built("siamese", row) for row in PUBLISHED["siamese"] if row != "untrained"}
    assert all(isinstance(method, SimSiam) for method in methods.values())
    assert type(methods["no predictor"].predictor) is nn.Identity
    trained = {row: [p.requires_grad for p in method.predictor.parameters()] for row, method in methods.items()}
    assert not any(trained["predictor fixed at random"]) and all(trained["SimSiam"])
    rates = {row: method.param_groups()[1].fixed_lr for row, method in methods.items()}
    assert rates["SimSiam"] is None and rates["predictor's rate constant"] == RECIPES["simsiam/tiny"].lr
    norms = {
        row: sum(isinstance(m, nn.BatchNorm1d) for m in (*method.online.head, *method.predictor.modules()))
        for row, method in methods.items()
    }
    # Two layers of the projector, two of the predictor.
    assert norms["SimSiam"] == 3 and norms["the same, no batch norm"] == 0
    assert norms["the same, batch norm in hidden layers"] == 2 and norms["the same, batch norm everywhere"] == 4


def test_the_stop_gradient() -> None:
    """Without it the gradient is that of the distance of both sides."""
    b = batch(N, (24, 24))
    stopped, free = built("siamese", "SimSiam"), built("siamese", "no stop-gradient")
    losses = []
    for method in (stopped, free):
        seen: list[torch.Tensor] = []
        method.online.register_forward_hook(
            lambda module, args, out, seen=seen: (out.retain_grad(), seen.append(out))[1]
        )
        loss = method(b, 0.0).loss
        loss.backward()
        losses.append(loss.item())
        z1, z2 = (z.detach().requires_grad_() for z in seen)
        p1, p2 = method.predictor(z1), method.predictor(z2)
        t1, t2 = (z1.detach(), z2.detach()) if method is stopped else (z1, z2)
        cosine = nn.functional.cosine_similarity
        (-(cosine(p1, t2).mean() + cosine(p2, t1).mean()) / 2).backward()
        for z, own in zip(seen, (z1, z2), strict=True):
            torch.testing.assert_close(z.grad, own.grad, atol=1e-6, rtol=1e-4)
    assert losses[0] == losses[1]


def test_norms_of_byol() -> None:
    def counts(row: str) -> tuple[bool, bool, bool, bool]:
        """Whether the encoder has batch norm, standardised kernels; the heads batch norm, standardised weights."""
        method = built("norm", row)
        assert isinstance(method, BYOL)
        encoder = [*method.online.encoder.modules()]
        heads = [*method.online.head.modules(), *method.predictor.modules()]
        return (
            any(isinstance(m, nn.BatchNorm2d) for m in encoder), any(isinstance(m, WSConv2d) for m in encoder),
            any(isinstance(m, nn.BatchNorm1d) for m in heads), any(isinstance(m, WSLinear) for m in heads),
        )  # fmt: skip

    assert counts("batch norm") == (True, False, True, False)
    assert counts("group norm everywhere") == (False, True, False, True)
    assert counts("group norm in the encoder only") == (False, True, True, False)
    assert counts("group norm in the heads only") == (True, False, False, True)


@pytest.mark.parametrize(("row", "kind"), [("SwAV, multi-crop", SwAV), ("SimCLR, multi-crop", SimCLR)])
def test_multi_crop_trains(row: str, kind: type) -> None:
    recipe = recipe_of("multi-crop", row)
    method = built("multi-crop", row)
    assert isinstance(method, kind)
    assert method(batch(N, [view.size for view in recipe.views]), 0.0).loss.isfinite()
    full, small = recipe.views[0], recipe.views[-1]
    assert (full.crop_min, small.crop_min, small.crop_max) == pytest.approx((0.2, 0.1, 0.3))


def test_multi_crop_of_whole_images_and_of_published_crops() -> None:
    """The digits' views have the whole image; the published recipe of SwAV keeps its own six small crops."""
    digits = ABLATIONS["multi-crop"].rows["SwAV, multi-crop"].of(RECIPES["swav/digits"])
    imagenet = ABLATIONS["multi-crop"].rows["SwAV, multi-crop"].of(RECIPES["swav/imagenet"])
    assert digits is not None and imagenet is not None
    assert [(v.size, v.crop_min, v.crop_max) for v in digits.views] == [(32, 1.0, 1.0)] * 2 + [(21, 0.5, 1.0)] * 2
    assert imagenet == RECIPES["swav/imagenet"]


# ------------------------------------------------------------------------------------------------------- augmentations


def moved(row: str, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both views of images [n, 3, 24, 24]."""
    first, second = recipe_of("augmentations", row).views
    sizes = torch.tensor([[24, 24]]).expand(len(images), 2)
    views = [
        augment(images, draw(view, sizes, channels=3, seed=0, time=0, index=torch.arange(len(images)), v=v))
        for v, view in enumerate((first, second))
    ]
    return views[0], views[1]


def test_the_matrix_has_each_transformation_and_each_pair() -> None:
    """SimCLR, Fig. 5: 55.8 with crop and colour."""
    names = ["crop", "colour", "blur", "rotation"]
    pairs = [f"{a} + {b}" for i, a in enumerate(names) for b in names[i + 1 :]]
    rows = ABLATIONS["augmentations"].rows
    assert list(rows) == [*names, *pairs, "untrained"]
    assert {name: row.published for name, row in rows.items() if row.published is not None} == {"crop + colour": 55.8}


def test_each_transformation_changes_the_first_view_and_nothing_the_second() -> None:
    g = torch.Generator().manual_seed(0)
    images = (255 * torch.rand(64, 3, 24, 24, generator=g)).byte()
    plain = images.float() / 255
    sums = {}
    for row in ("crop", "colour", "blur", "rotation"):
        first, second = moved(row, images)
        torch.testing.assert_close(second, plain, atol=1e-6, rtol=0)
        same = (first - plain).abs().amax((1, 2, 3)) < 1e-6
        sums[row] = int(same.sum())
    # Probabilities: a crop and a rotation always, colours 1 - 0.2 x 0.8, blur 0.5.
    assert sums["crop"] == sums["rotation"] == 0
    assert 3 <= sums["colour"] <= 20 and 20 <= sums["blur"] <= 44


def test_a_pair_has_the_numbers_of_both() -> None:
    for row, variant in ABLATIONS["augmentations"].rows.items():
        if variant.changes is None:
            continue
        first, second = recipe_of("augmentations", row).views
        names = row.split(" + ")
        present = {
            "crop": (first.crop_min, first.flip_p) == (0.08, 0.5),
            "colour": (first.jitter_p, first.brightness, first.contrast, first.saturation, first.hue, first.gray_p)
            == (0.8, 0.4, 0.4, 0.4, 0.1, 0.2),
            "blur": (first.blur_p, first.blur_span, first.sigma_min, first.sigma_max) == (0.5, 0.1, 0.1, 2.0),
            "rotation": first.degrees == 180,
        }
        assert [name for name, there in present.items() if there] == names
        assert (second.crop_min, second.flip_p, second.jitter_p, second.gray_p, second.blur_p, second.degrees) == (
            1.0, 0.0, 0.0, 0.0, 0.0, 0.0,
        )  # fmt: skip
        assert first.size == second.size == 24
