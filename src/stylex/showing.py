"""Pictures and JSON of attributes and explanations, written into the run directory.

The report, and whoever reads a run without torch, shows exactly these files.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from stylex import pictures, runs
from stylex.attfind import Search
from stylex.counterfactual import Step
from stylex.explaining import Explanation, explain
from stylex.losses import perceptual_distance
from stylex.model import StylEx
from stylex.photos import open_image, to_unit
from stylex.runs import Run, read_json, write_json
from stylex.shapes import Images, Styles
from stylex.stylespace import Attribute, shift

STRENGTHS = tuple(i / 8 for i in range(9))  # frames of a slider, from the image to the bound
EXAMPLES = 4
LEAST_EXAMPLES, LEAST_RISE = 3, 0.1  # method.md 4.4


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
            _illustrate_one(model, found, attribute, rank, names, files)


def _illustrate_one(
    model: StylEx,
    found: Search,
    attribute: Attribute,
    rank: int,
    names: Sequence[str],
    files: Run,
) -> None:
    folder = files.attribute(attribute.target, rank)
    rows = examples(model, found, attribute)
    about: dict[str, Any] = {
        **{k: getattr(attribute, k) for k in ("target", "coordinate", "direction", "effect")},
        **{k: getattr(attribute, k) for k in ("share", "layer", "resolution")},
        "rank": rank,
        "strengths": list(STRENGTHS),
        "mean_effects": found.effects[:, attribute.coordinate, attribute.direction]
        .mean(0)
        .tolist(),
        "enough": len(rows) >= LEAST_EXAMPLES,
    }
    if about["enough"]:
        films = [film(model, found, attribute, found.styles[n : n + 1]) for n in rows]
        logits = [model.classifier(frames) for frames in films]
        about["examples"] = [
            {
                "name": names[n],
                "logits": row.tolist(),
                "probability": row.softmax(1)[:, attribute.target].tolist(),
            }
            for n, row in zip(rows, logits, strict=True)
        ]
        _draw(films, logits, attribute, folder)
    else:
        about["examples"] = []
        about["says"] = (
            f"Only {len(rows)} of the search images that are not {model.classes[attribute.target]} "
            f"gain {LEAST_RISE} of probability by this attribute alone; "
            f"{LEAST_EXAMPLES} are wanted to show it."
        )
    write_json(folder / "attribute.json", about)


def examples(model: StylEx, found: Search, attribute: Attribute) -> list[int]:
    """Rows of the search images to show an attribute on (method.md 4.4, notebook).

    Images of another class, farthest from the bound first, whose probability of the target rises by
    at least 0.1.
    """
    c = attribute.target
    others = (found.logits.argmax(1) != c).nonzero().flatten()
    bound = found.bounds[attribute.direction, attribute.coordinate]
    distance = (bound - found.styles[others, attribute.coordinate]).abs()
    others = others[distance.argsort(descending=True)]
    effects = found.effects[others, attribute.coordinate, attribute.direction]
    before = found.logits[others].softmax(1)[:, c]
    after = (found.logits[others] + effects).softmax(1)[:, c]
    return others[after - before >= LEAST_RISE][:EXAMPLES].tolist()


def film(model: StylEx, found: Search, attribute: Attribute, styles: Styles) -> Images:
    """One image `[1, s]` under growing strength, `[f, c, h, w]`."""
    moved = [
        shift(styles, attribute.coordinate, attribute.direction, found.bounds, strength)
        for strength in STRENGTHS
    ]
    return model.synthesize(torch.cat(moved))


def _draw(
    films: list[Images], logits: list[torch.Tensor], attribute: Attribute, folder: Path
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pictures.save(pictures.sprite(films), folder / "frames.png")
    flicker = [
        pictures.captioned(
            torch.stack([frames[at] for frames in films]),
            [f"{row[at].softmax(0)[attribute.target]:.0%}" for row in logits],
        )
        for at in (0, -1)
    ]
    pictures.animate(flicker, folder / "before_after.gif")
    maps = torch.stack([pictures.difference_map(frames[0], frames[-1]) for frames in films])
    pictures.save(pictures.sprite([maps]), folder / "map.png")


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
    folder = Run(run).explanation(f"{Path(name).stem}-to-{answer.classes[answer.target]}")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "explanation.json", as_data(answer, found, name, floors))
    _draw_strip(answer, found, folder)
    return folder


def explain_file(
    model: StylEx, found: Search, photo: str | Path, run: str | Path, **options: Any
) -> tuple[dict[str, Any], Path]:
    """Explain an image file of any size and write the answer into the run.

    Returns:
        The answer as data, and its folder.

    Raises:
        FileNotFoundError, ValueError: no such file, no image, or what `explain` refuses.
    """
    pixels = open_image(photo, resolution=model.resolution, channels=model.channels)
    about = read_json(Run.open(run).about)
    table = read_json(Run(run).metrics) if Run(run).metrics.is_file() else {}
    answer = explain(
        model,
        to_unit(pixels[None]).to(model.mean_p.device),
        found,
        distance=perceptual_distance(about["settings"]["perceptual"], model.classifier),
        usual_l1=table.get("reconstruction", {}).get("l1"),
        **options,
    )
    floors = table.get("agreement", {})
    folder = write_explanation(answer, found, Path(photo).name, run, floors=floors)
    return as_data(answer, found, Path(photo).name, floors), folder


def as_text(answer: dict[str, Any]) -> str:
    """An answer as JSON."""
    return json.dumps(answer, indent=1, ensure_ascii=False)


def in_words(answer: dict[str, Any]) -> str:
    """An answer in a few lines, with its doubts."""
    c, name = answer["target"], answer["classes"][answer["target"]]

    def chance(logits: Sequence[float]) -> str:
        return f"{torch.tensor(logits).softmax(0)[c]:.0%}"

    photo, drawn = chance(answer["photo_logits"]), chance(answer["reconstruction_logits"])
    lines = [f"{answer['image']}: {name} {photo}, as drawn {drawn} (L1 {answer['l1']:.3f})"]
    lines += [f"careful: {says}" for says in answer["warnings"]]
    lines += ["each alone:"]
    lines += [
        f"  attribute {step['rank']}: {name} {step['probability']:.0%} ({step['effect']:+.2f} logits)"
        for step in answer["steps"]["independent"]
    ]
    lines += ["together, one after the other:"]
    lines += [
        f"  + attribute {step['rank']}: {name} {step['probability']:.0%}"
        + ("  the decision flips" if step["flipped"] else "")
        for step in answer["steps"]["subset"]
    ]
    if answer["flipped_at"] == 0:
        lines.append(f"the reconstruction is decided as {name} already")
    elif not answer["flipped"]:
        lines.append("the decision does not flip with the attributes found")
    if answer["agreement_floors"]:
        shares = answer["agreement_floors"]
        lines.append("agreement of drawn and photo: " + agreement_in_words(shares))
    return "\n".join(lines)


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
    ranks = {(a.coordinate, a.direction): i for i, a in enumerate(found.towards(answer.target), 1)}

    def plain(step: Step) -> dict[str, Any]:
        coordinate, direction = step.attribute.coordinate, step.attribute.direction
        return {
            "coordinate": coordinate,
            "direction": direction,
            "rank": ranks[coordinate, direction],
            "effect": step.effect,
            "probability": step.probability,
            "flipped": step.flipped,
        }

    return {
        "image": name,
        "created": runs.now(),
        "classes": list(answer.classes),
        "target": answer.target,
        "photo_logits": list(answer.photo_logits),
        "reconstruction_logits": list(answer.reconstruction_logits),
        "l1": answer.l1,
        "perceptual": answer.perceptual,
        "warnings": list(answer.warnings),
        "agreement_floors": floors,
        "steps": {
            "independent": [plain(step) for step in answer.independent],
            "subset": [plain(step) for step in answer.subset],
        },
        "flipped": answer.flipped_at is not None,
        "flipped_at": answer.flipped_at,
    }


def _draw_strip(answer: Explanation, found: Search, folder: Path) -> None:
    name = answer.classes[answer.target]
    ranks = {(a.coordinate, a.direction): i for i, a in enumerate(found.towards(answer.target), 1)}

    def label(step: Step) -> str:
        return f"attribute {ranks[step.attribute.coordinate, step.attribute.direction]}"

    def says(logits: Sequence[float]) -> str:
        return f"{name} {torch.tensor(logits).softmax(0)[answer.target]:.0%}"

    images = torch.cat([answer.photo, answer.reconstruction, answer.together])
    captions = [f"photo\n{says(answer.photo_logits)}"]
    captions.append(f"drawn\n{says(answer.reconstruction_logits)}")
    captions += [f"+ {label(step)}\n{name} {step.probability:.0%}" for step in answer.subset]
    pictures.save(pictures.captioned(images, captions), folder / "strip.png")
    frames = [
        pictures.captioned(images[i : i + 1], captions[i : i + 1]) for i in (1, len(images) - 1)
    ]
    widest = max(frame.width for frame in frames)
    frames = [pictures.centred(frame, widest) for frame in frames]
    for suffix in (".gif", ".webp"):
        pictures.animate(frames, folder / f"animation{suffix}")
    if len(answer.alone):
        maps = [pictures.difference_map(answer.reconstruction[0], image) for image in answer.alone]
        captions = [f"{label(step)}\n{step.effect:+.2f}" for step in answer.independent]
        pictures.save(pictures.captioned(torch.stack(maps), captions), folder / "maps.png")
