"""One image's generator with its styles folded into plain convolutions, for AttFind.

All moves of one image share every later style: modulation and demodulation of the later layers
become ordinary weights, computed once. In the touched layer a move of coordinate j changes a cached
sum by one convolution of one channel, which both directions share:

    y_o = r_o sum_i s_i (x_i * W_oi),    r_o = (sum_i s_i^2 E_oi + eps)^(-1/2)
    s_j -> s'_j:    y'_o = r'_o (sum + (s'_j - s_j) (x_j * W_oj)),
                    r'_o = (... + (s'_j^2 - s_j^2) E_oj)^(-1/2)
"""

import copy

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from stylex.classifier import Classifier
from stylex.networks import StyledConv, Synthesis
from stylex.ops import EPS, SQRT2, ModulatedConv, upsample
from stylex.shapes import Images, Styles


class FoldedLayer:
    """One modulated convolution of one image, before, and after the style is put in.

    Args:
        conv: the layer.
        style: `[i]` of this image.
        features: `[1, i, h, w]` that come in.
        energy: `[o, i]` of the layer, `ModulatedConv.energy`: the same for all images.
        dtype: of the moves that are drawn; what they start from is as the layer's own.
    """

    def __init__(
        self,
        conv: StyledConv,
        style: Float[Tensor, " i"],
        features: Tensor,
        energy: Float[Tensor, "o i"],
        dtype: torch.dtype,
    ):
        self.dtype = dtype
        self.up, self.style, self.features, self.energy = conv.up, style, features, energy
        self.weight, self.gain = conv.conv.weight, conv.conv.scale * SQRT2  # [o, i, 3, 3]
        self.square = style.square() @ energy.T + EPS  # [o]
        scale = style * self.gain  # [i]
        # before demodulation; as a convolution of scaled features it needs no weights of its own
        self.sum = F.conv2d(features * scale[:, None, None], self.weight, padding=1)
        scales = self.square.rsqrt()[:, None] * scale  # [o, i]
        folded = self.weight * scales[:, :, None, None]
        self.folded = folded.to(dtype).contiguous(memory_format=torch.channels_last)
        noise = conv.fixed_noise * (conv.noise_strength * SQRT2)
        constant = noise + (conv.bias * SQRT2)[:, None, None]  # [1, o, H, W]
        self.constant = constant.contiguous(memory_format=torch.channels_last)

    def own(self) -> Tensor:
        """What this image's own features become."""
        return self.finish(self.sum * self.square.rsqrt()[:, None, None])

    def finish(self, y: Tensor) -> Tensor:
        """After the convolution, in place: upsampling, noise and bias, activation."""
        y = upsample(y) if self.up else y
        return F.leaky_relu_(y.add_(self.constant.to(y.dtype)), 0.2)

    def moved(self, coordinates: Int64[Tensor, " j"], goals: Float[Tensor, "j 2"]) -> Tensor:
        """Convolutions `[2 j, o, h, w]` with one coordinate at each of its goals.

        Channels lie innermost from the start, so nothing is laid out anew: of each coordinate the
        nine taps around every pixel, by its kernels.
        """
        _, _, h, w = self.features.shape
        taps = F.unfold(self.features[0, coordinates][:, None], 3, padding=1)  # [j, 9, h w]
        weight = self.weight[:, coordinates].flatten(2).permute(1, 2, 0) * self.gain  # [j, 9, o]
        alone = (taps.transpose(1, 2) @ weight)[:, None]  # [j, 1, h w, o]
        scales = self.scales(coordinates, goals)[:, :, None]  # [j, 2, 1, o]
        far = goals - self.style[coordinates, None]
        y = alone * (scales * far[..., None, None])
        y = y.addcmul_(self.sum[0].flatten(1).T, scales)
        return y.flatten(0, 1).unflatten(1, (h, w)).permute(0, 3, 1, 2).to(self.dtype)

    def scales(
        self, coordinates: Int64[Tensor, " j"], goals: Float[Tensor, "j 2"]
    ) -> Float[Tensor, "j 2 o"]:
        """Demodulation with one coordinate at each of its goals."""
        change = goals.square() - self.style[coordinates, None].square()
        energies = self.energy[:, coordinates].T[:, None]
        return (self.square + change[..., None] * energies).clamp_min(EPS).rsqrt()


