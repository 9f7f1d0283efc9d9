"""Every option of every command of ``contrastkit causal`` changes its output, as in the library."""

import contextlib
import functools
import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.naive_bayes import GaussianNB

from contrastkit.causal import refute as attempts
from contrastkit.causal import worlds
from contrastkit.causal.arms import compare_arms
from contrastkit.causal.balance_checks import prognostic_score
from contrastkit.causal.boosting import BoostClassifier
from contrastkit.causal.coarsened import CoarsenedExact
from contrastkit.causal.columns import Columns
from contrastkit.causal.compare import compare, estimators
from contrastkit.causal.conditional import conditional_effects
from contrastkit.causal.diagnostics import balance_table
from contrastkit.causal.direct_balancing import DifferentiatedConfounderBalancing
from contrastkit.causal.dose import dose_response
from contrastkit.causal.estimate import Grouped, InSubclasses, Matched
from contrastkit.causal.form import Form
from contrastkit.causal.graph import identify
from contrastkit.causal.instrumental import instrumental_effect
from contrastkit.causal.matching import FullMatching, Matching
from contrastkit.causal.mediated import mediated_effect
from contrastkit.causal.models import Models
from contrastkit.causal.notation import parse
from contrastkit.causal.propensity import Propensity
from contrastkit.causal.structure import structure
from contrastkit.causal.study import Study, Units
from contrastkit.causal.study import read as read_study
from contrastkit.causal.subclasses import Subclasses
from contrastkit.causal.survival import compare_survival
from contrastkit.causal.weighting import (
    ApproximateBalancing,
    CovariateBalancing,
    EntropyBalancing,
    GlobalBalancing,
    InverseProbability,
    OverIdentifiedBalancing,
)
from contrastkit.cli import causal, screen
from contrastkit.cli.main import main
from contrastkit.cli.tables import column_names, precise
from contrastkit.tables.covariates import Covariates
from contrastkit.tables.terms import with_terms
from tests.cli.option_table import arguments, options_of, plain, same

