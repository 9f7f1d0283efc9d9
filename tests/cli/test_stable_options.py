"""Every option of every command of ``contrastkit stable`` changes its output, as in the library."""

import contextlib
import functools
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA

from contrastkit.cli import stable
from contrastkit.cli.main import main
from contrastkit.data import open_data
from contrastkit.stable import predict, simulate
from contrastkit.stable.coloured import colour_images
from contrastkit.stable.reweight import METHODS, srdo
from tests.cli.option_table import arguments, options_of, plain, same

Options = dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tables, weights, embeddings, models and images in a separate folder; srdo with fewer networks."""
    with contextlib.chdir(tmp_path_factory.mktemp("stable")), pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "srdo", functools.partial(srdo, permutations=1, folds=2))
        for seed, name in enumerate(("table", "other")):
            table(np.random.default_rng(seed)).to_csv(f"{name}.csv", index=False)
        g = np.random.default_rng(2)
        for name in ("w", "v"):
            pd.DataFrame({"weight": g.uniform(size=80)}).to_csv(f"{name}.csv", index=False)
        for name, outcome in (("one", "y"), ("two", "z")):
            frame = pd.read_csv("table.csv")
            predict.fit(frame[["a", "b", "c"]], frame[outcome], kind="ridge").save(Path(f"{name}.json"))
        for seed, name in enumerate(("grey", "dark")):
            g = np.random.default_rng(seed)
            parts = {"": 60, "test_": 30}
            arrays: dict[str, Any] = {
                f"{part}images": g.integers(1, 255 - 50 * seed, (n, 4, 4), np.uint8) for part, n in parts.items()
            }
            arrays |= {f"{part}labels": np.arange(n) % 4 for part, n in parts.items()}
            np.savez(f"{name}.npz", **arrays)
        yield


def table(g: np.random.Generator) -> pd.DataFrame:
    x = g.normal(size=(80, 3)) @ [[1, 0.6, 0.3], [0, 1, 0.5], [0, 0, 1]]
    return pd.DataFrame(
        {
            "a": x[:, 0],
            "b": x[:, 1] + 0.3 * x[:, 0] ** 2,
            "c": x[:, 2],
            "y": x[:, 0] + g.normal(size=80),
            "z": x[:, 1] + g.normal(size=80),
            "where": np.arange(80) % 2,
            "when": np.arange(80) % 3,
            "kind": np.where(g.uniform(size=80) < 0.5, "p", "q"),
        }
    )


# ---------------------------------------- what the library says


def read(options: Options) -> tuple[pd.DataFrame, Any, Any, Options]:
    """Features, label and environment of the options, and the options that are not about the table."""
    rest = dict(options)
    frame = pd.read_csv(rest.pop("data"))
    column, _, value = rest.pop("rows", "").partition("=")
    if column:
        frame = frame[frame[column].astype(str) == value]
    label, environment, features = rest.pop("label", None), rest.pop("environment", None), rest.pop("features", "")
    numeric = [name for name in frame if name not in (label, environment, column, "kind")]
    X = frame[features.split(",") if features else numeric].astype(float)
    label, environment = (None if name is None else frame[name].to_numpy() for name in (label, environment))
    return X, label, environment, rest


def components(X: pd.DataFrame, k: int) -> pd.DataFrame:
    """The first k principal components, or for 0 the features."""
    x = np.ascontiguousarray(X)
    return pd.DataFrame(PCA(k, random_state=0).fit(x).transform(x)) if k else X


def reweight(options: Options) -> Any:
    X, _, _, rest = read(options)
    k = rest.pop("components", 0)
    result = METHODS[rest.pop("by", "rff")](components(X, k), **rest)
    numbers = {name: value for name, value in asdict(result).items() if name not in ("constant", "converged")}
    return numbers | {"rows": len(X), "features": list(X), "components": k}


def fit(options: Options) -> Any:
    X, y, _, rest = read(options)
    w: Any = pd.read_csv(rest.pop("weights")).weight if "weights" in rest else None
    if "by" in rest:
        by, seed, k = rest.pop("by"), rest.pop("seed", 0), rest.pop("components", 0)
        w = METHODS[by](components(X, k), **({} if by == "dwr" else {"seed": seed})).weights
    how: dict[str, Any] = {"kind": "ridge"} | rest
    return asdict(predict.fit(X, y, w, **how))


def evaluate(options: Options) -> Any:
    model = predict.load(Path(options[""]))
    X, y, environment, _ = read(options | {"features": ",".join(model.names)})
    return asdict(predict.evaluate(model, X, y, environment))


def selection(options: Options) -> Any:
    rest = {"n": 2000, "p": 10, "seed": 0} | options
    rates = rest.pop("r", "2.5")
    values = simulate.ENVIRONMENTS if rates == "test" else [float(rate) for rate in rates.split(",")]
    return environments(simulate.selection_bias, "r", values, rest)


def collinear(options: Options) -> Any:
    rest = {"n": 2000, "p": 10, "seed": 0} | options
    return environments(simulate.collinear, "rho", [float(v) for v in rest.pop("rho", "0.8").split(",")], rest)


def environments(draw: Any, name: str, values: Any, rest: Options) -> Any:
    """Each environment draws from (seed, 1), (seed, 2), ..., a single one from the seed."""
    seed, blocks = rest.pop("seed"), []
    for place, value in enumerate(values, 1):
        sample = draw(**{name: value}, seed=seed if len(values) == 1 else (seed, place), **rest)
        of = [*(f"S{j + 1}" for j in range(sample.stable)), *(f"V{j + 1}" for j in range(rest["p"] - sample.stable))]
        block = pd.DataFrame(sample.X, columns=of).assign(Y=sample.Y)
        blocks.append(block if len(values) == 1 else block.assign(environment=value))
    return pd.concat(blocks).to_dict("list")


def confounded(options: Options) -> Any:
    how: dict[str, Any] = {"n": 2000, "p": 50, "rate": 0.2, "seed": 0} | options
    trial = simulate.confounded(**how)
    columns = {f"X{j}": column for j, column in enumerate(trial.X.T, 1)}
    return columns | {"T": trial.T.astype(int), "Y": trial.Y}


def coloured(options: Options) -> Any:
    rest, seed = dict(options), options.get("seed", 0)
    source = open_data(rest.pop("data"), val_fraction=rest.pop("val_fraction", None), seed=seed)
    shares = [float(share) for share in rest.pop("environments", "0.1,0.2,0.9").split(",")]
    return colour_images(source, environments=shares, **rest).arrays


# ---------------------------------------- what the commands say


@functools.cache
def said(command: str, options: tuple[tuple[str, Any], ...]) -> Any:
    """The report of a command, or what it wrote."""
    given = ["stable", *command.split(), *arguments(dict(options))]
    if command == "reweight":
        assert main([*given, "--json=report.json", "--out=out.csv"]) == 0
        report = json.loads(Path("report.json").read_text())
        report = {name: value for name, value in report.items() if name not in ("remarks", "constant", "converged")}
        return plain(report | {"weights": pd.read_csv("out.csv").weight.tolist()})
    if command == "evaluate":
        assert main([*given, "--json=report.json"]) == 0
        return json.loads(Path("report.json").read_text())
    out = {"fit": "out.json", "simulate coloured": "out.npz"}.get(command, "out.csv")
    assert main([*given, f"--out={out}"]) == 0
    if command == "fit":
        model = json.loads(Path(out).read_text())
        assert model.pop("format") == predict.FORMAT
        return model
    if command == "simulate coloured":
        with np.load(out) as arrays:
            return plain(dict(arrays))
    return plain(pd.read_csv(out).to_dict("list"))


@functools.cache
def expected(command: str, options: tuple[tuple[str, Any], ...]) -> Any:
    """The result of the library."""
    return plain(LIBRARY[command](dict(options)))


LIBRARY = {
    "reweight": reweight, "fit": fit, "evaluate": evaluate, "simulate selection": selection,
    "simulate collinear": collinear, "simulate confounded": confounded, "simulate coloured": coloured,
}  # fmt: skip
SMALL = {"n": 60}
STARTS: dict[str, Options] = {
    "reweight": {"data": "table.csv", "features": "a,b,c"},
    "fit": {"data": "table.csv", "features": "a,b,c", "label": "y"},
    "evaluate": {"": "one.json", "data": "table.csv", "label": "y"},
    "simulate selection": SMALL, "simulate collinear": SMALL, "simulate confounded": SMALL,
    "simulate coloured": {"data": "grey.npz"},
}  # fmt: skip
RFF = {"by": "rff"}

# Command, the other options, and the option that makes the difference; None takes an option of the start away.
ROWS: list[tuple[str, Options, Options]] = [
    *((name, {}, {"data": "other.csv"}) for name in ("reweight", "fit", "evaluate")),
    *((name, {}, {"rows": "kind=p"}) for name in ("reweight", "fit", "evaluate")),
    *((name, {}, {"features": "a,b"}) for name in ("reweight", "fit")),
    *((name, {"features": None}, {"environment": "where"}) for name in ("reweight", "fit")),
    *((name, {}, {"label": "z"}) for name in ("fit", "evaluate")),
    ("reweight", {"features": None}, {"label": "y"}),
    *(("reweight", {}, {"by": by}) for by in ("dwr", "srdo", "global")),
    ("reweight", {}, {"cosines": 3}),
    ("reweight", {}, {"penalty": 0.01}),
    ("reweight", {"by": "srdo"}, {"clip": 1.5}),
    ("reweight", {}, {"components": 2}),
    ("reweight", {}, {"seed": 1}),
    ("reweight", {"by": "srdo"}, {"seed": 1}),
    ("fit", {"label": "where"}, {"kind": "logistic"}),
    ("fit", {}, {"weights": "w.csv"}),
    ("fit", {"weights": "w.csv"}, {"weights": "v.csv"}),
    ("fit", {}, RFF),
    ("fit", RFF, {"by": "dwr"}),
    ("fit", RFF, {"components": 2}),
    ("fit", RFF, {"seed": 1}),
    ("fit", {}, {"alpha": 10.0}),
    ("fit", {}, {"intercept": False}),
    ("evaluate", {}, {"": "two.json"}),
    ("evaluate", {}, {"environment": "where"}),
    ("evaluate", {"environment": "where"}, {"environment": "when"}),
    ("simulate selection", {}, {"r": "-2"}),
    ("simulate selection", {}, {"r": "2.5,-2"}),
    ("simulate selection", {}, {"r": "test"}),
    *(("simulate selection", {}, {"mode": mode}) for mode in ("S-to-V", "V-to-S", "collinear")),
    ("simulate collinear", {}, {"rho": "0.5"}),
    ("simulate collinear", {}, {"rho": "0.8,0.5"}),
    ("simulate confounded", {}, {"rate": 0.5}),
    *((f"simulate {name}", {}, {"n": 50}) for name in ("selection", "collinear", "confounded")),
    *((f"simulate {name}", {}, {"p": 8}) for name in ("selection", "collinear", "confounded")),
    *((f"simulate {name}", {}, {"seed": 1}) for name in ("selection", "collinear", "confounded", "coloured")),
    ("simulate selection", {"r": "2.5,-2"}, {"seed": 1}),
    ("simulate coloured", {}, {"data": "dark.npz"}),
    ("simulate coloured", {}, {"val_fraction": 0.2}),
    ("simulate coloured", {}, {"environments": "0.3,0.2,0.9"}),
    ("simulate coloured", {}, {"flip": 0.1}),
]


@pytest.mark.parametrize(
    ("command", "others", "option"),
    ROWS,
    ids=lambda value: " ".join(arguments(value)) if isinstance(value, dict) else value,
)
def test_an_option_changes_what_a_command_says(command: str, others: Options, option: Options) -> None:
    before, after = (given(command, options) for options in (others, others | option))
    assert not same(said(command, before), said(command, after))
    for options in (before, after):
        assert same(said(command, options), expected(command, options))


def given(command: str, options: Options) -> tuple[tuple[str, Any], ...]:
    start = STARTS[command] | options
    return tuple((name, value) for name, value in start.items() if value is not None)


def test_every_option_has_a_row() -> None:
    """Except options with their own tests: files and how they are read, named sets, tracebacks."""
    elsewhere = {"json", "out", "data_dir", "download", "debug", "test_part", "layout", "stretch", "background"}
    elsewhere |= {"missing", "header", "separator", "encoding", "decimal"}
    tested = {(command, name or "model") for command, _, option in ROWS for name in option}
    assert {row for row in options_of(stable.app) if row[1] not in elsewhere} == tested
