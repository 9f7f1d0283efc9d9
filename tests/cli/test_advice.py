"""What a message advises exists: every option that one names is an option of some command."""

import ast
import re
import typing
from pathlib import Path
from typing import Any

import typer

from contrastkit.cli.distill import DistillOptions
from contrastkit.cli.main import app
from contrastkit.cli.sweep import command as sweep_command
from contrastkit.cli.train import command as train_command
from contrastkit.names import DISTILLED, METHODS

ROOT = Path(__file__).parents[2]
OF_OTHERS = {"--nproc-per-node"}  # torchrun's


def options() -> set[str]:
    """Every option of every command."""
    found = {"--help"}

    def walk(command: Any) -> None:
        for name in getattr(command, "commands", {}):
            walk(command.get_command(None, name))
        for parameter in command.params:
            found.update((*parameter.opts, *parameter.secondary_opts))

    walk(typer.main.get_command(app))
    for method in set(METHODS.values()):
        walk(train_command(method))
    for method in DISTILLED.values():
        walk(train_command(method, DistillOptions))
    walk(sweep_command("moco"))
    return found


def messages(tree: ast.AST) -> typing.Iterator[str]:
    """The texts in a module that are neither docstrings nor notes of fields, which cite options of official scripts;
    what a formatted text puts in is left out."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
            continue
        if isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child.value
        yield from messages(child.value if isinstance(child, ast.AnnAssign) and child.value else child)


def named(text: str) -> set[str]:
    return {option for option in re.findall(r"(?<![\w-])--[A-Za-z][\w-]*", text) if not option.endswith("-")}


def test_options_in_texts_are_seen() -> None:
    assert named("raise --batch to 2, or lower --bn-groups; --K") == {"--batch", "--bn-groups", "--K"}
    assert list(messages(ast.parse('"""--a"""\nx = f"--b {1}"'))) == ["--b "]


def test_every_option_that_a_message_names_exists() -> None:
    known = options() | OF_OTHERS
    unknown = {
        (str(path.relative_to(ROOT)), option)
        for folder in ("contrastkit", "cli")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "contrastkit/cli/" not in str(path) and "cards" not in path.parts  # a link; prose
        for text in messages(ast.parse(path.read_text()))
        for option in named(text)
        if option not in known
    }
    assert unknown == set()
