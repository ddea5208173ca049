"""Would an explanation show a shortcut in your own photos? A mark is planted, and looked for.

    plant(data="leaves.zip", run="runs/plant", mark="tint", share=(0.5, 1.0))

The mark goes on a share of one class, a classifier learns from these photos, a StylEx explains the
classifier, and the mark's own reader says which attribute, if any, brings the mark.
"""

import math
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool
from rich.console import Console
from rich.table import Table
from torch import Tensor

from stylex import pictures
from stylex.attfind import Search, class_index
from stylex.data import ImageSet, read_splits
from stylex.drawing import small_classifier
from stylex.flips import top
from stylex.looking import spread
from stylex.marks import MARKS, Mark, with_room
from stylex.metrics import bootstrap_interval, random_attributes
from stylex.model import StylEx, in_batches
from stylex.planting import TESTED, search
from stylex.runs import Run, read_json, write_json
from stylex.selection import CHANGED, lead
from stylex.shapes import Images
from stylex.stylespace import Attribute, shift, shift_all
from stylex.training import train

CHANNELS = 3  # of the written photos: gray ones too, for a tint is none
COUNT = 10  # attributes that are looked at
SHOWN = 8  # photos in a picture
BROUGHT = 0.25  # of a full mark, that an attribute must bring to be the mark [O]
OWED = 0.5  # share of the attribute's effect that the brought mark alone must have [O]


def plant(
    *,
    data: str,
    run: str,
    mark: Literal["watermark", "tint", "ruler", "frame"] = "watermark",
    share: tuple[float, ...] = (1.0,),
    marked: str | None = None,
    resolution: int = 32,
    budget: str | None = None,
    total_images: int = 24_000,
    classifier_images: int = 60_000,
    seed: int = 0,
) -> dict[str, Any]:
    """Plant a mark in one class of your photos, and see whether the explanation finds it.

    Args:
        data: folder or zip of photos; the folder that holds a photo names its class.
        run: directory to write everything into, a run for each share; the same command goes on.
        mark: watermark (a light cross in a corner), tint (of the whole picture), ruler (ticks along
            the bottom) or frame (a brighter edge).
        share: of the photos of the class that get the mark; the others never do. Several may be
            given: from which on does the classifier use the mark, and is it found?
        marked: the class; by default the last one.
        resolution: side in pixels, a power of two from 32 to 256.
        budget: of the StylEx's training for each share, a time such as 5m, in place of
            --total-images.
        total_images: length of the StylEx's training in images seen.
        classifier_images: seen by the classifier in training.
        seed: of which photos get the mark, and of all else.

    Returns:
        The numbers of `plant.json`: the smallest share from which on the mark is `used` and
        `found` at all shares, and for each share the `correlation` of mark and class and what
        `look_for` measured.

    Raises:
        FileNotFoundError: there are no such photos.
        ValueError: photos without classes, no such class, a share that is none, or a run that was
            begun with another mark, class or other photos.
    """
    began, console = time.monotonic(), Console(soft_wrap=True, highlight=False, markup=False)
    if wrong := [part for part in share if not 0 < part <= 1]:
        raise ValueError(f"share is {wrong[0]:g}; wanted above 0 and at most 1, change it")
    photos = read_splits(data, resolution=resolution)
    classes = photos["train"].classes
    if len(classes) < 2:
        raise ValueError(
            f"{data} has photos in {len(classes)} class folders; wanted two or more, put the "
            "photos of each class into a folder of its name"
        )
    target = len(classes) - 1 if marked is None else class_index(classes, marked)
    rows = []
    for part in sorted(set(share)):
        files = Run(Path(run) / f"share-{part:g}")
        together = correlation(photos["train"].labels or (), classes[target], part)
        console.print(f"\n{mark} on {part:.0%} of {classes[target]}  {files.path}", style="bold")
        console.print(f"mark and class correlate at {together:.2f}")
        write_photos(photos, MARKS[mark], classes[target], files, share=part, seed=seed)
        same: dict[str, Any] = {"seed": seed, "resolution": resolution}
        model = train(
            files.images,
            small_classifier(files, total_images=classifier_images, **same),
            run=files.path,
            channels=CHANNELS,
            budget=budget,
            total_images=total_images,
            perceptual="classifier",
            **same,
        )
        console.print("searching")
        written = read_splits(files.images, resolution=resolution)["search"]
        found = search(model, written, files)
        test = photos["test"].batch(spread(len(photos["test"]), TESTED))
        row = {"share": part, "correlation": together}
        row |= look_for(model, found, MARKS[mark], with_room(test), target=target)
        picture(model, found, MARKS[mark], with_room(test), row, target=target, files=files)
        console.print(row["says"])
        rows.append(row)
    table = {"data": data, "mark": mark, "class": classes[target], "seed": seed, "shares": rows}
    table |= {word: onset(rows, word) for word in ("used", "found")}
    table["minutes"] = (time.monotonic() - began) / 60
    write_json(Run(run).plant, table)
    console.print(as_table(table))
    console.print(f"written: {Run(run).plant}, and share-*/mark.png")
    return table


# --- photos, classifier, search ------------------------------------------------------------------


