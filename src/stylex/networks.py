"""The three networks of method.md section 2: generator, encoder, projected discriminator.

The generator has three named stops, `mapping: z -> w`, `style: [w ; p] -> s`, `synthesis: s -> x`.
Nobody reaches inside a layer: whoever holds a style vector can change an image.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylex.draws import Draw
from stylex.ops import SQRT2, EqualConv, EqualLinear, ModulatedConv, minibatch_std, upsample
from stylex.shapes import Images, Latents, Logits, Probabilities, Styles
from stylex.stylespace import Layout

# resolution -> (channels x side, most channels): what the one dial decides.
# 256 px at width 1 is StyleGAN2's config-f; the small ones are sized for two CPU cores.
CHANNELS = {32: (1024, 128), 64: (1536, 128), 128: (8192, 256), 256: (32768, 512)}


def channels_at(side: int, *, resolution: int, width: float = 1.0) -> int:
    """Channels of the layers that draw at `side` pixels."""
    product, most = CHANNELS[resolution]
    return max(8, int(width * min(most, product // side)))


def latent_size(resolution: int) -> int:
    """Length of z and w."""
    return 256 if resolution <= 64 else 512


def sides(resolution: int) -> list[int]:
    """4, 8, ... up to the resolution."""
    return [2**power for power in range(2, resolution.bit_length())]


class Mapping(nn.Module):
    """z -> w: fully connected layers at a hundredth of the rate, with a running mean of w."""

    def __init__(self, latent: int, *, depth: int = 8):
        super().__init__()
        self.layers = nn.Sequential(
            *(EqualLinear(latent, latent, lr_multiplier=0.01, activate=True) for _ in range(depth))
        )
        self.mean_w: Tensor
        self.register_buffer("mean_w", torch.zeros(latent))

    def forward(self, z: Latents) -> Latents:
        """Normalise z to unit second moment and map it."""
        return self.layers(z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt())


class StyledConv(nn.Module):
    """Modulated convolution, optional upsampling, noise, bias and activation.

    [O] The convolution runs before the upsampling filter, at a quarter of the cost of the other
    order and the same number of products as StyleGAN2's transposed convolution.
    """

    def __init__(self, inputs: int, outputs: int, side: int, *, up: bool):
        super().__init__()
        self.conv = ModulatedConv(inputs, outputs)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.fixed_noise: Tensor
        self.register_buffer("fixed_noise", torch.randn(1, 1, side, side))
        self.up = up

    def forward(self, x: Tensor, style: Styles, draw: Draw | None) -> Tensor:
        """Draw this layer; without a draw the noise is the fixed one (trap 10)."""
        return self.finish(self.conv(x, style, gain=SQRT2), draw)  # the activation's, see ops

    def finish(self, y: Tensor, draw: Draw | None = None) -> Tensor:
        """After the convolution, in place: upsampling, noise, bias, activation."""
        y = upsample(y) if self.up else y
        noise = self.fixed_noise
        if draw is not None:
            noise = draw.normal(y.shape[0], *noise.shape[1:])
        y = y.add_((noise * (self.noise_strength * SQRT2)).to(y.dtype))
        y = y.add_((self.bias * SQRT2)[:, None, None].to(y.dtype))
        return F.leaky_relu(y, 0.2, inplace=True)


class Drawing(NamedTuple):
    """A half-drawn image: the features and the picture so far (None before the first ToRGB)."""

    features: Tensor
    picture: Tensor | None


class Synthesis(nn.Module):
    """s -> x: a learned 4x4 constant and modulated convolutions with ToRGB skips."""

    def __init__(self, resolution: int, channels: int, *, width: float = 1.0):
        super().__init__()
        widths = [
            channels_at(side, resolution=resolution, width=width) for side in sides(resolution)
        ]
        self.constant = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        self.convs = nn.ModuleList([StyledConv(widths[0], widths[0], 4, up=False)])
        for side, below, here in zip(sides(resolution)[1:], widths, widths[1:], strict=False):
            self.convs.append(StyledConv(below, here, side, up=True))
            self.convs.append(StyledConv(here, here, side, up=False))
        self.to_rgb = nn.ModuleList(
            # [O] a tenth: the picture starts near gray instead of as noise, and learns far sooner
            ModulatedConv(here, channels, kernel=1, demodulate=False, start=0.1)
            for here in widths
        )
        self.rgb_bias = nn.Parameter(torch.zeros(channels))
        inputs = [widths[0]] + [c for pair in itertools.pairwise(widths) for c in pair]
        outputs_at = [4] + [side for side in sides(resolution)[1:] for _ in range(2)]
        self.layout = Layout(tuple(inputs), tuple(outputs_at), tuple(widths))

    def forward(self, styles: Styles, draw: Draw | None = None) -> Images:
        """Draw styles `[n, layout.size]`; noise is fixed unless there is a draw."""
        drawing = self.start(len(styles))
        for layer in range(len(self.convs)):
            drawing = self.draw(layer, drawing, styles, draw)
        return self.finish(drawing)

    def start(self, n: int) -> Drawing:
        """The state before the first layer."""
        constant = self.constant.expand(n, -1, -1, -1)
        return Drawing(constant.contiguous(memory_format=torch.channels_last), None)

    def draw(
        self,
        layer: int,
        drawing: Drawing,
        styles: Styles,
        draw: Draw | None = None,
    ) -> Drawing:
        """One convolution, and after each even one the ToRGB layer of its resolution."""
        style = self.layout.split(styles)[0][layer]
        x = self.convs[layer](drawing.features, style, draw)
        return self.join(layer, x, drawing.picture, styles)

    def join(self, layer: int, x: Tensor, picture: Tensor | None, styles: Styles) -> Drawing:
        """A layer's features, and the picture, which after each even layer its ToRGB joins."""
        if layer % 2:
            return Drawing(x, picture)
        drawn = self.to_rgb[layer // 2](x, self.layout.split(styles)[1][layer // 2])
        return Drawing(x, drawn if picture is None else drawn + upsample(picture))

    def finish(self, drawing: Drawing) -> Images:
        """The finished picture in fp32; not clamped, so that training keeps its gradient."""
        assert drawing.picture is not None
        return drawing.picture.float() + self.rgb_bias[:, None, None]

    def stages(self, styles: Styles) -> Iterator[Drawing]:
        """The state before each layer, for whoever draws the rest again and again."""
        drawing = self.start(len(styles))
        for layer in range(len(self.convs)):
            yield drawing
            drawing = self.draw(layer, drawing, styles)


class Generator(nn.Module):
    """Mapping, style and synthesis.

    All affines are one matrix over `[w ; p]`, p probabilities (method.md 2), so the p columns of a
    coordinate can be read off.
    """

    def __init__(self, resolution: int, channels: int, classes: int, *, width: float = 1.0):
        super().__init__()
        self.latent = latent_size(resolution)
        self.mapping = Mapping(self.latent)
        self.synthesis = Synthesis(resolution, channels, width=width)
        self.layout = self.synthesis.layout
        self.affine = EqualLinear(self.latent + classes, self.layout.size, bias=1.0)
        layers = [layer for layer, n in enumerate(self.layout.widths) for _ in range(n)]
        layers += [2 * block for block, n in enumerate(self.layout.rgb_widths) for _ in range(n)]
        self.layer_of: Tensor
        self.register_buffer("layer_of", torch.tensor(layers), persistent=False)

    def still_rgb(self) -> None:
        """From now on ToRGB has the same styles for all images [O].

        AttFind does not search them (method.md 2): what they carry of an image cannot be found.
        """
        searched = self.layout.searched
        self.affine.weight.data[searched:] = 0
        self.affine.weight.register_hook(lambda g: torch.cat([g[:searched], 0 * g[searched:]]))

    def style(self, w: Latents, p: Probabilities) -> Styles:
        """[w ; p] -> s, in fp32."""
        with torch.autocast(w.device.type, enabled=False):
            return self.affine(torch.cat([w.float(), p.float()], dim=1))

    def mixed_style(self, first: Latents, second: Latents, p: Probabilities, cut: Tensor) -> Styles:
        """Styles of `first` before layer `cut` `[n]` and of `second` from there on (StyleGAN)."""
        before = self.layer_of[None, :] < cut[:, None]
        return torch.where(before, self.style(first, p), self.style(second, p))


class Trunk(nn.Module):
    """StyleGAN2's residual discriminator from the image down to 4x4."""

    def __init__(self, resolution: int, channels: int, *, width: float = 1.0):
        super().__init__()
        down = sides(resolution)[::-1]
        widths = [channels_at(side, resolution=resolution, width=width) for side in down]
        self.from_rgb = EqualConv(channels, widths[0], 1)
        self.blocks = nn.ModuleList(
            Residual(above, below) for above, below in itertools.pairwise(widths)
        )
        self.outputs = widths[-1]

    def forward(self, images: Images) -> Tensor:
        """Images -> features `[n, outputs, 4, 4]`."""
        x = self.from_rgb(images.contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            x = block(x)
        return x


class Residual(nn.Module):
    """Two convolutions, the second at half the side, beside a 1x1 skip."""

    def __init__(self, above: int, below: int):
        super().__init__()
        self.first = EqualConv(above, above, 3)
        self.second = EqualConv(above, below, 3, down=True)
        self.skip = EqualConv(above, below, 1, down=True, activate=False)

    def forward(self, x: Tensor) -> Tensor:
        """Halve the side."""
        return (self.second(self.first(x)) + self.skip(x)) * 0.5**0.5


class Encoder(nn.Module):
    """x -> w: the discriminator's trunk without minibatch deviation; sees the image only."""

    def __init__(self, resolution: int, channels: int, *, width: float = 1.0):
        super().__init__()
        self.trunk = Trunk(resolution, channels, width=width)
        self.last = EqualConv(self.trunk.outputs, self.trunk.outputs, 3)
        self.dense = EqualLinear(self.trunk.outputs * 16, 2 * self.trunk.outputs, activate=True)
        self.to_w = EqualLinear(2 * self.trunk.outputs, latent_size(resolution))

    def forward(self, images: Images) -> Latents:
        """One w for all layers (W, not W+)."""
        x = self.last(self.trunk(images)).flatten(1)
        return self.to_w(self.dense(x)).float()


class Discriminator(nn.Module):
    """K outputs, projected: score = sum_k D_k(x) p_k (method.md 2, notebook and authors)."""

    def __init__(self, resolution: int, channels: int, classes: int, *, width: float = 1.0):
        super().__init__()
        self.trunk = Trunk(resolution, channels, width=width)
        self.last = EqualConv(self.trunk.outputs + 1, self.trunk.outputs, 3)
        self.dense = EqualLinear(self.trunk.outputs * 16, self.trunk.outputs, activate=True)
        self.to_k = EqualLinear(self.trunk.outputs, classes)

    def forward(self, images: Images, p: Probabilities, *, group: int = 4) -> Tensor:
        """Realness logits `[n]` of images under their probabilities.

        Images of one group are compared with each other; with groups of 1 each is judged alone.
        """
        x = self.last(minibatch_std(self.trunk(images), group=group)).flatten(1)
        outputs: Logits = self.to_k(self.dense(x)).float()
        return (outputs * p).sum(1)
