"""What there is to trust: the measured quality beside its floors, and how the training went.

Words for `metrics.json` and `log.jsonl`, as parts of a page; nothing is computed anew.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from stylex.page import (
    Html,
    Number,
    Pictures,
    caution,
    curves,
    join,
    known,
    note,
    percent,
    scrolling,
    table,
    tag,
)
from stylex.runs import Run

SHEET_BYTES = 1_000_000  # the contact sheet is judged by eye: without loss up to here

AGREEMENT = (
    ("own", "own w, own p", "the reconstruction as it is used: how often its class is the photo's"),
    ("mean_w", "mean w, own p", "nothing of the photo but its probabilities: what p does alone"),
    ("other_w", "another photo's w, own p", "the wrong photo with the right probabilities"),
    ("swapped_p", "own w, swapped p", "p says another class: what w holds against it"),
    ("mean_p", "own w, mean p", "p says nothing: what w carries by itself"),
    ("chance", "chance", "what guessing reaches"),
)
WORDS = {
    "l1": "L1 error",
    "perceptual": "perceptual error",
    "kid": "kernel distance of image sets (KID)",
    "lpips-squeeze": "LPIPS, squeeze",
    "none": "perceptual error",
    "classifier": "features of the explained classifier",
    "participation_ratio": "participation ratio: over how many coordinates the effects spread",
}
SECTIONS = ("images", "split", "reconstruction", "agreement", "sufficiency10", "logit_std")

Json = Mapping[str, Any]


# Is the model good enough?


def quality(metrics: Json) -> Html:
    """Every measure of the search beside its floor, or why it was not measured.

    Args:
        metrics: the contents of `metrics.json`; empty where nothing was measured.
    """
    if not metrics:
        return note("Nothing was measured yet: the metrics are written with the search.")
    parts = [note(f"Measured on {metrics.get('images')} {metrics.get('split') or ''} images.")]
    for title, name, draw in (
        ("Does the reconstruction keep the class?", "agreement", agreement),
        ("Does it look like the photo?", "reconstruction", reconstruction),
        ("Do the first (at most ten) together flip the decision?", "sufficiency10", sufficiency),
    ):
        group = metrics.get(name)
        parts += [tag("h3", title), draw(group) if group else note(known(metrics, name))]
    return join((*parts, others(metrics, SECTIONS)))


def others(metrics: Json, shown: Collection[str]) -> Html:
    """A table of the measures that the page has no place for, groups opened; nothing for none.

    Args:
        metrics: the contents of `metrics.json`.
        shown: groups that stand elsewhere.
    """
    rows = list(_flat({n: v for n, v in metrics.items() if n.removeprefix("why_") not in shown}))
    if not rows:
        return Html("")
    return join((tag("h3", "Also measured"), table("Other measures", ("measure", "value"), rows)))


def _flat(values: Json, before: str = "") -> Iterator[tuple[str, str]]:
    """Names and values of measures that this page has no table for, groups opened."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{_words(name)}: ")
        elif not name.startswith("why_"):
            yield f"{before}{_words(name)}", known(values, name)


def _words(name: str) -> str:
    return WORDS.get(name, name.replace("_", " "))


def agreement(shares: Json) -> Html:
    """The agreement table, never without its floors (method.md 3, trap 11).

    Args:
        shares: `own` and its floors as shares of images, null with a `why_` where not measured.
    """
    divergences = shares.get("kl_of")
    rows = [
        (given, known(shares, key, percent), *_divergence(divergences, key), says)
        for key, given, says in AGREEMENT
    ]
    head = ("generator is given", "agreement", *(["KL"] if divergences else []), "what it says")
    parts = [table("Share of images whose class the generator keeps", head, rows, marked=0)]
    if all(shares.get(name) is not None for name in _JUDGED):
        doubt = _agreement_doubt(shares)
        fine = note("w carries part of the class: it does not come from p alone.")
        parts.append(caution(doubt) if doubt else fine)
    if divergences:
        says = "KL, in nats: how far the probabilities of the drawn image lie from the photo's."
        parts.append(note(says))
    elif "kl" in shares:
        parts.append(note(f"KL divergence of the probabilities: {known(shares, 'kl')}."))
    return join(parts)


