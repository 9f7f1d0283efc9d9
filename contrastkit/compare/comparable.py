"""Whether runs can be compared: they are if they are tested on the same images."""

from collections.abc import Sequence
from typing import Any

from contrastkit.compare.results import RunResults
from contrastkit.errors import UserError


def require_comparable(results: Sequence[RunResults]) -> list[str]:
    """Check that the test parts of runs are the same, as far as their records say.

    Those of ``--labelled`` images are known by their path, others by the fingerprint of the images that were trained
    on. With ``--val-fraction`` the seed draws the test part: of different seeds only the whole sets must be the same.

    Returns:
        What a reader of the comparison should know, one line each.

    Raises:
        UserError: two runs have other data sets or test parts.
    """
    first = results[0]
    for run in results[1:]:
        for name, flag in (
            ("labelled", "--labelled"),
            ("val_fraction", "--val-fraction"),
            ("test_part", "--test-part"),
        ):
            mine, other = (getattr(each.record.options, name) for each in (first, run))
            if mine != other:
                raise UserError(
                    f"{first.path} and {run.path} are tested on other images ({flag} {_or_none(mine)} and "
                    f"{_or_none(other)}): compare runs with the same test part"
                )
    for i, run in enumerate(results):
        if other := next((each for each in results[:i] if not _same_data(each, run)), None):
            raise UserError(
                f"{other.path} was trained on {_described(other)}, {run.path} on {_described(run)}: compare runs on "
                "one data set, or train with the same --labelled images to test on"
            )
    if first.record.options.val_fraction is not None and len({run.seed for run in results}) > 1:
        return [
            "each seed holds out other test images (--val-fraction): deviations over seeds include that of the images"
        ]
    return []


def _same_data(a: RunResults, b: RunResults) -> bool:
    if a.record.options.labelled is not None:
        return True  # the test images are others than those trained on
    mine, other = a.record.data, b.record.data
    if a.record.options.val_fraction is not None and a.seed != b.seed:
        return (mine.name, mine.images, mine.modalities) == (other.name, other.images, other.modalities)
    return all(x == y for x, y in zip(mine.fingerprint.split("."), other.fingerprint.split("."), strict=False))


def _described(run: RunResults) -> str:
    return f"{run.record.data.name} ({run.record.data.images:,} items, {run.record.data.fingerprint[:8]})"


def _or_none(value: Any) -> str:
    return "none" if value is None else str(value)
