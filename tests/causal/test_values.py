"""Values that golden figures do not pin: each against a loop, whatever the units."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from contrastkit.cli.main import main
from scipy.stats import rankdata

from contrastkit.causal.balance import balance_table
from contrastkit.causal.balancing import DifferentiatedConfounderBalancing, ResidualBalancing
from contrastkit.causal.coarsened import CoarsenedExact
from contrastkit.causal.compare import compare, estimators
from contrastkit.causal.estimate import AIPW, Matched, OaxacaBlinder, Stratified, Weighted
from contrastkit.causal.matching import Matching
from contrastkit.causal.propensity import Propensity
from contrastkit.causal.study import columns, covariates
from contrastkit.causal.weighting import ApproximateBalancing, EntropyBalancing, InverseProbability
from contrastkit.errors import UserError


def world(n: int = 200, p: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    g = np.random.default_rng(seed)
    x = g.normal(size=(n, p))
    t = g.uniform(size=n) < 1 / (1 + np.exp(-0.8 * x[:, 0] + 0.5))
    return x, t, 2.0 * t + x @ np.arange(1, p + 1) + x[:, 0] * t + g.normal(size=n)


@pytest.mark.parametrize("estimand", ["ATT", "ATC", "ATE"])
def test_strata_are_means_of_differences_in_fifths_of_the_score(estimand: str) -> None:
    x, t, y = world()
    e = Propensity().fit(x, t).scores_
    goal = {"ATT": t, "ATC": ~t, "ATE": np.ones(200, bool)}[estimand]
    cuts = np.quantile(e[goal], [0.2, 0.4, 0.6, 0.8])
    effect = variance = 0.0
    for k in range(5):
        low, high = (-1, *cuts, 2)[k : k + 2]
        rows = [i for i in range(200) if low <= e[i] < high]
        one, other = (np.array([y[i] for i in rows if t[i] == arm]) for arm in (True, False))
        share = sum(goal[i] for i in rows) / goal.sum()
        effect += share * (one.mean() - other.mean())
        variance += share**2 * (one.var(ddof=1) / len(one) + other.var(ddof=1) / len(other))
    found = Stratified(estimand).fit(x, t, y)  # type: ignore[arg-type]
    assert (found.effect_, found.se_) == (pytest.approx(effect), pytest.approx(math.sqrt(variance)))


def test_aipw_of_the_treated_has_the_error_of_its_influence_function() -> None:
    x, t, y = world()
    e = Propensity().fit(x, t).scores_
    A = np.column_stack([np.ones(200), x])
    m0 = A @ np.linalg.lstsq(A[~t], y[~t], rcond=None)[0]
    w = e / (1 - e)
    would = sum(w[i] * (y[i] - m0[i]) for i in range(200) if not t[i]) / w[~t].sum()
    effect = np.mean([y[i] - m0[i] for i in range(200) if t[i]]) - would
    psi = []
    for i in range(200):
        if t[i]:
            psi.append((y[i] - m0[i] - effect - would) / t.mean())
        else:
            psi.append(-w[i] * (y[i] - m0[i] - would) * 200 / w[~t].sum())
    found = AIPW(folds=0).fit(x, t, y)
    assert (found.effect_, found.se_) == (pytest.approx(effect), pytest.approx(np.std(psi, ddof=1) / math.sqrt(200)))


@pytest.mark.parametrize("estimand", ["ATT", "ATE"])
def test_the_balanced_error_is_what_each_unit_moves_the_estimate_by(estimand: str) -> None:
    x, t, y = world()
    found = Weighted(EntropyBalancing(estimand), error="balanced").fit(x, t, y)  # type: ignore[arg-type]
    assert found.weights_ is not None
    goal = t if estimand == "ATT" else np.ones(200, bool)
    A, total = np.column_stack([np.ones(200), x]), 0.0
    fits, stretch = {}, {}
    for arm in (True, False):
        rows = t == arm
        W = np.diag(found.weights_[rows])
        fits[arm] = A @ np.linalg.solve(A[rows].T @ W @ A[rows], A[rows].T @ W @ y[rows])
        kept = found.weights_[rows].sum() ** 2 / (found.weights_[rows] ** 2).sum()
        stretch[arm] = math.sqrt(kept / (kept - 4))
    for i in range(200):
        move = goal[i] * (fits[True][i] - fits[False][i] - found.effect_) / goal.sum()
        own = found.weights_[i] / found.weights_[t == t[i]].sum() * (y[i] - fits[bool(t[i])][i]) * stretch[bool(t[i])]
        total += (move + (own if t[i] else -own)) ** 2
    assert found.se_ == pytest.approx(math.sqrt(total))


def test_oaxaca_has_the_spread_of_the_differences_and_of_the_prediction() -> None:
    x, t, y = world()
    A = np.column_stack([np.ones(200), x])
    inverse = np.linalg.inv(A[~t].T @ A[~t])
    beta = inverse @ A[~t].T @ y[~t]
    gain = [y[i] - A[i] @ beta for i in range(200) if t[i]]
    meat = sum(np.outer(A[i], A[i]) * (y[i] - A[i] @ beta) ** 2 for i in range(200) if not t[i])
    n = (~t).sum()
    mean = A[t].mean(0)
    variance = np.var(gain, ddof=1) / t.sum() + mean @ inverse @ meat @ inverse @ mean * n / (n - 4)
    found = OaxacaBlinder().fit(x, t, y)
    assert (found.effect_, found.se_) == (pytest.approx(np.mean(gain)), pytest.approx(math.sqrt(variance)))


def nearest(z: np.ndarray, t: np.ndarray) -> list[list[int]]:
    controls = np.flatnonzero(~t)
    return [[i, int(min(controls, key=lambda j: (np.linalg.norm(z[i] - z[j]), j)))] for i in np.flatnonzero(t)]


def test_each_metric_is_its_own() -> None:
    x, t, _ = world()
    x = x * [1, 5, 0.1] + 1
    model = Propensity().fit(x, t)
    ranks = rankdata(x, axis=0)
    apart = np.where(t[:, None], ranks - ranks[t].mean(0), ranks - ranks[~t].mean(0))
    S = apart.T @ apart / 198
    untied = math.sqrt(200 * 201 / 12)
    S = S * np.outer(untied / np.sqrt(np.diag(S)), untied / np.sqrt(np.diag(S)))
    spaces = {
        "propensity": model.scores_[:, None],
        "logit": model.logit_[:, None],
        "cosine": x / np.linalg.norm(x, axis=1, keepdims=True),
        "euclidean": x,
        "scaled": x / x.std(0, ddof=1),
        "robust": ranks @ np.linalg.cholesky(np.linalg.inv(S)),
    }
    found = {metric: nearest(z, t) for metric, z in spaces.items()}
    assert (
        len({str(pairs) for pairs in found.values()}) == len(spaces) - 1
    )  # propensity and logit differ in few pairs, if any
    for metric, pairs in found.items():
        assert Matching(metric=metric, ties=False).fit(x, t).pairs_.tolist() == pairs, metric  # type: ignore[arg-type]


@pytest.mark.parametrize("replacement", [True, False])
def test_a_caliper_on_the_score_is_in_its_standard_deviations(replacement: bool) -> None:
    x, t, _ = world()
    logit = Propensity().fit(x, t).logit_
    m = Matching(caliper=0.02, replacement=replacement, order="data").fit(x, t)
    limit, free = 0.02 * logit.std(ddof=1), set(np.flatnonzero(~t).tolist())
    expected = []
    for i in np.flatnonzero(t).tolist():
        inside = [j for j in free if abs(logit[i] - logit[j]) <= limit]
        if inside:
            j = min(inside, key=lambda j: abs(logit[i] - logit[j]))
            expected.append([i, j])
            if not replacement:
                free.remove(j)
    assert m.pairs_.tolist() == expected and 0 < len(m.dropped_) == t.sum() - len(expected)


def test_a_caliper_on_a_distance_is_in_its_units_one_by_one_and_at_the_optimum() -> None:
    x, t, _ = world(60, 2)
    free, expected = set(np.flatnonzero(~t).tolist()), []
    for i in np.flatnonzero(t).tolist():
        inside = [j for j in free if np.linalg.norm(x[i] - x[j]) <= 0.5]
        if inside:
            expected.append([i, min(inside, key=lambda j: float(np.linalg.norm(x[i] - x[j])))])
            free.remove(expected[-1][1])
    greedy = Matching(metric="euclidean", replacement=False, order="data", caliper=0.5).fit(x, t)
    assert greedy.pairs_.tolist() == expected and len(greedy.dropped_)
    best = Matching(metric="euclidean", replacement=False, order="data", caliper=0.5, optimal=True).fit(x, t)
    assert len(best.pairs_) >= len(expected) and best.distances_.max() <= 0.5


def test_who_chooses_first_is_who_was_asked_for() -> None:
    x, t, _ = world(60)
    model = Propensity().fit(x, t)
    picks = {}
    for order in ("largest", "smallest", "random", "data"):
        m = Matching(replacement=False, order=order, seed=1).fit(x, t)  # type: ignore[arg-type]
        picks[order] = m.pairs_.tolist()
    units = np.flatnonzero(t)
    by = units[np.argsort(model.scores_[units])].tolist()
    for order, turn in (("smallest", by), ("largest", by[::-1]), ("data", units.tolist())):
        free, expected = set(np.flatnonzero(~t).tolist()), []
        for i in turn:
            if free:
                j = min(free, key=lambda j: abs(model.logit_[i] - model.logit_[j]))
                free.remove(j)
                expected.append([i, j])
        assert picks[order] == expected, order
    assert len({str(pairs) for pairs in picks.values()}) == 4


def test_each_estimand_has_its_denominator_and_weights_their_variance() -> None:
    x, t, _ = world(50)
    w = np.random.default_rng(3).uniform(0.1, 2, 50)
    for estimand in ("ATT", "ATC", "ATE", "ATO"):
        found = balance_table(x, t, w, estimand=estimand)
        for j in range(3):
            one, other = x[t, j].var(ddof=1), x[~t, j].var(ddof=1)
            variance = {"ATT": one, "ATC": other}.get(estimand, (one + other) / 2)
            means = [sum(w[arm] * x[arm, j]) / sum(w[arm]) for arm in (t, ~t)]
            assert found.smd[j, 1] == pytest.approx((means[0] - means[1]) / math.sqrt(variance))
            spread = [
                sum(w[arm] * (x[arm, j] - m) ** 2) / (sum(w[arm]) - sum(w[arm] ** 2) / sum(w[arm]))
                for arm, m in zip((t, ~t), means, strict=True)
            ]
            assert found.variance_ratio[j, 1] == pytest.approx(spread[0] / spread[1])


def test_the_table_of_all_has_the_bias_corrected_match() -> None:
    x, t, y = world()
    row = next(row for row in compare(x, t, y) if row.name == "matching")
    found = Matched(Matching(metric="scaled")).fit(x, t, y)
    assert row.effect == found.effect_ != Matched(Matching(metric="scaled"), bias_correction=False).fit(x, t, y).effect_


@pytest.mark.parametrize("name", ["ols", "oaxaca", "matching", "strata", "ipw", "entropy", "arb", "dcb", "aipw"])
def test_units_and_origins_do_not_matter(name: str) -> None:
    x, t, y = world()
    one = estimators("ATT")[name].fit(x, t, y)
    other = estimators("ATT")[name].fit(x * [1e-9, 1, 1e9] + [0, 1e6, 0], t, 1000 * y)
    assert other.effect_ == pytest.approx(1000 * one.effect_, rel=1e-5)
    assert other.se_ == pytest.approx(1000 * one.se_, rel=1e-5, nan_ok=True)


def test_mahalanobis_does_not_hang_on_units() -> None:
    x, t, _ = world()
    x[:, 1] = x[:, 1] > 0
    pairs = Matching(metric="mahalanobis").fit(x, t).pairs_
    assert (Matching(metric="mahalanobis").fit(x * [1e7, 1, 1e-7], t).pairs_ == pairs).all()


def test_arms_that_are_half_separated_are_refused_and_outliers_are_not() -> None:
    x, t, y = world(400)
    x[:, 1] = t & (np.arange(400) % 3 == 0)  # 1 among the treated alone
    with pytest.raises(UserError, match="perfect separation"):
        Propensity().fit(x, t)
    x[:, 1] = np.random.default_rng(1).normal(size=400)
    x[7, 0] = 80.0  # whose score rounds to 1
    t[7] = True
    scores = Propensity().fit(x, t).scores_
    assert scores[7] > 1 - 1e-12 and np.isfinite(AIPW().fit(x, t, y).effect_)


def test_numbers_among_words_and_words_among_numbers() -> None:
    frame = pd.DataFrame({"age": ["31", "42", "unknown"], "x=1": [1.0, 2.0, 4.0]})
    with pytest.raises(UserError, match="age: 'unknown' is no number, and others are"):
        covariates(frame)
    frame["age"] = pd.Series(np.array([31.0, 42.0, 50.0], dtype=object))
    x, names, origins = columns(frame.assign(group=["a", "b", "b"]))
    assert names == ("age", "x=1", "group=a", "group=b") and origins == (0, 1, 2, 2)
    assert x[:, 0].tolist() == [31, 42, 50]
    with pytest.raises(UserError, match="age holds dates"):
        covariates(frame.assign(age=pd.to_datetime(["2020-01-01"] * 3)))


def test_what_is_asked_of_an_estimator_is_checked() -> None:
    x, t, y = world(40)
    for made, says in (
        (EntropyBalancing("ATO"), "ATO is not among the estimands"),
        (InverseProbability("all"), "all is not among"),
        (ApproximateBalancing(zeta=1), "zeta between 0 and 1"),
        (EntropyBalancing(moments=3), "moments are 1"),
        (CoarsenedExact(bins=0), "0 bins"),
        (CoarsenedExact("ATO"), "ATO is not among"),
        (Matching("ATO"), "ATO is not among"),
        (Propensity(folds=1), "1 folds"),
    ):
        with pytest.raises(UserError, match=says):
            made.fit(x, t)  # type: ignore[attr-defined]
    for estimator, says in (
        (Stratified(strata=0), "0 strata"),
        (AIPW(folds=1), "two folds or more"),
        (ResidualBalancing(folds=1), "two folds or more"),
        (OaxacaBlinder("ATE"), "ATE is not among"),  # type: ignore[arg-type]
    ):
        with pytest.raises(UserError, match=says):
            estimator.fit(x, t, y)  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="an arm of one unit"):
        Weighted().fit(x, np.arange(40) == 3, y)
    with pytest.raises(UserError, match="the same for all"):
        Weighted().fit(x, t, np.ones(40))
    with pytest.raises(UserError, match="without an error"):
        DifferentiatedConfounderBalancing().fit(x, t, 2.0 * t + x[:, 0])
    with pytest.raises(UserError, match="partners cannot tell"):
        Matched(Matching(metric="euclidean")).fit(np.random.default_rng(0).normal(size=(8, 6)), np.arange(8) < 4, y[:8])
    ones = np.repeat([0.0, 1.0], 10_000)
    with pytest.raises(UserError, match="equally near: match without ties"):
        Matching(metric="euclidean").fit(ones, np.arange(20_000) % 2 == 0)


def test_the_command_line_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, t, y = world(60)
    path = tmp_path / "table.csv"
    frame = pd.DataFrame({"a": x[:, 0], "b, c": x[:, 1], "x=1": np.arange(60) % 2, "t": t.astype(int), "y": y})
    frame.to_csv(path, index=False)
    given = [f"--data={path}", "--treatment=t", '--covariates=a,"b, c",x=1']
    out = f"--out={tmp_path / 'out.csv'}"
    assert main(["causal", "match", *given, out, "--exact=x=1", "--outcome=y"]) == 0
    assert "effect on y (ATT), with bias correction" in capsys.readouterr().out
    pairs = pd.read_csv(tmp_path / "out.csv")
    assert (pairs.unit % 2 == pairs.partner % 2).all()
    (tmp_path / "not.npz").write_bytes(b"\x93NUMPY\x01\x00")
    np.save(tmp_path / "array.npy", np.ones(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    (tmp_path / "bad.dot").write_bytes(b"\xff\xfe\x00digraph")
    pd.DataFrame({"weight": ["much"] * 60}).to_csv(tmp_path / "w.csv", index=False)
    frame.assign(y=1e200 * y).to_csv(tmp_path / "large.csv", index=False)
    for command, says in (
        (["match", *given, out, "--metric=coarsened", "--ratio=3"], "do not apply to coarsened strata"),
        (["match", *given, out, "--bins=4"], "--bins applies to --metric coarsened only"),
        (["match", *given, out, "--metric=coarsened", "--bins=100000000000"], "100000000000 bins for 60 rows"),
        (["weight", *given, out, "--trim=0.2"], "trimming and scaling are for --by ipw"),
        (["weight", *given, out, "--by=overlap", "--estimand=ATC"], "their own population"),
        (["propensity", *given, "--folds=1"], "1 folds"),
        (["balance", *given, f"--weights={tmp_path / 'w.csv'}"], "weight holds something else than numbers"),
        (["balance", *given, f"--covariates={tmp_path / 'not.npz'}"], "holds no features"),
        (["balance", *given, f"--covariates={tmp_path / 'array.npz'}"], "holds no features"),
        (["graph", str(tmp_path / "bad.dot"), "--treatment=t", "--outcome=y"], "is no text"),
        (["estimate", *given, "--outcome=y", f"--data={tmp_path / 'large.csv'}"], "beyond 1e150"),
    ):
        assert main(["causal", *command]) == 2, command
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1, (says, error)
