"""Five seeds of the default on leaves: do all leave the plateau, does none end in NaN?

    DATA=../shared python benchmarks/training_steady.py     # trains what is missing: hours
    DATA=../shared python benchmarks/training_steady.py 3   # the first three only

Runs are those of benchmarks/real_domains.sh, runs/leaves to runs/leaves-4, around one classifier;
the length is IMAGES, as there. A seed that the last result has and whose run is not here is kept,
with how it was made under `kept`. Writes training_steady.json after each seed.
"""

import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from made import last_result, made, write_result
from real_domains import pooled

from stylex.runs import Run, read_json, read_lines

SEEDS = 5
LEFT = 0.9  # of the mean image's L1: below it the plateau is left, as health.stuck_on_mean has it
KEYS = ("left_plateau_at_images", "lpips", "panel_share", "nan_events", "confirmed_pooled")


def main(seeds: int) -> None:
    """Train, search and evaluate each seed, sum up."""
    script, rows = Path(__file__).with_name("real_domains.sh"), {}
    old = last_result("training_steady")
    kept: dict[str, Any] = {}
    for seed in range(seeds):
        run = Path("runs") / (f"leaves-{seed}" if seed else "leaves")
        if str(seed) in old and not run.exists():
            rows[str(seed)] = old[str(seed)]
            kept[str(seed)] = old.get("kept", {}).get(str(seed), old["made"])
            continue
        if not evaluated(run):
            environment = {**os.environ, "SEED": str(seed)}
            subprocess.run(["bash", str(script), "leaves"], env=environment, check=True)
        rows[str(seed)] = one(run)
        table = made(range(seed + 1)) | {"kept": kept} | rows | together(rows)
        write_result("training_steady", table)


def evaluated(path: Path) -> bool:
    """Whether a run has all that is told of it."""
    file = Run(path).metrics
    return file.is_file() and "evaluated" in read_json(file)


def one(path: Path) -> dict[str, Any]:
    """What one run's files say."""
    log, metrics = read_lines(Run(path).log), read_json(Run(path).metrics)
    left = left_plateau(log, read_json(Run(path).about)["settings"]["l1_weight"])
    found = {
        "left_plateau_at_images": left,
        "lpips": metrics["substrate"]["perceptual"],
        "panel_share": metrics["panel"].get("share"),
        "nan_events": sum(
            finding["name"] == "not a number" for line in log for finding in line.get("health", ())
        ),
        "images_seen": log[-1]["images_seen"],
        **pooled("confirmed_pooled", path, "it was not evaluated"),
    }
    return found if left else found | {"why_left_plateau_at_images": "it never was"}


def left_plateau(log: list[dict[str, Any]], weight: float) -> int | None:
    """The images seen when L1 first stays below nine tenths of the mean image's, to a log line.

    Args:
        log: the run's; its loss is of train photos, the mean image's L1 of search photos.
        weight: of L1 in the loss.
    """
    levels = [line["measures"]["l1_mean_image"] for line in log if "measures" in line]
    wanted, left = LEFT * levels[-1], None
    for line in reversed(log):
        if line["losses"]["l1"] / weight >= wanted:
            break
        left = line["images_seen"]
    return left


def together(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Mean, least, most and standard deviation over the seeds, each seed's value beside them."""
    table: dict[str, Any] = {}
    for key in KEYS:
        values = [row[key] for row in rows.values()]
        known = [value for value in values if value is not None]
        table |= {f"{key}_seeds": values, key: statistics.fmean(known) if known else None}
        if known:
            table |= {f"{key}_low": min(known), f"{key}_high": max(known)}
            table |= {f"{key}_spread": statistics.stdev(known) if len(known) > 1 else 0.0}
        else:
            table[f"why_{key}"] = "no seed has it"
    return table


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else SEEDS)
