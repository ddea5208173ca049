"""The planted benchmark: one cell is a scene, a rule and a seed, from drawn images to a score.

A classifier learns the rule, a StylEx explains the classifier, and what was found is compared with
what the classifier *uses*, measured on it. Two controls have nothing to find: a classifier of
random weights, and one that learned shuffled labels.
"""

import io
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath
from typing import Any, Literal, get_args

import torch

from stylex import explaining, flips, runs
from stylex.attfind import Search
from stylex.classifier import ABOUT_FILE, Classifier, load_classifier, save_classifier
from stylex.classifying import train_classifier
from stylex.data import ImageSet, read_splits
from stylex.edits import Edit, every_edit, score_edits
from stylex.looking import spread
from stylex.model import StylEx, in_batches
from stylex.pictures import to_picture
from stylex.readers import Reader, read_quality, readable, train_reader
from stylex.runs import Run, read_json, write_json
from stylex.scenes import SCENES, SPREAD, Factors, Scene
from stylex.scrutiny import scrutinise
from stylex.shapes import Images, Logits
from stylex.smallnet import SmallNet
from stylex.subjects import Subjects
from stylex.synthetic import CLASSES, Kind, Rule, draw_rule
from stylex.training import train
from stylex.truth import importance, margin

Control = Literal["", "random", "shuffled"]

COUNTS = {"train": 6000, "search": 300, "test": 400}
CLASSIFIER_IMAGES = 30_000  # seen by the small classifier
SEARCHED = 80  # images, of at most 100 promised
TESTED = 200  # images on which attributes are measured
LEAD = 3.0  # logits: spread of the random classifier's margin, about that of a trained one
SIDE = 32  # pixels


