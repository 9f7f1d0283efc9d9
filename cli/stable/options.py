"""The options that the commands of ``contrastkit stable`` share."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contrastkit.bounds import COUNT, COUNT_OR_0
from contrastkit.cli import screen
from contrastkit.cli.files import out_file
from contrastkit.cli.options import Seed
from contrastkit.cli.tables import ReadingOptions, column_names, write_csv
from contrastkit.errors import listed

if TYPE_CHECKING:
    from contrastkit.stable.environments import Environments
    from contrastkit.stable.reweight import Reweighting
    from contrastkit.stable.table import Table

OutRows = Annotated[Path, out_file("the rows", ".csv")]
Width = Annotated[int, typer.Option(help="Number of features."), COUNT]
Components = Annotated[
    int | None,
    typer.Option(
        help="Principal components to compute the weights from; 0 for the features themselves \\[20 for an .npz file, "
        "else 0]."
    ),
    COUNT_OR_0,
]


@dataclass(frozen=True, kw_only=True)
class LabelledOptions(ReadingOptions):
    """A table and the roles of its columns."""

    data: Annotated[
        Path,
        typer.Option(help="Table (.csv, .tsv or .parquet), or the .npz file of 'contrastkit embed'.", metavar="FILE"),
    ]
    label: Annotated[
        str | None, typer.Option(help="Column to predict \\[the labels of an .npz file].", metavar="COLUMN")
    ] = None
    environment: Annotated[
        str | None, typer.Option(help="Column that names each row's environment.", metavar="COLUMN")
    ] = None

    def read(self, features: Sequence[str] = ()) -> "Table":
        """Read the table, with these features, or with all numeric columns that have no other role; say which are no
        features."""
        from contrastkit.stable.table import read

        how = self.how_to_read()
        table = read(self.data, features=features, label=self.label, environment=self.environment, **how)
        for reason, columns in table.left_out.items():
            screen.say(f"no features, because {reason}: {listed(columns, 12)} (choose with --features)")
        return table


@dataclass(frozen=True, kw_only=True)
class TableOptions(LabelledOptions):
    """A table, the roles of its columns, and its features."""

    features: Annotated[
        str,
        typer.Option(
            help="Feature columns, separated by commas \\[all numeric ones except label, environment and identifiers].",
            metavar="COLUMN,...",
        ),
    ] = ""

    def read_features(self) -> "Table":
        return self.read(column_names(self.features))


@dataclass(frozen=True, kw_only=True)
class EnvironmentOptions:
    """Simulated environments, and the table they are written to."""

    out: OutRows
    n: Annotated[int, typer.Option(help="Rows in each environment."), COUNT] = 2000
    p: Width = 10
    seed: Seed = 0

    def write(self, environments: "Environments") -> None:
        columns = environments.columns()
        write_csv(self.out, columns)
        several = len(environments.samples) > 1
        values = ", ".join(f"{value:g}" for value in environments.samples)
        screen.say(
            f"{self.out}: {len(columns['Y']):,} rows of {listed(environments.features, 12)} and Y"
            + (f", environments {values}" if several else "")
        )


def print_notices(reweighting: "Reweighting") -> None:
    if not reweighting.converged:
        screen.say("the optimiser stopped before it converged; its limit on the number of steps is part of the method")
    for notice in reweighting.notices:
        screen.say(notice)
