"""Attributes on top of each other: the subset selection of method.md 5, over all search images [O].

AttFind's own rules (`selection`) add up effects that were measured one by one. Those of one layer
do not add: of five coordinates each of which raises a class two may undo the third. Here every step
is measured on top of the ones before, and gives one ranked list for a class, or for two.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from stylex.attfind import Search
from stylex.looking import spread
from stylex.selection import COMES_BACK, considered, lead, stable
from stylex.shapes import Logits, Styles
from stylex.stylespace import shift

ON = 64  # most images of a class that steps are measured on [O]
SEEN_AGAIN = 8  # images of a class that tell whether a move comes back (`choosing`) [O]
BLOCKS = 4  # times as many candidates are looked at, where some do not come back [O]

Moves = Int64[Tensor, "m 2"]  # coordinate, direction
Measure = Callable[[Styles, Logits, Moves], Float[Tensor, "n m k"]]
"""What each move changes in the logits of images that stand at these styles and logits."""
Back = Callable[[Sequence["Side"]], Callable[[Moves], Float[Tensor, " m"]]]
"""For images, what share of each move's change of the picture comes back (`choosing`)."""


@dataclass(frozen=True)
class Side:
    """Images on their way to one class.

    Args:
        target: index of the class.
        rows: which images of the search.
        turned: the moves of a chain are made in the opposite direction: the other one of two
            classes, which share one list.
    """

    target: int
    rows: Int64[Tensor, " n"]
    turned: bool = False

    def way(self, moves: Moves) -> Moves:
        """The moves as this side makes them."""
        return torch.stack([moves[:, 0], moves[:, 1] ^ int(self.turned)], 1)


@dataclass(frozen=True)
class Step:
    """One step of a chain: the moves that could be made next, and which of them was.

    Args:
        moves: `[m, 2]` coordinate and direction.
        before: of each side the `[n]` leads of its target over the best other class, in logits.
        after: of each side the `[n, m]` leads after each of the moves.
        best: the move that was made.
    """

    moves: Moves
    before: tuple[Float[Tensor, " _"], ...]
    after: tuple[Float[Tensor, "_ m"], ...]
    best: int


def sides(found: Search, target: int) -> list[Side]:
    """The images over which a chain towards a class is sought, up to 64 of each side.

    Two classes share one chain, towards the first; the images of the first go the opposite way.
    """
    ways = [(0, False), (1, True)] if _shared(found) else [(target, False)]
    every = [(k, rows_of(found, k), turned) for k, turned in ways]
    return [
        Side(k, rows[spread(len(rows), ON).to(rows.device)], turned)
        for k, rows, turned in every
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
    """The moves that alone take the images furthest, twice as many as are wanted.

    Only such as raise the targets' logits on the whole: an attribute stands for something alone.

    Args:
        found: effects of all moves.
        here: the images, one side at least.
        count: attributes wanted.
        barred: coordinates that are out of the question.
        back: what comes back of moves: half of it must. Asked for twice as many moves as are wanted
            at a time, four times at most; where none of all these does, nothing is asked of them.
    """
    gains = rises = found.effects.new_zeros(found.effects.shape[1:3])
    # a fast search foretells the classes it seeks only: of others nothing can be said of all moves
    foretold = (found.made.get("certificate") or {}).get("correlation", ())
    partly = 0 < len(foretold) < len(found.classes) and not _shared(found)
    for side in here:
        for row in side.rows.tolist():  # one image at a time: no copy of a large table
            effects, base = found.effects[row], found.logits[row].to(found.effects)
            effects = effects.flip(1) if side.turned else effects
            own, before = effects[..., side.target], lead(base, side.target)
            after = before + own if partly else lead(base + effects, side.target)
            gain = after.clamp(max=found.threshold) - before.clamp(max=found.threshold)
            gains = gains + gain / len(side.rows)
            rises = rises + own / len(side.rows)
    gains = gains.masked_fill(rises <= 0, -inf)
    gains[list(barred)] = -inf
    order = gains.flatten().argsort(descending=True, stable=True)
    order = order[gains.flatten()[order] > -inf].to(found.styles.device)
    moves = torch.stack([order // 2, order % 2], 1)
    if back is None:
        return moves[: 2 * count]
    share, kept = back(here), moves[:0]
    for some in moves.split(2 * count)[:BLOCKS]:
        kept = torch.cat([kept, some[share(some) >= COMES_BACK]])[: 2 * count]
        if len(kept) == 2 * count:
            break
    return kept if len(kept) else moves[: 2 * count]


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
        The steps; it ends where no move takes the images further.
    """
    if not here:
        return []
    if moves is None:
        moves = candidates(found, here, count=count, barred=barred, back=back)
    steps: list[Step] = []
    styles = [found.styles[side.rows] for side in here]
    logits = [found.logits[side.rows].to(styles[0]) for side in here]
    while len(moves) and len(steps) < count:
        given = list(zip(here, styles, logits, strict=True))
        reached = [base[:, None] + measure(row, base, side.way(moves)) for side, row, base in given]
        before = tuple(lead(base, side.target) for side, _, base in given)
        after = tuple(lead(r, side.target) for side, r in zip(here, reached, strict=True))
        best = furthest(before, after, found.threshold)
        if best is None:
            break
        steps.append(Step(moves, before, after, best))
        made = [side.way(moves)[best].tolist() for side in here]
        styles = [
            shift(row, *move, found.bounds, found.strength)
            for row, move in zip(styles, made, strict=True)
        ]
        logits = [each[:, best] for each in reached]
        moves = moves[moves[:, 0] != moves[best, 0]]
    return steps


def furthest(
    before: Sequence[Float[Tensor, " _"]], after: Sequence[Float[Tensor, "_ m"]], threshold: float
) -> int | None:
    """The move after which the sides' mean leads are largest in sum, counted up to the threshold.

    So an image that is decided gives nothing more, and counts where it would be undone. Where no
    move gives anything, leads count in full, of moves after which no side has fewer images decided;
    None where that is no gain either.
    """
    pairs = list(zip(before, after, strict=True))

    def gains(most: float) -> Float[Tensor, " m"]:
        sides = [
            (then.clamp(max=most) - now.clamp(max=most)[:, None]).mean(0) for now, then in pairs
        ]
        return torch.stack(sides).sum(0)

    capped = gains(threshold)
    if not len(capped):
        return None
    if capped.max() > 0:
        return int(capped.argmax())
    fewer = torch.stack([(then > 0).sum(0) < (now > 0).sum() for now, then in pairs]).any(0)
    full = gains(inf).masked_fill(fewer, -inf)
    return int(full.argmax()) if full.max() > 0 else None


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
    coordinate, direction = step.moves[which].tolist()
    return coordinate, direction ^ int(_shared(found) and target == 1)


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
            [side[some] for side, some in zip(step.before, rows, strict=True)],
            [side[some] for side, some in zip(step.after, rows, strict=True)],
            found.threshold,
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
