"""Split batch norm against one ordinary batch norm for each part."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from contrastkit.errors import UserError
from contrastkit.methods import RECIPES, BuildContext
from contrastkit.parts.build import build_encoder
from contrastkit.parts.norm import SplitBatchNorm2d, split_batch_norm
from contrastkit.types import Batch


def pair(groups: int) -> tuple[nn.Module, list[nn.BatchNorm2d]]:
    torch.manual_seed(0)
    plain = nn.BatchNorm2d(5, eps=0.01, momentum=0.3)
    for values in (plain.weight, plain.bias, plain.running_mean):
        nn.init.normal_(values)
    nn.init.uniform_(plain.running_var, 0.5, 2)
    parts = [copy.deepcopy(plain).double() for _ in range(groups)]
    return split_batch_norm(nn.Sequential(plain), groups)[0].double(), parts


@pytest.mark.parametrize("groups", [2, 3, 6])
def test_each_part_is_normalised_alone(groups: int) -> None:
    split, parts = pair(groups)
    assert isinstance(split, SplitBatchNorm2d)
    x = torch.randn(6 * groups, 5, 4, 3, dtype=torch.float64, requires_grad=True)
    cotangent = torch.randn_like(x)
    for step in range(2):
        y = split(x + step)
        expected = torch.cat([bn(part + step) for bn, part in zip(parts, x.chunk(groups), strict=True)])
        torch.testing.assert_close(y, expected)
    got = torch.autograd.grad(y, [x, split.weight, split.bias], cotangent)
    wanted, *of_parts = torch.autograd.grad(expected, [x, *(p for bn in parts for p in bn.parameters())], cotangent)
    torch.testing.assert_close(
        got, (wanted, sum(of_parts[::2]), sum(of_parts[1::2]))
    )  # the parts share weight and bias
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
    plain = build_encoder("tiny", channels=3, size=32)
    split = split_batch_norm(copy.deepcopy(plain), 4)
    assert split.state_dict().keys() == plain.state_dict().keys()
    assert not any(type(m) is nn.BatchNorm2d for m in split.modules())
    groups = [m.groups for m in split.modules() if isinstance(m, SplitBatchNorm2d)]
    assert groups == [4] * sum(isinstance(m, nn.BatchNorm2d) for m in plain.modules())


def test_one_group_changes_nothing() -> None:
    plain = nn.Sequential(nn.BatchNorm2d(5))
    before = plain[0]
    assert split_batch_norm(plain, 1) is plain and plain[0] is before


def test_a_batch_norm_that_does_more_cannot_be_split() -> None:
    """timm's EfficientNets have a batch norm with the activation in it."""
    recipe = replace(RECIPES["moco-v2/imagenet"], encoder="timm:efficientnet_b0", batch=8, K=32, bn_groups=4)
    context = BuildContext(channels=3, size=32, images=8)
    with pytest.raises(UserError, match=r"a BatchNormAct2d cannot be split .*--bn-groups 1$"):
        recipe.build(context)
    method = replace(recipe, bn_groups=1).build(context)
    views = torch.rand(2, 8, 3, 32, 32).unbind()
    loss = method(Batch(views, torch.arange(8), torch.full((8,), -1)), 0.0).loss
    assert loss.isfinite()


def test_what_would_go_on_seeing_the_whole_batch_is_refused() -> None:
    for norm in (nn.BatchNorm1d(4), nn.BatchNorm2d(4, track_running_stats=False)):
        with pytest.raises(UserError, match=f"a {type(norm).__name__} cannot be split .* --bn-groups 1"):
            split_batch_norm(nn.Sequential(norm), 2)
        assert split_batch_norm(nn.Sequential(norm), 1)[0] is norm