def write_photos(
    photos: dict[str, ImageSet], mark: Mark, marked: str, files: Run, *, share: float, seed: int
) -> None:
    """Write all photos with room for a mark, some of one class with it, unless they are there.

    Raises:
        ValueError: others are there.
    """
    asked: dict[str, Any] = {"mark": mark.name, "class": marked, "share": share, "seed": seed}
    asked |= {f"{split} photos": images.hash[:12] for split, images in photos.items()}
    if files.images.is_file():
        then = read_json(files.plant) if files.plant.is_file() else {}
        for name in (name for name in asked if then.get(name) != asked[name]):
            raise ValueError(
                f"{files.path} was begun with {name} {then.get(name, 'unknown')}, now it is "
                f"{asked[name]}; give the same, or another --run"
            )
        return
    of_class = (photos["train"].labels or ()).count(marked)
    if share and not round(share * of_class):
        raise ValueError(f"{share:g} of {of_class} photos of {marked} is none; give a larger share")
    write_json(files.plant, asked)

    def named() -> Iterator[tuple[str, Tensor]]:
        draw = torch.Generator().manual_seed(seed)
        for split, images in photos.items():
            gets = chosen(images.labels or (), marked, share, draw)
            for row, label in enumerate(images.labels or ()):
                image = with_room(images.batch([row]))
                image = mark.stamp(image, 1.0) if gets[row] else image
                if label:  # what lies in no folder has no class
                    yield f"{split}/{label}/{row:06d}.png", image[0]

    pictures.pack(named(), files.images)


def chosen(
    labels: Sequence[str], marked: str, share: float, draw: torch.Generator
) -> Bool[Tensor, " n"]:
    """Which photos get the mark: a share of one class, the nearest whole number of them."""
    rows = [row for row, label in enumerate(labels) if label == marked]
    order = torch.randperm(len(rows), generator=draw)[: round(share * len(rows))]
    gets = torch.zeros(len(labels), dtype=torch.bool)
    gets[torch.tensor(rows, dtype=torch.long)[order]] = True
    return gets


def correlation(labels: Sequence[str], marked: str, share: float) -> float:
    """Of a mark on this share of one class with being of that class (phi)."""
    part = labels.count(marked) / sum(map(bool, labels))  # what has no class is left out
    return math.sqrt(share * (1 - part) / (1 - part * share))


def onset(rows: Sequence[dict[str, Any]], word: str) -> float | None:
    """The smallest share from which on it holds for all of them, which ascend."""
    share = None
    for row in reversed(rows):
        if not row[word]:
            break
        share = row["share"]
    return share


# --- the mark looked for -------------------------------------------------------------------------


def look_for(
    model: StylEx, found: Search, mark: Mark, photos: Images, *, target: int
) -> dict[str, Any]:
    """What the mark does to the classifier, and which attribute towards the class brings it.

    Args:
        model: the StylEx that was searched.
        found: its search.
        mark: what was planted.
        photos: test photos without the mark, with room for it, `[n, c, h, w]`.
        target: index of the class that carries the mark.

    Returns:
        `effect`: mean rise of the class's margin when the mark is put on a photo, in logits, with
        its 95 % interval `low`, `high`; `used`, whether `low` is above 0.2 logits; `attributes`,
        see `brought`, and all of them `together`; `found`, the rank of the first that is the mark,
        or None; `floor`, the most of a mark that any of as many random coordinates brings;
        `agreement`, the share of photos whose class the classifier keeps when they are redrawn;
        `accuracy` on the photos as written; and what it `says`, in words.
    """
    photos, classify = photos.to(model.mean_p.device), partial(in_batches, model.classifier)
    before = classify(photos)
    rises = lead(classify(mark.stamp(photos, 1.0)), target) - lead(before, target)
    low, high = bootstrap_interval(rises, seed=0)
    styles = in_batches(model.styles, photos)
    redrawn = in_batches(model.synthesize, styles)
    agreement = (classify(redrawn).argmax(1) == before.argmax(1)).float().mean().item()
    rows = before.argmax(1) != target
    ours = found.towards(target)[:COUNT] if rows.any() else ()
    chance = random_attributes(len(ours), coordinates=model.layout.searched, target=target)
    given = {"photos": photos[rows], "styles": styles[rows], "redrawn": redrawn[rows]}
    weigh = partial(brought, model, found, mark=mark, target=target, **given)
    attributes = [
        {"rank": rank, "coordinate": a.coordinate, "direction": a.direction} | weigh([a])
        for rank, a in enumerate(ours, start=1)
    ]
    table = {
        "effect": rises.mean().item(),
        "low": low,
        "high": high,
        "used": low > CHANGED,
        "attributes": attributes,
        "found": next((a["rank"] for a in attributes if a["is_mark"]), None),
        "together": weigh(top(found, target, COUNT)) if ours else None,
        "floor": max((weigh([a])["brings"] for a in chance), default=None),
        "agreement": agreement,
        "accuracy": model.classifier.about.get("accuracy"),
    }
    return table | {"says": in_words(table, mark, model.classes[target])}


