"""AttFind for large problems: foretell every effect, measure only what may be chosen.

One backward pass for each image and class foretells the effect of every coordinate (`folding`).
Then, at every greedy step, the coordinates that look best over the images not yet explained are
measured exactly, until the best ones all are: a prediction never decides between two measured
moves, and every reported effect is exact. What was never measured was ranked by prediction alone;
some of it, drawn at random, is measured at the end. Where that changes the list, the search looks
further ahead and audits again; the certificate says what is sure.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stylex import sweep
from stylex.attfind import Search
from stylex.folding import Classify, Folded
from stylex.ledger import Ledger
from stylex.networks import Synthesis
from stylex.selection import CHANGED, Rule, considered, stable, threshold_of
from stylex.shapes import Bounds, Effects, Logits, Styles

AHEAD = 32  # moves that must be measured before one of them is chosen
SPARE = 8  # more of them that are measured along: to fold an image anew costs as much
SAMPLED = 16  # images that are foretold to say beforehand how long it will take
TIMED = 16  # of the coordinates that will be measured, on one image, to say so
AUDITED = 32  # coordinates never measured that are, at the end
AUDITS = 3  # at most; between them the look-ahead is widened
DOUBT = 0.7  # rank correlation of foretold and measured under which the look-ahead widens


@dataclass(eq=False)
class Screen:
    """Foretold effects, replaced by exact ones where something hangs on them.

    Args:
        synthesis, classify, styles, bounds, strength: as for `sweep.measure`.
        targets: classes whose effects are foretold.
        foretold: `[n, j, 2, targets]` to first order.
        effects: `[n, j, 2, k]`, exact where `exact` says so, elsewhere foretold, or 0 for a class
            that nobody asks for.
        exact: which coordinates were measured, in both directions.
        ahead: how many of the best moves must be measured before one is chosen.
        options: `base`, `batch` and `ledger` of `sweep.measure`.
    """

    synthesis: Synthesis
    classify: Classify
    styles: Styles
    bounds: Bounds
    strength: float
    targets: list[int]
    foretold: Float[Tensor, "n j 2 targets"]
    effects: Effects
    exact: Bool[Tensor, " j"] = field(init=False)
    ahead: int = AHEAD
    options: dict[str, Any] = field(default_factory=dict)
    widened: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """Nothing is measured yet."""
        self.effects[..., self.targets] = self.foretold
        self.exact = self.effects.new_zeros(self.effects.shape[1], dtype=torch.bool)

    def measure(self, coordinates: Bool[Tensor, " j"]) -> None:
        """Exact effects of these coordinates, on all images and for all classes."""
        new = coordinates & ~self.exact
        if not new.any():
            return
        self.effects[:, new], _ = sweep.measure(
            self.synthesis,
            self.classify,
            self.styles,
            self.bounds,
            strength=self.strength,
            coordinates=new.nonzero().flatten(),
            **self.options,
        )
        self.exact |= new

    def correlation(self, target: int) -> float:
        """Of the order of foretold and of measured mean rises of one class, where it was measured.

        Of ranks, since the order is what is relied on: far from the bound a prediction is too
        large, and a few of those would drown the rest. Of each coordinate in the direction that is
        foretold to rise more: which one that is, is easy, and would drown the rest as well.
        """
        told = self.foretold[:, self.exact, :, self.targets.index(target)]
        true = self.effects[:, self.exact, :, target]
        told, true = (x.clamp(min=0).mean(0) for x in (told, true))
        up = told.argmax(1, keepdim=True)
        ranks = torch.stack([_ranks(x.gather(1, up).flatten()) for x in (told, true)])
        if ranks.shape[1] < 3 or (ranks.std(1) == 0).any():
            return 1.0
        return float(torch.corrcoef(ranks)[0, 1])

    def best(self, means: Callable[[], Float[Tensor, "j 2"]], target: int) -> int:
        """The best move `2 * coordinate + direction`, once all that look as good are measured.

        Where it was nearly missed, standing in the last quarter of what was looked at, the
        look-ahead widens and it is chosen again.
        """

        def order() -> Tensor:
            return means().flatten().argsort(descending=True)

        first = order()
        while True:
            best = self._measured(order, target)
            place = int((first == best).nonzero())
            if place < 3 * self.ahead // 4 or self.ahead >= len(first):
                return best
            self.widen()

    def _measured(self, order: Callable[[], Tensor], target: int) -> int:
        """The first in an order whose first ones are all measured, widely enough to trust it."""
        while not self.exact[(now := order())[: self.ahead] // 2].all():
            ahead = torch.zeros_like(self.exact)
            ahead[now[: self.ahead + SPARE] // 2] = True
            self.measure(ahead)
            if self.correlation(target) < DOUBT:
                self.widen()
        return int(now[0])

    def widen(self) -> None:
        """Look twice as far ahead from now on."""
        self.ahead, self.widened = min(2 * self.ahead, 2 * len(self.exact)), True


def _ranks(x: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
    """Place of each value in their order; equal ones share the middle of theirs."""
    _, which, counts = x.unique(return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - counts / 2).double()[which]


class Rehearsal(Screen):
    """The same with predictions taken for the truth: how much would be measured?"""

    folds = 0

    def measure(self, coordinates: Bool[Tensor, " j"]) -> None:
        """Only note that these would be measured."""
        self.folds += int((coordinates & ~self.exact).any())
        self.exact |= coordinates


def quick(
    synthesis: Synthesis,
    classify: Classify,
    styles: Styles,
    bounds: Bounds,
    *,
    finish: Callable[[Effects, Logits], Search],
    targets: list[int],
    source: int | None = None,
    count: int = 10,
    threshold: float | None = None,
    rule: Rule = "cumulative",
    strength: float = 1.0,
    batch: int = sweep.MOST,
    ledger: Ledger | None = None,
) -> Search:
    """A search whose effects are exact wherever its selection looks.

    Args:
        synthesis, classify, styles, bounds, strength, batch, ledger: as for `sweep.measure`.
        finish: from effects and logits to a search: `attfind.find` with all its options.
        targets: classes for which attributes are sought.
        source, count, threshold, rule: of the selection, as `finish` has them.

    Returns:
        The search; `made["certificate"]` says what is sure, `made["measured"]` lists the
        coordinates whose effects are exact. The others' are foretold.
    """
    ledger = ledger or Ledger()
    given = {"strength": strength, "ledger": ledger}
    logits = sweep.base_logits(synthesis, classify, styles, bounds, **given)
    foretold = sweep.foretell(synthesis, classify, styles, bounds, targets=targets, **given)
    effects = ledger.room("effects", (*foretold.shape[:3], logits.shape[1]), like=foretold)
    rest = (strength, targets, foretold, effects)
    screen = Screen(synthesis, classify, styles, bounds, *rest, ahead=AHEAD)
    screen.options = {"base": logits, "batch": batch, "ledger": ledger}
    choice = {"count": count, "threshold": threshold_of(threshold, logits.shape[1]), "rule": rule}
    return screened(screen, logits, finish, source=source, **choice)


def screened(
    screen: Screen, logits: Logits, finish: Callable[[Effects, Logits], Search], **choice: Any
) -> Search:
    """The search of a screen, once all that its selection looks at is measured.

    At the end the selection is audited: made again with more measured, drawn at random. Where it
    takes any of that, the look-ahead widens and all is done once more, up to three times.

    Args:
        screen: nothing of it has to be exact yet.
        logits: of the reconstructions.
        finish: as for `quick`.
        choice: `source`, `count`, `threshold` (a number) and `rule`, as for `quick`.
    """
    audits = 0
    while True:
        audits += 1
        look_ahead(screen, logits, **choice)
        settled(screen, logits, finish)
        told: dict[str, Any] = {
            "measured": float(screen.exact.double().mean()),
            "ahead": screen.ahead,
            "widened": screen.widened,
            "correlation": {str(target): screen.correlation(target) for target in screen.targets},
        }
        drawn = some_unmeasured(screen, audits)
        screen.measure(drawn)
        found = settled(screen, logits, finish)
        hidden = {a.coordinate for a in found.attributes} & set(drawn.nonzero().flatten().tolist())
        if not hidden or audits == AUDITS:
            break
        screen.widen()
    told["left_out"] = max(found.made["left_out"], int((~stable(screen.foretold)).sum()))
    told |= {"audits": audits, "audited": int(drawn.sum()), "hidden": len(hidden)}
    made = {
        "certificate": certificate(told, whole=bool(screen.exact.all())),
        "measured": screen.exact.nonzero().flatten().tolist(),
    }
    return replace(found, made=found.made | made)


def settled(screen: Screen, logits: Logits, finish: Callable[[Effects, Logits], Search]) -> Search:
    """The selection, once everything in it is measured."""
    while True:
        found = finish(screen.effects, logits)
        chosen = torch.zeros_like(screen.exact)
        chosen[sorted({a.coordinate for a in found.attributes})] = True
        if screen.exact[chosen].all():
            return found
        screen.measure(chosen)


def some_unmeasured(screen: Screen, seed: int) -> Bool[Tensor, " j"]:
    """Up to 32 coordinates that were never measured, drawn at random."""
    rest = (~screen.exact).nonzero().flatten()
    draw = torch.Generator().manual_seed(seed)
    drawn = torch.zeros_like(screen.exact)
    drawn[rest[torch.randperm(len(rest), generator=draw)[:AUDITED].to(rest.device)]] = True
    return drawn


def certificate(told: dict[str, Any], *, whole: bool) -> dict[str, Any]:
    """What is sure and what is not, in words.

    Args:
        told: of the last audit: `measured`, `ahead`, `widened`, `correlation`, `audits`, `audited`,
            `hidden`, `left_out`.
        whole: in the end everything was measured, so nothing hangs on a prediction.

    Returns:
        The same with `sure` and `says`.
    """
    agree = min(told["correlation"].values(), default=1.0)
    doubts = [
        f"audits still changed the list after {told['audits']} times" * bool(told["hidden"]),
        f"{told['left_out']} unstable images were left out by prediction" * bool(told["left_out"]),
        f"ranks of foretold and measured effects correlate by {agree:.2f} only" * (agree < DOUBT),
    ]
    why = "" if whole else "; ".join(filter(None, doubts))
    says = (
        "Reported effects are exact, and so is the choice among the coordinates that were measured "
        f"({told['measured']:.0%}). The others were ranked by prediction; of {told['audited']} "
        f"drawn at random and measured, {told['hidden']} would have come into the list."
    )
    if told["audited"] and not told["hidden"]:
        says += f" At 95 % at most {min(1.0, 3 / told['audited']):.0%} of them could."
    return told | {"sure": not why, "says": f"Not sure: {why}. {says}" if why else says}


def expect(
    synthesis: Synthesis,
    classify: Classify,
    styles: Styles,
    bounds: Bounds,
    *,
    targets: list[int],
    source: int | None,
    strength: float = 1.0,
    batch: int = sweep.MOST,
    **choice: Any,
) -> tuple[int, float]:
    """What `quick` will cost, from some of the images and a few timed moves.

    Args:
        synthesis, classify, styles, bounds, targets, strength, batch: as for `quick`.
        source, choice: of the selection: `count`, `threshold` and `rule`.

    Returns:
        Evaluations and seconds.
    """
    some = styles[:: -(-len(styles) // SAMPLED)]
    with torch.no_grad():
        _, fold = sweep.timed(lambda: Folded(synthesis, some[:1]))
        logits = torch.cat([classify(synthesis(row).clamp(-1, 1)) for row in some.split(1)])
    given = {"targets": targets, "strength": strength}
    sweep.foretell(synthesis, classify, some[:1], bounds, **given)  # only warms up
    began = time.perf_counter()
    told = sweep.foretell(synthesis, classify, some, bounds, **given)
    tell = (time.perf_counter() - began) / len(some)
    rest = (strength, targets, told, told.new_zeros(*told.shape[:3], logits.shape[1]))
    screen = Rehearsal(synthesis, classify, some, bounds, *rest, ahead=AHEAD)
    look_ahead(screen, logits, source=source, **choice)
    exact = screen.exact
    audited = min(AUDITED, int((~exact).sum()))
    its = (exact if exact.any() else ~exact).nonzero().flatten()
    few = its[:: -(-len(its) // TIMED)]
    options = {"strength": strength, "batch": batch, "base": logits[:1], "coordinates": few}
    _, spent = sweep.timed(lambda: sweep.measure(synthesis, classify, some[:1], bounds, **options))
    count = int(exact.sum()) + audited
    seconds = tell + count * max(spent - fold, 0.0) / len(few)
    seconds += (1 + screen.folds + bool(audited)) * fold  # the reconstructions are drawn, too
    return len(styles) * (sweep.passes(targets) + 2 * count), len(styles) * seconds


def look_ahead(screen: Screen, logits: Logits, *, source: int | None, **choice: Any) -> None:
    """Measure whatever may be chosen; the images count that are foretold to be stable."""
    steady = stable(screen.foretold)
    for target in screen.targets:
        rows = considered(logits, target=target, source=source) & steady
        _choose(screen, rows, target, **choice)


def _choose(
    screen: Screen,
    rows: Bool[Tensor, " n"],
    target: int,
    *,
    count: int,
    threshold: float,
    rule: Rule,
) -> None:
    """The greedy selection of `selection.select`, measuring ahead of every step."""
    taken = torch.zeros_like(screen.effects[0, :, :, 0], dtype=torch.bool)  # [j, 2]
    gains = screen.effects.new_zeros(int(rows.sum()))
    for _ in range(count):
        active = gains < threshold if rule != "share" else gains > -1
        if not active.any():
            break

        def means(active: Tensor = active) -> Tensor:
            rises = screen.effects[..., target][rows][active].clamp(min=0)
            score = (rises > CHANGED).double() if rule == "share" else rises.double()
            return score.mean(0).masked_fill(taken, -1.0)

        coordinate, direction = divmod(screen.best(means, target), 2)
        rises = screen.effects[rows, coordinate, direction, target].clamp(min=0)
        if not rises[active].mean() > 0:
            break
        taken[coordinate, direction if rule != "single" else slice(None)] = True
        gains = torch.maximum(gains, rises) if rule == "single" else gains + rises
