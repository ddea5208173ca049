"""The report's cards: each attribute with its examples, its standing and what people call it.

Read from finished files; imports no torch.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stylex.notes import MARKS, UNSAID, read_notes
from stylex.page import (
    Html,
    Number,
    Pictures,
    bars,
    facts,
    films,
    join,
    note,
    percent,
    tag,
)
from stylex.runs import ATTRIBUTE, MAP, SPRITE, Run, read_json
from stylex.standing import marks, ranked, standing_of, trial

Json = Mapping[str, Any]
CLASSES, CARDS = 8, 96  # shown of many; the page says how many more


def described(run: Run, metrics: Json) -> dict[str, Any]:
    """A run as the page's script knows it: classes, one knob for each coordinate found, notes."""
    about = read_json(run.about)
    search: Json = read_json(run.search) if run.search.is_file() else {"attributes": []}
    knobs: dict[int, dict[str, Any]] = {}
    for one in found_in(run, search, metrics):
        knob = knobs.setdefault(one["coordinate"], {"coordinate": one["coordinate"], "ways": []})
        kept = ("id", "rank", "target", "direction", "effect", "share", "layer", "resolution")
        way = {key: one[key] for key in (*kept, "standing")}
        way["gates"] = trial(metrics, one).get("gates") or []
        way["effects"] = one.get("effects") or []
        knob["ways"].append(way)
    for knob in knobs.values():  # of a move found for several classes the one it moves most
        best = sorted(knob["ways"], key=lambda way: way["effect"])
        kept_ways = {way["direction"]: way for way in best}.values()
        knob["ways"] = sorted(kept_ways, key=lambda way: -way["effect"])
    return {
        "name": run.path.resolve().name,
        "classes": [str(name) for name in about["classes"]],
        "side": about["resolution"],
        "strength": (search.get("made") or {}).get("strength") or 1.0,
        "knobs": sorted(knobs.values(), key=_by_rank),
        "notes": read_notes(run.path),
        "marks": list(MARKS[1:]),
    }


def _by_rank(knob: Json) -> tuple[int, float]:
    """As its name says: the first ones of each class before the second ones."""
    return knob["ways"][0]["rank"], -knob["ways"][0]["effect"]


def named(classes: Sequence[str], target: int) -> str:
    """The name of a class."""
    return classes[target] if 0 <= target < len(classes) else f"class {target}"


def probabilities_of(logits: Sequence[Number]) -> list[float]:
    """Softmax."""
    powers = [math.exp(value - max(logits)) for value in logits]
    return [power / sum(powers) for power in powers]


def decided(logits: Sequence[Number]) -> int:
    """The class of the largest logit."""
    return max(range(len(logits)), key=logits.__getitem__)


def attributes(run: Run, metrics: Json, classes: Sequence[str], pictures: Pictures) -> Html:
    """Every attribute as a card: what it is, how it stands, examples to move.

    Args:
        run: the run.
        metrics: the contents of `metrics.json`; empty where nothing was measured.
        classes: names.
        pictures: embeds them.
    """
    if not run.search.is_file():
        return note("Nothing was searched yet: ", tag("code", "stylex search"), " finds them.")
    search = read_json(run.search)
    found, notes = list(found_in(run, search, metrics)), read_notes(run.path)
    parts = [note(_search_words(search.get("made") or {}, search.get("logit_std") or []))]
    if not found:
        parts.append(tag("p", "The search found no coordinate that moves the classifier."))
    shown: dict[str, Json] = {}  # second columns so far: their id, the attribute they stand beside
    last = None
    for attribute in found[:CARDS]:
        if attribute["target"] != last:
            last = attribute["target"]
            parts.append(tag("h3", f"Towards {named(classes, last)}"))
        attribute["called"] = notes.get(attribute["coordinate"])
        parts.append(_card(attribute, found, classes, pictures, shown=shown))
    if len(found) > CARDS:
        parts.append(note(f"{len(found) - CARDS} more attributes are in {run.search.name}."))
    return join(parts)


def found_in(run: Run, search: Json, metrics: Json) -> Iterator[dict[str, Any]]:
    """The ranked attributes with what was drawn of them and how their trial went."""
    for rank, entry in ranked(search):
        target = int(entry["target"])
        place = f"{target}-{rank}"
        file = run.attributes / place / ATTRIBUTE
        drawn = read_json(file) if file.is_file() else {}
        # the pictures of an earlier search may still lie there
        if any(drawn.get(key) != entry[key] for key in ("coordinate", "direction")):
            drawn = {"enough": False, "says": "No pictures of it were made yet."}
        own = {"target": target, "rank": rank, "folder": file.parent}
        own |= {"standing": standing_of(metrics, entry), "marks": marks(metrics, entry)}
        yield {**drawn, **entry, **own, "id": f"attribute-{place}"}


