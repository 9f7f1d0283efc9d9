"""Runs side by side: pooled over seeds, refused or said where they cannot be compared."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from contrastkit.augment import VIEWS
from contrastkit.cli.main import main
from contrastkit.compare import chart as charts
from contrastkit.compare import compare, comparison_chart
from contrastkit.errors import UserError
from contrastkit.evaluate.made import weights_of
from contrastkit.evaluate.origin import encoder_hash
from contrastkit.figures import DPI
from contrastkit.intervals import wilson
from contrastkit.parts.build import build_encoder, set_image_size
from tests.compare.runs import finetuned, knn, made, probe
from tests.schemas import read_report

TOP1 = {(0.2, 0): 0.61, (0.2, 1): 0.67, (0.2, 2): 0.64, (0.1, 0): 0.7, (0.1, 1): 0.72}
# What made a report of an earlier version, besides its weights.
ENTRY: dict[str, Any] = {"command": ["contrastkit"], "folder": None, "contrastkit": "1", "pictures": {}}


@pytest.fixture
def sweep(tmp_path: Path) -> list[Path]:
    """Runs of two temperatures, with three and two seeds."""
    runs = []
    for (tau, seed), top1 in TOP1.items():
        runs.append(made(tmp_path / f"{tau}-{seed}", tau=tau, seed=seed, losses=(3.0, 2.5, tau + 0.1 * seed)))
        knn(runs[-1], top1)
    return runs


def test_numbers_are_pooled_over_seeds(sweep: list[Path]) -> None:
    """Against numpy, whatever the order of the runs."""
    result = compare([sweep[i] for i in (3, 0, 4, 1, 2)])
    assert result.settings == ("tau",) and result.data == "photos"
    assert [(row.name, row.settings, row.seeds) for row in result.rows] == [
        ("tau 0.1", {"tau": 0.1}, (0, 1)), ("tau 0.2", {"tau": 0.2}, (0, 1, 2)),
    ]  # fmt: skip
    for row, tau in zip(result.rows, (0.1, 0.2), strict=True):
        top1 = np.array([value for (t, _), value in TOP1.items() if t == tau])
        loss = tau + 0.1 * np.arange(len(top1))
        assert row.numbers["knn"].values == tuple(top1) and row.numbers["knn"].interval is None
        for key, values in (("knn", top1), ("loss", loss)):
            number = row.numbers[key]
            assert number.n == len(values)
            np.testing.assert_allclose([number.mean, number.std], [values.mean(), values.std(ddof=1)], rtol=1e-12)
        assert row.numbers["monitor"].mean == 0.5 and row.numbers["monitor"].std == 0
        assert (row.epochs, row.of_epochs, row.finished) == (3, 3, True)
    assert result.evaluations == {"knn": {"k": 20, "T": 0.1, "size": "as trained", "n": 90}}
    assert result.notices == ("the scale of the loss depends on what differs here (tau): compare accuracies",)


def test_a_single_run_has_wilsons_interval(tmp_path: Path) -> None:
    run = made(tmp_path / "run", monitor=None)
    for add, top1 in ((knn, 0.5), (probe, 0.6), (finetuned, 0.7)):
        add(run, top1)
    (row,) = compare([run]).rows
    assert row.numbers.keys() == {"loss", "knn", "probe", "finetune"} and row.name == str(run)
    for key, top1 in (("knn", 0.5), ("probe", 0.6), ("finetune", 0.7)):
        number = row.numbers[key]
        assert (number.n, number.mean, number.std, number.interval) == (1, top1, None, wilson(top1, 90)), key
    assert (row.numbers["loss"].mean, row.numbers["loss"].interval) == (1.0, None)


def test_only_settings_that_differ(tmp_path: Path) -> None:
    """Also of views, of options and of other methods; one that a method lacks is left out of its row."""
    first, second = VIEWS["simclr-cifar"]
    views = (first, replace(second, blur_p=0.25))
    runs = [
        made(tmp_path / "a", lr=0.5),
        made(tmp_path / "b", lr=0.5, views=views, options={"compile": True, "workers": 3, "device": "cuda"}),
        made(tmp_path / "c", method="byol/tiny", lr=0.5),
    ]
    result = compare(runs)
    assert {"method", "blur_p", "compile"} <= set(result.settings)
    assert not {"lr", "workers", "device", "seed", "epochs", "tau"} & set(result.settings)
    a, b, c = (row.settings for row in result.rows)
    assert b["blur_p"] == [first.blur_p, 0.25] and (a["compile"], b["compile"]) == (False, True)
    assert c["method"] == "byol/tiny" and [row.name for row in result.rows] == list(map(str, runs))


def test_what_is_unfinished_or_repeated_stands_alone(tmp_path: Path) -> None:
    runs = [made(tmp_path / f"{seed}", seed=seed) for seed in (0, 1)]
    runs += [made(tmp_path / "again", seed=1), made(tmp_path / "part", seed=2, losses=(4.0,), finished=False)]
    result = compare(runs)
    assert [row.seeds for row in result.rows] == [(0, 1), (1,), (2,)]
    part = result.rows[2]
    assert (part.finished, part.epochs, part.of_epochs, part.numbers["loss"].mean) == (False, 1, 3, 4.0)
    assert result.notices == (
        f"unfinished, and not pooled with finished runs: {tmp_path / 'part'} after 1 of 3 epochs",
        f"{tmp_path / 'again'} has the settings and the seed of {tmp_path / '1'}: it stands in another row",
    )
    assert [row.name for row in result.rows] == [str(runs[0]), str(runs[2]), str(runs[3])]


def test_probes_on_weighted_images_are_not_pooled_with_others(tmp_path: Path) -> None:
    runs = [made(tmp_path / f"{seed}", seed=seed) for seed in range(3)]
    weights = {"file": "w.csv", "images": 90, "effective": 31.5, "least": 0.1, "most": 9.0}
    others: list[dict[str, Any]] = [{"weights": None}, {"weights": weights}, {}]
    for run, more in zip(runs, others, strict=True):
        probe(run, 0.6, **more)
    result = compare(runs)
    (row,) = result.rows
    assert row.numbers["probe"].values == (0.6, None, 0.6) and "effective sample" not in result.evaluations["probe"]
    assert any(str(runs[1]) in notice and "left out" in notice for notice in result.notices)


def test_evaluations_are_left_out_where_they_are_other_ones(tmp_path: Path) -> None:
    """Another k, other labels, or older than the encoder; that most runs have stays."""
    runs = [made(tmp_path / f"{seed}", seed=seed) for seed in range(3)]
    for run, k in zip(runs, (200, 20, 20), strict=True):
        knn(run, 0.5, k=k)
    finetuned(runs[0], 0.8, images=40)
    finetuned(runs[1], 0.9, images=80)
    probe(runs[2], 0.7)
    os.utime(runs[2] / "probe.json", (0, 0))
    result = compare(runs)
    (row,) = result.rows
    assert result.evaluations["knn"]["k"] == 20 and row.numbers["knn"].values == (None, 0.5, 0.5)
    assert row.numbers["finetune"].values == (0.8, None, None) and "probe" not in row.numbers
    assert result.notices == (
        f"{runs[2]}: probe.json is older than the run's encoder: left out; repeat 'contrastkit probe {runs[2]}'",
        f"knn.json of {runs[0]} is not measured as that of {runs[1]} (k 20): left out; "
        "repeat 'contrastkit knn --k 20' there",
        f"finetune.json of {runs[1]} is not measured as that of {runs[0]} (labels 40, a class 10,10): left out; "
        "repeat 'contrastkit finetune' there",
        f"{row.name}: knn is of 2 of 3 runs",
        f"{row.name}: finetune is of 1 of 3 runs",
    )


def test_each_run_is_evaluated_at_its_own_size(tmp_path: Path) -> None:
    """The size follows from the views, which is what one compares; one that was asked for is another way to measure."""
    runs = [made(tmp_path / str(size), size=size, method=f"moco-v2/{row}") for size, row in ((16, "tiny"), (96, "32"))]
    for run, size in zip(runs, (16, 96), strict=True):
        knn(run, 0.5, size=size)
        probe(run, 0.6, size=size)
    result = compare(runs)
    assert [row.numbers["knn"].n + row.numbers["probe"].n for row in result.rows] == [2, 2]
    assert not [line for line in result.notices if "left out" in line]

    knn(runs[1], 0.5, size=16)  # with --size 16
    result = compare(runs)
    assert "knn" not in result.rows[1].numbers and (
        f"knn.json of {runs[1]} is not measured as that of {runs[0]} (size as trained): left out; "
        "repeat 'contrastkit knn' there" in result.notices
    )
    assert (
        f"of {runs[0]} is not measured as that of {runs[1]} (size 16): left out; repeat 'contrastkit knn --size 16'"
        in (next(line for line in compare(runs[::-1]).notices if "left out" in line))
    )


def test_an_evaluation_is_known_by_its_weights(tmp_path: Path) -> None:
    """Dates decide only where the file does not say of which weights it is, or these cannot be loaded."""
    run, encoder = made(tmp_path / "run"), build_encoder("tiny", channels=3, size=16)
    save_file(encoder.state_dict(), run / "encoder.safetensors")
    knn(run, 0.5, made=ENTRY | {"weights": encoder_hash(encoder)})
    probe(run, 0.6, made=ENTRY | {"weights": "0" * 16})
    os.utime(run / "knn.json", (0, 0))
    result = compare([run])
    assert "knn" in result.rows[0].numbers and "probe" not in result.rows[0].numbers
    assert result.notices == (
        f"{run}: probe.json is of other weights than those of the run now: left out; repeat 'contrastkit probe {run}'",
    )
    (run / "encoder.safetensors").write_bytes(b"")
    result = compare([run])
    assert "knn" not in result.rows[0].numbers and "knn.json is older than the run's encoder" in result.notices[0]


def test_a_transformer_evaluated_at_another_size_has_the_same_weights(tmp_path: Path) -> None:
    """Its positions are resampled for the size: the hash is that of the encoder at the size of the evaluation."""
    kind: dict[str, Any] = {"name": "timm:vit_tiny_patch16_224", "channels": 3, "size": 32}
    run, encoder = made(tmp_path / "run"), build_encoder(**kind)
    record = json.loads((run / "recipe.json").read_text()) | {"encoder": kind}
    (run / "recipe.json").write_text(json.dumps(record))
    save_file(encoder.state_dict(), run / "encoder.safetensors")
    set_image_size(encoder, 48)
    knn(run, 0.5, size=48, made=ENTRY | {"weights": encoder_hash(encoder)})
    assert weights_of(run) != weights_of(run, 48) == encoder_hash(encoder)
    assert "knn" in compare([run]).rows[0].numbers


@pytest.mark.parametrize(
    "options, data, says",
    [
        ({}, {"fingerprint": "ab.ce"}, "was trained on photos"),
        ({}, {"fingerprint": "ff"}, "compare runs on one data set"),
        ({"labelled": "/b/others"}, {}, "are tested on other images (--labelled /a/few and /b/others)"),
        ({"labelled": "/a/few", "test_part": "v2"}, {}, "are tested on other images (--test-part val and v2)"),
        ({"val_fraction": 0.2}, {}, "are tested on other images (--val-fraction none and 0.2)"),
        ({"labelled": "few"}, {}, "are tested on other images (--labelled none and few)"),
    ],
)
def test_other_test_images_are_refused(
    tmp_path: Path, options: dict[str, Any], data: dict[str, Any], says: str
) -> None:
    asked = {"labelled": "/a/few", "test_part": "val"} if "/" in str(options) else {}
    runs = [made(tmp_path / "a", options=asked), made(tmp_path / "b", seed=1, options=options, data=data)]
    with pytest.raises(UserError) as error:
        compare(runs)
    assert says in str(error.value) and str(runs[1]) in str(error.value)


def test_test_images_that_may_be_the_same_are_said(tmp_path: Path) -> None:
    """A labelled set that was moved, and a test part by its name and by default: the records cannot tell."""
    for name, mine, other in (
        ("labelled", "/a/few", "/b/few"), ("test_part", None, "val"), ("test_part", "val", None),
    ):  # fmt: skip
        runs = [
            made(tmp_path / f"{name}-{mine is None}-{i}", seed=i, options={name: value})
            for i, value in enumerate((mine, other))
        ]
        (notice,) = compare(runs).notices
        flag = name.replace("_", "-")
        assert notice == (
            f"the records do not say whether all test images are the same (--{flag} {mine or 'none'} and "
            f"{other or 'none'}): taken to be"
        )


def test_labelled_images_are_known_by_their_fingerprint(tmp_path: Path) -> None:
    """Not by their path; of most runs, where a set has changed in between; without one, as far as the names say."""

    def tested(name: str, labelled: str, data: str | None) -> Path:
        run = made(tmp_path / name, seed=len(name), options={"labelled": labelled, "val_fraction": 0.5})
        for add in (knn, probe):
            add(run, 0.5, made=ENTRY | {"weights": "0" * 16} | ({} if data is None else {"data": data}))
        return run

    a, moved = tested("a", "/a/few", "00"), tested("bb", "/b/others", "00")
    assert [row.numbers["knn"].n for row in compare([a, moved]).rows] == [2]
    assert all("taken to be" not in notice for notice in compare([a, moved]).notices)
    changed, old = tested("ccc", "/a/few", "11"), tested("dddd", "/a/few", None)
    result = compare([changed, a, moved, old])
    assert result.rows[0].numbers["probe"].values == (None, 0.5, 0.5, 0.5)
    assert (
        f"knn.json of {changed} is of other test images or labels than that of {a}: left out; if the set has changed "
        "in between, repeat 'contrastkit knn' for each run" in result.notices
    )
    with pytest.raises(UserError, match="are tested on other images"):
        compare([a, tested("eeeee", "/b/others", None)])
    assert "taken to be" in compare([a, tested("ffffff", "/b/few", None)]).notices[0]


def test_held_out_images_of_other_seeds_are_said(tmp_path: Path) -> None:
    held_out = {"val_fraction": 0.2}
    a = made(tmp_path / "a", options=held_out)
    b = made(tmp_path / "b", seed=1, options=held_out, data={"fingerprint": "ff"})
    result = compare([a, b])
    assert len(result.rows) == 1 and "each seed holds out other test images" in result.notices[0]
    assert "known by its path and size alone" in result.notices[0]
    for run in (a, b):
        knn(run, 0.5, made=ENTRY | {"weights": "0" * 16, "data": "00"})
    assert "alone" not in compare([a, b]).notices[0] and "holds out other" in compare([a, b]).notices[0]
    elsewhere = {"val_fraction": 0.2, "data": "/other/photos"}
    d = made(tmp_path / "d", seed=1, options=elsewhere, data={"fingerprint": "ee"})  # as many, under the same name
    with pytest.raises(UserError, match="photos at /other/photos"):
        compare([a, d])
    c = made(tmp_path / "c", options=held_out, data={"fingerprint": "ff"})  # the same seed draws the same images
    with pytest.raises(UserError, match="compare runs on one data set"):
        compare([a, c])


def test_data_are_a_setting_where_labelled_images_are_tested(tmp_path: Path) -> None:
    runs = [
        made(tmp_path / name, options={"labelled": "few", "data": name}, data={"name": name, "fingerprint": name})
        for name in ("all", "half")
    ]
    result = compare(runs)
    assert result.settings == ("data",) and [row.name for row in result.rows] == ["data all", "data half"]
    assert result.data == "few"


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    for runs, says in (
        ([], "nothing to compare"),
        ([run, tmp_path / "." / "run"], "is given twice"),
        ([run, tmp_path], "holds no run"),
    ):
        with pytest.raises(UserError, match=says):
            compare(runs)
    for text in ("{", "[]", '{"accuracy": {}}', '{"accuracy": {"x": {"top1": 2}}, "k": 20, "T": 1, "size": 3}'):
        (run / "knn.json").write_text(text)
        with pytest.raises(UserError, match=r"knn.json is damaged: .*; repeat 'contrastkit knn"):
            compare([run])
    (run / "knn.json").unlink()
    record = json.loads((run / "recipe.json").read_text())
    record["recipe"]["tau"] = "warm"
    (run / "recipe.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"recipe.json is damaged: recipe.tau must be a number"):
        compare([run])


def test_curves_are_means_and_bands(sweep: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, Any, dict[str, Any]]] = []
    real = charts.draw_metric

    def spy(axes: Any, metric: Any, points: Any, **style: Any) -> None:
        drawn.append((metric.title, points, style))
        real(axes, metric, points, **style)

    monkeypatch.setattr(charts, "draw_metric", spy)
    bands: list[tuple[Any, Any, Any]] = []
    monkeypatch.setattr(
        "matplotlib.axes.Axes.fill_between", lambda self, x, low, high, **how: bands.append((x, low, high))
    )
    with open(sweep[0] / "metrics.jsonl", "a") as file:  # as a hand may have put it there
        file.write('{"step": 30, "epoch": null, "loss": 9.0}\n')
    sweep.append(made(tmp_path / "part", tau=0.3, losses=(4.0,), finished=False))
    comparison_chart(tmp_path / "compare.png", compare(sweep))
    loss = [(points, style) for title, points, style in drawn if title == "loss"]
    assert [style["label"] for _, style in loss] == ["tau 0.2", "tau 0.1", "tau 0.3 (unfinished)"]
    last = np.array([0.2, 0.3, 0.4])
    np.testing.assert_allclose(loss[0][0], [(1, 3.0), (2, 2.5), (3, last.mean())])
    assert loss[2][0] == [(1, 4.0)]
    epochs, low, high = bands[0]
    assert epochs == (1, 2, 3)
    np.testing.assert_allclose((low[2], high[2]), last.mean() + last.std(ddof=1) * np.array([-1, 1]))
    assert len({style["color"] for _, style in loss}) == 3
    with Image.open(tmp_path / "compare.png") as picture:
        assert picture.width <= 1200


def test_single_epochs_have_bars_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A band over one epoch would not be seen, and of bars at one place only the last."""
    bars: list[tuple[Any, Any, Any]] = []
    places: list[list[Any]] = [[], []]

    def bar(axes: Any, x: Any, low: Any, high: Any, **how: Any) -> None:
        bars.append((x, low, high))
        places[0].append(how["transform"])

    def point(axes: Any, metric: Any, points: Any, **how: Any) -> None:
        places[1].append(how["transform"])
        drawn.append(axes)

    drawn: list[Any] = []
    monkeypatch.setattr("matplotlib.axes.Axes.vlines", bar)
    monkeypatch.setattr(charts, "draw_metric", point)
    losses = {(0.1, 0): 3.0, (0.1, 1): 5.0, (0.2, 0): 3.0, (0.2, 1): 5.0}
    runs = [made(tmp_path / f"{tau}-{s}", tau=tau, seed=s, losses=(loss,)) for (tau, s), loss in losses.items()]
    comparison_chart(tmp_path / "compare.png", compare(runs))
    assert bars[0][0] == (1,)
    np.testing.assert_allclose([bars[0][1][0], bars[0][2][0]], 4 + np.sqrt(2) * np.array([-1, 1]))
    low, high = drawn[0].get_ylim()
    assert drawn[0].get_xlim()[0] < 1 < drawn[0].get_xlim()[1] and low < 4 - np.sqrt(2) < 4 + np.sqrt(2) < high < 7
    at = [[place.transform((1, 4))[0] for place in each] for each in places]  # once the axes have their limits
    assert at[0] == at[1] and at[0][1] - at[0][0] == pytest.approx(charts.APART / 72 * DPI)


def test_the_command(sweep: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table, the curves, and the numbers as JSON."""
    files = f"--curves={tmp_path / 'c.png'}", f"--json={tmp_path / 'c.json'}"
    assert main(["compare", *map(str, sweep), *files]) == 0
    printed = capsys.readouterr().out
    for text in (
        "tau",
        "64.00 +- 3.00",
        "71.00 +- 1.41",
        "0.2-0 +2",
        "kNN: top-1 on 90 test images, k 20, T 0.1, size as trained",
    ):
        assert text in printed
    report = read_report("compare", tmp_path / "c.json")
    assert (tmp_path / "c.png").is_file()
    assert report["rows"][0]["numbers"]["knn"]["values"] == [0.61, 0.67, 0.64]
    assert main(["compare"]) == 2
    assert "Missing argument 'RUN'" in capsys.readouterr().err
