"""Doubts in their order, and agreement with its divergences."""

import pytest
from measured import evaluated

from stylex.evidence import FROM_P_ALONE, SECTIONS, agreement, doubts, others, quality

FROM_P = {"name": "class from p alone", "passed": False, "says": "agreement is 95%, still 95%"}
ALONE = {"own": 0.95, "mean_w": 0.95, "other_w": 0.95, "swapped_p": 0.1, "mean_p": 0.5}
NAN = {"name": "NaN", "says": "a loss is not finite", "advice": "lower the rate"}


def test_verdicts_come_first_then_health():
    """Each with its name; sentences begin and end as sentences do."""
    verdict = {"name": "attributes are adversarial", "passed": False, "says": "7 of 9 lose it"}
    says = doubts(evaluated(verdicts=[verdict]), [{"health": [NAN]}])
    assert says == [
        "<strong>Attributes are adversarial.</strong> 7 of 9 lose it.",
        "<strong>NaN.</strong> A loss is not finite. Lower the rate.",
    ]


@pytest.mark.parametrize("verdicts", [[], [FROM_P]])
def test_a_class_from_p_is_said_once(verdicts):
    """The verdict takes the place of the search's doubt, and either that of training's."""
    shares = {**ALONE, "chance": 0.5}
    trained = [{"health": [{"name": FROM_P_ALONE, "says": "agreement 0.95", "advice": "hide p"}]}]
    (says,) = doubts({"agreement": shares, "verdicts": verdicts}, trained)
    assert says.startswith("<strong>Class from p alone." if verdicts else "The probabilities")


def test_nothing_to_doubt():
    """A good model, and a run without any file."""
    assert doubts(evaluated(), []) == []
    assert doubts({}, []) == []


def test_divergences_stand_beside_agreement_with_the_same_floors():
    """Five conditions; guessing draws nothing that could diverge."""
    page = agreement(evaluated()["agreement"]).replace("\N{NO-BREAK SPACE}", " ")
    assert ">KL</th>" in page
    for share, divergence in (("95", "0.081"), ("61", "0.72"), ("60", "0.73"), ("48", "1.94")):
        assert f"<td>{share} %</td><td>{divergence}</td>" in page
    assert "<td>86 %</td><td>0.22</td>" in page
    assert "<td>50 %</td><td>\N{EN DASH}</td>" in page


def test_agreement_of_the_search_has_one_divergence():
    """Runs from before know that of the reconstruction only."""
    page = agreement({**ALONE, "chance": 0.5, "kl": 0.08})
    assert ">KL</th>" not in page
    assert "KL divergence of the probabilities: 0.08." in page


def test_a_divergence_that_is_missing_is_said():
    """A file that lost one of the five."""
    assert "not measured" in agreement({**ALONE, "chance": 0.5, "kl_of": {"own": 0.1}})


def test_unknown_measures_are_shown_and_known_ones_are_not():
    """What has a chapter elsewhere is left out, groups are opened, lists stay."""
    page = others({"images": 3, "purity": {"mean": 0.5}, "why_l2": "no", "l2": None}, SECTIONS)
    assert '<th scope="row">purity: mean</th><td>0.5</td>' in page
    assert "not measured: no" in page
    assert "images" not in page
    assert others({"images": 3}, SECTIONS) == ""


def test_quality_of_the_search_alone():
    """Old keys only: three chapters, the missing ones with their reason."""
    page = quality({"images": 9, "split": "test", "why_sufficiency10": "not searched"})
    assert page.count("<h3>") == 3
    assert "not measured: not searched" in page
