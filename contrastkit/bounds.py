"""The intervals in which the numbers that a user gives must lie, wherever they come from: the command line, Python, a
file.

An interval stands in the annotation of what it bounds, a field of a recipe, of a view, of options, or an option::

    momentum: Annotated[float, "momentum of SGD and LARS", BELOW_1]

Fields are checked by :func:`check_fields` when the object is made, options by ``contrastkit.cli.options``, and values
of files by :mod:`contrastkit.schema`. Numbers without an interval are finite and, if whole, of 64 bits. Upper ends that
no paper gives only rule out typing errors, at which a command would hang or fill the memory.
"""

import dataclasses
import functools
import math
import numbers
import typing
from collections.abc import Container
from dataclasses import dataclass
from typing import Annotated, Any

from contrastkit.errors import UserError


@dataclass(frozen=True)
class Interval:
    """The finite numbers from ``low`` to ``high``; ``above`` leaves out the lower end, ``below`` the upper one."""

    low: float
    high: float
    above: bool = False
    below: bool = False

    def check(self, name: str, value: Any, *, whole: bool = False) -> None:
        """Check a number, or each of a sequence; None lies in every interval.

        Args:
            name: of the option, with its dashes, for the message.
            whole: whether only whole numbers are allowed.

        Raises:
            UserError: it does not lie in the interval, or is no such number.
        """
        if value is None:
            return
        for number in value if isinstance(value, list | tuple) else (value,):
            if not isinstance(number, numbers.Integral if whole else numbers.Real):
                raise UserError(f"{name} must be a {'whole ' if whole else ''}number, not {number!r}")
            if number not in self:
                raise UserError(f"{name} must {self._requirement(number)}, not {number}")

    def __contains__(self, number: Any) -> bool:
        within = self.low <= number <= self.high and math.isfinite(number)
        return within and not (self.above and number == self.low) and not (self.below and number == self.high)

    def _requirement(self, number: Any) -> str:
        """What a number outside does not do."""
        if not math.isfinite(number):
            return "be a finite number"
        if 0 <= self.low < self.high <= 1:
            return f"lie in {'(' if self.above else '['}{self.low:g}, {self.high:g}{')' if self.below else ']'}"
        if number > self.low:
            return f"be {'below' if self.below else 'at most'} {_written(self.high)}"
        if self.above:
            return f"be above {_written(self.low)}"
        return f"be at least {_written(self.low)}" if self.low else "not be negative"


def _written(end: float) -> str:
    return f"{end:,}" if isinstance(end, int) else f"{end:g}"


COUNT = Interval(1, 2**31 - 1)
AT_LEAST_2 = Interval(2, 2**31 - 1)
COUNT_OR_0 = Interval(0, 2**31 - 1)
EPOCHS = Interval(1, 10**6)
PERIOD = Interval(0, 10**6)  # in epochs; 0 for none
BATCH = Interval(1, 2**20)
LAYERS = Interval(1, 64)
WIDTH = Interval(1 / 32, 32)  # factor on the width of an encoder
MAPPED = Interval(5, 10**6)  # images on a map
WORKERS = Interval(0, 256)
SIDE = Interval(2, 2**13)  # of an image, in pixels
SAMPLES = Interval(1, 2**24)  # of a sound
SEEDS = Interval(1, 10**4)
FOLDS = Interval(0, 1000)
SEED = Interval(0, 2**63 - 1)
SHARE = Interval(0, 1)
COSINE = Interval(-1, 1)
BELOW_1 = Interval(0, 1, below=True)
TEMPERATURE = Interval(1e-6, 1e4)  # of a vote
POSITIVE = Interval(0, 1e4, above=True)
NOT_NEGATIVE = Interval(0, 1e4)
PENALTY = Interval(0, 1e12)
WHOLE = Interval(-(2**63), 2**63 - 1)
FINITE = Interval(-math.inf, math.inf)


def bounds_of(hint: Any) -> tuple[Interval, bool] | None:
    """The interval of what ``hint`` annotates, and whether it is whole; None unless it is a number, or several."""
    kind, *notes = typing.get_args(hint) if typing.get_origin(hint) is Annotated else (hint,)
    kinds = {kind, *typing.get_args(kind)}
    if not kinds & {int, float}:
        return None
    whole = int in kinds
    return next((note for note in notes if isinstance(note, Interval)), WHOLE if whole else FINITE), whole


def check_fields(values: Any) -> None:
    """Check the numbers in the fields of a dataclass.

    Raises:
        UserError: naming the option of the first field that does not lie in its interval.
    """
    kind: Any = type(values)
    for name, (interval, whole) in _bounds(kind).items():
        interval.check(f"--{name.replace('_', '-')}", getattr(values, name), whole=whole)


def check_effect(recipe: Any, given: Container[str]) -> None:
    """Check that no number is given, by its field's name, of a loss whose weight is 0 (``weighted`` of a recipe).

    Raises:
        UserError: naming the options that have no effect.
    """
    for weight, fields in recipe.weighted.items():
        idle = [f"--{name.replace('_', '-')}" for name in fields if name in given]
        if idle and not getattr(recipe, weight):
            what = f"with --{weight} 0 there is no effect of {', '.join(idle)}"
            raise UserError(f"{what}: leave {'it' if len(idle) == 1 else 'them'} out, or raise --{weight}")


def check_choices(values: Any) -> None:
    """Check that the fields of a dataclass that are annotated as ``Literal`` are one of its values.

    Raises:
        UserError: naming the option of the first field that is not, and the choices.
    """
    kind: Any = type(values)
    for name, choices in _choices(kind).items():
        if (value := getattr(values, name)) not in choices:
            raise UserError(f"--{name.replace('_', '-')} must be one of {', '.join(map(str, choices))}, not {value!r}")


@functools.cache
def _choices(kind: type) -> dict[str, tuple[Any, ...]]:
    hints = typing.get_type_hints(kind)
    return {name: typing.get_args(hint) for name, hint in hints.items() if typing.get_origin(hint) is typing.Literal}


@functools.cache
def _bounds(kind: type) -> dict[str, tuple[Interval, bool]]:
    hints = typing.get_type_hints(kind, include_extras=True)
    found = {item.name: bounds_of(hints[item.name]) for item in dataclasses.fields(kind)}
    return {name: bounds for name, bounds in found.items() if bounds is not None}
