"""What ``--init-from`` takes: a run folder, a file of weights, or published ones by name."""

from dataclasses import replace

from contrastkit.directories import given_path
from contrastkit.errors import UserError
from contrastkit.parts.published import PUBLISHED, published_weights
from contrastkit.parts.weights import Weights, read_weights
from contrastkit.run import ENCODER, Run


def open_weights(source: str) -> Weights:
    """Starting weights for an encoder.

    Args:
        source: a run folder, whose encoder is taken, of its last checkpoint if it is unfinished;
            a file, see :func:`contrastkit.parts.weights.read_weights`;
            or ``pretrained:NAME``, a torchvision model or ``timm:NAME``.

    Raises:
        UserError: no such source, no checkpoint yet, or nothing readable.
    """
    if source.startswith(PUBLISHED):
        return published_weights(source.removeprefix(PUBLISHED))
    path = given_path(source)
    if not path.is_dir():
        return read_weights(path)
    run = Run.open(path)
    encoder = run.record.encoder
    file = next((file for file in (run.path / ENCODER, run.last) if file.exists()), None)
    if file is None:
        raise UserError(f"{path} has saved no weights yet: wait for its first checkpoint, or resume it")
    weights = read_weights(file)
    return replace(weights, encoder=encoder["name"], size=encoder["size"])
