"""T0: a generator made by hand, whose search has to be right; and the edits it is scored by."""

from dataclasses import replace

import pytest
import torch
from quarters import QUARTERS, Exact, read, sampled, weighed
from torch import Tensor

from stylex import attfind, selection, truth
from stylex.edits import Bench, Edit, Moves, make_edit, moved, of_search, score_edits
from stylex.scenes import LEAVES, SPREAD
from stylex.stylespace import bounds
from stylex.synthetic import HandMade, Rule
from stylex.truth import Unedited, importance, softness, used

WEIGHTS = (3.0, 0.0, -2.0, 0.0)


def explored(made: HandMade, factors: Tensor) -> attfind.Search:
    """AttFind by its definition on the perfect encoder's styles."""
    styles = made.styles(factors)
    ends = bounds(styles)
    count = made.layout.searched
    effects, logits = attfind.one_by_one(made.score, styles, ends, coordinates=count)
    names = tuple("abc"[: logits.shape[1]])
    return attfind.find(effects, logits, made.layout, classes=names, bounds=ends, styles=styles)


def handmade(*weights: float, drives: tuple[int, ...] = (), **options) -> HandMade:
    """T0 of quarters."""
    return HandMade(QUARTERS, weighed(*(weights or WEIGHTS), **options), drives)


def listed(found: attfind.Search, target: int = 1) -> list[tuple[int, int]]:
    """Coordinates and directions towards a class, strongest first."""
    return [(a.coordinate, a.direction) for a in found.towards(target)]


def test_t0_recovers_exactly() -> None:
    """Each used factor with its direction, ranked by weight; each effect in closed form."""
    factors = sampled(12)
    found = explored(handmade(), factors)
    assert listed(found) == [(0, 1), (2, 0)]
    assert listed(found, 0) == [(0, 0), (2, 1)]
    moves = bounds(factors).T[None] - factors[..., None]  # [n, j, 2]
    rises = moves * torch.tensor(WEIGHTS)[:, None] / 2
    expected = torch.stack([-rises, rises], -1)
    torch.testing.assert_close(found.effects, expected, atol=1e-5, rtol=0)


def test_t0_on_the_leaves() -> None:
    """The corner's hue and the spot's hue are linear in the pixels: recovery is exact there too."""

    def classify(images: Tensor) -> Tensor:
        warm = ((images[:, 0] - images[:, 2])[:, 0, 0] + 0.22) / 0.44
        violet = (images[:, 2, 15:17, 15:17].mean((1, 2)) + 0.65) / 1.45
        lead = 3 * (violet - 0.5) - 2 * (warm - 0.5)
        return torch.stack([-lead / 2, lead / 2], 1)

    factors = sampled(8, scene=LEAVES)
    found = explored(HandMade(LEAVES, classify), factors)
    assert listed(found) == [(7, 1), (1, 0)]
    moves = bounds(factors).T[None] - factors[..., None]
    torch.testing.assert_close(found.effects[:, 7, :, 1], 1.5 * moves[:, 7], atol=1e-4, rtol=0)
    torch.testing.assert_close(found.effects[:, 1, :, 1], -moves[:, 1], atol=1e-4, rtol=0)
    others = [0, 2, 3, 4, 5, 6]
    assert found.effects[:, others].abs().max() < 1e-4
    true = importance(classify, LEAVES, images=60)
    assert used(true.g, true.low) == (1, 7)


def bench(classify, factors: Tensor, **options) -> Bench:
    """Quarters as test images, with the truth measured on the classifier."""
    photos, true = QUARTERS.render(factors), importance(classify, QUARTERS)
    return Bench(classify, photos, factors, Exact(), true, **options)


def method(made: HandMade, found: attfind.Search) -> Moves:
    """The attributes of a search, with the perfect encoder."""
    return of_search(found, lambda images: made.styles(read(images)), made.synthesize)


def scored(made: HandMade, found: attfind.Search, factors: Tensor) -> dict:
    """Every attribute edited, and the score against the truth measured on the same classifier."""
    return bench(made.classify, factors).score(method(made, found))


