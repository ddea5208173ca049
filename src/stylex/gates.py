"""Trust gates: what an attribute, and a whole model, must stand before it is believed.

Measured numbers become a name, a verdict and a sentence. Each threshold is a choice of ours [O]; it
is said in the sentence, so that a reader can draw the line elsewhere.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from stylex.evidence import FROM_P_ALONE, from_p_alone
from stylex.selection import CHANGED, COMES_BACK

KEPT = 0.5  # share of the effect that must survive noise and blur
PANEL_KEPT = 0.25  # of the effect, both in standard deviations: another model weighs it its own way
FROM_P = 0.5  # share of a coordinate's range that may come from the condition
USUAL = 0.5  # of the unedited images that D finds as real as photos, so many edited ones must be
RETURNS = 0.5  # share of the bootstrap searches that must find the attribute again
ALIKE = 0.8  # cosine of effects above which two attributes count once

Numbers = Mapping[str, Any]


class Gate(NamedTuple):
    """One question to an attribute; `passed` is None where it could not be asked."""

    name: str
    passed: bool | None
    says: str


def attribute_gates(numbers: Numbers) -> list[Gate]:
    """The gates of one attribute, from its evidence (see `scrutiny.scrutinise`)."""
    moves = _at_least("moves the class", numbers, "low", CHANGED, "its effect on test images is {} "
                      "logits at the lower 95 % bound, wanted {}")  # fmt: skip
    if not moves.passed:  # a share of nearly nothing says nothing
        numbers = {**numbers, **dict.fromkeys(("noise", "blur", "panel"))}
    return [
        moves,
        _at_least("survives noise", numbers, "noise", KEPT, "under noise of 0.05 it keeps {} of "
                  "its effect, wanted {}"),
        _at_least("survives blur", numbers, "blur", KEPT, "under a blur it keeps {} of its effect, "
                  "wanted {}"),
        _at_least("seen by the panel", numbers, "panel", PANEL_KEPT, "in standard deviations of "
                  "the logits the judges move {} times as far as the classifier, wanted {}"),
        _at_most("comes through w", numbers, "from_p", FROM_P, "{} of its coordinate's range come "
                 "from the condition p, allowed {}"),
        _at_least("stays in the data", numbers, "still_usual", USUAL, "D finds the edits as real "
                  "as photos {} times as often as the unedited images, wanted {}"),
        _at_least("drawn again", numbers, "comes_back", COMES_BACK, "of the edit {} comes "
                  "back where the model draws the edited image again, wanted {}"),
        _at_least("found again", numbers, "returns", RETURNS, "{} of the searches on resampled "
                  "images find it again, wanted {}"),
    ]  # fmt: skip


def trusted(gates: Sequence[Gate]) -> bool:
    """Whether no gate is shut and the panel was asked: without judges a smudge looks the same."""
    asked = all(gate.passed is not None for gate in gates if gate.name == "seen by the panel")
    return asked and all(gate.passed is not False for gate in gates)


def artefact(gates: Sequence[Gate]) -> bool:
    """Whether the effect lives on a smudge: it does not survive noise, blur or the panel."""
    survival = ("survives noise", "survives blur", "seen by the panel")
    return any(gate.passed is False for gate in gates if gate.name in survival)


def model_verdicts(metrics: Numbers) -> list[Gate]:
    """What is wrong with a whole model, by name; each with `passed` False or not there at all."""
    found = (_class_from_p(metrics), _unknown_to_judges(metrics), _smudges(metrics))
    return [gate for gate in found if gate is not None]


def _class_from_p(metrics: Numbers) -> Gate | None:
    """Trap 11: with the mean w as good, and lost without the condition."""
    shares = metrics.get("agreement") or {}
    own, mean_w, mean_p, chance = (shares.get(n) for n in ("own", "mean_w", "mean_p", "chance"))
    if own is None or mean_w is None or mean_p is None or chance is None:
        return None
    if not from_p_alone(own=own, mean_w=mean_w, mean_p=mean_p, chance=chance):
        return None
    return Gate(
        FROM_P_ALONE,
        False,
        f"agreement is {own:.0%}, still {mean_w:.0%} with the mean w, and only {mean_p:.0%} when "
        f"p says nothing (chance {chance:.0%}): the image's own w does not carry the class",
    )


def _unknown_to_judges(metrics: Numbers) -> Gate | None:
    """Nobody who learned the classes sees them where the classifier does: shuffled labels."""
    panel = metrics.get("panel") or {}
    if panel.get("ceiling_low") is None or panel["ceiling_low"] > panel["chance"]:
        return None
    return Gate(
        "classifier unlike every judge",
        False,
        f"on test photos classifier and panel agree on {panel['ceiling']:.0%}, by chance they "
        f"would on {panel['chance']:.0%}: there is nothing that a judge could confirm",
    )


def _smudges(metrics: Numbers) -> Gate | None:
    """Most of the attributes that move the class at all are artefacts."""
    every = metrics.get("attributes") or []
    attributes = [a for a in every if a.get("artefact") or (a.get("low") or 0) >= CHANGED]
    bad = sum(bool(attribute.get("artefact")) for attribute in attributes)
    if not attributes or bad <= len(attributes) / 2:
        return None
    return Gate(
        "attributes are adversarial",
        False,
        f"{bad} of {len(attributes)} attributes that move the class lose their effect under noise, "
        "a blur or the judges: they move the classifier by what nobody else sees",
    )


def _at_least(name: str, numbers: Numbers, key: str, wanted: float, says: str) -> Gate:
    value = numbers.get(key)
    passed = None if value is None else value >= wanted
    return Gate(name, passed, _sentence(says, value, wanted))


def _at_most(name: str, numbers: Numbers, key: str, allowed: float, says: str) -> Gate:
    value = numbers.get(key)
    passed = None if value is None else value <= allowed
    return Gate(name, passed, _sentence(says, value, allowed))


def _sentence(says: str, value: float | None, line: float) -> str:
    return "not measured" if value is None else says.format(f"{value:.2f}", f"{line:.2f}")
