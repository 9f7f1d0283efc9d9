"""What the cards say of every method, against what is known of the papers."""

import pytest

from contrastkit.cards import CARDS, DISTILLATIONS, EVERY, SUPERVISED
from contrastkit.methods import DISTILLATIONS as DISTILLED_RECIPES
from contrastkit.methods import RECIPES
from contrastkit.methods import SUPERVISED as SUPERVISED_RECIPES
from contrastkit.methods.rows import rows_of
from contrastkit.names import DISTILLED, DISTILLED_SUMMARIES, METHODS, SUMMARIES

# In order of publication: the paper's first version on arXiv, its first author, and whether the loss pushes other
# images away.
PAPERS = {
    "instdisc": ("1805.01978", "2018-05-05", "Wu", True),
    "cpc-audio": ("1807.03748", "2018-07-10", "van den Oord", True),
    "cpc-v1": ("1807.03748", "2018-07-10", "van den Oord", True),
    "invaspread": ("1904.03436", "2019-04-06", "Ye", True),
    "cpc-v2": ("1905.09272", "2019-05-22", "H", True),
    "cmc": ("1906.05849", "2019-06-13", "Tian", True),
    "moco-v1": ("1911.05722", "2019-11-13", "He", True),
    "simclr-v1": ("2002.05709", "2020-02-13", "Chen", True),
    "moco-v2": ("2003.04297", "2020-03-09", "Chen", True),
    "byol": ("2006.07733", "2020-06-13", "Grill", False),
    "swav": ("2006.09882", "2020-06-17", "Caron", False),
    "simclr-v2": ("2006.10029", "2020-06-17", "Chen", True),
    "simsiam": ("2011.10566", "2020-11-20", "Chen", False),
    "clip": ("2103.00020", "2021-02-26", "Radford", True),
    "moco-v3": ("2104.02057", "2021-04-05", "Chen", True),
    "dino": ("2104.14294", "2021-04-29", "Caron", False),
    "mae": ("2111.06377", "2021-11-11", "He", False),
    "ms-clip": ("2207.12661", "2022-07-26", "You", True),
}
DISTILLING = {
    "crd": ("1910.10699", "2019-10-23", "Tian", True),
    "simclr-v2-distill": ("2006.10029", "2020-06-17", "Chen", False),
}
WITH_LABELS = {
    "irm": ("1907.02893", "2019-07-05", "Arjovsky", False),
    "groupdro": ("1911.08731", "2019-11-20", "Sagawa", False),
    "erm": ("2007.01434", "2020-07-02", "Gulrajani", False),
    "stablenet": ("2104.07876", "2021-04-16", "Zhang", False),
}


def test_every_method_has_a_card_in_order_of_publication() -> None:
    assert set(CARDS) == {name.split("/")[0] for name in RECIPES}
    dates = [date for _, date, _, _ in PAPERS.values()]
    assert dates == sorted(dates)
    assert list(CARDS) == list(PAPERS)
    assert [METHODS[name] for name in SUMMARIES if name in CARDS] == list(PAPERS)  # of the command line, too


def test_every_distillation_has_a_card_and_a_word() -> None:
    assert set(DISTILLATIONS) == {name.split("/")[0] for name in DISTILLED_RECIPES}
    assert list(DISTILLATIONS) == list(DISTILLING) == list(DISTILLED.values())
    assert list(DISTILLED) == list(DISTILLED_SUMMARIES) == ["crd", "simclr-v2"]
    dates = [date for _, date, _, _ in DISTILLING.values()]
    assert dates == sorted(dates)


def test_every_method_with_labels_has_a_card_and_is_trained_by_train() -> None:
    assert set(SUPERVISED) == {name.split("/")[0] for name in SUPERVISED_RECIPES}
    assert list(SUPERVISED) == list(WITH_LABELS) and set(SUPERVISED) < set(SUMMARIES)
    dates = [date for _, date, _, _ in WITH_LABELS.values()]
    assert dates == sorted(dates)


@pytest.mark.parametrize("name", EVERY)
def test_the_card_is_the_papers(name: str) -> None:
    card = EVERY[name]
    arxiv, _, author, negatives = (PAPERS | DISTILLING | WITH_LABELS)[name]
    assert (card.name, card.arxiv, card.negatives) == (name, arxiv, negatives)
    who, year = card.paper.rsplit(" ", 1)
    assert who.startswith(author) and int(year) - 2000 in (int(arxiv[:2]), int(arxiv[:2]) + 1)


@pytest.mark.parametrize("name", EVERY)
def test_a_card_says_enough_and_fits_a_table(name: str) -> None:
    card = EVERY[name]
    for cell in (card.query, card.dictionary, card.target):
        assert 0 < len(cell) <= 60 and "\n" not in cell and "|" not in cell, cell
    assert card.title and len(card.equation) > 20
    assert len(card.idea) > 200 and "\n" not in card.idea, "a paragraph"
    for summary in (card.summary, *card.aliases.values()):
        assert 20 < len(summary) <= 110 and summary.endswith("."), "a line of train --help"
    for what, number, where in card.published:
        assert what and where and any(digit.isdigit() for digit in number), what


def test_cards_have_every_other_name_and_every_recipe() -> None:
    also = {name: card.name for card in CARDS.values() for name in card.aliases}
    assert also == {"cpc": "cpc-v2", "simclr": "simclr-v1", "moco": "moco-v2"}
    assert {f"{method}/{row}" for method in CARDS for row in rows_of(method)} == set(RECIPES)
