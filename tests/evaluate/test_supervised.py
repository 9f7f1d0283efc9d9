"""The supervised loop compared with plain loops: weights, rates, mixed and smoothed labels, modes, errors."""

import copy
import math
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastkit.augment import View
from contrastkit.data import ArraySource, Loader
from contrastkit.errors import UserError
from contrastkit.evaluate.supervised import LinearClassifier, LoopState, Objective, train_classifier
from contrastkit.optim import ParamGroup, build_optimizer, learning_rate
from contrastkit.parts.build import build_encoder
from contrastkit.parts.encoder import Encoder

N, BATCH, EPOCHS = 50, 16, 3
SCHEDULE = partial(learning_rate, schedule="cosine", base_lr=0.2, warmup=0.2)


def shades(n: int = N, *, channels: int = 3) -> ArraySource:
    g = torch.Generator().manual_seed(1)
    y = torch.randint(0, 3, (n,), generator=g)
    x = 60 * y[:, None, None, None] + torch.randint(0, 90, (n, channels, 8, 8), generator=g)
    return ArraySource("shades", x.byte(), y)


def loader(source: ArraySource) -> Loader:
    return Loader(source, (View(size=8, crop_min=0.5, jitter_p=0.0, gray_p=0.0),), batch=BATCH, seed=3)


def linear(dim: int = 192) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(dim, 3))


def sgd(model: nn.Module, weight_decay: float = 0.01) -> torch.optim.Optimizer:
    return build_optimizer([ParamGroup(params=list(model.parameters()))], "sgd", lr=9.0, weight_decay=weight_decay)


def trained(weights: Tensor | None = None, source: ArraySource | None = None) -> tuple[nn.Module, tuple[float, ...]]:
    model = linear()
    losses = train_classifier(
        model, loader(source or shades()), sgd(model), epochs=EPOCHS, learning_rate=SCHEDULE, weights=weights
    )
    return model, losses


def test_without_weights_it_is_bit_equal_to_a_plain_loop() -> None:
    model, losses = trained()
    plain = linear()
    optimizer = torch.optim.SGD(plain.parameters(), lr=9.0, momentum=0.9, weight_decay=0.01)
    batches, step = loader(shades()), 0
    for epoch in range(EPOCHS):
        seen = []
        for batch in batches.batches(epoch * batches.steps_per_epoch, (epoch + 1) * batches.steps_per_epoch):
            optimizer.param_groups[0]["lr"] = SCHEDULE(step / (EPOCHS * 3))  # 50 images are three batches of 16
            optimizer.zero_grad()
            loss = F.cross_entropy(plain(batch.views[0]), batch.label)
            loss.backward()
            optimizer.step()
            seen.append(loss.item())
            step += 1
        assert losses[epoch] == pytest.approx(sum(seen) / 3, rel=1e-6)
    assert step == 9
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(p, q)


def test_weights_follow_their_images() -> None:
    """Weights that depend on the class alone are torch's class weights, over the number of images in a batch."""
    source, of_class = shades(), torch.tensor([0.5, 2.0, 1.0])
    model, losses = trained(of_class[source.labels].double())
    plain = linear().double()
    vW, vb = (torch.zeros_like(p) for p in plain.parameters())
    step = 0
    for epoch in range(EPOCHS):
        seen = []
        batches = loader(source)
        steps = batches.steps_per_epoch
        for batch in batches.batches(epoch * steps, (epoch + 1) * steps):
            loss = F.cross_entropy(
                plain(batch.views[0].double()), batch.label, weight=of_class.double(), reduction="sum"
            )
            loss = loss / len(batch.label)
            grads = torch.autograd.grad(loss, list(plain.parameters()))
            with torch.no_grad():
                for p, v, g in zip(plain.parameters(), (vW, vb), grads, strict=True):
                    v.mul_(0.9).add_(g + 0.01 * p)
                    p.sub_(SCHEDULE(step / 9) * v)
            seen.append(loss.item())
            step += 1
        assert losses[epoch] == pytest.approx(sum(seen) / 3, rel=1e-4)
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        assert p.dtype == torch.float32
        torch.testing.assert_close(p.double(), q, rtol=1e-4, atol=1e-5)


def test_an_image_of_weight_zero_teaches_nothing() -> None:
    weights = torch.ones(N)
    weights[::4] = 0
    mislabelled = shades()
    assert mislabelled.labels is not None
    mislabelled.labels[::4] = 2 - mislabelled.labels[::4]
    (model, losses), (other, others) = trained(weights), trained(weights, mislabelled)
    assert losses == others and trained()[1] != losses
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))


def test_weights_of_one_change_nothing() -> None:
    (model, losses), (plain, usual) = trained(torch.ones(N)), trained()
    assert losses == pytest.approx(usual, rel=1e-6)
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p, q)


