"""The command line: what reaches the library, what is printed, exit codes; one line for each bad input."""

import dataclasses
import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image

from contrastkit import training as library
from contrastkit.augment import VIEWS
from contrastkit.cards import CARDS, EVERY
from contrastkit.cli import screen
from contrastkit.cli.main import app, main
from contrastkit.cli.methods import per_view
from contrastkit.data import digits
from contrastkit.errors import UserError
from contrastkit.methods import RECIPES
from contrastkit.methods.rows import rows_of
from contrastkit.names import METHODS
from contrastkit.run import Run

QUICK = ["--encoder=tiny", "--device=cpu", "--epochs=1", "--batch=32", "--K=64", "--size=12", "--monitor-every=0"]


@pytest.fixture(scope="module", autouse=True)
def posed_once() -> Iterator[None]:
    """The embedded digits, which many of these commands open before they refuse an option."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "affdigits", functools.cache(digits.affdigits))
        yield


@pytest.fixture(scope="module")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs, stopped after one."""
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


def reached(monkeypatch: pytest.MonkeyPatch, *args: object) -> tuple[str, Any, Any, dict[str, Any]]:
    """Name, recipe and options of the plan that a command launches, the rest of it, and how it is launched."""
    calls: list[tuple[str, Any, Any, dict[str, Any]]] = []

    def launch(plan: library.Plan, **how: Any) -> library.Outcome:
        calls.append((plan.name, plan.recipe, plan.options, vars(plan) | how))
        return library.Outcome(Run(Path(".")), 0, True, False, 0.0, 0.0)

    monkeypatch.setattr("contrastkit.training.launch.launch", launch)
    assert main(["train", *map(str, args)]) == 0
    return calls[0]


def test_without_options_the_embedded_digits_and_their_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    name, recipe, options, how = reached(monkeypatch, "moco", "--out=r")
    assert (name, recipe) == ("moco-v2/digits", RECIPES["moco-v2/digits"])
    assert replace(options, precision="auto") == library.Options(data="affdigits")
    assert (how["out"], how["record"], how["stop_after"]) == (Path("r"), None, None)


