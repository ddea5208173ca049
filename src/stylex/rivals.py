"""Other people's methods on the bench of `edits`: each short, each with its source.

    rivals = dict(on_generator(model, found, images))   # random, SeFa, latent gradient
    rivals["pixels"] = Pixels(classifier)               # flips, and no factor
    tables = {name: bench.score(rival) for name, rival in rivals.items()}
    tables["grid"] = grid(bench)                        # names factors, edits nothing

What has no class of its own, as a SeFa direction, is turned and ranked by what it does to the
classifier, so that all methods answer the same question.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from stylex.attfind import Search
from stylex.choosing import again
from stylex.edits import Bench, Method, Moves, Vectors, of_search, single
from stylex.metrics import random_attributes
from stylex.model import StylEx, in_batches
from stylex.selection import lead
from stylex.shapes import Classify, Images, Logits, Styles
from stylex.stylespace import Attribute
from stylex.truth import score_found, spearman

COUNT = 10  # attributes of a rival
EXEMPLARS = 30  # images of a class that the classifier is surest of

Ways = Float[Tensor, "m d"]


def on_plain(model: StylEx, found: Search) -> Iterator[tuple[str, Method]]:
    """The rivals on a generator that was trained without the classifier, each as it is asked for.

    Args:
        model: that generator, with the classifier to explain.
        found: our search on it: all of ours less its training.
    """
    encode, draw = partial(in_batches, model.styles), partial(in_batches, model.synthesize)
    yield "attfind on plain", of_search(notebooks(model, found), encode, draw)
    yield "our list on plain", of_search(found, encode, draw)
    chosen = stylespace(found.styles, found.logits, coordinates=model.layout.searched)
    ways = single(chosen, found.styles.shape[1])
    yield "stylespace on plain", Moves.within(encode, draw, ways, found.styles)


def on_generator(model: StylEx, found: Search, images: Images) -> Iterator[tuple[str, Method]]:
    """The rivals on the generator that AttFind searched: only what they choose is different.

    Each is found when it is asked for, so that its time can be taken.

    Args:
        model: the generator, with the classifier to explain.
        found: our search.
        images: the search's own, `[n, c, h, w]`.
    """
    styles, synthesize = partial(in_batches, model.styles), partial(in_batches, model.synthesize)
    yield "attfind's list", of_search(notebooks(model, found), styles, synthesize)
    chance = random_attributes(COUNT, coordinates=model.layout.searched, target=1)
    ways = single(chance, found.styles.shape[1])
    yield "random coordinates", Moves.within(styles, synthesize, ways, found.styles)
    latent = model.generator.latent

    def encode(images: Images) -> Vectors:
        return torch.cat([model.encode(images), model.probabilities(images)], 1)

    def draw(vectors: Vectors) -> Images:
        return model.synthesize(model.style(vectors[:, :latent], vectors[:, latent:]))

    codes = in_batches(encode, images)
    moves = partial(Moves.within, partial(in_batches, encode), partial(in_batches, draw))
    affine = model.generator.affine.weight.detach()[: model.layout.searched, :latent]
    eigen = moves(_padded(sefa(affine), codes.shape[1]), codes)
    yield "sefa", ranked(eigen, partial(in_batches, model.classifier), codes)
    slope = gradient(draw, model.classifier, codes.clone())[:, :latent]
    yield "latent gradient", moves(_padded(functional.normalize(slope), codes.shape[1]), codes)


def notebooks(model: StylEx, found: Search) -> Search:
    """The list that the paper's notebook would choose from the same effects (method.md 4.3)."""
    return again(model, found, rule="cumulative", count=COUNT)


