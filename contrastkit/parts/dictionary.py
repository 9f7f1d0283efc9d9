"""Dictionaries in which queries are looked up."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastkit import dist, ops, rng
from contrastkit.errors import UserError
from contrastkit.memory import require_room


class Queue(nn.Module):
    """The newest K keys, first in, first out (MoCo, Sec. 3.2).

    It starts full of random unit vectors, as in the official code; K need not be a multiple of the batch.

    Attributes:
        keys: [K, C] float32 unit vectors.
        pointer: 0-dim int64, where the next key goes; it stays on the device.
        n_valid: 0-dim int64, number of pushed keys; None unless ``counted``.
    """

    keys: Tensor
    pointer: Tensor
    n_valid: Tensor | None

    def __init__(self, K: int, C: int, generator: torch.Generator, *, counted: bool = False) -> None:
        super().__init__()
        require_room(2 * 4 * K * C, f"a queue of {K:,} keys of {C:,} dimensions", "the number of keys, or --dim")
        first = torch.randn(K, C, generator=generator, device=generator.device)
        self.register_buffer("keys", F.normalize(first, dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))
        self.register_buffer("n_valid", torch.zeros((), dtype=torch.int64) if counted else None)
        self._full = False

    @torch.no_grad()
    def push(self, k: Tensor) -> None:
        """Write unit-length keys [N, C] over the oldest ones."""
        ops.queue_push_(self.keys, self.pointer, k, n_valid=self.n_valid)

    @property
    def full(self) -> bool:
        """Whether all random keys have been overwritten. Waits for the device until they have."""
        assert self.n_valid is not None
        self._full = self._full or bool(self.n_valid == self.keys.shape[0])
        return self._full


class MemoryBank(nn.Module):
    """A vector for every image or for each of its V views (InstDisc, Sec. 3; CMC, Sec. 3.4), and NCE's constants Z.

    Rows start uniform in [-s, s] with s = 1 / sqrt(C / 3), as in the official codes: their root-mean-square length is
    1, and they are normalised only when first written.

    Attributes:
        rows: [M, C] or [M, V, C].
        Z: float32 [S] or [S, V], the normalising constants of the S look-ups of a step; 0 while unset.
        is_set: whether Z is set; kept on the host, so that no step waits for the device. Part of the state.
    """

    rows: Tensor
    Z: Tensor

    def __init__(
        self, *shape: int, generator: torch.Generator, dtype: torch.dtype = torch.float32, look_ups: int = 1
    ) -> None:
        """``shape``: shape of the rows; ``look_ups``: S."""
        super().__init__()
        what = f"a memory bank of {' x '.join(f'{n:,}' for n in shape)} numbers"
        require_room(2 * 4 * math.prod(shape), what, "--dim, or train on fewer images")
        s = 1 / math.sqrt(shape[-1] / 3)
        rows = torch.rand(shape, generator=generator, device=generator.device).mul_(2 * s).sub_(s)
        self.register_buffer("rows", rows.to(dtype))
        self.register_buffer("Z", torch.zeros(look_ups, *shape[1:-1]))
        self.is_set = False

    @staticmethod
    def check(images: int, K: int) -> None:
        """Check that there are enough images to draw from.

        Raises:
            UserError: there are not.
        """
        if images < 2:
            raise UserError("a memory bank needs at least two images: give more")
        if images < K:
            raise UserError(f"--K {K} draws are more than the {images} images to draw from: lower --K")

    @staticmethod
    def chance_loss(K: int, *, nce: bool) -> float:
        """The loss of a query that is equally similar to its own row and the K drawn ones: the softmax's, or NCE's."""
        return math.log(1 + K) + (K * math.log1p(1 / K) if nce else 0)

    def draw(
        self, index: Tensor, K: int, *, seed: int, progress: float, others: "OtherClasses | None" = None
    ) -> Tensor:
        """Rows to look up, int64 [n, 1 + K]: each image's own, then K drawn from all rows, or from ``others``.

        Draws may repeat or, of all rows, equal the own row, as in the official codes of InstDisc and CMC. They are a
        function of (seed, progress, index), the same on any device and for any number of processes.
        """
        u = rng.uniform(seed, rng.at_step(progress), index, rng.NEGATIVES, K)
        drawn = (u * len(self.rows)).long() if others is None else others(u, index)
        return torch.cat([index[:, None], drawn], dim=1)

    def nce(
        self, query: Tensor, drawn: Tensor, *, tau: float, m_z: float = 1.0, look_up: int = 0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Noise-contrastive estimation (InstDisc, Eqs. 4 to 7) of queries [n, C] or [n, V, C] among their drawn rows.

        Z is estimated from the first batch of all processes, M times the mean of exp(q.r / tau) (Sec. 3.2), and then
        moves by 1 - m_z per step: with m_z = 1 it is constant.

        Returns:
            loss and top1, [n] or [n, V], as of :func:`contrastkit.ops.bank_loss`; Z to be stored, [] or [V].
        """
        Z = self.Z[look_up].clone()  # what is returned must not be a view of the state
        if not self.is_set:
            with torch.no_grad():
                _, lse, _ = ops.bank_loss(query, self.rows, drawn, tau=tau)
            Z = self._estimate(lse, drawn)
        loss, lse, top1 = ops.bank_loss(query, self.rows, drawn, tau=tau, Z=Z)
        return loss, top1, Z if m_z == 1 else Z.lerp(self._estimate(lse, drawn), 1 - m_z)

    def _estimate(self, lse: Tensor, drawn: Tensor) -> Tensor:
        return dist.all_reduce_mean(lse.exp().mean(0)) * (len(self.rows) / drawn.shape[1])

    @torch.no_grad()
    def update(self, index: Tensor, x: Tensor, *, m: float, Z: Tensor | None = None) -> None:
        """Write: move the rows of ``index`` [N] towards the features x [N, C] or [N, V, C] of all processes, and store
        the constants Z, if given."""
        ops.bank_update_(self.rows, index, x, m=m)
        if Z is not None:
            self.Z.copy_(Z)
            self.is_set = True

    def get_extra_state(self) -> Tensor:
        return torch.tensor(int(self.is_set), device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        self.is_set = bool(state)


class OtherClasses(nn.Module):
    """Images of another class than an image's own (CRD, Sec. 3.2; ``--mode exact`` of its code): of all images in the
    order of their classes, those outside the block of its class.

    No part of the state: it follows from the labels.
    """

    order: Tensor  # int64 [M], the images, class by class
    first: Tensor  # int64 [M], where the block of an image's class begins
    own: Tensor  # int64 [M], the length of this block

    def __init__(self, labels: Tensor) -> None:
        """``labels``: int64 [M], of at least two classes."""
        super().__init__()
        with torch.device("cpu"):
            _, label, counts = labels.unique(return_inverse=True, return_counts=True)
            first = counts.cumsum(0) - counts
            tables = {"order": label.argsort(stable=True), "first": first[label], "own": counts[label]}
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def forward(self, u: Tensor, index: Tensor) -> Tensor:
        """Uniform numbers u [n, K] in [0, 1) -> int64 [n, K], images drawn with replacement, row i for image index_i:
        each of another class equally likely."""
        first, own = self.first[index, None], self.own[index, None]
        place = (u * (len(self.order) - own)).long()
        place += own * (place >= first)
        return self.order[place]
