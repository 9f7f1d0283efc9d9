"""GroupDRO."""

from contrastkit.cards.card import MethodCard

CARD = MethodCard(
    name="groupdro",
    summary="GroupDRO: weigh the groups that do worst, for the worst case over groups (Sagawa et al. 2019).",
    title=(
        "Distributionally Robust Neural Networks for Group Shifts: On the Importance of Regularization for Worst-Case "
        "Generalization"
    ),
    paper="Sagawa et al. 2019",
    arxiv="1911.08731",
    query="the image's logits",
    dictionary="the classes",
    target="the label",
    negatives=False,
    idea=(
        "A classifier that is good on average may fail on a small group, such as waterbirds on land, because a "
        "shortcut holds for all others. GroupDRO minimises the loss of the worst group: weights over groups grow with "
        "their losses, step by step, and the network follows the weighted loss. Groups are environments, or an "
        "environment with a class (--groups environment-class). The paper shows that a network that fits all training "
        "images gains nothing from it unless it is regularised strongly or stopped early."
    ),
    equation="""\
q_g <- q_g e^(eta l_g), then q <- q / sum_g q_g
L = sum_g q_g l_g,   l_g = mean over the images of group g of H(y, f(x))""",
    published=(
        ("gain in the accuracy of the worst group over ERM, with strong regularisation", "10 to 40 points",
         "arXiv:1911.08731, abstract"),
        ("PACS, ResNet-50, one environment held out, mean of four: ERM / GroupDRO", "85.5 / 84.4",
         "arXiv:2007.01434, training-domain validation"),
    ),
)  # fmt: skip
