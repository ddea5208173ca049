"""Photos: where the files lie and how one of them becomes a tensor, whatever its size and mode."""

import io
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from stylex.shapes import Images

Bytes = UInt8[Tensor, "n c h w"]
COMMON = ("PNG", "JPEG", "WEBP", "GIF", "BMP")  # all that a stranger may send
MOST_PIXELS = 40_000_000  # of a stranger's image


@dataclass(frozen=True)
class Entry:
    """One file of a source: a folder, a zip or a list.

    Args:
        source: the folder, zip or list file.
        name: path of the file inside the source, with forward slashes.
        archive: the opened zip, for an entry of one.
    """

    source: Path
    name: str
    archive: zipfile.ZipFile | None = field(default=None, compare=False, repr=False)

    def read(self) -> bytes:
        """The file as it is.

        Raises:
            ValueError: it is missing, unreadable, or a damaged or encrypted member of its zip.
        """
        folder = self.source.parent if self.source.is_file() else self.source
        try:
            return (
                self.archive.read(self.name) if self.archive else (folder / self.name).read_bytes()
            )
        except FileNotFoundError:
            raise ValueError("no such file") from None
        except Exception as error:  # zipfile passes on many kinds from its decompressors
            raise ValueError(f"cannot be read ({_reason(error)})") from None


def find_images(source: str | Path) -> list[Entry]:
    """List the files of a folder (recursive), a .zip or a .txt list, sorted by name.

    Nothing is opened yet: a file that is no image is found out, and named, when it is read.

    Args:
        source: a list holds one path per line, relative to the list file; empty lines are skipped.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: it is of another kind, a damaged zip or list, or holds no file.
    """
    source, archive = Path(source), None
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist; give a folder, a .zip or a .txt list")
    if source.is_dir():
        names = [p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file()]
    elif source.suffix.lower() == ".zip":
        archive = _open_zip(source)
        names = [member.filename for member in archive.infolist() if not member.is_dir()]
    elif source.suffix.lower() == ".txt":
        names = _lines(source)
    else:
        raise ValueError(f"{source} is a single file; give a folder, a .zip or a .txt list")
    kept = sorted({name for name in names if "__MACOSX" not in name.split("/")})
    for name in kept:
        try:
            name.encode()  # as it will be hashed and written down
        except UnicodeEncodeError:
            raise ValueError(f"{source}: the name {name!r} is no text; rename that file") from None
    if not kept:
        raise ValueError(f"{source} holds no file; wanted images, give another source")
    return [Entry(source, name, archive) for name in kept]


