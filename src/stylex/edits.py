"""What a method's attributes do to test images whose factors are known, and how that is scored.

    bench = Bench(classify, photos, factors, reader, true=importance(classify, LEAVES), rule=rule)
    bench.score(of_search(found, encode, synthesize))   # our own attributes
    bench.score(mine)                                   # anything with `attributes` and `edit`

Each image moves towards the class that it is not, so that one attribute, which serves both classes,
is measured on all images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from stylex.attfind import Search
from stylex.readers import Reader, read_quality, readable
from stylex.scenes import SPREAD, Factors
from stylex.shapes import Classify, Images, Styles
from stylex.stylespace import Attribute, shift
from stylex.synthetic import Rule
from stylex.truth import (
    REACH,
    Importance,
    Twins,
    Unedited,
    score_found,
    slope_r2,
    twins,
)

TOGETHER = 10  # attributes applied at once where flips are counted
OPPOSITE = -0.99  # cosine of two ways of which the second would undo the first

Vectors = Float[Tensor, "n d"]


@runtime_checkable
class Method(Protocol):
    """All that a benchmark asks of a method: ordered attributes of a classifier of two classes.

    An attribute is whatever the method's own `edit` understands: a coordinate, a direction, a word.
    """

    @property
    def attributes(self) -> Sequence[Any]:
        """What was found, the most important first."""
        ...

    def edit(self, images: Images, attributes: Sequence[Any], strength: float) -> Images:
        """Change photos by some of the attributes together.

        Args:
            images: photos `[n, c, h, w]` in [-1, 1].
            attributes: some of `attributes`; with none of them, the photos come back as the method
                redraws them: what edits are compared with.
            strength: 1 moves each image fully towards class 1, -1 towards class 0.

        Returns:
            As many images of the same size.
        """
        ...


@dataclass(frozen=True, eq=False)
class Moves:
    """A method whose attributes are straight moves in a space: style coordinates, directions of w.

    Args:
        encode: photos to vectors `[n, d]`.
        draw: vectors to images.
        ways: `[m, d]`, one attribute each, of length 1 and pointing towards class 1.
        ends: `[2, m]`, where on its way a move towards class 0 or 1 ends.
    """

    encode: Callable[[Images], Vectors]
    draw: Callable[[Vectors], Images]
    ways: Float[Tensor, "m d"]
    ends: Float[Tensor, "2 m"]

    @classmethod
    def within(
        cls,
        encode: Callable[[Images], Vectors],
        draw: Callable[[Vectors], Images],
        ways: Float[Tensor, "m d"],
        vectors: Vectors,
    ) -> "Moves":
        """Moves that end where the furthest of some vectors lies, as AttFind's do."""
        return cls(encode, draw, ways, torch.stack([*(vectors @ ways.T).aminmax(dim=0)]))

    @property
    def attributes(self) -> Sequence[int]:
        """Rows of `ways`."""
        return range(len(self.ways))

    def edit(self, images: Images, attributes: Sequence[int], strength: float) -> Images:
        """Encode, move, draw."""
        return self.draw(self.move(self.encode(images), attributes, strength))

    def move(self, vectors: Vectors, attributes: Sequence[int], strength: float) -> Vectors:
        """Vectors moved to the end of each way in turn; of two opposite ways to the first's."""
        for place, row in enumerate(attributes):
            way, end = self.ways[row], self.ends[int(strength > 0), row]
            if any(self.ways[earlier] @ way < OPPOSITE for earlier in attributes[:place]):
                continue
            vectors = vectors + abs(strength) * (end - vectors @ way)[:, None] * way
        return vectors


def of_search(
    found: Search, encode: Callable[[Images], Styles], synthesize: Callable[[Styles], Images]
) -> Moves:
    """The attributes that AttFind found for two classes, on one list for both."""
    moves = Moves.within(
        encode, synthesize, single(found.towards(1), found.styles.shape[1]), found.styles
    )
    for rank, (zero, one) in enumerate(zip(found.towards(0), found.towards(1), strict=False)):
        if zero.direction == one.direction:  # both classes go to one end
            moves.ends[0, rank] = moves.ends[1, rank]
    return moves


def single(attributes: Sequence[Attribute], size: int) -> Float[Tensor, "m size"]:
    """Moves of one coordinate each: a row of zeros with one 1 or -1."""
    ways = torch.zeros(len(attributes), size)
    for way, attribute in zip(ways, attributes, strict=True):
        way[attribute.coordinate] = 2 * attribute.direction - 1
    return ways


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


