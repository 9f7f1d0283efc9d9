"""InstDisc."""

from contrastkit.cards.card import MethodCard

CARD = MethodCard(
    name="instdisc",
    summary="Instance discrimination: a memory bank of all images, NCE or softmax (Wu et al. 2018).",
    title="Unsupervised Feature Learning via Non-Parametric Instance Discrimination",
    paper="Wu et al. 2018",
    arxiv="1805.01978",
    query="a view",
    dictionary="a memory bank: a row of every image",
    target="the image's own row",
    negatives=True,
    idea=(
        "Every image is its own class. A classifier over so many classes has no weights to learn: the weight "
        "vector of a class is the encoder's latest feature of its image, stored in a memory bank. A view of an "
        "image should be nearer to the image's own row than to K other rows, drawn at random for each image; "
        "noise-contrastive estimation distinguishes them one by one, with a constant in place of the softmax's sum "
        "over all images. A row is written once per epoch, so the bank always lags behind the encoder."
    ),
    equation="""\
P(i | v) = exp(v_i . v / tau) / Z        h(i, v) = P(i | v) / (P(i | v) + K / n)
J = -log h(i, v) - sum_{k=1..K} log(1 - h(i_k, v)) + lambda ||v - v_i||^2
v_i <- normalise(m v_i + (1 - m) v)""",
    published=(
        ("ImageNet, ResNet-18 / ResNet-50, 200 epochs: kNN top-1", "41.0 / 46.8", "zhirongw/lemniscate.pytorch"),
        ("ImageNet, ResNet-50, 200 epochs: linear top-1, NCE", "56.5", "HobbitLong/CMC, README"),
        ("the same, softmax over 4,096 / 16,384 draws", "57.1 / 58.5", "HobbitLong/CMC, README"),
        ("CIFAR-10, ResNet-18, 200 epochs: kNN top-1, full softmax / NCE", "80.8 / 80.4", "Table 1"),
    ),
)
