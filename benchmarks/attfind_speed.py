"""AttFind side by side: the notebook's loop, the exact engine, the quick search.

    OMP_NUM_THREADS=1 python benchmarks/attfind_speed.py models/leaves models/retina

One thread of an idle machine. The plain loop (one image, one coordinate, batch 1, everything drawn
anew) and the reproductions' (the same with per-sample weights in a grouped convolution) are timed
on moves drawn at random, by turns with the exact engine on whole images; the quick search is timed
whole and compared with the exact list. Photos are not needed: images come from the model's own
noise samples. A 64 px generator with mobilenet_v2, both with random weights, speaks for speed only.
Writes benchmarks/results/attfind_speed.json.
"""

import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from made import made, write_result
from torch import Tensor
from torchvision.models import mobilenet_v2
from training_speed import as_plain

from stylex import stylespace, sweep
from stylex.attfind import find
from stylex.classifier import Classifier
from stylex.folding import Classify, goals_of, without_norms
from stylex.model import StylEx, in_batches
from stylex.screening import quick

ROUNDS, MOVES = 5, 40  # moves of a loop in one round, whole images of the engine beside them
COUNT = 8


def main() -> None:
    """Every run given, then the larger network."""
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    result: dict[str, Any] = {"threads": torch.get_num_threads()}
    for path in sys.argv[1:]:
        result[Path(path).name] = case(StylEx.load(path), images=48, lists=True)
    net = mobilenet_v2(num_classes=2).eval()
    classifier = Classifier(net, classes=("no", "yes"), size=64)
    wide = StylEx(classifier, resolution=64, width=3.0).eval().requires_grad_(False)
    result["64_mobilenet"] = case(wide, images=2, lists=False)
    write_result("attfind_speed", made([0]) | result)
    for name, row in result.items():
        if isinstance(row, dict):
            print(name, {k: v for k, v in row.items() if k != "certificate"})


def case(model: StylEx, *, images: int, lists: bool) -> dict[str, Any]:
    """Seconds a move of each, by turns, and the quick search whole."""
    synthesis, classify = model.generator.synthesis, model.classifier
    styles = sampled(model, images)
    ends = stylespace.bounds(styles)
    searched = model.layout.searched
    folded = without_norms(model.classifier, synthesis(styles[:2]).clamp(-1, 1))
    times: dict[str, list[float]] = {"loop": [], "grouped": [], "exact": []}
    draw = torch.Generator().manual_seed(0)
    for turn in range(ROUNDS + 1):
        row = styles[turn % images : turn % images + 1]
        some = torch.randperm(2 * searched, generator=draw)[:MOVES]
        spent = {"loop": loop(synthesis, classify, row, ends, some)}
        with as_plain(True):
            spent["grouped"] = loop(synthesis, classify, row, ends, some)
        began = time.perf_counter()
        sweep.measure(synthesis, folded, row, ends)
        spent["exact"] = (time.perf_counter() - began) / (2 * searched)
        for kind, seconds in spent.items():
            if turn:  # the first only warms up
                times[kind].append(seconds)
    each = {kind: statistics.median(values) for kind, values in times.items()}
    result = {
        "coordinates": searched,
        "images": images,
        **{f"{kind}_ms_a_move": 1000 * seconds for kind, seconds in each.items()},
        "exact_ratio": each["loop"] / each["exact"],
        "exact_ratio_grouped": each["grouped"] / each["exact"],
    }
    return result | (quickly(model, styles, ends, each["loop"]) if lists else {})


def quickly(model: StylEx, styles: Tensor, ends: Tensor, loop_seconds: float) -> dict[str, Any]:
    """The quick search whole, beside the exact one's list."""
    folded = without_norms(model.classifier, model.synthesize(styles[:2]))
    given = (model.generator.synthesis, folded, styles, ends)
    options = {"classes": model.classes, "bounds": ends, "styles": styles, "count": COUNT}
    finish = partial(find, layout=model.layout, **options)
    began = time.perf_counter()
    targets = list(range(len(model.classes)))
    found = quick(*given, finish=finish, targets=targets, count=COUNT)
    seconds = time.perf_counter() - began
    began = time.perf_counter()
    exact = finish(*sweep.measure(*given))
    whole = time.perf_counter() - began
    moves = 2 * model.layout.searched * len(styles)
    lists = [[(a.target, a.coordinate, a.direction) for a in f.attributes] for f in (found, exact)]
    return {
        "fast_seconds": seconds,
        "exact_seconds": whole,
        "fast_ratio": loop_seconds * moves / seconds,
        "fast_over_exact": whole / seconds,
        "identical_top8": lists[0] == lists[1],
        "chosen": len(lists[1]),
        "certificate": found.made["certificate"],
    }


def sampled(model: StylEx, images: int) -> Tensor:
    """Styles of noise samples under p of other noise samples."""
    draw = torch.Generator().manual_seed(0)
    z = torch.randn(images, model.generator.latent, generator=draw)
    w = in_batches(model.generator.mapping, z).clone()
    p = torch.distributions.Dirichlet(torch.ones(len(model.classes))).sample((images,))
    return model.generator.style(w, p)


def loop(synthesis: Any, classify: Classify, row: Tensor, ends: Tensor, some: Tensor) -> float:
    """Seconds a move: one image, one coordinate, everything drawn anew."""
    goals = goals_of(row, ends, 1.0, synthesis.layout.searched).flatten()
    began = time.perf_counter()
    with torch.no_grad():
        for place in some.tolist():
            moved = row.clone()
            moved[0, place // 2] = goals[place]
            classify(synthesis(moved).clamp(-1, 1))
    return (time.perf_counter() - began) / len(some)


if __name__ == "__main__":
    main()
