"""The methods: one file each, and the table of all their recipes."""

from contrastkit.methods import (
    byol,
    cmc,
    cpc,
    cpc_audio,
    dino,
    instdisc,
    invaspread,
    moco,
    moco_v3,
    simclr,
    simsiam,
    swav,
)
from contrastkit.methods.base import About as About
from contrastkit.methods.base import BuildContext as BuildContext
from contrastkit.methods.base import Method as Method
from contrastkit.methods.base import Recipe as Recipe
from contrastkit.names import METHODS

RECIPES: dict[str, Recipe] = {
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
    **moco_v3.RECIPES,
    **dino.RECIPES,
}

_ABOUT: dict[str, About] = {
    **instdisc.ABOUT,
    **cpc.ABOUT,
    **cpc_audio.ABOUT,
    **invaspread.ABOUT,
    **cmc.ABOUT,
    **moco.ABOUT,
    **simclr.ABOUT,
    **byol.ABOUT,
    **swav.ABOUT,
    **simsiam.ABOUT,
    **moco_v3.ABOUT,
    **dino.ABOUT,
}
ABOUT = {name: _ABOUT[name] for name in dict.fromkeys(METHODS.values()) if name in _ABOUT}  # in the order of history


def overview() -> list[dict[str, str]]:
    """The table of methods, in the order of history: what is looked up in which dictionary against which target."""
    table = []
    for name, about in ABOUT.items():
        also = [alias for alias, method in METHODS.items() if method == name and alias != name]
        rows = [recipe.split("/")[1] for recipe in RECIPES if recipe.startswith(f"{name}/")]
        table.append(
            {
                "method": name,
                "also": ", ".join(also),
                "paper": about.paper,
                "query": about.query,
                "dictionary": about.dictionary,
                "target": about.target,
                "negatives": "yes" if about.negatives else "no",
                "recipes": ", ".join(rows),
            }
        )
    return table
