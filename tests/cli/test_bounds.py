"""Numbers without sense are refused in one line, wherever they come from: every option of every command, every field of
every recipe."""

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from contrastkit.augment import View, Window
from contrastkit.bounds import BELOW_1, COUNT, COUNT_OR_0, FINITE, POSITIVE, SHARE, TEMPERATURE, Interval
from contrastkit.cli.main import app
from contrastkit.cli.train import command as train_command
from contrastkit.errors import UserError
from contrastkit.methods import RECIPES
from contrastkit.options import Options

# ------------------------------------------------------------------------------------------------------ one interval


@pytest.mark.parametrize(
    ("interval", "within", "outside", "says"),
    [
        (COUNT, [1, 2**31 - 1], 0, "--x must be at least 1, not 0"),
        (COUNT, [5], 2**31, "--x must be at most 2,147,483,647, not 2147483648"),
        (COUNT_OR_0, [0], -1, "--x must not be negative, not -1"),
        (POSITIVE, [1e-9, 1e4], 0.0, "--x must be above 0, not 0.0"),
        (SHARE, [0, 0.5, 1], 1.5, "--x must lie in [0, 1], not 1.5"),
        (BELOW_1, [0, 0.999], 1.0, "--x must lie in [0, 1), not 1.0"),
        (TEMPERATURE, [1e-6], 1e-7, "--x must be at least 1e-06, not 1e-07"),
        (Interval(0, 90, below=True), [0, 89.9], 90, "--x must be below 90, not 90"),
        (FINITE, [-1e300, 1e300], float("nan"), "--x must be a finite number, not nan"),
        (FINITE, [0], float("inf"), "--x must be a finite number, not inf"),
        (SHARE, [], "a", "--x must be a number, not 'a'"),
    ],
)
def test_an_interval(interval: Interval, within: list[float], outside: Any, says: str) -> None:
    interval.check("--x", [*within, None][-1])
    interval.check("--x", within)
    for given in (outside, [*within, outside]):
        with pytest.raises(UserError) as error:
            interval.check("--x", given)
        assert str(error.value) == says


def test_whole_numbers() -> None:
    COUNT.check("--x", 3, whole=True)
    with pytest.raises(UserError, match=r"^--x must be a whole number, not 1\.5$"):
        COUNT.check("--x", 1.5, whole=True)


# -------------------------------------------------------------------------------------------- every option of a command


def commands() -> Iterator[tuple[str, Any]]:
    """Every command but those of `train` and `sweep`, which have one for each method."""

    def walk(command: Any, path: str) -> Iterator[tuple[str, Any]]:
        if not hasattr(command, "commands"):
            yield path, command
        elif path not in ("train", "sweep"):
            for name in command.commands:
                yield from walk(command.get_command(None, name), f"{path} {name}".strip())

    yield from walk(typer.main.get_command(app), "")


COMMANDS = dict(commands())


def required(parameters: list[Any]) -> Iterator[str]:
    """Something for each argument and option that must be given; nothing is opened before the numbers are checked."""
    for parameter in parameters:
        if parameter.required:
            choices = [each for each in typing.get_args(parameter.type_descriptor.annotation) if isinstance(each, str)]
            value = choices[0] if choices else "x"
            yield value if parameter.param_type_name == "argument" else f"{parameter.opts[0]}={value}"


def require_refused(command: Any) -> int:
    """Check that a command refuses numbers out of all bounds; return how many options take a number."""
    n = 0
    for parameter in command.params:
        kind = parameter.type_descriptor.annotation
        if kind not in (int, float):
            continue
        n, flag = n + 1, parameter.opts[0]
        others = [word for word in required(command.params) if not word.startswith(f"{flag}=")]
        for value in ("nan", "-inf", "1e308") if kind is float else (str(10**30), str(-(10**30))):
            with pytest.raises(UserError, match=f"^{flag} must ") as error:
                command.main([*others, f"{flag}={value}"], standalone_mode=False)
            assert "\n" not in str(error.value)
    return n


def test_every_number_of_every_command_has_bounds(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with_numbers = {name: n for name, command in COMMANDS.items() if (n := require_refused(command))}
    assert len(COMMANDS) >= 20 and len(with_numbers) >= 16 and sum(with_numbers.values()) > 70
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", ["moco", "cpc-audio"])
def test_every_number_of_a_training_has_bounds(method: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the recipes of all methods are tested below."""
    monkeypatch.chdir(tmp_path)
    assert require_refused(train_command(method)) > 15
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------------- every field of a recipe


def objects() -> list[Any]:
    """One of each class whose fields are numbers that a user can give."""
    found: dict[type, Any] = {Options: Options(data="x")}
    for recipe in RECIPES.values():
        found.setdefault(type(recipe), recipe)
        found.setdefault(type(recipe.views[0]), recipe.views[0])
    return list(found.values())


@pytest.mark.parametrize("values", objects(), ids=lambda values: type(values).__name__)
def test_every_number_in_a_field_has_bounds(values: Any) -> None:
    hints = typing.get_type_hints(type(values))
    for item in dataclasses.fields(values):
        kinds = {hints[item.name], *typing.get_args(hints[item.name])}
        bad: list[Any] = [10**30, -(10**30), "x"] if int in kinds else []
        bad += [float("nan"), float("inf"), 1e308, -1e308] if float in kinds else []
        for value in bad:
            given = (value,) if tuple in {typing.get_origin(hints[item.name])} else value
            with pytest.raises(UserError, match=f"^--{item.name.replace('_', '-')} must "):
                dataclasses.replace(values, **{item.name: given})


def test_every_method_is_among_them() -> None:
    classes = {type(recipe) for recipe in RECIPES.values()}
    assert len(classes) == 15 and {type(values) for values in objects()} == {*classes, View, Window, Options}
