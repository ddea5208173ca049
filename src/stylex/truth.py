"""What a classifier of drawn images looks at, measured on it, and whether a search found that.

    truth = importance(classify, LEAVES, seed=0)   # of every factor, in logits, with its bounds
    used(truth.g, truth.low)                       # the factors that an explanation has to name
    before = Unedited(classify, read, factors, reconstructions, scene=LEAVES)
    pair = twins(before, edited)
    score_found(changes, toward, effects, explained, truth)

Only callables come in: `classify` (images to logits) and `read` (images to factors).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stylex.augment import gaussian_blur
from stylex.scenes import Factors, Scene
from stylex.selection import lead, ranks
from stylex.shapes import Classify, Images

Read = Callable[[Images], Factors]

USED = 0.05  # share of all importance that a factor needs to count as used
EXPLAINED = 0.5  # share of an edit's pixel energy under which it is a false discovery
ALIKE = 0.95  # correlation above which two attributes count once [O]
REACH = (-0.5, 1.5)  # to which factors can be drawn: beyond, a length may become 0
SIGMAS = (0.0, 0.5, 1.0, 1.5, 2.0)  # softness of reconstructions that is looked for, 1/32 of a side

_RESAMPLES = 1000
_BATCH = 256  # images classified at once


# --- what the classifier uses --------------------------------------------------------------------


class Importance(NamedTuple):
    """What each factor does to the classifier.

    Args:
        g: mean size of the change of the margin when a factor is drawn afresh, in logits.
        low, high: its 95 % interval.
        direction: correlation of what the factor and the margin change by, -1 to 1; near 0 where
            the effect has no one direction.
    """

    g: Float[Tensor, " f"]
    low: Float[Tensor, " f"]
    high: Float[Tensor, " f"]
    direction: Float[Tensor, " f"]


@torch.no_grad()
def importance(
    classify: Classify,
    scene: Scene,
    *,
    images: int = 200,
    draws: int = 4,
    seed: int = 0,
    resolution: int = 32,
    target: int = 1,
) -> Importance:
    """g_k = E |C(do(factor_k)) - C|: the truth is measured on the classifier, not on the rule.

    Each factor of each image is drawn afresh from its marginal, the others staying as they are,
    and the image is rendered again. C is the margin of the target, its `lead`.

    Args:
        classify: images to logits.
        scene: renders factors.
        images: to intervene on; the bounds come from drawing them again (bootstrap).
        draws: fresh values for each factor of each image.
        seed: of factors, fresh values and bootstrap.
        resolution: side in pixels.
        target: class whose margin is measured.
    """
    generator = torch.Generator().manual_seed(seed)
    factors = scene.sample(images, generator)

    def margins(table: Factors) -> Float[Tensor, " n"]:
        return _margins(classify, scene.render(table, resolution=resolution), target)

    before, moves, rises = margins(factors), [], []
    for _ in range(draws):
        fresh = scene.sample(images, generator)
        after = [margins(_put(factors, k, fresh[:, k])) for k in range(len(scene.factors))]
        moves.append(fresh - factors)
        rises.append(torch.stack(after, 1) - before[:, None])
    move, rise = torch.stack(moves), torch.stack(rises)  # [draws, images, f]
    sizes = rise.abs().mean(0).double()
    rows = torch.randint(images, (_RESAMPLES, images), generator=generator)
    means = torch.stack([sizes[part].mean(0) for part in rows])
    low, high = means.quantile(means.new_tensor([0.025, 0.975]), dim=0).float()
    pairs = (_standard(x.flatten(0, 1).T) for x in (move, rise))
    return Importance(sizes.mean(0).float(), low, high, _dot(*pairs))


def used(g: Float[Tensor, " f"], low: Float[Tensor, " f"]) -> tuple[int, ...]:
    """The used set U: factors whose lower 95 % bound is above 5 % of the sum of g."""
    return tuple((low > USED * g.sum()).nonzero().flatten().tolist())


def _put(factors: Factors, k: int, values: Float[Tensor, " n"]) -> Factors:
    """do(factor_k = values)."""
    changed = factors.clone()
    changed[:, k] = values
    return changed


def _margins(classify: Classify, images: Images, target: int) -> Float[Tensor, " n"]:
    return torch.cat([lead(classify(part), target) for part in images.split(_BATCH)])


# --- twins ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Twins:
    """One attribute's edits beside renderings with the measured change and nothing else.

    Args:
        changes: `[n, f]` measured on each edit, in units of the factors; 0 where not readable.
        edits: `C(edited) - C(reconstruction)`, the margin's change in logits.
        twins: `C(twin) - C(photo)`.
        explained: share of the edits' pixel energy that the twins explain, 0 to 1.
        sigma: softness of the reconstructions in pixels, which the twins were given too.
    """

    changes: Factors
    edits: Float[Tensor, " n"]
    twins: Float[Tensor, " n"]
    explained: float
    sigma: float

    @property
    def false_discovery(self) -> bool:
        """Whether the edits are mostly something that no factor is."""
        return self.explained < EXPLAINED


class Unedited:
    """What all edits of some images are compared with: drawn, read and classified once.

    Args:
        classify: images to logits.
        read: images to factors.
        factors: `[n, f]` of the photos.
        reconstructions: `[n, c, h, w]`, before any attribute.
        scene: renders factors.
        target: class whose margin is compared.
    """

    @torch.no_grad()
    def __init__(
        self,
        classify: Classify,
        read: Read,
        factors: Factors,
        reconstructions: Images,
        *,
        scene: Scene,
        target: int = 1,
    ):
        self.classify, self.read, self.scene, self.target = classify, read, scene, target
        self.factors, self.reconstructions = factors, reconstructions
        self.photos = scene.render(factors, resolution=reconstructions.shape[-1])
        self.margins = _margins(classify, reconstructions, target)
        self.photo_margins = _margins(classify, self.photos, target)
        self.found = read(reconstructions)
        self.sigma = softness(self.photos, reconstructions)


@torch.no_grad()
def twins(before: Unedited, edited: Images, *, readable: Bool[Tensor, " f"] | None = None) -> Twins:
    """Would the measured change of the factors alone have done what the edit did?

    Each photo is rendered again with exactly the change that the readers measure between its
    reconstruction and the edited reconstruction (cut off at `REACH`, beyond which nothing can be
    drawn). The pixel energy explained, over all images, is
    `1 - |(edited - reconstruction) - (twin - photo)|^2 / |edited - reconstruction|^2`, at least 0:
    1 for an edit that is a change of factors, 0 for one that no reader sees. The twin's change is
    first made as soft as the generator draws, by the blur that takes the photos nearest to their
    *unedited* reconstructions: a generator that draws soft edges is no adversary.

    Args:
        before: photos and reconstructions.
        edited: `[n, c, h, w]`, the reconstructions after the attribute.
        readable: factors that are read well enough; the others are left as they are.
    """
    changes = before.read(edited) - before.found
    if readable is not None:
        changes = changes * readable
    moved = (before.factors + changes).clamp(*REACH)
    drawn = before.scene.render(moved, resolution=edited.shape[-1])
    edit, twin = edited - before.reconstructions, gaussian_blur(drawn - before.photos, before.sigma)
    energy = edit.square().sum()
    left = (edit - twin).square().sum() / energy.clamp_min(1e-12)
    after, alone = (_margins(before.classify, x, before.target) for x in (edited, drawn))
    return Twins(
        changes=changes,
        edits=after - before.margins,
        twins=alone - before.photo_margins,
        explained=(1 - left).clamp_min(0).item() if energy > 0 else 0.0,
        sigma=before.sigma,
    )


def softness(photos: Images, reconstructions: Images) -> float:
    """The blur, of a few, that takes photos nearest to their reconstructions: its sigma in px."""
    sigmas = [sigma * photos.shape[-1] / 32 for sigma in SIGMAS]
    gaps = [(gaussian_blur(photos, s) - reconstructions).square().mean().item() for s in sigmas]
    return sigmas[gaps.index(min(gaps))]


def slope_r2(edits: Float[Tensor, " n"], twins: Float[Tensor, " n"]) -> tuple[float, float]:
    """Regression of the edits' effects on the twins', over all images, through the origin.

    Through the origin because no change has no effect; so R2 = 1 - residual / sum of squares of the
    edits. Slope 1: the factors explain the effect; above: something else helps. 0, 0 where the
    twins do nothing.
    """
    x, y = twins.double(), edits.double()
    if not (x.square().sum() > 0 and y.square().sum() > 0):
        return 0.0, 0.0
    slope = (x @ y) / (x @ x)
    return slope.item(), (1 - (y - slope * x).square().sum() / y.square().sum()).item()


# --- found against true --------------------------------------------------------------------------


def main_factors(
    changes: Float[Tensor, "m f"], explained: Float[Tensor, " m"]
) -> tuple[int | None, ...]:
    """The factor that each attribute moves most; None for a false discovery or one that moves none.

    Args:
        changes: mean size of each factor's change, in standard deviations; 0 where unreadable.
        explained: share of each attribute's pixel energy that its twins explain.
    """
    named = (explained >= EXPLAINED) & (changes.amax(1) > 0)
    most = changes.argmax(1).tolist()
    return tuple(k if name else None for k, name in zip(most, named.tolist(), strict=True))


def redundant(
    changes: Float[Tensor, "m f"],
    effects: Float[Tensor, "m n"],
    main: Sequence[int | None],
    *,
    alike: float = ALIKE,
) -> dict[int, int]:
    """Attributes that say again what an earlier one said.

    Two of them count once where they move the same factor most, or where their changes of the
    factors, or their effects over the images, correlate above `alike` [O]. A false discovery only
    joins with another: it must not swallow a true one.

    Args:
        changes: of every factor, see `main_factors`.
        effects: of every attribute on the same images.
        main: what `main_factors` gave.
        alike: the correlation.

    Returns:
        Index of each repetition: index of the first attribute that it repeats.
    """
    tables = (_standard(changes), _standard(effects))
    close = torch.stack([table @ table.T for table in tables]).amax(0) > alike
    repeats: dict[int, int] = {}
    for later, its in enumerate(main):
        for first in (i for i in range(later) if i not in repeats):
            same = its is not None and its == main[first]
            if same or ((its is None) == (main[first] is None) and close[later, first]):
                repeats[later] = first
                break
    return repeats


def score_found(
    changes: Float[Tensor, "m f"],
    toward: Float[Tensor, "m f"],
    effects: Float[Tensor, "m n"],
    explained: Float[Tensor, " m"],
    truth: Importance,
    *,
    monotone: bool = True,
) -> dict[str, Any]:
    """A ranked list of attributes against the truth.

    Redundant attributes are joined, and the first |U| of the rest are taken.

    Args:
        changes: mean size of each factor's change, in standard deviations; 0 where unreadable, so
            that what cannot be read counts as missed.
        toward: mean change of each factor when images move towards the class of `truth`, signed.
        effects: rise of the wanted class's margin on each image, in logits.
        explained: share of the pixel energy that the twins explain.
        truth: of the same classifier.
        monotone: whether factors have a direction at all.

    Returns:
        `used` factors; of each attribute `main` (factor or None) and `repeats`; of the taken ones
        `precision`, `recall`, `f1`, `false_discovery` (share whose twins explain under half),
        `purity` (mean share of the change that is the main factor's), `sign_accuracy` (of the right
        ones); `average_precision` of the whole list; `spearman` of the strength found for each
        factor against g. A number that could not be had is None, with a `why_`.
    """
    wanted = used(truth.g, truth.low)
    main = main_factors(changes, explained)
    repeats = redundant(changes, effects, main)
    ranked = [i for i in range(len(main)) if i not in repeats]
    taken = ranked[: len(wanted)]
    named = [(i, k) for i in taken if (k := main[i]) is not None]
    hits = [(i, k) for i, k in named if k in wanted]
    signs = [bool(toward[i, k] * truth.direction[k] > 0) for i, k in hits]
    purities = [(changes[i, k] / changes[i].sum()).item() for i, k in named]
    strengths = truth.g.new_zeros(len(truth.g))
    for i, k in ((i, k) for i, k in enumerate(main) if k is not None):
        strengths[k] = torch.maximum(strengths[k], effects[i].mean())
    nothing = "" if wanted else "the classifier uses no factor above the threshold"
    none = nothing or ("" if taken else "nothing was found")
    return {
        "used": list(wanted),
        "main": list(main),
        "repeats": repeats,
        "taken": taken,
        **_or_why("precision", none, [len(hits)], len(taken)),
        **_or_why("recall", nothing, [len(hits)], len(wanted)),
        **_or_why("f1", nothing, [2 * len(hits)], len(taken) + len(wanted)),
        **_or_why("false_discovery", none, [main[i] is None for i in taken], len(taken)),
        **_or_why("average_precision", nothing, _precisions(ranked, main, wanted), len(wanted)),
        **_or_why("purity", none or ("" if named else "nothing named"), purities, len(named)),
        **_or_why("sign_accuracy", _why_no_signs(monotone, hits), signs, len(hits)),
        "spearman": spearman(strengths, truth.g),
    }


def spearman(a: Float[Tensor, " f"], b: Float[Tensor, " f"]) -> float:
    """Correlation of ranks, ties sharing their mean rank; 0 where one of both is all ties."""
    return _dot(*(_standard(ranks(x)[None]) for x in (a, b))).item()


def _precisions(
    ranked: Sequence[int], main: Sequence[int | None], wanted: Sequence[int]
) -> list[float]:
    """The precision down to each rank that names a used factor."""
    right = [main[i] in wanted for i in ranked]
    return [sum(right[:r]) / r for r in range(1, len(right) + 1) if right[r - 1]]


def _why_no_signs(monotone: bool, hits: Sequence[tuple[int, int]]) -> str:
    if not monotone:
        return "factors have no one direction here"
    return "" if hits else "no used factor was named"


def _or_why(name: str, why: str, parts: Sequence[float | int], count: int) -> dict[str, Any]:
    """A mean, or the reason why there is none."""
    return {name: None, f"why_{name}": why} if why else {name: sum(parts) / count}


def _standard(rows: Tensor) -> Tensor:
    """Rows of mean 0 and length 1; a row of equal numbers becomes 0 and correlates with nothing."""
    centred = rows.double() - rows.double().mean(1, keepdim=True)
    length = centred.norm(dim=1, keepdim=True)
    return torch.where(length > 1e-9, centred / length.clamp_min(1e-9), 0.0).float()


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(1)
