"""Images of the same scenes from several sensors."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from contrastkit.data import open_data
from contrastkit.errors import UserError


def scenes(root: Path, names: list[str], *, gray: bool, size: tuple[int, int] = (8, 6), suffix: str = "png") -> None:
    """Images whose first pixel identifies the scene."""
    for i, name in enumerate(names):
        pixels = np.full((size[1], size[0]) + (() if gray else (3,)), 10 * i + (5 if gray else 0), np.uint8)
        path = root / f"{name}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def test_modalities_of_a_scene_are_the_channels_of_one_image(tmp_path: Path) -> None:
    names = ["kitchen/b", "kitchen/a", "office/c"]
    root = tmp_path / "a,b"  # a comma that separates nothing
    scenes(root / "rgb", names, gray=False, size=(8, 6))
    scenes(root / "depth", names, gray=True, size=(16, 12), suffix="bmp")
    data = open_data(f"rgb={root / 'rgb'},depth={root / 'depth'}")
    source = data.train
    assert (data.name, source.channels, source.size, data.test) == ("rgb+depth", 4, 6, None)
    assert source.modalities == {"rgb": 3, "depth": 1} and source.classes == ("kitchen", "office")
    images, _ = source.take(torch.arange(3))
    first = [image[:, 0, 0].tolist() for image in images]
    assert all(image.shape == (4, 6, 8) for image in images)
    assert first == [[10, 10, 10, 15], [0, 0, 0, 5], [20, 20, 20, 25]], "a before b, each with its own depth"
    part = source.subset(torch.tensor([2, 0]))
    assert [image[3, 0, 0].item() for image in part.take(torch.arange(2))[0]] == [25, 15]
    assert part.modalities == source.modalities and part.fingerprint() != source.fingerprint()
    assert source.labels is not None and part.labels is not None
    assert part.labels.tolist() == source.labels[[2, 0]].tolist()
    assert (list(source.paths), list(part.paths)) == (
        ["kitchen/a.png", "kitchen/b.png", "office/c.png"],
        ["office/c.png", "kitchen/a.png"],
    ), "of the rows of its own, for embed"


def test_a_test_part_is_aligned_too(tmp_path: Path) -> None:
    for part, names in (("train", ["a", "b"]), ("val", ["c", "d", "e"])):
        scenes(tmp_path / "rgb" / part, names, gray=False)
        scenes(tmp_path / "ir" / part, names, gray=True)
    data = open_data(f"rgb={tmp_path / 'rgb'},ir={tmp_path / 'ir'}")
    assert (len(data.train), data.test and len(data.test)) == (2, 3)
    split = open_data(f"rgb={tmp_path / 'rgb'},ir={tmp_path / 'ir'}", val_fraction=0.5)
    assert split.test is not None and (len(split.train), len(split.test), len(split.pretrain)) == (1, 1, 1)


def test_a_damaged_file_of_one_modality_takes_the_whole_scene(tmp_path: Path) -> None:
    scenes(tmp_path / "rgb", ["a", "b", "c"], gray=False)
    scenes(tmp_path / "depth", ["a", "b", "c"], gray=True)
    source = open_data(f"rgb={tmp_path / 'rgb'},depth={tmp_path / 'depth'}").train
    (tmp_path / "depth" / "b.png").write_bytes(b"no image")
    images, index = source.take(torch.arange(3))
    assert index.tolist() == [0, 2, 2] and [image[:, 0, 0].tolist() for image in images][1] == [20, 20, 20, 25]
    (path, _), *others = source.unreadable.values()
    assert path == "depth: b.png" and not others


def test_what_is_not_aligned_is_said(tmp_path: Path) -> None:
    scenes(tmp_path / "rgb", ["a", "b", "c"], gray=False)
    scenes(tmp_path / "depth", ["a", "c"], gray=True)
    rgb, depth = tmp_path / "rgb", tmp_path / "depth"
    for data, says in (
        (f"rgb={rgb},depth={depth}", "1 files have no partner: b is in rgb, not in depth"),
        (f"rgb={rgb},depth={rgb / 'none'}", "is not a folder: give several modalities as NAME=DIR,NAME=DIR"),
        (f"rgb={rgb}", "with at least two names"),
        (f"rgb={rgb},rgb={depth}", "with at least two names"),
        (f"rgb={rgb},{depth}", "with at least two names"),
    ):
        with pytest.raises(UserError, match=re.escape(says)):
            open_data(data)
    scenes(depth, ["b"], gray=True)
    scenes(depth, ["b"], gray=True, suffix="bmp")
    with pytest.raises(UserError, match="two files for the scene b"):
        open_data(f"rgb={rgb},depth={depth}")
    (depth / "b.bmp").unlink()
    scenes(depth / "test", ["x"], gray=True)
    scenes(depth / "train", ["x"], gray=True)
    with pytest.raises(UserError, match="depth has a test part, rgb has none"):
        open_data(f"rgb={rgb},depth={depth}")
