"""Explanations of one image in closed form: `score(styles) = styles @ A`."""

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stylex.counterfactual import independent, joint, subset
from stylex.stylespace import Attribute, shift_all

quick = settings(max_examples=15, deadline=None, derandomize=True)

# four coordinates at 0 between -1 and 1: moving coordinate j up adds WEIGHTS[j] to the logits
STYLES = torch.zeros(1, 4)
BOUNDS = torch.tensor([[-1.0] * 4, [1.0] * 4])
WEIGHTS = torch.tensor([[0.0, 0.5], [0.0, 2.0], [0.0, -1.0], [0.0, 0.25]])
UP = [Attribute(j, 1, target=1, effect=0.0) for j in range(4)]
DOWN = [Attribute(j, 0, target=1, effect=0.0) for j in range(4)]


def biased(margin):
    """Logits that start `margin` in favour of class 0."""
    return lambda styles: styles @ WEIGHTS + torch.tensor([margin, 0.0])


def chosen(steps):
    """Coordinate and direction of each step."""
    return [(s.attribute.coordinate, s.attribute.direction) for s in steps]


def test_independent_by_hand():
    """Each alone, largest change of the target first."""
    steps = independent(biased(1.0), STYLES, BOUNDS, UP + DOWN, target=1, count=3)
    assert chosen(steps) == [(1, 1), (2, 0), (0, 1)]
    assert [s.effect for s in steps] == pytest.approx([2.0, 1.0, 0.5])
    assert [s.flipped for s in steps] == [True, False, False]
    assert steps[0].logits == (1.0, 2.0)
    assert steps[0].probability == pytest.approx(torch.tensor(1.0).sigmoid().item())


def test_independent_shows_what_lowers_the_target_last():
    """Fewer than `count` helpful ones: the rest says so by its sign."""
    steps = independent(biased(1.0), STYLES, BOUNDS, UP, target=1, count=5)
    assert chosen(steps) == [(1, 1), (0, 1), (3, 1), (2, 1)]
    assert steps[-1].effect == pytest.approx(-1.0)


def test_strength_scales_the_move():
    """Half way to the bound, and beyond it."""
    for strength in (0.5, 2.0):
        step = independent(biased(1.0), STYLES, BOUNDS, UP, target=1, count=1, strength=strength)[0]
        assert step.effect == pytest.approx(2.0 * strength)
        same = subset(biased(9.0), STYLES, BOUNDS, UP, target=1, count=1, strength=strength)[0]
        assert same == subset(biased(9.0), STYLES, BOUNDS, [UP[1]], target=1, strength=strength)[0]
        assert same.effect == pytest.approx(2.0 * strength)


def test_subset_stops_at_the_flip():
    """2.0 + 1.0 pass a margin of 2.6; the third attribute is not needed."""
    steps = subset(biased(2.6), STYLES, BOUNDS, UP + DOWN, target=1)
    assert chosen(steps) == [(1, 1), (2, 0)]
    assert [s.flipped for s in steps] == [False, True]
    assert steps[1].logits == pytest.approx((2.6, 3.0))
    assert steps[1].effect == pytest.approx(1.0)


def test_subset_stops_at_count_and_where_nothing_helps():
    """No flip: the last step says so."""
    assert len(subset(biased(99.0), STYLES, BOUNDS, UP, target=1, count=2)) == 2
    steps = subset(biased(99.0), STYLES, BOUNDS, UP, target=1)
    assert chosen(steps) == [(1, 1), (0, 1), (3, 1)]  # coordinate 2 would lower it
    assert not any(s.flipped for s in steps)
    assert subset(biased(99.0), STYLES, BOUNDS, [UP[2]], target=1) == []


def test_nothing_to_do():
    """The decision is the target already, or there is no attribute."""
    assert subset(biased(-1.0), STYLES, BOUNDS, UP, target=1) == []
    assert subset(biased(1.0), STYLES, BOUNDS, [], target=1) == []
    assert independent(biased(1.0), STYLES, BOUNDS, [], target=1) == []


def test_subset_counts_the_additional_change():
    """Two attributes that do the same thing: the second adds nothing, a weaker one is taken."""

    def score(styles):
        twins = styles[:, :2].amax(1)
        return torch.stack([torch.full_like(twins, 9.0), twins + 0.3 * styles[:, 3]], 1)

    steps = subset(score, STYLES, BOUNDS, UP, target=1)
    assert chosen(steps) == [(0, 1), (3, 1)]
    assert [s.effect for s in steps] == pytest.approx([1.0, 0.3])
    alone = independent(score, STYLES, BOUNDS, UP, target=1, count=2)
    assert chosen(alone) == [(0, 1), (1, 1)]


