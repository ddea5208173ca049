"""Drawn images whose factors are known, a planted rule that labels them, and a reader of factors.

    factors = draw_factors(1000, generator)     # [n, 8], uniform in [0, 1]
    images = render(factors)                    # [n, 3, 32, 32], a leaf with a spot on a background
    labels = draw_rule(seed=0).labels(factors)  # what a classifier is to learn
    changes = factor_changes(train_reader(), before, after)

With such images "what did the explanation find" is measured on the edited pictures. No factor hides
another: the spot never leaves the leaf, the leaf never the frame, and no colour is ever clipped.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from stylex.shapes import Images

Factors = Float[Tensor, "n f"]  # in [0, 1], one column per name
Render = Callable[[Factors], Images]

FACTORS = (
    "background brightness",
    "background hue",
    "leaf hue",
    "leaf length",
    "leaf width",
    "leaf light",
    "spot size",
    "spot hue",
)
CLASSES = ("no", "yes")
SPREAD = 12**-0.5  # standard deviation of a factor: uniform in [0, 1]

# Value at 0 and at 1. Lengths are in half frames, colours in [-1, 1]; chosen so that the mean pixel
# effects of all factors agree within a factor of two (a test measures it).
_BRIGHTNESS = (-0.075, 0.075)
_BACKGROUND = ((0.39, 0.48, 0.61), (0.60, 0.48, 0.38))  # cool, warm
_LEAF = ((-0.55, 0.10, -0.50), (0.25, -0.30, -0.50))  # green, rust
_LENGTH = (0.60, 0.92)  # from the middle to a tip
_WIDTH = (0.52, 0.80)  # from the middle to a side
_LIGHT = (-0.50, 0.50)  # rise of brightness per half frame to the right: lit from left, from right
_SPOT_RADIUS = (0.18, 0.42)
_SPOT = ((0.75, 0.68, -0.65), (0.20, 0.00, 0.80))  # yellow, violet

_CHUNK = 128  # images drawn at once: the masks stay in the cache


# --- the scene -----------------------------------------------------------------------------------


def draw_factors(n: int, generator: torch.Generator) -> Factors:
    """Independent factors, uniform in [0, 1].

    Returns:
        `[n, 8]`, columns as in `FACTORS`.
    """
    return torch.rand(n, len(FACTORS), generator=generator)


def render(factors: Factors, *, resolution: int = 32, supersample: int = 3) -> Images:
    """Draw one image per row of factors.

    Args:
        factors: `[n, 8]`; values slightly outside [0, 1] continue each factor's range.
        resolution: side in pixels.
        supersample: samples per pixel and axis.

    Returns:
        `[n, 3, resolution, resolution]` in [-1, 1].

    Raises:
        ValueError: the factor table has another number of columns.
    """
    if factors.shape[1] != len(FACTORS):
        raise ValueError(
            f"got {factors.shape[1]} factors per image, need {len(FACTORS)}; "
            f"give the columns {', '.join(FACTORS)}"
        )
    parts = factors.split(_CHUNK)
    return torch.cat([_draw(part, resolution, supersample) for part in parts])


def _draw(factors: Factors, resolution: int, supersample: int) -> Images:
    """The picture is linear in its masks, so those alone are supersampled."""
    brightness, sky_hue, leaf_hue, length, width, light, spot_size, spot_hue = (
        factor[:, None, None, None] for factor in factors.T
    )
    leaf, side, spot = _masks(length, width, spot_size, resolution, supersample)
    background = _between(_BACKGROUND, sky_hue) + _between(_BRIGHTNESS, brightness)
    leaf_colour, spot_colour = _between(_LEAF, leaf_hue), _between(_SPOT, spot_hue)
    image = background * (1 - leaf) + leaf_colour * (leaf - spot) + spot_colour * spot
    return (image + _between(_LIGHT, light) * side).clamp_(-1, 1)


def _masks(
    length: Tensor, width: Tensor, spot_size: Tensor, resolution: int, supersample: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Coverage of leaf and of spot, and that of the leaf times x: each `[n, 1, h, w]`."""
    fine = resolution * supersample
    line = (torch.arange(fine, device=length.device, dtype=length.dtype) + 0.5) * 2 / fine - 1
    x, y = line[None, :], line[:, None]
    half_length, half_width = _between(_LENGTH, length), _between(_WIDTH, width)
    # a lens: two parabolas; the gap to them divided by their slope is nearly the distance
    gap = half_width * (1 - (y / half_length) ** 2) - x.abs()
    leaf = _inside(gap / (1 + (2 * half_width * y / half_length**2) ** 2).sqrt(), fine)
    spot = _inside(_between(_SPOT_RADIUS, spot_size) - torch.hypot(x, y), fine)
    spot = torch.minimum(spot, leaf)
    leaf, side, spot = (functional.avg_pool2d(mask, supersample) for mask in (leaf, leaf * x, spot))
    return leaf, side, spot


