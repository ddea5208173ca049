"""The report: one self-contained HTML file about a run, made from its finished files only.

It imports no torch and asks no network. What is missing is said in words.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from stylex.evidence import Json, agreement, doubts, training
from stylex.exhibits import chapters
from stylex.page import (
    Html,
    Number,
    Pictures,
    bars,
    caution,
    facts,
    few,
    fill,
    films,
    folded,
    join,
    known,
    note,
    percent,
    scrolling,
    table,
    tag,
    when,
)
from stylex.runs import Run, now, read_json, read_lines, replacing
from stylex.standing import marks, standing_of

CLASSES, CARDS, EXPLANATIONS, NAMES = 8, 96, 24, 50  # shown of many; the page says how many more


def write_report(run: str | Path) -> Path:
    """Write the report of a run: one HTML file below 10 MB that needs nothing beside it.

    Args:
        run: directory that a training wrote; search, explanations and metrics may be missing.

    Returns:
        The file, `report.html` in the run directory.

    Raises:
        FileNotFoundError: the directory is no run.
        ValueError: one of its files cannot be read.
    """
    opened = Run.open(run)
    about, log = read_json(opened.about), read_lines(opened.log)
    metrics = read_json(opened.metrics) if opened.metrics.is_file() else {}
    classes = [str(name) for name in about["classes"]]
    pictures = Pictures()
    page = fill(
        "What decides between " + few(classes, CLASSES, " and "),
        cautions=join(caution(says) for says in doubts(metrics, log)),
        about=_about(about),
        training=training(opened, log, pictures),  # first: the contact sheet must find room
        attributes=_attributes(opened, metrics, classes, pictures),
        explanations=_explanations(opened, classes, pictures),
        quality=chapters(metrics),
        footer=f"Written {when(now())} about a run of StylEx {about.get('stylex', '')}.",
    )
    with replacing(opened.report) as partial:
        partial.write_text(page, encoding="utf-8")
    return opened.report


def _name(classes: Sequence[str], target: int) -> str:
    return classes[target] if 0 <= target < len(classes) else f"class {target}"


def _probabilities(logits: Sequence[Number]) -> list[float]:
    powers = [math.exp(value - max(logits)) for value in logits]
    return [power / sum(powers) for power in powers]


def _decided(logits: Sequence[Number]) -> int:
    return max(range(len(logits)), key=logits.__getitem__)


# What was explained


def _about(about: Json) -> Html:
    classifier, data = about["classifier"], about["data"]
    counts = ", ".join(f"{split} {count:,}" for split, count in data["counts"].items())
    pairs = {
        "Classifier": classifier["source"],
        "Its hash": tag("code", str(classifier["hash"])[:12]),
        "Classes": few(about["classes"], NAMES),
        "Images": data["source"],
        "Their hash": tag("code", str(data["hash"])[:12]),
        "Numbers": counts,
        "Left out": _skipped(data.get("skipped") or []),
        "Generator": f"{about['resolution']} x {about['resolution']} pixels",
        "Begun": when(about["created"]),
        "Finished": when(about.get("finished") or "") or "not yet",
        "Trained": f"{about['images_seen']:,} images seen in {about.get('hours') or 0:.1f} hours",
        "Machine": about["machine"],
    }
    settings = [(name, json.dumps(value)) for name, value in about["settings"].items()]
    shown = table("Every setting of the training", ("setting", "value"), settings)
    return join((facts(pairs), folded("Settings", shown)))


def _skipped(names: Sequence[str]) -> Any:
    if not names:
        return "no file"
    return folded(f"{len(names)} files that are no readable images", few(names, NAMES))


# Attributes


def _attributes(run: Run, metrics: Json, classes: Sequence[str], pictures: Pictures) -> Html:
    if not run.search.is_file():
        return note("Nothing was searched yet: ", tag("code", "stylex search"), " finds them.")
    search = read_json(run.search)
    found = list(_found(run, search, metrics))
    parts = [note(_search_words(search.get("made") or {}, search.get("logit_std") or []))]
    if not found:
        parts.append(tag("p", "The search found no coordinate that moves the classifier."))
    shown: dict[str, Json] = {}  # second columns so far: their id, the attribute they stand beside
    last = None
    for attribute in found[:CARDS]:
        if attribute["target"] != last:
            last = attribute["target"]
            parts.append(tag("h3", f"Towards {_name(classes, last)}"))
        parts.append(_card(attribute, found, classes, pictures, shown=shown))
    if len(found) > CARDS:
        parts.append(note(f"{len(found) - CARDS} more attributes are in {run.search.name}."))
    return join(parts)


def _found(run: Run, search: Json, metrics: Json) -> Iterator[dict[str, Any]]:
    """The ranked attributes with what was drawn of them and how their trial went."""
    ranks = Counter()
    for entry in search["attributes"]:
        target = int(entry["target"])
        ranks[target] += 1
        place = f"{target}-{ranks[target]}"
        file = run.attributes / place / "attribute.json"
        drawn = read_json(file) if file.is_file() else {}
        # the pictures of an earlier search may still lie there
        if any(drawn.get(key) != entry[key] for key in ("coordinate", "direction")):
            drawn = {"enough": False, "says": "No pictures of it were made yet."}
        own = {"target": target, "rank": ranks[target], "folder": file.parent}
        own |= {"standing": standing_of(metrics, entry), "marks": marks(metrics, entry)}
        yield {**drawn, **entry, **own, "id": f"attribute-{place}"}


def _search_words(made: Json, logit_std: Sequence[Number]) -> str:
    spread = ", ".join(f"{value:.2f}" for value in logit_std) or "not measured"
    return (
        f"AttFind measured every coordinate on {made.get('images')} images "
        f"({made.get('left_out')} left out as unstable) at strength {made.get('strength')}, rule "
        f"“{made.get('rule')}”, threshold {made.get('threshold')} logits. For scale: over these "
        f"images the logits have a standard deviation of {spread}."
    )


def _card(
    attribute: Json,
    found: Sequence[Json],
    classes: Sequence[str],
    pictures: Pictures,
    *,
    shown: dict[str, Json],
) -> Html:
    """One attribute, with the opposite direction of its coordinate where that was found too."""
    head = tag("h4", _title(attribute, classes))
    parts = [head, attribute["marks"], _attribute_facts(attribute)]
    if attribute["id"] in shown:
        first = shown[attribute["id"]]
        link = tag("a", _title(first, classes), href=f"#{first['id']}")
        parts.append(tag("p", "Its pictures stand beside the opposite direction: ", link, "."))
    else:
        other = next((b for b in found if _opposite(attribute, b)), None)
        shown.update({other["id"]: attribute} if other else {})
        ways = [attribute] if other is None else [attribute, other]
        drawn = [_way(way, classes, pictures, headed=len(ways) > 1) for way in ways]
        parts.append(tag("div", *drawn, _beside(attribute, classes, pictures), class_="ways"))
    return tag("article", *parts, class_=f"card {attribute['standing']}", id=attribute["id"])


def _title(attribute: Json, classes: Sequence[str]) -> str:
    return f"Attribute {attribute['rank']} towards {_name(classes, attribute['target'])}"


def _opposite(one: Json, other: Json) -> bool:
    different = all(one[key] != other[key] for key in ("target", "direction"))
    return different and one["coordinate"] == other["coordinate"]


def _attribute_facts(attribute: Json) -> Html:
    side = attribute["resolution"]
    pairs = {
        "Coordinate": f"{attribute['coordinate']}, {_side(attribute)}",
        "Where": f"layer {attribute['layer']}, drawn at {side} x {side} pixels",
        "Mean effect": f"{attribute['effect']:+.2f} logits",
        "Changes": f"{percent(attribute['share'])} of the images",
    }
    return facts(pairs)


def _side(attribute: Json) -> str:
    return "towards its high end" if attribute["direction"] else "towards its low end"


def _way(attribute: Json, classes: Sequence[str], pictures: Pictures, *, headed: bool) -> Html:
    """One direction: example images, all moved by one slider (method.md 4.4)."""
    named = " (artefact)" if attribute["standing"] == "artefact" else ""
    parts = [tag("h5", f"Towards {_name(classes, attribute['target'])}{named}")] if headed else []
    if not attribute["enough"]:
        return tag("div", *parts, note(attribute.get("says") or _TOO_FEW), class_="way")
    strengths = attribute["strengths"]
    rows = films(attribute["folder"] / "frames.png", len(strengths))
    figures = [
        _example(example, row, attribute, classes, pictures=pictures)
        for example, row in zip(attribute["examples"], rows, strict=False)
    ]
    if not figures:
        lost = note("Its frames cannot be read; search again to draw them anew.")
        return tag("div", *parts, lost, class_="way")
    name = _name(classes, attribute["target"])
    legend = note(f"Probability of {name}, of the reconstruction and after the change")
    inside = (*parts, legend, tag("div", *figures, class_="examples"), _controls(attribute))
    return tag("div", *inside, class_="way", data_strengths=json.dumps(strengths))


_TOO_FEW = "Fewer than three images change enough to show it."


def _example(
    example: Json, film: Any, attribute: Json, classes: Sequence[str], *, pictures: Pictures
) -> Html:
    """One image; its frames lie in a row, the page's script shows one of them at a time."""
    target, name = attribute["target"], _name(classes, attribute["target"])
    probabilities = [round(float(p), 4) for p in example["probability"]]
    decided = [_decided(logits) for logits in example["logits"]]
    flipped = [choice == target != decided[0] for choice in decided]
    before, after = percent(probabilities[0]), percent(probabilities[-1])
    alt = (
        f"{example['name']}: from its reconstruction to the full change towards {name}, "
        f"probability of {name} {before} to {after}"
    )
    caption = tag(
        "figcaption",
        f"{before} \N{RIGHTWARDS ARROW} ",
        tag("span", after, class_="now"),
        tag("span", "flipped" if flipped[-1] else "not flipped", class_="flips"),
        tag("span", example["name"], class_="name"),
    )
    return tag(
        "figure",
        tag("div", pictures.show(film, alt), class_="film"),
        caption,
        class_="example",
        data_probabilities=json.dumps(probabilities),
        data_flipped=json.dumps(flipped),
    )


