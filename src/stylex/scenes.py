"""Two drawn worlds whose factors are known, and every picture of which can be drawn again.

    factors = LEAVES.sample(1000, generator)  # [n, 8], uniform in [0, 1]
    images = LEAVES.render(factors)           # [n, 3, 32, 32], a leaf with a spot on a background
    other = CELLS.render(CELLS.sample(1000, generator))  # nine factors of a stained cell

With such images "what did the explanation find" is measured on the edited pictures. No factor hides
another: the spot never leaves the leaf, the nucleus meets neither granules nor membrane, nothing
leaves the frame, and no colour is ever clipped.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from stylex.shapes import Images

Factors = Float[Tensor, "n f"]  # in [0, 1], one column per name of `Scene.factors`

SPREAD = 12**-0.5  # standard deviation of a factor: uniform in [0, 1]

_CHUNK = 128  # images drawn at once: the masks stay in the cache


@dataclass(frozen=True)
class Scene:
    """A world of pictures, each a function of a few factors.

    Args:
        name: in one word.
        factors: names of the columns of its factor tables.
        draw: factors, resolution and samples per pixel and axis to images.
    """

    name: str
    factors: tuple[str, ...]
    draw: Callable[[Factors, int, int], Images] = field(repr=False)

    def sample(self, n: int, generator: torch.Generator) -> Factors:
        """Independent factors, uniform in [0, 1].

        Returns:
            `[n, f]`, columns as in `factors`.
        """
        return torch.rand(n, len(self.factors), generator=generator)

    def render(self, factors: Factors, *, resolution: int = 32, supersample: int = 3) -> Images:
        """Draw one image per row of factors.

        Args:
            factors: `[n, f]`; values slightly outside [0, 1] continue each factor's range.
            resolution: side in pixels.
            supersample: samples per pixel and axis.

        Returns:
            `[n, 3, resolution, resolution]` in [-1, 1].

        Raises:
            ValueError: the factor table has another number of columns.
        """
        if factors.shape[1] != len(self.factors):
            raise ValueError(
                f"got {factors.shape[1]} factors per image, need {len(self.factors)}; "
                f"give the columns {', '.join(self.factors)}"
            )
        parts = factors.split(_CHUNK)
        return torch.cat([self.draw(part, resolution, supersample) for part in parts])


# --- leaves --------------------------------------------------------------------------------------

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


def _draw_leaf(factors: Factors, resolution: int, supersample: int) -> Images:
    """The picture is linear in its masks, so those alone are supersampled."""
    brightness, sky_hue, leaf_hue, length, width, light, spot_size, spot_hue = _columns(factors)
    leaf, side, spot = _leaf_masks(length, width, spot_size, resolution, supersample)
    background = _between(_BACKGROUND, sky_hue) + _between(_BRIGHTNESS, brightness)
    leaf_colour, spot_colour = _between(_LEAF, leaf_hue), _between(_SPOT, spot_hue)
    image = background * (1 - leaf) + leaf_colour * (leaf - spot) + spot_colour * spot
    return (image + _between(_LIGHT, light) * side).clamp_(-1, 1)


def _leaf_masks(
    length: Tensor, width: Tensor, spot_size: Tensor, resolution: int, supersample: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Coverage of leaf and of spot, and that of the leaf times x: each `[n, 1, h, w]`."""
    fine = resolution * supersample
    x, y = _grid(fine, length)
    half_length, half_width = _between(_LENGTH, length), _between(_WIDTH, width)
    # a lens: two parabolas; the gap to them divided by their slope is nearly the distance
    gap = half_width * (1 - (y / half_length) ** 2) - x.abs()
    leaf = _inside(gap / (1 + (2 * half_width * y / half_length**2) ** 2).sqrt(), fine)
    spot = _inside(_between(_SPOT_RADIUS, spot_size) - torch.hypot(x, y), fine)
    spot = torch.minimum(spot, leaf)
    leaf, side, spot = (functional.avg_pool2d(mask, supersample) for mask in (leaf, leaf * x, spot))
    return leaf, side, spot


# --- cells ---------------------------------------------------------------------------------------

