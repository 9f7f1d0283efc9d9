"""BYOL."""

from contrastkit.cards.card import MethodCard

CARD = MethodCard(
    name="byol",
    summary="Bootstrap your own latent: predict a slow average of oneself, no negatives (Grill et al. 2020).",
    title="Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning",
    paper="Grill et al. 2020",
    arxiv="2006.07733",
    query="a view, through the predictor",
    dictionary="none",
    target="the other view, momentum encoder",
    negatives=False,
    idea=(
        "One view of an image, through the online encoder, a projector and a predictor, should predict a target's "
        "output for another view; the target is the momentum average of encoder and projector, and gets no "
        "gradient. There are no negatives to keep all outputs apart; predictor and slow target prevent the "
        "collapse. Whether batch norm is needed for that was debated: the norms of projector, predictor and "
        "encoder are options, and contrastkit ablate byol-norm and ablate norm run the debate's experiments."
    ),
    equation=(
        "L = ||q(z) / |q(z)| - z' / |z'| ||^2 = 2 - 2 cos(q(z), z'), summed over both directions\n"
        "xi <- tau xi + (1 - tau) theta,   tau = 1 - (1 - tau_base) (cos(pi k / K) + 1) / 2"
    ),
    published=(
        ("ImageNet, ResNet-50, 1000 epochs: linear top-1", "74.3", "arXiv:2006.07733, Table 1"),
        ("the same with group norm and weight standardization: linear top-1", "73.9", "arXiv:2010.10241"),
        ("CIFAR-10, ResNet-18, 1000 epochs: online linear top-1", "92.58", "vturrisi/solo-learn, README"),
        ("CIFAR-10, ResNet-18, 200 / 800 epochs, batch 512: kNN top-1", "86.8 / 91.0", "lightly, benchmarks.rst"),
    ),
)
