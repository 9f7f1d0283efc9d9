"""The front door of the library: a Dataset and a module go in, a run comes out that resumes and loads."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

import contrastkit
from contrastkit.cli.main import main
from contrastkit.data.torch_dataset import DatasetSource, open_dataset
from contrastkit.errors import UserError
from contrastkit.training import NullReporter
from tests.same import assert_same_run


class Shades(Dataset[Any]):
    """Sixty-four images of 12 x 12 pixels in four colours, with labels."""

    classes = ("red", "green", "blue", "white")

    def __init__(self) -> None:
        self.targets = [i % 4 for i in range(64)]

    def __len__(self) -> int:
        return 64

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        noise = torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(i)) / 2
        colour = torch.eye(3).new_tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])[i % 4] / 2
        return noise + colour[:, None, None], self.targets[i]


class Net(nn.Sequential):
    def __init__(self) -> None:
        torch.manual_seed(3)
        super().__init__(
            nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )


def run(out: Path, **how: Any) -> Any:
    numbers: dict[str, Any] = {
        "row": "tiny",
        "epochs": 2,
        "batch": 16,
        "K": 32,
        "device": "cpu",
        "seed": 4,
        "precision": "float32",
    }
    return contrastkit.train("moco-v2", how.pop("data", Shades()), out=out, **numbers | how)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("api") / "run"
    assert run(out, encoder=Net()).finished
    return out


def test_a_dataset_and_a_module_train_resume_and_load(tmp_path: Path, straight: Path) -> None:
    assert not run(tmp_path / "parts", encoder=Net(), stop_after=1).finished
    assert run(tmp_path / "parts", encoder=Net(), resume=True).finished
    assert_same_run(tmp_path / "parts", straight)
    encoder = contrastkit.load(straight, encoder=Net())
    state = torch.load(straight / "checkpoints" / "last.pt", weights_only=True)["method"]
    trunk: Any = encoder.trunk
    untrained: Any = Net()
    assert torch.equal(trunk[0].weight, state["online.encoder.trunk.0.weight"])
    assert not torch.equal(trunk[0].weight, untrained[0].weight), "nothing was trained"
    assert encoder(torch.rand(2, 3, 12, 12)).shape == (2, 8) and not encoder.training


def test_the_module_given_is_the_one_that_is_trained(tmp_path: Path, straight: Path) -> None:
    net: Any = Net()
    run(tmp_path / "run", encoder=net)
    trunk: Any = contrastkit.load(straight, encoder=Net()).trunk
    assert torch.equal(net[0].weight, trunk[0].weight)


def test_such_a_run_is_evaluated_from_python(straight: Path) -> None:
    data = open_dataset(Shades(), val_fraction=0.25)
    encoder = contrastkit.load(straight, encoder=Net())
    subject = contrastkit.evaluate.EvaluationSubject(data=data, encoders={"net": encoder}, size=12)
    assert contrastkit.evaluate.knn(subject, k=3).accuracy["net"].top1 > 0.9


def test_what_a_command_cannot_know_is_said(straight: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["knn", str(straight)]) == 2
    assert "data handed over in Python, Shades: name other data with --data" in capsys.readouterr().err
    assert main(["knn", str(straight), "--data=digits"]) == 2
    assert "trained a custom module, Net" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"load it with contrastkit.load\(run, encoder=Net\(\)\)"):
        contrastkit.load(straight)


def test_names_and_paths_are_data_too(images: Path, tmp_path: Path) -> None:
    outcome = run(tmp_path / "run", data=images, encoder="tiny", val_fraction=0.5, batch=32)
    assert outcome.finished and outcome.step == 10
    record = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert record["options"]["data"] == str(images) and record["encoder"]["name"] == "tiny"
    assert contrastkit.load(tmp_path / "run")(torch.rand(1, 3, 16, 16)).shape == (1, 128)


def test_views_are_numbers_too_and_a_row_by_name(tmp_path: Path) -> None:
    run(tmp_path / "run", encoder="tiny", views="simclr-cifar", size=12, blur_p=[0.5, 0.25], stop_after=1)
    record = json.loads((tmp_path / "run" / "recipe.json").read_text())
    views = record["recipe"]["views"]
    assert [(view["size"], view["blur_p"], view["hue"]) for view in views] == [(12, 0.5, 0.1), (12, 0.25, 0.1)]
    with pytest.raises(UserError, match="--blur-p: give one value, or 2, one for each view, not 3"):
        run(tmp_path / "other", encoder="tiny", blur_p=[0.1, 0.2, 0.3])


def test_a_named_run_resumes_without_its_data_named_again(images: Path, tmp_path: Path) -> None:
    run(tmp_path / "run", data=images, encoder="tiny", batch=32, stop_after=1)
    assert contrastkit.train("moco-v2", out=tmp_path / "run", resume=True).finished


def test_numbers_go_where_they_belong_and_the_reporter_hears(tmp_path: Path) -> None:
    lines: list[str] = []
    reporter = NullReporter()
    reporter.log = lines.append  # type: ignore[assignment]
    run(tmp_path / "run", encoder="tiny", tau=0.3, monitor_every=0, save_every=1, reporter=reporter)
    record = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert record["recipe"]["tau"] == 0.3 and record["name"] == "moco-v2/tiny"
    assert (record["options"]["seed"], record["options"]["save_every"], record["options"]["monitor_every"]) == (4, 1, 0)
    assert any(line.startswith("epoch 2/2") for line in lines)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"taw": 0.1}, "moco-v2 has no taw, did you mean 'tau'"),
        ({"resume": True, "out": None}, "needs the run to resume"),
        ({"encoder": nn.Linear(3, 2)}, r"the encoder cannot take images \[N, 3, \d+, \d+\]"),
        ({"encoder": nn.Conv2d(3, 2, 3)}, r"must map two images to features \[2, D\]"),
        ({"encoder": "tiny", "views": ()}, "this method takes 2 views, not 0"),
        ({"batch": 0}, "--batch must be at least 1"),
        ({"workers": -1}, "--workers must not be negative"),
        ({"precision": "fp16"}, "--precision must be auto, float32 or bfloat16, not fp16"),
        ({"max_bad": 2.0}, r"--max-bad must lie in \[0, 1\]"),
    ],
)
def test_what_does_not_fit_is_one_line(how: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says):
        run(how.pop("out", tmp_path / "run"), **how)
    assert not (tmp_path / "run").exists()


def test_a_method_of_several_encoders_takes_no_module(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name an encoder instead of giving a module"):
        contrastkit.train("cmc", Shades(), encoder=Net(), out=tmp_path / "run", row="tiny", K=8, batch=16, device="cpu")


# ------------------------------------------------------------------------------------------------ Dataset as a source


class Items(Dataset[Any]):
    def __init__(self, *items: Any, targets: Any = None) -> None:
        self.items = items
        if targets is not None:
            self.targets = targets

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Any:
        if isinstance(self.items[i], Exception):
            raise self.items[i]
        return self.items[i]


PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)  # H, W, C


@pytest.mark.parametrize(
    "item",
    [
        Image.fromarray(PIXELS),
        PIXELS,
        torch.from_numpy(PIXELS).permute(2, 0, 1),
        torch.from_numpy(PIXELS).permute(2, 0, 1) / 255,
        (Image.fromarray(PIXELS), 7),
        [torch.from_numpy(PIXELS).permute(2, 0, 1), 7],
    ],
)
def test_every_form_of_an_image_is_the_same_pixels(item: Any) -> None:
    source = DatasetSource(Items(item, item))
    (image,) = source.fetch(torch.tensor([1]))
    assert image.dtype == torch.uint8 and image.permute(1, 2, 0).numpy().tolist() == PIXELS.tolist()
    assert (source.channels, source.size, source.labels, len(source)) == (3, 2, None, 2)


def test_gray_images_have_one_channel_and_others_become_rgb() -> None:
    assert DatasetSource(Items(Image.fromarray(PIXELS[..., 0]))).channels == 1
    assert DatasetSource(Items(PIXELS[..., 0])).channels == 1
    assert DatasetSource(Items(Image.fromarray(PIXELS).convert("RGBA"))).channels == 3


def test_labels_follow_their_images_into_a_subset() -> None:
    source = DatasetSource(Shades())
    some = source.subset(torch.tensor([6, 3]))
    assert source.classes == ("red", "green", "blue", "white") and some.labels is not None
    assert some.labels.tolist() == [2, 3]
    assert torch.equal(some.fetch(torch.tensor([1]))[0], source.fetch(torch.tensor([3]))[0])
    assert source.fingerprint() != some.fingerprint() and source.fingerprint() == DatasetSource(Shades()).fingerprint()


def test_an_item_that_fails_is_replaced_by_the_next_and_named() -> None:
    source = DatasetSource(Items(PIXELS, OSError("torn"), PIXELS[..., :1].repeat(1, 2), PIXELS))
    _, index = source.take(torch.tensor([0, 1, 2]))
    assert index.tolist() == [0, 3, 3]
    assert source.unreadable[1] == ("Items[1]", "torn")
    assert "1 channels, but the first image has 3" in source.unreadable[2][1]


def test_a_subset_is_like_the_whole_and_the_first_item_may_be_torn() -> None:
    """A validation part may begin with a gray image or a torn file."""
    gray = PIXELS[..., 0]
    source = DatasetSource(Items(OSError("torn"), PIXELS, gray, PIXELS, targets=[0, 1, 0, 1]))
    part = source.subset(torch.tensor([2, 3, 1]))
    assert (part.channels, part.size) == (source.channels, source.size) == (3, 2)
    assert part.labels is not None and part.labels.tolist() == [0, 1, 1]
    assert part.take(torch.tensor([0, 1]))[1].tolist() == [1, 1] and not source.unreadable
    assert len(source.fingerprint()) == 16 and source.fingerprint() != part.fingerprint()


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(())


@pytest.mark.parametrize(
    ("dataset", "says"),
    [
        (Endless(), "has no length"),
        (Items("photo.png"), "the first items of Items are not images: item 0: images must be"),
        (Items(torch.randn(3, 4, 4)), r"floats in \[0, 1\]: the encoder normalises"),
        (Items(PIXELS, PIXELS, targets=[0.5, 1.0]), "one integer per item"),
        (Items(PIXELS, PIXELS, targets=[0]), "one integer per item"),
    ],
)
def test_a_dataset_that_does_not_fit_is_refused(dataset: Dataset[Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        open_dataset(dataset)
