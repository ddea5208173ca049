"""Where each attribute stands after its trial: trusted, doubtful or an artefact, and why.

Words for the group `attributes` of `metrics.json`, on an attribute's card and in one table.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from stylex.page import Html, folded, join, known, note, percent, table, tag

Json = Mapping[str, Any]

ATTRIBUTES = 96  # shown of many; the page says how many more
GATES = {  # each gate and the number in the evidence that it asks for
    "moves the class": "low",
    "survives noise": "noise",
    "survives blur": "blur",
    "seen by the panel": "panel",
    "comes through w": "from_p",
    "stays in the data": "still_usual",
    "drawn again": "comes_back",
    "found again": "returns",
}
STANDINGS = {
    "trusted": "It passes every test.",
    "doubtful": "It does not pass every test.",
    "artefact": "Noise, a blur or the judges take its effect away: it moves this classifier by "
    "what nobody else sees.",
}
MARKS = {
    True: ("\N{CHECK MARK}", "passed"),
    False: ("\N{BALLOT X}", "failed"),
    None: ("?", "not asked"),
}
NOT_UNIQUE = (
    "Coordinates are not unique: another training finds other coordinates. Compare two trainings "
    "by what their attributes change in the picture, not by number."
)


def standing(evidence: Json) -> str:
    """One of `STANDINGS`."""
    if evidence.get("artefact"):
        return "artefact"
    return "trusted" if evidence.get("trusted") else "doubtful"


def ranked(search: Json) -> Iterator[tuple[int, Json]]:
    """The attributes of a search, each with its rank towards its class, from 1.

    Args:
        search: the contents of `search.json`.
    """
    ranks: Counter[int] = Counter()
    for attribute in search["attributes"]:
        ranks[attribute["target"]] += 1
        yield ranks[attribute["target"]], attribute


def trial(metrics: Json, attribute: Json) -> Json:
    """The evidence about an attribute of the search; empty where it was not evaluated.

    Args:
        metrics: the contents of `metrics.json`.
        attribute: with its `target`, `coordinate` and `direction`.
    """
    same = ("target", "coordinate", "direction")
    tried = metrics.get("attributes") or []
    return next((e for e in tried if all(e.get(k) == attribute[k] for k in same)), {})


def standing_of(metrics: Json, attribute: Json) -> str:
    """One of `STANDINGS`, or "untried"."""
    evidence = trial(metrics, attribute)
    return standing(evidence) if evidence else "untried"


def marks(metrics: Json, attribute: Json) -> Html:
    """For the card of an attribute: its standing, and a mark and the reason of each gate.

    Reasons of the gates that are open are folded. Nothing where the run was never evaluated.
    """
    if "evaluated" not in metrics:
        return Html("")
    evidence = trial(metrics, attribute)
    if not evidence:
        return note("Not evaluated: it was not among the attributes that the evaluation knew.")
    stands, gates = standing(evidence), evidence.get("gates") or []
    line = [tag("li", f"{gate['name']} ", mark(gate["passed"])) for gate in gates]
    says = f". {STANDINGS[stands]} Effect on test images: {effect(evidence)} logits."
    head = tag("p", tag("strong", stands.capitalize()), says)
    parts = [head, tag("ul", *line, class_="gates")]
    if shut := [gate for gate in gates if not gate["passed"]]:
        parts.append(_reasons(shut))
    if passed := [gate for gate in gates if gate["passed"]]:
        parts.append(folded("Measured at the gates that it passes", _reasons(passed)))
    return tag("div", *parts, class_=f"standing {stands}")


def _reasons(gates: list[Json]) -> Html:
    lines = (tag("li", f"{gate['name']}: {gate['says']}") for gate in gates)
    return tag("ul", *lines, class_="reasons")


def mark(passed: bool | None) -> Html:
    """Whether a gate is open, as a sign that is also read aloud."""
    sign, says = MARKS[passed]
    return tag("span", sign, role="img", aria_label=says, class_=f"mark {says.split()[0]}")


# All attributes


def attributes(metrics: Json) -> Html:
    """Two tables: the gates of every attribute, and what else it moves."""
    every = metrics["attributes"]
    shown = every[:ATTRIBUTES]
    head = ("attribute", "standing", "effect, 95 % interval", *GATES)
    rows = [(title(metrics, one), _stands(one), effect(one), *_passed(one)) for one in shown]
    parts = [
        tag("p", counted(every)),
        table("Gates, each with the number it asks for", head, [_wanted(shown), *rows]),
        _elsewhere(metrics, shown),
    ]
    left = len(every) - len(shown)
    parts += [note(f"{left} more attributes are in metrics.json.")] if left else []
    return join(parts)


def counted(every: list[Json]) -> str:
    """How many attributes stand where, in one sentence."""
    stands = [standing(one) for one in every]
    counts = ", ".join(f"{stands.count(name)} {name}" for name in STANDINGS)
    plural = "" if stands.count("artefact") == 1 else "s"
    return f"Of {len(every)} attributes: {counts}{plural}."


def title(metrics: Json, one: Json) -> str:
    """An attribute by its rank and class, and by what people call it where they do."""
    name = f": {one['called']}" if one.get("called") else ""
    return f"{one.get('rank')} towards {class_name(metrics, one['target'])}{name}"


def class_name(metrics: Json, target: int) -> str:
    """A class's name: the evaluation keeps them, in order, with the participation ratios."""
    names = list(metrics.get("participation_ratio") or {})
    return names[target] if 0 <= target < len(names) else f"class {target}"


