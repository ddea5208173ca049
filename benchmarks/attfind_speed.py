"""AttFind side by side: the plain loops, the exact engine, the quick search.

    OMP_NUM_THREADS=1 python benchmarks/attfind_speed.py models/leaves models/retina
    OMP_NUM_THREADS=1 python benchmarks/attfind_speed.py --only 64 memory          # five minutes
    OMP_NUM_THREADS=1 python benchmarks/attfind_speed.py models/leaves --only lists --images 64

One thread of an idle machine. Parts: `64` and `256` (generators of that side with mobilenet_v2, all
weights random: they speak for speed only), `lists` (each run given), `memory`. Each part replaces
its rows in benchmarks/results/attfind_speed.json and says in them how and when it was made.

The plain loop (one image, one coordinate, batch 1, everything drawn anew) and a reproduction's (the
same with per-sample weights in a grouped convolution) are timed on moves drawn at random, by turns
with the engine. Photos are not needed: images come from the model's own noise samples.
"""

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from attfind_lists import finisher, lists, total
from made import RESULTS, last_result, made
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import mobilenet_v2
from training_speed import NOT_NATIVE, as_plain, convolution_peak

from stylex import networks, stylespace, sweep
from stylex.classifier import Classifier
from stylex.folding import Folded, goals_of, without_norms
from stylex.ledger import Ledger, bytes_of
from stylex.model import StylEx, in_batches
from stylex.networks import Synthesis
from stylex.photos import as_unit
from stylex.rehearsing import expect
from stylex.rounding import quick_bf16
from stylex.runs import write_json
from stylex.screening import quick
from stylex.shapes import Classify

PARTS = ("64", "256", "lists", "memory")
CASES = {"64": "64_2464_mobilenet", "256": "256_config_e_mobilenet"}
FILE = RESULTS / "attfind_speed.json"
# channels at each side: a reproduction's 64 px, but 768 for its two layers of 512 at 4 px, so that
# as many coordinates are searched; and StyleGAN2's config-e at 256 px
WIDTHS = {
    64: {4: 768, 8: 256, 16: 128, 32: 64, 64: 32},
    256: {4: 512, 8: 512, 16: 512, 32: 512, 64: 256, 128: 128, 256: 64},
}
SEARCHED = 250  # images of the search that memory and the quick one's cost are told for
CHOICE = {"source": None, "count": 8, "threshold": 1.0, "rule": "cumulative"}  # of the quick one
MEMORY, DRAWN = bytes_of("2GB"), (1, 2)  # images that the memory is measured over
Spend = Callable[[Callable[[], object]], float]


def main() -> None:
    """Every part that is asked for."""
    words = argparse.ArgumentParser()
    words.add_argument("models", nargs="*", type=Path)
    words.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    words.add_argument("--images", type=int, default=160, help="of each model, for `lists`")
    given = words.parse_intermixed_args()
    torch.set_flush_denormal(True)
    if "memory" in given.only:  # first: a process starts with its parent's peak as its own
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            keep("memory", alone.submit(resident).result())
    if "64" in given.only:
        about = {"rounds": 5, "moves": 40, "whole": True, "images": 160}
        keep(CASES["64"], speed(lively(random_model(64)), **about))
    if "256" in given.only:
        about = {"rounds": 3, "moves": 8, "whole": False, "images": None}
        keep(CASES["256"], speed(lively(random_model(256)), **about))
    for path in given.models if "lists" in given.only else ():
        model = StylEx.load(path)
        styles = sampled(model, given.images)
        draw = torch.Generator().manual_seed(0)
        rows = {"max_difference": difference(model, styles[:1], stylespace.bounds(styles), draw)}
        keep(path.name, rows | lists(model, styles, loops))


def keep(name: str, rows: dict[str, Any]) -> None:
    """Put the rows of one part beside those of the others."""
    result = last_result(FILE.stem)
    result[name] = made([0]) | {"threads": torch.get_num_threads()} | rows
    result["same_top8"] = total(result)
    write_json(FILE, result)
    print(name, {key: row for key, row in rows.items() if not isinstance(row, dict | list)})


