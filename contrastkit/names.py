"""Names and defaults that the command line needs before torch is imported."""

from typing import Any

from contrastkit.cards import CARDS, DISTILLATIONS, SUPERVISED

TRAINED = [*CARDS.values(), *SUPERVISED.values()]
# Argument of `contrastkit train` -> the method that it trains.
METHODS = {name: card.name for card in TRAINED for name in (*card.aliases, card.name)}
SUMMARIES = {name: text for card in TRAINED for name, text in {**card.aliases, card.name: card.summary}.items()}
# Argument of `contrastkit distill` -> the distillation.
DISTILLED = {card.word or card.name: card.name for card in DISTILLATIONS.values()}
DISTILLED_WORDS = {name: word for word, name in DISTILLED.items()}
DISTILLED_SUMMARIES = {word: DISTILLATIONS[name].summary for word, name in DISTILLED.items()}

# The rows of augment.VIEWS, whose module imports torch; a test compares the two.
VIEW_NAMES = (
    "instdisc",
    "instdisc-cifar",
    "cpc-v1",
    "cpc-v1-patches",
    "cpc-v2",
    "cpc-v2-patches",
    "cpc-cifar",
    "cpc-cifar-patches",
    "cmc",
    "cmc-32",
    "crd-32",
    "moco-v1",
    "moco-v2",
    "moco-cifar",
    "simclr",
    "simclr-cifar",
    "simclr-distill",
    "simclr-distill-32",
    "byol",
    "byol-cifar",
    "swav",
    "swav-small",
    "swav-cifar",
    "clip",
    "clip-32",
    "moco-v3",
    "moco-v3-vit",
    "dino",
    "dino-r50",
    "dino-32",
    "mae",
    "mae-32",
    "domainbed",
    "groupdro",
    "stablenet",
    "digits",
    "digits-strong",
)

DEFAULT_DATA = "affdigits"  # data set of every command without --data

EACH = "each"  # environment in turn, in place of the name of one that is held out

# The linear probes' defaults: evaluate.linear_probe (protocol "rates") and evaluate.moco_protocol.
RATES_EPOCHS, RATES_SEEDS = 50, 3
MOCO_EPOCHS, MOCO_RATE = 100, 30.0


def training_command(method: str) -> list[str]:
    """The words that call the training of a recorded method; of the file of one, the name alone is recorded."""
    if method in DISTILLED_WORDS:
        return ["contrastkit", "distill", DISTILLED_WORDS[method]]
    return ["contrastkit", "train", f"path/to/{method}" if is_file(method) else method]


def split_name(name: str) -> tuple[str, str]:
    """Method and row of a recipe's name, ``method/row``; the method may be of a file, ``file.py:NAME``."""
    method, _, row = name.rpartition("/")
    return method, row


def is_file(method: str) -> bool:
    """Whether a method is given as ``path/to/file.py:NAME``."""
    return ".py:" in method


def as_typed(value: Any) -> str:
    """A number of a recipe as it is typed on the command line: different numbers are different texts."""
    if isinstance(value, list | tuple):
        return ",".join(map(as_typed, value))
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value) if isinstance(value, str) else str(value).lower()
