"""Data: a :class:`Source` is an indexed set of images or sounds, a :class:`Loader` turns it into batches of views.

open_data("cifar10", data_dir=...) -> DataSet(train, test, pretrain)                a name or a path
Loader(dataset.pretrain, views, batch=256, seed=0).batches(0, 1000) -> Batch, ...    for training
plain_batches(dataset.test, size=32) -> Batch, ...                                   for evaluation
"""

from contrastkit.data.aligned import AlignedSource
from contrastkit.data.arrays import ArraySource
from contrastkit.data.captions import Captions
from contrastkit.data.dataset import DataSet
from contrastkit.data.files import FileSource
from contrastkit.data.loader import Loader, default_workers, plain_batches
from contrastkit.data.names import data_names
from contrastkit.data.openers import open_data
from contrastkit.data.shards import ShardSource
from contrastkit.data.sounds import SoundSource
from contrastkit.data.source import Source, UnreadableError

__all__ = [
    "AlignedSource",
    "ArraySource",
    "Captions",
    "DataSet",
    "FileSource",
    "Loader",
    "ShardSource",
    "SoundSource",
    "Source",
    "UnreadableError",
    "data_names",
    "default_workers",
    "open_data",
    "plain_batches",
]
