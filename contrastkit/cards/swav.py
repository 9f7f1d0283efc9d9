"""SwAV."""

from contrastkit.cards.card import MethodCard

CARD = MethodCard(
    name="swav",
    summary="Swapped assignments between views: predict another crop's cluster, multi-crop (Caron et al. 2020).",
    title="Unsupervised Learning of Visual Features by Contrasting Cluster Assignments",
    paper="Caron et al. 2020",
    arxiv="2006.09882",
    query="a crop, full-size or small",
    dictionary="K trained prototypes",
    target="the code (balanced cluster) of another, full-size crop",
    negatives=False,
    idea=(
        "Images are clustered while they are learned: K prototypes are trained along with the encoder, and the "
        "code of a full-size crop assigns it to them. Codes are computed for a whole batch, by three iterations of "
        "Sinkhorn's algorithm, such that all prototypes are used equally; this prevents collapse without negatives "
        "and without a second encoder. Every other crop of the image must predict the code. Small crops only "
        "predict, so there can be many of them at little cost (multi-crop). If the batch is smaller than the "
        "number of prototypes, a queue of earlier embeddings is balanced along with it."
    ),
    equation="""\
l(z_t, q_s) = -sum_k q_s^(k) log p_t^(k)      p_t^(k) = exp(z_t . c_k / tau) / sum_k' exp(z_t . c_k' / tau)
L = mean over full-size crops s, and over the other crops t, of l(z_t, q_s)
Q = Diag(u) exp(C^T Z / epsilon) Diag(v): columns q, that sum to 1, and equal sums of all rows""",
    published=(
        ("ImageNet, ResNet-50, 2x224 + 6x96, batch 4096, 100 / 200 / 400 / 800 epochs: linear top-1",
         "72.1 / 73.9 / 74.6 / 75.3", "facebookresearch/swav, README"),
        ("ImageNet, ResNet-50, 2x224 + 6x96, batch 256, 200 / 400 epochs: linear top-1", "72.7 / 74.3",
         "facebookresearch/swav, README"),
        ("ImageNet, ResNet-50, 2x224, 400 epochs: linear top-1", "70.1", "facebookresearch/swav, README"),
        ("CIFAR-10, ResNet-18, two crops, batch 512, 200 / 800 epochs: kNN top-1", "84.2 / 88.4",
         "lightly, benchmarks"),
        ("CIFAR-10, ResNet-18, two crops, 1000 epochs: online linear top-1", "89.17", "solo-learn, README"),
    ),
)  # fmt: skip
