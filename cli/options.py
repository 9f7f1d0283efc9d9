"""Options that several commands share, and the decorator by which a command takes a family of them.

A family is a frozen dataclass whose fields are ``Annotated[type, typer.Option(...)]``. It annotates one parameter of a
command; :func:`takes_options` replaces that parameter by one option per field and passes the filled dataclass::

    @app.command()
    @takes_options
    def knn(subject: SubjectOptions, k: Annotated[int, typer.Option(help="Number of neighbours.")] = 20) -> None: ...
"""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.models import OptionInfo, ParameterInfo

from contrastkit.bounds import BATCH, SAMPLES, SEED, SHARE, WORKERS, bounds_of
from contrastkit.cli.files import is_output, out_file, require_own_files
from contrastkit.directories import local_path

if TYPE_CHECKING:
    from contrastkit.evaluate import EvaluationSubject
    from contrastkit.explore import Gallery


def takes_options(command: Callable[..., None], *more: inspect.Parameter) -> Callable[..., None]:
    """Replace each parameter of ``command`` that is annotated with a dataclass by that dataclass's fields, and check
    the numbers that the user gives against their intervals (:mod:`contrastkit.bounds`), and that no file is written
    over another (:mod:`contrastkit.cli.files`).

    Args:
        more: further parameters, placed first, for a command that takes ``**values``.
    """
    hints = typing.get_type_hints(command, include_extras=True)
    families: dict[str, Any] = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    parameters = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name in families:
            parameters += _parameters(families[parameter.name])
        elif parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[parameter.name]))

    parameters = [*more, *parameters]
    flags = {parameter.name: _flag(parameter) for parameter in parameters}
    outputs = [parameter.name for parameter in parameters if is_output(parameter)]
    bounds = {p.name: found for p in parameters if (found := bounds_of(p.annotation)) is not None}
    for parameter in parameters:
        _read_values(parameter.annotation)

    @functools.wraps(command)
    def run(**values: Any) -> None:
        for name, (interval, whole) in bounds.items():
            interval.check(flags[name], values[name], whole=whole)
        require_own_files(values, flags, outputs)
        for name, family in families.items():
            values[name] = family(**{item.name: values.pop(item.name) for item in dataclasses.fields(family)})
        command(**values)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _parameters(family: Any) -> list[inspect.Parameter]:
    """A keyword parameter for each field of a dataclass, with its annotation and default; required ones first, which in
    the class follow the fields of its bases."""
    hints = typing.get_type_hints(family, include_extras=True)
    return [
        inspect.Parameter(
            item.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if item.default is dataclasses.MISSING else item.default,
            annotation=hints[item.name],
        )
        for item in sorted(dataclasses.fields(family), key=lambda item: item.default is not dataclasses.MISSING)
    ]


def _flag(parameter: inspect.Parameter) -> str:
    """An option as it is typed: the name that it declares, or that of its parameter."""
    notes = [note for note in typing.get_args(parameter.annotation) if isinstance(note, ParameterInfo)]
    declared = [name for note in notes for name in (note.default, *(note.param_decls or ())) if isinstance(name, str)]
    return declared[0].split("/")[0] if declared else f"--{parameter.name.replace('_', '-')}"


def _read_values(annotation: Any) -> None:
    """Take a choice in any case: ``ate`` is ATE, as it is declared and shown. Let a path be read by :func:`local_path`,
    not by typer, which takes an empty one for the current folder."""
    kind, *notes = typing.get_args(annotation)
    kinds = (kind, *typing.get_args(kind))
    choices = [choice for kind in kinds if typing.get_origin(kind) is Literal for choice in typing.get_args(kind)]
    for note in notes:
        if isinstance(note, ParameterInfo):
            note.case_sensitive = False
            note.parser = local_path if Path in kinds else note.parser
        if isinstance(note, OptionInfo) and choices:
            note.metavar = f"<{'|'.join(choices)}>"  # typer would show them in small letters


TEST_PART = ("--test-part", "--hold-out")  # of folders, and of environments

