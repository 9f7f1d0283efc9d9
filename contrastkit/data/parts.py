"""The parts of a data set: which folder is for training, which for testing, which has no labels."""

import re
from collections.abc import Sequence
from enum import StrEnum

from contrastkit.errors import UserError, listed, suggest

TRAINING = ("train", "training", "trainset")
TEST = (  # the first is preferred
    "test", "testing", "testset", "val", "valid", "validation", "valset", "dev", "development", "eval", "evaluation",
    "holdout", "heldout",
)  # fmt: skip
UNLABELLED = ("unlabelled", "unlabeled", "unsup", "unsupervised")
FILLERS = {"set", "data", "dataset", "images", "imgs", "img", "image", "split", "part", "folder"}


class Part(StrEnum):
    """What the images in a folder are for."""

    TRAINING = "training"
    TEST = "test"
    UNLABELLED = "unlabelled"


WORDS = dict.fromkeys(TRAINING, Part.TRAINING) | dict.fromkeys(TEST, Part.TEST)
WORDS |= dict.fromkeys(UNLABELLED, Part.UNLABELLED)


def word_of(name: str) -> str | None:
    """The word for a part in a folder's name, as in ``Train``, ``test_set`` or ``val2017``; None for other names."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    words = re.split(r"[\W_]+", re.sub(r"(19|20)\d\d", " ", name))
    words = [word for word in words if word and word not in FILLERS]
    return words[0] if len(words) == 1 and words[0] in WORDS else None


def part_of(name: str) -> Part | None:
    """The part that a folder's name stands for; None for other names."""
    word = word_of(name)
    return None if word is None else WORDS[word]


def training_folder(root: object, folders: Sequence[str]) -> str | None:
    """The folder of the training part, of the folders below ``root``; None if these are classes.

    Raises:
        UserError: there are several, or only other parts.
    """
    training = [name for name in folders if part_of(name) is Part.TRAINING]
    if len(training) > 1:
        raise UserError(f"{root} has several training parts, {listed(training, 4)}: put them into one folder, train")
    if training:
        return training[0]
    tests = test_folders(folders)
    if tests and all(map(part_of, folders)):
        raise UserError(
            f"{root} has {listed(folders, 4)}, but no training part: rename the folder to train on to train, or give "
            f"{root}/{tests[0]} itself"
        )
    return None


def test_folders(folders: Sequence[str]) -> list[str]:
    """The folders that stand for a test part, the preferred one first."""
    found = [(TEST.index(word), name) for name in folders if (word := word_of(name)) in TEST]
    return [name for _, name in sorted(found)]


def asked_folder(root: object, folders: Sequence[str], name: str, *, option: str = "--test-part") -> str:
    """The folder that an option names, in any case of letters.

    Raises:
        UserError: there is none.
    """
    for folder in sorted(folders, key=lambda folder: folder != name):
        if folder.lower() == name.lower():
            return folder
    near = suggest(name, folders)
    raise UserError(f"{option} {name}: {root} has no such folder{near} (it has {listed(folders, 8) or 'none'})")
