"""Images with captions: a folder with ``captions.token`` (Flickr8k's format) or ``captions.csv``, or a table of paths.

The images of a folder lie below ``images/``, or beside its captions. Lists of their names, one a line, divide them into
parts: ``train.txt``, and ``test.txt`` or other usual words (:mod:`contrastkit.data.parts`).
"""

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from contrastkit.data.captions import Captions
from contrastkit.data.dataset import DataSet, Reading, Request
from contrastkit.data.files import FileSource
from contrastkit.data.parts import Part, part_of, test_folders
from contrastkit.data.pixels import image_suffixes
from contrastkit.data.walk import walk
from contrastkit.errors import UserError, listed

TOKEN, TABLE = "captions.token", "captions.csv"
IMAGES = "images"
PATH, CAPTION = "path", "caption"  # the columns of a table


@dataclass(frozen=True)
class _Captioned:
    """The images of a folder that have captions.

    Attributes:
        captions: those of each image, by its path relative to the folder.
        notices: what is left out, at most one line.
    """

    root: Path
    captions: dict[str, list[str]]
    notices: tuple[str, ...]

    def path(self, name: str) -> str:
        """The path of an image, of which ``images/`` may be left out."""
        return name if name in self.captions else f"{IMAGES}/{name}"

    def source(self, paths: Sequence[str], name: str, reading: Reading, like: FileSource | None = None) -> FileSource:
        source = FileSource(name, paths, root=self.root, reading=reading, like=like)
        source.captions = Captions(self.captions[path] for path in paths)
        return source


def open_captioned(request: Request) -> DataSet | None:
    """A folder with captions, or a table with the columns path (relative to it, or absolute) and caption."""
    path, reading = request.path, request.reading
    if path.is_file() and path.suffix.lower() == ".csv":
        images = _captioned(path, list(_rows(path)), None)
        train = images.source(list(images.captions), path.stem, reading)
        return DataSet(path.stem, train, None, train, (*images.notices, *train.notices))
    files = [path / name for name in (TOKEN, TABLE) if (path / name).is_file()]
    if not files:
        return None
    if len(files) > 1:
        raise UserError(f"{path} has both {TOKEN} and {TABLE}: remove one of them")
    rows = list(_lines(files[0]) if files[0].name == TOKEN else _rows(files[0]))
    images = _captioned(files[0], rows, set(walk(path, image_suffixes()).paths))
    training, test, said = _parts(images, reading.test_part)
    train = images.source(training, path.name, reading)
    held_out = images.source(test, path.name, reading, like=train) if test else None
    return DataSet(path.name, train, held_out, train, (*said, *images.notices, *train.notices))


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """Name and caption of each line ``NAME#NUMBER<TAB>CAPTION``."""
    for number, line in enumerate(_text(file).split("\n"), start=1):
        place, tab, caption = line.partition("\t")
        name = place.rpartition("#")[0]
        if line.strip() and not (tab and name):
            raise UserError(
                f"line {number} of {file} is not NAME#NUMBER<TAB>CAPTION, as in Flickr8k.token.txt: mend it"
            )
        if line.strip():
            yield name, caption


def _rows(file: Path) -> Iterator[tuple[str, str]]:
    """Path and caption of each row of a table."""
    reader = csv.DictReader(_text(file).splitlines(keepends=True), strict=True)
    try:
        if missing := {PATH, CAPTION} - set(reader.fieldnames or ()):
            raise UserError(
                f"{file} has no column {min(missing)}: a table of captions has the columns {PATH}, {CAPTION}"
            )
        for row in reader:
            if not row[PATH] or row[CAPTION] is None:
                raise UserError(
                    f"line {reader.line_num} of {file} has no {PATH if not row[PATH] else CAPTION}: mend it"
                )
            yield row[PATH], row[CAPTION]
    except csv.Error as error:
        raise UserError(f"line {reader.line_num + 1} of {file} cannot be read: {error}") from error


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not in UTF-8: convert it") from error