def stylespace(
    styles: Styles, logits: Logits, *, coordinates: int, exemplars: int = EXEMPLARS
) -> list[Attribute]:
    """Channels that set a class apart (Wu, Lischinski and Shechtman, CVPR 2021, section 5).

    Style differences from the mean, in standard deviations of all images; over the exemplars of
    class 1, the ratio of their mean's size to their spread ranks a channel, its sign turns it. The
    exemplars are the images of which the classifier is surest, as in Lang et al. (2021).

    Args:
        styles: `[n, s]` of some images.
        logits: of the same.
        coordinates: how many to choose from, the first ones.
        exemplars: images of class 1; at most a quarter of all.
    """
    some = max(2, min(exemplars, len(styles) // 4))
    apart = (styles - styles.mean(0)) / styles.std(0).clamp_min(1e-6)
    shown = apart[lead(logits, 1).topk(some).indices, :coordinates]
    mean = shown.mean(0)
    ratio = mean.abs() / shown.std(0).clamp_min(1e-6)
    return [
        Attribute(j, int(mean[j] > 0), 1, ratio[j].item())
        for j in ratio.topk(min(COUNT, coordinates)).indices.tolist()
    ]


def sefa(weight: Float[Tensor, "s l"], count: int = COUNT) -> Float[Tensor, "m l"]:
    """Directions of w that change the styles most (Shen and Zhou, CVPR 2021): eigenvectors of A'A.

    Args:
        weight: the style affines of all layers, stacked; each row is brought to length 1.
        count: eigenvectors, the largest eigenvalues first.
    """
    rows = functional.normalize(weight)
    return torch.linalg.eigh(rows.T @ rows).eigenvectors.flip(1).T[:count]


def ranked(moves: Moves, classify: Classify, vectors: Vectors) -> Moves:
    """The same moves turned towards class 1, those that move the margin most first.

    Measured on vectors, each moved from one end of a way to the other.
    """
    rises = []
    with torch.no_grad():
        for row in moves.attributes:
            ends = [moves.draw(moves.move(vectors, [row], side)) for side in (1.0, -1.0)]
            after, before = (lead(classify(images), 1) for images in ends)
            rises.append((after - before).mean())
    rise = torch.stack(rises)
    order = rise.abs().argsort(descending=True)
    ways = (moves.ways * torch.where(rise < 0, -1.0, 1.0)[:, None])[order]
    return Moves.within(moves.encode, moves.draw, ways, vectors)


def gradient(
    draw: Callable[[Vectors], Images], classify: Classify, vectors: Vectors, batch: int = 32
) -> Float[Tensor, "1 d"]:
    """The mean gradient of the margin by the vector, as one direction of length 1."""
    total = torch.zeros_like(vectors[:1])
    with torch.enable_grad():
        for part in vectors.split(batch):
            here = part.clone().requires_grad_()
            (slope,) = torch.autograd.grad(lead(classify(draw(here)), 1).sum(), here)
            total += slope.sum(0)
    return functional.normalize(total)


@dataclass(frozen=True)
class Pixels:
    """Projected gradient ascent on the pixels (Madry et al., ICLR 2018): flips without a factor.

    Args:
        classify: images to logits, differentiable.
        reach: most that a pixel changes; images lie in [-1, 1], so 16 / 255 are 8 gray levels.
        steps: of 2.5 / steps of the reach each, as in the paper.
    """

    classify: Classify
    reach: float = 16 / 255
    steps: int = 10

    @property
    def attributes(self) -> Sequence[str]:
        """One: everything at once."""
        return ("all pixels",)

    def edit(self, images: Images, attributes: Sequence[Any], strength: float) -> Images:
        """Move every pixel up or down by its gradient's sign; nothing is redrawn."""
        reach = abs(strength) * self.reach * bool(attributes)
        step = (1 if strength > 0 else -1) * 2.5 * reach / self.steps
        low, high = ((images + way * reach).clamp(-1, 1) for way in (-1, 1))
        edited = images
        for _ in range(self.steps if reach else 0):
            with torch.enable_grad():
                here = edited.detach().requires_grad_()
                (slope,) = torch.autograd.grad(lead(self.classify(here), 1).sum(), here)
            edited = torch.clamp(edited + step * slope.sign(), low, high)
        return edited


def grid(bench: Bench) -> dict[str, Any]:
    """Images sorted by logit, read by the factor readers: which factors go up and down with it?

    The strength of a factor is the rank correlation of its reading with the margin. Nothing is
    edited, so nothing is said of purity, twins or flips. A grid cannot tell a cause from what goes
    together with one.
    """
    with torch.no_grad():
        leads = lead(bench.classify(bench.photos), 1)
    columns = bench.reader.read(bench.photos).T
    found = torch.tensor([spearman(column, leads) for column in columns])
    order = found.abs().argsort(descending=True)
    rows, sizes = torch.eye(len(found))[order], found.abs()
    score = score_found(
        rows * sizes,
        rows * found,
        sizes[order][:, None],
        torch.ones(len(found)),
        bench.true,
        monotone=bench.monotone,
    )
    names = bench.reader.scene.factors
    kept = ("precision", "recall", "f1", "average_precision", "sign_accuracy", "spearman")
    known = {k: v for k, v in score.items() if k.removeprefix("why_") in kept}
    listed = [{"factor": names[k], "correlation": found[k].item()} for k in order.tolist()]
    return known | {"used": [names[k] for k in score["used"]], "attributes": listed}


def _padded(ways: Float[Tensor, "m l"], size: int) -> Ways:
    """Directions of w in the space of [w ; p]: p stays."""
    return functional.pad(ways, (0, size - ways.shape[1]))
