"""Images for training, searching and explaining: read, split, cached, and drawn without end.

One decoding for all (`photos`): uint8 in the cache, [-1, 1] for the networks.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from stylex.photos import Bytes, Entry, OnDemand, check, find_images, open_image, to_unit
from stylex.shapes import Images
from stylex.splits import SPLITS, check_whole, given_sides, group_pattern, hashed_sides, thumbnail
from stylex.telling import Waiting, left_out, say


@dataclass(frozen=True)
class ImageSet:
    """Images of one split, with what is known of their files.

    Args:
        images: `[n, c, h, w]` bytes, decoded, or opened on demand past the cache's budget.
        names: path of each image inside its source.
        skipped: "name: reason" of each file left out.
        labels: name of the folder that directly holds each image, empty where it lies in none; none
            where all do.
    """

    images: Bytes | OnDemand
    names: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    labels: tuple[str, ...] | None = None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.names)

    def batch(self, indices: Tensor | slice | Sequence[int]) -> Images:
        """Some of the images, in [-1, 1], where the bytes lie."""
        return to_unit(self.images[indices])

    def on(self, device: torch.device) -> "ImageSet":
        """The same with its bytes on a device, unless they are opened on demand."""
        images = self.images
        return replace(self, images=images.to(device)) if isinstance(images, Tensor) else self

    @property
    def channels(self) -> int:
        """3 for RGB, 1 for gray."""
        return self.images.shape[1]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the folders that hold the images, sorted."""
        return tuple(sorted({*(self.labels or ())} - {""}))

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """SHA-256 of each image's pixels."""
        images = self.images
        return images.digests if isinstance(images, OnDemand) else tuple(map(_digest, images))

    def without(self, known: Collection[str]) -> "ImageSet":
        """Those of the images whose digests are none of the known."""
        rows = [i for i, digest in enumerate(self.digests) if digest not in known]

        def some(column: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(column[i] for i in rows)

        images, shape = self.images, (len(rows), *self.images.shape[1:])
        if isinstance(images, OnDemand):
            images = OnDemand(some(images.entries), some(images.digests), shape)
        else:
            images = images[rows]
        labels = self.labels and some(self.labels)
        return replace(self, images=images, names=some(self.names), labels=labels)

    @property
    def hash(self) -> str:
        """SHA-256 over names and pixels, the same whether cached or not."""
        pairs = zip(self.names, self.digests, strict=True)
        return hashlib.sha256("\n".join(f"{d} {n}" for n, d in pairs).encode()).hexdigest()


def _digest(pixels: UInt8[Tensor, "c h w"]) -> str:
    return hashlib.sha256(pixels.numpy().tobytes()).hexdigest()


def _labels(names: Sequence[str]) -> tuple[str, ...] | None:
    folders = (PurePosixPath(name).parent.name for name in names)
    labels = tuple("" if folder in SPLITS else folder for folder in folders)
    return labels if any(labels) else None


@dataclass
class _Reading:
    """Images as they are read: one row each, in reading order."""

    shape: tuple[int, int, int]
    cache: Bytes | None
    compared: bool = False  # with each other, by their thumbnails
    entries: list[Entry] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)  # SHA-256 of the file
    digests: list[str] = field(default_factory=list)  # SHA-256 of the pixels
    thumbnails: list[Tensor] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)  # name: reason

    def add(self, entry: Entry) -> None:
        try:
            content = entry.read()
            pixels = open_image(content, resolution=self.shape[1], channels=self.shape[0])
        except ValueError as error:
            self.skipped[entry.name] = str(error)
            return
        if self.cache is not None:
            self.cache[len(self.entries)] = pixels
        self.entries.append(entry)
        self.contents.append(hashlib.sha256(content).hexdigest())
        self.digests.append(_digest(pixels))
        if self.compared:
            self.thumbnails.append(thumbnail(pixels))

    def only(self, wanted: Callable[[str], bool]) -> ImageSet:
        """The images whose name is wanted, sorted by it."""
        rows = [row for row, entry in enumerate(self.entries) if wanted(entry.name)]
        rows.sort(key=lambda row: self.entries[row].name)
        entries = [self.entries[row] for row in rows]
        if self.cache is None:
            images = OnDemand(entries, [self.digests[i] for i in rows], (len(rows), *self.shape))
        else:
            images = self.cache[torch.tensor(rows, dtype=torch.long)]
        names = tuple(entry.name for entry in entries)
        skipped = (f"{name}: {why}" for name, why in sorted(self.skipped.items()) if wanted(name))
        return ImageSet(images, names, tuple(skipped), _labels(names))


def _read(
    entries: Sequence[Entry],
    *,
    resolution: int,
    channels: int | None,
    limit: int | None,
    seed: int,
    cache_bytes: int,
    compared: bool = False,
) -> _Reading:
    """Open each file once; with a limit, random ones until so many were usable."""
    channels = channels or _channels(entries, resolution)
    wanted = min(limit or len(entries), len(entries))
    if wanted < len(entries):
        order = torch.randperm(len(entries), generator=torch.Generator().manual_seed(seed))
        entries = [entries[i] for i in order.tolist()]
    shape = (channels, resolution, resolution)
    fits = wanted * channels * resolution**2 <= cache_bytes
    cache = torch.empty(wanted, *shape, dtype=torch.uint8) if fits else None
    reading = _Reading(shape, cache, compared)
    tell = Waiting(f"reading {entries[0].source}", "files")
    for tried, entry in enumerate(entries, start=1):
        reading.add(entry)
        tell(tried, min(wanted + len(reading.skipped), len(entries)))
        if len(reading.entries) == wanted:
            break
    if not reading.entries:
        name, why = next(iter(reading.skipped.items()))
        raise ValueError(
            f"{entries[0].source}: none of {len(entries)} files is a usable image "
            f"({name}: {why}); give JPEG, PNG or another format that Pillow reads"
        )
    return reading


