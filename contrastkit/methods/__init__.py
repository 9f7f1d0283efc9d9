"""The methods, one file each, and the table of their recipes."""

from contrastkit.methods import (
    byol,
    clip,
    cmc,
    cpc,
    cpc_audio,
    crd,
    dino,
    instdisc,
    invaspread,
    mae,
    moco,
    moco_v3,
    ms_clip,
    simclr,
    simclr_distill,
    simsiam,
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
