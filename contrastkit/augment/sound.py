"""Views of sounds: a window of a clip, at a random position or in the middle."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from contrastkit.bounds import SAMPLES, check_fields
from contrastkit.rng import uniform
from contrastkit.types import Images, Modality


@dataclass(frozen=True, kw_only=True)
class Window:
    """A section of a sound, the view of :mod:`contrastkit.methods.cpc_audio`."""

    modalities = (Modality.SOUND,)

    size: Annotated[int, "samples of a window", SAMPLES]

    def __post_init__(self) -> None:
        check_fields(self)

    def shape(self, channels: int) -> tuple[int, int, int]:
        """Of a view."""
        return channels, 1, self.size


def windows(clips: Images, window: Window, *, seed: int, time: int, index: Tensor, v: int | Tensor) -> Tensor:
    """Random windows of each clip, as :func:`draw_starts` draws them.

    Args:
        clips: n tensors int16 [1, 1, T_i].
        index, v: as of :func:`contrastkit.augment.draw`.

    Returns:
        float32 [n, 1, 1, size] in [-1, 1], or [V * n, 1, 1, size], view by view.
    """
    lengths = torch.tensor([clip.shape[-1] for clip in clips])
    starts = draw_starts(window, lengths, seed=seed, time=time, index=index, v=v)
    views = [cut(clips, row, window.size) for row in starts.view(-1, len(clips)).tolist()]
    return torch.cat(views)


def draw_starts(window: Window, lengths: Tensor, *, seed: int, time: int, index: Tensor, v: int | Tensor) -> Tensor:
    """Uniformly random starts of windows in clips of ``lengths`` int64 [n]: int64 [n], or [V, n] where v is [V, 1].

    In a clip shorter than the window, the window starts anywhere and wraps around.
    """
    positions = torch.where(lengths >= window.size, lengths - window.size + 1, lengths)
    index, number = torch.broadcast_tensors(index, torch.as_tensor(v))
    u = uniform(seed, time, index.flatten(), number.flatten(), 1).view(index.shape)
    return (u * positions).long()


def middle(clips: Images, size: int) -> Tensor:
    """The middle window of each clip, as :func:`windows` returns it; shorter clips repeat from their start."""
    return cut(clips, [max(0, (clip.shape[-1] - size) // 2) for clip in clips], size)


def cut(clips: Images, starts: Sequence[int], size: int) -> Tensor:
    """[start, start + size) of each clip, wrapping around at its end: float32 [n, 1, 1, size]."""
    windows = [
        clip[..., torch.arange(start, start + size) % clip.shape[-1]] for clip, start in zip(clips, starts, strict=True)
    ]
    return torch.stack(windows).float() / 2**15
