"""What README.md and docs/ show of the results is what the results say."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MARK = re.compile(r"<!-- python -m benchmarks\.sections (\w+) -->")


@pytest.fixture
def sections(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import sections

    if not sections.pages()[0].is_file():
        pytest.skip("not in a checkout")
    return sections


def test_every_section_stands_in_one_page_and_is_what_the_results_say(sections) -> None:
    places: dict[str, list[Path]] = {}
    for path in sections.pages():
        page = path.read_text()
        for name in MARK.findall(page):
            places.setdefault(name, []).append(path)
            parts = page.split(f"<!-- python -m benchmarks.sections {name} -->\n")[1].split(f"\n<!-- end of {name} -->")
            assert len(parts) == 2, f"{path.name}: the end of {name} is missing"
            assert parts[0] == sections.SECTIONS[name](), f"{path.name}: {name}: run python -m benchmarks.sections"
        assert page.count("<!-- end of ") == len(MARK.findall(page))
    assert places.keys() == sections.SECTIONS.keys()
    assert {name for name, paths in places.items() if len(paths) > 1} == set()


def test_the_results_own_page_has_every_way(sections) -> None:
    assert (sections.RESULTS / "README.md").read_text() == sections.every_way()


def test_a_page_is_filled_between_its_marks_alone(sections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sections.SECTIONS, "causal", lambda: "new\n1")
    page = "a\n<!-- python -m benchmarks.sections causal -->\nold\n<!-- end of causal -->\nb\n"
    assert sections.filled(page) == page.replace("old", "new\n1")
