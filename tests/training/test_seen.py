"""What a run sees, compared with the batches of its training."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from contrastkit.augment import sheet as module
from contrastkit.cli.main import main
from contrastkit.data import Loader
from contrastkit.errors import UserError
from contrastkit.methods import RECIPES
from contrastkit.parts.patches import patches
from contrastkit.run import Run
from contrastkit.training import Options, Plan
from contrastkit.training import seen as module_of_seen
from contrastkit.training.launch import launch
from contrastkit.training.seen import Seen

NOTHING: dict[str, Any] = dict.fromkeys(
    ("data", "data_dir", "test_part", "layout", "stretch", "background")
) | {"download": False}  # fmt: skip


def test_the_views_of_a_run_are_those_of_its_training(moco_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(module, "sheet", lambda path, rows, **how: made.append((rows, how)))
    seen = Seen.open(str(moco_run), NOTHING)
    assert seen.sheet(Path("unused"), images=5, draws=2) == 5 and seen.trained
    options = Run.open(moco_run).record.options
    source = options.open_data().pretrain
    ((rows, how),) = made
    assert "as trained" in how["title"] and "Draw 1 is that of the first epoch" in how["note"]
    shown = source.order(options.seed, 0)[:5].tolist()
    for epoch in range(2):
        with Loader(source, seen.views, batch=10, seed=options.seed) as loader:
            steps = loader.steps_per_epoch
            for batch in loader.batches(epoch * steps, (epoch + 1) * steps):
                for k, index in enumerate(batch.index.tolist()):
                    if index in shown:
                        cells = rows[shown.index(index)]
                        for v, view in enumerate(batch.views):
                            assert torch.equal(cells[1 + 2 * epoch + v].image, view[k])
    for i, index in enumerate(shown):
        assert torch.equal(rows[i][0].image, source.fetch(torch.tensor([index]))[0])


def test_another_seed_or_other_images_are_not_those_of_the_training(moco_run: Path, images: Path) -> None:
    other = Seen.open(str(moco_run), NOTHING, seed=7)
    assert not other.trained and other.seed == 7
    elsewhere = Seen.open(str(moco_run), NOTHING | {"data": str(images)})
    assert not elsewhere.trained and elsewhere.source.name == "noise"
    assert elsewhere.views == other.views, "the views remain the run's"


def test_images_that_changed_since_the_training_are_told(moco_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = f"{moco_run} was trained on other data: hard has other images or labels, of which these are"
    assert said not in Seen.open(str(moco_run), NOTHING).notices
    original = module_of_seen.open_data

    def fewer(*args: Any, **how: Any) -> Any:
        data = original(*args, **how)
        return replace(data, pretrain=data.pretrain.subset(torch.arange(20)))

    monkeypatch.setattr(module_of_seen, "open_data", fewer)
    changed = Seen.open(str(moco_run), NOTHING)
    assert said in changed.notices and not changed.trained and len(changed.source) == 20


def test_the_seed_is_the_runs(moco_run: Path, tmp_path: Path) -> None:
    """With another one in its file, it had other training images: they are not said to be those of the training."""
    run = Path(shutil.copytree(moco_run, tmp_path / "run"))
    record = json.loads((run / "recipe.json").read_text())
    record["options"]["seed"] += 3
    (run / "recipe.json").write_text(json.dumps(record))
    seen = Seen.open(str(run), NOTHING)
    assert seen.seed == record["options"]["seed"] and not seen.trained


def test_each_seed_has_draws_of_its_own(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a single image, whose choice does not depend on the seed."""
    with np.load(images) as file:
        np.savez(tmp_path / "one.npz", images=file["images"][:1])
    made: list[Any] = []
    monkeypatch.setattr(module, "sheet", lambda path, rows, **how: made.append(rows[0][1].image))
    for seed in (0, 0, 1):
        Seen.open("moco-cifar", NOTHING | {"data": str(tmp_path / "one.npz")}, seed=seed).sheet(
            Path("unused"), images=1, draws=1
        )
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])


