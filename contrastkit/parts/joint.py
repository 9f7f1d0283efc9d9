"""An encoder of images and texts in one space."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from contrastkit.errors import UserError
from contrastkit.parts.encoder import Encoder
from contrastkit.parts.text import TextTower
from contrastkit.parts.tokenizer import Tokenizer


class ImageTextEncoder(Encoder):
    """An image encoder, and what it was trained with: a projection, and a tower for texts (CLIP).

    ``forward``: images [N, channels, H, W] float in [0, 1] -> features [N, dim], those of the encoder.
    ``image``: the same images -> [N, C], ``text``: N texts -> [N, C]; the cosine of two rows of unit length, of an
    image and a text, says how well they go together.
    """

    def __init__(self, encoder: Encoder, projection: nn.Module, texts: TextTower, tokenizer: Tokenizer) -> None:
        super().__init__(encoder.trunk, dim=encoder.dim, channels=encoder.channels, stem=encoder.stem)
        self.mean, self.std = encoder.mean, encoder.std
        self.projection, self.texts, self.tokenizer = projection, texts, tokenizer

    def image(self, images: Tensor) -> Tensor:
        """Images -> float32 [N, C] of unit length."""
        return self.project(self(images))

    def project(self, features: Tensor) -> Tensor:
        """Features [N, dim] -> float32 [N, C] of unit length."""
        return F.normalize(self.projection(features).float(), dim=1)

    def text(self, texts: Sequence[str]) -> Tensor:
        """Texts -> float32 [N, C] of unit length. Longer ones than the tower was built for are cut.

        Raises:
            UserError: a single text, whose letters would be taken for texts, or none.
        """
        if isinstance(texts, str) or not len(texts):
            raise UserError('the encoder takes a list of texts, such as ["a red plane", "two boats"]')
        return F.normalize(self.texts.encode(texts, self.tokenizer).float(), dim=1)
