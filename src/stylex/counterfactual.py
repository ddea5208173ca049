"""One image: which attributes change the classifier's decision on it (method.md 5).

    subset(score, styles[:1], bounds, found.towards("sick"), target=1)

Only `score: styles -> logits` is known here. The answers hold for the reconstruction; how good that
is stands beside them, not in them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from stylex.shapes import Bounds, Logits, Score, Styles
from stylex.stylespace import Attribute, shift, shift_all

OneStyle = Float[Tensor, "1 s"]


@dataclass(frozen=True)
class Step:
    """One attribute applied to one image, alone or on top of earlier ones.

    Args:
        attribute: what was moved.
        logits: of every class after the step.
        probability: of the target after the step, 0 to 1.
        effect: change of the target's logit by this step.
        flipped: whether the target is the decision after the step.
    """

    attribute: Attribute
    logits: tuple[float, ...]
    probability: float
    effect: float
    flipped: bool


@torch.no_grad()
def independent(
    score: Score,
    styles: OneStyle,
    bounds: Bounds,
    attributes: Sequence[Attribute],
    *,
    target: int,
    count: int = 5,
    strength: float = 1.0,
) -> list[Step]:
    """Each attribute alone on this image (method.md 5, independent).

    Args:
        score: styles to logits.
        styles: `[1, s]`, the image's reconstruction.
        bounds: `[2, s]` over the search images.
        attributes: found ones, or one for every coordinate and direction.
        target: index of the class to move to.
        count: most attributes to give.
        strength: share of the way to the bound.

    Returns:
        The attributes that raise the target's logit most, largest first; where fewer than `count`
        raise it, the last steps have an effect of 0 or below.
    """
    if not attributes:
        return []
    base = score(styles)[0]
    logits = _each(score, styles, bounds, attributes, strength)
    order = logits[:, target].argsort(descending=True, stable=True)
    return [_step(attributes[i], logits[i], base, target) for i in order[:count].tolist()]


@torch.no_grad()
def subset(
    score: Score,
    styles: OneStyle,
    bounds: Bounds,
    attributes: Sequence[Attribute],
    *,
    target: int,
    count: int = 10,
    strength: float = 1.0,
) -> list[Step]:
    """Attributes on top of each other until the decision flips (method.md 5, subset).

    Each step adds the attribute with the largest additional change of the target's logit, the
    earlier ones staying applied: a coordinate that was moved is not moved again. It ends when the
    target is the decision, when `count` are used, or when none of the rest raises the logit.

    Args:
        score, styles, bounds, attributes, target, strength: as in `independent`.
        count: most attributes to use.

    Returns:
        The steps in order, the last one `flipped` or none; empty where the target is the decision
        already.
    """
    logits, steps, left = score(styles)[0], [], list(attributes)
    while left and len(steps) < count and int(logits.argmax()) != target:
        after = _each(score, styles, bounds, left, strength)
        best = int(after[:, target].argmax())
        step = _step(left[best], after[best], logits, target)
        if not step.effect > 0:
            break
        steps.append(step)
        logits, moved = after[best], step.attribute
        styles = shift(styles, moved.coordinate, moved.direction, bounds, strength)
        left = [attribute for attribute in left if attribute.coordinate != moved.coordinate]
    return steps


@torch.no_grad()
def joint(
    score: Score,
    styles: Styles,
    bounds: Bounds,
    attributes: Sequence[Attribute],
    *,
    strength: float = 1.0,
) -> Logits:
    """Logits of many images with the attributes applied together (method.md 6, sufficiency).

    Where both directions of a coordinate are given, the first one counts: applied in turn, the
    later and weaker one would undo it.

    Args:
        score: styles to logits.
        styles: `[n, s]`, scored in one call.
        bounds: `[2, s]` over the search images.
        attributes: by rank.
        strength: share of the way to the bound.
    """
    once = {attribute.coordinate: attribute for attribute in reversed(attributes)}
    return score(shift_all(styles, list(once.values()), bounds, strength))


def _each(
    score: Score,
    styles: OneStyle,
    bounds: Bounds,
    attributes: Sequence[Attribute],
    strength: float,
) -> Float[Tensor, "m k"]:
    """Logits of one image with each attribute alone, in one call of `score`."""
    moved = [shift(styles, a.coordinate, a.direction, bounds, strength) for a in attributes]
    return score(torch.cat(moved))


def _step(attribute: Attribute, after: Tensor, before: Tensor, target: int) -> Step:
    """What one attribute changed; logits `[k]` after and before it."""
    return Step(
        attribute,
        logits=tuple(after.tolist()),
        probability=float(after.softmax(0)[target]),
        effect=float(after[target] - before[target]),
        flipped=int(after.argmax()) == target,
    )
