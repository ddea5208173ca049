"""What the cells of the planted benchmark say together, beside what was wanted; F1 as a plot.

`kept` is what a result file holds of one cell.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from stylex.metrics import bootstrap_interval
from stylex.plotting import Point, forest
from stylex.runs import replacing

IMAGES = Path(__file__).parents[1] / "docs" / "images"

# what ours is to reach on the grid: fixed before its first full run
AT_LEAST = {"f1": 0.90, "sign_accuracy": 0.97, "purity": 0.7, "twin_r2": 0.8}
AT_LEAST |= {"sufficiency10_confirmed": 0.90}
AT_LEAST_CORRELATED = 0.75  # F1 at 0.9
AT_MOST_FALSE = 0.05
SLOPES = (0.8, 1.2)
NO_CONTROLS = {"false_discovery": None}
NO_CONTROLS |= {"why_false_discovery": "controls are run with ours alone, nothing left out"}

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
    "false_discovery",
    "sufficiency10",
    "sufficiency10_confirmed",
)
GROUPS = {"uncorrelated": 0.0, "correlated 0.5": 0.5, "correlated 0.9": 0.9}
EXACT = ("correlation", "training", "settings")  # of a cell: compared when the grid goes on
OF_RIVALS = {*MEANS, "seconds"}  # what is read of them


def kept(table: dict[str, Any]) -> dict[str, Any]:
    """A cell's table for the result file: floats are short, rivals say what is read of them."""
    exact = {name: table[name] for name in EXACT}
    rivals = {name: kept_of_rival(its) for name, its in table.get("rivals", {}).items()}
    return short(table | ({"rivals": rivals} if rivals else {})) | exact


def kept_of_rival(table: dict[str, Any]) -> dict[str, Any]:
    """Its scores; of the attributes their number."""
    read = {k: v for k, v in table.items() if k.removeprefix("why_") in OF_RIVALS}
    return read | {"looked_at": len(table["attributes"])}


