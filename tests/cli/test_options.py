"""Options: families expand to options, and each option of knn, probe, embed and retrieve changes what it says."""

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import typer

from contrastkit import evaluate
from contrastkit.cli.main import app, main
from contrastkit.cli.options import takes_options
from contrastkit.errors import UserError
from contrastkit.evaluate import EvaluationSubject
from tests.schemas import read_report

# ---------------------------------------- families


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    name: Annotated[str, typer.Argument(help="A name.")]
    count: Annotated[int, typer.Option(help="How many.")] = 2


def test_a_family_is_expanded_to_options_and_handed_over_filled() -> None:
    given: list[tuple[Family, bool]] = []

    @takes_options
    def command(*, family: Family, loud: Annotated[bool, typer.Option("--loud")] = False) -> None:
        given.append((family, loud))

    single = typer.Typer(add_completion=False)
    single.command()(command)
    single(["x"], standalone_mode=False)
    single(["y", "--count=3", "--loud"], standalone_mode=False)
    assert given == [(Family(name="x"), False), (Family(name="y", count=3), True)]
    with pytest.raises(typer.TyperException, match="name"):
        single([], standalone_mode=False)


# ---------------------------------------- the options of a subject


SUBJECT = {
    "--data=set": ("data", "set"),
    "--data-dir=folder": ("data_dir", Path("folder")),
    "--download": ("download", True),
    "--val-fraction=0.5": ("val_fraction", 0.5),
    "--test-part=val": ("test_part", "val"),
    "--layout=NCHW": ("layout", "NCHW"),
    "--stretch": ("stretch", True),
    "--background=black": ("background", "black"),
    "--size=9": ("size", 9),
    "--batch=7": ("batch", 7),
    "--workers=1": ("workers", 1),
    "--max-bad=0.3": ("max_bad", 0.3),
    "--device=cpu": ("device", "cpu"),
    "--seed=5": ("seed", 5),
}
ENCODER = {
    "--encoder=tiny": ("encoder", "tiny"),
    "--pretrained": ("pretrained", True),
    "--init-from=f": ("init_from", "f"),
}
BASELINES = {"--baselines": ("baselines", True)}
OF_SUBJECT = {
    "knn": SUBJECT | ENCODER | BASELINES,
    "probe": SUBJECT | ENCODER | BASELINES,
    "embed": SUBJECT | ENCODER,
    "retrieve": SUBJECT,
    "zero-shot": SUBJECT,
}


