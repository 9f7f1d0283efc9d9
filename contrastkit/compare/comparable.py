"""Whether runs can be compared: they are if they are tested on the same images."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from contrastkit.compare.results import RunResults
from contrastkit.errors import UserError, listed

SHOWN = 3  # names in a notice


def require_comparable(results: Sequence[RunResults]) -> list[str]:
    """Check that the test parts of runs are the same, as far as their records say.

    Those of ``--labelled`` images are known by the fingerprints in the evaluations, which :func:`tested_on_the_same`
    compares, and where there are none by the name of their set; others by the fingerprint of the images that were
    trained on. With ``--val-fraction`` the seed draws the test part: of different seeds only the whole sets must be the
    same, which are known by where they are, by their name and by the number of images.

    Returns:
        What a reader of the comparison should know, one line each.

    Raises:
        UserError: two runs have other data sets or test parts.
    """
    first, notices = results[0], dict[str, None]()
    for run in results[1:]:
        for name, flag in (
            ("labelled", "--labelled"),
            ("val_fraction", "--val-fraction"),
            ("test_part", "--test-part"),
        ):
            mine, other = (getattr(each.record.options, name) for each in (first, run))
            texts = f"{flag} {_or_none(mine)} and {_or_none(other)}"
            both = name == "labelled" and None not in (mine, other)
            if mine == other or (both and _evaluated_on_the_same(first, run) is not None):
                continue
            if not _may_be_same(name, mine, other):
                raise UserError(
                    f"{first.path} and {run.path} are tested on other images ({texts}): compare runs with the same "
                    "test part"
                )
            notices[f"the records do not say whether all test images are the same ({texts}): taken to be"] = None
    for i, run in enumerate(results):
        if other := next((each for each in results[:i] if not _same_data(each, run)), None):
            raise UserError(
                f"{other.path} was trained on {_described(other)}, {run.path} on {_described(run)}: compare runs on "
                "one data set, or train with the same --labelled images to test on"
            )
    options = first.record.options
    if options.val_fraction is not None and len({run.seed for run in results}) > 1:
        known = "; that they are of one set is known by its path and size alone"
        if options.labelled is not None or all(_evaluated_on_the_same(first, run) for run in results[1:]):
            known = ""
        notices[
            "each seed holds out other test images (--val-fraction): deviations over seeds include that of the images"
            + known
        ] = None
    return list(notices)


def tested_on_the_same(results: Sequence[RunResults]) -> tuple[list[RunResults], list[str]]:
    """The runs without those evaluations whose files say that they are of other data than most, of data that are as
    frequent the first; and a notice on these."""
    notices = []
    for name in dict.fromkeys(name for run in results for name in run.evaluations):
        found = {run.path: run.evaluations[name].data for run in results if name in run.evaluations}
        known = Counter(data for data in found.values() if data is not None)
        if len(known) < 2:
            continue
        ((most, _),) = known.most_common(1)
        first = next(path for path, data in found.items() if data == most)
        other = [path for path, data in found.items() if data not in (most, None)]
        results = [_without(run, name) if run.path in other else run for run in results]
        notices.append(
            f"{name}.json of {listed(list(map(str, other)), SHOWN)} is of other test images or labels than that of "
            f"{first}: left out; if the set has changed in between, repeat 'contrastkit {name}' for each run"
        )
    return list(results), notices


def _without(run: RunResults, name: str) -> RunResults:
    return replace(run, evaluations={key: each for key, each in run.evaluations.items() if key != name})


def _evaluated_on_the_same(a: RunResults, b: RunResults) -> bool | None:
    """Whether the evaluations of two runs are of the same images; None if their files do not say it."""
    pairs = [(a.evaluations[name].data, b.evaluations[name].data) for name in a.evaluations if name in b.evaluations]
    known = [mine == other for mine, other in pairs if None not in (mine, other)]
    return all(known) if known else None


def _may_be_same(name: str, mine: Any, other: Any) -> bool:
    """Whether different values of an option may make the same test part: a set that was moved, or a part that the other
    run was not asked for but has chosen by the names of the folders."""
    if name == "labelled":
        return None not in (mine, other) and Path(mine).name == Path(other).name
    return name == "test_part" and None in (mine, other)


def _same_data(a: RunResults, b: RunResults) -> bool:
    if a.record.options.labelled is not None:
        return True  # the test images are others than those trained on
    mine, other = a.record.data, b.record.data
    if a.record.options.val_fraction is not None and a.seed != b.seed:
        # the fingerprints are of what the seed left to train on
        return (a.record.options.data, mine.name, mine.images, mine.modalities) == (
            b.record.options.data, other.name, other.images, other.modalities,
        )  # fmt: skip
    return all(x == y for x, y in zip(mine.fingerprint.split("."), other.fingerprint.split("."), strict=False))


def _described(run: RunResults) -> str:
    data = run.record.data
    place = "" if (where := run.record.options.data) == data.name else f" at {where}"
    return f"{data.name}{place} ({data.images:,} items, {data.fingerprint[:8]})"


def _or_none(value: Any) -> str:
    return "none" if value is None else str(value)