def effect(one: Json) -> str:
    """Mean effect in logits with its interval."""
    mean = known(one, "effect", _signed)
    if one.get("low") is None:
        return mean
    space = "\N{NO-BREAK SPACE}"  # the interval stays in one line
    return f"{mean} ({_signed(one['low'])}{space}to{space}{_signed(one['high'])})"


def _signed(value: float) -> str:
    return f"{value:+.2f}"


def _stands(one: Json) -> Html:
    return tag("span", standing(one), class_=f"stands {standing(one)}")


def _passed(one: Json) -> list[Html]:
    """One cell for each gate: its mark and its number."""
    gates = {gate["name"]: gate["passed"] for gate in one.get("gates") or []}
    return [
        join((mark(gates.get(name)), f" {known(one, key, '{:.2f}'.format)}"))
        for name, key in GATES.items()
    ]


def _wanted(shown: list[Json]) -> list[str]:
    """The line that each gate drew when it was asked: the end of its sentence says it."""
    ends: dict[str, str] = {}
    for gate in (gate for one in shown for gate in one.get("gates") or []):
        if gate["passed"] is not None:
            ends.setdefault(gate["name"], " ".join(gate["says"].split()[-2:]))
    return ["the line drawn", "", "logits", *(ends.get(name, "") for name in GATES)]


def _elsewhere(metrics: Json, shown: list[Json]) -> Html:
    rows = [
        (
            title(metrics, one),
            known(one, "flipped", percent),
            _other_class(metrics, one),
            known(one, "own_return", _signed),
            _other_attribute(one),
            known(one, "overlap", "{:.2f}".format),
        )
        for one in shown
    ]
    head = (
        "attribute",
        "flips alone",
        "moves another class most by, logits",
        "seen again by the encoder: itself",
        "floor: another attribute",
        "its map's overlap with another's",
    )
    caption = "What else it moves; the encoder's view in ranges of each coordinate, overlap up to 1"
    return table(caption, head, rows)


def _other_class(metrics: Json, one: Json) -> str:
    effects = {k: value for k, value in enumerate(one.get("effects") or []) if k != one["target"]}
    if not effects:
        return "not measured"
    most = max(effects, key=lambda k: abs(effects[k]))
    return f"{_signed(effects[most])} {class_name(metrics, most)}"


def _other_attribute(one: Json) -> str:
    if one.get("other_return") is None:
        return "there is no other"
    return f"{_signed(one['other_return'])} (coordinate {one.get('other_coordinate')})"


def stability(metrics: Json) -> Html:
    """How much of the ranking comes back from resampled images, and what that does not say."""
    values = metrics["stability"]
    again = known(values, "rank_biased_overlap", "{:.2f}".format)
    rows = [
        ("searches on resampled images", again, stability_interval(values)),
        ("floor: rankings without a common attribute", "0", ""),
    ]
    caption = f"Rank-biased overlap with the ranking found, {values.get('draws', 0)} searches"
    head = ("ranking", "overlap, 1 is equal", "95 % interval")
    parts = [table(caption, head, rows, marked=0)]
    if others := values.get("against"):
        seeds = [
            (run, known(its, "share", percent), known(its, "random_share", percent))
            for run, its in others.items()
        ]
        says = "Attributes that another training found too, by what they change in the pictures"
        parts.append(table(says, ("other run", "found too", "floor: random coordinates"), seeds))
    return join((*parts, tag("p", NOT_UNIQUE)))


def stability_interval(values: Json) -> str:
    """The middle 95 % of the overlaps."""
    if values.get("low") is None:
        return ""
    return f"{values['low']:.2f} to {values['high']:.2f}"
