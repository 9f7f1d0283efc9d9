"""Reports as JSON."""

import math
from pathlib import Path
from typing import Any


def write_json(path: Path, value: Any) -> None:
    """Write a report atomically; what is no finite number is null."""
    import json

    from contrastkit.checkpoint import write_text

    write_text(path, json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(held) for held in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
