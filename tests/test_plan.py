"""How long a training will be: arithmetic by hand, and one real rehearsal."""

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training import OPTIONS, draw_photos, make_classifier

from stylex import plan
from stylex.plan import Speeds, seconds_of
from stylex.runs import Run, read_json, write_json
from stylex.step import Step
from stylex.training import train

FAST = Speeds(alone=100.0, judged=50.0)


@pytest.mark.parametrize(
    ("budget", "seconds"), [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("0.5h", 1800)]
)
def test_budgets_are_times(budget: str, seconds: float):
    """Days, hours, minutes and seconds, alone or together."""
    assert seconds_of(budget) == seconds


@pytest.mark.parametrize("budget", ["", "2", "h", "2h 30", "-1h"])
def test_what_is_no_time_is_refused(budget: str):
    """With one line that shows what is wanted."""
    with pytest.raises(ValueError, match="wanted a time like 2h"):
        seconds_of(budget)


def test_seconds_of_both_parts():
    """400 images at 100 a second and 600 at 50."""
    assert FAST.seconds(1000, 400) == pytest.approx(4 + 12)
    assert FAST.seconds(300, 400) == pytest.approx(3)


@pytest.mark.parametrize("begins", [None, 0, 400, 5000])
def test_as_many_images_as_fit(begins: int | None):
    """The inverse of the seconds, wherever D begins."""
    total = FAST.images(16.0, begins)
    assert FAST.seconds(total, int(plan.ALONE * total) if begins is None else begins) == (
        pytest.approx(16, abs=0.05)
    )


def test_a_budget_makes_the_length_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The run says what to expect, keeps to it when it goes on, and D begins at its share."""
    photos, classifier = draw_photos(tmp_path / "photos"), make_classifier()
    settings = OPTIONS | {"budget": "4s", "adversarial_from_images": None}
    del settings["total_images"]
    train(photos, classifier, run=tmp_path / "run", **settings)
    about = read_json(Run(tmp_path / "run").about)
    total = about["settings"]["total_images"]
    assert total > 4
    assert about["settings"]["adversarial_from_images"] == int(plan.ALONE * total)
    assert f"{total:,} images take about" in capsys.readouterr().out.replace("\n", " ")
    train(photos, classifier, run=tmp_path / "run", **settings | {"budget": "3h"})
    assert read_json(Run(tmp_path / "run").about)["settings"]["total_images"] == total


def test_a_budget_of_no_time_is_one_line(tmp_path: Path):
    """It is no missing budget, which would train to the default length."""
    photos, settings = draw_photos(tmp_path / "photos"), OPTIONS | {"total_images": 8}
    with pytest.raises(ValueError, match=r"^budget 0h at .* not one batch fits; give more$"):
        train(photos, make_classifier(), run=tmp_path / "run", **settings | {"budget": "0h"})


def test_a_rehearsal_leaves_nothing_behind(tmp_path: Path):
    """The weights are the same with and without it, but for rounding."""
    photos, classifier = draw_photos(tmp_path / "photos"), make_classifier()
    settings = OPTIONS | {"total_images": 8, "adversarial_from_images": 0}
    plain = train(photos, classifier, run=tmp_path / "plain", **settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "SHORT", 0)
        spoken = train(photos, classifier, run=tmp_path / "spoken", **settings)
    for name, value in plain.own_state().items():
        torch.testing.assert_close(value, spoken.own_state()[name], rtol=1e-4, atol=1e-5)


SIDES = (("32", 2000), ("64", 3000))


def test_what_to_expect_is_the_row_that_the_length_has_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Of the published models; a shorter run is told where they begin."""
    row = {"agreement": [0.7, 0.9], "chance": [0.4, 0.6], "perceptual": [0.05, 0.1]}
    rows = {side: [row | {"images_seen": n} for n in (first, 4000)] for side, first in SIDES}
    write_json(tmp_path / "expected.json", {"rows": rows})
    monkeypatch.setattr(plan, "EXPECTED", tmp_path / "expected.json")
    told = plan.expected(3999, 32)
    assert told.startswith("after 2,000 images the published 32 px models kept")
    says = "of 70% to 90% of the photos (guessing: 40% to 60%), at a perceptual distance of 0.05 to"
    assert says in plan.expected(10**6, 32)
    assert plan.expected(1999, 32).endswith("32 px models were first measured after 2,000 images")
    assert "64 px models were first measured after 3,000" in plan.expected(2000, 64)
    assert plan.expected(10**6, 128) == plan.expected(10**6, 64)


def test_the_published_models_have_a_curve():
    """The file that comes with the package says how it was made."""
    known = read_json(plan.EXPECTED)
    assert known["made"]["command"] == "python benchmarks/training_curve.py"
    assert all(row["images_seen"] for rows in known["rows"].values() for row in rows)
    assert {"32", "64"} <= set(known["rows"])


def test_a_rehearsal_lets_its_networks_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """On a GPU they would hold memory that the training needs."""
    steps: list[weakref.ref[Step]] = []
    true = plan._rate

    def rate(step: Step, *given: Any) -> float:
        steps.append(weakref.ref(step))
        return true(step, *given)

    monkeypatch.setattr(plan, "SHORT", 0)
    monkeypatch.setattr(plan, "_rate", rate)
    gc.disable()  # what only a collection frees is not let go
    try:
        settings = OPTIONS | {"total_images": 8, "adversarial_from_images": 0}
        train(draw_photos(tmp_path / "photos"), make_classifier(), run=tmp_path / "r", **settings)
        assert len(steps) == 2
        assert [step() for step in steps] == [None, None]
    finally:
        gc.enable()
