"""The data sets that have names: one literal row each. Imports nothing heavy, for ``--help`` and completion."""

from typing import NamedTuple

Part = dict[str, object]


class Row(NamedTuple):
    """How torchvision calls a data set.

    ``train``, ``test``, ``pretrain``: the arguments that choose the part; no ``pretrain`` means: the training part.
    """

    dataset: str  # class in torchvision.datasets
    train: Part
    test: Part
    pretrain: Part | None = None
    digits: bool = False  # orientation carries the class, so flips are wrong


EMBEDDED = ("digits", "affdigits")

_FLAG: tuple[Part, Part] = ({"train": True}, {"train": False})
_SPLIT: tuple[Part, Part] = ({"split": "train"}, {"split": "test"})

TORCHVISION: dict[str, Row] = {
    "mnist": Row("MNIST", *_FLAG, digits=True),
    "fashion-mnist": Row("FashionMNIST", *_FLAG),
    "kmnist": Row("KMNIST", *_FLAG, digits=True),
    "emnist": Row("EMNIST", {"split": "balanced", "train": True}, {"split": "balanced", "train": False}, digits=True),
    "usps": Row("USPS", *_FLAG, digits=True),
    "svhn": Row("SVHN", *_SPLIT, digits=True),
    "cifar10": Row("CIFAR10", *_FLAG),
    "cifar100": Row("CIFAR100", *_FLAG),
    "stl10": Row("STL10", *_SPLIT, pretrain={"split": "train+unlabeled"}),
    "imagenette": Row("Imagenette", {"split": "train", "size": "160px"}, {"split": "val", "size": "160px"}),
    "imagenet": Row("ImageNet", {"split": "train"}, {"split": "val"}),
    "flowers102": Row("Flowers102", *_SPLIT),
    "food101": Row("Food101", *_SPLIT),
    "pets": Row("OxfordIIITPet", {"split": "trainval"}, {"split": "test"}),
    "dtd": Row("DTD", *_SPLIT),
    "aircraft": Row("FGVCAircraft", {"split": "trainval"}, {"split": "test"}),
    "gtsrb": Row("GTSRB", *_SPLIT, digits=True),
}


def data_names() -> tuple[str, ...]:
    """Every name that ``--data`` takes; anything else is a path."""
    return (*EMBEDDED, *TORCHVISION)
