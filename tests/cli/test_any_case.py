"""Choices are taken in any case, and arrive as they are declared."""

import typing
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from contrastkit.cli.main import app, main


def commands(command: Any, name: str, parent: Any = None) -> Iterator[tuple[str, Any]]:
    """Every command below a group, by its whole name; those of ``train`` and ``sweep`` share their options."""
    if not hasattr(command, "resolve_command"):
        yield name, command
        return
    context = typer.Context(command, info_name=name, parent=parent)
    for sub in command.list_commands(context)[: 1 if name.endswith(("train", "sweep")) else None]:
        yield from commands(command.get_command(context, sub), f"{name} {sub}", context)


def choices(parameter: Any) -> tuple[str, ...]:
    hint = parameter.type_descriptor.annotation
    kinds = [hint, *typing.get_args(hint)]
    return next((typing.get_args(kind) for kind in kinds if typing.get_origin(kind) is typing.Literal), ())


COMMANDS = dict(commands(typer.main.get_command(app), "contrastkit"))
ROWS = [
    (name, parameter.name) for name, command in COMMANDS.items() for parameter in command.params if choices(parameter)
]


@pytest.mark.parametrize(("name", "option"), ROWS, ids=lambda value: value)
def test_a_choice_is_taken_in_any_case(name: str, option: str) -> None:
    command = COMMANDS[name]
    (parameter,) = (parameter for parameter in command.params if parameter.name == option)
    context = typer.Context(command)
    for choice in choices(parameter):
        for typed in (choice, choice.upper(), choice.lower(), choice.swapcase()):
            assert parameter.process_value(context, typed) == choice
    if parameter.param_type_name == "option":
        assert "|".join(choices(parameter)) in str(parameter.metavar)  # the help shows them as they are declared


def test_the_estimand_of_many_commands_is_among_them() -> None:
    assert {("contrastkit causal estimate", "estimand"), ("contrastkit stable simulate selection", "mode")} <= set(ROWS)
    assert len(ROWS) > 15


def test_what_is_no_choice_in_any_case_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["causal", "estimate", "--data=lalonde", "--estimand=atx"]) == 2
    assert "error: Invalid value for '--estimand': 'atx' is not one of" in capsys.readouterr().err


def test_models_are_named_in_any_case_and_classes_as_they_are_written() -> None:
    for command, option in (("estimate", "outcome_model"), ("match", "propensity_model"), ("propensity", "model")):
        command = COMMANDS[f"contrastkit causal {command}"]
        (parameter,) = (parameter for parameter in command.params if parameter.name == option)
        for typed, means in (("Forest", "forest"), ("LASSO", "lasso"), ("sklearn.svm:SVR", "sklearn.svm:SVR")):
            assert parameter.process_value(typer.Context(command), typed) == means
        assert "logistic|lasso|forest|boost|PACKAGE.MODULE:CLASS" in str(parameter.metavar)
