"""CRD and KD against their equations, written out as loops in float64; whose images are negatives; what is refused."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from contrastkit.augment import VIEWS, augment
from contrastkit.augment.draw import draw
from contrastkit.data.arrays import ArraySource
from contrastkit.errors import UserError
from contrastkit.methods import DISTILLATIONS, BuildContext
from contrastkit.methods.crd import CRD, CRDRecipe
from contrastkit.optim import learning_rate
from contrastkit.parts.dictionary import MemoryBank, OtherClasses
from contrastkit.training.plan import replaced
from contrastkit.types import Batch
from tests.methods import small
from tests.methods.small import gradients, step

N, M, K, C, TAU, T, CLASSES = 6, 40, 10, 16, 0.1, 4.0, 5
INDEX = torch.tensor([3, 39, 0, 17, 22, 8])
LABELS = torch.tensor([(i * i + i // 7) % CLASSES for i in range(M)])


def recipe(row: str = "tiny", **numbers: Any) -> CRDRecipe:
    base = DISTILLATIONS[f"crd/{row}"]
    assert isinstance(base, CRDRecipe)
    return replace(base, **{"batch": N, "K": K, "dim": C, "tau": TAU, "T": T, **numbers})


def build(row: str = "tiny", *, size: int | None = None, **numbers: Any) -> CRD:
    torch.manual_seed(0)
    teacher = small.teacher(CLASSES, size=size)
    context = BuildContext(channels=3, size=16, images=M, seed=3, teacher=teacher, labels=LABELS)
    return recipe(row, **numbers).build(context).train()


def batch(seed: int = 1) -> Batch:
    return small.batch(N, (16,), seed=seed, index=INDEX)


def softmax(row: list[Tensor]) -> list[Tensor]:
    total = sum(torch.exp(x) for x in row)
    return [torch.exp(x) / total for x in row]


def embedded(linear: Any, features: Tensor) -> list[Tensor]:
    """Each image's embedding, float64, on the unit sphere."""
    rows = features.double() @ linear[0].weight.double().T + linear[0].bias.double()
    return [row / row.norm() for row in rows]


def contrast(z: list[Tensor], bank: Tensor, rows: list[list[int]]) -> Tensor:
    """Noise-contrastive estimation with Pn = 1 / M and Z from this batch (crd/memory.py, crd/criterion.py)."""
    s = [[torch.exp((z[i] * bank[y].double()).sum() / TAU) for y in row] for i, row in enumerate(rows)]
    Z = M * sum(x.item() for row in s for x in row) / (N * (K + 1))
    total = torch.zeros((), dtype=torch.float64)
    for row in s:
        for k, x in enumerate(row):
            P = x / Z
            total = total - torch.log(P / (P + K / M) if k == 0 else (K / M) / (P + K / M))
    return total / N


def whole(method: CRD, b: Batch) -> dict[str, Tensor]:
    """The three losses of a batch, float64."""
    f_s = method.online.encoder(b.views[0])
    f_t, t = method.teacher(b.views[0])
    s, t = method.online.head(f_s).double(), t.double()
    ce = kd = torch.zeros((), dtype=torch.float64)
    for i in range(N):
        ce = ce - torch.log(softmax(list(s[i]))[int(LABELS[INDEX[i]])]) / N
        p, q = softmax(list(t[i] / T)), softmax(list(s[i] / T))
        kd = kd + T * T * sum(a * torch.log(a / b) for a, b in zip(p, q, strict=True)) / N
    losses = {"ce": ce, "kd": kd}
    if hasattr(method, "bank"):
        rows = method.bank.draw(INDEX, K, seed=3, progress=0.0, others=method.others).tolist()
        z_s, z_t, bank = embedded(method.embed_s, f_s), embedded(method.embed_t, f_t), method.bank.rows
        losses["crd"] = contrast(z_s, bank[:, 1], rows) + contrast(z_t, bank[:, 0], rows)
    return losses


@pytest.mark.parametrize(
    ("row", "weights"),
    [
        ("tiny", {"ce": 1.0, "crd": 0.8}),
        ("tiny-kd", {"ce": 0.1, "kd": 0.9}),
        ("tiny-crd+kd", {"ce": 1.0, "kd": 1.0, "crd": 0.8}),
        ("tiny-ce", {"ce": 1.0}),
        ("tiny-unlabelled", {"kd": 1.0, "crd": 0.8}),
    ],
)
def test_loss_and_gradient_are_the_papers(row: str, weights: dict[str, float]) -> None:
    method, b = build(row), batch()
    losses = whole(method, b)
    expected = sum((w * losses[name] for name, w in weights.items()), torch.zeros((), dtype=torch.float64))
    out = method(b, 0.0)
    assert out.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert {name for name in ("ce", "kd", "crd") if name in out.logs} == weights.keys()
    for name in weights:
        assert out.logs[name].item() == pytest.approx(losses[name].item(), rel=1e-4)
    trained = torch.nn.ModuleList(
        [method.online, *(getattr(method, n) for n in ("embed_s", "embed_t") if "crd" in weights)]
    )
    for g, g_expected in zip(gradients(out.loss, trained), gradients(expected, trained), strict=True):
        torch.testing.assert_close(g, g_expected, atol=3e-4 * g_expected.abs().max().clamp(min=1e-3).item(), rtol=0)


