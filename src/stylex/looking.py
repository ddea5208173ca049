"""What a trained model draws and how well: measured numbers and rows of pictures."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from stylex import metrics
from stylex.data import ImageSet
from stylex.features import load_features
from stylex.losses import Distance, Perceptual, kl
from stylex.model import StylEx, in_batches
from stylex.shapes import Images, Latents

FITTED = 4096  # train images for PCA: more change nothing that shows
TEST_PIXELS = 2**26  # of all test images together: several copies of them are held

Features = Callable[[Images], Float[Tensor, "n d"]]
Rows = dict[str, Float[Tensor, "m c h w"]]  # fewer images than were measured


COMPARED = 256  # train photos that a set of drawn ones is held against
KINDS = {"lpips": "lpips-squeeze"}  # its name in results says which network


def measure(model: StylEx, photos: Images, logits: Tensor) -> dict[str, float]:
    """L1 and agreement of a model, with the floors that make them readable."""
    w, p, labels = in_batches(model.encode, photos), logits.softmax(1), logits.argmax(1)

    def draw(w: Tensor, p: Tensor) -> Images:
        return in_batches(lambda *given: model.synthesize(model.style(*given)), w, p)

    shares = metrics.agreement(
        w, p, model.mean_p, labels, lambda w, p: in_batches(model.classifier, draw(w, p))
    )
    redrawn = draw(w, p)
    named = {f"agreement_{k}": v for k, v in shares.items() if k not in ("own", "chance")}
    return named | {
        "agreement": shares["own"],
        "chance": shares["chance"],
        "kl": kl(logits, in_batches(model.classifier, redrawn)).mean().item(),
        "l1": metrics.l1(photos, redrawn).mean().item(),
        "l1_other_w": metrics.l1(photos, draw(w[metrics.another(len(w))], p)).mean().item(),
    }


def spread(available: int, wanted: int) -> Int64[Tensor, " n"]:
    """Indices of at most `wanted` images over the whole set: folders are sorted by class."""
    wanted = min(available, wanted)
    return torch.arange(wanted) * available // max(1, wanted)


def contact_rows(
    model: StylEx, photos: Images, logits: Tensor, *, seed: int, count: int = 12
) -> Rows:
    """What a person should look at: see the labels."""
    mean_w = in_batches(model.encode, photos).mean(0, keepdim=True)
    shown = spread(len(photos), count)
    photos, logits = photos[shown], logits[shown]
    w, p = model.encode(photos), logits.softmax(1)
    swapped = p[metrics.of_another_class(logits.argmax(1))]
    drawn = {
        "reconstruction": (w, p),
        "mean w, own p": (mean_w.expand_as(w), p),
        "own w, other p": (w, swapped),
        "noise samples": (noise_w(model, len(w), seed=seed), p),
    }
    rows = {name: model.synthesize(model.style(*given)) for name, given in drawn.items()}
    return {"photo": photos} | rows


class Likeness:
    """How near a set of drawn images is to photos whose features are asked once.

    Args:
        features: of both; their name belongs beside every distance.
        photos: `[n, c, h, w]` in [-1, 1], two or more.
    """

    def __init__(self, features: Features, photos: Images):
        seen = in_batches(features, photos).cpu()  # distances are taken in double precision
        self.features, self.unit = features, seen.square().mean().sqrt()
        self.reference = seen / self.unit  # the cubic kernel blows up whatever is not near 1

    def see(self, images: Images) -> Float[Tensor, "n d"]:
        """Features of images in the photos' unit."""
        return in_batches(self.features, images).cpu() / self.unit

    def kid(self, images: Images) -> float:
        """KID of images and photos, see `metrics.kid`."""
        return metrics.kid(self.see(images), self.reference)


def likeness(photos: ImageSet, perceptual: Perceptual, device: torch.device) -> Likeness | None:
    """To some train photos, where LPIPS is in use: its trunk gives the features."""
    if perceptual != "lpips" or len(photos) < 2:
        return None
    some = photos.batch(spread(len(photos), COMPARED)).to(device)
    return Likeness(load_features().to(device), some)


def noise_w(model: StylEx, count: int, *, seed: int) -> Latents:
    """M(z): w of noise, where the model is."""
    device = model.mean_p.device
    draw = torch.Generator(device).manual_seed(seed)
    z = torch.randn(count, model.generator.latent, generator=draw, device=device)
    return in_batches(model.generator.mapping, z)


def from_noise(model: StylEx, logits: Tensor, *, seed: int) -> Images:
    """As many images from noise, under the probabilities of photos."""
    w = noise_w(model, len(logits), seed=seed)
    return in_batches(model.synthesize, in_batches(model.style, w, logits.softmax(1)))


def watch(
    model: StylEx,
    photos: Images,
    distance: Distance,
    *,
    seed: int,
    likeness: Likeness | None = None,
) -> tuple[dict[str, float], Rows]:
    """The measures of one snapshot and the rows of its contact sheet."""
    logits = in_batches(model.classifier, photos)
    rows = contact_rows(model, photos, logits, seed=seed)
    mean_photo = photos.mean(0, keepdim=True).expand_as(photos)
    redrawn = in_batches(model.reconstruct, photos)
    near: dict[str, float] = {}
    if likeness and len(photos) > 1:
        samples = from_noise(model, logits, seed=seed)
        near = {"kid": likeness.kid(redrawn), "kid_noise": likeness.kid(samples)}
    return measure(model, photos, logits) | near | {
        "perceptual": in_batches(distance, photos, redrawn).mean().item(),
        "l1_mean_image": metrics.l1(photos, mean_photo).mean().item(),
        "diversity": metrics.diversity(rows["noise samples"]),
        "diversity_photos": metrics.diversity(rows["photo"]),
    }, rows


def final_table(
    model: StylEx, splits: dict[str, ImageSet], distance: Distance, perceptual: Perceptual
) -> dict[str, Any]:
    """The table of `metrics.json` on test images; PCA and the mean image come from train images."""
    device = model.mean_p.device
    most = TEST_PIXELS // model.resolution**2
    photos = splits["test"].batch(spread(len(splits["test"]), most)).to(device)
    known = splits["train"].batch(spread(len(splits["train"]), FITTED)).to(device)
    logits = in_batches(model.classifier, photos)
    measures = measure(model, photos, logits)
    others = {
        "": in_batches(model.reconstruct, photos),
        "_mean_image": known.mean(0, keepdim=True).expand_as(photos),
        "_pca128": metrics.PCA(known, components=128).reconstruct(photos),
    }
    table: dict[str, Any] = {}
    for name, images in others.items():
        table[f"l1{name}"] = metrics.l1(photos, images).mean().item()
        if perceptual == "none":
            table |= {f"perceptual{name}": None, f"why_perceptual{name}": "trained without one"}
        else:
            table[f"perceptual{name}"] = in_batches(distance, photos, images).mean().item()
    names = ("own", "mean_w", "other_w", "swapped_p", "mean_p")
    shares = {k: measures["agreement" if k == "own" else f"agreement_{k}"] for k in names}
    return {
        "images": len(photos),
        "split": "test",
        "reconstruction": table | {"perceptual_kind": KINDS.get(perceptual, perceptual)},
        "agreement": shares | {"chance": measures["chance"], "kl": measures["kl"]},
        "logit_std": logits.std(0, correction=0).tolist(),
    }
