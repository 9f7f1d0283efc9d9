"""An unknown word in place of a named choice is refused in one line that suggests the nearest."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from contrastkit.causal.compare import compare, estimators
from contrastkit.causal.diagnostics import balance_table
from contrastkit.causal.effects import estimate_effects
from contrastkit.causal.estimate import AIPW, OaxacaBlinder, Weighted
from contrastkit.causal.matches import match
from contrastkit.causal.matching import Matching
from contrastkit.causal.models import Models
from contrastkit.causal.refutation import refute_study
from contrastkit.causal.scores import propensity_scores
from contrastkit.causal.sets import load
from contrastkit.causal.study import Study, read
from contrastkit.causal.weighting import EntropyBalancing, InverseProbability
from contrastkit.causal.weights import weigh
from contrastkit.errors import UserError, check_choice
from contrastkit.stable import predict, workflow
from contrastkit.stable.environments import selection_environments
from contrastkit.stable.table import Table
from tests.causal.simulated import varied


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("study")
    x, t, y = varied(60)
    pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "t": t, "y": y}).to_csv(folder / "t.csv", index=False)
    pd.DataFrame({"weight": np.ones(60)}).to_csv(folder / "weights.csv", index=False)
    return read(str(folder / "t.csv"), treatment="t", outcome="y", covariates=["a", "b"])


def weights_of(study: Study) -> Path:
    return Path(study.source).with_name("weights.csv")


CALLS: list[tuple[Callable[[Study, Any], Any], str, str, str]] = [  # call, kind of choice, word, the nearest
    (lambda s, word: weigh(s, word), "method", "entropi", "entropy"),
    (lambda s, word: weigh(s, "none", estimand=word), "estimand", "att", "ATT"),
    (lambda s, word: weigh(s, "global", estimand=word), "estimand", "ATZ", "ATT"),
    (lambda s, word: weigh(s, "ipw", scale=word), "scale", "hayek", "hajek"),
    (lambda s, word: weigh(s, weights=weights_of(s), estimand=word), "estimand", "all", ""),
    (lambda s, word: InverseProbability(word).fit(s.X, s.T), "estimand", "ATOO", "ATO"),
    (lambda s, word: EntropyBalancing(word).fit(s.X, s.T), "estimand", "all", ""),
    (lambda s, word: balance_table(s.X, s.T, estimand=word), "estimand", "atc", "ATC"),
    (lambda s, word: match(s, metric=word), "metric", "mahalanob", "mahalanobis"),
    (lambda s, word: match(s, kind=word), "kind", "coarse", "coarsened"),
    (lambda s, word: match(s, order=word), "order", "larger", "largest"),
    (lambda s, word: match(s, estimand=word), "estimand", "all", ""),
    (lambda s, word: match(s, kind="coarsened", bins=word), "rule for bins", "stirges", "sturges"),
    (lambda s, word: Matching(metric=word).fit(s.X, s.T), "metric", "mahalanobi", "mahalanobis"),
    (lambda s, word: propensity_scores(s, model=word), "propensity model", "logit", "logistic"),
    (lambda s, word: propensity_scores(s, model=word), "propensity model", "boosting", "boost"),
    (lambda s, word: weigh(s, "ipw", propensity_model=word), "propensity model", "lasoo", "lasso"),
    (lambda s, word: match(s, propensity_model=word), "propensity model", "linear", ""),
    (lambda s, word: estimate_effects(s, models=Models(word)), "outcome model", "logitsic", "logistic"),
    (lambda s, word: refute_study(s, models=Models(propensity=word)), "propensity model", "forrest", "forest"),
    (lambda s, word: estimators(word), "estimand", "all", ""),
    (lambda s, word: list(compare(s.X, s.T, s.outcomes(), error=word)), "standard error", "hc2", "hc1"),
    (lambda s, word: estimate_effects(s, estimand=word), "estimand", "all", ""),
    (lambda s, word: Weighted(error=word).fit(s.X, s.T, s.outcomes()), "standard error", "robust", ""),
    (lambda s, word: OaxacaBlinder(word).fit(s.X, s.T, s.outcomes()), "estimand", "all", ""),
    (lambda s, word: AIPW(word).fit(s.X, s.T, s.outcomes()), "estimand", "ate", "ATE"),
    (lambda s, word: refute_study(s, word), "estimator", "olss", "ols"),
    (lambda s, word: refute_study(s, estimand=word), "estimand", "all", ""),
    (lambda s, word: load(word, None), "study", "lalond", "lalonde"),
    (lambda s, word: workflow.reweight(Table(s.X, s.Y, None), word), "method", "sdro", "srdo"),
    (lambda s, word: workflow.fit(Table(s.X, s.Y, None), by=word), "method", "rf", "rff"),
    (lambda s, word: workflow.fit(Table(s.X, s.Y, None), kind=word), "predictor", "rigde", "ridge"),
    (lambda s, word: predict.fit(s.X, s.outcomes(), kind=word), "predictor", "svm", ""),
    (lambda s, word: selection_environments([2.0], mode=word), "mode", "s-to-v", "S-to-V"),
]


@pytest.mark.parametrize(
    ("call", "what", "word", "nearest"), CALLS, ids=[f"{k}-{word}" for k, (_, _, word, _) in enumerate(CALLS)]
)
def test_an_unknown_choice_is_one_line(
    study: Study, call: Callable[[Study, Any], Any], what: str, word: str, nearest: str
) -> None:
    with pytest.raises(UserError) as error:
        call(study, word)
    suggestion = f", did you mean '{nearest}'?" if nearest else ""
    message = str(error.value)
    assert message.startswith(f"unknown {what} '{word}'{suggestion} (known: ") and "\n" not in message


def test_a_trimming_threshold_is_a_number_or_crump(study: Study) -> None:
    with pytest.raises(UserError, match=r"trim krump: give a number in \[0, 0.5\), or crump"):
        weigh(study, "ipw", trim="krump")


def test_an_option_that_does_not_apply_is_refused(study: Study) -> None:
    for options, says in (
        ({"by": "none", "trim": 0.4}, "apply to --by ipw only"),
        ({"by": "global", "estimand": "ATC"}, "global weights have their own target population"),
        ({"by": "overlap", "estimand": "ATE"}, "overlap weights have their own target population"),
        ({"by": "entropy", "propensity_model": "boost"}, "applies to --by ipw and overlap only"),
        ({"weights": weights_of(study), "by": "ipw"}, "--weights, or --by"),
        ({"weights": weights_of(study), "propensity_model": "boost"}, "--weights, or --by"),
        ({"weights": weights_of(study), "trim": "crump"}, "--weights, or --by"),
        ({"weights": weights_of(study), "scale": "raw"}, "--weights, or --by"),
    ):
        with pytest.raises(UserError, match=says):
            weigh(study, **options)


def test_a_choice_that_is_no_word_is_refused() -> None:
    with pytest.raises(UserError, match=r"unknown scale 'None' \(known: hajek, raw\)"):
        check_choice("scale", None, ["hajek", "raw"])
    check_choice("scale", "raw", ["hajek", "raw"])


def test_models_and_clusters_that_have_no_part_are_refused(study: Study) -> None:
    with pytest.raises(UserError, match="--outcome-model applies to aipw, dml, tlearner only: leave it out"):
        refute_study(study, models=Models(outcome="lasso"))
    with pytest.raises(UserError, match="--clip applies to aipw only"):
        refute_study(study, "dml", models=Models(clip=0.1))
    with pytest.raises(UserError, match="--cluster is for an effect: name the --outcome"):
        match(dataclasses.replace(study, Y=None, outcome=None), cluster="anything")
    with pytest.raises(UserError, match="--no-bias-correction is for an effect: name the --outcome"):
        match(dataclasses.replace(study, Y=None, outcome=None), bias_correction=False)
