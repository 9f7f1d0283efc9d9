"""``contrastkit stable``: predictors whose errors stay the same in places that they were not fitted on."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from contrastkit.cli import screen
from contrastkit.cli.options import Data, DataDir, Debug, Download, Json, Seed, ValFraction, where, writable
from contrastkit.cli.study import names, write

from contrastkit.errors import UserError
from contrastkit.names import DEFAULT_DATA

if TYPE_CHECKING:
    from contrastkit.stable.reweight import Reweighting
    from contrastkit.stable.table import Table

stable_app = typer.Typer(
    no_args_is_help=True, help="Predict what holds elsewhere too: weights under which features are independent."
)
simulate_app = typer.Typer(no_args_is_help=True, help="Draw data whose spurious part changes from place to place.")
stable_app.add_typer(simulate_app, name="simulate")

DataFile = Annotated[
    Path, typer.Option("--data", help="A table, .csv or .parquet, or the .npz of 'contrastkit embed'.", metavar="FILE")
]
Features = Annotated[
    str,
    typer.Option(
        help="The columns of features, with commas; else all of numbers but the label and the environment.",
        metavar="COLUMN,...",
    ),
]
Label = Annotated[
    str | None, typer.Option(help="The column of what is predicted; of an .npz, its labels.", metavar="COLUMN")
]
Environment = Annotated[str | None, typer.Option(help="The column of where rows come from.", metavar="COLUMN")]
Rows = Annotated[
    str | None, typer.Option(help="Only rows where a column has this value: split=train.", metavar="COLUMN=VALUE")
]
Way = Literal["rff", "dwr", "srdo", "global"]
Cosines = Annotated[int | None, typer.Option(help="rff: random cosines of each feature \\[10].", min=0)]
Penalty = Annotated[
    float | None,
    typer.Option(
        help="On uneven weights; larger for a larger effective sample \\[rff, global: 1e-4; dwr: 5e-5].", min=0
    ),
]
Components = Annotated[
    int | None,
    typer.Option(
        help="Reweight by the first principal components of the features, so many; 0: by the features themselves "
        "\\[20 of an .npz, else 0].",
        min=0,
    ),
]
Clip = Annotated[float | None, typer.Option(help="srdo: the largest ratio of densities \\[10].", min=1)]
Csv = Annotated[Path, typer.Option("--out", help="The .csv to write.", metavar="FILE", callback=writable)]
Size = Annotated[int, typer.Option("--n", help="Rows, of each environment.", min=1)]
Width = Annotated[int, typer.Option("--p", help="Features.", min=1)]


@simulate_app.command()
def selection(
    out: Csv,
    r: Annotated[
        str, typer.Option(help="Bias rates with commas, an environment each; 'test': the ten of the paper.")
    ] = "2.5",
    mode: Annotated[
        Literal["independent", "S-to-V", "V-to-S", "collinear"],
        typer.Option(help="How V, which the outcome does not follow, goes with S, which it does."),
    ] = "independent",
    n: Size = 2000,
    p: Width = 10,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Rows kept so that features without effect go with the outcome, one way or the other (Kuang et al. 2020).

    Each of several environments has draws of its own, which no other shares, nor one drawn alone with this seed.
    """
    from contrastkit.stable.simulate import ENVIRONMENTS, selection_bias

    rates = ENVIRONMENTS if r == "test" else _floats("--r", r)
    streams = _streams(seed, len(rates))
    _write_samples(
        out,
        {rate: selection_bias(n, p, r=rate, mode=mode, seed=own) for rate, own in zip(rates, streams, strict=True)},
    )


