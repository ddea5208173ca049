"""Attributes on top of each other: the subset selection of method.md 5, over all search images [O].

AttFind's own rules (`selection`) add up effects that were measured one by one. Those of one layer
do not add: of five coordinates each of which raises a class two may undo the third. Here every step
is measured on top of the ones before, and gives one ranked list for a class, or for two.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import inf
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from stylex.attfind import Search
from stylex.looking import spread
from stylex.selection import COMES_BACK, considered, lead, stable
from stylex.shapes import Logits, Styles
from stylex.stylespace import shift

ON = 64  # most images of a class that steps are measured on [O]
SEEN_AGAIN = 8  # images of a class that tell whether a move comes back (`choosing`) [O]
CLEARLY = 2.0  # standard errors: what a move of both classes in one direction must give each [O]
REST_BY = "alone"  # how a list goes on where nothing helps on top (`furthest`) [O]
BLOCKS = 4  # times as many candidates are looked at, where some do not come back [O]

Moves = Int64[Tensor, "m ways"]  # coordinate, and the direction in which each side makes it
Way = Int64[Tensor, "m 2"]  # coordinate and direction, of one side
Measure = Callable[[Styles, Logits, Way], Float[Tensor, "n m k"]]
"""What each move changes in the logits of images that stand at these styles and logits."""
Back = Callable[[Sequence["Side"]], Callable[[Moves], Float[Tensor, " m"]]]
"""For images, what share of each move's change of the picture comes back (`choosing`)."""


@dataclass(frozen=True)
class Side:
    """Images on their way to one class.

    Args:
        target: index of the class.
        rows: which images of the search.
        place: among the sides of a list, which gives each move a direction for each.
    """

    target: int
    rows: Int64[Tensor, " n"]
    place: int = 0

    def way(self, moves: Moves) -> Way:
        """The moves as this side makes them."""
        return moves[:, [0, 1 + self.place]]


@dataclass(frozen=True)
class Step:
    """One step of a chain: the moves that could be made next, and which of them was.

    Args:
        moves: `[m, 1 + sides]` coordinate and directions.
        before: of each side the `[n]` leads of its target over the best other class, in logits.
        after: of each side the `[n, m]` leads after each of the moves.
        alone: of each side the `[n, m]` gains of each move on images that nothing else has moved,
            leads counted up to the threshold.
        best: the move that was made.
    """

    moves: Moves
    before: tuple[Float[Tensor, " _"], ...]
    after: tuple[Float[Tensor, "_ m"], ...]
    alone: tuple[Float[Tensor, "_ m"], ...]
    best: int


def opposite(moves: Moves) -> Bool[Tensor, " m"]:
    """Which moves no two sides make in the same direction: of one side all."""
    return (moves[:, 1:2] != moves[:, 2:]).all(1)


def sides(found: Search, target: int) -> list[Side]:
    """The images over which a chain towards a class is sought, up to 64 of each side.

    Two classes share one chain: each of its moves has a direction towards either.
    """
    targets = [0, 1] if _shared(found) else [target]
    every = [(k, rows_of(found, k), place) for place, k in enumerate(targets)]
    return [
        Side(k, rows[spread(len(rows), ON).to(rows.device)], place)
        for k, rows, place in every
        if len(rows)
    ]


def _shared(found: Search) -> bool:
    """Whether there is one list for both classes (method.md 4.3)."""
    return len(found.classes) == 2 and found.source is None


def rows_of(found: Search, target: int) -> Int64[Tensor, " n"]:
    """Stable images over which attributes towards a class are sought."""
    asked = considered(found.logits, target=target, source=found.source).to(found.effects.device)
    return (asked & stable(found.effects)).nonzero().flatten()


def candidates(
    found: Search,
    here: Sequence[Side],
    *,
    count: int,
    barred: Collection[int] = (),
    back: Back | None = None,
) -> Moves:
    """Moves of the coordinates that alone take the images furthest, twice as many as are wanted.

    Only such as raise the targets' logits on the whole: an attribute stands for something alone. A
    side's direction is the better one, and the other one too where that also raises its target:
    what one factor does may depend on another, as in an exclusive or.

    Args:
        found: effects of all moves.
        here: the images, one side at least.
        count: attributes wanted.
        barred: coordinates that are out of the question.
        back: what comes back of moves: half of it must, of a coordinate's best one. Asked for twice
            as many coordinates as are wanted at a time, four times at most; where none of all these
            does, nothing is asked of them.

    Returns:
        The best coordinate's moves first.
    """
    gained, risen = zip(*(_alone(found, side) for side in here), strict=True)
    ways = torch.tensor([*product((0, 1), repeat=len(here))], device=found.effects.device)
    if _shared(found) and len(here) == 1:  # no image of the other class: it goes the opposite way
        ways = torch.tensor([(0, 1), (1, 0)], device=found.effects.device)

    def along(each: Sequence[Tensor]) -> Tensor:  # [sides, j, ways]
        return torch.stack([x[:, ways[:, s.place]] for x, s in zip(each, here, strict=True)])

    good = [(r > 0) | (g == g.amax(1, keepdim=True)) for g, r in zip(gained, risen, strict=True)]
    possible = along(good).all(0) & (along(risen).sum(0) > 0)
    possible[list(barred)] = False
    best, which = along(gained).sum(0).masked_fill(~possible, -inf).max(1)
    order = best.argsort(descending=True, stable=True)
    order = order[best[order] > -inf]
    if back is not None:
        first = torch.cat([order[:, None], ways[which[order]]], 1).to(found.styles.device)
        order = order[_back_again(back(here), first, 2 * count)]
    row, way = possible[order[: 2 * count]].nonzero(as_tuple=True)
    return torch.cat([order[row][:, None], ways[way]], 1).to(found.styles.device)


