"""The choices of the options, shared by library and command line; this module imports nothing heavy."""

from typing import Literal

Estimand = Literal["ATT", "ATC", "ATE"]
AnyEstimand = Literal["ATT", "ATC", "ATE", "ATO"]
Measure = Literal["difference", "ratio", "odds-ratio"]  # of mean outcomes
Error = Literal["m-estimation", "hc1", "bootstrap"]  # kind of standard error
EstimatorName = Literal[
    "naive", "ols", "oaxaca", "glm", "matching", "strata", "ipw", "overlap", "entropy", "cbps", "cbps-over", "arb",
    "dcb", "aipw", "dml", "tlearner",
]  # fmt: skip
Weighting = Literal["ipw", "overlap", "entropy", "cbps", "cbps-over", "arb", "dcb", "global"]
ArmWeighting = Literal["gps", "entropy"]  # of several arms
SurvivalWeighting = Literal["none", "ipw", "overlap", "entropy", "cbps", "arb", "global"]  # dcb needs an outcome
DoseWeighting = Literal["gps", "entropy", "cbgps"]  # of amounts
Balancing = Literal["none", "matching", "coarsened", Weighting]
Scale = Literal["hajek", "stabilised", "raw"]  # of inverse-probability weights
OutcomeModel = Literal["linear", "logistic", "lasso", "forest", "boost"]
EffectModel = Literal["linear", "lasso", "boost", "forest"]
MechanismModel = Literal["linear", "boost"]
PropensityModel = Literal["logistic", "lasso", "forest", "boost"]
Metric = Literal["logit", "propensity", "mahalanobis", "robust", "scaled", "euclidean", "cosine"]
Kind = Literal["pairs", "full", "subclass", "coarsened"]  # of matching
Order = Literal["largest", "smallest", "random", "data"]
BinRule = Literal["sturges", "scott", "fd"]
