"""The state file of a work of several trainings: what is restored, and what keeps others out."""

from pathlib import Path

import pytest
import torch
from torch import nn

from contrastkit import lock
from contrastkit.errors import UserError
from contrastkit.evaluate import journal
from contrastkit.evaluate.journal import Journal
from contrastkit.evaluate.supervised import LoopState


def trained(steps: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(steps)
    net = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(steps):
        net(torch.rand(4, 3)).sum().backward()
        optimizer.step()
    return net, optimizer


def test_a_training_is_restored_with_the_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(journal, "SAVING", 1.0)
    net, optimizer = trained(3)
    with pytest.raises(KeyboardInterrupt), Journal(tmp_path, {"lr": 0.1}) as kept:
        kept.finish("first", {"top1": 0.5, "losses": [2.0]})
        kept.keeper("second", net, optimizer)(LoopState(3, torch.tensor(1.5), (0.7, 0.6)))
        draws = torch.rand(5)
        raise KeyboardInterrupt
    other, fresh = trained(1)
    with Journal(tmp_path, {"lr": 0.1}) as resumed:
        assert resumed.begun and resumed.result("first") == {"top1": 0.5, "losses": [2.0]}
        assert resumed.result("second") is None and resumed.resume("third", other, fresh) is None
        state = resumed.resume("second", other, fresh)
        assert state is not None and (state.step, state.total.item(), state.losses) == (3, 1.5, (0.7, 0.6))
        assert torch.equal(torch.rand(5), draws)
    for p, q in zip(other.parameters(), net.parameters(), strict=True):
        assert torch.equal(p, q)
        assert torch.equal(fresh.state[p]["momentum_buffer"], optimizer.state[q]["momentum_buffer"])
    assert not (tmp_path / "state.pt").exists()  # it came to its end


@pytest.mark.parametrize("cost", [0.1, 6.0])
def test_saving_takes_a_small_share_of_the_time(cost: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every 30 seconds, and less often where a save takes long; steps of two seconds."""
    clock, saves = [0.0], list[float]()

    def save(file: Path, state: object) -> None:
        clock[0] += cost
        saves.append(clock[0])

    monkeypatch.setattr(journal.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(journal.checkpoint, "save", save)
    with Journal(tmp_path, {}) as kept:
        keep = kept.keeper("first", *trained(1))
        for step in range(1000):
            clock[0] += 2
            keep(LoopState(step, torch.tensor(0.0), ()))
        before = len(saves)
        keep(LoopState(1000, torch.tensor(0.0), ()), now=True)
    least = max(30.0, cost * (1 / 0.03 - 1))
    between = [late - early - cost for early, late in zip(saves[:before], saves[1:before], strict=False)]
    assert len(between) > 5 and all(least - 1e-6 <= seconds <= least + 2 + 1e-6 for seconds in between)
    assert (before - 1) * cost <= 0.03 * clock[0] and len(saves) == before + 1


def test_keys_come_and_go_and_the_weights_of_each_are_kept(tmp_path: Path) -> None:
    def start(weights: dict[str, str], done: str = "") -> list[str]:
        with pytest.raises(KeyboardInterrupt), Journal(tmp_path, {"lr": 0.1}, weights=weights) as kept:
            if done:
                kept.finish(done, {})
            found = [key for key in ("own", "published", "untrained") if kept.result(key) is not None]
            raise KeyboardInterrupt
        return found

    start({"own": "1", "published": "2"}, "published")
    assert start({"own": "1"}, "own") == ["own", "published"]
    assert start({"own": "1", "untrained": "3"}, "untrained") == ["own", "published", "untrained"]
    assert start({"own": "1", "published": "2", "untrained": "3"}) == ["own", "published", "untrained"]
    for other in ({"own": "1", "published": "9"}, {"own": "1", "untrained": "9"}, {"own": "9"}, {"new": "1"}):
        with pytest.raises(UserError, match="holds an unfinished training with weights .*, not .*: repeat its command"):
            Journal(tmp_path, {"lr": 0.1}, weights=other)


def test_without_a_folder_nothing_is_kept(tmp_path: Path) -> None:
    with Journal(None, {}) as kept:
        kept.finish("first", {"top1": 0.5})
        assert kept.result("first") == {"top1": 0.5} and not kept.begun


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with Journal(tmp_path, {}), pytest.raises(lock.Locked, match="is in use by process"):
        Journal(tmp_path, {})
    Journal(tmp_path, {}).__exit__(None, None, None)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file cannot be written"):
        Journal(tmp_path / "file", {})


def test_the_generator_kept_is_that_of_the_device_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that of the current GPU, the first unless told otherwise; none of a GPU when the work runs without it."""
    monkeypatch.setattr(journal, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(journal, "SAVING", 1.0)
    asked: list[tuple[str, torch.device | None]] = []
    state = torch.arange(16, dtype=torch.uint8)

    def saved(device: torch.device | None = None) -> torch.Tensor:
        asked.append(("get", device))
        return state

    def restored(value: torch.Tensor, device: torch.device | None = None) -> None:
        assert torch.equal(value, state)
        asked.append(("set", device))

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", saved)
    monkeypatch.setattr(torch.cuda, "set_rng_state", restored)
    for place in ("cuda:1", "cpu"):
        with pytest.raises(KeyboardInterrupt), Journal(tmp_path / place, {}, device=place) as kept:
            kept.keeper("a", *trained(1))(LoopState(1, torch.tensor(0.0), ()))
            raise KeyboardInterrupt
        with Journal(tmp_path / place, {}, device=place) as resumed:
            assert resumed.resume("a", *trained(1)) is not None
    assert asked == [("get", torch.device("cuda:1")), ("set", torch.device("cuda:1"))]