def test_t0_scores_one() -> None:
    """Search, twins, truth and score together: nothing is lost on the way."""
    factors, made = sampled(12), handmade()
    score = scored(made, explored(made, factors), factors)
    for name in ("f1", "average_precision", "sign_accuracy"):
        assert score[name] == 1, name
    for name in ("purity", "spearman", "twin_slope", "twin_r2", "twin_explained"):
        assert score[name] == pytest.approx(1, abs=1e-4), name


def test_negated_logits_turn_the_directions() -> None:
    """The same coordinates in the same order, the other way, with the same effects."""
    factors = sampled(12)
    found, turned = explored(handmade(), factors), explored(handmade(-3, 0, 2, 0), factors)
    assert listed(turned) == [(j, 1 - d) for j, d in listed(found)] == listed(found, 0)
    torch.testing.assert_close(turned.effects, found.effects.flip(3), atol=1e-6, rtol=0)


def test_permuted_coordinates_permute_the_ranks_and_nothing_else() -> None:
    """Coordinate j of the one drives what coordinate `drives[j]` of the other does."""
    factors, drives = sampled(12), (2, 3, 0, 1)
    found, permuted = explored(handmade(), factors), explored(handmade(drives=drives), factors)
    assert [(drives[j], d) for j, d in listed(permuted)] == listed(found)
    torch.testing.assert_close(permuted.effects, found.effects[:, list(drives)], atol=1e-6, rtol=0)
    for one, other in zip(found.attributes, permuted.attributes, strict=True):
        assert one.effect == pytest.approx(other.effect, abs=1e-6)
        assert one.share == other.share


def test_a_doubled_coordinate_is_reported_as_redundant() -> None:
    """Factor 0 has two coordinates: both are found, one of them counts, the other is named."""
    factors, made = sampled(12), handmade(4, 0, -1.5, 0, drives=(0, 1, 2, 3, 0))
    found = explored(made, factors)
    assert {j for j, _ in listed(found)} == {0, 2, 4}
    score = scored(made, found, factors)
    order = [j for j, _ in listed(found)]
    again = {row["rank"] - 1: row["repeats"] for row in score["attributes"] if row["repeats"]}
    assert again == {order.index(4): order.index(0) + 1}
    assert (score["f1"], score["sign_accuracy"]) == (1, 1)


def test_an_unused_class_changes_nothing() -> None:
    """A third logit, always very low: effects, choice and truth of the others stay."""
    factors = sampled(12)
    two, three = explored(handmade(), factors), explored(handmade(extra=-50.0), factors)
    torch.testing.assert_close(three.effects[..., :2], two.effects, atol=1e-6, rtol=0)
    assert not three.effects[..., 2].any()
    assert three.towards(2) == ()
    for target in (0, 1):
        options = {"target": target, "threshold": 1.0}
        pair = selection.select(two.effects, two.logits, **options)
        one = selection.select(three.effects, three.logits, source=1 - target, **options)
        assert one == pair
    for one, other in zip(
        importance(weighed(*WEIGHTS), QUARTERS),
        importance(weighed(*WEIGHTS, extra=-50.0), QUARTERS),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_batch_and_order_change_nothing(batch: int) -> None:
    """To 1e-6, whatever is scored together; shuffled images give shuffled rows and one list."""
    factors, made = sampled(12), handmade()
    found, count = explored(made, factors), made.layout.searched
    effects, logits = attfind.batched(
        made.score, factors, found.bounds, coordinates=count, batch=batch
    )
    torch.testing.assert_close(effects, found.effects, atol=1e-6, rtol=0)
    torch.testing.assert_close(logits, found.logits, atol=1e-6, rtol=0)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(5))
    shuffled = explored(made, factors[order])
    torch.testing.assert_close(shuffled.effects, found.effects[order], atol=1e-6, rtol=0)
    assert listed(shuffled) == listed(found)
    for one, other in zip(found.attributes, shuffled.attributes, strict=True):
        assert one.effect == pytest.approx(other.effect, abs=1e-6)


