"""Reads the factors of a drawn scene off its images, edited and reconstructed ones included.

    reader = train_reader(LEAVES)                      # half a minute of one core
    factors, doubt = reader.read(images), reader.doubt(images)
    changes = factor_changes(reader, before, after)    # which factor did an edit move, how far
    kept = readable(*read_quality(reader, drawn, LEAVES.render(drawn)))

Most factors are measured: areas, moments and mean colours of regions, in closed form. The others,
two of the leaves' eight, are read by three regressors, whose disagreement is the doubt.
"""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from stylex.augment import resize, spoil
from stylex.draws import Draw
from stylex.scenes import LEAVES, SPREAD, Factors, Scene
from stylex.shapes import Images

SLOPES = (0.9, 1.1)  # of reading against truth, for a factor to count as readable
LEAST_R2 = 0.9
MOST_DOUBT = 0.1  # mean standard deviation between the regressors, factor units [O]

_SIDE = 32  # pixels at which readers look: no factor needs more
_BEYOND = 0.15  # regressors learn on factors this far beyond [0, 1], not to bend at its ends
_BATCH = 64  # images that are spoilt alike
_CALIBRATION = 1_600  # images from which an analytic reading takes its scale

Column = Float[Tensor, " n"]


class Reader(nn.Module):
    """Measures the factors of any image of a scene.

    Args:
        scene: whose factors are read.
        scales: by factor, offset and gain of its measurement: what it measures at 0, and how much
            more at 1; the factors without are left to the regressors.
        members: regressors of those others, in the scene's order.
    """

    def __init__(self, scene: Scene, scales: dict[str, Tensor], members: Iterable[nn.Module]):
        super().__init__()
        self.scene = scene
        self.scales = scales
        self.analytic = tuple(name in scales for name in scene.factors)
        self.learned = [name for name in scene.factors if name not in scales]
        self.members = nn.ModuleList(members)

    @torch.no_grad()
    def read(self, images: Images) -> Factors:
        """Factors `[n, f]` of images of any side, in the units of the factor table (about [0, 1]).

        Analytic columns from areas, moments and mean colours, the others as the members' mean.
        """
        images = resize(images, _SIDE)
        measured = _MEASURES[self.scene.name](images) if self.scales else {}
        columns = dict(zip(self.learned, self._each(images).mean(0).unbind(1), strict=True))
        for name, (offset, gain) in self.scales.items():
            columns[name] = (measured[name] - offset) / gain
        return torch.stack([columns[name] for name in self.scene.factors], 1)

    @torch.no_grad()
    def doubt(self, images: Images) -> Float[Tensor, "n f"]:
        """Standard deviation between the members, in factor units; 0 for analytic columns."""
        doubt = images.new_zeros(len(images), len(self.analytic))
        learned = [not analytic for analytic in self.analytic]
        if self.members:
            doubt[:, learned] = self._each(resize(images, _SIDE)).std(0, correction=0)
        return doubt

    def _each(self, images: Images) -> Float[Tensor, "m n learned"]:
        """The columns that are not analytic, by each member."""
        if not self.members:
            return images.new_zeros(1, len(images), 0)
        parts = images.split(512)
        return torch.stack([torch.cat([net(part) for part in parts]) for net in self.members])


def train_reader(
    scene: Scene = LEAVES, *, images_seen: int = 15_000, members: int = 3, seed: int = 0
) -> Reader:
    """Calibrate and train a reader on freshly drawn images; the same seed gives the same reader.

    The images are spoilt as a small generator spoils them (blur, noise, down-and-up scaling), and
    for the regressors the factors reach 15 % beyond their range, so that a reading does not bend at
    the ends. The default takes about 30 seconds of one core for leaves, 2 for cells, where nothing
    is left to regressors.

    What an analytic reading measures is fixed by the scene's geometry and colours; its scale is
    not: offset and gain are fitted by least squares on drawn and spoilt images, so that blur and
    pixels, which shift all readings alike, are accounted for.

    Args:
        scene: a drawn scene; of a scene other than those of `scenes`, all factors are learned.
        images_seen: per regressor.
        members: regressors that see different images from different first weights.
        seed: of weights, factors and spoiling.

    Returns:
        A frozen reader.
    """
    generator = torch.Generator().manual_seed(seed)
    scales = _calibrate(scene, generator) if scene.name in _MEASURES else {}
    learned = [k for k, name in enumerate(scene.factors) if name not in scales]
    nets = [_regressor(len(learned), generator) for _ in range(members if learned else 0)]
    for net in nets:
        _fit(net, scene, learned, images_seen, generator)
    return Reader(scene, scales, nets).requires_grad_(False).eval()


