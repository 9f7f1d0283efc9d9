"""Columns with missing values: rows left out, or indicators of what is missing."""

from collections.abc import Sequence
from typing import Any, Literal

from contrastkit.errors import listed

Incomplete = Literal["refuse", "drop", "indicator"]
MISSING = "(missing)"  # the level of a factor


def drop_incomplete(frame: Any, columns: Sequence[str]) -> tuple[Any, list[str]]:
    """The rows of a frame that have a value in each of these columns, and what is said of the others."""
    gaps = frame[list(columns)].isna()
    incomplete = gaps.any(axis=1)
    if not (n := int(incomplete.sum())):
        return frame, []
    where = listed([f"{name} {int(count):,}" for name, count in gaps.sum().items() if count], 8)
    return frame[~incomplete], [f"{n:,} of {len(frame):,} rows lack a value and are left out (missing: {where})"]


def with_indicators(frame: Any) -> tuple[Any, dict[str, str], list[str]]:
    """A frame of covariates whose missing values are filled, with indicators of them; the column that each indicator is
    of; and what is said of it.

    Numbers are filled by their mean, whose choice does not matter to a model that has the indicator; for a factor,
    missing is a level. Columns that are missing in the same rows share an indicator. This adjusts for what was seen,
    and for whether it was (Rosenbaum & Rubin 1984, "Reducing bias in observational studies using subclassification on
    the propensity score", Appendix B); a value that decided on treatment though it is missing here still confounds.
    """
    filled, indicated, notices = frame.copy(), dict[str, str](), list[str]()
    seen: dict[bytes, str] = {}
    for name in frame.columns:
        column, gaps = frame[name], frame[name].isna()
        if not gaps.any() or gaps.all():  # nothing but gaps is refused where columns are read
            continue
        if column.dtype.kind in "biuf":
            filled[name] = column.astype(float).fillna(float(column.mean()))
            first = seen.setdefault(gaps.to_numpy().tobytes(), name)
            how = f"filled by the mean; '{first} missing' says where"
            if first == name:
                indicated[f"{name} missing"] = name
                filled[f"{name} missing"] = gaps.astype(float)
        else:
            filled[name] = column.astype(object).where(~gaps, MISSING)
            how = f"a level {MISSING} of their own"
        notices.append(f"{name}: {int(gaps.sum()):,} of {len(frame):,} values are missing: {how}")
    return filled, indicated, notices
