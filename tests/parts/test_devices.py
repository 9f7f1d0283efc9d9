"""What methods are made of computes on the GPU what it computes on the CPU in float64."""

import copy

import pytest
import torch
import torch.nn.functional as F

from contrastkit.parts.build import build_encoder
from contrastkit.parts.dictionary import MemoryBank, Queue
from contrastkit.parts.norm import split_batch_norm
from contrastkit.parts.target import Target


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch.manual_seed(0)
    return request.param


@pytest.mark.parametrize("groups", [1, 4])
def test_an_encoder_its_gradient_and_its_statistics(device: str, groups: int) -> None:
    wide = split_batch_norm(build_encoder("tiny", channels=3, size=16), groups).double().train()
    narrow = copy.deepcopy(wide).float().to(device)
    images = torch.rand(16, 3, 16, 16, dtype=torch.float64)
    features = wide(images), narrow(images.float().to(device))
    torch.testing.assert_close(features[1].cpu().double(), features[0], rtol=1e-4, atol=1e-4)
    for x in features:
        x.square().sum().backward()
    for (name, a), b in zip(wide.named_parameters(), narrow.parameters(), strict=True):
        error = (b.grad.cpu().double() - a.grad).norm() / a.grad.norm()
        assert error < 1e-3, name
    for exact, single in zip(wide.buffers(), narrow.buffers(), strict=True):
        torch.testing.assert_close(single.cpu().double(), exact.double(), rtol=1e-4, atol=1e-5)


def test_a_target_follows(device: str) -> None:
    online = build_encoder("tiny", channels=3, size=16).to(device)
    target = Target(online)
    before = [p.detach().cpu().double() for p in target.tower.parameters()]
    with torch.no_grad():
        for p in online.parameters():
            p.add_(torch.randn_like(p))
    target.update(online, 0.9)
    for old, new, now in zip(before, online.parameters(), target.tower.parameters(), strict=True):
        expected = 0.9 * old + 0.1 * new.detach().cpu().double()
        torch.testing.assert_close(now.cpu().double(), expected, rtol=1e-5, atol=1e-6)


def test_a_queue_keeps_the_newest_keys(device: str) -> None:
    queue = Queue(7, 4, torch.Generator().manual_seed(0), counted=True).to(device)
    keys = F.normalize(torch.rand(9, 4), dim=1)
    assert not queue.full
    for start in (0, 3, 6):
        queue.push(keys[start : start + 3].to(device))
    assert queue.full and queue.pointer.item() == 2
    torch.testing.assert_close(queue.keys.cpu(), keys[[7, 8, 2, 3, 4, 5, 6]])


def test_a_bank_draws_and_moves_the_same_rows(device: str) -> None:
    here = MemoryBank(50, 8, generator=torch.Generator().manual_seed(0))
    there = copy.deepcopy(here).to(device)
    index, x = torch.tensor([3, 7, 49]), F.normalize(torch.rand(3, 8), dim=1)
    drawn = there.draw(index.to(device), 20, seed=0, progress=0.5)
    assert drawn.device.type == device and torch.equal(drawn.cpu(), here.draw(index, 20, seed=0, progress=0.5))
    there.update(index.to(device), x.to(device), m=0.5)
    expected = here.rows.clone()
    expected[index] = F.normalize(0.5 * here.rows[index] + 0.5 * x, dim=1)
    torch.testing.assert_close(there.rows.cpu(), expected)