Options = dict[str, Any]
NAIVE = "sklearn.naive_bayes:GaussianNB"


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Two tables, their features and weights, in a separate folder; pictures and grids are made small."""
    with contextlib.chdir(tmp_path_factory.mktemp("causal")), pytest.MonkeyPatch.context() as patch:
        patch.setattr(worlds, "picture", lambda visited, path: None)
        patch.setattr("contrastkit.causal.refute.confounding.STRENGTHS", (0.0, 0.1))
        patch.setattr("contrastkit.causal.compare.estimators", few)
        for seed, name in enumerate(("table", "other")):
            table(np.random.default_rng(seed)).to_csv(f"{name}.csv", index=False)
        g = np.random.default_rng(2)
        np.savez("features.npz", features=g.normal(size=(160, 3)) @ g.normal(size=(3, 12)) + g.normal(size=(160, 12)))
        for name in ("w", "v"):
            pd.DataFrame({"weight": g.uniform(size=160)}).to_csv(f"{name}.csv", index=False)
        yield


def few(*args: Any, error: Any = "m-estimation", **kwargs: Any) -> Any:
    """One estimator of each kind; two for the bootstrap, which takes minutes for all."""
    known = estimators(*args, error=error, **kwargs)
    kinds = ("naive", "ols", "oaxaca", "matching", "strata", "ipw", "entropy", "aipw")
    names = ("ipw", "matching") if error == "bootstrap" else kinds
    return {name: estimator for name, estimator in known.items() if name in names}


def table(g: np.random.Generator) -> pd.DataFrame:
    x = g.normal(size=(160, 3))
    return pd.DataFrame(
        {
            "a": x[:, 0],
            "b": x[:, 1],
            "c": x[:, 2].round(),  # of few values, for ties
            "group": np.where(g.uniform(size=160) < 0.5, 0, 1),
            "survey": np.arange(160) % 3 + 1,
            "site": np.arange(160) // 4,
            "t": (g.uniform(size=160) < 1 / (1 + np.exp(-x[:, 0]))).astype(int),
            "u": (g.uniform(size=160) < 0.4).astype(int),
            "arm": np.array(["low", "high", "none"])[g.integers(3, size=160)],
            "mood": np.array(["good", "bad", "mixed"])[g.integers(3, size=160)],
            "dose": 0.4 * x[:, 0] + g.normal(size=160),
            "y": x[:, 0] + g.normal(size=160),
            "z": x[:, 1] + g.normal(size=160),
            "months": g.exponential(size=160) * np.exp(-0.5 * x[:, 0]),
            "weeks": np.ceil(9 * g.exponential(size=160)),
            "died": (g.uniform(size=160) < 0.7).astype(int),
            "ill": (g.uniform(size=160) < 0.6).astype(int),
        }
    )


# ---------------------------------------- what the library says


def study(
    data: str = "table.csv",
    treatment: str = "t",
    covariates: str = "a,b,c",
    components: int = 10,
    rows: str = "",
    treated: str = "",
    untreated: str = "",
) -> Any:
    frame = selected(data, rows, treatment, treated, untreated)
    if covariates.endswith(".npz"):
        z = np.load(covariates)["features"][frame.index]
        U, S, Vt = np.linalg.svd(z - z.mean(0), full_matrices=False)
        signs = np.sign(Vt[np.arange(len(Vt)), np.abs(Vt).argmax(1)])
        pca = (U * S * signs)[:, :components]
        return pd.DataFrame(pca, columns=[f"features.{j}" for j in range(components)]), frame[treatment].to_numpy()
    t = (frame[treatment] == treated).astype(int) if treated else frame[treatment]
    return frame[covariates.split(",")], t.to_numpy()


def selected(data: str, rows: str = "", treatment: str = "t", treated: str = "", untreated: str = "") -> Any:
    frame = pd.read_csv(data, keep_default_na=False)
    if treated:
        frame = frame[frame[treatment].isin([treated, untreated])]
    return frame.query(rows.replace("!=", "<>").replace("=", "==").replace("<>", "!=")) if rows else frame


def clusters_of(options: Options, rest: Options) -> Any:
    """The column of the option --cluster, which is taken from the others."""
    return pd.read_csv(options.get("data", "table.csv"))[rest.pop("cluster")] if "cluster" in rest else None


def sampled(options: Options, rest: Options) -> Options:
    """The column of the option --sample-weight, which is taken from the others, as an argument."""
    name = rest.pop("sample_weight", None)
    return {} if name is None else {"sample_weight": pd.read_csv(options.get("data", "table.csv"))[name]}


ROWS_OF = ("data", "rows", "treatment", "treated", "untreated")


def outcome_of(outcome: str = "y", outcome_value: str = "", **which: Any) -> Any:
    values = selected(**{"data": "table.csv"} | which)[outcome].to_numpy()
    return (values == outcome_value).astype(int) if outcome_value else values


OUTCOME = ("outcome", "outcome_value")
STUDY = (*ROWS_OF, "covariates", "components", *OUTCOME)


def split(options: Options) -> tuple[Any, Any, Any, Options]:
    """X, T and Y of the options, and the options that are not about the study."""
    options = by_graph(options)
    which, of = (
        {name: options[name] for name in names if name in options}
        for names in ((*ROWS_OF, "covariates", "components"), (*ROWS_OF, *OUTCOME))
    )
    return *study(**which), outcome_of(**of), {name: value for name, value in options.items() if name not in STUDY}


def by_graph(options: Options) -> Options:
    """With the covariates that the graph of :data:`CHOSEN` implies, instead of it."""
    chosen = {"covariates": "a" if options.get("graph") == FORKED and options["outcome"] == "y" else "b"}
    chosen = chosen if "graph" in options else {}
    return {name: value for name, value in options.items() if name != "graph"} | chosen


def estimate(options: Options) -> Any:
    X, T, Y, rest = split(options)
    benchmark = rest.pop("benchmark", None)
    rest["models"] = models(rest)
    rows = [
        asdict(row) for row in compare(X, T, Y, clusters=clusters_of(options, rest), **sampled(options, rest), **rest)
    ]
    return {"measure": rest.get("measure", "difference"), "benchmark": benchmark, "remarks": [], "rows": rows}


def models(rest: Options) -> Models:
    """The models that options name, taken out of the others."""
    names = {"outcome_model": "outcome", "propensity_model": "propensity", "folds": "folds", "repeats": "repeats"}
    names["clip"] = "clip"
    return Models(**{field: rest.pop(name) for name, field in names.items() if name in rest})


def weights(X: Any, T: Any, Y: Any, by: str, estimand: Any, trim: Any, scale: Any, **rest: Any) -> tuple[Any, str]:
    propensity = scored_by(rest)
    fitted: Any = {
        "ipw": lambda: InverseProbability(estimand, trim=trim, scale=scale, propensity=propensity),
        "overlap": lambda: InverseProbability("ATO", propensity=propensity),
        "entropy": lambda: EntropyBalancing(estimand),
        "cbps": lambda: CovariateBalancing(estimand),
        "cbps-over": lambda: OverIdentifiedBalancing(estimand),
        "arb": lambda: ApproximateBalancing(estimand),
        "global": GlobalBalancing,
        "matching": lambda: Matching(estimand, metric="mahalanobis"),
        "coarsened": lambda: CoarsenedExact(estimand),
        "dcb": lambda: DifferentiatedConfounderBalancing(estimand),
    }[by]()
    fitted = fitted.fit(X, T, Y) if by == "dcb" else fitted.fit(X, T, **rest)
    return fitted.weights_, fitted.estimand_


def checked(X: Any, T: Any, Y: Any, w: Any, estimand: str, rest: Options) -> Options:
    """The balance of what is only checked, by options that are taken out of the others."""
    X, moments = Covariates.of(X), rest.pop("check_moments", 1)
    terms = with_terms(X, moments=moments, interactions=rest.pop("check_interactions", False)).X
    checks = terms.select(range(X.shape[1], terms.shape[1]))
    if rest.pop("prognostic", False):
        checks = checks.with_column(prognostic_score(X, T == 1, Y), "prognostic score")
    if not checks.names:
        return {}
    table = vars(balance_table(checks, T, w, estimand=estimand))
    return {"checks": {name: value for name, value in table.items() if name != "n"}}


def balance(options: Options) -> Any:
    X, T, Y, rest = split(options)
    checking: Options = {
        name: rest.pop(name) for name in ("check_moments", "check_interactions", "prognostic") if name in rest
    }
    by, estimand = rest.get("by", "entropy"), rest.get("estimand", "ATT")
    if "weights" in rest:
        by, w, of = rest["weights"], pd.read_csv(rest["weights"]).weight, estimand
    elif by == "none":
        w, of = None, estimand
    else:
        how: Options = {"by": by, "estimand": estimand, "trim": 0, "scale": "hajek"} | rest
        w, of = weights(X, T, Y, **how)
    table = balance_table(X, T, w, estimand=of.split()[0])
    said = None if by == "none" else of
    return {"by": by, "estimand": said, **vars(table)} | checked(X, T, Y, w, of.split()[0], checking)


def weight(options: Options) -> Any:
    X, T, Y, rest = split(options)
    how: dict[str, Any] = (
        {"by": "entropy", "estimand": "ATT", "trim": 0, "scale": "hajek"} | sampled(options, rest) | rest
    )
    return {"weight": weights(X, T, Y, **how)[0]}


def propensity(options: Options) -> Any:
    X, T, _, rest = split(options)
    model, seed = rest.get("model", "logistic"), rest.get("seed", 0)
    folds = rest.get("folds", 0 if model == "logistic" else 5)
    return {"propensity": Propensity(classifier(model, seed), folds=folds, seed=seed).fit(X, T).scores_}


def classifier(model: str, seed: int = 0) -> Any:
    forest = RandomForestClassifier(min_samples_leaf=20, random_state=seed)
    known = {"logistic": None, "boost": BoostClassifier(), "forest": forest, NAIVE: GaussianNB()}
    return known[model]


def scored_by(rest: Options) -> Propensity:
    """The propensity model of an option, taken out of the others."""
    model = rest.pop("propensity_model", "logistic")
    return Propensity(classifier(model), folds=0 if model == "logistic" else 5)


def match(options: Options) -> Any:
    X, T, Y, rest = split(options)
    kind, estimand, clusters = rest.pop("kind", "pairs"), rest.pop("estimand", "ATT"), clusters_of(options, rest)
    corrected = rest.pop("bias_correction", True)
    fitted: Any
    if kind in ("pairs", "full"):
        names = list(X.columns)
        rest["exact"] = tuple(names.index(name) for name in rest.pop("exact", "").split(",") if name)
        given = rest.pop("caliper", ())
        for text in given if isinstance(given, tuple) else (str(given),):
            column, _, width = text.rpartition("=")
            rest |= {"calipers": {names.index(column): float(width)}} if column else {"caliper": float(width)}
    if kind == "pairs":
        fitted = Matching(estimand, propensity=scored_by(rest), **rest).fit(X, T)
        frame = selected(**{name: options[name] for name in ROWS_OF if name in options})
        unit, partner = frame.index.to_numpy()[fitted.pairs_.T]
        columns = {"unit": unit, "partner": partner, "share": fitted.shares_, "distance": fitted.distances_}
        effect: Any = Matched(fitted, bias_correction=corrected).fit(X, T, Y, clusters=clusters)
        return columns | {"effect": [precise(effect.effect_), precise(effect.se_)]}
    how: Options = {} if kind == "coarsened" else {"propensity": scored_by(rest)}
    kinds: Any = {"full": FullMatching, "subclass": Subclasses, "coarsened": CoarsenedExact}
    fitted = kinds[kind](estimand, **how, **rest).fit(X, T)
    way = Grouped if kind == "full" else InSubclasses
    effect = way(fitted, bias_correction=corrected).fit(X, T, Y, clusters=clusters)
    columns = {"stratum": fitted.strata_ + 1, "weight": fitted.weights_}
    return columns | {"effect": [precise(effect.effect_), precise(effect.se_)]}


def refute(options: Options) -> Any:
    X, T, Y, rest = split(options)
    name, estimand, seed = rest.get("estimator", "entropy"), rest.get("estimand", "ATT"), rest.get("seed", 0)
    draws, gamma = rest.get("draws", 50), rest.get("gamma", 1.25)
    units = {"clusters": clusters_of(options, rest), "seed": seed} | sampled(options, rest)
    first = attempts.fitted(estimators(estimand, models=models(rest), seed=seed)[name], X, T, Y, **units)
    placebo = None
    if "placebo_outcome" in rest:
        left_out = [rest["placebo_outcome"], *rest.get("without", "").split(",")]
        adjusted = X[[column for column in X.columns if column not in left_out]]
        placebo = rest["placebo_outcome"], adjusted, outcome_of(outcome=rest["placebo_outcome"])
    verdicts = attempts.refute(X, T, Y, first, placebo=placebo, gamma=gamma, draws=draws, **units)
    return {
        "estimate": {
            "estimator": name,
            "estimand": first.estimand_,
            "effect": first.effect_,
            "se": first.se_,
            "remarks": first.remarks_,
        },
        "verdicts": [asdict(verdict) for verdict in verdicts],
    }


def effects(options: Options) -> Any:
    options = by_graph(options)
    which = {name: options[name] for name in STUDY if name in options}
    rest = {name: value for name, value in options.items() if name not in STUDY}
    which["covariates"] = which["covariates"].split(",")
    which["rows"] = [which["rows"]] if "rows" in which else []
    which["form"] = Form(components=which.pop("components", 10))
    chosen = models(rest)
    return conditional_effects(
        read_study(which.pop("data"), **which), rest.pop("by").split(","), models=chosen, **rest
    ).as_json()


def columns(options: Options) -> tuple[Columns, Options]:
    """The table of the options, and those that are not about it, with lists of names."""
    rest = {name: value for name, value in options.items() if name not in ("data", "rows")}
    for name in ("instruments", "mediators", "covariates"):
        if name in rest:
            rest[name] = [each for each in rest[name].split(",") if each]
    form = {name: rest.pop(name) for name in ("categorical", "components") if name in rest}
    if form:
        rest["form"] = Form(**form | {"categorical": [each for each in form.get("categorical", "").split(",") if each]})
    return Columns(selected(options["data"], options.get("rows", "")), options["data"]), rest


def iv(options: Options) -> Any:
    table, rest = columns(options)
    return instrumental_effect(table, **rest).as_json()


def front_door(options: Options) -> Any:
    table, rest = columns(options)
    return mediated_effect(table, models=models(rest), **rest).as_json()


def model(options: Options) -> Any:
    table, rest = columns(options)
    do = [dict(pair.split("=") for pair in text.split(",")) for text in rest.pop("do", [])]
    if "counterfactual" in rest:
        rest["counterfactual"] = str(rest["counterfactual"])
    return structure(table, do=do, **rest).as_json()


def units(options: Options) -> tuple[Units, Options]:
    """The units of the options, and the options that are not about them."""
    X, _, Y, rest = split(options)
    frame = selected(**{name: options[name] for name in ("data", "rows") if name in options})
    value = options.get("outcome_value")
    of: Any = {"treatment": options["treatment"], "outcome": options["outcome"], "outcome_value": value}
    return Units(X=Covariates.of(X), Y=Y, covariates={}, frame=frame, source="table", **of), rest


def arms(options: Options) -> Any:
    study, rest = units(options)
    return compare_arms(study, rest.pop("by", "gps"), **rest).as_json()


def dose(options: Options) -> Any:
    study, rest = units(options)
    at = tuple(float(value) for value in rest.pop("at", "").split(",") if value)
    return dose_response(study, rest.pop("by", "entropy"), at=at, **rest).as_json()


def survival(options: Options) -> Any:
    frame = selected(**{name: options[name] for name in ROWS_OF if name in options})
    X, T, _, rest = split(options)
    roles: Any = {"treatment": options["treatment"], "outcome": rest.pop("event"), "time": rest.pop("time")}
    of = Study(
        X=Covariates.of(X), T=T == 1, Y=frame[roles["outcome"]].to_numpy(), covariates={}, frame=frame, source="table",
        **roles,
    )  # fmt: skip
    rest["at"] = [float(value) for value in rest.pop("at", "").split(",") if value]
    if "weights" in rest:
        rest["weights"] = Path(rest["weights"])
    return compare_survival(of, rest.pop("by", None), **rest).as_json()


def graph(options: Options) -> Any:
    names = options.get("unobserved", "").split(",")
    hidden = [name for name in names if name]
    return asdict(identify(parse(options[""]), options["treatment"], options["outcome"], unobserved=hidden))


def demo(options: Options) -> Any:
    visited = worlds.visit(options.get("n", 2000), options.get("seed", 0))
    return [[asdict(row) for row in rows] for _, _, rows in visited]


# ---------------------------------------- what the commands say


@functools.cache
def said(command: str, options: tuple[tuple[str, Any], ...]) -> Any:
    """The report of a command, or the columns that it wrote."""
    given = arguments(dict(options))
    if command not in ("weight", "match", "propensity"):
        assert main(["causal", command, *given, "--json=report.json"]) in (0, 1)
        report = json.loads(Path("report.json").read_text())
        if "remark" in report:  # weights without identifiers
            report.pop("remark")
        return [world["rows"] for world in report] if command == "demo" else report
    with screen.console.capture() as capture:
        assert main(["causal", command, *given, "--out=out.csv"]) == 0
    columns: dict[str, Any] = {str(name): list(column) for name, column in pd.read_csv("out.csv").items()}
    for name in ("kept", "row", "digest", "unit_id", "partner_id"):
        columns.pop(name, None)
    if command == "match":
        printed = re.search(r"effect on .*: (\S+), SE (\S+),", capture.get())
        columns["effect"] = list(printed.groups()) if printed else None
    return plain(columns)


TABLE = {"data": "table.csv", "treatment": "t", "covariates": "a,b,c"}
STARTS: dict[str, Options] = dict.fromkeys(("propensity", "weight", "balance"), TABLE)
STARTS |= {"estimate": TABLE | {"outcome": "y"}, "match": TABLE | {"outcome": "y"}}
STARTS["effects"] = TABLE | {"outcome": "y", "by": "a", "repeats": 1, "folds": 2}
STARTS["refute"] = TABLE | {"outcome": "y", "estimator": "ols", "draws": 20}
STARTS["survival"] = TABLE | {"time": "months", "event": "died"}
TWO = tuple(STARTS)  # commands on two arms
STARTS["arms"] = TABLE | {"treatment": "arm", "outcome": "y"}
STARTS["dose"] = TABLE | {"treatment": "dose", "outcome": "y", "draws": 50}
LIBRARY = {
    "estimate": estimate, "balance": balance, "weight": weight, "propensity": propensity, "match": match,
    "refute": refute, "graph": graph, "demo": demo, "arms": arms, "dose": dose, "survival": survival,
    "effects": effects, "iv": iv, "front-door": front_door, "model": model,
}  # fmt: skip
NPZ = {"covariates": "features.npz"}
DCB = {"by": "dcb", "outcome": "y"}
ONE = {"replacement": False}
ARMS = {"treatment": "arm", "treated": "low", "untreated": "none"}
MOOD = {"outcome": "mood", "outcome_value": "good"}
FAST: Options = {"estimand": "ATE", "folds": 2, "repeats": 1}
MODELS = {"outcome_model": "sklearn.linear_model:Ridge", "propensity_model": NAIVE}
CHOSEN = {"graph": "b -> t; b -> y; t -> y; u -> y", "covariates": ""}
DO: Options = {"do": ("a=0", "a=1")}
OTHERS: dict[str, Options] = {  # whose tables are no studies
    "iv": {"data": "table.csv", "treatment": "z", "outcome": "y", "instruments": "a"},
    "front-door": {"data": "table.csv", "treatment": "t", "outcome": "y", "mediators": "b", "repeats": 1},
    "model": {"data": "table.csv", "graph": "a -> b -> y; a -> y", "draws": 100},
}
FORKED = "a -> t; a -> y; t -> y; b -> t; b -> z; t -> z"
GRAPH = {"": "z -> t; z -> y; t -> m -> y", "treatment": "t", "outcome": "y"}


def features(command: str) -> Options:
    """A file of features, beside a column where groups need one."""
    return {"covariates": "a,features.npz"} if command == "effects" else NPZ


@functools.cache
def expected(command: str, options: tuple[tuple[str, Any], ...]) -> Any:
    """The result of the library."""
    return plain(LIBRARY[command](dict(options)))


# Command, the other options, and the option that makes the difference.
ROWS: list[tuple[str, Options, Options]] = [
    *((name, {}, {"data": "other.csv"}) for name in STARTS),
    *((name, {}, {"treatment": "u"}) for name in TWO),
    ("arms", {}, {"treatment": "mood"}),
    ("dose", {}, {"treatment": "z"}),
    *((name, {}, {"covariates": "a,b"}) for name in STARTS),
    *((name, ARMS, {"treated": "high"}) for name in TWO),
    *((name, ARMS, {"untreated": "high"}) for name in TWO),
    *((name, features(name), {"components": 2}) for name in STARTS),
    *((name, {}, {"rows": "group=1"}) for name in ("arms", "dose")),
    *((name, {}, {"rows": "group=1"}) for name in TWO),
    *((name, features(name), {"rows": "c!=0"}) for name in TWO),
    *((name, {}, {"outcome": "z"}) for name in ("estimate", "effects", "match", "refute", "arms", "dose")),
    *((name, {"outcome": "y"}, CHOSEN) for name in TWO if name not in ("propensity", "effects", "survival")),
    ("effects", {"by": "b"}, CHOSEN),
    ("propensity", {}, CHOSEN | {"outcome": "y"}),
    ("propensity", {"graph": FORKED, "covariates": "", "outcome": "y"}, {"outcome": "z"}),
    ("arms", {}, {"graph": "b -> arm; b -> y; arm -> y", "covariates": ""}),
    ("dose", {}, {"graph": "b -> dose; b -> y; dose -> y", "covariates": ""}),
    ("effects", {}, {"by": "b"}),
    *(("effects", {}, {name: model}) for name, model in MODELS.items()),
    *(("effects", {}, option) for option in ({"bins": 3}, {"learner": "lasso"}, {"folds": 3}, {"repeats": 2})),
    *(("effects", {}, option) for option in ({"clip": 0.4}, {"seed": 1}, {"sample_weight": "survey"})),
    ("effects", {}, {"cluster": "site"}),
    *((name, DCB, {"outcome": "z"}) for name in ("balance", "weight")),
    *((name, MOOD, {"outcome_value": "bad"}) for name in ("estimate", "effects", "match", "refute", "arms", "dose")),
    *((name, DCB | MOOD, {"outcome_value": "bad"}) for name in ("balance", "weight")),
    ("estimate", {}, {"estimand": "ATC"}),
    ("estimate", {}, {"error": "hc1"}),
    *(("estimate", MOOD, {"measure": measure}) for measure in ("ratio", "odds-ratio")),
    ("estimate", {}, {"cluster": "site"}),
    ("estimate", {"estimand": "ATE"}, {"sample_weight": "survey"}),
    *(("weight", {"by": by}, {"sample_weight": "survey"}) for by in ("ipw", "entropy")),
    ("weight", {"by": "ipw", "propensity_model": NAIVE}, {"sample_weight": "survey"}),
    ("estimate", FAST | {"outcome_model": "lasso"}, {"sample_weight": "survey"}),
    ("estimate", {}, {"strata": 4}),
    ("estimate", {"draws": 50}, {"error": "bootstrap"}),
    ("estimate", {"error": "bootstrap", "draws": 50}, {"draws": 60}),
    ("estimate", {}, {"benchmark": 2.5}),
    *(("estimate", FAST, {name: model}) for name, model in MODELS.items()),
    *(("estimate", FAST, option) for option in ({"folds": 3}, {"repeats": 2}, {"clip": 0.2})),
    ("estimate", {}, {"seed": 1}),
    *(("balance", {}, {"by": by}) for by in ("none", "matching", "coarsened", "ipw", "overlap", "arb")),
    *(("balance", {"outcome": "y"}, {"by": by}) for by in ("dcb", "global")),
    ("balance", {}, {"weights": "w.csv"}),
    ("balance", {"weights": "w.csv"}, {"weights": "v.csv"}),
    ("balance", {}, {"check_moments": 2}),
    ("balance", {"check_moments": 2}, {"check_moments": 3}),
    ("balance", {}, {"check_interactions": True}),
    ("balance", {"outcome": "y"}, {"prognostic": True}),
    ("balance", {}, {"estimand": "ATC"}),
    ("balance", {"weights": "w.csv"}, {"estimand": "ATC"}),
    ("balance", {"by": "ipw"}, {"trim": 0.2}),
    ("balance", {"by": "ipw"}, {"trim": "crump"}),
    *(("weight", {"outcome": "y"}, {"by": by}) for by in ("ipw", "overlap", "arb", "dcb", "global")),
    *((name, {"estimand": "ATE"}, {"by": "cbps"}) for name in ("balance", "weight")),  # for the ATT it is entropy's
    *((name, {}, {"by": "cbps-over"}) for name in ("balance", "weight")),
    ("weight", {}, {"estimand": "ATE"}),
    *((name, {"by": "ipw"}, {"propensity_model": NAIVE}) for name in ("balance", "weight")),
    ("weight", {"by": "ipw"}, {"scale": "raw"}),
    ("weight", {"by": "ipw"}, {"scale": "stabilised"}),
    ("weight", {"by": "ipw"}, {"trim": 0.2}),
    ("propensity", {"folds": 2}, {"model": "boost"}),
    ("propensity", {"folds": 2}, {"model": "forest"}),
    ("propensity", {}, {"folds": 3}),
    ("propensity", {"folds": 3}, {"seed": 1}),
    ("match", {}, {"estimand": "ATC"}),
    *(("match", {}, {"metric": m}) for m in ("propensity", "mahalanobis", "robust", "scaled", "euclidean", "cosine")),
    *(("match", {}, {"kind": kind}) for kind in ("full", "subclass", "coarsened")),
    ("match", {}, {"ratio": 2}),
    ("match", {}, ONE),
    ("match", {"covariates": "c", "metric": "euclidean"}, {"ties": False}),
    ("match", ONE, {"order": "smallest"}),
    ("match", ONE, {"order": "data"}),
    ("match", ONE, {"order": "random"}),
    ("match", ONE | {"order": "random"}, {"seed": 1}),
    ("match", {}, {"caliper": 0.05}),
    ("match", {"covariates": "a,b,group"}, {"exact": "group"}),
    ("match", {}, {"cluster": "site"}),
    ("match", {"kind": "coarsened"}, {"cluster": "site"}),
    ("match", {"kind": "coarsened"}, {"bins": 3}),
    ("match", {"kind": "coarsened"}, {"bins": "fd"}),
    ("match", {"kind": "subclass"}, {"strata": 3}),
    ("match", {"kind": "subclass"}, {"estimand": "ATE"}),
    ("match", {"kind": "subclass"}, {"propensity_model": NAIVE}),
    *(("match", {"kind": "full"}, option) for option in ({"metric": "scaled"}, {"estimand": "ATE"})),
    *(("match", {"kind": "full"}, {"caliper": caliper}) for caliper in (0.05, "b=0.2", ("0.2", "b=0.5"))),
    ("match", {"kind": "full", "covariates": "a,b,group"}, {"exact": "group"}),
    ("match", {"kind": "full", "covariates": "a,b,site", "exact": "site", "metric": "scaled"}, {"cluster": "site"}),
    *(("match", others, {"caliper": ("0.5", "b=0.3")}) for others in ({}, ONE, ONE | {"optimal": True})),
    ("match", ONE, {"optimal": True}),
    *(("match", {"kind": kind}, {"bias_correction": False}) for kind in ("pairs", "full", "subclass", "coarsened")),
    ("match", {}, {"propensity_model": NAIVE}),
    ("refute", {}, {"estimator": "oaxaca"}),
    ("refute", {"estimator": "oaxaca"}, {"estimand": "ATC"}),
    ("refute", FAST | {"estimator": "aipw"}, MODELS | {"folds": 3, "repeats": 2, "clip": 0.2}),
    ("refute", {}, {"draws": 21}),
    ("refute", {}, {"cluster": "site"}),
    ("refute", {}, {"sample_weight": "survey"}),
    ("refute", {}, {"placebo_outcome": "z"}),
    ("refute", {"placebo_outcome": "z"}, {"without": "b"}),
    ("refute", {}, {"gamma": 1.5}),
    ("refute", {}, {"seed": 1}),
    ("arms", {}, {"by": "entropy"}),
    ("arms", {}, {"focal": "low"}),
    ("arms", {}, {"reference": "none"}),
    *(("arms", MOOD, {"measure": measure}) for measure in ("ratio", "odds-ratio")),
    ("arms", {}, {"simultaneous": True}),
    ("arms", {}, {"cluster": "site"}),
    *(("dose", {}, {"by": by}) for by in ("gps", "cbgps")),
    ("dose", {}, {"df": 1}),
    ("dose", {}, {"at": "0,0.5"}),
    ("dose", {}, {"draws": 60}),
    ("dose", {}, {"cluster": "site"}),
    ("dose", {}, {"seed": 1}),
    *(("survival", {}, option) for option in ({"time": "weeks"}, {"event": "ill"}, {"at": "0.2,0.5"}, {"horizon": 1})),
    ("survival", {"event": "mood", "event_value": "good"}, {"event_value": "bad"}),
    *(("survival", {}, {"by": by}) for by in ("none", "ipw", "overlap", "arb", "global")),
    *(("survival", {"estimand": "ATE"}, {"by": by}) for by in ("ipw", "cbps")),
    *(("survival", {"by": "ipw"}, option) for option in ({"trim": 0.2}, {"propensity_model": NAIVE})),
    *(("survival", {}, option) for option in ({"estimand": "ATE"}, {"cluster": "site"}, {"sample_weight": "survey"})),
    ("survival", {}, {"weights": "w.csv"}),
    ("graph", GRAPH, {"": "t -> y; t -> z; z -> y; m -> y"}),
    ("graph", GRAPH, {"treatment": "z"}),
    ("graph", GRAPH, {"outcome": "m"}),
    ("graph", GRAPH, {"unobserved": "z"}),
    *((name, {}, {"data": "other.csv"}) for name in OTHERS),
    *((name, {}, {"rows": "c!=0"}) for name in OTHERS),
    *(("iv", {}, option) for option in ({"treatment": "c"}, {"outcome": "b"}, {"instruments": "a,b"})),
    *(("iv", {}, option) for option in ({"covariates": "c"}, {"cluster": "site"})),
    *((name, ARMS, {arm: "high"}) for name in ("iv", "front-door") for arm in ("treated", "untreated")),
    *((name, MOOD, {"outcome_value": "bad"}) for name in ("iv", "front-door")),
    *((name, NPZ, {"components": 2}) for name in ("iv", "front-door")),
    ("iv", {}, {"graph": "a -> z -> y; b -> z", "instruments": ""}),
    *(("front-door", {}, option) for option in ({"treatment": "u"}, {"outcome": "z"}, {"mediators": "c"})),
    *(("front-door", {}, option) for option in ({"covariates": "a"}, {"cluster": "site"}, {"seed": 1})),
    *(("front-door", {}, option) for option in ({"folds": 3}, {"repeats": 2}, {"clip": 0.49})),
    *(("front-door", {}, {name: model}) for name, model in MODELS.items()),
    ("front-door", {}, {"graph": "t -> c -> y; t <-> y", "mediators": ""}),
    *(("model", {}, option) for option in ({"graph": "a -> y; b -> y"}, {"mechanism": "boost"}, DO)),
    *(
        ("model", DO, option)
        for option in ({"outcome": "y"}, {"counterfactual": 5}, {"draws": 200}, {"seed": 1}, {"refits": 3})
    ),
    ("demo", {}, {"n": 1000}),
    ("demo", {"n": 1000}, {"seed": 1}),
]


SHARED = {"data", "treatment", "treated", "untreated", "covariates", "components", "rows", "outcome", "outcome_value"}


def shared_once(row: tuple[str, Options, Options]) -> Any:
    """A row, slow if its option is one of those that :class:`UnitOptions` gives to all commands, except of one; or if
    it is repeatedly cross-fitted."""
    command, others, option = row
    slow = {*option} <= SHARED and command not in ("balance", "arms") and (command, *option) != ("match", "outcome")
    slow |= others.get("outcome_model") == "lasso" or others.get("estimator") == "aipw"
    return pytest.param(*row, marks=pytest.mark.slow) if slow else row


@pytest.mark.parametrize(
    ("command", "others", "option"),
    [shared_once(row) for row in ROWS],
    ids=lambda value: " ".join(arguments(value)) if isinstance(value, dict) else value,
)
def test_an_option_changes_what_a_command_says(command: str, others: Options, option: Options) -> None:
    before, after = (tuple(((STARTS | OTHERS).get(command, {}) | given).items()) for given in (others, others | option))
    assert not same(said(command, before), said(command, after))
    for options in (before, after):
        assert same(said(command, options), expected(command, options))


def test_every_option_has_a_row() -> None:
    """Except options with their own tests: files and how they are read, named sets, the package dowhy, tracebacks."""
    elsewhere = {"json", "out", "plot", "matched", "data_dir", "dowhy", "debug"}
    elsewhere |= {"missing", "header", "separator", "encoding", "decimal"}
    elsewhere |= {"formula", "categorical", "incomplete", "moments", "interactions"}  # tests/causal/test_form.py
    tested = {(command, "source" if name == "" else name) for command, _, option in ROWS for name in option}
    found = {row for row in options_of(causal.app) if row[0] != "report"}  # tests/report/test_study.py
    assert {row for row in found if row[1] not in elsewhere} == tested


def test_a_range_of_columns_stands_for_each() -> None:
    assert column_names("a, x1..x3,b") == ["a", "x1", "x2", "x3", "b"]
    assert column_names('x09..x11,"b, c",2..3') == ["x09", "x10", "x11", "b, c", "2", "3"]
    assert column_names("a..b,x1..y3,x1.x2,../x1..x2.npz") == ["a..b", "x1..y3", "x1.x2", "../x1..x2.npz"]