def read_quality(
    reader: Reader, factors: Factors, images: Images
) -> tuple[Float[Tensor, " f"], Float[Tensor, " f"], Float[Tensor, " f"]]:
    """How well each factor is read off images whose factors are known.

    Returns:
        Slope of the reading against the truth, R2 = 1 - squared error / variance of the truth, and
        the mean doubt between the regressors.
    """
    read = reader.read(images)
    centred = factors - factors.mean(0)
    variance = (centred**2).sum(0)
    slope = (centred * (read - read.mean(0))).sum(0) / variance
    r2 = 1 - ((read - factors) ** 2).sum(0) / variance
    return slope, r2, reader.doubt(images).mean(0)


def readable(
    slope: Float[Tensor, " f"], r2: Float[Tensor, " f"], doubt: Float[Tensor, " f"]
) -> Bool[Tensor, " f"]:
    """Factors read well enough to count: slope 0.9 to 1.1, R2 of at least 0.9, regressors agree.

    The others must count as missed: what cannot be read was not shown to be found.
    """
    low, high = SLOPES
    return (slope >= low) & (slope <= high) & (r2 >= LEAST_R2) & (doubt <= MOST_DOUBT)


def factor_changes(reader: Reader, before: Images, after: Images) -> Float[Tensor, " f"]:
    """How far each factor moves between two versions of the same images.

    The mean over images of the size of each image's change, in standard deviations of the factor.
    Sizes are averaged, not changes: an edit that moves a factor up here and down there has moved
    it. The reader's own error is mostly the same before and after, and cancels.
    """
    return (reader.read(after) - reader.read(before)).abs().mean(0) / SPREAD


# --- measured in closed form ---------------------------------------------------------------------


def _measure_leaf(images: Images) -> dict[str, Column]:
    """Six factors of a leaf off 32 px, each in units of its own."""
    x, y = _grid(images)
    # outside the largest leaf, its blurred edge included
    corners = images[..., x.abs() > 0.84 * (1 - (y / 0.97) ** 2) + 0.2].mean(-1)
    # Light is antisymmetric: the mean of picture and mirror image is without. There the leaf's blue
    # is -0.5 whatever its hue, so that blue between there and the background is its coverage.
    blue = (images + images.flip(-1))[:, 2] / 2
    sky = corners[:, 2, None, None]
    leaf = _filled(_firm((sky - blue) / (sky + 0.5).clamp(min=0.1)))
    area, _, _, breadth, height = _moments(leaf)
    return {
        # weights at right angles to the way from cool to warm
        "background brightness": corners @ corners.new_tensor([0.23, 0.22, 0.21]),
        "background hue": corners[:, 0] - corners[:, 2],
        # variances of a lens between parabolas: 8/35 width^2 and 1/5 length^2
        "leaf width": (35 / 8 * breadth).sqrt(),
        "leaf length": (5 * height).sqrt(),
        # light is a slope times x on the leaf: the first moment gives it
        "leaf light": 4 * (images.mean(1) * x).mean((1, 2)) / (area * breadth).clamp(min=0.01),
        # both hues of the leaf have the same blue, which the spot's blurred edge lets in
        "spot hue": images[:, 2, 15:17, 15:17].mean((1, 2)),
    }


def _measure_cell(images: Images) -> dict[str, Column]:
    """All factors of a cell off 32 px, each in units of its own."""
    x, y = _grid(images)
    corners = images[..., torch.hypot(x, y) > 1.13].mean(-1)  # outside the largest cell
    # green falls by 0.65 from the background to the cell, red by 1.2 from the cell to the nucleus
    cell = _filled(_firm((corners[:, 1, None, None] - images[:, 1]) / 0.65))
    dark = (0.6 - images[:, 0]) / 1.2
    nucleus = _firm(dark) * cell
    area, left, _, breadth, height = _moments(cell)
    core, place, *_ = _moments(nucleus)
    u, v = _in_radii(cell)
    # cytoplasm: beside the nucleus, within the thickest membrane, away from the granules
    free = (1 - 4 * dark).clamp(0, 1) * (v.abs() < 0.38) * (torch.hypot(u, v) < 0.70)
    hue = _mean(images[:, 2], free)
    around = torch.stack([torch.full_like(hue, 0.6), torch.full_like(hue, 0.1), hue], 1)
    # green and blue turn from around to nucleus as far as red does, however blurred
    change = _mean(images - _spread(around), nucleus[:, None])
    turn = change / _mean(dark, nucleus).clamp(min=0.1)[:, None]
    # what background, cytoplasm and nucleus leave unexplained: membrane and granules
    outside = (1 - cell)[:, None]
    dark = dark[:, None] + _spread(corners[:, :1] - 0.6) / 1.2 * outside
    rest = images - _spread(around) * (1 - outside) - _spread(corners) * outside
    rest = (rest - _spread(turn) * dark) * (torch.hypot(u, v) < 1.15)[:, None]
    beside = v.abs() < 0.6 * u.abs()  # of the nucleus: no granules there
    ring = (-rest[:, 2] * beside).sum((1, 2)) / (hue + 0.8).clamp(min=0.1)
    share = ring / (cell * beside).sum((1, 2)).clamp(min=1)
    return {
        "background tint": corners[:, 0] - corners[:, 2],
        "cell size": (area / torch.pi).sqrt(),
        "cell elongation": (breadth / height).log() / 4,
        "cytoplasm hue": hue,
        "membrane thickness": 1 - (1 - share).clamp(0, 2).sqrt(),
        "granule brightness": 4 * (rest[:, 1] * ~beside).mean((1, 2)) / area,
        "nucleus size": (core / area).sqrt(),
        "nucleus position": (place - left) / (4 * breadth).sqrt(),
        "nucleus darkness": hue + turn[:, 2],
    }


