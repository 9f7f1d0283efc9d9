"""Views made on the device out of images that travel in 8 bits are those that the processes make which read images."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from contrastkit.augment import VIEWS, View, draw
from contrastkit.augment.draw import COLUMNS, Params
from contrastkit.data import ArraySource, Loader, Source, open_data
from contrastkit.data.making import Drawing, Drawn, runs
from contrastkit.types import Modality
from tests.data.batches import array, epoch, equal, folder, spoil

CPU = torch.device("cpu")
SAME = [replace(view, size=16) for view in VIEWS["moco-v2"]]
UNLIKE = [replace(view, size=16) for view in VIEWS["byol"]]
MANY = [*[View(size=16, degrees=20.0)] * 2, *[View(size=8, crop_max=0.4)] * 3, View(size=16)]
PLENTY = 2**30


class Sized(Source):
    """Images of their own sizes, in memory, gray."""

    images: list[Tensor]

    def __init__(self, n: int = 50) -> None:
        super().__init__("sized", channels=1, size=20, labels=torch.arange(n) % 3, classes=None)
        self.images = [torch.randint(0, 256, (1, 20 + k % 5, 24 - k % 3), dtype=torch.uint8) for k in range(n)]

    def __len__(self) -> int:
        return len(self.images)

    def fetch(self, index: Tensor) -> list[Tensor]:
        return [self.images[i] for i in index.tolist()]

    def fingerprint(self) -> str:
        return ""


@pytest.fixture(params=["array", "sized", "files"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    if request.param == "files":
        return open_data(str(folder(tmp_path))).train
    return array() if request.param == "array" else Sized()


def on_device(source: Source, views: list[View], room: int = PLENTY, **how: Any) -> Loader:
    loader = Loader(source, views, batch=8, seed=3, on_device=True, **how)
    loader.keep_on_device(room)
    return loader


@pytest.mark.parametrize("room", [0, PLENTY], ids=["travel", "lie there"])
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("views", [SAME, UNLIKE, MANY], ids=["same", "unlike", "many"])
def test_the_batches_are_the_same_bit_for_bit(source: Source, views: list[View], workers: int, room: int) -> None:
    """Two epochs; and the end of one and the beginning of the next, as after a resume."""
    here = Loader(source, views, batch=8, seed=3)
    there = on_device(source, views, room, workers=workers)
    expected = [batch for k in (0, 1) for batch in epoch(here, k)]
    assert all(equal(a, b) for a, b in zip(expected, there.batches(0, 12), strict=True))
    assert all(equal(a, b) for a, b in zip(expected[4:9], there.batches(4, 9), strict=True))


@pytest.mark.parametrize("room", [0, PLENTY])
def test_processes_share_each_global_batch(source: Source, room: int) -> None:
    whole = list(epoch(Loader(source, UNLIKE, batch=8, seed=3), 0))
    ranks = [list(epoch(on_device(source, UNLIKE, room, rank=r, world=2), 0)) for r in (0, 1)]
    for step, batch in enumerate(whole):
        for v in (0, 1):
            assert torch.equal(batch.views[v], torch.cat([ranks[r][step].views[v] for r in (0, 1)]))


@pytest.mark.parametrize("workers", [0, 2])
def test_stand_ins_are_the_same_and_counted(tmp_path: Path, workers: int) -> None:
    spoil(folder(tmp_path), "a/004.png", "a/006.png", "b/049.png")
    options: list[dict[str, Any]] = [{}, {"on_device": True, "workers": workers}]
    loaders = [Loader(open_data(str(tmp_path)).train, SAME, batch=10, seed=0, max_bad=0.1, **how) for how in options]
    assert all(equal(a, b) for a, b in zip(*(epoch(loader, 0) for loader in loaders), strict=True))
    assert set(loaders[1].unreadable) == {"a/004.png", "a/006.png", "b/049.png"}


def test_images_travel_as_they_are_and_draws_beside_them(source: Source) -> None:
    index = torch.tensor([3, 1, 40])
    drawn, _ = Drawing(source, UNLIKE, 0)[0, index]
    images = source.fetch(index)
    assert drawn.images is not None and drawn.images.pixels.dtype == torch.uint8
    assert drawn.images.pixels.numel() == sum(image.numel() for image in images)
    assert [len(table) for table in drawn.tables] == [3, 3]
    assert not any(tensor.is_floating_point() for tensor in (*drawn.images[:2], drawn.index, drawn.label))


def test_of_images_that_lie_on_the_device_only_draws_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are looked up by their positions, and taken from there alone."""
    source = array()
    loader = on_device(source, SAME)
    expected = list(epoch(Loader(source, SAME, batch=8, seed=3), 0))
    monkeypatch.setattr(ArraySource, "fetch", None)
    assert all(equal(a, b) for a, b in zip(expected, epoch(loader, 0), strict=True))
    assert loader.notices == ("array: 0.1 MB of images lie on cpu",)