# --- measured ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Edit:
    """One attribute, or some together, on test images, each moved to the class it is not.

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


@torch.no_grad()
def make_edit(
    method: Method,
    attributes: Sequence[Any],
    images: Images,
    *,
    before: Unedited,
    kept: Bool[Tensor, " f"] | None = None,
) -> Edit:
    """Some attributes together, on test images, beside their twins.

    Args:
        method: edits.
        attributes: some of the method's.
        images: `[n, c, h, w]`.
        before: the images as the method redraws them, with their factors.
        kept: factors that can be read.
    """
    labels, edited = (before.margins > 0).long(), torch.empty_like(before.reconstructions)
    for label, strength in ((0, 1.0), (1, -1.0)):
        if (rows := labels == label).any():
            edited[rows] = method.edit(images[rows], attributes, strength)
    return Edit(twins(before, edited, readable=kept), 1 - 2 * labels)


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


# --- the bench -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Bench:
    """Where all methods are measured alike: a classifier, and test images of known factors.

    Args:
        classify: images to logits of two classes.
        photos: test images `[n, c, h, w]`.
        factors: `[n, f]` that they were drawn from.
        reader: of their scene.
        true: what the classifier uses.
        rule: what was planted; None where nothing was, as for random weights.
        monotone: whether factors have a direction at all.
    """

    classify: Classify
    photos: Images
    factors: Factors
    reader: Reader
    true: Importance
    rule: Rule | None = None
    monotone: bool = True

    def score(self, method: Method) -> dict[str, Any]:
        """One method's table.

        Returns:
            What `truth.score_found` gives with factors by name; `twin_slope`, `twin_r2` and
            `twin_explained` over the attributes taken; `attributes`, one by one; `readable` factors
            and their `reading` (slope, R2, doubt); `sufficiency10`, the share of images that the
            first ten together flip, and `sufficiency10_confirmed`, see `confirmed`.
        """
        names = self.reader.scene.factors
        redrawn = method.edit(self.photos, (), 0.0)
        quality = read_quality(self.reader, self.factors, redrawn)
        kept = readable(*quality)
        scene, read = self.reader.scene, self.reader.read
        before = Unedited(self.classify, read, self.factors, redrawn, scene=scene)
        make = partial(make_edit, images=self.photos, before=before, kept=kept)
        made = [make(method, [attribute]) for attribute in method.attributes]
        score = score_edits(made, self.true, monotone=self.monotone)
        first = make(method, list(method.attributes)[:TOGETHER])
        rows = [_row(rank, edit, score, names) for rank, edit in enumerate(made)]
        return {
            **{k: v for k, v in score.items() if k not in ("main", "repeats", "taken")},
            "used": [names[k] for k in score["used"]],
            "readable": [name for name, good in zip(names, kept.tolist(), strict=True) if good],
            "reading": dict(zip(names, torch.stack(quality, 1).tolist(), strict=True)),
            "attributes": rows,
            **self.flipped(first, before.margins),
        }

    def flipped(self, edit: Edit, before: Float[Tensor, " n"]) -> dict[str, Any]:
        """The share of images that an edit flips, and the share where the planted rule agrees.

        A flip is confirmed where the rule itself gives the twin, which has the measured change of
        the factors and nothing else, the new class. Counted over the images on which rule and
        classifier agreed before.

        Args:
            edit: of all test images.
            before: margins of the unedited images.
        """
        flips = (before > 0) != (before + edit.twins.edits > 0)
        table: dict[str, Any] = {"sufficiency10": flips.float().mean().item()}
        if self.rule is None:
            return table | _no_confirmation("nothing was planted")
        agreed = self.rule.labels(self.factors) == (before > 0)
        if not agreed.any():
            return table | _no_confirmation("no image that classifier and rule agree on")
        twin = self.rule.labels((self.factors + edit.twins.changes).clamp(*REACH))
        confirmed = (flips & (twin != (before > 0)))[agreed].float().mean().item()
        return table | {"sufficiency10_confirmed": confirmed}


def _no_confirmation(why: str) -> dict[str, Any]:
    return {"sufficiency10_confirmed": None, "why_sufficiency10_confirmed": why}


def _row(rank: int, edit: Edit, score: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """One attribute for a table; ranks start at 1."""
    main, repeats = score["main"][rank], score["repeats"].get(rank)
    return {
        "rank": rank + 1,
        "factor": None if main is None else names[main],
        "used": main in score["used"],
        "repeats": None if repeats is None else repeats + 1,
        "effect": edit.effects.mean().item(),
        "explained": edit.twins.explained,
        "changes": dict(zip(names, edit.changes.tolist(), strict=True)),
    }