def short(value: Any) -> Any:
    """The same with every float at four significant digits."""
    if isinstance(value, dict):
        return {k: short(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [short(v) for v in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def compared(cells: Sequence[dict]) -> dict[str, Any]:
    """Every method in every group of cells: mean of each score with its interval over the cells."""
    table: dict[str, Any] = {}
    for group, correlation in GROUPS.items():
        some = at(cells, correlation)
        table[group] = {
            method: {name: interval([_of(c, method).get(name) for c in some]) for name in MEANS}
            for method in ("ours", *rivals(cells))
        }
    return table


def baselines(cells: Sequence[dict]) -> dict[str, Any]:
    """The short form of every rival, with the mean seconds that it takes on a cell."""
    table = {}
    for method in rivals(cells):
        its = [_of(c, method) | {"correlation": c["correlation"]} for c in cells]
        seconds = mean("seconds", [c.get("seconds") for c in its])
        table[method] = short_form(its) | NO_CONTROLS | seconds
    return table


def without(rows: Mapping[str, Sequence[dict]]) -> dict[str, Any]:
    """The short form of ours with one part of the training left out, on the same few cells."""
    return {name: short_form(some) | NO_CONTROLS for name, some in rows.items() if some}


def reached(methods: dict[str, Any], found: dict[str, Any]) -> dict[str, bool | None]:
    """Which of the marks that were set beforehand ours reaches; None where it was not measured.

    Args:
        methods: what `compared` gives.
        found: what `summary` gives, for the controls.
    """
    ours = methods["uncorrelated"]["ours"]
    said = {name: _at_least(ours[name], least) for name, least in AT_LEAST.items()}
    said["f1 correlated 0.9"] = _at_least(
        methods["correlated 0.9"]["ours"]["f1"], AT_LEAST_CORRELATED
    )
    slope, edits = ours["twin_slope"]["mean"], ours["false_discovery"]["mean"]
    controls, highs = (
        found["false_discovery"],
        [its["f1"]["high"] for name, its in methods["uncorrelated"].items() if name != "ours"],
    )
    known, f1 = [high for high in highs if high is not None], ours["f1"]["mean"]
    hidden, both = found["hidden_looked_at"], found["pairs"]
    return said | {
        "twin_slope": None if slope is None else SLOPES[0] <= slope <= SLOPES[1],
        "false discoveries among edits": None if edits is None else edits <= AT_MOST_FALSE,
        "false discoveries in controls": None if controls is None else controls <= AT_MOST_FALSE,
        "hidden factors never reported": found["hidden_reported"] == 0 if hidden else None,
        "explanations of pairs differ": all(pair["differ"] for pair in both) if both else None,
        "f1 above every rival": f1 > max(known) if known and f1 is not None else None,
    }


def _at_least(score: dict[str, Any], least: float) -> bool | None:
    return None if score["mean"] is None else score["mean"] >= least


def rivals(cells: Sequence[dict]) -> list[str]:
    """Names of the rivals that any cell has."""
    return list(dict.fromkeys(name for c in cells for name in c.get("rivals", {})))


def _of(table: dict[str, Any], method: str) -> dict[str, Any]:
    return table if method == "ours" else table.get("rivals", {}).get(method, {})


def at(cells: Sequence[dict], correlation: float) -> list[dict]:
    """The cells with this correlation of a nuisance."""
    return [c for c in cells if c["correlation"] == correlation]


def interval(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean of the values that are known, with a 95 % interval from drawing the cells again."""
    known = [value for value in values if value is not None]
    if not known:
        return {"mean": None, "low": None, "high": None, "cells": 0, "why_mean": "no cell has it"}
    low, high = bootstrap_interval(torch.tensor(known), seed=0)
    return {"mean": sum(known) / len(known), "low": low, "high": high, "cells": len(known)}


def short_form(cells: Sequence[dict]) -> dict[str, Any]:
    """Means over the uncorrelated cells with each cell's value beside them; F1 of those at 0.9.

    `f1_low` and `f1_high` come from drawing the cells again: over three they are nearly the range.
    `false_discovery_cells` is the share of the attributes taken that twins explain under half.
    """
    plain, table = at(cells, 0.0), {"cells": len(cells)}
    for name in MEANS:
        key = "false_discovery_cells" if name == "false_discovery" else name
        table |= mean(key, [c.get(name) for c in plain])
    f1 = interval([c.get("f1") for c in plain])
    table |= {f"f1_{end}": f1[end] for end in ("low", "high")}
    if f1["mean"] is None:
        table |= dict.fromkeys(("why_f1_low", "why_f1_high"), f1["why_mean"])
    return table | mean("f1_correlated", [c.get("f1") for c in at(cells, 0.9)])


def summary(cells: Sequence[dict], controls: Sequence[dict]) -> dict[str, Any]:
    """The short form of ours, all cells, and what passed in the controls.

    `false_discovery` is the share of the controls' attributes that falsely passed every gate, to be
    0.
    """
    table = short_form(cells) | {"cells": list(cells), "controls": list(controls)}
    looked_at = sum(c["looked_at"] for c in controls)
    falsely = sum(c["passed_falsely"] for c in controls)
    table |= {"false_discovery": falsely / looked_at if looked_at else None}
    if not looked_at:
        table |= {"why_false_discovery": "no attribute of a control was looked at"}
    table |= {"false_discovery_count": falsely, "controls_looked_at": looked_at}
    hidden = [c for c in controls if c["hidden"]]
    table["hidden_looked_at"] = len(hidden)
    table["hidden_reported"] = sum(c["hidden"] in named(c) for c in hidden)
    table["pairs"] = pairs(hidden)
    for name in ("minutes", "core_minutes"):
        table |= mean(name, [c[name] for c in (*cells, *controls)])
    return table


def named(table: dict[str, Any]) -> list[str]:
    """Factors of the first |U| attributes, repetitions left out."""
    rows = [row for row in table["attributes"] if row["repeats"] is None]
    return [row["factor"] for row in rows[: len(table["used"])] if row["factor"]]


def pairs(hidden: Sequence[dict]) -> list[dict[str, Any]]:
    """Classifiers of one rule, each without another of its factors: do the explanations differ?

    Two that name different factors do; one that names nothing says nothing.
    """
    firsts = [c for c in hidden if c["control"] == "first"]
    seconds = {(c["scene"], c["seed"]): c for c in hidden if c["control"] == "second"}
    both = [(a, seconds[k]) for a in firsts if (k := (a["scene"], a["seed"])) in seconds]
    return [
        {
            "scene": a["scene"],
            "accuracy": [a["accuracy"], b["accuracy"]],
            "used": [a["used"], b["used"]],
            "named": [named(a), named(b)],
            "differ": bool(named(a) and named(b)) and set(named(a)) != set(named(b)),
        }
        for a, b in both
    ]


def mean(name: str, values: Sequence[float | None]) -> dict[str, Any]:
    """The mean of what is known, each value beside it."""
    known = [value for value in values if value is not None]
    if not known:
        return {name: None, f"why_{name}": "no cell has it", f"{name}_seeds": list(values)}
    return {name: sum(known) / len(known), f"{name}_seeds": list(values)}


def draw(name: str, methods: dict[str, Any]) -> None:
    """F1 of every method on the uncorrelated cells, and of ours at 0.9, as an SVG for the docs."""
    rows = {name: its["f1"] for name, its in methods["uncorrelated"].items()}
    rows["ours, nuisance at 0.9"] = methods["correlated 0.9"]["ours"]["f1"]
    points = [
        Point(name, f1["mean"], f1["low"], f1["high"], f1["cells"], people=True)
        for name, f1 in rows.items()
        if f1["mean"] is not None
    ]
    title = "F1 of the factors named, uncorrelated cells"
    legend = "bars: 95 % interval, drawing the cells again; at the right: cells"
    with replacing(IMAGES / f"{name}.svg") as partial:
        wanted = {"wanted": AT_LEAST["f1"]}
        partial.write_text(forest(title, points, wanted, legend=legend), encoding="utf-8")
