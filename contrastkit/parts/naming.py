"""How others name the tensors of an encoder in their checkpoints.

To add a naming, add a row to :data:`NAMINGS`. Sources: ``main_lincls.py`` of MoCo, MoCo v3 and SimSiam; ``utils.py``
(``load_pretrained_weights``) and ``main_dino.py`` of DINO; ``eval_linear.py`` of SwAV; VISSL's ``extra_scripts``; BYOL
as of lucidrains/byol-pytorch and sthalles/PyTorch-BYOL (``trainer.py``); ``main_linear.py`` of solo-learn; lightly's
examples, which train ``nn.Sequential(*resnet.children())``.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

# Around a network: keys of a checkpoint, DistributedDataParallel, torch.compile.
WRAPPERS = ("state_dict", "model", "module", "_orig_mod")
# Entries of a checkpoint whose tensors belong to no network.
OTHERS = ("optimizer", "optimizer_states", "optimizer_state_dict")
# torchvision's ResNets as ``nn.Sequential(*resnet.children())``: the numbers of the children that have tensors.
CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4", "9": "fc"}
TIMM = "torchvision, timm or SwAV"


class Naming(NamedTuple):
    """How one project names an encoder's tensors.

    Attributes:
        whose: the project, as it is shown.
        prefix: before the names of the encoder, apart from :data:`WRAPPERS`.
        into: "trunk." if those are the names of a network, "" if they are those of an
            :class:`contrastkit.parts.encoder.Encoder`, with its normalisation.
        first: other words for the first part of these names.
    """

    whose: str
    prefix: str = ""
    into: str = "trunk."
    first: Mapping[str, str] = {}

    def translated(self, name: str) -> str | None:
        """The name in an encoder of a file's tensor; None if it lies outside the prefix."""
        if not name.startswith(self.prefix):
            return None
        first, point, rest = name.removeprefix(self.prefix).partition(".")
        return f"{self.into}{self.first.get(first, first)}{point}{rest}"


NAMINGS = (  # of equally good ones, the first is used
    Naming("contrastkit", into=""),  # encoder.safetensors
    Naming("contrastkit", "method.online.encoder.", into=""),  # checkpoints/*.pt
    Naming(TIMM),
    Naming("MoCo", "encoder_q."),
    Naming("MoCo v3", "base_encoder."),
    Naming("DINO", "teacher.backbone."),  # its own evaluations use the teacher
    Naming("DINO", "student.backbone."),
    Naming("SimSiam", "encoder."),
    Naming("BYOL", "online_encoder.net."),
    Naming("BYOL", "online_network_state_dict.encoder.", first=CHILDREN),
    Naming("VISSL", "classy_state_dict.base_model.trunk._feature_blocks."),
    Naming("solo-learn", "backbone."),
    Naming("lightly", "backbone.", first=CHILDREN),
)


def flattened(state: Mapping[Any, Any], place: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors of a checkpoint of nested dictionaries, with their keys joined by points."""
    for key, value in state.items():
        if isinstance(value, Tensor):
            yield f"{place}{key}", value
        elif isinstance(value, Mapping) and key not in OTHERS:
            yield from flattened(value, f"{place}{key}.")


def unwrapped(names: Iterable[str]) -> dict[str, str]:
    """Each name without :data:`WRAPPERS` -> the name; of two that become equal, the first."""
    bare: dict[str, str] = {}
    for name in names:
        bare.setdefault(".".join(part for part in name.split(".") if part not in WRAPPERS), name)
    return bare


def best_naming(names: Iterable[str], wanted: Mapping[str, Any], prefixes: Iterable[str]) -> tuple[str, dict[str, str]]:
    """The naming under which most of an encoder's tensors are in a file: whose it is, and these tensors, name in the
    encoder -> name in the file.

    Args:
        names: of the file's tensors.
        wanted: of the encoder's tensors.
        prefixes: before the names of the network in the encoder: "trunk.", or what a projector behind it makes of that.
    """
    whole = {name: name for name in names}
    best, found = "", dict[str, str]()
    for bare in (whole, unwrapped(whole)):
        for naming in NAMINGS:
            for into in prefixes if naming.into else ("",):
                pairs = ((naming._replace(into=into).translated(short), name) for short, name in bare.items())
                taken = {ours: theirs for ours, theirs in pairs if ours in wanted}
                if len(taken) > len(found):
                    best, found = naming.whose, taken  # type: ignore[assignment]
    return best, found
