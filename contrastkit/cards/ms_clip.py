"""MS-CLIP."""

from contrastkit.cards.card import MethodCard

CARD = MethodCard(
    name="ms-clip",
    summary="CLIP whose image and text towers are one transformer, with norms of their own (You et al. 2022).",
    title="Learning Visual Representation from Modality-Shared Contrastive Language-Image Pre-training",
    paper="You et al. 2022",
    arxiv="2207.12661",
    query="an image; and a caption",
    dictionary="the captions of the batch; and its images",
    target="the image's caption; and the caption's image",
    negatives=True,
    idea=(
        "CLIP learns two transformers, one that reads patches and one that reads words. MS-CLIP asks how much of them "
        "can be the same: attention and perceptron of every block serve both, only embeddings, norms and projections "
        "are each modality's own. The model has almost half of the parameters, and what one modality learns is at hand "
        "for the other. With --early-specialisation, the first block of images gives way to a convolutional stem."
    ),
    equation="""\
L = -1/2N sum_i [ log( exp(t x_i . y_i) / sum_j exp(t x_i . y_j) ) + log( exp(t x_i . y_i) / sum_j exp(t x_j . y_i) ) ]
x_i = f( image_i; theta, phi ), y_i = f( text_i; theta, psi )      theta: attention and perceptrons""",
    published=(
        ("22 M pairs of YFCC, MS-CLIP-S, ViT-B/32: ImageNet zero-shot top-1", "36.7", "Hxyou/MSCLIP, README"),
        ("22 M pairs of YFCC, MS-CLIP-S, ViT-B/16: ImageNet zero-shot top-1", "39.0", "Hxyou/MSCLIP, README"),
        ("20 M pairs of LAION, MS-CLIP-S, ViT-B/32: ImageNet zero-shot top-1", "40.2", "Hxyou/MSCLIP, README"),
    ),
)  # fmt: skip
