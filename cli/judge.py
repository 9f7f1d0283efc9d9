"""``contrastkit knn``, ``probe`` and ``embed``: what frozen features are worth."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from contrastkit.cli import screen
from contrastkit.cli.options import (
    Data,
    DataDir,
    Debug,
    Device,
    Download,
    Json,
    Seed,
    ValFraction,
    Workers,
    where,
    writable,
)

from contrastkit.errors import UserError
from contrastkit.names import DEFAULT_DATA

if TYPE_CHECKING:
    from contrastkit.data import Source
    from contrastkit.evaluate.features import Features
    from contrastkit.parts.encoder import Encoder

RunFolder = Annotated[Path | None, typer.Argument(help="A run folder that 'contrastkit train' wrote.", metavar="[RUN]")]
JudgedEncoder = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        help="Judge this instead of a run: tiny, a torchvision ResNet, timm:NAME, or pixels.",
        metavar="NAME",
    ),
]
Pretrained = Annotated[bool, typer.Option("--pretrained", help="With --encoder: its published supervised weights.")]
Baselines = Annotated[
    bool, typer.Option("--baselines", help="Beside the run, an untrained encoder of its kind and raw pixels.")
]
Size = Annotated[
    int | None, typer.Option(help="Side in pixels of the images that the encoder sees; else as trained.", min=1)
]
Batch = Annotated[int, typer.Option(help="Images encoded at a time.", min=1)]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the options that these commands share say."""

    run: Path | None
    data: str | None
    data_dir: Path | None
    download: bool
    val_fraction: float | None
    encoder: str | None
    pretrained: bool
    baselines: bool = False
    size: int | None
    batch: int
    workers: int | None
    device: str
    seed: int

    @classmethod
    def among(cls, options: dict[str, Any]) -> "Choice":
        """Those of a command's options that are shared."""
        return cls(**{item.name: options[item.name] for item in fields(cls) if item.name in options})


class Judged:
    """What a command judges: a data set, and encoders (None stands for raw pixels) with the names they go by."""

    def __init__(self, choice: Choice) -> None:
        import torch

        import contrastkit
        from contrastkit import dist
        from contrastkit.data import default_workers, open_data
        from contrastkit.parts.encoder import SMALL, build_encoder, published_size
        from contrastkit.parts.wave import WAVES, wave_name
        from contrastkit.run import Run
        from contrastkit.types import Modality

        run, encoder = choice.run, choice.encoder
        if (run is None) == (encoder is None):
            raise UserError(
                "name what to judge: a run folder, or --encoder NAME"
                if run is None
                else "give a run folder or --encoder, not both"
            )
        self.device, self.batch = dist.init(choice.device), choice.batch
        data, val_fraction, split_seed, kept_dir = choice.data, choice.val_fraction, choice.seed, None
        self.report: Path | None = None  # the run, where it is judged on its own set
        record = Run.open(run, writes=False).recipe if run is not None else None
        if record is not None:
            kept = record["options"]
            if data is None:  # the run's own set and split: other draws would judge on images it was trained on
                data, split_seed = kept["data"], kept["seed"]
                val_fraction = kept["val_fraction"] if val_fraction is None else val_fraction
                if val_fraction != kept["val_fraction"]:
                    screen.say(f"{run} was trained on images that it is judged on here, without their labels")
                self.report = run
            kept_dir = kept["data_dir"]
        self.data = open_data(
            data or DEFAULT_DATA,
            data_dir=where(choice.data_dir, kept_dir),
            download=choice.download,
            val_fraction=val_fraction,
            seed=split_seed,
        )
        source = self.data.train
        if record is not None and (heard := record["data"].get("rate")) != source.sample_rate:
            raise UserError(
                f"{run} learned from {_kind(heard)}, "
                f"{self.data.name} holds {_kind(source.sample_rate)}: they do not fit"
            )
        if record is not None:
            modalities = [list((kind or {}).items()) for kind in (record["data"].get("modalities"), source.modalities)]
            if modalities[0] != modalities[1]:  # in this order, too
                learned, held = (", ".join(name for name, _ in kind) or "images" for kind in modalities)
                raise UserError(f"{run} learned from {learned}, {self.data.name} holds {held}: they do not fit")
        self.workers = default_workers(source) if choice.workers is None else choice.workers
        self.encoders: dict[str, Encoder | None] = {}
        if run is not None and record is not None:
            self.size = choice.size or record["encoder"]["size"]
            self.encoders[str(run)] = contrastkit.load(run)
            if choice.baselines:
                torch.manual_seed(choice.seed)
                self.encoders[f"untrained {record['encoder']['name']}"] = build_encoder(**record["encoder"]).eval()
                if source.modality is not Modality.SOUND:
                    self.encoders["raw pixels"] = None
        else:
            assert encoder is not None
            usual = source.size if source.size <= SMALL else 224
            self.size = choice.size or (published_size(encoder) if choice.pretrained else usual)
            if source.modality is Modality.SOUND:
                encoder, self.size = wave_name(encoder), choice.size or source.size
            elif encoder in WAVES:
                raise UserError(f"--encoder {encoder} is for sounds, {self.data.name} holds images")
            if encoder == "pixels":
                self.encoders["raw pixels"] = None
            else:
                name = f"{encoder}, {'its published weights' if choice.pretrained else 'untrained'}"
                channels = 3 if choice.pretrained else source.channels
                torch.manual_seed(choice.seed)
                self.encoders[name] = build_encoder(
                    encoder, channels=channels, size=self.size, pretrained=choice.pretrained
                )

        if source.modality is Modality.SOUND:
            wave = record["encoder"]["name"] if record is not None else str(encoder)
            frame = math.prod(WAVES[wave]["strides"])
            if self.size < frame:
                raise UserError(f"{self.size} samples are less than a frame of {frame}: raise --size")

    def features(self, name: str, *sources: "Source") -> "list[Features]":
        """Features of each source by the encoder of that name."""
        from contrastkit.evaluate.features import encode, raw_pixels

        encoder, total = self.encoders[name], sum(map(len, sources))
        with screen.counting(f"encoding {total:,} images: {name}", total) as count:
            how: dict[str, Any] = {"size": self.size, "workers": self.workers, "on_batch": count}
            if encoder is None:
                return [raw_pixels(source, **how) for source in sources]
            return [encode(encoder, source, batch=self.batch, device=self.device, **how) for source in sources]

    def pairs(self) -> Iterator[tuple[str, "Features", "Features"]]:
        """Name, training features and test features of each encoder.

        Raises:
            UserError: no labels, or nothing to test on.
        """
        train, test = self.labelled()
        for name in self.encoders:
            of_train, of_test = self.features(name, train, test)
            yield name, of_train, of_test

    def labelled(self) -> tuple["Source", "Source"]:
        from contrastkit.evaluate.judge import parts

        return parts(self.data)

    @property
    def n_classes(self) -> int:
        train, test = self.labelled()
        assert train.labels is not None and test.labels is not None
        return int(max(train.labels.max(), test.labels.max())) + 1


