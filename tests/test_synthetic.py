"""The planted rules, and the generator made by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stylex.scenes import CELLS, LEAVES, SCENES, SPREAD, Scene
from stylex.synthetic import HandMade, Rule, draw_rule

KINDS = ("sum", "and", "xor")


def drawn(n: int, seed: int = 0, scene: Scene = LEAVES) -> torch.Tensor:
    """Factors from a seed."""
    return scene.sample(n, torch.Generator().manual_seed(seed))


# --- the planted rule ----------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 8),
    scene=st.sampled_from(sorted(SCENES)),
    kind=st.sampled_from(KINDS),
)
def test_rule_is_balanced_and_looks_at_its_factors_only(seed, count, scene, kind) -> None:
    """About half the labels are 1, of every kind; the other factors may be anything."""
    world = SCENES[scene]
    rule = draw_rule(seed, scene=world, count=count, kind=kind)
    assert rule == draw_rule(seed, scene=world, count=count, kind=kind)
    assert len(set(rule.deciding)) == len(rule.signs) == count
    factors = drawn(4_000, seed, world)
    labels = rule.labels(factors)
    assert 0.46 < labels.double().mean() < 0.54
    others = [k for k in range(len(world.factors)) if k not in rule.deciding]
    changed = factors.clone()
    changed[:, others] = drawn(4_000, seed + 1, world)[:, others]
    assert torch.equal(rule.labels(changed), labels)
    assert torch.equal(rule.labels(factors), (rule.margin(factors) > 0).long())


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 8))
def test_turned_factors_turn_the_label(seed: int, count: int) -> None:
    """A signed sum is odd about the middle; so is the parity of an odd number of factors."""
    factors = drawn(500, seed)
    rule = draw_rule(seed, count=count)
    assert torch.equal(rule.labels(1 - factors), 1 - rule.labels(factors))
    odd = draw_rule(seed, count=count, kind="xor")
    turned = odd.labels(1 - factors)
    assert torch.equal(turned, 1 - odd.labels(factors) if count % 2 else odd.labels(factors))


def test_sum_by_hand() -> None:
    """Less of factor 1 and more of factor 3 make a yes."""
    rule = Rule(LEAVES, deciding=(1, 3), signs=(-1, 1))
    factors = torch.full((3, 8), 0.9)
    factors[:, 1] = torch.tensor([0.2, 0.6, 0.6])
    factors[:, 3] = torch.tensor([0.4, 0.5, 0.7])
    assert rule.labels(factors).tolist() == [1, 0, 1]
    torch.testing.assert_close(rule.margin(factors), torch.tensor([0.2, -0.1, 0.1]))
    assert str(rule) == "less background hue, more leaf length"
    assert rule.monotone


def test_and_by_hand() -> None:
    """Both must be beyond the threshold 1 - 1/sqrt(2) = 0.293, each on its side."""
    rule = Rule(LEAVES, deciding=(0, 7), signs=(1, -1), kind="and")
    assert rule.threshold == pytest.approx(1 - 0.5**0.5)
    factors = torch.zeros(4, 8)
    factors[:, 0] = torch.tensor([0.3, 0.29, 0.9, 0.3])
    factors[:, 7] = torch.tensor([0.7, 0.1, 0.71, 0.0])
    assert rule.labels(factors).tolist() == [1, 0, 0, 1]
    assert str(rule) == "more background brightness and less spot hue"
    assert rule.monotone
    assert Rule(LEAVES, (3,), (1,), "and").threshold == 0.5


def test_xor_by_hand() -> None:
    """One of both, not both; a sign turns its factor and so the label."""
    rule = Rule(LEAVES, deciding=(0, 1), signs=(1, 1), kind="xor")
    factors = torch.zeros(4, 8)
    factors[:, 0] = torch.tensor([0.2, 0.8, 0.2, 0.8])
    factors[:, 1] = torch.tensor([0.2, 0.2, 0.8, 0.8])
    assert rule.labels(factors).tolist() == [0, 1, 1, 0]
    assert Rule(LEAVES, (0, 1), (1, -1), "xor").labels(factors).tolist() == [1, 0, 0, 1]
    assert str(rule) == "an odd number of: more background brightness, more background hue"
    assert not rule.monotone


def test_the_seeds_of_the_first_runs_plant_the_same_rules() -> None:
    """Runs that are there stay what they were: columns and signs of a seed are fixed."""
    rules = [draw_rule(seed) for seed in range(3)]
    for seed, rule in enumerate(rules):
        generator = torch.Generator().manual_seed(seed)
        columns = torch.randperm(8, generator=generator)[:2].tolist()
        signs = (2 * torch.randint(2, (2,), generator=generator) - 1).tolist()
        assert (list(rule.deciding), list(rule.signs)) == (columns, signs)
        assert (rule.scene, rule.kind) == (LEAVES, "sum")


@pytest.mark.parametrize("correlation", [0.5, 0.9])
@pytest.mark.parametrize("kind", KINDS)
def test_a_nuisance_goes_along_with_the_label(kind: str, correlation: float) -> None:
    """By as much as was asked; it decides nothing, and each factor stays uniform."""
    rule = draw_rule(7, kind=kind, correlation=correlation)
    plain = draw_rule(7, kind=kind)
    assert (plain.deciding, plain.signs) == (rule.deciding, rule.signs)
    assert rule.nuisance not in (None, *rule.deciding)
    factors = rule.sample(20_000, torch.Generator().manual_seed(0))
    labels, upper = rule.labels(factors), factors[:, rule.nuisance] > 0.5
    assert torch.corrcoef(torch.stack([labels, upper]).float())[0, 1].item() == pytest.approx(
        correlation, abs=0.03
    )
    assert torch.equal(labels, plain.labels(factors))
    assert (factors.mean(0) - 0.5).abs().max() < 0.02
    assert (factors.std(0) - SPREAD).abs().max() < 0.01
    assert f"goes along: {correlation}" in str(rule)
    without = plain.sample(50, torch.Generator().manual_seed(0))
    assert torch.equal(without, LEAVES.sample(50, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("wrong", [{"nuisance": 1}, {"nuisance": 2, "correlation": 1.5}])
def test_wrong_nuisances(wrong: dict) -> None:
    """It must not decide, and a correlation is a share."""
    with pytest.raises(ValueError, match=r"^got nuisance=.* give a factor that does not decide"):
        Rule(LEAVES, (1, 3), (1, 1), **wrong)


def test_rules_differ_between_seeds() -> None:
    """Every factor decides under some seed, with either sign."""
    rules = [draw_rule(seed, scene=CELLS) for seed in range(120)]
    pairs = {pair for rule in rules for pair in zip(rule.deciding, rule.signs, strict=True)}
    assert pairs == {(k, sign) for k in range(len(CELLS.factors)) for sign in (-1, 1)}


@pytest.mark.parametrize("count", [0, 9])
def test_wrong_number_of_deciding_factors(count: int) -> None:
    """As many as there are factors, at least one."""
    with pytest.raises(ValueError, match=rf"^got count={count} deciding factors; give 1 to 8$"):
        draw_rule(0, count=count)


@pytest.mark.parametrize(
    ("deciding", "signs"), [((8,), (1,)), ((0, 0), (1, 1)), ((0, 1), (1,)), ((), ())]
)
def test_wrong_columns(deciding: tuple[int, ...], signs: tuple[int, ...]) -> None:
    """Columns are different ones of the scene, each with its sign."""
    with pytest.raises(ValueError, match=r"give different columns below 8 and one sign for each$"):
        Rule(LEAVES, deciding, signs)


# --- the generator made by hand ------------------------------------------------------------------


def nothing(images: torch.Tensor) -> torch.Tensor:
    """A classifier that sees nothing."""
    return images.new_zeros(len(images), 2)


def test_each_coordinate_drives_its_factor() -> None:
    """The perfect encoder and the generator undo each other; the picture is the scene's own."""
    made, factors = HandMade(LEAVES, nothing), drawn(5)
    assert torch.equal(made.styles(factors), factors)
    torch.testing.assert_close(made.synthesize(factors), LEAVES.render(factors))
    moved = factors.clone()
    moved[:, 3] = 1
    torch.testing.assert_close(made.factors(moved), moved)
    assert made.layout.searched == 8
    assert made.score(factors).tolist() == [[0, 0]] * 5


def test_an_index_map_permutes_doubles_and_leaves_out() -> None:
    """Coordinates 0 and 2 share factor 7, coordinate 1 drives factor 2; the others are still."""
    made = HandMade(LEAVES, nothing, drives=(7, 2, 7), resolution=64)
    factors = made.factors(torch.tensor([[0.2, 0.9, 0.4]]))
    torch.testing.assert_close(factors, torch.tensor([[0.5, 0.5, 0.9, 0.5, 0.5, 0.5, 0.5, 0.3]]))
    assert made.synthesize(torch.rand(2, 3)).shape == (2, 3, 64, 64)
    assert made.layout.widths == (3,)
    inside = drawn(4)
    torch.testing.assert_close(made.factors(made.styles(inside))[:, [2, 7]], inside[:, [2, 7]])