# Value at 0 and at 1, chosen as above. The cell's radius is in half frames, all inside it in radii
# of the cell, so that its parts stay apart whatever its size and elongation. Stains: red is the
# same all over the cell but for the nucleus, green but for nucleus and granules.
_TINT = ((0.66, 0.75, 0.90), (0.90, 0.75, 0.66))  # cool, warm
_RADIUS = (0.80, 0.87)
_ELONGATION = (-0.065, 0.065)  # half the logarithm of width to height: tall, wide
_CYTOPLASM = ((0.60, 0.10, -0.15), (0.60, 0.10, 0.75))  # salmon, orchid
_MEMBRANE = (0.60, 0.10, -0.80)  # amber
_THICKNESS = (0.03, 0.19)  # inwards from the cell's edge
_GRANULE = ((0.60, -0.75, -0.60), (0.60, 0.75, 0.90))  # crimson, white
_GRANULE_RADIUS = 0.13
_GRANULES = tuple(  # three above and three below the nucleus: sizes of x and y, in one quadrant
    (0.67 * math.sin(angle), 0.67 * math.cos(angle)) for angle in (0.0, 0.42)
)
_NUCLEUS_RADIUS = (0.26, 0.48)
_POSITION = (-0.20, 0.20)  # of the nucleus: left, right
_NUCLEUS = ((-0.60, 0.00, 0.75), (-0.60, -0.85, -0.60))  # blue, aubergine


def _draw_cell(factors: Factors, resolution: int, supersample: int) -> Images:
    """Each pixel is a mean of colours, weighted by how much of it each part covers."""
    tint, size, elongation, hue, thickness, granules, breadth, position, darkness = _columns(
        factors
    )
    fine = resolution * supersample
    masks = _cell_masks(size, elongation, thickness, breadth, position, fine=fine)
    cell, inner, grains, nucleus = (functional.avg_pool2d(mask, supersample) for mask in masks)
    image = _between(_TINT, tint) * (1 - cell)
    image = image + tint.new_tensor(_MEMBRANE).view(1, 3, 1, 1) * (cell - inner)
    image = image + _between(_CYTOPLASM, hue) * (inner - grains - nucleus)
    image = image + _between(_GRANULE, granules) * grains + _between(_NUCLEUS, darkness) * nucleus
    return image.clamp_(-1, 1)


def _cell_masks(
    size: Tensor,
    elongation: Tensor,
    thickness: Tensor,
    breadth: Tensor,
    position: Tensor,
    *,
    fine: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Which samples lie in the cell, within its membrane, in granules, in the nucleus.

    Distances are taken in radii of the cell, where it is a circle. Each mask `[n, 1, fine, fine]`.
    """
    x, y = _grid(fine, size)
    radius, stretch = _between(_RADIUS, size), _between(_ELONGATION, elongation).exp()
    x, y = x / (radius * stretch), y * stretch / radius
    middle = torch.hypot(x, y)
    cell = _inside((1 - middle) * radius, fine)
    inner = _inside((1 - _between(_THICKNESS, thickness) - middle) * radius, fine)
    nearest = torch.hypot(x - _between(_POSITION, position), y)
    nucleus = _inside((_between(_NUCLEUS_RADIUS, breadth) - nearest) * radius, fine)
    nearest = [torch.hypot(x.abs() - left, y.abs() - up) for left, up in _GRANULES]
    grains = _inside((_GRANULE_RADIUS - torch.stack(nearest).amin(0)) * radius, fine)
    return cell, inner, grains, nucleus


# --- common to both ------------------------------------------------------------------------------


def _columns(factors: Factors) -> tuple[Tensor, ...]:
    """The columns of a factor table, each `[n, 1, 1, 1]`."""
    return factors.T[..., None, None, None].unbind(0)


def _grid(fine: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Centres of `fine` samples a side, in half frames: x in a row, y in a column."""
    line = (torch.arange(fine, device=like.device, dtype=like.dtype) + 0.5) * 2 / fine - 1
    return line[None, :], line[:, None]


def _inside(distance: Tensor, fine: int) -> Tensor:
    """Coverage of one sample by a shape, from its signed distance to the edge in half frames."""
    return (distance * (fine / 2) + 0.5).clamp_(0, 1)


def _between(ends: tuple, factor: Tensor) -> Tensor:
    """The value at `factor` on the way between two numbers, or two colours (on axis 1)."""
    low, high = (factor.new_tensor(end).view(1, -1, 1, 1) for end in ends)
    return low + (high - low) * factor


LEAVES = Scene(
    "leaves",
    (
        "background brightness",
        "background hue",
        "leaf hue",
        "leaf length",
        "leaf width",
        "leaf light",
        "spot size",
        "spot hue",
    ),
    _draw_leaf,
)
CELLS = Scene(
    "cells",
    (
        "background tint",
        "cell size",
        "cell elongation",
        "cytoplasm hue",
        "membrane thickness",
        "granule brightness",
        "nucleus size",
        "nucleus position",
        "nucleus darkness",
    ),
    _draw_cell,
)
SCENES = {scene.name: scene for scene in (LEAVES, CELLS)}
