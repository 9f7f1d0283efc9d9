"""Small batches, and what tests of several methods do with a method."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from contrastkit.bench import measure
from contrastkit.data import Captions
from contrastkit.evaluate.supervised import LinearClassifier
from contrastkit.methods import Method
from contrastkit.parts.build import build_encoder
from contrastkit.parts.teacher import Teacher
from contrastkit.types import Batch, Step


def batch(n: int, sizes: Sequence[int] = (16, 16), *, seed: int = 1, index: Tensor | None = None) -> Batch:
    """Noise: views [n, 3, size, size] in [0, 1) of unlabelled images ``index``, 0 to n - 1 by default."""
    g = torch.Generator().manual_seed(seed)
    views = [torch.rand(n, 3, size, size, generator=g) for size in sizes]
    return Batch(views, torch.arange(n) if index is None else index, torch.full((n,), -1))


def captions(n: int) -> Captions:
    """One to three captions of different lengths for each of n images; every seventh image has that of the first."""
    texts = ([f"Number {i}{' and so on' * k}" for k in range(1 + i % 3)] for i in range(n))
    return Captions(["number 0"] if i % 7 == 6 else of_image for i, of_image in enumerate(texts))


def teacher(n_classes: int, *, size: int | None = None) -> Teacher:
    """A teacher of images of three channels, the same at each call; torch's generator is left alone."""
    with torch.random.fork_rng([]):
        torch.manual_seed(7)
        classifier = LinearClassifier(build_encoder("tiny", channels=3, size=16, width=0.25), n_classes)
        classifier.fc.weight.data.mul_(10)  # sure of something
    of = {"source": "teacher.safetensors", "sha256": "0" * 64}
    return Teacher(classifier, kind={"name": "tiny", "width": 0.25}, classes=None, size=size, **of)


def random_pair(n: int, C: int) -> tuple[Tensor, Tensor]:
    """Two float64 [n, C], the first of them longer."""
    g = torch.Generator().manual_seed(0)
    return 3 * torch.randn(n, C, generator=g, dtype=torch.float64), torch.randn(n, C, generator=g, dtype=torch.float64)


@torch.no_grad()
def move_target(target: nn.Module) -> None:
    """Make it unlike the online tower, or a test could not tell them apart."""
    for p in target.parameters():
        p.add_(0.05 * torch.randn_like(p))


def step(method: Method, b: Batch, progress: float) -> Step:
    """Forward and ``after_step``."""
    out: Step = method(b, progress)
    method.after_step(b, out, progress)
    return out


def step_memory(method: Method, b: Batch) -> float:
    """Peak memory of a training step in bytes."""

    def way() -> None:
        out = method(b, 0.0)
        out.loss.backward()
        method.after_step(b, out, 0.0)

    return measure.peak_memory(way, "cpu")


def gradients(loss: Tensor, module: nn.Module) -> list[Tensor]:
    """Of the loss with respect to each parameter, float64."""
    return [g.double() for g in torch.autograd.grad(loss, list(module.parameters()))]


def assert_same_gradients(method: nn.Module, truth: nn.Module) -> None:
    """None of a target, and within float32's reach: what lies in front of batch norm may have a gradient of 0 but for
    rounding."""
    reference = {name: p.grad for name, p in truth.named_parameters() if p.grad is not None}
    actual = {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
    assert actual.keys() == reference.keys() and not any(name.startswith("target") for name in actual)
    largest = max(float(g.abs().max()) for g in reference.values())
    for name, g in reference.items():
        torch.testing.assert_close(actual[name], g, rtol=1e-3, atol=1e-5 * largest, msg=(name + ": {}").format)