def _alone(found: Search, side: Side) -> tuple[Float[Tensor, "j 2"], Float[Tensor, "j 2"]]:
    """How far moves take a side's images, in mean lead up to the threshold and in logits."""
    gained = risen = found.effects.new_zeros(found.effects.shape[1:3])
    # a fast search foretells the classes it seeks only: of others nothing can be said of all moves
    foretold = (found.made.get("certificate") or {}).get("correlation", ())
    partly = 0 < len(foretold) < len(found.classes) and not _shared(found)
    for row in side.rows.tolist():  # one image at a time: no copy of a large table
        effects, base = found.effects[row], found.logits[row].to(found.effects)
        own, before = effects[..., side.target], lead(base, side.target)
        after = before + own if partly else lead(base + effects, side.target)
        gain = after.clamp(max=found.threshold) - before.clamp(max=found.threshold)
        gained = gained + gain / len(side.rows)
        risen = risen + own / len(side.rows)
    return gained, risen


def _back_again(
    share: Callable[[Moves], Float[Tensor, " m"]], moves: Moves, most: int
) -> Int64[Tensor, " some"]:
    """Which moves come back, in their order, as many as are wanted; all where none does."""
    kept: list[int] = []
    for place, some in enumerate(moves.split(most)[:BLOCKS]):
        back = (share(some) >= COMES_BACK).nonzero().flatten().tolist()
        kept += [place * most + one for one in back]
        if len(kept) >= most:
            break
    return torch.tensor(kept or [*range(len(moves))], dtype=torch.long)


def chain(
    measure: Measure,
    found: Search,
    here: Sequence[Side],
    *,
    count: int,
    barred: Collection[int] = (),
    back: Back | None = None,
    moves: Moves | None = None,
) -> list[Step]:
    """Moves on top of each other, each the one that takes the images furthest (`furthest`).

    Args:
        measure: the engine.
        found: effects of all moves, and the styles that the images begin with.
        here: the images.
        count: most steps; a coordinate that was moved is not moved again.
        barred: coordinates that are out of the question.
        back: what comes back of moves, where `candidates` are sought.
        moves: to choose among; by default the `candidates`.

    Returns:
        The steps; it ends where no move takes the images further, and none does alone.
    """
    if not here:
        return []
    if moves is None:
        moves = candidates(found, here, count=count, barred=barred, back=back)
    steps: list[Step] = []
    alone: tuple[Tensor, ...] = ()
    styles = [found.styles[side.rows] for side in here]
    logits = [found.logits[side.rows].to(styles[0]) for side in here]
    while len(moves) and len(steps) < count:
        given = list(zip(here, styles, logits, strict=True))
        reached = [base[:, None] + measure(row, base, side.way(moves)) for side, row, base in given]
        before = tuple(lead(base, side.target) for side, _, base in given)
        after = tuple(lead(r, side.target) for side, r in zip(here, reached, strict=True))
        alone = alone or tuple(map(partial(gains, most=found.threshold), before, after))
        best = furthest(before, after, alone, opposite(moves), threshold=found.threshold)
        if best is None:
            break
        steps.append(Step(moves, before, after, alone, best))
        made = [side.way(moves)[best].tolist() for side in here]
        styles = [
            shift(row, *move, found.bounds, found.strength)
            for row, move in zip(styles, made, strict=True)
        ]
        logits = [each[:, best] for each in reached]
        left = moves[:, 0] != moves[best, 0]
        moves, alone = moves[left], tuple(each[:, left] for each in alone)
    return steps


def gains(
    before: Float[Tensor, " _"], after: Float[Tensor, "_ m"], most: float
) -> Float[Tensor, "_ m"]:
    """What moves bring to a side's images, in leads that count up to a most."""
    return after.clamp(max=most) - before.clamp(max=most)[:, None]