def random_model(side: int) -> StylEx:
    """Random weights: 64 px with 2,464 searched coordinates, or 256 px config-e with 4,928."""
    torch.manual_seed(0)
    net = mobilenet_v2(num_classes=2).eval()
    classifier = Classifier(net, classes=("no", "yes"), size=side)
    with patch.object(networks, "channels_at", lambda at, **_: WIDTHS[side][at]):
        return StylEx(classifier, resolution=side).eval().requires_grad_(False)


@torch.no_grad()
def lively(model: StylEx) -> StylEx:
    """A random mobilenet_v2's last layer fitted: its answers differ, both classes occur.

    Otherwise all its logits are the same, and a quick search would have nothing to do. The norms
    stay as they are: fitted, they make a random net chaotic (1e-6 in a pixel moves its logits by a
    hundredth of their range), where no prediction can be right.
    """
    net, images = model.classifier.model, model.synthesize(sampled(model, 16))
    assert isinstance(net, nn.Module)
    logits, last = net(images), net.get_submodule("classifier.1")
    assert isinstance(last, nn.Linear)
    factor = 1 / logits.std(0)
    last.weight.mul_(factor[:, None])
    last.bias.sub_(logits.mean(0)).mul_(factor)
    return model


def sampled(model: StylEx, images: int) -> Tensor:
    """Styles of noise samples under p of other noise samples."""
    draw = torch.Generator().manual_seed(0)
    z = torch.randn(images, model.generator.latent, generator=draw)
    w = in_batches(model.generator.mapping, z).clone()
    p = torch.empty(images, len(model.classes)).exponential_(generator=draw)
    return model.generator.style(w, p / p.sum(1, keepdim=True))


def speed(
    model: StylEx, *, rounds: int, moves: int, whole: bool, images: int | None
) -> dict[str, Any]:
    """Seconds a move of each kind, by turns; the engine's from a sample of every layer.

    Args:
        model: any.
        rounds: after one that warms up.
        moves: of a loop in one round.
        whole: a whole image is searched as well, to check the extrapolation.
        images: of the quick search that is made whole; None for none, which takes half an hour at
            256 px: what it expects of itself is told anyway.
    """
    synthesis, styles = model.generator.synthesis, sampled(model, SEARCHED)
    ends, searched = stylespace.bounds(styles), model.layout.searched
    folded = without_norms(model.classifier, model.synthesize(styles[:2]))
    batch = sweep.batch_within(MEMORY / 8, synthesis, folded, styles[:1])
    draw = torch.Generator().manual_seed(0)
    sample: dict[str, Any] = {"batch": batch, "draw": draw}
    turns, native = [], quick_bf16("cpu")
    for turn in range(rounds + 1):
        row = styles[turn : turn + 1]
        spent = loops(model, row, ends, moves, draw)
        spent["exact"] = engine(synthesis, folded, row, ends, **sample, spend=timed)
        if native:
            in_bf16 = sample | {"dtype": torch.bfloat16}
            spent["bf16"] = engine(synthesis, folded, row, ends, **in_bf16, spend=timed)
        turns.append(spent | {"peak": convolution_peak(torch.float)})
    flops = engine(synthesis, folded, styles[:1], ends, **sample, spend=counted)
    each = {kind: statistics.median(turn[kind] for turn in turns[1:]) for kind in turns[0]}
    ratios = [turn["grouped"] / turn["exact"] for turn in turns[1:]]
    given = {"targets": [0, 1], "batch": batch, **CHOICE}
    evaluations, seconds = expect(synthesis, folded, styles, ends, **given)
    fast = hasty(model, folded, styles[:images], moves=moves, **sample) if images else {}
    rows = {
        "coordinates": searched,
        "batch": batch,
        **{f"{kind}_ms_a_move": 1000 * each[kind] for kind in each if kind != "peak"},
        "exact_ratio_plain": each["loop"] / each["exact"],
        "exact_ratio": each["grouped"] / each["exact"],
        "exact_ratio_range": [min(ratios), max(ratios)],
        "exact_bf16_ratio": each["grouped"] / each["bf16"] if native else None,
        **({} if native else {"why_exact_bf16_ratio": NOT_NATIVE}),
        "max_difference": difference(model, styles[:1], ends, draw),
        "loop_differs_from_itself": own_rounding(model, styles[:4]),
        "gflop_a_move": flops / 1e9,
        "peak_gflops": each["peak"] / 1e9,
        "exact_peak_share": flops / each["exact"] / each["peak"],
        "fast_expected_evaluations": evaluations,
        "fast_expected_ratio": each["loop"] * SEARCHED * 2 * searched / seconds,
        **fast,
        "how": f"the engine was timed on one batch of random coordinates of each layer in each of "
        f"{rounds} rounds and extrapolated layer by layer; operations likewise; "
        f"fast_expected_ratio: what it says of {SEARCHED} images beforehand",
    }
    if images:
        rows["how"] += "; fast_ratio: of a whole quick search, between two timings of the loop"
    if whole:
        seconds = timed(lambda: sweep.measure(synthesis, folded, row, ends, batch=batch))
        rows["whole_over_extrapolated"] = seconds / (2 * searched) / each["exact"]
    return rows