@simulate_app.command()
def collinear(
    out: Csv,
    rho: Annotated[str, typer.Option(help="Correlations of pairs with commas, an environment each.")] = "0.8",
    n: Size = 2000,
    p: Width = 10,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Pairs of correlated causes, and a product of three that a linear model lacks (Shen et al. 2020).

    Each of several environments has draws of its own, which no other shares, nor one drawn alone with this seed.
    """
    from contrastkit.stable.simulate import collinear as draw

    values = _floats("--rho", rho)
    streams = _streams(seed, len(values))
    _write_samples(out, {value: draw(n, p, rho=value, seed=own) for value, own in zip(values, streams, strict=True)})


@simulate_app.command()
def confounded(
    out: Csv,
    rate: Annotated[float, typer.Option(help="The share of features that decide on the treatment.")] = 0.2,
    n: Size = 2000,
    p: Width = 50,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """A treatment that the causes of the outcome decide, for 'contrastkit causal' (Kuang et al. 2017)."""
    from contrastkit.stable.simulate import confounded as draw

    found = draw(n, p, rate=rate, seed=seed)
    columns = {f"X{j + 1}": x for j, x in enumerate(found.X.T)}
    write(out, columns | {"T": found.T.astype(int), "Y": found.Y})
    naive = found.Y[found.T].mean() - found.Y[~found.T].mean()
    screen.say(f"{out}: {n:,} rows, {int(found.T.sum()):,} treated")
    screen.say(f"the effect on the treated is {found.att:.4f}, the difference in means {naive:.4f}")


@simulate_app.command()
def coloured(
    out: Annotated[Path, typer.Option(help="The .npz of images to write.", metavar="FILE", callback=writable)],
    data: Data = None,
    data_dir: DataDir = None,
    download: Download = False,
    val_fraction: ValFraction = None,
    environments: Annotated[
        str, typer.Option(help="How often the colour disagrees with the label, the test's last.", metavar="SHARE,...")
    ] = "0.1,0.2,0.9",
    flip: Annotated[float, typer.Option(help="How often the label disagrees with the class.")] = 0.25,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Grey images in a colour that tells the label better than their shape, and wrongly in the test (Colored MNIST)."""
    import numpy as np

    from contrastkit.checkpoint import write_with
    from contrastkit.data import open_data
    from contrastkit.stable.simulate import coloured as paint

    source = open_data(
        data or DEFAULT_DATA, data_dir=where(data_dir), download=download, val_fraction=val_fraction, seed=seed
    )
    arrays = paint(source, environments=_floats("--environments", environments), flip=flip, seed=seed)

    def save(path: Path) -> None:
        with open(path, "wb") as file:  # a file object, lest numpy adds an ending to the temporary name
            np.savez(file, **arrays)

    write_with(out.expanduser(), save)
    train, test = len(arrays["labels"]), len(arrays["test_labels"])
    classes = np.unique(arrays["labels"])
    screen.say(f"{out}: {train:,} training and {test:,} test images of {source.name}, {' against '.join(classes)}")
    for prefix, part in (("", "training"), ("test_", "test")):
        label, of = arrays[f"{prefix}labels"] == classes[1], arrays[f"{prefix}environment"]
        green = arrays[f"{prefix}images"][..., 1].any((1, 2))
        for e in np.unique(of):
            right = (label == green)[of == e].mean()
            screen.say(f"{part}, environment {e:g}: the colour tells the label of {right:.1%}")


@stable_app.command()
def reweight(
    data: DataFile,
    by: Annotated[Way, typer.Option(help="What makes features independent.")] = "rff",
    features: Features = "",
    label: Label = None,
    environment: Environment = None,
    rows: Rows = None,
    cosines: Cosines = None,
    penalty: Penalty = None,
    clip: Clip = None,
    components: Components = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write the weights, a row each, to this .csv.", metavar="FILE", callback=writable),
    ] = None,
    seed: Seed = 0,
    json: Json = None,
    debug: Debug = False,
) -> None:
    """Weights under which the features no longer depend on one another, and what is left of the sample."""
    table = _read(data, names(features), label, environment, rows)
    X = _components(table, data, components)
    found = _reweight(X, by, cosines=cosines, penalty=penalty, clip=clip, seed=seed)
    n, p = table.X.shape
    screen.say(f"{n:,} rows, {p:,} features: {_some(list(table.X.names))}")
    if X is not table.X:
        screen.say(f"reweighted by {X.shape[1]} principal components of them")
    screen.table(
        f"reweighted by {by}",
        ("", "before", "after"),
        [
            ("dependence", f"{found.before:.4g}", f"{found.after:.4g}"),
            ("of it linear", f"{found.linear_before:.4g}", f"{found.linear_after:.4g}"),
            ("effective sample", f"{n:,}", f"{found.ess:,.1f}"),
        ],
    )
    _remarks(found)
    if out is not None:
        write(out, {"weight": found.weights})
        screen.say(f"{out}: {n:,} weights, from {found.weights.min():.3g} to {found.weights.max():.3g}, mean 1")
    if json is not None:
        from contrastkit.cli.main import write_json

        report = {k: v for k, v in dataclasses.asdict(found).items() if k != "weights"}
        shape = {"rows": n, "features": list(table.X.names), "components": X.shape[1] if X is not table.X else 0}
        write_json(json, {**shape, **report, "notices": found.notices})


