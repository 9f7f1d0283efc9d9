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
        "Each image is its own class, whose vector is neither a parameter nor stored but the image's current "
        "feature. A softmax over the batch gives the probability that a view is an instance: it should be high for "
        "its other view, which makes features invariant to the augmentation, and low for every other image, which "
        "spreads them out. One encoder and no memory: the method that SimCLR scaled up. A view gets gradients only "
        "as a query, not as a key."
    ),
    equation="""\
L_i = -log P_ip - sum_{j != i, p} log(1 - P_ij),   p the other view of i
P_ij = exp(f_i . sg(f_j) / tau) / sum_{k != i} exp(f_i . sg(f_k) / tau)""",
    published=(
        ("CIFAR-10, ResNet-18: kNN top-1", "83.6", "Ye et al. 2019"),
        ("STL-10 (105k images): linear / kNN top-1", "77.9 / 81.6", "Ye et al. 2019"),
    ),
)
