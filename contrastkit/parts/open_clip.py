"""Models of OpenAI and of open_clip as starting weights: both towers, the projections, the temperature and the
vocabulary (extra ``open_clip``), with vision transformers as image towers."""

import contextlib
import json
import logging
from collections.abc import Iterator
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from contrastkit.errors import UserError, listed, suggest
from contrastkit.parts.published import tensors_hash
from contrastkit.parts.tokenizer import END, START
from contrastkit.parts.weights import Weights

OPEN_CLIP = "open_clip:"  # before MODEL/PRETRAINED, instead of a file
SIZES = {512: "medium", 768: "base", 1024: "large", 1280: "huge", 1408: "giant", 1664: "gigantic"}  # timm's, by width
# Part of a name in open_clip -> in parts/text.py.
TEXT = {
    "token_embedding": "tokens", "positional_embedding": "positions", "transformer.resblocks": "blocks",
    "ln_final": "norm", "ln_": "norm", "attn.in_proj_": "qkv.", "attn.out_proj": "out", "mlp.c_fc": "hidden",
    "mlp.c_proj": "mlp_out",
}  # fmt: skip
NO_TRANSFORMER = "{} has an image tower that is no vision transformer of CLIP's: ViT-... alone are taken"
WORD = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # of openai/CLIP, simple_tokenizer.py


def open_clip_weights(name: str) -> Weights:
    """The published weights ``MODEL/PRETRAINED``, fetched by open_clip or from its cache.

    Raises:
        UserError: no open_clip, no such model or weights, weights that cannot be fetched, or see :func:`converted`.
    """
    try:
        import open_clip
    except ImportError as error:
        raise UserError(f'{OPEN_CLIP}{name} needs open_clip: pip install "contrastkit[open_clip]"') from error
    model, _, tag = name.partition("/")
    if model not in (known := open_clip.list_models()):
        raise UserError(f"open_clip has no model '{model}'{suggest(model, known)}: give {OPEN_CLIP}MODEL/PRETRAINED")
    if isinstance(open_clip.get_model_config(model)["vision_cfg"].get("layers"), list):  # a ResNet's, of each stage
        raise UserError(NO_TRANSFORMER.format(f"{OPEN_CLIP}{name}"))
    tags = open_clip.list_pretrained_tags_by_model(model)
    if tag not in tags:
        raise UserError(
            f"{OPEN_CLIP}{name} does not name weights of {model}: "
            + (f"give {OPEN_CLIP}{model}/{listed(tags, 8)}" if tags else "there are none")
        )
    quick = bool(open_clip.get_pretrained_cfg(model, tag).get("quick_gelu"))
    try:
        with _silent():
            network = open_clip.create_model(model, pretrained=tag, force_quick_gelu=quick)
    except Exception as error:  # of the network, of the hub, of damaged files
        reason = str(error).strip().split("\n")[0].rpartition("Last error: ")[2]
        raise UserError(
            f"the weights of {OPEN_CLIP}{name} are not in open_clip's cache and could not be fetched: {reason}"
        ) from error
    return converted(network, f"{OPEN_CLIP}{name}")


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep from the screen what the libraries log of each attempt to fetch a file: the last one's error says it."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def converted(network: Any, source: str) -> Weights:
    """The weights of an ``open_clip.CLIP``.

    Raises:
        UserError: it is built otherwise than OpenAI's: another text tower, or an image tower that is no such vision
            transformer.
    """
    from open_clip import CLIP
    from open_clip.tokenizer import SimpleTokenizer
    from open_clip.transformer import QuickGELU, VisionTransformer

    visual = getattr(network, "visual", None)
    if not isinstance(network, CLIP) or network.text_pool_type != "argmax" or network.attn_mask is None:
        raise UserError(f"{source} has a text tower of its own: models with CLIP's alone are taken")
    if not isinstance(visual, VisionTransformer) or visual.pool_type != "tok" or visual.attn_pool is not None:
        raise UserError(NO_TRANSFORMER.format(source))
    quick = any(isinstance(module, QuickGELU) for module in network.modules())
    encoder, tensors = _image_tower(network, visual, source, quick)
    beside = {f"text.{_renamed(key)}": value for key, value in network.state_dict().items() if _is_text(key)}
    beside["text.projection.weight"] = network.text_projection.detach().T.contiguous()
    beside["online.head.weight"] = tensors.pop("head.weight").contiguous()
    beside["log_t"] = network.logit_scale.detach()
    tokenizer = _tokenizer(SimpleTokenizer(), network.context_length)
    return Weights(
        source=source,
        tensors=tensors,
        sha256=tensors_hash(tensors | beside),
        encoder=encoder,
        size=visual.image_size[0],
        normalisation=(visual.image_mean, visual.image_std) if getattr(visual, "image_mean", None) else None,
        beside=beside,
        tokenizer=tokenizer,
        numbers={
            "dim": visual.output_dim,
            "context": network.context_length,
            "vocabulary": network.vocab_size,
            "text_width": network.token_embedding.weight.shape[1],
            "text_layers": len(network.transformer.resblocks),
            "text_heads": network.transformer.resblocks[0].attn.num_heads,
            "activation": "quickgelu" if quick else "gelu",
        },
    )


