"""JPEGs decoded at a half or a quarter where no view shows more."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
import torch
from PIL import Image
from torch import Tensor

from contrastkit.augment import View
from contrastkit.data import FileSource, Loader, UnreadableError, open_data
from contrastkit.data.making import Drawing, Drawn
from contrastkit.data.pack import make_shards
from contrastkit.data.source import Source
from tests.data.batches import array, epoch, equal, folder
from tests.data.test_jpeg import oriented, random_jpeg

VIEWS = [View(size=16, crop_min=0.6, gray_p=0.0), View(size=24, crop_min=0.6, blur_p=1.0)]
CLOSE = 0.01  # mean absolute difference of pixels in [0, 1] from those of whole images
BOX = slice(1, 5)  # columns of a table


def smooth(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """Gradients over the whole picture."""
    coarse = Image.fromarray(rng.integers(64, 192, (3, 3, 3), np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Pictures of several kinds, named by how much smaller they can be decoded for these views; crops of 0.6 of
    the area, of ratios up to 4/3, have sides above 0.67 of the image's."""
    rng = np.random.default_rng(0)
    root = tmp_path / "photos"
    root.mkdir()
    options: dict[str, dict[str, Any]] = {"": {}, "-progressive": {"progressive": True}, "-444": {"subsampling": 0}}
    for k in range(1, 9):
        options[f"-turned{k}"] = {"exif": oriented(k)}
    for kind, how in options.items():
        for factor, (height, width) in ((4, (239, 258)), (2, (91, 87)), (1, (40, 61))):
            smooth(rng, height, width).save(root / f"{factor}{kind}.jpg", quality=95, **how)
    smooth(rng, 243, 250).convert("L").save(root / "4-gray.jpg", quality=95)
    smooth(rng, 243, 250).convert("CMYK").save(root / "1-cmyk.jpg", quality=95)
    smooth(rng, 243, 250).save(root / "1.png")
    smooth(rng, 243, 250).save(refused := root / "1-refused.jpg", quality=95)
    refused.write_bytes(
        refused.read_bytes()[:-2] + bytes(9) + b"\xff\xd9"
    )  # simplejpeg takes libjpeg's warning for an error
    smooth(rng, 20, 3000).save(root / "1-strip.jpg", quality=95)
    return root


def drawn(source: Source, scaled: bool, views: Sequence[View] = VIEWS) -> Drawn:
    batch, _ = Drawing(source, views, 5, scaled=scaled)[2, torch.arange(len(source))]
    return batch


