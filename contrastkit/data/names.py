"""The named data sets, one row each."""

from typing import NamedTuple

Part = dict[str, object]


class Row(NamedTuple):
    """A data set of torchvision.

    ``train``, ``test``, ``pretrain`` are the arguments that select the part; without ``pretrain`` it is the training
    part.
    """

    dataset: str  # class in torchvision.datasets
    train: Part
    test: Part
    pretrain: Part | None = None
    orientation_matters: bool = False  # flips would change the class


EMBEDDED = ("digits", "affdigits")

_FLAG: tuple[Part, Part] = ({"train": True}, {"train": False})
_SPLIT: tuple[Part, Part] = ({"split": "train"}, {"split": "test"})

TORCHVISION: dict[str, Row] = {
    "mnist": Row("MNIST", *_FLAG, orientation_matters=True),
    "fashion-mnist": Row("FashionMNIST", *_FLAG),
    "kmnist": Row("KMNIST", *_FLAG, orientation_matters=True),
    "emnist": Row(
        "EMNIST", {"split": "balanced", "train": True}, {"split": "balanced", "train": False}, orientation_matters=True
    ),
    "usps": Row("USPS", *_FLAG, orientation_matters=True),
    "svhn": Row("SVHN", *_SPLIT, orientation_matters=True),
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
    "gtsrb": Row("GTSRB", *_SPLIT, orientation_matters=True),
}


def data_names() -> tuple[str, ...]:
    """Every name that ``--data`` accepts; anything else is a path."""
    return (*EMBEDDED, *TORCHVISION)
