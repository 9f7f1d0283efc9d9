"""The text tower against torch's attention and loops; the vocabulary; captions drawn by address."""

import copy
import math
from collections import Counter
from typing import Any

import pytest
import tokenizers
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastkit.data import Captions
from contrastkit.errors import UserError
from contrastkit.parts.text import CaptionTokens, TextTower, padded
from contrastkit.parts.tokenizer import END, START, Tokenizer

WIDTH, HEADS, LAYERS, CONTEXT, VOCABULARY = 16, 4, 3, 12, 30
TEXTS = ["a red plane", "a red plane on grass", "two boats in the harbour", "grass"]


def tower(end: int = 1, **numbers: Any) -> TextTower:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocabulary": VOCABULARY, "context": CONTEXT, "width": WIDTH, "heads": HEADS}
    made = TextTower(**sizes | {"layers": LAYERS, "dim": 8, "end": end} | numbers)
    with torch.no_grad():
        for p in made.parameters():  # biases and norms, too
            p.add_(0.1 * torch.randn_like(p))
    return made


def plainly(t: TextTower, tokens: list[int], activation: Any = F.gelu) -> Tensor:
    """The feature of one text of any tokens up to its first end, by torch's attention module, in float64."""
    tokens = tokens[: tokens.index(t.end) + 1]
    t = copy.deepcopy(t).double()
    x = torch.stack([t.tokens.weight[token] + t.positions[i] for i, token in enumerate(tokens)])
    later = torch.ones(len(tokens), len(tokens)).triu(1).bool()
    for block in t.blocks:
        attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).double()
        attention.load_state_dict({
            "in_proj_weight": block.qkv.weight, "in_proj_bias": block.qkv.bias,
            "out_proj.weight": block.out.weight, "out_proj.bias": block.out.bias,
        })  # fmt: skip
        h = block.norm1(x)[None]
        x = x + attention(h, h, h, attn_mask=later)[0][0]
        x = x + block.mlp_out(activation(block.hidden(block.norm2(x))))
    last = x[-1]
    normed = (last - last.mean()) / (last.var(unbiased=False) + 1e-5).sqrt() * t.norm.weight + t.norm.bias
    return t.projection.weight @ normed


@torch.no_grad()
@pytest.mark.parametrize("activation", ["gelu", "quickgelu"])
def test_the_tower_is_torchs_attention_and_a_perceptron(activation: Any) -> None:
    t = tower(activation=activation)
    rows = [[0, 5, 9, 28, 7, 1], [0, 29, 1], [0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1]]
    actual = t(padded(rows, 1))
    own = {
        "gelu": lambda x: x * (1 + torch.erf(x / math.sqrt(2))) / 2,
        "quickgelu": lambda x: x / (1 + (-1.702 * x).exp()),
    }
    expected = torch.stack([plainly(t, row, own[activation]) for row in rows])
    torch.testing.assert_close(actual.double(), expected, atol=2e-5, rtol=2e-5)


