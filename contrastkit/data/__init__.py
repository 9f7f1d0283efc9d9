"""Data: a :class:`Source` is an indexed set of images, a :class:`Loader` turns it into batches of views.

    open_data("cifar10", data_dir=...) -> DataSet(train, test, pretrain)        a name or a path
    Loader(dataset.pretrain, views, batch=256, seed=0).epoch(0) -> Batch, ...    for training
    plain_batches(dataset.test, size=32) -> Batch, ...                           for evaluation

The names are re-exported lazily: ``contrastkit.data.names`` must not drag torch into a ``--help``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from contrastkit.data.names import data_names

if TYPE_CHECKING:
    from contrastkit.data.loader import Loader, default_workers, plain_batches
    from contrastkit.data.sets import DataSet, open_data
    from contrastkit.data.source import ArraySource, BadImage, FileSource, Source

_HOME = {
    **dict.fromkeys(("Loader", "default_workers", "plain_batches"), "loader"),
    **dict.fromkeys(("DataSet", "open_data"), "sets"),
    **dict.fromkeys(("ArraySource", "BadImage", "FileSource", "Source"), "source"),
}

__all__ = [
    "ArraySource",
    "BadImage",
    "DataSet",
    "FileSource",
    "Loader",
    "Source",
    "data_names",
    "default_workers",
    "open_data",
    "plain_batches",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"contrastkit.data.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
