"""The operations a StyleGAN2 is made of. Pure PyTorch: no extension, differentiable twice."""

import math
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

# StyleGAN multiplies by sqrt(2) after each leaky ReLU to keep the variance. The function is
# positively homogeneous, so the gain goes into weights and biases, which are far smaller.
SQRT2 = math.sqrt(2)
EPS = 1e-8  # under the root of a demodulation


class EqualLinear(nn.Module):
    """A linear layer whose weight is scaled at run time (equalised learning rate, StyleGAN).

    Args:
        lr_multiplier: rate of this layer relative to the optimiser's.
        bias: initial value of the bias.
        activate: leaky ReLU of slope 0.2 with gain sqrt(2) after the layer.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        lr_multiplier: float = 1.0,
        bias: float = 0.0,
        activate: bool = False,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((outputs,), bias / lr_multiplier))
        self.scale = lr_multiplier / math.sqrt(inputs)
        self.lr_multiplier = lr_multiplier
        self.activate = activate

    def forward(self, x: Float[Tensor, "n i"]) -> Float[Tensor, "n o"]:
        """Apply the layer."""
        gain = SQRT2 if self.activate else 1.0
        bias = self.bias * (self.lr_multiplier * gain)
        # not the weight, which is far larger than a batch
        y = F.linear(x * (self.scale * gain), self.weight, bias)
        return F.leaky_relu(y, 0.2) if self.activate else y


class EqualConv(nn.Module):
    """A convolution with equalised learning rate, same padding; `down` halves the side first."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, down: bool = False, activate: bool = True
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if activate else None
        self.scale = 1 / math.sqrt(inputs * kernel * kernel)
        self.down = down

    def forward(self, x: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o a b"]:
        """Apply the layer."""
        if self.down:
            x = downsample(x)
        padding = self.weight.shape[-1] // 2
        if self.bias is None:
            return F.conv2d(x, self.weight * self.scale, padding=padding)
        y = F.conv2d(x, self.weight * (self.scale * SQRT2), self.bias * SQRT2, padding=padding)
        return F.leaky_relu(y, 0.2)


class ModulatedConv(nn.Module):
    """3x3 convolution modulated and demodulated by a style, without per-sample weights.

    Scaling the input channels, convolving and scaling the output channels equals convolving with
    per-sample weights (StyleGAN2, section 2.2), and keeps one dense convolution for the batch.
    `start` scales the first weights.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 3,
        demodulate: bool = True,
        start: float = 1.0,
    ):
        super().__init__()
        self.weight = nn.Parameter(start * torch.randn(outputs, inputs, kernel, kernel))
        self.scale = 1 / math.sqrt(inputs * kernel * kernel)
        self.demodulate = demodulate
        self.settled: Tensor | None = None  # the energies, once the weights are finished

    def forward(
        self, x: Float[Tensor, "n i h w"], style: Float[Tensor, "n i"], *, gain: float = 1.0
    ) -> Float[Tensor, "n o h w"]:
        """Apply the layer; `style` scales the input channels, `gain` the output."""
        scale = self.scale if self.demodulate else self.scale * gain
        y = F.conv2d(
            x * (style * scale)[:, :, None, None].to(x.dtype),
            self.weight,
            padding=self.weight.shape[-1] // 2,
        )
        if not self.demodulate:
            return y
        return y * (self.demodulation(style) * gain)[:, :, None, None].to(y.dtype)

    def demodulation(self, style: Float[Tensor, "n i"]) -> Float[Tensor, "n o"]:
        """Factor that brings every output channel back to unit expected variance, in fp32."""
        with torch.autocast(style.device.type, enabled=False):
            energy = self.energy() if self.settled is None else self.settled
            return (style.float().square() @ energy.T + EPS).rsqrt()

    def energy(self) -> Float[Tensor, "o i"]:
        """Sum of squares of every kernel."""
        return (self.weight.float() * self.scale).square().sum((2, 3))

    @torch.no_grad()
    def settle(self) -> None:
        """Keep the energies: nobody will train or move the weights any more."""
        self.settled = self.energy()


def upsample(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c a b"]:
    """Twice the side through the [1, 3, 3, 1] filter (method.md 2).

    Bilinear interpolation with half-pixel centres *is* that filter; only the outermost pixel
    differs, where it repeats the edge instead of adding zeros.
    """
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def downsample(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c a b"]:
    """Half the side through the [1, 3, 3, 1] filter (method.md 2), zeros outside.

    In fp32 whatever comes: the backward of a depthwise convolution in bf16 takes 20 to 100 times
    as long on a CPU, more than all the rest of a step.
    """
    with torch.autocast(x.device.type, enabled=False):
        wide = x.float() if x.dtype == torch.bfloat16 else x
        kernel = _filter(x.device, wide.dtype).expand(x.shape[1], 1, 4, 4)
        return F.conv2d(wide, kernel, stride=2, padding=1, groups=x.shape[1]).to(x.dtype)


@cache
def _filter(device: torch.device, dtype: torch.dtype) -> Float[Tensor, "4 4"]:
    with torch.inference_mode(False):  # whoever asks first may not want gradients
        line = torch.tensor([1.0, 3.0, 3.0, 1.0], device=device, dtype=dtype) / 8
        return line[:, None] * line


def minibatch_std(x: Float[Tensor, "n c h w"], *, group: int = 4) -> Float[Tensor, "n d h w"]:
    """Append one channel: the mean deviation within groups of images (StyleGAN2's discriminator).

    Images i, i + n / size, i + 2n / size ... are a group: of n images that processes share as
    `draws` says, each holds whole groups where their number is a multiple of the processes'.
    """
    n, _, h, w = x.shape
    size = group_size(n, group)
    groups = x.float().reshape(size, n // size, -1)
    variance = (groups - groups.mean(0)).square().mean(0)  # var() of few rows is far slower
    deviation = (variance + 1e-8).sqrt().mean(1)  # [n / size]
    channel = deviation.repeat(size).to(x.dtype)[:, None, None, None].expand(n, 1, h, w)
    return torch.cat([x, channel], dim=1)


def group_size(n: int, most: int = 4) -> int:
    """The largest divisor of n up to `most`."""
    return max(size for size in range(1, most + 1) if n % size == 0)
