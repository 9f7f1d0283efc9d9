"""Both arms of a study under weights: what is reported of the times until an event, with errors."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from contrastkit.causal.estimate.bands import Bands
from contrastkit.causal.estimate.base import Judge
from contrastkit.causal.estimate.censored import KaplanMeier, log_hazard_ratio
from contrastkit.causal.estimate.means import as_reported
from contrastkit.causal.estimate.weighted import carried
from contrastkit.causal.inference import Effect
from contrastkit.causal.weighting.equations import Equations
from contrastkit.causal.weights import StudyWeights
from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats, effective_sample_size

FEW_EVENTS = 10  # of an arm
FEW_AT_RISK = 10  # units of an arm


@dataclass(frozen=True)
class Point:
    """The share of the target population without the event by ``time``, if all were in one arm, with its pointwise 95 %
    interval (on the scale of log -log: Kalbfleisch & Prentice 2002, Sec. 1.4), and the units ``at_risk`` just before. A
    share of 0 or 1 has no interval, NaN."""

    time: float
    survival: float
    se: float
    low: float
    high: float
    at_risk: int


@dataclass(frozen=True, eq=False)
class Points:
    """Several of them, a column each [K]."""

    time: Floats
    survival: Floats
    se: Floats
    low: Floats
    high: Floats
    at_risk: NDArray[np.int64]

    def __iter__(self) -> Iterator[Point]:
        return map(Point, *(column.tolist() for column in vars(self).values()))


@dataclass(frozen=True)
class Arm:
    """One arm: its ``n`` units, the ``events`` among those with weights, their effective sample size ``ess``, and the
    largest of their times, ``followed``; the mean time without the event up to the horizon, ``restricted_mean``, with
    its 95 % interval; its ``survival`` at the times asked for, and the ``curve`` at all times of events up to the
    horizon."""

    name: str
    n: int
    events: int
    ess: float
    followed: float
    restricted_mean: float
    se: float
    low: float
    high: float
    survival: tuple[Point, ...]
    curve: Points


@dataclass(frozen=True)
class HazardRatio:
    """The marginal hazard ratio, treated against untreated, with its 95 % interval; ``se`` is that of its logarithm."""

    ratio: float
    se: float
    low: float
    high: float
    p: float

    @classmethod
    def of(cls, log: Effect) -> "HazardRatio":
        ratio, low, high = (as_reported("ratio", value) for value in (log.effect, log.low, log.high))
        return cls(ratio, log.se, low, high, log.p)


@dataclass(frozen=True, eq=False)
class WeightedArms:
    """The curves of both arms by name, and what finds errors: the ``equations`` that the weights solve; None if they
    solve none, or units are not ``weighted``."""

    members: dict[str, Bools]
    curves: dict[str, KaplanMeier]
    equations: Sequence[Equations] | None
    weighted: bool
    judge: Judge

    @classmethod
    def of(cls, t: Bools, times: Floats, events: Bools, weighted: StudyWeights, groups: Any) -> "WeightedArms":
        w = np.ones(len(t)) if weighted.weights is None else weighted.weights
        members = {"treated": t, "untreated": ~t}
        for name, arm in members.items():
            if not (events & arm & (w > 0)).any():
                raise UserError(f"no events among the {name} units: their survival is not known to differ from 1")
            if (arm & (w > 0)).sum() < 2:
                raise UserError(f"one of the {name} units has all the weight of its arm: there is no variance")
        curves = {name: KaplanMeier.of(times, events, np.where(arm, w, 0.0)) for name, arm in members.items()}
        equations = weighted.solves() if weighted.solves else None
        return cls(members, curves, equations, weighted.weights is not None, Judge((t, ~t), w, groups))

    def horizon(self, given: float | None) -> float:
        """The horizon, once both arms are known to be followed until then, and to have events before."""
        end = min(self.followed())[0] if given is None else given
        self.within([end], "--horizon")
        for name, curve in self.curves.items():
            if not curve.at[0] < end:
                raise UserError(
                    f"no events among the {name} units before the horizon, {end:g}: the first is at {curve.at[0]:g}, "
                    "and only a --horizon beyond it tells the arms apart"
                )
        return end

    def followed(self) -> list[tuple[float, str]]:
        """The largest time of each arm, and its name."""
        return [(float(curve.followed[-1]), name) for name, curve in self.curves.items()]

    def within(self, at: Sequence[float], option: str = "--at") -> Floats:
        """Times [K] in ascending order, once both arms are known to be followed until then."""
        last, name = min(self.followed())
        if not 0 < min(at) <= max(at) <= last:
            raise UserError(
                f"{option}: the {name} units are followed from 0 to {last:g}, and what is beyond is a guess"
            )
        return np.array(sorted(at))

    def effect(self, value: float, own: Floats) -> Effect:
        """An estimate with its error, by the derivatives [n] by log w_i."""
        influence = carried(own[None], self.judge.w, self.judge.arms, self.equations or ())[0]
        return Effect.of(value, self.judge.error(influence), self.judge.df(influence))

    def arm(self, name: str, horizon: float, at: Floats) -> Arm:
        mine, curve = self.members[name], self.curves[name]
        mean = self.effect(*curve.restricted_mean(horizon))
        return Arm(
            name=name, n=int(mine.sum()), events=int(curve.events.sum()), ess=effective_sample_size(curve.w[mine]),
            followed=float(curve.followed[-1]), restricted_mean=mean.effect, se=mean.se, low=mean.low, high=mean.high,
            survival=tuple(self.points(curve, at)), curve=self.points(curve, curve.at[curve.at <= horizon]),
        )  # fmt: skip

    @cached_property
    def bands(self) -> Bands:
        return Bands.of(self.judge, self.equations or ())

    def points(self, curve: KaplanMeier, t: Floats) -> Points:
        values = curve.shares(t)
        se, df = self.bands.errors(curve, t)
        with np.errstate(divide="ignore", invalid="ignore"):  # of shares of 0 and 1
            half = np.exp(student.ppf(0.975, df) * se / (values * np.abs(np.log(values))))
            found = np.stack([se, values**half, values ** (1 / half)])
        found[:, (values <= 0) | (values >= 1)] = math.nan
        se, low, high = found
        return Points(t, values, se, low, high, curve.at_risk(t))

    def differences(self, at: Floats) -> Iterator[tuple[float, Effect]]:
        for time in at.tolist():  # one by one: each has the influences of all units in memory
            found = (curve.at_times(np.array([time])) for curve in self.curves.values())
            ((one,), (moved,)), ((other,), (moved_other,)) = found
            effect = self.effect(float(one - other), moved - moved_other)
            if not (0 < one < 1 and 0 < other < 1):
                effect = replace(effect, se=math.nan, low=math.nan, high=math.nan, p=math.nan)
            yield time, effect

    def restricted(self, horizon: float) -> Effect:
        (one, moved), (other, moved_other) = (curve.restricted_mean(horizon) for curve in self.curves.values())
        return self.effect(one - other, moved - moved_other)

    def hazards(self, t: Bools, times: Floats, events: Bools) -> HazardRatio:
        """The error takes as given how many units each arm has, on which the ratio depends a little where hazards are
        not proportional: against the jackknife, less than half a percent of the error where they cross."""
        return HazardRatio.of(self.effect(*log_hazard_ratio(t, times, events, self.judge.w)))

    def remarks(self, found: Sequence[Arm]) -> Iterator[str]:
        if self.weighted and self.equations is None:
            yield "the standard errors take the weights as fixed, and may be too wide"
        if starts := sum(int((curve.followed == 0).sum()) for curve in self.curves.values()):
            yield f"{starts} units have the time 0, and are at risk at the start alone"
        for arm in found:
            if arm.events < FEW_EVENTS:
                yield f"only {arm.events} events among the {arm.name}: no interval from so few is reliable"
            for point in arm.survival:
                if math.isnan(point.se):
                    why = "without an event" if point.survival else "without anyone left"
                    yield f"the {arm.name} are {why} by {point.time:g}: there is no interval"
                elif point.at_risk < FEW_AT_RISK:
                    yield f"only {point.at_risk} of the {arm.name} are at risk at {point.time:g}"
