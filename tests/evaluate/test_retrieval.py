"""Retrieval compared with ranks computed in loops."""

import itertools
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from contrastkit.data import plain_batches
from contrastkit.errors import UserError
from contrastkit.evaluate import EvaluationSubject, retrieve
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
