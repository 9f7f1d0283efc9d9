"""Few labels: the choice compared with a loop, its independence of the order, lists of names, what is refused."""

import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor

from contrastkit.data import ArraySource, Source
from contrastkit.errors import UserError
from contrastkit.evaluate.few_labels import FewLabels, choose, drawing_order, folds

N = 60


def shades(order: Tensor | None = None, sizes: tuple[int, ...] = (30, 20, 10)) -> ArraySource:
    """Images of three classes of these sizes, each image of its own."""
    g = torch.Generator().manual_seed(1)
    x = torch.randint(0, 256, (sum(sizes), 3, 4, 4), generator=g, dtype=torch.uint8)
    y = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    order = torch.arange(len(y)) if order is None else order
    return ArraySource("shades", x[order], y[order], classes=["dim", "mid", "light"][: len(sizes)])


def files(*paths: str) -> ArraySource:
    source = shades()
    names = [*paths, *(f"other/{i:02d}.png" for i in range(N - len(paths)))]
    source.paths = names
    return source


def contents(source: Source) -> set[bytes]:
    assert source.images is not None
    return {image.numpy().tobytes() for image in source.images}


def test_the_choice_is_that_of_a_loop() -> None:
    chosen, notices = choose(shades(), FewLabels(labels_per_class=4), 7)
    source, expected = shades(), []
    for c in range(3):
        of_class = []
        for i in range(N):
            if source.labels[i] == c:
                text = b"7\n" + b"(3, 4, 4)" + bytes(source.images[i].flatten().tolist())
                of_class.append((hashlib.sha256(text).hexdigest(), i))
        expected += [i for _, i in sorted(of_class)[:4]]
    assert contents(chosen) == contents(source.subset(torch.tensor(expected)))
    assert chosen.labels is not None and chosen.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4 and notices == ()
    assert contents(chosen) != contents(choose(shades(), FewLabels(labels_per_class=4), 8)[0])


def test_it_does_not_depend_on_the_order_and_few_are_among_more() -> None:
    order = torch.randperm(N, generator=torch.Generator().manual_seed(3))
    for few in (FewLabels(labels_per_class=3), FewLabels(label_fraction=0.3)):
        assert contents(choose(shades(), few, 0)[0]) == contents(choose(shades(order), few, 0)[0])
    three, five = (contents(choose(shades(), FewLabels(labels_per_class=n), 0)[0]) for n in (3, 5))
    assert three < five
    named = files("a/1.png")
    shuffled = named.subset(order)
    paths = [set(choose(source, FewLabels(labels_per_class=3), 0)[0].paths) for source in (named, shuffled)]
    assert paths[0] == paths[1]


def test_a_fraction_is_of_each_class() -> None:
    chosen, _ = choose(shades(), FewLabels(label_fraction=0.1), 0)
    assert chosen.labels.bincount().tolist() == [3, 2, 1]
    everything, _ = choose(shades(), FewLabels(), 0)
    assert len(everything) == N


def test_unlabelled_images_are_left_out() -> None:
    source = shades()
    source.labels[::2] = -1
    assert choose(source, FewLabels(), 0)[0].labels.bincount().tolist() == [15, 10, 5]


@pytest.mark.parametrize(
    ("few", "says"),
    [
        (
            {"labels_per_class": 15},
            "--labels-per-class 15 is more than a class of shades has: light has 10; at most 10",
        ),
        ({"labels_per_class": 25}, "mid has 20, light has 10; at most 10"),
        ({"label_fraction": 0.02}, "leaves no image of mid with 20 images, light with 10 images: give at least 0.1,"),
        ({"labels_per_class": 0}, "--labels-per-class must be at least 1"),
        ({"label_fraction": 0.0}, r"--label-fraction must lie in \(0, 1\]"),
        ({"label_fraction": 1.5}, "--label-fraction must lie in"),
        ({"label_fraction": 0.5, "labels_per_class": 1}, "--labels-per-class and --label-fraction exclude each other"),
    ],
)
def test_what_does_not_fit_is_refused(few: dict[str, float], says: str) -> None:
    with pytest.raises(UserError, match=says):
        choose(shades(), FewLabels(**few), 0)  # type: ignore[arg-type]


def test_no_labels_and_one_class_are_refused() -> None:
    none = shades()
    none.labels = None
    with pytest.raises(UserError, match="fine-tuning needs labels"):
        choose(none, FewLabels(), 0)
    with pytest.raises(UserError, match="of one class"):
        choose(shades(sizes=(10,)), FewLabels(), 0)


# ---------------------------------------- lists


def test_a_list_names_files_or_paths(tmp_path: Path) -> None:
    """As SimCLR's lists do: ``n01440764_10043.JPEG``, one a line."""
    source = files("n01/n01_1.JPEG", "n01/n01_2.JPEG")
    source.paths[45] = "n02/n02_9.JPEG"
    (tmp_path / "list.txt").write_text("n02_9.JPEG\n\nn01/n01_2.JPEG \nn09_7.JPEG\n")
    chosen, notices = choose(source, FewLabels(label_list=tmp_path / "list.txt"), 0)
    assert list(chosen.paths) == ["n01/n01_2.JPEG", "n02/n02_9.JPEG"]
    assert notices == (f"1 of 3 names in {tmp_path / 'list.txt'} are not of labelled images here",)


def test_a_list_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "list.txt"
    few, source = FewLabels(label_list=place), files("a/1.png", "b/1.png")
    with pytest.raises(UserError, match="cannot be read: No such file"):
        choose(source, few, 0)
    place.write_text("nowhere.png\n")
    with pytest.raises(UserError, match="no labelled image of shades has a name in .*, for example nowhere.png"):
        choose(source, few, 0)
    place.write_text("")
    with pytest.raises(UserError, match="no labelled image"):
        choose(source, few, 0)
    place.write_text("1.png\n")
    with pytest.raises(UserError, match="1.png may be a/1.png, b/1.png: give paths"):
        choose(source, few, 0)
    place.write_text("a/1.png\nb/1.png\n")
    with pytest.raises(UserError, match="of one class"):
        choose(source, few, 0)
    with pytest.raises(UserError, match="the images of shades are none"):
        choose(shades(), few, 0)


# ---------------------------------------- folds


def dealt(source: ArraySource) -> list[tuple[Tensor, Tensor]]:
    assert source.labels is not None
    return folds(source.labels, drawing_order(source, 0), source.group_ids)


def test_each_image_is_held_out_once_and_every_class_in_each_fold() -> None:
    splits = dealt(shades())
    assert len(splits) == 5
    held = torch.cat([held for _, held in splits])
    assert sorted(held.tolist()) == list(range(N))
    for rest, out in splits:
        assert sorted([*rest.tolist(), *out.tolist()]) == list(range(N))
        assert shades().labels[out].bincount().tolist() == [6, 4, 2]


def test_small_classes() -> None:
    """Two images of a class are held out one after the other; of a class of one, none is."""
    assert dealt(shades(sizes=(1, 1, 1))) == []
    for sizes, n in (((2, 2, 2), 2), ((3, 2, 2), 3), ((7, 1, 7), 4)):
        splits = dealt(shades(sizes=sizes))
        assert len(splits) == n
        for rest, held in splits:
            assert len(held) and set(shades(sizes=sizes).labels[rest].tolist()) == {0, 1, 2}


def test_images_of_one_group_are_held_out_together() -> None:
    source = shades()
    source.group_ids = torch.arange(N) // 2
    for rest, held in dealt(source):
        assert not set(source.group_ids[rest].tolist()) & set(source.group_ids[held].tolist())