def knn(
    run: RunFolder = None,
    data: Data = None,
    data_dir: DataDir = None,
    download: Download = False,
    val_fraction: ValFraction = None,
    encoder: JudgedEncoder = None,
    pretrained: Pretrained = False,
    baselines: Baselines = False,
    k: Annotated[int, typer.Option(help="Neighbours.", min=1)] = 20,
    temperature: Annotated[
        float, typer.Option("--T", help="Temperature of their votes exp(cosine / T).", min=1e-6)
    ] = 0.1,
    size: Size = None,
    batch: Batch = 512,
    workers: Workers = None,
    device: Device = "auto",
    seed: Seed = 0,
    json: Json = None,
    debug: Debug = False,
) -> None:
    """Weighted k-nearest-neighbour accuracy of frozen features (Wu et al. 2018): cosine similarity, nothing trained."""
    judged = Judged(Choice.among(locals()))
    from contrastkit.evaluate.knn import knn as classify

    found = {
        name: asdict(classify(train, test, k=k, T=temperature, n_classes=judged.n_classes, device=judged.device))
        for name, train, test in judged.pairs()
    }
    rows = [(name, _percent(a["top1"]), _interval(a["interval"]), _percent(a["top5"])) for name, a in found.items()]
    screen.table(
        f"kNN on {judged.data.name}, k = {k}, T = {temperature:g}, {_counts(judged)}",
        ("features", "top-1", "95 % interval", "top-5"),
        rows,
    )
    _report(
        judged.report,
        "knn",
        json,
        {"data": judged.data.name, "k": k, "T": temperature, "size": judged.size, "accuracy": found},
    )


