"""Marks of attributes: what stands where, why, and who was not asked."""

from html import escape

import pytest
from measured import PASSED, attribute, evaluated, smudge

from stylex.gates import Gate, attribute_gates
from stylex.page import percent
from stylex.standing import (
    GATES,
    attributes,
    class_name,
    counted,
    marks,
    stability,
    standing,
    standing_of,
)

EVIL = "<script>alert('x')</script>"
MOVE = {"target": 1, "coordinate": 77, "direction": 1}


def gated(**shut: str) -> list[dict]:
    """All gates open, but for those that are shut with a reason."""
    named = {name.replace("_", " "): says for name, says in shut.items()}
    return [
        {"name": name, "passed": name not in named, "says": named.get(name, says)}
        for name, says in PASSED.items()
    ]


def test_every_gate_has_a_column_of_its_own_number():
    """The names and numbers of this table are those that `gates` asks for."""
    numbers = {key: (i + 3) / 10 for i, key in enumerate(GATES.values())}
    gates = attribute_gates(numbers)
    assert [gate.name for gate in gates] == list(GATES)
    for gate in gates:
        assert f"{numbers[GATES[gate.name]]:.2f}" in gate.says


def test_the_line_of_each_gate_stands_above_its_numbers():
    """What was wanted is read off the sentences of those that were asked."""
    gates = [gate._asdict() for gate in attribute_gates({"low": 0.9, "noise": 0.7, "from_p": 0.2})]
    assert gates[1]["says"] in ("under noise of 0.05 it keeps 0.70 of its effect, wanted 0.50",)
    page = attributes({"attributes": [attribute(1, 1, 77, gates=gates, returns=None)]})
    assert "<td>wanted 0.50</td>" in page
    assert "<td>allowed 0.50</td>" in page
    assert page.count("wanted 0.") == 2  # of the others nobody drew a line


@pytest.mark.parametrize(
    ("evidence", "stands"),
    [
        ({"trusted": True, "artefact": False}, "trusted"),
        ({"trusted": False, "artefact": False}, "doubtful"),
        ({"trusted": False, "artefact": True}, "artefact"),
        ({}, "doubtful"),
    ],
)
def test_standings(evidence, stands):
    """One of three words; nothing known is no trust."""
    assert standing(evidence) == stands


def test_a_trusted_attribute_has_marks_and_folded_reasons():
    """Every gate by its name with a sign that is read aloud; what was measured is folded."""
    page = marks(evaluated(), MOVE)
    assert page.startswith('<div class="standing trusted"><p><strong>Trusted</strong>')
    assert page.count('aria-label="passed"') == len(GATES)
    for name in GATES:
        assert f"<li>{name} <span" in page
    shut, passed = page.split("<details>")
    assert "reasons" not in shut
    assert all(f"<li>{name}: {escape(says)}</li>" in passed for name, says in PASSED.items())


def test_an_artefact_is_named_and_says_why():
    """The shut gate has its mark, and its sentence with the number and the line."""
    page = marks(evaluated(), {"target": 1, "coordinate": 301, "direction": 0})
    assert page.startswith('<div class="standing artefact"><p><strong>Artefact</strong>')
    assert "<li>survives blur: under a blur it keeps 0.02 of its effect, wanted 0.50</li>" in page
    assert page.count('aria-label="failed"') == 1
    open_, folded = page.split("<details>")
    assert open_.count("<li>survives noise") == 1  # marked; why it passed is folded
    assert "<li>survives noise: under noise" in folded


def test_a_gate_that_was_not_asked_is_no_pass():
    """Without judges the mark is neither, and the reason says that nobody measured."""
    gates = gated()
    gates[3] |= {"passed": None, "says": "not measured"}
    doubtful = attribute(1, 1, 77, gates=gates, panel=None, trusted=False)
    page = marks(evaluated(attributes=[doubtful]), MOVE)
    assert "<strong>Doubtful</strong>" in page
    assert 'seen by the panel <span role="img" aria-label="not asked"' in page
    assert "<li>seen by the panel: not measured</li>" in page


def test_another_move_of_the_coordinate_is_another_attribute():
    """Evidence is matched by class, coordinate and direction, never by rank."""
    metrics = evaluated()
    assert standing_of(metrics, MOVE) == "trusted"
    for other in ({"target": 0}, {"coordinate": 78}, {"direction": 0}):
        assert standing_of(metrics, MOVE | other) == "untried"
        assert "Not evaluated" in marks(metrics, MOVE | other)


def test_a_run_that_was_never_evaluated_has_no_marks():
    """Nothing stands there, not even a question."""
    assert marks({"images": 200}, MOVE) == ""
    assert standing_of({}, MOVE) == "untried"


def test_the_table_has_a_row_for_each_attribute():
    """Effect with its interval, each gate with mark and number, what else moves with its floor."""
    page = attributes(evaluated())
    assert counted(evaluated()["attributes"]) == (
        "Of 2 attributes: 1 trusted, 0 doubtful, 1 artefact."
    )
    assert '<span class="stands artefact">artefact</span>' in page
    assert "<td>+0.83 (+0.61 to +1.02)</td>" in page.replace("\N{NO-BREAK SPACE}", " ")
    assert 'class="mark failed">\N{BALLOT X}</span> 0.02</td>' in page
    assert "<td>-0.44 healthy</td>" in page
    assert "<td>+0.42</td><td>-0.11 (coordinate 301)</td><td>0.37</td>" in page


def test_what_is_missing_is_said():
    """An attribute alone has no other beside it, and no judge no number."""
    alone = attribute(1, 1, 77, other_return=None, overlap=None, panel=None, effects=[])
    page = attributes(evaluated(attributes=[alone | {"why_overlap": "it is the only one"}]))
    assert "there is no other" in page
    assert "not measured: it is the only one" in page


def test_many_attributes_are_cut(monkeypatch):
    """The page says how many it leaves out."""
    monkeypatch.setattr("stylex.standing.ATTRIBUTES", 2)
    page = attributes(evaluated(attributes=[smudge(0, r, r) for r in range(5)]))
    assert "3 more attributes are in metrics.json." in page
    assert "Of 5 attributes: 0 trusted, 0 doubtful, 5 artefacts." in page


def test_names_are_escaped():
    """A class name and a gate's sentence stay text."""
    bad = attribute(1, 1, 77, gates=[Gate("survives blur", False, EVIL)._asdict()])
    metrics = evaluated(attributes=[bad], participation_ratio={"a": 1.0, EVIL: 2.0})
    for page in (attributes(metrics), marks(metrics, MOVE)):
        assert "<script" not in page
        assert escape(EVIL) in page


def test_a_class_without_a_name_is_counted():
    """A metrics file that lost its names still has a page."""
    assert class_name(evaluated(), 1) == "sick"
    assert class_name({}, 1) == "class 1"


def test_stability_says_what_it_does_not_say():
    """The overlap with its interval, its floor, and that coordinates are not unique."""
    page = stability(evaluated())
    assert "<td>0.64</td><td>0.41 to 0.83</td>" in page
    assert "floor: rankings without a common attribute" in page
    assert "another training finds other coordinates" in page
    none = {"rank_biased_overlap": None, "why_rank_biased_overlap": "no attributes"}
    assert "not measured: no attributes" in stability({"stability": none})


def test_other_trainings_stand_beside_their_floor():
    """What another seed found too, and what random coordinates of it would."""
    values = evaluated()["stability"] | {"against": {"runs/b": {"share": 0.6, "random_share": 0.1}}}
    page = stability({"stability": values})
    assert f">runs/b</th><td>{percent(0.6)}</td><td>{percent(0.1)}</td>" in page
