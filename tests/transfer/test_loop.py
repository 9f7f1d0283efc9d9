"""The loop that trains heads and detectors: it goes on where it was stopped, and draws nothing but by its address."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from contrastkit.errors import Interrupted, UserError
from contrastkit.evaluate.journal import Journal
from contrastkit.optim import ParamGroup, build_optimizer
from contrastkit.transfer.batches import Batches, Example
from contrastkit.transfer.loop import fit

STEPS = 25


class Numbers:
    """Examples that are their own position."""

    def __len__(self) -> int:
        return 11

    def read(self, i: int, channels: int) -> Example:
        return torch.full((channels,), float(i)), i


def noisy(image: Tensor, target: int) -> Example:
    return image + torch.rand(()), target


def batches(workers: int = 0, seed: int = 0) -> Batches:
    return Batches(Numbers(), noisy, channels=2, batch=4, seed=seed, workers=workers)


class Killed(BaseException):
    pass


def train(
    folder: Path | None = None,
    *,
    stop_at: int | None = None,
    lr: float = 0.01,
    killed: bool = False,
    more: int = 0,
    **options: int,
) -> nn.Module:
    """
    Args:
        stop_at: the step in which SIGTERM comes.
        killed: when the training has ended, but not the work that it is part of.
        more: numbers that each step draws from torch's generator besides what it needs.
    """
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(0.3), nn.Linear(3, 1))
    optimizer = build_optimizer([ParamGroup(params=list(model.parameters()))], "sgd", lr=lr, weight_decay=0.01)
    count = 0

    def loss_of(batch: list[Example]) -> Tensor:
        nonlocal count
        count += 1
        if count == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        x = torch.stack([image for image, _ in batch])
        loss = (model(x)[:, 0] - torch.tensor([float(i) for _, i in batch])).square().mean() / 100
        torch.rand(more)
        return loss

    with Journal(folder, {"lr": lr, **options}) as journal:
        with batches() as loader:
            fit(
                model,
                loss_of,
                loader,
                optimizer,
                steps=STEPS,
                rate=lambda progress: lr * (1 - progress),
                journal=journal,
                key="a",
            )
        if killed:
            raise Killed
    return model


def assert_same(a: nn.Module, b: nn.Module) -> None:
    for name, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[name]), name


def test_a_training_that_is_stopped_ends_as_it_would_have(tmp_path: Path) -> None:
    whole = train()
    with pytest.raises(Interrupted) as stop:
        train(tmp_path / "state", stop_at=13)
    assert stop.value.signal == signal.SIGTERM
    torch.rand(5)  # torch's own generator takes no part
    assert_same(train(tmp_path / "state"), whole)
    assert not (tmp_path / "state").exists()


def test_what_a_step_draws_depends_on_no_other_step() -> None:
    assert_same(train(more=3), train())


def test_a_training_that_is_done_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(tmp_path / "state", killed=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Numbers, "read", lambda *_: pytest.fail("an image is read"))
        again = train(tmp_path / "state")
    assert_same(again, train())


def test_the_state_of_another_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(tmp_path, killed=True, size=8)
    with pytest.raises(
        UserError, match=r"holds an unfinished training with size 8, not 9: repeat its command .* --out$"
    ):
        train(tmp_path, size=9)
    with pytest.raises(UserError, match="with lr 0.01, not 0.02; size 8, not 9"):
        train(tmp_path, size=9, lr=0.02)
    (tmp_path / "state.pt").write_bytes(b"none")
    with pytest.raises(UserError, match="not a readable checkpoint"):
        train(tmp_path, size=8)


def test_a_loss_that_is_not_finite_is_refused_and_not_saved(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step \d+, learning rate .*: lower --lr"):
        train(tmp_path / "state", lr=1e30)
    assert not (tmp_path / "state").exists()


def drawn(loader: Batches, start: int, end: int) -> list[list[tuple[list[float], int]]]:
    return [[(image.tolist(), i) for image, i in batch] for batch in loader.batches(start, end)]


def test_batches_depend_on_neither_workers_nor_where_they_begin() -> None:
    with batches() as plain, batches(workers=2) as others, batches(seed=1) as reseeded:
        expected = drawn(plain, 0, 9)
        assert drawn(others, 0, 9) == expected
        assert drawn(others, 3, 9) == expected[3:]
        assert drawn(reseeded, 0, 9) != expected
    epochs = [[i for batch in expected[k : k + 2] for _, i in batch] for k in range(0, 8, 2)]
    assert all(len(set(epoch)) == 8 for epoch in epochs)  # eleven examples are two batches of four
    assert len({tuple(epoch) for epoch in epochs}) == 4
    noise = [image[0] - i for batch in expected for image, i in batch]
    assert len(set(noise)) == len(noise)


def test_drawing_a_batch_leaves_torchs_generator_as_it_was() -> None:
    before = torch.get_rng_state()
    with batches() as loader:
        drawn(loader, 0, 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_batch_larger_than_the_set_is_the_set() -> None:
    with Batches(Numbers(), noisy, channels=1, batch=16, seed=0) as loader:
        assert (loader.batch, loader.steps_per_epoch) == (11, 1)


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    assert signal.getsignal(signal.SIGTERM) == before
