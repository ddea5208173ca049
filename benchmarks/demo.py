"""The demo over three seeds: does the search find the factors that were planted?

    python benchmarks/demo.py            # about half an hour on two cores; runs that are there stay
    python benchmarks/demo.py 0          # these seeds only

Prints a table and writes benchmarks/results/demo.json.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from made import made, write_result

from stylex.demo import demo
from stylex.runs import Run, read_json

SEEDS = (0, 1, 2)
SHARES = ("own", "mean_w", "other_w", "swapped_p", "mean_p")


def main() -> None:
    """Run what is missing, then sum up."""
    seeds = [int(seed) for seed in sys.argv[1:]] or list(SEEDS)
    results = []
    for seed in seeds:
        run = Path("runs") / f"demo-{seed}"
        done = Run(run).planted
        results.append(read_json(done) if done.is_file() else demo(run=str(run), seed=seed))
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


def _mean(shares: Iterable[float]) -> float:
    values = list(shares)
    return sum(values) / len(values)


if __name__ == "__main__":
    sys.exit(main())
