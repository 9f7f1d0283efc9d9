"""The verdict on a training, against statsmodels and by numbers that can be counted."""

import itertools

import pytest
from statsmodels.stats.proportion import confint_proportions_2indep

from contrastkit.intervals import difference
from contrastkit.training.verdict import judge


@pytest.mark.parametrize(("k", "other", "n"), [(56, 48, 80), (9, 3, 10), (0, 0, 20), (320, 300, 320), (5, 5, 7)])
def test_newcombes_interval_is_that_of_statsmodels(k: int, other: int, n: int) -> None:
    expected = confint_proportions_2indep(k, n, other, n, method="newcomb", compare="diff")
    assert difference(k / n, other / n, n) == pytest.approx(expected, abs=1e-6)


def rows(name: str, values: list[float | None]) -> list[dict[str, float | None]]:
    return [{"epoch": e, "step": 10 * e, name: value} for e, value in enumerate(values, start=1)]


@pytest.mark.parametrize(
    ("last", "images", "change"),
    [(0.40, 320, "rose"), (0.34, 320, "level"), (0.34, 5000, "rose"), (0.20, 320, "fell"), (0.28, 320, "level")],
)
def test_knn_changes_by_more_than_noise_or_stays_level(last: float, images: int, change: str) -> None:
    verdict = judge(rows("knn", [0.30, None, 0.99, last]), images)
    assert verdict is not None and (verdict.what, verdict.change, verdict.epochs) == ("knn", change, (1, 4))
    assert verdict.interval == difference(last, 0.30, images)


def test_the_line_of_knn() -> None:
    verdict = judge(rows("knn", [0.281, 0.412]), 320)
    assert verdict is not None
    assert verdict.line == (
        "verdict: kNN rose: 28.1% after epoch 1, 41.2% after epoch 2, +13.1 points (95% interval +5.7 to +20.3, "
        "320 images)"
    )


@pytest.mark.parametrize(
    ("losses", "change"),
    [
        ([5.0, 4.0, 3.0, 2.0, 1.0], "fell"),
        ([1.0, 2.0, 3.0, 4.0, 5.0], "rose"),
        ([3.0, 1.0, 4.0, 2.0, 2.5], "level"),
        ([2.0] * 6, "level"),
        ([4.0, 3.0, 2.0, 1.0], None),
    ],
)
def test_the_losses_have_a_trend_or_none(losses: list[float | None], change: str | None) -> None:
    """Of all orders of these losses, as many have so strong a trend as the p that is returned."""
    verdict = judge(rows("loss", losses), None)
    assert verdict is not None and (verdict.what, verdict.change, verdict.interval) == ("loss", change, None)
    assert (verdict.first, verdict.last) == (losses[0], losses[-1])
    if verdict.p is not None and len({*losses}) > 1:
        trend = abs(concordance(losses))
        orders = [abs(concordance(list(order))) >= trend for order in itertools.permutations(losses)]
        assert verdict.p == pytest.approx(sum(orders) / len(orders))
    assert ("fewer than 5 epochs" in verdict.line) == (change is None)


def concordance(values: list[float | None]) -> int:
    return sum((b > a) - (b < a) for a, b in itertools.combinations(values, 2))


def test_the_loss_is_judged_where_knn_was_measured_once() -> None:
    both = [{**a, **b} for a, b in zip(rows("loss", [3.0, 2.0]), rows("knn", [None, 0.5]), strict=True)]
    verdict = judge(both, 100)
    assert verdict is not None and verdict.what == "loss" and judge(both[1:], 100) is None and judge([], None) is None
