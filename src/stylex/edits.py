"""What the attributes of a two-class search do to test images whose factors are known.

    made = every_edit(synthesize, classify, read, found, styles, factors=factors, scene=LEAVES)
    score_edits(made, importance(classify, LEAVES), monotone=True)

Each image moves towards the class that it is not, so that one attribute, which serves both classes,
is measured on all images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from stylex.attfind import Search
from stylex.scenes import SPREAD, Factors, Scene
from stylex.shapes import Images, Logits, Styles
from stylex.stylespace import shift
from stylex.truth import Importance, Twins, score_found, slope_r2, twins


@dataclass(frozen=True, eq=False)
class Edit:
    """One attribute of a two-class search on test images, each moved to the class it is not.

    Args:
        twins: beside the renderings with the same change.
        signs: +1 for the images that moved towards class 1, -1 for the others.
    """

    twins: Twins
    signs: Int[Tensor, " n"]

    @property
    def effects(self) -> Tensor:
        """Rise of the wanted class's margin on each image, in logits."""
        return self.twins.edits * self.signs

    @property
    def changes(self) -> Tensor:
        """Mean size of each factor's change, in standard deviations."""
        return self.twins.changes.abs().mean(0) / SPREAD

    @property
    def toward(self) -> Tensor:
        """Mean change of each factor on the way to class 1, in standard deviations."""
        return (self.twins.changes * self.signs[:, None]).mean(0) / SPREAD


def moved(found: Search, rank: int, styles: Styles, labels: Int[Tensor, " n"]) -> Styles:
    """Styles under one attribute, each image moved towards the class that it is not.

    Args:
        found: attributes of two classes, which share one ranking.
        rank: from 0.
        styles: `[n, s]`.
        labels: decisions on them.
    """
    ways = [
        shift(styles, a.coordinate, a.direction, found.bounds)
        for a in (found.towards(target)[rank] for target in (0, 1))
    ]
    return torch.where(labels[:, None] == 0, ways[1], ways[0])


@torch.no_grad()
def every_edit(
    synthesize: Callable[[Styles], Images],
    classify: Callable[[Images], Logits],
    read: Callable[[Images], Factors],
    found: Search,
    styles: Styles,
    *,
    factors: Factors,
    scene: Scene,
    kept: Bool[Tensor, " f"] | None = None,
) -> list[Edit]:
    """Every attribute of a search on test images, in its order.

    Args:
        synthesize, classify, read: styles to images, images to logits and to factors.
        found: attributes of two classes.
        styles: `[n, s]` of the test images.
        factors: `[n, f]` of the test images.
        scene: renders factors.
        kept: factors that can be read.
    """
    base = synthesize(styles)
    labels = classify(base).argmax(1)
    return [
        Edit(
            twins(
                classify,
                read,
                factors,
                base,
                synthesize(moved(found, rank, styles, labels)),
                scene=scene,
                readable=kept,
            ),
            1 - 2 * labels,
        )
        for rank in range(len(found.towards(1)))
    ]


def score_edits(made: Sequence[Edit], true: Importance, *, monotone: bool) -> dict[str, Any]:
    """`truth.score_found`, and the twins of all images of the attributes taken."""
    none, nothing = torch.zeros(0, len(true.g)), torch.zeros(0, 1)
    score = score_found(
        torch.stack([edit.changes for edit in made]) if made else none,
        torch.stack([edit.toward for edit in made]) if made else none,
        torch.stack([edit.effects for edit in made]) if made else nothing,
        torch.tensor([edit.twins.explained for edit in made]),
        true,
        monotone=monotone,
    )
    taken = [made[i].twins for i in score["taken"]]
    if not taken:
        names = ("twin_slope", "twin_r2", "twin_explained")
        return score | dict.fromkeys(names) | {f"why_{n}": "nothing was taken" for n in names}
    slope, r2 = slope_r2(torch.cat([x.edits for x in taken]), torch.cat([x.twins for x in taken]))
    explained = sum(x.explained for x in taken) / len(taken)
    return score | {"twin_slope": slope, "twin_r2": r2, "twin_explained": explained}
