"""Encoders as networks of torchvision or timm: their names for the weights, and the lines that build and fill them."""

from pathlib import Path
from typing import Any

from torch import nn

from contrastkit.checkpoint import save_tensors
from contrastkit.export.trained import FILE, TrainedEncoder
from contrastkit.parts.build import OURS, RESNETS, ProjectedTrunk
from contrastkit.parts.encoder import PatchEncoder, SplitEncoder
from contrastkit.parts.wave import WAVES


def write_network(trained: TrainedEncoder, file: Path) -> None:
    """Write the weights under the names of torchvision and timm, which agree on ResNets; any projector layers, as the
    ResNet's ``fc``."""
    layers = len(_projector(trained.encoder.trunk))
    tensors = {
        _renamed(name.removeprefix("trunk."), layers): tensor
        for name, tensor in trained.encoder.state_dict().items()
        if name.startswith("trunk.")
    }
    save_tensors(file, tensors, trained.description.metadata())


def torchvision_code(trained: TrainedEncoder) -> str:
    """The lines that load the file of :func:`write_network` with torchvision.

    Raises:
        UserError: torchvision has no such network.
    """
    name = _require_network(trained, "torchvision")
    if name not in RESNETS:
        raise trained.refuse("torchvision", f"{name} is a network of timm: use --to timm")
    return _code(trained, "torchvision", f"torchvision.models.{name}()", [*_stem(trained), *_fc(trained)])


def timm_code(trained: TrainedEncoder) -> str:
    """The lines that load the file of :func:`write_network` with timm.

    Raises:
        UserError: timm has no such network.
    """
    name = _require_network(trained, "timm")
    if name in RESNETS:
        replaced = [*_stem(trained), *(_fc(trained) if _projector(trained.encoder.trunk) else [])]
        return _code(trained, "timm", f"timm.create_model({name!r}, num_classes=0)", replaced)
    if _projector(trained.encoder.trunk):
        raise trained.refuse("timm", "projector layers follow its network (--finetune-from 0 keeps none)")
    arguments = {"num_classes": 0} | _timm_arguments(trained)
    listed = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    return _code(trained, "timm", f"timm.create_model({name.removeprefix('timm:')!r}, {listed})", [])


def _require_network(trained: TrainedEncoder, library: str) -> str:
    """The name of the encoder, if it is a network that another library can have.

    Raises:
        UserError: it is not.
    """
    encoder, options = trained.encoder, trained.record.encoder
    name, norm, width = options["name"], options.get("norm", "batch"), options.get("width", 1)
    reason = None
    if isinstance(encoder, SplitEncoder):
        reason = f"it has a network for each of {len(encoder.views)} views ({', '.join(encoder.views)})"
    elif isinstance(encoder, PatchEncoder):
        reason = f"its features are means over patches of {encoder.patch} px"
    elif name in (*OURS, *WAVES):
        reason = f"{name} is a network of contrastkit"
    elif name.startswith("module:"):
        reason = f"its network is a module of your own, {name.removeprefix('module:')}"
    elif norm != "batch":
        reason = f"its {name} has {norm} norm"
    elif width != 1 or options.get("stages", 4) != 4:
        reason = f"its {name} has another width or depth than the published one"
    elif (options.get("vit") or {}).get("residual_stem"):
        reason = "its first block is a residual stem of contrastkit"
    if reason is not None:
        raise trained.refuse(library, reason)
    return name


def _code(trained: TrainedEncoder, library: str, build: str, replaced: list[str]) -> str:
    mean, std = trained.description.mean, trained.description.std
    imports = [f"import {library}", "from safetensors.torch import load_file"]
    imports += ["from torch import nn"] if replaced else []
    return "\n".join(
        [
            *imports,
            "from torchvision.transforms.functional import normalize",
            "",
            f"encoder = {build}",
            *replaced,
            f"encoder.load_state_dict(load_file({FILE}))",
            f"# images: {trained.input_text}",
            f"features = encoder.eval()(normalize(images, {mean}, {std}))",
        ]
    )


def _stem(trained: TrainedEncoder) -> list[str]:
    """The lines that give a ResNet the stem of ours, where it is another one than ImageNet's for colour images."""
    channels = trained.encoder.channels
    if trained.encoder.stem == "3x3":
        return [
            f"encoder.conv1 = nn.Conv2d({channels}, 64, 3, padding=1, bias=False)  # the stem for small images",
            "encoder.maxpool = nn.Identity()",
        ]
    if channels != 3:
        return [f"encoder.conv1 = nn.Conv2d({channels}, 64, 7, stride=2, padding=3, bias=False)"]
    return []


def _fc(trained: TrainedEncoder) -> list[str]:
    """The line that replaces a ResNet's classifier by what follows ours: projector layers (SimCLR v2), or nothing."""
    layers = [
        f"nn.Linear({layer.in_features}, {layer.out_features}, bias=False), "
        f"nn.BatchNorm1d({layer.out_features}), nn.ReLU()"
        for layer in _projector(trained.encoder.trunk)
    ]
    return [f"encoder.fc = nn.Sequential({', '.join(layers)})" if layers else "encoder.fc = nn.Identity()"]


def _projector(trunk: nn.Module) -> list[Any]:
    """The linear layers of the projector behind a trunk, in order."""
    return [*_projector(trunk[0]), trunk[1]] if isinstance(trunk, ProjectedTrunk) else []


def _renamed(name: str, layers: int) -> str:
    """A name in a trunk with this many projector layers, as that of a ResNet whose ``fc`` they are.

    The outermost of nested :class:`ProjectedTrunk` is the last layer: 0 is what it follows, 1 its linear layer, 2 its
    batch norm. In ``fc`` each layer has three modules, the ReLU included.
    """
    for layer in reversed(range(layers)):
        part, _, rest = name.partition(".")
        if part != "0":
            return f"fc.{3 * layer + int(part) - 1}.{rest}"
        name = rest
    return name


def _timm_arguments(trained: TrainedEncoder) -> dict[str, Any]:
    """Arguments of timm.create_model, besides the number of classes, as build_encoder chooses them."""
    import timm

    options, channels = trained.record.encoder, trained.encoder.channels
    name = options["name"].removeprefix("timm:")
    arguments = {} if channels == 3 else {"in_chans": channels}
    try:
        timm.create_model(name, img_size=trained.size)
    except TypeError:  # convolutional models take no img_size
        return arguments
    return arguments | {"img_size": trained.size} | dict(options.get("vit") or {})
