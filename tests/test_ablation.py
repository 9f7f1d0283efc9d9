"""The rows of the batch-norm debate against the published table."""

from dataclasses import fields, replace

from contrastkit.ablation import BYOL_NORM, byol_norm_recipes
from contrastkit.methods import RECIPES
from contrastkit.methods.byol import BYOLRecipe


def test_the_debates_seven_rows() -> None:
    published = {
        # name: projector's norm, predictor's norm, contrastive, published accuracy (Fetterman & Albrecht 2020)
        "contrastive loss": ("none", "none", True, 44.1),
        "BYOL": ("batch", "batch", False, 57.7),
        "batch norm in the projector only": ("batch", "none", False, 55.3),
        "batch norm in the predictor only": ("none", "batch", False, 48.0),
        "no norm": ("none", "none", False, 28.3),
        "layer norm": ("layer", "layer", False, 29.4),
    }
    tiny = RECIPES["byol/tiny"]
    assert isinstance(tiny, BYOLRecipe)
    base = replace(tiny, projector_norm="layer", epochs=7)
    actual = byol_norm_recipes(base)
    assert list(actual) == [*published, "random"] == list(BYOL_NORM)
    assert actual["random"] is None and BYOL_NORM["random"][1] == 28.8
    for name, (projector, predictor, contrastive, accuracy) in published.items():
        row = actual[name]
        assert row is not None and BYOL_NORM[name][1] == accuracy
        assert (row.projector_norm, row.predictor_norm, row.negatives > 0) == (projector, predictor, contrastive)
        differ = {f.name for f in fields(row) if getattr(row, f.name) != getattr(base, f.name)}
        own = {"negatives", "m", "lr"} if contrastive else set()  # published with its own learning rate
        assert differ <= {"projector_norm", "predictor_norm"} | own, "one budget for all"