def test_without_out_a_run_takes_a_folder_that_is_free(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for end in ("", "-2", "-3"):
        folder = f"runs/moco-v2-digits-affdigits{end}"
        assert reached(monkeypatch, "moco")[3]["out"] == Path(folder)
        Path(folder).mkdir(parents=True)


def test_every_number_is_an_option(monkeypatch: pytest.MonkeyPatch, images: Path) -> None:
    name, recipe, options, how = reached(
        monkeypatch, "moco-v1", f"--data={images}", "--encoder=tiny", "--tau=0.5", "--K=99", "--symmetric",
        "--milestones=0.1,0.2", "--schedule=step", "--views=simclr-cifar", "--blur-p=0.1,0.2", "--size=12",
        "--gray-first=true", "--workers=3", "--seed=7", "--precision=float32", "--stop-after=2", "--out=r",
        "--interpolation=bicubic", "--blur-border=zero,repeated",
        "--compile", "--save-every=2", "--monitor-every=3", "--max-bad=0.5", "--val-fraction=0.25", "--device=cpu",
        f"--data-dir={images.parent}", "--layout=NHWC", "--stretch", "--background=black",
        "--scaled-decoding",
    )  # fmt: skip
    changes: dict[str, Any] = {"size": 12, "gray_first": True, "interpolation": "bicubic"}
    first, second = (replace(v, **changes) for v in VIEWS["simclr-cifar"])
    assert name == "moco-v1/tiny"
    numbers: dict[str, Any] = {"tau": 0.5, "K": 99, "symmetric": True, "milestones": (0.1, 0.2), "schedule": "step"}
    both = (replace(first, blur_p=0.1, blur_border="zero"), replace(second, blur_p=0.2, blur_border="repeated"))
    assert recipe == replace(RECIPES["moco-v1/tiny"], **numbers, views=both)
    assert options == library.Options(
        data=str(images), workers=3, seed=7, precision="float32", compile=True, save_every=2, monitor_every=3,
        max_bad=0.5, val_fraction=0.25, device="cpu", data_dir=images.parent, layout="NHWC", stretch=True,
        background="black", scaled_decoding=True,
    )  # fmt: skip
    assert how["stop_after"] == 2


def test_a_pair_of_numbers_is_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    _, recipe, *_ = reached(monkeypatch, "moco", "--zoom-min=1.5", "--zoom-max=2", "--out=r")  # digits: 0.7 to 1.3
    assert [(v.zoom_min, v.zoom_max) for v in recipe.views] == [(1.5, 2.0)] * 2


def test_any_row_of_views_goes_to_a_method_of_many_crops(monkeypatch: pytest.MonkeyPatch, images: Path) -> None:
    common = (f"--data={images}", "--encoder=tiny", "--out=r")
    _, recipe, *_ = reached(monkeypatch, "swav", *common, "--views=swav", "--size=16,16,8,8,8,8,8,8")
    assert [view.size for view in recipe.views] == [16, 16, *[8] * 6]
    _, recipe, *_ = reached(monkeypatch, "dino", *common, "--views=moco-cifar")
    assert len(recipe.views) == 2


def test_a_folder_does_not_stand_in_for_a_named_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("digits", "mine"):
        Path(name).mkdir()
        for image in ("a.png", "b.png"):
            Image.new("RGB", (80, 80)).save(Path(name) / image)
    assert reached(monkeypatch, "moco", "--data=digits", "--out=r")[2].data == "digits"
    own = ["moco", "--data=mine", "--batch=2", "--bn-groups=1", "--out=r"]
    assert reached(monkeypatch, *own)[2].data == str(tmp_path / "mine")


def test_the_row_can_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    name, recipe, _, _ = reached(monkeypatch, "moco", "--recipe=imagenet", "--out=r")
    assert (name, recipe) == ("moco-v2/imagenet", RECIPES["moco-v2/imagenet"])


def test_resume_needs_nothing_else(monkeypatch: pytest.MonkeyPatch, run: Path, images: Path) -> None:
    name, recipe, options, how = reached(monkeypatch, "moco", f"--resume={run}")
    kept = json.loads((run / "recipe.json").read_text())
    assert name == kept["name"] == "moco-v2/tiny"
    assert recipe.K == 64 and recipe.epochs == 2 and recipe.views[1].size == 12
    assert options == library.Options(**kept["options"])
    assert (options.data, options.val_fraction, options.monitor_every) == (str(images), 0.2, 0)
    assert (how["out"], how["record"]) == (run, Run.open(run).record)


def test_extend_and_init_from_reach_the_plan(monkeypatch: pytest.MonkeyPatch, run: Path, images: Path) -> None:
    _, recipe, _, how = reached(monkeypatch, "moco", f"--extend={run}", "--epochs=5", "--out=longer")
    assert (recipe.epochs, how["out"], how["parent"].run, how["parent"].epochs) == (5, Path("longer"), str(run), 2)
    words = ["moco", f"--data={images}", "--encoder=tiny", "--batch=32", f"--init-from={run}", f"--labelled={images}"]
    _, _, options, how = reached(monkeypatch, *words, "--out=new")
    assert how["weights"].source == str(run / "checkpoints" / "last.pt") and options.labelled == str(images)


def test_resume_may_change_where_and_how_a_run_is_watched(
    monkeypatch: pytest.MonkeyPatch, run: Path, tmp_path: Path
) -> None:
    _, _, before, _ = reached(monkeypatch, "moco", f"--resume={run}")
    _, recipe, options, how = reached(
        monkeypatch, "moco", f"--resume={run}", "--workers=2", f"--data-dir={tmp_path}", "--save-every=5",
        "--monitor-every=4", "--max-bad=0.2", "--stop-after=2", "--tau=0.1", "--seed=0",
    )  # fmt: skip
    changes = {"workers": 2, "data_dir": tmp_path, "save_every": 5, "monitor_every": 4, "max_bad": 0.2}
    assert options == replace(before, **changes)
    assert recipe.tau == 0.1 and how["stop_after"] == 2  # repeating the recorded value is allowed


# ---------------------------------------- files


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
    assert "moco-v1" in out and "momentum" in out and "negatives" in out
    assert "torch" in out and "infonce" in out and "queue" in out
    assert "contrastkit 0." in out


def test_methods_lists_what_the_table_of_methods_holds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(screen.console, "_width", 400)  # no line is wrapped
    assert main(["methods", f"--json={tmp_path / 'methods.json'}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for card in CARDS.values():
        (line,) = (line for line in lines if line.startswith(f"{card.name} "))
        for cell in (card.paper, card.query, card.dictionary, card.target, " ".join(rows_of(card.name))):
            assert cell in line
        assert f" {'yes' if card.negatives else 'no'} " in line
    assert any(line.startswith("(moco)") for line in lines)
    found = json.loads((tmp_path / "methods.json").read_text())
    assert list(found) == list(EVERY)
    assert found["moco-v1"]["recipes"]["imagenet"]["tau"] == 0.07 and found["moco-v1"]["negatives"] is True


@pytest.mark.parametrize("name", METHODS)
def test_methods_tells_the_whole_of_one(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen.console, "_width", 2000)
    assert main(["methods", name]) == 0
    out = capsys.readouterr().out
    card = EVERY[METHODS[name]]
    for text in (card.title, card.paper, card.arxiv, card.idea, card.dictionary, *card.equation.splitlines()):
        assert text in out
    for result in card.published:
        assert all(cell in out for cell in result)
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    recipe = next(iter(rows_of(METHODS[name]).values()))
    own = {field.name for field in dataclasses.fields(recipe)}
    for number, hint in type(recipe).__annotations__.items():  # the method's own numbers, not every recipe's
        if number not in own:
            continue
        assert hint.__metadata__[0] in lines[number], number


def test_a_methods_numbers_stand_beside_their_rows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen.console, "_width", 2000)
    assert main(["methods", "moco-v1"]) == 0
    out = capsys.readouterr().out
    lines = {line.split()[0]: " ".join(line.split()) for line in out.splitlines() if line.strip()}
    assert lines["tau"].startswith("tau imagenet: 0.07 temperature")
    assert "\n 32, small, tiny, digits: 0.1\n" in "\n".join(" " + " ".join(line.split()) for line in out.splitlines())
    assert lines["dim"].startswith("dim 128 dimensions")
    assert lines["symmetric"].startswith("symmetric false use")
    assert lines["gray_first"].startswith("gray_first imagenet: true convert")
    assert lines["size"].startswith("size imagenet: 224 side")
    assert "clip_norm" not in lines and "solarize_p" not in lines, "off in every recipe"


def test_views_of_several_sizes_are_counted() -> None:
    """SwAV's two large crops and six small ones."""
    views = (replace(VIEWS["moco-v2"][0], size=224),) * 2 + (replace(VIEWS["moco-v2"][0], size=96),) * 6
    assert per_view(views, "size") == "2 x 224, 6 x 96"
    assert per_view(views, "crop_min") == "0.2"
    assert per_view(VIEWS["byol"], "blur_p") == "1, 0.1"


# ---------------------------------------- bad input


def test_a_taken_run_folder(run: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = one_error_line(capsys, "train", "moco", f"--data={images}", f"--out={run}", *QUICK)
    assert "already holds a run: resume it with --resume" in error


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["train", "mocco"], "Did you mean 'moco'"),
        (["trian"], "Did you mean 'train'"),
        (["methods", "mocco"], "unknown method 'mocco', did you mean 'moco'? (known: "),
        (["train", "moco", "--taw=1"], "--tau"),
        (["train", "moco", "--tau=warm"], "--tau"),
        (["train", "moco", "--blur-p=much"], "--blur-p: 'much' is not a number"),
        (["train", "moco", "--blur-p=0.1,0.2,0.3"], "give one value, or 2"),
        (["train", "moco", "--views=moco-v4"], "unknown views 'moco-v4', did you mean"),
        (["train", "moco", "--recipe=tinny"], "did you mean 'tiny'"),
        (["train", "moco", "--encoder=resnet19"], "did you mean 'resnet1"),
        (["train", "moco", "--encoder=timm:resnet5O"], "timm has no model 'resnet5O', did you mean"),
        (["train", "cmc"], "are made of RGB images, these have 1 channel(s)"),
        (["train", "moco", "--data=nowhere"], "no data set or path named 'nowhere'"),
        (["train", "moco", "--data=cifar1O"], "did you mean 'cifar10'"),
        (["train", "moco", "--batch=9000"], "larger than affdigits"),
        (["train", "moco", "--device=cuda:9"], "cuda:9"),
        (["train", "moco", "--device=gpu"], "--device gpu: unknown"),
        (["train", "moco", "--device=meta"], "--device meta: unknown device; use cpu, cuda, cuda:1 or auto"),
        (["knn", "--encoder=tiny", "--device=mps"], "--device mps: unknown device; use cpu, cuda, cuda:1 or auto"),
        (["train", "moco", "--K=1000000000"], "a queue of 1,000,000,000 keys of 128 dimensions takes 953.7 GiB"),
        (["knn", "--encoder=tiny", "--size=8192"], "a batch of 512 images of 8,192 px takes 128.0 GiB"),
        (["knn", "--encoder=tiny", "--size=1"], "--size must be at least 2, not 1"),
        (["knn", "--encoder=tiny", "--size=100000000"], "--size must be at most 16,777,216, not 100000000"),
        (["knn", "--encoder=tiny", "--size=10000"], "--size must be at most 8,192, not 10000"),
        (["embed", "--encoder=pixels", "--pretrained"], "--pretrained applies to --encoder with the name of a network"),
        (["stable", "simulate", "selection", "--r=1e308", "--out=x.csv"], "a bias rate of 1e+308 selects hardly any"),
        (["train", "moco", "--tau=0"], "--tau must be above 0"),
        (["train", "moco", "--m=2"], "--m must lie in [0, 1]"),
        (["train", "moco", "--K=0"], "--K must be at least 1"),
        (["train", "moco", "--epochs=0"], "--epochs must be at least 1"),
        (["train", "moco", "--size=0"], "--size must be at least 2"),
        (["train", "moco", "--hidden=-1"], "--hidden must not be negative"),
        (["train", "moco", "--momentum=-1"], "--momentum must lie in [0, 1)"),
        (["train", "moco", "--seed=-1"], "--seed"),
        (["train", "moco", f"--seed={10**30}"], "--seed"),
        (["train", "moco", "--ratio=0"], "--ratio must be at least 1"),
        (["train", "moco", "--zoom-min=0"], "--zoom-min must be above 0, not 0.0"),
        (["train", "moco", "--sigma-min=0"], "--sigma-min must be above 0, not 0.0"),
        (["train", "moco", "--crop-min=0.9", "--crop-max=0.5"], "must be in ascending order within (0, 1]"),
        (["train", "moco", "--crop-min=nan"], "--crop-min must be a finite number, not nan"),
        (["train", "moco", "--hue=0.6"], "--hue must lie in [0, 0.5]"),
        (["train", "moco", "--flip-p=1.5"], "--flip-p must lie in [0, 1]"),
        (["train", "moco", "--degrees=-5"], "--degrees must not be negative"),
        (["train", "moco", "--batch=8", "--bn-groups=8"], "would hold one image"),
        (["knn", "--encoder=tiny", "--json=missing/x.json"], "missing/x.json cannot be written"),
        (["embed", "--encoder=tiny", "--out=missing/x.npz"], "missing/x.npz cannot be written"),
        (["views", "digits", "--out=missing/x.png"], "missing/x.png cannot be written: no such folder: missing"),
        (["views", "digits", "--images=1000", "--draws=1000"], "a sheet of 2,000,000 views takes"),
        (["train", "moco", "--resume=nowhere"], "holds no run"),
        (["knn", "nowhere"], "holds no run"),
        (["knn"], "nothing to evaluate"),
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
    assert not list(tmp_path.iterdir()), "something was written"


@pytest.mark.parametrize(
    ("what", "args", "says"),
    [
        (
            "gray",
            ["instdisc", "--K=500", "--loss=nce"],
            "--K 500 draws are more than the 320 images to draw from: lower --K",
        ),
        ("rgb", ["cmc", "--K=500"], "--K 500 draws are more than the 320 images"),
        ("gray", ["cmc", "--K=64"], "the views of colour 'lab' are made of RGB images, these have 1 channel(s)"),
        ("rgb", ["cpc", "--size=8"], "views of 8 px have"),
        ("rgb", ["cpc-v1", "--patch=40"], "rows of patches"),
        ("rgb", ["swav", "--K=5000"], "prototypes"),
        ("rgb", ["moco-v3", "--encoder=timm:vit_tiny_patch16_224", "--size=24"], "must be a multiple of 16"),
        ("rgb", ["dino", "--encoder=timm:vit_tiny_patch16_224", "--size=32,32,24,24"], "must be a multiple of 16"),
        *(("one", [method], "has fewer than two examples") for method in sorted({*METHODS.values()} - {"cpc-audio"})),
        ("rgb", ["moco", "--batch=1", "--bn-groups=1"], "batch-norm groups would hold one image"),
        ("rgb", ["simclr", "--batch=1"], "--batch"),
        ("rgb", ["invaspread", "--batch=1"], "--batch must be at least 2"),
        ("rgb", ["moco-v3", "--batch=1"], "--batch must be at least 2"),
        ("rgb", ["byol", "--batch=1"], "batch norm needs at least two images: raise --batch"),
        ("rgb", ["simsiam", "--batch=1"], "--batch"),
        ("rgb", ["byol", "--views=swav"], "this method takes 2 views, not 8: choose other --views"),
        ("rgb", ["moco", "--batch=400"], "larger than"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_a_method_cannot_learn_from_is_one_line(
    what: str, args: list[str], says: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(images) as file:
        rgb = file["images"]
    np.savez(tmp_path / "set.npz", images={"rgb": rgb, "gray": rgb[..., 0], "one": rgb[:1]}[what])
    method, *numbers = args
    where = [f"--data={tmp_path / 'set.npz'}", f"--out={tmp_path / 'r'}", "--recipe=tiny", "--device=cpu"]
    error = one_error_line(capsys, "train", method, *where, *numbers)
    assert says in error, error
    assert not (tmp_path / "r").exists(), "nothing is written"


def test_data_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty, texts, torn = tmp_path / "empty", tmp_path / "texts", tmp_path / "torn.npz"
    for folder in (empty, texts):
        folder.mkdir()
    (texts / "a.txt").write_text("no image")
    torn.write_bytes(b"PK\x03\x04")
    shapes = tmp_path / "shapes.npz"
    np.savez(shapes, images=np.zeros((4, 5), np.uint8))
    bare = tmp_path / "bare.npz"
    with open(bare, "wb") as file:
        np.save(file, np.zeros((4, 8, 8), np.uint8))
    for path in (empty, texts, torn, shapes, bare):
        assert path.name.split(".")[0] in one_error_line(
            capsys, "train", "moco", f"--data={path}", f"--out={tmp_path / 'r'}"
        )
    assert not (tmp_path / "r").exists()


def test_a_run_keeps_its_recipe(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "a run keeps its recipe" in one_error_line(capsys, "train", "moco", f"--resume={run}", "--tau=0.3")
    assert "not of moco-v1" in one_error_line(capsys, "train", "moco-v1", f"--resume={run}")
    assert "a run keeps its seed" in one_error_line(capsys, "train", "moco", f"--resume={run}", "--seed=9")
    kept = Run.open(run).record.options.precision  # chosen for this machine
    for option, word in (
        (f"--precision={'float32' if kept == 'bfloat16' else 'bfloat16'}", "precision"),
        ("--compile", "compile"),
        ("--val-fraction=0.3", "val_f"),
    ):
        assert f"a run keeps its {word}" in one_error_line(capsys, "train", "moco", f"--resume={run}", option)
    assert "a run keeps its recipe" in one_error_line(capsys, "train", "moco", f"--resume={run}", "--recipe=32")
    assert "cannot be combined" in one_error_line(capsys, "train", "moco", f"--resume={run}", "--out=elsewhere")


def test_a_file_that_cannot_be_written(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert "file" in one_error_line(capsys, "embed", run, f"--out={tmp_path / 'file' / 'features.npz'}")
    assert "cannot be written" in one_error_line(capsys, "train", "moco", f"--out={tmp_path / 'file' / 'run'}")


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(UserError):
        main(["knn", "nowhere", "--debug"])


def test_ctrl_c_is_130_without_a_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*args: object, **how: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("contrastkit.training.launch.launch", interrupt)
    assert main(["train", "moco", "--out=r"]) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


# ---------------------------------------- start-up


COMMANDS = (  # in the order of work
    "train", "sweep", "knn", "probe", "measure", "finetune", "distill", "transfer", "retrieve", "zero-shot", "embed",
    "compare", "search", "duplicates", "cluster", "map", "attend", "report", "export", "methods", "views", "ablate",
    "causal", "stable", "shards", "info", "bench-kernels", "bench-input",
)  # fmt: skip
HELP = """
import sys
from contrastkit.cli.main import main

for args in ([], *([name] for name in sys.argv[1:])):
    assert main([*args, "--help"]) == 0
    slow = {"torch", "torchvision", "timm", "numpy", "sklearn", "matplotlib", "PIL", "pandas", "networkx", "pydantic"}
    heavy = slow & set(sys.modules)
    assert not heavy, f"contrastkit {' '.join(args)} --help imports {heavy}"
"""


def test_no_commands_help_imports_torch() -> None:
    """Only the help of a single method does, for its recipe."""
    result = subprocess.run([sys.executable, "-c", HELP, *COMMANDS], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert [line.split()[1:3] for line in result.stdout.splitlines() if "Usage:" in line] == [
        ["contrastkit", "[OPTIONS]"],
        *(["contrastkit", name] for name in COMMANDS),
    ]


def test_these_are_all_the_commands() -> None:
    command: Any = typer.main.get_command(app)
    assert tuple(command.list_commands(None)) == COMMANDS


@pytest.mark.parametrize(
    "group", [(), ("train",), ("causal",), ("stable",), ("shards",), ("stable", "simulate")], ids=str
)
def test_a_group_alone_shows_its_help(group: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(list(group)) == 2
    out, err = capsys.readouterr()
    assert f"Usage: contrastkit {' '.join([*group, '[OPTIONS]'])}" in out and err == ""


def test_the_package_is_a_program(tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, "-m", "contrastkit", "--version"], capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout.startswith("contrastkit ")


def test_a_methods_help_lists_its_numbers(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["train", "moco-v1", "--help"]) == 0
    out = capsys.readouterr().out
    for option in ("--tau", "--K", "--m ", "--crop-min", "--stop-after", "--resume", "65536"):
        assert option in out
