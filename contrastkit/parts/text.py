"""CLIP's text transformer (Radford et al. 2021, Sec. 2.4; openai/CLIP, model.py), and the captions that it is trained
on."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastkit.data.captions import Captions
from contrastkit.parts.tokenizer import Tokenizer
from contrastkit.rng import CAPTION, uniform

Activation = Literal["gelu", "quickgelu"]


def quick_gelu(x: Tensor) -> Tensor:
    """x sigmoid(1.702 x), with which OpenAI's weights were trained."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "quickgelu": quick_gelu}


class TextTower(nn.Module):
    """Tokens of texts, int [N, L], L at most ``context`` -> features [N, dim].

    A text's feature is that of its first end-of-text token, behind the last layer's norm, projected. Attention is
    causal: what follows that token does not matter.
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        context: int,
        end: int,
        width: int,
        layers: int,
        heads: int,
        dim: int,
        activation: Activation = "gelu",
    ) -> None:
        """``end``: the id of the end-of-text token. Initialised as in ``initialize_parameters`` of model.py."""
        super().__init__()
        self.end = end
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(0.01 * torch.randn(context, width))
        self.blocks = nn.ModuleList(Block(width, heads, layers, activation) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, dim, bias=False)
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.projection.weight, std=width**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        end = (tokens == self.end).int().argmax(1)  # the first one: others are padding
        x = x.gather(1, end[:, None, None].expand(-1, 1, x.shape[2]))[:, 0]
        return self.projection(self.norm(x))

    def encode(self, texts: Sequence[str], tokenizer: Tokenizer, *, batch: int = 512) -> Tensor:
        """Features [N, dim] of texts."""
        ids, _ = tokenizer.encode(texts)
        rows = (padded(ids[i : i + batch], self.end) for i in range(0, len(ids), batch))
        return torch.cat([self(tokens.to(self.positions.device)) for tokens in rows])


class Block(nn.Module):
    """Causal attention and a two-layer perceptron, each behind a layer norm and beside a shortcut: [N, L, width]."""

    def __init__(self, width: int, heads: int, layers: int, activation: Activation) -> None:
        """``layers``: of the transformer; the branches of more of them start smaller."""
        super().__init__()
        self.heads, self.activation = heads, ACTIVATIONS[activation]
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.hidden, self.mlp_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        start_(self.qkv, self.out, self.hidden, self.mlp_out, layers)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [N, heads, L, C]
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp_out(self.activation(self.hidden(self.norm2(x))))


@torch.no_grad()
def start_(qkv: nn.Linear, out: nn.Linear, hidden: nn.Linear, mlp_out: nn.Linear, layers: int) -> None:
    """Initialise the matrices of a block of a transformer of ``layers`` of them, in place: ``initialize_parameters`` of
    model.py."""
    width = out.in_features
    branch = width**-0.5 * (2 * layers) ** -0.5
    for layer, std in ((qkv, width**-0.5), (out, branch), (hidden, (2 * width) ** -0.5), (mlp_out, branch)):
        nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(qkv.bias)
    nn.init.zeros_(out.bias)


def padded(ids: Sequence[Sequence[int]], end: int) -> Tensor:
    """Tokens of texts, int64 [N, L] for the longest of them; behind a shorter one, its end is repeated."""
    longest = max(map(len, ids))
    return torch.tensor([[*row, *[end] * (longest - len(row))] for row in ids])


class CaptionTokens(nn.Module):
    """The tokens of the captions of N images, from which one caption an image and epoch is drawn.

    They belong to the data: no part of the state.
    """

    tokens: Tensor  # int32, those of all captions
    place: Tensor  # int64 [captions + 1]: tokens of caption c are tokens[place[c] : place[c + 1]]
    first: Tensor  # int64 [N + 1], of Captions
    text: Tensor  # int64 [captions], equal for captions of the same tokens

    def __init__(self, captions: Captions, tokenizer: Tokenizer) -> None:
        super().__init__()
        ids, self.cut = tokenizer.encode(captions.texts)
        self.longest, number = max(map(len, ids)), dict[tuple[int, ...], int]()
        flat = torch.tensor([token for row in ids for token in row], dtype=torch.int32)
        place = torch.tensor([0, *map(len, ids)]).cumsum(0)
        text = torch.tensor([number.setdefault(tuple(row), len(number)) for row in ids])
        self.distinct = len(number)
        for name, values in {"tokens": flat, "place": place, "first": captions.first, "text": text}.items():
            self.register_buffer(name, values, persistent=False)

    def draw(self, index: Tensor, *, seed: int, epoch: int) -> Tensor:
        """A caption of each image, int64 [n], a function of (seed, epoch, image) alone."""
        first, end = self.first[index], self.first[index + 1]
        return first + (uniform(seed, epoch, index, CAPTION, 1)[:, 0] * (end - first)).long()

    def rows(self, captions: Tensor) -> Tensor:
        """The tokens of captions, int64 [n, longest], padded as by :func:`padded`."""
        column = torch.arange(self.longest, device=captions.device)
        start, end = self.place[captions, None], self.place[captions + 1, None]
        places = (start + column).minimum(end - 1)  # the last token is the end
        return self.tokens[places].long()
