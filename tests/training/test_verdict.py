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
        "320 queries)"
    )


@pytest.mark.parametrize(
    ("losses", "change"),
    [
        ([5.0, 4.0, 3.0, 2.0, 1.0], "fell"),
        ([1.0, 2.0, 3.0, 4.0, 5.0], "rose"),
        ([4.0, 3.0], "fell"),
        ([3.0, 1.0, 4.0, 2.0, 2.5], None),
        ([2.0] * 6, None),
        ([5.0, 4.0, 3.0, 2.0, 1.0, 0.9, 0.8, 0.7, 6.0], None),  # tau is negative, first and last say the opposite
        ([3.0, 5.0, 4.9, 4.8, 4.7, 4.6, 4.5, 9.0], None),
        ([2.0, 3.0, 1.0, 4.0, 1.5, 2.5], None),  # higher in 8 of 15 pairs
        ([4.0, 1.0, 2.0, 3.0, 2.9], None),  # lower at last, but in most pairs higher
    ],
)
def test_the_loss_has_a_direction_if_the_ends_and_most_pairs_of_epochs_share_it(
    losses: list[float | None], change: str | None
) -> None:
    verdict = judge(rows("loss", losses), None)
    assert verdict is not None and (verdict.what, verdict.change, verdict.interval) == ("loss", change, None)
    assert (verdict.first, verdict.last) == (losses[0], losses[-1])
    differences = [b - a for a, b in itertools.combinations([x for x in losses if x is not None], 2)]
    sign = {"rose": 1, "fell": -1, None: 0}[change]
    assert sign == 0 or sum(sign * d > 0 for d in differences) >= 0.75 * len(differences)
    assert verdict.line.startswith(f"verdict: the loss {change or 'went'} from {losses[0]:.3f} in epoch 1 to ")


def test_no_test_of_the_loss_is_claimed() -> None:
    verdict = judge(rows("loss", [5.0, 4.0, 3.0, 2.0, 1.0]), None)
    assert verdict is not None and "p =" not in verdict.line and "test" not in verdict.line


START: list[dict[str, float | None]] = [{"epoch": 0, "step": 0, "knn": 0.8}]


def test_the_starting_weights_are_where_the_run_began() -> None:
    """80 % before the first step, then 50 and 60: the run ruined its encoder."""
    verdict = judge([*START, *rows("knn", [0.5, 0.6])], 320)
    assert verdict is not None and (verdict.change, verdict.first, verdict.epochs) == ("fell", 0.8, (0, 2))
    assert verdict.line.startswith("verdict: kNN fell: 80.0% before the first step, 60.0% after epoch 2, -20.0 points")
    assert verdict.best is None and "but was" not in verdict.line


@pytest.mark.parametrize("name", ["knn", "loss"])
def test_an_extension_is_judged_from_where_it_began(name: str) -> None:
    """Its metrics begin with its parent's, here of 25 steps: two epochs and a half."""
    values: list[float | None] = [0.2, 0.5, 0.4, 0.3]
    verdict = judge([*START, *rows(name, values)], 320 if name == "knn" else None, since=25)
    assert verdict is not None and (verdict.first, verdict.epochs, verdict.change) == (0.5, (2, 4), "fell")


@pytest.mark.parametrize(
    ("values", "images", "best"),
    [
        ([0.28, 0.60, 0.45], 320, (0.60, 2)),
        ([0.28, 0.60, 0.57], 320, (None, None)),  # within noise
        ([0.28, 0.60, 0.57], 5000, (0.60, 2)),
        ([0.28, 0.35, 0.60], 320, (None, None)),  # the last
    ],
)
def test_a_peak_that_was_lost_is_said(
    values: list[float | None], images: int, best: tuple[float | None, int | None]
) -> None:
    verdict = judge(rows("knn", values), images)
    assert verdict is not None and (verdict.change, (verdict.best, verdict.best_epoch)) == ("rose", best)
    assert verdict.line.endswith(f" queries){'' if best[0] is None else ', but was 60.0% after epoch 2'}")


def test_the_loss_is_judged_where_knn_was_measured_once() -> None:
    both = [{**a, **b} for a, b in zip(rows("loss", [3.0, 2.0]), rows("knn", [None, 0.5]), strict=True)]
    verdict = judge(both, 100)
    assert verdict is not None and verdict.what == "loss" and judge(both[1:], 100) is None and judge([], None) is None
