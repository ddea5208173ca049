"""AttFind's benchmark counts and compares what it says it does, on a tiny model."""

import itertools
import sys
from pathlib import Path

import pytest
import torch
from small import tiny, weighing
from torch.utils.flop_counter import FlopCounterMode

from stylex import screening, stylespace, sweep
from stylex.runs import read_json

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
import attfind_lists
import attfind_speed
import attfind_table


@pytest.fixture(scope="module")
def model():
    """Real networks, 84 coordinates or so."""
    return tiny(weighing([[3.0, -3.0], [1.0, -1.0], [-2.0, 2.0], [1.0, -1.0]], [0.0, 0.0]))


def test_operations_of_a_sample_are_those_of_the_whole(model):
    """Layer by layer what a batch takes, times the batches: nothing is forgotten or doubled."""
    synthesis, classify = model.generator.synthesis, model.classifier
    styles = attfind_speed.sampled(model, 3)
    given = (synthesis, classify, styles[:1], stylespace.bounds(styles))
    sample = {"batch": 4, "draw": torch.Generator().manual_seed(0)}
    each = attfind_speed.engine(*given, **sample, spend=attfind_speed.counted)
    sample["draw"].manual_seed(0)
    rounded = sample | {"dtype": torch.bfloat16}  # as many operations
    assert attfind_speed.engine(*given, **rounded, spend=attfind_speed.counted) == each
    base = torch.zeros(1, 2)
    with FlopCounterMode(display=False) as counter:
        sweep.measure(*given, batch=4, base=base)
    still = (styles[0] == given[3]).any(0)[: model.layout.searched].float().mean() / 2
    whole = counter.get_total_flops() / (2 * model.layout.searched)
    assert each * (1 - still) <= whole <= each * 1.0001


def test_wide_models_have_the_coordinates_that_are_named():
    """2,464 at 64 px and config-e's 4,928 at 256 px, by their channels."""
    for side, searched in ((64, 2464), (256, 4928)):
        wide = list(attfind_speed.WIDTHS[side].values())
        inputs = wide[0] + sum(a + b for a, b in itertools.pairwise(wide))
        assert inputs == searched


def test_a_quick_search_that_chooses_nothing_is_not_timed(model, monkeypatch):
    """Where all images are left out; otherwise both it and its estimate have measured something."""
    monkeypatch.setattr(screening, "AUDITED", 4)
    monkeypatch.setattr(screening, "AHEAD", 4)
    styles = attfind_speed.sampled(model, 4)
    sample = {"moves": 2, "batch": 8, "draw": torch.Generator().manual_seed(0)}
    row = attfind_speed.hasty(model, model.classifier, styles, **sample)
    assert row["fast_chosen"] > 0
    assert row["fast_ratio"] > 0
    assert row["fast_expected_seconds"] > 0
    with pytest.raises(ValueError, match="nothing but its audit"):
        attfind_speed.hasty(model, lambda images: 1e4 * model.classifier(images), styles, **sample)


def test_lists_of_a_tiny_model(model, monkeypatch):
    """Every row is there; with a look-ahead over everything all lists are the exact ones."""
    monkeypatch.setattr(attfind_lists, "RESAMPLINGS", 2)
    monkeypatch.setattr(attfind_lists, "AHEAD", 1000)
    monkeypatch.setattr(attfind_lists, "MOVES", 2)
    styles = attfind_speed.sampled(model, 4)
    monkeypatch.setattr(attfind_lists, "quick_bf16", lambda device: True)
    rows = attfind_lists.lists(model, styles, attfind_speed.loops)
    assert rows["fast_8"]["identical"]
    assert rows["bf16_8"]["identical"]
    assert "in bf16" in rows["bf16_8"]["certificate"]["ranked"]
    assert rows["fast_8"]["ratio"] > 0
    whole = attfind_lists.total({"tiny": rows})
    assert whole == {"lists": 8, "identical": 8, "different_and_unsure": 0, "unsure": 0}
    assert [row["measured"] for row in rows["same_top8"]] == [1, 1]


def test_a_wrong_prediction_is_seen_in_the_lists(model, monkeypatch):
    """Where the best moves are foretold as nothing and nobody doubts it: different lists."""
    styles = attfind_speed.sampled(model, 4)
    effects, logits, told = attfind_lists.exactly(model, styles, stylespace.bounds(styles), 1.0)
    monkeypatch.setattr(attfind_lists, "RESAMPLINGS", 2)
    monkeypatch.setattr(attfind_lists, "AHEAD", 4)
    monkeypatch.setattr(screening, "AUDITED", 4)
    monkeypatch.setattr(screening, "AUDITS", 1)
    monkeypatch.setattr(screening, "DOUBT", -2.0)
    strength = effects.abs().mean((0, 2, 3))
    told = told * (strength < strength.median())[:, None, None]
    row = attfind_lists.resampled(model, styles, (effects, logits, told), 1.0)
    assert row["identical"] < row["lists"] == 4
    assert len(row["measured_where_different"]) == row["lists"] - row["identical"]
    assert row["different_and_unsure"] == row["lists"] - row["identical"]  # the audit tells


def test_the_table_holds_what_was_measured_and_nothing_else():
    """A row for each part that is there; the plot says the same in words."""
    part = {"coordinates": 2464, "exact_ratio_plain": 6.0, "exact_ratio": 7.5}
    part |= {"exact_peak_share": 0.71, "peak_gflops": 120.0, "fast_expected_ratio": 40.0}
    part |= {"fast_ratio": 38.0, "fast_images": 16, "exact_bf16_ratio": 9.6}
    rows = attfind_table.table({"64_2464_mobilenet": part, "same_top8": {"lists": 0}})
    assert [row.came for row in rows] == [
        "7.5x (the plain loop 6x)",
        "9.6x",
        "71% of 120 GFLOP/s",
        "38x (of 250 it expects 40x)",
    ]
    same = {"lists": 9, "identical": 7, "different_and_unsure": 1}
    assert attfind_table.table({"same_top8": same})[0].came == (
        "7 of 9; of the 2 others it said so of 1"
    )
    drawn = attfind_table.plot([row for row in rows if row.ratio])
    assert "7.5x (the plain loop 6x)" in drawn
    assert drawn.count('class="bar"') == 3
    assert drawn.count('class="guide"') == 2  # bf16 has no goal at 64 px


def test_the_example_in_the_docs_is_what_the_command_found():
    """The certificate's sentence and numbers, word for word."""
    said = read_json(attfind_speed.RESULTS / "attfind_certificate.json")["certificate"]
    page = (Path(__file__).parents[1] / "docs" / "attfind.md").read_text(encoding="utf-8")
    assert said["says"] in " ".join(page.replace("\n> ", " ").split())
    row = f"| {str(said['sure']).lower()} | {said['raced']:.3f} | {said['measured']:.3f} | "
    row += f"{said['ahead']}, {str(said['widened']).lower()} | "
    assert f"{row}healthy {said['correlation']['0']:.2f}, " in page
