"""Which images are drawn, and which random numbers, for a batch that several processes share."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from jaxtyping import Int64
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


class Sampler(Iterator[Int64[Tensor, " b"]]):
    """Indices without end, each epoch a new order of all images; batches run across epochs.

    What comes next depends only on the seed and on how many images were drawn, so that a resumed
    run draws as the straight one. All ranks hold the same order; of each batch, rank r of R
    takes images r, r + R, r + 2R ... (as in `Draw`).

    Args:
        n: number of images.
        batch: images per step over all ranks.
        seed: of the orders.
        rank: this process.
        ranks: processes in all; they divide the batch.

    Raises:
        ValueError: there are no images, or the ranks do not divide the batch.
    """

    def __init__(self, n: int, *, batch: int, seed: int, rank: int = 0, ranks: int = 1):
        if n < 1:
            raise ValueError("there are 0 images to draw from; wanted at least 1, give more images")
        if batch < 1 or batch % ranks:
            raise ValueError(
                f"batch is {batch} over {ranks} ranks; wanted a multiple of {ranks}, change it"
            )
        assert 0 <= rank < ranks
        self.n, self.batch, self.seed = n, batch, seed
        self.rank, self.ranks = rank, ranks
        self.images_seen = 0
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def seek(self, images_seen: int) -> "Sampler":
        """Go to where so many images were drawn, over all ranks; returns itself."""
        self.images_seen = images_seen
        return self

    def __next__(self) -> Int64[Tensor, " b"]:
        """This rank's indices of the next batch."""
        first = self.images_seen
        self.images_seen += self.batch
        drawn, last = [], self.images_seen
        while first < last:
            epoch, at = divmod(first, self.n)
            drawn.append(self._shuffled(epoch)[at : at + last - first])
            first += len(drawn[-1])
        return torch.cat(drawn)[self.rank :: self.ranks]

    def _shuffled(self, epoch: int) -> Int64[Tensor, " n"]:
        if epoch != self._epoch:
            source = torch.Generator().manual_seed((1_000_003 * self.seed + epoch) % 2**63)
            self._epoch, self._order = epoch, torch.randperm(self.n, generator=source)
        return self._order
