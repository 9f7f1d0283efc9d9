r"""CRD: Contrastive Representation Distillation (Tian et al. 2019, arXiv:1910.10699), beside KD, the distillation of
Hinton et al. 2015 (arXiv:1503.02531).

.. math::
    L = r \, H(y, \sigma(s)) + a \, T^2 \, KL(\sigma(t / T) \,\|\, \sigma(s / T)) + b \, (L_{S \to T} + L_{T \to S})

    L_{S \to T} = -\log h(g_S, g_T) - \sum_{k=1}^N \log (1 - h(g_S, g_T^k)) \qquad
    h(g_S, g_T) = \frac{e^{g_S \cdot g_T / \tau}}{e^{g_S \cdot g_T / \tau} + N / M}

s and t are the logits of student and teacher, g_S and g_T linear embeddings of their features before the last layer, on
the unit sphere; both embeddings are trained, the teacher is not. The student's embedding of an image looks up the
teacher's in a memory bank of all M images, among N = K rows of other images, and the teacher's the student's in another
one (Eqs. 6 to 18). The look-up is CMC's (:mod:`contrastkit.methods.cmc`): NCE with a constant Z for each bank. By the
labels, images of the same class are no negatives ("exact" in the official code). Without labels, all images are.

Published as rows: KD alone (``kd``), both (``crd+kd``), and the student alone (``ce``) to compare with.

Where we depart from the official code (HobbitLong/RepDistiller): negatives are drawn with replacement, which makes a
draw a function of seed, step and image and needs no permutation of the set for each image; the banks are written after
the step instead of before backward; NCE's ratios are exact (no 1e-7 in their denominators); images are normalised with
ImageNet's statistics; CIFAR's ResNets have shortcuts without parameters; batch norm sees the images of all processes.
"""

from dataclasses import dataclass, replace
from math import log
from typing import Annotated, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit import dist
from contrastkit.augment import VIEWS
from contrastkit.bounds import COUNT, NOT_NEGATIVE, POSITIVE, SHARE
from contrastkit.data.source import Source
from contrastkit.errors import UserError
from contrastkit.losses import knowledge_distillation
from contrastkit.methods.base import Recipe
from contrastkit.methods.context import BuildContext
from contrastkit.methods.distillation import Distillation, DistillationRecipe
from contrastkit.methods.small import small
from contrastkit.optim import ParamGroup
from contrastkit.parts.dictionary import MemoryBank, OtherClasses
from contrastkit.parts.heads import mlp
from contrastkit.types import Batch, Step


@dataclass(frozen=True, kw_only=True)
class CRDRecipe(DistillationRecipe):
    """CRD's hyper-parameters, with the names of the official code's options or, of the banks, CMC's."""

    weighted = {"a": ("T",), "b": ("K", "tau", "m", "dim", "negatives")}

    r: Annotated[float, "weight of the cross-entropy with the labels (README -r)", NOT_NEGATIVE] = 1.0
    a: Annotated[float, "weight of the KL divergence from the teacher's outputs (README -a)", NOT_NEGATIVE] = 0.0
    b: Annotated[float, "weight of the contrast of features (README -b)", NOT_NEGATIVE] = 0.8
    T: Annotated[float, "temperature of the outputs compared (--kd_T)", POSITIVE] = 4.0
    K: Annotated[int, "negatives drawn from each bank (--nce_k)", COUNT] = 16384
    tau: Annotated[float, "temperature of the contrast (--nce_t)", POSITIVE] = 0.07
    m: Annotated[float, "momentum of the banks' rows (--nce_m)", SHARE] = 0.5
    dim: Annotated[int, "dimensions of an embedding (--feat_dim)", COUNT] = 128
    negatives: Annotated[
        Literal["other", "all"], "images that are negatives: of other classes (--mode exact), or all, without labels"
    ] = "other"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.r == self.a == 0:
            raise UserError("with --r 0 and --a 0 nothing trains the student's last layer: raise one of them")

    @property
    def uses_labels(self) -> bool:
        return self.r > 0 or (self.b > 0 and self.negatives == "other")

    def check(self, source: Source) -> None:
        """Also that there are the labels that the loss asks for."""
        super().check(source)
        asks = self.uses_labels
        labels = torch.full((len(source),), -1) if source.labels is None else source.labels
        if asks and (missing := int((labels < 0).sum())):
            raise UserError(
                f"{missing:,} of the {len(source):,} images of {source.name} have no label: distil without labels by "
                f"--r 0 --a 1{' --negatives all' if self.b else ''}"
            )
        if asks and len(labels.unique()) < 2:
            raise UserError(f"all images of {source.name} have the same label: give images of at least two classes")

    def build(self, context: BuildContext) -> "CRD":
        if self.b > 0:
            MemoryBank.check(context.images, self.K)
        return CRD(self, context)