def test_a_name_of_views_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moco_run: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").symlink_to(moco_run)
    assert not Seen.open("digits", NOTHING).trained
    assert Seen.open("./digits", NOTHING).trained
    with pytest.raises(UserError, match="unknown views 'digit', did you mean 'digits'"):
        Seen.open("digit", NOTHING)
    for folder in ("runs/nowhere", str(tmp_path)):
        with pytest.raises(UserError, match=f"{folder} holds no run"):
            Seen.open(folder, NOTHING)


def test_the_command(moco_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["views", str(moco_run), "--images=3", "--draws=1", f"--out={tmp_path / 'v.png'}"]) == 0
    assert f"3 images of hard, each with its views by '{moco_run}' to the right" in capsys.readouterr().out
    assert (tmp_path / "v.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_of_mae_shows_what_is_hidden_and_predicted(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, made = tmp_path / "run", list[Any]()
    views = tuple(replace(view, size=16) for view in RECIPES["mae/tiny"].views)
    small: dict[str, Any] = {"width": 16, "heads": 2, "depth": 1, "decoder_depth": 1, "epochs": 2, "batch": 32}
    recipe = replace(RECIPES["mae/tiny"], views=views, **small)
    options = Options(data=str(images), val_fraction=0.6, device="cpu")
    launch(Plan.of("mae/tiny", recipe, options, run), stop_after=1)

    monkeypatch.setattr(module, "sheet", lambda path, rows, **how: made.append((rows, how)))
    seen = Seen.open(str(run), NOTHING)
    assert seen.notices == () and seen.autoencoder is not None
    assert seen.sheet(Path("unused"), images=3, draws=2) == 3
    ((rows, how),) = made
    columns = ["the image"]
    for draw in ("draw 1", "draw 2"):
        columns += [f"{draw}\nview 1\n16 px", f"{draw}\nmasked", f"{draw}\nfilled"]
    assert how["columns"] == columns and "mean and the deviation of the patch" in how["note"]
    _, index = seen.source.take(seen.source.order(0, 0)[:3])
    shown, hidden = seen.autoencoder.mask(index, 0.5)  # of draw 2
    for row, own, others in zip(rows, shown, hidden, strict=True):
        view, masked, predicted = (patches(cell.image[None], 4)[0] for cell in row[4:])
        assert torch.allclose(masked[own], view[own], atol=1e-5) and torch.allclose(
            predicted[own], view[own], atol=1e-5
        )
        assert len(masked[others].view(-1, 3).unique(dim=0)) == 1, "the mean colour"
        assert not torch.allclose(predicted[others], view[others], atol=0.05)

    gray = tmp_path / "gray.npz"
    np.savez(gray, images=np.zeros((4, 16, 16), np.uint8))
    other = Seen.open(str(run), NOTHING | {"data": str(gray)})
    assert other.autoencoder is None and "the run has images of 3 channels, these have 1" in other.notices[-1]
    (run / "checkpoints" / "last.pt").unlink()
    assert "no reconstructions are shown" in Seen.open(str(run), NOTHING).notices[-1]


def test_a_test_part_of_the_runs_own_data_is_refused(moco_run: Path, tmp_path: Path) -> None:
    """The sheet shows what the run was trained on, which no test part changes."""
    with pytest.raises(
        UserError, match="^--test-part val: shown are the images that .* was trained on, not those of a"
    ):
        Seen.open(str(moco_run), NOTHING | {"test_part": "val"})
    for part, n in (("train", 3), ("val", 2), ("test", 2)):
        for i in range(n):
            file = tmp_path / "set" / part / "ab"[i % 2] / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (80 * i, 9, 9)).save(file)
    seen = Seen.open(str(moco_run), NOTHING | {"data": str(tmp_path / "set"), "test_part": "val"})
    assert len(seen.source) == 3 and "val/ -> test (2)" in seen.notices[0]
