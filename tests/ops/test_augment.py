"""ops.augment against a loop over pixels in float64; what must change nothing; what a view may not depend on."""

import math
import threading
import time

import numpy as np
import pytest
import torch

from contrastkit import ops
from contrastkit.ops import extension
from tests.ops.views import by_hand, in_memory, photo, random_rows, table

OPS = ("augment",)
MANY = [(24, 31), (31, 17), (1, 40), (40, 1), (1, 1), (13, 13), (9, 64)]  # heights and widths
LAYOUTS = ("planes", "innermost", "apart")


def augmented(images, rows, device="cpu", layout="planes", **how):
    pixels, places = in_memory(images, layout)
    how = {"size": 16, "radius": how.get("size", 16) - 1} | how
    return ops.augment(pixels.to(device), places.to(device), channels=len(images[0]), **table(rows, device), **how)


def check(images, rows, device, layout="planes", atol=4e-6, **how):
    """Each view against the loop; a few pixels may differ where solarization hangs on rounding."""
    got = augmented(images, rows, device, layout, **how).double().cpu().numpy()
    how = {"size": 16, "radius": how.get("size", 16) - 1} | how
    for view, row in zip(got, rows, strict=True):
        wrong = np.abs(view - by_hand(images, row, **how)) > atol
        assert wrong.mean() <= (0.01 if row.get("solarize") else 0), (row, wrong.mean())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [1, 7, 16, 29])
