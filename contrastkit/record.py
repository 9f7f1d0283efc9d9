"""What a run's recipe.json and checkpoints contain, as types: files are checked against them when they are read."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor

from contrastkit import schema
from contrastkit.errors import UserError
from contrastkit.options import Options
from contrastkit.parts.build import build_encoder
from contrastkit.parts.teacher import TeacherRecord
from contrastkit.parts.weights import WeightsRecord

if TYPE_CHECKING:
    from contrastkit.methods import Recipe

FORMAT = 6  # of recipe.json; a file without a number has the first
# Options that format 2 added; earlier versions read every set in these ways.
SINCE_2 = {"test_part": None, "layout": None, "stretch": False, "background": "white"}
SINCE_4 = {"scaled_decoding": False}  # likewise
SINCE_5 = {"labelled": None}  # likewise
SINCE_6 = {"frozen": False}  # likewise a field of clip's recipe

# Fields of images' views that format 3 added; earlier versions made all views in these ways.
SINCE_3 = {
    "interpolation": "bilinear", "antialias": True, "brightness_by": "factor", "contrast_about": "luma",
    "saturation_in": "rgb", "blur_border": "mirrored",
}  # fmt: skip

R = TypeVar("R", bound="Recipe")


@dataclass(frozen=True, kw_only=True)
class DataRecord:
    """The data set on which a run was trained."""

    name: str
    images: int
    rate: int | None  # of sounds, in Hz
    modalities: dict[str, int] | None  # channels of each modality of an aligned set, in order
    fingerprint: str

    @property
    def items(self) -> str:
        """What there are so many of, in words."""
        return "images" if self.rate is None else "sounds"


@dataclass(frozen=True, kw_only=True)
class ParentRecord:
    """The run that another one extends."""

    run: str  # the absolute path of its folder
    epochs: int  # of its schedule
    step: int  # of its state, from which the other run goes on


@dataclass(frozen=True, kw_only=True)
class Record:
    """recipe.json: what a run was asked for; enough to resume it and to load its encoder."""

    name: str  # method/row
    recipe: dict[str, Any]  # fields of the method's recipe, see recipe_of
    options: Options
    data: DataRecord
    encoder: dict[str, Any]  # arguments of contrastkit.parts.build.build_encoder
    weights: WeightsRecord | None = None  # from which it started; of a run that extends another, those of that
    parent: ParentRecord | None = None  # the run that it extends
    teacher: TeacherRecord | None = None  # of a distillation

    @classmethod
    def read(cls, file: Path) -> "Record":
        """The record in a file.

        Raises:
            UserError: damaged, or written by a newer version.
        """
        with schema.reading(file):
            values = json_value(file.read_bytes())
            if isinstance(values, dict):
                written = schema.typed(int, values.pop("format", 1), "format")
                if not 1 <= written <= FORMAT:
                    raise schema.Newer(f"format {written}, this version reads formats up to {FORMAT}")
                if isinstance(options := values.get("options"), dict):
                    missing = (SINCE_2 if written == 1 else {}) | (SINCE_4 if written <= 3 else {})
                    values["options"] = missing | (SINCE_5 if written <= 4 else {}) | options
                if written <= 4:
                    values = {"weights": None, "parent": None} | values
                if written <= 5:
                    values = {"teacher": None} | values
                if isinstance(recipe := values.get("recipe"), dict):
                    if written <= 2:
                        _complete_views(recipe)
                    if written <= 5 and "text_width" in recipe:
                        values["recipe"] = SINCE_6 | recipe
            record = schema.instance(cls, values, "")
            schema.arguments(build_encoder, record.encoder, "encoder")
        return record

    def recipe_of(self, kind: type[R], file: Path) -> R:
        """The recipe of a run, read from ``file``, as the dataclass of its method.

        Raises:
            UserError: it is damaged.
        """
        with schema.reading(file):
            return kind.from_json(self.recipe)

    def text(self) -> str:
        """The contents of recipe.json."""
        return json.dumps({"format": FORMAT} | asdict(self) | {"options": self.options.to_json()}, indent=2) + "\n"


def _complete_views(recipe: dict[str, Any]) -> None:
    views = recipe.get("views")
    for view in views if isinstance(views, list) else ():
        if isinstance(view, dict) and "crop_min" in view:  # not of sounds
            view |= SINCE_3 | view


@dataclass(frozen=True)
class MeterState:
    """The state of :class:`contrastkit.training.progress.Meter`."""

    seconds: float
    sums: dict[str, float]
    count: int


@dataclass(frozen=True)
class RankState:
    """The state of one process: its generators, and its batch-norm statistics before averaging."""

    rng: Tensor
    cuda_rng: Tensor | None
    batch_norm: list[Tensor]


@dataclass(frozen=True)
class OptimizerState:
    """An optimizer's ``state_dict``."""

    state: dict[int, dict[str, Any]]
    param_groups: list[dict[str, Any]]


@dataclass(frozen=True)
class Checkpoint:
    """last.pt: the state of a training after ``step`` steps."""

    name: str  # method/row
    step: int
    meter: MeterState
    method: dict[str, Any]  # its state_dict
    optimizer: OptimizerState
    own: list[RankState]  # of each process


def json_value(text: bytes | str) -> Any:
    """The value of a JSON text.

    Raises:
        UserError: it is none.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested without end
        raise UserError(str(error)) from error