def _divergence(values: Json | None, name: str) -> list[str]:
    """One more cell where the divergences were measured; guessing draws no image."""
    if not values:
        return []
    return ["\N{EN DASH}" if name == "chance" else known(values, name)]


def from_p_alone(*, own: float, mean_w: float, mean_p: float, chance: float) -> bool:
    """Trap 11: nothing of the photo in w agrees nearly as well, and without p the class is lost.

    Shares of images; the three lines are ours [O].
    """
    gain = own - chance
    return gain >= 0.1 and mean_w - chance >= 0.8 * gain and mean_p - chance <= 0.5 * gain


FROM_P_ALONE = "class from p alone"  # name of the verdict, and of what training says of it
_JUDGED = ("own", "mean_w", "mean_p", "chance")


def _agreement_doubt(shares: Json) -> str:
    """A warning where the class comes from p alone, or no better than chance; empty otherwise."""
    if any(shares.get(name) is None for name in _JUDGED):
        return ""
    its = {name: shares[name] for name in _JUDGED}
    if its["own"] <= its["chance"]:
        return "The reconstruction keeps the photo's class no more often than guessing does."
    if not from_p_alone(**its):
        return ""
    return (
        f"The probabilities alone carry the class: with nothing of the photo in w the generator "
        f"still agrees on {percent(its['mean_w'])} of the images ({percent(its['own'])} with the "
        f"photo's w), and on {percent(its['mean_p'])} when the probabilities say nothing. The "
        f"attributes may show little of what the classifier looks at."
    )


def reconstruction(values: Json) -> Html:
    """Errors beside those of the mean image and of PCA (trap 14).

    Args:
        values: `l1` and `perceptual`, each with `_mean_image` and `_pca128`, and which perceptual
            distance it is.
    """
    kind = str(values.get("perceptual_kind") or "perceptual")
    rows = [
        (what, known(values, f"l1{end}"), known(values, f"perceptual{end}"))
        for what, end in (
            ("this model", ""),
            ("floor: the mean image, whatever the photo", "_mean_image"),
            ("floor: PCA with 128 components", "_pca128"),
        )
    ]
    head = ("drawn by", "L1, pixels from -1 to 1", WORDS.get(kind, kind))
    shown = table("Error of the reconstruction; smaller is better", head, rows, marked=0)
    sentences = [_compared(values, name) for name in ("l1", "perceptual")]
    return join((shown, note(" ".join(filter(None, sentences)))))


def _compared(values: Json, name: str) -> str:
    own, floor = values.get(name), values.get(f"{name}_pca128")
    if own is None or floor is None:
        return ""
    return f"By {WORDS[name]} it is {'better' if own < floor else 'no better'} than PCA."


def sufficiency(pairs: Json) -> Html:
    """Flips by the search's ten attributes beside those by ten random coordinates.

    Args:
        pairs: for each "from->to" the `share`, its interval, `random` and the number of `images`.
    """
    rows = [
        (
            pair.replace("->", " → "),
            known(values, "share", percent),
            f"{known(values, 'low', percent)} to {known(values, 'high', percent)}",
            known(values, "random", percent),
            known(values, "images"),
        )
        for pair, values in pairs.items()
    ]
    head = ("from → to", "flipped", "95 % interval", "floor: as many random coordinates", "images")
    return table("Share of images whose decision flips", head, rows)


def doubts(metrics: Json, log: Sequence[Json]) -> list[Html]:
    """What a reader must know first: the evaluation's verdicts, then the last health check.

    Args:
        metrics: the contents of `metrics.json`, or nothing.
        log: the lines of `log.jsonl`, oldest first.
    """
    verdicts = metrics.get("verdicts") or []
    says = [_headed(verdict["name"], verdict["says"]) for verdict in verdicts]
    told = any(verdict["name"] == FROM_P_ALONE for verdict in verdicts)
    if not told and (doubt := _agreement_doubt(metrics.get("agreement") or {})):
        told = True  # measured on test images, it takes the place of what training said
        says.append(join([doubt]))
    last = next((line["health"] for line in reversed(log) if "health" in line), [])
    says += [_message(found) for found in last if not (told and found["name"] == FROM_P_ALONE)]
    return list(filter(None, says))