@pytest.mark.parametrize("C", [1, 2, 3, 4, 5])
def test_views_are_those_of_the_loop(device, C, size, layout):
    images = [photo(C, *shape, seed=k) for k, shape in enumerate(MANY)]
    rows = random_rows(12, images, seed=size)
    check(images, rows, device, layout, size=size, radius=size // 3, gray_first=size == 7)


@pytest.mark.parametrize("border", ["mirrored", "zero", "repeated"])
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("C", "size"), [(1, 16), (2, 1), (3, 7), (3, 18), (4, 29)])
def test_choices_are_those_of_the_loop(device, C, size, interpolation, antialias, border):
    images = [photo(C, *shape, seed=k) for k, shape in enumerate([*MANY, (90, 70)])]
    rows = random_rows(12, images, tensorflow=True, seed=size)
    how = {"interpolation": interpolation, "antialias": antialias, "border": border}
    check(images, rows, device, "innermost", size=size, radius=size // 2, **how)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_poses_are_those_of_the_loop(device, interpolation):
    images = [photo(3, *shape, seed=k) for k, shape in enumerate([(20, 26), (33, 18), (1, 30)])]
    check(images, random_rows(10, images, pose=True), device, "innermost", atol=2e-5, interpolation=interpolation)


@pytest.mark.parametrize("shape", [(1, 2000), (2000, 1), (3, 1501), (700, 700)])
def test_strips_and_large_images(device, shape):
    image = photo(3, *shape)
    h, w = shape
    rows = [{"box": [0, 0, h, w]}, {"box": [h // 3, w // 3, h - h // 3, w - w // 3], "flip": True}]
    atol = 4e-6 if shape == (700, 700) else 3e-5  # the reference's weights are float32, of a pixel's number
    check([image], rows, device, atol=atol, size=23)


def test_every_order_of_the_jitter(device):
    image = photo(3, 16, 16)
    orders = torch.cartesian_prod(*[torch.arange(-1, 7)] * 4).tolist()[::37]  # also twice the same operation
    rows = [{"box": [0, 0, 16, 16], "jitter": o, "factors": [0.7, 1.6, 0.4, 0.2]} for o in orders]
    check([image], [row | {"jitter": [k for k in row["jitter"] if k >= 0]} for row in rows], device)
    check([image], [row | {"jitter": [k for k in row["jitter"] if k >= 0], "gray": True} for row in rows[::9]], device)


WHOLE = {"box": [0, 0, 16, 16]}


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"jitter": [0, 2]},
        {"sigma": 0.05},
        {"sigma": 1e-300},
    ],
    ids=str,
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_changes_nothing_changes_no_bit(device, row, layout):
    image = torch.arange(768, dtype=torch.int32).remainder(256).to(torch.uint8).view(3, 16, 16)  # all 256 values
    got = augmented([image], [WHOLE | row], device, layout)
    assert torch.equal(got[0].cpu(), image / 255)
    got = augmented([image], [WHOLE | row], device, layout, dtype=torch.uint8)
    assert torch.equal(got[0].cpu(), image)


def test_identities(device):
    images = [photo(3, 21, 30)]
    row = {"box": [2, 3, 17, 25], "factors": [1.0, 1.0, 1.0, 0.0]}

    def view(**change):
        return augmented(images, [row | change], device)[0].cpu()

    plain = view()
    assert torch.equal(view(flip=True).flip(-1), plain)

    def close(x, y):
        torch.testing.assert_close(x, y, atol=1e-6, rtol=0)

    torch.testing.assert_close(view(pose=[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), plain, atol=1e-5, rtol=0)
    for turn in (1.0, -1.0, 0.0, 3.0):
        close(view(jitter=[3], factors=[1.0, 1.0, 1.0, turn]), plain)
    close(view(jitter=[1]), plain)
    gray = view(gray=True)
    assert torch.equal(gray[0], gray[1]) and torch.equal(gray[0], gray[2])
    twice = view(gray=True, jitter=[2], factors=[1.0, 1.0, 0.0, 0.0])
    close(twice, gray * 0.9999)  # the sum of the luma's weights
    close(view(jitter=[2], factors=[1.0, 1.0, 0.0, 0.0]), gray)
    assert torch.equal(view(jitter=[0], factors=[0.0, 1.0, 1.0, 0.0]), torch.zeros(3, 16, 16))
    flat = view(jitter=[1], factors=[1.0, 0.0, 1.0, 0.0])
    close(flat, torch.full_like(flat, float(gray.mean())))
    constant = [torch.full((3, 21, 30), 77, dtype=torch.uint8)]
    blurred = augmented(constant, [row | {"sigma": 2.0}], device)
    close(blurred, torch.full_like(blurred, 77 / 255))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("size", [5, 16, 33])
@pytest.mark.parametrize("C", [1, 3, 4])
def test_results_in_other_dtypes_and_layouts(device, C, size, channels_last):
    images = [photo(C, 20, 27)]
    rows = random_rows(4, images, seed=C)
    how = {"size": size, "radius": size - 1}
    exact = augmented(images, rows, device, **how)
    assert exact.is_contiguous()
    views = {
        dtype: augmented(images, rows, device, dtype=dtype, channels_last=channels_last, **how)
        for dtype in (torch.float32, torch.bfloat16, torch.uint8)
    }
    for dtype, view in views.items():
        assert view.dtype == dtype and view.shape == exact.shape
        assert view.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    assert torch.equal(views[torch.float32], exact)
    assert torch.equal(views[torch.bfloat16], exact.bfloat16())
    # Exactly between two, float32 may round the product first.
    assert ((views[torch.uint8] - exact.double() * 255).abs() <= 0.5 + 1e-5).all()
    mean, std = torch.rand(C, device=device), torch.rand(C, device=device) + 0.5
    normal = augmented(images, rows, device, mean=mean, std=std, channels_last=channels_last, **how)
    torch.testing.assert_close(normal, (exact - mean[:, None, None]) / std[:, None, None], atol=1e-6, rtol=1e-6)


def test_nothing_of_nothing(device):
    image = torch.zeros(3, 4, 4, dtype=torch.uint8)
    assert augmented([image], [], device).shape == (0, 3, 16, 16)
    none = ops.augment(
        image.new_empty(0, device=device), torch.empty(0, 6, dtype=torch.int64, device=device), channels=3, size=4,
        radius=0, **table([], device),
    )  # fmt: skip
    assert none.shape == (0, 3, 4, 4)


# ------------------------------------------------------------------------------------- what a view does not depend on


def everything(size, layout="innermost", device="cpu", seed=0):
    images = [photo(3, *shape, seed=k) for k, shape in enumerate([(50, 61), (33, 40), (64, 64)])]
    rows = random_rows(30, images, seed=seed)
    pixels, places = in_memory(images, layout)
    how = {"size": size, "radius": size // 4, "channels": 3}
    return pixels.to(device), places.to(device), table(rows, device), how


@pytest.mark.parametrize("size", [8, 32, 45])
def test_a_view_does_not_depend_on_its_batch(device, size):
    pixels, places, columns, how = everything(size, device=device)
    whole = ops.augment(pixels, places, **columns, **how)
    assert torch.equal(whole, ops.augment(pixels, places, **columns, **how)), "a second run"
    for some in ([4], [29, 3, 3, 17], list(range(29, -1, -1))):
        part = ops.augment(pixels, places, **{name: column[some] for name, column in columns.items()}, **how)
        assert torch.equal(part, whole[some])


def test_a_view_does_not_depend_on_the_layout_of_its_image(device):
    results = []
    for layout in LAYOUTS:
        pixels, places, columns, how = everything(24, layout, device)
        results.append(ops.augment(pixels, places, **columns, **how))
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_the_same_bits_on_any_number_of_threads(device):
    pixels, places, columns, how = everything(32, device=device)
    threads, runs = torch.get_num_threads(), []
    for n in (1, 2, 8):
        torch.set_num_threads(n)
        runs.append(ops.augment(pixels, places, **columns, **how))
    torch.set_num_threads(threads)
    assert torch.equal(runs[0], runs[1]) and torch.equal(runs[0], runs[2])


def test_python_goes_on_meanwhile():
    """The lock of the interpreter is released: another thread counts while views are made."""
    if extension.info()["ops"]["augment"]["cpu"] == "reference":
        pytest.skip("the reference is Python")
    pixels, places, columns, how = everything(192)
    columns = {name: column.repeat(40, *[1] * (column.ndim - 1)) for name, column in columns.items()}
    begun, ended, counted = threading.Event(), threading.Event(), 0

    def work():
        begun.set()
        ops.augment(pixels, places, **columns, **how)
        ended.set()

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    while not ended.is_set():
        time.sleep(0.001)
        counted += 1
    thread.join()
    assert counted > 20


# ------------------------------------------------------------------------------------------------------------- refused

RIGHT = {"box": [1, 2, 5, 6]}
WRONG_ROWS = {
    "no image before the first": {"image": -1},
    "no image behind the last": {"image": 2},
    "above its image": {"box": [-1, 2, 5, 6]},
    "left of it": {"box": [1, -2, 5, 6]},
    "below it": {"box": [6, 2, 5, 6]},
    "right of it": {"box": [1, 7, 5, 6]},
    "no rows": {"box": [1, 2, 0, 6]},
    "no columns": {"box": [1, 2, 5, 0]},
    "far too high": {"box": [2**62, 2, 2**62, 6]},
    "no such operation": {"jitter": [7]},
    "none such either": {"jitter": [-2]},
    "factors": {"factors": [1.0, math.nan, 1.0, 0.0]},
    "infinite": {"factors": [1.0, 1.0, 1.0, math.inf]},
    "sigma below 0": {"sigma": -1.0},
    "sigma": {"sigma": math.nan},
    "pose": {"pose": [[1.0, 0.0, math.inf], [0.0, 1.0, 0.0]]},
}


@pytest.mark.parametrize("what", WRONG_ROWS)
def test_rows_that_name_what_is_not_there_are_refused(device, what):
    if device == "cuda":
        pytest.skip("a device-side assertion ends the process's use of the GPU")
    images = [photo(3, 10, 12), photo(3, 10, 12)]
    augmented(images, [RIGHT, RIGHT], device)
    with pytest.raises(IndexError):
        augmented(images, [RIGHT, RIGHT | WRONG_ROWS[what]], device)


@pytest.mark.parametrize(
    "place",
    [
        [0, 10, 13, 120, 12, 1],
        [1, 10, 12, 120, 12, 1],
        [-1, 10, 12, 120, 12, 1],
        [360, 10, 12, 120, 12, 1],
        [0, 11, 12, 120, 12, 1],
        [0, 10, 12, 121, 12, 1],
        [0, 10, 12, 2**62, 12, 1],
        [0, 2**62, 12, 120, 12, 1],
        [0, 10, 12, 120, -12, 1],
        [2**63 - 1, 10, 12, 120, 12, 1],
        [0, 0, 12, 120, 12, 1],
    ],
    ids=str,
)
def test_images_beyond_the_memory_are_refused(device, place):
    if device == "cuda":
        pytest.skip("a device-side assertion ends the process's use of the GPU")
    pixels = torch.zeros(360, dtype=torch.uint8, device=device)
    row = table([{"box": [0, 0, 1, 1]}], device)
    right = torch.tensor([[0, 10, 12, 120, 12, 1]], device=device)
    ops.augment(pixels, right, channels=3, size=4, radius=0, **row)
    with pytest.raises(IndexError):
        ops.augment(pixels, torch.tensor([place], device=device), channels=3, size=4, radius=0, **row)


@pytest.mark.parametrize("choice", [{"interpolation": "cubic"}, {"interpolation": ""}, {"border": "black"}], ids=str)
def test_choices_that_there_are_not_are_refused(device, choice):
    with pytest.raises(ValueError, match=f"augment: {next(iter(choice))} must be"):
        augmented([photo(3, 10, 12)], [RIGHT], device, **choice)


@pytest.mark.parametrize("row", [{"gray": True}, {"jitter": [2]}, {"jitter": [3]}, {"jitter": [6]}], ids=str)
def test_colours_of_images_without_colours_are_refused(device, row):
    if device == "cuda":
        pytest.skip("a device-side assertion ends the process's use of the GPU")
    with pytest.raises(IndexError):
        augmented([photo(4, 10, 12)], [RIGHT | row], device)


def test_opcheck(device):
    pixels, places, columns, how = everything(8, device=device)
    names = [a.name for a in torch.ops.contrastkit.augment.default._schema.arguments]
    given = {"pixels": pixels, "places": places, **columns, **how}
    given |= {"gray_first": False, "dtype": torch.bfloat16, "channels_last": True}
    given |= {"interpolation": "bicubic", "antialias": False, "border": "zero"}
    torch.library.opcheck(torch.ops.contrastkit.augment.default, tuple(given.get(name) for name in names))
