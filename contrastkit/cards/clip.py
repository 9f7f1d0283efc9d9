"""CLIP."""

from contrastkit.cards.card import MethodCard

CARD = MethodCard(
    name="clip",
    summary="Images against their captions: an image and a text tower, a learnt temperature (Radford et al. 2021).",
    title="Learning Transferable Visual Models From Natural Language Supervision",
    paper="Radford et al. 2021",
    arxiv="2103.00020",
    query="an image; and a caption",
    dictionary="the captions of the batch; and its images",
    target="the image's caption; and the caption's image",
    negatives=True,
    idea=(
        "A caption says what an image shows, in words that nobody had to choose from a list of classes. Among the "
        "captions of a batch, each image is to recognise its own, and each caption its image: an image and a text "
        "transformer learn one space for both, and the temperature of the softmax is learnt with them. Texts then "
        "retrieve images, and the names of classes classify them. With --loss siglip, every pair is a matter of its "
        "own: a sigmoid instead of the softmax (Zhai et al. 2023, arXiv:2303.15343)."
    ),
    equation="""\
L = -1/2N sum_i [ log( exp(t x_i . y_i) / sum_j exp(t x_i . y_j) ) + log( exp(t x_i . y_i) / sum_j exp(t x_j . y_i) ) ]
siglip: L = -1/N sum_i,j log sigmoid( s_ij (t x_i . y_j + b) )      s_ij = 1 if i = j, else -1""",
    published=(
        ("400 M pairs, ViT-L/14 at 336 px: ImageNet zero-shot top-1", "76.2", "arXiv:2103.00020, Table 1"),
        ("15 M pairs of YFCC, ResNet-50: ImageNet zero-shot top-1", "32.7", "mlfoundations/open_clip, README"),
    ),
)  # fmt: skip