def _search_words(made: Json, logit_std: Sequence[Number]) -> str:
    spread = ", ".join(f"{value:.2f}" for value in logit_std) or "not measured"
    certificate = (made.get("certificate") or {}).get("says")
    return (
        f"AttFind {'looked at' if certificate else 'measured'} every coordinate on "
        f"{made.get('images')} images ({made.get('left_out')} left out as unstable) at strength "
        f"{made.get('strength')}, rule “{made.get('rule')}”, threshold {made.get('threshold')} "
        f"logits. For scale: over these images the logits have a standard deviation of {spread}. "
        f"{certificate or ''}"
    ).rstrip()


def _card(
    attribute: Json,
    found: Sequence[Json],
    classes: Sequence[str],
    pictures: Pictures,
    *,
    shown: dict[str, Json],
) -> Html:
    """One attribute, with the opposite direction of its coordinate where that was found too."""
    parts = [
        tag("h4", _title(attribute, classes)),
        _called(attribute),
        attribute["marks"],
        _attribute_facts(attribute),
    ]
    if len(classes) == 2 and any(_same_move(attribute, other) for other in found):
        other = named(classes, 1 - attribute["target"])
        says = f"The same move also raises {other}: what it does depends on the rest of the image."
        parts.append(note(says))
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


def _called(attribute: Json) -> Html:
    """What people call it; the page's script keeps it true while somebody names it."""
    said = attribute["called"] or UNSAID
    parts = [
        tag("strong", said["name"], class_="its-name"),
        tag("span", said["mark"], class_=f"its-mark {said['mark']}"),
        tag("span", said["note"], class_="its-note"),
    ]
    state = "called" if attribute["called"] else "called unsaid"
    return tag("p", *parts, class_=state, data_coordinate=attribute["coordinate"])


def _title(attribute: Json, classes: Sequence[str]) -> str:
    return f"Attribute {attribute['rank']} towards {named(classes, attribute['target'])}"


def _opposite(one: Json, other: Json) -> bool:
    different = all(one[key] != other[key] for key in ("target", "direction"))
    return different and one["coordinate"] == other["coordinate"]


def _same_move(one: Json, other: Json) -> bool:
    alike = all(one[key] == other[key] for key in ("coordinate", "direction"))
    return alike and one["target"] != other["target"]


def _attribute_facts(attribute: Json) -> Html:
    side = attribute["resolution"]
    pairs = {
        "Coordinate": f"{attribute['coordinate']}, {side_of(attribute)}",
        "Where": f"layer {attribute['layer']}, drawn at {side} x {side} pixels",
        "Mean effect": f"{attribute['effect']:+.2f} logits",
        "Changes": f"{percent(attribute['share'])} of the images",
    }
    return facts(pairs)


def side_of(attribute: Json) -> str:
    """Its direction in words."""
    return "towards its high end" if attribute["direction"] else "towards its low end"


def _way(attribute: Json, classes: Sequence[str], pictures: Pictures, *, headed: bool) -> Html:
    """One direction: example images, all moved by one slider (method.md 4.4)."""
    doubt = " (artefact)" if attribute["standing"] == "artefact" else ""
    parts = [tag("h5", f"Towards {named(classes, attribute['target'])}{doubt}")] if headed else []
    if not attribute["enough"]:
        return tag("div", *parts, note(attribute.get("says") or _TOO_FEW), class_="way")
    strengths = attribute["strengths"]
    rows = films(attribute["folder"] / SPRITE, len(strengths))
    figures = [
        _example(example, row, attribute, classes, pictures=pictures)
        for example, row in zip(attribute["examples"], rows, strict=False)
    ]
    if not figures:
        lost = note("Its frames cannot be read; search again to draw them anew.")
        return tag("div", *parts, lost, class_="way")
    name = named(classes, attribute["target"])
    legend = note(f"Probability of {name}, of the reconstruction and after the change")
    inside = (*parts, legend, tag("div", *figures, class_="examples"), _controls(attribute))
    of = {"data_coordinate": attribute["coordinate"], "data_direction": attribute["direction"]}
    return tag("div", *inside, class_="way", data_strengths=json.dumps(strengths), **of)


_TOO_FEW = "Fewer than three images change enough to show it."


def _example(
    example: Json, film: Any, attribute: Json, classes: Sequence[str], *, pictures: Pictures
) -> Html:
    """One image; its frames lie in a row, the page's script shows one of them at a time."""
    target, name = attribute["target"], named(classes, attribute["target"])
    probabilities = [round(float(p), 4) for p in example["probability"]]
    choices = [decided(logits) for logits in example["logits"]]
    flipped = [choice == target != choices[0] for choice in choices]
    every = [probabilities_of(logits) for logits in example["logits"]]
    most = sorted(range(len(every[0])), key=lambda k: -max(p[k] for p in every))[:CLASSES]
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
        data_name=example["name"],
        data_classes=json.dumps(most),
        data_all=json.dumps([[round(p[k], 4) for k in most] for p in every]),
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
    if (attribute["folder"] / MAP).is_file():
        picture = pictures.show(attribute["folder"] / MAP, f"Difference map of {title}")
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
        values = {named(classes, k): effects[k] for k in sorted(most)}
        parts.append(bars("Mean effect per class, in logits", values))
    return tag("div", *parts, class_="beside")
