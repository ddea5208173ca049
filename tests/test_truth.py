"""The truth measured on a classifier, twins, and the scoring; T0 itself is in test_edits.

Most tests draw the scene "quarters", four gray quarters that are four factors, so that factors can
be read exactly and every number is known by hand.
"""

import pytest
import torch
from quarters import QUARTERS, read, sampled, weighed
from small import checkerboard
from torch import Tensor
from torch.nn import functional

from stylex import truth
from stylex.augment import gaussian_blur
from stylex.scenes import LEAVES
from stylex.synthetic import Rule
from stylex.truth import (
    Importance,
    Unedited,
    importance,
    main_factors,
    redundant,
    score_found,
    slope_r2,
    softness,
    spearman,
    twins,
    used,
)

# --- importance ----------------------------------------------------------------------------------


def test_importance_in_closed_form() -> None:
    """Of a weighted sum: g = |weight| E|u - u'| = |weight| / 3, direction the weight's sign."""
    weights = torch.tensor([3.0, -1.5, 0.1, 0.0])
    g, low, high, direction = importance(weighed(*weights.tolist()), QUARTERS, images=500)
    torch.testing.assert_close(g, weights.abs() / 3, atol=0.05, rtol=0)
    assert (low <= g).all()
    assert (g <= high).all()
    assert ((low <= weights.abs() / 3) & (weights.abs() / 3 <= high)).all()
    assert (high - low)[0] < 0.2
    torch.testing.assert_close(direction, torch.tensor([1.0, -1.0, 1.0, 0.0]))
    assert used(g, low) == (0, 1)


def test_the_bounds_are_those_of_the_mean() -> None:
    """Half the width is about 1.96 standard errors over images."""
    few = importance(weighed(1, 0, 0, 0), QUARTERS, images=100, draws=1)
    many = importance(weighed(1, 0, 0, 0), QUARTERS, images=400, draws=1)
    error = 18**-0.5 * 1.96  # |u - u'| has variance 1/18
    assert (few.high - few.low)[0].item() / 2 == pytest.approx(error / 10, rel=0.25)
    assert (many.high - many.low)[0].item() / 2 == pytest.approx(error / 20, rel=0.25)


def test_a_parity_has_no_direction() -> None:
    """Both of its factors matter and neither has a sign."""
    rule = Rule(QUARTERS, (0, 2), (1, 1), "xor")

    def classify(images: Tensor) -> Tensor:
        return functional.one_hot(rule.labels(read(images)), 2) * 4.0

    found = importance(classify, QUARTERS, images=400)
    assert used(found.g, found.low) == (0, 2)
    assert found.direction.abs().max() < 0.2


def test_a_used_factor_needs_its_lower_bound() -> None:
    """5 % of the sum is 0.5 here: the bound decides, not the mean."""
    g = torch.tensor([7.0, 2.2, 0.6, 0.2])
    assert used(g, g - torch.tensor([1.0, 0.1, 0.2, 0.0])) == (0, 1)
    assert used(g, g - 0.05) == (0, 1, 2)
    assert used(torch.zeros(3), torch.zeros(3)) == ()


