"""SimCLR v2's distillation against its equations, written out as loops in float64."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from contrastkit.data.arrays import ArraySource
from contrastkit.errors import UserError
from contrastkit.methods import DISTILLATIONS, BuildContext
from contrastkit.methods.simclr_distill import SimCLRDistill, SimCLRDistillRecipe
from contrastkit.types import Batch
from tests.methods import small
from tests.methods.small import gradients

N, M, CLASSES = 6, 40, 5
INDEX = torch.tensor([3, 39, 0, 17, 22, 8])
LABELS = torch.where(torch.arange(M) % 3 == 0, torch.arange(M) % CLASSES, -1)  # of a third of the images


def recipe(**numbers: Any) -> SimCLRDistillRecipe:
    base = DISTILLATIONS["simclr-v2-distill/tiny"]
    assert isinstance(base, SimCLRDistillRecipe)
    return replace(base, **{"batch": N, "finetune_from": 0, **numbers})


def build(**numbers: Any) -> SimCLRDistill:
    torch.manual_seed(0)
    context = BuildContext(channels=3, size=16, images=M, seed=3, teacher=small.teacher(CLASSES), labels=LABELS)
    return recipe(**numbers).build(context).train()


def batch() -> Batch:
    return small.batch(N, (16,), index=INDEX)


def softmax(row: Tensor) -> list[Tensor]:
    total = sum(torch.exp(x) for x in row)
    return [torch.exp(x) / total for x in row]


@pytest.mark.parametrize("alpha", [1.0, 0.7, 0.0])
@pytest.mark.parametrize("T", [0.5, 1.0, 3.0])
def test_loss_and_gradient_are_the_papers(T: float, alpha: float) -> None:
    method, b = build(T=T, alpha=alpha), batch()
    s = method.online(b.views[0]).double()
    t = method.teacher(b.views[0])[1].double()
    expected = torch.zeros((), dtype=torch.float64)
    for i, y in enumerate(LABELS[INDEX].tolist()):
        targets, answers = softmax(t[i] / T), softmax(s[i] / T)
        expected = expected - alpha * T * T * sum(p * torch.log(q) for p, q in zip(targets, answers, strict=True)) / N
        if y >= 0:
            expected = expected - (1 - alpha) * torch.log(softmax(s[i])[y]) / N
    out = method(b, 0.0)
    assert out.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for g, g_expected in zip(gradients(out.loss, method.online), gradients(expected, method.online), strict=True):
        torch.testing.assert_close(g, g_expected, atol=3e-4 * g_expected.abs().max().clamp(min=1e-3).item(), rtol=0)


def test_an_unlabelled_batch_has_no_loss_of_labels() -> None:
    method = build(alpha=0.0)
    unlabelled = small.batch(3, (16,), index=torch.tensor([1, 2, 4]))
    assert (LABELS[unlabelled.index] == -1).all() and method(unlabelled, 0.0).loss.item() == 0


def test_the_student_learns_the_teachers_answers() -> None:
    method = build()
    optimizer = torch.optim.SGD(method.online.parameters(), lr=0.1, momentum=0.9)
    agreement = []
    for _ in range(40):
        out = method(batch(), 0.0)
        out.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        agreement.append(out.logs["agreement"].item())
    assert sum(agreement[-6:]) / 6 > 0.9


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ({"T": 0.1, "width": 0.25}, False),  # as its teacher
        ({"T": 0.1, "width": 0.125}, True),
        ({"T": 0.1, "width": 0.25, "encoder": "resnet18"}, True),
        ({"T": 1.0, "encoder": "resnet18"}, False),
        ({"T": 0.1, "encoder": "resnet18", "alpha": 0.0}, False),  # T has no effect
    ],
)
def test_the_temperature_of_self_distillation_is_told_for_another_student(numbers: dict[str, Any], told: bool) -> None:
    says = [
        "T is 0.1: the paper has 0.1 for a student built like its teacher, which this one is not, and 1 for a smaller "
        "one (--T 1)"
    ]
    assert build(**numbers).notices == (says if told else [])


def test_labels_with_a_weight_must_be_there() -> None:
    source = ArraySource("bare", torch.zeros(8, 3, 16, 16, dtype=torch.uint8))
    recipe().check(source)
    with pytest.raises(UserError, match=r"--alpha 0.5 weighs labels, and no training image of bare has one"):
        recipe(alpha=0.5).check(source)


def test_a_student_is_built_like_its_teacher_unless_another_is_asked_for() -> None:
    source = ArraySource("letters", torch.zeros(8, 3, 16, 16, dtype=torch.uint8), orientation_matters=True)
    row, teacher = recipe(finetune_from=1), small.teacher(CLASSES, size=20)
    like = row.for_teacher(teacher, source, None)
    assert (like.encoder, like.width, like.finetune_from, like.views[0].size) == ("tiny", 0.25, 0, 20)
    other = row.for_teacher(teacher, source, "resnet18")
    assert (other.encoder, other.width, other.finetune_from) == ("tiny", 1.0, 1)  # the change of encoder comes later
    assert {view.flip_p for view in (*like.views, *other.views)} == {0.0}, "a flip would be another letter"
