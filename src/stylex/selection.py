"""Which effects make attributes: cleaning, greedy selection, one list for two classes.

Nothing is measured here. From finished effects other thresholds, rules, classes and counts are an
instant (method.md 4.2 and 4.3).
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from stylex.shapes import Effects, Logits
from stylex.stylespace import Attribute

Rule = Literal["cumulative", "single", "share"]
CHANGED = 0.2  # logits: an image counts as changed above this (method.md 4.3, notebook)
COMES_BACK = 0.5  # share of an edit's change that the model must draw again [O]
FEWEST = 0.03  # share of images: the rule "share" stops under it (method.md 4.3, notebook)


def stable(
    effects: Effects, *, size: float = 2.0, share: float = 750 / (5760 * 2 * 2)
) -> Bool[Tensor, " n"]:
    """Images that stay in the search: few of their effects are large (method.md 4.2).

    The notebook leaves an image out when more than 750 of its 5,760 x 2 x 2 effects exceed 2 logits
    in size; the count is taken here as a share, so that it scales with coordinates and classes.

    Args:
        effects: `[n, j, 2, k]`.
        size: in logits; an effect above it is large.
        share: of all effects of an image; more large ones and it is left out.
    """
    if not len(effects):
        return torch.zeros(0, dtype=torch.bool, device=effects.device)
    large = torch.stack([(row.abs() > size).sum() for row in effects])  # no copy of the whole table
    return large <= share * effects[0].numel()


def considered(logits: Logits, *, target: int, source: int | None = None) -> Bool[Tensor, " n"]:
    """Images over which attributes towards a class are sought (method.md 4.3, notebook).

    Two classes: the images predicted as the other class. More classes, one-vs-all (no source): all
    images; one-vs-one: those predicted as the source. The label is the argmax of the logits of the
    *reconstruction*, not of the photo.

    Raises:
        ValueError: source and target are the same class.
    """
    if source == target:
        raise ValueError(f"class {target} is both source and target; give another source or none")
    labels = logits.argmax(1)
    if source is not None:
        return labels == source
    return labels != target if logits.shape[1] == 2 else torch.ones_like(labels, dtype=torch.bool)


def select(
    effects: Effects,
    logits: Logits,
    *,
    target: int,
    source: int | None = None,
    count: int = 10,
    threshold: float | None = None,
    rule: Rule = "cumulative",
) -> list[Attribute]:
    """Choose attributes that raise the target's logit, greedily (method.md 4.3).

    Each step takes the coordinate and direction with the largest mean effect, negative effects
    clipped, over the images that are not yet explained.

    Args:
        effects, logits: of the stable images.
        target: index of the class whose logit shall rise.
        source: one-vs-one: index of the class that the images are predicted as.
        count: most attributes to choose.
        threshold: logits that explain an image; by default 1.0 for two classes, 0.5 for more.
        rule: "cumulative" (notebook) adds up an image's effects and may take both directions of a
            coordinate; "single" (paper) waits for one effect as large as the threshold and takes a
            coordinate once; "share" (notebook) takes what changes most images by more than 0.2
            logits, the larger mean first among equals, and knows no threshold.

    Returns:
        Attributes as chosen, effect and share over the `considered` images. Empty where no image
        is considered or nothing raises the logit.

    Raises:
        ValueError: source and target are one class, or the threshold is not above 0.
    """
    threshold = threshold_of(threshold, logits.shape[1])
    effects = effects[..., target][considered(logits, target=target, source=source)]  # [m, j, 2]
    if rule == "share":
        return _by_share(effects, target, count)
    rises = effects.clamp(min=0)
    gains = rises.new_zeros(len(rises))
    explain = {"cumulative": torch.add, "single": torch.maximum}[rule]
    chosen = []
    while len(chosen) < count and (left := gains < threshold).any():
        means = rises[left].mean(0)
        if not means.max() > 0:  # the notebook goes on here and repeats coordinate 0
            break
        coordinate, direction = divmod(int(means.argmax()), 2)
        chosen.append(attribute_over(effects, coordinate, direction, target))
        gains = explain(gains, rises[:, coordinate, direction])
        rises[:, coordinate, direction if rule == "cumulative" else slice(None)] = 0
    return chosen


def _by_share(effects: Float[Tensor, "n j 2"], target: int, count: int) -> list[Attribute]:
    """Coordinates and directions by the share of images that they change, none under 3 %."""
    if not len(effects):
        return []
    shares = (effects > CHANGED).double().mean(0).flatten()
    means = effects.double().mean(0).flatten()
    order = sorted(range(len(shares)), key=lambda i: (-shares[i].item(), -means[i].item()))
    kept = [divmod(i, 2) for i in order[:count] if shares[i] >= FEWEST]
    return [
        attribute_over(effects, coordinate, direction, target) for coordinate, direction in kept
    ]


def merge_binary(
    first: Sequence[Attribute], second: Sequence[Attribute], effects: Effects, logits: Logits
) -> list[Attribute]:
    """Summarise a two-class problem in one list (method.md 4.3, notebook).

    Attributes of class 1 whose coordinate is not among class 0's are turned round and joined; the
    rank is by the mean rise of class 0 plus the mean rise of class 1 in the opposite direction,
    both over *all* the images given. [O] What does not raise them together is left out: chosen for
    the last images that nothing else explained, it undoes the others where all are applied.

    Args:
        first, second: attributes found for class 0 and for class 1.
        effects, logits: of the stable images, for two classes.

    Returns:
        Attributes towards class 0, strongest first; `turned` gives those towards class 1. One found
        for class 1 only may lower class 0: the directions of a coordinate need not mirror.
    """
    taken = {attribute.coordinate for attribute in first}
    new = [turned(a, effects, logits) for a in second if a.coordinate not in taken]
    mean = effects.mean(0)
    both = mean[..., 0] + mean[..., 1].flip(1)  # [j, 2]: effect d on class 0, 1 - d on class 1
    rises = {a: float(both[a.coordinate, a.direction]) for a in (*first, *new)}
    return sorted((a for a in rises if rises[a] > 0), key=lambda a: -rises[a])


def turned(attribute: Attribute, effects: Effects, logits: Logits) -> Attribute:
    """The same coordinate in the opposite direction, towards the other one of two classes.

    Its effect and share are its own, measured over the images considered for *its* target.
    """
    target = 1 - attribute.target
    images = considered(logits, target=target)
    effects = effects[..., target][images]
    return attribute_over(effects, attribute.coordinate, 1 - attribute.direction, target)


def lead(logits: Float[Tensor, "*n k"], labels: Int64[Tensor, " *n"] | int) -> Float[Tensor, " *n"]:
    """By how many logits a class leads the best other one.

    Args:
        logits: of one image, or of any number along any axes.
        labels: the class of each, or the one of all.
    """
    labels = torch.as_tensor(labels, device=logits.device).expand(logits.shape[:-1])[..., None]
    own, others = logits.gather(-1, labels), logits.scatter(-1, labels, -torch.inf)
    return own[..., 0] - others.amax(-1)


def ranks(x: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
    """Place of each value in their order; equal ones share the middle of theirs."""
    _, which, counts = x.unique(return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - counts / 2).double()[which]


def participation_ratio(effects: Float[Tensor, "n j 2"]) -> float:
    """How many moves carry a class: (sum |e|)^2 / sum e^2, mean over images (method.md 3, trap 13).

    1 where one move has all the effect, 2j where all have the same. Images that nothing moves are
    left out; 0 where nothing moves any image. The argument is `effects[..., target]`.
    """
    sizes = effects.abs().flatten(1)
    sizes = sizes[sizes.amax(1) > 0]
    ratios = sizes.sum(1).square() / sizes.square().sum(1)
    return float(ratios.sum()) / max(len(ratios), 1)


def threshold_of(threshold: float | None, classes: int) -> float:
    """In logits: 1.0 for two classes, 0.5 for more (method.md 4.3, notebook)."""
    if threshold is None:
        return 1.0 if classes == 2 else 0.5
    if not threshold > 0:
        raise ValueError(f"threshold {threshold} explains every image at once; give logits above 0")
    return threshold


def attribute_over(
    effects: Float[Tensor, "n j 2"], coordinate: int, direction: int, target: int
) -> Attribute:
    """An attribute with its mean effect and share over the images given; 0 over no image."""
    rises = effects[:, coordinate, direction]
    images = max(len(rises), 1)
    share = int((rises > CHANGED).sum()) / images
    return Attribute(coordinate, direction, target, float(rises.sum()) / images, share)