def furthest(
    before: Sequence[Float[Tensor, " _"]],
    after: Sequence[Float[Tensor, "_ m"]],
    alone: Sequence[Float[Tensor, "_ m"]],
    mirrored: Bool[Tensor, " m"],
    *,
    threshold: float,
) -> int | None:
    """The move after which the sides' mean leads are largest in sum, counted up to the threshold.

    So an image that is decided gives nothing more, and counts where it would be undone. Where no
    move gives anything on top, the one that gives most alone is taken: what else decides, of moves
    after which no side has fewer images decided. A classifier that is sure cannot be surer, so what
    is on top tells nothing there. None where nothing gives anything.

    Args:
        before, after, alone: of a `Step`.
        mirrored: which moves are `opposite`.
        threshold: up to which leads count.
    """
    pairs = list(zip(before, after, strict=True))
    on_top = [gains(now, then, threshold) for now, then in pairs]
    best = _most(on_top, mirrored)
    if best is None and len(mirrored):
        fewer = torch.stack([(then > 0).sum(0) < (now > 0).sum() for now, then in pairs]).any(0)
        left = (~fewer).nonzero().flatten()
        best = _most([each[:, left] for each in alone], mirrored[left])
        best = best if best is None else int(left[best])
    return best


def _most(sides: Sequence[Float[Tensor, "_ m"]], mirrored: Bool[Tensor, " m"]) -> int | None:
    """The move that gives most, None where none gives anything.

    Two classes go one way only where that clearly takes both further, by two standard errors over
    the images: else the few that are undecided would turn a direction round for next to nothing.
    """
    means = torch.stack([side.mean(0) for side in sides])
    squares = torch.stack([side.square().mean(0) for side in sides])
    images = torch.tensor([len(side) for side in sides], device=means.device)[:, None]
    doubts = ((squares - means.square()).clamp(min=0) / images).sqrt()
    total, clear = means.sum(0), (means > CLEARLY * doubts).all(0)
    total = total.masked_fill(~(mirrored | clear), -inf)
    return int(total.argmax()) if len(total) and total.max() > 0 else None


def chains(
    measure: Measure,
    found: Search,
    targets: Collection[int],
    *,
    among: Mapping[int, Moves] | None = None,
    **options: Any,
) -> dict[int, list[Step]]:
    """The chain towards each class; two classes share theirs.

    Args:
        measure, found: as for `chain`.
        targets: the classes.
        among: for each of them the moves to choose among; by default the `candidates`.
        options: `count`, `barred` and `back` of `chain`.
    """
    moves = dict.fromkeys(targets) | dict(among or {})
    if _shared(found):
        first = next(iter(targets))
        steps = chain(measure, found, sides(found, 0), moves=moves[first], **options)
        return dict.fromkeys(targets, steps)
    return {k: chain(measure, found, sides(found, k), moves=moves[k], **options) for k in targets}


def towards(found: Search, target: int, step: Step, which: int) -> tuple[int, int]:
    """Coordinate and direction of a move of a step, as it goes towards a class."""
    coordinate, *directions = step.moves[which].tolist()
    return coordinate, directions[target if _shared(found) else 0]


def won(
    found: Search, target: int, steps: Sequence[Step], draw: torch.Generator
) -> list[tuple[int, int]]:
    """The moves that win the steps of a chain over images drawn with replacement.

    Args:
        found, target: whose chain it is, and the class that the moves are told towards.
        steps: of the chain.
        draw: of the images, each side's from its own.
    """
    if not steps:
        return []
    rows = [torch.randint(len(side), (len(side),), generator=draw) for side in steps[0].before]
    best = [
        furthest(
            *(
                [side[some] for side, some in zip(sides, rows, strict=True)]
                for sides in (step.before, step.after, step.alone)
            ),
            mirrored=opposite(step.moves),
            threshold=found.threshold,
        )
        for step in steps
    ]
    pairs = zip(steps, best, strict=True)
    return [towards(found, target, step, which) for step, which in pairs if which is not None]


def chain_cost(images: int, classes: int, count: int) -> tuple[int, int]:
    """About the most that chains cost: images folded or drawn, and moves of them measured.

    That moves come back is seen on eight images of a side: each is drawn, encoded and drawn again.
    More than the candidates are asked where some of them do not.

    Args:
        images: of the search.
        classes: towards which attributes are sought; two share the images out.
        count: attributes of each.
    """
    rows = min(images, 2 * ON) if classes == 2 else min(images, ON) * classes
    seen = min(images, 2 * SEEN_AGAIN) if classes == 2 else min(images, SEEN_AGAIN) * classes
    folded, drawn = rows * count, 3 * seen * (2 * count + 1)  # as long as folding, three times
    return folded + drawn, rows * sum(2 * count - done for done in range(count))
