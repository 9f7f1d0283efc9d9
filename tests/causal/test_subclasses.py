"""Subclasses of the propensity score against loops."""

import numpy as np
import pytest

from contrastkit.causal.estimate import Stratified, Weighted
from contrastkit.causal.propensity import Propensity
from contrastkit.causal.subclasses import Subclasses, filled
from contrastkit.errors import UserError
from tests.causal.simulated import varied


@pytest.mark.parametrize("estimand", ["ATT", "ATC", "ATE"])
def test_subclasses_are_those_of_a_loop(estimand: str) -> None:
    x, t, y = varied(300)
    e = Propensity().fit(x, t).scores_
    of = {"ATT": t, "ATC": ~t, "ATE": t | ~t}[estimand]
    m = Subclasses(estimand, strata=4).fit(x, t)  # type: ignore[arg-type]
    cuts = np.quantile(e[of], [0.25, 0.5, 0.75])
    assert m.strata_.tolist() == [sum(score >= cut for cut in cuts) for score in e]
    assert m.moved_ == 0 and not len(m.dropped_) and m.estimand_ == estimand
    effect = 0.0
    for s in range(4):
        own = m.strata_ == s
        effect += (own & of).sum() / of.sum() * (y[own & t].mean() - y[own & ~t].mean())
    assert Weighted(m).fit(x, t, y).effect_ == pytest.approx(effect)
    assert Stratified(estimand, strata=4).fit(x, t, y).effect_ == pytest.approx(effect)  # type: ignore[arg-type]


def test_a_stratum_without_an_arm_takes_its_unit_of_nearest_score() -> None:
    """Worked by hand: scores rise from left to right, letters are strata, and of the treated (1) some lack."""
    for strata, arms, expected in (
        ("aaabbbccc", "110000110", "ababbbccc"),  # as many to spare, as near, on both sides: the highest from below
        ("aaabbbccc", "100000110", "aaabbbbcc"),  # one to spare above: the lowest
        ("aaabbbccc", "000011010", "aaababccc"),  # above alone
        ("aabbcccc", "00001110", "aabbabcc"),  # from the first stratum that has any
        ("aabbbc", "010110", "aabbcc"),  # the last stratum: from below
    ):
        own = np.array([ord(letter) - ord("a") for letter in strata])
        t = np.array([arm == "1" for arm in arms])
        result = filled(own, t, np.arange(len(own)) / 10)
        assert "".join("abc"[s] for s in result) == expected, (strata, arms)


def test_strata_are_filled_until_none_is_empty() -> None:
    x, t, _ = varied(60, seed=3)
    m = Subclasses(strata=12).fit(x, t)
    e = Propensity().fit(x, t).scores_
    for s in range(12):
        own = m.strata_ == s
        assert (own & t).any() and (own & ~t).any()
    assert 0 < m.moved_ < 30
    for arm in (t, ~t):  # within an arm, strata still follow the scores
        assert (np.diff(m.strata_[arm][np.argsort(e[arm])]) >= 0).all()
    with pytest.raises(UserError, match=r"strata with units are more than the \d+ treated units: use fewer --strata"):
        Subclasses("ATC", strata=40).fit(x, t)
