"""Clusters: separate groups are found, and agreement with labels is that of loops."""

import csv
import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contrastkit.errors import UserError
from contrastkit.explore import Gallery, cluster
from contrastkit.explore.clustering import agreement_with, draw_clusters, write_clusters
from tests.explore.photos import gallery


def of_features(data: Path, x: np.ndarray, labels: np.ndarray | None = None) -> Gallery:
    """The gallery of a data set, with other features."""
    images = gallery(data)
    changed: dict[str, Any] = {"features": x.astype(np.float32)} | ({} if labels is None else {"labels": labels})
    return replace(images, embedding=replace(images.embedding, **changed))


def directions(g: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """320 features in three directions, of any length, and which: 200, 90 and 30 of them."""
    which = g.permutation(np.repeat([0, 1, 2], [200, 90, 30]))
    x = np.eye(3)[which] + g.normal(0, 0.05, (320, 3))
    return x * g.uniform(0.1, 10, (320, 1)), which


def test_directions_are_found_whatever_the_lengths(images: Path, tmp_path: Path) -> None:
    x, which = directions(np.random.default_rng(0))
    labels = np.where(which == 2, 1, which)
    labels[:5] = -1
    shown = of_features(images, x, labels)
    report = cluster(shown, 3, seed=1)
    assert report.assigned.tolist() == which.tolist(), "from the largest to the smallest"
    assert [each.size for each in report.clusters] == [200, 90, 30]
    for c, each in enumerate(report.clusters):
        unit = x[which == c] / np.linalg.norm(x[which == c], axis=1, keepdims=True)
        centre = unit.mean(0) / np.linalg.norm(unit.mean(0))
        assert each.similarity == pytest.approx((unit @ centre).mean(), abs=1e-6)
        nearest = np.flatnonzero(which == c)[np.argsort(-(unit @ centre))[:10]]
        assert list(each.nearest) == nearest.tolist()
        assert each.share == 1.0 and each.label == str(min(c, 1))
    assert report.agreement is not None and report.agreement.purity == 1 and report.agreement.n == 315
    write_clusters(report, shown, tmp_path / "x.csv")
    draw_clusters(report, shown, tmp_path / "x.png")
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["cluster"]) - 1 for row in rows] == which.tolist()
    assert rows[7]["image"] == "train[7]" and rows[7]["class"] == str(labels[7]) and rows[2]["class"] == ""
    assert json.loads(json.dumps(report.as_json()))["clusters"][2]["images"] == 30


def test_agreement_is_that_of_loops() -> None:
    g = np.random.default_rng(0)
    y, c = g.integers(0, 4, 200), g.integers(0, 3, 200)
    y[c == 0] = np.where(g.random((c == 0).sum()) < 0.7, 2, y[c == 0])
    y[:20] = -1
    found = agreement_with(y, c)
    pairs = [(int(a), int(b)) for a, b in zip(y, c, strict=True) if a >= 0]
    n, joint = len(pairs), Counter(pairs)
    of_y, of_c = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)

    def entropy(counts: Counter[int]) -> float:
        return -sum(m / n * math.log(m / n) for m in counts.values())

    def nmi(joint: Counter[tuple[int, int]]) -> float:
        mutual = sum(m / n * math.log(m * n / (of_y[a] * of_c[b])) for (a, b), m in joint.items())
        return 2 * mutual / (entropy(of_y) + entropy(of_c))

    assert found.nmi == pytest.approx(nmi(joint))
    shuffled = np.random.default_rng(1)
    known, groups = [a for a, _ in pairs], np.array([b for _, b in pairs])
    by_chance = [nmi(Counter(zip(known, shuffled.permutation(groups).tolist(), strict=True))) for _ in range(2000)]
    assert found.nmi_chance == pytest.approx(np.mean(by_chance), abs=float(4 * np.std(by_chance)) / math.sqrt(2000))
    assert found.nmi_chance > 0.005, "few images in twelve cells"
    assert found.purity == sum(max(m for (_, b), m in joint.items() if b == k) for k in of_c) / n
    together = sum(pairs[i][0] == pairs[j][0] and pairs[i][1] == pairs[j][1] for i in range(n) for j in range(i))
    same_y, same_c = (sum(math.comb(m, 2) for m in counts.values()) for counts in (of_y, of_c))
    chance = same_y * same_c / math.comb(n, 2)
    assert found.ari == pytest.approx((together - chance) / ((same_y + same_c) / 2 - chance))
    assert found.n == n == 180


def test_the_number_of_clusters(images: Path) -> None:
    shown = gallery(images)
    assert len(cluster(shown).clusters) == 4  # the classes
    assert len(cluster(of_features(images, shown.embedding.features, np.full(320, -1))).clusters) == 10
    with pytest.raises(UserError, match="^--K 321 is above 320, the number of readable images of noise$"):
        cluster(shown, 321)
    with pytest.raises(UserError, match="^--K must be at least 1"):
        cluster(shown, 0)


def test_fewer_different_images_than_clusters_are_told(images: Path) -> None:
    report = cluster(of_features(images, np.eye(320, 3)), 5)
    assert [each.size for each in report.clusters] == [317, 1, 1, 1]
    assert report.notices == ("4 clusters instead of 5: no more of the images have different features",)


def test_centres_of_a_sample_are_told_and_all_are_assigned(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contrastkit.explore.clustering.FITTED", 100)
    x, which = directions(np.random.default_rng(2))
    shown = of_features(images, x)
    report = cluster(shown, 3)
    assert report.assigned.tolist() == which.tolist()
    assert report.notices == ("the centres are those of 100 of the 320 images, drawn by --seed",)
    with pytest.raises(UserError, match="^--K 101 is above 100, the number of images from which the centres are comp"):
        cluster(shown, 101)
    assert len(cluster(shown).clusters) == 4
