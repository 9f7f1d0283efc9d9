"""Retrieval compared with ranks computed in loops."""

import itertools
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import contrastkit.evaluate.bag_of_words as bag_of_words_module
from contrastkit.data import Captions, Source, plain_batches
from contrastkit.data.dataset import split
from contrastkit.errors import UserError
from contrastkit.evaluate import EvaluationSubject, retrieve
from contrastkit.evaluate.features import Features
from contrastkit.evaluate.ranking import recall_at_k
from contrastkit.intervals import wilson
from contrastkit.loading import load


def cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))


def loop(queries: Tensor, keys: Tensor, right: list[set[int]]) -> list[float]:
    """The rank of each query's nearest right answer: the mean of the first and the last place that it may take."""
    ranks = []
    for query, answers in zip(queries.tolist(), right, strict=True):
        s = [round(cosine(query, key), 9) for key in keys.tolist()]
        best = max(s[j] for j in answers)
        wrong = [s[j] for j in range(len(s)) if j not in answers]
        ranks.append((2 + sum(w > best for w in wrong) + sum(w >= best for w in wrong)) / 2)
    return ranks


def pairs(right: list[set[int]]) -> Tensor:
    return torch.tensor([(i, j) for i, answers in enumerate(right) for j in sorted(answers)])


def test_ranks_are_those_of_a_loop() -> None:
    g = torch.Generator().manual_seed(0)
    queries, keys = torch.randn(30, 8, generator=g), torch.randn(30, 8, generator=g)
    keys += 0.7 * queries
    ranks = loop(queries, keys, [{i} for i in range(30)])
    result = recall_at_k(queries, keys, ks=(1, 3, 10))
    assert result.recall == {k: pytest.approx(sum(r <= k for r in ranks) / 30) for k in (1, 3, 10)}
    assert result.median_rank == pytest.approx(sorted(ranks)[14] / 2 + sorted(ranks)[15] / 2)
    assert 0 < result.recall[1] < 1 and result.n == result.queries == 30
    assert recall_at_k(queries, keys, ks=(1, 3, 60)).chance == {1: pytest.approx(1 / 30), 3: pytest.approx(0.1), 60: 1}
    assert result.chance_rank == 15.5
    assert result.interval == {k: wilson(share, 30) for k, share in result.recall.items()}