def _open_zip(source: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(source)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{source} is not a whole zip ({error}); copy or pack it anew") from None


def _lines(source: Path) -> list[str]:
    try:
        lines = source.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(
            f"{source} is not UTF-8 text; wanted a list with one path per line, save it anew"
        ) from None
    return [line.strip() for line in lines if line.strip()]


# One image


def open_image(
    file: str | Path | bytes, *, resolution: int, channels: int = 3, strange: bool = False
) -> UInt8[Tensor, "c h w"]:
    """Open an image of any size and mode, as the networks will see it.

    Turned as its EXIF says, transparency over white, 16 bits scaled to 8, centre-cropped to a
    square and resized with antialiasing (enlarged too).

    Args:
        file: a path, or the bytes of a file.
        resolution: side in pixels, a power of two from 32 to 256.
        channels: 3 for RGB, 1 for gray.
        strange: somebody else sent it: only the `COMMON` formats, and at most `MOST_PIXELS`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is broken, truncated, too large or no image; or a bad argument.
    """
    check(resolution, channels)
    named = not isinstance(file, bytes)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata beside sound pixels
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            formats = COMMON if strange else None
            with Image.open(file if named else io.BytesIO(file), formats=formats) as image:
                if strange and image.width * image.height > MOST_PIXELS:
                    raise ValueError(f"{image.width} x {image.height} pixels are too many")
                square = _square(image, resolution, "L" if channels == 1 else "RGB")
    except FileNotFoundError:
        raise FileNotFoundError(f"{file} does not exist; give an image file") from None
    except Exception as error:  # Pillow's readers raise many kinds on a broken file
        told = f"not a readable image ({_reason(error)})"
        if named:
            told = f"{file} is {told}; save it anew as PNG or give another"
        raise ValueError(told) from None
    pixels = torch.from_numpy(np.array(square))
    return pixels.reshape(resolution, resolution, channels).permute(2, 0, 1).contiguous()


def to_unit(pixels: Bytes) -> Images:
    """From bytes to [-1, 1]."""
    return pixels.float() / 127.5 - 1


def as_unit(images: Images | Bytes) -> Images:
    """In [-1, 1], whatever they were."""
    return images if images.is_floating_point() else to_unit(images)


def to_bytes(images: Images) -> Bytes:
    """From [-1, 1] to the nearest bytes; what lies outside is clamped."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def check(resolution: int, channels: int | None, limit: int | None = None) -> None:
    """Refuse a resolution, a number of channels or a limit that makes no sense, in one line."""
    if resolution not in (32, 64, 128, 256):
        raise ValueError(f"resolution is {resolution}; wanted a power of two from 32 to 256")
    if channels not in (1, 3, None):
        raise ValueError(f"channels is {channels}; wanted 3 for RGB or 1 for gray, choose one")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; wanted at least 1 image, raise it or leave it out")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "unknown format"  # Pillow's own line holds a memory address
    return " ".join(str(error).split()) or type(error).__name__


def _square(image: Image.Image, resolution: int, mode: str) -> Image.Image:
    image.draft(None, (2 * resolution, 2 * resolution))  # large JPEG: skip most of the decoding
    upright = _opaque(ImageOps.exif_transpose(image)).convert(mode)
    side = min(upright.size)
    left, top = (upright.width - side) // 2, (upright.height - side) // 2
    cropped = upright.crop((left, top, left + side, top + side))
    return cropped.resize((resolution, resolution), Image.Resampling.LANCZOS)


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode == "F" and (levels := np.asarray(image)).max() <= 1:  # white is 1, not 255
        return Image.fromarray(levels * 255)
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip instead of scaling
        levels = np.asarray(image).astype(np.float32)
        levels = levels / 257 if levels.max() > 255 else levels  # 8 bits may be kept in 32
        return Image.fromarray(levels.round().clip(0, 255).astype(np.uint8))
    if not image.has_transparency_data:
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA"))


# Many images


class OnDemand:
    """Images too many for the cache: opened from their files each time they are indexed.

    Args:
        entries: their files, all known to be readable.
        digests: SHA-256 of each image's pixels.
        shape: n, c, h, w.
    """

    def __init__(self, entries: Sequence[Entry], digests: Sequence[str], shape: Sequence[int]):
        self.entries, self.digests, self.shape = tuple(entries), tuple(digests), torch.Size(shape)

    def __getitem__(self, indices: Tensor | slice | Sequence[int]) -> Bytes:
        """Open some of them, as indexing a tensor would."""
        rows = torch.arange(len(self.entries))[_here(indices)].tolist()
        opened = [self._open(self.entries[row]) for row in rows]
        return torch.stack(opened) if opened else torch.empty(0, *self.shape[1:]).byte()

    def _open(self, entry: Entry) -> UInt8[Tensor, "c h w"]:
        try:
            return open_image(entry.read(), resolution=self.shape[2], channels=self.shape[1])
        except ValueError as error:  # it was readable when the images were counted
            raise ValueError(f"{entry.name} has changed since: {error}; restore it") from None


def _here(indices: Tensor | slice | Sequence[int]) -> Tensor | slice | Sequence[int]:
    return indices.cpu() if isinstance(indices, Tensor) else indices
