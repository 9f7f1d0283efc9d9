"""ablate: rows in order, resumed row by row, refused if they would not be comparable."""

import inspect
import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from contrastkit.ablation import ABLATIONS
from contrastkit.cli.main import main
from contrastkit.methods import RECIPES
from contrastkit.training import Options, Outcome, Plan
from tests.schemas import read_report

BYOL_NORM = ABLATIONS["byol-norm"].rows
QUICK = ["--encoder=tiny", "--device=cpu", "--epochs=1", "--val-fraction=0.2", "--monitor-every=1"]


@pytest.fixture
def few(images: Path, tmp_path: Path) -> Path:
    """96 of the images."""
    with np.load(images) as whole:
        np.savez(tmp_path / "few.npz", images=whole["images"][:96], labels=whole["labels"][:96])
    return tmp_path / "few.npz"


@pytest.mark.slow
def test_seven_rows_measured_beside_the_published_ones(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["ablate", "byol-norm", f"--data={few}", f"--out={tmp_path / 'all'}", *QUICK, "--batch=32"]

    from contrastkit.training import series

    trained: list[str] = []
    launch = series.launch

    def signalled_at_the_end_of_the_third(plan: Plan, **how: Any) -> Outcome:
        trained.append(plan.out.name)
        return replace(launch(plan, **how), signal=signal.SIGTERM if len(trained) == 3 else None)

    monkeypatch.setattr(series, "launch", signalled_at_the_end_of_the_third)
    assert main(command) == 128 + signal.SIGTERM
    assert "2 of 7 rows measured so far: repeat the command to resume" in capsys.readouterr().out
    rows = json.loads((tmp_path / "all" / "ablation.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["contrastive loss", "BYOL"]

    again: list[str] = []

    def counted(plan: Plan, **how: Any) -> Outcome:
        again.append(plan.out.name)
        return launch(plan, **how)

    monkeypatch.setattr(series, "launch", counted)
    capsys.readouterr()
    assert main([*command, f"--json={tmp_path / 'rows.json'}"]) == 0
    assert again == [name.replace(" ", "-") for name in list(BYOL_NORM)[3:-1]], "no finished run is trained again"
    report = read_report("ablate", tmp_path / "rows.json")
    assert (report["ablation"], report["recipe"], report["epochs"]) == ("byol-norm", "byol/tiny", 1)
    found = report["rows"]
    assert [row["name"] for row in found] == list(BYOL_NORM) and found[:2] == rows
    assert [row["published"] for row in found] == [44.1, 57.7, 55.3, 48.0, 28.3, 29.4, 28.8]
    assert all(0 <= row["linear"] <= 100 and 0 <= row["knn"] <= 100 for row in found)
    assert found[-1]["rank"] is None and all(row["rank"] > 0 for row in found[:-1])
    printed = capsys.readouterr().out
    assert "published" in printed and "measured" in printed and "28.3" in printed
    assert "Fetterman & Albrecht 2020: linear top-1, STL-10" in printed
    with Image.open(tmp_path / "all" / "ablation.png") as chart:
        assert chart.format == "PNG"

    # The runs differ only in what the ablation varies.
    recipes = {name: tmp_path / "all" / name.replace(" ", "-") / "recipe.json" for name in list(BYOL_NORM)[:-1]}
    numbers = {name: json.loads(path.read_text())["recipe"] for name, path in recipes.items()}
    byol = numbers["BYOL"]
    for name, own in numbers.items():
        differ = {"projector_norm", "predictor_norm"} | ({"negatives", "m", "lr"} if own["negatives"] else set())
        assert {key for key in byol if own[key] != byol[key]} <= differ, name

    byol_precision = json.loads(recipes["BYOL"].read_text())["options"]["precision"]
    # On a machine that another row and precision suit, the same command goes on with those of the first start.
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("contrastkit.training.teaching.choose_row", lambda recipes, **how: "byol/32")
        elsewhere.setattr("contrastkit.precision.cpu_has_fast_bfloat16", lambda: byol_precision != "bfloat16")
        assert main(command) == 0
        assert "byol/tiny on" in capsys.readouterr().out

    # Runs on other budgets are refused.
    assert main([*command, "--epochs=2"]) == 2
    assert "another recipe: choose another --out" in capsys.readouterr().err
    assert main(["ablate", "norm", *command[2:]]) == 2
    assert "another ablation, another" not in (said := capsys.readouterr().err) and "another ablation:" in said
    record = tmp_path / "all" / "ablation.json"
    whole = json.loads(record.read_text())
    for rows, says in (
        (whole["rows"][1:], "its rows are not those of this ablation"),
        ([whole["rows"][0] | {"knn": "high"}], "rows.knn must be a number"),
        ("none", "rows must be a list"),
    ):
        record.write_text(json.dumps(whole | {"rows": rows}))
        assert main(command) == 2
        assert f"is damaged: {says}" in capsys.readouterr().err
    record.write_text("{")
    assert main(command) == 2
    assert "is damaged" in capsys.readouterr().err


@pytest.mark.slow
def test_rows_of_two_methods_share_the_name_of_the_recipe_and_what_is_asked_for(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """SwAV's and SimCLR's, each with its own numbers; the second start trains only what is left."""
    from contrastkit.training import series

    trained: list[tuple[str, str, int, int]] = []
    launch = series.launch

    def spy(plan: Plan, **how: Any) -> Outcome:
        trained.append((plan.name, plan.out.name, plan.recipe.epochs, len(plan.recipe.views)))
        return launch(plan, **how)

    monkeypatch.setattr(series, "launch", spy)
    command = ["ablate", "multi-crop", f"--data={images}", f"--out={tmp_path / 'crops'}", *QUICK, "--batch=64"]
    assert main([*command, "--seed=3"]) == 0
    expected = [
        ("swav/tiny", "SwAV-two-crops", 1, 2), ("swav/tiny", "SwAV-multi-crop", 1, 4),
        ("simclr-v1/tiny", "SimCLR-two-crops", 1, 2), ("simclr-v1/tiny", "SimCLR-multi-crop", 1, 4),
    ]  # fmt: skip
    assert trained == expected
    kept = json.loads((tmp_path / "crops" / "ablation.json").read_text())
    assert kept["recipe"]["simclr-v1/tiny"]["batch"] == 64 and kept["recipe"]["swav/tiny"]["epochs"] == 1
    (tmp_path / "crops" / "ablation.json").write_text(json.dumps(kept | {"rows": kept["rows"][:3]}))
    assert main([*command, "--seed=3"]) == 0
    assert trained == expected, "the last run is there, only its measurement is repeated"
    again = json.loads((tmp_path / "crops" / "ablation.json").read_text())["rows"]
    assert again == kept["rows"]
    assert main([*command, "--seed=3", "--lr=0.5"]) == 2
    assert "another recipe: choose another --out" in capsys.readouterr().err


def test_grey_images_have_no_colours_to_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The embedded digits, the default data, are grey."""
    assert main(["ablate", "augmentations", f"--out={tmp_path / 'grey'}"]) == 2
    assert "ablate augmentations changes colours, and the images of affdigits have 1 channel(s)" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "grey").exists()


def test_a_row_that_cannot_be_built_stops_all_of_them(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first row, batch norm, could be trained with this encoder; the second, group norm, could not."""
    command = ["ablate", "norm", f"--data={images}", f"--out={tmp_path / 'no'}", "--encoder=timm:resnet10t"]
    assert main([*command, "--val-fraction=0.2", "--device=cpu", "--epochs=1"]) == 2
    assert "only tiny and untrained torchvision ResNets support group norm" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_another_method_needs_a_recipe_of_the_same_name(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["ablate", "multi-crop", f"--data={images}", f"--out={tmp_path / 'no'}", "--recipe=imagenet-160"]
    assert main([*command, "--val-fraction=0.2", "--device=cpu"]) == 2
    assert "simclr-v1 has no recipe 'imagenet-160', as swav/imagenet-160 is: choose another --recipe" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "no").exists()


def test_the_command_offers_every_ablation() -> None:
    from contrastkit.cli import ablate

    what = inspect.signature(ablate.ablate).parameters["what"].annotation
    assert set(get_args(get_args(what)[0])) == ABLATIONS.keys()


def test_each_option_reaches_the_library(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from contrastkit import ablation

    asked: list[tuple[Any, Any, Any, Path]] = []

    def spy(what: str, base: Plan, change: Any, *, out: Path, reporter: object) -> Iterator[object]:
        asked.append((what, base, change, out))
        return iter(())

    monkeypatch.setattr(ablation, "ablate", spy)
    given = [
        "--recipe=tiny",
        "--encoder=resnet18",
        "--epochs=3",
        "--batch=8",
        "--lr=0.5",
        "--monitor-every=4",
        "--workers=2",
    ]
    given += [
        "--batch=8",
        "--stretch",
        "--background=black",
        "--device=cpu",
        "--seed=6",
        "--val-fraction=0.25",
        f"--data={images}",
        f"--data-dir={tmp_path}",
    ]
    assert main(["ablate", "byol-norm", *given, f"--out={tmp_path / 'x'}"]) == 0
    ((what, base, change, out),) = asked
    assert (what, base.name, out) == ("byol-norm", "byol/tiny", tmp_path / "x")
    assert change(RECIPES["byol/tiny"]) == base.recipe
    assert (base.recipe.encoder, base.recipe.epochs, base.recipe.batch, base.recipe.lr) == ("resnet18", 3, 8, 0.5)
    assert replace(base.options, precision="auto") == Options(
        data=str(images), data_dir=tmp_path, device="cpu", seed=6, val_fraction=0.25, monitor_every=4, workers=2,
        stretch=True, background="black",
    )  # fmt: skip


def test_what_cannot_be_evaluated_is_not_trained(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "none"
    command = ["ablate", "byol-norm", f"--data={images}", f"--out={out}", "--encoder=tiny", "--device=cpu"]
    assert main(command) == 2
    assert "has no test part" in capsys.readouterr().err
    assert not out.exists()
    assert main(["ablate", "byol-nrm"]) == 2
    assert "byol-norm" in capsys.readouterr().err
