"""Published weights of the encoders of torchvision and timm: for which there are some, and what is known of them."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from contrastkit.errors import UserError
from contrastkit.parts.build import OURS, build_encoder
from contrastkit.parts.encoder import Encoder
from contrastkit.parts.weights import Weights

PUBLISHED = "pretrained:"  # before the name of a network, instead of a file
PUBLISHED_SIZE = 224  # side in pixels of the images that most of them were trained on
# In the kind of an encoder, what published weights leave free: its input, and values that they replace.
FREE = {"name", "channels", "size", "pretrained", "zero_init", "projector_width"}


def published_encoder(kind: Mapping[str, Any]) -> Encoder:
    """An encoder like another with its published weights.

    Args:
        kind: arguments of :func:`contrastkit.parts.build.build_encoder` for the other.

    Raises:
        UserError: there are none for an encoder that is built like it, or they cannot be fetched.
    """
    name, usual = kind["name"], build_encoder.__kwdefaults__ or {}
    if name in OURS:
        raise UserError(f"there are none of {name}")
    own = {key: value for key, value in kind.items() if key not in FREE and value and value != usual[key]}
    if own:
        raise UserError(f"there are none of {name} with its own {', '.join(own)}")
    return build_encoder(name, channels=kind["channels"], size=kind["size"], pretrained=True)


def published_weights(name: str) -> Weights:
    """The published weights of a torchvision model or ``timm:NAME``, fetched by these libraries.

    Raises:
        UserError: unknown, without published weights, or not to be fetched.
    """
    size = published_size(name)
    tensors = build_encoder(name, channels=3, size=size, pretrained=True).state_dict()
    return Weights(source=f"{PUBLISHED}{name}", tensors=tensors, sha256=tensors_hash(tensors), encoder=name, size=size)


def network_with_head(name: str) -> tuple[Encoder, nn.Module]:
    """The encoder with the published weights of a torchvision model or ``timm:NAME``, and its last layer.

    Raises:
        UserError: as :func:`published_weights`.
    """
    encoder = build_encoder(name, channels=3, size=published_size(name), pretrained=True)
    try:
        if name.startswith("timm:"):
            import timm

            whole: Any = timm.create_model(name.removeprefix("timm:"), pretrained=True)
            return encoder, whole.get_classifier()
        import torchvision

        whole = torchvision.models.get_model(name, weights="DEFAULT")
    except (OSError, RuntimeError) as error:
        raise UserError(f"the weights of {name} could not be fetched: {error}") from error
    return encoder, whole.fc


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of tensors, their names, types and shapes."""
    sha256 = hashlib.sha256()
    for key, value in sorted(tensors.items()):
        sha256.update(f"{key} {value.dtype} {list(value.shape)}".encode() + value.contiguous().numpy().tobytes())
    return sha256.hexdigest()


def published_size(name: str) -> int:
    """Side in pixels of the images that the published weights of an encoder were trained on."""
    config = _config(name)
    return config.input_size[-1] if config else PUBLISHED_SIZE


def described(name: str) -> str:
    """The published weights of an encoder in words, with what is known of their training.

    torchvision's were trained with labels, and timm's where their tag ends in a set of ImageNet and they have an output
    for each class: ``a1_in1k`` or ``clip_laion2b_ft_in1k``, but not ``dino``, ``mae`` or ``mim_in22k``.
    """
    config = _config(name)
    if not name.startswith("timm:") or (
        config and config.num_classes and re.search(r"(^|_)in\d+k(_\d+)?$", config.tag or "")
    ):
        return f"published weights of {name}, which were trained with labels"
    hub = config and config.hf_hub_id
    where = f"https://huggingface.co/{hub}" if hub else "timm's documentation"
    return f"published weights of {name} (how they were trained: see {where})"


def _config(name: str) -> Any:
    """timm's configuration of the weights that a name stands for; None if there is none."""
    if not name.startswith("timm:"):
        return None
    import timm

    try:
        return timm.get_pretrained_cfg(name.removeprefix("timm:"), allow_unregistered=True)
    except RuntimeError:  # no such tag
        return None
