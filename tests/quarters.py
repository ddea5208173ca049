"""A scene and a classifier in closed form: four gray quarters are four factors, read exactly."""

import torch
from small import grays
from torch import Tensor
from torch.nn import functional

from stylex.readers import Reader
from stylex.scenes import Scene


def draw_quarters(factors: Tensor, resolution: int, supersample: int) -> Tensor:
    """Gray of a quarter: its factor, from -0.8 to 0.8."""
    gray = (1.6 * factors - 0.8).view(-1, 1, 2, 2)
    return functional.interpolate(gray, size=(resolution, resolution)).expand(-1, 3, -1, -1)


QUARTERS = Scene("quarters", ("one", "two", "three", "four"), draw_quarters)


def read(images: Tensor) -> Tensor:
    """The factors of quarters, exactly."""
    return (grays(images) + 0.8) / 1.6


def weighed(*weights: float, extra: float | None = None):
    """A classifier whose margin is a weighted sum of the factors; perhaps with an unused class."""

    def classify(images: Tensor) -> Tensor:
        lead = (read(images) - 0.5) @ torch.tensor(weights).float()
        logits = [-lead / 2, lead / 2]
        return torch.stack([*logits, *([] if extra is None else [lead * 0 + extra])], 1)

    return classify


def sampled(n: int, seed: int = 0, scene: Scene = QUARTERS) -> Tensor:
    """Factors from a seed."""
    return scene.sample(n, torch.Generator().manual_seed(seed))


class Exact(Reader):
    """The reader of quarters."""

    def __init__(self):
        super().__init__(QUARTERS, {}, [])

    def read(self, images: Tensor) -> Tensor:
        """The factors, exactly."""
        return read(images)
