"""The trained encoder of a run: what all exports start from."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from contrastkit.errors import UserError
from contrastkit.evaluate.fit import require_size
from contrastkit.export.description import Description
from contrastkit.loading import load_encoder
from contrastkit.parts.build import set_image_size
from contrastkit.parts.encoder import Encoder, WaveEncoder
from contrastkit.record import Record
from contrastkit.run import ENCODER, Run

FILE = "'FILE'"  # stands for the path of an exported file in the lines of code that load it


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedEncoder:
    """An encoder in eval mode on the CPU, with the record of its run.

    Attributes:
        size: side of its input images in pixels; of sounds, length in samples.
        step: steps of training behind it, if known.
        epoch: likewise, the last epoch that was recorded.
        finished: whether the training is; otherwise the encoder is that of the last checkpoint.
    """

    path: Path
    record: Record
    encoder: Encoder
    size: int
    step: int | None
    epoch: int | None
    finished: bool

    @classmethod
    def open(cls, path: Path, *, size: int | None = None, module: nn.Module | None = None) -> "TrainedEncoder":
        """The encoder of a run folder.

        Args:
            size: None is as trained.
            module: see ``encoder`` of :func:`contrastkit.loading.load`.

        Raises:
            UserError: no run, no checkpoint yet, weights that do not fit, or a size that the encoder does not take.
        """
        run = Run.open(path)
        record, rows = run.record, run.metrics()
        encoder = load_encoder(run, record, module)
        finished = (path / ENCODER).exists()
        last = rows[-1] if rows else {}
        step, epoch = last.get("step") if finished else run.load().step, last.get("epoch")
        size = record.encoder["size"] if size is None else size
        require_size(record.encoder["name"], size)
        set_image_size(encoder, size)
        return cls(
            path=path,
            record=record,
            encoder=encoder,
            size=size,
            step=None if step is None else int(step),
            epoch=None if epoch is None else int(epoch),
            finished=finished,
        )

    @property
    def description(self) -> Description:
        return Description.of(self.encoder, self.record, step=self.step, size=self.size)

    @property
    def input(self) -> str:
        """The name of the input."""
        return "sounds" if isinstance(self.encoder, WaveEncoder) else "images"

    @property
    def input_text(self) -> str:
        """Type, shape and range of the input."""
        sound = isinstance(self.encoder, WaveEncoder)
        shape = ", ".join(map(str, self.shape))
        return f"float32 [N, {shape}] in [{-1 if sound else 0}, 1]"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image [channels, size, size], or one sound [1, 1, size]."""
        return self.encoder.channels, 1 if isinstance(self.encoder, WaveEncoder) else self.size, self.size

    def examples(self, n: int) -> Tensor:
        """n random images or sounds float32, the same ones at each call."""
        draws = torch.rand(n, *self.shape, generator=torch.Generator().manual_seed(0))
        return 2 * draws - 1 if isinstance(self.encoder, WaveEncoder) else draws

    @torch.no_grad()
    def features(self, examples: Tensor) -> Tensor:
        """float32 [n, features]."""
        return self.encoder(examples)

    def refuse(self, library: str, reason: str) -> UserError:
        """The error that this encoder is no network of a library."""
        return UserError(
            f"{self.path} cannot be exported to {library}: {reason}; --to torch and --to onnx take any encoder"
        )
