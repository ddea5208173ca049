"""JudgeNet: the network that judges a SmallNet's classes without sharing its habits."""

from torch import Tensor, nn
from torch.nn import functional as F

from stylex.shapes import Images, Logits


class JudgeNet(nn.Module):
    """A plain convolutional network: 0.24 M parameters, 13 M multiplications at 32 px.

    What two networks have in common they also get wrong in common. So nothing here is SmallNet's:
    a wide first kernel that steps over every other pixel, no shortcut, normalisation over groups
    of channels and not over the batch, maxima between the stages and not means.

    Args:
        channels: of the images, 1 or 3.
        classes: number of logits.
        resolution: side of the images in pixels, a power of two from 16 on.
        width: channels at 8 and 4 px, a multiple of 16; each finer stage has half, at least 16.

    Raises:
        ValueError: the resolution is not a power of two from 16 on.
    """

    def __init__(self, channels: int, classes: int, *, resolution: int = 64, width: int = 128):
        super().__init__()
        if resolution < 16 or resolution & (resolution - 1):
            raise ValueError(f"resolution {resolution}: wanted a power of two from 16 on; give 32")
        self.channels, self.resolution, self.width = channels, resolution, width
        # octaves above 4 px, from half of the resolution down
        octaves = range(resolution.bit_length() - 4, -1, -1)
        widths = [max(width >> max(octave - 1, 0), 16) for octave in octaves]
        first = max(widths[0] // 2, 16)
        self.stem = _convolution(channels, first, kernel=5, stride=2)
        self.stages = nn.ModuleList(
            _convolution(into, out) for into, out in zip([first, *widths], widths, strict=False)
        )
        self.head = nn.Linear(width, classes)

    def forward(self, images: Images) -> Logits:
        """Logits of images in [-1, 1] at the network's resolution."""
        features: Tensor = self.stages[0](self.stem(images))
        for stage in self.stages[1:]:
            features = stage(F.max_pool2d(features, 2))
        return self.head(features.mean((2, 3)))


def _convolution(into: int, out: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(into, out, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(out // 16, out), nn.SiLU())
