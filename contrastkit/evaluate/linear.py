"""The linear probe: accuracy of a linear classifier on frozen features.

The features are used as the encoder returns them, neither normalised nor standardised. Unsupervised features have a
different distribution from supervised ones, and their best learning rate is far higher: 30 for MoCo's ResNet-50 (He et
al. 2019, Sec. 4.1). So no rate is assumed: :func:`linear_probe` trains with many at once, and all are plotted.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from contrastkit.data.dataset import split
from contrastkit.errors import UserError
from contrastkit.evaluate.accuracy import Accuracy, accuracy_of, best_classes, hits, of_mean_1, weighted_mean
from contrastkit.evaluate.by_environment import ByEnvironment, by_environment
from contrastkit.evaluate.confusion import ClassResult, class_names, per_class
from contrastkit.evaluate.features import Features
from contrastkit.evaluate.few_labels import folds
from contrastkit.figures import COLOURS, chart, legend
from contrastkit.intervals import wilson
from contrastkit.names import RATES_EPOCHS, RATES_SEEDS
from contrastkit.optim import learning_rate
from contrastkit.rng import permutation

RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
HELD_OUT = 0.1  # share of the training images on which the rate is chosen
PURPOSE = "the linear probe"
FEW = 1000  # training images; of fewer, every one is held out in turn


@dataclass(frozen=True, slots=True)
class LinearProbe:
    """Result of :func:`linear_probe`."""

    accuracy: Accuracy  # on the test images, mean over the seeds
    seeds: tuple[float, ...]  # top-1 of each seed
    std: float | None  # of top-1 over the seeds (divided by n - 1); None for a single seed
    rate: float  # the chosen learning rate
    rates: tuple[float, ...]
    # top-1 of each rate on the held-out training images, None where it diverged; () if none can be held out
    validation: tuple[float | None, ...]
    held_out: int  # number of these images
    per_class: dict[str, ClassResult]  # by class, of the classifiers of all seeds
    environments: ByEnvironment | None = None  # likewise; None where the test images have none

    @property
    def notices(self) -> list[str]:
        """What a reader of the numbers should know."""
        return notices_of_choice(self.rate, self.rates, self.validation)


@dataclass(frozen=True, slots=True)
class LinearClassifiers:
    """Result of :func:`fit_linear`: classifiers trained at the rate that was chosen, one for each seed."""

    rate: float
    validation: tuple[float | None, ...]  # as of LinearProbe
    held_out: int
    weights: tuple[tuple[Tensor, Tensor], ...]  # of each seed: [D, 1, C] and biases [1, C]

    def answers(self, test: Features) -> Tensor:
        """The best classes of all S classifiers, best first: int64 [S, N, min(5, C)].

        Raises:
            UserError: one of them diverged.
        """
        answers = [classified(test, *weights)[0] for weights in self.weights]
        if any(best is None for best in answers):
            raise UserError(f"the linear probe diverged at learning rate {self.rate:g}: exclude this rate")
        return torch.stack([best for best in answers if best is not None])


def linear_probe(
    train: Features,
    test: Features,
    *,
    n_classes: int,
    classes: Sequence[str] | None = None,
    rates: Sequence[float] = RATES,
    seeds: Sequence[int] = range(RATES_SEEDS),
    epochs: int = RATES_EPOCHS,
    batch: int = 256,
    splits: Sequence[tuple[Tensor, Tensor]] | None = None,
    device: str | torch.device = "cpu",
) -> LinearProbe:
    """Train linear classifiers on frozen features, one for each learning rate, all at once.

    A tenth of the training images, drawn by the first seed, is held out. Classifiers with all rates are trained on the
    rest, and the rate with the best top-1 on the held-out tenth is chosen. Of fewer than :data:`FEW` images, a tenth
    would decide by chance: a fifth of each class is held out in turn (:func:`folds`), and the mean top-1 decides; where
    no class has two images, the middle rate is taken. Final classifiers are trained with it on all training images, one
    per seed (initial weights and order); only these are evaluated on the test images. SGD with momentum 0.9, no weight
    decay and batch 256 as in MoCo's protocol; cosine schedule to 0.

    Where the training images have weights w, they minimise sum_i w_i l_i / n with w of mean 1, and top-1 on held-out
    images is their weighted share.

    Args:
        train, test: raw features; images without a label (-1) and unreadable ones are left out.
        n_classes: classes are 0 ... n_classes - 1.
        classes: their names; None: their numbers.
        rates: learning rates to choose from; the smallest of equally good ones wins.
        seeds: one final classifier is trained per seed.
        splits: positions (rest, held out) of the training images, maybe none, to choose on; None: as above.

    Raises:
        UserError: no labels, fewer than two training images, or every rate diverged.
    """
    test = test.labelled(PURPOSE)
    fitted = fit_linear(
        train, n_classes=n_classes, rates=rates, seeds=seeds, epochs=epochs, batch=batch, splits=splits, device=device
    )
    best = fitted.answers(test)
    top1 = [accuracy_of(answers, test.y, n_classes=n_classes).top1 for answers in best]
    return LinearProbe(
        accuracy=accuracy_of(best, test.y, n_classes=n_classes),
        seeds=tuple(top1),
        std=statistics.stdev(top1) if len(top1) > 1 else None,
        rate=fitted.rate,
        rates=tuple(rates),
        validation=fitted.validation,
        held_out=fitted.held_out,
        per_class=per_class(best[..., 0], test.y, class_names(classes, n_classes)),
        environments=by_environment(best[..., 0], test.y, test.environment),
    )


def fit_linear(
    train: Features,
    *,
    n_classes: int,
    rates: Sequence[float] = RATES,
    seeds: Sequence[int] = range(RATES_SEEDS),
    epochs: int = RATES_EPOCHS,
    batch: int = 256,
    splits: Sequence[tuple[Tensor, Tensor]] | None = None,
    device: str | torch.device = "cpu",
) -> LinearClassifiers:
    """The classifiers of :func:`linear_probe`, whose arguments these are and which raises the same."""
    given, train = train, train.labelled(PURPOSE)
    n = len(train.y)
    if n < 2:
        raise UserError("the linear probe needs at least two labelled training images")
    if splits is None:
        given, splits = train, _splits(train, seeds[0])
    how: dict[str, Any] = {"n_classes": n_classes, "epochs": epochs, "batch": batch, "device": device}
    parts = [[given.subset(rows).labelled(PURPOSE) for rows in pair] for pair in splits]
    of_splits = [_top1(classified(held, *_train(rest, rates, seed=seeds[0], **how)), held) for rest, held in parts]
    validation = [_mean_top1(of_rate) for of_rate in zip(*of_splits, strict=True)]
    rate = _best_rate(rates, validation) if splits else sorted(rates)[(len(rates) - 1) // 2]
    final = [_train(train, [rate], seed=seed, **how) for seed in seeds]
    return LinearClassifiers(rate, tuple(validation), sum(len(held.y) for _, held in parts), tuple(final))


def notices_of_choice(rate: float, rates: Sequence[float], validation: Sequence[float | None]) -> list[str]:
    """What a reader should know of the choice of a learning rate, by its top-1 on held-out images."""
    if len(rates) < 2:
        return []
    if not validation:
        return [f"no image is left to choose a learning rate on: it is {rate:g}, unchecked"]
    lines = []
    if diverged := [f"{r:g}" for r, top1 in zip(rates, validation, strict=True) if top1 is None]:
        lines.append(f"diverged and ignored: learning rate {', '.join(diverged)}")
    if rate in (min(rates), max(rates)):
        lines.append(f"the best learning rate, {rate:g}, is at the edge: a wider range may do better")
    return lines


def _splits(train: Features, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Positions (rest, held out) on which the learning rate is chosen."""
    n = len(train.y)
    if n < FEW:
        return folds(train.y, permutation(seed, 0, n), train.group_ids)
    return [split(n, train.group_ids, HELD_OUT, seed)]


