"""Split batch norm against one ordinary batch norm for each part; group norm's convolutions against loops."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from contrastkit.errors import UserError
from contrastkit.methods import RECIPES, BuildContext
from contrastkit.parts.build import build_encoder
from contrastkit.parts.norm import SplitBatchNorm2d, WSConv2d, group_norm, split_batch_norm
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


# ------------------------------------------------------------------------------------------------------ group norm


def test_kernels_are_standardised_in_each_output_channel() -> None:
    """Against loops in float64: mean 0 and variance 1 over a channel's inputs and places; the gradient goes through."""
    torch.manual_seed(0)
    conv = WSConv2d(3, 4, 3, stride=2, padding=1, bias=True)
    x = torch.randn(2, 3, 5, 5)
    truth = conv.weight.detach().double().clone().requires_grad_()
    kernels = []
    for o in range(4):
        numbers = [truth[o, i, r, c] for i in range(3) for r in range(3) for c in range(3)]
        mean = sum(numbers) / 27
        variance = sum((n - mean) ** 2 for n in numbers) / 27
        kernels.append(torch.stack([(n - mean) / (variance + 1e-5) ** 0.5 for n in numbers]).view(3, 3, 3))
    expected = nn.functional.conv2d(x.double(), torch.stack(kernels), conv.bias.double(), stride=2, padding=1)
    y = conv(x)
    torch.testing.assert_close(y.double(), expected, atol=1e-5, rtol=1e-5)
    y.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(conv.weight.grad.double(), truth.grad, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_a_standardised_convolution_shares_the_parameters_and_draws_nothing(training: bool) -> None:
    """Of every argument a value that is not the default."""
    conv = nn.Conv2d(
        4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2, bias=True, padding_mode="reflect"
    ).train(training)
    before = torch.get_rng_state()
    (shared,) = group_norm(nn.Sequential(conv))  # type: ignore[misc]
    assert torch.equal(torch.get_rng_state(), before)
    assert type(shared) is WSConv2d and type(conv) is nn.Conv2d
    assert shared.weight is conv.weight and shared.bias is conv.bias and shared.training is training
    assert list(shared.state_dict()) == list(conv.state_dict()) and repr(shared)[2:] == repr(conv)
    x = torch.randn(2, 4, 7, 9)
    y = shared(x)
    with torch.no_grad():
        flat = conv.weight.flatten(1)
        conv.weight.copy_(
            ((flat - flat.mean(1, keepdim=True)) / (flat.var(1, correction=0, keepdim=True) + 1e-5).sqrt()).view_as(
                conv.weight
            )
        )
    torch.testing.assert_close(y, conv(x))


def test_a_convolution_without_bias_stays_so() -> None:
    (shared,) = group_norm(nn.Sequential(nn.Conv2d(3, 4, 1, bias=False)))  # type: ignore[misc]
    assert shared.bias is None and list(shared.state_dict()) == ["weight"]


def test_fewer_groups_where_16_do_not_divide_the_channels() -> None:
    module = nn.Sequential(*(nn.BatchNorm2d(channels) for channels in (64, 24, 10, 7)))
    assert [m.num_groups for m in group_norm(module)] == [16, 8, 2, 1]  # type: ignore[union-attr]
