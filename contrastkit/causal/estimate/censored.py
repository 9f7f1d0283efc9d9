"""Weighted Kaplan-Meier curves, restricted means and hazard ratios of right-censored times, and how far each unit moves
them.

Influences here are derivatives by log w_i: of an unweighted Kaplan-Meier curve, their norm is Greenwood's standard
error. :func:`contrastkit.causal.estimate.weighted.carried` adds what units do through the weights.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from contrastkit.errors import UserError
from contrastkit.tables.checks import Bools, Floats

FLATTEST = 20.0  # a log hazard ratio beyond it is an infinite one


@dataclass(frozen=True, eq=False)
class KaplanMeier:
    """The weighted Kaplan-Meier curve (Kaplan & Meier 1958; with weights: Cole & Hernan 2004; Xie & Liu 2005) of some
    units: S(t) is the product over the times t_j <= t of events of 1 - d_j/Y_j, where d_j and Y_j are the weights of
    the units with an event at t_j, and of those at risk. A unit that is censored at t_j is at risk then. One of the
    units at least has an event.

    Attributes:
        times: float64 [n], until the event or censoring. events: bool [n], which were events. w: float64 [n]; units
            with weight 0 are not in the curve.
        at: float64 [m], the times of events, ascending. d, risk: float64 [m], d_j and Y_j.
        survival: float64 [m], S at these times.
    """

    times: Floats
    events: Bools
    w: Floats
    at: Floats
    d: Floats
    risk: Floats
    survival: Floats

    @classmethod
    def of(cls, times: Floats, events: Bools, w: Floats) -> "KaplanMeier":
        events = events & (w > 0)
        at = np.unique(times[events])
        d, risk = _at(at, times, events, w)
        dead, left = _at(at, times, events, (w > 0).astype(np.float64))  # counts, whose difference has no rounding
        last = dead == left
        return cls(times, events, w, at, d, risk, np.where(last, 0.0, 1 - d / risk).cumprod())

    @cached_property
    def left(self) -> Floats:
        """The weights that each time of events leaves at risk [m]; infinite where it leaves none, since S is then 0 for
        all weights."""
        return np.where(self.d == self.risk, math.inf, self.risk - self.d)

    @cached_property
    def followed(self) -> Floats:
        """The times of the units in the curve, ascending."""
        return np.sort(self.times[self.w > 0])

    def at_risk(self, t: Floats) -> NDArray[np.int64]:
        """How many units are followed until times t [K], [K]."""
        return len(self.followed) - np.searchsorted(self.followed, t).astype(np.int64)

    def shares(self, t: Floats) -> Floats:
        """S at times t [K]."""
        return np.append(1.0, self.survival)[np.searchsorted(self.at, t, side="right")]

    def at_times(self, t: Floats) -> tuple[Floats, Floats]:
        """S at times t [K], and the influences on it [K, n]; 0 where S is 0, since no weight changes it."""
        values = self.shares(t)
        return values, self._moved(np.where(self.at <= t[:, None], values[:, None], 0.0))

    def restricted_mean(self, horizon: float) -> tuple[float, Floats]:
        """The area under the curve from 0 to the horizon, the mean of min(T, horizon) (Irwin 1949), and the influences
        on it [n]."""
        at = self.at[self.at < horizon]
        steps = np.append(1.0, self.survival[: len(at)])
        areas = steps * np.diff(np.concatenate([[0.0], at, [horizon]]))
        behind = np.zeros_like(self.at)
        behind[: len(at)] = areas[::-1].cumsum()[::-1][1:]
        return float(areas.sum()), self._moved(behind[None])[0]

    def _moved(self, slopes: Floats) -> Floats:
        """The influences [K, n] on functions whose derivatives by log(1 - d_j/Y_j) are slopes [K, m]."""
        lost, hazard = slopes / self.left, slopes * self.d / (self.risk * self.left)
        before = np.searchsorted(self.at, self.times, side="right")  # [n], how many times of events are not later
        cumulative = np.concatenate([np.zeros((len(slopes), 1)), hazard.cumsum(1)], axis=1)
        own = np.where(self.events, lost[:, np.maximum(before - 1, 0)], 0.0)
        moved: Floats = self.w * (cumulative[:, before] - own)
        return moved


def log_hazard_ratio(t: Bools, times: Floats, events: Bools, w: Floats) -> tuple[float, Floats]:
    """The coefficient of a Cox model (Cox 1972) with the treatment t [n] alone, by the weighted partial likelihood
    (Binder 1992) with Efron's (1977) treatment of ties, and the influences on it [n].

    The k-th of m tied events leaves (k - 1)/m of each out of those at risk, and has the mean of their weights. The norm
    of the influences is the robust standard error (Lin & Wei 1989).

    Raises:
        UserError: the likelihood has no maximum: while both arms are at risk, events happen in one of them alone.
    """
    events = events & (w > 0)
    at = np.unique(times[events])
    place = np.searchsorted(at, times)  # [n]
    deaths = np.bincount(place[events], minlength=len(at))
    group = np.repeat(np.arange(len(at)), deaths)  # [E], of each event
    f = (np.arange(len(group)) - (deaths.cumsum() - deaths)[group]) / deaths[group]
    dead, risk = np.stack([_at(at, times, events, np.where(t == arm, w, 0.0)) for arm in (0, 1)], axis=1)  # [2, m]
    mean, risk = (dead.sum(0) / deaths)[group], risk[:, group] - f * dead[:, group]

    def share(beta: float) -> Floats:
        """Of the treated in the hazard at each event [E]."""
        odds: Floats = np.exp(beta) * risk[1]
        return odds / (odds + risk[0])

    def score(beta: float) -> float:
        return float(dead[1].sum() - mean @ share(beta))

    if not score(-FLATTEST) > 0 > score(FLATTEST):
        raise UserError(
            "no finite hazard ratio: while units of both arms are followed, events happen in one arm alone: follow "
            "both for longer"
        )
    beta = float(brentq(score, -FLATTEST, FLATTEST, xtol=1e-13))
    p, factor = share(beta), np.array([[1.0], [np.exp(beta)]])
    pull = factor * np.stack([0 - p, 1 - p]) * mean / (factor * risk).sum(0)  # [2, E], of a unit at risk on the score
    summed, tied = (np.stack([np.bincount(group, row, len(at)) for row in rows]) for rows in (pull, pull * f))
    before = np.concatenate([np.zeros((2, 1)), summed.cumsum(1)], axis=1)
    arm, own = t.astype(int), np.minimum(place, len(at) - 1)
    event = t - (np.bincount(group, p, len(at)) / deaths)[own] + tied[arm, own]
    moved = np.where(events, event, 0.0) - before[arm, np.searchsorted(at, times, side="right")]
    return beta, w * moved / float(mean @ (p * (1 - p)))


def _at(at: Floats, times: Floats, events: Bools, w: Floats) -> tuple[Floats, Floats]:
    """The weights of the events at these times [m], and of the units that are at risk then [m]."""
    order = np.argsort(times, kind="stable")
    behind = np.append(w[order][::-1].cumsum()[::-1], 0.0)
    d = np.bincount(np.searchsorted(at, times[events]), w[events], len(at)).astype(np.float64)
    return d, behind[np.searchsorted(times[order], at)]
