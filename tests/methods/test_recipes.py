"""The papers' hyper-parameters, typed in from the papers and their official code, against the recipes."""

import pytest

from contrastkit import names, views
from contrastkit.errors import UserError
from contrastkit.methods import RECIPES, choose_row

# recipe, where it is published, its numbers
PUBLISHED = [
    (
        "moco-v1/imagenet",
        "arXiv:1911.05722, Sec. 3.1, 3.3 and 4.1; main_moco.py",
        {
            "encoder": "resnet50", "epochs": 200, "batch": 256, "optimizer": "sgd", "lr": 0.03, "momentum": 0.9,
            "weight_decay": 1e-4, "schedule": "step", "milestones": (120 / 200, 160 / 200), "gamma": 0.1,
            "warmup_epochs": 0, "K": 65536, "m": 0.999, "tau": 0.07, "dim": 128, "hidden": 0, "bn_groups": 8,
            "symmetric": False,
        },
    ),
    (
        "moco-v2/imagenet",
        "arXiv:2003.04297, Sec. 3 and Table 1; main_moco.py --mlp --moco-t 0.2 --aug-plus --cos",
        {
            "encoder": "resnet50", "epochs": 200, "batch": 256, "optimizer": "sgd", "lr": 0.03, "momentum": 0.9,
            "weight_decay": 1e-4, "schedule": "cosine", "lr_per_epoch": True, "K": 65536, "m": 0.999, "tau": 0.2,
            "dim": 128, "hidden": 2048, "bn_groups": 8,
        },
    ),
    (
        "moco-v1/32",
        "facebookresearch/moco, branch colab-notebook",
        {
            "encoder": "resnet18", "epochs": 200, "batch": 512, "lr": 0.06, "momentum": 0.9, "weight_decay": 5e-4,
            "schedule": "cosine", "K": 4096, "m": 0.99, "tau": 0.1, "dim": 128, "hidden": 0, "bn_groups": 8,
            "symmetric": False,
        },
    ),
]  # fmt: skip

VIEWS = [
    ("moco-v1", {"size": 224, "crop_min": 0.2, "crop_max": 1.0, "flip_p": 0.5, "jitter_p": 1.0, "brightness": 0.4,
                 "contrast": 0.4, "saturation": 0.4, "hue": 0.4, "gray_p": 0.2, "gray_first": True, "blur_p": 0.0}),
    ("moco-v2", {"size": 224, "crop_min": 0.2, "crop_max": 1.0, "flip_p": 0.5, "jitter_p": 0.8, "brightness": 0.4,
                 "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "gray_p": 0.2, "gray_first": False, "blur_p": 0.5,
                 "sigma_min": 0.1, "sigma_max": 2.0}),
    ("moco-cifar", {"size": 32, "crop_min": 0.08, "flip_p": 0.5, "jitter_p": 0.8, "hue": 0.1, "gray_p": 0.2,
                    "blur_p": 0.0}),
    ("digits", {"flip_p": 0.0, "jitter_p": 0.0, "gray_p": 0.0}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "source", "numbers"), PUBLISHED, ids=[row[0] for row in PUBLISHED])
def test_recipe_is_the_published_one(name: str, source: str, numbers: dict[str, object]) -> None:
    found = {key: getattr(RECIPES[name], key) for key in numbers}
    assert found == numbers, source


@pytest.mark.parametrize(("name", "numbers"), VIEWS, ids=[row[0] for row in VIEWS])
def test_views_are_the_published_ones(name: str, numbers: dict[str, object]) -> None:
    for view in views.VIEWS[name]:
        assert {key: getattr(view, key) for key in numbers} == numbers


def test_names_stand_for_the_tables() -> None:
    assert set(names.METHODS.values()) == {name.split("/")[0] for name in RECIPES}
    assert set(names.SUMMARIES) == set(names.METHODS)
    assert set(names.VIEW_NAMES) == set(views.VIEWS)


@pytest.mark.parametrize(
    ("given", "row"),
    [
        ({"size": 224, "encoder": None, "digits": False}, "moco-v2/imagenet"),
        ({"size": 65, "encoder": None, "digits": False}, "moco-v2/imagenet"),
        ({"size": 64, "encoder": None, "digits": False}, "moco-v2/32"),
        ({"size": 32, "encoder": "resnet18", "digits": True}, "moco-v2/32"),
        ({"size": 32, "encoder": "tiny", "digits": False}, "moco-v2/tiny"),
        ({"size": 32, "encoder": None, "digits": True}, "moco-v2/digits"),
        ({"size": 32, "encoder": None, "digits": True, "row": "tiny"}, "moco-v2/tiny"),
    ],
)
def test_the_images_and_the_encoder_choose_the_row(given: dict[str, object], row: str) -> None:
    assert choose_row("moco", **given) == row  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "row", "says"),
    [("mocco", None, "did you mean 'moco'"), ("moco-v2", "tinny", "did you mean 'tiny'")],
)
def test_an_unknown_name_suggests_the_nearest(method: str, row: str | None, says: str) -> None:
    with pytest.raises(UserError, match=says):
        choose_row(method, size=32, encoder=None, digits=False, row=row)
