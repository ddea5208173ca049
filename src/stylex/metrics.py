"""Numbers about a trained model, each beside the floor that a trivial model would reach.

Everything is a function of tensors and callables, so every number can be checked by hand.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stylex.shapes import Images, Latents, Logits, Probabilities
from stylex.stylespace import Attribute


class PCA:
    """The best linear reconstruction with k components: the floor of L1 and LPIPS (trap 14).

    Args:
        images: training images to fit; the components are exact, not sketched.
        components: k, at most the number of images less one.
    """

    def __init__(self, images: Images, *, components: int = 128):
        flat = images.flatten(1)
        self.mean = flat.mean(0)
        centred = flat - self.mean
        # the smaller of the two Gram matrices has the same spectrum
        if len(flat) < flat.shape[1]:
            _, vectors = torch.linalg.eigh(centred @ centred.T)
            left_out = len(flat) - min(components, len(flat) - 1)
            basis = torch.linalg.qr(centred.T @ vectors[:, left_out:]).Q
        else:
            basis = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -components:]
        self.basis: Float[Tensor, "d k"] = basis

    def reconstruct(self, images: Images) -> Images:
        """Project images onto the components."""
        centred = images.flatten(1) - self.mean
        flat = self.mean + centred @ self.basis @ self.basis.T
        return flat.reshape(images.shape).clamp(-1, 1)


def l1(images: Images, others: Images) -> Float[Tensor, " n"]:
    """Mean absolute difference per image, in units of the range [-1, 1]."""
    return (images - others).abs().mean((1, 2, 3))


def agreement(
    w: Latents,
    p: Probabilities,
    mean_p: Float[Tensor, " k"],
    labels: Int[Tensor, " n"],
    classify: Callable[[Latents, Probabilities], Logits],
) -> dict[str, float]:
    """Share of images whose drawn version keeps the photo's class, beside its floors (trap 11).

    The condition alone can carry the class, so `own` means nothing without the others: with the
    mean w the image tells nothing, with the mean p the condition tells nothing.

    Args:
        w: `[n, l]` encodings of the photos.
        p: `[n, k]` the photos' probabilities.
        mean_p: the data's mean probabilities.
        labels: `[n]` the photos' predicted classes.
        classify: `(w, p) -> logits` of the drawn images.
    """
    other = torch.arange(len(w)).roll(1)
    conditions = {
        "own": (w, p),
        "mean_w": (w.mean(0, keepdim=True).expand_as(w), p),
        "other_w": (w[other], p),
        "swapped_p": (w, p[of_another_class(labels)]),
        "mean_p": (w, mean_p.expand_as(p)),
    }
    shares = {
        name: (classify(*given).argmax(1) == labels).float().mean().item()
        for name, given in conditions.items()
    }
    counts = torch.bincount(labels, minlength=p.shape[1])
    return shares | {"chance": (counts.max() / counts.sum()).item()}


def of_another_class(labels: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """For every image the next image of another class; itself where all are of one class."""
    n = len(labels)
    image = torch.arange(n, device=labels.device)
    order = (image[:, None] + image[None] + 1) % n  # the others, then itself
    differs = labels[order] != labels[:, None]
    differs[:, -1] = True
    return order[image, differs.int().argmax(1)]


def random_attributes(
    count: int, *, coordinates: int, target: int, seed: int = 0
) -> list[Attribute]:
    """The floor of sufficiency: as many coordinates, each with a direction, drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(coordinates, generator=generator)[:count].tolist()
    directions = torch.randint(2, (count,), generator=generator).tolist()
    return [Attribute(j, d, target, 0.0) for j, d in zip(chosen, directions, strict=True)]


def interval(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share; (0, 1) where there were no trials."""
    if trials == 0:
        return 0.0, 1.0
    z, share = 1.959964, successes / trials
    centre = share + z * z / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def diversity(images: Images) -> float:
    """Mean L1 distance of neighbours in a batch: what class collapse loses (trap 9)."""
    return l1(images, images.roll(1, 0)).mean().item()
