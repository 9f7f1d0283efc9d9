"""Split batch norm against one ordinary batch norm for each part."""

import copy

import pytest
import torch
from torch import nn

from contrastkit.errors import UserError
from contrastkit.parts.norm import SplitBatchNorm2d, split_batch_norm


def pair(groups: int) -> tuple[nn.Module, list[nn.BatchNorm2d]]:
    torch.manual_seed(0)
    plain = nn.BatchNorm2d(5).double()
    nn.init.normal_(plain.weight)
    nn.init.normal_(plain.bias)
    parts = [copy.deepcopy(plain) for _ in range(groups)]
    return split_batch_norm(nn.Sequential(plain), groups)[0].double(), parts


@pytest.mark.parametrize("groups", [2, 3, 6])
def test_each_part_is_normalised_alone(groups: int) -> None:
    split, parts = pair(groups)
    assert isinstance(split, SplitBatchNorm2d)
    x = torch.randn(6 * groups, 5, 4, 3, dtype=torch.float64, requires_grad=True)
    cotangent = torch.randn_like(x)
    for _ in range(2):
        y = split(x)
        expected = torch.cat([bn(part) for bn, part in zip(parts, x.chunk(groups), strict=True)])
    torch.testing.assert_close(y, expected)
    (got,) = torch.autograd.grad(y, x, cotangent, retain_graph=True)
    (wanted,) = torch.autograd.grad(expected, x, cotangent)
    torch.testing.assert_close(got, wanted)
    mean = torch.stack([bn.running_mean for bn in parts]).mean(0)
    var = torch.stack([bn.running_var for bn in parts]).mean(0)
    torch.testing.assert_close(split.running_mean, mean)
    torch.testing.assert_close(split.running_var, var)
    assert split.num_batches_tracked.item() == 2


def test_in_eval_mode_it_is_ordinary_batch_norm() -> None:
    split, parts = pair(2)
    x = torch.randn(7, 5, 2, 2, dtype=torch.float64)
    torch.testing.assert_close(split.eval()(x), parts[0].eval()(x))


def test_a_batch_that_does_not_split_is_refused() -> None:
    split, _ = pair(3)
    with pytest.raises(UserError, match="does not split into 3"):
        split(torch.randn(7, 5, 2, 2, dtype=torch.float64))


def test_all_batch_norms_are_replaced_and_weights_keep_their_names() -> None:
    from contrastkit.parts.encoder import build_encoder

    plain = build_encoder("tiny", channels=3, size=32)
    keys = set(plain.state_dict())
    split = split_batch_norm(copy.deepcopy(plain), 4)
    assert set(split.state_dict()) == keys
    assert not any(type(m) is nn.BatchNorm2d for m in split.modules())
    assert sum(isinstance(m, SplitBatchNorm2d) for m in split.modules()) == sum(
        isinstance(m, nn.BatchNorm2d) for m in plain.modules()
    )
