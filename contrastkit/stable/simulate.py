"""Data whose spurious part changes from place to place, to learn on one and be tested on others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from contrastkit.errors import UserError
from contrastkit.stable.names import Mode
from contrastkit.tables.checks import Floats

if TYPE_CHECKING:
    from contrastkit.data import DataSet, Source

Seed = int | Sequence[int]  # numbers in a row name a stream of their own: (seed, place)
LARGEST = 2 * 10**8  # numbers in a table
ENVIRONMENTS = (-3.0, -2.0, -1.7, -1.5, -1.3, 1.3, 1.5, 1.7, 2.0, 3.0)  # of the test (Kuang et al. 2020)
COLOURS = (0.1, 0.2, 0.9)  # the environments of coloured digits; the last one is the test (Arjovsky et al. 2019)
BATCH = 20_000  # rows that are drawn at a time, some of them kept
BETA = (1 / 3, -2 / 3, 1.0, -1 / 3, 2 / 3, -1.0)


@dataclass(frozen=True)
class Sample:
    """X [n, p]: the stable S, which Y [n] follows, in its first ``stable`` columns, then V."""

    X: Floats
    Y: Floats
    stable: int


@dataclass(frozen=True)
class Trial:
    """X [n, p], a treatment T bool [n] that depends on X, the outcome Y [n], and the true effect on the treated."""

    X: Floats
    T: NDArray[np.bool_]
    Y: Floats
    att: float

    def columns(self) -> dict[str, NDArray[Any]]:
        """X1, ..., T and Y, [n] each."""
        return {f"X{j + 1}": x for j, x in enumerate(self.X.T)} | {"T": self.T.astype(int), "Y": self.Y}

    @property
    def difference_in_means(self) -> float:
        """The naive estimate of the effect."""
        return float(self.Y[self.T].mean() - self.Y[~self.T].mean())


def selection_bias(n: int, p: int = 10, *, r: float, mode: Mode = "independent", seed: Seed = 0) -> Sample:
    """Regression under selection (Kuang et al., AAAI 2020, Sec. 5; as in StableLearn's SVI/data/selection_bias.py).

    S_j = 0.8 Z_j + 0.2 Z_{j+1}, Y = S beta + S_1 S_2 S_3 + noise of variance 0.3; V has no part in Y. A row is kept
    with probability |r|^(-5 sum_b |f(S) - sign(r) V_b|) over the last tenth of the columns, so that these V go with Y,
    the more the larger |r|, in the direction of its sign.

    Args:
        n: rows that are kept. p: columns, half of them S.
        r: the bias rate, |r| > 1.
        mode: V independent of S; made of S ("S-to-V"); S made of V ("V-to-S"); or collinear: correlations of 0.9 within
            S and of 0.1 within V, none between.
        seed: of all draws. Rates of one seed share rows, for a row kept at a large one is kept at a smaller one too:
            give each environment its own, (seed, place).

    Raises:
        UserError: an unknown mode, no rows, |r| is not above 1, too few columns, or so many (a tenth of them are to be
            near f) or so large a rate that hardly a row is kept.
    """
    if not abs(r) > 1:
        raise UserError(f"a bias rate of {r:g} selects nothing: its size must be above 1")
    if p < 6 or p % 2:
        raise UserError(f"{p} columns: an even number of them, 6 or more")
    if mode not in get_args(Mode):
        raise UserError(f"{mode} is not among the modes here: {', '.join(get_args(Mode))}")
    _sized(max(n, BATCH) if n > 0 else n, p)
    g, s = np.random.default_rng(seed), p // 2
    beta = np.resize(BETA, s)
    biased = slice(p - max(1, p // 10), p)
    X, Y, have, drawn = [], [], 0, 0
    while have < n:
        if drawn >= 200_000 and have < drawn / 10_000:
            raise UserError(f"{have} of {drawn:,} rows are kept at a rate of {r:g} with {p} columns: lower one of them")
        S, V = _draw(g, BATCH, s, mode)
        f = S @ beta + S[:, 0] * S[:, 1] * S[:, 2]
        x = np.concatenate([S, V], axis=1)
        far = np.abs(f[:, None] - np.sign(r) * x[:, biased]).sum(1)
        selected = g.uniform(size=len(f)) < abs(r) ** (-5 * far)
        X.append(x[selected])
        Y.append(f[selected] + g.normal(0, np.sqrt(0.3), int(selected.sum())))
        have, drawn = have + int(selected.sum()), drawn + len(f)
    return Sample(np.concatenate(X)[:n], np.concatenate(Y)[:n], s)


def _draw(g: np.random.Generator, n: int, s: int, mode: Mode) -> tuple[Floats, Floats]:
    if mode == "collinear":
        return _correlated(g, n, s, 0.9), _correlated(g, n, s, 0.1)
    Z = g.normal(size=(n, s + 1))
    chain = 0.8 * Z[:, :-1] + 0.2 * Z[:, 1:]
    if mode == "independent":
        return chain, g.normal(size=(n, s))
    if mode == "S-to-V":
        turned = np.roll(chain, -1, axis=1)
        return chain, 0.8 * chain + 0.2 * turned + g.normal(size=(n, s))
    V = g.normal(size=(n, s))
    return 0.2 * V + 0.8 * np.roll(V, -1, axis=1) + g.normal(size=(n, s)), V


def _correlated(g: np.random.Generator, n: int, s: int, rho: float) -> Floats:
    """Normal [n, s] of variance 1, each pair of columns correlated by ``rho``."""
    return np.sqrt(rho) * g.normal(size=(n, 1)) + np.sqrt(1 - rho) * g.normal(size=(n, s))


def _sized(n: int, p: int) -> None:
    """Refuse tables without rows, and of more numbers than a memory holds."""
    if n < 1:
        raise UserError(f"{n} rows: draw one or more")
    if n * p > LARGEST:
        raise UserError(f"{n:,} rows of {p:,} columns are more than {LARGEST:,} numbers: draw fewer")


def collinear(n: int, p: int = 10, *, rho: float = 0.8, seed: Seed = 0) -> Sample:
    """Regression on collinear causes by a model that is not quite right (Shen et al., AAAI 2020; as in
    StableLearn's collinearity.py).

    X ~ N(0, Sigma), columns correlated by ``rho`` two by two; Y = X beta + X_1 X_2 X_3 + N(0, 1), beta = 1/5, -2/5,
    3/5, -4/5, 1, then of the other sign, and so on. Every column is a cause: it is the product, left out of a linear
    model, that goes with X_3 as X_1 goes with X_2. The code draws from one ``rho``; another makes another environment
    here.

    Args:
        n: rows. p: columns.
        rho: the correlation within a pair.
        seed: of all draws.

    Raises:
        UserError: a correlation out of (-1, 1), no rows, or too few columns.
    """
    if not abs(rho) < 1:
        raise UserError(f"a correlation of {rho:g}: between -1 and 1")
    if p < 4 or p % 2:
        raise UserError(f"{p} columns: an even number of them, 4 or more")
    _sized(n, p)
    g = np.random.default_rng(seed)
    X = g.normal(size=(n, p))
    X[:, 1::2] = rho * X[:, ::2] + np.sqrt(1 - rho**2) * X[:, 1::2]
    beta = np.resize(np.array([1, -2, 3, -4, 5, -1, 2, -3, 4, -5]) / 5, p)
    return Sample(X, X @ beta + X[:, 0] * X[:, 1] * X[:, 2] + g.normal(size=n), p)


def confounded(n: int, p: int, *, rate: float, seed: Seed = 0) -> Trial:
    """A treatment that the outcome's own causes decide (Kuang et al., KDD 2017; as in the example of
    KunKuang/Differentiated-Confounder-Balancing).

    X ~ N(0, I), T = 1 where X_1 + ... + X_{rate p} + N(0, 1) > 0; untreated Y = sum over even j of (j / 2) X_j +
    N(0, 3^2), treated by 1 + X_1 + ... + X_p more.

    Args:
        n: rows. p: columns.
        rate: the share of the columns that decide on the treatment.
        seed: of all draws.

    Raises:
        UserError: no rows, no column decides, or nobody is treated.
    """
    deciding = round(rate * p) if 0 <= rate <= 1 else 0
    if n < 1 or deciding < 1:
        raise UserError(f"a share of {rate:g} of {p} columns, {n} rows: at least one column decides on one row or more")
    _sized(n, p)
    g = np.random.default_rng(seed)
    X = g.normal(size=(n, p))
    T = X[:, :deciding].sum(1) + g.normal(size=n) > 0
    if T.all() or not T.any():
        raise UserError(f"{n} rows, all {'treated' if T.all() else 'untreated'}: draw more")
    j = np.arange(1, p + 1)
    effect = 1 + X.sum(1)
    Y = X @ np.where(j % 2 == 0, j / 2, 0.0) + g.normal(0, 3, n) + T * effect
    return Trial(X, T, Y, float(effect[T].mean()))


def coloured(
    data: "DataSet", *, environments: Sequence[float] = COLOURS, flip: float = 0.25, seed: int = 0
) -> dict[str, NDArray[Any]]:
    """Grey images in red and green, whose colour tells the label better than their shape, elsewhere the other way round
    (Colored MNIST: Arjovsky et al. 2019, Sec. 5; facebookresearch/InvariantRiskMinimization, code/colored_mnist).

    The label is whether the class is of the second half of the classes, turned round with probability ``flip``; the
    colour is red (0) or green (1) as the label says, turned round with probability e in environment e. Training images
    are dealt evenly to all environments but the last, test images are that one. The code has two channels and halves
    the images; here blue is 0 and sizes are kept.

    Args:
        data: grey images of one size with labels, and a test part, from :func:`contrastkit.data.open_data`.
        environments: how often the colour disagrees with the label, the test's last.
        flip: how often the label disagrees with the class.
        seed: of all draws.

    Returns:
        What ``open_data`` reads from an .npz: images uint8 [N, H, W, 3], labels text [N] (the classes, "0 to 4"),
        test_images, test_labels; besides, environment and test_environment float64 [N].

    Raises:
        UserError: no grey images of one size, unlabelled ones, no test part, a part with a single label, or not
            probabilities.
    """
    if len(environments) < 2 or not all(0 <= e <= 1 for e in (*environments, flip)):
        some = ", ".join(f"{e:g}" for e in environments)
        raise UserError(f"environments {some}, flips {flip:g}: two environments or more, all of them probabilities")
    if data.test is None:
        raise UserError(f"{data.name} has no test part: hold one out with --val-fraction 0.1")
    parts = [_grey(source) for source in (data.train, data.test)]
    n_classes = 1 + max(int(labels.max()) for _, labels in parts)
    named = data.train.classes or [str(label) for label in range(n_classes)]
    half = len(named) // 2
    if half < 1:
        raise UserError(f"{data.name} has one class: there are no two halves")
    names = np.array([f"{named[0]} to {named[half - 1]}", f"{named[half]} to {named[-1]}"])
    g = np.random.default_rng(seed)
    arrays: dict[str, NDArray[Any]] = {}
    for prefix, (grey, classes), own in (("", parts[0], environments[:-1]), ("test_", parts[1], environments[-1:])):
        n = len(grey)
        e = g.permutation(np.resize(np.array(own, np.float64), n))
        label = (classes >= half) ^ (g.uniform(size=n) < flip)
        if len(alike := np.unique(label)) < 2:
            which = "test" if prefix else "training"
            raise UserError(f"{n} {which} images, all labelled {names[int(alike[0])]}: hold another share of them out")
        green = label ^ (g.uniform(size=n) < e)
        images = np.zeros((*grey.shape, 3), np.uint8)
        images[~green, ..., 0], images[green, ..., 1] = grey[~green], grey[green]
        arrays |= {f"{prefix}images": images, f"{prefix}labels": names[label.astype(int)], f"{prefix}environment": e}
    return arrays


def _grey(source: "Source") -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images [N, H, W] and classes [N] of a source."""
    import torch

    from contrastkit.types import Modality

    if source.modality is not Modality.IMAGE or source.channels != 1:
        raise UserError(f"{source.name} does not hold grey images: colour is what is added to them")
    if source.labels is None or bool((source.labels < 0).any()):
        raise UserError(f"{source.name} has images without a label: there is nothing that the colour could go with")
    images, really = source.take(torch.arange(len(source)))
    if not isinstance(images, torch.Tensor):
        raise UserError(f"{source.name} holds images of several sizes: give some of one")
    return images[:, 0].numpy(), source.label(really).numpy()
