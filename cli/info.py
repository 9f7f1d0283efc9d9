"""``contrastkit info``: versions, devices, kernels."""

from contrastkit.cli import screen
from contrastkit.cli.options import OutputOptions, takes_options
from contrastkit.cli.report import flat, write_reports


@takes_options
def info(*, output: OutputOptions) -> None:
    """Show versions, devices, and which kernel serves which op."""
    from contrastkit.run import environment

    details = environment()
    write_reports(details, output.json)
    rows = [(name, flat(value)) for name, value in details.items() if name not in ("started", "command", "kernels")]
    screen.pairs("contrastkit", rows)
    screen.pairs("kernels", [(name, flat(value)) for name, value in details["kernels"].items()])