# --- edits ---------------------------------------------------------------------------------------


def test_each_image_moves_to_the_class_that_it_is_not() -> None:
    """Towards 1 by the first attribute where it is 0, and the other way round."""
    factors, made = sampled(12), handmade()
    found = explored(made, factors)
    labels = found.logits.argmax(1)
    assert set(labels.tolist()) == {0, 1}
    after = moved(found, 0, factors, labels)
    for row, label in zip(after, labels.tolist(), strict=True):
        assert row[0] == found.bounds[1 - label, 0]
    assert torch.equal(after[:, 1:], factors[:, 1:])


def one_by_one(method: Moves, images: Tensor, classify, factors: Tensor) -> list[Edit]:
    """Every attribute alone."""
    before = Unedited(classify, read, factors, method.edit(images, (), 0.0), scene=QUARTERS)
    return [make_edit(method, [a], images, before=before) for a in method.attributes]


def test_effects_and_changes_by_hand() -> None:
    """The wanted class gains weight times move; the way to class 1 is the weight's sign."""
    factors, made = sampled(12), handmade()
    found = explored(made, factors)
    images = QUARTERS.render(factors)
    first, second = one_by_one(method(made, found), images, made.classify, factors)
    for edit, k, weight in ((first, 0, 3), (second, 2, -2)):
        way = (moved(found, (0, None, 1)[k], factors, found.logits.argmax(1)) - factors)[:, k]
        torch.testing.assert_close(edit.effects, way.abs() * abs(weight), atol=1e-5, rtol=0)
        assert edit.changes[k].item() == pytest.approx(way.abs().mean().item() / SPREAD, abs=1e-4)
        assert edit.toward[k].sign() == torch.tensor(weight).sign()
        assert edit.twins.explained > 0.999


def test_a_smudge_scores_nothing() -> None:
    """A generator that draws a pattern no reader sees, for a classifier that does: all false."""
    factors, made = sampled(12), handmade()
    found = explored(made, factors)
    board = 1 - 2 * ((torch.arange(32)[:, None] + torch.arange(32)) % 2).float()

    def synthesize(styles: Tensor) -> Tensor:
        still = made.synthesize(torch.full_like(styles, 0.5))
        return still + 0.1 * styles[:, 0, None, None, None] * board

    def classify(images: Tensor) -> Tensor:
        height = 60 * (images * board).mean((1, 2, 3)) - 3
        return torch.stack([-height, height], 1)

    smudge = of_search(found, lambda images: factors[: len(images)], synthesize)
    images = made.synthesize(torch.full((12, 4), 0.5))
    each = one_by_one(smudge, images, classify, torch.full((12, 4), 0.5))
    score = score_edits(each, importance(made.classify, QUARTERS), monotone=True)
    assert each[0].effects.abs().mean() > 1
    assert score["main"] == [None, None]
    assert (score["f1"], score["false_discovery"]) == (0, 1)


def test_a_method_moves_as_attfind_does() -> None:
    """Strength 1 lands on the bound towards class 1, -1 on the other, a half goes half of the way;
    nothing else moves, and without attributes nothing does.
    """
    factors, made = sampled(12), handmade()
    found = explored(made, factors)
    moves = method(made, found)
    assert list(moves.attributes) == [0, 1]
    high, low = (moves.move(factors, [1], strength)[:, 2] for strength in (-1.0, 1.0))
    torch.testing.assert_close(high, found.bounds[1, 2].expand(12))
    torch.testing.assert_close(low, found.bounds[0, 2].expand(12))
    half = moves.move(factors, [0], 0.5)
    torch.testing.assert_close(half[:, 0], (factors[:, 0] + found.bounds[1, 0]) / 2)
    assert torch.equal(half[:, 1:], factors[:, 1:])
    assert torch.equal(moves.move(factors, [], 1.0), factors)
    both = moves.move(factors, [0, 1], 1.0)
    ends = torch.stack([found.bounds[1, 0], found.bounds[0, 2]])
    torch.testing.assert_close(both[:, [0, 2]], ends.expand(12, 2))