@stable_app.command()
def fit(
    data: DataFile,
    out: Annotated[Path, typer.Option(help="The model to write, .json.", metavar="FILE", callback=writable)],
    label: Label = None,
    kind: Annotated[
        Literal["ridge", "logistic"], typer.Option(help="ridge predicts a number, logistic a class.")
    ] = "ridge",
    features: Features = "",
    environment: Environment = None,
    rows: Rows = None,
    weights: Annotated[
        Path | None, typer.Option(help="The .csv that 'stable reweight' wrote of these rows.", metavar="FILE")
    ] = None,
    by: Annotated[Way | None, typer.Option(help="Or reweight here, by this.")] = None,
    components: Components = None,
    alpha: Annotated[
        float, typer.Option(help="Penalty on squared coefficients of standardised features.", min=0)
    ] = 1.0,
    intercept: Annotated[bool, typer.Option(help="Whether the model has one.")] = True,
    seed: Seed = 0,
    json: Json = None,
    debug: Debug = False,
) -> None:
    """A weighted linear model."""
    from contrastkit.stable.predict import evaluate as judge
    from contrastkit.stable.predict import fit as learn
    from contrastkit.tables.checks import effective_sample_size
    from contrastkit.tables.files import read_weights

    table = _read(data, names(features), label, environment, rows)
    y = _label(table, data)
    if weights is not None and by is not None:
        raise UserError("give --weights or --by, not both")
    if components is not None and by is None:
        raise UserError("--components are what --by reweights by: give that too")
    w = None
    if weights is not None:
        w = read_weights(weights.expanduser(), len(y))
    elif by is not None:
        reweighted = _reweight(_components(table, data, components), by, seed=seed)
        w = reweighted.weights
        _remarks(reweighted)
    model = learn(table.X, y, w, kind=kind, alpha=alpha, intercept=intercept)
    model.save(out.expanduser())
    n, p = table.X.shape
    if len(model.coefficients) == 1 and p <= 30:
        cells = [(name, f"{b:.4f}") for name, b in zip(model.names, model.coefficients[0], strict=True)]
        screen.table(
            f"{kind}, alpha = {alpha:g}", ("", "coefficient"), [*cells, ("intercept", f"{model.intercept[0]:.4f}")]
        )
    error = judge(model, table.X, y).average
    ess = n if w is None else effective_sample_size(w / w.max())
    screen.say(f"{out}: {kind} on {p:,} features of {n:,} rows, effective sample {ess:,.1f}")
    screen.say(f"on these rows, without weights: {_error(error, kind)}")
    if json is not None:
        from contrastkit.cli.main import write_json

        write_json(json, {"kind": kind, "alpha": alpha, "rows": n, "features": p, "ess": ess, "error": error})


@stable_app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="A model that 'stable fit' wrote.", metavar="MODEL")],
    data: DataFile,
    label: Label = None,
    environment: Environment = None,
    rows: Rows = None,
    json: Json = None,
    debug: Debug = False,
) -> None:
    """Errors in each environment: their average, how uneven they are, and the worst."""
    from contrastkit.stable.predict import evaluate as judge
    from contrastkit.stable.predict import load

    fitted = load(model.expanduser())
    table = _read(data, fitted.names, label, environment, rows)
    found = judge(fitted, table.X, _label(table, data), table.environment)
    short = "{:.2f} %" if found.kind == "logistic" else "{:.4f}"
    shown = [(name, f"{found.rows[name]:,}", short.format(error)) for name, error in found.errors.items()]
    if table.environment is not None:
        total = f"{sum(found.rows.values()):,}"
        shown += [("average", total, short.format(found.average)), ("deviation", "", short.format(found.deviation))]
        shown.append(("worst", "", short.format(found.worst)))
    screen.table(
        f"{model} on {data}", (environment or "", "rows", "wrong" if found.kind == "logistic" else "RMSE"), shown
    )
    if json is not None:
        from contrastkit.cli.main import write_json

        write_json(json, dataclasses.asdict(found))


