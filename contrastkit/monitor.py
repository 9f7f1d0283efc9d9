"""Is the training healthy? Numbers that reveal collapse before the accuracy does, and a line that says what to change.

The numbers describe the outputs z that the loss compares, not the encoder's features, which are non-negative and so
share a common direction: the thresholds below would not apply.
"""

import contextlib
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastkit.augment import View, Window
from contrastkit.data import DataSet, Loader, Source
from contrastkit.data.dataset import split
from contrastkit.evaluate.features import encode
from contrastkit.evaluate.neighbours import knn_accuracy
from contrastkit.methods import Method
from contrastkit.parts.mode import evaluating
from contrastkit.precision import Autocast
from contrastkit.rng import permutation

NUMBERS = ("std", "rank", "alignment", "uniformity", "loss", "knn")  # the results of an evaluation
IMAGES = 1024  # for the collapse numbers: enough for effective ranks of a few hundred
BANK, QUERIES = 4096, 1024  # training images for kNN

# An output is the sum of a part common to all and an individual part; std^2, in units of 1/d, is the individual share
# of its squared length: below 0.2, all outputs are the same vector up to 4 %.
STD = 0.2
RANK = 2.0  # less variety than two directions
# One evaluation is not enough: an untrained network starts at a std of 0.13 (measured: ``tiny`` and its head on
# CIFAR-10) and leaves it within a few steps. Numbers that grow by this factor between evaluations are recovering.
RISE = 1.1
# Nats below chance: the positive is then at most e^0.05 = 1.05 times as likely as a negative.
ABOVE_CHANCE = 0.05
# A loss below this share of chance's, while kNN has gained less than GAIN since the first evaluation: the task is
# solved without telling images apart. A leak through batch norm looks like that (MoCo, Sec. 3.3, App. A.9).
TOO_EASY, GAIN = 0.1, 0.01
STEPS = 100  # in which a classifier may well be at chance yet


@torch.no_grad()
def collapse(z1: Tensor, z2: Tensor) -> dict[str, float]:
    """Spread over the unit sphere of the outputs for two views of the same N images.

    Args:
        z1, z2: float [N, d], one row per image; normalised here.

    Returns:
        ``std``: standard deviation of each dimension over the images, mean over dimensions, in units of 1/sqrt(d). Near
        1 when spread evenly over the sphere, 0 when collapsed (SimSiam: Chen & He 2020, Sec. 4.1, Fig. 2).
        ``rank``: effective rank of the first view's matrix, the exponential of the entropy of its normalised singular
        values (Roy & Vetterli 2007; RankMe: Garrido et al. 2022, Eq. 1). 1 when collapsed, at most min(N, d). The mean
        is not subtracted, or a collapse to one point plus noise would count as full rank.
        ``alignment``: mean of ||z1 - z2||^2 over images; 0 is perfect (Wang & Isola 2020, Sec. 4, alpha = 2).
        ``uniformity``: log of the mean of exp(-2 ||x - y||^2) over pairs of images, mean of the two views (same place,
        t = 2); 0 when collapsed, near -4 when spread evenly over many dimensions, never below -8.
    """
    if not (z1.isfinite().all() and z2.isfinite().all()):
        return dict.fromkeys(NUMBERS[:4], math.nan)
    z1, z2 = F.normalize(z1.float(), dim=1), F.normalize(z2.float(), dim=1)
    p = torch.linalg.svdvals(z1)
    p = p / p.sum()
    return {
        "std": (z1.std(dim=0).mean() * math.sqrt(z1.shape[1])).item(),
        "rank": torch.special.entr(p).sum().exp().item(),
        "alignment": (z1 - z2).pow(2).sum(dim=1).mean().item(),
        "uniformity": sum(F.pdist(z).pow(2).mul(-2).exp().mean().log().item() for z in (z1, z2)) / 2,
    }


