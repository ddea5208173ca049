"""The tables of docs/evidence.md, from what planted.py has measured.

    python benchmarks/planted_print.py
    python benchmarks/planted_print.py planted --beside planted_first    # cells that both have

Prints Markdown: methods, marks that were set beforehand, factors, cells, controls, what comes back
of edits beside what twins explain of them, ablations.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import tyro
from made import last_result
from planted_table import AT_LEAST, AT_LEAST_CORRELATED, AT_MOST_FALSE, SLOPES, named

from stylex.selection import COMES_BACK
from stylex.truth import EXPLAINED

Json = Mapping[str, Any]

SHOWN = {
    "f1": "F1",
    "average_precision": "average precision",
    "purity": "purity",
    "sign_accuracy": "sign",
    "twin_slope": "twin slope",
    "twin_r2": "twin R2",
    "false_discovery": "false among the first",
    "sufficiency10": "flipped by ten",
    "sufficiency10_confirmed": "confirmed by the rule",
}
OF_CELLS = {"false_discovery": "false_discovery_cells"}  # the plain key is that of the controls
RIVALS = ("our list on plain", "attfind on plain", "attfind's list", "latent gradient", "grid")


def main(name: str = "planted", /, *, beside: str = "") -> None:
    """Print the tables of a result.

    Args:
        name: of the JSON file in benchmarks/results.
        beside: another one, whose scores on the same cells stand before the first one's.
    """
    result = last_result(name)
    shown = (methods, marks, factors, cells, controls, redrawn, ablations)
    tables = [table(result) for table in shown]
    if beside:
        tables = [shared(last_result(beside), result)]
    for rows in filter(None, map(list, tables)):
        head, *rest = (f"| {' | '.join(row)} |" for row in rows)
        print("\n".join([head, "|" + "---|" * len(rows[0]), *rest, ""]))


def methods(result: Json) -> Iterator[list[str]]:
    """Means over the uncorrelated cells, F1 with its interval and in the correlated ones."""
    groups, seconds = result["methods"], result["baselines"]
    correlated = [group for group in groups if group != "uncorrelated"]
    yield ["", *SHOWN.values(), *(f"F1, {group}" for group in correlated), "seconds"]
    for method, scores in groups["uncorrelated"].items():
        rest = [digits(scores[key]["mean"]) for key in SHOWN if key != "f1"]
        f1 = [with_ends(groups[group][method]["f1"]) for group in ("uncorrelated", *correlated)]
        took = seconds.get(method, {}).get("seconds")
        yield [method, f1[0], *rest, *f1[1:], "" if took is None else f"{took:.0f}"]


def marks(result: Json) -> Iterator[list[str]]:
    """What ours was to reach, fixed before the first run, and what it reached."""
    ours = result["methods"]["uncorrelated"]["ours"]
    wanted = {key: (f"at least {least}", ours[key]["mean"]) for key, least in AT_LEAST.items()}
    correlated = result["methods"]["correlated 0.9"]["ours"]["f1"]["mean"]
    wanted |= {"f1 correlated 0.9": (f"at least {AT_LEAST_CORRELATED}", correlated)}
    wanted |= {"twin_slope": ("{} to {}".format(*SLOPES), ours["twin_slope"]["mean"])}
    false = {"among edits": ours["false_discovery"]["mean"]}
    false |= {"in controls": result["false_discovery"]}
    for where, share in false.items():
        wanted[f"false discoveries {where}"] = (f"at most {AT_MOST_FALSE}", share)
    yield ["mark", "wanted", "measured", "reached"]
    for mark, reached in result["reached"].items():
        least, came = wanted.get(mark, ("yes", None))
        yes = {True: "yes", False: "no", None: "not measured"}[reached]
        yield [SHOWN.get(mark, mark), least, digits(came) if mark in wanted else yes, yes]


def factors(result: Json) -> Iterator[list[str]]:
    """In how many cells each factor is used, and in how many of those ours names it."""
    yield ["scene", "factor", "used in", "named in"]
    pairs = [(c["scene"], f, f in named(c)) for c in result["cells"] for f in c["used"]]
    for scene, factor in sorted({pair[:2] for pair in pairs}):
        its = [hit for *where, hit in pairs if where == [scene, factor]]
        yield [scene, factor, str(len(its)), str(sum(its))]


def cells(result: Json) -> Iterator[list[str]]:
    """Each cell of the grid: what is used, what ours says, F1 of the others."""
    ours = ["F1", "purity", "explained", "flipped / confirmed"]
    yield ["cell", "used", "ours names", *ours, *(f"{rival}: F1" for rival in RIVALS)]
    for cell in result["cells"]:
        keys = ("sufficiency10", "sufficiency10_confirmed")
        flips = " / ".join(digits(cell[key]) for key in keys)
        scores = [digits(cell[key]) for key in ("f1", "purity", "twin_explained")]
        rivals = [digits(cell["rivals"].get(rival, {}).get("f1")) for rival in RIVALS]
        yield [label(cell), listed(cell["used"]), listed(named(cell)), *scores, flips, *rivals]


def shared(before: Json, result: Json) -> Iterator[list[str]]:
    """Scores of ours on the cells that two results have, and their means."""
    keys = ("f1", "purity", "false_discovery", "sufficiency10", "sufficiency10_confirmed")
    yield ["cell", "used", "ours names", *(SHOWN[key] for key in keys)]
    known = {label(cell): cell for cell in before["cells"]}
    pairs = [(known[label(c)], c) for c in result["cells"] if label(c) in known]
    for pair in pairs:
        names = " / ".join(listed(named(cell)) for cell in pair)
        scores = [" / ".join(digits(cell[key]) for cell in pair) for key in keys]
        yield [label(pair[1]), listed(pair[1]["used"]), names, *scores]
    means = [" / ".join(digits(average(c[key] for c in side)) for side in zip(*pairs, strict=True))
             for key in keys]  # fmt: skip
    yield ["**mean**", "", "", *means]


def average(values: Iterable[float | None]) -> float | None:
    """Of the numbers there are."""
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers else None


def controls(result: Json) -> Iterator[list[str]]:
    """Where nothing is to be found, or one factor must not be."""
    if result["controls"]:
        yield ["control", "hidden", "used", "named", "F1", "passed the gates", "falsely"]
    for cell in result["controls"]:
        passed = f"{cell['passed']} of {cell['looked_at']}"
        words = [cell["hidden"] or "", listed(cell["used"]), listed(named(cell))]
        yield [label(cell), *words, digits(cell["f1"]), passed, str(cell["passed_falsely"])]


def redrawn(result: Json) -> Iterator[list[str]]:
    """Does what comes back of an edit, which needs no truth, tell what its twins explain?"""
    every = [row for cell in (*result["cells"], *result["controls"]) for row in cell["attributes"]]
    rows = [row for row in every if row.get("comes_back") is not None]  # not asked at first
    if not rows:
        return
    yield ["attributes", "twins explain half", "twins explain less", "mean distance of the two"]
    for says, back in (("half comes back", True), ("less comes back", False)):
        its = [row for row in rows if (row["comes_back"] >= COMES_BACK) == back]
        half = sum(row["explained"] >= EXPLAINED for row in its)
        off = average(abs(row["comes_back"] - row["explained"]) for row in its)
        yield [says, str(half), str(len(its) - half), digits(off)]


def ablations(result: Json) -> Iterator[list[str]]:
    """Ours with one part left out, on the same few cells."""
    if result["ablations"]:
        yield ["left out", "cells", *SHOWN.values(), "F1, correlated 0.9"]
    for name, its in result["ablations"].items():
        keys = (*SHOWN, "f1_correlated")
        scores = [digits(its.get(OF_CELLS.get(key, key))) for key in keys]
        yield [name, str(its["cells"]), *scores]


def label(cell: Json) -> str:
    """A cell in a few words."""
    parts = [cell["scene"], cell["kind"], str(cell["count"])]
    parts += [f"at {cell['correlation']:g}"] if cell["correlation"] else []
    return " ".join([*parts, cell["net"], cell["control"], str(cell["seed"])]).replace("  ", " ")


def listed(names: Iterable[str]) -> str:
    """Words with commas."""
    return ", ".join(names) or "nothing"


def digits(value: float | None) -> str:
    """Two of them."""
    return "" if value is None else f"{value:.2f}"


def with_ends(score: Json) -> str:
    """A mean with its interval."""
    if score["mean"] is None:
        return ""
    return f"{score['mean']:.2f} ({score['low']:.2f} to {score['high']:.2f})"


if __name__ == "__main__":
    tyro.cli(main)
