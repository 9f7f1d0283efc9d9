"""Writing simulated environments to a .csv file."""

from pathlib import Path
from typing import TYPE_CHECKING

from contrastkit.cli import screen
from contrastkit.cli.tables import write_csv
from contrastkit.errors import listed

if TYPE_CHECKING:
    from contrastkit.stable.environments import Environments


def write(path: Path, environments: "Environments") -> None:
    columns = environments.columns()
    write_csv(path, columns)
    several = len(environments.samples) > 1
    values = ", ".join(f"{value:g}" for value in environments.samples)
    screen.say(
        f"{path}: {len(columns['Y']):,} rows of {listed(environments.features, 12)} and Y"
        + (f", environments {values}" if several else "")
    )
