"""What the planted grid's cells begin with: one generator a scene, trained without a classifier.

    python benchmarks/planted_bases.py             # half an hour of one core for each, or an hour
    python benchmarks/planted_bases.py --scene cells

Each is trained in runs/planted (the same command goes on with it) and then written to
benchmarks/bases/SCENE: weights in half precision, `run.json` with the recipe, and a card. The grid
and its ablations begin with what lies there, on any machine.
"""

from pathlib import Path

import tyro
from planted import APART, BASES, OF_BASE

from stylex.export import bare
from stylex.planting import train_plain
from stylex.runs import Run, read_lines
from stylex.scenes import SCENES

FIRST_SEED = 1000  # of the grid that is reported
CURVE = ("l1", "perceptual", "kid", "kid_noise")  # of a snapshot
LINE = "\n"


def main(*, scene: str = "", runs: str = "runs/planted", device: str = "cpu") -> None:
    """Train what is missing, and write it.

    Args:
        scene: leaves or cells; by default both.
        runs: directory that they are trained in.
        device: that trains.
    """
    for name in [scene] if scene else SCENES:
        place = str(Path(runs) / f"base-{name}-{FIRST_SEED}")
        seed = FIRST_SEED + APART - 1
        train_plain(place, scene=name, seed=seed, total_images=OF_BASE, device=device)
        files, to = Run(place), Run(BASES / name)
        about = bare(files, to)
        to.card.write_text(card(name, about, read_lines(files.log)), encoding="utf-8")
        print(f"written: {to.path}")


def card(scene: str, about: dict, log: list[dict]) -> str:
    """What it is, in Markdown."""
    trained = f"{about['hours']:.1f} hours on {about['machine']}, {about['created'][:10]}"
    px, seed, drawn = about["resolution"], about["seed"], about["data"]["counts"]["train"]
    snapshots = [(line["images_seen"], line["measures"]) for line in log if "measures" in line]
    return f"""# A generator of drawn {scene}, trained without a classifier

Cells of [the planted benchmark](../../../docs/planted.md) begin with it: `planting.cell(run,
base=...)`, or `stylex train --begin-with`. Alone it explains nothing. It was handed a classifier of
random weights, only to be measured by, and never heard of it.

{px} px, {about["images_seen"]:,} images seen of {drawn:,} drawn ones, seed {seed},
{trained}.
Data: drawn by `stylex.drawing`, no photograph; the perceptual distance (LPIPS, squeeze) saw
photographs. Terms: as the code's. Made by `python benchmarks/planted_bases.py --scene {scene}`;
weights in half precision.

| images | {" | ".join(CURVE)} |
|{"---|" * (1 + len(CURVE))}
{LINE.join(row(seen, measures) for seen, measures in snapshots)}

```
{LINE.join(f"{name} = {value}" for name, value in about["settings"].items())}
```
"""


def row(seen: int, measures: dict[str, float | None]) -> str:
    """One snapshot."""
    values = (measures.get(name) for name in CURVE)
    told = ("not measured" if value is None else f"{value:.3f}" for value in values)
    return f"| {seen:,} | {' | '.join(told)} |"


if __name__ == "__main__":
    tyro.cli(main)
