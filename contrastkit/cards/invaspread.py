"""InvaSpread."""

from contrastkit.cards.card import MethodCard

CARD = MethodCard(
    name="invaspread",
    summary="Invariant and spreading features: the batch as the dictionary (Ye et al. 2019).",
    title="Unsupervised Embedding Learning via Invariant and Spreading Instance Feature",
    paper="Ye et al. 2019",
    arxiv="1904.03436",
    query="a view",
    dictionary="all other views of the batch, as constants",
    target="the other view, same encoder",
    negatives=True,
    idea=(
        "Each image is a class of its own, and its class vector is not a parameter or a memory but its feature of "
        "the moment. A softmax over the batch gives the probability that a view is an instance: that of its other "
        "view should be high, which makes features invariant to the augmentation, and that of every other image "
        "low, which spreads them out. One encoder and no memory: the method that SimCLR made large. Gradients "
        "reach a view only as the one that asks, not as the one that is compared with."
    ),
    equation="""\
L_i = -log P_ip - sum_{j != i, p} log(1 - P_ij),   p the other view of i
P_ij = exp(f_i . sg(f_j) / tau) / sum_{k != i} exp(f_i . sg(f_k) / tau)""",
    published=(
        ("CIFAR-10, ResNet-18: kNN top-1", "83.6", "Ye et al. 2019"),
        ("STL-10 (105k images): linear / kNN top-1", "77.9 / 81.6", "Ye et al. 2019"),
    ),
)
