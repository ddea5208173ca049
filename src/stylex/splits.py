"""Which side of the split each image stands on: train, search or test; which half of train.

By its folder, or by the hash of its file with near-duplicates and groups kept together.
"""

import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional

SPLITS = ("train", "search", "test")
SEARCH_SHARE = TEST_SHARE = 0.1

SIDE = 16  # of a thumbnail, in pixels
SHAPE = 0.1  # largest distance of two thumbnails without their mean, scaled to length 1
PIXELS = 10.0  # largest root mean square distance of two thumbnails, in gray levels of 255
FLAT = 1.0  # length below which a thumbnail is one colour: about 0.04 gray levels a pixel

Thumbnails = Float[Tensor, "n c 16 16"]
Rows = Int64[Tensor, " p"]


def group_pattern(group: str | None) -> re.Pattern[str] | None:
    """Compile the user's `group`.

    Raises:
        ValueError: it is no regular expression.
    """
    try:
        return re.compile(group) if group is not None else None
    except re.error as error:
        raise ValueError(
            f"group {group!r} is no regular expression ({error}); correct it, e.g. '(patient\\d+)'"
        ) from None


def given_sides(source: str | Path, names: Sequence[str]) -> dict[str, str]:
    """Side of each name that lies in a top folder `train/ search/ test/`; empty without these.

    Raises:
        ValueError: some of the three are there, but not all.
    """
    paths = [name.split("/") for name in names]
    while len(tops := {path[0] for path in paths if len(path) > 1}) == 1 and not tops & {*SPLITS}:
        # a zip often wraps all in one folder, with a note or two beside it
        paths = [path[1:] if len(path) > 1 else path for path in paths]
    tops = [path[0] if len(path) > 1 else "" for path in paths]
    if (missing := sorted(set(SPLITS) - set(tops))) and len(missing) < len(SPLITS):
        raise ValueError(
            f"{source} has some of train/, search/ and test/ but not {' and '.join(missing)}; "
            "make all three, or rename what is there"
        )
    return {name: top for name, top in zip(names, tops, strict=True) if top in SPLITS}


def check_whole(source: str | Path, sides: dict[str, str], pattern: re.Pattern[str]) -> None:
    """Refuse a given split that divides a group.

    Raises:
        ValueError: it does, or the pattern matches no name.
    """
    names = list(sides)
    for first, row in _same_group(names, pattern):
        if sides[names[first]] != sides[names[row]]:
            raise ValueError(
                f"{source}: {names[first]} and {names[row]} are one group of {pattern.pattern!r}; "
                "keep each group in one of train/, search/ and test/, or leave the group out"
            )


def in_half_a(names: Sequence[str], group: str | None = None) -> Bool[Tensor, " n"]:
    """Which images belong to half A: those whose file name has an even CRC-32.

    Args:
        names: of the images.
        group: see `read_splits`; a name that matches goes by what it captures, so that no group
            stands in both halves.
    """
    pattern = group_pattern(group)

    def key(name: str) -> str:
        captured = _captured(pattern, name) if pattern else None
        return PurePosixPath(name).name if captured is None else captured

    return torch.tensor([zlib.crc32(key(name).encode()) % 2 == 0 for name in names])


def hashed_sides(
    names: Sequence[str],
    contents: Sequence[str],
    thumbnails: Thumbnails,
    pattern: re.Pattern[str] | None = None,
) -> dict[str, str]:
    """Deal images 80/10/10, each group whole, by the smallest hash of the group.

    A group is what near-duplicates and equal captures of `pattern` connect. From three groups on no
    side is empty: the groups of smallest hash fill test, then search; below three all is train. A
    group above a tenth of the images goes to train while there are others.

    Args:
        names: of the images.
        contents: SHA-256 of each file, in hexadecimal.
        thumbnails: of the images.
        pattern: searched in each name; a name without a match stands alone.

    Returns:
        Side of each name.

    Raises:
        ValueError: the pattern matches no name, or joins all into one or two groups.
    """
    pairs = list(near_duplicates(thumbnails))
    if pattern:
        pairs += _same_group(names, pattern)
    lowest = _joined(len(names), pairs)
    groups: dict[int, list[str]] = {}
    for content, group in zip(contents, lowest, strict=True):
        groups.setdefault(group, []).append(content)
    if pattern and len(groups) < 3:
        raise ValueError(
            f"group {pattern.pattern!r} joins {len(names)} images into {len(groups)}; wanted 3 "
            "groups or more, capture what tells them apart"
        )
    side = _deal({group: _place(members, len(names)) for group, members in groups.items()})
    return {name: side[group] for name, group in zip(names, lowest, strict=True)}


