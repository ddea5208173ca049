"""Choosing attributes with the model at hand: on top of each other, or unseen by D."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stylex import sweep
from stylex.attfind import Search, class_index, find_again, placed
from stylex.chaining import (
    SEEN_AGAIN,
    Measure,
    Moves,
    Side,
    Stands,
    Step,
    chains,
    most_moves,
    rows_of,
    towards,
)
from stylex.ledger import Ledger
from stylex.looking import spread
from stylex.model import StylEx, in_batches
from stylex.networks import Synthesis
from stylex.selection import CHANGED, COMES_BACK, attribute_over, stable
from stylex.shapes import Bounds, Classify, Images, Logits, Styles
from stylex.stylespace import Layout, shift

Choice = Literal["subset", "cumulative", "single", "share"]
NOTICED, NOTICED_ON = 0.2, 10  # change of D's score, images (method.md 4.3, notebook)

Redraw = Callable[[Images], Images]
"""Images as the model reconstructs them."""


def engine(
    synthesis: Synthesis,
    classify: Classify,
    bounds: Bounds,
    *,
    strength: float = 1.0,
    batch: int = sweep.MOST,
    ledger: Ledger | None = None,
) -> Measure:
    """The exact engine of AttFind as `chain` asks it; arguments as for `sweep.measure`."""

    def measure(styles: Styles, logits: Logits, moves: Moves) -> Float[Tensor, "n m k"]:
        coordinates, which = moves[:, 0].unique(return_inverse=True)
        wanted = torch.zeros(len(coordinates), 2, dtype=torch.bool, device=moves.device)
        wanted[which, moves[:, 1]] = True
        options = {"strength": strength, "batch": batch, "ledger": ledger, "base": logits}
        effects, _ = sweep.measure(
            synthesis,
            classify,
            styles,
            bounds,
            coordinates=coordinates,
            wanted=wanted.expand(len(styles), -1, -1),
            **options,
        )
        return effects.to(logits)[:, which, moves[:, 1]]

    return measure


def share_back(change: Images, again: Images) -> float:
    """Share of a change of images that comes back where the model draws both sides of it again.

    Photos are drawn again as they are, more or less: encoder and generator have learnt it. So of an
    edit that shows what photos can show the change comes back, and what only its own coordinate can
    draw is lost.

    Args:
        change: edited less unedited images, `[n, c, h, w]`.
        again: the same of their reconstructions.

    Returns:
        1 less the share of the change's energy that the two differ by: at most 1, below 0 where
        something else comes; 0 where nothing changes.
    """
    whole = change.square().sum()
    return (1 - (again - change).square().sum() / whole).item() if whole > 0 else 0.0


def coming_back(found: Search, draw: Callable[[Styles], Images], redraw: Redraw) -> Stands:
    """Moves stand of whose change of the picture half comes back where the model draws it again.

    On planted scenes that share is nearly what the twins explain of an edit, and it needs no truth
    (docs/log.md, 2026-11-27).

    Args:
        found: whose styles are moved.
        draw, redraw: the model, from styles and from images.
    """

    def stands(here: Sequence[Side], moves: Moves) -> Bool[Tensor, " m"]:
        rows = [side.rows[spread(len(side.rows), SEEN_AGAIN).to(moves.device)] for side in here]
        before = draw(found.styles[torch.cat(rows)])
        redrawn, by, shares = redraw(before), found.strength, []
        for ways in zip(*(side.way(moves).tolist() for side in here), strict=True):
            its = zip(rows, ways, strict=True)
            moved = [shift(found.styles[r], j, d, found.bounds, by) for r, (j, d) in its]
            after = draw(torch.cat(moved))
            shares.append(share_back(after - before, redraw(after) - redrawn))
        return torch.tensor(shares, device=moves.device) >= COMES_BACK

    return stands


def on_top(
    found: Search,
    layout: Layout,
    synthesis: Synthesis,
    classify: Classify,
    *,
    target: int | str | None = None,
    count: int = 10,
    among: Collection[int] | None = None,
    redraw: Redraw | None = None,
    batch: int = sweep.MOST,
    ledger: Ledger | None = None,
) -> Search:
    """The same search, with the attributes of each class chosen on top of each other.

    Args:
        found: effects of all moves; a few may be foretold. Its own attributes do not matter.
        layout: fills layer and resolution of the attributes.
        synthesis, classify, batch, ledger: as for `sweep.measure`.
        target: class whose attributes are wanted, by name or index; every class by default.
        count: most attributes of each class.
        among: the only coordinates that may be chosen; None for all.
        redraw: the model; where given, only moves that come back are chosen (`coming_back`).

    Returns:
        A search of rule "subset"; `made["candidates"]` are the moves that each class's chain chose
        from, `made["comes_back"]` is what was asked of them. Effects of a fast search that were
        foretold and are reported now are measured, in place.

    Raises:
        ValueError: there is no such class.
    """
    how = {"strength": found.strength, "batch": batch, "ledger": ledger}
    measure = engine(synthesis, classify, found.bounds, **how)
    every = [k for k in range(len(found.classes)) if k != found.source]
    targets = every if target is None else [class_index(found.classes, target)]
    barred = set(found.made.get("without", ()))
    barred |= set() if among is None else set(range(layout.searched)) - set(among)
    draw = partial(in_batches, lambda some: synthesis(some).clamp(-1, 1), batch=batch)
    stands = redraw and coming_back(found, draw, redraw)
    chained = chains(measure, found, targets, count=count, barred=barred, stands=stands)
    moves = {k: [towards(found, k, step, step.best) for step in chained[k]] for k in targets}
    named = {str(k): steps[0].moves.tolist() for k, steps in chained.items() if steps}
    made: dict[str, Any] = found.made | {"count": count, "candidates": named}
    made |= {"comes_back": COMES_BACK} if redraw else {}
    if (known := made.get("measured")) is not None:  # of a fast search: report nothing foretold
        left = sorted({j for its in moves.values() for j, _ in its} - set(known))
        some = torch.tensor(left, dtype=torch.long, device=found.styles.device)
        given, base = (synthesis, classify, found.styles, found.bounds), found.logits
        exact, _ = sweep.measure(*given, coordinates=some, base=base.to(found.styles), **how)
        found.effects[:, left] = exact.to(found.effects)
        made["measured"] = sorted({*known, *left})
    if (said := made.get("certificate")) is not None:
        says = (
            f"{said['says']} The list was then chosen on top of each other, measured exactly, from "
            f"up to {2 * count} moves for each class that alone take its images furthest, by what "
            "was measured or foretold."
        )
        made["certificate"] = said | {"says": says}
    attributes = []
    for k, its in moves.items():
        effects = found.effects[..., k][rows_of(found, k)]  # one class: the table may be large
        attributes += [placed(attribute_over(effects, j, d, k), layout) for j, d in its]
    return replace(found, attributes=tuple(attributes), rule="subset", made=made)


def walked(
    model: StylEx, found: Search, targets: Collection[int], **options: Any
) -> dict[int, list[Step]]:
    """The chains of a search that was made so, walked again; `options` as for `chain`."""
    found = _beside(model, found)
    given = (model.generator.synthesis, model.classifier, found.bounds)
    how = {"strength": found.strength, "batch": model.at_once}
    named = found.made.get("candidates", {})  # in the end a fast search knows better: not anew
    among = {k: torch.tensor(named[str(k)]) for k in targets if str(k) in named}
    among = {k: moves.to(found.styles.device) for k, moves in among.items()}
    return chains(engine(*given, **how), found, targets, among=among, **options)


def redrawing(model: StylEx) -> Redraw:
    """A model's `reconstruct`, a few images at a time."""
    return partial(in_batches, model.reconstruct, batch=model.at_once)


