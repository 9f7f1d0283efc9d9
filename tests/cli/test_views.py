"""views as a command: each option changes the sheet."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contrastkit.cli.main import main


def test_each_option_changes_the_sheet(images: Path, hard_images: Path, tmp_path: Path) -> None:
    def sheet(**changed: object) -> np.ndarray:
        options = {"data": images, "images": 3, "draws": 2, "seed": 0, "name": "moco-cifar"} | changed
        name, out = options.pop("name"), tmp_path / "sheet.png"
        assert main(["views", str(name), f"--out={out}", *(f"--{k}={v}" for k, v in options.items())]) == 0
        with Image.open(out) as picture:
            return np.asarray(picture)

    usual = sheet()
    assert np.array_equal(usual, sheet())
    for changed in ({"seed": 1}, {"data": hard_images}, {"name": "digits"}):
        assert not np.array_equal(sheet(**changed), usual), changed
    with np.load(images) as file:
        np.savez(tmp_path / "one.npz", images=file["images"][:1])
    one = {"data": tmp_path / "one.npz", "images": 1}
    assert not np.array_equal(sheet(**one), sheet(**one, seed=1)), "the draws, too, not the choice of images alone"
    height, width, _ = usual.shape
    tall, wide = sheet(images=6), sheet(draws=4)
    assert tall.shape[1] == width and 1.5 < tall.shape[0] / height < 2
    assert wide.shape[1] > width, "more columns, if smaller ones"


def test_images_are_shown_as_they_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "set").mkdir()
    Image.new("RGBA", (40, 40), (9, 9, 9, 0)).save(tmp_path / "set" / "x.png")
    (tmp_path / "set" / "x.xyz").write_text("?")
    given = ["views", "moco-cifar", f"--data={tmp_path / 'set'}", "--images=1", f"--out={tmp_path / 'sheet.png'}"]
    corners = []
    for colour in ("red", "blue"):
        assert main([*given, f"--background={colour}"]) == 0
        assert "left out .xyz (1)" in capsys.readouterr().out
        with Image.open(tmp_path / "sheet.png") as picture:
            colours = picture.convert("RGB").getcolors(1 << 24)
            assert colours is not None
            corners.append({pixel for _, pixel in colours})
    assert (255, 0, 0) in corners[0] and (0, 0, 255) in corners[1]
