"""What a network sees in training: the views of a run, or those of a name, of the images of a data set."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from contrastkit import schema
from contrastkit.augment import View, named_views
from contrastkit.augment.sheet import Column, view_sheet
from contrastkit.data import Source, open_data
from contrastkit.errors import UserError
from contrastkit.loading import load_method
from contrastkit.methods import RECIPES
from contrastkit.methods.mae import MAE, MAERecipe
from contrastkit.names import VIEW_NAMES
from contrastkit.run import RECIPE, Run


@dataclass(frozen=True)
class Seen:
    """Views, and the images that they are of.

    Attributes:
        name: of the views, or the folder of the run.
        seed: of the draws.
        trained: whether these are the views, the images and the seed of a training.
        notices: how the data were understood, one line each.
        autoencoder: of a run of mae, what shows its reconstructions.
    """

    name: str
    views: tuple[View, ...]
    source: Source
    seed: int
    trained: bool
    notices: tuple[str, ...]
    autoencoder: MAE | None = None

    @classmethod
    def open(cls, name: str, request: dict[str, Any], *, seed: int | None = None) -> "Seen":
        """
        Args:
            name: of views, or a run folder.
            request: arguments of :func:`contrastkit.data.open_data`; those that are None are the run's.
            seed: None is the run's, else 0.

        Raises:
            UserError: neither views nor a run of this name, no images, or a test part of a run's own data.
        """
        path = Path(name)
        if name not in VIEW_NAMES and (len(path.parts) > 1 or path.exists()):
            return cls.of_run(path, request, seed)
        views = named_views(name)
        data = open_data(**request)
        _require_pixels(data.pretrain)
        return cls(name, views, data.pretrain, seed or 0, False, data.notices)

    @classmethod
    def of_run(cls, path: Path, request: dict[str, Any] | None = None, seed: int | None = None) -> "Seen":
        """:meth:`open` for a run folder."""
        record, request = Run.open(path).record, request or {}
        options, own = record.options, request.get("data") is None
        if own and (part := request.get("test_part")) is not None:
            raise UserError(
                f"--test-part {part}: shown are the images that {path} was trained on, not those of a "
                "test part: drop it, or name a data set with --data"
            )
        parts = () if options.labelled else ("test_part", "val_fraction")  # otherwise of the labelled images
        shared = ("stretch", "background", *(("data", "layout", "seed", *parts) if own else ()))
        request = request | {name: getattr(options, name) for name in shared if request.get(name) is None}
        data = open_data(**request, recorded_dir=options.data_dir)
        _require_pixels(data.pretrain)
        with schema.reading(path / RECIPE):
            views = schema.typed(tuple[View, ...], record.recipe.get("views"), "recipe.views")
        what = data.pretrain.changed_since(record.data.fingerprint) if own else ""
        trained = own and not what and seed in (None, options.seed)
        autoencoder, notices = _autoencoder(path, record.name, data.pretrain.channels)
        if what:
            notices = (f"{path} was trained on other data: {data.name} has {what}, of which these are", *notices)
        seed = options.seed if seed is None else seed
        return cls(str(path), views, data.pretrain, seed, trained, (*data.notices, *notices), autoencoder)

    def sheet(self, path: Path, *, images: int, draws: int) -> int:
        """Draw the first images of the first epoch and their views as a PNG; returns how many images there are."""
        pixels, index = self.source.take(self.source.order(self.seed, 0)[:images])
        what = "as trained" if self.trained else f"seed {self.seed}"
        note = "Each image as it is read, whole; then its views, all shown equally large."
        if self.trained:
            note += " Draw 1 is that of the first epoch, and so on."
        if self.autoencoder is not None:
            note += " The hidden patches are other draws than those of the training"
            if self.autoencoder.recipe.norm_pix:
                note += "; a prediction is shown with the mean and the deviation of the patch that it stands for"
            note += "."

        def beside(view: Tensor, time: int) -> list[Column]:
            if self.autoencoder is None:
                return []
            masked, filled = self.autoencoder.reconstruct(view, index, time / draws)
            return [("masked", masked), ("filled", filled)]

        view_sheet(
            path, pixels, self.views, index=index, draws=draws, seed=self.seed, note=note, beside=beside,
            title=f"Views by {self.name} of {self.source.name}, {what}",
        )  # fmt: skip
        return len(index)


def _autoencoder(path: Path, name: str, channels: int) -> tuple[MAE | None, tuple[str, ...]]:
    """The autoencoder of a run of this recipe, for images of that many channels; if it has none to show, why."""
    if not isinstance(RECIPES.get(name), MAERecipe):
        return None, ()
    try:
        method = load_method(path)
    except UserError as error:
        return None, (f"no reconstructions are shown: {error}",)
    assert isinstance(method, MAE)
    if (own := method.online.encoder.channels) != channels:
        return None, (f"no reconstructions are shown: the run has images of {own} channels, these have {channels}",)
    return method, ()


def _require_pixels(source: Source) -> None:
    if not source.modality.has_pixels:
        raise UserError(f"{source.name} has {source.modality.plural}, which cannot be drawn: give a data set of images")
