"""Named studies, from the package causaldata (``pip install contrastkit[causaldata]``) or a folder."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contrastkit.errors import UserError, check_choice


@dataclass(frozen=True)
class Named:
    """The tables of a named set and the roles of its columns.

    ``rows`` builds the table from the frames named in ``tables``; ``truth`` computes from the same frames the effect
    that an experiment measured.
    """

    tables: tuple[str, ...]
    treatment: str
    outcome: str
    covariates: tuple[str, ...]
    rows: Callable[..., Any]
    truth: Callable[..., float]


def _trial(nsw: Any, *_: Any) -> Any:
    return nsw.assign(u74=(nsw.re74 == 0).astype(int), u75=(nsw.re75 == 0).astype(int))


def _observed(nsw: Any, cps: Any) -> Any:
    """The treated of the trial with the men of the survey, all untreated."""
    import pandas as pd

    return _trial(pd.concat([nsw[nsw.treat == 1], cps], ignore_index=True))


def _difference(nsw: Any, *_: Any) -> float:
    means = nsw.groupby("treat").re78.mean()
    return float(means[1] - means[0])


_LALONDE = ("age", "educ", "black", "hisp", "marr", "nodegree", "re74", "re75", "u74", "u75")
NAMED = {
    # Dehejia & Wahba 1999: the treated of LaLonde's trial with the controls of CPS-1; and the trial itself.
    "lalonde": Named(("nsw_mixtape", "cps_mixtape"), "treat", "re78", _LALONDE, _observed, _difference),
    "lalonde-trial": Named(("nsw_mixtape",), "treat", "re78", _LALONDE, _trial, _difference),
}


def load(name: str, data_dir: Path | None) -> tuple[Any, float]:
    """Load the table of a named set, a pandas frame [n, columns], and the true effect, from ``data_dir``/causal/lalonde
    or the package.

    Raises:
        UserError: unknown name, or neither exists.
    """
    check_choice("study", name, NAMED)
    named = NAMED[name]
    frames = [_table(table, data_dir) for table in named.tables]
    return named.rows(*frames), named.truth(*frames)


def _table(table: str, data_dir: Path | None) -> Any:
    import pandas as pd

    if data_dir is not None and (path := data_dir / "causal" / "lalonde" / f"{table}.csv").is_file():
        return pd.read_csv(path)
    try:
        return importlib.import_module(f"causaldata.{table}").load_pandas().data
    except ImportError as error:
        raise UserError(
            f"{table} is neither in --data-dir/causal/lalonde nor installed: pip install causaldata"
        ) from error
