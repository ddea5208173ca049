"""What an option of training does to the demo: pictures, where the class sits, what is found.

    python benchmarks/screen.py NAME SEED [option=value ...]
    python benchmarks/screen.py none 0
    python benchmarks/screen.py thin30 0 thin_weight=0.02 thin_free=30

Trains one demo with these options and adds a row to benchmarks/results/screen.json. A quarter of an
hour of one core; rows that are there stay, of demos of 24,000 images, and a run that was cut off
goes on. Where D begins is the demo's own. Several options at once: design.py.
"""

import functools
import sys
from pathlib import Path

from made import last_result, made, write_result

from stylex import demo
from stylex.attfind import Search
from stylex.losses import varying
from stylex.runs import Run, read_json, read_lines
from stylex.selection import participation_ratio


def main() -> None:
    """Run the row that was asked for and print all."""
    name, seed, *pairs = sys.argv[1:]
    options = {k: float(v) for k, v in (pair.split("=") for pair in pairs)}
    options |= {k: int(v) for k, v in options.items() if v == int(v) and not k.endswith("weight")}
    files = Run(Path("runs") / f"screen-{name}-{seed}")
    demo.train = functools.partial(demo.train, **options)  # pyright: ignore
    table = demo.demo(run=str(files.path), seed=int(seed))
    row = {"name": name, "seed": int(seed), "options": options} | summary(files, table)
    rows = last_result("screen").get("rows", [])
    rows = [r for r in rows if (r["name"], r["seed"]) != (name, int(seed))] + [row]
    rows.sort(key=lambda r: (r["name"], r["seed"]))
    write_result("screen", made([r["seed"] for r in rows]) | {"rows": rows})


def summary(files: Run, table: dict) -> dict:
    """One row: never agreement alone, never flips alone."""
    measured, found = read_json(files.metrics), Search.load(files.path)
    flips = table["sufficiency10"].values()
    purity = [max(a["changes"].values()) / sum(a["changes"].values()) for a in table["attributes"]]
    last = [line["losses"] for line in read_lines(files.log)][-1]
    return {
        "found": table["planted_found"],
        "false": table["planted_false"],
        "strongest": [a["factor"] for a in table["attributes"]],
        "deciding": table["deciding"],
        "purity": sum(purity) / max(1, len(purity)),
        "l1": measured["reconstruction"]["l1"],
        "kl": last["kl"],
        "agreement": table["agreement"],
        "flipped": sum(f["share"] for f in flips) / max(1, len(flips)),
        "flipped_random": sum(f["random"] for f in flips) / max(1, len(flips)),
        "participation": participation_ratio(found.effects[..., 1]),
        "varying": varying(found.styles[:, : found.effects.shape[1]]).item(),
        "largest": max((max(a["changes"].values()) for a in table["attributes"]), default=0.0),
        "minutes": table["minutes"],
    }


if __name__ == "__main__":
    main()
