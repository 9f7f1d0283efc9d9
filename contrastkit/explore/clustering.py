"""Clusters: k-means of the features of a gallery."""

import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from contrastkit.bounds import COUNT, SEED
from contrastkit.errors import UserError
from contrastkit.evaluate.subject import OnProgress
from contrastkit.explore.columns import write_columns
from contrastkit.explore.gallery import Gallery
from contrastkit.explore.nearest import UnitRows
from contrastkit.figures import Cell, sheet
from contrastkit.rng import permutation

K = 10
FITTED = 2**17  # images from which the centres are computed, at most
STARTS = 5  # of k-means, the best of which counts
SHOWN, ACROSS = 20, 10  # clusters on a sheet, and images of each


@dataclass(frozen=True)
class Agreement:
    """How clusters agree with the labels of the n labelled images."""

    n: int
    purity: float  # share of the images that have the most frequent label of their cluster
    nmi: float  # normalised mutual information, by the arithmetic mean of the entropies
    nmi_chance: float  # its mean over all ways to share the images out among clusters of these sizes
    ari: float  # adjusted Rand index: 0 for chance, 1 for the same partition


@dataclass(frozen=True)
class Cluster:
    """One cluster.

    Attributes:
        size: number of its images.
        similarity: mean cosine of its images to its centre.
        nearest: the rows of the images nearest to its centre, nearest first.
        label, share: its most frequent class and its share of the labelled images; "" and None without labels.
    """

    size: int
    similarity: float
    nearest: tuple[int, ...]
    label: str
    share: float | None


@dataclass(frozen=True)
class ClusterReport:
    """Result of :func:`cluster`: clusters from the largest to the smallest.

    Attributes:
        rows: int64 [n], rows of the images in the gallery.
        assigned: int64 [n], the cluster of each, from 0.
        similarity: float32 [n], its cosine to the centre of its cluster.
    """

    data: str
    encoder: str
    clusters: tuple[Cluster, ...]
    rows: NDArray[np.int64]
    assigned: NDArray[np.int64]
    similarity: NDArray[np.float32]
    agreement: Agreement | None
    notices: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        def cluster(each: Cluster) -> dict[str, Any]:
            values = {"images": each.size, "cosine": each.similarity, "nearest": list(each.nearest)}
            return values if each.share is None else values | {"class": each.label, "share": each.share}

        return {
            "data": self.data,
            "encoder": self.encoder,
            "images": len(self.rows),
            "k": len(self.clusters),
            "agreement": self.agreement and asdict(self.agreement),
            "clusters": [cluster(each) for each in self.clusters],
        }


def cluster(
    gallery: Gallery, k: int | None = None, *, seed: int = 0, on_progress: OnProgress | None = None
) -> ClusterReport:
    """k-means of the normalised features: scikit-learn's, begun by k-means++ (Arthur & Vassilvitskii 2007), the best of
    five starts.

    On unit vectors the squared distance is 2 - 2 cosine, so an image belongs to the centre of which it is most similar
    up to the centres' lengths, which k-means does not fix to 1. The centres are computed from at most 131,072 images
    drawn by the seed; all are assigned.

    Args:
        k: None is the number of classes of a labelled data set, else 10; at most the number of images from which the
            centres are computed.

    Raises:
        UserError: k above that number.
    """
    n, labels = len(gallery.rows), gallery.labels
    most = min(n, FITTED)
    k = min(most, K if labels is None else len(np.unique(labels[labels >= 0]))) if k is None else k
    COUNT.check("--K", k, whole=True)
    SEED.check("--seed", seed, whole=True)
    if k > most:
        what = f"readable images of {gallery.data}" if most == n else "images from which the centres are computed"
        raise UserError(f"--K {k} is above {most:,}, the number of {what}")
    if on_progress is not None:
        on_progress("k-means", 0, None)
    assigned, similarity, fitted = k_means(gallery.unit, k, seed=seed)
    present, assigned, sizes = np.unique(assigned, return_inverse=True, return_counts=True)
    order = np.lexsort((np.arange(len(present)), -sizes))
    assigned = np.argsort(order)[assigned]
    notices = gallery.notices
    if fitted < n:
        notices += (f"the centres are those of {fitted:,} of the {n:,} images, drawn by --seed",)
    if len(present) < k:
        notices += (f"{len(present)} clusters instead of {k}: no more of the images have different features",)
    clusters = tuple(_cluster(gallery, labels, assigned == c, similarity) for c in range(len(present)))
    agreement = None if labels is None else agreement_with(labels, assigned)
    return ClusterReport(
        gallery.data, gallery.encoder, clusters, gallery.rows, assigned, similarity, agreement, notices
    )


