"""Options of the commands of ``contrastkit transfer``, and where their results go."""

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contrastkit.cli import screen
from contrastkit.cli.options import Device, InitFrom, OutputOptions, Seed, Workers
from contrastkit.cli.results import noticing, write_reports
from contrastkit.errors import UserError

if TYPE_CHECKING:
    from contrastkit.transfer import DetectReport, SegmentReport, TransferSubject


@dataclass(frozen=True, kw_only=True)
class TransferOptions(OutputOptions):
    """The encoder, and the lists and files of its evaluation."""

    run: Annotated[Path | None, typer.Argument(help="Run folder written by 'contrastkit train'.", metavar="RUN")] = None
    encoder: Annotated[
        str | None,
        typer.Option(help="Use this encoder instead of a run: tiny, a torchvision ResNet, timm:NAME.", metavar="NAME"),
    ] = None
    pretrained: Annotated[bool, typer.Option("--pretrained", help="With --encoder: load its published weights.")] = (
        False
    )
    init_from: InitFrom = None
    baselines: Annotated[
        bool,
        typer.Option("--baselines", help="Also evaluate the encoder untrained, and with published weights, if any."),
    ] = False
    train_list: Annotated[
        str | None,
        typer.Option(help="List of the training images, without .txt \\[by its usual name].", metavar="NAME"),
    ] = None
    test_list: Annotated[str | None, typer.Option(help="List of the test images, likewise.", metavar="NAME")] = None
    workers: Workers = None
    device: Device = "auto"
    seed: Seed = 0
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of report, sheet and unfinished trainings \\[RUN/transfer; without RUN, none].", metavar="DIR"
        ),
    ] = None

    restart: Annotated[bool, typer.Option("--restart", help="Discard an unfinished training with other options.")] = (
        False
    )

    def open(self) -> "TransferSubject":
        from contrastkit.transfer import TransferSubject

        names = ("run", "encoder", "pretrained", "init_from", "baselines", "workers", "device", "seed")
        return TransferSubject.open(**{name: getattr(self, name) for name in names})

    def folder(self) -> Path | None:
        """The folder of the results, which is made when there are some.

        Raises:
            UserError: it cannot be made or written.
        """
        out = self.out or (self.run and self.run / "transfer")
        if out is not None:
            there = next(folder for folder in (out, *out.parents, Path()) if folder.exists())
            if not there.is_dir():
                raise UserError(f"--out {out} cannot be made: {there} is there, and it is no folder")
            if not os.access(there, os.W_OK):
                raise UserError(f"--out {out} cannot be written: no permission in {there}")
        return out

    def write(self, name: str, report: "DetectReport | SegmentReport", classes: Sequence[str], shown: str) -> None:
        """Write report and sheet to the folder, if there is one, and the report to --json. That the run's own folder
        cannot be written is said, not raised.

        Args:
            name: of both files, without their endings.
            classes: names of the classes.
            shown: what is on the sheet.
        """
        folder = self.folder()
        own = folder and folder / name
        if own is not None:
            sheet = own.with_name(f"{own.name}.png")
            with noticing(sheet) if self.out is None else nullcontext():
                own.parent.mkdir(parents=True, exist_ok=True)
                report.draw(sheet, classes)
                screen.say(f"{shown}: {sheet}")
        write_reports(report.as_json(), self.json, own and own.with_name(f"{own.name}.json"))
