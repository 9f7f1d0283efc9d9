"""The published ablations, row by row: what is changed, and the result in print.

A published number stands here only where the text or a table of the paper prints it; bars and curves are not read off.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

from contrastkit.ablation.views import TRANSFORMATIONS, Transformed, multi_crop, two_crops
from contrastkit.methods import Recipe


@dataclass(frozen=True)
class Variant:
    """One row of an ablation.

    Attributes:
        changes: fields of the recipe and their values; a function is called with the recipe. None: not trained.
        published: accuracy in %, or the paper's word where there is none; None: not in print.
        method: whose recipe is changed, if it is not the ablation's first.
    """

    changes: Mapping[str, Any] | None
    published: float | str | None = None
    method: str | None = None

    def of(self, recipe: Recipe) -> Recipe | None:
        """The recipe of this row; None is the untrained encoder."""
        if self.changes is None:
            return None
        changes = {name: value(recipe) if callable(value) else value for name, value in self.changes.items()}
        return replace(recipe, **changes)


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """A published ablation.

    Attributes:
        method: of the rows that name none.
        claim: what the source concludes.
        unit: what the published numbers are.
        rows: by name. In "lines", ``SERIES, X = 3`` and ``X = 3`` are points over X; in a "matrix", ``A`` and ``A + B``
            are its cells.
        colour: whether grey images have nothing to change.
    """

    title: str
    method: str
    claim: str
    source: str
    unit: str
    rows: Mapping[str, Variant]
    chart: Literal["bars", "lines", "matrix"] = "bars"
    colour: bool = False


UNTRAINED = {"untrained": Variant(None)}


def _heads(projector: str, predictor: str, **others: Any) -> dict[str, Any]:
    return {"projector_norm": projector, "predictor_norm": predictor, **others}


def _quarter(recipe: Recipe) -> float:
    """A fortieth in the published code. With BYOL's rate or momentum the contrastive loss stays at chance; on the
    embedded digits it does so at any rate from 0.03 to 0.5."""
    return recipe.lr / 4


# https://untitled-ai.github.io/understanding-self-supervised-contrastive-learning.html, "Performance for each
# variation"; half of STL-10's test set, after a fit to the other half. Its code (imbue-ai/self_supervised,
# train_blog.py) uses SGD at 0.8, and 0.02 with 65,536 keys for the contrastive loss. By its Appendices C and D, BYOL
# without batch norm in the heads does learn if trained longer, or with LARS.
BYOL_NORM = Ablation(
    title="BYOL and batch norm in its heads",
    method="byol",
    claim="without batch norm in projector and predictor, BYOL does no better than a random encoder",
    source="Fetterman & Albrecht 2020",
    unit="linear top-1, STL-10, ResNet-18, 10 epochs, batch 256",
    rows={
        "contrastive loss": Variant(_heads("none", "none", negatives=4096, m=0.99, lr=_quarter), 44.1),
        "BYOL": Variant(_heads("batch", "batch"), 57.7),
        "batch norm in the projector only": Variant(_heads("batch", "none"), 55.3),
        "batch norm in the predictor only": Variant(_heads("none", "batch"), 48.0),
        "no norm": Variant(_heads("none", "none"), 28.3),
        "layer norm": Variant(_heads("layer", "layer"), 29.4),
        "random": Variant(None, 28.8),
    },
)

# The authors' reply standardises weights and has group norm in encoder, projector and predictor; the mixed rows are
# ours.
NORM = Ablation(
    title="BYOL without batch statistics",
    method="byol",
    claim="group norm with weight standardization, which knows no batch, does nearly as well as batch norm",
    source="Richemond et al. 2020, arXiv:2010.10241",
    unit="linear top-1, ImageNet, ResNet-50, 1000 epochs",
    rows={
        "batch norm": Variant(_heads("batch", "batch", encoder_norm="batch"), 74.3),
        "group norm everywhere": Variant(_heads("group", "group", encoder_norm="group"), 73.9),
        "group norm in the encoder only": Variant(_heads("batch", "batch", encoder_norm="group")),
        "group norm in the heads only": Variant(_heads("group", "group", encoder_norm="batch")),
        **UNTRAINED,
    },
)

# Fig. 8 has the dimensions 32 to 2048, as bars without numbers.
PROJECTOR = Ablation(
    title="SimCLR's projector",
    method="simclr-v1",
    claim="a non-linear projector is better than a linear one (+3 %), and much better than none (> 10 %), whatever its "
    "dimension",
    source="Chen et al. 2020, arXiv:2002.05709, Sec. 4.2, Fig. 8",
    unit="linear top-1, ImageNet, ResNet-50, 100 epochs",
    rows={
        "none": Variant({"projector": "none"}),
        **{f"linear, dim = {dim}": Variant({"projector": "linear", "dim": dim}) for dim in (32, 128, 512)},
        **{f"non-linear, dim = {dim}": Variant({"projector": "nonlinear", "dim": dim}) for dim in (32, 128, 512)},
        **UNTRAINED,
    },
    chart="lines",
)

# Fig. 5 also has cutout, Sobel and noise. The number is that of one order of crop and colour; the other cells are not
# repeated here.
AUGMENTATIONS = Ablation(
    title="SimCLR's augmentations, alone and in pairs",
    method="simclr-v1",
    claim="no single transformation suffices; one pair stands out: random crop and colour distortion",
    source="Chen et al. 2020, arXiv:2002.05709, Sec. 3.1, Fig. 5",
    unit="linear top-1, ImageNet, ResNet-50, 100 epochs, one branch transformed",
    rows={
        **{name: Variant({"views": Transformed(name)}) for name in TRANSFORMATIONS},
        **{
            " + ".join(pair): Variant({"views": Transformed(*pair)}, 55.8 if pair == ("crop", "colour") else None)
            for pair in combinations(TRANSFORMATIONS, 2)
        },
        **UNTRAINED,
    },
    chart="matrix",
    colour=True,
)


def _crops(views: Callable[[Recipe], Any], published: float, method: str) -> Variant:
    return Variant({"views": views}, published, method)


# The paper's crops are 2 x 224, or 2 x 160 and 4 x 96 of about as many pixels; ours add small crops to the full-size
# ones, so that they cost more.
MULTI_CROP = Ablation(
    title="SwAV and SimCLR with multi-crop",
    method="swav",
    claim="multi-crop improves every method without labels by 2 to 4 %, those that cluster the most",
    source="Caron et al. 2020, arXiv:2006.09882, Sec. 4.2, Fig. 3",
    unit="linear top-1, ImageNet, ResNet-50, 400 epochs",
    rows={
        "SwAV, two crops": _crops(two_crops, 70.1, "swav"),
        "SwAV, multi-crop": _crops(multi_crop, 74.1, "swav"),
        "SimCLR, two crops": _crops(two_crops, 68.2, "simclr-v1"),
        "SimCLR, multi-crop": _crops(multi_crop, 70.6, "simclr-v1"),
        **UNTRAINED,
    },
)

# The text has K = 4096 with m = 0.999, Table 1 60.6 with K = 65536; Fig. 3 is a plot. Here K is varied at the recipe's
# m, and m at the recipe's K.
DICTIONARY = Ablation(
    title="MoCo's dictionary",
    method="moco-v1",
    claim="a larger dictionary is better (60.6 with K = 65536), and it needs an encoder that moves slowly: without "
    "momentum, training fails",
    source="He et al. 2019, arXiv:1911.05722, Sec. 4.1, Fig. 3 and the table of momenta",
    unit="linear top-1, ImageNet, ResNet-50, 200 epochs",
    rows={
        **{f"K = {2**n}": Variant({"K": 2**n}, 59.0 if n == 12 else None) for n in range(7, 15)},
        "m = 0": Variant({"m": 0.0}, "fails"),
        "m = 0.9": Variant({"m": 0.9}, 55.2),
        "m = 0.99": Variant({"m": 0.99}, 57.8),
        "m = 0.999": Variant({"m": 0.999}, 59.0),
        "m = 0.9999": Variant({"m": 0.9999}, 58.9),
        **UNTRAINED,
    },
    chart="lines",
)


def _siamese(**changes: Any) -> dict[str, Any]:
    """SimSiam, whose predictor's learning rate decays: the baseline of Fig. 2 and Table 1."""
    baseline = {"stop_gradient": True, "predictor": "trained", "fix_pred_lr": False, "batch_norm": "default"}
    return baseline | changes