_MEASURES: dict[str, Callable[[Images], dict[str, Column]]] = {
    "leaves": _measure_leaf,
    "cells": _measure_cell,
}


def _calibrate(scene: Scene, generator: torch.Generator) -> dict[str, Tensor]:
    """By factor, offset and gain of its measurement, from spoilt images.

    Least squares of the measurement on the factor, not the other way round: noise in a measurement
    then leaves the slope of its reading alone.
    """
    drawn = [_fresh(scene, generator) for _ in range(_CALIBRATION // _BATCH)]
    factors = torch.cat([part for part, _ in drawn])
    measured = _MEASURES[scene.name](torch.cat([images for _, images in drawn]))
    scales = {}
    for name, column in measured.items():
        factor = factors[:, scene.factors.index(name)]
        line = torch.stack([torch.ones_like(factor), factor], 1)
        scales[name] = torch.linalg.lstsq(line, column[:, None]).solution[:, 0]
    return scales


def _grid(like: Tensor) -> tuple[Float[Tensor, "h w"], Float[Tensor, "h w"]]:
    """x and y of each pixel's centre, in half frames from the middle."""
    line = (torch.arange(_SIDE).to(like) + 0.5) * 2 / _SIDE - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    return x, y


def _firm(coverage: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
    """Twice as steep about one half: noise is cut off, a blurred edge stays where it is."""
    return (2 * coverage - 0.5).clamp(0, 1)


def _filled(mask: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
    """Holes filled: no pixel is less than what stands on all four sides of it."""
    ahead = [mask.cummax(axis).values for axis in (1, 2)]
    behind = [mask.flip(axis).cummax(axis).values.flip(axis) for axis in (1, 2)]
    return torch.stack(ahead + behind).amin(0)


def _moments(mask: Float[Tensor, "n h w"]) -> tuple[Column, Column, Column, Column, Column]:
    """Area, middle (x, y) and variances (along x, along y) of a mask, in half frames."""
    x, y = _grid(mask)
    area = mask.sum((1, 2)).clamp(min=0.1)  # an empty mask has no middle, but is read as well
    left, top = ((mask * line).sum((1, 2)) / area for line in (x, y))
    breadth = (mask * x**2).sum((1, 2)) / area - left**2
    height = (mask * y**2).sum((1, 2)) / area - top**2
    return area * (2 / _SIDE) ** 2, left, top, breadth.clamp(min=1e-3), height.clamp(min=1e-3)


def _in_radii(mask: Float[Tensor, "n h w"]) -> tuple[Tensor, Tensor]:
    """x and y `[n, h, w]` in half axes of a mask that is an ellipse: twice the deviation each."""
    _, left, top, breadth, height = (column[:, None, None] for column in _moments(mask))
    x, y = _grid(mask)
    return (x - left) / (4 * breadth).sqrt(), (y - top) / (4 * height).sqrt()


def _mean(values: Float[Tensor, "n *c h w"], weights: Float[Tensor, "n *d h w"]) -> Tensor:
    """Over the pixels, weighted."""
    return (values * weights).sum((-2, -1)) / weights.sum((-2, -1)).clamp(min=1e-3)


def _spread(colours: Float[Tensor, "n c"]) -> Float[Tensor, "n c 1 1"]:
    return colours[:, :, None, None]


# --- learned -------------------------------------------------------------------------------------


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
    net: nn.Module, scene: Scene, learned: list[int], images_seen: int, generator: torch.Generator
) -> None:
    """Least squares on fresh images; the rate falls along a half cosine."""
    steps = max(1, images_seen // _BATCH)
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        factors, images = _fresh(scene, generator, beyond=_BEYOND)
        loss = functional.mse_loss(net(images), factors[:, learned])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()


# --- spoilt images -------------------------------------------------------------------------------


def _fresh(
    scene: Scene, generator: torch.Generator, *, beyond: float = 0.0
) -> tuple[Factors, Images]:
    """A batch of factors, so far beyond [0, 1] too, and their images, spoilt alike."""
    factors = (1 + 2 * beyond) * scene.sample(_BATCH, generator) - beyond
    images = scene.render(
        factors, resolution=_SIDE, supersample=2
    )  # two are enough here, and quicker
    return factors, spoil(images, Draw(generator))