def mean_differences(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Of each image, over all views."""
    return torch.stack([(x - y).abs().mean((1, 2, 3)) for x, y in zip(a, b, strict=True)]).amax(0)


def test_sizes_of_what_is_decoded(photos: Path) -> None:
    source = open_data(str(photos)).train
    small, whole = (drawn(source, scaled).images for scaled in (True, False))
    assert small is not None and whole is not None
    for path, now, before in zip(source.paths, small.sizes.tolist(), whole.sizes.tolist(), strict=True):
        factor = int(path[0])
        assert now == [-(-side // factor) for side in before], path


def test_draws_are_those_for_whole_images(photos: Path) -> None:
    source = open_data(str(photos)).train
    for small, whole in zip(drawn(source, True).tables, drawn(source, False).tables, strict=True):
        box, other = small[:, BOX].clone(), whole[:, BOX]
        assert not torch.equal(box, other)
        same = torch.tensor([path.startswith("1") for path in source.paths])
        assert torch.equal(box[same], other[same])
        small[:, BOX] = whole[:, BOX]
        assert torch.equal(small, whole)


@pytest.mark.parametrize("views", [VIEWS, [replace(view, interpolation="bicubic") for view in VIEWS]])
def test_views_are_close_to_those_of_whole_images(photos: Path, views: list[View]) -> None:
    """Of smooth pictures; those that cannot be decoded smaller have the same views, bit for bit."""
    source = open_data(str(photos)).train
    made = [drawn(source, scaled, views).made(views, torch.device("cpu")).views for scaled in (True, False)]
    differences = mean_differences(*made)
    assert differences.max() < CLOSE
    whole = torch.tensor([path.startswith("1") for path in source.paths])
    assert differences[whole].max() == 0 and differences[~whole].min() > 0


def test_a_set_of_gray_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for k in range(4):
        smooth(rng, 230 + k, 240).convert("L").save(tmp_path / f"{k}.jpg", quality=95)
    smooth(rng, 230, 240).save(tmp_path / "colour.jpg")
    gray = FileSource("x", [f"{k}.jpg" for k in range(4)], root=tmp_path)
    made = [drawn(gray, scaled).made(VIEWS, torch.device("cpu")).views for scaled in (True, False)]
    assert made[0][0].shape[1] == 1 and 0 < mean_differences(*made).max() < CLOSE
    averaged = FileSource("x", ["colour.jpg"], root=tmp_path, like=gray)  # as Pillow does it, from the whole
    with pytest.warns(UserWarning, match="are taken for gray"):
        (image,) = averaged.look(torch.tensor([0]))
    assert isinstance(image.image, Tensor)


@pytest.mark.parametrize("how", [{"workers": 2}, {"on_device": True}, {"on_device": True, "workers": 1}], ids=str)
def test_who_makes_the_views_makes_no_difference(photos: Path, how: dict[str, Any]) -> None:
    source = open_data(str(photos)).train
    batches = [list(epoch(Loader(source, VIEWS, batch=8, seed=1, scaled=True, **each), 0)) for each in ({}, how)]
    assert all(equal(a, b) for a, b in zip(*batches, strict=True))
    usual = epoch(Loader(source, VIEWS, batch=8, seed=1), 0)
    assert not any(equal(a, b) for a, b in zip(batches[0], usual, strict=True))


def test_shards_are_what_their_files_are(photos: Path, tmp_path: Path) -> None:
    make_shards(open_data(str(photos)), tmp_path / "shards", per_shard=10)
    loaders = [
        Loader(open_data(str(where)).train, VIEWS, batch=9, seed=1, scaled=True)
        for where in (photos, tmp_path / "shards")
    ]
    assert all(equal(a, b) for a, b in zip(*(epoch(loader, 0) for loader in loaders), strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_stand_ins_are_those_of_whole_decoding(photos: Path, workers: int) -> None:
    """Of files without a header, and of those whose header reads and whose body does not."""
    for name, left in (("4.jpg", 2000), ("2-turned6.jpg", 10), ("1-444.jpg", 700), ("2-turned7.jpg", 1500)):
        (photos / name).write_bytes((photos / name).read_bytes()[:left])
    loaders = [
        Loader(open_data(str(photos)).train, VIEWS, batch=12, seed=1, max_bad=1.0, workers=workers, scaled=scaled)
        for scaled in (True, False)
    ]
    for a, b in zip(*(epoch(loader, 0) for loader in loaders), strict=True):
        assert torch.equal(a.index, b.index) and mean_differences(a.views, b.views).max() < CLOSE
    assert loaders[0].unreadable == loaders[1].unreadable and len(loaders[0].unreadable) == 4


@pytest.mark.filterwarnings("ignore:Truncated File Read")
def test_a_damaged_file_is_readable_at_all_sizes_or_at_none(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    kinds = set()
    for k in range(200):
        data = bytearray(random_jpeg(rng))
        if k % 2:
            data = data[: rng.integers(2, len(data))]
        else:
            for at in rng.integers(2, len(data), rng.integers(1, 4)):
                data[at] = rng.integers(256)
        (tmp_path / "x.jpg").write_bytes(data)
        source = FileSource("x", ["x.jpg"], root=tmp_path, like=array())
        index = torch.tensor([0])
        try:
            whole = source.fetch(index)[0]
        except UnreadableError as error:
            for factor in (2, 4):
                with pytest.raises(UnreadableError) as caught:
                    source.decode(source.look(index), [factor])
                assert caught.value.reason == error.reason
            kinds.add("unreadable")
            continue
        (seen,) = source.look(index)
        assert (seen.height, seen.width) == whole.shape[1:]
        for factor in (2, 4):
            (image,) = source.decode([seen], [factor])
            sides = [-(-side // factor) for side in whole.shape[1:]]
            kinds.add("smaller" if list(image.shape[1:]) == sides else "whole")
            assert list(image.shape[1:]) == sides or torch.equal(image, whole)
    assert kinds == {"unreadable", "smaller", "whole"}


def test_without_the_option_no_file_is_opened_twice_or_decoded_smaller(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    decode = simplejpeg.decode_jpeg

    def counted(*how: Any) -> Any:
        calls.append(len(how))
        return decode(*how)

    monkeypatch.setattr(simplejpeg, "decode_jpeg", counted)
    monkeypatch.setattr(FileSource, "look", lambda *_: pytest.fail("it looks first"))
    next(Loader(open_data(str(photos)).train, VIEWS, batch=30, seed=0).batches(0, 1))
    assert set(calls) == {2}


def test_of_other_sets_the_option_changes_nothing(tmp_path: Path) -> None:
    for source in (array(), open_data(str(folder(tmp_path))).train):
        a, b = (next(Loader(source, VIEWS, batch=8, seed=0, scaled=scaled).batches(0, 1)) for scaled in (True, False))
        assert equal(a, b)