def _channels(entries: Sequence[Entry], resolution: int) -> int:
    """1 where all of 64 images, drawn from all, are gray; files that are none do not count."""
    order = torch.randperm(len(entries), generator=torch.Generator().manual_seed(0)).tolist()

    def gray() -> Iterator[bool]:
        for i in order:
            with suppress(ValueError):
                pixels = open_image(entries[i].read(), resolution=resolution)
                yield bool((pixels == pixels[:1]).all())

    return 1 if all(islice(gray(), 64)) else 3


def read_images(
    source: str | Path,
    *,
    resolution: int,
    channels: int | None = 3,
    limit: int | None = None,
    seed: int = 0,
    cache_bytes: int = 4 * 2**30,
) -> ImageSet:
    """Read all images of a source, unsplit; arguments and errors as `read_splits`."""
    check(resolution, channels, limit)
    reading = _read(
        find_images(source),
        resolution=resolution,
        channels=channels,
        limit=limit,
        seed=seed,
        cache_bytes=cache_bytes,
    )
    left_out(source, reading.skipped)
    return reading.only(lambda name: True)


def load_images(
    source: str | Path,
    *,
    resolution: int,
    channels: int | None = 3,
    split: str | None = None,
    group: str | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Images:
    """Load images as one tensor `[n, c, h, w]` in [-1, 1], sorted by name.

    Args:
        source: a folder, a .zip or a .txt list.
        resolution: side in pixels, a power of two from 32 to 256.
        channels: 3 for RGB, 1 for gray, None to look.
        split: train, search or test as `read_splits` gives them; all images where left out.
        group: of `read_splits`: give that of the run, or its split is another.
        limit: at most so many images, drawn by `seed`.
        seed: of that draw.

    Raises:
        FileNotFoundError: there is no such source.
        ValueError: no image is usable, or a bad argument.
    """
    if split is None:
        read = read_images(source, resolution=resolution, channels=channels, limit=limit, seed=seed)
        return read.batch(slice(None))
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; wanted train, search or test, choose one")
    check(resolution, channels, limit)
    chosen = read_splits(source, resolution=resolution, channels=channels, group=group)[split]
    if not len(chosen):
        raise ValueError(f"{source} has no image in {split}; give more images or no split")
    order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(seed))
    return chosen.batch(order[:limit].sort().values)


def read_splits(
    source: str | Path,
    *,
    resolution: int,
    channels: int | None = 3,
    group: str | None = None,
    seed: int = 0,
    limit: int | None = None,
    cache_bytes: int = 4 * 2**30,
) -> dict[str, ImageSet]:
    """Read images and split them into train, search and test.

    Top folders `train/ search/ test/` are taken as they are, unless they divide a group. Otherwise
    80/10/10 by the SHA-256 of the files: renaming and other images do not move an image, nor do
    seed and resolution.
    Near-duplicates (mirrored and turned ones too) and the images of one group stand on the side of
    their smallest hash. From three groups on, no side is empty: the groups of smallest hash fill
    test, then search; below three all is train. A group above a tenth of the images goes to train
    while there are others.

    Args:
        source: a folder, a .zip or a .txt list.
        resolution: side in pixels, a power of two from 32 to 256.
        channels: 3 for RGB, 1 for gray, None to look.
        group: regular expression searched in each name; its first capture (or the whole match) is
            the group: a patient, a person, a source. A name that does not match stands alone.
        seed: of the draw that `limit` makes.
        limit: at most so many images in all, drawn at random.
        cache_bytes: budget of the decoded images (twice that while splitting); above it they are
            opened on demand.

    Returns:
        The three sets; each skipped file is named once, in train where it has no side.

    Raises:
        FileNotFoundError: there is no such source.
        ValueError: no image is usable, a given folder is missing or empty or divides a group, a bad
            `group`, or a bad argument.
    """
    check(resolution, channels, limit)
    pattern = group_pattern(group)
    entries = find_images(source)
    given = given_sides(source, [entry.name for entry in entries])
    if given and pattern:
        check_whole(source, given, pattern)
    reading = _read(
        [entry for entry in entries if not given or entry.name in given],
        resolution=resolution,
        channels=channels,
        limit=limit,
        seed=seed,
        cache_bytes=cache_bytes,
        compared=not given,
    )
    outside = [entry.name for entry in entries if given and entry.name not in given]
    reading.skipped |= dict.fromkeys(outside, "outside train/, search/ and test/")
    left_out(source, reading.skipped)
    sides = given or hashed_sides(
        [entry.name for entry in reading.entries],
        reading.contents,
        torch.stack(reading.thumbnails),
        pattern,
    )
    split = {
        side: reading.only(lambda name, side=side: sides.get(name, "train") == side)
        for side in SPLITS
    }
    if given and (empty := [side for side in SPLITS if not len(split[side])]):
        raise ValueError(f"{source} gave no usable image from {empty[0]}/; add some or raise limit")
    if given:  # taken as they are, and told
        trained = set(split["train"].digests)
        for side in ("search", "test"):
            if again := sum(digest in trained for digest in split[side].digests):
                say(f"{source}: {again:,} images of {side}/ are in train/ too; keep each in one")
    return split
