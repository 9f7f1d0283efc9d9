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

    ``rows`` builds the table from the frames named in ``tables``, of ``folder``; ``truth`` computes from the same
    frames the effect that an experiment measured, if one has; ``time`` is the column of the times until an outcome that
    is an event.
    """

    folder: str
    tables: tuple[str, ...]
    treatment: str
    outcome: str
    covariates: tuple[str, ...]
    rows: Callable[..., Any]
    truth: Callable[..., float] | None = None
    time: str | None = None


def _trial(nsw: Any, *_: Any) -> Any:
    return nsw.assign(u74=(nsw.re74 == 0).astype(int), u75=(nsw.re75 == 0).astype(int))


def _observed(nsw: Any, cps: Any) -> Any:
    """The treated of the trial with the men of the survey, all untreated."""
    import pandas as pd

    return _trial(pd.concat([nsw[nsw.treat == 1], cps], ignore_index=True))


def _survey(nhefs: Any) -> Any:
    """With the months from the start of 1983 until death, or until follow-up ended after ten years."""
    months = (12 * (nhefs.yrdth - 83) + nhefs.modth).where(nhefs.death == 1, 120)
    codes = {name: nhefs[name].astype("category") for name in _CODES}
    return nhefs.assign(months=months, sex=nhefs.sex.astype(int), race=nhefs.race.astype(int), **codes)


def _difference(nsw: Any, *_: Any) -> float:
    means = nsw.groupby("treat").re78.mean()
    return float(means[1] - means[0])


_CODES = ("education", "exercise", "active")
_NHEFS = ("sex", "race", "age", *_CODES, "smokeintensity", "smokeyrs", "wt71")
_LALONDE = ("age", "educ", "black", "hisp", "marr", "nodegree", "re74", "re75", "u74", "u75")
NAMED = {
    # Dehejia & Wahba 1999: the treated of LaLonde's trial with the controls of CPS-1; and the trial itself.
    "lalonde": Named("lalonde", ("nsw_mixtape", "cps_mixtape"), "treat", "re78", _LALONDE, _observed, _difference),
    "lalonde-trial": Named("lalonde", ("nsw_mixtape",), "treat", "re78", _LALONDE, _trial, _difference),
    # Hernan & Robins 2020, Ch. 17: who quit smoking between 1971 and 1982, and died from 1983 to 1992 (NHEFS).
    "nhefs": Named("nhefs", ("nhefs",), "qsmk", "death", _NHEFS, _survey, time="months"),
}


def load(name: str, data_dir: Path | None) -> tuple[Any, float | None]:
    """Load the table of a named set, a pandas frame [n, columns], and the true effect, if it is known, from
    ``data_dir``/causal/``folder`` or the package.

    Raises:
        UserError: unknown name, or neither exists.
    """
    check_choice("study", name, NAMED)
    named = NAMED[name]
    frames = [_table(named.folder, table, data_dir) for table in named.tables]
    return named.rows(*frames), None if named.truth is None else named.truth(*frames)


def _table(folder: str, table: str, data_dir: Path | None) -> Any:
    import pandas as pd

    if data_dir is not None and (path := data_dir / "causal" / folder / f"{table}.csv").is_file():
        return pd.read_csv(path)
    try:
        return importlib.import_module(f"causaldata.{table}").load_pandas().data
    except ImportError as error:
        raise UserError(
            f"{table} is neither in --data-dir/causal/{folder} nor installed: pip install causaldata"
        ) from error
