"""A simulated participant: it looks at the pictures as numbers and fills in both forms.

It sees the folder that people see and nothing else. What it reaches is a floor: people who do no
better have seen no more than where pixels changed. It is never counted as a person.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from stylex.runs import write_json

SEEN = 2 / 255  # a change below this, of the whole range, is none
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "", "right")
COLOURS = ("redder", "greener", "bluer")


def contents(page: Path) -> dict[str, Any]:
    """What a form's page says of itself: version, study, form, and the pictures of each item.

    Raises:
        FileNotFoundError: there is no such page.
        ValueError: it is no form of a study.
    """
    if not page.is_file():
        raise FileNotFoundError(
            f"{page} is missing; give the folder that `stylex study make` wrote for participants"
        )
    text = page.read_text(encoding="utf-8", errors="replace")
    found = re.search(r'<script type="application/json" id="study">(.*?)</script>', text, re.DOTALL)
    if found is None:
        raise ValueError(f"{page} is no form of a study; give one that `stylex study make` wrote")
    return json.loads(found[1])


def difference(picture: Path) -> np.ndarray:
    """What changes between the halves of a picture: after minus before, `[h, w, 3]` in [-1, 1]."""
    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("RGB"), dtype=np.float64) / 255
    before, after = np.split(pixels, 2, axis=1)
    return after - before


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Cosine of two difference maps; 0 where one of them is empty."""
    norms = np.linalg.norm(one) * np.linalg.norm(other)
    return float((one * other).sum() / norms) if norms else 0.0


def choose(maps: Sequence[np.ndarray], chance: Random) -> str:
    """A or B: whose difference map is more like those of the two examples; a tie is drawn.

    Args:
        maps: of example 1, example 2, A and B.
        chance: for ties.
    """
    first, second, *candidates = maps
    a, b = (similarity(first, map_) + similarity(second, map_) for map_ in candidates)
    return chance.choice("AB") if a == b else "A" if a > b else "B"


def describe(map_: np.ndarray) -> str:
    """Where a change is strongest and what it does there, in words; nothing where none is seen."""
    if np.abs(map_).max() < SEEN:
        return ""
    cells = {
        f"{row} {column}".strip(): cell
        for row, band in zip(ROWS, np.array_split(map_, 3, axis=0), strict=True)
        for column, cell in zip(COLUMNS, np.array_split(band, 3, axis=1), strict=True)
    }
    where = max(cells, key=lambda name: np.abs(cells[name]).mean())
    red_green_blue = cells[where].mean((0, 1))
    light = red_green_blue.mean()
    tint = red_green_blue - light
    if np.abs(tint).max() > abs(light):
        return f"{where} {COLOURS[int(tint.argmax())]}"
    return f"{where} {'brighter' if light > 0 else 'darker'}"


def answer(folder: Path, form: str, pictures: Sequence[str], chance: Random) -> dict[str, str]:
    """Its answer to one item, as the page writes it."""
    if form == "classification":
        return {"choice": choose([difference(folder / name) for name in pictures], chance)}
    words = describe(difference(folder / chance.choice(pictures)))
    return {"words": words} if words else {"hard": "yes"}


def take(page: Path, *, seed: int = 0) -> dict[str, Any]:
    """Fill in a whole form without a browser.

    Args:
        page: `classification.html` or `verbal.html` of a study.
        seed: one participant each; it decides ties and which example is described.

    Returns:
        The answers, marked as simulated, as the page's download has them.
    """
    about, chance = contents(page), Random(seed)
    answers = {
        name: answer(page.parent, about["form"], pictures, chance)
        for name, pictures in about["items"].items()
    }
    return {
        "version": about["version"],
        "study": about["study"],
        "form": about["form"],
        "participant": f"simulated-{seed}",
        "simulated": True,
        "still": True,
        "of": len(answers),
        "answers": answers,
    }


def simulate(study: str, /, *, out: str = ".", count: int = 5, seed: int = 0) -> None:
    """Let simulated participants fill in both forms: the floor beside which people are read.

    They compare the same maps alike, so only the first one takes the classification study: copies
    would feign precision.

    Args:
        study: the folder that `stylex study make` wrote for participants.
        out: directory of the answers.
        count: simulated participants of the verbal study.
        seed: of the first one.
    """
    taken = [("classification", seed), *(("verbal", seed + i) for i in range(count))]
    for form, number in taken:
        answers = take(Path(study) / f"{form}.html", seed=number)
        write_json(Path(out) / f"simulated-{form}-{number}.json", answers)
    print(f"written: {len(taken)} files of simulated answers in {out}; they are not people")
