"""SimCLR, v1 and v2."""

from contrastkit.cards.card import MethodCard

_EQUATION = """\
l(i, j) = -log( exp(sim(z_i, z_j) / tau) / sum_{k=1..2N, k != i} exp(sim(z_i, z_k) / tau) )
L = 1/N sum over the N images' two views i, j of l(i, j) + l(j, i)"""

V1 = MethodCard(
    name="simclr-v1",
    summary="SimCLR: each view finds the other in a large batch, through a projector (Chen et al. 2020).",
    aliases={"simclr": "A simple framework for contrastive learning: its first form, simclr-v1."},
    title="A Simple Framework for Contrastive Learning of Visual Representations",
    paper="Chen et al. 2020",
    arxiv="2002.05709",
    query="each view",
    dictionary="all views of the batch",
    target="the other view, the same encoder",
    negatives=True,
    idea=(
        "Two random views of each image pass through one encoder and a small projector, and each should find the "
        "other among all views of a large batch. No queue and no second encoder are needed; what matters is the "
        "composition of crops and colour distortion, a non-linear projector that is discarded after training, the "
        "temperature, and many negatives: batches of thousands, trained with LARS and batch norm over all "
        "processes: contrastkit ablate projector and ablate augmentations. Small crops (--views swav) are SwAV's."
    ),
    equation=_EQUATION,
    published=(
        ("ImageNet, ResNet-50, 100 epochs: linear top-1", "64.5", "google-research/simclr, README"),
        ("ImageNet, ResNet-50 1x / 2x / 4x, 1000 epochs: linear top-1", "69.1 / 74.2 / 76.6",
         "google-research/simclr, README"),
        ("CIFAR-10, ResNet-18, 1000 epochs: linear top-1", "around 91", "google-research/simclr, README"),
    ),
)  # fmt: skip


V2 = MethodCard(
    name="simclr-v2",
    summary="SimCLR with a deeper projector, whose first layer is kept (Chen et al. 2020).",
    title="Big Self-Supervised Models are Strong Semi-Supervised Learners",
    paper="Chen et al. 2020",
    arxiv="2006.10029",
    query="each view",
    dictionary="all views of the batch (and a memory)",
    target="the other view, the same encoder",
    negatives=True,
    idea=(
        "SimCLR made larger: deeper, wider encoders with selective kernels, and a projector of three layers, the "
        "first of which is kept: features and fine-tuning start after it (--finetune-from), which helps most when "
        "labels are few. Optionally, the keys of a momentum encoder are stored as further negatives, as in MoCo "
        "(--memory)."
    ),
    equation=_EQUATION,
    published=(
        ("ImageNet, ResNet-50, 800 epochs: linear top-1", "71.7", "google-research/simclr, README"),
        ("the same with selective kernels; 2x wide; both", "74.6; 75.6; 77.7", "google-research/simclr, README"),
        ("the same, fine-tuned on 1 % / 10 % of the labels", "57.9 / 68.4", "google-research/simclr, README"),
        ("ImageNet, ResNet-152 3x SK: linear top-1", "79.8", "google-research/simclr, README"),
    ),
)  # fmt: skip
