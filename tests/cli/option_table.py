"""Helpers of the option tables: options as arguments, comparable results, the options of an app."""

import math
from typing import Any

import numpy as np
import typer


def arguments(options: dict[str, Any]) -> list[str]:
    """``{"scale": "raw", "ties": False}`` as ``--scale=raw --no-ties``; the key "" is a positional argument, and
    a tuple is an option that is repeated."""
    words = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        if name == "":
            words.append(str(value))
        elif isinstance(value, tuple):
            words += [f"--{flag}={each}" for each in value]
        elif isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words.append(f"--{flag}={value}")
    return words


def plain(value: Any) -> Any:
    """Lists and numbers, as JSON has them: NaN and infinity are None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def same(a: Any, b: Any) -> bool:
    """Whether two plain values are equal, numbers up to rounding."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, int | float) and isinstance(b, int | float):
        return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-8)
    return bool(a == b)


def options_of(app: typer.Typer) -> set[tuple[str, str]]:
    """Every (command, option) below an app: ("simulate selection", "mode")."""
    options: set[tuple[str, str]] = set()

    def walk(command: Any, path: tuple[str, ...]) -> None:
        for name in getattr(command, "commands", {}):
            walk(command.get_command(None, name), (*path, name))
        if not hasattr(command, "commands"):
            options.update((" ".join(path), parameter.name) for parameter in command.params)

    walk(typer.main.get_command(app), ())
    return options
