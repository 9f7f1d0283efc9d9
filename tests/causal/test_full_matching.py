"""Full matching against all partitions of small sets, and against an integer program."""

from collections.abc import Iterator
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from contrastkit.causal.estimate import Grouped
from contrastkit.causal.matching import FullMatching
from contrastkit.causal.matching.full import cover
from contrastkit.causal.matching.line import line_cover
from contrastkit.causal.propensity import Propensity
from contrastkit.errors import UserError
from tests.causal.simulated import varied


def partitions(a: tuple[int, ...], b: tuple[int, ...]) -> Iterator[list[tuple[tuple[int, ...], tuple[int, ...]]]]:
    """All ways to put units a and b in groups of one of either and one or more of the other."""
    if not a or not b:
        if not a and not b:
            yield []
        return
    first, rest = a[0], a[1:]
    for k in range(1, len(b) + 1):
        for own in combinations(b, k):
            left = tuple(j for j in b if j not in own)
            for others in partitions(rest, left):
                yield [((first,), own), *others]
    for k in range(1, len(rest) + 1):
        for with_it in combinations(rest, k):
            left_a = tuple(i for i in rest if i not in with_it)
            for j in b:
                for others in partitions(left_a, tuple(other for other in b if other != j)):
                    yield [((first, *with_it), (j,)), *others]


def cost_of(x: np.ndarray, strata: np.ndarray, t: np.ndarray) -> float:
    """The sum of the distances within strata between units of different arms, one of which is alone."""
    total = 0.0
    for s in range(strata.max() + 1):
        a, b = np.flatnonzero((strata == s) & t), np.flatnonzero((strata == s) & ~t)
        assert len(a) and len(b) and min(len(a), len(b)) == 1
        total += sum(float(np.linalg.norm(x[i] - x[j])) for i in a for j in b)
    return total


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("p", [1, 2])
def test_the_groups_are_the_best_of_all_partitions(seed: int, p: int) -> None:
    g = np.random.default_rng(seed)
    x = g.integers(0, 5, size=(8, p)) / 2 if seed % 2 else g.normal(size=(8, p))  # with many ties, or none
    t = np.arange(8) < 3 + seed % 3
    a, b = (tuple(np.flatnonzero(arm).tolist()) for arm in (t, ~t))
    best = min(
        sum(float(np.linalg.norm(x[i] - x[j])) for own, other in groups for i in own for j in other)
        for groups in partitions(a, b)
    )
    m = FullMatching(metric="euclidean").fit(x, t)
    assert m.strata_.min() == 0 and not len(m.dropped_) and m.estimand_ == "ATT"
    assert m.total_ == pytest.approx(best, abs=1e-12) == cost_of(x, m.strata_, t)


@pytest.mark.parametrize("limits", [{}, {"caliper": 0.4}, {"calipers": {1: 0.3}}, {"exact": (2,)}])
def test_the_total_is_that_of_an_integer_program(limits: dict[str, Any]) -> None:
    x, t, _ = varied(70, 3, seed=4)
    x[:, 2] = x[:, 2] > 0
    z = x / x.std(0, ddof=1)
    far = np.linalg.norm(z[:, None] - z, axis=2)
    allowed = far <= limits.get("caliper", np.inf)
    for j, width in limits.get("calipers", {}).items():
        allowed &= np.abs(x[:, j, None] - x[:, j]) <= width
    if "exact" in limits:
        allowed &= x[:, 2, None] == x[:, 2]
    i, j = np.nonzero(allowed & t[:, None] & ~t)
    edges = np.arange(len(i))
    ends = coo_array((np.ones(2 * len(i)), (np.r_[i, j], np.r_[edges, edges])), shape=(70, len(i))).tocsr()
    with_partner = np.unique(np.r_[i, j])
    covered = LinearConstraint(ends[with_partner], lb=1)
    best = milp(far[i, j], constraints=covered, integrality=np.ones(len(i)), bounds=Bounds(0, 1))
    m = FullMatching("ATE", metric="scaled", **limits).fit(x, t)
    assert m.total_ == pytest.approx(best.fun, rel=1e-9) == cost_of(z, m.strata_, t)
    assert np.flatnonzero(m.strata_ >= 0).tolist() == with_partner.tolist()
    assert m.dropped_.tolist() == np.flatnonzero(m.strata_ < 0).tolist()
    assert (len(m.dropped_) > 0) == bool({"caliper", "calipers"} & limits.keys())
    for s in range(m.strata_.max() + 1):
        own = np.flatnonzero(m.strata_ == s)
        assert allowed[np.ix_(own[t[own]], own[~t[own]])].all()


def test_on_a_line_the_total_is_that_of_an_assignment() -> None:
    """Another algorithm, on lines of few places, of many, and with a rare arm."""
    g = np.random.default_rng(0)
    for places, share in product((3, 12, 1000), (0.05, 0.3, 0.5)):
        for _ in range(30):
            z, t = g.integers(0, places, size=40).astype(float), g.uniform(size=40) < share
            t[:2] = True, False
            i, j = line_cover(z, t)
            far = np.abs(z[t][:, None] - z[~t])
            assert t[i].all() and not t[j].any() and len(np.union1d(i, j)) == 40
            assert np.abs(z[i] - z[j]).sum() == far[cover(far.copy(), np.ones_like(far, bool))].sum()