def _controls(attribute: Json) -> Html:
    last = len(attribute["strengths"]) - 1
    slider = tag("input", type="range", min=0, max=last, step=1, value=last)
    label = tag("label", "Strength", slider, tag("span", class_="strength"))
    button = tag("button", "Before / after", type="button", aria_pressed="false")
    return tag("div", label, button, class_="controls")


def _beside(attribute: Json, classes: Sequence[str], pictures: Pictures) -> Html:
    """The difference map and the mean effect on every class."""
    parts = []
    title = _title(attribute, classes)
    if (attribute["folder"] / "map.png").is_file():
        picture = pictures.show(attribute["folder"] / "map.png", f"Difference map of {title}")
        parts.append(
            tag(
                "figure",
                picture,
                tag("figcaption", "Where it acts: gray is no change, the colour what was added"),
                class_="map",
            )
        )
    effects = attribute.get("mean_effects") or []
    most = sorted(range(len(effects)), key=lambda k: -abs(effects[k]))[:CLASSES]
    if most:
        values = {_name(classes, k): effects[k] for k in sorted(most)}
        parts.append(bars("Mean effect per class, in logits", values))
    return tag("div", *parts, class_="beside")


# Single images


def _explanations(run: Run, classes: Sequence[str], pictures: Pictures) -> Html:
    found = [(read_json(file), file.parent) for file in run.explanations.glob("*/explanation.json")]
    if not found:
        return note("No image was explained yet: ", tag("code", "stylex explain"), " does it.")
    found.sort(key=lambda pair: (pair[0]["created"], pair[1].name), reverse=True)
    parts = [
        _explanation(answer, place, classes, pictures) for answer, place in found[:EXPLANATIONS]
    ]
    if len(found) > EXPLANATIONS:
        parts.append(
            note(f"{len(found) - EXPLANATIONS} older ones are in {run.explanations.name}/.")
        )
    return join(parts)


