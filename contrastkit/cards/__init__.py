"""Cards of the methods: title, paper, idea, equation and published results. Importing them imports nothing heavy."""

from contrastkit.cards import (
    byol,
    clip,
    cmc,
    cpc,
    cpc_audio,
    crd,
    dino,
    erm,
    groupdro,
    instdisc,
    invaspread,
    irm,
    mae,
    moco,
    moco_v3,
    ms_clip,
    simclr,
    simclr_distill,
    simsiam,
    stablenet,
    swav,
)
from contrastkit.cards.card import MethodCard as MethodCard

CARDS: dict[str, MethodCard] = {
    card.name: card
    for card in (  # in order of submission to arXiv, as in every list of methods
        instdisc.CARD,
        cpc_audio.CARD,
        cpc.V1,
        invaspread.CARD,
        cpc.V2,
        cmc.CARD,
        moco.V1,
        simclr.V1,
        moco.V2,
        byol.CARD,
        swav.CARD,
        simclr.V2,
        simsiam.CARD,
        clip.CARD,
        moco_v3.CARD,
        dino.CARD,
        mae.CARD,
        ms_clip.CARD,
    )
}

# What `contrastkit distill` trains, in the same order.
DISTILLATIONS: dict[str, MethodCard] = {card.name: card for card in (crd.CARD, simclr_distill.CARD)}

# What `contrastkit train` trains with labels, in the same order.
SUPERVISED: dict[str, MethodCard] = {card.name: card for card in (irm.CARD, groupdro.CARD, erm.CARD, stablenet.CARD)}

EVERY = CARDS | DISTILLATIONS | SUPERVISED
