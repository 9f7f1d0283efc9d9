"""MoCo v3."""

from contrastkit.cards.card import MethodCard

CARD = MethodCard(
    name="moco-v3",
    summary="MoCo within the batch, with a predictor, for vision transformers too (Chen et al. 2021).",
    title="An Empirical Study of Training Self-Supervised Vision Transformers",
    paper="Chen et al. 2021",
    arxiv="2104.02057",
    query="each view, through a predictor",
    dictionary="the other view's keys of the batch",
    target="the other view, momentum encoder",
    negatives=True,
    idea=(
        "MoCo without its queue: batches are so large that their own keys provide enough negatives. From BYOL it "
        "takes a predictor on the query side, from SimCLR the symmetric loss and the deep heads. The paper studies "
        "how to train vision transformers this way: they lose accuracy through instabilities that the loss hardly "
        "shows and that begin in the first layer. The patch projection therefore stays frozen as initialised."
    ),
    equation="""\
L_q = -log( exp(q . k+ / tau) / (exp(q . k+ / tau) + sum over k- of exp(q . k- / tau)) )
L = 2 tau (L_q1 + L_q2), q1 among the keys k2 and q2 among the keys k1 of the batch
theta_k <- m theta_k + (1 - m) theta_q""",
    published=(
        ("ImageNet, ResNet-50, 100 / 300 / 1000 epochs: linear top-1", "68.9 / 72.8 / 74.6",
         "facebookresearch/moco-v3, CONFIG.md"),
        ("ImageNet, ViT-S/16, 300 epochs: linear top-1", "73.2", "facebookresearch/moco-v3, CONFIG.md"),
        ("ImageNet, ViT-B/16, 300 epochs: linear top-1; fine-tuned", "76.7; 83.2",
         "facebookresearch/moco-v3, CONFIG.md; README"),
        ("CIFAR-10, ResNet-18, 1000 epochs: linear top-1", "93.10; others report about 90",
         "solo-learn, README; its issue 385"),
    ),
)  # fmt: skip