def _components(table: "Table", data: Path, components: int | None) -> Any:
    """What weights are made by: principal components, or the features themselves, of which none follows from others."""
    import numpy as np

    from contrastkit.tables.checks import check_magnitude
    from contrastkit.tables.covariates import Covariates, check_independent
    from contrastkit.tables.embeddings import principal_components

    X, embedded = table.X, data.suffix == ".npz"
    most = min(X.shape)
    if components is None:
        components = min(20, most) if embedded else 0
    if components > most:
        raise UserError(f"--components {components}: {data} has {X.shape[1]:,} features of {len(X):,} rows")
    if components and most > 1:
        check_magnitude(X.x, X.names)
        if not np.ptp(X.x, axis=0).any():
            raise UserError(f"{data}: no feature varies, so that there are no principal components")
        with screen.working(f"principal components of {X.shape[1]:,} features"):
            z = principal_components(X.x, components, solver="auto")
        names = tuple(f"component {j}" for j in range(z.shape[1]))
        return Covariates(z, names, names)
    if not embedded:  # there, dead or repeated units are no mistake of the user's
        check_independent(X.select(np.flatnonzero(np.ptp(X.x, axis=0)).tolist()))  # a constant one has no part in it
    return X


def _remarks(found: "Reweighting") -> None:
    if not found.converged:
        screen.say("stopped before it converged, mostly at its largest number of steps: that is a part of the method")
    for notice in found.notices:
        screen.say(notice)


def _reweight(X: Any, by: str, **given: Any) -> "Reweighting":
    """By the method of that name, with those of its numbers that were given."""
    import inspect

    from contrastkit.stable.reweight import METHODS

    method = METHODS[by]
    known = inspect.signature(method).parameters
    if "seed" not in known:  # nothing in it is random
        del given["seed"]
    asked = {name: value for name, value in given.items() if value is not None}
    for name in asked:
        if name not in known:
            raise UserError(f"--{name}: {by} has no such number")
    with screen.working(f"reweighting {len(X):,} rows of {X.shape[1]:,} features by {by}"):
        return method(X, **asked)


def _read(data: Path, features: Sequence[str], label: str | None, environment: str | None, rows: str | None) -> "Table":
    from contrastkit.stable.table import read

    table = read(data.expanduser(), features=features, label=label, environment=environment, rows=rows)
    if table.left_out:
        screen.say(f"left out, for they are not of numbers: {_some(list(table.left_out))}")
    return table


def _label(table: "Table", data: Path) -> Any:
    if table.label is None:
        lacks = "has images without labels" if data.suffix == ".npz" else "has many columns"
        raise UserError(f"{data} {lacks}: name the column that is predicted with --label")
    return table.label


def _streams(seed: int, places: int) -> list[int | tuple[int, int]]:
    """A stream for each environment, for at one seed they would share rows; the seed itself for a single one."""
    return [seed] if places == 1 else [(seed, place) for place in range(1, places + 1)]


def _floats(option: str, text: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"{option} {text}: numbers, with commas between them") from error
    if len(set(found)) < len(found):
        raise UserError(f"{option} {text}: a number stands there twice")
    return found


def _write_samples(path: Path, samples: dict[float, Any]) -> None:
    """S1, ..., V1, ..., Y, and the environment where there are several."""
    import numpy as np

    first = next(iter(samples.values()))
    p, stable = first.X.shape[1], first.stable
    of = [f"S{j + 1}" if j < stable else f"V{j - stable + 1}" for j in range(p)]
    X = np.concatenate([sample.X for sample in samples.values()])
    columns: dict[str, Any] = dict(zip(of, X.T, strict=True))
    columns["Y"] = np.concatenate([sample.Y for sample in samples.values()])
    if len(samples) > 1:
        columns["environment"] = np.repeat(list(samples), len(first.Y))
    write(path, columns)
    places = f", environments {', '.join(f'{value:g}' for value in samples)}" if len(samples) > 1 else ""
    screen.say(f"{path}: {len(X):,} rows of {_some(of)} and Y{places}")


def _some(names: list[str]) -> str:
    return ", ".join(names if len(names) <= 12 else [*names[:6], "...", names[-1]])


def _error(error: float, kind: str) -> str:
    return f"{error:.2f} % wrong" if kind == "logistic" else f"root mean square error {error:.4f}"
