"""The encoders that are compared on a dense task."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch

from contrastkit import dist
from contrastkit.bounds import SEED, SIDE, WORKERS, check_fields
from contrastkit.data import Source, default_workers
from contrastkit.directories import given_path
from contrastkit.errors import UserError
from contrastkit.loading import load_encoder, unfinished
from contrastkit.parts.build import build_encoder
from contrastkit.parts.encoder import Encoder, WaveEncoder
from contrastkit.parts.published import published_encoder, published_size
from contrastkit.run import Run
from contrastkit.starting import NamedEncoder, require_one


@dataclass(frozen=True, kw_only=True)
class TransferSubject:
    """Encoders to compare, from :meth:`open` or from existing objects.

    Attributes:
        encoders: by name.
        trained: names of those whose weights are not the initial ones.
        size: side in pixels of the images that the encoders were trained on.
        run: run folder of the first encoder.
        workers: processes that read images; None is suitable for files.
        seed: of heads and of all that is drawn.
        notices: what a reader of the results should know, one line each.
    """

    encoders: Mapping[str, Encoder]
    trained: frozenset[str]
    size: Annotated[int, SIDE]
    run: Path | None = None
    workers: Annotated[int | None, WORKERS] = None
    device: torch.device = torch.device("cpu")
    seed: Annotated[int, SEED] = 0
    notices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)

    def workers_for(self, images: Source) -> int:
        """The number of processes that read these images."""
        return default_workers(images) if self.workers is None else self.workers

    @classmethod
    def open(
        cls,
        run: str | Path | None = None,
        *,
        encoder: str | None = None,
        pretrained: bool = False,
        init_from: str | None = None,
        baselines: bool = False,
        workers: int | None = None,
        device: str = "auto",
        seed: int = 0,
    ) -> "TransferSubject":
        """The encoder of a run, or one by name.

        Args:
            run: a run folder; either this or ``encoder``.
            encoder: tiny, a torchvision ResNet or ``timm:NAME``, for RGB images.
            pretrained: with ``encoder``: its published weights.
            init_from: with ``encoder``: these weights (:func:`contrastkit.starting.open_weights`), which may name it.
            baselines: also the same encoder untrained and, if they can be had, with its published weights.
            seed: of the untrained encoder, of heads and of augmentations.

        Raises:
            UserError: neither or both of ``run`` and ``encoder``, no such run or encoder, or one of sounds.
        """
        SEED.check("--seed", seed, whole=True)
        require_one("transfer", run, encoder, pretrained=pretrained, init_from=init_from)
        torch.manual_seed(seed)
        if run is None:
            named = NamedEncoder.of(encoder, pretrained=pretrained, init_from=init_from)
            size = named.size or published_size(named.name)
            kind: dict[str, Any] = {"name": named.name, "channels": 3, "size": size}
            built, notices = named.build(channels=3, size=size, seed=seed)
            name, pretrained, path = named.label, named.pretrained, None
            encoders, loaded = {name: built}, [name] if named.trained else []
        else:
            record = (opened := Run.open(path := given_path(run))).record
            kind, name, notices = record.encoder, str(path), unfinished(opened, record)
            encoders, loaded = {name: load_encoder(opened, record)}, [name]
        if isinstance(encoders[name], WaveEncoder):
            raise UserError(f"{name} is an encoder of sounds, which have no feature maps")
        if baselines:
            if loaded:
                encoders[f"untrained {kind['name']}"] = build_encoder(**kind)
            if not pretrained:
                try:
                    encoders[published := f"{kind['name']}, its published weights"] = published_encoder(kind)
                    loaded.append(published)
                except UserError as error:
                    notices = (*notices, f"no row of published weights: {error}")
        return cls(
            encoders={name: encoder.eval() for name, encoder in encoders.items()},
            trained=frozenset(loaded),
            notices=notices,
            size=kind["size"],
            run=path,
            workers=workers,
            device=dist.device(device),
            seed=seed,
        )
