"""What a page says of retrieval.json and zero-shot.json."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from contrastkit.cli.main import main
from contrastkit.errors import UserError
from contrastkit.report.content import Missing, Scale, Table
from contrastkit.report.evaluation import Results
from contrastkit.report.results import Report
from contrastkit.report.retrieved import retrieval_table, zero_shot_table

PAIR = {"recall": {"1": 0.25, "5": 0.5}, "interval": {"1": [0.1, 0.4], "5": [0.3, 0.7]}, "chance": {"1": 0.1, "5": 0.4}}
RETRIEVAL: dict[str, Any] = {"data": "scenes", "retrieval": {"image -> text": PAIR}, "bag_of_words": None}
WORDS = {"retrieval": {"image -> text": PAIR | {"recall": {"1": 0.75, "5": 0.8}}}}
ACCURACY = {"top1": 0.175, "top5": 0.6, "n": 2400, "interval": [0.16, 0.19]}
ZERO_SHOT: dict[str, Any] = {
    "data": "eurosat",
    "accuracy": ACCURACY,
    "chance": {"top1": 0.1, "top5": 0.5},
    "names": {"River": ["river"], "Forest": ["forest"]},
    "templates": ["a photo of a {}."],
}


def test_recall_beside_that_by_words() -> None:
    table = retrieval_table(Report(Path("retrieval.json"), RETRIEVAL | {"bag_of_words": WORDS}, None))
    assert table.rows == (
        ("image -> text", "this run", "1", "25.00 %", "10.0 to 40.0 %", Scale(0.25, 0.1, 0.4, 0.1)),
        ("image -> text", "this run", "5", "50.00 %", "30.0 to 70.0 %", Scale(0.5, 0.3, 0.7, 0.4)),
        ("image -> text", "words, by regression", "1", "75.00 %", "10.0 to 40.0 %", Scale(0.75, 0.1, 0.4, 0.1)),
        ("image -> text", "words, by regression", "5", "80.00 %", "30.0 to 70.0 %", Scale(0.8, 0.3, 0.7, 0.4)),
    )


def test_zero_shot_beside_guessing() -> None:
    table = zero_shot_table(Report(Path("zero-shot.json"), ZERO_SHOT, None))
    assert table.caption == "2,400 images of eurosat" and "a photo of a {}." in table.note
    assert table.rows == (("2 classes by name", "17.50 %", "16.0 to 19.0 %", Scale(0.175, 0.16, 0.19, 0.1)),)


@pytest.mark.parametrize(
    "broken", [{"retrieval": {}}, {"retrieval": {"a": PAIR | {"chance": {"1": 0.1}}}}, {"bag_of_words": 3}]
)
def test_a_damaged_retrieval_is_named(broken: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"retrieval.json is damaged"):
        retrieval_table(Report(Path("retrieval.json"), RETRIEVAL | broken, None))


@pytest.mark.parametrize("broken", [{"chance": {}}, {"accuracy": {}}, {"templates": "a {}"}])
def test_a_damaged_zero_shot_is_named(broken: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"zero-shot.json is damaged"):
        zero_shot_table(Report(Path("zero-shot.json"), ZERO_SHOT | broken, None))


def test_a_run_of_clip_shows_what_it_retrieves_and_asks_for_what_is_missing(clip_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(clip_run, run)
    for name in ("retrieval", "zero-shot"):
        (run / f"{name}.json").unlink(missing_ok=True)
    missing = Results(run, None).retrieved(views=False, texts=True)
    assert [block.command.split()[1] for block in missing if isinstance(block, Missing)] == ["retrieve", "zero-shot"]
    assert main(["retrieve", str(run), "--device=cpu"]) == 0
    made = json.loads((run / "retrieval.json").read_text())["made"]
    table, asked = Results(run, made["weights"]).retrieved(views=False, texts=True)
    assert isinstance(table, Table) and len(table.rows) == 2 * 3 and isinstance(asked, Missing)
    (other, _) = Results(run, "of another encoder").retrieved(views=False, texts=True)
    assert isinstance(other, Missing) and "other weights" in other.why


def test_a_run_that_cannot_retrieve_is_not_asked_to(tmp_path: Path) -> None:
    assert Results(tmp_path, None).retrieved(views=False, texts=False) == []
