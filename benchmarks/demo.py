"""The demo over three seeds: does the search find the factors that were planted?

    python benchmarks/demo.py            # about half an hour on two cores; runs that are there stay
    python benchmarks/demo.py 0          # these seeds only

Prints a table, writes benchmarks/results/demo.json and draws docs/images/demo-SEED.png.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from made import made, write_result
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from stylex import pictures
from stylex.demo import demo
from stylex.runs import ATTRIBUTE, SPRITE, Run, read_json

SEEDS = (0, 1, 2)
SHOWN = 3  # attributes in a picture, those with enough images to show
IMAGES = Path(__file__).parents[1] / "docs" / "images"
SHARES = ("own", "mean_w", "other_w", "swapped_p", "mean_p")


def main() -> None:
    """Run what is missing, then sum up."""
    seeds = [int(seed) for seed in sys.argv[1:]] or list(SEEDS)
    results = []
    for seed in seeds:
        run = Path("runs") / f"demo-{seed}"
        done = Run(run).planted
        results.append(read_json(done) if done.is_file() else demo(run=str(run), seed=seed))
        draw(Run(run), IMAGES / f"demo-{seed}.png")
    write_result("demo", made(seeds) | {"seeds": seeds} | summary(results))


def summary(results: list[dict]) -> dict:
    """Means over the seeds, and the value of each seed beside them."""
    columns = {
        "minutes": [r["minutes"] for r in results],
        "planted_found": [r["planted_found"] for r in results],
        **{f"agreement_{s}": [r["agreement"][s] for r in results] for s in SHARES},
        "agreement_chance": [r["agreement"]["chance"] for r in results],
        "sufficiency10": [_mean(x["share"] for x in r["sufficiency10"].values()) for r in results],
        "sufficiency10_random": [
            _mean(x["random"] for x in r["sufficiency10"].values()) for r in results
        ],
    }
    columns["agreement"] = columns.pop("agreement_own")
    table: dict = {}
    for name, values in columns.items():
        table |= {name: _mean(values), f"{name}_seeds": values}
    table["planted_false_seeds"] = [r["planted_false"] for r in results]
    table["planted_false"] = max(table["planted_false_seeds"])
    table["rules"] = [r["rule"] for r in results]
    table["attributes"] = [r["attributes"] for r in results]
    return table


def draw(run: Run, path: Path) -> None:
    """The first attributes towards "yes": example images before and after, side by side."""
    rows, labels = [], []
    every = [
        read_json(path) | {"folder": path.parent}
        for path in run.attributes.glob(f"1-*/{ATTRIBUTE}")
    ]
    for about in sorted(every, key=lambda about: about["rank"]):
        if not about["enough"] or len(rows) == SHOWN:
            continue
        sprite = tv.to_dtype(
            tv.pil_to_tensor(Image.open(about["folder"] / SPRITE)), torch.float32, scale=True
        )
        last, side = len(about["strengths"]) - 1, sprite.shape[2] // len(about["strengths"])
        pairs = [
            sprite[:, y * side : (y + 1) * side, x * side : (x + 1) * side] * 2 - 1
            for y in range(len(about["examples"]))
            for x in (0, last)
        ]
        rows.append(torch.stack(pairs))
        labels.append(f"attribute {about['rank']}: {about['effect']:+.1f} logits")
    if rows:
        pictures.save(pictures.sheet(rows, labels, scale=3), path)


def _mean(shares: Iterable[float]) -> float:
    values = list(shares)
    return sum(values) / len(values)


if __name__ == "__main__":
    sys.exit(main())