# --------------------------------------------------------------------------------------------- an encoder and a layer


def tiny() -> Encoder:
    torch.manual_seed(0)
    return build_encoder("tiny", channels=3, size=8)


def test_a_frozen_encoder_stays_as_it_is_and_a_free_one_learns() -> None:
    for frozen in (True, False):
        classifier = LinearClassifier(tiny(), 3, frozen=frozen)
        modes: list[tuple[bool, bool]] = []
        classifier.encoder.register_forward_hook(
            lambda f, args, y, modes=modes: modes.append((f.training, y.requires_grad))
        )
        before = {name: value.clone() for name, value in classifier.state_dict().items()}
        train_classifier(classifier, loader(shades()), sgd(classifier), epochs=1, learning_rate=lambda _: 0.1)
        changed = {name for name, value in classifier.state_dict().items() if not torch.equal(value, before[name])}
        assert modes == [(not frozen, not frozen)] * 3
        assert classifier.training and classifier.fc.training
        assert {"fc.weight", "fc.bias"} <= changed
        assert ("encoder.trunk.conv1.weight" in changed) is not frozen
        assert ("encoder.trunk.bn1.running_mean" in changed) is not frozen
        if frozen:
            assert changed == {"fc.weight", "fc.bias"}
            assert all(p.grad is None for p in classifier.encoder.parameters())


def test_gray_images_are_repeated_for_an_encoder_of_colours() -> None:
    classifier = LinearClassifier(tiny(), 3).eval()
    gray = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(classifier(gray), classifier.fc(classifier.encoder(gray.repeat(1, 3, 1, 1))))


def test_the_classifier_runs_under_autocast_and_the_loss_does_not() -> None:
    class Spy(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x.flatten(1))
            types.append(y.dtype)
            return y

    types: list[torch.dtype] = []
    model = Spy(192, 3)
    losses = train_classifier(
        model,
        loader(shades()),
        sgd(model),
        epochs=1,
        learning_rate=lambda _: 0.1,
        autocast=lambda: torch.autocast("cpu", torch.bfloat16),
    )
    assert types == [torch.bfloat16] * 3
    assert losses[0] != torch.tensor(losses[0]).bfloat16().item()  # more precise than bfloat16


# ------------------------------------------------------------------------------------------------- what it is told


def test_epochs_are_reported_as_they_end() -> None:
    model, reports = linear(), []
    losses = train_classifier(
        model,
        loader(shades()),
        sgd(model),
        epochs=2,
        learning_rate=lambda _: 0.1,
        on_epoch=lambda epoch, loss: reports.append((epoch, loss)),
    )
    assert reports == [(0, losses[0]), (1, losses[1])] and losses[1] < losses[0]


def test_a_loss_that_is_not_finite_ends_it_and_names_the_peak_rate() -> None:
    model = linear()
    with pytest.raises(UserError, match=r"the loss is nan in epoch 1: lower the learning rate of 1e\+38$"):
        train_classifier(
            model,
            loader(shades()),
            sgd(model, weight_decay=0.0),
            epochs=4,
            learning_rate=lambda progress: 1e38 if 0.3 < progress < 0.4 else 0.1,
        )


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        (torch.ones(N - 1), "shades has 50 images, but there are 49 weights"),
        (-torch.ones(N), "finite and not negative"),
        (torch.full((N,), torch.nan), "finite and not negative"),
        (torch.full((N,), torch.inf), "finite and not negative"),
    ],
)
def test_weights_that_do_not_fit(weights: Tensor, says: str) -> None:
    with pytest.raises(UserError, match=says):
        trained(weights)


def test_images_without_a_label_are_an_error() -> None:
    some, none = shades(), shades()
    assert some.labels is not None
    some.labels[7] = -1
    none.labels = None
    for source in (some, none):
        with pytest.raises(UserError, match="without a label"):
            trained(source=source)


# ------------------------------------------------------------------------------------ mixup, smoothing, going on


def softened(label: int, smoothing: float) -> list[float]:
    """The target of one image: 1 - e for its class, plus e / 3 for each of three."""
    return [(1 - smoothing) * (c == label) + smoothing / 3 for c in range(3)]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("smoothing", "share"), [(0.0, 1.0), (0.1, 1.0), (0.0, 0.3), (0.2, 0.8)])
