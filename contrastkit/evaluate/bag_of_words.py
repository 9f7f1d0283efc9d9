"""A linear baseline for retrieval by captions: ridge regression from the words of a caption to the features of its
image (Hoerl & Kennard 1970), without a text transformer."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from contrastkit.data.captions import Captions
from contrastkit.data.dataset import split
from contrastkit.errors import UserError
from contrastkit.evaluate.features import Features
from contrastkit.evaluate.ranking import CaptionPairs, Retrieval

WORDS = 4096  # most frequent ones: the regression solves for a matrix of their squared number
ALPHAS = tuple(10.0**power for power in range(-2, 5))
HELD_OUT = 0.2  # of the training images, to choose among ALPHAS


@dataclass(frozen=True, slots=True)
class BagOfWords:
    """Result of :func:`bag_of_words`."""

    alpha: float  # the penalty of the squared weights, chosen on training images
    words: int  # of the vocabulary
    retrieval: dict[str, Retrieval]  # as of the run


def bag_of_words(
    train: Features, trained: Captions, test: Features, asked: Captions, *, seed: int = 0
) -> tuple[BagOfWords, list[str]]:
    """Retrieve by W^T t of a caption's tf-idf vector t, of length 1, and the features x of an image, by their cosine,

        W = argmin sum_c |x_c - W^T t_c|^2 + alpha |W|^2    over the captions c of the training images.

    The features are standardised by these images. A fifth of them is held out first, and chooses alpha by the sum of
    all its recalls.

    Args:
        train, test: features of images that could be read.
        trained, asked: their captions.
        seed: of the images that are held out.

    Returns:
        The result, and what is said about it.

    Raises:
        UserError: fewer than ten training images, or captions without a word.
    """
    if len(trained) < 10:
        raise UserError(f"--baselines needs ten training images with captions, there are {len(trained)}: drop it")
    rest, held_out = split(len(trained), train.group_ids, HELD_OUT, seed)
    parts = [(train.subset(rows), trained.subset(rows)) for rows in (rest, held_out)]
    sums = {}
    for alpha in ALPHAS:
        found = _Regression(*parts[0], alpha).retrieve(*parts[1])
        sums[alpha] = sum(share for pair in found.values() for share in pair.recall.values())
    alpha = max(sums, key=lambda each: (sums[each], each))
    fitted = _Regression(train, trained, alpha)
    notices = [
        f"bag of words: ridge regression of the image features on the tf-idf of {fitted.words:,} words, alpha "
        f"{alpha:g} chosen on {len(held_out):,} training images"
    ]
    if alpha in (ALPHAS[0], ALPHAS[-1]):
        notices.append(f"alpha {alpha:g} is at the end of the range that is tried: another one might be better")
    return BagOfWords(alpha, fitted.words, fitted.retrieve(test, asked)), notices


class _Regression:
    """The regression on these images and captions."""

    def __init__(self, features: Features, captions: Captions, alpha: float) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import Ridge

        self.like, self._tfidf = features, TfidfVectorizer(max_features=WORDS)
        try:
            t: Any = self._tfidf.fit_transform(captions.texts)
        except ValueError as error:  # an empty vocabulary
            raise UserError("--baselines needs captions with words of two letters or more: drop it") from error
        self.words = t.shape[1]
        x = features.standardised_by(features).x[captions.image]
        self._ridge = Ridge(alpha=alpha, fit_intercept=False, solver="cholesky").fit(t, x.double().numpy())

    def retrieve(self, features: Features, captions: Captions) -> dict[str, Retrieval]:
        """A caption without a known word is as near to every image."""
        pairs = CaptionPairs.of(captions)
        texts: Tensor = torch.from_numpy(self._ridge.predict(self._tfidf.transform(pairs.texts)))
        return pairs.ranked(features.standardised_by(self.like).x, texts)
