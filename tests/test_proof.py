"""The console's tables: every number beside its floor, no name taken for markup."""

from io import StringIO

import pytest
from measured import PAIR, attribute, evaluated, flips
from rich.console import Console

from stylex.proof import as_tables


def shown(metrics: dict, width: int = 160) -> str:
    """What a console of some width prints, as the command line does."""
    out = StringIO()
    console = Console(file=out, width=width, soft_wrap=True, highlight=False)
    for table in as_tables(metrics):
        console.print(table)
    return out.getvalue().replace("\N{NO-BREAK SPACE}", " ")


def line(text: str, start: str) -> str:
    """The line of a measure."""
    return next(one for one in text.splitlines() if start in one)


def test_each_measure_stands_beside_its_floor():
    """One line per measure: what, how much, and what is reached without understanding."""
    text = shown(evaluated())
    for start, value, floor in (
        ("L1 error", "0.13", "PCA-128 0.082, PCA-512 0.041"),
        ("LPIPS, squeeze", "0.11", "PCA-128 0.129, PCA-512 0.058"),
        ("KID, squeezenet1_1", "0.31, from noise 0.42", "PCA-128 0.53, photos 0.0021"),
        ("agreement", "95%", "mean w 61%, other w 60%, swapped p 48%, mean p 86%, chance 50"),
        ("KL", "0.081", "mean w 0.72"),
        ("judges agree, photos", "92% (88% to 94%)", "chance 51%"),
        ("judges agree, reconstructions", "83%", "chance 51%"),
        ("healthy → sick: flipped by 3", "29% (23% to 35%)", "random 3%"),
        ("healthy → sick: confirmed", "14%", "random 1%"),
        ("2nd to 98th percentile: flipped by 3", "13%", "random 3%"),
        ("smallest sets", "32% of 40 images, median size 2", "random 3%"),
        ("lead lost without 17 coordinates", "35%", "random 2%"),
        ("participation ratio, sick", "97.4", "1 is the least"),
        ("rank-biased overlap", "0.64 (0.41 to 0.83)", "disjoint 0"),
    ):
        found = line(text, start) if start != "KL" else line(text, " KL ")
        assert value in found, start
        assert floor in found.split(value, 1)[1], start


def test_attributes_say_what_they_do_not_pass():
    """Standing, effect with interval, the names of shut and unasked gates."""
    gates = [{"name": "seen by the panel", "passed": None, "says": "not measured"}]
    doubtful = attribute(0, 1, 3, gates=gates, trusted=False)
    text = shown(evaluated(attributes=[*evaluated()["attributes"], doubtful]))
    assert "Of 3 attributes: 1 trusted, 1 doubtful, 1 artefact." in text
    assert "trusted" in line(text, "1 towards sick")
    assert "survives blur" in line(text, "2 towards sick")
    assert "seen by the panel (not asked)" in line(text, "1 towards healthy")


def test_verdicts_come_first():
    """A model that fooled the numbers is named before any of them."""
    bad = {"name": "class from p alone", "passed": False, "says": "agreement is 95%, still 95%"}
    text = shown(evaluated(verdicts=[bad]))
    assert 0 < text.index("class from p alone") < text.index("L1 error")
    assert "Wrong with the whole model" not in shown(evaluated())


def test_what_is_missing_is_said():
    """No judges, no features, no distance, no attribute."""
    substrate = {"l1": 0.1, "perceptual": None, "kid": None, "why_kid": "no features"}
    text = shown(
        evaluated(
            panel={"judges": 0},
            substrate=substrate,
            sufficiency={PAIR: {"images": 3}},
            attributes=[],
        )
    )
    assert "none was asked" in line(text, "judges")
    assert "not measured: no features" in line(text, "KID")
    assert "not measured: no perceptual distance" in line(text, "perceptual error")
    assert "not measured: no attribute was found" in line(text, "healthy → sick ")
    assert "attributes: 0" not in text


def test_names_are_no_markup():
    """A class named like a style, or like a broken tag, is printed as it is."""
    pair = "[red]a[/red]->[/b]"
    text = shown(evaluated(sufficiency={pair: flips(0.1)}, participation_ratio={"[/b]": 2.0}))
    assert "[red]a[/red] → [/b]: flipped by 1" in text
    assert "participation ratio, [/b]" in text


@pytest.mark.parametrize("metrics", [{}, {"images": 3, "agreement": {"own": 0.9}}])
def test_a_run_that_was_never_evaluated_breaks_nothing(metrics):
    """Little is said of little."""
    assert "none was asked" in shown(metrics)


def test_a_narrow_console_wraps():
    """No line is wider than the console, and no word is lost."""
    text = shown(evaluated(), width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert "swapped p" in text
