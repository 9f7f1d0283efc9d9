"""The collapse numbers against loops and closed forms; their diagnosis; evaluating changes nothing."""

import inspect
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from contrastkit import monitor as room
from contrastkit.augment import View
from contrastkit.data import ArraySource, DataSet
from contrastkit.evaluate.neighbours import knn_accuracy
from contrastkit.methods import Method
from contrastkit.monitor import Monitor, collapse, diagnose
from contrastkit.parts.build import build_encoder
from contrastkit.parts.heads import Tower, mlp
from contrastkit.types import Batch, Step

VIEWS = (View(size=16, crop_min=0.3), View(size=16, crop_min=0.3))


def test_against_loops() -> None:
    g = torch.Generator().manual_seed(0)
    z1 = torch.randn(30, 5, generator=g) + 0.5
    z2 = z1 + 0.3 * torch.randn(30, 5, generator=g)
    actual = collapse(z1, z2)

    def unit(z: torch.Tensor) -> list[list[float]]:
        return [[v / math.hypot(*row) for v in row] for row in z.double().tolist()]

    a, b = unit(z1), unit(z2)
    std = 0.0
    for column in zip(*a, strict=True):
        mean = sum(column) / 30
        std += math.sqrt(sum((v - mean) ** 2 for v in column) / 29) / 5
    assert actual["std"] == pytest.approx(std * math.sqrt(5), rel=1e-5)
    assert actual["alignment"] == pytest.approx(
        sum(math.dist(x, y) ** 2 for x, y in zip(a, b, strict=True)) / 30, rel=1e-5
    )
    uniformity = 0.0
    for z in (a, b):
        pairs = [math.exp(-2 * math.dist(z[i], z[j]) ** 2) for i in range(30) for j in range(i)]
        uniformity += math.log(sum(pairs) / len(pairs)) / 2
    assert actual["uniformity"] == pytest.approx(uniformity, rel=1e-5)
    gram = torch.tensor(a, dtype=torch.float64).T @ torch.tensor(a, dtype=torch.float64)
    sigma = [math.sqrt(v) for v in torch.linalg.eigvalsh(gram).tolist()]
    shares = [s / sum(sigma) for s in sigma]
    assert actual["rank"] == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)), rel=1e-4)


def test_orthogonal_outputs_have_full_rank() -> None:
    actual = collapse(3 * torch.eye(8), torch.eye(8))
    assert actual["rank"] == pytest.approx(8)
    assert actual["alignment"] == 0.0
    assert actual["uniformity"] == pytest.approx(-4)  # all squared distances are 2
    assert actual["std"] == pytest.approx(1.0)  # variance of one 1 among eight: 1/8


def test_the_sphere_is_healthy_and_a_point_is_not() -> None:
    g = torch.Generator().manual_seed(0)
    sphere = collapse(torch.randn(2000, 32, generator=g), torch.randn(2000, 32, generator=g))
    assert sphere["std"] == pytest.approx(1.0, abs=0.02)
    assert sphere["rank"] > 31
    assert sphere["alignment"] == pytest.approx(2.0, abs=0.05)  # independent points
    point = torch.ones(100, 32)
    assert collapse(point, point) == pytest.approx({"std": 0, "rank": 1, "alignment": 0, "uniformity": 0}, abs=1e-4)
    line = torch.randn(100, 1, generator=g) * torch.ones(32)
    assert collapse(line, line)["rank"] == pytest.approx(1.0, abs=1e-3)  # two opposite points: one direction


def evaluation(**changes: float) -> dict[str, float]:
    return {"std": 0.9, "rank": 40.0, "alignment": 0.5, "uniformity": -2.5, "loss": 5.0, "knn": 0.4} | changes


@pytest.mark.parametrize(
    ("history", "diagnosis"),
    [
        ([], None),
        ([evaluation(), evaluation()], None),
        ([evaluation(std=0.1)], None),  # an almost untrained network
        ([evaluation(std=0.05), evaluation(std=0.13)], None),  # on its way out
        ([evaluation(std=0.13), evaluation(std=0.1)], "--lr"),
        ([evaluation(rank=1.2), evaluation(rank=1.1)], "--tau"),
        ([evaluation(loss=8.5), evaluation(loss=8.31)], "stuck"),
        ([evaluation(loss=8.5), evaluation(loss=8.0)], None),
        ([evaluation(loss=1.0), evaluation(loss=0.5), evaluation(loss=0.3)], "--bn-groups"),
        ([evaluation(loss=1.0, knn=0.3), evaluation(loss=0.5), evaluation(loss=0.3)], None),  # low, and learning
        ([evaluation(std=math.nan)], "not finite"),
    ],
)
def test_the_diagnosis(history: list[dict[str, float]], diagnosis: str | None) -> None:
    line = diagnose(history, chance_loss=math.log(4097))
    assert (line is None) if diagnosis is None else (line is not None and diagnosis in line and "\n" not in line)