@final
class CRD(Distillation[tuple[Tensor, Tensor] | None]):
    """The three losses; see the module docstring."""

    labels: Tensor | None

    def __init__(self, recipe: CRDRecipe, context: BuildContext) -> None:
        super().__init__(recipe, context)
        self.recipe, self.seed = recipe, context.seed
        self.register_buffer("labels", context.labels, persistent=False)
        if recipe.b > 0:
            self.embed_s = mlp(self.online.encoder.dim, recipe.dim)
            self.embed_t = mlp(self.teacher.dim, recipe.dim)
            generator = torch.Generator().manual_seed(context.seed)
            self.bank = MemoryBank(context.images, 2, recipe.dim, generator=generator)
            labels = context.labels if recipe.negatives == "other" else None
            self.others = None if labels is None else OtherClasses(labels)

    def forward(self, batch: Batch, progress: float) -> Step[tuple[Tensor, Tensor] | None]:
        r, (x,) = self.recipe, batch.views
        f_s = self.online.encoder(x)
        s = self.online.head(f_s).float()
        zero, memory, logs = s.new_zeros(()), None, dict[str, Tensor]()
        if r.a or r.b:
            f_t, t = self.teacher(x)
            logs["agreement"] = (s.argmax(1) == t.argmax(1)).float().mean()
        ce = kd = crd = zero
        if r.r:
            assert self.labels is not None
            y = self.labels[batch.index]
            ce = F.cross_entropy(s, y)
            logs["top1"] = (s.argmax(1) == y).float().mean()
        if r.a:
            kd = knowledge_distillation(s, t, T=r.T).mean()
        if r.b:
            crd, memory = self._contrast(f_s, f_t, batch.index, progress)
        logs |= {name: loss.detach() for name, loss in {"ce": ce, "kd": kd, "crd": crd}.items() if loss is not zero}
        return Step(loss=r.r * ce + r.a * kd + r.b * crd, memory=memory, logs=logs)

    def _contrast(
        self, f_s: Tensor, f_t: Tensor, index: Tensor, progress: float
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The sum of both look-ups, and what the banks will store. Slot 0 holds the student's embeddings, which the
        teacher's look up, slot 1 the teacher's."""
        r = self.recipe
        z = torch.stack([F.normalize(self.embed_s(f_s).float()), F.normalize(self.embed_t(f_t).float())], 1)
        drawn = self.bank.draw(index, r.K, seed=self.seed, progress=progress, others=self.others)
        loss, _, Z = self.bank.nce(z.flip(1), drawn, tau=r.tau)
        return loss.mean(0).sum(), (dist.gather(z.detach()), Z)

    @torch.no_grad()
    def after_step(self, batch: Batch, step: Step[tuple[Tensor, Tensor] | None], progress: float) -> None:
        if step.memory is not None:
            z, Z = step.memory
            self.bank.update(dist.gather(batch.index), z, m=self.recipe.m, Z=Z[None])

    def param_groups(self) -> list[ParamGroup]:
        return [ParamGroup(params=list(self.parameters()))]

    @property
    def chance_loss(self) -> float | None:
        r = self.recipe
        if r.a:
            return None  # depends on the teacher
        contrast = 2 * MemoryBank.chance_loss(r.K, nce=True) if r.b else 0
        return r.r * log(self.teacher.n_classes) + r.b * contrast


# scripts/run_cifar_distill.sh and train_student.py's defaults, for CIFAR-100: of the published pairs the one that needs
# no ResNet wider than CIFAR's, ResNet-110 -> ResNet-20; images padded by 4 pixels, cropped and flipped.
CIFAR = CRDRecipe(
    encoder="cifar-resnet20",
    epochs=240,
    batch=64,
    lr=0.05,
    weight_decay=5e-4,
    schedule="step",
    milestones=(150 / 240, 180 / 240, 210 / 240),
    lr_per_epoch=True,
    views=VIEWS["crd-32"],
)
# Sec. 4, ImageNet, ResNet-34 -> ResNet-18: PyTorch's own training of 100 epochs; the losses' numbers are CIFAR's.
IMAGENET = replace(
    CIFAR,
    encoder="resnet18",
    epochs=100,
    batch=256,
    lr=0.1,
    weight_decay=1e-4,
    milestones=(0.3, 0.6, 0.9),
    views=VIEWS["cmc"],
)

# For two CPU cores.
TINY = replace(
    CIFAR,
    encoder="tiny",
    epochs=24,
    lr=0.05,
    schedule="cosine",
    warmup_epochs=1.0,
    lr_per_epoch=False,
    K=1024,
)


def losses(name: str, row: CRDRecipe) -> dict[str, Recipe]:
    """A row with each of the losses that the README compares, and one that needs no labels."""
    return {
        f"crd/{name}": row,
        f"crd/{name}-kd": replace(row, r=0.1, a=0.9, b=0.0),
        f"crd/{name}-crd+kd": replace(row, a=1.0),
        f"crd/{name}-ce": replace(row, b=0.0),
        f"crd/{name}-unlabelled": replace(row, r=0.0, a=1.0, negatives="all"),
    }


RECIPES: dict[str, Recipe] = {
    **losses("imagenet", IMAGENET),
    **losses("32", CIFAR),
    **losses("small", small(TINY, views=tuple(replace(view, size=96, crop_min=0.2) for view in VIEWS["cmc"]))),
    **losses("tiny", TINY),
}
