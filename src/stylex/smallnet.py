"""SmallNet: the classifier that `stylex train-classifier` trains."""

from torch import Tensor, nn
from torch.nn import functional as F

from stylex.shapes import Images, Logits


class SmallNet(nn.Module):
    """A small residual network for one resolution: 0.3 M parameters, 13 M multiplications at 32 px.

    One stage per octave from `resolution` down to 4 px, antialiased between them (a box filter),
    so that the gradients that reach the image are smooth.

    Args:
        channels: of the images, 1 or 3.
        classes: number of logits.
        resolution: side of the images in pixels, a power of two from 8 on.
        width: channels of the last stage; each finer one has half of the next, at least 16.

    Raises:
        ValueError: the resolution is not a power of two from 8 on.
    """

    def __init__(self, channels: int, classes: int, *, resolution: int = 64, width: int = 128):
        super().__init__()
        if resolution < 8 or resolution & (resolution - 1):
            raise ValueError(f"resolution {resolution}: wanted a power of two from 8 on; give 32")
        self.channels, self.resolution, self.width = channels, resolution, width
        octaves = range(resolution.bit_length() - 3, -1, -1)
        widths = [max(width >> octave, min(width, 16)) for octave in octaves]
        # a second convolution at full resolution would cost as much as all the others
        self.stages = nn.ModuleList(
            Stage(into, out, residual=i > 0)
            for i, (into, out) in enumerate(zip([channels, *widths], widths, strict=False))
        )
        self.head = nn.Linear(width, classes)

    def forward(self, images: Images) -> Logits:
        """Logits of images in [-1, 1] at the network's resolution."""
        features = self.stages[0](images)
        for stage in self.stages[1:]:
            features = stage(F.avg_pool2d(features, 2))
        return self.head(features.mean((2, 3)))


class Stage(nn.Module):
    """A convolution that changes the width and, if `residual`, one more beside a shortcut."""

    def __init__(self, into: int, out: int, *, residual: bool):
        super().__init__()
        self.first = _convolution(into, out)
        self.second = _convolution(out, out) if residual else None

    def forward(self, features: Tensor) -> Tensor:
        """Features `[n, into, h, w]` to `[n, out, h, w]`."""
        features = self.first(features)
        return features if self.second is None else features + self.second(features)


def _convolution(into: int, out: int) -> nn.Sequential:
    convolution = nn.Conv2d(into, out, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out), nn.ReLU())
