"""The building blocks of StyleGAN2 against their textbook forms, and their second derivatives."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stylex.ops import (
    EqualConv,
    EqualLinear,
    ModulatedConv,
    downsample,
    minibatch_std,
    upsample,
)

FIR = torch.tensor([1.0, 3.0, 3.0, 1.0])


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Unit normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def set_noise(*parameters: Tensor) -> None:
    """Give parameters values that no initialisation would make easy."""
    for seed, parameter in enumerate(parameters):
        parameter.data = noise(*parameter.shape, seed=seed)


def grouped(conv: ModulatedConv, x: Tensor, style: Tensor) -> Tensor:
    """StyleGAN2's equations 1 to 3: one convolution kernel per image, one group per image."""
    n, inputs, h, w = x.shape
    weight = conv.weight[None] * conv.scale * style[:, None, :, None, None]  # [n, o, i, k, k]
    if conv.demodulate:
        weight = weight / (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
    kernel = weight.shape[-1]
    y = F.conv2d(
        x.reshape(1, n * inputs, h, w),
        weight.reshape(-1, inputs, kernel, kernel),
        padding=kernel // 2,
        groups=n,
    )
    return y.reshape(n, -1, h, w)


def squared_gradient(function, x: Tensor, *also: Tensor) -> tuple[Tensor, ...]:
    """Gradients of |dy/dx|^2: what R1 and path length ask of an operation."""
    x = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(function(x).square().sum(), x, create_graph=True)
    return torch.autograd.grad(first.square().sum(), [x, *also])


@pytest.mark.parametrize(("kernel", "demodulate"), [(3, True), (3, False), (1, False)])
@pytest.mark.parametrize("gain", [1.0, math.sqrt(2)])
def test_modulated_conv_is_a_convolution_per_image(kernel, demodulate, gain):
    """Scaling the channels before and after equals per-sample weights, demodulation included."""
    conv = ModulatedConv(5, 7, kernel=kernel, demodulate=demodulate)
    x, style = noise(3, 5, 6, 6), 1 + 2 * noise(3, 5, seed=1)
    torch.testing.assert_close(
        conv(x, style, gain=gain), gain * grouped(conv, x, style), atol=1e-5, rtol=1e-4
    )


def test_a_settled_conv_draws_the_same_bits_without_asking_its_kernels():
    """What depends on finished weights alone is computed once."""
    conv, x, style = ModulatedConv(5, 7), noise(3, 5, 6, 6), noise(3, 5, seed=1)
    before = conv(x, style)
    conv.settle()
    conv.energy = lambda: pytest.fail("asked again")
    assert torch.equal(conv(x, style), before)


def test_demodulation_gives_unit_variance_whatever_the_style():
    """Unit normal input comes out with unit variance, however large the style is."""
    conv = ModulatedConv(16, 8)
    style = torch.stack([torch.full((16,), 100.0), 0.01 + noise(16).abs()])
    y = conv(noise(2, 16, 64, 64, seed=1), style)[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(y.var((2, 3)), torch.ones(2, 8), atol=0.15, rtol=0)


def test_modulated_conv_has_the_second_derivatives_of_the_plain_form():
    """By image, style and weight: path length goes through all of them."""
    conv, x = ModulatedConv(4, 3), noise(2, 4, 5, 5)
    style = (1 + noise(2, 4, seed=1)).requires_grad_()
    ours = squared_gradient(lambda x: conv(x, style), x, style, conv.weight)
    plain = squared_gradient(lambda x: grouped(conv, x, style), x, style, conv.weight)
    for mine, theirs in zip(ours, plain, strict=True):
        assert theirs.abs().max() > 0.1
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("lr_multiplier", [1.0, 0.01])
def test_equal_linear_by_the_textbook(lr_multiplier):
    """leaky_relu(x W / sqrt(i) + b) * sqrt(2), weight and bias at the layer's own rate."""
    layer = EqualLinear(6, 4, lr_multiplier=lr_multiplier, activate=True)
    set_noise(layer.weight, layer.bias)
    x = noise(3, 6, seed=9)
    y = x @ layer.weight.T * lr_multiplier / math.sqrt(6) + layer.bias * lr_multiplier
    torch.testing.assert_close(layer(x), F.leaky_relu(y, 0.2) * math.sqrt(2))
    layer.activate = False
    torch.testing.assert_close(layer(x), y)


def test_equal_linear_starts_at_its_bias_and_with_unit_gain():
    """The rate changes how fast a layer learns, not what it starts as."""
    x = noise(2000, 64)
    for rate in (1.0, 0.01):
        torch.manual_seed(0)
        layer = EqualLinear(64, 32, lr_multiplier=rate, bias=1.0)
        y = layer(x).detach()
        torch.testing.assert_close(layer(torch.zeros(1, 64)), torch.ones(1, 32))
        assert y.std(0).mean().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("kernel", [1, 3])
def test_equal_conv_by_the_textbook(kernel, down):
    """leaky_relu(conv(x) + b) * sqrt(2), after the filter where the side is halved."""
    conv = EqualConv(3, 5, kernel, down=down)
    set_noise(conv.weight, conv.bias)
    x = noise(2, 3, 8, 8, seed=9)
    inside = downsample(x) if down else x
    weight = conv.weight / math.sqrt(3 * kernel * kernel)
    y = F.conv2d(inside, weight, conv.bias, padding=kernel // 2)
    torch.testing.assert_close(conv(x), F.leaky_relu(y, 0.2) * math.sqrt(2))
    assert conv(x).shape[-1] == (4 if down else 8)


def test_equal_conv_without_activation_is_linear():
    """The skip of a residual block has neither bias nor gain."""
    conv = EqualConv(3, 5, 1, activate=False)
    x = noise(2, 3, 4, 4)
    assert conv.bias is None
    torch.testing.assert_close(conv(x), F.conv2d(x, conv.weight / math.sqrt(3)))


def test_upsample_is_the_fir_filter_inside():
    """Zeros between the pixels, then [1, 3, 3, 1] x [1, 3, 3, 1] with gain 4."""
    x = noise(2, 3, 6, 6)
    spread = torch.zeros(2, 3, 12, 12)
    spread[:, :, ::2, ::2] = x
    kernel = (FIR[:, None] * FIR / 64 * 4).expand(3, 1, 4, 4)
    filtered = F.conv2d(F.pad(spread, (2, 1, 2, 1)), kernel, groups=3)
    torch.testing.assert_close(upsample(x)[:, :, 1:-1, 1:-1], filtered[:, :, 1:-1, 1:-1])


def test_downsample_is_the_fir_filter_with_zeros_outside():
    """Each output pixel by hand: 16 pixels around the corner of four."""
    x = noise(1, 2, 6, 6)
    padded, line = F.pad(x, (1, 1, 1, 1)), FIR / 8
    expected = torch.empty(1, 2, 3, 3)
    for row in range(3):
        for column in range(3):
            window = padded[0, :, 2 * row : 2 * row + 4, 2 * column : 2 * column + 4]
            expected[0, :, row, column] = torch.einsum("cyx,y,x->c", window, line, line)
    torch.testing.assert_close(downsample(x), expected)


@given(value=st.floats(-1, 1), side=st.sampled_from([4, 8, 16]))
def test_resampling_keeps_a_constant(value, side):
    """No brightness is made or lost: upwards everywhere, downwards inside."""
    x = torch.full((1, 1, side, side), value)
    torch.testing.assert_close(upsample(x), torch.full((1, 1, 2 * side, 2 * side), value))
    inside = downsample(x)[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(inside, torch.full_like(inside, value))


def test_minibatch_std_by_hand():
    """Six images make groups of three, every second image in one: (0, 2, 4) and (1, 3, 5)."""
    x = torch.zeros(6, 2, 2, 2)
    x[4, 0] = 3.0  # deviation of (0, 0, 3) is sqrt(2), in one of two channels
    out = minibatch_std(x)
    assert out.shape == (6, 3, 2, 2)
    assert torch.equal(out[:, :2], x)
    expected = torch.tensor([math.sqrt(2) / 2, 0.0] * 3)[:, None, None].expand(6, 2, 2)
    torch.testing.assert_close(out[:, 2], expected, atol=2e-4, rtol=0)


@pytest.mark.parametrize(("n", "size"), [(1, 1), (2, 2), (4, 4), (5, 1), (8, 4), (6, 3)])
def test_minibatch_std_groups_by_the_largest_divisor(n, size):
    """Two equal halves of a batch differ within a group only where the group is larger than one."""
    x = torch.arange(n).float()[:, None, None, None].expand(n, 1, 4, 4)
    members = torch.arange(n).reshape(size, n // size).float()
    expected = (members.var(0, unbiased=False) + 1e-8).sqrt().repeat(size)
    torch.testing.assert_close(minibatch_std(x)[:, 1, 0, 0], expected)


def test_second_derivatives_of_the_discriminators_parts():
    """R1 differentiates these twice: autograd against finite differences, in double precision."""
    x = noise(2, 2, 4, 4).double().requires_grad_()
    for operation in (EqualConv(2, 3, 3, down=True).double(), downsample, upsample):
        assert torch.autograd.gradgradcheck(operation, x)
    linear = EqualLinear(5, 4, activate=True).double()
    assert torch.autograd.gradgradcheck(linear, noise(3, 5).double().requires_grad_())


def test_second_derivative_of_the_minibatch_deviation():
    """Against the same formula written plainly for one group."""

    def plain(x: Tensor) -> Tensor:
        mean = x.mean(0, keepdim=True)
        deviation = ((x - mean).square().mean(0) + 1e-8).sqrt().mean()
        return torch.cat([x, deviation.expand(4, 1, 3, 3)], 1)

    x = noise(4, 2, 3, 3)
    (ours,), (theirs,) = squared_gradient(minibatch_std, x), squared_gradient(plain, x)
    assert (theirs - 8 * x).abs().max() > 1e-3  # the deviation's own part is seen
    torch.testing.assert_close(ours, theirs)