Data = Annotated[
    str | None,
    typer.Option(
        help="Name of a data set, a folder of images, sounds or tars, the URL of one of tars, an .npz file, "
        "DIR/ENVIRONMENT/CLASS for folders of environments, or NAME=DIR,NAME=DIR for several modalities of the same "
        "scenes.",
        metavar="NAME|PATH",
    ),
]
DataDir = Annotated[
    Path | None, typer.Option(help="Directory of named data sets (default: $CONTRASTKIT_DATA).", metavar="DIR")
]
Download = Annotated[bool, typer.Option("--download", help="Download a named data set that is not in --data-dir.")]
TestPart = Annotated[
    str | None,
    typer.Option(
        *TEST_PART,
        help="Folder beside train/, or environment of DIR/ENVIRONMENT/CLASS, to test on \\[test/ or val/, whichever "
        "has classes; no environment]. knn and probe: each, for every environment in turn.",
        metavar="NAME",
    ),
]
Layout = Annotated[
    str | None,
    typer.Option(
        help="Order of the axes of images in an .npz file, where their sides leave it open.", metavar="NHWC|NCHW"
    ),
]
Stretch = Annotated[
    bool | None,
    typer.Option(
        "--stretch/--no-stretch",
        help="Scale images of more than 8 bits by the range of their pixels in a sample of the files \\[as trained].",
    ),
]
Background = Annotated[
    str | None,
    typer.Option(
        help="Colour under transparent pixels: a name or #rrggbb \\[as trained, else white].", metavar="COLOUR"
    ),
]
ValFraction = Annotated[
    float | None,
    typer.Option(help="Share of the training images, drawn by --seed, to hold out and evaluate on."),
    SHARE,
]
Workers = Annotated[
    int | None,
    typer.Option(help="Data-loading processes; 0 loads in the main process \\[chosen for the data set]."),
    WORKERS,
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, or auto.")]
InitFrom = Annotated[
    str | None,
    typer.Option(
        help="Evaluate these weights, with --encoder if they do not name theirs: a .safetensors or .pth file, a run "
        "folder, pretrained:NAME of torchvision or timm, or open_clip:MODEL/PRETRAINED.",
        metavar="FILE|RUN|NAME",
    ),
]
Seed = Annotated[int, typer.Option(help="Random seed."), SEED]
Baselines = Annotated[bool, typer.Option("--baselines", help="Also evaluate an untrained encoder and raw pixels.")]
ConfusionFile = Annotated[Path | None, out_file("the confusion matrix", ".png", default="RUN/COMMAND-confusion.png")]
WeightsFile = Annotated[
    Path | None,
    typer.Option(
        help="Weights of the training images: of 'stable reweight' from the .npz of 'embed --split train', or a table "
        "with the columns weight and path.",
        metavar="FILE",
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the full traceback of an error.")]


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The data set."""

    data: Data = None
    data_dir: DataDir = None
    download: Download = False
    test_part: TestPart = None
    layout: Layout = None
    stretch: Stretch = None
    background: Background = None


@dataclass(frozen=True, kw_only=True)
class EncodingOptions(DataOptions):
    """Images to encode, and how."""

    val_fraction: ValFraction = None
    size: Annotated[
        int | None, typer.Option(help="Side of the encoder's input images, in pixels \\[as trained]."), SAMPLES
    ] = None
    batch: Annotated[int, typer.Option(help="Images encoded at once."), BATCH] = 512
    workers: Workers = None
    max_bad: Annotated[
        float | None,
        typer.Option(help="Largest share of unreadable images before the evaluation stops \\[as trained]."),
        SHARE,
    ] = None
    device: Device = "auto"
    seed: Seed = 0

    def open(self, **how: Any) -> "EvaluationSubject":
        """The subject of these options; ``how`` are further arguments of :meth:`EvaluationSubject.open`."""
        from contrastkit.evaluate import EvaluationSubject

        return EvaluationSubject.open(**vars(self), **how)


@dataclass(frozen=True, kw_only=True)
class SubjectOptions(EncodingOptions):
    """The encoder to evaluate: of a run, or by name."""

    run: Annotated[Path | None, typer.Argument(help="Run folder written by 'contrastkit train'.", metavar="RUN")] = None
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Evaluate this encoder instead of a run: tiny, a torchvision ResNet, timm:NAME, or pixels.",
            metavar="NAME",
        ),
    ] = None
    pretrained: Annotated[bool, typer.Option("--pretrained", help="With --encoder: load its published weights.")] = (
        False
    )
    init_from: InitFrom = None


@dataclass(frozen=True, kw_only=True)
class GalleryOptions(SubjectOptions):
    """The encoder, and the images to look at through it."""

    split: Annotated[Literal["train", "test", "all"], typer.Option(help="Part of the data set.")] = "all"
    features: Annotated[
        Path | None,
        typer.Option(help="Use the features in this .npz or .npy file of 'contrastkit embed'.", metavar="FILE"),
    ] = None

    def gallery(self, on_progress: Any) -> "Gallery":
        """The gallery of these options."""
        from contrastkit.evaluate import EvaluationSubject
        from contrastkit.explore import Gallery

        values = dict(vars(self))
        split, features = values.pop("split"), values.pop("features")
        subject = EvaluationSubject.open(**values)
        return Gallery.open(subject, split=split, features=features, on_progress=on_progress)


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Where results go besides the terminal."""

    json: Annotated[Path | None, out_file("the results", ".json")] = None
    debug: Debug = False  # read by main, which handles errors