def test_subset_never_takes_a_step_back():
    """The other direction of a coordinate would undo an earlier step, so it is no candidate."""

    def score(
        styles,
    ):  # coordinate 0 raises class 1 at both ends, at the low one most once 3 is high
        low, high = (-styles[:, 0]).clamp(min=0), styles[:, 0].clamp(min=0)
        rise = high + low * (0.5 + 2.5 * (styles[:, 3] > 0)) + 0.2 * styles[:, 3]
        return torch.stack([torch.full_like(rise, 9.0), rise], 1)

    steps = subset(score, STYLES, BOUNDS, [UP[0], UP[3], DOWN[0]], target=1)
    assert chosen(steps) == [(0, 1), (3, 1)]


def test_three_classes_flip_only_to_the_target():
    """Leaving the first class for the third is no flip to the second."""
    weights = torch.tensor([[0.0, 0.6, 2.0], [0.0, 0.5, 0.0], [0.0, 0.4, -2.0]])

    def score(styles):
        return styles[:, :3] @ weights + torch.tensor([1.0, 0.0, 0.0])

    steps = subset(score, STYLES, BOUNDS, UP[:3], target=1)
    assert chosen(steps) == [(0, 1), (1, 1), (2, 1)]
    assert [s.flipped for s in steps] == [False, False, True]
    assert torch.tensor(steps[0].logits).argmax() == 2
    assert sum(torch.tensor(steps[2].logits).softmax(0).tolist()) == pytest.approx(1)


def test_one_call_per_greedy_step():
    """Candidates are scored together."""
    calls = []

    def score(styles):
        calls.append(len(styles))
        return biased(2.6)(styles)

    subset(score, STYLES, BOUNDS, UP + DOWN, target=1)
    assert calls == [1, 8, 6]


@quick
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 3))
def test_greedy_subset_is_the_best_one_of_its_size(seed, classes):
    """In an additive score greedy equals brute force, and no smaller subset flips two classes."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(5, classes, generator=generator, dtype=torch.float64)
    if classes == 2:
        weights[:, 0] = 0
    styles = torch.rand(1, 5, generator=generator, dtype=torch.float64) - 0.5
    limits = torch.tensor([[-1.0] * 5, [1.0] * 5], dtype=torch.float64)
    attributes = [Attribute(j, d, 1, 0.0) for j in range(5) for d in (0, 1)]

    def score(styles):
        return styles @ weights + torch.tensor([1.5] + [0.0] * (classes - 1))

    steps = subset(score, styles, limits, attributes, target=1)
    for size, step in enumerate(steps, 1):
        after = torch.cat(
            [
                score(shift_all(styles, some, limits))
                for some in combinations(attributes, size)
                if len({a.coordinate for a in some}) == size
            ]
        )
        assert step.logits[1] == pytest.approx(after[:, 1].max().item())
        if classes == 2 and not step.flipped:
            assert not (after.argmax(1) == 1).any()
    together = joint(score, styles, limits, [s.attribute for s in steps])
    last = torch.tensor(steps[-1].logits, dtype=torch.float64)
    torch.testing.assert_close(together[0], last)


def test_joint_applies_all_to_every_image():
    """Closed form: every moved coordinate stands on its bound."""
    styles = torch.linspace(-1, 1, 12).view(3, 4)
    logits = joint(biased(1.0), styles, BOUNDS, [UP[0], DOWN[2]])
    expected = styles.clone()
    expected[:, 0], expected[:, 2] = 1.0, -1.0
    torch.testing.assert_close(logits, biased(1.0)(expected))
    torch.testing.assert_close(joint(biased(1.0), styles, BOUNDS, []), biased(1.0)(styles))


def test_joint_keeps_the_stronger_direction_of_a_coordinate():
    """The first one counts, the later one would undo it."""
    together = joint(biased(1.0), STYLES, BOUNDS, [UP[1], UP[0], DOWN[1]])
    torch.testing.assert_close(together, joint(biased(1.0), STYLES, BOUNDS, [UP[1], UP[0]]))
    torch.testing.assert_close(together, torch.tensor([[1.0, 2.5]]))


def test_steps_are_plain_and_need_no_gradient():
    """Python numbers, ready for JSON, though the classifier has parameters."""
    weights = WEIGHTS.clone().requires_grad_()
    step = subset(lambda s: s @ weights + torch.tensor([1.0, 0.0]), STYLES, BOUNDS, UP, target=1)[0]
    assert {type(x) for x in step.logits} == {float}
    assert (type(step.probability), type(step.effect), type(step.flipped)) == (float, float, bool)
    assert not joint(lambda s: s @ weights, STYLES, BOUNDS, UP).requires_grad