def _inside(distance: Tensor, fine: int) -> Tensor:
    """Coverage of one sample by a shape, from its signed distance to the edge in half frames."""
    return (distance * (fine / 2) + 0.5).clamp_(0, 1)


def _between(ends: tuple, factor: Tensor) -> Tensor:
    """The value at `factor` on the way between two numbers, or two colours (on axis 1)."""
    low, high = (factor.new_tensor(end).view(1, -1, 1, 1) for end in ends)
    return low + (high - low) * factor


# --- the planted rule ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """Which factors decide the label, and which way.

    Args:
        deciding: columns of the factor table.
        signs: +1 where more of the factor speaks for "yes", -1 where less does.
    """

    deciding: tuple[int, ...]
    signs: tuple[int, ...]

    def labels(self, factors: Factors) -> Int[Tensor, " n"]:
        """1 ("yes") where the signed sum of the deciding factors is above its middle, else 0.

        Balanced, because the sum is distributed symmetrically about its middle.
        """
        signs = factors.new_tensor(self.signs)
        return ((factors[:, list(self.deciding)] - 0.5) @ signs > 0).long()

    def __str__(self) -> str:
        """The rule in words, as a table shows it."""
        return ", ".join(
            f"{'more' if sign > 0 else 'less'} {FACTORS[k]}"
            for k, sign in zip(self.deciding, self.signs, strict=True)
        )


def draw_rule(seed: int, count: int = 2) -> Rule:
    """Plant a rule: distinct random factors with random signs.

    Raises:
        ValueError: there are not so many factors.
    """
    if not 1 <= count <= len(FACTORS):
        raise ValueError(f"got count={count} deciding factors; give 1 to {len(FACTORS)}")
    generator = torch.Generator().manual_seed(seed)
    deciding = torch.randperm(len(FACTORS), generator=generator)[:count].tolist()
    signs = (2 * torch.randint(2, (count,), generator=generator) - 1).tolist()
    return Rule(tuple(deciding), tuple(signs))


# --- reading factors off any image ---------------------------------------------------------------


class Reader(nn.Module):
    """Measures the factors of any image, edited and reconstructed ones included.

    Args:
        count: number of factors.
        members: independent regressors; their mean is the reading.
        generator: draws the first weights.
    """

    side = 32  # pixels at which it looks: no factor needs more

    def __init__(self, count: int, members: int, generator: torch.Generator):
        super().__init__()
        self.members = nn.ModuleList(_regressor(count, generator) for _ in range(members))

    @torch.no_grad()
    def read(self, images: Images) -> Factors:
        """Factors `[n, f]`, in the units of the factor table (about [0, 1])."""
        return self.read_each(images).mean(0)

    @torch.no_grad()
    def read_each(self, images: Images) -> Float[Tensor, "m n f"]:
        """The same by each member: where they disagree, the reading is in doubt."""
        parts = [_resize(part, self.side) for part in images.split(512)]
        return torch.stack([torch.cat([net(p) for p in parts]) for net in self.members])


def train_reader(
    *,
    render: Render = render,
    count: int = len(FACTORS),
    images_seen: int = 15_000,
    members: int = 3,
    seed: int = 0,
) -> Reader:
    """Train a reader on freshly drawn images; the same seed gives the same reader.

    The images are spoilt as a small generator spoils them (blur, noise, down-and-up scaling), and
    the factors reach 15 % beyond their range, so that a reading does not bend at the ends. The
    default takes about 30 seconds of one core.

    Args:
        render: draws images from factors `[n, count]`.
        count: number of factors.
        images_seen: per member.
        members: regressors that see different images from different first weights.
        seed: of weights, factors and spoiling.

    Returns:
        A frozen reader.
    """
    generator = torch.Generator().manual_seed(seed)
    reader = Reader(count, members, generator)
    for net in reader.members:
        _fit(net, render, count, images_seen, generator)
    return reader.requires_grad_(False).eval()


def read_quality(
    reader: Reader, factors: Factors, images: Images
) -> tuple[Float[Tensor, " f"], Float[Tensor, " f"]]:
    """How well each factor is read off images whose factors are known.

    Returns:
        Slope of the reading against the truth, and R2 = 1 - squared error / variance of the truth.
    """
    read = reader.read(images)
    centred = factors - factors.mean(0)
    variance = (centred**2).sum(0)
    slope = (centred * (read - read.mean(0))).sum(0) / variance
    return slope, 1 - ((read - factors) ** 2).sum(0) / variance


def factor_changes(reader: Reader, before: Images, after: Images) -> Float[Tensor, " f"]:
    """How far each factor moves between two versions of the same images.

    The mean over images of the size of each image's change, in standard deviations of the factor.
    Sizes are averaged, not changes: an edit that moves a factor up here and down there has moved
    it. The reader's own error is mostly the same before and after, and cancels.
    """
    return (reader.read(after) - reader.read(before)).abs().mean(0) / SPREAD


def changed_factor(reader: Reader, before: Images, after: Images) -> int:
    """Column of the factor that moves most, by `factor_changes`."""
    return int(factor_changes(reader, before, after).argmax())


def spoil(images: Images, generator: torch.Generator) -> Images:
    """Blur, scale down and up, and add noise, each by an amount drawn for this batch.

    Gaussian blur of up to 1.5 pixels; scaling to 1, 2/3 or 1/2 and back; fine and coarse (blotchy)
    noise of standard deviation up to 0.08.
    """
    size = images.shape[-1]
    blur, fine, coarse = torch.rand(3, generator=generator).tolist()
    images = gaussian_blur(images, 1.5 * blur)
    smaller = (size, size * 2 // 3, size // 2)[int(torch.randint(3, (1,), generator=generator))]
    images = _resize(_resize(images, smaller), size)
    blotches = torch.randn(*images.shape[:2], 6, 6, generator=generator)
    speckles = torch.randn(images.shape, generator=generator)
    return images + 0.08 * fine * speckles + 0.08 * coarse * _resize(blotches, size)


def gaussian_blur(images: Images, sigma: float) -> Images:
    """Blur by a Gaussian of standard deviation `sigma` pixels, edges repeated."""
    reach = max(1, round(3 * sigma))
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / max(sigma, 1e-3)) ** 2)
    taps = (taps / taps.sum()).to(images).expand(images.shape[1], 1, 1, -1)
    padded = functional.pad(images, (reach,) * 4, mode="replicate")
    rows = functional.conv2d(padded, taps, groups=images.shape[1])
    return functional.conv2d(rows, taps.mT, groups=images.shape[1])


def _resize(images: Images, size: int) -> Float[Tensor, "n c size size"]:
    if images.shape[-1] == size:
        return images
    return functional.interpolate(images, size=size, mode="bilinear", antialias=True)


def _regressor(count: int, generator: torch.Generator) -> nn.Sequential:
    """Three strided convolutions and two dense layers; 32 px in, `count` factors out."""
    with torch.device("meta"):  # no weights yet: the default ones would come from the global seed
        net = nn.Sequential(
            *(nn.Conv2d(3, 24, 4, stride=2, padding=1), nn.SiLU()),
            *(nn.Conv2d(24, 48, 4, stride=2, padding=1), nn.SiLU()),
            *(nn.Conv2d(48, 64, 4, stride=2, padding=1), nn.SiLU()),
            *(nn.Flatten(), nn.Linear(64 * 4 * 4, 128), nn.SiLU(), nn.Linear(128, count)),
        )
    net.to_empty(device="cpu")
    for weight in (parameter for parameter in net.parameters() if parameter.ndim > 1):
        nn.init.kaiming_normal_(weight, generator=generator)
    for bias in (parameter for parameter in net.parameters() if parameter.ndim == 1):
        nn.init.zeros_(bias)
    return net


def _fit(
    net: nn.Module, render: Render, count: int, images_seen: int, generator: torch.Generator
) -> None:
    """Least squares on fresh images; the rate falls along a half cosine."""
    batch = 64
    steps = max(1, images_seen // batch)
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        factors = torch.rand(batch, count, generator=generator) * 1.3 - 0.15
        images = _resize(spoil(render(factors), generator), Reader.side)
        loss = functional.mse_loss(net(images), factors)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