def _explanation(answer: Json, place: Path, classes: Sequence[str], pictures: Pictures) -> Html:
    name = _name(classes, answer["target"])
    strip = f"{answer['image']}: photo, reconstruction, and the image after each step"
    maps = f"{answer['image']}: where each step acts; gray is no change"
    parts = [
        tag("h3", f"{answer['image']} towards {name}"),
        *(caution(says) for says in answer["warnings"]),
        tag("p", _decision(answer, name)),
        scrolling(strip, pictures.show(place / "strip.png", strip)),
        note("Where each step acts: gray is no change, the colour what was added"),
        scrolling(maps, pictures.show(place / "maps.png", maps)),
        tag("div", _start(answer, classes), *_steps(answer, name), class_="tables"),
        note(_errors(answer)),
    ]
    if answer.get("agreement_floors"):
        parts.append(
            folded("Agreement of the model and its floors", agreement(answer["agreement_floors"]))
        )
    return tag("article", *parts, class_="card")


def _decision(answer: Json, name: str) -> str:
    at = answer["flipped_at"]
    if at == 0:
        return f"The reconstruction is decided as {name} already."
    count = len(answer["steps"]["subset"]) if at is None else at
    attributes = f"{count} attribute{'' if count == 1 else 's'}"
    return f"The decision {'does not flip with' if at is None else 'flips after'} {attributes}."


