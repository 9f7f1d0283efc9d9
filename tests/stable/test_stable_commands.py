"""The commands of ``contrastkit stable``."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from contrastkit.cli.main import main
from contrastkit.stable.predict import load
from contrastkit.stable.simulate import selection_bias


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stable") / "train.csv"
    assert main(["stable", "simulate", "selection", f"--out={path}", "--n=1000", "--seed=3"]) == 0
    return path


def test_from_simulation_to_errors(train: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.read_csv(train)
    sample = selection_bias(1000, r=2.5, seed=3)
    assert list(frame) == [*(f"S{j}" for j in range(1, 6)), *(f"V{j}" for j in range(1, 6)), "Y"]
    assert np.allclose(frame.to_numpy(), np.column_stack([sample.X, sample.Y]))
    where, w, seen = (tmp_path / name for name in ("test.csv", "w.csv", "found.json"))
    assert main(["stable", "simulate", "selection", f"--out={where}", "--n=1000", "--r", "-3,3", "--seed=9"]) == 0
    data = [f"--data={train}", "--label=Y"]
    assert main(["stable", "reweight", *data, f"--out={w}", f"--json={seen}"]) == 0
    report = json.loads(seen.read_text())
    weights = pd.read_csv(w)["weight"]
    assert report["after"] < 0.5 * report["before"] and report["linear_after"] < report["linear_before"]
    assert report["ess"] == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    result = {}
    for name, how in (("equal", []), ("weighted", [f"--weights={w}"]), ("by", ["--by=rff"])):
        model = tmp_path / f"{name}.json"
        assert main(["stable", "fit", *data, "--alpha=0", "--no-intercept", f"--out={model}", *how]) == 0
        judged = [f"--data={where}", "--label=Y", "--environment=environment", f"--json={seen}"]
        assert main(["stable", "evaluate", str(model), *judged]) == 0
        result[name] = json.loads(seen.read_text())
    out = capsys.readouterr().out
    assert "dependence" in out and "deviation" in out and "V5" in out
    assert set(result["by"]["errors"]) == {"-3.0", "3.0"}
    assert result["by"]["errors"] == pytest.approx(result["weighted"]["errors"])
    assert result["weighted"]["deviation"] < 0.5 * result["equal"]["deviation"]
    for name, column in (("equal", None), ("weighted", weights)):  # weighted least squares by another way
        root = np.sqrt(np.ones(1000) if column is None else column.to_numpy())
        beta = np.linalg.lstsq(sample.X * root[:, None], sample.Y * root, rcond=None)[0]
        test = selection_bias(1000, r=-3, seed=(9, 1))
        error = math.sqrt(((test.Y - test.X @ beta) ** 2).mean())
        assert result[name]["errors"]["-3.0"] == pytest.approx(error)


def test_coloured_digits_mislead_a_linear_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model of raw pixels follows the colour: right in training, wrong in the test, where colours are reversed."""
    images, features, model = tmp_path / "c.npz", tmp_path / "f.npz", tmp_path / "m.json"
    assert main(["stable", "simulate", "coloured", "--data=digits", f"--out={images}"]) == 0
    assert "test, environment 0.9" in capsys.readouterr().out
    assert main(["embed", "--encoder=pixels", f"--data={images}", f"--out={features}"]) == 0
    fitted = ["stable", "fit", f"--data={features}", "--kind=logistic", "--alpha=100", "--rows=split=train"]
    assert main([*fitted, f"--out={model}"]) == 0
    seen = tmp_path / "e.json"
    assert main(["stable", "evaluate", str(model), f"--data={features}", "--environment=split", f"--json={seen}"]) == 0
    errors = json.loads(seen.read_text())["errors"]
    assert errors["train"] < 25 and errors["test"] > 55


def test_names_with_commas_come_back(tmp_path: Path) -> None:
    a, c, noise = np.random.default_rng(0).normal(size=(3, 60))
    pd.DataFrame({"a, b": a, "c": c, "y": a + noise}).to_csv(tmp_path / "t.csv", index=False)
    data, model = [f"--data={tmp_path / 't.csv'}", "--label=y"], str(tmp_path / "m.json")
    assert main(["stable", "fit", *data, f"--out={model}"]) == 0
    assert main(["stable", "evaluate", model, *data]) == 0