@pytest.mark.parametrize("command", OF_SUBJECT)
def test_the_options_of_a_subject_reach_it(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their effect is tested with EvaluationSubject."""
    arguments: dict[str, Any] = {}

    def spy(**how: Any) -> EvaluationSubject:
        arguments.update(how)
        raise UserError("enough")

    monkeypatch.setattr(EvaluationSubject, "open", spy)
    assert main([command, "RUN"]) == 2
    defaults = dict(arguments)
    assert defaults["run"] == Path("RUN")
    for option, (name, value) in OF_SUBJECT[command].items():
        arguments.clear()
        assert main([command, "RUN", option]) == 2
        assert arguments == {**defaults, name: value} and defaults[name] != value, option


# ---------------------------------------- the options of each command, and what they change


@dataclasses.dataclass(frozen=True)
class Case:
    """A command with some options, and the equivalent library call."""

    command: str
    option: list[str]
    call: dict[str, Any] = dataclasses.field(default_factory=dict)
    subject: dict[str, Any] = dataclasses.field(default_factory=dict)
    beside: tuple[str, ...] = ()  # options of both commands, with and without `option`

    def __str__(self) -> str:
        return " ".join([self.command, *self.beside, *self.option])


QUICK = ("--epochs=2", "--seeds=1")
MOCO = ("--protocol=moco", "--epochs=1", "--lr=0.1")
ONE_EPOCH = ("--epochs=1",)
CALLS: dict[tuple[str, ...], dict[str, Any]] = {  # the arguments of `beside`
    (): {},
    QUICK: {"epochs": 2, "seeds": 1},
    MOCO: {"protocol": "moco", "epochs": 1, "lr": 0.1},
    ONE_EPOCH: {"epochs": 1},
}
CASES = [
    Case("knn", ["--k=3"], {"k": 3}),
    Case("knn", ["--T=0.001"], {"T": 0.001}),
    Case("knn", ["--baselines"], {}, {"baselines": True}),
    Case("knn", ["--size=12"], {}, {"size": 12}),
    Case("knn", ["--val-fraction=0.5"], {}, {"val_fraction": 0.5}),
    Case("knn", ["--encoder=tiny", "--data=DATA", "--val-fraction=0.25"], {}, {"encoder": "tiny"}),
    Case(
        "knn", ["--encoder=tiny", "--data=DATA", "--val-fraction=0.25", "--seed=4"], {}, {"encoder": "tiny", "seed": 4}
    ),
    Case("probe", ["--epochs=3"], {"epochs": 3}, beside=QUICK),
    Case("probe", ["--seeds=2"], {"seeds": 2}, beside=QUICK),
    Case("probe", ["--seed=6"], {"seed": 6}, {"seed": 6}, beside=QUICK),
    Case("probe", ["--baselines"], {}, {"baselines": True}, beside=QUICK),
    Case("probe", ["--size=12"], {}, {"size": 12}, beside=QUICK),
    Case("probe", ["--protocol=standardised"], {"protocol": "standardised"}, beside=QUICK),
    Case("probe", ["--protocol=moco", "--lr=0.1"], {"protocol": "moco", "lr": 0.1}, beside=ONE_EPOCH),
    Case("probe", ["--lr=0.01"], {"lr": 0.01}, beside=MOCO),
    Case("probe", ["--epochs=2"], {"epochs": 2}, beside=MOCO),
    Case("probe", ["--seed=3"], {"seed": 3}, {"seed": 3}, beside=MOCO),
    Case("embed", ["--split=test"], {"split": "test"}),
    Case("embed", ["--split=train"], {"split": "train"}),
    Case("embed", ["--size=12"], {}, {"size": 12}),
    Case("embed", ["--tokens"], {"tokens": True}),
    Case("embed", ["--encoder=pixels", "--data=DATA", "--val-fraction=0.25"], {}, {"encoder": "pixels"}),
    Case("retrieve", ["--size=12"], {}, {"size": 12}),
    Case("retrieve", ["--val-fraction=0.5"], {}, {"val_fraction": 0.5}),
    Case("retrieve", ["--data=DATA", "--val-fraction=0.25", "--seed=8"], {}, {"seed": 8, "val_fraction": 0.25}),
]
ELSEWHERE = {
    "json",
    "debug",
    "out",
    "confusion",
    "neighbours",
    "plot",
    "method",
    "classes",
    "templates",
    "weights",
}  # tested with the commands
OWN = {("retrieve", "baselines")}  # likewise


@pytest.fixture(scope="module")
def library(
    hard_images: Path, moco_run: Path, cmc_run: Path
) -> Callable[[str, dict[str, Any], dict[str, Any]], tuple[Any, Any]]:
    """A cached library call for a case: its report as JSON, and the results alone."""

    def run(command: str, call: dict[str, Any], how: dict[str, Any]) -> tuple[Any, Any]:
        how = dict(how)
        if "encoder" in how:
            how |= {"data": str(hard_images), "val_fraction": 0.25}
        else:
            how["run"] = cmc_run if command == "retrieve" else moco_run
            if command == "retrieve" and "seed" in how:
                how["data"] = str(hard_images)
        report = getattr(evaluate, command)(EvaluationSubject.open(**how, device="cpu"), **call)
        if command == "embed":
            results = report.features.tolist()
        else:
            of_each = {"knn": "accuracy", "probe": "probe", "retrieve": "retrieval"}[command]
            results = {name: dataclasses.asdict(result) for name, result in getattr(report, of_each).items()}
        return json.loads(json.dumps(report.as_json())), json.loads(json.dumps(results))

    @functools.cache
    def cached(text: str) -> tuple[Any, Any]:
        return run(*json.loads(text))

    return lambda command, call, how: cached(json.dumps([command, call, how]))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_option_changes_what_it_says(
    case: Case, library: Any, hard_images: Path, moco_run: Path, cmc_run: Path, tmp_path: Path
) -> None:
    """The command writes the library's results for that value, and they differ from those without it."""
    run = cmc_run if case.command == "retrieve" else moco_run
    options = [option.replace("DATA", str(hard_images)) for option in (*case.beside, *case.option)]
    subject = [] if any(option.startswith("--encoder") for option in options) else [str(run)]
    out = [f"--out={tmp_path / 'features.npz'}"] if case.command == "embed" else []
    assert main([case.command, *subject, *options, *out, f"--json={tmp_path / 'x.json'}", "--device=cpu"]) == 0
    report, results = library(case.command, CALLS[case.beside] | case.call, case.subject)
    written = read_report(case.command, tmp_path / "x.json")
    assert {name: value for name, value in written.items() if name != "made"} == report
    if out:
        with np.load(tmp_path / "features.npz") as file:
            assert file["features"].tolist() == results
    without = {"encoder": "tiny"} if "--seed=4" in case.option else {}
    _, default = library(case.command, CALLS[case.beside], without)
    assert results != default


def test_every_option_is_in_a_table() -> None:
    group: Any = typer.main.get_command(app)
    for name, of_subject in OF_SUBJECT.items():
        options = {parameter.name for parameter in group.get_command(None, name).params}
        cased = {option.split("=")[0] for case in CASES if case.command == name for option in case.option}
        tested = cased | {option.split("=")[0] for option in of_subject}
        names = {"temperature" if option == "--T" else option[2:].replace("-", "_") for option in tested}
        assert {each for each in options - ELSEWHERE - {"run"} if (name, each) not in OWN} == names, name
