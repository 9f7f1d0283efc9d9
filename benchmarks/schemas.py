"""Tables of what commands write with `--json`, from the JSON Schemas in docs/schemas."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.tables import markdown

SCHEMAS = Path(__file__).parent.parent / "docs" / "schemas"
SHARED = "evaluation.md#parts-that-reports-share"  # where the definitions of common.json stand as a table
WORDS = {
    "string": "text",
    "number": "number",
    "integer": "whole number",
    "boolean": "true or false",
    "null": "null",
    "object": "object",
}
ANYTHING = 2  # a value of more types than these is an option's, whatever that is
Node = dict[str, Any]
Row = tuple[str, str, str]  # path, value, meaning


@cache
def schema(name: str) -> Node:
    value: Node = json.loads((SCHEMAS / f"{name}.json").read_text())
    return value


def names() -> list[str]:
    """The commands that have a schema, such as `knn` and `transfer-segment`."""
    return sorted(path.stem for path in SCHEMAS.glob("*.json") if path.stem not in ("common", "sweep"))


def keys_of(name: str) -> str:
    """A row for each key of the report of a command, then for those of its own definitions."""
    root = schema(name)
    return _table(f"key of [{root['title']}](schemas/{name}.json)", [*_rows(root, ""), *_parts(root)])


def shared() -> str:
    """A row for each definition of common.json, and for each key of it."""
    return _table("part", _parts(schema("common")))


def _table(head: str, rows: list[Row]) -> str:
    return markdown((head, "value", "meaning"), [[f"`{path}`", value, text] for path, value, text in rows])


def _parts(root: Node) -> list[Row]:
    rows = []
    for name, node in root.get("$defs", {}).items():
        rows += [(name, _value(node), node["description"]), *_rows(node, name)]
    return rows


def _rows(node: Node, path: str) -> list[Row]:
    """Path, value and meaning of each key below a node; X[].y is a key of each entry of a list, X.NAME.y of each value
    of an object whose keys are names."""
    rows = []
    for key, child in node.get("properties", {}).items():
        name = f"{path}.{key}" if path else key
        rows += [(name, _value(child), child["description"]), *_rows(child, name)]
    if "items" in node:
        rows += _rows(node["items"], f"{path}[]")
    if isinstance(node.get("additionalProperties"), dict):
        rows += _rows(node["additionalProperties"], f"{path}.{node['propertyNames']['title']}")
    return rows


def _value(node: Node) -> str:
    """The type of a node in words, with its range."""
    if "$ref" in node:
        file, _, name = node["$ref"].partition("#/$defs/")
        return f"[{name}]({SHARED})" if file else f"`{name}`"
    if "anyOf" in node:
        return " or ".join(map(_value, node["anyOf"]))
    if "enum" in node:
        return " or ".join("null" if each is None else f"`{each}`" for each in node["enum"])
    kinds = node["type"] if isinstance(node["type"], list) else [node["type"]]
    if len(kinds) > ANYTHING:
        return "value"
    return " or ".join(_kind(kind, node) for kind in kinds)


def _kind(kind: str, node: Node) -> str:
    if kind == "array":
        return f"[{_value(node['items'])}, ...]"
    if kind == "object" and isinstance(node["additionalProperties"], dict):
        return f"{node['propertyNames']['title']}: {_value(node['additionalProperties'])}"
    return WORDS[kind] + (_range(node) if kind in ("number", "integer") else "")


def _range(node: Node) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    if "exclusiveMinimum" in node:
        return f" above {node['exclusiveMinimum']}"
    if high is not None:
        return f" in [{low}, {high}]"
    return "" if low is None else f" from {low}"