@pytest.mark.parametrize("block", [1, 100, 2**23])
def test_several_right_answers_and_ties_are_those_of_a_loop(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of few directions, so that many are equally near."""
    monkeypatch.setattr("contrastkit.evaluate.ranking.SIMILARITIES", block)
    g = torch.Generator().manual_seed(1)
    queries, keys = (torch.randint(-1, 2, (n, 3), generator=g) + torch.tensor([0.0, 0, 2]) for n in (17, 23))
    right = [{i, (7 * i) % 23, 22} if i % 3 else {i} for i in range(17)]
    ranks = loop(queries, keys, right)
    assert any(rank % 1 for rank in ranks)
    cluster = torch.tensor([0] * 8 + [1] * 4 + [2] * 3 + [3] * 2)
    result = recall_at_k(queries, keys, pairs(right), cluster=cluster, ks=(1, 2, 5))
    assert result.recall == {k: pytest.approx(sum(r <= k for r in ranks) / 17) for k in (1, 2, 5)}
    assert result.median_rank == pytest.approx(sorted(ranks)[8])
    independent = round(17**2 / (64 + 16 + 9 + 4))
    assert result.interval == {k: wilson(share, independent) for k, share in result.recall.items()}


def test_chance_is_that_of_all_orders() -> None:
    """Five keys, of which one query has one right answer, and another three."""
    right = [{2}, {0, 1, 4}]
    first = [
        min(order.index(j) for j in answers) + 1 for order in itertools.permutations(range(5)) for answers in right
    ]
    result = recall_at_k(torch.eye(5)[:2], torch.eye(5), pairs(right), ks=(1, 2, 3, 9))
    for k in (1, 2, 3, 9):
        assert result.chance[k] == pytest.approx(sum(rank <= k for rank in first) / len(first))
    assert result.chance_rank == sorted(first)[len(first) // 2]


def test_lengths_do_not_matter_and_a_collapsed_encoder_ranks_every_key_alike() -> None:
    queries = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    keys = queries * torch.tensor([1.0, 9, 3, 0.1, 5, 2])[:, None]
    assert recall_at_k(queries, keys, ks=(1,)).recall == {1: 1.0}
    same = recall_at_k(torch.ones(60, 4), torch.ones(60, 4))
    assert same.recall == {1: 0.0, 5: 0.0, 10: 0.0} and same.median_rank == same.chance_rank == 30.5


def test_what_is_not_a_number_finds_nothing() -> None:
    broken = recall_at_k(torch.full((6, 4), torch.nan), torch.ones(6, 4), ks=(1, 5))
    assert broken.recall == {1: 0.0, 5: 0.0} and broken.median_rank == 6
    keys = torch.eye(6)
    keys[2] = torch.nan
    assert recall_at_k(torch.eye(6), keys, ks=(1, 2)).recall == {1: 0.0, 2: pytest.approx(5 / 6)}


def test_one_pair_is_refused() -> None:
    with pytest.raises(UserError, match="at least two pairs"):
        recall_at_k(torch.ones(1, 3), torch.ones(1, 3))


# ------------------------------------------------------------------------------------------------- images and captions


def test_captions_and_images_retrieve_each_other(clip_run: Path) -> None:
    """The captions of the run's test part: some texts are those of several images, whatever their letters."""
    subject = EvaluationSubject.open(clip_run)
    test = subject.data.test
    texts_of = [{text.lower() for text in test.captions.of(i)} for i in range(len(test))]
    texts = list(dict.fromkeys(text.lower() for text in test.captions.texts))
    assert len(texts) < len(test.captions.texts)
    encoder = load(clip_run)
    with torch.no_grad():
        x = torch.cat([encoder.image(batch.views[0]) for batch in plain_batches(test, size=subject.size)])
        y = encoder.text(texts)
    report = retrieve(subject).retrieval
    to_text = loop(x, y, [{texts.index(text) for text in own} for own in texts_of])
    queries = [(i, text.lower()) for i in range(len(test)) for text in test.captions.of(i)]
    asked = torch.stack([y[texts.index(text)] for _, text in queries])
    to_image = loop(asked, x, [{i for i, own in enumerate(texts_of) if text in own} for _, text in queries])
    for name, ranks, keys in (("image -> text", to_text, len(texts)), ("text -> image", to_image, len(test))):
        result = report[name]
        assert (result.queries, result.n) == (len(ranks), keys)
        assert result.recall == {k: pytest.approx(sum(r <= k for r in ranks) / len(ranks)) for k in (1, 5, 10)}
        assert result.median_rank == pytest.approx(torch.tensor(ranks).double().quantile(0.5).item())
    n = len(test)  # three captions an image: as many independent answers as images
    assert report["text -> image"].interval[10] == wilson(report["text -> image"].recall[10], n)


def test_a_test_part_without_captions_is_refused(clip_run: Path, images: Path) -> None:
    with pytest.raises(UserError, match="the test images of noise have no captions"):
        retrieve(EvaluationSubject.open(clip_run, data=str(images), val_fraction=0.2))


def words(text: str) -> list[str]:
    return re.findall(r"\w\w+", text.lower())


def by_words(train: Source, x: Tensor, alpha: float, texts: list[str]) -> list[list[float]]:
    """Predicted features of texts: the normal equations of ridge regression on tf-idf (Salton & Buckley 1988, with
    scikit-learn's smoothing: idf = 1 + ln((1 + n) / (1 + df))), written out in float64."""
    captions = train.captions.texts
    known = sorted({word for text in captions for word in words(text)})
    idf = [1 + math.log((1 + len(captions)) / (1 + sum(w in words(text) for text in captions))) for w in known]

    def row(text: str) -> list[float]:
        counts = [words(text).count(word) * weight for word, weight in zip(known, idf, strict=True)]
        length = math.sqrt(sum(value * value for value in counts)) or 1.0
        return [value / length for value in counts]

    t = torch.tensor([row(text) for text in captions], dtype=torch.float64)
    y = ((x - x.mean(0)) / (x.var(0, correction=0).sqrt() + 1e-6))[train.captions.image].double()
    weights = torch.linalg.inv(t.T @ t + alpha * torch.eye(len(known), dtype=torch.float64)) @ t.T @ y
    return (torch.tensor([row(text) for text in texts], dtype=torch.float64) @ weights).tolist()


def test_the_bag_of_words_is_a_ridge_regression_from_captions_to_features(clip_run: Path) -> None:
    subject = EvaluationSubject.open(clip_run)
    report = retrieve(subject, baselines=True)
    train, test, linear = subject.data.train, subject.data.test, report.bag_of_words
    assert report.retrieval == retrieve(subject).retrieval and retrieve(subject).bag_of_words is None
    encoder = load(clip_run)
    with torch.no_grad():
        x, z = (
            torch.cat([encoder(batch.views[0]) for batch in plain_batches(part, size=subject.size)])
            for part in (train, test)
        )
    z = (z - x.mean(0)) / (x.var(0, correction=0).sqrt() + 1e-6)
    texts = list(dict.fromkeys(text.lower() for text in test.captions.texts))
    predicted = torch.tensor(by_words(train, x, linear.alpha, texts))
    ranks = loop(z, predicted, [{texts.index(text.lower()) for text in test.captions.of(i)} for i in range(len(test))])
    found = linear.retrieval["image -> text"]
    assert found.recall == {k: pytest.approx(sum(r <= k for r in ranks) / len(ranks)) for k in (1, 5, 10)}
    assert found.median_rank == pytest.approx(torch.tensor(ranks).double().quantile(0.5).item())
    assert linear.words == len({word for text in train.captions.texts for word in words(text)})
    assert (
        f"bag of words: ridge regression of the image features on the tf-idf of {linear.words} words"
        in (report.notices[0])
    )
    assert linear.retrieval["text -> image"].recall[10] > 2 * linear.retrieval["text -> image"].chance[10]


def test_the_penalty_is_chosen_on_held_out_training_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features are sums of the words' own vectors and noise: too small a penalty learns the noise, too large a one
    shrinks rare words away. Test images take no part."""
    g = torch.Generator().manual_seed(0)
    vectors, names = torch.randn(30, 8, generator=g), [f"word{i}" for i in range(30)]
    drawn = torch.rand(150, 30, generator=g).argsort(1)[:, :3]
    x = vectors[drawn].sum(1) + 2 * torch.randn(150, 8, generator=g)
    captions = Captions([" ".join(names[w] for w in row)] for row in drawn.tolist())
    parts = [
        (Features(x[rows], torch.full((len(rows),), -1)), captions.subset(rows))
        for rows in torch.arange(150).split(100)
    ]
    tried: list[tuple[float, int]] = []
    whole = bag_of_words_module._Regression

    def noting(features: Features, own: Captions, alpha: float) -> Any:
        tried.append((alpha, len(own)))
        return whole(features, own, alpha)

    monkeypatch.setattr(bag_of_words_module, "_Regression", noting)
    result, said = bag_of_words_module.bag_of_words(*parts[0], *parts[1])
    rest, held_out = (parts[0][0].subset(rows) for rows in split(100, None, 0.2, 0))
    own = [parts[0][1].subset(rows) for rows in split(100, None, 0.2, 0)]
    sums: list[list[float]] = [
        [],
        [],
    ]  # of the held-out images; of those that are learnt from, which would choose another one
    for alpha in bag_of_words_module.ALPHAS:
        learnt = whole(rest, own[0], alpha)
        for each, features, texts in zip(sums, (held_out, rest), (own[1], own[0]), strict=True):
            each.append(
                sum(share for pair in learnt.retrieve(features, texts).values() for share in pair.recall.values())
            )
    chosen = [max(zip(each, bag_of_words_module.ALPHAS, strict=True))[1] for each in sums]
    assert chosen[0] != chosen[1] and result.alpha == chosen[0]
    assert tried == [*((alpha, 80) for alpha in bag_of_words_module.ALPHAS), (result.alpha, 100)]
    assert "chosen on 20 training images" in said[0]
    swapped = (
        parts[1][0].subset(torch.arange(49, -1, -1)),
        parts[1][1],
    )  # other images: other recalls, the same choice
    assert bag_of_words_module.bag_of_words(*parts[0], *swapped)[0].alpha == result.alpha
    with pytest.raises(UserError, match="--baselines needs ten training images with captions, there are 9"):
        few = torch.arange(9)
        bag_of_words_module.bag_of_words(parts[0][0].subset(few), parts[0][1].subset(few), *parts[1])
    with pytest.raises(UserError, match="needs captions with words of two letters or more"):
        bag_of_words_module.bag_of_words(parts[0][0], Captions(["a"] for _ in range(100)), *parts[1])


def test_baselines_need_captions(clip_run: Path, cmc_run: Path) -> None:
    with pytest.raises(UserError, match="--baselines ranks captions by their words, and .* has none: drop it"):
        retrieve(EvaluationSubject.open(cmc_run), baselines=True)