def probe(
    run: RunFolder = None,
    data: Data = None,
    data_dir: DataDir = None,
    download: Download = False,
    val_fraction: ValFraction = None,
    encoder: JudgedEncoder = None,
    pretrained: Pretrained = False,
    baselines: Baselines = False,
    protocol: Annotated[
        Literal["rates", "moco"],
        typer.Option(
            help="rates: many learning rates at once on cached features; moco: the paper's own, lr 30, crops and flips."
        ),
    ] = "rates",
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the training images \\[rates: 50; moco: 100].", min=1)
    ] = None,
    lr: Annotated[float, typer.Option(help="moco: learning rate.", min=0)] = 30.0,
    seeds: Annotated[
        int, typer.Option(help="rates: classifiers trained with the chosen rate, for the spread.", min=1)
    ] = 3,
    size: Size = None,
    batch: Batch = 512,
    workers: Workers = None,
    device: Device = "auto",
    seed: Seed = 0,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="rates: draw accuracy against the rate; a run gets one anyway.", metavar="FILE", callback=writable
        ),
    ] = None,
    json: Json = None,
    debug: Debug = False,
) -> None:
    """Accuracy of a linear classifier on frozen features, its learning rate chosen on held-out training images."""
    judged = Judged(Choice.among(locals()))
    if protocol == "moco":
        found = _moco(judged, epochs=epochs or 100, lr=lr, seed=seed)
    else:
        found = _rates(
            judged,
            epochs=epochs or 50,
            seeds=seeds,
            seed=seed,
            plot=plot or (judged.report and judged.report / "probe.png"),
        )
    rows = [
        (
            name,
            _percent(p["accuracy"]["top1"]) + (f" +- {100 * p['std']:.2f}" if p.get("std") is not None else ""),
            _interval(p["accuracy"]["interval"]),
            _percent(p["accuracy"]["top5"]),
            f"{p['rate']:g}",
        )
        for name, p in found.items()
    ]
    screen.table(
        f"linear probe on {judged.data.name}, protocol {protocol}, {_counts(judged)}",
        ("features", "top-1", "95 % interval", "top-5", "learning rate"),
        rows,
    )
    _report(
        judged.report,
        "probe",
        json,
        {"data": judged.data.name, "protocol": protocol, "size": judged.size, "probe": found},
    )


def embed(
    run: RunFolder = None,
    out: Annotated[Path, typer.Option(help="The file to write.", metavar="FILE", callback=writable)] = Path(
        "features.npz"
    ),
    data: Data = None,
    data_dir: DataDir = None,
    download: Download = False,
    val_fraction: ValFraction = None,
    split: Annotated[Literal["train", "test", "all"], typer.Option(help="Which part of the set.")] = "all",
    encoder: JudgedEncoder = None,
    pretrained: Pretrained = False,
    size: Size = None,
    batch: Batch = 512,
    workers: Workers = None,
    device: Device = "auto",
    seed: Seed = 0,
    json: Json = None,
    debug: Debug = False,
) -> None:
    """Write features to an .npz: features [N, D] float32, labels [N] int64 (-1: none), split [N], classes."""
    import numpy as np

    from contrastkit.checkpoint import write_with

    judged = Judged(Choice.among(locals()))
    (name,) = judged.encoders
    parts = {"train": judged.data.train, "test": judged.data.test}
    sources = {part: source for part, source in parts.items() if source is not None and split in (part, "all")}
    if not sources:
        raise UserError(
            f"{judged.data.name} has no test part: use --split train, or hold one out with --val-fraction 0.1"
        )
    found = dict(zip(sources, judged.features(name, *sources.values()), strict=True))
    arrays = {
        "features": np.concatenate([f.x.numpy() for f in found.values()]),
        "labels": np.concatenate([f.y.numpy() for f in found.values()]),
        "split": np.repeat(list(found), [len(f.y) for f in found.values()]),
        "classes": np.array(judged.data.train.classes or ()),
    }

    def write(path: Path) -> None:
        with open(path, "wb") as file:  # a file object, lest numpy adds an ending to the temporary name
            np.savez(file, **arrays)

    write_with(out, write)
    n, d = arrays["features"].shape
    _report(None, "embed", json, {"data": judged.data.name, "encoder": name, "images": n, "features": d})
    screen.say(f"{out}: {n:,} x {d} features of {judged.data.name} by {name}")


