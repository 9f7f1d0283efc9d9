"""How alike the layers of two encoders are: linear CKA (Kornblith et al. 2019, arXiv:1905.00414, Eq. 4)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from contrastkit.data import Source, plain_batches
from contrastkit.errors import UserError
from contrastkit.figures import chart, plain, shortened
from contrastkit.parts.build import ProjectedTrunk
from contrastkit.parts.encoder import Encoder, SplitEncoder
from contrastkit.parts.mode import evaluating

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BATCH = 256  # images compared with one another
FEWEST = 4  # for an unbiased estimate
COLUMNS = 2**16  # of activations at once, in float64
NUMBERED = 24  # layers whose values fit into the cells
FEATURES = "features"  # the last layer


@dataclass(frozen=True, slots=True)
class Cka:
    """Result of :func:`cka`: of the layers of two encoders, in the order of depth."""

    encoder: str
    other: str
    images: int  # on which they are compared
    layers: tuple[str, ...]
    other_layers: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]  # [layer][other layer], at most 1; NaN for a layer that does not vary


def hsic(K: Tensor, L: Tensor) -> Tensor:
    """Unbiased HSIC of every kernel matrix of K with every one of L (Song et al. 2012, Eq. 5), as the inner product of
    U-centred matrices (Szekely & Rizzo 2014, Sec. 3), divided by n (n - 3).

    Args:
        K, L: float64 [k, n, n] and [l, n, n], n > 3.

    Returns:
        float64 [k, l].
    """
    n = K.shape[-1]
    return _centred(K).flatten(1) @ _centred(L).flatten(1).T / (n * (n - 3))


def _centred(K: Tensor) -> Tensor:
    """U-centred: the diagonal is 0, and the sum of each row."""
    n = K.shape[-1]
    K = K.clone()
    K.diagonal(dim1=1, dim2=2).zero_()
    means = K.sum(2) / (n - 2)
    means -= means.sum(1, keepdim=True) / (2 * (n - 1))
    K -= means[:, :, None] + means[:, None, :]
    K.diagonal(dim1=1, dim2=2).zero_()
    return K


def gram(x: Tensor) -> Tensor:
    """The linear kernel of activations [n, ...]: float64 [n, n]."""
    total = torch.zeros(len(x), len(x), dtype=torch.float64, device=x.device)
    for part in x.flatten(1).split(COLUMNS, dim=1):
        part = part.double()
        total += part @ part.T
    return total.cpu()


class CkaSum:
    """Minibatch CKA (Nguyen, Raghu & Kornblith 2021, arXiv:2010.15327, Eq. 2 to 4): the unbiased HSIC of each batch is
    averaged over the batches before the division, so that the memory does not grow with the number of images, and the
    expectation does not depend on the size of a batch."""

    def __init__(self) -> None:
        self._cross: Tensor | float = 0.0
        self._own: Tensor | float = 0.0
        self._other: Tensor | float = 0.0

    def add(self, K: Tensor, L: Tensor) -> None:
        """The kernel matrices of a batch: float64 [k, n, n] and [l, n, n]."""
        self._cross = self._cross + hsic(K, L)
        self._own = self._own + hsic(K, K).diagonal()
        self._other = self._other + hsic(L, L).diagonal()

    def values(self) -> Tensor:
        """float64 [k, l]; NaN for a layer that does not vary."""
        assert isinstance(self._own, Tensor) and isinstance(self._other, Tensor)
        scale = (self._own[:, None] * self._other).sqrt()
        return torch.where(scale > 0, self._cross / scale, torch.nan)


@torch.no_grad()
def cka(
    encoders: Sequence[tuple[str, nn.Module, int]],
    source: Source,
    *,
    batch: int,
    workers: int,
    max_bad: float,
    device: str | torch.device,
    on_batch: Any = None,
) -> Cka:
    """CKA of the layers of two encoders on the same images. Activations are compared position by position, flattened,
    as in the paper.

    Args:
        encoders: name, encoder and side of its images, of the two.
        source: images that can be read.
        batch: images encoded at once, at most; they are compared among themselves.
        on_batch: called after each batch with its number of images.

    Raises:
        UserError: fewer than four images, or an encoder that cannot take them.
    """
    n = len(source)
    if n < FEWEST:
        raise UserError(f"--cka compares four images or more, not {n}")
    size = max(FEWEST, -(-n // -(-n // max(FEWEST, min(batch, BATCH)))))  # equal batches
    how: dict[str, Any] = {"batch": size, "workers": workers, "max_bad": max_bad}
    streams = [
        _grams(encoder, plain_batches(source, size=side, channels=_channels(encoder), **how), device)
        for _, encoder, side in encoders
    ]
    total, images = CkaSum(), 0
    names: list[tuple[str, ...]] = [(), ()]
    for first, second in zip(*streams, strict=True):
        if (m := len(next(iter(first.values())))) >= FEWEST:
            total.add(torch.stack(list(first.values())), torch.stack(list(second.values())))
            images, names = images + m, [tuple(first), tuple(second)]
        if on_batch is not None:
            on_batch(m)
    values = tuple(map(tuple, total.values().tolist()))
    return Cka(encoders[0][0], encoders[1][0], images, names[0], names[1], values)


def _channels(encoder: nn.Module) -> int | None:
    return encoder.channels if isinstance(encoder, Encoder) else None


def _grams(encoder: nn.Module, batches: Iterator[Any], device: str | torch.device) -> Iterator[dict[str, Tensor]]:
    """The kernel matrices [n, n] of each layer, for each batch."""
    encoder.to(device)
    for batch in batches:
        found: dict[str, Tensor] = {}
        n = len(batch.index)

        def keep(name: str, found: dict[str, Tensor] = found, n: int = n) -> Any:
            # reshaped, because a trunk of patches sees those of an image one behind the other
            return lambda module, inputs, output: found.update({name: gram(output.reshape(n, -1))})

        hooks = [module.register_forward_hook(keep(name)) for name, module in layers(encoder).items()]
        try:
            with evaluating(encoder), torch.no_grad():
                out = encoder(batch.views[0].to(device, memory_format=torch.channels_last))
        finally:
            for hook in hooks:
                hook.remove()
        yield found | {FEATURES: gram(out)}


def layers(encoder: nn.Module) -> dict[str, nn.Module]:
    """The modules after which an encoder is compared, by name, in the order of depth: the stages of a convolutional
    trunk, the blocks of a vision transformer; of an unknown one none, but its features are always compared."""
    if isinstance(encoder, SplitEncoder):
        of_each = zip(encoder.views, map(_of_trunk, encoder.trunk), strict=True)
        return {f"{view} {name}": module for view, each in of_each for name, module in each.items()}
    return _of_trunk(encoder.trunk) if isinstance(encoder, Encoder) else {}


def _of_trunk(trunk: Any) -> dict[str, nn.Module]:
    if isinstance(trunk, ProjectedTrunk):
        return _of_trunk(trunk[0])
    for kind in ("blocks", "stages"):
        if isinstance(found := getattr(trunk, kind, None), nn.Sequential | nn.ModuleList):
            return {f"{kind[:-1]} {i}": module for i, module in enumerate(found, start=1)}
    stages = {f"layer{i}": getattr(trunk, f"layer{i}", nn.Identity()) for i in range(1, 5)}  # of a ResNet
    return {name: module for name, module in stages.items() if next(module.parameters(), None) is not None}


def cka_chart(path: Path, result: Cka) -> None:
    """Draw the matrix, as a PNG."""
    rows, columns = len(result.layers), len(result.other_layers)
    note = (
        f"Linear CKA of {result.images:,} images, unbiased, averaged over batches: 1 for the same up to rotation and "
        "scale, 0 for unrelated layers; a value below 0 is one of 0 with the error of sampling."
    )
    title = f"Layers of {result.encoder} beside {result.other}: CKA"
    with chart(path, title, height=min(9.0, 2.4 + 0.42 * rows), note=note) as figure:
        axes = figure.subplots()
        shown = axes.imshow(result.values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        _name_axes(axes, result)
        if max(rows, columns) <= NUMBERED:
            for i, row in enumerate(result.values):
                for j, value in enumerate(row):
                    colour = "white" if value > 0.6 else "black"
                    axes.text(j, i, f"{value:.2f}", ha="center", va="center", size=8, color=colour)
        figure.colorbar(shown, ax=axes, label="CKA")


def _name_axes(axes: "Axes", result: Cka) -> None:
    axes.grid(visible=False)
    for axis, names in ((axes.yaxis, result.layers), (axes.xaxis, result.other_layers)):
        axis.set_ticks(range(len(names)), [plain(shortened(name, 24)) for name in names])
    if len(result.other_layers) > 8:
        axes.tick_params("x", rotation=45)
    axes.set_ylabel(f"layers of {plain(shortened(result.encoder, 40))}")
    axes.set_xlabel(f"layers of {plain(shortened(result.other, 60))}")
