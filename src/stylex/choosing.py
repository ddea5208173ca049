"""Choosing attributes with the model at hand: on top of each other, or unseen by D."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from stylex import sweep
from stylex.attfind import Search, class_index, find_again, placed
from stylex.chaining import (
    REST_BY,
    SEEN_AGAIN,
    Back,
    Measure,
    Moves,
    Side,
    Step,
    Way,
    chain_cost,
    chains,
    rows_of,
    towards,
)
from stylex.ledger import Ledger, key_of
from stylex.looking import spread
from stylex.model import StylEx, in_batches
from stylex.networks import Synthesis
from stylex.selection import CHANGED, COMES_BACK, attribute_over, stable
from stylex.shapes import Bounds, Classify, Images, Logits, Probabilities, Styles
from stylex.stylespace import Layout, shift

Choice = Literal["subset", "cumulative", "single", "share"]
NOTICED, NOTICED_ON = 0.2, 10  # change of D's score, images (method.md 4.3, notebook)

Redraw = Callable[[Images, Probabilities], Images]
"""Images encoded and drawn again, under probabilities that are given."""


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

    def measure(styles: Styles, logits: Logits, moves: Way) -> Float[Tensor, "n m k"]:
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


def share_back(before: Images, after: Images, again: Images, after_again: Images) -> float:
    """Share of a change of images that comes back where the model draws both sides of it again.

    Photos are drawn again as they are, more or less: encoder and generator have learnt it. So of an
    edit that shows what photos can show the change comes back; what only its own coordinate can
    draw is lost.

    Args:
        before, after: `[n, c, h, w]`.
        again, after_again: the same, encoded and drawn again.

    Returns:
        1 less the energy (sum of squares over pixels) of what the two changes differ by, over that
        of the change: at most 1, below 0 where something else comes; 0 where nothing changes.
    """

    def energies(*four: Images) -> Float[Tensor, "n 2"]:
        x, y, x_again, y_again = four
        off = (y_again - x_again) - (y - x)
        return torch.stack([off.square().sum((1, 2, 3)), (y - x).square().sum((1, 2, 3))], 1)

    lost, whole = in_batches(energies, before, after, again, after_again).sum(0).tolist()
    return 1 - lost / whole if whole > 0 else 0.0


def coming_back(
    found: Search, draw: Callable[[Styles], Images], redraw: Redraw, ledger: Ledger
) -> Back:
    """What comes back of moves, seen on eight images of each side, all together (`share_back`).

    On planted scenes it went along with what twins explain of an edit (docs/log.md, 2026-11-27),
    and it needs no truth. The images keep the p they have before the move: else a change of p alone
    could draw it again.

    Args:
        found: whose styles are moved.
        draw, redraw: the model, from styles and from images.
        ledger: keeps what was seen; its processes share the moves.
    """

    def shares_on(here: Sequence[Side]) -> Callable[[Moves], Float[Tensor, " m"]]:
        device = found.styles.device
        rows = [side.rows[spread(len(side.rows), SEEN_AGAIN).to(side.rows.device)] for side in here]
        sides = [found.styles[its.to(device)] for its in rows]
        p = found.logits[torch.cat(rows).to(found.logits.device)].softmax(1).to(sides[0])
        before = draw(torch.cat(sides))
        again = redraw(before, p)

        def share(ways: tuple[list[int], ...]) -> float:
            its = zip(sides, ways, strict=True)
            moved = [shift(x, j, d, found.bounds, found.strength) for x, (j, d) in its]
            after = draw(torch.cat(moved))
            return share_back(before, after, again, redraw(after, p))

        def shares(moves: Moves) -> Float[Tensor, " m"]:
            ways = [*zip(*(side.way(moves).tolist() for side in here), strict=True)]

            def work(row: int, _stop: int) -> Iterator[Tensor]:
                yield torch.tensor([share(ways[row])])

            name = f"back-{key_of('', [moves, *rows])[:16]}"
            asked = ledger.fill(name, (len(ways), 1), work, like=found.styles, each=0.0)
            return asked[:, 0].to(device)

        return shares

    return shares_on


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
        redraw: the model; where given, moves that come back are chosen (`coming_back`).

    Returns:
        A search of rule "subset"; `made["candidates"]` are the moves that each class's chain chose
        from, `made["comes_back"]` is what was asked of them, `made["rest_by"]` how the list goes
        on where nothing helps on top. Effects of a fast search that were
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
    back = redraw and coming_back(found, draw, redraw, ledger or Ledger())
    chained = chains(measure, found, targets, count=count, barred=barred, back=back)
    moves = {k: [towards(found, k, step, step.best) for step in chained[k]] for k in targets}
    named = {str(k): steps[0].moves.tolist() for k, steps in chained.items() if steps}
    made: dict[str, Any] = found.made | {"count": count, "candidates": named}
    made |= {"comes_back": COMES_BACK if redraw else None, "rest_by": REST_BY}
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
            f"up to {2 * count} coordinates for each class that alone take its images furthest, by "
            "what was measured or foretold, and that the model draws again where any of them does."
        )
        made["certificate"] = said | {"says": says}
    attributes = []
    for k, its in moves.items():
        effects = found.effects[..., k][rows_of(found, k)]  # one class: the table may be large
        attributes += [placed(attribute_over(effects, j, d, k), layout) for j, d in its]
    return replace(found, attributes=tuple(attributes), rule="subset", made=made)


def check_list(found: Search) -> None:
    """Refuse a list that cannot be walked again.

    Raises:
        ValueError: it was chosen on top of each other otherwise, by a StylEx of before.
    """
    if found.rule == "subset" and (by := found.made.get("rest_by")) != REST_BY:
        raise ValueError(
            f"the list was made by an older StylEx (it goes on by {by or 'leads in full'}, wanted "
            f"{REST_BY}); choose again: stylex search --reuse, with --images as many as it took"
        )


def walked(
    model: StylEx, found: Search, targets: Collection[int], **options: Any
) -> dict[int, list[Step]]:
    """The chains of a search that was made so, walked again; `options` as for `chain`."""
    found = beside(model, found)
    given = (model.generator.synthesis, model.classifier, found.bounds)
    how = {"strength": found.strength, "batch": model.at_once}
    named = found.made.get("candidates", {})  # in the end a fast search knows better: not anew
    among = {k: torch.tensor(named[str(k)]) for k in targets if str(k) in named}
    among = {k: moves.to(found.styles.device) for k, moves in among.items()}
    return chains(engine(*given, **how), found, targets, among=among, **options)


def redrawing(model: StylEx) -> Redraw:
    """A model that encodes and draws again, a few images at a time."""

    def redraw(images: Images, p: Probabilities) -> Images:
        return model.synthesize(model.style(model.encode(images), p))

    return partial(in_batches, redraw, batch=model.at_once)


def beside(model: StylEx, found: Search) -> Search:
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
        _, ledger.expected = chain_cost(len(found.logits), len(ways), count)
    new = on_top(beside(model, found), model.layout, *nets, batch=model.at_once, **given)
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
