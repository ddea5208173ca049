"""Chapters of the evaluation: floors stand beside, what is missing is said, nothing is trusted."""

import re
from html import escape

import pytest
from measured import NO, PAIR, YES, attribute, evaluated, flips

from stylex.exhibits import at_last, chapters

EVIL = "<script>alert('x')</script>"
JUDGELESS = {
    key: [None] * 3 for key in ("confirmed", "random_confirmed")
}  # what `flips` writes without a panel


def page(**other) -> str:
    """The chapters of a made-up evaluation, with ordinary spaces."""
    return plain(evaluated(**other))


def plain(metrics: dict) -> str:
    """Chapters with ordinary spaces."""
    return chapters(metrics).replace("\N{NO-BREAK SPACE}", " ")


def row(html: str, first: str) -> list[str]:
    """The cells of the first table row with this name."""
    found = re.search(rf'<th scope="row">{re.escape(first)}</th>(.*?)</tr>', html)
    assert found, first
    return re.findall("<td>(.*?)</td>", found[1])


def chart(html: str, title: str) -> str:
    """A chart in words."""
    return re.search(f'aria-label="({re.escape(title)}[^"]*)"', html)[1]


def test_the_picture_stands_beside_its_floors():
    """L1 and perceptual beside both PCAs; distances of sets beside PCA and the photos."""
    html = page()
    assert row(html, "this model") == ["0.13", "0.11"]
    assert row(html, "floor: PCA with 128 components") == ["0.082", "0.129"]
    assert row(html, "floor: PCA with 512 components") == ["0.041", "0.058"]
    assert row(html, "reconstructions") == ["0.31", "3.1"]
    assert row(html, "samples from noise") == ["0.42", "4.2"]
    assert row(html, "the test photos themselves: no model gets below") == ["0.0021", "0.021"]
    assert row(html, "shift of the mean")[0] == "0.25"
    assert "LPIPS, squeeze</th>" in html


def test_a_distance_of_sets_is_named_by_its_features_and_never_fid():
    """Whoever reads FID would compare it with Inception's."""
    html = page()
    assert "in features of squeezenet1_1" in html
    assert "FID" not in html


def test_features_that_were_not_to_be_had_are_said():
    """One line takes the place of the table."""
    substrate = {"l1": 0.1, "kid": None, "why_kid": "no features were available"}
    html = page(substrate=substrate)
    assert "Distance of image sets: not measured: no features were available." in html
    assert ">KID</th>" not in html
    assert "not measured: no perceptual distance was available" in html


def test_the_judges_stand_between_chance_and_ceiling():
    """Every share has both beside it, and each judge its accuracy."""
    html = page()
    assert row(html, "ceiling: on photos") == ["92 %", "88 % to 94 %"]
    assert row(html, "on reconstructions")[0] == "83 %"
    assert row(html, "... as a share of the ceiling")[0] == "90 %"
    assert row(html, "floor: by chance")[0] == "51 %"
    assert "<dd>network, right on 94 %</dd>" in html
    assert "<dd>probe, accuracy not known</dd>" in html
    assert "184 test images count" in html


def test_a_missing_panel_says_why_and_what_follows():
    """Nobody confirms a flip; cells say so too."""
    bare = {PAIR: flips(0.1, 0.2, 0.3, **JUDGELESS)}
    html = page(panel={"judges": 0, "why": "no judges: train has no image to learn sick from"},
                sufficiency=bare, sufficiency_percentile=bare)  # fmt: skip
    assert "No judge was asked: nobody confirms a flip" in html
    assert '<p class="note">no judges: train has no image to learn sick from.</p>' in html
    cells = row(html, f"{NO} → {YES}")
    assert cells[4:6] == ["not measured: no judge that agrees on the unedited image"] * 2
    assert "confirmed by the judges" not in chart(html, "Flips over the number")
    assert "Without judges the second could not be looked for." in html


def test_flips_without_a_floor_do_not_blame_the_judges():
    """Random coordinates were not moved there; judges had nothing to do with it."""
    own = {k: v for k, v in flips(0.1, 0.2, 0.3).items() if not k.startswith("random")}
    cells = row(page(sufficiency={PAIR: own}), f"{NO} → {YES}")
    assert (cells[3], cells[5], cells[7]) == ("not measured",) * 3
    assert cells[4].endswith("%")


def test_flips_stand_beside_random_coordinates():
    """At the last number: share, interval, floor, confirmed, its floor, distances, D, images."""
    html = page()
    assert row(html, f"{NO} → {YES}") == (
        ["3", "29 %", "23 % to 35 %", "3 %", "14 %", "1 %", "0.03", "0.06", "96 %", "96"]
    )
    tables = re.findall(r"<table>.*?</table>", html)
    narrow = next(t for t in tables if "2nd and 98th percentile" in t)
    assert row(narrow, f"{NO} → {YES}")[:4] == ["3", "13 %", "10 % to 16 %", "3 %"]


def test_flips_are_drawn_over_attributes_distance_and_strength():
    """Each chart has the floor as a line of its own and begins with the unedited image."""
    html = page()
    assert chart(html, "Flips over the number of attributes").endswith(
        "of 3 attributes: flipped 0 % to 29 %; confirmed by the judges 0 % to 14 %; "
        "floor: random 0 % to 3 %"
    )
    assert chart(html, "Flips over the distance moved").endswith(
        "of 0.06 LPIPS, squeeze: attributes 0 % to 29 %; floor: random 0 % to 3 %"
    )
    assert chart(html, "Flips over the strength").endswith(
        "of 2 times the range: flipped 0 % to 66 %; floor: random, as far as the search 3 % to 3 %"
    )