def test_the_banks_hold_what_each_network_says_of_the_batch() -> None:
    method, b = build(m=0.3), batch()
    before = method.bank.rows.double().clone()
    step(method, b, 0.0)
    f_t, _ = method.teacher(b.views[0])
    z = embedded(method.embed_s, method.online.encoder(b.views[0])), embedded(method.embed_t, f_t)
    expected = before.clone()
    for slot in range(2):
        for i, y in enumerate(INDEX.tolist()):
            row = 0.3 * before[y, slot] + 0.7 * z[slot][i]
            expected[y, slot] = row / row.norm()
    torch.testing.assert_close(method.bank.rows.double(), expected, atol=1e-6, rtol=0)


def test_Z_is_estimated_once() -> None:
    method = build()
    step(method, batch(1), 0.0)
    Z = method.bank.Z.clone()
    step(method, batch(2), 0.1)
    assert Z.shape == (1, 2) and bool((Z > 0).all()) and torch.equal(method.bank.Z, Z)


# ---------------------------------------- negatives


def draws(labels: Tensor, index: Tensor, K: int, *, seed: int = 0, progress: float = 0.0) -> Tensor:
    bank = MemoryBank(len(labels), 2, generator=torch.Generator().manual_seed(0))
    return bank.draw(index, K, seed=seed, progress=progress, others=OtherClasses(labels))


def test_no_negative_is_of_the_images_own_class() -> None:
    drawn = draws(LABELS, torch.arange(M), 2000)
    assert torch.equal(drawn[:, 0], torch.arange(M))
    assert bool((LABELS[drawn[:, 1:]] != LABELS[:, None]).all())
    assert int(drawn.min()) >= 0 and int(drawn.max()) < M


@pytest.mark.parametrize("labels", [LABELS, torch.arange(M) % 2, (torch.arange(M) == 7).long(), 3 * LABELS + 4])
def test_each_image_of_another_class_is_equally_likely(labels: Tensor) -> None:
    """Chi-square over 40,000 draws for each of three images."""
    for i in (0, 7, M - 1):
        counts = draws(labels, torch.tensor([i]), 40_000)[0, 1:].bincount(minlength=M).double()
        others = labels != labels[i]
        expected = 40_000 / int(others.sum())
        assert int(counts[~others].sum()) == 0
        statistic = float(((counts[others] - expected) ** 2 / expected).sum())
        assert others.sum() == 1 or statistic < chi2.ppf(1 - 1e-6, int(others.sum()) - 1)


def test_draws_are_a_function_of_seed_step_and_image() -> None:
    index = torch.tensor([5, 11, 30])
    drawn = draws(LABELS, index, 50)
    assert torch.equal(drawn, draws(LABELS, index, 50))
    assert torch.equal(drawn[1:2], draws(LABELS, index[1:2], 50)), "the rest of the batch must not matter"
    assert torch.equal(drawn[:, :21], draws(LABELS, index, 20))
    assert not torch.equal(drawn[:, 1:], draws(LABELS, index, 50, seed=1)[:, 1:])
    assert not torch.equal(drawn[:, 1:], draws(LABELS, index, 50, progress=0.1)[:, 1:])


def test_without_labels_negatives_are_of_all_images() -> None:
    method = build("tiny-unlabelled")
    assert method.others is None
    drawn = method.bank.draw(INDEX, 4000, seed=3, progress=0.0)
    assert bool((LABELS[drawn[:, 1:]] == LABELS[INDEX][:, None]).any())


# ---------------------------------------- the teacher


