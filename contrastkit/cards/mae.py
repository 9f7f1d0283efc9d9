"""MAE."""

from contrastkit.cards.card import MethodCard

CARD = MethodCard(
    name="mae",
    summary="Masked autoencoder: see a quarter of an image's patches, predict the rest (He et al. 2021).",
    title="Masked Autoencoders Are Scalable Vision Learners",
    paper="He et al. 2021",
    arxiv="2111.06377",
    query="the visible patches, through a decoder",
    dictionary="none",
    target="the pixels of the hidden patches",
    negatives=False,
    idea=(
        "An image is cut into patches, and three quarters of them are hidden, at random. A vision transformer encodes "
        "the rest; a small decoder, which is discarded after training, gets its tokens and mask tokens in the places "
        "of the hidden patches, and predicts their pixels. Images are so redundant that hiding few would leave a task "
        "for interpolation; hiding most asks for an understanding of objects, and makes training cheap, since the "
        "encoder never sees what is hidden. The features need fine-tuning: neighbours and linear probes of the class "
        "token, which the loss does not mention, are worse than those of contrastive methods."
    ),
    equation="""\
L = mean over the hidden patches i of |g(f(visible patches))_i - (x_i - mean(x_i)) / sqrt(var(x_i) + 1e-6)|^2 / P
P: numbers of a patch; var is unbiased""",
    published=(
        ("ImageNet, ViT-B/16, 1600 epochs: fine-tuned; linear top-1", "83.66; 67.8",
         "facebookresearch/mae, FINETUNE.md"),
        ("ImageNet, ViT-L/16, 1600 epochs: fine-tuned; linear top-1", "85.95; 76.0",
         "facebookresearch/mae, FINETUNE.md"),
        ("ImageNet, ViT-H/14, 1600 epochs: fine-tuned; linear top-1", "86.93; 77.2",
         "facebookresearch/mae, FINETUNE.md"),
        ("ImageNet, ViT-B/16, 100 epochs, of others: kNN top-1", "11.2", "lightly, benchmarks"),
        ("CIFAR-10, a ViT with patches of 4, 800 epochs, a user's: fine-tuned top-1", "95.5",
         "enyac-group/supmae, issue 1"),
    ),
)  # fmt: skip
