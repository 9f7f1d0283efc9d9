"""IRM."""

from contrastkit.cards.card import MethodCard

CARD = MethodCard(
    name="irm",
    summary="Invariant Risk Minimization: one classifier that is best in every environment (Arjovsky et al. 2019).",
    title="Invariant Risk Minimization",
    paper="Arjovsky et al. 2019",
    arxiv="1907.02893",
    query="the image's logits",
    dictionary="the classes",
    target="the label",
    negatives=False,
    idea=(
        "What predicts the label in one environment and not in another, such as a colour or a background, is not what "
        "the label means. IRM looks for features on which the same classifier is optimal in every environment. In the "
        "practical version the classifier is fixed, the logits times w = 1, and a penalty, the squared slope of each "
        "environment's risk in w, asks that it could not be improved by scaling. Needs the environment of each image; "
        "the penalty is switched on when a part of the training is over, and its weight has to be tuned."
    ),
    equation="""\
L = mean_e R^e(f) + lambda (d/dw R^e(w f) at w = 1)^2
R^e(f) = mean over the images of environment e of H(y, f(x))""",
    published=(
        ("coloured digits whose colour flips in the test: test accuracy, ERM / IRM", "17.1 / 66.9",
         "arXiv:1907.02893, Table 1"),
        ("PACS, ResNet-50, one environment held out, mean of four: ERM / IRM", "85.5 / 83.5",
         "arXiv:2007.01434, training-domain validation"),
    ),
)  # fmt: skip
