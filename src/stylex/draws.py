"""Random numbers for a batch that several processes share."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor


class Draw:
    """Draws for the whole batch, of which this process takes those of its own images.

    Of R processes, process r holds the images r, r + R, r + 2R ... of every batch, and each draws
    the numbers of all images. So what an image gets does not depend on R.

    Args:
        generator: in the same state on all processes; it also gives what the whole batch shares.
        rank: this process.
        ranks: processes in all.
    """

    def __init__(self, generator: torch.Generator, *, rank: int = 0, ranks: int = 1):
        assert 0 <= rank < ranks
        self.generator, self.rank, self.ranks = generator, rank, ranks

    def uniform(self, *shape: int, axis: int = 0) -> Tensor:
        """Numbers from 0 to 1 in the shape of this process's part; `axis` holds the images."""
        return self._mine(torch.rand, shape, axis)

    def normal(self, *shape: int, axis: int = 0) -> Tensor:
        """Numbers of mean 0 and deviation 1."""
        return self._mine(torch.randn, shape, axis)

    def integers(self, low: int, high: int, *shape: int, axis: int = 0) -> Tensor:
        """Whole numbers from `low` up to, but not, `high`."""
        return self._mine(partial(torch.randint, low, high), shape, axis)

    def _mine(self, function: Callable[..., Tensor], shape: tuple[int, ...], axis: int) -> Tensor:
        whole = [n * self.ranks if place == axis else n for place, n in enumerate(shape)]
        drawn = function(whole, generator=self.generator, device=self.generator.device)
        return drawn[(slice(None),) * axis + (slice(self.rank, None, self.ranks),)]
