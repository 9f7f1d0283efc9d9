"""SimCLR v2's distillation."""

from contrastkit.cards.card import MethodCard

CARD = MethodCard(
    name="simclr-v2-distill",
    word="simclr-v2",
    summary="SimCLR v2's last step: a fine-tuned teacher labels images for a student (Chen et al. 2020).",
    title="Big Self-Supervised Models are Strong Semi-Supervised Learners",
    paper="Chen et al. 2020",
    arxiv="2006.10029",
    query="the student's output",
    dictionary="the classes",
    target="the teacher's output for the same view",
    negatives=False,
    idea=(
        "Few labels go furthest in three steps: pre-training without labels (simclr-v2), fine-tuning on the few labels "
        "from the first layer of the projector, and this one, in which the fine-tuned network labels all unlabelled "
        "images, softly, for a student of its own size or a smaller one. The student needs no label, gains over the "
        "teacher when both are of one size, and keeps most of it when it is smaller."
    ),
    equation="""\
L = -alpha sum_x T^2 sum_y P_T(y | x; T) log P_S(y | x; T) - (1 - alpha) sum_(x, y) log P_S(y | x)
P(y | x; T) = e^(f(x)[y] / T) / sum_y' e^(f(x)[y'] / T)""",
    published=(
        ("ImageNet, ResNet-50 distilled from a larger one: top-1 with 1 % / 10 % of the labels", "73.9 / 77.5",
         "arXiv:2006.10029, abstract"),
    ),
)  # fmt: skip