def test_importance_repeats_whatever_the_batch(monkeypatch) -> None:
    """Same seed, same numbers, to 1e-6 in batches of 7; another seed, others."""
    classify = weighed(1, 2, 0, 0)
    first = importance(classify, QUARTERS, images=50, seed=3)
    monkeypatch.setattr(truth, "_BATCH", 7)
    for one, other in zip(first, importance(classify, QUARTERS, images=50, seed=3), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
    assert not torch.equal(first.g, importance(classify, QUARTERS, images=50, seed=4).g)


# --- twins ---------------------------------------------------------------------------------------


def edit_of(k: int, by: float, n: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    """Factors and their images, before and after one factor rises in all of them."""
    factors = 0.8 * sampled(n)
    after = factors.clone()
    after[:, k] += by
    return factors, QUARTERS.render(factors), QUARTERS.render(after)


def test_a_change_of_factors_is_its_own_twin() -> None:
    """Everything is explained and the effects agree."""
    factors, before, after = edit_of(1, 0.2)
    pair = twins(Unedited(weighed(1, 3, 0, 0), read, factors, before, scene=QUARTERS), after)
    assert pair.explained == pytest.approx(1, abs=1e-5)
    assert not pair.false_discovery
    assert pair.sigma == 0
    torch.testing.assert_close(pair.changes, torch.tensor([0, 0.2, 0, 0]).expand(40, 4))
    torch.testing.assert_close(pair.edits, torch.full((40,), 0.6), atol=1e-5, rtol=0)
    assert slope_r2(pair.edits, pair.twins) == (pytest.approx(1), pytest.approx(1))


def test_adversarial_noise_has_no_twin() -> None:
    """A checkerboard that no reader sees moves a classifier that does: nothing is explained."""
    factors, before, _ = edit_of(1, 0.2)
    board = 0.05 * checkerboard()

    def classify(images: Tensor) -> Tensor:
        height = 40 * (images * checkerboard()).mean((1, 2, 3))
        return torch.stack([-height, height], 1)

    pair = twins(Unedited(classify, read, factors, before, scene=QUARTERS), before + board)
    assert pair.explained == pytest.approx(0, abs=1e-4)
    assert pair.false_discovery
    assert pair.edits.min() > 3
    assert pair.twins.abs().max() < 1e-3
    slope, r2 = slope_r2(pair.edits, torch.zeros(40))
    assert (slope, r2) == (0, 0)


def test_half_the_energy_is_half_explained() -> None:
    """A change of one quarter by 0.32 gray, and a checkerboard of the same energy."""
    factors, before, after = edit_of(0, 0.2)
    board = (0.32**2 / 4) ** 0.5 * checkerboard()
    classify = weighed(1, 0, 0, 0)
    pair = twins(Unedited(classify, read, factors, before, scene=QUARTERS), after + board)
    assert pair.explained == pytest.approx(0.5, abs=1e-3)


def test_an_unreadable_factor_explains_nothing() -> None:
    """It is left where it was, so that its edit has no twin."""
    factors, before, after = edit_of(2, 0.2)
    kept = torch.tensor([True, True, False, True])
    classify = weighed(1, 1, 1, 1)
    pair = twins(Unedited(classify, read, factors, before, scene=QUARTERS), after, readable=kept)
    assert pair.explained == 0
    assert not pair.changes.any()


def test_no_edit_is_a_false_discovery() -> None:
    """Nothing changed: nothing is explained, and no number is missing."""
    factors, before, _ = edit_of(0, 0.2)
    pair = twins(Unedited(weighed(1, 1, 1, 1), read, factors, before, scene=QUARTERS), before)
    assert (pair.explained, pair.false_discovery) == (0, True)
    assert slope_r2(pair.edits, pair.twins) == (0, 0)


def test_soft_reconstructions_get_soft_twins() -> None:
    """A generator that blurs draws a change of size as softly: that is no adversary."""
    factors = sampled(30, scene=LEAVES)
    moved = factors.clone()
    moved[:, 3] = 1 - moved[:, 3]  # leaf length: a change of edges alone
    before, after = (gaussian_blur(LEAVES.render(x), 1.5) for x in (factors, moved))

    def known(images: Tensor) -> Tensor:
        return moved if images is after else factors

    pair = twins(Unedited(flat, known, factors, before, scene=LEAVES), after)
    assert pair.sigma == 1.5
    assert pair.explained == pytest.approx(1, abs=1e-4)
    # the softness comes from the unedited pair: softening the edit alone explains less
    sharp = twins(Unedited(flat, known, factors, LEAVES.render(factors), scene=LEAVES), after)
    assert sharp.sigma == 0
    assert sharp.explained < 0.8


def flat(images: Tensor) -> Tensor:
    """Logits that do not depend on the image."""
    return images.new_zeros(len(images), 2)


def test_softness_scales_with_the_resolution() -> None:
    """One pixel at 32 px is two at 64 px."""
    for resolution in (32, 64):
        photos = LEAVES.render(sampled(20, scene=LEAVES), resolution=resolution)
        soft = gaussian_blur(photos, resolution / 32)
        assert softness(photos, soft) == resolution / 32
        assert softness(photos, photos) == 0


def test_readings_far_outside_are_cut_off() -> None:
    """A reader that goes mad leaves finite numbers."""
    factors = sampled(10, scene=LEAVES)
    photos = LEAVES.render(factors)
    after = photos + 0.1

    def mad(images: Tensor) -> Tensor:
        return factors + 1000 * (images is after)

    pair = twins(Unedited(flat, mad, factors, photos, scene=LEAVES), after)
    assert pair.explained == 0
    assert pair.twins.isfinite().all()


def test_regression_by_hand() -> None:
    """Through the origin: slope xy / xx, residual against the squares of the edits."""
    x = torch.tensor([1.0, 2.0, -1.0])
    assert slope_r2(2 * x, x) == (pytest.approx(2), pytest.approx(1))
    slope, r2 = slope_r2(torch.tensor([1.0, 0.0, 0.0]), x)
    assert slope == pytest.approx(1 / 6)
    assert r2 == pytest.approx(1 / 6)


# --- scoring -------------------------------------------------------------------------------------

TRUTH = Importance(
    g=torch.tensor([4.0, 0.1, 2.0, 0.0]),
    low=torch.tensor([3.5, 0.0, 1.8, 0.0]),
    high=torch.tensor([4.5, 0.2, 2.2, 0.0]),
    direction=torch.tensor([1.0, 0.1, -0.9, 0.0]),
)


def table(*rows: list) -> Tensor:
    """A small float table."""
    return torch.tensor(rows).float()


def random_effects(m: int, size: tuple[float, ...] | None = None) -> Tensor:
    """Effects over 50 images, uncorrelated, with the means given."""
    noise = torch.randn(m, 50, generator=torch.Generator().manual_seed(1))
    noise = noise - noise.mean(1, keepdim=True)
    return noise + torch.tensor(size or (1.0,) * m).float()[:, None]


def test_a_perfect_list_scores_one() -> None:
    """Both used factors first, pure, in the right direction, as strong as g says."""
    changes = table([2, 0, 0, 0], [0, 0, 1, 0])
    toward = table([2, 0, 0, 0], [0, 0, -1, 0])
    score = score_found(changes, toward, random_effects(2, (4, 2)), torch.ones(2), TRUTH)
    assert score["used"] == score["main"] == [0, 2]
    for name in ("f1", "precision", "recall", "average_precision", "sign_accuracy", "purity"):
        assert score[name] == 1, name
    assert score["false_discovery"] == 0
    assert score["repeats"] == {}
    assert score["spearman"] == pytest.approx(spearman(torch.tensor([4.0, 0, 2, 0]), TRUTH.g))


def test_scores_by_hand() -> None:
    """Main factors 0, 0 again, 1, and 2 with the wrong sign: half of everything."""
    changes = table([3, 0, 1, 0], [2, 0.5, 0, 0.1], [0, 1, 0, 0.5], [0, 0.2, 1, 0])
    toward = table([3, 0, 0, 0], [2, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0])
    score = score_found(changes, toward, random_effects(4), torch.ones(4), TRUTH)
    assert score["main"] == [0, 0, 1, 2]
    assert score["repeats"] == {1: 0}
    assert score["taken"] == [0, 2]
    assert (score["precision"], score["recall"], score["f1"]) == (0.5, 0.5, 0.5)
    assert score["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert score["purity"] == pytest.approx((3 / 4 + 1 / 1.5) / 2)
    assert score["sign_accuracy"] == 1  # of the two taken ones only the first is right
    wrong = score_found(changes, -toward, random_effects(4), torch.ones(4), TRUTH)
    assert wrong["sign_accuracy"] == 0


def test_a_false_discovery_takes_a_place_and_names_nothing() -> None:
    """It moves factor 0 most, but its twins explain little; the next one stays a discovery."""
    changes = table([3, 0, 0, 0], [2, 0, 0, 0], [0, 0, 1, 0])
    explained = torch.tensor([0.49, 0.5, 0.9])
    score = score_found(changes, changes, random_effects(3), explained, TRUTH)
    assert score["main"] == [None, 0, 2]
    assert score["repeats"] == {}
    assert score["taken"] == [0, 1]
    assert (score["precision"], score["recall"], score["false_discovery"]) == (0.5, 0.5, 0.5)
    assert score["average_precision"] == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_nothing_found_and_nothing_used() -> None:
    """Numbers that cannot be had say why."""
    none, effects = torch.zeros(0, 4), torch.zeros(0, 50)
    score = score_found(none, none, effects, torch.zeros(0), TRUTH)
    assert (score["recall"], score["f1"], score["average_precision"]) == (0, 0, 0)
    assert score["precision"] is None
    assert score["why_precision"] == score["why_purity"] == "nothing was found"
    assert score["why_sign_accuracy"] == "no used factor was named"
    blind = Importance(*(torch.zeros(4) for _ in range(4)))
    one = table([1, 0, 0, 0])
    score = score_found(one, one, random_effects(1), torch.ones(1), blind)
    assert score["f1"] is None
    assert score["why_f1"] == "the classifier uses no factor above the threshold"
    assert score["spearman"] == 0


def test_signs_of_a_parity_are_not_asked() -> None:
    """Only a monotone rule has them."""
    changes = table([2, 0, 0, 0])
    score = score_found(changes, changes, random_effects(1), torch.ones(1), TRUTH, monotone=False)
    assert score["sign_accuracy"] is None
    assert score["why_sign_accuracy"] == "factors have no one direction here"


def test_spearman_by_hand() -> None:
    """Monotone is 1, reversed -1, ties share their rank, all ties correlate with nothing."""
    a = torch.tensor([1.0, 5.0, 2.0, 3.0])
    assert spearman(a, a**3) == pytest.approx(1)
    assert spearman(a, -a) == pytest.approx(-1)
    assert spearman(a, torch.ones(4)) == 0
    # ranks 0.5 0.5 2 3 against 0 1 2 3
    half = spearman(torch.tensor([1.0, 1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert half == pytest.approx(0.9486833, abs=1e-5)


def test_redundant_by_profile_by_effects_and_by_name() -> None:
    """Each reason alone joins two attributes; none of them joins strangers or repetitions."""
    effects = random_effects(4)
    apart = table([5, 4, 0, 0], [4, 5, 0, 0.1], [0, 0, 2, 1], [0, 0.5, 1, 2])
    names = main_factors(apart, torch.ones(4))
    assert names == (0, 1, 2, 3)
    assert redundant(apart, effects, names) == {1: 0}
    pure = torch.eye(4)
    assert redundant(pure, effects, names) == {}
    copied = effects.clone()
    copied[3] = 2 * effects[1] + 1
    assert redundant(pure, copied, names) == {3: 1}
    assert redundant(pure, effects, (0, 1, 0, 0)) == {2: 0, 3: 0}
    assert redundant(pure, effects, (None, 1, None, None)) == {}
    assert redundant(pure, copied, (0, 1, 2, None)) == {}, "a false one joins with no true one"


def test_main_factor_of_nothing() -> None:
    """No readable change, no name."""
    assert main_factors(torch.zeros(1, 4), torch.ones(1)) == (None,)
