"""The short planted benchmark: does a search name the factors that the classifier uses?

    python benchmarks/planted.py --short                       # finished cells stay as they are
    python benchmarks/planted.py --short --total-images 24000 --runs runs/planted-24k
    python benchmarks/planted.py --short --total-images 320 --runs /tmp/try --result try

Three cells and two controls, each at most 10 minutes on two cores. Prints a table and writes
benchmarks/results/planted_short.json.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import tyro
from made import made, write_result

from stylex.metrics import bootstrap_interval
from stylex.planting import cell

CELLS = (("leaves", "sum", 0, ""), ("cells", "sum", 1, ""), ("leaves", "and", 2, ""))
CONTROLS = (("leaves", "sum", 0, "random"), ("leaves", "sum", 0, "shuffled"))
MEANS = (
    "f1",
    "precision",
    "recall",
    "average_precision",
    "spearman",
    "sign_accuracy",
    "purity",
    "twin_slope",
    "twin_r2",
    "twin_explained",
    "sufficiency10",
    "sufficiency10_confirmed",
)


def main(
    *,
    short: bool = False,
    total_images: int = 12_000,
    runs: str = "runs/planted",
    result: str = "planted_short",
) -> None:
    """Run the cells that are missing, then sum up.

    Args:
        short: three cells and two controls; there is no longer benchmark yet.
        total_images: length of each StylEx's training in images seen.
        runs: directory of the cells, one below it for each.
        result: name of the JSON file in benchmarks/results.
    """
    if not short:
        sys.exit("only the short benchmark is there: add --short")
    tables = []
    for scene, kind, seed, control in (*CELLS, *CONTROLS):
        name = "-".join(filter(None, (scene, kind, str(seed), control)))
        run = str(Path(runs) / name)
        options = {"scene": scene, "kind": kind, "seed": seed, "control": control}
        tables.append(cell(run, **options, total_images=total_images))
        show(tables[-1])
    seeds = sorted({seed for _, _, seed, _ in CELLS})
    write_result(result, made(seeds) | summary(tables[: len(CELLS)], tables[len(CELLS) :]))


def show(table: dict[str, Any]) -> None:
    """One finished cell in a few lines."""
    f1 = "none" if table["f1"] is None else f"{table['f1']:.2f}"
    print(
        f"  uses {', '.join(table['used']) or 'nothing'}; F1 {f1}; {table['minutes']:.1f} minutes"
    )
    for row in table["attributes"]:
        marks = ("used" * row["used"], "passed" * row["passed"])
        again = f"as {row['repeats']}" if row["repeats"] else ""
        said = ", ".join(filter(None, (*marks, again, *row["shut"])))
        factor = row["factor"] or "no factor"
        shown = f"{row['effect']:6.2f} logits, {row['explained']:4.0%} explained"
        print(f"  {row['rank']:2d} {factor:24s}{shown}  {said}")


def summary(cells: Sequence[dict], controls: Sequence[dict]) -> dict[str, Any]:
    """Means over the cells with each cell's value beside them, and what passed in the controls.

    `false_discovery` is the share of the controls' attributes that falsely passed every gate, to be
    0; `false_discovery_cells` the share of the attributes taken that twins explain under half.
    `f1_low` and `f1_high` come from drawing the cells again: over three they are nearly the range.
    """
    table: dict[str, Any] = {"cells": list(cells), "controls": list(controls)}
    for name in MEANS:
        table |= mean(name, [c[name] for c in cells])
    table |= mean("false_discovery_cells", [c["false_discovery"] for c in cells])
    known = [c["f1"] for c in cells if c["f1"] is not None]
    low, high = bootstrap_interval(torch.tensor(known), seed=0) if known else (None, None)
    looked_at = sum(c["looked_at"] for c in controls)
    falsely = sum(c["passed_falsely"] for c in controls)
    table |= {"f1_low": low, "f1_high": high}
    table |= {"f1_correlated": None, "why_f1_correlated": "no cell has correlated factors"}
    table |= {"false_discovery": falsely / looked_at if looked_at else 0.0}
    table |= {"false_discovery_count": falsely, "controls_looked_at": looked_at}
    table |= mean("minutes", [c["minutes"] for c in (*cells, *controls)])
    return table


def mean(name: str, values: Sequence[float | None]) -> dict[str, Any]:
    """The mean of what is known, each value beside it."""
    known = [value for value in values if value is not None]
    if not known:
        return {name: None, f"why_{name}": "no cell has it", f"{name}_seeds": list(values)}
    return {name: sum(known) / len(known), f"{name}_seeds": list(values)}


if __name__ == "__main__":
    tyro.cli(main)