def diagnose(
    history: Sequence[dict[str, float]],
    *,
    chance_loss: float | None = None,
    can_collapse: bool = True,
    labels: bool = False,
    steps: float = math.inf,
) -> str | None:
    """One line that says what to change when the training is failing; None if it is healthy, or after one evaluation.

    Args:
        history: the evaluations so far, oldest first: those of :func:`collapse`, ``loss``, and ``knn`` given labels.
        chance_loss: the loss of a method that distinguishes nothing, log(K + 1); None if undefined.
        can_collapse: see :attr:`contrastkit.methods.Method.can_collapse`.
        labels: whether the loss looks at labels: such a method has no temperature or target to change.
        steps: of the training so far.
    """
    if not history:
        return None
    now = history[-1]
    if not all(map(math.isfinite, now.values())):
        return "the outputs are not finite: lower the learning rate (--lr), or clip the gradient (--clip-norm)"
    if len(history) < 2:
        return None
    before = history[-2]
    if can_collapse and now["std"] < min(STD, RISE * before["std"]):
        return (
            f"collapse: the outputs hardly differ (std {now['std']:.2f}/sqrt(d), healthy is near 1): lower the "
            "learning rate (--lr) or add warm-up (--warmup-epochs); with a momentum target, raise its momentum (--m)"
        )
    if can_collapse and now["rank"] < min(RANK, RISE * before["rank"]):
        return (
            f"collapse: the outputs lie along {now['rank']:.1f} directions (effective rank): raise the temperature "
            "(--tau) or lower the learning rate (--lr)"
        )
    if chance_loss is None:
        return None
    if min(now["loss"], before["loss"]) > chance_loss - ABOVE_CHANCE:
        if labels and steps < STEPS:
            return None
        stuck = f"stuck: the loss {now['loss']:.2f} is at chance level, {chance_loss:.2f}: "
        if labels:
            return f"{stuck}change the learning rate (--lr), or train for more epochs (--epochs)"
        return (
            f"{stuck}lower the temperature (--tau), "
            "raise the target's momentum (--m) if its keys change too fast, or change the learning rate (--lr)"
        )
    if labels:  # which images are told apart by: a low loss is the aim
        return None
    easy = now["loss"] < TOO_EASY * chance_loss
    if easy and len(history) > 2 and "knn" in now and now["knn"] < history[0].get("knn", 0.0) + GAIN:
        return (
            f"too easy: the loss fell to {now['loss']:.2f} (chance {chance_loss:.2f}), but kNN does not improve: batch "
            "norm may leak which key belongs to which query (raise --bn-groups), or the views are too similar "
            "(crop more strongly)"
        )
    return None


