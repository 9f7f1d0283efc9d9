"""The commands of ``contrastkit causal`` that estimate, weight and match."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from contrastkit.causal.diagnostics import balance_table
from contrastkit.causal.estimate import Matched
from contrastkit.causal.form import Form
from contrastkit.causal.matching import Matching
from contrastkit.causal.propensity import Propensity
from contrastkit.causal.study import read
from contrastkit.cli.main import main
from tests.causal.simulated import varied, world
from tests.schemas import read_report


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, t, y = world(400)
    path = tmp_path / "table.csv"
    pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "t": t, "y": y}).to_csv(path, index=False)
    given = [f"--data={path}", "--treatment=t", "--covariates=a,b,c"]
    assert main(["causal", "estimate", *given, "--outcome=y", "--benchmark=2", f"--json={tmp_path / 'x.json'}"]) == 0
    printed = capsys.readouterr().out
    assert "entropy" in printed and "truth 2.00" in printed
    report = read_report("causal-estimate", tmp_path / "x.json")
    assert report["benchmark"] == 2 and {"naive", "entropy"} < {row["name"] for row in report["rows"]}
    assert main(["causal", "balance", *given]) == 0
    report = tmp_path / "none.json"
    capsys.readouterr()
    assert main(["causal", "balance", *given, "--by=none", f"--json={report}"]) == 1
    assert "balance by none, the arms as they are" in " ".join(capsys.readouterr().out.split())
    assert read_report("causal-balance", report)["estimand"] is None
    capsys.readouterr()
    for bad, says in (
        (["--data=none.csv"], "no such file: none.csv"),
        (["--treatment=tt"], "has no column 'tt', did you mean 't'?"),
        (["--covariates=a,t"], "'t' is used twice"),
        (["--covariates=,"], "no covariates"),
    ):
        assert main(["causal", "balance", *given, *bad]) == 2
        assert says in capsys.readouterr().err


def test_scores_weights_and_pairs_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, t, _ = world(400)
    data = tmp_path / "table.csv"
    group = np.where(x[:, 2] > 0, "high", "low")
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "group": group, "t": t})
    frame.to_csv(data, index=False)
    given = [f"--data={data}", "--treatment=t", "--covariates=a,b,group"]
    out = tmp_path / "out.csv"

    assert main(["causal", "propensity", *given, f"--out={out}", f"--plot={tmp_path / 'o.png'}"]) == 0
    assert pd.read_csv(out).propensity.to_numpy() == pytest.approx(
        Propensity().fit(frame[["a", "b", "group"]], t).scores_
    )
    assert (tmp_path / "o.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "AUC" in printed and "little overlap" not in printed
    frame.assign(a=frame.a + 2 * frame.t).to_csv(tmp_path / "apart.csv", index=False)
    assert main(["causal", "propensity", *given, f"--data={tmp_path / 'apart.csv'}", "--model=forest"]) == 0
    assert "little overlap" in capsys.readouterr().out

    assert main(["causal", "weight", *given, f"--out={out}"]) == 0
    w = pd.read_csv(out).weight.to_numpy()
    for column in ("a", "b"):
        assert np.average(frame[column][t == 0], weights=w[t == 0]) == pytest.approx(frame[column][t == 1].mean())

    matching = ["causal", "match", *given, f"--out={out}", "--no-replacement", "--caliper=0.2", "--exact=group"]
    assert main(matching) == 0
    pairs = pd.read_csv(out)
    assert (group[pairs.unit] == group[pairs.partner]).all() and pairs.partner.is_unique
    assert (t[pairs.unit] == 1).all() and (t[pairs.partner] == 0).all()
    printed = capsys.readouterr().out
    assert f"{len(pairs)} units" in printed and (len(pairs) == t.sum()) == ("dropped" not in printed)
    assert main([*matching, "--exact=grop"]) == 2
    assert "has no column 'grop', did you mean 'group'? (the covariates: " in capsys.readouterr().err
    assert main([*matching, "--caliper=grop=1"]) == 2
    assert "--caliper: " in (error := capsys.readouterr().err) and "has no column 'grop', did you mean" in error

    assert main(["causal", "match", *given, f"--out={out}", "--kind=coarsened", "--bins=4"]) == 0
    strata = pd.read_csv(out)
    assert (strata.weight > 0).sum() == (strata.stratum > 0).sum() and "strata by 4 bins" in capsys.readouterr().out
    assert main(["causal", "match", *given, f"--out={out}", "--kind=coarsened", "--bins=four"]) == 2
    assert "--bins four: give a number of bins" in capsys.readouterr().err


def test_every_kind_of_weight_is_written_and_its_balance_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x, t, y = world(400)
    data, out = tmp_path / "table.csv", tmp_path / "w.csv"
    pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "t": t, "y": y}).to_csv(data, index=False)
    given = [f"--data={data}", "--treatment=t", "--covariates=a,b"]
    naive = np.abs(balance_table(x[:, :2], t).smd[:, 0]).max()
    for by in ("ipw", "overlap", "entropy", "cbps", "arb", "dcb", "global"):
        assert main(["causal", "weight", *given, "--outcome=y", f"--by={by}", f"--out={out}"]) == 0
        left = balance_table(x[:, :2], t, pd.read_csv(out).weight, estimand="ATT").worst
        assert by == "dcb" or left < 0.7 * naive, by  # which balances what the outcome depends on alone
        code = main(["causal", "balance", *given, f"--weights={out}", f"--plot={tmp_path / 'love.png'}"])
        assert code == (left > 0.1) and (tmp_path / "love.png").read_bytes().startswith(b"\x89PNG")
        printed = capsys.readouterr().out
        assert f"largest |SMD| {left:.4f}" in printed and "balance by w.csv" in printed
        assert by != "entropy" or f"largest |SMD| {naive:.4f} -> {left:.4f}" in printed
        assert main(["causal", "balance", *given, "--outcome=y", f"--by={by}"]) in (0, 1)
    assert main(["causal", "balance", *given, "--by=coarsened"]) in (0, 1)
    capsys.readouterr()
    for bad, says in (
        (["--by=dcb"], "no outcome: name the column with --outcome"),
        (["--by=arb", "--estimand=ATE"], "choose ATT or ATC"),
        (["--by=ipw", "--trim=much"], "--trim much: give a number"),
        (["--by=none", "--trim=0.4"], "apply to --by ipw only"),
        ([f"--weights={out}", "--by=entropy"], "--weights, or --by"),
        ([f"--weights={data}"], "has no column 'weight'"),
    ):
        assert main(["causal", "balance", *given, *bad]) == 2
        assert says in capsys.readouterr().err
    pd.DataFrame({"weight": np.where(t == 1, 1.0, 0.0)}).to_csv(out, index=False)
    assert main(["causal", "balance", *given, f"--weights={out}"]) == 2
    assert "the weights of the untreated sum to zero" in capsys.readouterr().err


def test_bad_tables_end_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, t, y = world(40)
    good = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "t": t, "y": y})
    path = tmp_path / "table.csv"
    for frame, says in (
        (good.assign(b=np.where(good.a > 1, np.nan, good.b)), "b: "),
        (good.assign(b=np.where(good.a > 1, np.inf, good.b)), "b: "),
        (good.assign(b=1.0), "b is the same in all rows"),
        (good.assign(b=2 * good.a), "b is equivalent to a"),
        (good.assign(b=good.t + 0.001 * good.a), "perfect separation"),
        (good.assign(t=1), "no untreated units"),
        (good.assign(t=good.t + 1), "the treatment must be 0 or 1, not 1, 2"),
        (
            good.assign(t=np.where(good.t == 1, "yes", "no")),
            "the treatment must be 0 or 1, not no, yes: name the treated value with --treated",
        ),
        (good.assign(b=[f"unit {i}" for i in range(40)]), "seem to be identifiers"),
        (good[:0], "table.csv has no rows"),
    ):
        frame.to_csv(path, index=False)
        assert main(["causal", "propensity", f"--data={path}", "--treatment=t", "--covariates=a,b"]) == 2, says
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1 and "Traceback" not in error
    good.assign(y=["much"] * 40).to_csv(path, index=False)
    given = ["causal", "estimate", f"--data={path}", "--covariates=a,b"]
    assert main([*given, "--treatment=t", "--outcome=y"]) == 2
    assert "the outcome contains values that are not numbers" in capsys.readouterr().err
    assert main([*given, "--treatment=t"]) == 2 and "with --outcome" in capsys.readouterr().err
    assert main([*given, "--outcome=y"]) == 2 and "with --treatment" in capsys.readouterr().err


def test_parquet_reads_as_csv_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow")
    x, t, y = world(60)
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "t": t, "y": y})
    frame.to_csv(tmp_path / "table.csv", index=False)
    frame.to_parquet(tmp_path / "table.parquet")
    printed = []
    for name in ("table.csv", "table.parquet"):
        given = [f"--data={tmp_path / name}", "--treatment=t", "--outcome=y", "--covariates=a,b"]
        assert main(["causal", "estimate", *given]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    (tmp_path / "table.parquet").write_bytes(b"no")
    assert main(["causal", "balance", *given]) == 2
    assert "cannot read" in capsys.readouterr().err


def test_features_of_images_are_covariates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the features reveal the confounder: adjusting for them recovers the effect."""
    g = np.random.default_rng(0)
    hidden = g.normal(size=(2000, 2))
    z = hidden @ g.normal(size=(2, 30)) + 0.01 * g.normal(size=(2000, 30))
    t = (g.uniform(size=2000) < 1 / (1 + np.exp(-hidden[:, 0]))).astype(int)
    y = 2 * t + 3 * hidden[:, 0] + hidden[:, 1] + g.normal(size=2000)
    np.savez(tmp_path / "images.npz", features=z.astype(np.float32), labels=np.zeros(2000, np.int64))
    table = tmp_path / "table.csv"
    pd.DataFrame({"t": t, "y": y, "age": g.normal(size=2000)}).to_csv(table, index=False)
    result = read(
        str(table),
        treatment="t",
        outcome="y",
        covariates=["age", str(tmp_path / "images.npz")],
        form=Form(components=2),
    )
    assert result.X.names == ("age", "images.0", "images.1")
    U, S, _ = np.linalg.svd(z - z.mean(0), full_matrices=False)
    for j in range(2):
        assert np.abs(result.X.x[:, 1 + j]) == pytest.approx(np.abs(U[:, j] * S[j]), rel=1e-3, abs=1e-3)
    report = tmp_path / "r.json"
    assert (
        main(
            ["causal", "estimate", f"--data={table}", "--treatment=t", "--outcome=y", "--components=2"]
            + [f"--covariates={tmp_path / 'images.npz'}", f"--json={report}"]
        )
        == 0
    )
    rows = {row["name"]: row for row in json.loads(report.read_text())["rows"]}
    assert abs(rows["naive"]["effect"] - 2) > 1.5 and abs(rows["aipw"]["effect"] - 2) < 0.2
    capsys.readouterr()
    given = ["causal", "propensity", f"--data={table}", "--treatment=t", f"--covariates={tmp_path / 'images.npz'}"]
    assert main([*given, "--components=31"]) == 2 and "use fewer than" in capsys.readouterr().err
    pd.read_csv(table)[:10].to_csv(table, index=False)
    assert main(given) == 2 and "use the same units" in capsys.readouterr().err
    (tmp_path / "images.npz").write_bytes(b"no")
    assert main(given) == 2 and "a file written by 'contrastkit embed'" in capsys.readouterr().err