# Training


def training(run: Run, log: Sequence[Json], pictures: Pictures) -> Html:
    """Last contact sheet, health in words, curves over the images seen.

    Args:
        run: where the contact sheets lie.
        log: the lines of `log.jsonl`, oldest first.
        pictures: the room that is left for pictures.
    """
    if not log:
        return note("Nothing was logged yet.")
    last = log[-1]
    parts = [
        tag("p", f"{last['images_seen']:,} images seen, {last['images_per_second']:.0f} a second."),
        tag("h3", "Contact sheet"),
        _sheet(run, pictures),
        tag("h3", "Health"),
        _health(log),
        tag("h3", "Curves"),
        tag("div", *_measures(log), *_losses(log), class_="charts"),
    ]
    return join(parts)


def _sheet(run: Run, pictures: Pictures) -> Html:
    sheet = run.last_sheet()
    if sheet is None:
        return note("No contact sheet was drawn yet.")
    after = f"After {int(sheet.stem):,} images seen"
    alt = f"{after}: rows of photos, their reconstructions with parts exchanged, images from noise"
    says = "The mean w shows what p draws alone; a swapped p shows what w holds against it."
    picture = scrolling("Contact sheet", pictures.show(sheet, alt, exact=SHEET_BYTES))
    return tag("figure", picture, tag("figcaption", f"{after}. {says}"))


def _health(log: Sequence[Json]) -> Html:
    """Every finding once, in its last words; the one seen last stands first."""
    last: dict[str, Json] = {}
    seen: dict[str, list[int]] = {}
    for line in log:
        for message in line.get("health") or []:
            last[message["name"]] = message
            seen.setdefault(message["name"], []).append(line["images_seen"])
    if not seen:
        return tag("p", "No check found anything wrong.")
    latest = sorted(seen, key=lambda name: seen[name][-1], reverse=True)
    items = [
        (_message(last[name]), " ", tag("span", _span(seen[name]), class_="note"))
        for name in latest
    ]
    return tag("ul", *(tag("li", *item) for item in items))


def _message(message: Json) -> Html:
    return _headed(message["name"], message["says"], message["advice"])


def _headed(name: str, *says: str) -> Html:
    """Sentences behind the name of what was found."""
    first, *rest = (text[:1].upper() + text[1:].removesuffix(".") + "." for text in (name, *says))
    return join((tag("strong", first), " ", " ".join(rest)))


def _span(seen: Sequence[int]) -> str:
    if len(seen) == 1:
        return f"At {seen[0]:,} images."
    return f"{len(seen)} times, from {seen[0]:,} to {seen[-1]:,} images."


def _measures(log: Sequence[Json]) -> list[Html]:
    """One chart per family of measures, so that agreement stands beside its floors."""
    families: dict[str, dict[str, list[tuple[Number, Number]]]] = {}
    for name, line in _series(log, "measures").items():
        family = "agreement" if name == "chance" else name.split("_")[0]
        families.setdefault(family, {})[_short(name, family)] = line
    return [curves(_words(family).capitalize(), lines) for family, lines in families.items()]


def _short(name: str, family: str) -> str:
    """`agreement_mean_w` is "mean w" in the chart of the agreement, `agreement` stays itself."""
    return name.removeprefix(f"{family}_").replace("_", " ")


def _losses(log: Sequence[Json]) -> list[Html]:
    lines = _series(log, "losses")
    return [curves(f"Loss: {name.replace('_', ' ')}", {name: line}) for name, line in lines.items()]


def _series(log: Sequence[Json], group: str) -> dict[str, list[tuple[Number, Number]]]:
    series: dict[str, list[tuple[Number, Number]]] = {}
    for line in log:
        for name, value in (line.get(group) or {}).items():
            if value is not None:
                series.setdefault(name, []).append((line["images_seen"], value))
    return series
