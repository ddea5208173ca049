"""Marks to plant in photos, each with a reader of its own in closed form.

    photos = with_room(photos)               # so that no mark is ever clipped
    marked = MARKS["tint"].stamp(photos, 1)
    MARKS["tint"].read(marked)               # one more than of the photos, whatever they show

A mark is added to the picture and a reading is linear in it, so a *change* of the mark is read
exactly on any photo. What a photo without the mark reads is how much it happens to look like one:
nothing where the photo is gray (tint) or smooth at the mark's place (the others).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from stylex.shapes import Images

ROOM = 0.25  # of the range [-1, 1], kept free for marks: as much as a mark of strength 1 adds

Pattern = Float[Tensor, "3 h w"]


@dataclass(frozen=True)
class Mark:
    """Something that is added to a photo.

    Args:
        name: in one word.
        paint: a side in pixels to the picture that strength 1 adds, and to the weights of the
            pixels in a reading.
    """

    name: str
    paint: Callable[[int], tuple[Pattern, Pattern]] = field(repr=False)

    def stamp(self, images: Images, strength: float | Float[Tensor, " n"]) -> Images:
        """Add the mark; one strength for all images or one for each."""
        picture, _ = (part.to(images) for part in self.paint(images.shape[-1]))
        strengths = torch.as_tensor(strength).to(images).view(-1, 1, 1, 1)
        return (images + strengths * picture).clamp(-1, 1)

    def read(self, images: Images) -> Float[Tensor, " n"]:
        """How strong the mark is in each image: a stamp of strength s adds s."""
        picture, weights = (part.to(images) for part in self.paint(images.shape[-1]))
        return (images * weights).sum((1, 2, 3)) / (picture * weights).sum()


def with_room(images: Images) -> Images:
    """Photos with a little less contrast, marked or not: a mark up to strength 1 is not clipped."""
    return images * (1 - ROOM)


def _tint(side: int) -> tuple[Pattern, Pattern]:
    """All of the picture a little more magenta."""
    picture = torch.tensor([0.5, -1.0, 0.5]).view(3, 1, 1).expand(3, side, side) * ROOM
    return picture, picture


def _frame(side: int) -> tuple[Pattern, Pattern]:
    """A brighter edge, a sixteenth of the side wide; read against the next sixteenth."""
    edge = _distance(side) < side // 16
    beside = (_distance(side) < 2 * (side // 16)) & ~edge
    return _gray(ROOM * edge), _gray(edge / edge.sum() - beside / beside.sum())


def _ruler(side: int) -> tuple[Pattern, Pattern]:
    """Light and dark ticks along the bottom, an eighth of the side high; read as their contrast."""
    ticks = 1 - 2 * (torch.arange(side) // (side // 16) % 2)
    bottom = torch.arange(side)[:, None] >= side - side // 8
    picture = _gray(ROOM * ticks * bottom)
    return picture, picture


def _watermark(side: int) -> tuple[Pattern, Pattern]:
    """A light cross in the upper left corner, a quarter of the side; read against its square."""
    box, line = side // 4, torch.arange(side)
    x, y = line[None, :], line[:, None]
    inside = (x < box) & (y < box)
    cross = inside & (((x - y).abs() < side // 16) | ((x + y - box + 1).abs() < side // 16))
    rest = inside & ~cross
    return _gray(ROOM * cross), _gray(cross / cross.sum() - rest / rest.sum())


def _distance(side: int) -> Float[Tensor, "h w"]:
    """Pixels from each pixel to the nearest edge of the picture."""
    line = torch.arange(side)
    near = torch.minimum(line, side - 1 - line).float()
    return torch.minimum(near[None, :], near[:, None])


def _gray(values: Float[Tensor, "h w"]) -> Pattern:
    """The same in all three colours."""
    return values.float().expand(3, -1, -1)


MARKS = {
    mark.name: mark
    for mark in (
        Mark("watermark", _watermark),
        Mark("tint", _tint),
        Mark("ruler", _ruler),
        Mark("frame", _frame),
    )
}
