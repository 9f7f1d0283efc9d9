"""What a reader of an estimate should know about the sample behind it, in a sentence each."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from contrastkit.causal.diagnostics import THRESHOLD
from contrastkit.tables.checks import Bools, Floats, effective_sample_size
from contrastkit.tables.covariates import Covariates

FEW_UNITS = 10  # of an arm
FEW_CLUSTERS = 20
FEW_EFFECTIVE = 60  # units of an arm: with fewer, intervals of weighted means cover less than 92 % in simulations
COPIES = 0.05  # share of rows


def on_sample(
    X: Covariates, arms: Mapping[str, Bools], y: Floats, clusters: NDArray[np.int64] | None = None
) -> tuple[str, ...]:
    """Remarks on a study with these arms by name, bool [n], and clusters [n]: copied rows, small arms, few clusters."""
    found = []
    for name, arm in arms.items():
        if arm.sum() < FEW_UNITS:
            found.append(f"only {arm.sum()} units are {name}: no interval from so few is reliable")
    if clusters is None:
        if copied := copies(X, np.argmax([*arms.values()], axis=0), y):
            found.append(
                f"{copied:,} of {len(y):,} rows are copies of others, which narrows the intervals: drop them, or name "
                "with --cluster the column of what was copied"
            )
    elif (n := int(clusters.max()) + 1) < FEW_CLUSTERS:
        found.append(f"only {n} clusters: standard errors from so few are too small")
    return tuple(found)


def copies(X: Covariates, t: NDArray[np.int64], y: Floats) -> int:
    """How many rows equal an earlier one in all columns, one of which has a value that no third row has: what is equal
    in codes and in bounds of a scale alone may be so by chance. 0 if few are."""
    import pandas as pd  # slow to import

    table = pd.DataFrame(np.column_stack([X.x, t, y]))
    copied = table.duplicated()
    if copied.sum() < COPIES * len(y):
        return 0
    distinct = table[~copied]
    telling = np.zeros(int(copied.sum()), bool)
    for column in table:
        single = distinct[column][~distinct[column].duplicated(keep=False)]
        telling |= table[column][copied].isin(single).to_numpy()
    return int(telling.sum()) if telling.sum() >= COPIES * len(y) else 0


def on_balance(smd: float) -> list[str]:
    """A remark on weights that leave a largest absolute SMD above :data:`THRESHOLD`; NaN: there are no weights."""
    if not smd > THRESHOLD:
        return []
    return [
        f"its weights leave a largest |SMD| of {smd:.3g}, above {THRESHOLD:g}: the arms still differ, for which only a "
        "model of the outcome makes up, if it has one"
    ]


def on_weights(w: Floats, arms: Mapping[str, Bools]) -> list[str]:
    """A remark on each arm by name, bool [n], that weights w [n] reduce to few units."""
    found = []
    for name, arm in arms.items():
        size, n = effective_sample_size(w[arm]), int(arm.sum())
        if size < min(FEW_EFFECTIVE, 0.5 * n):
            found.append(f"an effective sample of {size:.0f} of {n:,} {name}")
    return found
