"""The options that the commands of ``contrastkit causal`` share."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contrastkit.bounds import COUNT_OR_0, FOLDS, Interval
from contrastkit.causal.names import Estimand, Measure
from contrastkit.cli import screen
from contrastkit.cli.options import DataDir
from contrastkit.cli.tables import ReadingOptions, column_names
from contrastkit.tables.incomplete import Incomplete

if TYPE_CHECKING:
    from contrastkit.causal.columns import Columns
    from contrastkit.causal.form import Form
    from contrastkit.causal.models import Models
    from contrastkit.causal.study import Study, Units


Graph = Annotated[
    str | None,
    typer.Option(
        help="Causal graph, as 'contrastkit causal graph' takes it, that chooses the columns or checks those given.",
        metavar="GRAPH",
    ),
]


@dataclass(frozen=True, kw_only=True)
class TableOptions(ReadingOptions):
    """A table whose columns the command gives roles."""

    data: Annotated[
        str,
        typer.Option(
            help="Table (.csv, .tsv or .parquet), or named study: lalonde, lalonde-trial, nhefs.", metavar="FILE|NAME"
        ),
    ]
    data_dir: DataDir = None

    def open(self) -> "Columns":
        from contrastkit.causal.columns import open_columns
        from contrastkit.directories import data_directory

        return open_columns(self.data, data_dir=data_directory(self.data_dir), **self.how_to_read())


Treated = Annotated[
    str | None,
    typer.Option(help="Value of the treatment that counts as treated \\[1 of 0 and 1].", metavar="VALUE"),
]
Untreated = Annotated[
    str | None,
    typer.Option(
        help="With --treated: the value to compare with, of more than two; rows of other values are left out.",
        metavar="VALUE",
    ),
]
OutcomeValue = Annotated[
    str | None,
    typer.Option(help="Value of the outcome that counts as 1, all others as 0, as for words.", metavar="VALUE"),
]


@dataclass(frozen=True, kw_only=True)
class UnitColumns(ReadingOptions):
    """A table, its treatment and its covariates."""

    data: Annotated[
        str,
        typer.Option(
            help="Table (.csv, .tsv or .parquet), or named study: lalonde, lalonde-trial, nhefs.", metavar="FILE|NAME"
        ),
    ]
    treatment: Annotated[
        str | None, typer.Option(help="Treatment column \\[that of a named study].", metavar="COLUMN")
    ] = None
    covariates: Annotated[
        str,
        typer.Option(
            help="Columns to adjust for, separated by commas; text becomes indicators, and an .npz file of "
            "'contrastkit embed' contributes its features \\[those of a named study].",
            metavar="COLUMN,...",
        ),
    ] = ""
    data_dir: DataDir = None


@dataclass(frozen=True, kw_only=True)
class FormOptions:
    """What becomes of covariates."""

    formula: Annotated[
        str | None,
        typer.Option(
            help="Instead of --covariates, their terms in R's language, as in 'age + I(age**2) + C(city) + age:sex'.",
            metavar="TERMS",
        ),
    ] = None
    categorical: Annotated[
        str, typer.Option(help="Covariates that are factors although they are numbers.", metavar="COLUMN,...")
    ] = ""
    incomplete: Annotated[
        Incomplete,
        typer.Option(
            help="Missing values: refuse them, drop their rows, or fill those of covariates and add an indicator."
        ),
    ] = "refuse"
    moments: Annotated[int, typer.Option(help="Also powers of numeric covariates, up to this one."), Interval(1, 5)] = 1
    interactions: Annotated[bool, typer.Option("--interactions", help="Also the products of each two covariates.")] = (
        False
    )
    components: Annotated[
        int,
        typer.Option(help="Principal components of the features in an .npz file; 0 uses all of them unreduced."),
        COUNT_OR_0,
    ] = 10

    def form(self) -> "Form":
        from contrastkit.causal.form import Form

        given = {item.name: getattr(self, item.name) for item in fields(FormOptions)}
        return Form(**given | {"categorical": tuple(column_names(self.categorical))})


@dataclass(frozen=True, kw_only=True)
class UnitOptions(FormOptions, UnitColumns):
    """A table, its treatment, its covariates and their form."""

    def reading(self) -> dict[str, Any]:
        """The fields as arguments of :func:`contrastkit.causal.study.read`."""
        from contrastkit.directories import data_directory

        others = {item.name for kind in (ReadingOptions, FormOptions) for item in fields(kind)}
        values: dict[str, Any] = {name: value for name, value in vars(self).items() if name not in others}
        values["source"] = values.pop("data")
        values |= {"covariates": column_names(self.covariates), "data_dir": data_directory(self.data_dir)}
        return values | {"form": self.form()} | self.how_to_read()


@dataclass(frozen=True, kw_only=True)
class CovariateOptions(UnitOptions):
    """A table, its treatment of two arms, and its covariates."""

    treated: Treated = None
    untreated: Untreated = None

    def read(self) -> "Study":
        """Read the study, and say what was chosen, filled or left out."""
        from contrastkit.causal.study import read

        study = read(**self.reading())
        screen.lines(study.notices)
        return study


@dataclass(frozen=True, kw_only=True)
class OutcomeOptions:
    """The outcome."""

    outcome: Annotated[str | None, typer.Option(help="Outcome column \\[that of a named study].", metavar="COLUMN")] = (
        None
    )
    outcome_value: OutcomeValue = None


@dataclass(frozen=True, kw_only=True)
class StudyOptions(CovariateOptions, OutcomeOptions):
    """A table, its treatment of two arms, its covariates and its outcome."""

    graph: Graph = None


@dataclass(frozen=True, kw_only=True)
class FollowUpOptions(CovariateOptions):
    """A table, its treatment of two arms, its covariates, and the times until an event or the end of follow-up."""

    time: Annotated[
        str | None,
        typer.Option(
            help="Column of the times until the event or the end of follow-up \\[that of a named study].",
            metavar="COLUMN",
        ),
    ] = None
    event: Annotated[
        str | None,
        typer.Option(
            help="Column that tells whether a time is that of an event, 1, or of the end of follow-up, 0 \\[that of a "
            "named study].",
            metavar="COLUMN",
        ),
    ] = None
    event_value: Annotated[
        str | None,
        typer.Option(help="Value of the event's column that counts as an event, all others as none.", metavar="VALUE"),
    ] = None

    def reading(self) -> dict[str, Any]:
        values = super().reading()
        del values["event_value"]
        return values | {"outcome": values.pop("event")}


@dataclass(frozen=True, kw_only=True)
class UnitsWithOutcome(UnitOptions, OutcomeOptions):
    """A table, its treatment of any values, its covariates and its outcome."""

    graph: Graph = None

    def read(self) -> "Units":
        from contrastkit.causal.study import read_units

        units = read_units(**self.reading())
        screen.lines(units.notices)
        return units


def model_name(text: str) -> str:
    """The name of a model, in any case; a class is taken as it is written."""
    return text if ":" in text else text.lower()


PropensityModelName = Annotated[
    str,
    typer.Option(
        help="Model of the treatment; all but logistic are cross-fitted. A class is one of scikit-learn's kind.",
        metavar="logistic|lasso|forest|boost|PACKAGE.MODULE:CLASS",
        parser=model_name,
    ),
]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The models of outcome and treatment, and their cross-fitting."""

    outcome_model: Annotated[
        str,
        typer.Option(
            help="Model of the outcome in aipw, dml and tlearner. A class is one of scikit-learn's kind.",
            metavar="linear|logistic|lasso|forest|boost|PACKAGE.MODULE:CLASS",
            parser=model_name,
        ),
    ] = "linear"
    propensity_model: PropensityModelName = "logistic"
    folds: Annotated[
        int, typer.Option(help="Cross-fitting folds of aipw, dml and tlearner, 0 for none (linear models only)."), FOLDS
    ] = 5
    repeats: Annotated[
        int, typer.Option(help="Times that the folds are drawn; the median is reported."), Interval(1, 1000)
    ] = 3
    clip: Annotated[
        float,
        typer.Option(help="In aipw: distance from 0 and 1 to which scores are clipped where they divide."),
        Interval(0, 0.5, below=True),
    ] = 0.01

    def as_models(self) -> "Models":
        from contrastkit.causal.models import Models

        return Models(self.outcome_model, self.propensity_model, self.folds, self.repeats, self.clip)


@dataclass(frozen=True, kw_only=True)
class WeightingOptions:
    """The population that weights represent, and trimming."""

    estimand: Annotated[Estimand, typer.Option(help="Population that the weights represent.")] = "ATT"
    trim: Annotated[
        str,
        typer.Option(
            help="With ipw: drop units with scores below A or above 1 - A; crump chooses A.", metavar="A|crump"
        ),
    ] = "0"
    propensity_model: PropensityModelName = "logistic"


MeasureOption = Annotated[
    Measure,
    typer.Option(
        help="How an effect compares mean outcomes: ratio is the risk or rate ratio; odds-ratio is that of the means."
    ),
]
WeightsFile = Annotated[
    Path | None,
    typer.Option(help="Instead of --by: the column weight of this table, with a row for each unit.", metavar="FILE"),
]
SampleWeight = Annotated[str | None, typer.Option(help="Column of the weights of units in a survey.", metavar="COLUMN")]
Cluster = Annotated[
    str | None,
    typer.Option(
        help="Column of labels, such as sites or pairs: units that share one may depend on one another.",
        metavar="COLUMN",
    ),
]
