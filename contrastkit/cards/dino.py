"""DINO."""

from contrastkit.cards.card import MethodCard

CARD = MethodCard(
    name="dino",
    summary="Self-distillation with no labels: match a slow, sharpened teacher's outputs (Caron et al. 2021).",
    title="Emerging Properties in Self-Supervised Vision Transformers",
    paper="Caron et al. 2021",
    arxiv="2104.14294",
    query="any view, global or local",
    dictionary="K trained output dimensions",
    target="a global view, momentum teacher, centred and sharpened",
    negatives=False,
    idea=(
        "Distillation without labels: a student learns to match the output of its teacher, which is its own "
        "momentum average. The teacher sees two large crops, the student these and several small ones, so that "
        "parts are matched to wholes. Outputs are distributions over thousands of dimensions without predefined "
        "meaning. Two collapses threaten: all outputs uniform, or all concentrated on the same dimension; "
        "sharpening the teacher prevents the first, subtracting its running mean the second."
    ),
    equation="""\
L = sum over global views x, over other views x' of H(P_t(x), P_s(x'))     (we take the mean over the pairs)
P_s(x) = softmax(g_s(x) / tau_s)        P_t(x) = softmax((g_t(x) - c) / tau_t)
theta_t <- lambda theta_t + (1 - lambda) theta_s        c <- m c + (1 - m) mean of g_t(x)""",
    published=(
        ("ImageNet, ViT-S/16, 100 epochs: kNN; linear top-1", "69.3; 74.0", "facebookresearch/dino, README"),
        ("the same, 300 epochs, tau_t to 0.07, free last layer", "73.3; 76.0", "facebookresearch/dino, README"),
        ("ImageNet, ViT-S/16, 800 epochs: kNN; linear top-1", "74.5; 77.0", "facebookresearch/dino, README"),
        ("ImageNet, ResNet-50, 800 epochs: kNN; linear top-1", "67.5; 75.3", "facebookresearch/dino, README"),
        ("CIFAR-10, ResNet-18, 200 epochs, batch 128: kNN top-1", "84.0", "lightly, benchmarks"),
        ("CIFAR-10, ResNet-18, 1000 epochs: linear top-1", "89.52; others report about 87",
         "solo-learn, README; its issue 397"),
    ),
)  # fmt: skip