def test_the_command_line_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, t, y = varied(60)
    path = tmp_path / "table.csv"
    frame = pd.DataFrame({"a": x[:, 0], "b, c": x[:, 1], "x=1": np.arange(60) % 2, "t": t.astype(int), "y": y})
    frame.to_csv(path, index=False)
    given = [f"--data={path}", "--treatment=t", '--covariates=a,"b, c",x=1']
    out = f"--out={tmp_path / 'out.csv'}"
    assert main(["causal", "match", *given, out, "--exact=x=1", "--outcome=y"]) == 0
    assert "effect on y (ATT), with bias correction" in capsys.readouterr().out
    pairs = pd.read_csv(tmp_path / "out.csv")
    assert (pairs.unit % 2 == pairs.partner % 2).all()
    (tmp_path / "not.npz").write_bytes(b"\x93NUMPY\x01\x00")
    np.save(tmp_path / "array.npy", np.ones(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    (tmp_path / "bad.dot").write_bytes(b"\xff\xfe\x00digraph")
    pd.DataFrame({"weight": ["much"] * 60}).to_csv(tmp_path / "w.csv", index=False)
    frame.assign(y=1e200 * y).to_csv(tmp_path / "large.csv", index=False)
    for command, says in (
        (
            ["match", *given, out, "--kind=coarsened", "--ratio=3"],
            "--ratio applies to --kind pairs only: leave it out for coarsened",
        ),
        (["match", *given, out, "--bins=4"], "--bins applies to --kind coarsened only"),
        (["match", *given, out, "--kind=coarsened", "--bins=100000000000"], "100000000000 bins for 60 rows"),
        (["weight", *given, out, "--trim=0.2"], "--trim and --scale apply to --by ipw"),
        (["weight", *given, out, "--by=overlap", "--estimand=ATC"], "their own target population"),
        (["propensity", *given, "--folds=1"], "1 folds"),
        (["balance", *given, f"--weights={tmp_path / 'w.csv'}"], "weight contains values that are not numbers"),
        (["balance", *given, f"--covariates={tmp_path / 'not.npz'}"], "a file written by 'contrastkit embed'"),
        (["balance", *given, f"--covariates={tmp_path / 'array.npz'}"], "a file written by 'contrastkit embed'"),
        (["graph", str(tmp_path / "bad.dot"), "--treatment=t", "--outcome=y"], "it is not text"),
        (["estimate", *given, "--outcome=y", f"--data={tmp_path / 'large.csv'}"], "exceeds 1e150"),
    ):
        assert main(["causal", *command]) == 2, command
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1, (says, error)


def test_a_tilde_in_an_output_file_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    x, t, _ = world(60)
    pd.DataFrame({"a": x[:, 0], "t": t}).to_csv(tmp_path / "table.csv", index=False)
    given = ["causal", "balance", "--data=~/table.csv", "--treatment=t", "--covariates=a"]
    assert main([*given, "--json=~/r.json", "--plot=~/love.png"]) == 0
    assert (tmp_path / "r.json").is_file() and (tmp_path / "love.png").is_file()


def test_every_command_writes_its_results_as_json(tmp_path: Path) -> None:
    x, t, y = world(400)
    pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "t": t, "y": y}).to_csv(tmp_path / "t.csv", index=False)
    given = [f"--data={tmp_path / 't.csv'}", "--treatment=t", "--covariates=a,b"]
    out, report = f"--out={tmp_path / 'out.csv'}", tmp_path / "r.json"

    def reported(*args: str) -> Any:
        assert main(["causal", *args, f"--json={report}"]) == 0
        return json.loads(report.read_text())

    scores = Propensity().fit(x[:, :2], t).scores_
    found = reported("propensity", *given, out)
    assert found["quantiles"]["treated"] == pytest.approx(np.quantile(scores[t == 1], found["levels"]))
    kept = pd.read_csv(tmp_path / "out.csv").kept == 1
    assert found["kept"] == {"treated": (kept & (t == 1)).sum(), "untreated": (kept & (t == 0)).sum()}
    assert sum(n * share for _, share, n in found["calibration"]) == pytest.approx(t.sum())

    found = reported("weight", *given, out, "--by=ipw")
    table = balance_table(x[:, :2], t, pd.read_csv(tmp_path / "out.csv").weight)
    assert found["smd"] == [pytest.approx(row) for row in table.smd] and found["by"] == "ipw"

    found = reported("match", *given, out, "--outcome=y")
    effect = Matched(Matching()).fit(x[:, :2], t, y)
    assert (found["effect"], found["se"]) == pytest.approx((effect.effect_, effect.se_))
    assert found["high"] - found["low"] == pytest.approx(2 * student.ppf(0.975, effect.df_) * effect.se_)
    assert found["outcome"] == "y" and found["estimand"] == "ATT" and found["dropped"] == 0
    assert "effect" not in reported("match", *given, out)