def brought(
    model: StylEx,
    found: Search,
    attributes: Sequence[Attribute],
    *,
    mark: Mark,
    target: int,
    photos: Images,
    styles: Tensor,
    redrawn: Images,
) -> dict[str, Any]:
    """Attributes beside twins: the photos with as much of the mark as the edit brought.

    Args:
        model, found, attributes: what is applied together, at strength 1.
        mark: what is read.
        target: class whose margin is measured.
        photos, styles, redrawn: photos of other classes, and how the model draws them.

    Returns:
        `brings`: mean change of the mark, in full marks; `effect` of the edit and `twin_effect` of
        the mark alone, mean rises of the margin in logits; `explained`, the share of the edits'
        pixel energy that the mark alone is; and whether it `is_mark`: brings a quarter of a mark
        or more, which alone has half of the effect or more.
    """
    classify = partial(in_batches, model.classifier)
    edited = in_batches(model.synthesize, shift_all(styles, attributes, found.bounds))
    change = mark.read(edited) - mark.read(redrawn)
    twins = mark.stamp(photos, change)
    energy = (edited - redrawn).square().sum()
    left = ((edited - redrawn) - (twins - photos)).square().sum() / energy.clamp_min(1e-12)
    seen = [lead(classify(images), target) for images in (edited, redrawn, twins, photos)]
    effect, alone = ((after - base).mean().item() for after, base in (seen[:2], seen[2:]))
    brings = change.mean().item()
    return {
        "brings": brings,
        "effect": effect,
        "twin_effect": alone,
        "explained": (1 - left).clamp_min(0).item() if energy > 0 else 0.0,
        "is_mark": brings >= BROUGHT and effect > 0 and alone >= OWED * effect,
    }


# --- shown ---------------------------------------------------------------------------------------


def in_words(table: dict[str, Any], mark: Mark, name: str) -> str:
    """What one share showed, in two sentences."""
    uses = "uses" if table["used"] else "does not use"
    says = (
        f"The classifier {uses} the {mark.name}: put on a photo it raises {name} by "
        f"{table['effect']:.2f} logits ({table['low']:.2f} to {table['high']:.2f})."
    )
    if not table["attributes"]:
        return f"{says} There is no attribute towards {name}, or no photo to try one on."
    best = _best(table)
    about = (
        f"brings {best['brings']:.2f} of a full {mark.name} (a random coordinate at most "
        f"{table['floor']:.2f}), which alone has {best['twin_effect']:.2f} of its effect of "
        f"{best['effect']:.2f} logits."
    )
    if table["found"]:
        return f"{says} The explanation found it: attribute {best['rank']} {about}"
    together = table["together"]
    return (
        f"{says} The explanation did not find it: the nearest, attribute {best['rank']}, {about} "
        f"All {len(table['attributes'])} together bring {together['brings']:.2f}, for "
        f"{together['effect']:.2f} logits."
    )


def _best(table: dict[str, Any]) -> dict[str, Any]:
    """The attribute that is the mark, or the one that brings most of it."""
    found = [a for a in table["attributes"] if a["rank"] == table["found"]]
    return found[0] if found else max(table["attributes"], key=lambda a: a["brings"])


def picture(
    model: StylEx,
    found: Search,
    mark: Mark,
    photos: Images,
    table: dict[str, Any],
    *,
    target: int,
    files: Run,
) -> None:
    """Photos of other classes without and with the mark, and redrawn before and after an edit.

    Args:
        model, found: what was searched.
        mark: what was planted.
        photos: test photos without the mark.
        table: what `look_for` said of them.
        target: class that carries the mark.
        files: the run.
    """
    photos = photos.to(model.mean_p.device)
    photos = photos[in_batches(model.classifier, photos).argmax(1) != target]
    photos = photos[spread(len(photos), SHOWN)]
    if not (len(photos) and table["attributes"]):
        return
    best, styles = _best(table), in_batches(model.styles, photos)
    moved = shift(styles, best["coordinate"], best["direction"], found.bounds)
    before, after = (in_batches(model.synthesize, s) for s in (styles, moved))
    change = torch.stack(
        [pictures.difference_map(*pair) for pair in zip(before, after, strict=True)]
    )
    rows = {
        "photo": photos,
        f"with the {mark.name}": mark.stamp(photos, 1.0),
        "redrawn": before,
        f"attribute {best['rank']}": after,
        "difference": change,
    }
    pictures.save(pictures.sheet(list(rows.values()), list(rows), scale=3), files.mark)


def as_table(table: dict[str, Any]) -> Table:
    """All shares, for a terminal."""
    names = ("share", "correlation", "effect of the mark", "used", "found as", "brings")
    shown = Table(*names, "random brings")
    for row in table["shares"]:
        best = _best(row) if row["attributes"] else None
        shown.add_row(
            f"{row['share']:g}",
            f"{row['correlation']:.2f}",
            f"{row['effect']:.2f} ({row['low']:.2f} to {row['high']:.2f})",
            "yes" if row["used"] else "no",
            f"attribute {row['found']}" if row["found"] else "not found",
            f"{best['brings']:.2f}" if best else "-",
            f"{row['floor']:.2f}" if best else "-",
        )
    return shown
