"""Writing simulated environments to a .csv file."""

from pathlib import Path
from typing import TYPE_CHECKING

from contrastkit.cli import screen
from contrastkit.cli.tables import abridged, write_csv

if TYPE_CHECKING:
    from contrastkit.stable.environments import Environments


def write(path: Path, environments: "Environments") -> None:
    columns = environments.columns()
    write_csv(path, columns)
    several = len(environments.samples) > 1
    values = ", ".join(f"{value:g}" for value in environments.samples)
    screen.say(
        f"{path}: {len(columns['Y']):,} rows of {abridged(environments.features)} and Y"
        + (f", environments {values}" if several else "")
    )