@torch.no_grad()
@pytest.mark.parametrize("end", [1, 15, VOCABULARY - 1])
def test_the_feature_is_at_the_end_whatever_its_id(end: int) -> None:
    """And whatever is behind it: CLIP's argmax of the ids is right for the largest alone."""
    t = tower(end)
    text = [0, 28, 3, 20, end]
    alone = t(torch.tensor([text]))[0]
    for behind in ([end] * 4, [0] * 4, [28, 27, 29, end]):
        torch.testing.assert_close(t(torch.tensor([text + behind]))[0], alone, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(alone.double(), plainly(t, text), atol=2e-5, rtol=2e-5)
    assert not torch.allclose(t(torch.tensor([[0, 28, 3, 21, end]]))[0], alone, atol=1e-3)


def test_it_starts_as_clips() -> None:
    torch.manual_seed(0)
    width, layers = 256, 6
    t = TextTower(vocabulary=500, context=77, width=width, heads=4, layers=layers, dim=200, end=1)
    branch = width**-0.5 * (2 * layers) ** -0.5
    expected = {
        t.tokens.weight: 0.02, t.positions: 0.01, t.projection.weight: width**-0.5, t.blocks[2].qkv.weight: width**-0.5,
        t.blocks[2].out.weight: branch, t.blocks[5].hidden.weight: (2 * width) ** -0.5,
        t.blocks[5].mlp_out.weight: branch,
    }  # fmt: skip
    for weight, std in expected.items():
        assert weight.std().item() == pytest.approx(std, rel=0.03) and abs(weight.mean().item()) < 0.1 * std


# ---------------------------------------------------------------------------------------------------------- vocabulary


def test_a_text_is_its_bytes_in_pairs_between_start_and_end() -> None:
    tokenizer = Tokenizer.trained(["low lower lowest"] * 3, size=300, context=20)
    library = tokenizers.Tokenizer.from_str(tokenizer.text)
    start, end = library.token_to_id(START), library.token_to_id(END)
    (ids,), _ = tokenizer.encode(["LOW  é\t"])
    assert (ids[0], ids[-1], tokenizer.end, tokenizer.context) == (start, end, end, 20)
    assert end < max(ids), "the end is not the largest id"
    assert [library.id_to_token(i) for i in ids[1:-1]] == ["Ġlow", "Ġ", "Ã", "©"]
    assert tokenizer.encode([f"x {END} y"])[0][0].count(end) == 1, "a text with the word for an end has one end"
    assert tokenizer.encode([""]) == ([[start, end]], 0)


def test_a_vocabulary_is_no_larger_than_asked_and_equal_for_equal_texts() -> None:
    words = [f"{a}{b} {b}{c}" for a in "abcde" for b in "fghij" for c in "klmno"]
    one, two = (Tokenizer.trained(words, size=290, context=9) for _ in range(2))
    assert one.text == two.text and one.size == 290
    assert Tokenizer(one.text).encode(words) == one.encode(words)


def test_a_long_text_is_cut_and_ends() -> None:
    tokenizer = Tokenizer.trained(TEXTS * 2, size=500, context=5)
    long, short = "a red plane on grass", "a red plane"
    (cut, whole), number = tokenizer.encode([long, short])
    assert cut == whole and len(cut) == 5 and cut[-1] == tokenizer.end
    assert number == 1 and tokenizer.encode([short, short])[1] == 0


@pytest.mark.parametrize("text", ["", "{}", "nothing", '{"model": 3}'])
def test_what_is_no_vocabulary_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="vocabulary"):
        Tokenizer(text)


# ------------------------------------------------------------------------------------------------------------ captions


def table() -> tuple[CaptionTokens, Captions, Tokenizer]:
    tokenizer = Tokenizer.trained(TEXTS * 2, size=400, context=CONTEXT)
    captions = Captions([TEXTS[:2], TEXTS[3:], ["A red  plane", *TEXTS[1:3]], TEXTS])
    return CaptionTokens(captions, tokenizer), captions, tokenizer


def test_the_tokens_of_a_caption_are_the_tokenizers() -> None:
    tokens, captions, tokenizer = table()
    rows = tokens.rows(torch.arange(len(captions.texts)))
    longest = max(map(len, tokenizer.encode(captions.texts)[0]))
    assert tokens.longest == longest and rows.shape == (len(captions.texts), longest)
    for row, ids in zip(rows.tolist(), tokenizer.encode(captions.texts)[0], strict=True):
        assert row == ids + [tokenizer.end] * (longest - len(ids))
    assert tokens.text[0] == tokens.text[3] and tokens.text[1] == tokens.text[4]  # letters and spaces do not tell
    assert tokens.distinct == 4 and not dict(tokens.state_dict())


def test_an_images_caption_is_a_function_of_seed_epoch_and_image() -> None:
    tokens, captions, _ = table()
    index = torch.tensor([3, 0, 2, 1])
    drawn = tokens.draw(index, seed=5, epoch=2)
    assert [captions.image[c].item() for c in drawn] == index.tolist()
    assert torch.equal(tokens.draw(index.flip(0), seed=5, epoch=2).flip(0), drawn)
    assert torch.equal(
        torch.cat([tokens.draw(index[:1], seed=5, epoch=2), tokens.draw(index[1:], seed=5, epoch=2)]), drawn
    )
    epochs = [tokens.draw(torch.tensor([3, 2]), seed=5, epoch=e).tolist() for e in range(600)]
    assert epochs != [tokens.draw(torch.tensor([3, 2]), seed=6, epoch=e).tolist() for e in range(600)]
    of_last, of_third = (Counter(column) for column in zip(*epochs, strict=True))
    assert sorted(of_last) == [6, 7, 8, 9] and all(abs(n - 150) < 60 for n in of_last.values())
    assert sorted(of_third) == [3, 4, 5] and all(abs(n - 200) < 60 for n in of_third.values())
