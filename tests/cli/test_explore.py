"""search, duplicates, cluster, map and attend as commands: what they print and write, and their options."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image

from contrastkit import explore
from contrastkit.cli.main import app, main
from contrastkit.errors import UserError
from contrastkit.evaluate import EvaluationSubject
from contrastkit.explore import Gallery
from tests.cli.test_options import ENCODER, SUBJECT
from tests.schemas import read_report

REQUIRED = {"search": ["--query=x.png"], "duplicates": [], "cluster": [], "map": []}


@pytest.fixture
def query(hard_images: Path, tmp_path: Path) -> Path:
    """The first image of the set, as a file."""
    with np.load(hard_images) as data:
        Image.fromarray(data["images"][0]).save(tmp_path / "query.png")
    return tmp_path / "query.png"


@pytest.fixture
def features(moco_run: Path, tmp_path: Path) -> str:
    assert main(["embed", str(moco_run), f"--out={tmp_path / 'features.npz'}"]) == 0
    return f"--features={tmp_path / 'features.npz'}"


def test_search(moco_run: Path, features: str, query: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = [f"--json={tmp_path / 'x.json'}", f"--sheet={tmp_path / 'x.png'}"]
    assert main(["search", str(moco_run), features, f"--query={query}", "--k=4", *out]) == 0
    (found,) = read_report("search", tmp_path / "x.json")["matches"].values()
    assert len(found) == 4 and found[0]["cosine"] == pytest.approx(1)
    printed = capsys.readouterr().out
    assert all(match["image"] in printed for match in found) and f"pictures: {tmp_path / 'x.png'}" in printed
    assert json.loads((moco_run / "search.json").read_text())["images"] == 280
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.format == "PNG"
    assert main(["search", str(moco_run), features, f"--query={query}"]) == 0  # its own sheet, in the run
    assert (moco_run / "search.png").is_file()


def test_duplicates(moco_run: Path, features: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["duplicates", str(moco_run), features, "--threshold=0.8", f"--out={tmp_path / 'x.csv'}"]) == 0
    report = read_report("duplicates", moco_run / "duplicates.json")
    assert report["threshold"] == 0.8 and report["exact"]
    pairs = sum(len(group["pairs"]) for group in report["groups"])
    assert f"{pairs:,} pairs (all pairs compared): {pairs:,} similar" in capsys.readouterr().out
    assert len((tmp_path / "x.csv").read_text().splitlines()) == 1 + pairs > 2
    assert (moco_run / "duplicates.png").is_file()


def test_the_run_keeps_the_first_pairs_alone(
    moco_run: Path, features: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("contrastkit.cli.duplicates.LISTED", 2)
    assert main(["duplicates", str(moco_run), features, "--threshold=0.8", f"--json={tmp_path / 'x.json'}"]) == 0
    own, full = (read_report("duplicates", path) for path in (moco_run / "duplicates.json", tmp_path / "x.json"))
    pairs, first = ([pair for group in of["groups"] for pair in group["pairs"]] for of in (full, own))
    assert first == pairs[:2] and all(group["pairs"] for group in own["groups"])
    assert own["pairs_left_out"] == len(pairs) - 2 > 0 == full["pairs_left_out"]
    assert own["pairs"] == full["pairs"] and sum(full["pairs"].values()) == len(pairs)
    assert "lists the first 2 pairs: --out FILE.csv or --json FILE has them all" in capsys.readouterr().out


def test_cluster(moco_run: Path, features: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cluster", str(moco_run), features, "-K", "3", f"--out={tmp_path / 'x.csv'}"]) == 0
    report = read_report("cluster", moco_run / "cluster.json")
    assert report["k"] == 3 and sum(each["images"] for each in report["clusters"]) == 280
    printed = capsys.readouterr().out
    agreement = report["agreement"]
    assert (
        f"NMI {agreement['nmi']:.3f} (by chance {agreement['nmi_chance']:.3f}), ARI {agreement['ari']:.3f}" in printed
    )
    assert (moco_run / "cluster.png").is_file() and len((tmp_path / "x.csv").read_text().splitlines()) == 281


def test_map(
    moco_run: Path, features: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("contrastkit.explore.projection.find_spec", lambda name: None)  # UMAP compiles for long
    options = ["--images=40", "--colour=cluster", "-K", "3", f"--out={tmp_path / 'x.csv'}"]
    assert main(["map", str(moco_run), features, *options]) == 0
    report = read_report("map", moco_run / "map.json")
    assert report["images"] == 40 and report["colour"] == "cluster" and report["chance"] == 10 / 39
    assert "40 of the 280 images are on the map" in capsys.readouterr().out
    assert (moco_run / "map.png").is_file() and len((tmp_path / "x.csv").read_text().splitlines()) == 41


def test_attend(moco_run: Path, query: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = [
        f"--{name}={tmp_path / 'x'}.{ending}" for name, ending in (("json", "json"), ("sheet", "png"), ("out", "npz"))
    ]
    assert main(["attend", str(moco_run), str(query), "--size=32", "--at", "0.9", "0.1", "--device=cpu", *out]) == 0
    report = read_report("attend", tmp_path / "x.json")
    assert report["grid"] == [4, 4] and report["at"] == [0.9, 0.1] and report["images"][0]["entropy"] is None
    assert "no attention: the encoder is no vision transformer with a class token" in capsys.readouterr().out
    with np.load(tmp_path / "x.npz") as maps:
        assert maps["similarity"][0, 0, 3] == pytest.approx(1)
    assert (tmp_path / "x.png").is_file()


def test_attend_keeps_its_maps_when_the_sheet_fails(
    moco_run: Path, query: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise UserError("a sheet of 900 rows is too tall")

    monkeypatch.setattr("contrastkit.explore.attending.draw_maps", refuse)
    monkeypatch.chdir(tmp_path)
    assert main(["attend", str(moco_run), str(query), "--device=cpu", "--json=x.json", "--out=x.npz"]) == 2
    assert Path("x.json").is_file() and Path("x.npz").is_file()


def test_another_data_set_writes_nothing_into_the_run(
    moco_run: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = {path.name for path in moco_run.iterdir()}
    assert main(["cluster", str(moco_run), f"--data={images}"]) == 0
    assert {path.name for path in moco_run.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["cluster.png"]


# --------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize("command", REQUIRED)
def test_the_options_of_a_gallery_reach_it(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, Any] = {}

    def subject(**how: Any) -> None:
        arguments.update(how)

    def gallery(subject: None, *, on_progress: Any, **how: Any) -> Gallery:
        arguments.update(how)
        raise UserError("enough")

    monkeypatch.setattr(EvaluationSubject, "open", subject)
    monkeypatch.setattr(Gallery, "open", gallery)
    own = {"--split=test": ("split", "test"), "--features=x.npz": ("features", Path("x.npz"))}
    assert main([command, "RUN", *REQUIRED[command]]) == 2
    defaults = dict(arguments)
    for option, (name, value) in (SUBJECT | ENCODER | own).items():
        arguments.clear()
        assert main([command, "RUN", *REQUIRED[command], option]) == 2
        assert arguments == {**defaults, name: value} and defaults[name] != value, option


OWN: dict[str, dict[str, tuple[str, Any]]] = {
    "search": {"--k=3": ("k", 3)},
    "duplicates": {"--threshold=0.5": ("threshold", 0.5)},
    "cluster": {"--K=3": ("k", 3), "--seed=4": ("seed", 4)},
    "map": {
        "--K=3": ("k", 3),
        "--seed=4": ("seed", 4),
        "--images=9": ("images", 9),
        "--colour=class": ("colour", "class"),
    },
}


@pytest.mark.parametrize("command", OWN)
def test_the_options_of_each_command_reach_the_library(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, Any] = {}
    positional = {"search": ["queries"], "duplicates": ["threshold"], "cluster": ["k"], "map": []}[command]

    def library(gallery: Any, *values: Any, on_progress: Any, **how: Any) -> None:
        arguments.update(dict(zip(positional, values, strict=True)), **how)
        raise UserError("enough")

    monkeypatch.setattr(EvaluationSubject, "open", lambda **how: None)
    monkeypatch.setattr(Gallery, "open", lambda *args, **how: None)
    monkeypatch.setattr(explore, "project" if command == "map" else command, library)
    assert main([command, "RUN", *REQUIRED[command]]) == 2
    defaults = dict(arguments)
    for option, (name, value) in OWN[command].items():
        assert main([command, "RUN", *REQUIRED[command], option]) == 2
        assert arguments == {**defaults, name: value} and defaults[name] != value, option
    assert command != "search" or defaults["queries"] == ["x.png"]


def test_every_option_is_in_a_table() -> None:
    group: Any = typer.main.get_command(app)
    elsewhere = {"run", "query", "json", "debug", "out", "sheet", "split", "features"}  # tested above
    for command, own in OWN.items():
        flags = {option.split("=")[0] for option in (*own, *SUBJECT, *ENCODER)}
        names = {flag[2:].replace("-", "_").lower() for flag in flags}
        assert {parameter.name for parameter in group.get_command(None, command).params} - elsewhere == names, command