def test_both_classes_may_go_to_one_end() -> None:
    """As `moved` has it, image by image; without a list towards the first class, its opposite."""
    factors, made = sampled(12), handmade()
    found = explored(made, factors)
    zero, one = found.towards(0), found.towards(1)
    same = replace(found, attributes=(zero[0], replace(zero[1], direction=one[1].direction), *one))
    for rank in (0, 1):
        for label, strength in ((0, 1.0), (1, -1.0)):
            wanted = moved(same, rank, factors, torch.full((12,), label))
            torch.testing.assert_close(method(made, same).move(factors, [rank], strength), wanted)
    ends = method(made, found).ends
    assert torch.equal(method(made, replace(found, attributes=one)).ends, ends)
    assert (method(made, same).ends[0] == ends[0]).tolist() == [True, False]


def test_the_stronger_of_two_opposite_ways_is_kept() -> None:
    """Both directions of one coordinate together do what the first of them does alone."""
    factors, made = sampled(40), handmade(4, 0, -4, 0)
    ways = torch.tensor([[1.0, 0, 0, 0], [0, 0, -1.0, 0], [-1.0, 0, 0, 0]])
    moves = Moves.within(read, made.synthesize, ways, factors)
    assert torch.equal(moves.move(factors, [0, 1, 2], 1.0), moves.move(factors, [0, 1], 1.0))
    assert not torch.equal(moves.move(factors, [2], 1.0), factors)
    assert bench(made.classify, factors).score(moves)["sufficiency10"] == 1


def test_flips_are_confirmed_by_the_rule_on_the_twins() -> None:
    """The planted rule is the classifier's: each flip is confirmed. Another rule confirms none."""
    factors, made = sampled(40), handmade(4, 0, -4, 0)
    moves = method(made, explored(made, factors))
    own, other = Rule(QUARTERS, (0, 2), (1, -1)), Rule(QUARTERS, (1, 3), (1, -1))
    same = bench(made.classify, factors, rule=own).score(moves)
    assert same["sufficiency10"] == same["sufficiency10_confirmed"] == 1
    different = bench(made.classify, factors, rule=other).score(moves)
    assert (different["sufficiency10"], different["sufficiency10_confirmed"]) == (1, 0)
    unknown = bench(made.classify, factors).score(moves)
    assert unknown["sufficiency10_confirmed"] is None
    assert unknown["why_sufficiency10_confirmed"] == "nothing was planted"


def test_anything_with_attributes_and_an_edit_is_scored() -> None:
    """A stranger's method: words for attributes, no latent space, no search."""

    class Painter:
        attributes = ("brighter first quarter", "darker third quarter")

        def edit(self, images: Tensor, attributes, strength: float) -> Tensor:
            factors = read(images)
            for name in attributes:
                k, way = (0, 1) if "first" in name else (2, -1)
                factors[:, k] = (factors[:, k] + 0.4 * way * strength).clamp(0, 1)
            return QUARTERS.render(factors)

    score = bench(weighed(3, 0, -2, 0), sampled(40)).score(Painter())
    assert [row["factor"] for row in score["attributes"]] == ["one", "three"]
    assert (score["f1"], score["sign_accuracy"]) == (1, 1)


def test_nothing_found() -> None:
    """No attribute: nothing to score, and the reason."""
    score = score_edits([], importance(weighed(1, 0, 0, 0), QUARTERS, images=20), monotone=True)
    assert (score["f1"], score["twin_r2"]) == (0, None)
    assert score["why_twin_r2"] == "nothing was taken"


def test_photos_are_drawn_and_compared_once(monkeypatch) -> None:
    """Whatever the number of attributes: what all edits are compared with is measured once."""
    asked: list[float] = []

    def counted(photos: Tensor, reconstructions: Tensor) -> float:
        asked.append(0.0)
        return softness(photos, reconstructions)

    monkeypatch.setattr(truth, "softness", counted)
    factors, made = sampled(12), handmade()
    score = scored(made, explored(made, factors), factors)
    assert len(score["attributes"]) == 2
    assert len(asked) == 1