@pytest.mark.parametrize("estimand", ["ATT", "ATC", "ATE"])
def test_weights_are_those_of_matchit(estimand: str) -> None:
    """Stratum weights by hand, with mean 1 over the matched units of each arm."""
    x, t, _ = varied(120)
    m = FullMatching(estimand, caliper=0.05).fit(x, t)  # type: ignore[arg-type]
    expected = np.zeros(120)
    for s in range(m.strata_.max() + 1):
        own = np.flatnonzero(m.strata_ == s)
        treated, others = own[t[own]], own[~t[own]]
        of = {"ATT": treated, "ATC": others, "ATE": own}[estimand]
        expected[treated], expected[others] = len(of) / len(treated), len(of) / len(others)
    assert 0 < len(m.dropped_) == (~(expected > 0) & {"ATT": t, "ATC": ~t, "ATE": t | ~t}[estimand]).sum()
    for arm in (t & (expected > 0), ~t & (expected > 0)):
        assert m.weights_[arm] == pytest.approx(expected[arm] / expected[arm].mean())
    assert not m.weights_[expected == 0].any() and m.estimand_ == f"{estimand} of the matched"
    assert estimand != "ATT" or m.weights_[t & (expected > 0)] == pytest.approx(1)


def test_groups_depend_neither_on_units_nor_on_the_writing() -> None:
    g = np.random.default_rng(2)
    whole = g.integers(0, 6, size=(60, 2))
    x, t = whole / 10, np.arange(60) % 3 == 0
    expected = FullMatching(metric="scaled").fit(x, t).strata_.tolist()
    for other in (x * 3, (whole + 2) * 0.1 - 0.2, x * [7e5, 1 / 3], x[:, ::-1]):
        assert FullMatching(metric="scaled").fit(other, t).strata_.tolist() == expected


def test_the_error_is_that_of_the_weighted_regression_clustered_by_group() -> None:
    x, t, y = varied(150)
    for caliper in (None, 0.05):
        effect = Grouped(FullMatching(caliper=caliper), bias_correction=False).fit(x, t, y)
        m = effect.matching_
        used = m.strata_ >= 0
        regression = sm.WLS(y[used], sm.add_constant(t[used].astype(float)), weights=m.weights_[used]).fit(
            cov_type="cluster", cov_kwds={"groups": m.strata_[used], "use_correction": False}
        )
        n, k = used.sum(), m.strata_.max() + 1
        assert effect.effect_ == pytest.approx(regression.params[1])
        assert effect.se_ == pytest.approx(regression.bse[1] * np.sqrt(n / (n - 2) * k / (k - 1)))
        assert "the standard error is clustered by group, and takes the weights as fixed" in effect.remarks_


def test_clusters_must_hold_whole_groups() -> None:
    x, t, y = varied(150)
    x[:, 2] = np.arange(150) % 30
    whole = Grouped(FullMatching(metric="scaled", exact=(2,))).fit(x, t, y, clusters=x[:, 2] % 15)
    sums = np.bincount((x[:, 2] % 15).astype(int), whole.influence_)
    assert whole.se_ == pytest.approx(np.sqrt((sums**2).sum() * 15 / 14))
    with pytest.raises(UserError, match="groups of full matching have units of several clusters"):
        Grouped(FullMatching(metric="scaled")).fit(x, t, y, clusters=x[:, 2])


def test_units_without_a_partner_and_too_many_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    x, t = np.arange(12.0)[:, None], np.arange(12) < 5
    with pytest.raises(UserError, match=r"no unit has a partner within the caliper 0\.1: widen it"):
        FullMatching(metric="euclidean", caliper=0.1).fit(x, t)
    with pytest.raises(UserError, match="no unit has a partner within the calipers: widen them"):
        FullMatching(metric="euclidean", calipers={0: 0.5}).fit(x, t)
    monkeypatch.setattr("contrastkit.causal.matching.turns.MOST_DISTANCES", 30)
    with pytest.raises(UserError, match=r"5 with 7 units needs 4e\+01 distances: use --kind subclass"):
        FullMatching(metric="euclidean").fit(np.column_stack([x, x]), t)
    assert FullMatching(metric="euclidean").fit(x, t).total_ == 10 + 21 + 7  # by one number, there is no matrix


def test_a_single_group_has_no_error() -> None:
    x, t = np.array([[1.0], [-1.0], [0.0], [5.0], [5.1]]), [0, 0, 1, 1, 0]
    effect = Grouped(FullMatching(metric="euclidean", caliper=1, exact=()), bias_correction=False).fit(
        x, t, [1.0, 2, 4, 0, 3]
    )
    assert effect.matching_.strata_.tolist() == [0, 0, 0, 1, 1] and effect.se_ > 0
    one = Grouped(FullMatching(metric="euclidean", calipers={0: 0.2}), bias_correction=False).fit(
        x, t, [1.0, 2, 4, 0, 3]
    )
    assert one.matching_.strata_.tolist() == [-1, -1, -1, 0, 0] and np.isnan(one.se_) and one.effect_ == -3
    assert one.error_remarks_ == ["a single group has no standard error"]


def test_the_score_is_that_of_its_model() -> None:
    x, t, _ = varied(60)
    m = FullMatching().fit(x, t)
    z = Propensity().fit(x, t).logit_[:, None]
    assert m.total_ == pytest.approx(cost_of(z, m.strata_, t))
