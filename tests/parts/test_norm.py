"""Split batch norm against one ordinary batch norm for each part; group norm's convolutions against loops."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from contrastkit import dist
from contrastkit.errors import UserError
from contrastkit.methods import RECIPES, BuildContext
from contrastkit.parts.build import build_encoder
from contrastkit.parts.norm import (
    SplitBatchNorm2d,
    WSConv2d,
    WSLinear,
    group_norm,
    groups_of,
    layer_norm,
    split_batch_norm,
    sync_batch_norm,
)
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
    dx, *of_parts = torch.autograd.grad(expected, [x, *(p for bn in parts for p in bn.parameters())], cotangent)
    torch.testing.assert_close(got, (dx, sum(of_parts[::2]), sum(of_parts[1::2])))  # the parts share weight and bias
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
    row: Any = RECIPES["moco-v2/imagenet"]
    recipe = replace(row, encoder="timm:efficientnet_b0", batch=8, K=32, bn_groups=4)
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
    (shared,) = group_norm(nn.Sequential(conv)).children()
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
    (shared,) = group_norm(nn.Sequential(nn.Conv2d(3, 4, 1, bias=False))).children()
    assert shared.bias is None and list(shared.state_dict()) == ["weight"]


def test_the_weights_of_a_linear_layer_are_standardised_for_each_output() -> None:
    """Against loops in float64, the gradient too; then group norm over groups of features."""
    torch.manual_seed(0)
    linear = WSLinear(6, 4)
    with torch.no_grad():
        linear.weight.add_(0.7)
    x = torch.randn(3, 6)
    truth = linear.weight.detach().double().clone().requires_grad_()
    rows = []
    for o in range(4):
        mean = sum(truth[o, i] for i in range(6)) / 6
        variance = sum((truth[o, i] - mean) ** 2 for i in range(6)) / 6
        rows.append(torch.stack([(truth[o, i] - mean) / (variance + 1e-5) ** 0.5 for i in range(6)]))
    expected = x.double() @ torch.stack(rows).T + linear.bias.double()
    y = linear(x)
    torch.testing.assert_close(y.double(), expected, atol=1e-5, rtol=1e-5)
    y.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(linear.weight.grad.double(), truth.grad, atol=1e-3, rtol=1e-4)
    features = 3 * torch.randn(2, 32, dtype=torch.float64) + 1
    of_groups = features.view(2, 16, 2)
    centred = of_groups - of_groups.mean(2, keepdim=True)
    expected = (centred / (centred.square().mean(2, keepdim=True) + 1e-5).sqrt()).view(2, 32)
    torch.testing.assert_close(groups_of(32).double()(features), expected)


def test_fewer_groups_where_16_do_not_divide_the_channels() -> None:
    module = nn.Sequential(*(nn.BatchNorm2d(channels) for channels in (64, 24, 10, 7)))
    assert [m.num_groups for m in group_norm(module).children()] == [16, 8, 2, 1]


# ------------------------------------------------------------------------------------------ over processes, over images


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(8, 5), (8, 5, 4, 3)])
def test_synchronised_it_sees_the_batches_of_all_processes(
    two_processes: Callable[[Callable[[int], None]], None], shape: tuple[int, ...], affine: bool
) -> None:
    """Outputs, gradients and statistics are those of ordinary batch norm over the whole batch."""
    g = torch.Generator().manual_seed(0)
    kind = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    plain = kind(5, eps=0.01, momentum=0.3, affine=affine)
    if affine:
        for p in (plain.weight, plain.bias):
            nn.init.normal_(p, generator=g)
    x, cotangent = (torch.randn(shape, generator=g) for _ in range(2))
    x[0] += 7  # the two halves differ
    net = nn.Sequential(copy.deepcopy(plain))

    def work(rank: int) -> None:
        synced = sync_batch_norm(net, 2)
        local = dist.local_shard(x).clone().requires_grad_()
        whole = x.clone().requires_grad_()
        expected = plain(whole)
        actual = synced(local)
        torch.testing.assert_close(actual, dist.local_shard(expected), atol=1e-5, rtol=1e-5)
        (expected * cotangent).sum().backward()
        (actual * dist.local_shard(cotangent)).sum().backward()
        torch.testing.assert_close(local.grad, dist.local_shard(whole.grad), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(synced[0].running_mean, plain.running_mean)
        torch.testing.assert_close(synced[0].running_var, plain.running_var)
        assert synced[0].num_batches_tracked == 1
        torch.testing.assert_close(synced.eval()(local), dist.local_shard(plain.eval()(whole)), atol=1e-5, rtol=1e-5)

    two_processes(work)


def test_synchronising_keeps_what_is_frozen_and_names_what_it_cannot_do() -> None:
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)))
    net[0].bias.requires_grad_(False)
    before = net[0]
    assert sync_batch_norm(net, 1)[0] is before
    synced = sync_batch_norm(net, 2)
    assert synced[0].weight.requires_grad and not synced[0].bias.requires_grad
    assert not isinstance(synced[1][0], nn.BatchNorm2d) and synced[1][0].running_mean is None
    with pytest.raises(UserError, match="a BatchNorm3d cannot see the batches of other processes"):
        sync_batch_norm(nn.Sequential(nn.BatchNorm3d(3)), 2)


def test_layer_norm_is_over_an_images_channels_and_places() -> None:
    norm = layer_norm(nn.Sequential(nn.Sequential(nn.BatchNorm2d(6))))
    x = torch.randn(3, 6, 4, 5) * 3 + 2
    expected = torch.stack([(image - image.mean()) / image.var(correction=0).sqrt() for image in x])
    torch.testing.assert_close(norm(x), expected, atol=1e-4, rtol=1e-4)
