"""What every move of a style coordinate does to first order: one backward pass for each class.

The change of the touched layer's convolution is taken whole, in closed form (input scale and
demodulation, see `folding`); what the later layers and the classifier make of it is taken as
linear. Its inner products with the gradient are those of a weight gradient: a few passes in place
of thousands.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from stylex.networks import StyledConv, Synthesis
from stylex.ops import EPS, SQRT2
from stylex.shapes import Classify, Styles


class Layer(NamedTuple):
    """A modulated convolution of some images, as it was drawn.

    Args:
        conv: the layer.
        style: `[n, i]`, scales its input channels.
        x, y: `[n, i, h, w]` and `[n, o, h, w]`, its input, and its output before upsampling, noise,
            bias and activation.
    """

    conv: StyledConv
    style: Styles
    x: Tensor
    y: Tensor


@torch.enable_grad()
def predict(
    synthesis: Synthesis,
    classify: Classify,
    styles: Styles,
    goals: Float[Tensor, "n j 2"],
    *,
    targets: list[int],
    energies: list[Tensor],
) -> Float[Tensor, "n j 2 targets"]:
    """Effects of all coordinates of some images.

    Args:
        synthesis: frozen; draws styles with fixed noise.
        classify: logits of images, of each one alone.
        styles: `[n, s]` of the images.
        goals: `[n, searched, 2]` values that each coordinate is moved to.
        targets: classes whose logits are predicted.
        energies: of all layers, see `folding.energies_of`.
    """
    styles = styles.clone()  # a tensor of inference mode bears no gradient
    every, _ = synthesis.layout.split(styles)
    layers, drawing = [], synthesis.start(len(styles))
    for layer, style in enumerate(every):
        conv = synthesis.convs[layer]
        assert isinstance(conv, StyledConv)
        x = drawing.features if layer else drawing.features.requires_grad_()
        y = conv.conv(x, style, gain=SQRT2)
        layers.append(Layer(conv, style, x.detach(), y))
        drawing = synthesis.join(layer, conv.finish(y.clone()), drawing.picture, styles)
    logits = classify(synthesis.finish(drawing).clamp(-1, 1))
    outputs, gradients = [layer.y for layer in layers], []
    for k, target in enumerate(targets):
        again = k + 1 < len(targets)
        rise = logits[:, target].sum()  # images are classified each alone
        gradients.append(torch.autograd.grad(rise, outputs, retain_graph=again))
    by_layer = zip(*gradients, strict=True)
    parts = zip(layers, by_layer, energies, goals.split(synthesis.layout.widths, 1), strict=True)
    told = [first_order(of, torch.stack(g, 1), energy, to) for of, g, energy, to in parts]
    return torch.cat(told, 1)


@torch.no_grad()
def first_order(
    layer: Layer,
    gradients: Float[Tensor, "n t o h w"],
    energy: Float[Tensor, "o i"],
    goals: Float[Tensor, "n i 2"],
) -> Float[Tensor, "n i 2 t"]:
    """Inner products of gradients with the exact change of a layer's convolution, for all moves.

    Args:
        layer: whose coordinates are moved.
        gradients: with respect to its y, one for each of t targets.
        energy: sums of squares of its kernels.
        goals: what each coordinate is moved to.
    """
    conv, style, x, y = layer
    square = style.square() @ energy.T + EPS  # [n, o]
    of_sum = torch.einsum("ntohw,nohw->not", gradients, y) * square.sqrt()[..., None]
    each = channels(conv.conv.weight * (conv.conv.scale * SQRT2), x, gradients)  # [n, i, o, t]
    change = goals.square() - style[..., None].square()
    scale = square[:, None, None] + change[..., None] * energy.T[:, None]  # [n, i, 2, o]
    scale = scale.clamp_min(EPS).rsqrt()
    still = square.rsqrt()[:, None] @ of_sum  # [n, 1, t]
    of_channel = scale @ each * (goals - style[..., None])[..., None]
    return scale.flatten(1, 2).matmul(of_sum).view(*goals.shape, -1) - still[:, None] + of_channel


def channels(
    weight: Float[Tensor, "o i 3 3"],
    x: Float[Tensor, "n i h w"],
    gradients: Float[Tensor, "n t o h w"],
) -> Float[Tensor, "n i o t"]:
    """Inner products of gradients with each convolution of one channel by one kernel.

    Tap by tap: a product of matrices for each of the nine, for all targets at once.
    """
    n, t, o, h, w = gradients.shape
    flat = gradients.reshape(n, t * o, h * w).transpose(1, 2)
    wide = F.pad(x, (1, 1, 1, 1))
    found = x.new_zeros(n, x.shape[1], t, o)
    for tap in range(9):
        row, column = divmod(tap, 3)
        shifted = wide[:, :, row : row + h, column : column + w].reshape(n, -1, h * w)
        products = (shifted @ flat).view_as(found)
        found.addcmul_(products, weight[:, :, row, column].T[:, None])
    return found.transpose(2, 3)
