"""The methods, one file each, and the table of their recipes."""

from contrastkit.methods import (
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
from contrastkit.methods.base import Method as Method
from contrastkit.methods.base import Recipe as Recipe
from contrastkit.methods.context import BuildContext as BuildContext

RECIPES: dict[str, Recipe] = {  # "method/row" -> its numbers
    **instdisc.RECIPES,
    **cpc.RECIPES,
    **cpc_audio.RECIPES,
    **invaspread.RECIPES,
    **cmc.RECIPES,
    **moco.RECIPES,
    **simclr.RECIPES,
    **byol.RECIPES,
    **swav.RECIPES,
    **simsiam.RECIPES,
    **clip.RECIPES,
    **moco_v3.RECIPES,
    **dino.RECIPES,
    **mae.RECIPES,
    **ms_clip.RECIPES,
}

DISTILLATIONS: dict[str, Recipe] = {**crd.RECIPES, **simclr_distill.RECIPES}  # likewise, of `contrastkit distill`

SUPERVISED: dict[str, Recipe] = {  # likewise, of methods that learn from labels
    **irm.RECIPES,
    **groupdro.RECIPES,
    **erm.RECIPES,
    **stablenet.RECIPES,
}

EVERY = RECIPES | DISTILLATIONS | SUPERVISED