def test_the_teacher_is_in_no_state_and_stays_as_it_is() -> None:
    method = build("tiny-crd+kd")
    assert not any("teacher" in name for name in method.state_dict())
    assert not any("teacher" in name for name, _ in method.named_parameters())
    network = method.teacher.classifier
    before = {name: value.clone() for name, value in network.state_dict().items()}
    method.train()
    method(batch(), 0.0).loss.backward()
    assert not network.training and all(p.grad is None for p in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_student_alone_asks_the_teacher_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    method = build("tiny-ce")
    monkeypatch.setattr(type(method.teacher), "__call__", lambda *_: pytest.fail("the teacher was asked"))
    assert method(batch(), 0.0).loss.isfinite()


def test_gray_images_are_repeated_for_a_teacher_of_colours() -> None:
    teacher, gray = small.teacher(CLASSES), torch.rand(4, 1, 16, 16)
    for one, three in zip(teacher(gray), teacher(gray.repeat(1, 3, 1, 1)), strict=True):
        torch.testing.assert_close(one, three)


# ---------------------------------------- numbers


def test_uniform_similarities_and_answers_cost_chance() -> None:
    method = build()
    for p in (*method.online.head.parameters(), method.bank.rows):
        torch.nn.init.zeros_(p)
    one = math.log(K + 1) + K * math.log((K + 1) / K)
    assert method(batch(), 0.0).loss.item() == pytest.approx(math.log(CLASSES) + 0.8 * 2 * one, rel=1e-5)
    assert method.chance_loss == pytest.approx(math.log(CLASSES) + 0.8 * 2 * one)
    assert build("tiny-kd").chance_loss is None


def test_the_rate_falls_at_the_published_epochs() -> None:
    row = recipe("32")
    how: Any = {"schedule": row.schedule, "base_lr": row.lr, "milestones": row.milestones, "epochs": row.epochs}
    rates = [learning_rate(epoch / 240, gamma=row.gamma, **how) for epoch in (0, 149, 150, 179, 180, 209, 210, 239)]
    assert rates == pytest.approx([0.05, 0.05, 5e-3, 5e-3, 5e-4, 5e-4, 5e-5, 5e-5])


def test_a_view_is_the_image_shifted_by_up_to_four_pixels_over_black() -> None:
    """torchvision's RandomCrop(32, padding=4), then a flip."""
    (view,), g = VIEWS["crd-32"], torch.Generator().manual_seed(0)
    image = torch.randint(1, 256, (1, 3, 32, 32), generator=g, dtype=torch.uint8)
    padded = torch.nn.functional.pad(image[0].float() / 255, (4, 4, 4, 4))
    shifts = {}
    for top in range(9):
        for left in range(9):
            crop = padded[:, top : top + 32, left : left + 32]
            shifts[top, left, False], shifts[top, left, True] = crop, crop.flip(2)
    seen = set()
    for i in range(60):
        params = draw(view, torch.tensor([[32, 32]]), channels=3, seed=0, time=0, index=torch.tensor([i]), v=0)
        made = augment(image, params)[0]
        match = [key for key, crop in shifts.items() if (made - crop).abs().max() < 1e-3]
        assert len(match) == 1
        seen |= set(match)
    assert {top for top, _, _ in seen} == {left for _, left, _ in seen} == set(range(9))


# ---------------------------------------- what is refused


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ({"r": 0.0}, "nothing trains the student's last layer"),
        ({"views": 2 * recipe().views}, "takes one view, not 2"),
        ({"K": 100}, "--K 100 draws are more than the 40 images"),
        ({"size": 24}, "was trained on images of 24 px, and the views have 32: give --size 24"),
    ],
)
def test_what_does_not_fit_is_refused(numbers: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        build(**numbers)


def test_numbers_of_a_loss_without_weight_are_refused_if_given() -> None:
    rows, v2 = DISTILLATIONS, DISTILLATIONS["simclr-v2-distill/tiny"]
    ce, kd, both = rows["crd/tiny-ce"], rows["crd/tiny-kd"], rows["crd/tiny-crd+kd"]
    refused: list[tuple[Any, dict[str, Any], str]] = [
        (ce, {"T": 4.0}, "--a 0 there is no effect of --T: leave it out, or raise --a"),  # the row's own number, too
        (ce, {"dim": 7, "tau": 3.0}, "--b 0 there is no effect of --tau, --dim: leave them out, or raise --b"),
        (kd, {"K": 9, "m": 0.1, "negatives": "all"}, "--b 0 there is no effect of --K, --m, --negatives: leave them"),
        (both, {"a": 0.0, "T": 9.0}, "--a 0 there is no effect of --T"),
        (v2, {"alpha": 0.0, "T": 9.0}, "--alpha 0 there is no effect of --T"),
    ]
    for row, numbers, says in refused:
        with pytest.raises(UserError, match=says):
            replaced(numbers)(row)
    every = {"T": 9.0, "K": 9, "tau": 3.0, "m": 0.1, "dim": 7, "negatives": "all"}
    taken = (both, every), (ce, every | {"a": 1.0, "b": 1.0}), (kd, {"T": 9.0, "r": 0.0}), (v2, {"T": 9.0})
    for row, numbers in taken:
        made = replaced(numbers)(row)
        assert {name: getattr(made, name) for name in numbers} == numbers


def test_the_way_to_distil_without_labels_is_one_that_is_taken() -> None:
    unlabelled = ArraySource("bare", torch.zeros(8, 3, 16, 16, dtype=torch.uint8))
    ways: dict[str, dict[str, Any]] = {"tiny": {"negatives": "all"}, "tiny-kd": {}}
    for name, numbers in ways.items():
        row: Any = DISTILLATIONS[f"crd/{name}"]
        way = "--r 0 --a 1 --negatives all" if numbers else "--r 0 --a 1"
        with pytest.raises(UserError, match=f"distil without labels by {way}$"):
            row.check(unlabelled)
        replaced({"r": 0.0, "a": 1.0, **numbers})(row).check(unlabelled)
