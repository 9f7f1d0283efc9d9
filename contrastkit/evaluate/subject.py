"""The subject of an evaluation: the encoders, the data set, and how its images are encoded."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import nn

from contrastkit import dist
from contrastkit.bounds import BATCH, SAMPLES, SEED, SHARE, WORKERS, check_fields
from contrastkit.data import DataSet, Source, default_workers, open_data
from contrastkit.data.loader import MAX_BAD
from contrastkit.directories import given_path
from contrastkit.errors import UserError, listed
from contrastkit.evaluate.confusion import class_names
from contrastkit.evaluate.features import Features, Storage, encode, in_memory, raw_pixels
from contrastkit.evaluate.fit import require_batch, require_same_kind, require_size, require_unchanged, trained_on_these
from contrastkit.loading import load_encoder, unfinished
from contrastkit.options import Options
from contrastkit.parts.build import SMALL, build_encoder, set_image_size
from contrastkit.parts.encoder import Encoder
from contrastkit.parts.published import PUBLISHED_SIZE
from contrastkit.parts.wave import WAVES, wave_name
from contrastkit.run import Run
from contrastkit.starting import RAW, NamedEncoder, require_one
from contrastkit.types import Modality

RAW_PIXELS = "raw pixels"  # as --encoder pixels is shown
# Called with the name of a task, the amount completed, and the total (None: unknown).
OnProgress = Callable[[str, int, int | None], None]


@dataclass(frozen=True, kw_only=True)
class EvaluationSubject:
    """Encoders to compare on a data set, from :meth:`open` or from existing objects.

    Attributes:
        data: classifiers are trained on its training part and tested on its test part.
        encoders: by name; None stands for raw pixels.
        size: side of the encoders' input images in pixels; of sounds, length in samples.
        batch: images encoded at once.
        workers: data-loading processes.
        max_bad: share of unreadable images above which an evaluation stops; fewer are left out.
        run: run folder of the first encoder.
        kind: arguments of :func:`contrastkit.parts.build.build_encoder` for another encoder like the first, if known.
        reports: folder for results: that of the run, if it is evaluated on its own data set.
        encoded: the features of both parts by the encoder of a name, where they are known already.
        notices: what a reader of the results should know, one line each.
    """

    data: DataSet
    encoders: Mapping[str, nn.Module | None]
    size: Annotated[int, SAMPLES]
    batch: Annotated[int, BATCH] = 512
    workers: Annotated[int, WORKERS] = 0
    device: str | torch.device = "cpu"
    max_bad: Annotated[float, SHARE] = MAX_BAD
    run: Path | None = None
    kind: Mapping[str, Any] | None = None
    reports: Path | None = None
    encoded: Callable[[str], tuple[Features, Features]] | None = None
    notices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)

    @classmethod
    def open(
        cls,
        run: str | Path | None = None,
        *,
        encoder: str | None = None,
        pretrained: bool = False,
        init_from: str | None = None,
        baselines: bool = False,
        data: str | None = None,
        data_dir: Path | None = None,
        download: bool = False,
        val_fraction: float | None = None,
        test_part: str | None = None,
        layout: str | None = None,
        stretch: bool | None = None,
        background: str | None = None,
        size: int | None = None,
        batch: int = 512,
        workers: int | None = None,
        max_bad: float | None = None,
        device: str = "auto",
        seed: int = 0,
    ) -> "EvaluationSubject":
        """A run, or an encoder by name, on a data set.

        Args:
            run: a run folder; either this or ``encoder`` or ``init_from``.
            encoder: tiny, a torchvision ResNet, ``timm:NAME``, or pixels; for sounds wave or tiny.
            pretrained: with ``encoder``: its published weights.
            init_from: with ``encoder``: these weights (:func:`contrastkit.starting.open_weights`), which may name it.
            baselines: also an untrained encoder like that and, for images, raw pixels.
            data: see :func:`contrastkit.data.open_data`; None is the run's own, labelled set and its split, else the
                embedded one.
            data_dir: directory of named data sets; None is the run's, else $CONTRASTKIT_DATA.
            val_fraction: share of the training images to test on; None is as in the run, else the test part.
            test_part, layout: see :func:`contrastkit.data.open_data`; None is as in the run, on its own data set.
            stretch, background: likewise; None is as in the run, on any data set.
            size: None is as trained, or suitable for the encoder.
            workers: None is suitable for the data set.
            max_bad: None is as in the run.
            seed: of untrained encoders, and of the split of a data set that is not the run's own.

        Raises:
            UserError: neither or both of ``run`` and ``encoder``, or an encoder that does not fit the data set.
        """
        require_one("evaluate", run, encoder, pretrained=pretrained, init_from=init_from)
        SEED.check("--seed", seed, whole=True)
        place = dist.device(device)
        request: dict[str, Any] = {"data": data, "val_fraction": val_fraction, "seed": seed}
        request |= {"data_dir": data_dir, "download": download}
        request |= {"test_part": test_part, "layout": layout, "stretch": stretch, "background": background}
        if run is not None:
            subject = _of_run(given_path(run), request, baselines=baselines, size=size)
        else:
            named = NamedEncoder.of(encoder, pretrained=pretrained, init_from=init_from)
            subject = _of_encoder(named, request, baselines=baselines, size=size)
        require_batch(subject.data.train, batch, subject.size)
        workers = default_workers(subject.data.train) if workers is None else workers
        max_bad = subject.max_bad if max_bad is None else max_bad
        return replace(subject, batch=batch, workers=workers, max_bad=max_bad, device=place)

    def labelled_parts(self) -> tuple[Source, Source]:
        """The training and the test part, both with labels.

        Raises:
            UserError: no labels, labels of a single class, or no test part.
        """
        train, test = self.data.train, self.data.test
        if train.labels is None:
            raise UserError(f"{self.data.name} has no labels to evaluate with: put the images in one folder per class")
        if test is None:
            raise UserError(f"{self.data.name} has no test part: hold one out with --val-fraction 0.1")
        if test.labels is None:
            raise UserError(f"the test part of {self.data.name} has no labels to evaluate with")
        labels = torch.cat([train.labels, test.labels])
        if len(labels[labels >= 0].unique()) == 1:
            raise UserError(f"all labels of {self.data.name} are the same: give images of at least two classes")
        return train, test

    @property
    def left_out(self) -> tuple[str, ...]:
        """A line for each part of the data set on the images that could not be read so far."""
        parts = {"training": self.data.train, "test": self.data.test}
        return tuple(
            f"{len(part.unreadable)} of {len(part):,} {name} {part.modality.plural} cannot be read and are left out: "
            + listed([f"{path} ({reason})" for path, reason in part.unreadable.values()], 3)
            for name, part in parts.items()
            if part is not None and part.unreadable
        )

    @property
    def n_classes(self) -> int:
        """Classes are 0 ... n_classes - 1."""
        return 1 + max(int(part.labels.max()) for part in self.labelled_parts() if part.labels is not None)

    @property
    def class_names(self) -> tuple[str, ...]:
        """A different name for each class, in their order."""
        return class_names(self.data.train.classes, self.n_classes)

    def features(
        self,
        name: str,
        *sources: Source,
        on_progress: OnProgress | None = None,
        tokens: bool = False,
        storage: Storage = in_memory,
    ) -> list[Features]:
        """Features of each source by the encoder of that name; ``tokens`` and ``storage``: see ``features.encode``.

        Raises:
            UserError: raw pixels of sounds, or tokens of an encoder without feature maps.
        """
        encoder, total, completed = self.encoders[name], sum(map(len, sources)), 0

        def count(n: int) -> None:
            nonlocal completed
            completed += n
            if on_progress is not None:
                on_progress(f"encoding {total:,} {self.data.train.modality.plural}: {name}", completed, total)

        options: dict[str, Any] = {"size": self.size, "workers": self.workers, "max_bad": self.max_bad}
        options |= {"on_batch": count, "storage": storage}
        if tokens and not isinstance(encoder, Encoder):
            raise UserError(f"{name} has no feature maps, whose positions would be tokens: drop --tokens")
        if encoder is not None:
            options |= {"batch": self.batch, "device": self.device, "tokens": tokens}
            return [encode(encoder, source, **options) for source in sources]
        if not (modality := self.data.train.modality).has_pixels:
            raise UserError(f"{self.data.name} has {modality.plural}, which have no pixels")
        return [raw_pixels(source, **options) for source in sources]

    def labelled_features(self, on_progress: OnProgress | None = None) -> Iterator[tuple[str, Features, Features]]:
        """Name, training features and test features of each encoder, one encoder at a time.

        Raises:
            UserError: no labels, labels of a single class, or no test part.
        """
        train, test = self.labelled_parts()
        for name in self.encoders:
            if self.encoded is None:
                train_features, test_features = self.features(name, train, test, on_progress=on_progress)
            else:
                train_features, test_features = self.encoded(name)
            yield name, replace(train_features, weights=train.weights), test_features


def _of_run(path: Path, request: dict[str, Any], *, baselines: bool, size: int | None) -> EvaluationSubject:
    run = Run.open(path)
    record = run.record
    options, kind = record.options, record.encoder
    own, seed = request["data"] is None, request["seed"]
    notices: tuple[str, ...] = ()
    labelled = options.labelled if own else None
    if own:
        request = request | _own_split(request, options) | {"data": labelled or options.data, "seed": options.seed}
        if labelled is not None:
            notices = (f"evaluated on the labelled images of {path} (--labelled {labelled}); --data names others",)
    pixels = ("stretch", "background")  # as the encoder knows them, on any data
    request = request | {name: getattr(options, name) for name in pixels if request[name] is None}
    data = open_data(**request, recorded_dir=options.data_dir)
    if own and labelled is None:
        decides = ("val_fraction", "layout", *(("test_part",) if data.pretrain.environment is not None else ()))
        changed = [name for name in decides if request[name] != getattr(options, name)]
        if not changed:
            require_unchanged(path, record.data, data)
        elif ("val_fraction" if request["test_part"] is None else "test_part") in changed:
            notices = (trained_on_these(path, record),)
    require_same_kind(path, record.data, data)
    encoders: dict[str, nn.Module | None] = {str(path): load_encoder(run, record)}
    if baselines:
        encoders |= _baselines(kind, data, seed)
    size = kind["size"] if size is None else size
    require_size(kind["name"], size)
    for encoder in encoders.values():
        if isinstance(encoder, Encoder):
            set_image_size(encoder, size)
    return EvaluationSubject(
        data=data,
        encoders=encoders,
        size=size,
        max_bad=options.max_bad,
        run=path,
        kind=kind,
        reports=path if own else None,
        notices=(*unfinished(run, record), *data.notices, *notices),
    )


def _own_split(request: dict[str, Any], options: Options) -> dict[str, Any]:
    """The split of a run's own data set: what is asked for, else that of the run, since another one would test on
    training images."""
    split = {name: request[name] for name in ("val_fraction", "test_part")}
    if split == {"val_fraction": None, "test_part": None}:
        split = {name: getattr(options, name) for name in split}
    layout = options.layout if options.labelled is None else options.labelled_layout
    return split | {"layout": layout if request["layout"] is None else request["layout"]}


def _baselines(kind: Mapping[str, Any] | None, data: DataSet, seed: int) -> dict[str, nn.Module | None]:
    torch.manual_seed(seed)
    untrained = {} if kind is None else {f"untrained {kind['name']}": build_encoder(**kind).eval()}
    return {**untrained, **({RAW_PIXELS: None} if data.train.modality.has_pixels else {})}


def _of_encoder(
    named: NamedEncoder, request: dict[str, Any], *, baselines: bool, size: int | None
) -> EvaluationSubject:
    if named.weights is not None and request["data"] is None:
        raise UserError(f"nothing to evaluate {named.source} on: name the images with --data")
    data, name = open_data(**request), named.name
    source = data.train
    if source.modality is Modality.SOUND:
        named, size = replace(named, name=wave_name(name)), source.size if size is None else size
    elif name in WAVES:
        raise UserError(f"--encoder {name} is for sounds, but {data.name} has images")
    elif size is None:
        size = named.size or (source.size if source.size <= SMALL else PUBLISHED_SIZE)
    require_size(named.name, size)
    if name == RAW:
        return EvaluationSubject(data=data, encoders={RAW_PIXELS: None}, size=size, notices=data.notices)
    kind: dict[str, Any] = {"name": named.name, "channels": 3 if named.pretrained else source.channels, "size": size}
    encoder, lines = named.build(channels=kind["channels"], size=size, seed=request["seed"])
    if named.pretrained and not name.startswith("timm:"):  # published weights have the stem of large images at any size
        kind["size"] = max(size, SMALL + 1)
    encoders: dict[str, nn.Module | None] = {named.label: encoder}
    if baselines:
        encoders |= _baselines(kind if named.trained else None, data, request["seed"])
    return EvaluationSubject(data=data, encoders=encoders, size=size, kind=kind, notices=(*data.notices, *lines))
