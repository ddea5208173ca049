"""Random, differentiable changes of images: DiffAugment for D, and spoiling (blur, noise, scaling).

Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training": brightness,
saturation and contrast, translation by up to an eighth of the side, one cut-out of half the side.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from stylex.draws import Draw
from stylex.shapes import Images


def diff_augment(images: Images, draw: Draw) -> Images:
    """Every image gets its own draw."""
    return cut_out(translate(recolour(images, draw), draw), draw)


def recolour(images: Images, draw: Draw) -> Images:
    """Brightness +-0.25 of a range of 2, saturation and contrast x0.5 to x1.5.

    [O] Half as strong as what the paper is remembered for: colour tells classes apart.
    """
    brightness, saturation, contrast = _uniform(images, 3, draw)
    images = images + (brightness - 0.5) * 0.5
    gray = images.mean(1, keepdim=True)
    images = gray + (images - gray) * (saturation + 0.5)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * (contrast + 0.5)


def translate(images: Images, draw: Draw) -> Images:
    """Shift by up to an eighth of the side; what comes in is zero.

    Rows and columns are picked by products with zeros and ones, whose gradient is a product too:
    that of an index is slow on a GPU.
    """
    n, _, h, w = images.shape
    dy, dx = draw.integers(-(h // 8), h // 8 + 1, 2, n, 1, 1, 1, axis=1)
    rows, columns = (torch.arange(side, device=images.device) for side in (h, w))
    rows = (rows[:, None] + dy == rows).to(images.dtype)  # [n, 1, to, from]
    columns = (columns[:, None] == columns + dx).to(images.dtype)  # [n, 1, from, to]
    return rows @ images @ columns


def cut_out(images: Images, draw: Draw) -> Images:
    """Zero a square of half the side with its centre anywhere."""
    _, _, h, w = images.shape
    cy, cx = (u.flatten(1) for u in _uniform(images, 2, draw))
    rows = (torch.arange(h, device=images.device)[None] - cy * h).abs() < h / 4
    columns = (torch.arange(w, device=images.device)[None] - cx * w).abs() < w / 4
    return images * ~(rows[:, :, None] & columns[:, None, :])[:, None]


def spoil(images: Images, draw: Draw) -> Images:
    """Blur, scale down and up, and add noise, each by an amount drawn for this batch.

    Gaussian blur of up to 1.5 pixels; scaling to 1, 2/3 or 1/2 and back; fine and coarse (blotchy)
    noise of standard deviation up to 0.08.
    """
    size = images.shape[-1]
    given = {"generator": draw.generator, "device": draw.generator.device}
    blur, fine, coarse = torch.rand(3, **given).tolist()
    images = gaussian_blur(images, 1.5 * blur)
    which = int(torch.randint(3, (1,), **given))
    smaller = (size, size * 2 // 3, size // 2)[which]
    images = resize(resize(images, smaller), size)
    blotches = draw.normal(*images.shape[:2], 6, 6)
    speckles = draw.normal(*images.shape)
    return images + 0.08 * fine * speckles + 0.08 * coarse * resize(blotches, size)


def gaussian_blur(images: Images, sigma: float) -> Images:
    """Blur by a Gaussian of standard deviation `sigma` pixels, edges repeated."""
    reach = max(1, round(3 * sigma))
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / max(sigma, 1e-3)) ** 2)
    taps = (taps / taps.sum()).to(images).expand(images.shape[1], 1, 1, -1)
    padded = F.pad(images, (reach,) * 4, mode="replicate")
    rows = F.conv2d(padded, taps, groups=images.shape[1])
    return F.conv2d(rows, taps.mT, groups=images.shape[1])


def _uniform(images: Images, count: int, draw: Draw) -> Tensor:
    return draw.uniform(count, len(images), 1, 1, 1, axis=1).to(images.dtype)


def resize(images: Images, size: int) -> Float[Tensor, "n c size size"]:
    """To `size` pixels a side, antialiased."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, size=size, mode="bilinear", antialias=True)