class Folded:
    """A synthesis with the styles of one image folded in.

    Args:
        synthesis: draws styles with fixed noise.
        row: `[1, s]` the image's styles.
        energies: of all layers, see `energies_of`; known by whoever folds many images.
        dtype: that moves are drawn in, the styles' own by default. In bf16 they are sooner there
            and good for ranks only; the picture that the layers' ToRGB add up to stays as it is.
    """

    def __init__(
        self,
        synthesis: Synthesis,
        row: Float[Tensor, "1 s"],
        energies: list[Tensor] | None = None,
        *,
        dtype: torch.dtype | None = None,
    ):
        self.synthesis, self.row = synthesis, row
        self.dtype = dtype or row.dtype
        energies = energies or energies_of(synthesis)
        conv_styles, rgb_styles = synthesis.layout.split(row)
        self.layers: list[FoldedLayer] = []
        self.pictures: list[Tensor | None] = []  # what is drawn before each layer
        self.rgb: list[Tensor] = []
        for rgb, style in zip(synthesis.to_rgb, rgb_styles, strict=True):
            assert isinstance(rgb, ModulatedConv)
            self.rgb.append(rgb.weight * rgb.scale * style[0][None, :, None, None])
        x: Tensor = synthesis.constant
        picture: Tensor | None = None
        every = zip(synthesis.convs, conv_styles, energies, strict=True)
        for layer, (conv, style, energy) in enumerate(every):
            assert isinstance(conv, StyledConv)
            self.layers.append(FoldedLayer(conv, style[0], x, energy, self.dtype))
            self.pictures.append(picture)
            x = self.layers[-1].own()
            picture = self.add_picture(layer, x, picture)
        assert picture is not None
        self.image = self.finish(picture)  # [1, c, h, w], not clamped

    def add_picture(self, layer: int, x: Tensor, picture: Tensor | None) -> Tensor | None:
        """After each even layer its ToRGB joins the picture drawn so far."""
        if layer % 2:
            return picture
        drawn = F.conv2d(x, self.rgb[layer // 2].to(x.dtype)).to(self.row.dtype)
        return drawn if picture is None else drawn + upsample(picture)

    def finish(self, picture: Tensor) -> Images:
        """The finished picture."""
        return picture.float() + self.synthesis.rgb_bias[:, None, None]

    def draw(
        self,
        coordinates: Int64[Tensor, " j"],
        goals: Float[Tensor, "j 2"],
        moves: Bool[Tensor, "j 2"] | None = None,
    ) -> Images:
        """Images with one coordinate at one of its goals, each from its own layer on.

        Moves of several layers share one batch: it grows where the next ones join.

        Args:
            coordinates: searched ones, ascending.
            goals: their values in both directions.
            moves: which of both are drawn; all by default.

        Returns:
            Not clamped, coordinate by coordinate.
        """
        x = picture = None
        first = 0
        for layer, one in enumerate(self.layers):
            here = (coordinates >= first) & (coordinates < first + len(one.style))
            ys = [] if x is None else [F.conv2d(x, one.folded, padding=1)]
            pictures = [] if picture is None else [picture]
            if here.any():
                y = one.moved(coordinates[here] - first, goals[here])
                ys.append(y if moves is None else y[moves[here].flatten()])
                if (before := self.pictures[layer]) is not None:
                    pictures.append(before.expand(len(ys[-1]), -1, -1, -1))
            if ys:
                x = one.finish(_joined(ys))
                picture = self.add_picture(layer, x, _joined(pictures) if pictures else None)
            first += len(one.style)
        assert picture is not None
        return self.finish(picture)


@torch.no_grad()
def energies_of(synthesis: Synthesis) -> list[Float[Tensor, "o i"]]:
    """Sums of squares of every kernel, layer by layer: the same for all images."""
    return [conv.conv.energy() for conv in synthesis.convs if isinstance(conv, StyledConv)]


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def goals_of(row: Styles, bounds: Tensor, strength: float, searched: int) -> Float[Tensor, "j 2"]:
    """Where each searched coordinate is moved to in both directions, as `stylespace.shift`."""
    here = row[0, :searched, None]
    return here + strength * (bounds[:, :searched].T - here)


@torch.no_grad()
def without_norms(classifier: Classifier, images: Images) -> Classifier:
    """The classifier with batch norms folded into the convolutions before them.

    Where there are none, where they cannot be traced or where the logits of these images would be
    others, it is the classifier itself.
    """
    model = classifier.model
    norms = any(isinstance(module, nn.BatchNorm2d) for module in classifier.modules())
    if not (norms and isinstance(model, nn.Module)):
        return classifier
    try:
        twin = copy.deepcopy(classifier)
        twin.model = fuse(model)
        logits, same = classifier(images), twin(images)
    except Exception:  # a model of the user's: whatever it does not bear, it is left alone
        return classifier
    close = (same - logits).abs().max() <= 1e-4 * logits.abs().max()
    return twin if close else classifier
