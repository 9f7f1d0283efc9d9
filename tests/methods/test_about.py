"""What is told of every method, against what is known of the papers."""

import pytest

from contrastkit import names
from contrastkit.methods import ABOUT, RECIPES, overview

# In the order of history: the paper, its first author, and whether its loss pushes other images away.
PAPERS = {
    "instdisc": ("1805.01978", "Wu", True),
    "invaspread": ("1904.03436", "Ye", True),
    "cpc-audio": ("1807.03748", "van den Oord", True),
    "cpc-v1": ("1807.03748", "van den Oord", True),
    "cpc-v2": ("1905.09272", "H", True),
    "cmc": ("1906.05849", "Tian", True),
    "moco-v1": ("1911.05722", "He", True),
    "simclr-v1": ("2002.05709", "Chen", True),
    "moco-v2": ("2003.04297", "Chen", True),
    "simclr-v2": ("2006.10029", "Chen", True),
    "swav": ("2006.09882", "Caron", False),
    "byol": ("2006.07733", "Grill", False),
    "simsiam": ("2011.10566", "Chen", False),
    "moco-v3": ("2104.02057", "Chen", True),
    "dino": ("2104.14294", "Caron", False),
}


def test_of_every_method_it_is_told_what_it_is_in_the_order_of_history() -> None:
    assert set(ABOUT) == {name.split("/")[0] for name in RECIPES}
    assert list(ABOUT) == [name for name in PAPERS if name in ABOUT]


@pytest.mark.parametrize("name", ABOUT)
def test_about_is_the_paper(name: str) -> None:
    about = ABOUT[name]
    arxiv, author, negatives = PAPERS[name]
    assert (about.arxiv, about.negatives) == (arxiv, negatives)
    who, year = about.paper.rsplit(" ", 1)
    assert who.startswith(author) and int(year) - 2000 in (int(arxiv[:2]), int(arxiv[:2]) + 1)


@pytest.mark.parametrize("name", ABOUT)
def test_about_tells_enough_and_fits_a_table(name: str) -> None:
    about = ABOUT[name]
    for cell in (about.query, about.dictionary, about.target):
        assert 0 < len(cell) <= 60 and "\n" not in cell and "|" not in cell, cell
    assert about.title and len(about.equation) > 20
    assert len(about.idea) > 200 and "\n" not in about.idea, "a paragraph"
    for what, number, where in about.published:
        assert what and where and any(digit.isdigit() for digit in number), what


def test_overview_has_every_method_every_other_name_and_every_recipe() -> None:
    told = {row["method"]: row for row in overview()}
    assert set(told) == set(names.METHODS.values())
    for alias, method in names.METHODS.items():
        assert alias == method or alias in told[method]["also"].split(", ")
    rows = {f"{method}/{row}" for method in told for row in told[method]["recipes"].split(", ")}
    assert rows == set(RECIPES)