def test_weights_pairs_and_scores_name_their_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, t, y = world(200)
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "group": np.arange(200) % 2, "t": t, "y": y})
    out = tmp_path / "out.csv"
    for name, table in (("plain", frame), ("named", frame.assign(id=[f"p{i}" for i in range(200)]))):
        data, moved = tmp_path / f"{name}.csv", tmp_path / f"{name}_moved.csv"
        table.to_csv(data, index=False)
        table.sample(frac=1, random_state=1).to_csv(moved, index=False)
        study = ["--treatment=t", "--covariates=a,b"]
        for command in (["weight"], ["match", "--kind=coarsened"]):
            assert main(["causal", *command, f"--data={data}", *study, f"--out={out}"]) == 0
            reports = []
            for path in (data, moved):
                report = tmp_path / "r.json"
                given = ["causal", "balance", f"--data={path}", *study, f"--weights={out}", f"--json={report}"]
                assert main(given) in (0, 1)
                reports.append(json.loads(report.read_text()))
            assert reports[0]["smd"] == [pytest.approx(row) for row in reports[1]["smd"]]
            assert "assigned by" in reports[1]["remark"] and "remark" not in reports[0]
        assert main(["causal", "propensity", f"--data={data}", *study, f"--out={out}"]) == 0
        assert set(pd.read_csv(out).columns) == {"propensity", "kept"} | (
            {"id"} if name == "named" else {"row", "digest"}
        )
        rows = "--rows=group=1"
        assert main(["causal", "match", f"--data={data}", *study, rows, f"--out={out}", "--exact=b"]) == 2
        assert "caliper" not in capsys.readouterr().err
        assert main(["causal", "match", f"--data={data}", *study, rows, f"--out={out}"]) == 0
        pairs = pd.read_csv(out)
        assert (pairs.unit % 2 == 1).all() and t[pairs.unit].all() and not t[pairs.partner].any()
        if name == "named":
            assert (pairs.unit_id == table.id[pairs.unit].to_numpy()).all()
            assert (pairs.partner_id == table.id[pairs.partner].to_numpy()).all()


