"""``contrastkit info``: versions, devices, kernels."""

from contrastkit.cli import screen
from contrastkit.cli.options import OutputOptions, takes_options
from contrastkit.cli.results import flat, write_reports

BUILT_WITH = {
    "torch": "torch",
    "compiler": "compiler",
    "CPU kernels": "isas",
    "in use": "isa",
    "CUDA": "cuda",
    "CUDA architectures": "cuda_archs",
}


@takes_options
def info(*, output: OutputOptions) -> None:
    """Show versions, devices, and the kernels in use."""
    from contrastkit.environment import environment

    details = environment()
    write_reports(details, output.json)
    rows = [
        (name, flat(value))
        for name, value in details.items()
        if name not in ("started", "command", "folder", "kernels")
    ]
    screen.pairs("contrastkit", rows)
    kernels = details["kernels"]
    screen.words("\nkernels", ("op", "cpu", "cuda"), [(op, on["cpu"], on["cuda"]) for op, on in kernels["ops"].items()])
    if kernels["extension"] is None:
        screen.say(f"\ncompiled extension: not in use ({kernels['aside']})")
    else:
        built = kernels["extension"]
        built_with = [(name, flat(built[key]) or "none") for name, key in BUILT_WITH.items()]
        screen.say("")
        screen.pairs("compiled extension", built_with)
