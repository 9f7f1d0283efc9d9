"""MoCo, v1 and v2."""

from contrastkit.cards.card import MethodCard

_EQUATION = """\
L_q = -log( exp(q . k+ / tau) / (exp(q . k+ / tau) + sum_{i=1..K} exp(q . k_i / tau)) )
theta_k <- m theta_k + (1 - m) theta_q"""

V1 = MethodCard(
    name="moco-v1",
    summary="Momentum contrast: a queue of keys and a slow key encoder (He et al. 2019).",
    title="Momentum Contrast for Unsupervised Visual Representation Learning",
    paper="He et al. 2019",
    arxiv="1911.05722",
    query="a view",
    dictionary="a queue of K earlier keys",
    target="the other view, momentum encoder",
    negatives=True,
    idea=(
        "A view of an image, the query, should be nearer to another view of the same image, its positive key, than "
        "to the keys of other images. The dictionary is a queue of keys: those of each batch enter and the oldest "
        "leave, so it is far larger than a batch and needs no second encoding. Its keys stay comparable because "
        "their encoder changes slowly: it is the momentum average of the query's. Keys are encoded in shuffled "
        "order, so that batch norm cannot reveal which key belongs to which query."
    ),
    equation=_EQUATION,
    published=(
        ("ImageNet, ResNet-50, 200 epochs: linear top-1", "60.8 +- 0.2", "facebookresearch/moco, README"),
        ("VOC07+12 detection, the same encoder: AP50 / AP / AP75", "81.5 / 55.9 / 62.6",
         "facebookresearch/moco, README"),
        ("CIFAR-10, ResNet-18, 200 / 400 / 800 epochs: kNN top-1", "82.6 / 86.3 / 88.7", "its CIFAR-10 demo"),
    ),
)  # fmt: skip


V2 = MethodCard(
    name="moco-v2",
    summary="MoCo with an MLP head, stronger views and a cosine schedule (Chen et al. 2020).",
    aliases={"moco": "Momentum contrast: the newest form, moco-v2."},
    title="Improved Baselines with Momentum Contrastive Learning",
    paper="Chen et al. 2020",
    arxiv="2003.04297",
    query="a view",
    dictionary="a queue of K earlier keys",
    target="the other view, momentum encoder",
    negatives=True,
    idea=(
        "MoCo with the findings of SimCLR: an MLP head between encoder and loss, which is discarded after "
        "training, blur among the augmentations, and a cosine schedule; tau is 0.2. The queue provides as many "
        "negatives at a batch size of 256 as SimCLR has at thousands. The recipes other than the paper's use each "
        "view as query and key and sum both losses (symmetric), which sees twice as many pairs per epoch."
    ),
    equation=_EQUATION,
    published=(
        ("ImageNet, ResNet-50, 200 epochs: linear top-1", "67.5 +- 0.1", "facebookresearch/moco, README"),
        ("ImageNet, ResNet-50, 800 epochs: linear top-1", "71.1", "facebookresearch/moco, README"),
        ("VOC07+12 detection, 200 epochs: AP50 / AP / AP75", "82.4 / 57.0 / 63.6",
         "facebookresearch/moco, README"),
        ("CIFAR-10, ResNet-18, 200 / 400 / 800 epochs, symmetric: kNN top-1", "85.3 / 88.5 / 89.7",
         "its CIFAR-10 demo (linear head)"),
        ("CIFAR-10, ResNet-18, 800 epochs, symmetric: linear top-1", "90.7", "its CIFAR-10 demo (linear head)"),
    ),
)  # fmt: skip
