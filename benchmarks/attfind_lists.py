"""Whether the quick search's list is the exact one's, and how much sooner it is there."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from stylex import stylespace, sweep
from stylex.attfind import Search, find
from stylex.folding import without_norms
from stylex.model import StylEx
from stylex.rounding import quick_bf16
from stylex.screening import AHEAD, Screen, quick, screened
from stylex.selection import threshold_of

COUNTS, TOP = (8, 16), 8
MOVES = 40  # of the loops beside each search
RESAMPLINGS = 10
STRONG, STRONG_IMAGES = 3.0, 48  # the other strength, on fewer images: it takes as long again
Loops = Callable[..., dict[str, float]]
Told = tuple[Tensor, Tensor, Tensor]  # exact effects, base logits, foretold effects


class Known(Screen):
    """A screen that looks up what it measures in effects that are known."""

    truth: Tensor

    def measure(self, wanted: Tensor) -> None:
        """Take the exact effects of these moves."""
        self.effects[wanted] = self.truth[wanted]
        self.known |= wanted


def lists(model: StylEx, styles: Tensor, loops: Loops) -> dict[str, Any]:
    """The quick search whole beside the exact one, then both on resampled images.

    Args:
        model: a trained one.
        styles: `[n, s]` of the images.
        loops: seconds a move of the loops, as `attfind_speed.loops`.
    """
    ends, draw = stylespace.bounds(styles), torch.Generator().manual_seed(0)
    spent = [loops(model, styles[:1], ends, MOVES, draw) for _ in range(2)][1:]
    fast, seconds = {}, {}
    searches = {f"fast_{count}": {"count": count} for count in COUNTS}
    if quick_bf16("cpu"):
        searches[f"bf16_{TOP}"] = {"count": TOP, "rounded": True}
    for name, asked in searches.items():
        began = time.perf_counter()
        fast[name] = hastily(model, styles, ends, **asked)
        seconds[name] = time.perf_counter() - began
        spent.append(loops(model, styles[:1], ends, MOVES, draw))
    began = time.perf_counter()
    told = exactly(model, styles, ends, 1.0)
    whole = time.perf_counter() - began
    spent.append(loops(model, styles[:1], ends, MOVES, draw))
    each = {kind: statistics.median(turn[kind] for turn in spent) for kind in spent[0]}
    moves = 2 * model.layout.searched * len(styles)
    rows = {}
    for name, asked in searches.items():
        exact = finisher(model, styles, ends, asked["count"])(*told[:2])
        rows[name] = {
            "seconds": seconds[name],
            "ratio": each["loop"] * moves / seconds[name],
            "ratio_grouped": each["grouped"] * moves / seconds[name],
            "over_exact": whole / seconds[name],
            "identical": ordered(fast[name]) == ordered(exact),
            "chosen": len(exact.attributes),
            "certificate": fast[name].made["certificate"],
        }
    few = styles[:STRONG_IMAGES]
    strong = exactly(model, few, stylespace.bounds(few), STRONG)
    return {
        "coordinates": model.layout.searched,
        "images": len(styles),
        **{f"{kind}_ms_a_move": 1000 * value for kind, value in each.items()},
        "exact_seconds": whole,
        "exact_ratio": each["grouped"] * moves / whole,
        "exact_ratio_plain": each["loop"] * moves / whole,
        "fast_ratio": rows[f"fast_{TOP}"]["ratio"],
        **{f"identical_top{count}": rows[f"fast_{count}"]["identical"] for count in COUNTS},
        **rows,
        "same_top8": [
            resampled(model, styles, told, 1.0),
            resampled(model, few, strong, STRONG),
        ],
        "how": "loops: extrapolated from random moves; resampled images keep the bounds of all, so "
        "that effects measured once serve every resampling",
    }


def exactly(model: StylEx, styles: Tensor, ends: Tensor, strength: float) -> Told:
    """Exact effects and logits of all moves, and the foretold ones, which take no time beside."""
    synthesis, classify = model.generator.synthesis, folded(model, styles)
    given, targets = (synthesis, classify, styles, ends), list(range(len(model.classes)))
    effects, logits = sweep.measure(*given, strength=strength)
    return effects, logits, sweep.foretell(*given, targets=targets, strength=strength)


def hastily(
    model: StylEx, styles: Tensor, ends: Tensor, count: int, *, rounded: bool = False
) -> Search:
    """The quick search, as `stylex search --mode fast` makes it, or `--mode bf16`."""
    given = (model.generator.synthesis, folded(model, styles), styles, ends)
    targets = list(range(len(model.classes)))
    finish = finisher(model, styles, ends, count)
    return quick(*given, finish=finish, targets=targets, count=count, rounded=rounded)


def folded(model: StylEx, styles: Tensor) -> Any:
    """The classifier, its norms folded."""
    return without_norms(model.classifier, model.synthesize(styles[:2]))


def finisher(
    model: StylEx, styles: Tensor, ends: Tensor, count: int
) -> Callable[[Tensor, Tensor], Search]:
    """From effects and logits to a search."""
    about = {"classes": model.classes, "bounds": ends, "styles": styles}
    return partial(find, layout=model.layout, count=count, **about)


def resampled(model: StylEx, styles: Tensor, told: Told, strength: float) -> dict[str, Any]:
    """How many lists of resampled images are the exact ones, and what was said of the others."""
    ends, classes = stylespace.bounds(styles), len(model.classes)
    threshold = threshold_of(None, classes)
    trials = []
    for seed in range(RESAMPLINGS):
        draw = torch.Generator().manual_seed(seed)
        rows = torch.randint(len(styles), (len(styles),), generator=draw)
        effects, logits, foretold = (x[rows] for x in told)
        finish = finisher(model, styles[rows], ends, TOP)
        given = (model.generator.synthesis, model.score, styles[rows], ends, strength)
        screen = Known(*given, list(range(classes)), foretold, foretold.clone(), ahead=AHEAD)
        screen.truth = effects
        choice = {"count": TOP, "threshold": threshold, "rule": "cumulative"}
        fast = screened(screen, logits, finish, source=None, **choice)
        exact, said = finish(effects, logits), fast.made["certificate"]
        for k in range(classes):
            same = ordered(fast, k)[:TOP] == ordered(exact, k)[:TOP]
            trials.append({"same": same, "sure": said["sure"], "measured": said["measured"]})
    different = [trial for trial in trials if not trial["same"]]
    return {
        "strength": strength,
        "images": len(styles),
        "lists": len(trials),
        "identical": len(trials) - len(different),
        "different_and_unsure": sum(not trial["sure"] for trial in different),
        "unsure": sum(not trial["sure"] for trial in trials),
        "measured": statistics.mean(trial["measured"] for trial in trials),
        "measured_where_different": [trial["measured"] for trial in different],
    }


def ordered(found: Search, target: int | None = None) -> list[tuple[int, int, int]]:
    """What was chosen, in order; for one class or for all."""
    some = found.attributes if target is None else found.towards(target)
    return [a.key for a in some]


def total(result: dict[str, Any]) -> dict[str, Any]:
    """Lists over all models and strengths, from the rows of each."""
    parts = [part for part in result.values() if isinstance(part, dict)]
    rows = [row for part in parts for row in part.get("same_top8", [])]
    keys = ("lists", "identical", "different_and_unsure", "unsure")
    return {key: sum(row[key] for row in rows) for key in keys}
