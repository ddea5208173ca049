"""StyleSpace: the layout of a style vector, the range of its coordinates, and one move in it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stylex.shapes import Bounds, Styles


@dataclass(frozen=True)
class Layout:
    """Which style coordinate belongs to which layer.

    The styles of the 3x3 modulated convolutions stand side by side, first layer first; those of the
    ToRGB layers follow and are not searched (method.md 2, notebook).

    Args:
        widths: coordinates of each convolution.
        resolutions: side in pixels at which that convolution's output is drawn.
        rgb_widths: coordinates of each ToRGB layer.
    """

    widths: tuple[int, ...]
    resolutions: tuple[int, ...]
    rgb_widths: tuple[int, ...] = ()

    @property
    def searched(self) -> int:
        """Number of coordinates that AttFind searches: the first ones."""
        return sum(self.widths)

    @property
    def size(self) -> int:
        """Length of a whole style vector, ToRGB included."""
        return self.searched + sum(self.rgb_widths)

    def layer(self, coordinate: int) -> int:
        """Index of the convolution to which a searched coordinate belongs."""
        end = 0
        for layer, width in enumerate(self.widths):
            end += width
            if 0 <= coordinate < end:
                return layer
        raise ValueError(f"coordinate {coordinate} is not one of the {self.searched} searched ones")

    def resolution(self, coordinate: int) -> int:
        """Side in pixels at which a searched coordinate acts."""
        return self.resolutions[self.layer(coordinate)]

    def split(self, styles: Styles) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Cut a style vector into the convolutions' styles and the ToRGB layers' styles."""
        parts = styles.split([*self.widths, *self.rgb_widths], dim=1)
        return parts[: len(self.widths)], parts[len(self.widths) :]


@dataclass(frozen=True)
class Attribute:
    """One style coordinate with a direction that moves the classifier towards a target class.

    Args:
        coordinate: index into the style vector.
        direction: 0 towards the low bound, 1 towards the high bound.
        target: index of the class whose logit it raises.
        effect: mean change of the target's logit over the images that its selection considered.
        share: share of those images whose target logit rises by more than 0.2 (method.md 4.3).
        layer: index of the convolution; -1 where the layout is unknown.
        resolution: side in pixels at which it acts; 0 where the layout is unknown.
    """

    coordinate: int
    direction: int
    target: int
    effect: float
    share: float = 0.0
    layer: int = -1
    resolution: int = 0

    @property
    def key(self) -> tuple[int, int, int]:
        """What tells it from the others of a search: target, coordinate and direction."""
        return self.target, self.coordinate, self.direction


def bounds(styles: Styles) -> Bounds:
    """Lowest and highest value of every coordinate over the images (method.md 4.1, notebook)."""
    return torch.stack([styles.amin(0), styles.amax(0)])


def shift(
    styles: Styles, coordinate: int, direction: int, bounds: Bounds, strength: float = 1.0
) -> Styles:
    """Move one coordinate towards its bound: 1 lands on it, above 1 extrapolates (method.md 4.1).

    Returns:
        A copy `[n, s]`; the argument is left alone.
    """
    moved = styles.clone()
    here = styles[:, coordinate]
    moved[:, coordinate] = here + strength * (bounds[direction, coordinate] - here)
    return moved


def shift_all(
    styles: Styles, attributes: Sequence[Attribute], bounds: Bounds, strength: float = 1.0
) -> Styles:
    """Apply several attributes together, in order."""
    for attribute in attributes:
        styles = shift(styles, attribute.coordinate, attribute.direction, bounds, strength)
    return styles