def test_features_that_no_loss_compares_may_be_similar() -> None:
    histories = ([evaluation(std=0.13), evaluation(std=0.1)], [evaluation(rank=1.2), evaluation(rank=1.1)])
    assert [diagnose(history, can_collapse=False) for history in histories] == [None, None]
    assert "not finite" in str(diagnose([evaluation(std=math.nan)], can_collapse=False))


def test_a_method_that_learns_from_labels_is_advised_what_it_has() -> None:
    history = [evaluation(loss=1.4), evaluation(loss=1.39)]
    line = str(diagnose(history, chance_loss=math.log(4), labels=True))
    assert line.startswith("stuck") and "--lr" in line and "--epochs" in line
    assert "--tau" not in line and "--m)" not in line
    assert diagnose(history, chance_loss=math.log(4), labels=True, steps=99) is None, "too early to say"
    assert diagnose(history, chance_loss=math.log(4), labels=True, steps=100) == line
    assert "--tau" in str(diagnose(history, chance_loss=math.log(4), steps=2))
    easy = [evaluation(loss=0.01)] * 4
    assert diagnose(easy, chance_loss=math.log(4), labels=True) is None, "a low loss is the aim"
    assert "--bn-groups" in str(diagnose(easy, chance_loss=math.log(4)))


def test_the_monitor_counts_the_steps() -> None:
    how: dict[str, Any] = {"size": 16, "seed": 0, "device": torch.device("cpu"), "every": 1, "chance_loss": 1.0}
    for labels, steps, last in ((True, 50, "stuck"), (True, 49, None), (False, 1, "stuck")):
        watching = Monitor(images(None), VIEWS, **how, can_collapse=False, labels=labels, steps=steps)
        for _ in range(2):
            watching.evaluate(Watched(), 1.0)
        assert (watching.warning or "").split(":")[0] == (last or "")


def test_without_chance_or_labels_the_loss_says_nothing() -> None:
    history = [evaluation(loss=8.5), evaluation(loss=8.5)]
    assert diagnose(history, chance_loss=None) is None
    easy = [{k: v for k, v in evaluation(loss=0.1).items() if k != "knn"}] * 4
    assert diagnose(easy, chance_loss=math.log(4097)) is None