def require_numbers(recipe: Any, weights: Weights) -> None:
    """Check that a recipe has the numbers with which a whole CLIP was built.

    Raises:
        UserError: it has others.
    """
    for name, value in weights.numbers.items():
        if (own := getattr(recipe, name)) != value:
            flag = f"--{name.replace('_', '-')}"
            raise UserError(f"{flag} is {own}, but {weights.source} was built with {value}: drop {flag}")


def _image_tower(network: Any, visual: Any, source: str, quick: bool) -> tuple[str, dict[str, Tensor]]:
    """The name of timm's model for an image tower, and its tensors under timm's names, with the projection as its head.

    Raises:
        UserError: there is no such model.
    """
    import timm
    from timm.models.vision_transformer import checkpoint_filter_fn

    side, width = visual.image_size[0], visual.conv1.out_channels
    kind = f"vit_{SIZES.get(width)}_patch{visual.patch_size[0]}_clip{'_quickgelu' if quick else ''}_"
    name = next((each for each in (f"{kind}{side}", f"{kind}224") if timm.is_model(each)), None)
    if name is not None:
        with torch.device("meta"):
            trunk: Any = timm.create_model(name, img_size=side, num_classes=0)
        tensors = dict(checkpoint_filter_fn(network.state_dict(), trunk))
        tensors.pop("head.bias", None)  # zeros: CLIP's projection has none
        ours, heads = trunk.state_dict(), visual.transformer.resblocks[0].attn.num_heads
        same = {key: value.shape for key, value in tensors.items() if key != "head.weight"}
        if same == {key: value.shape for key, value in ours.items()} and trunk.blocks[0].attn.num_heads == heads:
            return f"timm:{name}", tensors
    raise UserError(f"{source} has an image tower that timm has not: choose another model")


def _is_text(key: str) -> bool:
    return not key.startswith("visual.") and key not in ("logit_scale", "text_projection")


def _renamed(key: str) -> str:
    for theirs, ours in TEXT.items():
        key = key.replace(theirs, ours)
    return key


def _tokenizer(theirs: Any, context: int) -> str:
    """OpenAI's vocabulary as tokenizer.json. It differs from theirs where ``ftfy`` would mend a text, and in that
    special tokens within a text are text."""
    vocabulary = dict(theirs.encoder)
    for name, number in ((START, theirs.sot_token_id), (END, theirs.eot_token_id)):
        del vocabulary[theirs.decoder[number]]
        vocabulary[name] = number
    bytewise = models.BPE(vocab=vocabulary, merges=list(theirs.bpe_ranks), end_of_word_suffix="</w>", unk_token=END)
    tokenizer = Tokenizer(bytewise)
    tokenizer.add_special_tokens([START, END])
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(), normalizers.Lowercase()]
    )
    split = pre_tokenizers.Split(Regex(WORD), behavior="removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    special = [(START, theirs.sot_token_id), (END, theirs.eot_token_id)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{START} $A {END}", special_tokens=special)
    tokenizer.enable_truncation(context)
    return json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False)
