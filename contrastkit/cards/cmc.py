"""CMC."""

from contrastkit.cards.card import MethodCard

CARD = MethodCard(
    name="cmc",
    summary="Contrastive multiview coding: brightness against colour, an encoder each (Tian et al. 2019).",
    title="Contrastive Multiview Coding",
    paper="Tian et al. 2019",
    arxiv="1906.05849",
    query="one view's channels (L)",
    dictionary="a memory bank: a row of every image and view",
    target="the image's row of another view (ab)",
    negatives=True,
    idea=(
        "Information that several modalities share about a scene is likely to be what matters in it. An image's "
        "brightness and its colour are two views, each with its own encoder; the feature of one is looked up among "
        "earlier features of the other, one for every image, stored in a memory bank. Crops and flips are the only "
        "augmentation. The concatenated features of the encoders are the representation."
    ),
    equation="""\
L(V1, V2) = -log( exp(z_1 . z_2 / tau) / sum_{j=1..K+1} exp(z_1 . z_2^j / tau) ) + the same with V1 and V2 exchanged
full graph: sum of L(Vi, Vj) over all i < j        core view: sum of L(V1, Vj) over j > 1""",
    published=(
        ("ImageNet-100, 2 x ResNet-50 of half width, YCbCr, softmax: linear top-1", "75.8",
         "HobbitLong/CMC, README"),
        ("ImageNet, the best of its ResNets: linear top-1", "68.4", "HobbitLong/CMC, README"),
    ),
)  # fmt: skip