def images(labels: torch.Tensor | None) -> DataSet:
    """Pictures of stripes: the class is how wide they are."""
    g = torch.Generator().manual_seed(0)
    y = torch.randint(0, 3, (90,), generator=g)
    ramp = torch.arange(16)[None, None, None, :].expand(90, 3, 16, 16)
    x = (ramp // (1 + y[:, None, None, None]) % 2 * 200 + torch.randint(0, 40, (90, 3, 16, 16), generator=g)).byte()
    source = ArraySource("stripes", x, y if labels is None else labels)
    return DataSet("stripes", source, None, source)


class Watched(Method[None]):
    """An encoder and a head; what the monitor evaluates needs no loss."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        encoder = build_encoder("tiny", channels=3, size=16)
        self.online = Tower(encoder, mlp(encoder.dim, 16, 8))

    def forward(self, batch: Batch, progress: float) -> Step[None]:
        raise NotImplementedError


def monitor(data: DataSet, every: int = 1) -> Monitor:
    return Monitor(data, VIEWS, size=16, seed=0, device=torch.device("cpu"), every=every, chance_loss=math.log(65))


def test_looking_changes_nothing_and_repeats() -> None:
    method = Watched().train()
    method.online.encoder.trunk.bn1.eval()  # as if frozen
    before = {k: v.clone() for k, v in method.state_dict().items()}
    modes = [part.training for part in method.modules()]
    rng = torch.get_rng_state()
    evaluator = monitor(images(None))
    first = evaluator.evaluate(method, 3.0)
    assert evaluator.evaluate(method, 3.0) == first == evaluator.latest
    assert evaluator.history == [first, first] and first["loss"] == 3.0
    assert set(first) == {"std", "rank", "alignment", "uniformity", "loss", "knn"}
    assert [part.training for part in method.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in method.state_dict().items())
    assert torch.equal(torch.get_rng_state(), rng)


def test_it_measures_the_heads_outputs_and_the_encoders_neighbours() -> None:
    method = Watched()
    with torch.no_grad():
        for p in method.online.head[-1].parameters():
            p.fill_(1.0)  # every output the same direction
    seen = monitor(images(None)).evaluate(method, 1.0)
    assert seen["rank"] == pytest.approx(1, abs=0.01) and seen["std"] == pytest.approx(0, abs=0.01)
    assert seen["knn"] > 0.9  # an untrained encoder tells stripes apart


def test_only_the_network_runs_under_autocast() -> None:
    """Similarities and singular values of bfloat16 would be wrong in the third digit."""
    network: list[bool] = []
    judges: list[bool] = []
    method, evaluator, normalize = Watched(), monitor(images(None)), F.normalize
    method.online.encoder.register_forward_hook(lambda *_: network.append(torch.is_autocast_enabled("cpu")))

    def spy(x: torch.Tensor, dim: int) -> torch.Tensor:
        judges.append(torch.is_autocast_enabled("cpu"))
        return normalize(x, dim=dim)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "normalize", spy)
        evaluator.evaluate(method, 1.0, lambda: torch.autocast("cpu", torch.bfloat16))
    assert network and all(network)
    assert judges and not any(judges)


def test_a_collapse_is_said_once_it_persists() -> None:
    method, evaluator = Watched(), monitor(images(None))
    nn.init.zeros_(method.online.head[-1].weight)
    nn.init.ones_(method.online.head[-1].bias)
    evaluator.evaluate(method, 1.0)
    assert evaluator.warning is None
    evaluator.evaluate(method, 1.0)
    assert evaluator.warning is not None and evaluator.warning.startswith("collapse")


def test_no_labels_no_neighbours() -> None:
    assert "knn" not in monitor(images(torch.full((90,), -1))).evaluate(Watched(), 1.0)


def test_neighbours_are_other_images() -> None:
    """Were queries in the bank, random labels would be found again."""
    g = torch.Generator().manual_seed(1)
    random = torch.randint(0, 30, (90,), generator=g)
    assert monitor(images(random)).evaluate(Watched(), 1.0)["knn"] < 0.4


def test_when_it_looks() -> None:
    data = images(None)
    assert [monitor(data, every=3).due(epoch, epoch == 7) for epoch in range(1, 8)] == [0, 0, 1, 0, 0, 1, 1]
    assert not monitor(data, every=0).due(7, True)


def test_the_normalised_outputs_are_what_counts() -> None:
    g = torch.Generator().manual_seed(0)
    z = torch.randn(50, 6, generator=g)
    scale = 1 + 9 * torch.rand(50, 1, generator=g)
    assert collapse(z * scale, z) == pytest.approx(collapse(F.normalize(z, dim=1), z), rel=1e-4, abs=1e-5)


CHANCE = math.log(4097)


@pytest.mark.parametrize(
    ("history", "diagnosis"),
    [
        ([evaluation(std=0.19), evaluation(std=0.19)], "collapse"),
        ([evaluation(std=0.21), evaluation(std=0.21)], None),
        ([evaluation(std=0.1), evaluation(std=0.109)], "collapse"),  # rising by less than a tenth
        ([evaluation(std=0.1), evaluation(std=0.111)], None),
        ([evaluation(rank=1.9), evaluation(rank=1.9)], "directions"),
        ([evaluation(rank=2.1), evaluation(rank=2.1)], None),
        ([evaluation(rank=1.2), evaluation(rank=1.31)], "directions"),
        ([evaluation(rank=1.2), evaluation(rank=1.33)], None),
        ([evaluation(loss=CHANCE - 0.04), evaluation(loss=CHANCE - 0.04)], "stuck"),
        ([evaluation(loss=CHANCE - 0.06), evaluation(loss=CHANCE - 0.04)], None),
        ([evaluation(loss=CHANCE - 0.04), evaluation(loss=CHANCE - 0.06)], None),
        ([evaluation(loss=1), evaluation(loss=1), evaluation(loss=0.09 * CHANCE)], "too easy"),
        ([evaluation(loss=1), evaluation(loss=1), evaluation(loss=0.11 * CHANCE)], None),
        ([evaluation(loss=1), evaluation(loss=0.1)], None),  # two evaluations are too few
        ([evaluation(loss=1), evaluation(loss=1), evaluation(loss=0.1, knn=0.409)], "too easy"),
        ([evaluation(loss=1), evaluation(loss=1), evaluation(loss=0.1, knn=0.411)], None),
        (
            [evaluation(loss=1, knn=0.3), evaluation(loss=1, knn=0.4), evaluation(loss=0.1, knn=0.4)],
            None,
        ),  # since the first look
        ([evaluation(), evaluation(loss=math.inf)], "not finite"),
    ],
)
def test_where_the_lines_are_drawn(history: list[dict[str, float]], diagnosis: str | None) -> None:
    line = diagnose(history, chance_loss=CHANCE)
    assert (line is None) if diagnosis is None else (line is not None and diagnosis in line)


def test_outputs_that_are_not_finite_have_no_numbers() -> None:
    good, bad = torch.randn(5, 3), torch.randn(5, 3)
    bad[2, 1] = math.inf
    for pair in ((good, bad), (bad, good)):
        actual = collapse(*pair)
        assert set(actual) == {"std", "rank", "alignment", "uniformity"} and all(map(math.isnan, actual.values()))


def test_rank_is_of_the_first_view_and_uniformity_of_both() -> None:
    spread, point = torch.eye(8), torch.ones(8, 8)
    assert collapse(spread, point)["rank"] == pytest.approx(8)
    assert collapse(point, spread)["rank"] == pytest.approx(1, abs=1e-3)
    assert collapse(point, spread)["uniformity"] == pytest.approx(-2, abs=1e-4)  # the mean of 0 and -4
    assert collapse(spread, point)["std"] == pytest.approx(1.0)


def test_it_sees_the_first_two_views() -> None:
    """A colour image, its gray twin; not the third, which is larger."""
    plain: dict[str, Any] = {"crop_min": 1.0, "flip_p": 0.0, "jitter_p": 0.0}
    views = (View(size=16, gray_p=0.0, **plain), View(size=16, gray_p=1.0, **plain), View(size=24, **plain))
    g = torch.Generator().manual_seed(0)
    source = ArraySource("noise", torch.randint(0, 256, (40, 3, 16, 16), generator=g, dtype=torch.uint8))
    data = DataSet("noise", source, None, source)
    evaluator = Monitor(data, views, size=16, seed=0, device=torch.device("cpu"), every=1, chance_loss=None)
    method, seen = Watched(), []
    online = method.online
    online.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    actual = evaluator.evaluate(method, 1.0)
    assert [x.shape for x in seen] == [(40, 3, 16, 16)] * 2
    first, second = seen
    assert (second[:, 0] - second[:, 2]).abs().max() < 0.01 < (first[:, 0] - first[:, 2]).abs().mean()
    assert actual["alignment"] > 0
    twin = Monitor(data, views[:1], size=16, seed=0, device=torch.device("cpu"), every=1, chance_loss=None)
    seen.clear()
    twin.evaluate(method, 1.0)
    assert len(seen) == 2 and all((x[:, 0] - x[:, 2]).abs().mean() > 0.01 for x in seen)


def test_neighbours_are_asked_as_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """k = 20, T = 0.1; a fifth of the images are queries, the rest the bank; both are limited and reproducible."""
    asked: list[tuple[int, int]] = []

    def spy(bank, queries, *, k=20, T=0.1, n_classes, device):
        assert (k, T, n_classes) == (20, 0.1, 3)
        asked.append((len(bank.y), len(queries.y)))
        return knn_accuracy(bank, queries, k=20, T=0.1, n_classes=n_classes)

    monkeypatch.setattr(room, "knn_accuracy", spy)
    monitor(images(None)).evaluate(Watched(), 1.0)
    monkeypatch.setattr(room, "BANK", 40)
    monkeypatch.setattr(room, "QUERIES", 10)
    monitor(images(None)).evaluate(Watched(), 1.0)
    assert asked == [(72, 18), (40, 10)]
    defaults = inspect.signature(knn_accuracy).parameters
    assert (defaults["k"].default, defaults["T"].default) == (20, 0.1)


def test_only_images_with_a_label_are_neighbours() -> None:
    y = images(None).train.labels
    assert y is not None
    some = torch.where(torch.arange(90) < 45, y, -1)
    assert monitor(images(some)).evaluate(Watched(), 1.0)["knn"] > 0.9
    assert "knn" not in monitor(images(torch.where(torch.arange(90) < 1, y, -1))).evaluate(Watched(), 1.0)


def test_not_more_images_than_said_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "IMAGES", 32)
    method, sizes = Watched(), []
    online = method.online
    online.head.register_forward_hook(lambda _, args, out: sizes.append(len(out)))
    monitor(images(torch.full((90,), -1))).evaluate(method, 1.0)
    assert sizes == [32, 32]


def test_a_resumed_monitor_goes_on_from_the_looks_among_the_rows() -> None:
    evaluator = monitor(images(torch.full((90,), -1)))
    assert evaluator.latest == {}
    numbers = {"std": 0.1, "rank": 40.0, "alignment": 0.5, "uniformity": -2.5, "loss": 5.0}
    evaluator.resume([{"epoch": 1, "loss": 6.0}, {"epoch": 2, "lr": 0.1, **numbers}, {"epoch": 3, "loss": 4.0}])
    assert evaluator.history == [numbers] and evaluator.latest == numbers
    method = Watched()
    online = method.online
    nn.init.zeros_(online.head[-1].weight)
    nn.init.ones_(online.head[-1].bias)
    evaluator.evaluate(method, 1.0)
    assert evaluator.warning is not None and evaluator.warning.startswith("collapse")  # two evaluations by now
