"""What a training may expect after so many images: the published models' own logs, in a few rows.

    python benchmarks/training_curve.py

Reads models/*/log.jsonl and writes src/stylex/expected.json, which `stylex train` tells from. A row
is the lowest and the highest of the models of one resolution at one length; lengths that not all of
them have been measured at are left out.
"""

from pathlib import Path
from typing import Any

from made import made

from stylex.runs import Run, read_json, read_lines, write_json

ROOT = Path(__file__).parents[1]
KEYS = ("agreement", "chance", "perceptual")


def main() -> None:
    """All published models."""
    runs = sorted(path.parent for path in (ROOT / "models").glob("*/log.jsonl"))
    about = {run: read_json(Run(run).about) for run in runs}
    rows = {}
    for side in sorted({about[run]["resolution"] for run in runs}):
        of_it = [measured(run) for run in runs if about[run]["resolution"] == side]
        rows[str(side)] = curve(of_it)
    seeds = sorted({about[run]["seed"] for run in runs})
    write_json(
        ROOT / "src" / "stylex" / "expected.json",
        made(seeds) | {"runs": [run.name for run in runs], "rows": rows},
    )


def measured(run: Path) -> dict[int, dict[str, float]]:
    """A run's measures on search images, by the images seen."""
    lines = read_lines(Run(run).log)
    return {line["images_seen"]: line["measures"] for line in lines if "measures" in line}


def curve(runs: list[dict[int, dict[str, float]]]) -> list[dict[str, Any]]:
    """Lowest and highest of the runs at each length that all of them have."""
    rows: list[dict[str, Any]] = []
    for length in sorted(set.intersection(*(set(run) for run in runs))):
        each = {key: [run[length][key] for run in runs] for key in KEYS}
        ends = {key: [min(values), max(values)] for key, values in each.items()}
        rows.append({"images_seen": length, **ends})
    return rows


if __name__ == "__main__":
    main()
