"""The evaluation as chapters of the page: every number beside its floor, gates in words.

Words for the groups that `stylex evaluate` writes into `metrics.json`; nothing is computed anew.
"""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from stylex.evidence import (
    SECTIONS,
    WORDS,
    Json,
    agreement,
    others,
    quality,
    reconstruction,
    sufficiency,
)
from stylex.page import (
    Curve,
    Html,
    Number,
    caution,
    curves,
    facts,
    folded,
    join,
    known,
    note,
    number,
    percent,
    table,
    tag,
    when,
)
from stylex.runs import EVALUATED
from stylex.standing import attributes, stability

PAIRS, CLASSES = 12, 96  # shown of many
VERDICTS = "“class from p alone”, “classifier unlike every judge”, “attributes are adversarial”"
WHY = {  # where `metrics.json` itself does not say it
    "perceptual": "no perceptual distance was available",
    "confirmed": "no judge that agrees on the unedited image",
    "flipped": "no attribute was found towards it",
}


def chapters(metrics: Json) -> Html:
    """All that was evaluated; of a run that was not, what its search measured.

    Args:
        metrics: the contents of `metrics.json`; empty where nothing was measured.
    """
    if "evaluated" not in metrics:
        ask = note("No attribute was tried yet: ", tag("code", "stylex evaluate"), " does it.")
        return join((quality(metrics), ask))
    parts = [_occasion(metrics["evaluated"]), _verdicts(metrics)]
    for title, name, draw in (
        ("Does it look like the photo?", "substrate", _substrate),
        ("Where does the class sit?", "agreement", _class),
        ("Do other classifiers see the same classes?", "panel", _panel),
        ("Do the attributes flip the decision?", "sufficiency", _flips),
        ("Does each attribute hold?", "attributes", attributes),
        ("Would other images give the same attributes?", "stability", stability),
    ):
        drawn = draw(metrics) if metrics.get(name) else note(known(metrics, name))
        parts += [tag("h3", title), drawn]
    return join((*parts, _before(metrics), others(metrics, (*SECTIONS, *EVALUATED))))


def _occasion(made: Json) -> Html:
    return note(
        f"Evaluated {when(str(made.get('date', '')))} on {made.get('images')} test images, which "
        f"neither training nor search has seen; seed {made.get('seed')}, "
        f"{made.get('seconds')} seconds."
    )


def _verdicts(metrics: Json) -> Html:
    """The verdicts stand above the page; here is said that there are none."""
    if metrics.get("verdicts"):
        return caution("What was found wrong with the whole model stands at the top of this page.")
    asked = (metrics.get("panel") or {}).get("judges")
    unasked = "" if asked else " Without judges the second could not be looked for."
    return tag("p", f"Three ways to be fooled were looked for and not found: {VERDICTS}.{unasked}")


def _before(metrics: Json) -> Html:
    """What the search had measured by itself, to open."""
    shown = [
        draw(metrics[name])
        for name, draw in (("reconstruction", reconstruction), ("sufficiency10", sufficiency))
        if metrics.get(name)
    ]
    return folded("What the search measured before", *shown) if shown else Html("")


def said(values: Json, name: str, say: Any = number) -> str:
    """As `known`, with the reasons that `metrics.json` leaves to the reader."""
    without_floor = name.startswith("random_") and "random" not in values  # nobody asked for it
    why = "" if without_floor else next((why for key, why in WHY.items() if key in name), "")
    return known({f"why_{name}": why, **values}, name, say)


def perceptual(metrics: Json) -> str:
    """Which perceptual distance was measured."""
    kind = str((metrics.get("substrate") or {}).get("perceptual_kind") or "none")
    return WORDS.get(kind, kind)


# The picture and the class


def _substrate(metrics: Json) -> Html:
    values = metrics["substrate"]
    rows = [
        (what, said(values, f"l1{end}"), said(values, f"perceptual{end}"))
        for what, end in (
            ("this model", ""),
            ("floor: PCA with 128 components", "_pca128"),
            ("floor: PCA with 512 components", "_pca512"),
        )
    ]
    head = ("drawn by", "L1, pixels from -1 to 1", perceptual(metrics))
    errors = table("Error of the reconstruction; smaller is better", head, rows, marked=0)
    return join((errors, _sets(values), _gap(values.get("latent_gap") or {})))


def _sets(values: Json) -> Html:
    """Distances of image sets, named by the features they were measured in."""
    if not values.get("kid"):
        return note(f"Distance of image sets: {known(values, 'kid')}.")
    rows = [
        (what, known(values["kid"], name), known(values.get("frechet64") or {}, name))
        for what, name in (
            ("reconstructions", "reconstruction"),
            ("samples from noise", "noise"),
            ("floor: PCA with 128 components", "pca128"),
            ("the test photos themselves: no model gets below", "real_halves"),
        )
    ]
    features = values.get("features")
    caption = f"Distance to as many training photos in features of {features}; smaller is better"
    return table(caption, ("images", "KID", "Fréchet, 64 components"), rows)


