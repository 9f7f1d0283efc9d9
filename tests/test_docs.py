"""README.md, CONTRIBUTING.md and docs/: their commands exist, the quick ones run, their examples work, their links
and names lead somewhere."""

import contextlib
import importlib
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import typer
from PIL import Image

from benchmarks.confounders import study
from contrastkit.cli.main import app, main
from tests.same import assert_same_run
from tests.schemas import read_report

ROOT = Path(__file__).parents[1]
PAGES = [path for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md") if path.is_file()]
PAGES += sorted((ROOT / "docs").glob("*.md"))
TEXT = {path.relative_to(ROOT).as_posix(): path.read_text() for path in PAGES}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PLACEHOLDERS = {"COMMAND", "X"}  # of `contrastkit COMMAND --help`

# Commands that take at most a few seconds, in the order of their page, which may use what the one before has written.
QUICK = (
    "methods", "info", "views moco-v2", "embed --encoder", "causal demo", "causal graph",
    "causal estimate --data lalonde", "causal estimate --data study", "causal refute --data study", "causal effects",
    "causal balance", "causal propensity", "causal match", "causal weight", "causal arms --data lalonde-trial",
    "causal dose --data lalonde-trial", "causal survival --data nhefs",
    "stable simulate", "stable reweight", "stable fit", "stable evaluate",
)  # fmt: skip


class Command(NamedTuple):
    page: str
    words: tuple[str, ...]  # after `contrastkit`
    whole: bool = True  # of a shell block; in a sentence, `contrastkit knn` may leave its arguments out

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def blocks(page: str, language: str) -> list[str]:
    return [code for kind, code in BLOCK.findall(TEXT[page]) if kind == language]


def spans(page: str) -> list[str]:
    """The code within sentences and tables."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", BLOCK.sub("", TEXT[page]))]


def shell_lines(page: str) -> list[tuple[list[str], bool]]:
    """The words of each command, and whether it stands in a shell block or in a sentence; `a && b` is two."""
    block_lines = [line for block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines()]
    mentions = [span for span in spans(page) if re.match(r"(contrastkit|python -m|make) ", span)]
    lines = [(part, True) for line in block_lines for part in line.split(" && ")]
    lines += [(mention, False) for mention in mentions]
    return [(words, whole) for line, whole in lines if (words := shlex.split(line, comments=True))]


def commands(page: str) -> list[Command]:
    found = []
    for words, whole in shell_lines(page):
        at = words.index("contrastkit") if "contrastkit" in words else None
        if at is not None and (at == 0 or words[at - 1] == "-m") and not PLACEHOLDERS & set(words):
            found.append(Command(page, tuple(words[at + 1 :]), whole))
    return found


COMMANDS = [command for page in TEXT for command in commands(page)]


@pytest.fixture
def method_file(tmp_path: Path) -> Path:
    """The method of docs/python.md, as path/to/mine.py below an empty folder."""
    (code,) = (code for code in blocks("docs/python.md", "python") if "RECIPES" in code)
    path = tmp_path / "path" / "to" / "mine.py"
    path.parent.mkdir(parents=True)
    path.write_text(code)
    return path


def test_the_pages_are_read() -> None:
    assert {"README.md", "CONTRIBUTING.md", "docs/python.md", "docs/methods.md"} <= TEXT.keys()
    assert len(COMMANDS) > 60
    assert len(set(COMMANDS)) > 50
    assert Command("docs/methods.md", ("retrieve", "runs/nyu")) in COMMANDS  # after a line that is continued


# ------------------------------------------------------------------------------------------------------- command lines


def parse(words: tuple[str, ...]) -> None:
    """Parse a command line and run nothing.

    Raises:
        typer.TyperException: no such command or option, or a value that it does not take.
    """
    command: Any = typer.main.get_command(app)
    name, parent, rest = "contrastkit", None, list(words)
    while True:
        is_group = hasattr(command, "resolve_command")
        if is_group and not rest:
            return  # it would print its help
        context = command.make_context(name, rest, parent=parent)
        if not is_group:
            return
        given = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, given)
        parent = context


@pytest.mark.parametrize("command", sorted(set(COMMANDS)), ids=str)
def test_every_command_line_parses(command: Command, method_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(method_file.parents[2])
    Path("benchmarks/results").mkdir(parents=True)
    words = tuple(word.replace(".py:NAME", ".py:twins") for word in command.words)
    try:
        parse(words)
    except typer.Exit:  # of --help
        pass
    except typer.TyperException as error:
        if command.whole or "Missing" not in error.format_message():
            raise


@pytest.mark.parametrize(
    "line", ["trian moco", "train moko", "train moco --tua 0.1", "knn runs/x --k many", "causal match --data lalonde"]
)
def test_a_command_line_that_is_wrong_does_not_parse(line: str) -> None:
    with pytest.raises(typer.TyperException):
        parse(tuple(line.split()))


def test_modules_their_options_and_targets_exist() -> None:
    """`python -m benchmarks.X --option`, and every target of `make`."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    modules, verbs = set(), set()
    for words, _ in (line for page in TEXT for line in shell_lines(page)):
        if words[:2] == ["python", "-m"]:
            modules.add(words[2])
            place = ROOT / words[2].replace(".", "/")
            source = (place / "__main__.py" if place.is_dir() else place.with_suffix(".py")).read_text()
            for option in (word for word in words[3:] if word.startswith("--")):
                assert f'"{option}"' in source, f"{words[2]} {option}"
        if words[0] == "make":
            verbs |= {word for word in words[1:] if "=" not in word}
    assert verbs - targets == set()
    assert len(modules) > 5
    assert verbs >= {"demo", "test", "gpu"}


@pytest.mark.slow
def test_quick_commands_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    photos = Path("my/photos")
    photos.mkdir(parents=True)
    for i in range(8):
        pixels = np.random.default_rng(i).integers(0, 256, size=(40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{i}.png")
    study(Path("study"))
    pytest.importorskip("causaldata")
    for words in dict.fromkeys(command.words for command in COMMANDS if command.whole):
        if shlex.join(words).startswith(QUICK):
            assert main(list(words)) == 0, f"{shlex.join(words)}: {capsys.readouterr().err}"


def test_each_quick_command_is_in_a_page() -> None:
    for start in QUICK:
        assert any(command.whole and shlex.join(command.words).startswith(start) for command in COMMANDS), start


# ----------------------------------------------------------------------------------------------------- Python examples


def test_the_example_of_a_data_set_and_an_encoder_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = blocks("docs/python.md", "python")[0]
    exec(compile(code, "docs/python.md", "exec"), {"__name__": "example"})
    assert re.search(r"Accuracy\(top1=0\.\d+, .*n=128, ", capsys.readouterr().out)
    assert Path("runs/own/encoder.safetensors").is_file()


def test_the_method_of_a_file_trains_resumes_and_is_evaluated(
    method_file: Path, images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(method_file.parents[2])
    train = ["train", "path/to/mine.py:twins"]
    small = ["--data", str(images), "--val-fraction", "0.25", "--epochs", "2", "--batch", "60", "--size", "12"]
    small += ["--device", "cpu", "--penalty", "0.01"]
    assert main([*train, *small, "--out", "runs/whole", "--json", "whole.json"]) == 0
    assert main([*train, *small, "--out", "runs/mine", "--stop-after", "1", "--json", "half.json"]) == 0
    assert read_report("train", Path("whole.json"))["verdict"]["epochs"] == [1, 2]
    assert read_report("train", Path("half.json"))["verdict"] is None
    assert main([*train, "--resume", "runs/mine"]) == 0
    assert_same_run(Path("runs/mine"), Path("runs/whole"))
    method_file.unlink()  # evaluation does not need it
    assert main(["knn", "runs/mine", "--k", "5"]) == 0
    assert "runs/mine" in capsys.readouterr().out


@pytest.mark.parametrize("page", sorted(TEXT))
def test_python_code_and_names_are_right(page: str) -> None:
    """Every block compiles; every name below contrastkit, there and in sentences, can be imported."""
    code = blocks(page, "python")
    for block in code:
        compile(block, page, "exec")
    names = set(re.findall(r"\bcontrastkit(?:\.\w+)+", "\n".join([*code, *spans(page)])))
    for name in sorted(names):
        if name.endswith((".pt", ".py", ".so")):
            continue
        target, rest = importlib.import_module("contrastkit"), name.split(".")[1:]
        for i, part in enumerate(rest):
            with contextlib.suppress(ModuleNotFoundError):
                importlib.import_module(".".join(("contrastkit", *rest[: i + 1])))
            assert hasattr(target, part), f"{page}: {name}"
            target = getattr(target, part)


# ------------------------------------------------------------------------------------------------- links and file names


def anchors(text: str) -> set[str]:
    """What GitHub calls the headings of a page."""
    titles = re.findall(r"^#+ (.*)$", BLOCK.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", sorted(TEXT))
def test_links_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", BLOCK.sub("", TEXT[page])):
        if link.startswith("http"):
            continue
        file, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / file).resolve() if file else ROOT / page
        assert target.is_file(), f"{page}: {link}"
        if anchor:
            assert anchor in anchors(target.read_text()), f"{page}: {link}"


def test_the_map_names_every_room() -> None:
    """Each file and folder of the package is in the map, and whatever the map names exists."""
    (plan,) = (block for block in blocks("README.md", "") if block.startswith("contrastkit/"))
    words = set(re.findall(r"[\w-]+(?:\.py|/)", plan))
    package = ROOT / "contrastkit"
    rooms = {path.name for path in package.glob("*.py") if not path.name.startswith("__")}
    rooms |= {f"{path.name}/" for path in package.iterdir() if (path / "__init__.py").is_file() and path.name != "cli"}
    assert rooms - words == set()
    known = {path.name for path in ROOT.rglob("*.py")} | {f"{path.name}/" for path in ROOT.rglob("*") if path.is_dir()}
    assert words - known == set()


def test_files_that_contributing_names_exist() -> None:
    for span in spans("CONTRIBUTING.md"):
        if re.fullmatch(r"(contrastkit|cli|tests|csrc|benchmarks|docs)/[\w./]+", span) and not re.search(
            r"NAME|STEM|MODULE", span
        ):
            assert (ROOT / span).exists(), span
