"""SimSiam."""

from contrastkit.cards.card import MethodCard

CARD = MethodCard(
    name="simsiam",
    summary="Simple Siamese: predict the other view, stop-gradient, no negatives (Chen & He 2020).",
    title="Exploring Simple Siamese Representation Learning",
    paper="Chen & He 2020",
    arxiv="2011.10566",
    query="a view, through the predictor",
    dictionary="none",
    target="the other view, stop-gradient",
    negatives=False,
    idea=(
        "The simplest of the methods: one encoder and projector for both views, a small predictor on one side, and "
        "no gradient through the other. There are no negatives and no momentum encoder, and batches need not be "
        "large. Without the stop-gradient the outputs collapse (--no-stop-gradient shows this, and the monitor "
        "warns); the predictor, its constant learning rate, batch norm and the second direction can be removed "
        "too, as in the paper."
    ),
    equation=(
        "L = D(p1, stopgrad(z2)) / 2 + D(p2, stopgrad(z1)) / 2,   D(p, z) = -cos(p, z)\n"
        "z = f(x), encoder and projector;   p = h(z), predictor"
    ),
    published=(
        ("ImageNet, ResNet-50, 100 epochs, batch 512: linear top-1", "68.1", "facebookresearch/simsiam, README"),
        ("CIFAR-10, ResNet-18, 1000 epochs: online linear top-1", "90.51", "vturrisi/solo-learn, README"),
        ("CIFAR-10, ResNet-18, 200 / 800 epochs, batch 512: kNN top-1", "76.4 / 90.4", "lightly, benchmarks.rst"),
    ),
)
