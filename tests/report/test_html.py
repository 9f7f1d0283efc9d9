"""The page of a report as HTML: what names with markup become, its structure, and its pictures."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from contrastkit import report as library
from contrastkit.report.content import (
    Code,
    Facts,
    Missing,
    Page,
    Panels,
    Picture,
    RunContent,
    Scale,
    Section,
    Table,
    Text,
)
from contrastkit.report.pictures import found

EVIL = "<b onclick=x>&\"'</b>"


def strange() -> Page:
    """A page with markup in every text."""
    table = Table(EVIL, (EVIL, "b", "eye"), ((EVIL, EVIL, Scale(0.5, 0.4, 0.6, 0.1)),), (1,), EVIL, folded=True)
    picture = Picture("data:,x", 800, 8, EVIL, EVIL)
    every = (
        Text(EVIL),
        Missing(EVIL, EVIL),
        Facts(((EVIL, EVIL),)),
        table,
        picture,
        Panels((picture,), EVIL),
        Code((EVIL,)),
    )
    section = Section("part", EVIL, every)
    run = RunContent(EVIL, EVIL, False, EVIL, (section,))
    return Page(EVIL, EVIL, Section("comparison", EVIL, every), (run, run))


class Tags(HTMLParser):
    """The tags, with their attributes, and whether they are balanced."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts += data


def test_names_with_markup_are_texts() -> None:
    text = library.html(strange())
    parsed = Tags(text)
    assert parsed.open == [] and not any("onclick" in attributes for _, attributes in parsed.seen)
    assert "b" not in {tag for tag, _ in parsed.seen} and parsed.texts.count(EVIL) > 30
    alts = [attributes["alt"] for tag, attributes in parsed.seen if tag == "img"]
    assert len(alts) == 6 and set(alts) == {EVIL}


def test_a_page_has_landmarks_and_headings_in_order() -> None:
    parsed = Tags(library.html(strange()))
    tags = [tag for tag, _ in parsed.seen]
    assert [tags.count(tag) for tag in ("h1", "main", "nav")] == [1, 1, 1]
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(b <= a + 1 for a, b in zip(levels, levels[1:], strict=False))
    assert all(a.get("scope") for tag, a in parsed.seen if tag == "th")
    assert tags.count("caption") == tags.count("table")


def test_pictures_become_small_and_keep_their_colours(tmp_path: Path) -> None:
    drawing = Image.effect_noise((300, 200), 90).quantize(64).convert("RGB")
    drawing.save(tmp_path / "drawing.png", compress_level=0)
    picture = found(tmp_path / "drawing.png", alt="x")
    assert picture.source.startswith("data:image/png;base64,") and (picture.width, picture.height) == (300, 200)
    data = base64.b64decode(picture.source.partition(",")[2])
    assert len(data) < (tmp_path / "drawing.png").stat().st_size / 2
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), np.asarray(drawing))
    noise = np.random.default_rng(0).integers(0, 256, (500, 500, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((1000, 1000)).save(tmp_path / "photo.png")
    assert found(tmp_path / "photo.png", alt="x").source.startswith("data:image/jpeg;")
