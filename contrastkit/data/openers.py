"""Open a data set by name or path, as given to ``--data``.

To add a format, write a module with a function that opens it and returns None for anything else, and list the function
in :data:`OPENERS`.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from contrastkit.data.aligned import open_aligned
from contrastkit.data.captioned import open_captioned
from contrastkit.data.dataset import HANDED_OVER, DataSet, Reading, Request, with_validation
from contrastkit.data.digits import open_digits
from contrastkit.data.environments import misspelt, open_environments
from contrastkit.data.folders import open_folder
from contrastkit.data.idx import open_idx
from contrastkit.data.named import open_named
from contrastkit.data.names import data_names
from contrastkit.data.npz import open_npz
from contrastkit.data.shards import open_shards
from contrastkit.data.store import is_url, require_public
from contrastkit.directories import data_directory
from contrastkit.errors import UserError, suggest
from contrastkit.names import DEFAULT_DATA

OPENERS: tuple[Callable[[Request], DataSet | None], ...] = (  # the first result that is not None is used
    open_digits,
    open_named,
    open_aligned,
    open_npz,
    open_idx,
    open_shards,
    open_captioned,
    open_environments,
    open_folder,
)


def open_data(
    data: str | None = None,
    *,
    data_dir: Path | None = None,
    recorded_dir: Path | None = None,
    download: bool = False,
    val_fraction: float | None = None,
    seed: int = 0,
    test_part: str | None = None,
    layout: str | None = None,
    stretch: bool | None = None,
    background: str | None = None,
) -> DataSet:
    """Open a data set.

    Args:
        data: None for the embedded digits (``affdigits``), a name (:func:`data_names`), or a path to

            - a folder of images, or of sounds (.wav), nested to any depth: the first level below the root is the class;
              with fewer than two such folders the set is unlabelled. A folder that contains ``train/`` (and ``test/``
              or ``val/``, or other usual words, in any case of letters) is split accordingly; the images of a folder
              ``unlabelled/`` among the classes have no labels;
            - ``DIR/ENVIRONMENT/CLASS``, in these words: environments (:mod:`contrastkit.data.environments`);
            - a folder with ``captions.token`` or ``captions.csv``, or a .csv (:mod:`contrastkit.data.captioned`);
            - a folder of WebDataset's tars, or of ``train/`` and others that are such (:mod:`contrastkit.data.shards`),
              or its URL (:mod:`contrastkit.data.remote`);
            - a folder with MNIST's four idx files, gzipped or not, or an ``.npz`` file (:mod:`contrastkit.data.npz`);
            - several folders of the same scenes, ``rgb=DIR,depth=DIR`` (:mod:`contrastkit.data.aligned`).
        data_dir: directory of named sets, also for ``download``; None is ``recorded_dir``, else $CONTRASTKIT_DATA.
        recorded_dir: ``data_dir`` of the run whose data these are (:func:`contrastkit.directories.data_directory`).
        val_fraction: share of the training part to hold out (drawn by ``seed``) as ``test``; the set's own test part is
            then unused, and the held-out images are not in ``pretrain``.
        test_part, layout, stretch, background: of :class:`contrastkit.data.dataset.Reading`; None is its default.

    Raises:
        UserError: no such name or path, nothing readable there, wrong shapes or dtypes.
    """
    data = DEFAULT_DATA if data is None else data
    if data.startswith(HANDED_OVER):
        raise UserError(
            f"the run was trained on data handed over in Python, {data.removeprefix(HANDED_OVER)}: name other data "
            "with --data, or hand them to contrastkit.train and contrastkit.evaluate again"
        )
    reading = Reading(
        test_part=test_part,
        layout=layout,
        stretch=bool(stretch),
        background="white" if background is None else background,
    )
    request = Request(data, data_directory(data_dir, recorded_dir), download, reading)
    _require_use(request, val_fraction)
    opened = (opener(request) for opener in ((open_shards,) if is_url(data) else OPENERS))
    dataset = next((dataset for dataset in opened if dataset is not None), None)
    if dataset is None:
        raise _unknown(request)
    if data in data_names() and request.path.exists():
        kind = "folder" if request.path.is_dir() else "file"
        notice = f"{data} is the set of that name; for the {kind} give ./{data}"
        dataset = replace(dataset, notices=(notice, *dataset.notices))
    return dataset if val_fraction is None else with_validation(dataset, val_fraction, seed)


def _unknown(request: Request) -> UserError:
    if request.path.exists():
        return UserError(f"{request.path} is neither a folder of images nor an .npz file")
    if hint := misspelt(request.path):
        return UserError(f"no data set or path named {request.data!r}{hint}")
    names = data_names()
    near = suggest(request.data, names)
    return UserError(f"no data set or path named {request.data!r}{near} (names: {', '.join(names)})")


def _require_use(request: Request, val_fraction: float | None) -> None:
    """Check that the options apply to the data.

    Raises:
        UserError: one does not.
    """
    if is_url(request.data):
        require_public(request.data)
    reading, is_file = request.reading, request.path.is_file()
    if reading.test_part is not None and val_fraction is not None:
        raise UserError("--test-part (--hold-out) and --val-fraction both choose what to test on: give one of them")
    if is_file or request.data in data_names():
        reading.require_no_choice(request.data)
    if reading.layout is not None and not is_file:
        raise UserError(f"--layout is for the arrays of an .npz file, not for {request.data}")
