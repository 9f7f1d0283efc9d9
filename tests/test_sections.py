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


def test_environments_of_images_are_pooled_over_what_is_held_out(sections, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of PACS a seed counts once all four environments are measured; of digits each case has its own line."""
    from benchmarks import stable_images

    held = {"art_painting": 40.0, "cartoon": 60.0, "photo": 80.0, "sketch": 20.0}
    of_pacs = [("pacs", place, 0, {place: top1}) for place, top1 in held.items()]
    of_pacs += [("pacs", place, 1, {place: 99.0}) for place in ("photo", "sketch")]
    of_digits = [("digits", "0.1,0.2", seed, {"0.1": 80.0, "0.5": 50.0, "0.9": 20.0 + seed}) for seed in (0, 1)]
    rows = [
        {"set": name, "case": case, "seed": seed, "encoder": "MoCo", "learner": "ERM", "environments": found}
        for name, case, seed, found in (*of_pacs, *of_digits)
    ]
    monkeypatch.setattr(stable_images, "measured", lambda: rows)
    lines = stable_images.table().splitlines()[2:]
    assert lines == [
        "| digits 0.1,0.2 | MoCo | ERM | 2 | 50.2 (48.0 to 52.3) | 24.3 (21.7 to 26.9) | 20.5 (14.1 to 26.9) |",
        "| pacs | MoCo | ERM | 1 | 50.0 | 22.4 | 20.0 |",
    ]
