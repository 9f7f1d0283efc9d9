"""Segmentation by retrieval, against loops over pixels and patches."""

import math
from collections import Counter

import pytest
import torch

from contrastkit.errors import UserError
from contrastkit.transfer.patches import PatchMemory, Retrieval, class_counts

N_CLASSES = 3


def example(seed: int, grid: tuple[int, int] = (3, 4), shape: tuple[int, int] = (13, 17)) -> tuple:
    """Maps [5, h, w] and a mask [H, W], some of whose pixels have no class."""
    g = torch.Generator().manual_seed(seed)
    mask = torch.randint(0, N_CLASSES, shape, generator=g)
    mask[torch.rand(shape, generator=g) < 0.2] = 255
    return torch.randn(5, *grid, generator=g), mask


def counts_by_hand(mask: torch.Tensor, h: int, w: int) -> list[Counter]:
    counts: list[Counter[int]] = [Counter() for _ in range(h * w)]
    H, W = mask.shape
    for y in range(H):
        for x in range(W):
            if mask[y, x] != 255:
                counts[(y * h // H) * w + x * w // W][int(mask[y, x])] += 1
    return counts


def test_pixels_are_counted_in_the_patch_in_which_they_lie() -> None:
    _, mask = example(0)
    counts = class_counts(mask, (3, 4), N_CLASSES)
    expected = counts_by_hand(mask, 3, 4)
    assert counts.tolist() == [[each[c] for c in range(N_CLASSES)] for each in expected]


def test_probabilities_are_those_of_a_double_loop() -> None:
    memory = PatchMemory(Retrieval(k=4, T=0.1), images=2, n_classes=N_CLASSES, seed=0)
    stored = []
    for i in range(2):
        maps, mask = example(i)
        memory.add(i, maps, mask)
        for p, count in enumerate(counts_by_hand(mask, 3, 4)):
            if total := sum(count.values()):
                vector = maps.flatten(1)[:, p].double()
                stored.append((vector / vector.norm(), [count[c] / total for c in range(N_CLASSES)]))
    maps, _ = example(5, grid=(2, 2))
    found = memory.predict(maps)
    assert found.shape == (N_CLASSES, 2, 2)
    for p in range(4):
        query = maps.flatten(1)[:, p].double()
        ranked = sorted(((float(query @ m / query.norm()), y) for m, y in stored), key=lambda pair: -pair[0])[:4]
        weights = [math.exp(s / 0.1) for s, _ in ranked]
        expected = [sum(w * y[c] for w, (_, y) in zip(weights, ranked, strict=True)) / sum(weights) for c in range(3)]
        assert found.flatten(1)[:, p].tolist() == pytest.approx(expected, abs=1e-5)
    assert found.sum(0).flatten().tolist() == pytest.approx([1] * 4)


def test_a_patch_of_the_memory_finds_itself() -> None:
    maps, mask = example(0)
    memory = PatchMemory(Retrieval(k=30, T=1e-3), images=1, n_classes=N_CLASSES, seed=0)
    memory.add(0, maps, mask)
    counts = class_counts(mask, (3, 4), N_CLASSES).double()
    assert torch.allclose(memory.predict(maps).flatten(1).T.double(), counts / counts.sum(1, keepdim=True), atol=1e-4)


def test_a_limited_memory_takes_the_same_number_from_each_image_and_prefers_rare_classes() -> None:
    mask = torch.zeros(8, 8, dtype=torch.int64)
    mask[0, 0] = 1  # in one of 64 patches
    taken = 0
    for seed in range(200):
        memory = PatchMemory(Retrieval(memory=20), images=2, n_classes=2, seed=seed)
        for i in range(2):
            memory.add(i, torch.randn(5, 8, 8), mask)
        assert len(memory) == 20
        taken += sum(int((labels[:, 1] > 0).sum()) for labels in memory._labels)
    # Its score is u * 1, the others' u * 63: of the ten smallest, it is all but always one. At random: 10 / 64.
    assert taken / 400 > 0.95


def test_a_memory_of_fewer_patches_than_images_takes_one_each_of_drawn_images() -> None:
    taken = torch.zeros(10)
    for seed in range(300):
        memory = PatchMemory(Retrieval(memory=3), images=10, n_classes=2, seed=seed)
        for i in range(10):
            before = len(memory)
            memory.add(i, torch.randn(5, 4, 4), torch.zeros(8, 8, dtype=torch.int64))
            taken[i] += len(memory) - before
        assert len(memory) == 3
    assert taken.sub(90).abs().max() < 5 * (300 * 0.3 * 0.7) ** 0.5


def test_a_memory_without_a_class_is_refused() -> None:
    memory = PatchMemory(Retrieval(memory=1), images=2, n_classes=2, seed=0)
    for i in range(2):
        memory.add(i, torch.randn(5, 2, 2), torch.full((4, 4), 255))
    with pytest.raises(UserError, match="none of 1 images has a pixel with a class: raise --memory"):
        memory.predict(torch.randn(5, 2, 2))


def test_a_patch_without_a_labelled_pixel_is_not_stored() -> None:
    mask = torch.full((4, 4), 255)
    mask[0, 0] = 1
    memory = PatchMemory(Retrieval(), images=1, n_classes=2, seed=0)
    memory.add(0, torch.randn(5, 2, 2), mask)
    assert len(memory) == 1


def test_a_memory_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contrastkit.memory.available_memory", lambda: 700)
    with pytest.raises(UserError, match="a memory of 24 patches takes .* lower --memory"):
        PatchMemory(Retrieval(), images=2, n_classes=N_CLASSES, seed=0).add(0, *example(0))
