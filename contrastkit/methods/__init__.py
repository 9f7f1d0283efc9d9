"""The methods: one file each, and the table of all their recipes."""

from contrastkit.errors import UserError, suggest
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
from contrastkit.parts.encoder import SMALL
from contrastkit.types import Modality

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


def choose_row(method: str, *, size: int, encoder: str | None, digits: bool, row: str | None = None) -> str:
    """The name of the recipe, ``method/row``, for a set of images.

    Args:
        method: a key of ``names.METHODS``, aliases included.
        size: shorter side of the images in pixels.
        encoder: the encoder asked for, if any; ``tiny`` asks for the small recipes.
        digits: whether flips would change what an image is.
        row: this row, whatever the images are.

    Raises:
        UserError: no such method or row; the nearest is suggested.
    """
    if method not in METHODS:
        raise UserError(f"unknown method '{method}'{suggest(method, METHODS)}")
    name = METHODS[method]
    rows = [recipe.split("/")[1] for recipe in RECIPES if recipe.startswith(f"{name}/")]
    if row is None:
        if RECIPES[f"{name}/{rows[0]}"].modality is Modality.SOUND:
            row = "tiny" if encoder == "tiny" else rows[0]
        elif digits and size <= SMALL and encoder in (None, "tiny") and "digits" in rows:
            row = "digits"
        elif encoder == "tiny":
            row = "tiny"
        else:
            row = "32" if size <= SMALL else "imagenet"
    if row not in rows:
        raise UserError(f"{name} has no recipe '{row}'{suggest(row, rows)} (rows: {', '.join(rows)})")
    return f"{name}/{row}"


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
