"""AttFind for large problems: foretell every effect, measure only what may be chosen.

One backward pass for each image and class foretells the effect of every coordinate (`folding`).
Then, at every greedy step, the coordinates that look best over the images not yet explained are
measured exactly, until the best ones all are: a prediction never decides between two measured
moves, and every reported effect is exact. What was never measured was ranked by prediction alone;
some of it, drawn at random, is measured at the end to see what that may have hidden (the
certificate).
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
DOUBT = 0.7  # rank correlation of foretold and measured under which the look-ahead widens


@dataclass(eq=False)
class Screen:
    """Foretold effects, replaced by exact ones where something hangs on them.

    Args:
        synthesis, classify, styles, bounds, strength: as for `sweep.measure`.
        foretold: `[n, j, 2, k]` to first order; a class that nobody asks for is 0.
        effects: the same, exact where `exact` says so.
        exact: which coordinates were measured, in both directions.
        ahead: how many of the best moves must be measured before one is chosen.
        options: `base`, `batch` and `ledger` of `sweep.measure`.
    """

    synthesis: Synthesis
    classify: Classify
    styles: Styles
    bounds: Bounds
    strength: float
    foretold: Effects
    effects: Effects
    exact: Bool[Tensor, " j"]
    ahead: int = AHEAD
    options: dict[str, Any] = field(default_factory=dict)
    widened: bool = field(default=False, init=False)

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
        large, and a few of those would drown the rest.
        """
        rises = (x[:, self.exact, :, target] for x in (self.foretold, self.effects))
        ranks = torch.stack([_ranks(x.clamp(min=0).mean(0).flatten()) for x in rises])
        if ranks.shape[1] < 3 or (ranks.std(1) == 0).any():
            return 1.0
        return float(torch.corrcoef(ranks)[0, 1])

    def best(self, means: Callable[[], Float[Tensor, "j 2"]], target: int) -> int:
        """The best move `2 * coordinate + direction`, once all that look as good are measured.

        The look-ahead widens where prediction and truth disagree, or where the best was nearly
        missed: it stood in the last quarter of what was looked at.
        """
        first = means().flatten().argsort(descending=True)
        while True:
            order = means().flatten().argsort(descending=True)
            ahead = torch.zeros_like(self.exact)
            ahead[order[: self.ahead] // 2] = True
            if (self.exact | ~ahead).all():
                break
            ahead[order[: self.ahead + SPARE] // 2] = True
            self.measure(ahead)
            if self.correlation(target) < DOUBT:
                self.widen()
        if int((first == order[0]).nonzero()) >= 3 * self.ahead // 4:
            self.widen()
        return int(order[0])

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
    given = {"strength": strength, "ledger": ledger}
    logits = sweep.base_logits(synthesis, classify, styles, bounds, **given)
    some = sweep.foretell(synthesis, classify, styles, bounds, targets=targets, **given)
    foretold = some.new_zeros(*some.shape[:3], logits.shape[1])
    foretold[..., targets] = some
    exact = torch.zeros(foretold.shape[1], dtype=torch.bool, device=styles.device)
    rest = (strength, foretold, foretold.clone(), exact)
    screen = Screen(synthesis, classify, styles, bounds, *rest, ahead=AHEAD)
    screen.options = {"base": logits, "batch": batch, "ledger": ledger}
    choice = {"count": count, "threshold": threshold_of(threshold, logits.shape[1]), "rule": rule}
    return screened(screen, logits, finish, targets, source, **choice)


def screened(
    screen: Screen,
    logits: Logits,
    finish: Callable[[Effects, Logits], Search],
    targets: list[int],
    source: int | None,
    **choice: Any,
) -> Search:
    """The search of a screen, once all that its selection looks at is measured.

    Args:
        screen: nothing of it has to be exact yet.
        logits: of the reconstructions.
        finish, targets, source, choice: as for `quick`; `threshold` is a number.
    """
    least = look_ahead(screen, logits, targets, source, **choice)
    found = finish(screen.effects, logits)
    while not screen.exact[its := sorted({a.coordinate for a in found.attributes})].all():
        more = torch.zeros_like(screen.exact)
        more[its] = True
        screen.measure(more)
        found = finish(screen.effects, logits)
    made = {
        "certificate": certificate(screen, logits, least, source=source),
        "measured": screen.exact.nonzero().flatten().tolist(),
    }
    return replace(found, effects=screen.effects, made=found.made | made)


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
    foretold = told.new_zeros(*told.shape[:3], logits.shape[1])
    foretold[..., targets] = told
    exact = torch.zeros(foretold.shape[1], dtype=torch.bool, device=styles.device)
    rest = (strength, foretold, foretold, exact)
    screen = Rehearsal(synthesis, classify, some, bounds, *rest, ahead=AHEAD)
    look_ahead(screen, logits, targets, source, **choice)
    audited = min(AUDITED, int((~exact).sum()))
    its = (exact if exact.any() else ~exact).nonzero().flatten()
    few = its[:: -(-len(its) // TIMED)]
    options = {"strength": strength, "batch": batch, "base": logits[:1], "coordinates": few}
    _, spent = sweep.timed(lambda: sweep.measure(synthesis, classify, some[:1], bounds, **options))
    count = int(exact.sum()) + audited
    seconds = tell + count * max(spent - fold, 0.0) / len(few)
    seconds += (1 + screen.folds + bool(audited)) * fold  # the reconstructions are drawn, too
    return len(styles) * (sweep.passes(targets) + 2 * count), len(styles) * seconds


def look_ahead(
    screen: Screen, logits: Logits, targets: list[int], source: int | None, **choice: Any
) -> dict[int, float]:
    """Measure whatever may be chosen; for each target the mean effect of the last one chosen."""
    least = {}
    for target in targets:
        rows = considered(logits, target=target, source=source) & stable(screen.foretold)
        least[target] = _choose(screen, rows, target, **choice)
    return least


def _choose(
    screen: Screen,
    rows: Bool[Tensor, " n"],
    target: int,
    *,
    count: int,
    threshold: float,
    rule: Rule,
) -> float:
    """The greedy selection of `selection.select`, measuring ahead of every step."""
    taken = torch.zeros_like(screen.effects[0, :, :, 0], dtype=torch.bool)  # [j, 2]
    gains, last = screen.effects.new_zeros(int(rows.sum())), 0.0
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
        last = float(rises.mean())
        taken[coordinate, direction if rule != "single" else slice(None)] = True
        gains = torch.maximum(gains, rises) if rule == "single" else gains + rises
    return last


def certificate(
    screen: Screen, logits: Logits, least: dict[int, float], *, source: int | None = None
) -> dict[str, Any]:
    """What is sure and what is not: an audit of coordinates that nothing hung on.

    Args:
        screen: after everything that was chosen has been measured.
        logits, least: of the reconstructions; what `look_ahead` gave.
        source: of the selection.
    """
    measured = float(screen.exact.double().mean())
    agree = {str(target): screen.correlation(target) for target in least}
    rest = (~screen.exact).nonzero().flatten()
    draw = torch.Generator().manual_seed(0)
    rest = rest[torch.randperm(len(rest), generator=draw)[:AUDITED].to(rest.device)]
    audited = torch.zeros_like(screen.exact)
    audited[rest] = True
    screen.measure(audited)
    hidden = torch.zeros_like(screen.exact)
    for target, last in least.items():
        rows = considered(logits, target=target, source=source)
        if rows.any():
            rises = screen.effects[rows][..., target].clamp(min=0).mean(0)
            hidden |= audited & (rises > last).any(1)
    n, found = len(rest), int(hidden.sum())
    says = (
        "Reported effects are exact, and so is the choice among the coordinates that were measured "
        f"({measured:.0%}). The others were ranked by prediction; of {n} drawn at random and "
        f"measured, {found} would have beaten the last one chosen."
    )
    if n and not found:
        says += f" At 95 % at most {min(1.0, 3 / n):.0%} of them could."
    return {
        "measured": measured,
        "ahead": screen.ahead,
        "widened": screen.widened,
        "correlation": agree,
        "audited": n,
        "hidden": found,
        "says": says,
    }
