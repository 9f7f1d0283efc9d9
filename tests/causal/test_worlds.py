"""The simulated worlds: their truths and biases in closed form, and their output."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import typer
from scipy.integrate import quad
from scipy.stats import norm

from contrastkit.causal.notation import parse
from contrastkit.causal.worlds import WORLDS, Adjustment, World, picture, visit
from contrastkit.cli.causal.demo import demo as command
from contrastkit.errors import UserError


@pytest.fixture(scope="module")
def large() -> dict[tuple[str, str], Adjustment]:
    return {(world.name, row.name): row for world, _, rows in visit(200_000, 0) for row in rows}


def naive_of_confounding() -> float:
    """E[1.5 H | T = 1] - E[1.5 H | T = 0], H normal, T = 1 with the probability 1 / (1 + exp(-1.5 H)): by symmetry
    twice the first."""
    return 2 * 1.5 * quad(lambda h: h * norm.pdf(h) / (1 + math.exp(-1.5 * h)), -9, 9)[0] / 0.5


def among_those_open() -> float:
    """F given 2 V + 1.5 F + 0.5 E > 1.5: the inverse Mills ratio, times the correlation."""
    s = math.hypot(1.5, 0.5)
    means = [1.5 / s * norm.pdf((1.5 - 2 * v) / s) / norm.sf((1.5 - 2 * v) / s) for v in (0, 1)]
    return means[1] - means[0]


EFFECTS = {
    ("causation", "nothing"): 2.0,
    ("confounding", "nothing"): naive_of_confounding(),
    ("confounding", "heat"): 0.0,
    ("selection", "nothing"): 0.0,
    ("selection", "those open only"): among_those_open(),
    ("Simpson's paradox", "nothing"): (87 * 0.93 + 263 * 0.73 - 270 * 0.87 - 80 * 0.67) / 350,
    ("Simpson's paradox", "large"): 0.06,
    ("Simpson's paradox", "small stones only"): 0.06,
    ("Simpson's paradox", "large stones only"): 0.06,
    ("mediation", "nothing"): 0.5 + 1.5,
    ("mediation", "skill"): 0.5,
    ("M-bias", "nothing"): -0.5,
}


@pytest.mark.parametrize("who", EFFECTS)
def test_what_an_analyst_finds_is_what_the_formulas_say(
    who: tuple[str, str], large: dict[tuple[str, str], Adjustment]
) -> None:
    assert abs(large[who].effect - EFFECTS[who]) < 4 * large[who].se < 0.05


def test_who_is_right_and_who_makes_it_worse(large: dict[tuple[str, str], Adjustment]) -> None:
    expected = {
        "causation": {"nothing": "recovers"},
        "confounding": {"nothing": "biased", "heat": "recovers"},
        "selection": {"nothing": "recovers", "open": "worse", "those open only": "worse"},
        "Simpson's paradox": {
            "nothing": "biased",
            "large": "recovers",
            "small stones only": "recovers",
            "large stones only": "recovers",
        },
        "mediation": {"nothing": "recovers", "skill": "worse"},
        "M-bias": {"nothing": "recovers", "mother": "worse"},
    }
    for rows in (large.items(), (((w.name, r.name), r) for w, _, some in visit(2000, 0) for r in some)):
        assert {who: row.verdict for who, row in rows} == {
            (world, name): verdict for world, verdicts in expected.items() for name, verdict in verdicts.items()
        }


def test_simpsons_sign_turns() -> None:
    (frame,) = (frame for world, frame, _ in visit(5000, 1) if world.name == "Simpson's paradox")
    shares = frame.groupby(["large", "surgery"]).success.mean()
    assert shares[0, 1] > shares[0, 0] and shares[1, 1] > shares[1, 0]
    overall = frame.groupby("surgery").success.mean()
    assert overall[1] < overall[0]


def test_adjusting_is_least_squares() -> None:
    for world, frame, rows in visit(1000, 3):
        for row in rows:
            some = frame.query(world.parts[row.name]) if row.name in world.parts else frame
            A = np.column_stack([np.ones(len(some)), some[world.treatment], *(some[name] for name in row.covariates)])
            effect = np.linalg.lstsq(A, some[world.outcome].to_numpy(float), rcond=None)[0][1]
            assert (row.effect, row.error) == (pytest.approx(effect), pytest.approx(effect - world.truth))


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_a_world_has_what_its_graph_says(world: World) -> None:
    nodes = set(parse(world.graph))
    frame = world.simulate(1000, np.random.default_rng(0))
    assert set(frame) == nodes - set(world.unobserved) and set(world.at) == nodes and len(frame) == 1000
    assert set(frame[world.treatment]) == {0, 1} and world.colour_by in (*frame, "")
    again = world.simulate(1000, np.random.default_rng(0))
    assert frame.equals(again) and not frame.equals(world.simulate(1000, np.random.default_rng(1)))


def test_no_two_worlds_share_their_chance() -> None:
    seen = [frame[world.treatment].to_numpy() for world, frame, _ in visit(1000, 0)]
    assert all((a != b).any() for k, a in enumerate(seen) for b in seen[:k])


def run(*arguments: str) -> int:
    app = typer.Typer()
    app.command()(command)
    return app([*arguments], standalone_mode=False) or 0


@pytest.mark.slow
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, report = tmp_path / "demo.png", tmp_path / "demo.json"
    assert run(f"--out={out}", "--n=1000", "--seed=4", f"--json={report}") == 0
    printed = capsys.readouterr().out
    assert out.read_bytes().startswith(b"\x89PNG") and not list(tmp_path.glob(".*"))
    for world, (_, _, rows), reported in zip(WORLDS, visit(1000, 4), json.loads(report.read_text()), strict=True):
        assert f"{world.name}: {world.sentence[:20]}" in printed
        assert [row["effect"] for row in reported["rows"]] == [row.effect for row in rows]
        assert all(f"{abs(row.effect):,.2f}" in printed for row in rows) and reported["truth"] == world.truth
    with pytest.raises(UserError, match="--n must be at least 1,000"):
        run(f"--out={out}", "--n=999")


def test_a_picture_of_one_world(tmp_path: Path) -> None:
    picture(visit(1000, 0)[:1], tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