def _top1(answers: Sequence[Tensor | None], held: Features) -> list[float | None]:
    """The top-1 of each classifier's best classes [N, 1 to 5], under the weights of the images; None where it
    diverged."""
    return [
        None if best is None else weighted_mean(hits(best, held.y)[:, 0].double(), held.weights) for best in answers
    ]


def _mean_top1(of_splits: Sequence[float | None]) -> float | None:
    """The mean of a rate's top-1 over the splits; None if it diverged in one."""
    converged = [top1 for top1 in of_splits if top1 is not None]
    return statistics.fmean(converged) if len(converged) == len(of_splits) else None


def _best_rate(rates: Sequence[float], held_out: Sequence[float | None]) -> float:
    """The rate with the best top-1 on the held-out images, None where it diverged; the smallest of equally good ones.

    Raises:
        UserError: every rate diverged.
    """
    converged = [(rate, top1) for rate, top1 in zip(rates, held_out, strict=True) if top1 is not None]
    if not converged:
        raise UserError("the linear probe diverged at every learning rate: are the features finite?")
    best = max(top1 for _, top1 in converged)
    return min(rate for rate, top1 in converged if top1 == best)


@torch.no_grad()
def _train(
    train: Features,
    rates: Sequence[float],
    *,
    n_classes: int,
    epochs: int,
    batch: int,
    seed: int,
    device: str | torch.device,
) -> tuple[Tensor, Tensor]:
    """Train R linear classifiers, one per rate, on the same batches: weights [D, R, C] and biases [R, C].

    The gradient of the cross-entropy is w (softmax - one-hot) / n, so all rates share two matrix products per step.
    """
    (n, D), R, C = train.x.shape, len(rates), n_classes
    g = torch.Generator().manual_seed(seed)
    W = (0.01 * torch.randn(D, 1, C, generator=g)).repeat(1, R, 1).to(device)  # N(0, 0.01) and 0, as MoCo's
    b = torch.zeros(R, C, device=device)
    dW, db = torch.zeros_like(W), torch.zeros_like(b)  # momentum
    x, y, lr = train.x.to(device), train.y.to(device), torch.tensor(rates, device=device)[:, None]
    w = None if train.weights is None else of_mean_1(train.weights).to(device)
    steps = math.ceil(n / batch)
    for step in range(epochs * steps):
        if step % steps == 0:
            parts = torch.randperm(n, generator=g).to(device).tensor_split(steps)
        rows = parts[step % steps]
        inputs = x[rows]
        error = (torch.einsum("nd,drc->nrc", inputs, W) + b).softmax(2)
        error[torch.arange(len(rows), device=device), :, y[rows]] -= 1
        error /= len(rows)
        if w is not None:
            error *= w[rows, None, None]
        dW.mul_(0.9).add_(torch.einsum("nd,nrc->drc", inputs, error))
        db.mul_(0.9).add_(error.sum(0))
        rate = lr * learning_rate(step / (epochs * steps), schedule="cosine", base_lr=1.0)
        W -= rate * dW
        b -= rate * db
    return W, b


