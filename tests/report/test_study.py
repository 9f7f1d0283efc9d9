"""The page on a study: its numbers are those of the commands, and its words claim no more."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from contrastkit.causal.compare import Estimate, compare
from contrastkit.causal.study import Study, read
from contrastkit.cli.main import main
from contrastkit.errors import UserError
from contrastkit.report import study as pages
from contrastkit.report.content import Code, Facts, Missing, Page, Picture, Section, Table, Text
from contrastkit.report.study import Plan, study_page, summary
from tests.schemas import read_report


@pytest.fixture(autouse=True)
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are not drawn, except where a test asks for them."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(pages, "drawn", lambda draw, **texts: Picture("data:,x", 8, 8, **texts))


@pytest.fixture
def drawn() -> None:
    """Pictures are drawn."""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    g = np.random.default_rng(0)
    x, z = g.normal(size=(2, 400))
    t = g.uniform(size=400) < 1 / (1 + np.exp(-x))
    before = x + g.normal(size=400)
    y = 2 * t + x + z + g.normal(size=400)
    frame = pd.DataFrame({"x": x, "z": z, "t": t.astype(int), "y": y, "before": before, "flat": y - 2 * t})
    frame.to_csv(tmp_path / "table.csv", index=False)
    return tmp_path / "table.csv"


def study_of(table: Path, outcome: str = "y", **how: Any) -> Study:
    return read(str(table), treatment="t", outcome=outcome, **{"covariates": ["x", "z"]} | how)


def sections(page: Page) -> dict[str, Section]:
    (run,) = page.runs
    return {section.name: section for section in run.sections}


def blocks(section: Section, kind: Any) -> list[Any]:
    return [block for block in section.blocks if isinstance(block, kind)]


def test_the_numbers_are_those_of_the_estimators(table: Path) -> None:
    study = study_of(table)
    parts = sections(study_page(study, Plan(draws=20), []))
    (rows,) = blocks(parts["estimates"], Table)
    expected = {row.name: row for row in compare(study.X, study.T, study.outcomes())}
    assert [row[0] for row in rows.rows] == list(expected)
    for name, _, effect, *_ in rows.rows:
        assert float(effect) == pytest.approx(expected[name].effect, abs=0.006)
    (balance,) = blocks(parts["balance"], Table)
    x, t = study.X.x[:, 0], study.T
    assert float(balance.rows[0][1]) == pytest.approx((x[t].mean() - x[~t].mean()) / x[t].std(ddof=1), abs=1e-4)
    assert abs(float(balance.rows[0][2])) < 1e-3
    words = [row[1] for row in blocks(parts["refutation"], Table)[0].rows]
    assert {"PASS"} <= {*words} <= {"PASS", "FAIL", "NOT RUN"}
    (grid,) = blocks(parts["sensitivity"], Table)
    assert float(grid.rows[0][1]) == pytest.approx(expected["entropy"].effect, abs=0.1)


@pytest.mark.slow
def test_the_summary_claims_no_more_than_the_table(table: Path) -> None:
    def said(study: Study, **plan: Any) -> str:
        return study_page(study, Plan(draws=20, **plan), []).runs[0].lead

    found = said(study_of(table))
    low, high = map(float, re.search(r"interval (\S+) to ([^)]+)\)", found).groups())
    assert low < 2 < high and "no effect is within" not in found and "among the treated" in found
    assert found.endswith("only if what is assumed holds.")
    assert ": no effect is within the interval." in said(study_of(table, "flat"))
    assert "among all units" in said(study_of(table), estimand="ATE")
    placebo = study_of(table, "before", covariates=["z"])
    failed = said(study_of(table), placebo=placebo)
    assert failed.endswith("fails 1 of the checks below (placebo outcome): do not take it as the effect.")


def test_an_estimate_without_an_error_says_so(table: Path) -> None:
    study = study_of(table)

    class Refuted:
        estimator, verdicts = "dcb", ()

    text = summary(study, Estimate("dcb", "ATT of the matched", 2.0), Refuted())  # type: ignore[arg-type]
    assert "among the treated (ATT of the matched) by 2; the estimate has no standard error" in text
    row = Estimate("ipw", "ATT", 2.0, se=0.5, low=1.0, high=3.0, smd=0.137)
    text = summary(study, row, Refuted())  # type: ignore[arg-type]
    assert "(95 % interval 1 to 3), under weights that leave a largest |SMD| of 0.137, above 0.1. It is" in text


def test_a_ratio_is_named_and_its_null_is_1(table: Path) -> None:
    frame = pd.read_csv(table)
    frame.assign(y=np.where(frame.y > 1, "ill", "well"), n=(frame.y.abs() * 2).round()).to_csv(table, index=False)
    study = study_of(table, outcome_value="ill")
    page = study_page(study, Plan(draws=20, estimator="ipw", measure="ratio"), [])
    row = {row.name: row for row in compare(study.X, study.T, study.outcomes(), measure="ratio")}["ipw"]
    found = re.search(
        r"ipw, the risk ratio of y=ill by t among the treated is (\S+) .*interval (\S+) to ([^)]+)\)", page.runs[0].lead
    )
    assert found is not None
    assert [float(text) for text in found.groups()] == pytest.approx([row.effect, row.low, row.high], abs=0.006)
    (estimates,) = blocks(sections(page)["estimates"], Table)
    assert estimates.columns[2:5] == ("with", "without", "ratio")
    cells = next(cells for cells in estimates.rows if cells[0] == "ipw")
    assert float(cells[4]) == pytest.approx(float(cells[2]) / float(cells[3]), rel=0.02)
    assert "are of the difference of means" in blocks(sections(page)["refutation"], Text)[0].text

    class Refuted:
        estimator, verdicts = "ipw", ()

    def said(study: Study, measure: Any, low: float) -> str:
        return summary(study, Estimate("ipw", "ATT", 1.5, se=0.1, low=low, high=2.0), Refuted(), measure)  # type: ignore[arg-type]

    assert "the odds ratio of" in said(study, "odds-ratio", 0.9) and "no effect is" in said(study, "ratio", 0.9)
    assert "no effect is" not in said(study, "ratio", 1.1)
    assert "the ratio of the means of n by t" in said(study_of(table, "n"), "ratio", 1.1)
    with pytest.raises(UserError, match="ols: estimates no mean outcome of each arm, and so no ratio"):
        study_page(study, Plan(draws=20, estimator="ols", estimand="ATE", measure="ratio"), [])


@pytest.mark.slow
def test_the_commands_of_a_page_with_a_graph_run(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    lines: list[str] = []

    def stopped(units: Study, plan: Plan, commands: list[str], step: Any) -> Page:
        lines.extend(commands)
        raise UserError("seen enough")

    monkeypatch.setattr(pages, "study_page", stopped)
    given = [
        "--data=table.csv",
        "--treatment=t",
        "--outcome=y",
        "--graph=x -> t; z -> y; x -> y; t -> y; u -> x; u -> t",
    ]
    assert main(["causal", "report", *given, "--propensity-model=lasso"]) == 2
    commands = [shlex.split(line)[1:] for line in lines]
    assert [words[1] for words in commands] == ["graph", "propensity", "balance", "estimate", "refute", "report"]
    assert commands[0][-2:] == ["--unobserved", "u"] and commands[1][-2:] == ["--model", "lasso"]
    for words in commands[:3]:
        assert main(words) == 0
    assert "propensity of t, lasso" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_a_graph_is_drawn_and_read(table: Path, drawn: None) -> None:
    graph = "x -> t; z -> y; x -> y; t -> y; hidden -> x; hidden -> t"
    study = study_of(table, covariates=[], graph=graph)
    parts = sections(study_page(study, Plan(draws=20, graph=graph), []))
    (facts,) = blocks(parts["graph"], Facts)
    assert dict(facts.rows)["adjust for"] == "x" and len(blocks(parts["graph"], Picture)) == 1
    (question,) = blocks(parts["question"], Facts)
    assert dict(question.rows)["adjusted for"] == "x"
    without = sections(study_page(study_of(table), Plan(draws=20), []))
    assert "no causal graph" in blocks(without["graph"], Missing)[0].why


def test_what_has_no_weights_or_scores_is_said(table: Path) -> None:
    parts = sections(study_page(study_of(table), Plan(draws=20, estimator="ols", estimand="ATE"), []))
    assert "ols has no weights" in blocks(parts["balance"], Missing)[0].why


@pytest.mark.slow
def test_the_command_and_the_commands_on_its_page(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table_words = ["--data=table.csv", "--treatment=t", "--outcome=y", "--covariates=x,z", "--moments=2"]
    pages_seen: list[Page] = []

    def seen(page: Page) -> str:
        pages_seen.append(page)
        return "<html>"

    monkeypatch.setattr("contrastkit.report.building.html", seen)
    more = ["--draws=20", "--estimand=ATE", "--estimator=ipw", "--seed=1", "--placebo-outcome=before", "--without=x"]
    assert main(["causal", "report", *table_words, *more, "--json=page.json"]) == 0
    assert read_report("causal-report", tmp_path / "page.json")["file"] == "study.html"
    assert "among all units" in " ".join(capsys.readouterr().out.split()) and (tmp_path / "study.html").exists()
    (code,) = blocks(sections(pages_seen[0])["reproduce"], Code)
    assert [shlex.split(line)[2] for line in code.lines] == ["propensity", "balance", "estimate", "refute", "report"]
    for line in code.lines[:-1]:
        assert main(shlex.split(line)[1:]) in (0, 1), line
    words = shlex.split(code.lines[-1])[3:]
    again = dict(zip(words[::2], words[1::2], strict=True))
    assert again == {
        "--data": "table.csv", "--treatment": "t", "--outcome": "y", "--covariates": "x,z", "--moments": "2",
        "--estimand": "ATE", "--seed": "1", "--estimator": "ipw", "--draws": "20",
        "--placebo-outcome": "before", "--without": "x", "--out": "study.html",
    }  # fmt: skip