def cell(
    run: str,
    *,
    scene: str = "leaves",
    kind: Kind = "sum",
    seed: int = 0,
    control: Control = "",
    total_images: int = 12_000,
    progress: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Draw, train, search and score one cell; what is there already is not done again.

    Args:
        run: directory to write everything into.
        scene: leaves or cells.
        kind: of the rule: sum, and, xor.
        seed: of the rule, the images and all else.
        control: "random" for a classifier of random weights, "shuffled" for shuffled labels.
        total_images: length of the StylEx's training in images seen.
        progress: told what comes next.

    Returns:
        The settings; what `truth.score_found` gives; `twin_slope`, `twin_r2` and `twin_explained`
        over the attributes taken; `attributes`, one by one; `looked_at` attributes, how many
        `passed` the gates and how many of those falsely; `sufficiency10` and its confirmed share;
        `minutes` of the call that finished it.

    Raises:
        ValueError: no such scene or control, or the directory holds another cell.
    """
    checked(scene=scene, kind=kind, control=control)
    files, rule = Run(run), draw_rule(seed, scene=SCENES[scene], kind=kind)
    asked = {"scene": scene, "kind": kind, "seed": seed, "control": control}
    asked |= {"total_images": total_images}
    if files.planted.is_file():
        table = read_json(files.planted)
        if asked.items() <= table.items():
            return table
        raise ValueError(f"{run} holds another cell than {asked}; give another directory")
    began = time.monotonic()
    progress(f"{run}: {rule}")
    draw_images(rule, files, seed=seed, shuffled=control == "shuffled")
    make = random_classifier if control == "random" else small_classifier
    classifier = make(files, seed=seed)
    model = train(
        files.images,
        classifier,
        run=run,
        resolution=SIDE,
        total_images=total_images,
        perceptual="classifier",
        seed=seed,
        device="cpu",  # so many minutes of so many cores
    )
    splits = read_splits(files.images, resolution=SIDE)
    progress(f"{run}: searching")
    found = search(model, splits["search"], files, images_seen=total_images)
    progress(f"{run}: reading, twins, truth")
    reader = train_reader(rule.scene, seed=seed)
    factors = true_factors(rule.scene, splits["test"].names, "test", seed=seed)
    rows = spread(len(factors), TESTED)
    measured = measure(
        model,
        found,
        splits["test"].batch(rows),
        factors[rows],
        rule,
        reader=reader,
        control=control,
    )
    table = asked | {"rule": str(rule)} | measured
    table["minutes"] = (time.monotonic() - began) / 60
    write_json(files.planted, table)
    return table


def checked(*, scene: str, kind: str, control: str) -> None:
    """Refuse what there is no cell of.

    Raises:
        ValueError: no such scene, kind or control.
    """
    if scene not in SCENES or kind not in get_args(Kind) or control not in get_args(Control):
        raise ValueError(
            f"got scene {scene!r}, kind {kind!r}, control {control!r}; give {' or '.join(SCENES)}; "
            "sum, and or xor; random, shuffled or nothing"
        )


# --- images and classifiers ----------------------------------------------------------------------


def draw_images(rule: Rule, files: Run, *, seed: int, shuffled: bool = False) -> None:
    """Write the images of one rule as a zip of `split/class/number.png`, unless it is there.

    Args:
        rule: labels the images.
        files: the run.
        seed: of the factors.
        shuffled: give every image another's label; the images are the same.
    """
    if files.images.is_file():
        return
    draw, mix = (torch.Generator().manual_seed(seed) for _ in range(2))
    with runs.replacing(files.images) as part, zipfile.ZipFile(part, "w") as archive:
        for split, count in COUNTS.items():
            factors = rule.scene.sample(count, draw)
            labels = rule.labels(factors)
            if shuffled:
                labels = labels[torch.randperm(count, generator=mix)]
            images = rule.scene.render(factors, resolution=SIDE)
            for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
                png = io.BytesIO()
                to_picture(image).save(png, "PNG")
                # a fixed date: the same seed gives the same bytes
                name = zipfile.ZipInfo(f"{split}/{CLASSES[label]}/{number:05d}.png")
                archive.writestr(name, png.getvalue())


def true_factors(scene: Scene, names: Sequence[str], split: str, *, seed: int) -> Factors:
    """The factors of drawn images, by their file names: drawn again from the seed."""
    draw = torch.Generator().manual_seed(seed)
    tables = {name: scene.sample(count, draw) for name, count in COUNTS.items()}
    return tables[split][[int(PurePosixPath(name).stem) for name in names]]


def small_classifier(files: Run, *, seed: int) -> Classifier:
    """The classifier of the drawn images, trained unless it is there."""
    folder = files.path / "planted-classifier"
    if (folder / ABOUT_FILE).is_file():
        return load_classifier(folder)
    return train_classifier(
        files.images,
        folder,
        resolution=SIDE,
        total_images=CLASSIFIER_IMAGES,
        flips=False,
        seed=seed,
    )


@torch.no_grad()
def random_classifier(files: Run, *, seed: int) -> Classifier:
    """The same network with random weights, its margin as balanced and as wide as a trained one's.

    Left alone its logits would hardly move, and finding nothing would be no feat.
    """
    folder = files.path / "planted-classifier"
    if not (folder / ABOUT_FILE).is_file():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = SmallNet(3, len(CLASSES), resolution=SIDE)
        photos = read_splits(files.images, resolution=SIDE)["search"].batch(slice(None))
        lead = margin(network.eval()(photos))
        network.head.weight.mul_(LEAD / lead.std())
        network.head.bias.mul_(LEAD / lead.std())
        network.head.bias[1] -= lead.mean() * LEAD / lead.std()
        save_classifier(Classifier(network, CLASSES, size=SIDE), folder)
    return load_classifier(folder)


def search(model: StylEx, photos: ImageSet, files: Run, *, images_seen: int) -> Search:
    """AttFind on some of the search images, unless it was done at this point of the training."""
    if files.search.is_file():
        found = Search.load(files.path)
        if found.made.get("images_seen") == images_seen:
            return found
    found = explaining.search(model, photos.batch(spread(len(photos), SEARCHED)))
    found = replace(found, made=found.made | {"images_seen": images_seen})
    found.save(files.path)
    return found


# --- found against true --------------------------------------------------------------------------


def measure(
    model: StylEx,
    found: Search,
    photos: Images,
    factors: Factors,
    rule: Rule,
    *,
    reader: Reader,
    control: Control = "",
) -> dict[str, Any]:
    """Score a search on test images against the truth measured on the classifier.

    An attribute passes where most of its pixel energy is explained by its twins and no gate of
    `scrutiny` is shut for either class; it does so falsely where its main factor is not used, or
    where the labels were shuffled.

    Args:
        model: trained on images of the rule.
        found: attributes of its search images.
        photos, factors: test images and what they were drawn from.
        rule: what was planted.
        reader: of the rule's scene.
        control: of random weights nothing was planted, so no judge is asked.
    """
    names = rule.scene.factors
    classify, synthesize = (partial(in_batches, f) for f in (model.classifier, model.synthesize))
    judges = [] if control == "random" else [judge(rule, reader)]
    subjects = Subjects(model, photos, judges=judges)
    slope, r2 = read_quality(reader, factors, subjects.redrawn.images)
    kept = readable(slope, r2)
    true = importance(classify, rule.scene, seed=1, resolution=SIDE)
    given = {"factors": factors, "scene": rule.scene, "kept": kept}
    made = every_edit(synthesize, classify, reader.read, found, subjects.styles, **given)
    score = score_edits(made, true, monotone=rule.monotone and not control)
    evidence = scrutinise(subjects, found, count=max(1, len(made)))
    rows = [_row(rank, edit, score, evidence, names) for rank, edit in enumerate(made)]
    for row in rows:
        row["false"] = row["passed"] and (control == "shuffled" or not row["used"])
    return {
        "deciding": [names[k] for k in rule.deciding],
        **{key: value for key, value in score.items() if key not in ("main", "repeats", "taken")},
        "used": [names[k] for k in score["used"]],
        "readable": [name for name, good in zip(names, kept.tolist(), strict=True) if good],
        "reading": dict(zip(names, torch.stack([slope, r2], 1).tolist(), strict=True)),
        "importance": dict(zip(names, torch.stack([*true], 1).tolist(), strict=True)),
        "accuracy": model.classifier.about.get("accuracy"),
        "looked_at": len(rows),
        "passed": sum(row["passed"] for row in rows),
        "passed_falsely": sum(row["false"] for row in rows),
        "attributes": rows,
        **_flipped(flips.sufficiency(subjects, found, found.bounds)),
    }


def judge(rule: Rule, reader: Reader) -> Classifier:
    """The planted rule itself on what is read off the image: the judge that knows."""

    def logits(images: Images) -> Logits:
        lead = rule.margin(reader.read(images)) / SPREAD
        return torch.stack([-lead / 2, lead / 2], 1)

    return Classifier(logits, CLASSES, source="the planted rule")


def _row(
    rank: int,
    edit: Edit,
    score: Mapping[str, Any],
    evidence: Sequence[Mapping[str, Any]],
    names: Sequence[str],
) -> dict[str, Any]:
    """One attribute for a table; ranks start at 1."""
    its = [x for x in evidence if x["rank"] == rank + 1]
    shut = [[g["name"] for g in x["gates"] if g["passed"] is False] for x in its]
    main, repeats = score["main"][rank], score["repeats"].get(rank)
    return {
        "rank": rank + 1,
        "factor": None if main is None else names[main],
        "used": main in score["used"],
        "repeats": None if repeats is None else repeats + 1,
        "effect": edit.effects.mean().item(),
        "explained": edit.twins.explained,
        "changes": dict(zip(names, edit.changes.tolist(), strict=True)),
        "shut": sorted(set().union(*shut)),
        "passed": not edit.twins.false_discovery and any(not names_ for names_ in shut),
    }


def _flipped(pairs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """All attributes of a class together, at most ten: mean over the ordered pairs of classes."""
    table: dict[str, Any] = {}
    for name, key in (("sufficiency10", "flipped"), ("sufficiency10_confirmed", "confirmed")):
        shares = [pair[key][-1] for pair in pairs.values() if pair.get(key)]
        shares = [share for share in shares if share is not None]
        table[name] = sum(shares) / len(shares) if shares else None
        if not shares:
            table[f"why_{name}"] = "no attributes, or no image that classifier and judge agree on"
    return table
