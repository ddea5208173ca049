"""Twelve trainings tell what eleven options do: a Plackett-Burman design on drawn images.

    python benchmarks/design.py                          # seven core-minutes a training; they stay
    python benchmarks/design.py --only 0 2 4 6 8 10      # one of two processes, one thread each

Every option is at its other value in six of the twelve trainings, and any two options are both so
in three: the mean over the six less that over the others is an option's effect, as long as options
add up. The last training is the defaults. All see as many images; what it costs stands beside.
Rules of tuning seeds: the planted grid reports on seeds from 1000 on. Writes
benchmarks/results/design.json once all trainings of a seed are there.
"""

import math
from pathlib import Path
from typing import Any

import tyro
from made import made, write_result

from stylex.attfind import Search
from stylex.planting import AWAKE, cell
from stylex.runs import Run, read_json
from stylex.selection import participation_ratio

# the other value of each option, in place of the default
OPTIONS: dict[str, dict[str, Any]] = {
    "p hidden in 0.8 of the passes": {"hide_p": 0.8},
    "more noise passes": {"noise_share": 0.75},
    "more style mixing": {"mixing": 0.9},
    "path length": {"path_weight": 2.0},
    "fewer coordinates": {"few_weight": 0.001},
    "D awake": AWAKE,
    "a quieter KL": {"kl_weight": 0.3},
    "few carry the class": {"thin_weight": 0.02},
    "no hybrids": {"hybrid_share": 0.0},
    "half the channels": {"width": 0.5},
    "D at the end": {"adversarial_from_images": 16_000},
}
FIRST = "++-+++---+-"  # Plackett and Burman 1946: its shifts, and a row of the defaults
IMAGES = 20_000  # seen in each training; D begins at 8,000 by default


def rows() -> list[list[bool]]:
    """Which options a training has at their other value, twelve times eleven."""
    first = [sign == "+" for sign in FIRST]
    return [first[-n:] + first[:-n] for n in range(len(first))] + [[False] * len(first)]


def one(seed: int, number: int) -> dict[str, Any]:
    """Train, search and score one row of the design."""
    options: dict[str, Any] = {}
    for name, other in zip(OPTIONS, rows()[number], strict=True):
        options |= OPTIONS[name] if other else {}
    files = Run(Path("runs") / f"design-{seed}" / str(number))
    table = cell(str(files.path), seed=seed, total_images=IMAGES, training=options)
    measured, found = read_json(files.metrics), Search.load(files.path)
    names = ("f1", "purity", "twin_explained", "sufficiency10", "sufficiency10_confirmed")
    return {name: table[name] for name in names} | {
        "largest": max((max(a["changes"].values()) for a in table["attributes"]), default=0.0),
        "l1": measured["reconstruction"]["l1"],
        "agreement_mean_p": measured["agreement"]["mean_p"],
        "agreement_mean_w": measured["agreement"]["mean_w"],
        "participation": participation_ratio(found.effects[..., 1]),
        "core_minutes": table["core_minutes"],
        "options": options,
    }


def effects(table: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """By option and measure: the mean with it less the mean without.

    `noise` is what a difference of two means of six would be by chance (root mean square) where
    no option mattered: twice the standard deviation of the twelve over the root of twelve.
    """
    values = {m: [row[m] for row in table] for m in table[0]}
    values = {m: v for m, v in values.items() if all(isinstance(x, int | float) for x in v)}
    design = dict(zip(OPTIONS, zip(*rows(), strict=True), strict=True))
    found = {
        name: {
            m: sum(v if on else -v for v, on in zip(values[m], signs, strict=True)) / 6
            for m in values
        }
        for name, signs in design.items()
    }
    mean = {m: sum(v) / len(v) for m, v in values.items()}
    found["noise"] = {
        m: 2 / math.sqrt(12) * math.sqrt(sum((x - mean[m]) ** 2 for x in v) / 11)
        for m, v in values.items()
    }
    return found


def main(*, seeds: tuple[int, ...] = (20,), only: tuple[int, ...] = tuple(range(12))) -> None:
    """Train what is missing, then sum up.

    Args:
        seeds: of rules and trainings; each is a design of its own.
        only: rows of the design; without all of them nothing is summed up.
    """
    tables = {seed: [one(seed, number) for number in only] for seed in seeds}
    if len(set(only)) < 12:
        return
    result = {str(seed): {"rows": t, "effects": effects(t)} for seed, t in tables.items()}
    write_result("design", made(seeds) | {"images": IMAGES, "designs": result})
    for seed, design in result.items():
        print(f"\nseed {seed}\n" + "\n".join(lines(design)))


def lines(design: dict[str, Any]) -> list[str]:
    """The effects as a table of Markdown, by chance alone (`noise`) in its last line."""
    found = design["effects"]
    measures = list(found["noise"])
    head = [f"| | {' | '.join(measures)} |", "|---" * (len(measures) + 1) + "|"]
    return head + [
        f"| {name} | {' | '.join(f'{its[m]:+.3g}' for m in measures)} |"
        for name, its in found.items()
    ]


if __name__ == "__main__":
    tyro.cli(main)
