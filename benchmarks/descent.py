"""`python -m benchmarks.descent`: what StableNet's inner descent takes of a step, by recipe: 20 inner steps for a
batch, beside the forward and backward pass of the encoder; and which part of it cosines and gradients take. Prints a
line for each.
"""

import torch
from torch.nn import functional as F

from benchmarks.draws import milliseconds
from contrastkit import rng
from contrastkit.methods import SUPERVISED, BuildContext
from contrastkit.methods.stablenet import StableNet, StableNetRecipe, cosines, covariance_gradient, learnt_logits
from contrastkit.types import Batch

CLASSES = 7
ROWS = ("stablenet/tiny", "stablenet/32", "stablenet/imagenet")


def line(name: str) -> str:
    recipe = SUPERVISED[name]
    assert isinstance(recipe, StableNetRecipe)
    n, size = recipe.batch, recipe.views[0].size
    labels = torch.arange(4 * n) % CLASSES
    method = recipe.build(BuildContext(channels=3, size=size, images=4 * n, labels=labels, n_classes=CLASSES))
    assert isinstance(method, StableNet)
    g = torch.Generator().manual_seed(0)
    images = torch.rand(n, 3, size, size, generator=g).to(memory_format=torch.channels_last)
    batch = Batch([images], torch.arange(n), labels[:n])
    with torch.no_grad():
        features = method.outputs(batch).features
    method.features.copy_(features.roll(1, 0))
    both, w = torch.cat([features, method.features]), torch.full((2 * n,), 1 / (2 * n))

    def encoder() -> None:
        F.cross_entropy(method.online.head(method.online.encoder(images)), batch.label).backward()

    def descent() -> None:
        learnt_logits(features, method.features, method.logits, recipe, seed=0, progress=0.5)

    def drawn() -> torch.Tensor:
        return cosines(both, recipe.num_f, seed=0, time=rng.at_step(0.5), step=0)

    X = drawn()
    step, inner = milliseconds(encoder, 3), milliseconds(descent)
    draws, slopes = (recipe.epochb * milliseconds(work) for work in (drawn, lambda: covariance_gradient(X, w)))
    parts = f"cosines {draws / inner:.0%}, gradients {slopes / inner:.0%} of the descent"
    return (
        f"{name}: {n} images of {size} px, {features.shape[1]} features: encoder {step:,.0f} ms, "
        f"descent {inner:.1f} ms, {inner / (step + inner):.1%} of both; {parts}"
    )


def main() -> None:
    for name in ROWS:
        print(line(name), flush=True)


if __name__ == "__main__":
    main()
