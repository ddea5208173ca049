"""Gates and verdicts, from numbers by hand."""

import pytest

from stylex.gates import artefact, attribute_gates, model_verdicts, trusted

GOOD = {
    "low": 0.9,
    "noise": 0.95,
    "blur": 0.8,
    "panel": 0.7,
    "from_p": 0.1,
    "still_usual": 0.9,
    "comes_back": 0.8,
    "returns": 1.0,
}


def test_a_good_attribute_passes_every_gate():
    """All named, all open, each with its number and its line in words."""
    gates = attribute_gates(GOOD)
    assert [gate.passed for gate in gates] == [True] * 8
    assert trusted(gates)
    assert not artefact(gates)
    assert "0.95" in next(gate for gate in gates if gate.name == "survives noise").says


@pytest.mark.parametrize(
    ("key", "value", "name", "smudge"),
    [
        ("noise", 0.4, "survives noise", True),
        ("blur", 0.4, "survives blur", True),
        ("panel", 0.2, "seen by the panel", True),
        ("panel", -1.0, "seen by the panel", True),
        ("from_p", 0.6, "comes through w", False),
        ("still_usual", 0.4, "stays in the data", False),
        ("comes_back", 0.4, "drawn again", False),
        ("returns", 0.4, "found again", False),
    ],
)
def test_each_gate_shuts_by_its_own_number(key, value, name, smudge):
    """One number beyond its line shuts one gate; only survival makes an artefact."""
    gates = attribute_gates(GOOD | {key: value})
    assert [gate.name for gate in gates if gate.passed is False] == [name]
    assert not trusted(gates)
    assert artefact(gates) == smudge


def test_what_moves_nothing_is_no_artefact_but_not_trusted():
    """A share of nearly no effect says nothing, so survival is not asked."""
    gates = attribute_gates(GOOD | {"low": 0.1, "noise": -3.0, "blur": 0.0, "panel": 0.0})
    assert [gate.name for gate in gates if gate.passed is False] == ["moves the class"]
    assert not trusted(gates)
    assert not artefact(gates)


def test_without_a_panel_nothing_is_trusted():
    """It was not asked, so it is neither passed nor an artefact."""
    gates = attribute_gates(GOOD | {"panel": None})
    asked = {gate.name: gate for gate in gates}["seen by the panel"]
    assert (asked.passed, asked.says) == (None, "not measured")
    assert not trusted(gates)
    assert not artefact(gates)


AGREEMENT = {"own": 0.95, "mean_w": 0.6, "mean_p": 0.9, "chance": 0.55}
PANEL = {"ceiling": 0.93, "ceiling_low": 0.9, "chance": 0.5}


def names(**groups) -> list[str]:
    """Verdicts over groups of metrics."""
    return [gate.name for gate in model_verdicts(groups)]


def test_a_good_model_has_no_verdict():
    """Nor has one of which nothing was measured."""
    assert names(agreement=AGREEMENT, panel=PANEL, attributes=[{"artefact": False}]) == []
    assert names() == []
    assert names(agreement=AGREEMENT | {"mean_w": None}, panel={"judges": 0}) == []


def test_a_class_that_comes_from_p_is_named():
    """With the mean w as good as ever, and lost without p."""
    assert names(agreement=AGREEMENT | {"mean_w": 0.95, "mean_p": 0.55}) == ["class from p alone"]
    assert names(agreement=AGREEMENT | {"mean_w": 0.95}) == []  # both carry it


def test_a_classifier_that_no_judge_follows_is_named():
    """The ceiling is not above what chance gives."""
    bad = {"ceiling": 0.52, "ceiling_low": 0.47, "chance": 0.5}
    assert names(panel=bad) == ["classifier unlike every judge"]


@pytest.mark.parametrize(("bad", "named"), [(2, False), (3, True)])
def test_mostly_artefacts_are_named(bad, named):
    """Half of them is not most; those that move nothing do not count."""
    attributes = [{"artefact": i < bad, "low": 0.3} for i in range(4)]
    attributes += [{"artefact": False, "low": 0.1}] * 5
    assert names(attributes=attributes) == ["attributes are adversarial"] * named
