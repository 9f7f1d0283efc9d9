"""StableNet."""

from contrastkit.cards.card import MethodCard

CARD = MethodCard(
    name="stablenet",
    summary="StableNet: weigh images so that features are independent, without environments (Zhang et al. 2021).",
    title="Deep Stable Learning for Out-Of-Distribution Generalization",
    paper="Zhang et al. 2021",
    arxiv="2104.07876",
    query="the image's logits",
    dictionary="the classes",
    target="the label",
    negatives=False,
    idea=(
        "Irrelevant features mislead a classifier because they depend, in the training images, on the relevant ones. "
        "Under weights of the images that make all features independent of one another, they no longer do, and no "
        "environment has to be known. Dependence of any form is measured by random Fourier features, within a batch "
        "and a memory of saved features. As published, the inner descent leaves the weights almost equal, so that the "
        "method is ERM with another augmentation (docs/stable.md); --sample whole solves for the weights over all "
        "images instead."
    ),
    equation="""\
w = argmin sum_f sum_(i != j) Cov_w(h_f(Z_i), h_f(Z_j))^2 / lambda + sum_n w_n^2
L = sum_n w_n H(y_n, f(x_n)),   h_f(z) = sqrt(2) cos(omega z + b), or sin""",
    published=(
        ("PACS, ResNet-18, unbalanced 5 : 1 : 1, one environment held out, mean of four", "80.1",
         "xxgege/StableNet, README"),
        ("VLCS, likewise", "68.5", "xxgege/StableNet, README"),
    ),
)  # fmt: skip
