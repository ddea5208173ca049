"""Pictures and JSON of attributes and explanations, written into the run directory.

The report, and whoever reads a run without torch, shows exactly these files.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from rich.table import Table
from torch import Tensor

from stylex import pictures, runs
from stylex.attfind import Search, class_index
from stylex.classifier import Classifier
from stylex.counterfactual import Step
from stylex.explaining import Explanation, explain
from stylex.ledger import key_of
from stylex.looking import spread
from stylex.losses import Distance, Perceptual, perceptual_distance
from stylex.model import StylEx
from stylex.notes import UNSAID, Note, called, name_attributes, name_steps, read_notes
from stylex.photos import open_image, to_unit
from stylex.runs import Run, read_json, write_json
from stylex.selection import considered, stable
from stylex.shapes import Images
from stylex.stylespace import Attribute, shift

STEM = 120  # bytes of a photo's name in that of its explanation's folder
FRAMES = 9  # of a slider, from the image to the strength of the search
EXAMPLES = 4
LEAST_EXAMPLES, LEAST_RISE = 3, 0.1  # method.md 4.4
EFFECTS = 200  # kept of an attribute, evenly among all: enough to draw how they lie


@torch.no_grad()
def illustrate(model: StylEx, found: Search, names: Sequence[str], run: str | Path) -> None:
    """Write one folder per attribute: example frames, a before/after animation, a difference map.

    Args:
        model: the StylEx that was searched.
        found: the search; its styles are the images that can serve as examples.
        names: of those images, in the same order.
        run: the run directory.
    """
    files = Run(run)
    shutil.rmtree(files.attributes, ignore_errors=True)  # of an earlier search
    for target in range(len(model.classes)):
        for rank, attribute in enumerate(found.towards(target), start=1):
            folder = files.attribute(target, rank)
            about, films = _example_films(model, found, attribute, names)
            write_json(folder / runs.ATTRIBUTE, {"rank": rank} | about)
            if films:
                _draw(films, about["examples"], folder)
    name_attributes(run)


def _example_films(
    model: StylEx, found: Search, attribute: Attribute, names: Sequence[str]
) -> tuple[dict[str, Any], list[Images]]:
    """What is known of an attribute, and its frames on each example; too few are not shown."""
    rows = examples(found, attribute)
    enough = len(rows) >= LEAST_EXAMPLES
    effects = found.effects[stable(found.effects), attribute.coordinate, attribute.direction]
    ordered = effects[:, attribute.target].sort().values[spread(len(effects), EFFECTS)]
    about = asdict(attribute) | {
        "strengths": strengths(found),
        "mean_effects": effects.mean(0).tolist(),
        "effects": [round(effect, 3) for effect in ordered.tolist()],
        "enough": enough,
        "examples": [],
    }
    if not enough:
        about["says"] = (
            f"Only {len(rows)} of the search images that are not {model.classes[attribute.target]} "
            f"gain {LEAST_RISE} of probability by this attribute alone; "
            f"{LEAST_EXAMPLES} are wanted to show it."
        )
        return about, []
    films = [film(model, found, attribute, found.styles[n : n + 1]) for n in rows]
    for n, frames in zip(rows, films, strict=True):
        logits = model.classifier(frames)
        probability = logits.softmax(1)[:, attribute.target].tolist()
        example = {"name": names[n], "logits": logits.tolist(), "probability": probability}
        about["examples"].append(example)
    return about, films


def examples(found: Search, attribute: Attribute) -> list[int]:
    """Rows of the search images to show an attribute on (method.md 4.4, notebook).

    Stable images of another class, farthest from the bound first, whose probability of the target
    rises by at least 0.1.
    """
    c = attribute.target
    others = (found.logits.argmax(1) != c) & stable(found.effects)
    rows = others.nonzero().flatten()
    bound = found.bounds[attribute.direction, attribute.coordinate]
    distance = (bound - found.styles[rows, attribute.coordinate]).abs()
    rows = rows[distance.argsort(descending=True, stable=True)]
    effects = found.effects[rows, attribute.coordinate, attribute.direction]
    before = found.logits[rows].softmax(1)[:, c]
    after = (found.logits[rows] + effects).softmax(1)[:, c]
    return rows[after - before >= LEAST_RISE][:EXAMPLES].tolist()


def strengths(found: Search) -> list[float]:
    """Strength of each frame of a film: from the image to the strength of the search."""
    return [found.strength * i / (FRAMES - 1) for i in range(FRAMES)]


def film(
    model: StylEx, found: Search, attribute: Attribute, styles: Float[Tensor, "1 s"]
) -> Float[Tensor, "frames c h w"]:
    """One image under growing strength."""
    coordinate, direction = attribute.coordinate, attribute.direction
    moved = [shift(styles, coordinate, direction, found.bounds, x) for x in strengths(found)]
    return model.synthesize(torch.cat(moved))


def _draw(films: list[Images], shown: list[dict[str, Any]], folder: Path) -> None:
    pictures.save(pictures.sprite(films), folder / runs.SPRITE)
    flicker = [
        pictures.captioned(
            torch.stack([frames[at] for frames in films]),
            [f"{example['probability'][at]:.0%}" for example in shown],
        )
        for at in (0, -1)
    ]
    pictures.animate(flicker, folder / runs.BEFORE_AFTER)
    maps = torch.stack([pictures.difference_map(frames[0], frames[-1]) for frames in films])
    pictures.save(pictures.sprite([maps]), folder / runs.MAP)


def not_found(found: Search, target: str | int | None = None) -> list[str]:
    """What a search was to find and did not, in words.

    Args:
        found: the search.
        target: the class it was for; every class by default.
    """
    if found.made["left_out"] == found.made["images"]:
        return [
            f"no attribute: all {found.made['images']} images were left out as unstable, too many "
            "of their effects exceed 2 logits; try a lower strength or a calibrated classifier"
        ]
    sought = range(len(found.classes)) if target is None else [class_index(found.classes, target)]
    return [
        f"{its or 'no'} attribute{'s' if its > 1 else ''} towards {found.classes[c]}: "
        + (f"{count} were wanted, {_NO_MORE[found.rule]}" if its else _why_none(found, c))
        for c in sought
        if c != found.source and (its := len(found.towards(c))) < (count := found.made["count"])
    ]


# why a list is shorter than was wanted
_NO_MORE = {
    "subset": "no other move takes its images further",
    "cumulative": "no other move explains what they do not",
    "single": "no other move explains what they do not",
    "share": "no other move changes enough images",
}


def _why_none(found: Search, target: int) -> str:
    if considered(found.logits, target=target, source=found.source).any():
        return "no coordinate raises its logit"
    source = "another class" if found.source is None else found.classes[found.source]
    return f"no search image is decided as {source}"


def as_table(found: Search) -> Table:
    """What a search found, for a terminal."""
    table = Table("towards", "rank", "coordinate", "direction", "at", "alone", "images changed")
    for target, name in enumerate(found.classes):
        for rank, a in enumerate(found.towards(target), start=1):
            way = "high" if a.direction else "low"
            at, effect = f"{a.resolution} px", f"{a.effect:+.2f} logits"
            table.add_row(name, str(rank), str(a.coordinate), way, at, effect, f"{a.share:.0%}")
    return table


def write_explanation(
    answer: Explanation, found: Search, name: str, run: str | Path, *, floors: dict[str, Any]
) -> Path:
    """Write one explanation: JSON, a strip, an animation, a difference map per attribute.

    Args:
        answer: what `explain` returned.
        found: the search, for the ranks of its attributes.
        name: of the image.
        run: the run directory.
        floors: agreement of the model with its floors, which never stands without them.

    Returns:
        The folder.
    """
    data, place = as_data(answer, found, name, floors), f"-to-{answer.classes[answer.target]}"
    stem = Path(name).stem.encode()[:STEM].decode(errors="ignore")
    folder = Run(run).explanation(stem + place)
    there = folder / runs.EXPLANATION
    same = {name: data[name] for name in ("pixels", "target")}
    if there.is_file() and not same.items() <= (same | read_json(there)).items():
        # a photo of the same name, or a class of which the same is left in a folder's name
        folder = Run(run).explanation(f"{stem}-{data['pixels'][:6]}-{answer.target}{place}")
    folder.mkdir(parents=True, exist_ok=True)
    notes = read_notes(run)
    name_steps(data, notes)
    write_json(folder / runs.EXPLANATION, data)
    _draw_pictures(answer, found, folder, notes)
    return folder


def explain_file(
    model: StylEx, found: Search, photo: str | Path, run: str | Path, **options: Any
) -> tuple[dict[str, Any], Path]:
    """Explain an image file of any size and write the answer into the run.

    Args:
        model: of the run.
        found: the search of the run.
        photo: the image file.
        run: the run directory.
        options: `target`, `count` and `strength` of `explain`.

    Returns:
        The answer as data, and its folder.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no image, or what `explain` refuses.
    """
    files = Run.open(run)
    about = read_json(files.about)
    table = read_json(files.metrics) if files.metrics.is_file() else {}
    pixels = open_image(photo, strange=False, **model.sizes)
    answer = explain(
        model,
        to_unit(pixels[None]),
        found,
        distance=usable_distance(about["settings"]["perceptual"], model.classifier),
        usual_l1=table.get("reconstruction", {}).get("l1"),
        **options,
    )
    floors = table.get("agreement", {})
    folder = write_explanation(answer, found, Path(photo).name, run, floors=floors)
    return read_json(folder / runs.EXPLANATION), folder


def usable_distance(kind: Perceptual, classifier: Classifier) -> Distance | None:
    """The perceptual distance of the training; none where it had none or its weights are gone."""
    try:
        return None if kind == "none" else perceptual_distance(kind, classifier)
    except ValueError:
        return None


def as_text(answer: dict[str, Any]) -> str:
    """An answer as JSON."""
    return json.dumps(answer, indent=1, ensure_ascii=False)


def in_words(answer: dict[str, Any]) -> str:
    """An answer in a few lines, with its doubts."""
    name, steps = answer["classes"][answer["target"]], answer["steps"]
    photo, drawn = (
        f"{_chance(answer[logits], answer['target']):.0%}"
        for logits in ("photo_logits", "reconstruction_logits")
    )
    lines = [f"{answer['image']}: {name} {photo}, as drawn {drawn} (L1 {answer['l1']:.3f})"]
    lines += [f"careful: {says}" for says in answer["warnings"]]
    lines += ["each alone (change in logits):"]
    lines += [
        f"  {_title(step)}: {name} {step['probability']:.0%} ({step['effect']:+.2f})"
        for step in steps["independent"]
    ]
    lines += ["together, one after the other:"] if steps["subset"] else []
    lines += [
        f"  + {_title(step)}: {name} {step['probability']:.0%}"
        + ("  the decision flips" if step["flipped"] else "")
        for step in steps["subset"]
    ]
    if answer["flipped_at"] == 0:
        lines.append(f"the reconstruction is decided as {name} already")
    elif not answer["flipped"]:
        lines.append("the decision does not flip with the attributes found")
    if answer["agreement_floors"]:
        shares = agreement_in_words(answer["agreement_floors"])
        lines.append(f"agreement of drawn and photo: {shares}")
    return "\n".join(lines)


def _title(step: dict[str, Any]) -> str:
    return called(step, f"attribute {step['rank']}")


def _chance(logits: Sequence[float], target: int) -> float:
    return torch.tensor(logits).softmax(0)[target].item()


def agreement_in_words(shares: dict[str, float]) -> str:
    """Never without its floors (trap 11)."""
    return (
        f"{shares['own']:.0%}; floors: mean w {shares['mean_w']:.0%}, another's w "
        f"{shares['other_w']:.0%}, swapped p {shares['swapped_p']:.0%}, mean p "
        f"{shares['mean_p']:.0%}, commonest class {shares['chance']:.0%}"
    )


def as_data(
    answer: Explanation, found: Search, name: str, floors: dict[str, Any]
) -> dict[str, Any]:
    """An explanation as plain data."""
    ranks = _ranks(answer, found)

    def plain(step: Step) -> dict[str, Any]:
        return {
            "coordinate": step.attribute.coordinate,
            "direction": step.attribute.direction,
            "rank": ranks[_move(step.attribute)],
            "effect": step.effect,
            "probability": step.probability,
            "flipped": step.flipped,
        }

    unmeasured = {"why_perceptual": "no perceptual distance was available"}
    return {
        "image": name,
        "pixels": key_of("", [answer.photo]),  # tells photos of one name apart
        "created": runs.now(),
        "classes": list(answer.classes),
        "target": answer.target,
        "photo_logits": list(answer.photo_logits),
        "reconstruction_logits": list(answer.reconstruction_logits),
        "l1": answer.l1,
        "perceptual": answer.perceptual,
        **(unmeasured if answer.perceptual is None else {}),
        "warnings": list(answer.warnings),
        "agreement_floors": floors,
        "steps": {
            "independent": [plain(step) for step in answer.independent],
            "subset": [plain(step) for step in answer.subset],
        },
        "flipped": answer.flipped_at is not None,
        "flipped_at": answer.flipped_at,
    }


def _move(attribute: Attribute) -> tuple[int, int]:
    return attribute.coordinate, attribute.direction


def _ranks(answer: Explanation, found: Search) -> dict[tuple[int, int], int]:
    """Rank of each move among the attributes towards the target."""
    return {_move(a): rank for rank, a in enumerate(found.towards(answer.target), start=1)}


def _draw_pictures(
    answer: Explanation, found: Search, folder: Path, notes: Mapping[int, Note]
) -> None:
    """The strip and animation of the attributes together, the maps of each alone."""
    name, ranks = answer.classes[answer.target], _ranks(answer, found)

    def title(step: Step) -> str:
        said = notes.get(step.attribute.coordinate, UNSAID)
        return called(said, f"attribute {ranks[_move(step.attribute)]}")

    images = torch.cat([answer.photo, answer.reconstruction, answer.together])
    captions = [
        f"photo\n{name} {_chance(answer.photo_logits, answer.target):.0%}",
        f"drawn\n{name} {_chance(answer.reconstruction_logits, answer.target):.0%}",
        *(f"+ {title(step)}\n{name} {step.probability:.0%}" for step in answer.subset),
    ]
    pictures.save(pictures.captioned(images, captions), folder / runs.STRIP)
    ends = [
        pictures.captioned(images[i : i + 1], captions[i : i + 1]) for i in (1, len(images) - 1)
    ]
    widest = max(frame.width for frame in ends)
    frames = [pictures.centred(frame, widest) for frame in ends]
    for suffix in (".gif", ".webp"):
        pictures.animate(frames, folder / f"{runs.ANIMATION}{suffix}")
    maps = [pictures.difference_map(answer.reconstruction[0], image) for image in answer.alone]
    captions = [f"{title(step)}\n{step.effect:+.2f}" for step in answer.independent]
    pictures.save(pictures.captioned(torch.stack(maps), captions), folder / runs.MAPS)