def _captioned(file: Path, rows: Iterable[tuple[str, str]], known: set[str] | None) -> _Captioned:
    """The images that have captions.

    Args:
        known: the images that are there; None looks for each image that has a caption.

    Raises:
        UserError: there are none.
    """
    root, empty, missing = file.parent, 0, dict[str, int]()
    captions: dict[str, list[str]] = {}
    for name, text in rows:
        text = " ".join(text.split())
        path = name if known is None or name in known else f"{IMAGES}/{name}"
        if not text:
            empty += 1
        elif path in captions or (os.path.isfile(root / path) if known is None else path in known):
            captions.setdefault(path, []).append(text)
        else:
            missing[name] = missing.get(name, 0) + 1
    left_out = [f"empty captions ({empty:,})"] if empty else []
    if missing:
        left_out.append(
            f"captions without an image ({sum(missing.values()):,}, such as those of {next(iter(missing))})"
        )
    if bare := sorted((known or set()) - captions.keys()):
        left_out.append(f"images without a caption ({len(bare):,}, such as {bare[0]})")
    if not captions:
        raise UserError(f"{file} has no caption of an image that is there: {', '.join(left_out) or 'it is empty'}")
    return _Captioned(root, captions, (f"{file}: left out {', '.join(left_out)}",) if left_out else ())


def _parts(images: _Captioned, asked: str | None) -> tuple[list[str], list[str], list[str]]:
    """The paths to train on, those to test on, and what is said about them.

    Without a list for training, images are trained on that are in no list; where there are none, those of the part that
    is preferred least to test on.

    Raises:
        UserError: several lists for training, an image in two parts, no such list, or nothing to train on.
    """
    lists = _lists(images)
    training = [name for name in lists if part_of(name) is Part.TRAINING]
    tests = test_folders(list(lists))
    if len(training) > 1:
        raise UserError(f"{images.root} has several lists for training, {listed(training, 4)}: keep one of them")
    if asked is not None and asked not in tests:
        raise UserError(f"--test-part {asked}: {images.root} has no {asked}.txt (it has {listed(tests, 8) or 'none'})")
    test = asked or next(iter(tests), None)
    inside = {path for paths in lists.values() for path in paths}
    others = [path for path in images.captions if path not in inside]
    if training:
        source, train = f"{training[0]}.txt", lists[training[0]]
    elif others or test is None:
        source, train = "images in no list" if lists else "images", others
    else:
        training = [name for name in tests if name != test][-1:]
        if not training:
            raise UserError(
                f"{images.root} has nothing but {test}.txt to train on: list images to train on in train.txt"
            )
        source, train = f"for want of train.txt, {training[0]}.txt", lists[training[0]]
    held_out = [] if test is None else lists[test]
    if both := set(train).intersection(held_out):
        raise UserError(f"{min(both)} is both in {training[0]}.txt and in {test}.txt of {images.root}: keep it in one")
    words = [f"{source} -> training ({_counted(images, train)})"]
    words += [f"{test}.txt -> test ({_counted(images, held_out)})"] if held_out else []
    rest = [f"{name}.txt" for name in lists if name not in (*training, test)]
    return train, held_out, ["; ".join([", ".join(words), *([f"{listed(rest, 4)} not used"] if rest else [])])]


def _lists(images: _Captioned) -> dict[str, list[str]]:
    """The paths in each list of a part, by its name without .txt.

    Raises:
        UserError: none of its lines names an image with captions.
    """
    lists = {}
    for file in sorted(images.root.glob("*.txt")):
        if part_of(file.stem) in (Part.TRAINING, Part.TEST) and file.is_file():
            names = dict.fromkeys(line.strip() for line in _text(file).splitlines() if line.strip())
            paths = dict.fromkeys(path for path in map(images.path, names) if path in images.captions)
            if not paths:
                raise UserError(
                    f"{file} names no image with captions: give one name a line, such as {_example(images)}"
                )
            lists[file.stem] = list(paths)
    return lists


def _example(images: _Captioned) -> str:
    return next(iter(images.captions)).removeprefix(f"{IMAGES}/")


def _counted(images: _Captioned, paths: Sequence[str]) -> str:
    return f"{len(paths):,} images, {sum(len(images.captions[path]) for path in paths):,} captions"