def _start(answer: Json, classes: Sequence[str]) -> Html:
    photo = _probabilities(answer["photo_logits"])
    drawn = _probabilities(answer["reconstruction_logits"])
    most = sorted(range(len(photo)), key=lambda k: -max(photo[k], drawn[k]))[:CLASSES]
    rows = [(_name(classes, k), percent(photo[k]), percent(drawn[k])) for k in sorted(most)]
    return table("What the classifier says", ("class", "photo", "reconstruction"), rows)


def _steps(answer: Json, name: str) -> list[Html]:
    """Both selections of method.md 5 as tables."""
    alone = [
        (_link(step, answer), f"{step['effect']:+.2f}", percent(step["probability"]))
        for step in answer["steps"]["independent"]
    ]
    together = [
        (
            f"{i}",
            _link(step, answer),
            percent(step["probability"]),
            "yes" if step["flipped"] else "no",
        )
        for i, step in enumerate(answer["steps"]["subset"], start=1)
    ]
    first = next((i for i, row in enumerate(together) if row[-1] == "yes"), None)
    return [
        table(
            "Subset: applied one after the other",
            ("step", "attribute added", name, "flipped"),
            together,
            marked=first,
        ),
        table("Independent: each alone", ("attribute", "effect, logits", name), alone),
    ]


def _link(step: Json, answer: Json) -> Html:
    coordinate = f"coordinate {step['coordinate']}, {_side(step)}"
    if not step.get("rank"):
        return join([coordinate])
    link = tag(
        "a", f"Attribute {step['rank']}", href=f"#attribute-{answer['target']}-{step['rank']}"
    )
    return join((link, f" ({coordinate})"))


def _errors(answer: Json) -> str:
    return (
        f"Error of the reconstruction from which every step starts: L1 {known(answer, 'l1')} "
        f"(pixels from -1 to 1), perceptual {known(answer, 'perceptual')}."
    )