def test_images_lie_on_the_device_if_they_fit_and_views_are_made_there(tmp_path: Path) -> None:
    source = array()
    size = 50 * 3 * 20 * 20
    assert "lie on cpu" in on_device(source, SAME, size).notices[0]
    (line,) = on_device(source, SAME, size - 1).notices
    assert line == "array: 0.1 MB of images are copied to cpu batch by batch: more than the 0.1 MB that they may take"
    assert on_device(open_data(str(folder(tmp_path))).train, SAME).notices == ()
    loader = Loader(source, SAME, batch=8, seed=3)
    loader.keep_on_device(PLENTY)
    assert loader.notices == () and not loader.on_device


def test_views_of_images_alone_are_made_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    assert Loader(array(), SAME, batch=8, seed=0, device=gpu).on_device
    assert not Loader(array(), SAME, batch=8, seed=0, device=gpu, on_device=False).on_device
    assert not Loader(array(), SAME, batch=8, seed=0).on_device
    for other in (Modality.ALIGNED, Modality.SOUND):
        monkeypatch.setattr(Sized, "modality", other)
        assert not Loader(Sized(), [], batch=8, seed=0, device=gpu).on_device


def test_what_travels_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, _ = Drawing(Sized(), UNLIKE, 0)[0, torch.arange(3)]
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: tensor + 1)
    pinned = drawn.pin_memory()
    assert pinned.images is not None and drawn.images is not None
    pairs = [*zip(pinned.images[:2], drawn.images[:2], strict=True), (pinned.index, drawn.index)]
    assert all(torch.equal(after, before + 1) for after, before in pairs)
    assert all(torch.equal(after, before + 1) for after, before in zip(pinned.tables, drawn.tables, strict=True))
    assert Drawn(None, [], drawn.index, drawn.label).pin_memory().images is None


@pytest.mark.parametrize("view", [UNLIKE[0], MANY[0]], ids=["plain", "posed"])
def test_a_table_holds_every_draw_exactly(view: View) -> None:
    index, v = torch.arange(5), torch.tensor([[0], [1]])
    params = draw(view, torch.tensor([[480, 640]] * 5), channels=3, seed=1, time=2, index=index, v=v)
    again = Params.of(view, params.table())
    for name, (dtype, shape) in COLUMNS.items():
        drawn, back = getattr(params, name), getattr(again, name)
        if drawn is None:
            assert back is None and name == "pose" and not view.affine
        else:
            assert torch.equal(drawn, back) and back.dtype == drawn.dtype == dtype and back.shape == (10, *shape)


def test_equal_views_are_made_together() -> None:
    assert [(view, v.flatten().tolist()) for view, v in runs(MANY)] == [
        (MANY[0], [0, 1]),
        (MANY[2], [2, 3, 4]),
        (MANY[5], [5]),
    ]


@pytest.mark.parametrize(("size", "travel"), [(48, True), (240, False)])
def test_images_travel_if_they_are_no_larger_than_their_views(tmp_path: Path, size: int, travel: bool) -> None:
    """Two views of 32 pixels are 24,576 bytes; an image of 48 is 6,912, one of 240 is 172,800."""
    Image.new("RGB", (size, size)).save(tmp_path / "a.png")
    source = open_data(str(tmp_path)).train
    loader = Loader(source, [View(size=32)] * 2, batch=1, seed=0, device=torch.device("cuda"))
    assert loader.on_device == travel
