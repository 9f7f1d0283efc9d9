"""Coarsened strata against a loop."""

import numpy as np
import pytest

from contrastkit.causal.coarsened import CoarsenedExact
from contrastkit.errors import UserError
from tests.causal.simulated import world


@pytest.mark.parametrize("estimand", ["ATT", "ATC", "ATE"])
def test_coarsened_strata_are_those_of_a_loop(estimand: str) -> None:
    x, t, _ = world(300, 2)
    x = np.column_stack([x, np.arange(300) % 2])
    result = CoarsenedExact(estimand, bins=4).fit(x, t)  # type: ignore[arg-type]
    strata: dict[tuple[int, ...], list[int]] = {}
    for i in range(300):
        width = [(x[:, j].max() - x[:, j].min()) / 4 for j in range(2)]
        cell = (*(min(int((x[i, j] - x[:, j].min()) / width[j]), 3) for j in range(2)), int(x[i, 2]))
        strata.setdefault(cell, []).append(i)
    expected, dropped, numbers = np.zeros(300), [], set()
    for rows in strata.values():
        treated = [i for i in rows if t[i]]
        others = [i for i in rows if not t[i]]
        goal = {"ATT": treated, "ATC": others, "ATE": rows}[estimand]
        if treated and others:
            for arm in (treated, others):
                expected[arm] = len(goal) / len(arm)
            assert len(set(result.strata_[rows])) == 1
            numbers.add(result.strata_[rows[0]])
        else:
            dropped += goal
            assert set(result.strata_[rows]) == {-1}
    assert dropped and result.dropped_.tolist() == sorted(dropped) and result.estimand_ == f"{estimand} of the matched"
    assert numbers == set(range(len(numbers)))
    assert not result.weights_[expected == 0].any()
    for mask in ((t == 0) & (expected > 0), (t == 1) & (expected > 0)):
        assert result.weights_[mask] == pytest.approx(expected[mask] / expected[mask].mean())
    assert CoarsenedExact(bins=1).fit(x[:, :2], t).weights_ == pytest.approx(np.ones(300))
    with pytest.raises(UserError, match="no stratum has units of both arms"):
        CoarsenedExact(bins=1000).fit(np.arange(300.0), np.arange(300) % 2)