def test_the_loss_is_that_of_a_loop(smoothing: float, share: float, weighted: bool) -> None:
    g = torch.Generator().manual_seed(2)
    logits, label = torch.randn(7, 3, generator=g).double(), torch.randint(0, 3, (7,), generator=g)
    weights = torch.rand(7, generator=g).double() if weighted else None
    w = weights if weights is not None else torch.ones(7)
    total = 0.0
    for i in range(7):
        j = (i + 1) % 7
        top = max(logits[i].tolist())
        log_sum = top + math.log(sum(math.exp(z - top) for z in logits[i].tolist()))
        for part, k in ((share, i), (1 - share, j)):
            target = softened(int(label[k]), smoothing)
            total -= (
                part * float(w[k]) * sum(t * (z - log_sum) for t, z in zip(target, logits[i].tolist(), strict=True))
            )
    loss = Objective(smoothing=smoothing, mixup=0.5).loss(logits, label, weights, share)
    assert loss.item() == pytest.approx(total / 7, rel=1e-12)


@pytest.mark.slow
def test_mixup_draws_beta_by_seed_and_step() -> None:
    """Mean 1/2 and variance 1 / (4 (2 alpha + 1)), as a Beta(alpha, alpha) has."""
    for alpha in (0.2, 0.8, 3.0):
        draws = torch.tensor([Objective(mixup=alpha).share(5, step / 4000) for step in range(4000)])
        assert draws.mean().item() == pytest.approx(0.5, abs=0.03)
        assert draws.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.08)
    mixed = Objective(mixup=0.8)
    assert mixed.share(5, 0.25) == mixed.share(5, 0.25) != mixed.share(6, 0.25)
    assert Objective().share(5, 0.25) == 1


def test_mixed_images_are_those_of_a_plain_loop() -> None:
    model, plain, objective = linear(), linear(), Objective(mixup=1.0)
    losses = train_classifier(
        model, loader(shades()), sgd(model), epochs=1, learning_rate=lambda _: 0.1, objective=objective
    )
    optimizer, seen = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01), []
    for step, batch in enumerate(loader(shades()).batches(0, 3)):
        share = objective.share(3, step / 3)
        pairs = [(i, (i + 1) % BATCH) for i in range(BATCH)]
        x = torch.stack([share * batch.views[0][i] + (1 - share) * batch.views[0][j] for i, j in pairs])
        optimizer.zero_grad()
        z = plain(x)
        loss = share * F.cross_entropy(z, batch.label) + (1 - share) * F.cross_entropy(
            z, torch.stack([batch.label[j] for _, j in pairs])
        )
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    assert losses[0] == pytest.approx(sum(seen) / 3, rel=1e-5)
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.parametrize("stop", [1, 3, 4, 8])
def test_a_training_that_is_stopped_goes_on_bit_for_bit(stop: int) -> None:
    """In an epoch or at its end, with dropout and mixup."""

    def model() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(192, 3))

    class Stopped(Exception):
        pass

    kept: dict[str, Any] = {}

    def keep(state: LoopState) -> None:
        if state.step == stop:
            kept.update(state=state, model=copy.deepcopy(net.state_dict()), rng=torch.get_rng_state())
            kept["optimizer"] = copy.deepcopy(optimizer.state_dict())
            raise Stopped

    how: dict[str, Any] = {"epochs": EPOCHS, "learning_rate": SCHEDULE, "objective": Objective(0.1, 0.4)}
    whole = model()
    torch.manual_seed(1)
    losses = train_classifier(whole, loader(shades()), sgd(whole), **how)
    net = model()
    optimizer = sgd(net)
    torch.manual_seed(1)
    with pytest.raises(Stopped):
        train_classifier(net, loader(shades()), optimizer, on_step=keep, **how)
    resumed = model()
    again = sgd(resumed)
    resumed.load_state_dict(kept["model"])
    again.load_state_dict(kept["optimizer"])
    torch.set_rng_state(kept["rng"])
    assert train_classifier(resumed, loader(shades()), again, state=kept["state"], **how) == losses
    assert all(torch.equal(p, q) for p, q in zip(resumed.parameters(), whole.parameters(), strict=True))


def test_parts_without_a_trained_parameter_stay_in_eval_mode() -> None:
    classifier = LinearClassifier(tiny(), 3)
    trunk: Any = classifier.encoder.trunk
    for part in (trunk.conv1, trunk.bn1, trunk.blocks[0]):
        part.requires_grad_(False)
    classifier.train()
    assert not trunk.bn1.training and not trunk.blocks[0].training and not trunk.blocks[0].bn2.training
    assert trunk.blocks[1].bn1.training and trunk.training and classifier.fc.training


def test_batch_norm_in_eval_keeps_its_statistics_and_its_weights_learn() -> None:
    for mode in ("train", "eval"):
        classifier = LinearClassifier(tiny(), 3, batch_norm=mode)
        before = {name: value.clone() for name, value in classifier.state_dict().items()}
        train_classifier(classifier, loader(shades()), sgd(classifier), epochs=1, learning_rate=lambda _: 0.1)
        changed = {name for name, value in classifier.state_dict().items() if not torch.equal(value, before[name])}
        assert "encoder.trunk.bn1.weight" in changed
        assert any("running_" in name for name in changed) is (mode == "train")