def _gap(values: Json) -> Html:
    rows = [
        ("shift of the mean", known(values, "mean"), "0 for none, 1 for one standard deviation"),
        ("difference of spread", known(values, "covariance"), "0 for none, 1 for an E(x) without"),
    ]
    caption = "Gap between w of photos, E(x), and w of noise, M(z), in variances of M(z)"
    return table(caption, ("gap", "value", "scale"), rows)


def _class(metrics: Json) -> Html:
    return agreement(metrics["agreement"])


def _panel(metrics: Json) -> Html:
    values = metrics["panel"]
    why = [note(f"{values['why']}.")] if values.get("why") else []
    if not values.get("judges"):
        ask = "No judge was asked: nobody confirms a flip, and no attribute can be trusted."
        return join((caution(ask), *why))
    ceiling = f"{known(values, 'ceiling_low', percent)} to {known(values, 'ceiling_high', percent)}"
    rows = [
        ("ceiling: on photos", known(values, "ceiling", percent), ceiling),
        ("on reconstructions", known(values, "reconstruction", percent), ""),
        ("... as a share of the ceiling", known(values, "share", percent), ""),
        ("on edits, all attributes together", known(values, "edits", percent), ""),
        ("... as a share of the ceiling", known(values, "edits_share", percent), ""),
        ("floor: by chance", known(values, "chance", percent), ""),
    ]
    caption = "Share of images on which judges and classifier name the same class"
    count = (
        f"{values.get('countable')} test images count for confirmed flips: on their unedited "
        "reconstructions judges and classifier agree."
    )
    judges = {f"Judge {i}": its for i, its in enumerate(_judges(values), start=1)}
    shown = table(caption, ("judges and classifier", "agree", "95 % interval"), rows, marked=1)
    return join((facts(judges), *why, shown, note(count)))


def _judges(values: Json) -> Iterator[str]:
    sources = values.get("sources") or ["source not known"] * values["judges"]
    accuracies = values.get("accuracies") or [None] * len(sources)
    for source, accuracy in zip(sources, accuracies, strict=False):
        right = "accuracy not known" if accuracy is None else f"right on {percent(accuracy)}"
        yield f"{source}, {right}"


# Flips


def _flips(metrics: Json) -> Html:
    pairs = first_pairs(metrics, "sufficiency")
    wide = first_pairs(metrics, "sufficiency_percentile")
    parts = [
        _at_last("The first attributes together, at the ends of their ranges", pairs, metrics),
        _at_last("The same, to the 2nd and 98th percentile of their ranges", wide, metrics),
        note("“Confirmed” and its floor: of the images on which judges and classifier agreed "
             "before. Random coordinates: as many, moved as far in ranges of the coordinates; how "
             "far that is in the picture stands beside."),
    ]  # fmt: skip
    for name, values in pairs.items():
        parts += [tag("h4", arrow(name)), *_pair(name, values, metrics)]
    left = len(metrics["sufficiency"]) - len(pairs)
    parts += [note(f"{left} more pairs of classes are in metrics.json.")] if left > 0 else []
    rest = (_smallest(metrics), _necessity(metrics), _spread(metrics))
    return join((*parts, tag("h4", "How many does it take?"), *rest))


def first_pairs(metrics: Json, name: str) -> dict[str, Json]:
    """The pairs of classes of one group that there is room for."""
    return dict(list((metrics.get(name) or {}).items())[:PAIRS])


def arrow(pair: str) -> str:
    """A pair of classes as it is shown."""
    return pair.replace("->", " → ")


def at_last(values: Json) -> dict[str, Any]:
    """Of values over the number of attributes those of the last one, and that number."""
    lists = {name: its for name, its in values.items() if isinstance(its, list)}
    last = {name: its[-1] if its else None for name, its in lists.items()}
    count = last.get("counts") or len(lists.get("flipped") or [])  # an older run names no counts
    return {**values, **last, "attributes": count}


def span(values: Json) -> str:
    """An interval of shares, in one line."""
    ends = f"{known(values, 'low', percent)} to {known(values, 'high', percent)}"
    return ends.replace(" ", "\N{NO-BREAK SPACE}")


def _at_last(caption: str, pairs: Mapping[str, Json], metrics: Json) -> Html:
    rows = []
    for pair, values in pairs.items():
        last = at_last(values)
        rows.append((arrow(pair), last["attributes"], *_cells(last), known(last, "images")))
    head = ("from → to", "attributes", *_head(metrics), "images")
    return table(caption, head, rows)


def _head(metrics: Json) -> tuple[str, ...]:
    return (
        "flipped",
        "95 % interval",
        "floor: random",
        "confirmed",
        "floor: random",
        f"moved, {perceptual(metrics)}",
        "random moved",
        "within D's range (photos 98 %)",
    )


def _cells(at: Json) -> tuple[str, ...]:
    if at.get("flipped") is None:
        return (said(at, "flipped"), *[""] * 7)
    return (
        said(at, "flipped", percent),
        span(at),
        known(at, "random", percent),
        said(at, "confirmed", percent),
        said(at, "random_confirmed", percent),
        said(at, "perceptual"),
        said(at, "random_perceptual"),
        known(at, "usual", percent),
    )


