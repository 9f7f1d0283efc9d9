"""Precision and recall of `contrastkit duplicates` on planted copies.

    python -m benchmarks.copies RUN --data cifar10 --data-dir DIR

Some images of the training part get a copy each: smaller (3/4 of the sides), larger (twice), recompressed (JPEG of
quality 50), or mirrored. Each encoder (that of RUN, an untrained one like it, and raw pixels) then finds the pairs
above several thresholds: by its features alone, and those that the pixels confirm as copies. A pair that was not
planted counts as wrong, although a data set has copies of its own: precision is a lower bound.

The run should not have been tuned for this; it may have been trained on the same images, as yours will be.
"""

import argparse
import contextlib
import io
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps

from benchmarks import RESULTS
from contrastkit.checkpoint import write_text
from contrastkit.data import Source, open_data
from contrastkit.errors import UserError
from contrastkit.evaluate import EvaluationSubject
from contrastkit.explore import Gallery, duplicates
from contrastkit.explore.copies import Kind
from contrastkit.rng import permutation

THRESHOLDS = (0.99, 0.98, 0.97, 0.95, 0.9)


def recompressed(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "jpeg", quality=50)
    return Image.open(file).convert("RGB")


def resized(image: Image.Image, factor: float) -> Image.Image:
    return image.resize((round(factor * image.width), round(factor * image.height)), Image.Resampling.BICUBIC)


WAYS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "smaller": lambda image: resized(image, 0.75),
    "larger": lambda image: resized(image, 2),
    "recompressed": recompressed,
    "mirrored": ImageOps.mirror,
}


def plant(source: Source, folder: Path, images: int, copies: int) -> dict[frozenset[str], str]:
    """Write some images of a source to a folder, and the copies of some of them; returns the way of each planted pair
    of files."""
    drawn = permutation(0, 0, len(source))[:images]
    planted = {}
    ways = itertools.chain.from_iterable(itertools.repeat(way, copies) for way in WAYS)
    for i, (pixels, way) in enumerate(itertools.zip_longest(source.fetch(drawn), ways)):
        picture = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        picture.save(folder / f"{i}.png")
        if way is not None:
            WAYS[way](picture).save(folder / f"{i}-{way}.png")
            planted[frozenset((f"{i}.png", f"{i}-{way}.png"))] = way
    return planted


def measured(gallery: Gallery, planted: dict[frozenset[str], str]) -> Iterator[dict[str, Any]]:
    """Of each threshold: the pairs found, and precision and recall in %, of features alone and confirmed by pixels."""
    for lowest in reversed(THRESHOLDS):  # below which there may be more pairs than are shown to anyone
        with contextlib.suppress(UserError):
            report = duplicates(gallery, lowest)
            break
    else:
        return
    pairs = [(frozenset((report.names[p.a], report.names[p.b])), p) for p in report.pairs]
    for threshold in THRESHOLDS[: THRESHOLDS.index(lowest) + 1]:
        above = [(names, pair.kind) for names, pair in pairs if pair.similarity >= threshold]
        confirmed = [(names, kind) for names, kind in above if kind is not Kind.SIMILAR]
        row: dict[str, Any] = {"encoder": gallery.encoder, "threshold": threshold}
        for how, found in (("features", above), ("pixels", confirmed)):
            right = [planted[names] for names, _ in found if names in planted]
            row[how] = {
                "pairs": len(found),
                "precision": 100 * len(right) / len(found) if found else None,
                "recall": 100 * len(right) / len(planted),
                "ways": {way: 100 * right.count(way) / list(planted.values()).count(way) for way in WAYS},
            }
        yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--copies", type=int, default=250, help="of each way")
    parser.add_argument("--out", type=Path, default=RESULTS / "copies-cifar10.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    train = open_data(options.data, data_dir=options.data_dir).train
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        planted = plant(train, Path(folder), options.images, options.copies)
        subject = EvaluationSubject.open(options.run, data=folder, baselines=True, workers=0)
        for name, encoder in subject.encoders.items():
            one = EvaluationSubject(
                data=subject.data, encoders={name: encoder}, size=subject.size, device=subject.device
            )
            for row in measured(Gallery.open(one), planted):
                rows.append(
                    row
                    | {
                        "encoder": "trained" if name == str(options.run) else name,
                        "images": options.images,
                        "planted": len(planted),
                    }
                )
                print(json.dumps(rows[-1]), flush=True)
    write_text(options.out, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
