"""Texts as tokens, by a vocabulary of byte pairs."""

import os
from collections.abc import Iterable, Sequence
from typing import Self

import tokenizers
from tokenizers import Regex, models, normalizers, pre_tokenizers, processors, trainers

from contrastkit.errors import UserError

START, END = "<|startoftext|>", "<|endoftext|>"

# Threads that have tokenised are missing in a process that is forked later: there, tokenising would hang.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class Tokenizer:
    """Texts in lower case -> ids of tokens, between that of the start and that of the end of a text.

    Byte pairs (Sennrich et al. 2016; of bytes: GPT-2) have a token for every text. A text with too many of them is cut,
    and ends with the end of the text.

    Attributes:
        text: the contents of tokenizer.json, which the library ``tokenizers`` reads too.
        size: the number of tokens.
        end: the id of the end of a text.
        context: how many tokens a text has at most.
    """

    def __init__(self, text: str) -> None:
        """
        Args:
            text: the contents of tokenizer.json.

        Raises:
            UserError: they are damaged.
        """
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises no other kind
            raise UserError(f"it is no vocabulary of byte pairs: {error}") from error
        end, cut = self._tokenizer.token_to_id(END), self._tokenizer.truncation
        if end is None or cut is None:
            raise UserError(f"it has no {END}, or no largest number of tokens")
        self._tokenizer.encode_special_tokens = True  # "<|endoftext|>" within a text is a text
        self.text, self.end, self.context = text, end, int(cut["max_length"])
        self.size = self._tokenizer.get_vocab_size()

    @classmethod
    def trained(cls, texts: Iterable[str], *, size: int, context: int) -> Self:
        """A vocabulary of at most ``size`` tokens, those of the most frequent pairs of the texts. Equal texts give
        equal vocabularies."""
        tokenizer = tokenizers.Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(), normalizers.Lowercase()]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=2,
            special_tokens=[START, END],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        special = [(token, tokenizer.token_to_id(token)) for token in (START, END)]
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{START} $A {END}", special_tokens=special)
        tokenizer.enable_truncation(context)
        return cls(tokenizer.to_str(pretty=True))

    def encode(self, texts: Sequence[str]) -> tuple[list[list[int]], int]:
        """The ids of each text, and how many of the texts are cut."""
        encoded = self._tokenizer.encode_batch(list(texts))
        return [text.ids for text in encoded], sum(bool(text.overflowing) for text in encoded)