def _same_group(names: Sequence[str], pattern: re.Pattern[str]) -> list[tuple[int, int]]:
    first: dict[str, int] = {}
    pairs = []
    for row, name in enumerate(names):
        if (group := _captured(pattern, name)) is not None:
            pairs.append((first.setdefault(group, row), row))
    if not pairs:
        raise ValueError(
            f"group {pattern.pattern!r} matches none of {len(names)} names such as {names[0]}; "
            "correct it or leave it out"
        )
    return pairs


def _captured(pattern: re.Pattern[str], name: str) -> str | None:
    """The group that a name tells: the first capture, else the whole match; None without one."""
    if not (match := pattern.search(name)):
        return None
    captured = match[1] if pattern.groups else None
    return match[0] if captured is None else captured


def _place(contents: Sequence[str], n: int) -> float:
    """Place of a group in [0, 1) by its smallest hash; plus 1 above a tenth of all images."""
    return int(min(contents)[:8], 16) / 16**8 + (10 * len(contents) > n)


def _deal(places: dict[int, float]) -> dict[int, str]:
    """Test takes the groups in the first tenth, search those in the next, at least one each."""
    order = sorted(places, key=lambda group: places[group])
    if len(order) < 3:
        return dict.fromkeys(order, "train")
    held_out = sum(place < TEST_SHARE + SEARCH_SHARE for place in places.values())
    test = max(1, sum(place < TEST_SHARE for place in places.values()))
    search = max(1, held_out - test)
    if test + search >= len(order):
        test = search = 1
    sides = ["test"] * test + ["search"] * search
    return dict(zip(order, sides + ["train"] * (len(order) - len(sides)), strict=True))


def thumbnail(pixels: UInt8[Tensor, "c h w"]) -> Float[Tensor, "c 16 16"]:
    """An image averaged down, in gray levels."""
    return functional.avg_pool2d(pixels.float(), pixels.shape[-1] // SIDE)


def near_duplicates(thumbnails: Thumbnails, chunk: int = 512) -> Iterator[tuple[int, int]]:
    """Pairs of rows that show the same picture, saved anew, rescaled, mirrored or turned.

    Thumbnails are compared in the best of the eight turns, twice: scaled by their contrast, so that
    plain pictures with different faint textures stay apart, and in gray levels, so that a bright
    and a dark shot of one outline do. In photographs of 64 px the nearest strangers are 0.2 to 0.3
    apart in the first measure, copies saved as JPEG of quality 90 to 50 0.02 to 0.15.

    The average over the eight turns is the same for each turn of a picture, and a projection: two
    pictures are never closer than their averages. So a quarter of each average is compared with all
    others, and only what that leaves is compared turn by turn; nothing is missed.
    """
    flat = _shapes(thumbnails)
    average = torch.zeros_like(flat)
    for turned in _turns(flat):
        average += turned / 8
    average = 2 * average[..., : SIDE // 2, : SIDE // 2].flatten(1)  # a quarter stands for four
    for start in range(0, len(average), chunk):
        near = torch.cdist(average[start : start + chunk], average[start:]) <= SHAPE + 1e-3
        first, second = near.triu(1).nonzero(as_tuple=True)
        for part in torch.arange(len(first)).split(2**14):
            a, b = start + first[part], start + second[part]
            alike = _alike(thumbnails, a, b)
            yield from zip(a[alike].tolist(), b[alike].tolist(), strict=True)


def _joined(n: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Groups of rows that pairs connect: for each row the lowest row of its group."""
    lower = list(range(n))

    def lowest(row: int) -> int:
        while lower[row] != row:
            lower[row] = row = lower[lower[row]]
        return row

    for first, second in pairs:
        low, high = sorted((lowest(first), lowest(second)))
        lower[high] = low
    return [lowest(row) for row in range(n)]


def _alike(thumbnails: Thumbnails, first: Rows, second: Rows) -> Bool[Tensor, " p"]:
    here, there = thumbnails[first], thumbnails[second]
    shape = _shapes(here)
    alike = torch.zeros(len(first), dtype=torch.bool)
    for turned in _turns(there):
        pixels = (here - turned).square().flatten(1).mean(1).sqrt()
        alike |= (pixels <= PIXELS) & ((shape - _shapes(turned)).flatten(1).norm(dim=1) <= SHAPE)
    return alike


def _shapes(thumbnails: Thumbnails) -> Thumbnails:
    centred = thumbnails - thumbnails.mean((1, 2, 3), keepdim=True)
    return centred / centred.flatten(1).norm(dim=1).clamp_min(FLAT)[:, None, None, None]


def _turns(thumbnails: Thumbnails) -> Iterator[Thumbnails]:
    for mirrored in (thumbnails, thumbnails.flip(3)):
        for quarters in range(4):
            yield mirrored.rot90(quarters, (2, 3))
