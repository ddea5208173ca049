"""Pictures for people: grids, strips, difference maps, animations. Pillow only writes them."""

import io
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from stylex.photos import to_bytes
from stylex.runs import replacing
from stylex.shapes import Images

FLICKER_MS = 600  # method.md 4.4

View = Literal["after", "split", "difference", "flicker"]  # of the page


def to_picture(image: Tensor, *, scale: int = 1) -> Image.Image:
    """One image `[c, h, w]` in [-1, 1] as a picture, each pixel `scale` pixels wide."""
    pixels = to_bytes(image.detach()[None])[0].cpu()
    rgb = pixels.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
    picture = Image.fromarray(rgb, "RGB")
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def difference_map(before: Tensor, after: Tensor) -> Tensor:
    """Where an edit of one image `[c, h, w]` acts and how, as an image of the same shape.

    Mid-gray where nothing changes; elsewhere brighter, darker or in the colour that was added, full
    at a change of half the range. Channels are kept apart: averaged, green to brown would be gray.
    """
    return (after - before).clamp(-1, 1)


def sheet(rows: Sequence[Images], labels: Sequence[str], *, scale: int = 2) -> Image.Image:
    """Rows of images with a label to the left of each."""
    cells = [[to_picture(image, scale=scale) for image in row] for row in rows]
    side, gap, font = cells[0][0].height, 2, ImageFont.load_default(12)
    margin = 8 + max(int(font.getlength(label)) for label in labels)
    width = margin + (side + gap) * max(len(row) for row in cells)
    canvas = Image.new("RGB", (width, (side + gap) * len(cells)), "white")
    draw = ImageDraw.Draw(canvas)
    for y, (row, label) in enumerate(zip(cells, labels, strict=True)):
        draw.text((4, y * (side + gap) + side // 2), label, fill="black", font=font, anchor="lm")
        for x, cell in enumerate(row):
            canvas.paste(cell, (margin + x * (side + gap), y * (side + gap)))
    return canvas


def captioned(images: Images, captions: Sequence[str], *, scale: int = 4) -> Image.Image:
    """Images side by side, each with a caption of one or more lines below it."""
    font = ImageFont.load_default(12)
    cells = [to_picture(image, scale=scale) for image in images]
    lines = 1 + max(caption.count("\n") for caption in captions)
    widest = max(font.getlength(x) for caption in captions for x in caption.split("\n"))
    step, side = max(cells[0].width, int(widest)) + 8, cells[0].height
    canvas = Image.new("RGB", (step * len(cells), side + 6 + 15 * lines), "white")
    draw = ImageDraw.Draw(canvas)
    for x, (cell, caption) in enumerate(zip(cells, captions, strict=True)):
        canvas.paste(cell, (x * step + (step - cell.width) // 2, 0))
        for y, line in enumerate(caption.split("\n")):
            place = (x * step + step // 2, side + 4 + 15 * y)
            draw.text(place, line, fill="black", font=font, anchor="ma")
    return canvas


def centred(picture: Image.Image, width: int) -> Image.Image:
    """The picture in the middle of a white one of that width: frames of an animation match."""
    canvas = Image.new("RGB", (width, picture.height), "white")
    canvas.paste(picture, ((width - picture.width) // 2, 0))
    return canvas


def sprite(rows: Sequence[Images]) -> Image.Image:
    """Rows of frames without gaps: row r, column c at (c * side, r * side)."""
    return to_picture(torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1))


def save(picture: Image.Image, path: Path) -> None:
    """Write one picture; the suffix decides the format."""
    with replacing(path) as partial:
        picture.save(partial)


def pack(named: Iterable[tuple[str, Tensor]], path: Path) -> None:
    """Write images `[c, h, w]` as PNG files of a zip; the same images give the same bytes."""
    with replacing(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for name, image in named:
            png = io.BytesIO()
            to_picture(image).save(png, "PNG")
            archive.writestr(zipfile.ZipInfo(name), png.getvalue())  # a fixed date


def animate(frames: Sequence[Image.Image], path: Path, *, milliseconds: int = FLICKER_MS) -> None:
    """Write an endless animation (.gif or .webp)."""
    with replacing(path) as partial:
        frames[0].save(
            partial,
            save_all=True,
            append_images=list(frames[1:]),
            duration=milliseconds,
            loop=0,
            lossless=True,  # read by WebP alone
        )


def heat(changes: Float[Tensor, "n h w"]) -> Float[Tensor, "1 h w"]:
    """Mean absolute change of each pixel, from black to white at its largest."""
    mean = changes.mean(0, keepdim=True)
    return 2 * mean / mean.max().clamp_min(1e-8) - 1


def seen(drawn: Float[Tensor, "2 c h w"], view: View, edge: float) -> Float[Tensor, "1 c h w"]:
    """What the page shows of an image before and after a change.

    Args:
        drawn: both.
        view: the changed one, a split of both, or their difference.
        edge: where a split lies, 0 to 1 from the left.
    """
    before, after = drawn.split(1)
    if view == "difference":
        return difference_map(before, after)
    at = round(edge * after.shape[-1]) if view == "split" else 0
    return torch.cat([before[..., :at], after[..., at:]], 3)


def atlas(images: Images, columns: int) -> bytes:
    """Many images as one WebP, in rows."""
    blank = -len(images) % columns
    full = torch.cat([images, images.new_ones(blank, *images.shape[1:])])
    return encoded(sprite(full.split(columns)), "WEBP", quality=85)


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """A picture as a file in memory."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()