SIAMESE = Ablation(
    title="What keeps SimSiam from collapsing",
    method="simsiam",
    claim="without the stop-gradient, or without a trained predictor, it collapses; batch norm helps, but is not what "
    "prevents it",
    source="Chen & He 2020, arXiv:2011.10566, Sec. 4, Fig. 2, Tables 1 and 3",
    unit="linear top-1, ImageNet, ResNet-50, 100 epochs",
    rows={
        "SimSiam": Variant(_siamese(), 67.7),
        "no stop-gradient": Variant(_siamese(stop_gradient=False), 0.1),
        "no predictor": Variant(_siamese(predictor="none"), 0.1),
        "predictor fixed at random": Variant(_siamese(predictor="random"), 1.5),
        "predictor's rate constant": Variant(_siamese(fix_pred_lr=True), 68.1),
        "the same, no batch norm": Variant(_siamese(fix_pred_lr=True, batch_norm="none"), 34.6),
        "the same, batch norm in hidden layers": Variant(_siamese(fix_pred_lr=True, batch_norm="hidden"), 67.4),
        "the same, batch norm everywhere": Variant(_siamese(fix_pred_lr=True, batch_norm="all"), "unstable"),
        **UNTRAINED,
    },
)

ABLATIONS: dict[str, Ablation] = {
    "projector": PROJECTOR,
    "augmentations": AUGMENTATIONS,
    "multi-crop": MULTI_CROP,
    "dictionary": DICTIONARY,
    "siamese": SIAMESE,
    "byol-norm": BYOL_NORM,
    "norm": NORM,
}
