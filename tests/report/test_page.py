"""A report in a browser: nothing overlaps, nothing is cut, the console is silent and nothing is loaded."""

import json
from pathlib import Path

import pytest

from contrastkit.cli.main import main
from tests.report.chromium import BINARY, look
from tests.same import copy_as_trained

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BINARY is None, reason="needs Chromium: apt-get install chromium"),
]

LONG = "a class with & <b>quite</b> a long name_" + "x" * 60


@pytest.fixture(scope="module")
def page(moco_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on two runs, one of which has evaluations and a class of a long name."""
    folder = tmp_path_factory.mktemp("page")
    runs = [folder / "a run & <i>more</i>", folder / ("run-" + "x" * 90)]
    for run in runs:
        copy_as_trained(moco_run, run)
    assert main(["knn", str(runs[0]), "--baselines", "--device=cpu"]) == 0
    report = json.loads((runs[0] / "knn.json").read_text())
    for classes in report["per_class"].values():
        first = next(iter(classes))
        classes[LONG] = classes.pop(first)
        for each in classes.values():
            each["answers"] = {LONG if name == first else name: n for name, n in each["answers"].items()}
    (runs[0] / "knn.json").write_text(json.dumps(report))
    assert main(["report", *map(str, runs), f"--out={folder / 'page.html'}"]) == 0
    return folder / "page.html"


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, False), (1280, True)])
def test_nothing_overlaps_is_cut_or_hard_to_read(page: Path, width: int, dark: bool) -> None:
    seen = look(page, width=width, dark=dark)
    assert seen.faults == []
    assert (seen.complaints, seen.requests) == ([], [])


def test_each_fault_would_be_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        "<!DOCTYPE html><meta charset=utf-8><div>one</div><div style='margin-top:-9px'>two</div>"
        "<p style='width:2000px'>wide</p><p style='width:9px;overflow:hidden;white-space:nowrap'>much too long</p>"
        "<p style='color:#ccc;background:#fff'>pale</p><img src='data:,x' alt='broken'><a href='#no'>no</a>"
        "<script src='http://127.0.0.1:9/x.js'></script><script>console.error('loud')</script>"
    )
    seen = look(page, width=390)
    said = " | ".join(seen.faults)
    for fault in ("overlaps", "px wide", "cut: ", "contrast", "not drawn: broken", "leads nowhere: #no"):
        assert fault in said
    assert any("loud" in text for text in seen.complaints) and seen.requests == ["http://127.0.0.1:9/x.js"]
