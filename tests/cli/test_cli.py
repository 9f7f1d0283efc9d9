"""The command line: what reaches the library, what is printed, exit codes; each bad input in one line."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from contrastkit.cli.main import main
from PIL import Image

from contrastkit import train as library
from contrastkit.errors import UserError
from contrastkit.methods import RECIPES
from contrastkit.run import Run
from contrastkit.views import VIEWS

QUICK = ["--encoder=tiny", "--device=cpu", "--epochs=1", "--batch=32", "--K=64", "--size=12", "--monitor-every=0"]


@pytest.fixture(scope="module")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs, left after one."""
    out = tmp_path_factory.mktemp("cli") / "run"
    options = [*QUICK, "--epochs=2", "--stop-after=1", "--val-fraction=0.2"]
    assert main(["train", "moco", f"--data={images}", f"--out={out}", *options]) == 0
    return out


def one_error_line(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    """Run a command that must fail with exit code 2 and a single line on the error stream."""
    assert main([str(a) for a in args]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and captured.err.startswith("error: "), captured.err
    assert "Traceback" not in captured.out + captured.err
    return captured.err


# ---------------------------------------- what reaches the library


def reached(monkeypatch: pytest.MonkeyPatch, *args: object) -> tuple[object, ...]:
    """Name, recipe, options and how of the training that a command asks for."""
    asked: list[tuple[object, ...]] = []

    def train(name: str, recipe: object, options: object, **how: object) -> library.Outcome:
        asked.append((name, recipe, options, how))
        return library.Outcome(Run(Path(".")), 0, True, 0.0, 0.0)

    monkeypatch.setattr(library, "train", train)
    assert main(["train", *map(str, args)]) == 0
    return asked[0]


def test_without_options_the_embedded_digits_and_their_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    name, recipe, options, how = reached(monkeypatch, "moco", "--out=r")
    assert (name, recipe) == ("moco-v2/digits", RECIPES["moco-v2/digits"])
    assert options == library.Options(data="affdigits")
    assert (how["out"], how["resume"], how["stop_after"]) == (Path("r"), False, None)


def test_every_number_is_an_option(monkeypatch: pytest.MonkeyPatch, images: Path) -> None:
    name, recipe, options, how = reached(
        monkeypatch, "moco-v1", f"--data={images}", "--encoder=tiny", "--tau=0.5", "--K=99", "--symmetric",
        "--milestones=0.1,0.2", "--schedule=step", "--views=simclr-cifar", "--blur-p=0.1,0.2", "--size=12",
        "--gray-first=true", "--workers=3", "--seed=7", "--precision=float32", "--stop-after=2", "--out=r",
    )  # fmt: skip
    first, second = (replace(v, size=12, gray_first=True) for v in VIEWS["simclr-cifar"])
    assert name == "moco-v1/tiny"
    assert recipe == replace(
        RECIPES["moco-v1/tiny"], tau=0.5, K=99, symmetric=True, milestones=(0.1, 0.2), schedule="step",
        views=(replace(first, blur_p=0.1), replace(second, blur_p=0.2)),
    )  # fmt: skip
    assert options == library.Options(data=str(images), workers=3, seed=7, precision="float32")
    assert how["stop_after"] == 2


def test_the_row_can_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    name, recipe, _, _ = reached(monkeypatch, "moco", "--recipe=imagenet", "--out=r")
    assert (name, recipe) == ("moco-v2/imagenet", RECIPES["moco-v2/imagenet"])


def test_resume_needs_nothing_else(monkeypatch: pytest.MonkeyPatch, run: Path, images: Path) -> None:
    name, recipe, options, how = reached(monkeypatch, "moco", f"--resume={run}")
    kept = json.loads((run / "recipe.json").read_text())
    assert name == kept["name"] == "moco-v2/tiny"
    assert recipe.K == 64 and recipe.epochs == 2 and recipe.views[1].size == 12  # type: ignore[attr-defined]
    assert options == library.Options(data=str(images), val_fraction=0.2, device="cpu", monitor_every=0)
    assert (how["out"], how["resume"]) == (run, True)


# ---------------------------------------- judging and files


def test_a_run_is_judged_beside_its_baselines(run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["knn", str(run), "--baselines", f"--json={tmp_path / 'knn.json'}"]) == 0
    assert main(["probe", str(run), "--epochs=2", "--seeds=2"]) == 0
    out = capsys.readouterr().out
    assert "untrained tiny" in out and "raw pixels" in out and "95 % interval" in out
    found = json.loads((tmp_path / "knn.json").read_text())
    assert found == json.loads((run / "knn.json").read_text())
    assert list(found["accuracy"]) == [str(run), "untrained tiny", "raw pixels"]
    assert found["accuracy"]["raw pixels"]["top1"] > 0.9  # the classes differ by their tint
    probe = json.loads((run / "probe.json").read_text())["probe"][str(run)]
    assert len(probe["seeds"]) == 2 and probe["rate"] in probe["rates"]
    assert (run / "probe.png").read_bytes().startswith(b"\x89PNG")


def test_the_papers_protocol(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", str(run), "--protocol=moco", "--epochs=1", "--lr=1"]) == 0
    assert "protocol moco" in capsys.readouterr().out


def test_any_encoder_can_be_judged(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for encoder in ("tiny", "pixels"):
        assert main(["knn", f"--encoder={encoder}", f"--data={images}", "--val-fraction=0.2"]) == 0
    out = capsys.readouterr().out
    assert "tiny, untrained" in out and "raw pixels" in out


def test_embed_writes_features(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "features.npz"
    assert main(["embed", str(run), f"--out={out}"]) == 0
    with np.load(out, allow_pickle=False) as file:
        assert file["features"].shape == (320, 128) and file["features"].dtype == np.float32
        assert sorted(set(file["split"])) == ["test", "train"]  # the run's own --val-fraction
        assert set(file["labels"]) == {0, 1, 2, 3}


def test_views_draws_a_sheet(tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    assert main(["views", "digits", f"--out={out}", "--images=3", "--draws=2"]) == 0
    with Image.open(out) as sheet:
        assert sheet.width > sheet.height > 96


def test_methods_info_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods"]) == 0
    assert main(["info"]) == 0
    assert main(["--version"]) == 0
    out = capsys.readouterr().out
    assert "moco-v1" in out and "imagenet, 32, tiny, digits" in out
    assert "torch" in out and "infonce" in out and "queue" in out
    assert "contrastkit 0." in out


# ---------------------------------------- bad input


def test_a_taken_run_folder(run: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = one_error_line(capsys, "train", "moco", f"--data={images}", f"--out={run}", *QUICK)
    assert "already holds a run: go on with --resume" in error


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["train", "mocco"], "Did you mean 'moco'"),
        (["trian"], "Did you mean 'train'"),
        (["train", "moco", "--taw=1"], "--tau"),
        (["train", "moco", "--tau=warm"], "--tau"),
        (["train", "moco", "--blur-p=much"], "--blur-p: 'much' is no float"),
        (["train", "moco", "--blur-p=0.1,0.2,0.3"], "give one value, or 2"),
        (["train", "moco", "--views=moco-v3"], "unknown views 'moco-v3', did you mean"),
        (["train", "moco", "--recipe=tinny"], "did you mean 'tiny'"),
        (["train", "moco", "--encoder=resnet19"], "did you mean 'resnet1"),
        (["train", "moco", "--encoder=timm:resnet5O"], "timm has no model 'resnet5O', did you mean"),
        (["train", "moco", "--data=nowhere"], "no data set and no path is called 'nowhere'"),
        (["train", "moco", "--data=cifar1O"], "did you mean 'cifar10'"),
        (["train", "moco", "--batch=9000"], "larger than affdigits"),
        (["train", "moco", "--device=cuda:9"], "cuda:9"),
        (["train", "moco", "--device=gpu"], "--device gpu: unknown"),
        (["train", "moco", "--tau=0"], "--tau must be above 0"),
        (["train", "moco", "--m=2"], "--m must lie in [0, 1]"),
        (["train", "moco", "--K=0"], "--K must be at least 1"),
        (["train", "moco", "--epochs=0"], "--epochs must be at least 1"),
        (["train", "moco", "--size=0"], "--size must be at least 1"),
        (["train", "moco", "--resume=nowhere"], "holds no run"),
        (["knn", "nowhere"], "holds no run"),
        (["knn"], "name what to judge"),
        (["views", "digit"], "did you mean 'digits'"),
        (["bench-kernels", "--op=infonse"], "infonce"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line(
    args: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in one_error_line(capsys, *args)
    assert not list(tmp_path.rglob("*.pt")), "something was written"


def test_data_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty, texts, torn = tmp_path / "empty", tmp_path / "texts", tmp_path / "torn.npz"
    for folder in (empty, texts):
        folder.mkdir()
    (texts / "a.txt").write_text("no image")
    torn.write_bytes(b"PK\x03\x04")
    shapes = tmp_path / "shapes.npz"
    np.savez(shapes, images=np.zeros((4, 5), np.uint8))
    for path in (empty, texts, torn, shapes):
        assert path.name.split(".")[0] in one_error_line(
            capsys, "train", "moco", f"--data={path}", f"--out={tmp_path / 'r'}"
        )
    assert not (tmp_path / "r").exists()


def test_judging_needs_labels_and_a_test_part(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(images) as file:
        np.savez(tmp_path / "bare.npz", images=file["images"])
    for command in ("probe", "knn"):
        error = one_error_line(capsys, command, "--encoder=tiny", f"--data={tmp_path / 'bare.npz'}")
        assert "has no labels" in error
        assert "--val-fraction" in one_error_line(capsys, command, "--encoder=tiny", f"--data={images}")


def test_a_run_keeps_its_recipe(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "a run keeps its recipe" in one_error_line(capsys, "train", "moco", f"--resume={run}", "--tau=0.3")
    assert "not of moco-v1" in one_error_line(capsys, "train", "moco-v1", f"--resume={run}")
    assert "a run keeps its seed" in one_error_line(capsys, "train", "moco", f"--resume={run}", "--seed=9")
    assert "exclude each other" in one_error_line(capsys, "train", "moco", f"--resume={run}", "--out=elsewhere")


def test_a_file_that_cannot_be_written(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert "file" in one_error_line(capsys, "embed", run, f"--out={tmp_path / 'file' / 'features.npz'}")
    assert "cannot be written" in one_error_line(capsys, "train", "moco", f"--out={tmp_path / 'file' / 'run'}")


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(UserError):
        main(["knn", "nowhere", "--debug"])


# ---------------------------------------- start-up


@pytest.mark.parametrize(
    "args", [["--help"], ["train", "--help"], ["knn", "--help"], ["probe", "--help"], ["views", "--help"]]
)
def test_help_does_not_import_torch(args: list[str]) -> None:
    program = f"import sys; from contrastkit.cli.main import main; main({args}); sys.exit('torch' in sys.modules)"
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and "Usage" in done.stdout, done.stderr
    assert time.perf_counter() - began < 5  # half a second on a quiet machine; this only catches an import of torch


def test_the_package_is_a_program(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "contrastkit", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("contrastkit ")


def test_a_methods_help_lists_its_numbers(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["train", "moco-v1", "--help"]) == 0
    out = capsys.readouterr().out
    for option in ("--tau", "--K", "--m ", "--crop-min", "--stop-after", "--resume", "65536"):
        assert option in out
