"""Flips of the decision, counted so that they cannot be had for nothing.

Per ordered pair of classes, over images whose reconstruction is decided as the first. A flip that
the panel does not see, or that random coordinates reach too, proves little.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from stylex.attfind import Search
from stylex.counterfactual import subset
from stylex.looking import spread
from stylex.metrics import interval
from stylex.model import StylEx
from stylex.selection import lead
from stylex.shapes import Bounds, Styles
from stylex.stylespace import Attribute, shift_all
from stylex.subjects import Drawn, Subjects

STRENGTHS = (0.25, 0.5, 1.0, 1.5, 2.0)  # of the search's own
PERCENTILES = (0.02, 0.98)
LOOKED_AT = 150  # images of a pair that floors, distances and curves are of; flips count on all
UNFLIPPED = {"flipped": None, "why_flipped": "no attribute was found towards this class"}
Pairs = dict[str, dict[str, Any]]


def percentile_bounds(styles: Styles) -> Bounds:
    """The 2nd and 98th percentile of every coordinate: bounds that no single image sets."""
    return styles.quantile(styles.new_tensor(PERCENTILES), dim=0)


def pairs(subjects: Subjects) -> Iterator[tuple[str, Tensor, int]]:
    """Name, rows and target of every ordered pair of classes that has images."""
    classes = subjects.model.classes
    for target, name in enumerate(classes):
        for origin in (k for k in range(len(classes)) if k != target):
            rows = (subjects.labels == origin).nonzero().flatten()
            if len(rows):
                yield f"{classes[origin]}->{name}", rows, target


def top(found: Search, target: int, count: int) -> list[Attribute]:
    """The first attributes of a class; of both directions of a coordinate the stronger one."""
    once: dict[int, Attribute] = {}
    for attribute in found.towards(target)[:count]:
        once.setdefault(attribute.coordinate, attribute)
    return list(once.values())


def sufficiency(
    subjects: Subjects,
    found: Search,
    bounds: Bounds,
    *,
    count: int = 10,
    most: int | None = None,
    floors: bool = True,
    seed: int = 0,
) -> Pairs:
    """Share of images flipped by the first 1, 2, ... attributes together (method.md 6).

    Args:
        subjects: test images.
        found: attributes of the search images.
        bounds: where strength 1 lands: the search's own, or `percentile_bounds`.
        count: most attributes applied together.
        most: images of each pair; None for all.
        floors: whether random coordinates are moved beside.
        seed: of the random coordinates.

    Returns:
        For each pair: `images`, `countable` (those on which panel and classifier agreed before),
        and lists over the number of attributes (`counts`): `flipped` with Wilson's `low` and
        `high`, `flipped_countable` (the same of the countable alone), `confirmed` (share of the
        countable that both call the target), `agreed` (share of the countable on which the panel
        still decides as the classifier); and of up to `LOOKED_AT` images `perceptual` (mean
        distance moved), `usual` (share within D's range of photos), and of as many random
        coordinates moved the same style distance `random`, `random_confirmed` and
        `random_perceptual`. Where no attribute was found `flipped` is None, and says why.
    """
    draw = torch.Generator().manual_seed(seed) if floors else None
    table, at = {}, {"bounds": bounds, "strength": found.strength, "draw": draw}
    for name, every, target in pairs(subjects):
        rows = every[spread(len(every), most or len(every)).to(every.device)]
        chosen = top(found, target, count)
        columns = [
            {"counts": m} | _column(subjects, rows, target, chosen[:m], **at)
            for m in range(1, len(chosen) + 1)
        ]
        lists = {key: [column[key] for column in columns] for key in (columns or [{}])[0]}
        table[name] = {
            "images": len(rows),
            "countable": int(subjects.countable[rows].sum()),
            **(lists or UNFLIPPED),
        }
    return table


def _column(
    subjects: Subjects,
    rows: Tensor,
    target: int,
    chosen: Sequence[Attribute],
    *,
    bounds: Bounds,
    strength: float,
    draw: torch.Generator | None,
) -> dict[str, Any]:
    """Some attributes together, beside as many random coordinates where there is a `draw`."""
    here, some = subjects.styles[rows], spread(len(rows), LOOKED_AT).to(rows.device)
    before, there = subjects.redrawn.images[rows[some]], shift_all(here, chosen, bounds, strength)
    edited = subjects.draw(there)
    flipped = int((edited.labels == target).sum())
    low, high = interval(flipped, len(rows))
    column = {
        "flipped": flipped / len(rows),
        "low": low,
        "high": high,
        "flipped_countable": _among_countable(subjects, rows, edited.labels == target),
        "confirmed": confirmed(subjects, edited, rows, target),
        "agreed": agreed(subjects, edited, rows),
        "perceptual": subjects.far(before, edited.images[some]),
        "usual": subjects.usual(edited[some]).float().mean().item(),
    }
    if draw is None:
        return column
    options = {"among": subjects.model.layout.searched, "count": len(chosen)}
    floor = subjects.draw(at_random(here[some], there[some], bounds, draw, **options))
    return column | {
        "random": (floor.labels == target).float().mean().item(),
        "random_confirmed": confirmed(subjects, floor, rows[some], target),
        "random_perceptual": subjects.far(before, floor.images),
    }


def confirmed(subjects: Subjects, edited: Drawn, rows: Tensor, target: int) -> float | None:
    """Share of the countable images that classifier and panel both call the target."""
    if edited.panel is None:
        return None
    both = (edited.labels == target) & (edited.panel == target)
    return _among_countable(subjects, rows, both)


def agreed(subjects: Subjects, edited: Drawn, rows: Tensor) -> float | None:
    """Share of the countable images on which the panel decides as the classifier, edited too."""
    if edited.panel is None:
        return None
    return _among_countable(subjects, rows, edited.panel == edited.labels)


def _among_countable(subjects: Subjects, rows: Tensor, so: Tensor) -> float | None:
    countable = subjects.countable[rows]
    return so[countable].float().mean().item() if countable.any() else None


def at_random(
    here: Styles,
    there: Styles,
    bounds: Bounds,
    draw: torch.Generator,
    *,
    among: int,
    count: int,
) -> Styles:
    """Move random coordinates of each image as far as an edit moved it, in units of their ranges.

    Args:
        here, there: `[n, s]` before and after the edit.
        bounds: `[2, s]`, whose distance is a coordinate's range.
        draw: of coordinates and signs.
        among: how many coordinates there are to choose from, the first ones.
        count: coordinates moved, the same for all images.
    """
    reach = (bounds[1] - bounds[0]).clamp_min(1e-8)
    distance = ((there - here) / reach).norm(dim=1, keepdim=True)
    chosen = torch.randperm(among, generator=draw)[:count].to(here.device)
    signs = (2 * torch.randint(2, (count,), generator=draw) - 1).to(here)
    moved = here.clone()
    moved[:, chosen] += distance * signs / count**0.5 * reach[chosen]
    return moved


def by_strength(subjects: Subjects, found: Search, *, count: int = 10) -> dict[str, Any]:
    """Flips and perceptual distance of the first attributes together over their strength.

    Both are means of up to `LOOKED_AT` images of each pair.
    """
    strengths = [found.strength * part for part in STRENGTHS]
    table: dict[str, Any] = {"strengths": strengths, "flipped": {}, "perceptual": {}}
    for name, rows, target in pairs(subjects):
        some = rows[spread(len(rows), LOOKED_AT).to(rows.device)]
        chosen, before = top(found, target, count), subjects.redrawn.images[some]
        drawn = [
            subjects.draw(shift_all(subjects.styles[some], chosen, found.bounds, strength))
            for strength in strengths
        ]
        table["flipped"][name] = [(d.labels == target).float().mean().item() for d in drawn]
        table["perceptual"][name] = [subjects.far(before, d.images) for d in drawn]
    return table


def smallest_sets(subjects: Subjects, found: Search, *, count: int = 10, images: int = 40) -> Pairs:
    """How many attributes the greedy subset of method.md 5 needs, on some images of each pair.

    Returns:
        For each pair `images`, the share `flipped`, and `sizes`: of every flipped image the number
        of attributes used. Where no attribute was found `flipped` is None, and says why.
    """
    table: Pairs = {}
    for name, rows, target in pairs(subjects):
        chosen = found.towards(target)[:count]
        some = rows[spread(len(rows), images).to(rows.device)]
        if not chosen:
            table[name] = {"images": len(some), "sizes": [], **UNFLIPPED}
            continue
        sizes = [
            _size(subjects.model, subjects.styles[row : row + 1], found, chosen, target)
            for row in some.tolist()
        ]
        flipped = [size for size in sizes if size]
        table[name] = {
            "images": len(some),
            "flipped": len(flipped) / len(some),
            "sizes": sorted(flipped),
        }
    return table


def _size(
    model: StylEx,
    styles: Float[Tensor, "1 s"],
    found: Search,
    chosen: Sequence[Attribute],
    target: int,
) -> int:
    """Attributes in the greedy subset of one image; 0 where it does not flip."""
    options = {"target": target, "count": len(chosen), "strength": found.strength}
    steps = subset(model.score, styles, found.bounds, chosen, **options)
    return len(steps) if steps and steps[-1].flipped else 0


def necessity(
    subjects: Subjects, found: Search, *, count: int = 10, seed: int = 0
) -> dict[str, Any]:
    """How much of the decision is gone when the found coordinates stand at their mean.

    Returns:
        `coordinates` put to their mean over the search images, `gone` (mean loss of the decided
        class's lead over the next, as a share of the lead), `flipped` (share of images decided
        otherwise), and the same for as many random coordinates.
    """
    classes = range(len(subjects.model.classes))
    chosen = sorted({a.coordinate for k in classes for a in top(found, k, count)})
    draw = torch.Generator().manual_seed(seed)
    chance = torch.randperm(subjects.model.layout.searched, generator=draw)[: len(chosen)].tolist()
    gone, flipped = _at_mean(subjects, found, chosen)
    random_gone, random_flipped = _at_mean(subjects, found, chance)
    return {
        "coordinates": len(chosen),
        "gone": gone,
        "flipped": flipped,
        "random_gone": random_gone,
        "random_flipped": random_flipped,
    }


def _at_mean(subjects: Subjects, found: Search, coordinates: Sequence[int]) -> tuple[float, float]:
    styles = subjects.styles.clone()
    where = list(coordinates)
    styles[:, where] = found.styles.to(styles).mean(0)[where]
    after = subjects.draw(styles)
    before = lead(subjects.redrawn.logits, subjects.labels)
    gone = 1 - lead(after.logits, subjects.labels).mean() / before.mean()
    return gone.item(), (after.labels != subjects.labels).float().mean().item()
