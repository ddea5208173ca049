"""Flips against numbers taken by hand: style j is the gray of quarter j."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import ROWS, Plain, quarters, searched, seeing, weighing

from stylex import flips
from stylex.metrics import interval
from stylex.subjects import Subjects


def scene(judges=(), photos: int = 60, weights=None):
    """Subjects and a search of a classifier that sees the first quarter (or weighs all four)."""
    classifier = weighing(weights, [0.0, 0.0]) if weights else seeing(0)
    model = Plain(classifier)
    distance = lambda a, b: (a - b).abs().mean((1, 2, 3))  # noqa: E731
    seen = Subjects(model, quarters(photos), judges=judges, distance=distance)
    return seen, searched(model, ROWS)


def test_one_deciding_coordinate_flips_every_image():
    """The first quarter decides alone, so one attribute is enough, in both directions."""
    seen, found = scene([seeing(0, gray=4.0)])
    table = flips.sufficiency(seen, found, found.bounds)
    assert set(table) == {"no->yes", "yes->no"}
    for name, origin in (("no->yes", 0), ("yes->no", 1)):
        pair, images = table[name], int((seen.labels == origin).sum())
        assert pair["images"] == pair["countable"] == images
        assert pair["flipped"] == [1.0]
        assert (pair["low"][0], pair["high"][0]) == interval(images, images)
        assert pair["confirmed"] == [1.0]


def test_distance_moved_is_that_of_the_edited_quarter():
    """A quarter of the picture goes from its gray to the bound."""
    seen, found = scene()
    pair = flips.sufficiency(seen, found, found.bounds)["no->yes"]
    grays = seen.styles[seen.labels == 0, 0]
    assert pair["perceptual"][0] == pytest.approx(((1 - grays) / 4).mean().item(), abs=1e-5)


def test_edits_go_as_far_as_the_search_went():
    """At strength 0.5 the first quarter goes half way: images darker than the mean do not flip."""
    seen, _ = scene()
    found = searched(seen.model, ROWS, strength=0.5)
    pair = flips.sufficiency(seen, found, found.bounds)["no->yes"]
    grays = seen.styles[seen.labels == 0, 0]
    half = (grays + 0.5 * (1 - grays) > 0).float().mean().item()
    assert 0 < half == pytest.approx(pair["flipped"][0])
    smallest = flips.smallest_sets(seen, found)["no->yes"]
    assert smallest["flipped"] == pytest.approx(half, abs=0.1)


def test_a_panel_that_looks_elsewhere_confirms_nothing():
    """Its class never changes with the first quarter, and countable images start on the origin."""
    seen, found = scene([seeing(1)])
    pair = flips.sufficiency(seen, found, found.bounds)["no->yes"]
    assert pair["flipped"] == [1.0]
    assert pair["flipped_countable"] == [1.0]
    assert pair["confirmed"] == [0.0]
    assert 0 < pair["countable"] < pair["images"]


def test_flips_of_the_countable_are_counted_apart():
    """Gone a part of the way some images flip by their first quarter; judges count on others."""
    seen, _ = scene([seeing(1)])
    pair = flips.sufficiency(seen, found := searched(seen.model, ROWS, strength=0.3), found.bounds)
    grays, countable = seen.styles[:, 0], (seen.labels == 0) & seen.countable
    over = grays[countable] + 0.3 * (1 - grays[countable]) > 0
    assert pair["no->yes"]["flipped_countable"][0] == pytest.approx(over.float().mean().item())
    assert pair["no->yes"]["flipped_countable"] != pair["no->yes"]["flipped"]


def test_without_judges_nothing_is_confirmed_nor_refused():
    """None, not zero."""
    seen, found = scene()
    pair = flips.sufficiency(seen, found, found.bounds)["no->yes"]
    assert pair["confirmed"] == pair["flipped_countable"] == [None]


def test_fewer_images_and_no_floors():
    """Every number of attributes is there, of at most so many images and without the random."""
    seen, found = scene([seeing(0, gray=4.0)], weights=[[-0.9, 0.9]] * 4)
    every = flips.sufficiency(seen, found, found.bounds)
    few = flips.sufficiency(seen, found, found.bounds, most=9, floors=False)
    for name, pair in few.items():
        assert pair["counts"] == every[name]["counts"] == [1, 2]
        assert (pair["images"], len(pair["flipped"])) == (9, 2)
        assert {key for key in every[name] if key not in pair} == {
            *("random", "random_confirmed", "random_perceptual"),
        }
    whole = flips.sufficiency(seen, found, found.bounds, most=1000, floors=False)
    assert all(its["flipped"] == every[name]["flipped"] for name, its in whole.items())


def test_the_panel_on_edits():
    """One that sees what the classifier sees goes along; one that looks elsewhere never does."""
    for quarter, share in ((0, 1.0), (1, 0.0)):
        seen, found = scene([seeing(quarter, gray=4.0)])
        pair = flips.sufficiency(seen, found, found.bounds)["no->yes"]
        assert pair["agreed"] == [share]
    assert flips.sufficiency(*scene(), found.bounds)["no->yes"]["agreed"] == [None]


def test_a_class_without_attributes_says_so():
    """Nothing was found towards it: no number, and why."""
    seen, found = scene()
    one = replace(found, attributes=tuple(a for a in found.attributes if a.target == 1))
    table = flips.sufficiency(seen, one, found.bounds)
    assert table["no->yes"]["flipped"] == [1.0]
    nothing = table["yes->no"]
    assert nothing["flipped"] is None
    assert "no attribute" in nothing["why_flipped"]
    assert nothing["images"] > 0


def test_every_number_of_attributes_has_its_share():
    """Four equal weights: the share flipped grows with the attributes, all four flip all."""
    seen, found = scene(weights=[[-0.9, 0.9]] * 4)
    pair = flips.sufficiency(seen, found, found.bounds)["no->yes"]
    rows = seen.styles[seen.labels == 0]
    order = [a.coordinate for a in flips.top(found, 1, 10)]
    for m, share in enumerate(pair["flipped"], start=1):
        moved = rows.clone()
        moved[:, order[:m]] = 1.0
        assert share == pytest.approx((moved.sum(1) > 0).float().mean().item())
    assert pair["flipped"] == sorted(pair["flipped"])
    assert pair["flipped"][-1] == 1.0


def test_weaker_bounds_flip_fewer():
    """Bounds at the middle of the range move nobody over the line."""
    seen, found = scene()
    near = torch.stack([torch.full((4,), -0.01), torch.full((4,), -0.001)])
    assert flips.sufficiency(seen, found, near)["no->yes"]["flipped"] == [0.0]


def test_percentile_bounds_are_quantiles():
    """Of 0, 1, ..., 100 the 2nd and 98th percentile are 2 and 98."""
    styles = torch.arange(101.0)[:, None].expand(-1, 2)
    torch.testing.assert_close(flips.percentile_bounds(styles)[:, 0], torch.tensor([2.0, 98.0]))


def test_floors_and_curves_are_of_some_images_and_flips_of_all(monkeypatch):
    """At full strength the curve is the flips of the images looked at, which the panel sees too."""
    monkeypatch.setattr(flips, "LOOKED_AT", 7)
    seen, found = scene([seeing(0, gray=4.0)], photos=200)
    drawn, draw = [], seen.draw
    monkeypatch.setattr(seen, "draw", lambda styles: drawn.append(len(styles)) or draw(styles))
    pair = flips.sufficiency(seen, found, found.bounds)["no->yes"]
    assert sorted(set(drawn)) == [7, *sorted({pair["images"], 200 - pair["images"]})]
    assert pair["flipped"] == pair["confirmed"] == [1.0]
    assert pair["random_confirmed"] == pair["random"]
    drawn.clear()
    assert flips.by_strength(seen, found)["flipped"]["no->yes"][-1] == 1.0
    assert set(drawn) == {7}


@given(count=st.integers(1, 6), seed=st.integers(0, 99))
def test_random_coordinates_move_the_same_distance(count: int, seed: int):
    """The same distance in units of the ranges, on as many coordinates, all of them searched."""
    draw = torch.Generator().manual_seed(seed)
    here, there = torch.randn(2, 5, 8, generator=draw)
    there[:, 6:] = here[:, 6:]
    bounds = torch.stack([-torch.rand(8, generator=draw) - 0.1, torch.rand(8, generator=draw)])
    moved = flips.at_random(here, there, bounds, draw, among=6, count=count)
    reach = bounds[1] - bounds[0]
    torch.testing.assert_close(
        ((moved - here) / reach).norm(dim=1), ((there - here) / reach).norm(dim=1)
    )
    assert int((moved != here).any(0).sum()) == count
    assert torch.equal(moved[:, 6:], here[:, 6:])


def test_the_smallest_set_is_one_attribute():
    """And every image of it flips."""
    seen, found = scene()
    pair = flips.smallest_sets(seen, found, images=5)["no->yes"]
    assert pair == {"images": 5, "flipped": 1.0, "sizes": [1] * 5}
    bare = flips.smallest_sets(seen, replace(found, attributes=()), images=5)["no->yes"]
    assert (bare["flipped"], bare["sizes"]) == (None, [])
    assert bare["why_flipped"] == "no attribute was found towards this class"


def test_flips_grow_with_strength():
    """At full strength all flip, at a quarter only those that had not far to go."""
    seen, found = scene()
    table = flips.by_strength(seen, found)
    rows = seen.styles[seen.labels == 0, 0]
    quarter = (rows + 0.25 * (1 - rows) > 0).float().mean().item()
    shares = table["flipped"]["no->yes"]
    assert shares[0] == pytest.approx(quarter)
    assert 0 < quarter < 1
    assert shares[table["strengths"].index(1.0)] == 1.0
    assert table["perceptual"]["no->yes"] == sorted(table["perceptual"]["no->yes"])


def test_the_deciding_coordinate_is_necessary():
    """At its mean (0.0667) the lead of every image is the same; another coordinate matters not."""
    seen, found = scene()
    table = flips.necessity(seen, found)
    mean = found.styles[:, 0].mean().item()
    lead = seen.styles[:, 0].abs()
    after = torch.where(seen.labels == 1, mean, -mean)
    assert table["coordinates"] == 1
    assert table["gone"] == pytest.approx((1 - after.mean() / lead.mean()).item(), abs=1e-5)
    assert table["flipped"] == pytest.approx((seen.labels == 0).float().mean().item())


def test_lead_is_over_the_best_other_class():
    """By hand: of two classes their difference, of more the lead over the best other one."""
    assert flips.lead(torch.tensor([[1.0, 3.0]]), 1).tolist() == [2]
    assert flips.lead(torch.tensor([[1.0, 3.0]]), 0).tolist() == [-2]
    assert flips.lead(torch.tensor([[1.0, 3.0, 2.5], [1.0, 3.0, 4.0]]), 1).tolist() == [0.5, -1]
    logits = torch.tensor([[3.0, 1.0, 2.5], [0.0, 4.0, -1.0]])
    torch.testing.assert_close(flips.lead(logits, torch.tensor([0, 2])), torch.tensor([0.5, -5.0]))
