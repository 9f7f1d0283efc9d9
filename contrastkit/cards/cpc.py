"""CPC on images, v1 and v2."""

from contrastkit.cards.card import MethodCard

_EQUATION = """\
L = -sum_{i,j,k} log( exp(^z_{i+k,j} . z_{i+k,j} / tau) / sum_l exp(^z_{i+k,j} . z_l / tau) ),   l: all patches
^z_{i+k,j} = W_k c_{i,j},   c_{i,j} = PixelCNN(z of rows up to i)"""

V1 = MethodCard(
    name="cpc-v1",
    summary="Contrastive predictive coding: predict the patches below from those above (van den Oord et al. 2018).",
    title="Representation Learning with Contrastive Predictive Coding",
    paper="van den Oord et al. 2018",
    arxiv="1807.03748",
    query="a prediction from the rows of patches above",
    dictionary="all patches of the batch",
    target="the patch some rows below, same encoder",
    negatives=True,
    idea=(
        "An image is cut into overlapping patches, each encoded separately. From the patches above, a causal "
        "network predicts the features of patches further below, and each prediction has to identify its patch "
        "among all others of the image and of the batch. For this, features must capture what distant parts of an "
        "image have in common rather than their pixels. The loss introduced InfoNCE; it bounds the mutual "
        "information of context and patch. No second view is needed. The feature of a whole image is the mean over "
        "its patches."
    ),
    equation=_EQUATION,
    published=(
        ("ImageNet, ResNet-101 v2 up to its third stage: linear top-1", "48.7",
         "van den Oord et al. 2018, Table 3"),
    ),
)  # fmt: skip


V2 = MethodCard(
    name="cpc-v2",
    summary="CPC from four sides, with layer norm and patch-wise augmentation (Henaff et al. 2019).",
    aliases={"cpc": "Contrastive predictive coding: its newest form, cpc-v2."},
    title="Data-Efficient Image Recognition with Contrastive Predictive Coding",
    paper="Henaff et al. 2019",
    arxiv="1905.09272",
    query="a prediction from the rows of patches on one side, of four",
    dictionary="all patches of the batch",
    target="the patch some rows beyond, same encoder",
    negatives=True,
    idea=(
        "CPC, improved step by step: predictions from above, below, left and right; a separate augmentation for "
        "each patch, so that colours and borders no longer reveal which patches belong together; larger patches "
        "and encoders; and layer norm, because batch statistics would tell each context something about the very "
        "patches that it must predict."
    ),
    equation=_EQUATION,
    published=(
        ("ImageNet, ResNet-50: linear top-1 / top-5", "63.8 / 85.3", "Henaff et al. 2019"),
        ("ImageNet, ResNet-161: linear top-1", "71.5", "Henaff et al. 2019"),
        ("CIFAR-10, ResNet-101 with layer norm, 1000 epochs: an MLP on its features", "84.52", "lightning-bolts"),
    ),
)  # fmt: skip
