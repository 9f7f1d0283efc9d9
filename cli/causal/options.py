"""The options that the commands of ``contrastkit causal`` share."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from contrastkit.causal.names import Estimand
from contrastkit.cli.options import DataDir
from contrastkit.cli.tables import column_names
from contrastkit.errors import UserError

if TYPE_CHECKING:
    from contrastkit.causal.study import Study


@dataclass(frozen=True, kw_only=True)
class CovariateOptions:
    """A table, its treatment and its covariates."""

    data: Annotated[
        str, typer.Option(help="Table (.csv or .parquet), or named study: lalonde, lalonde-trial.", metavar="FILE|NAME")
    ]
    treatment: Annotated[
        str | None, typer.Option(help="Treatment column, of 0 and 1 \\[that of a named study].", metavar="COLUMN")
    ] = None
    covariates: Annotated[
        str,
        typer.Option(
            help="Columns to adjust for, separated by commas; text becomes indicators, and an .npz file of "
            "'contrastkit embed' contributes its features \\[those of a named study].",
            metavar="COLUMN,...",
        ),
    ] = ""
    components: Annotated[
        int,
        typer.Option(help="Principal components of the features in an .npz file; 0 uses all of them unreduced.", min=0),
    ] = 10
    data_dir: DataDir = None

    def column_names(self) -> list[str]:
        return column_names(self.covariates)

    def read(self, outcome: str | None = None) -> "Study":
        """Read the study, with the outcome in this column."""
        from contrastkit.causal.study import read
        from contrastkit.directories import data_directory

        return read(
            self.data,
            treatment=self.treatment,
            outcome=outcome,
            covariates=self.column_names(),
            data_dir=data_directory(self.data_dir),
            components=self.components,
        )


@dataclass(frozen=True, kw_only=True)
class StudyOptions(CovariateOptions):
    """A table, its treatment, its covariates and its outcome."""

    outcome: Annotated[str | None, typer.Option(help="Outcome column \\[that of a named study].", metavar="COLUMN")] = (
        None
    )

    def read_with_outcome(self) -> "Study":
        """The study, with the default outcome of a named study if none is given."""
        from contrastkit.causal.sets import NAMED

        default = NAMED[self.data].outcome if self.data in NAMED else None
        return self.read(self.outcome or default)


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

    def alpha(self) -> float | Literal["crump"]:
        """The trimming threshold, or crump."""
        if self.trim == "crump":
            return "crump"
        try:
            return float(self.trim)
        except ValueError as error:
            raise UserError(f"--trim {self.trim}: give a number from 0 to 0.5, or crump") from error
