"""docs/schemas: one for each command that evaluates or looks, strict, with a word on each key, and held by a test."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from jsonschema import Draft202012Validator

from contrastkit.cli.main import app
from tests.schemas import require_valid, schemas

# Commands whose `--json` has no schema: older ones on tables, those on shards, timings, and what is known of the
# package.
WITHOUT = {"stable", "shards", "bench-kernels", "bench-input", "info", "methods"}
WITHOUT |= {f"causal-{name}" for name in ("demo", "graph", "propensity", "weight", "refute")}
# Groups of commands that differ by their options alone, and one of each.
BY_METHOD = {"train": "moco", "sweep": "moco", "distill": "crd"}


def commands(group: Any, above: tuple[str, ...] = ()) -> Iterator[str]:
    """The names of all commands with `--json`, words joined by hyphens; of a group by method, its own name."""
    context = typer.Context(group)
    for name in group.list_commands(context):
        command, words = group.get_command(context, name), (*above, name)
        if "-".join(words) in WITHOUT:
            continue
        if name in BY_METHOD:
            command = command.make(BY_METHOD[name])
        if hasattr(command, "list_commands"):
            yield from commands(command, words)
        elif any("--json" in parameter.opts for parameter in command.params):
            yield "-".join(words)


def objects(node: Any, path: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Every object in a schema, and where it is."""
    if isinstance(node, dict):
        yield node, path
    for key, child in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from objects(child, f"{path}/{key}")


def test_each_command_has_one() -> None:
    assert set(commands(typer.main.get_command(app))) == schemas().keys() - {"common"}


@pytest.mark.parametrize("name", sorted(schemas()))
def test_it_is_strict_and_describes_each_key(name: str) -> None:
    schema = schemas()[name]
    Draft202012Validator.check_schema(schema)
    assert schema["title"] and schema["description"]
    for node, path in objects(schema, name):
        if "properties" in node and not path.endswith("properties"):
            assert node["additionalProperties"] is False, path
            assert set(node["required"]) <= node["properties"].keys(), path
            for key, child in node["properties"].items():
                assert child["description"] and child.keys() & {"type", "enum", "$ref", "anyOf"}, f"{path}: {key}"
        elif node.get("type") == "object":  # whose keys are names
            assert node["propertyNames"]["title"] and isinstance(node["additionalProperties"], dict), path


def test_each_is_held_by_a_test() -> None:
    files = [file for file in Path(__file__).parent.rglob("test_*.py") if file != Path(__file__)]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    calls = [node for node in nodes if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "read_report"]
    held = {call.args[0].value for call in calls if isinstance(call.args[0], ast.Constant)}
    assert held == schemas().keys() - {"common"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"pictures": "9"}, "$.pictures: '9' is not of type 'integer'"),
        ({"size": 0}, "$.size: 0 is less than the minimum of 1"),
        ({"title": "x"}, "Additional properties are not allowed ('title' was unexpected)"),
        ({"notices": None}, "$.notices: None is not of type 'array'"),
    ],
)
def test_a_report_that_departs_is_refused(change: dict[str, Any], says: str) -> None:
    report = {"file": "report.html", "size": 9, "pictures": 1, "notices": ["no map"]}
    require_valid("report", report)
    with pytest.raises(AssertionError) as caught:
        require_valid("report", report | change)
    assert says in str(caught.value)
    for key in report:
        with pytest.raises(AssertionError, match=f"'{key}' is a required property"):
            require_valid("report", {name: value for name, value in report.items() if name != key})


def test_a_share_of_the_common_part_is_held_too() -> None:
    """A reference to another file leads there."""
    share = {"value": 0.5, "interval": [0.4, 1.6]}
    score = {"ap": share, "ap50": share, "ap75": share, "classes": {"cat": share}, "images": 3}
    report = {"data": "cats", "settings": {"seed": 0}, "scores": {"tiny": score}}
    with pytest.raises(AssertionError, match=r"interval\[1\]: 1.6 is greater than the maximum of 1"):
        require_valid("transfer-detect", report)
