"""What a program reaches in the studies of a shipped model: the floor beside which people are read.

python benchmarks/study_floor.py        (a minute; models/faces, five studies)

Each seed makes a study of other images and lets the simulated participant take both forms. No
person took part.
"""

import argparse
import tempfile
from pathlib import Path

from made import made, write_result

from stylex.metrics import interval
from stylex.participant import take
from stylex.runs import read_json
from stylex.scoring import scores
from stylex.study import make

FACES = Path(__file__).resolve().parents[1] / "models" / "faces"


def floor(run: Path, seed: int, out: Path) -> dict:
    """The scores of one simulated participant in one study."""
    make(run=str(run), out=str(out), seed=seed)
    key = read_json(Path(f"{out}-key.json"))
    forms = [take(out / f"{form}.html", seed=seed) for form in ("classification", "verbal")]
    return scores([form | {"file": form["form"]} for form in forms], key)["simulated"]


def pooled(every: list[dict], kind: str) -> dict:
    """Right choices of one kind over all studies; the interval takes them as independent."""
    wanted = [next(one for one in its["classification"] if one["kind"] == kind) for its in every]
    answers = sum(one["answers"] for one in wanted)
    right = sum(round(one["value"] * one["answers"]) for one in wanted)
    low, high = interval(right, answers)
    each = [one["value"] for one in wanted]
    return {"value": right / answers, "low": low, "high": high, "answers": answers, "studies": each}


def hard(every: list[dict], kind: str) -> dict:
    """How many items of one kind there were, and for how many the program had no word."""
    items = [one for its in every for one in its["verbal"] if one["kind"] == kind]
    return {"items": len(items), "hard_to_say": sum(one["hard_to_say"] for one in items)}


def main() -> None:
    """Make, fill in, score, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=FACES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        every = [floor(given.run, seed, Path(folder) / str(seed)) for seed in given.seeds]
    kinds = ("attribute", "random", "unchanged")
    about = {"run": f"models/{given.run.name}", "simulated": True, "people": 0}
    choices = {kind: pooled(every, kind) for kind in kinds}
    words = {kind: hard(every, kind) for kind in kinds}
    result = about | {"classification": choices, "verbal": words}
    for kind, its in choices.items():
        print(f"{kind:<10} {its['value']:.2f} ({its['low']:.2f} to {its['high']:.2f})")
    write_result("study_floor", made(given.seeds) | result)


if __name__ == "__main__":
    main()