def classified(test: Features, W: Tensor, b: Tensor) -> list[Tensor | None]:
    """The best classes, int64 [N, min(5, C)] on the CPU, of the N test images by each of R linear classifiers, weights
    [D, R, C] and biases [R, C]; None for a classifier that is not finite."""
    best = []
    for x in test.x.split(2048):
        best.append(best_classes(torch.einsum("nd,drc->rnc", x.to(b.device), W) + b[:, None]).cpu())
    finite = W.isfinite().all(2).all(0) & b.isfinite().all(1)
    return [rows if ok else None for rows, ok in zip(torch.cat(best, 1), finite.tolist(), strict=True)]


def rates_chart(path: Path, probe: LinearProbe, name: str) -> None:
    """Draw the accuracy on the held-out training images, of which there must be some, against the learning rate, as a
    PNG."""
    points = [
        (r, v, wilson(v, probe.held_out)) for r, v in zip(probe.rates, probe.validation, strict=True) if v is not None
    ]
    rates, top1, intervals = zip(*points, strict=True)
    share = 100 * np.array(top1)
    low, high = 100 * np.array(intervals).T
    images = f"{probe.held_out:,} held-out training image{'s' if probe.held_out > 1 else ''}"
    note = f"bars: 95 % Wilson interval for {images}, which choose the rate; the test images take no part"
    if diverged := [f"{r:g}" for r, v in zip(probe.rates, probe.validation, strict=True) if v is None]:
        note += f"; not drawn, since it diverged: {', '.join(diverged)}"
    with chart(path, f"Linear probe of {name}: choice of the learning rate", note=note) as figure:
        axes = figure.subplots()
        axes.set_xscale("log")
        axes.errorbar(rates, share, np.abs([share - low, high - share]), fmt="o-", label="top-1 by learning rate")
        axes.axvline(probe.rate, linestyle="--", color=COLOURS[3], label=f"chosen: {probe.rate:g}")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set(xlabel="learning rate", ylabel="top-1 on the held-out images, %")
        legend(figure)
