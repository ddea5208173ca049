"""What a search will cost; the quick one is rehearsed over made-up effects, and counted."""

import time
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from stylex import sweep
from stylex.folding import Folded, energies_of
from stylex.ledger import Ledger
from stylex.networks import Synthesis
from stylex.screening import Screen, audited
from stylex.shapes import Bounds, Classify, Effects, Styles
from stylex.telling import how_long

SAMPLED = 16  # images that are foretold
TIMED = 8  # of the best coordinates that are measured on some of them, and as many of all
TRIED = 4  # images on which they are
LARGEST = 2**27  # bytes of a table of the rehearsal; past it fewer images take part


class Rehearsal(Screen):
    """A screen over effects that are made up: how much would be measured?"""

    truth: Effects
    scattered = swept = folds = 0  # moves drawn from the start, of folded images; folded images

    def invent(self, common: float, own: float) -> None:
        """Effects that are off the foretold ones, at random.

        Args:
            common: share of it by which all images of a move are off together.
            own: share by which each is off for itself.
        """
        draw, size = torch.Generator().manual_seed(0), self.foretold.shape
        error = common * torch.randn(1, *size[1:], generator=draw)
        error = error + own * torch.randn(size, generator=draw)
        self.truth = self.effects.clone()
        self.truth[..., self.targets] = self.foretold * (1 + error.to(self.foretold))

    def measure(self, wanted: Bool[Tensor, "n j 2"]) -> None:
        """Look it up, and count."""
        new = wanted & ~self.known
        each = new.sum((1, 2))
        few = each <= sweep.FEW
        self.scattered += int(each[few].sum())
        self.swept += int(each[~few].sum())
        self.folds += int((~few).sum())
        self.effects[new] = self.truth[new]
        self.known |= new


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
    then: tuple[int, int] = (0, 0),
    **choice: Any,
) -> tuple[int, float]:
    """What `screening.quick` will cost, from some of the images and a few timed moves.

    Effects are taken to be off the foretold ones, at random, as far as those of the timed moves.

    Args:
        synthesis, classify, styles, bounds, targets, strength, batch: as for `quick`.
        then: images that are folded afterwards, and moves of them that are measured.
        source, choice: of the selection: `count`, `threshold` (a number) and `rule`.

    Returns:
        Evaluations and seconds.
    """
    some = styles[:: -(-len(styles) // SAMPLED)]
    energies = energies_of(synthesis)
    given = {"targets": targets, "strength": strength, "batch": batch}
    with torch.no_grad():
        _, fold = sweep.timed(lambda: Folded(synthesis, some[:1], energies))
        logits = torch.cat([classify(synthesis(row).clamp(-1, 1)) for row in some.split(1)])
        together = some[:batch]
        _, drawn = sweep.timed(lambda: classify(synthesis(together).clamp(-1, 1)))
    sweep.foretell(synthesis, classify, some[:TRIED], bounds, **given)  # only warms up
    began = time.perf_counter()
    told = sweep.foretell(synthesis, classify, some, bounds, **given)
    tell = (time.perf_counter() - began) / len(some)
    order = told.clamp(min=0).mean((0, 2, 3)).argsort(descending=True)
    few = torch.cat([order[:TIMED], order[:: -(-len(order) // TIMED)]]).unique()
    tried = some[:TRIED]
    options = {"strength": strength, "batch": batch, "base": logits[: len(tried)]}
    began = time.perf_counter()  # all of it is warm by now
    true, _ = sweep.measure(synthesis, classify, tried, bounds, coordinates=few, **options)
    spent = time.perf_counter() - began
    most = LARGEST // (told[0, ..., 0].nbytes * logits.shape[1])
    rows = torch.arange(min(len(styles), max(len(some), most))) % len(some)
    screen = Rehearsal(
        *(synthesis, classify, styles[: len(rows)], bounds, strength, targets, told[rows]),
        effects=told.new_zeros(len(rows), *told.shape[1:3], logits.shape[1]),
    )
    screen.invent(*errors(true[..., targets], told[: len(tried), few]))
    audited(screen, logits[rows], source=source, **choice)
    share = len(styles) / len(rows)
    evaluations = len(styles) * sweep.passes(targets) + share * (screen.scattered + screen.swept)
    each = max(spent / len(tried) - fold, 0.0) / (2 * len(few))
    seconds = screen.folds * fold + screen.swept * each + screen.scattered * drawn / len(together)
    # the reconstructions are drawn, too, as long as it takes to fold an image
    folds, moves = len(styles) + then[0], then[1]
    seconds = len(styles) * tell + folds * fold + moves * each + share * seconds
    return round(evaluations) + moves, seconds


def errors(true: Effects, told: Effects) -> tuple[float, float]:
    """How far predictions are off beside their size: together over all images, each for itself.

    Args:
        true, told: effects of some moves on a few images.
    """
    off, size = true - told, told.square().mean().clamp_min(1e-12)
    own = off.var(0).mean() if len(off) > 1 else off.new_zeros(())
    common = off.mean(0).square().mean() - own / len(off)
    return float((common.clamp(min=0) / size).sqrt()), float((own / size).sqrt())


def cost(
    given: tuple[Any, ...],
    ledger: Ledger,
    fast: bool,
    *,
    then: tuple[int, int] = (0, 0),
    rounded: bool = False,
    **options: Any,
) -> str:
    """Evaluations and time that are left, from a few timed moves; the ledger is told, too.

    Args:
        given: as `screening.quick` takes them: networks, styles, bounds.
        ledger: of the search.
        fast, rounded: whether effects are foretold, and whether in bf16.
        then: images that are folded afterwards, and moves of them that are measured.
        options: as for `expect`.
    """
    ledger.expected, seconds, done = 0.0, 0.0, 0.0
    if fast:
        ledger.expected, seconds = expect(*given, then=then, **options)
    if rounded or not fast:
        synthesis, classify, styles, _ = given
        name, dtype = (str(torch.bfloat16), torch.bfloat16) if rounded else ("exact", None)
        how = {"batch": options["batch"], "dtype": dtype}
        fold, each = sweep.pace(synthesis, classify, styles[:1], **how)
        ledger.expected += 2 * len(styles) * len(each)
        done = ledger.stands(name, (len(styles), len(each)))
        seconds += len(styles) * (1 - done) * (fold + 2 * float(each.sum()))
        if not fast:  # else they are part of what was expected
            ledger.expected += then[1]
            seconds += then[0] * fold + then[1] * float(each.max())  # they act early
    earlier = f", {done:.0%} of them done by an earlier start" if done else ""
    exactly = not fast and not any(then)
    many = f"{ledger.expected:,.0f}" if exactly else f"about {ledger.expected:,.0f}"
    return f"{many} evaluations{earlier}, about {how_long(seconds / ledger.ranks)}"
