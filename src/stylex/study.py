"""`stylex study`: forms by which people judge what a search found, made from a run.

    stylex study make --run runs/leaves --out study     # study/, study-panel/, study-key.json
    stylex study simulate study --out answers           # a floor, not people
    stylex study score answers/*.json --key study-key.json

`study/` is for participants, `study-panel/` for experts. The key holds the right answers: keep it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from stylex import forms, given, pictures
from stylex.attfind import Search
from stylex.data import read_images
from stylex.forms import Form
from stylex.looking import spread
from stylex.metrics import random_attributes
from stylex.model import StylEx, in_batches
from stylex.participant import simulate
from stylex.runs import Run, now, read_json, stylex_version, write_json
from stylex.scoring import score
from stylex.shapes import Bounds, Images, Styles
from stylex.standing import standing_of
from stylex.stylespace import Attribute, shift

EXAMPLES = 4  # of one change, in the verbal study and the dossier
MOST_IMAGES = 500


@dataclass
class Item:
    """One question: what its pictures show, and the right answer where there is one.

    Args:
        kind: attribute, random or unchanged; the last two are controls.
        rows: images, by number.
        moves: what is done to each of the pictures; None changes nothing.
        right: A or B, in the classification study.
    """

    kind: str
    rows: list[int]
    moves: list[Attribute | None]
    right: str = ""
    images: list[int] = field(init=False)

    def __post_init__(self) -> None:
        """One image for each picture: A and B are the same one, or it would tell them apart."""
        self.images = [*self.rows, *self.rows[-1:]][: len(self.moves)]


@dataclass
class Pool:
    """The images of a study, as styles.

    Args:
        styles, bounds, strength: of the images, and of the search.
        classes: what the classifier decides of each reconstruction.
        chance: draws all that is drawn.
    """

    styles: Styles
    bounds: Bounds
    strength: float
    classes: Int64[Tensor, " n"]
    chance: Random

    def draw(self, count: int, *moves: Attribute, without: Sequence[int] = ()) -> list[int]:
        """Some images of another class than the first move's target, that all moves take far.

        Raises:
            ValueError: there are not enough of them.
        """
        able = [row for row in self._able(moves) if row not in without]
        if len(able) < count:
            raise ValueError(
                f"only {len(self.styles)} images to show changes on, too few of them of another "
                "class; give more by --data, or lower --repeats"
            )
        return self.chance.sample(able, count)

    def _able(self, moves: Sequence[Attribute]) -> list[int]:
        """The half that lies farther from the bounds (method.md 4.4, which takes the farthest)."""
        if not moves:
            return list(range(len(self.styles)))
        rows = (self.classes != moves[0].target).nonzero().flatten()
        span = (self.bounds[1] - self.bounds[0]).clamp_min(1e-9)
        ways = [
            ((self.bounds[m.direction] - self.styles[rows]).abs() / span)[:, m.coordinate]
            for m in moves
        ]
        order = torch.stack(ways).amin(0).argsort(descending=True, stable=True)
        return rows[order[: (len(order) + 1) // 2]].tolist()


def make(
    *,
    run: str,
    out: str = "study",
    data: str | None = None,
    count: int = 8,
    repeats: int = 2,
    controls: int = 4,
    contact: str = "the person who gave you this page",
    seed: int = 0,
    classifier: str | None = None,
) -> None:
    """Make the studies of a searched run: forms to hand out, and a key to keep.

    Args:
        run: directory of a run that was searched.
        out: folder for participants; the panel's folder and the key lie beside it, as OUT-panel
            and OUT-key.json.
        data: images to show the changes on; by default those of the search.
        count: attributes to ask about, each of another coordinate, by rank.
        repeats: how often the classification study asks about each attribute.
        controls: items of random coordinates, and as many of no change at all.
        contact: who answers for the study, in the consent text.
        seed: of images, pairs and order.
        classifier: needed only where the run could not keep it: file.py:function.
    """
    folder, panel, key = (
        Path(f"{Path(out).resolve()}{end}") for end in ("", "-panel", "-key.json")
    )
    for place in (folder, panel):
        if place.exists() and any(place.iterdir()):
            raise ValueError(f"{place} is not empty; give a new --out, or delete it")
    if key.exists():
        raise ValueError(
            f"{key} is an earlier study's, whose answers nobody can score without it; give a new "
            "--out, or move it"
        )
    found = Search.load(run)
    model = given.load(run, classifier)
    pool = _pool(model, found, data, seed)
    asked, others = chosen(found, model.layout.searched, count, controls, seed)
    numbers = {"repeats": repeats, "controls": controls}
    _check(len(asked), len(others), run=run, **numbers)
    plans: dict[Form, list[Item]] = {
        "classification": classification(pool, asked, others, **numbers),
        "verbal": verbal(pool, asked, others, controls),
        "panel": [_examples(pool, "attribute", move) for move in asked],
    }
    places: dict[Form, Path] = {"classification": folder, "verbal": folder, "panel": panel}
    shown = {form: _draw(model, pool, plan, places[form], form) for form, plan in plans.items()}
    metrics = read_json(Run(run).metrics) if Run(run).metrics.is_file() else {}
    about = {"version": forms.VERSION, "study": _digest(folder, panel)}
    attributes = {_name(move): _about(move, found, metrics) for move in asked}
    for form, plan in plans.items():
        questions = _questions(form, shown[form], plan, attributes, metrics)
        items = {name: addresses for name, (addresses, _) in shown[form].items()}
        told = about | {"form": form, "items": items}
        forms.write_form(places[form], form, questions, contact=contact, about=told)
    made = {"made": now(), "stylex": stylex_version(), "run": run, "data": data, "seed": seed}
    answers = {form: _key(plan, shown[form]) for form, plan in plans.items()}
    write_json(key, about | made | {"attributes": attributes} | answers)
    print(
        f"written: {folder} for participants (classification.html, verbal.html), {panel} for the "
        f"panel (panel.html)\nkeep: {key} holds the right answers; never hand it out"
    )


def chosen(
    found: Search, coordinates: int, count: int, controls: int, seed: int
) -> tuple[list[Attribute], list[Attribute]]:
    """The attributes to ask about, one for each coordinate, and random others as controls."""
    # of two ends that share a rank the one that moves its class more
    ranked = sorted(found.attributes, key=lambda move: (_rank(found, move), -move.effect))
    asked: dict[int, Attribute] = {}
    for move in ranked:
        asked.setdefault(move.coordinate, move)
    drawn = random_attributes(coordinates, coordinates=coordinates, target=0, seed=seed)
    others = [move for move in drawn if move.coordinate not in asked]
    return list(asked.values())[:count], others[:controls]


def _rank(found: Search, move: Attribute) -> int:
    return found.towards(move.target).index(move)


def _check(asked: int, others: int, *, repeats: int, controls: int, run: str) -> None:
    """Whether there is enough to ask about."""
    if repeats < 1 or controls < 0 or controls == 1:
        raise ValueError(
            f"repeats is {repeats} and controls is {controls}; wanted repeats from 1, and controls "
            "either 0 or from 2"
        )
    if asked < 2:
        raise ValueError(
            f"{run} offers {asked} attributes of different coordinates, a study needs 2; raise "
            "--count or search again"
        )
    if others < controls:
        raise ValueError(
            f"{run} has {others} coordinates that the search did not choose, wanted {controls} "
            "random ones; lower --controls"
        )


def _pool(model: StylEx, found: Search, data: str | None, seed: int) -> Pool:
    """The images of the search, or others, as the model redraws them."""
    device = model.mean_p.device
    if data is None:
        styles = found.styles.to(device)
    else:
        photos = read_images(data, **model.sizes)
        some = photos.batch(spread(len(photos), MOST_IMAGES))
        styles = in_batches(model.styles, some.to(device))
    classes = in_batches(model.score, styles).argmax(1)
    return Pool(styles.cpu(), found.bounds.cpu(), found.strength, classes.cpu(), Random(seed))


# What is asked


def classification(
    pool: Pool,
    asked: Sequence[Attribute],
    others: Sequence[Attribute],
    *,
    repeats: int,
    controls: int,
) -> list[Item]:
    """Items in a drawn order; of each kind A is right as often as B.

    Every move is right `repeats` times and as often the wrong candidate. Images of one move's items
    are all different.
    """
    items: list[Item] = []
    for kind, moves, times in (("attribute", asked, repeats), ("random", others, 1)):
        seen: dict[Attribute, list[int]] = {move: [] for move in moves}
        for i, (move, wrong) in enumerate(_beside(moves, times, pool.chance)):
            examples = pool.draw(2, move, without=seen[move])
            last = pool.draw(1, move, wrong, without=(*seen[move], *examples))
            seen[move] += examples + last
            turn, place = divmod(i, len(moves))
            right = "AB"[(turn + place) % 2]  # balanced over the moves, and over the turns of each
            candidates = [move, wrong] if right == "A" else [wrong, move]
            items.append(Item(kind, examples + last, [move, move, *candidates], right))
    items += [Item("unchanged", pool.draw(3), [None] * 4, "AB"[i % 2]) for i in range(controls)]
    pool.chance.shuffle(items)
    return items


def _beside(
    moves: Sequence[Attribute], times: int, chance: Random
) -> list[tuple[Attribute, Attribute]]:
    """Each move with another one, `times` over; each is the other one as often."""
    if not moves:
        return []
    n, first = len(moves), chance.randrange(len(moves) - 1)
    steps = [1 + (first + i) % (n - 1) for i in range(times)]
    return [(move, moves[(i + step) % n]) for step in steps for i, move in enumerate(moves)]


def verbal(
    pool: Pool, asked: Sequence[Attribute], others: Sequence[Attribute], controls: int
) -> list[Item]:
    """One item for each attribute, and controls of both kinds, in a drawn order."""
    few = controls // 2
    items = [_examples(pool, "attribute", move) for move in asked]
    items += [_examples(pool, "random", move) for move in others[:few]]
    items += [_examples(pool, "unchanged", None) for _ in range(few)]
    pool.chance.shuffle(items)
    return items


def _examples(pool: Pool, kind: str, move: Attribute | None) -> Item:
    rows = pool.draw(EXAMPLES, *([move] if move else []))
    return Item(kind, rows, [move] * EXAMPLES)


# What is shown

Shown = dict[str, tuple[list[str], list[list[tuple[float, float]]]]]


@torch.no_grad()
def _draw(model: StylEx, pool: Pool, plan: Sequence[Item], folder: Path, form: Form) -> Shown:
    """Write the pictures of a form; by item their addresses, and p of every class before, after."""
    shown: Shown = {}
    for number, item in enumerate(plan, start=1):
        name, addresses, chances = f"{number:02d}", [], []
        for slot, (row, move) in enumerate(zip(item.images, item.moves, strict=True), start=1):
            ends = _ends(model, pool, row, move)
            address = f"pictures/{form}-{name}-{slot}.png"
            pictures.save(pictures.sprite([ends]), folder / address)
            addresses.append(address)
            chances.append([(a, b) for a, b in model.probabilities(ends).T.tolist()])
        shown[name] = addresses, chances
    return shown


def _ends(model: StylEx, pool: Pool, row: int, move: Attribute | None) -> Images:
    """One image before and after a move: its reconstruction, and at the bound of the search."""
    before = pool.styles[row : row + 1]
    after = before
    if move is not None:
        after = shift(before, move.coordinate, move.direction, pool.bounds, pool.strength)
    return model.synthesize(torch.cat([before, after]).to(model.mean_p.device)).cpu()


def _questions(
    form: Form,
    shown: Shown,
    plan: Sequence[Item],
    attributes: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> dict[str, forms.Html]:
    """Each item as HTML."""
    if form == "classification":
        return {n: forms.classification_item(n, pictures) for n, (pictures, _) in shown.items()}
    if form == "verbal":
        return {n: forms.verbal_item(n, pictures) for n, (pictures, _) in shown.items()}
    questions = {}
    for (name, (addresses, chances)), item in zip(shown.items(), plan, strict=True):
        move = item.moves[0]
        assert move is not None
        about = attributes[_name(move)]
        about = about | {"probabilities": [each[move.target] for each in chances]}
        questions[name] = forms.panel_item(name, addresses, about, metrics)
    return questions


# The key


def _name(move: Attribute) -> str:
    return f"{move.coordinate}-{'high' if move.direction else 'low'}"


def _about(move: Attribute, found: Search, metrics: Mapping[str, Any]) -> dict[str, Any]:
    rank = _rank(found, move) + 1
    about = {name: getattr(move, name) for name in ("coordinate", "direction", "target")}
    about |= {name: getattr(move, name) for name in ("effect", "share", "layer")}
    title = f"Attribute {rank} towards {found.classes[move.target]}"
    return about | {"rank": rank, "title": title, "standing": standing_of(metrics, about)}


def _key(plan: Sequence[Item], shown: Shown) -> dict[str, Any]:
    """By item: its kind, what it shows on which images, and the right answer."""
    key: dict[str, Any] = {}
    for name, item in zip(shown, plan, strict=True):
        move, wrong = item.moves[0], next((m for m in item.moves if m != item.moves[0]), None)
        key[name] = {"kind": item.kind, "images": item.images}
        key[name] |= {"attribute": _name(move)} if move else {}
        key[name] |= {"beside": _name(wrong)} if wrong else {}
        key[name] |= {"right": item.right} if item.right else {}
    return key


def _digest(*folders: Path) -> str:
    """Names this study by its pictures, so that foreign answers are noticed."""
    files = sorted(file for folder in folders for file in folder.glob("pictures/*"))
    lines = (f"{file.name} {sha256(file.read_bytes()).hexdigest()}" for file in files)
    return sha256("\n".join(lines).encode()).hexdigest()[:12]


study = {"make": make, "simulate": simulate, "score": score}  # the commands