def test_a_file_without_a_header_is_read_by_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As those of the IHDP benchmark are: treatment, outcome, counterfactual, both means, 25 covariates."""
    x, t, y = world(200)
    frame = pd.DataFrame(np.column_stack([t, y, x[:, :3]]), columns=["t", "y", "x1", "x2", "x3"])
    frame.to_csv(tmp_path / "names.csv", index=False)
    frame.to_csv(tmp_path / "bare.csv", index=False, header=False)
    given = ["--treatment=t", "--outcome=y", "--covariates=x1..x3"]
    printed = []
    for source in ([f"--data={tmp_path / 'names.csv'}"], [f"--data={tmp_path / 'bare.csv'}", "--header=t,y,x1..x3"]):
        assert main(["causal", "estimate", *given, *source]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert main(["causal", "estimate", *given, f"--data={tmp_path / 'bare.csv'}"]) == 2
    assert "numbers instead of names: name its columns with --header" in capsys.readouterr().err


def test_a_table_in_another_dialect_gives_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, t, y = world(200)
    frame = pd.DataFrame({"größe": x[:, 0], "b": x[:, 1], "t": t, "y": y})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_csv(tmp_path / "t.tsv.gz", index=False, sep="|", decimal=",", encoding="cp1252")
    given = ["causal", "estimate", "--treatment=t", "--outcome=y", "--covariates=größe,b"]
    assert main([*given, f"--data={tmp_path / 't.csv'}"]) == 0
    printed = capsys.readouterr().out
    dialect = ["--separator=|", "--decimal=,", "--encoding=cp1252"]
    assert main([*given, f"--data={tmp_path / 't.tsv.gz'}", *dialect]) == 0
    assert capsys.readouterr().out == printed
    stable = ["stable", "reweight", f"--out={tmp_path / 'w.csv'}", "--features=größe,b", "--by=dwr"]
    frame.to_csv(tmp_path / "tabs.csv", index=False, sep="\t")
    weights = []
    for source in (["t.csv"], ["t.tsv.gz", *dialect], ["tabs.csv", "--separator=tab"]):
        assert main([*stable, f"--data={tmp_path / source[0]}", *source[1:]]) == 0
        weights.append(pd.read_csv(tmp_path / "w.csv").weight.tolist())
    assert weights[0] == weights[1] == weights[2] and len(set(weights[0])) > 1


def test_words_for_missing_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, t, y = world(200)
    frame = pd.DataFrame({"a": x[:, 0].round(3).astype(str), "b": x[:, 1], "t": t, "y": y})
    frame.loc[:3, "a"] = ["NA", "NA", "?", "?"]
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame[4:].to_csv(tmp_path / "rest.csv", index=False)
    given = ["causal", "estimate", f"--data={tmp_path / 't.csv'}", "--treatment=t", "--outcome=y", "--covariates=a,b"]
    for more, says in (
        ([], "a: '?' is not a number, but others are: if it stands for a missing value, say so with --missing '?'"),
        (["--missing=?", "--rows=a!="], "a: 'NA' is not a number"),
        (
            ["--missing=?", "--missing=NA"],
            "a: 4 of 200 values are missing: drop or fill them (--incomplete drop or --rows 'a!=' drops them)",
        ),
    ):
        assert main([*given, *more]) == 2
        assert says in capsys.readouterr().err
    assert main([*given, "--missing=?", "--missing=NA", "--rows=a!="]) == 0
    printed = capsys.readouterr().out
    assert main([*given, f"--data={tmp_path / 'rest.csv'}"]) == 0
    assert capsys.readouterr().out == printed
    assert main(["causal", "estimate", "--data=lalonde", "--missing=NA"]) == 2
    assert "--missing, --header and the like apply to files" in capsys.readouterr().err


def test_scores_near_0_and_1_stay_in_one_piece(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, t, _ = world(120)
    table = tmp_path / "table.csv"
    pd.DataFrame(x, columns=["a", "b", "c"]).assign(t=t).to_csv(table, index=False)
    given = [f"--data={table}", "--treatment=t", "--covariates=a,b,c", "--model=sklearn.neighbors:KNeighborsClassifier"]
    assert main(["causal", "propensity", *given, "--folds=5"]) == 0
    cells = capsys.readouterr().out.split()
    assert "untreated" in cells and "<0.0001" in cells and not {"<", ">"} & set(cells)