def _pair(name: str, values: Json, metrics: Json) -> Iterator[Html]:
    """Charts of one pair of classes, and their numbers to open."""
    if not values.get("flipped"):
        yield note(said({}, "flipped"))
        return
    charts = (
        ("Flips over the number of attributes", _over_count(values), "attributes"),
        ("Flips over the distance moved", _over_distance(values), perceptual(metrics)),
        ("Flips over the strength", _over_strength(name, metrics), "times the range"),
    )
    drawn = [  # a floor alone is no chart
        curves(what, lines, over=over, say=percent)
        for what, lines, over in charts
        if next(iter(lines.values()))
    ]
    yield tag("div", *drawn, class_="charts")
    yield folded(f"Numbers: {arrow(name)}", *_numbers(name, values, metrics))


def _over_count(values: Json) -> dict[str, Curve]:
    lines = {
        "flipped": "flipped",
        "confirmed by the judges": "confirmed",
        "floor: random": "random",
    }
    counts = range(1, len(values["flipped"]) + 1)
    return {what: _line(counts, values.get(key)) for what, key in lines.items()}


def _over_distance(values: Json) -> dict[str, Curve]:
    return {
        "attributes": _line(values.get("perceptual"), values["flipped"]),
        "floor: random": _line(values.get("random_perceptual"), values.get("random")),
    }


def _over_strength(name: str, metrics: Json) -> dict[str, Curve]:
    """The sweep; random coordinates were moved at the strength of the search only."""
    strengths, flipped, _ = _swept(name, metrics)
    random = metrics["sufficiency"][name].get("random") or [None]
    level = [] if random[-1] is None else [(0, random[-1]), (max(strengths, default=1), random[-1])]
    return {"flipped": _line(strengths, flipped), "floor: random, as far as the search": level}


def _swept(name: str, metrics: Json) -> tuple[list[Any], list[Any], list[Any]]:
    """Strengths, flips and distances of one pair of classes."""
    sweep = metrics.get("strength") or {}
    flipped, far = ((sweep.get(key) or {}).get(name) or [] for key in ("flipped", "perceptual"))
    return sweep.get("strengths") or [], flipped, far or [None] * len(flipped)


def _line(xs: Sequence[Number | None] | None, ys: Sequence[Number | None] | None) -> list[Any]:
    """Points of a line that begins at the image as it is, which nothing flips."""
    points = [(x, y) for x, y in zip(xs or [], ys or [], strict=False) if None not in (x, y)]
    return [(0, 0.0), *sorted(points)] if points else []


def _numbers(name: str, values: Json, metrics: Json) -> Iterator[Html]:
    lists = {key: its for key, its in values.items() if isinstance(its, list)}
    rows = [
        (i + 1, *_cells({key: its[i] for key, its in lists.items()}))
        for i in range(len(values["flipped"]))
    ]
    caption = f"{arrow(name)}, over the number of attributes"
    yield table(caption, ("attributes", *_head(metrics)), rows)
    steps = [
        (x, percent(share), said({"perceptual": moved}, "perceptual"))
        for x, share, moved in zip(*_swept(name, metrics), strict=False)
    ]
    caption = f"{arrow(name)}, all together at growing strength"
    yield table(caption, ("strength", "flipped", f"moved, {perceptual(metrics)}"), steps)


def _smallest(metrics: Json) -> Html:
    caption = "Smallest sets of attributes that flip an image, chosen image by image"
    head = ("from → to", "flipped", "floor: random, all", "median size", "largest", "images")
    rows = []
    for pair, values in first_pairs(metrics, "subset").items():
        sizes = values.get("sizes") or []
        floor = at_last((metrics.get("sufficiency") or {}).get(pair) or {})
        shares = (known(values, "flipped", percent), known(floor, "random", percent))
        sized = (f"{median(sizes):g}", max(sizes)) if sizes else ("none flips", "")
        rows.append((arrow(pair), *shares, *sized, known(values, "images")))
    return table(caption, head, rows)


def _necessity(metrics: Json) -> Html:
    values = metrics.get("necessity") or {}
    count = values.get("coordinates")
    rows = [
        (what, known(values, f"{before}gone", percent), known(values, f"{before}flipped", percent))
        for what, before in (
            (f"the {count} coordinates found", ""),
            (f"floor: {count} random coordinates", "random_"),
        )
    ]
    head = ("put to their mean", "of the decision's lead is gone", "decided otherwise")
    return table("What is lost without the coordinates", head, rows, marked=0)


def _spread(metrics: Json) -> Html:
    ratios = metrics.get("participation_ratio") or {}
    rows = [(name, known(ratios, name)) for name in list(ratios)[:CLASSES]]
    caption = "Over how many moves a class is spread; 1 is the least, a single move"
    return table(caption, ("class", "participation ratio"), rows)