def test_embeddings_are_reweighted_by_their_components(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By default twenty for an .npz file, none for a table; the model uses the features themselves."""
    g = np.random.default_rng(0)
    z = g.normal(size=(300, 40)) * np.linspace(3, 0.1, 40)
    features, table, seen, w = (tmp_path / name for name in ("f.npz", "t.csv", "s.json", "w.csv"))
    np.savez(features, features=z @ g.normal(size=(40, 60)), labels=g.integers(0, 3, 300))
    pd.DataFrame(z[:, :4] @ g.normal(size=(4, 4))).to_csv(table, index=False)
    for data, args, components in (
        (features, [], 20),
        (features, ["--components=5"], 5),
        (features, ["--components=60"], 40),  # the others are rounding
        (features, ["--components=0", "--by=dwr"], 0),
        (table, [], 0),
        (table, ["--components=3"], 3),
    ):
        assert main(["stable", "reweight", f"--data={data}", f"--json={seen}", f"--out={w}", *args]) == 0
        assert json.loads(seen.read_text())["components"] == components
        assert len(pd.read_csv(w)) == 300
        assert (f"first {components} principal components" in capsys.readouterr().out) == (components > 0)
    fitted = ["stable", "fit", f"--data={features}", "--by=rff", "--kind=logistic", f"--out={tmp_path / 'm.json'}"]
    assert main(fitted) == 0
    assert len(load(tmp_path / "m.json").names) == 60
    capsys.readouterr()
    one_line(capsys, "--components 61", "reweight", f"--data={features}", "--components=61")
    one_line(capsys, "give that too", "fit", f"--data={features}", "--components=3", f"--out={tmp_path / 'm.json'}")


def test_what_is_left_out_and_not_converged_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    g = np.random.default_rng(0)
    x = g.normal(size=(200, 2)) @ [[1, 0.9], [0, 0.4]]
    pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "word": "x"}).to_csv(tmp_path / "t.csv", index=False)
    assert main(["stable", "reweight", f"--data={tmp_path / 't.csv'}"]) == 0
    out = capsys.readouterr().out
    assert "not numeric: word" in out and "before it converged" in out
    assert main(["stable", "reweight", f"--data={tmp_path / 't.csv'}", "--penalty=1e6"]) == 0
    assert "before it converged" not in capsys.readouterr().out


def test_environments_share_no_row(tmp_path: Path) -> None:
    for how in (["selection", "--r=2,3"], ["collinear", "--rho=0.2,0.9"]):
        assert main(["stable", "simulate", *how, f"--out={tmp_path / 't.csv'}", "--n=300"]) == 0
        frame = pd.read_csv(tmp_path / "t.csv")
        assert frame["S1"].is_unique


def test_the_other_simulations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "t.csv"
    assert main(["stable", "simulate", "confounded", f"--out={out}", "--n=50", "--p=10"]) == 0
    frame = pd.read_csv(out)
    assert list(frame) == [*(f"X{j}" for j in range(1, 11)), "T", "Y"] and set(frame["T"]) == {0, 1}
    assert main(["stable", "simulate", "collinear", f"--out={out}", "--n=20", "--rho", "-0.5,0.5"]) == 0
    frame = pd.read_csv(out)
    assert frame["environment"].tolist() == [-0.5] * 20 + [0.5] * 20 and list(frame)[9:] == ["S10", "Y", "environment"]


def test_simulations_report_what_they_drew(tmp_path: Path) -> None:
    out, report = tmp_path / "t.csv", tmp_path / "r.json"

    def reported(*args: str, out: Path = out) -> Any:
        assert main(["stable", "simulate", *args, f"--out={out}", f"--json={report}"]) == 0
        return json.loads(report.read_text())

    assert reported("selection", "--n=30", "--r=2,-3") == {
        "features": [*(f"S{j}" for j in range(1, 6)), *(f"V{j}" for j in range(1, 6))],
        "environments": [2.0, -3.0],
        "rows": [30, 30],
    }
    assert reported("collinear", "--n=20", "--p=4")["features"] == ["S1", "S2", "S3", "S4"]
    found = reported("confounded", "--n=50", "--p=10")
    frame = pd.read_csv(out)
    y, treated = frame["Y"], frame["T"] == 1
    assert found["difference_in_means"] == pytest.approx(y[treated].mean() - y[~treated].mean())
    assert found["att"] == pytest.approx(1 + frame.filter(like="X")[treated].sum(axis=1).mean())
    assert (found["rows"], found["features"], found["treated"]) == (50, 10, treated.sum())
    images = tmp_path / "c.npz"
    found = reported("coloured", "--data=digits", "--environments=0,1", out=images)
    with np.load(images) as arrays:
        assert (found["training"], found["test"]) == (len(arrays["labels"]), len(arrays["test_labels"]))
    shares = {row["part"]: (row["environment"], row["share"]) for row in found["agreements"]}
    assert shares == {"training": (0.0, 1.0), "test": (1.0, 0.0)}


@pytest.mark.parametrize(
    ("columns", "args", "says"),
    [
        ({"a": [1, 2, None], "b": [1, 3, 2]}, [], "a: 1 of 3 values are missing"),
        ({"a": [1, 2, math.inf], "b": [1, 3, 2]}, [], "a: 1 of 3 values are infinite"),
        ({"a": [1, 2, 5], "b": ["x", "y", "z"]}, ["--features=a,b"], "b contains values that are not numbers"),
        ({"a": [1, 2, 5], "b": [2, 2, 2]}, [], "1 features vary"),
        ({"a": [1, 2, 5], "b": [2, 4, 10], "c": [1, 0, 0]}, [], "a and b are copies of one another"),
        ({"a": ["x", "y"]}, [], "no numeric column"),
        ({"a": [1, 2, 5, 3, 9], "b": [2, 4, 1, 9, 1], "c": [3, 6, 6, 12, 10]}, [], "c is a linear combination of a, b"),
        ({"a": [1, 2, 3], "b": [1, 3, 2e200]}, [], "beyond 1e1"),
        ({"a": [1, 2, 3], "b": [1, 3, 2]}, ["--penalty=inf"], "--penalty must be a finite number"),
        ({"a": [1, 2, 3], "b": [1, 3, 2]}, ["--by=srdo", "--clip=inf"], "--clip must be a finite number"),
        ({"a": [1, 2, 3], "b": [1, 3, 2]}, ["--cosines=1000000000"], "--cosines must be at most 1,000"),
        ({"a": [1, 2], "b": [0, 1]}, ["--features=a,bb"], "has no column 'bb', did you mean 'b'?"),
        ({"a": [1, 2], "b": [0, 1]}, ["--features=a,b", "--label=b"], "'b' is used twice"),
        ({"a": [1, 2], "b": [0, 1]}, ["--rows=a=7"], "has a = 7 (its values: 1, 2)"),
        ({"a": [1, 2], "b": [0, 1]}, ["--by=dwr", "--cosines=3"], "--cosines does not apply to dwr"),
        ({"a": [1, 2], "b": [0, 1]}, ["--by=rf"], "rf"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_tables_are_one_line(
    columns: dict[str, list[object]], args: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pd.DataFrame(columns).to_csv(tmp_path / "t.csv", index=False)
    out = tmp_path / "w.csv"
    one_line(capsys, says, "reweight", f"--data={tmp_path / 't.csv'}", f"--out={out}", *args)
    assert not out.exists()


@pytest.mark.slow
def test_bad_commands_are_one_line(train: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = f"--data={train}", f"--out={tmp_path / 'm.json'}"
    zero, short, torn = (tmp_path / name for name in ("zero.csv", "short.csv", "torn.npz"))
    zero.write_text("weight\n" + "0\n" * 1000)
    short.write_text("weight\n1\n")
    torn.write_bytes(b"PK\x03\x04")
    one_line(capsys, "--label", "fit", data, out)
    one_line(capsys, "the weights sum to zero", "fit", data, out, "--label=Y", f"--weights={zero}")
    one_line(capsys, "1 weights for 1,000 rows", "fit", data, out, "--label=Y", f"--weights={short}")
    one_line(capsys, "not both", "fit", data, out, "--label=Y", f"--weights={zero}", "--by=rff")
    one_line(capsys, "cannot be read", "reweight", f"--data={torn}")
    bare, flat, array = (tmp_path / name for name in ("bare.npz", "flat.npz", "array.npy"))
    np.save(array, np.eye(3))
    array.rename(bare)
    one_line(capsys, "cannot be read", "reweight", f"--data={bare}")
    np.savez(flat, features=np.ones((3, 2)), labels=np.arange(3), classes=np.array("a"))
    one_line(capsys, "0 features vary", "reweight", f"--data={flat}", "--components=0")
    one_line(capsys, "no feature varies", "reweight", f"--data={flat}")
    one_line(capsys, "more than 200,000,000", "simulate", "confounded", out, "--p=2000000000")
    one_line(capsys, "more than 200,000,000", "simulate", "collinear", out, "--n=2000000000")
    one_line(capsys, "all labelled", "simulate", "coloured", out, "--val-fraction=0.9995")
    one_line(capsys, "no such file", "reweight", "--data=nowhere.csv")
    one_line(capsys, "no such file", "evaluate", "nothing.json", data, "--label=Y")
    one_line(capsys, "give one above 1 or below -1", "simulate", "selection", out, "--r=0.5")
    one_line(capsys, "selects hardly any row", "simulate", "selection", out, "--r=inf")
    one_line(capsys, "give numbers, separated by commas", "simulate", "selection", out, "--r=much")
    one_line(capsys, "give each number once", "simulate", "selection", out, "--r=2,2")
    one_line(capsys, "does not hold grey images", "simulate", "coloured", out, f"--data={_rgb(tmp_path)}")
    one_line(capsys, "cannot be written", "simulate", "selection", "--out=missing/x.csv")
    assert not (tmp_path / "m.json").exists()
    assert main(["stable", "reweight", data, "--label=Y", "--by=srdo", f"--seed={2**40}"]) == 0


def _rgb(folder: Path) -> Path:
    images, labels = np.zeros((4, 6, 6, 3), np.uint8), np.arange(4)
    np.savez(folder / "rgb.npz", images=images, labels=labels, test_images=images, test_labels=labels)
    return folder / "rgb.npz"


def one_line(capsys: pytest.CaptureFixture[str], says: str, *args: str) -> None:
    assert main(["stable", *args]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and captured.err.startswith("error: "), captured.err
    assert says in captured.err, captured.err


def test_weights_follow_their_rows_and_ids_are_no_features(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    g = np.random.default_rng(0)
    a = g.normal(size=60)
    frame = pd.DataFrame({"a": a, "b": a + g.normal(size=60), "environment": g.integers(0, 2, 60), "y": a})
    for name, table in (("plain", frame), ("named", frame.assign(unit_id=np.arange(60) * 3))):
        data, moved, out = (tmp_path / f"{name}{end}.csv" for end in ("", "_moved", "_w"))
        table.to_csv(data, index=False)
        table.sample(frac=1, random_state=1).to_csv(moved, index=False)
        assert main(["stable", "reweight", f"--data={data}", "--label=y", f"--out={out}"]) == 0
        printed = capsys.readouterr().out
        assert "2 features: a, b" in printed and "no features, because they name environments: environment" in printed
        assert ("because they name rows: unit_id" in printed) == (name == "named")
        coefficients = []
        for path in (data, moved):
            model = tmp_path / "m.json"
            assert main(["stable", "fit", f"--data={path}", "--label=y", f"--weights={out}", f"--out={model}"]) == 0
            told = capsys.readouterr().out
            assert ("its weights are assigned by" in told) == (path is moved)
            coefficients.append(json.loads(model.read_text())["coefficients"][0])
        assert coefficients[0] == pytest.approx(coefficients[1], rel=1e-9)
        frame.assign(b=a).to_csv(data, index=False)
    one_line(capsys, "not of these rows", "fit", f"--data={tmp_path / 'plain.csv'}", "--label=y",
             f"--weights={tmp_path / 'plain_w.csv'}", f"--out={tmp_path / 'm.json'}")  # fmt: skip