def k_means(unit: UnitRows, k: int, *, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float32], int]:
    """As of :func:`cluster`: the number of each image's centre, its cosine to it, and from how many images the centres
    were computed."""
    from sklearn.cluster import KMeans  # slow to import
    from sklearn.exceptions import ConvergenceWarning

    drawn = permutation(seed, 0, len(unit))[:FITTED].sort()[0].numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different images than centres, which is told
        means = KMeans(k, n_init=STARTS, random_state=seed % 2**32).fit(unit.unit(drawn).float().numpy())
    centres = F.normalize(torch.from_numpy(means.cluster_centers_).double(), dim=1)
    assigned, similarity = np.empty(len(unit), np.int64), np.empty(len(unit), np.float32)
    for first, block in unit.blocks():
        rows = slice(first, first + len(block))
        assigned[rows] = means.predict(block.float().numpy())
        similarity[rows] = (block * centres[assigned[rows]]).sum(1).float().numpy()
    return assigned, similarity, len(drawn)


def _cluster(
    gallery: Gallery, labels: NDArray[np.int64] | None, members: NDArray[np.bool_], similarity: NDArray[np.float32]
) -> Cluster:
    inside = np.flatnonzero(members)
    nearest = inside[np.argsort(-similarity[inside], kind="stable")[:ACROSS]]
    label, share = "", None
    if labels is not None and len(known := labels[inside][labels[inside] >= 0]):
        counts = np.bincount(known)
        label, share = gallery.class_name(int(counts.argmax())), float(counts.max() / len(known))
    mean = float(similarity[inside].mean(dtype=np.float64))
    return Cluster(len(inside), mean, tuple(gallery.rows[nearest].tolist()), label, share)


def agreement_with(labels: NDArray[np.int64], assigned: NDArray[np.int64]) -> Agreement:
    """How the clusters [n] of images agree with their labels [n], -1 where there is none.

    Chance is as in Vinh et al. 2010, Sec. 4, Eq. 24a, which scikit-learn computes for its adjusted mutual information.
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix, expected_mutual_information

    known = labels >= 0
    y, c = labels[known], assigned[known]
    majorities = [np.bincount(y[c == each]).max() for each in np.unique(c)]
    nmi, ari = normalized_mutual_info_score(y, c), adjusted_rand_score(y, c)
    information = expected_mutual_information(contingency_matrix(y, c, sparse=True), len(y))
    scale = (_entropy(y) + _entropy(c)) / 2
    chance = information / scale if scale else 1.0  # one class and one cluster agree, as for scikit-learn
    return Agreement(len(y), float(sum(majorities) / len(y)), float(nmi), float(chance), float(ari))


def _entropy(numbers: NDArray[np.int64]) -> float:
    """In nats, of how often each number is there."""
    share = np.unique(numbers, return_counts=True)[1] / len(numbers)
    return float(-(share * np.log(share)).sum())


def write_clusters(report: ClusterReport, gallery: Gallery, path: Path) -> None:
    """A .csv with a row for each image: image, split, class, cluster (from 1, the largest), cosine to its centre."""
    rows = report.rows.tolist()
    columns: dict[str, Iterable[object]] = {
        "image": [gallery.name(row) for row in rows],
        "split": gallery.embedding.split[report.rows],
        "class": [gallery.class_of(row) for row in rows],
        "cluster": report.assigned + 1,
        "cosine": report.similarity,
    }
    write_columns(path, columns)


def draw_clusters(report: ClusterReport, gallery: Gallery, path: Path) -> None:
    """A sheet with a row for each of the twenty largest clusters: the images nearest to its centre."""
    rows, heads = [], []
    for number, each in enumerate(report.clusters[:SHOWN], start=1):
        names = [gallery.class_of(row) for row in each.nearest]
        rows.append([Cell(image, name) for image, name in zip(gallery.pictures(each.nearest), names, strict=True)])
        most = "" if each.share is None else f"\n{100 * each.share:.0f} % {each.label}"
        heads.append(f"cluster {number}\n{each.size:,} images{most}")
    left_out = len(report.clusters) - len(rows)
    sheet(
        path,
        rows,
        heads=heads,
        title=f"{report.data}: {len(report.clusters)} clusters of {len(report.rows):,} images",
        note=f"k-means of the normalised features by {report.encoder}; the images nearest to each centre, nearest first"
        + (", and their classes" if report.agreement else "")
        + (f"; {left_out} smaller clusters are not shown" if left_out else ""),
    )
