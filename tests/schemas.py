"""Reports of commands against the JSON Schemas in docs/schemas."""

import json
from functools import cache
from pathlib import Path
from typing import Any

SCHEMAS = Path(__file__).parents[1] / "docs" / "schemas"


@cache
def schemas() -> dict[str, Any]:
    """Every file of docs/schemas by its stem: the name of a command, or `common`."""
    return {path.stem: json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")}


@cache
def validator(command: str) -> Any:
    from jsonschema import Draft202012Validator
    from referencing import Registry
    from referencing.jsonschema import DRAFT202012

    files = [(f"{name}.json", DRAFT202012.create_resource(schema)) for name, schema in schemas().items()]
    return Draft202012Validator(schemas()[command], registry=Registry().with_resources(files))


def require_valid(command: str, report: Any) -> None:
    """Fail on the first departures of a report from the schema of its command."""
    errors = [f"{error.json_path}: {error.message[:300]}" for error in validator(command).iter_errors(report)]
    assert not errors, f"{command} against docs/schemas/{command}.json: {errors[:5]}"


def read_report(command: str, file: Path) -> Any:
    """What a command has written, once it is what the schema says."""
    report = json.loads(file.read_text())
    require_valid(command, report)
    return report
