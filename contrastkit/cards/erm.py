"""ERM."""

from contrastkit.cards.card import MethodCard

CARD = MethodCard(
    name="erm",
    summary="Empirical risk minimisation: cross-entropy with the labels, the baseline (Gulrajani & Lopez-Paz 2020).",
    title="In Search of Lost Domain Generalization",
    paper="Gulrajani & Lopez-Paz 2020",
    arxiv="2007.01434",
    query="the image's logits",
    dictionary="the classes",
    target="the label",
    negatives=False,
    idea=(
        "Train on all images alike, whatever environment they come from. That is the baseline of every method for "
        "predictors that hold elsewhere, and a strong one: the paper gives fourteen methods the same networks, "
        "augmentations and tuning, and none of them is better on average over seven sets. How a model is chosen, on "
        "images of the training environments or of the test, changes the order more than the method does. Needs no "
        "environments."
    ),
    equation="L = mean over all images of H(y, f(x)),   H(y, z) = -log softmax(z)_y",
    published=(
        ("PACS, ResNet-50, one environment held out, mean of four", "85.5",
         "arXiv:2007.01434, training-domain validation"),
        ("seven sets, mean: ERM / IRM / GroupDRO", "66.6 / 65.4 / 64.8",
         "arXiv:2007.01434, training-domain validation"),
    ),
)  # fmt: skip