class Monitor:
    """Evaluates a training every few epochs: :func:`collapse`, and kNN when there are labels.

    It always uses the same images under the same views, draws from no generator and does not modify the method: a run
    is the same with and without it. kNN uses training images only, so no tuning on the test set can result.

    Attributes:
        history: the evaluations so far, oldest first: those of :func:`collapse`, ``loss``, ``knn`` (k = 20, T = 0.1).
        latest: the newest evaluation; empty before the first.
        warning: the newest diagnosis; None if healthy.
    """

    def __init__(
        self,
        data: DataSet,
        views: Sequence[View | Window],
        *,
        size: int,
        seed: int,
        device: torch.device,
        every: int,
        chance_loss: float | None,
        can_collapse: bool = True,
        labels: bool = False,
        steps: int | None = None,
        workers: int = 0,
    ) -> None:
        """
        Args:
            views: the views of the training; the first two are evaluated.
            size: side in pixels of the images for kNN.
            every: epochs between evaluations; 0 disables them.
            chance_loss, can_collapse, labels: see :func:`diagnose`.
            steps: of the training, between two evaluations; None is not known.
            workers: processes that decode the images.
        """
        self.views = (views[0], views[min(1, len(views) - 1)])
        self.size, self.seed, self.device = size, seed, device
        self.every, self.chance_loss, self.can_collapse, self.workers = every, chance_loss, can_collapse, workers
        self._labels, self._steps = labels, math.inf if steps is None else steps
        self.history: list[dict[str, float]] = []
        self.warning: str | None = None
        self._source = _some(data.pretrain, torch.arange(len(data.pretrain)), IMAGES, seed)
        self._labelled: tuple[Source, Source] | None = None
        y = data.train.labels
        if y is not None and (y >= 0).sum() > 1:
            labelled = _some(data.train, (y >= 0).nonzero()[:, 0], BANK + QUERIES, seed)
            bank, queries = split(len(labelled), labelled.group_ids, QUERIES / (BANK + QUERIES), seed)
            self._labelled = labelled.subset(bank), labelled.subset(queries)
            self._n_classes = int(y.max()) + 1

    def due(self, epoch: int, last: bool) -> bool:
        """Whether to evaluate after ``epoch`` epochs; always after the last."""
        return self.every > 0 and (last or epoch % self.every == 0)

    def evaluate(
        self,
        method: Method,
        loss: float,
        autocast: Autocast = contextlib.nullcontext,
    ) -> dict[str, float]:
        """Evaluate the method now, and append the results to the history.

        Args:
            method: the method in training; its ``embed`` and its encoder are evaluated.
            loss: mean loss of the epoch.
            autocast: makes the context in which the network runs.
        """
        with evaluating(method):
            now = collapse(*self._outputs(method, autocast)) | {"loss": loss}
        if (knn := self.knn(method, autocast)) is not None:
            now["knn"] = knn
        self.history.append(now)
        self.warning = diagnose(
            self.history,
            chance_loss=self.chance_loss,
            can_collapse=self.can_collapse,
            labels=self._labels,
            steps=len(self.history) * self._steps,
        )
        return now

    def knn(self, method: Method, autocast: Autocast = contextlib.nullcontext) -> float | None:
        """kNN accuracy of the method's encoder now; None without labels."""
        if self._labelled is None:
            return None
        bank, queries = (
            encode(
                method.online.encoder,
                source,
                size=self.size,
                workers=self.workers,
                device=self.device,
                autocast=autocast,
                max_bad=1.0,  # the training checks the whole set
            )
            for source in self._labelled
        )
        return knn_accuracy(bank, queries, n_classes=self._n_classes, device=self.device).top1

    def resume(self, rows: Sequence[dict[str, float]]) -> None:
        """Restore the history from the rows of metrics.jsonl."""
        numbers = ({name: row[name] for name in NUMBERS if row.get(name) is not None} for row in rows)
        self.history = [row for row in numbers if row.keys() >= {"std", "rank", "loss"}]

    @property
    def latest(self) -> dict[str, float]:
        return self.history[-1] if self.history else {}

    @property
    def queries(self) -> int | None:
        """How many images :meth:`knn` asks about; None without labels."""
        return None if self._labelled is None else len(self._labelled[1])

    @torch.no_grad()
    def _outputs(self, method: Method, autocast: Autocast) -> list[Tensor]:
        """z [N, d] of each of the two views."""
        n = len(self._source)
        z: tuple[list[Tensor], list[Tensor]] = ([], [])
        with Loader(
            self._source,
            self.views,
            batch=min(n, 256),
            seed=self.seed,
            workers=self.workers,
            max_bad=1.0,
            device=self.device,
        ) as loader:
            for batch in loader.batches(0, loader.steps_per_epoch):
                for view, outputs in zip(batch.views, z, strict=True):
                    images = view.to(self.device, memory_format=torch.channels_last)
                    with autocast():
                        outputs.append(method.embed(images))
        return [torch.cat(outputs) for outputs in z]


def _some(source: Source, rows: Tensor, n: int, seed: int) -> Source:
    """At most n of the images ``rows``, drawn by the seed."""
    return source.subset(rows[permutation(seed, 0, len(rows))[:n]])
