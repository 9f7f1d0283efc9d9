"""CRD."""

from contrastkit.cards.card import MethodCard

CARD = MethodCard(
    name="crd",
    summary="Contrastive representation distillation, and KD (Hinton et al. 2015) beside it (Tian et al. 2019).",
    title="Contrastive Representation Distillation",
    paper="Tian et al. 2019",
    arxiv="1910.10699",
    query="the student's embedding; the teacher's",
    dictionary="two memory banks: each image by the other network",
    target="the image by the other network",
    negatives=True,
    idea=(
        "A small student learns from a trained teacher more than the labels say. Knowledge distillation (KD) has it "
        "imitate the teacher's outputs, class by class, which ignores how the teacher's features depend on each other. "
        "CRD has it keep what the teacher's features say of an image: a linear embedding of the student's features is "
        "to find that of the teacher's among the teacher's embeddings of thousands of images of other classes, kept in "
        "a memory bank, and the teacher's the student's. Both embeddings are trained and then dropped. The rows also "
        "have KD alone, both, and the student without a teacher (ce)."
    ),
    equation="""\
L = r H(y, softmax(s)) + a T^2 KL(softmax(t / T) || softmax(s / T)) + b (L_ST + L_TS)
L_ST = -log h(g_S, g_T) - sum_{k=1..N} log(1 - h(g_S, g_T^k))
h(u, v) = e^(u . v / tau) / (e^(u . v / tau) + N / M)""",
    published=(
        ("CIFAR-100, ResNet-110 -> ResNet-20: teacher / student alone / KD / CRD", "74.31 / 69.06 / 70.67 / 71.46",
         "HobbitLong/RepDistiller, README"),
        ("CIFAR-100, WRN-40-2 -> WRN-16-2: the same", "75.61 / 73.26 / 74.92 / 75.48",
         "HobbitLong/RepDistiller, README"),
        ("CIFAR-100, ResNet-32x4 -> ResNet-8x4: the same", "79.42 / 72.50 / 73.33 / 75.51",
         "HobbitLong/RepDistiller, README"),
        ("CIFAR-100, VGG-13 -> VGG-8: the same", "74.64 / 70.36 / 72.98 / 73.94", "HobbitLong/RepDistiller, README"),
    ),
)  # fmt: skip
