"""The methods: one file each, and the table of all their recipes."""

from contrastkit.cards import CARDS
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
from contrastkit.methods.base import BuildContext as BuildContext
from contrastkit.methods.base import Method as Method
from contrastkit.methods.base import Recipe as Recipe
from contrastkit.names import METHODS
from contrastkit.parts.encoder import SMALL

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
    **moco_v3.RECIPES,
    **dino.RECIPES,
}


def rows_of(method: str) -> dict[str, Recipe]:
    """The recipes of a method by row, in the order of its file."""
    return {name.split("/")[1]: recipe for name, recipe in RECIPES.items() if name.startswith(f"{method}/")}


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
    rows = rows_of(name)
    if row is None:
        first = next(iter(rows))
        if rows[first].sound:
            row = "tiny" if encoder == "tiny" else first
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
    """The table of methods, in order of publication: what is looked up in which dictionary, against which target."""
    return [
        {
            "method": card.name,
            "also": ", ".join(card.aliases),
            "paper": card.paper,
            "query": card.query,
            "dictionary": card.dictionary,
            "target": card.target,
            "negatives": "yes" if card.negatives else "no",
            "recipes": ", ".join(rows_of(card.name)),
        }
        for card in CARDS.values()
    ]
