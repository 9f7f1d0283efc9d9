"""Groups of commands. A command's module is imported when the command is asked for, which keeps ``--help`` fast."""

import functools
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup


def group(package: str, *names: str, help: str, completion: bool = False) -> typer.Typer:
    """A group of commands in this order. The command NAME is the function NAME of the module ``package.NAME``, or the
    group that this module calls ``app``.

    Args:
        completion: add the options that install shell completion.
    """

    class Group(TyperGroup):
        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            return _load(package, cmd_name) if cmd_name in names else None

        def get_params(self, ctx: Any) -> Any:
            parameters = super().get_params(ctx)
            for parameter in parameters:
                if parameter.default is None:  # of typer's own flags; to convert it, typer would import pydantic
                    parameter.default = False
            return parameters

    app = typer.Typer(
        cls=Group, help=help, no_args_is_help=True, add_completion=completion, pretty_exceptions_enable=False
    )
    for name in names:
        app.command(name)(lambda: None)  # get_command replaces it
    return app


def single(name: str, function: Any) -> Any:
    """The command of one function."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(name)(function)
    return typer.main.get_command(app)


@functools.cache
def _load(package: str, name: str) -> Any:
    function = name.replace("-", "_")
    module = import_module(f"{package}.{function}")
    if not hasattr(module, "app"):
        return single(name, getattr(module, function))
    command = typer.main.get_command(module.app)
    command.name = name
    return command