def _beside(model: StylEx, found: Search) -> Search:
    """A search whose styles lie where the model does."""
    device = model.mean_p.device
    return replace(found, styles=found.styles.to(device), bounds=found.bounds.to(device))


def sought(classes: Sequence[str], target: str | int | None, source: int | None) -> list[int]:
    """Classes whose effects a search needs; of two classes both, for they share one list."""
    if target is None or (len(classes) == 2 and source is None):
        return [k for k in range(len(classes)) if k != source]
    return [class_index(classes, target)]


def again(
    model: StylEx,
    found: Search,
    *,
    rule: Choice = "subset",
    count: int = 10,
    ledger: Ledger | None = None,
    **options: Any,
) -> Search:
    """Choose from effects that were measured: other classes, thresholds, rules, at once or soon.

    Args:
        model: the StylEx that was searched.
        found: a search of any options.
        rule: "subset" asks the model again, a part of a search; the others ask nobody.
        count: attributes for each class.
        ledger: whom "subset" tells of its progress.
        options: `target`, `source`, `threshold`, `without` as for `attfind.find_again`.
    """
    under = "cumulative" if rule == "subset" else rule
    found = find_again(found, model.layout, rule=under, count=count, **options)
    if rule != "subset":
        return found
    nets, among = (model.generator.synthesis, model.classifier), found.made.get("measured")
    given = {"target": options.get("target"), "count": count, "among": among, "ledger": ledger}
    given |= {"redraw": redrawing(model)}
    if ledger:
        ways = sought(found.classes, given["target"], found.source)
        _, ledger.expected = most_moves(len(found.logits), len(ways), count)
    new = on_top(_beside(model, found), model.layout, *nets, batch=model.at_once, **given)
    return replace(new, styles=found.styles, bounds=found.bounds)


@torch.no_grad()
def noticed(model: StylEx, found: Search, coordinate: int, *, target: int) -> bool:
    """Whether the discriminator notices moves of a coordinate (method.md 4.3, notebook).

    In both directions, on up to 10 images that the move changes by more than 0.2 logits towards the
    target, at strength 2: D's score under the edited image's own p changes by more than 0.2 on any.
    Each is scored alone, for D compares the images that it is given together.
    """

    def score(styles: Styles) -> Tensor:
        images = model.synthesize(styles.to(model.mean_p.device))
        return model.discriminator(images, model.probabilities(images))

    for direction in (0, 1):
        changed = found.effects[:, coordinate, direction, target] > CHANGED
        styles = found.styles[changed & stable(found.effects)][:NOTICED_ON]
        if not len(styles):
            continue
        moved = shift(styles, coordinate, direction, found.bounds, 2.0)
        before, after = (in_batches(score, rows, batch=1) for rows in (styles, moved))
        if (after - before).abs().max() > NOTICED:
            return True
    return False


def unnoticed(model: StylEx, found: Search, **options: Any) -> Search:
    """Select again until no attribute is a move that the discriminator notices.

    Args:
        model: a trained StylEx.
        found: a search; its effects are used again.
        options: `target`, `source`, `count`, `threshold`, `rule` that it was made with.
    """
    asked: set[tuple[int, int]] = set()
    without: set[int] = set(found.made.get("without", ()))
    while new := {(a.coordinate, a.target) for a in found.attributes} - asked:
        asked |= new
        loud = {j for j, target in new if noticed(model, found, j, target=target)}
        if not loud:
            break
        without |= loud
        found = again(model, found, without=without, **options)
    return found