def hasty(
    model: StylEx,
    classify: Classify,
    styles: Tensor,
    *,
    moves: int,
    batch: int,
    draw: torch.Generator,
) -> dict[str, Any]:
    """A whole quick search, between two timings of the loop, and what it said beforehand.

    Raises:
        ValueError: it found nothing to choose from: its cost would be that of no search.
    """
    ends, synthesis = stylespace.bounds(styles), model.generator.synthesis
    finish = finisher(model, styles, ends, CHOICE["count"])
    given = (synthesis, classify, styles, ends)
    expected = expect(*given, targets=[0, 1], batch=batch, **CHOICE)[1]
    spent = [loops(model, styles[:1], ends, moves, draw)]
    began = time.perf_counter()
    found = quick(*given, finish=finish, targets=[0, 1], batch=batch, **CHOICE)
    seconds = time.perf_counter() - began
    if not found.attributes:
        raise ValueError("the quick search chose nothing but its audit; fit the network")
    spent.append(loops(model, styles[:1], ends, moves, draw))
    every = 2 * model.layout.searched * len(styles)
    each = {kind: statistics.mean(turn[kind] for turn in spent) for kind in spent[0]}
    return {
        "fast_images": len(styles),
        "fast_seconds": seconds,
        "fast_expected_seconds": expected,
        "fast_ratio": each["loop"] * every / seconds,
        "fast_ratio_grouped": each["grouped"] * every / seconds,
        "fast_chosen": len(found.attributes),
        "fast_certificate": found.made["certificate"],
    }


def loops(
    model: StylEx, row: Tensor, ends: Tensor, moves: int, draw: torch.Generator
) -> dict[str, float]:
    """Seconds a move of the plain loop and of the grouped one, on the same random moves."""
    some = torch.randperm(2 * model.layout.searched, generator=draw)[:moves]
    spent = {"loop": loop(model, row, ends, some)}
    with as_plain(True):
        spent["grouped"] = loop(model, row, ends, some)
    return spent


