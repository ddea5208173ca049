"""AttFind for large problems: foretell every effect, measure only what may be chosen.

One backward pass for each image and class foretells the effect of every coordinate (`foretelling`).
Then, at every greedy step, the moves that look best over the images not yet explained race: each is
measured on some images, and on more of them as long as it may still be the best (`racing`). A
prediction never decides between two that were measured, and every reported effect is exact. What
was never measured was ranked by prediction alone; some of it, drawn at random, takes part in all
races again at the end. Where that changes the list, the search looks further ahead and audits
again; the certificate says what is sure.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from stylex import racing, sweep
from stylex.attfind import Search
from stylex.ledger import Ledger
from stylex.networks import Synthesis
from stylex.selection import CHANGED, Rule, considered, ranks, stable, threshold_of
from stylex.shapes import Bounds, Classify, Effects, Logits, Styles

AHEAD = 32  # moves that must have raced before one of them is chosen
MANY = 32  # images; over fewer a foretold mean is less sure, and more moves must have raced
SPARE = 8  # more of them that are measured along: to fold an image anew costs as much
AUDITED = 32  # coordinates never measured that race, at the end
AUDITS = 3  # at most; between them the look-ahead is widened
DOUBT = 0.7  # rank correlation of foretold and measured under which the look-ahead widens
RISK = 0.05  # that any race of a search is decided wrongly
TIE = 1e-9  # per logit: among moves that change as many images the larger mean is first

Finish = Callable[..., Search]  # `attfind.find` with all its options but effects, logits and among


@dataclass(eq=False)
class Screen:
    """Foretold effects, replaced by exact ones where something depends on them.

    Args:
        synthesis, classify, styles, bounds, strength: as for `sweep.measure`.
        targets: classes whose effects are foretold.
        foretold: `[n, j, 2, targets]` to first order.
        effects: `[n, j, 2, k]`, exact where `known` says so, elsewhere foretold, or 0 for a class
            that nobody asks for.
        known: which effects were measured.
        drawn: coordinates that take part in every race, however they were foretold.
        ahead: how many of the best moves must have raced before one is chosen.
        base: logits of the reconstructions; whoever looks effects up needs none.
        ranked: how foretold effects came about, for the certificate.
        options: `batch` and `ledger` of `sweep.measure`.
    """

    synthesis: Synthesis
    classify: Classify
    styles: Styles
    bounds: Bounds
    strength: float
    targets: list[int]
    foretold: Float[Tensor, "n j 2 targets"]
    effects: Effects
    known: Bool[Tensor, "n j 2"] = field(init=False)
    drawn: Bool[Tensor, " j"] = field(init=False)
    ahead: int = AHEAD
    base: Logits | None = None
    ranked: str = "by prediction"
    options: dict[str, Any] = field(default_factory=dict)
    widened: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """Nothing is measured yet."""
        self.effects[..., self.targets] = self.foretold
        self.known = torch.zeros(
            self.effects.shape[:3], dtype=torch.bool, device=self.effects.device
        )
        self.drawn = self.known[0, :, 0].clone()

    @property
    def exact(self) -> Bool[Tensor, " j"]:
        """Coordinates that were measured on all images in both directions."""
        return self.known.all(0).all(1)

    def measure(self, wanted: Bool[Tensor, "n j 2"]) -> None:
        """Exact effects of these moves of these images, for all classes."""
        new, nets = wanted & ~self.known, (self.synthesis, self.classify)
        few = new & (new.sum((1, 2), keepdim=True) <= sweep.FEW)
        how = {"strength": self.strength, **self.options}
        assert self.base is not None, "base logits"
        if few.any():
            moves = {"moves": few.nonzero(), "base": self.base}
            exact = sweep.scattered(*nets, self.styles, self.bounds, **moves, **how)
            self.effects[few] = exact.to(self.effects)
        rows = (many := new & ~few).any(1).any(1).nonzero().flatten()
        if len(rows):
            its = many.any(0).any(1).nonzero().flatten()
            where = (rows[:, None], its)
            given = (*nets, self.styles[rows], self.bounds)
            moves = {"coordinates": its, "wanted": many[where], "base": self.base[rows]}
            exact, _ = sweep.measure(*given, **moves, **how)
            wanted = many[where][..., None]
            self.effects[where] = torch.where(wanted, exact.to(wanted.device), self.effects[where])
        self.known |= new

    def correlation(self, target: int) -> float:
        """Of the order of foretold and of measured mean rises of one class, where it was measured.

        Of ranks, since the order is what is relied on: far from the bound a prediction is too
        large, and a few of those would drown the rest. Of each coordinate in the direction that is
        foretold to rise more: which one that is, is easy, and would drown the rest as well.
        """
        told = self.foretold[..., self.targets.index(target)].clamp(min=0)
        true = self.effects[..., target].clamp(min=0)
        up = told.mean(0).argmax(1, keepdim=True)
        seen = self.known.sum(0).gather(1, up).flatten()
        means = (torch.where(self.known, x, 0.0).sum(0).gather(1, up) for x in (told, true))
        places = torch.stack([ranks((x.flatten() / seen)[seen > 0]) for x in means])
        if places.shape[1] < 3 or (places.std(1) == 0).any():
            return 1.0
        return float(torch.corrcoef(places)[0, 1])

    def best(
        self,
        images: Int64[Tensor, " m"],
        target: int,
        score: Callable[[Tensor], Tensor],
        *,
        taken: Bool[Tensor, "j 2"],
        risk: float,
    ) -> int:
        """The move `2 * coordinate + direction` with the largest mean score, by a race.

        Where it was nearly missed, standing in the last quarter of what was looked at, the
        look-ahead widens and the race goes on.

        Args:
            images: over which; in a random order.
            target: class whose logit shall rise.
            score: of effects on it.
            taken: moves that are out of the question.
            risk: chance of a wrong decision in this race.
        """
        told = score(self.foretold[images, :, :, self.targets.index(target)]).flatten(1)
        first, drawn = None, self.drawn[:, None].expand(-1, 2).flatten()
        while True:
            ahead = self.ahead * max(1, MANY // len(images))
            true = score(self.effects[images, :, :, target]).flatten(1)
            known = self.known[images].flatten(1)
            risks = risk / (2 * ahead * len(images).bit_length())
            mean, margin = racing.estimate(told, true, known, risk=risks)
            if mean.isnan().any():
                raise ValueError(
                    "effects or gradients of the classifier are no finite numbers; check its "
                    "logits, or search with --mode exact"
                )
            mean[taken.flatten()] = -torch.inf
            order = mean.argsort(descending=True)
            first = order if first is None else first
            inside = torch.zeros_like(drawn)
            inside[order[:ahead]] = True
            inside = (inside | drawn) & ~taken.flatten()
            count = known.sum(0)
            if (inside & (count < min(racing.FIRST, len(images)))).any():
                inside[order[: ahead + SPARE]] = True
                self._measure(images[: racing.FIRST], inside)
                if self.correlation(target) < DOUBT:
                    self.widen()
                continue
            alive = racing.contenders(mean, margin, inside)
            if (left := alive & (count < len(images))).any():
                self._measure(images[: 2 * int(count[left].min())], left)
                continue
            best = int(order[alive[order]][0])
            missed = int((first == best).nonzero()) >= 3 * ahead // 4
            if not missed or drawn[best] or ahead >= len(first):
                return best
            self.widen()

    def _measure(self, images: Int64[Tensor, " m"], moves: Bool[Tensor, " all"]) -> None:
        """Some moves on some images."""
        wanted = torch.zeros_like(self.known)
        wanted[images] = moves.view(-1, 2)
        self.measure(wanted)

    def complete(self, coordinates: list[int]) -> None:
        """Whatever of these coordinates was not measured yet."""
        wanted = torch.zeros_like(self.known)
        wanted[:, coordinates] = True
        self.measure(wanted)

    def widen(self) -> None:
        """Look twice as far ahead from now on."""
        self.ahead, self.widened = min(2 * self.ahead, 2 * self.known.shape[1]), True


def quick(
    synthesis: Synthesis,
    classify: Classify,
    styles: Styles,
    bounds: Bounds,
    *,
    finish: Finish,
    targets: list[int],
    source: int | None = None,
    count: int = 10,
    threshold: float | None = None,
    rule: Rule = "cumulative",
    strength: float = 1.0,
    batch: int = sweep.MOST,
    rounded: bool = False,
    ledger: Ledger | None = None,
) -> Search:
    """A search whose effects are exact wherever its list looks.

    Args:
        synthesis, classify, styles, bounds, strength, batch, ledger: as for `sweep.measure`.
        rounded: foretell effects by measuring every one in bf16, in place of a backward pass.
        finish: from effects, logits and the coordinates to choose among to a search:
            `attfind.find` with all its other options.
        targets: classes for which attributes are sought.
        source, count, threshold, rule: of the selection, as `finish` has them.

    Returns:
        The search; `made["certificate"]` says what is sure, `made["measured"]` lists the
        coordinates whose effects are exact on all images. Of the others' some are foretold.
    """
    ledger = ledger or Ledger()
    given = {"strength": strength, "ledger": ledger}
    nets = (synthesis, classify, styles, bounds)
    logits = sweep.base_logits(*nets, batch=batch, **given)
    if rounded:
        how = {"batch": batch, "base": logits, "dtype": torch.bfloat16}
        foretold = sweep.measure(*nets, **how, **given)[0][..., targets]
    else:
        foretold = sweep.foretell(*nets, targets=targets, batch=batch, **given)
    effects = ledger.room("effects", (*foretold.shape[:3], logits.shape[1]), like=foretold)
    rest = (strength, targets, foretold.to(effects.device), effects)
    how = {"ahead": AHEAD, "base": logits, "options": {"batch": batch, "ledger": ledger}}
    how |= {"ranked": "in bf16"} if rounded else {}
    screen = Screen(*nets, *rest, **how)
    choice = {"count": count, "threshold": threshold_of(threshold, logits.shape[1]), "rule": rule}
    # a large table of effects stays off the GPU, and with it all that is decided by it
    return screened(screen, logits.to(effects.device), finish, source=source, **choice)


def screened(screen: Screen, logits: Logits, finish: Finish, **choice: Any) -> Search:
    """The search of a screen, once all that its selection looks at is measured.

    Args:
        screen: nothing of it has to be known yet.
        logits: of the reconstructions.
        finish: as for `quick`.
        choice: `source`, `count`, `threshold` (a number) and `rule`, as for `quick`.
    """
    chosen, told = audited(screen, logits, **choice)
    found = finish(screen.effects, logits, among=chosen)
    told |= {"ranked": screen.ranked, "classes": logits.shape[1]}
    told["left_out"] = max(found.made["left_out"], int((~stable(screen.foretold)).sum()))
    made = {
        "certificate": certificate(told, whole=bool(screen.known.all())),
        "measured": screen.exact.nonzero().flatten().tolist(),
    }
    return replace(found, made=found.made | made)


def audited(screen: Screen, logits: Logits, **choice: Any) -> tuple[list[int], dict[str, Any]]:
    """The coordinates that are chosen, measured everywhere, and what the certificate tells of it.

    Coordinates that were never measured are drawn at random and take part in all races, which are
    held again. Where one of them is chosen, the look-ahead widens, and others are drawn, up to
    three times.
    """
    look_ahead(screen, logits, **choice)
    audits = 0
    while True:
        audits += 1
        drawn = some_unmeasured(screen, audits)
        screen.drawn = screen.drawn | drawn
        chosen = look_ahead(screen, logits, **choice)
        hidden = set(chosen) & set(drawn.nonzero().flatten().tolist())
        if not hidden or audits == AUDITS:
            break
        screen.widen()
    screen.complete(chosen)
    return chosen, {
        "measured": float(screen.known.double().mean()),
        "raced": float(screen.known.any(0).double().mean()),
        "ahead": screen.ahead,
        "widened": screen.widened,
        "correlation": {str(target): screen.correlation(target) for target in screen.targets},
        "audits": audits,
        "audited": int(drawn.sum()),
        "hidden": len(hidden),
    }


def some_unmeasured(screen: Screen, seed: int) -> Bool[Tensor, " j"]:
    """Up to 32 coordinates that were never measured, drawn at random."""
    rest = (~screen.known.any(0).any(1)).nonzero().flatten()
    draw = torch.Generator().manual_seed(seed)
    drawn = torch.zeros_like(screen.drawn)
    drawn[rest[torch.randperm(len(rest), generator=draw)[:AUDITED].to(rest.device)]] = True
    return drawn


def certificate(told: dict[str, Any], *, whole: bool) -> dict[str, Any]:
    """What is sure and what is not, in words.

    Args:
        told: of the last audit: `measured`, `raced`, `ahead`, `widened`, `correlation`, `audits`,
            `audited`, `hidden`, `left_out`, `ranked`, and how many `classes` there are.
        whole: in the end everything was measured, so nothing depends on a prediction.

    Returns:
        The same with `sure` and `says`.
    """
    agree, ranked = min(told["correlation"].values(), default=1.0), told["ranked"]
    foretold, classes = len(told["correlation"]), told["classes"]
    doubts = [
        f"audits still changed the list after {told['audits']} times" * bool(told["hidden"]),
        f"{told['left_out']} unstable images were left out {ranked}" * bool(told["left_out"]),
        f"ranks of foretold and measured effects correlate by {agree:.2f} only" * (agree < DOUBT),
        f"effects were foretold on {foretold} of {classes} classes, which decide what is unstable; "
        "with neither target nor source it is every class" * (foretold < classes),
    ]
    why = "" if whole else "; ".join(filter(None, doubts))
    says = (
        f"Reported effects are exact. Of the moves {told['raced']:.0%} raced, each measured on as "
        f"many images as it took ({told['measured']:.0%} of all effects); that all races were "
        f"decided rightly is {1 - RISK:.0%} sure."
    )
    if told["audited"]:
        says += (
            f" The others were ranked {ranked}; of {told['audited']} coordinates of theirs "
            f"that were drawn at random and raced as well, {told['hidden']} came into the list."
        )
        if not told["hidden"]:
            says += f" At 95 % at most {min(1.0, 3 / told['audited']):.0%} of them could."
    return told | {"sure": not why, "says": f"Not sure: {why}. {says}" if why else says}


def look_ahead(screen: Screen, logits: Logits, *, source: int | None, **choice: Any) -> list[int]:
    """Coordinates that are chosen, by races over the images that are foretold to be stable."""
    steady, chosen = stable(screen.foretold), set[int]()
    for target in screen.targets:
        rows = considered(logits, target=target, source=source) & steady
        chosen |= _choose(screen, rows, target, **choice)
    return sorted(chosen)


def _choose(
    screen: Screen,
    rows: Bool[Tensor, " n"],
    target: int,
    *,
    count: int,
    threshold: float,
    rule: Rule,
) -> set[int]:
    """The greedy selection of `selection.select`, with a race at every step."""

    def score(effects: Tensor) -> Tensor:
        if rule == "share":
            return (effects > CHANGED).double() + TIE * effects
        return effects.clamp(min=0)

    taken = torch.zeros_like(screen.known[0])  # [j, 2]
    gains = screen.effects.new_zeros(len(rows))
    draw = torch.Generator().manual_seed(0)
    shuffled = torch.randperm(len(rows), generator=draw).to(rows.device)
    risk = RISK / (len(screen.targets) * count)
    chosen = set[int]()
    for _ in range(count):
        active = rows & (gains < threshold) if rule != "share" else rows
        if not active.any() or taken.all():
            break
        images = shuffled[active[shuffled]]
        best = screen.best(images, target, score, taken=taken, risk=risk)
        coordinate, direction = divmod(best, 2)
        rises = screen.effects[:, coordinate, direction, target].clamp(min=0)
        if not rises[images].mean() > 0:
            break
        chosen.add(coordinate)
        taken[coordinate, direction if rule != "single" else slice(None)] = True
        gains = torch.maximum(gains, rises) if rule == "single" else gains + rises
    return chosen
