"""The momentum target: its parameters follow, its statistics are its own, and no gradient passes."""

import torch
from torch import nn

from contrastkit.parts.target import Target


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_it_starts_as_a_copy_and_follows_slowly() -> None:
    online = net()
    target = Target(online)
    before = [p.detach().clone() for p in target.parameters()]
    with torch.no_grad():
        for p in online.parameters():
            p.add_(torch.randn_like(p))
    assert all(torch.equal(a, b) for a, b in zip(target.parameters(), before, strict=True))
    moved = [p.detach().clone() for p in online.parameters()]
    target.update(online, 0.9)
    for now, old, new in zip(target.parameters(), before, moved, strict=True):
        torch.testing.assert_close(now, 0.9 * old + 0.1 * new)
    assert all(torch.equal(p, q) for p, q in zip(online.parameters(), moved, strict=True))


def test_statistics_are_not_averaged_but_seen() -> None:
    online = net()
    target = Target(online)
    online(torch.randn(8, 3) + 5)
    target.update(online, 0.0)
    assert not target.tower[1].running_mean.any()
    target(torch.randn(8, 3) + 5)
    assert target.tower[1].running_mean.any()


def test_it_has_no_gradient() -> None:
    online = net()
    target = Target(online)
    x = torch.randn(8, 3, requires_grad=True)
    assert not target(x).requires_grad
    assert not any(p.requires_grad for p in target.parameters()) and all(p.requires_grad for p in online.parameters())
