"""How a recipe is run: all options that do not belong to the method."""

import typing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from contrastkit import dist
from contrastkit.bounds import PERIOD, SEED, SHARE, WORKERS, check_fields
from contrastkit.data import DataSet, open_data
from contrastkit.data.dataset import with_labelled
from contrastkit.data.loader import MAX_BAD
from contrastkit.directories import given_path
from contrastkit.errors import UserError
from contrastkit.precision import Precision

# Options that may change when a run is resumed: where the data are, and how the training is run and monitored.
MAY_CHANGE = (
    "data",
    "labelled",
    "data_dir",
    "download",
    "test_part",
    "workers",
    "device",
    "save_every",
    "monitor_every",
    "max_bad",
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a recipe is run. Each field is an option of ``contrastkit train``; its note is the option's help.

    ``workers`` are 0 here unless given; it is :func:`contrastkit.training.plan.plan` that chooses them by the data.
    """

    data: Annotated[
        str,
        "Data set: a name, a folder of images or sounds, an .npz file, DIR/ENVIRONMENT/CLASS, or NAME=DIR,NAME=DIR",
        "NAME|PATH",
    ]
    labelled: Annotated[
        str | None,
        "Labelled images beside --data, not trained on: the monitor, knn and probe use them, and --val-fraction and "
        "--test-part split them",
        "NAME|PATH",
    ] = None
    data_dir: Annotated[Path | None, "Directory of named data sets (default: $CONTRASTKIT_DATA)", "DIR"] = None
    download: Annotated[bool, "Download a named data set that is not in --data-dir"] = False
    val_fraction: Annotated[
        float | None, "Share of the training images to hold out as test set, drawn by --seed", SHARE
    ] = None
    test_part: Annotated[
        str | None,
        "Folder beside train/ to test on, by default test/ or val/, whichever has classes; or environment to hold out",
        "NAME",
    ] = None
    layout: Annotated[
        str | None, "Order of the axes of images in an .npz file, where their sides leave it open", "NHWC|NCHW"
    ] = None
    stretch: Annotated[
        bool, "Scale images of more than 8 bits by the range of their pixels in a sample of the files"
    ] = False
    background: Annotated[str, "Colour under transparent pixels: a name or #rrggbb"] = "white"
    scaled_decoding: Annotated[
        bool, "Decode JPEGs at 1/2 or 1/4 where every crop of an image is larger than 2 or 4 times its view"
    ] = False
    workers: Annotated[
        int,
        "Processes that load data; by default 0 for images in memory, else one for each core but one, at most 8",
        WORKERS,
    ] = 0
    device: Annotated[str, "Device: cpu, cuda, cuda:1, or auto"] = "auto"
    seed: Annotated[int, "Random seed", SEED] = 0
    precision: Annotated[Precision, "Arithmetic of the encoders; auto uses bfloat16 where the device supports it"] = (
        "auto"
    )
    compile: Annotated[bool, "Compile encoders and heads with torch.compile"] = False
    max_bad: Annotated[float, "Largest share of unreadable images before training stops", SHARE] = MAX_BAD
    save_every: Annotated[int, "Epochs between checkpoints to keep; 0 keeps only the last one", PERIOD] = 0
    monitor_every: Annotated[
        int, "Epochs between evaluations of kNN accuracy and collapse; 0 disables them", PERIOD
    ] = 1

    def __post_init__(self) -> None:
        check_fields(self)
        if self.precision not in (known := typing.get_args(Precision)):
            raise UserError(f"--precision must be {', '.join(known[:-1])} or {known[-1]}, not {self.precision}")

    def open_data(self, data: DataSet | None = None, labelled: DataSet | None = None) -> DataSet:
        """Open the data set, and the labelled one beside it, if any. Only the first process downloads; the others wait.

        Args:
            data, labelled: these sets, where they are already open.

        Raises:
            UserError: as :func:`contrastkit.data.open_data` and :func:`contrastkit.data.dataset.with_labelled`.
        """
        if self.download and dist.rank() > 0:
            dist.barrier()
        if data is None:
            data = self._open(self.data, layout=self.layout, **({} if self.labelled else self._split))
        if self.labelled is not None:
            if labelled is None:
                labelled = self.open_labelled()
            data = with_labelled(data, labelled)
        if self.download and dist.rank() == 0:
            dist.barrier()
        return data

    def open_labelled(self) -> DataSet:
        """Open the labelled data set.

        Raises:
            UserError: there is none, or as :func:`contrastkit.data.open_data`.
        """
        if self.labelled is None:
            raise UserError("there are no --labelled images")
        return self._open(self.labelled, layout=self.labelled_layout, **self._split)

    @property
    def _split(self) -> dict[str, Any]:
        return {"val_fraction": self.val_fraction, "test_part": self.test_part}

    @property
    def labelled_layout(self) -> str | None:
        """The layout of the labelled images, if they are in a file."""
        return self.layout if self.labelled is not None and given_path(self.labelled).is_file() else None

    def _open(self, data: str, **how: Any) -> DataSet:
        shared = ("data_dir", "download", "seed", "stretch", "background")
        return open_data(data, **{name: getattr(self, name) for name in shared}, **how)

    def to_json(self) -> dict[str, Any]:
        """The options as recipe.json stores them."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}
