"""Numbers about a trained model, each beside the floor that a trivial model would reach.

Everything is a function of tensors and callables, so every number can be checked by hand.
"""

import math
from collections.abc import Callable, Hashable, Sequence

import torch
from jaxtyping import Float, Int, Int64
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
            kept = vectors.flip(1)[:, : min(components, len(flat) - 1)]
            basis = torch.linalg.qr(centred.T @ kept).Q
        else:
            basis = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)[:, :components]
        self.basis: Float[Tensor, "d k"] = basis  # widest first

    def reconstruct(self, images: Images, *, components: int | None = None) -> Images:
        """Project images onto the first so many components, onto all where left out."""
        centred, basis = images.flatten(1) - self.mean, self.basis[:, :components]
        flat = self.mean + centred @ basis @ basis.T
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
    other = another(len(w))
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


def another(count: int) -> Int64[Tensor, " n"]:
    """For every image another one, drawn at random from all: neighbours are often of one class."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    other = torch.empty_like(order)
    other[order] = order.roll(1)  # one round through all of them: nobody is its own
    return other


def of_another_class(labels: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """For every image the next image of another class; itself where all are of one class."""
    n, starts = len(labels), labels != labels.roll(1)  # where runs of one class start
    image, never = torch.arange(n, device=labels.device), 2 * n
    twice = torch.cat([torch.where(starts, image + lap, never) for lap in (0, n)])
    ahead = twice.flip(0).cummin(0).values.flip(0)[1 : n + 1]  # the next start behind each image
    return torch.where(ahead < never, ahead % n, image)


def random_attributes(
    count: int, *, coordinates: int, target: int, seed: int = 0
) -> list[Attribute]:
    """The floor of sufficiency: as many coordinates, each with a direction, drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(coordinates, generator=generator)[:count].tolist()
    directions = torch.randint(2, (len(chosen),), generator=generator).tolist()
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


# Distances of sets


def kid(features_a: Float[Tensor, "n d"], features_b: Float[Tensor, "m d"]) -> float:
    """Kernel distance of two sets: unbiased MMD^2 under (x . y / d + 1)^3.

    Binkowski et al. 2018, section 4 and lemma 6 of Gretton et al. 2012. Its expectation does not
    depend on the numbers of images; below zero it is noise. Its unit is that of the features, so
    their name belongs beside it.

    Raises:
        ValueError: fewer than two rows.
    """
    a, b = _rows(features_a), _rows(features_b)

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x: Tensor) -> Tensor:  # without the pairs of an image and itself
        every = kernel(x, x)
        return (every.sum() - every.trace()) / (len(x) * (len(x) - 1))

    return (within(a) + within(b) - 2 * kernel(a, b).mean()).item()


def frechet(
    a: Float[Tensor, "n d"],
    b: Float[Tensor, "m d"],
    reference: Float[Tensor, "r d"] | None = None,
    *,
    components: int = 64,
) -> float:
    """Squared Frechet distance of two sets, each taken as a Gaussian, on principal components.

    Heusel et al. 2017, after Dowson & Landau 1982. On all of 512 features a few hundred images
    would leave the covariances singular. It falls with the number of images: compare equal ones.

    Args:
        a: features of one set.
        b: of the other.
        reference: features that the components are fitted on; `b` where left out. Values can be
            compared where it was the same.
        components: of the reference, the widest first.

    Raises:
        ValueError: fewer than two rows.
    """
    fitted = _rows(b if reference is None else reference)
    axes = torch.linalg.eigh(_covariance(fitted)).eigenvectors[:, -components:]
    return sum(_gaussian_gaps(_rows(a) @ axes, _rows(b) @ axes))


def latent_gap(a: Float[Tensor, "n l"], b: Float[Tensor, "m l"]) -> dict[str, float]:
    """How far E(x) lies from M(z): what D saw from noise need not hold where photos are encoded.

    Args:
        a: w of photos.
        b: w of noise.

    Returns:
        The two terms of the squared Frechet distance, `mean` and `covariance`, in units of b's
        total variance: mean 1 is a shift as long as b's standard deviation; covariance 0 is equal
        spread, 1 is an a without any.

    Raises:
        ValueError: fewer than two rows.
    """
    noise = _rows(b)
    mean, covariance = _gaussian_gaps(_rows(a), noise)
    total = max(_covariance(noise).trace().item(), 1e-12)  # where all of b is one w
    return {"mean": mean / total, "covariance": covariance / total}


def _gaussian_gaps(a: Tensor, b: Tensor) -> tuple[float, float]:
    """|mu_a - mu_b|^2 and tr(A + B - 2 (A B)^(1/2)) of the covariances A and B."""

    def root(x: Tensor) -> Tensor:  # R with R R^T = the covariance
        values, vectors = torch.linalg.eigh(_covariance(x))
        return vectors * values.clamp_min(0).sqrt()

    root_a, root_b = root(a), root(b)
    # the eigenvalues of A B are the squares of the singular values of R_a^T R_b
    common = torch.linalg.matrix_norm(root_a.T @ root_b, "nuc")
    spread = root_a.square().sum() + root_b.square().sum() - 2 * common
    return (a.mean(0) - b.mean(0)).square().sum().item(), spread.item()


def _covariance(rows: Float[Tensor, "n d"]) -> Float[Tensor, "d d"]:
    return torch.atleast_2d(rows.T.cov())  # of one feature torch gives a number


def _rows(features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    if len(features) < 2:
        raise ValueError(
            f"a distance of sets was asked of {len(features)} images; wanted two or more, give more"
        )
    return features.double()


# Rankings and intervals


def rank_biased_overlap(
    list_a: Sequence[Hashable], list_b: Sequence[Hashable], p: float = 0.9
) -> float:
    """Agreement of two rankings, the first ranks counting most (Webber et al. 2010).

    The mean over depths d of the share that the first d of both have in common, weighted by
    p^(d - 1) down to the end of the longer list: 1 for equal rankings, 0 for disjoint ones.
    (The original sums to infinity, where short lists never reach 1.)

    Args:
        list_a: best first, nothing twice.
        list_b: another.
        p: how fast the weight falls; at 0.9 the first ten ranks have two thirds of an endless
            list's.
    """
    depths = range(1, max(len(list_a), len(list_b)) + 1)
    if not depths:
        return 1.0
    shares = [len({*list_a[:d]} & {*list_b[:d]}) / d for d in depths]
    weights = [p ** (d - 1) for d in depths]
    return sum(w * s for w, s in zip(weights, shares, strict=True)) / sum(weights)


def bootstrap_interval(
    values: Float[Tensor, " n"], *, seed: int, draws: int = 1000
) -> tuple[float, float]:
    """95 % percentile interval of the mean, by drawing the values again with replacement.

    Raises:
        ValueError: there are no values.
    """
    if not len(values):
        raise ValueError("an interval was asked of 0 values; wanted at least one, give more images")
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(values), (draws, len(values)), generator=generator)
    means = values.double().cpu()[rows].mean(1)
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high