def retrieve(
    run: Annotated[Path, typer.Argument(help="A run folder of cmc.", metavar="RUN")],
    data: Data = None,
    data_dir: DataDir = None,
    download: Download = False,
    val_fraction: ValFraction = None,
    size: Size = None,
    batch: Batch = 512,
    workers: Workers = None,
    device: Device = "auto",
    seed: Seed = 0,
    json: Json = None,
    debug: Debug = False,
) -> None:
    """Whether what one view or modality of a test image shows finds what another shows of it (cmc): recall at k."""
    judged = Judged(Choice.among(locals() | {"encoder": None, "pretrained": False}))
    import torch

    from contrastkit.evaluate.retrieval import retrieval
    from contrastkit.parts.encoder import SplitEncoder
    from contrastkit.run import load_method

    encoder, test = judged.encoders[str(run)], judged.data.test
    if not isinstance(encoder, SplitEncoder):
        raise UserError(f"{run} has one encoder, not one a view: retrieval is for runs of cmc")
    if test is None:
        raise UserError(f"{judged.data.name} has no test part: hold one out with --val-fraction 0.1")
    (features,) = judged.features(str(run), test)
    with torch.no_grad():
        z = load_method(run).online.head(features.x).chunk(len(encoder.views), dim=1)
    views = tuple(test.modalities or encoder.views)
    found = {
        f"{query} -> {key}": retrieval(z[i], z[j])
        for i, query in enumerate(views)
        for j, key in enumerate(views)
        if i != j
    }
    one = next(iter(found.values()))
    rows = [
        (name, *(_percent(share) for share in seen.recall.values()), f"{seen.median_rank:g}")
        for name, seen in found.items()
    ]
    chance = ("chance", *(_percent(one.chance(k)) for k in one.recall), f"{(one.n + 1) / 2:g}")
    screen.table(
        f"retrieval on {judged.data.name}, {one.n:,} test images",
        ("query -> key", *(f"recall@{k}" for k in one.recall), "median rank"),
        [*rows, chance],
    )
    report = {name: asdict(seen) for name, seen in found.items()}
    _report(judged.report, "retrieval", json, {"data": judged.data.name, "size": judged.size, "retrieval": report})


def _kind(rate: int | None) -> str:
    return "images" if rate is None else f"sounds at {rate:,} Hz"


def _rates(judged: Judged, *, epochs: int, seeds: int, seed: int, plot: Path | None) -> dict[str, dict[str, Any]]:
    from contrastkit.checkpoint import write_with
    from contrastkit.evaluate.probe import linear_probe, plot_rates

    found = {}
    for name, train, test in judged.pairs():
        with screen.working(f"linear probe: {name}"):
            result = linear_probe(
                train,
                test,
                n_classes=judged.n_classes,
                epochs=epochs,
                seeds=range(seed, seed + seeds),
                device=judged.device,
            )
        for notice in result.notices:
            screen.say(f"{name}: {notice}")
        if plot is not None:
            write_with(plot, lambda file, result=result: plot_rates(result, file))
            screen.say(f"{name}: accuracy against the learning rate is drawn in {plot}")
            plot = None  # of the first, which is the run
        found[name] = asdict(result)
    return found


def _moco(judged: Judged, *, epochs: int, lr: float, seed: int) -> dict[str, dict[str, Any]]:
    from contrastkit.evaluate.probe import moco_protocol
    from contrastkit.types import Modality

    train, test = judged.labelled()
    found = {}
    if train.modality is Modality.SOUND:
        raise UserError("the protocol 'moco' crops and flips images, these are sounds: use --protocol rates")
    if list(judged.encoders.values()) == [None]:
        raise UserError("the protocol 'moco' probes an encoder, not raw pixels: use --protocol rates")
    for name, encoder in judged.encoders.items():
        if encoder is None:
            screen.say("raw pixels: left out, this protocol probes encoders")
            continue
        with screen.working(f"linear probe: {name}"):
            screen.say(f"{name}: {epochs} epochs of the linear probe")
            result = moco_protocol(
                encoder,
                train,
                test,
                size=judged.size,
                n_classes=judged.n_classes,
                lr=lr,
                epochs=epochs,
                workers=judged.workers,
                seed=seed,
                device=judged.device,
                on_epoch=lambda epoch, loss: screen.say(f"epoch {epoch + 1}/{epochs}  loss {loss:.4f}"),
            )
        found[name] = asdict(result) | {"rate": lr}
    return found


def _report(run: Path | None, name: str, json: Path | None, value: dict[str, Any]) -> None:
    """JSON where it was asked for, and in the run folder."""
    from contrastkit.cli.main import write_json

    for file in (json, run and run / f"{name}.json"):
        if file is not None:
            write_json(file, value)


def _counts(judged: Judged) -> str:
    train, test = judged.labelled()
    what = f"{train.modality.plural} of {judged.size:,} {train.modality.unit}"
    return f"{len(train):,} training and {len(test):,} test {what}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f} %"


def _interval(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.1f} - {100 * interval[1]:.1f}"