@torch.no_grad()
def loop(model: StylEx, row: Tensor, ends: Tensor, some: Tensor) -> float:
    """Seconds a move: one image, one coordinate, everything drawn anew."""
    goals = goals_of(row, ends, 1.0, model.layout.searched).flatten()
    began = time.perf_counter()
    for place in some.tolist():
        moved = row.clone()
        moved[0, place // 2] = goals[place]
        model.score(moved)
    return (time.perf_counter() - began) / len(some)


@torch.no_grad()
def engine(
    synthesis: Synthesis,
    classify: Classify,
    row: Tensor,
    ends: Tensor,
    *,
    batch: int,
    draw: torch.Generator,
    spend: Spend,
    dtype: torch.dtype | None = None,
) -> float:
    """What a move takes, the mean over all moves of one image: seconds, or operations.

    The image is folded once; of every layer one batch of random coordinates stands for the rest.

    Args:
        synthesis, classify, row, ends, batch: as for `sweep.measure`.
        draw: of the coordinates.
        spend: what a call takes.
        dtype: that moves are drawn in.
    """
    goals = goals_of(row, ends, 1.0, synthesis.layout.searched)
    folded: list[Folded] = []
    spent, first = spend(lambda: folded.append(Folded(synthesis, row, dtype=dtype))), 0
    for width in synthesis.layout.widths:
        its = first + torch.randperm(width, generator=draw)[: max(1, batch // 2)].sort()[0]

        def moves(its: Tensor = its) -> None:
            classify(folded[0].draw(its, goals[its]).clamp(-1, 1))

        spent += spend(moves) * width / len(its)
        first += width
    return spent / (2 * synthesis.layout.searched)


@torch.no_grad()
def difference(model: StylEx, row: Tensor, ends: Tensor, draw: torch.Generator) -> float:
    """Largest difference of the engine's effects and the plain loop's, in logits, on ten moves."""
    some = torch.randperm(model.layout.searched, generator=draw)[:5].sort()[0]
    classify = without_norms(model.classifier, model.synthesize(row))
    effects, _ = sweep.measure(model.generator.synthesis, classify, row, ends, coordinates=some)
    goals = goals_of(row, ends, 1.0, model.layout.searched)[some]
    moved = row.repeat(goals.numel(), 1)
    moved[torch.arange(len(moved)), some.repeat_interleave(2)] = goals.flatten()
    plain = torch.cat([model.score(one) for one in moved.split(1)]) - model.score(row)
    return (effects[0].flatten(0, 1) - plain).abs().max().item()


@torch.no_grad()
def own_rounding(model: StylEx, styles: Tensor) -> float:
    """The floor of `difference`: what the plain way changes, in logits, with images together."""
    alone = torch.cat([model.score(row) for row in styles.split(1)])
    return (model.score(styles) - alone).abs().max().item()


def timed(call: Callable[[], object]) -> float:
    """Seconds."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def counted(call: Callable[[], object]) -> float:
    """Floating-point operations of products, two for each multiply-add."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def resident() -> dict[str, Any]:
    """Most memory that a process held that begins a search of 250 images at 256 px.

    Everything a search holds is there: networks, photos, the table of effects; each of its steps is
    gone through, but over a few images and a batch of every layer only.
    """
    unit = 1024 if sys.platform == "linux" else 1  # of ru_maxrss, in bytes

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9

    libraries = peak()
    model = random_model(256)
    synthesis, widths = model.generator.synthesis, model.layout.widths
    photos = torch.randint(256, (SEARCHED, 3, 256, 256), dtype=torch.uint8)
    few = as_unit(photos[:8])
    styles = in_batches(model.styles, few, batch=model.at_once)
    ends, classify = stylespace.bounds(styles), without_norms(model.classifier, few[:2])
    batch = sweep.batch_within(MEMORY / 8, synthesis, classify, styles[:1])
    table = torch.ones(SEARCHED, model.layout.searched, 2, len(model.classes))
    starts = torch.tensor([0, *widths]).cumsum(0)[:-1]
    some = (starts[:, None] + torch.arange(max(1, batch // 2))).flatten()
    peaks = []
    for images in DRAWN:
        given = (synthesis, classify, styles[:images], ends)
        ledger = Ledger(memory="2GB")
        sweep.measure(*given, batch=batch, coordinates=some, ledger=ledger)
        sweep.foretell(*given, targets=[0, 1], batch=batch, ledger=ledger)
        peaks.append(peak())
    return {
        "resolution": 256,
        "images": SEARCHED,
        "memory_gb": MEMORY / 1e9,
        "batch": batch,
        "table_mb": table.nbytes / 1e6,
        "peak_gb": peaks[-1],
        "libraries_gb": libraries,
        "peak_gb_after": dict(zip(map(str, DRAWN), peaks, strict=True)),
        "how": "resident peak of a process of its own that held networks, 250 photos and the table "
        "of effects, and searched 1 and 2 images over a batch of every layer, exact and "
        "foretold; nothing more is held for later images",
    }


if __name__ == "__main__":
    main()