def test_the_numbers_of_the_charts_can_be_opened():
    """A row for every number of attributes and every strength."""
    tables = re.findall(r"<table>.*?</table>", page())
    counted = next(t for t in tables if "over the number of attributes" in t)
    assert row(counted, "2")[:3] == ["20 %", "16 % to 24 %", "0 %"]
    swept = next(t for t in tables if "at growing strength" in t)
    assert row(swept, "1.5") == ["47 %", "0.05"]


def test_without_a_perceptual_distance_there_is_no_chart_over_it():
    """The cells say why."""
    blind = flips(0.1, 0.2, perceptual=[None] * 2, random_perceptual=[None] * 2)
    html = page(sufficiency={PAIR: blind})
    assert "Flips over the distance moved" not in html
    assert row(html, f"{NO} → {YES}")[6] == "not measured: no perceptual distance was available"


def test_a_pair_without_attributes_is_said():
    """Nothing was found towards it: no chart, one sentence, no invented zero."""
    none = {"images": 12, "countable": 0}
    html = page(sufficiency={PAIR: none}, sufficiency_percentile={PAIR: none}, subset={},
                strength={"strengths": [1.0], "flipped": {PAIR: [0.0]}})  # fmt: skip
    assert html.count("not measured: no attribute was found towards it") == 3
    assert "<svg" not in html


def test_smallest_sets_necessity_and_spread():
    """Each with the floor that there is."""
    html = page()
    smallest = next(t for t in re.findall(r"<table>.*?</table>", html) if "Smallest sets" in t)
    assert row(smallest, f"{NO} → {YES}") == ["32 %", "3 %", "2", "5", "40"]
    assert row(html, "the 17 coordinates found") == ["35 %", "12 %"]
    assert row(html, "floor: 17 random coordinates") == ["2 %", "4 %"]
    assert row(html, YES) == ["97.4"]


def test_many_pairs_are_cut(monkeypatch):
    """A hundred classes would have ten thousand pairs."""
    monkeypatch.setattr("stylex.exhibits.PAIRS", 2)
    pairs = {f"a->{i}": flips(0.1) for i in range(5)}
    html = page(sufficiency=pairs, sufficiency_percentile=pairs)
    assert html.count("<h4>a → ") == 2
    assert "3 more pairs of classes are in metrics.json." in html


def test_no_verdict_is_said_by_name():
    """Three ways were looked for."""
    html = page()
    for name in ("class from p alone", "classifier unlike every judge", "are adversarial"):
        assert name in html
    assert "Without judges" not in html
    bad = {"name": "attributes are adversarial", "passed": False, "says": "all of them"}
    assert "stands at the top of this page" in page(verdicts=[bad])


def test_a_run_that_was_never_evaluated_keeps_its_page():
    """Old keys only, and none at all."""
    old = {
        "images": 200,
        "split": "test",
        "reconstruction": {"l1": 0.13, "l1_pca128": 0.08},
        "sufficiency10": {PAIR: {"share": 0.29, "images": 96, "low": 0.2, "high": 0.39}},
        "logit_std": [1.9, 2.1],
    }
    html = plain(old)
    assert "Measured on 200 test images." in html
    assert "<td>29 %</td>" in html
    assert "No attribute was tried yet" in html
    assert "Nothing was measured yet" in plain({})
    both = plain(old | evaluated())
    assert "What the search measured before" in both
    assert "floor: as many random coordinates" in both


@pytest.mark.parametrize("name", sorted(evaluated().keys() - {"evaluated", "verdicts"}))
def test_a_group_that_is_missing_breaks_nothing(name):
    """Each can be absent, or null with its reason."""
    without = {key: value for key, value in evaluated().items() if key != name}
    assert plain(without)
    assert plain(without | {name: None, f"why_{name}": "interrupted"})
    titled = ("substrate", "agreement", "panel", "sufficiency", "attributes", "stability")
    if name in titled:
        assert "not measured: interrupted" in plain(without | {f"why_{name}": "interrupted"})


def test_names_are_escaped():
    """Classes, judges, features, reasons."""
    pair = f"{EVIL}->b"
    substrate = evaluated()["substrate"] | {"features": EVIL, "perceptual_kind": EVIL}
    panel = evaluated()["panel"] | {"sources": [EVIL] * 2, "why": EVIL}
    html = page(substrate=substrate, panel=panel, participation_ratio={EVIL: 1.0, "b": 2.0},
                sufficiency={pair: flips(0.1)}, subset={pair: {"images": 4, "flipped": 0.0}},
                attributes=[attribute(0, 1, 3)], new={EVIL: 1.0})  # fmt: skip
    assert "<script" not in html
    assert html.count(escape(EVIL)) > 8
    assert 'class="legend"' in html


def test_headings_go_down_one_level_at_a_time():
    """Chapters are h3, what is below them h4."""
    levels = [int(level) for level in re.findall(r"<h(\d)", page())]
    assert set(levels) == {3, 4}
    assert levels[0] == 3


def test_the_last_number_of_each_list():
    """Lists over the number of attributes give their end, other values stay."""
    assert at_last({"counts": [10], "flipped": [0.4]})["attributes"] == 10
    last = at_last({"images": 9, "flipped": [0.1, 0.4], "usual": []})
    assert last == {"images": 9, "flipped": 0.4, "usual": None, "attributes": 2}
