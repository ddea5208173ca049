"""The drawn images, the planted rule and the reader of factors."""

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from stylex import synthetic
from stylex.synthetic import (
    FACTORS,
    Reader,
    Rule,
    changed_factor,
    draw_factors,
    draw_rule,
    factor_changes,
    gaussian_blur,
    read_quality,
    render,
    spoil,
    train_reader,
)


def drawn(n: int, seed: int = 0) -> torch.Tensor:
    """Factors from a seed."""
    return draw_factors(n, torch.Generator().manual_seed(seed))


def put(factors: torch.Tensor, k: int, value: float) -> torch.Tensor:
    """The same factors, one of them set to a value everywhere: do(factor_k = value)."""
    changed = factors.clone()
    changed[:, k] = value
    return changed


@pytest.fixture(scope="module")
def reader() -> Reader:
    """A reader trained for a few seconds only."""
    return train_reader(images_seen=6_000, members=1)


# --- the scene -----------------------------------------------------------------------------------


def test_factors_are_uniform_independent_and_seeded() -> None:
    """Eight columns in [0, 1] with the moments of independent uniform draws."""
    factors = drawn(20_000)
    assert factors.shape == (20_000, len(FACTORS))
    assert len(set(FACTORS)) == len(FACTORS) >= 8
    assert factors.min() >= 0
    assert factors.max() <= 1
    torch.testing.assert_close(factors.mean(0), torch.full((8,), 0.5), atol=0.01, rtol=0)
    torch.testing.assert_close(
        factors.std(0), torch.full((8,), synthetic.SPREAD), atol=0.01, rtol=0
    )
    assert (torch.corrcoef(factors.T) - torch.eye(8)).abs().max() < 0.03
    torch.testing.assert_close(factors, drawn(20_000), atol=0, rtol=0)
    assert not torch.equal(factors[:10], drawn(10, seed=1))


def test_pixel_effects_agree_within_a_factor_of_two() -> None:
    """No factor is much easier to see, or to reconstruct, than another."""
    factors = drawn(250)
    effects = torch.stack(
        [
            (render(put(factors, k, 0.9)) - render(put(factors, k, 0.1))).abs().mean()
            for k in range(len(FACTORS))
        ]
    )
    assert effects.min() > 0.04, "a mean change of five gray levels can be seen"
    assert effects.max() / effects.min() <= 2


def test_no_factor_hides_another() -> None:
    """Every factor changes every image: the weakest effect is not far under the mean one."""
    factors = drawn(300)
    for k, name in enumerate(FACTORS):
        change = render(put(factors, k, 0.9)) - render(put(factors, k, 0.1))
        effects = change.abs().mean((1, 2, 3))
        assert effects.min() > 0.3 * effects.mean(), name


def test_no_colour_is_clipped() -> None:
    """At every corner of the factor cube values stay inside (-1, 1): clipping bends effects."""
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * len(FACTORS))
    images = render(corners)
    assert images.shape == (2 ** len(FACTORS), 3, 32, 32)
    assert images.abs().max() < 0.99


@settings(max_examples=15, derandomize=True, deadline=None)
@given(
    rows=st.lists(st.lists(st.floats(-0.2, 1.2), min_size=8, max_size=8), min_size=1, max_size=3),
    resolution=st.sampled_from([16, 32, 64]),
)
def test_any_factors_give_images_in_range(rows: list[list[float]], resolution: int) -> None:
    """Shape and range hold beyond [0, 1] too, and one by one gives the same as together."""
    factors = torch.tensor(rows)
    images = render(factors, resolution=resolution)
    assert images.shape == (len(rows), 3, resolution, resolution)
    assert images.isfinite().all()
    assert images.abs().max() <= 1
    for row, image in zip(factors, images, strict=True):
        torch.testing.assert_close(render(row[None], resolution=resolution)[0], image)


def test_chunks_do_not_show() -> None:
    """More images than are drawn at once come out as if drawn one by one, always the same."""
    factors = drawn(synthetic._CHUNK + 3)
    images = render(factors)
    for n in (0, synthetic._CHUNK - 1, synthetic._CHUNK, synthetic._CHUNK + 2):
        torch.testing.assert_close(render(factors[n : n + 1])[0], images[n])
    assert torch.equal(images, render(factors))
    assert render(factors[:0]).shape == (0, 3, 32, 32)


def test_antialiased() -> None:
    """64 px averaged down equals 32 px up to the sampling of edges, as do more samples a pixel."""
    factors = drawn(100)
    images = render(factors)
    halved = functional.avg_pool2d(render(factors, resolution=64), 2)
    assert (halved - images).abs().max() < 0.05
    assert (render(factors, supersample=8) - images).abs().max() < 0.05
    # a pixel counts as between two colours only on edges: the unantialiased picture differs there
    assert (render(factors, supersample=1) - images).abs().max() > 0.05


def test_mirrored() -> None:
    """Light from the other side is the mirror image; the scene is symmetric up and down."""
    factors = drawn(20)
    mirrored = factors.clone()
    mirrored[:, FACTORS.index("leaf light")] = 1 - mirrored[:, FACTORS.index("leaf light")]
    torch.testing.assert_close(render(mirrored), render(factors).flip(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(render(factors), render(factors).flip(2), atol=1e-5, rtol=0)


def test_areas_in_closed_form() -> None:
    """The leaf covers 8/3 length width of the 4 square half frames, the spot pi radius^2."""
    middle = torch.full((1, len(FACTORS)), 0.5)
    column = torch.full((1, 1, 1, 1), 0.5)
    leaf, side, spot = synthetic._masks(column, column, column, 64, 4)
    length, width, radius = 0.76, 0.66, 0.30
    assert leaf.mean().item() == pytest.approx(8 / 3 * length * width / 4, rel=5e-3)
    assert spot.mean().item() == pytest.approx(torch.pi * radius**2 / 4, rel=5e-3)
    assert side.mean().item() == pytest.approx(0, abs=1e-6)
    corner = render(middle)[0, :, 0, 0]
    torch.testing.assert_close(corner, torch.tensor([0.495, 0.48, 0.495]))


def test_wrong_number_of_factors() -> None:
    """A table with other columns is refused in one line."""
    with pytest.raises(ValueError, match=r"^got 5 factors per image, need 8; give .*$"):
        render(torch.zeros(2, 5))


def test_drawing_is_quick() -> None:
    """10,000 images in under 20 s of one core."""
    factors = drawn(1_000)
    start = time.perf_counter()
    render(factors)
    assert time.perf_counter() - start < 2


# --- the planted rule ----------------------------------------------------------------------------


@settings(max_examples=25, derandomize=True, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 8))
def test_rule_is_balanced_and_looks_at_its_factors_only(seed: int, count: int) -> None:
    """About half the labels are 1; the other factors may be anything; 1 - factors turns labels."""
    rule = draw_rule(seed, count)
    assert rule == draw_rule(seed, count)
    assert len(set(rule.deciding)) == len(rule.signs) == count
    factors = drawn(4_000, seed)
    labels = rule.labels(factors)
    assert 0.46 < labels.double().mean() < 0.54
    others = [k for k in range(len(FACTORS)) if k not in rule.deciding]
    changed = factors.clone()
    changed[:, others] = drawn(4_000, seed + 1)[:, others]
    assert torch.equal(rule.labels(changed), labels)
    assert torch.equal(rule.labels(1 - factors), 1 - labels)


def test_rule_by_hand() -> None:
    """Less of factor 1 and more of factor 3 make a yes."""
    rule = Rule(deciding=(1, 3), signs=(-1, 1))
    factors = torch.full((3, len(FACTORS)), 0.9)
    factors[:, 1] = torch.tensor([0.2, 0.6, 0.6])
    factors[:, 3] = torch.tensor([0.4, 0.5, 0.7])
    assert rule.labels(factors).tolist() == [1, 0, 1]
    assert str(rule) == "less background hue, more leaf length"


def test_rules_differ_between_seeds() -> None:
    """Every factor decides under some seed, with either sign."""
    rules = [draw_rule(seed) for seed in range(100)]
    pairs = {pair for rule in rules for pair in zip(rule.deciding, rule.signs, strict=True)}
    assert pairs == {(k, sign) for k in range(len(FACTORS)) for sign in (-1, 1)}


@pytest.mark.parametrize("count", [0, 9])
def test_wrong_number_of_deciding_factors(count: int) -> None:
    """As many as there are factors, at least one."""
    with pytest.raises(ValueError, match=rf"^got count={count} deciding factors; give 1 to 8$"):
        draw_rule(0, count)


# --- the reader ----------------------------------------------------------------------------------


def test_blur_keeps_flat_images_and_spreads_a_point() -> None:
    """A Gaussian: weights sum to one, the variance of a blurred point is sigma^2."""
    flat = torch.full((2, 3, 32, 32), 0.3)
    torch.testing.assert_close(gaussian_blur(flat, 2.0), flat)
    point = torch.zeros(1, 3, 33, 33)
    point[..., 16, 16] = 1
    blurred = gaussian_blur(point, 1.5)[0, 0]
    offsets = (torch.arange(33) - 16.0) ** 2
    assert (blurred.sum(0) * offsets).sum().item() == pytest.approx(1.5**2, rel=0.05)
    torch.testing.assert_close(gaussian_blur(point, 0.0), point)


def test_spoilt_images_stay_near() -> None:
    """Spoiling repeats with its seed and leaves an image that is still that image."""
    images = render(drawn(8))
    first, again, other = (spoil(images, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == images.shape
    assert 0 < (first - images).abs().mean() < 0.15


@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_reader_reads_new_images(reader: Reader, sigma: float) -> None:
    """Even a short training reads every factor, sharp or blurred, at any resolution."""
    factors = drawn(300, seed=99)
    for resolution in (32, 64):
        images = gaussian_blur(render(factors, resolution=resolution), sigma * resolution / 32)
        slope, r2 = read_quality(reader, factors, images)
        assert r2.min() > 0.85, resolution
        assert slope.min() > 0.7
        assert slope.max() < 1.3


def test_changed_factor_is_found(reader: Reader) -> None:
    """Re-rendered pairs, blurred: the changed factor is found, and its size is right."""
    factors = drawn(100, seed=7)
    before = gaussian_blur(render(factors), 1.0)
    for k, name in enumerate(FACTORS):
        moved = put(factors, k, 1.0)
        after = gaussian_blur(render(moved), 1.0)
        assert changed_factor(reader, before, after) == k, name
        truth = (moved - factors).abs().mean(0)[k] / synthetic.SPREAD
        changes = factor_changes(reader, before, after)
        assert changes[k].item() == pytest.approx(truth.item(), rel=0.25), name
        assert torch.cat([changes[:k], changes[k + 1 :]]).max() < 0.35 * changes[k], name


def test_nothing_changed(reader: Reader) -> None:
    """The same images before and after: no change at all."""
    images = render(drawn(5))
    assert factor_changes(reader, images, images).tolist() == [0.0] * len(FACTORS)


def test_quality_in_closed_form() -> None:
    """Reading half of every factor: slope 1/2 and the R2 that follows."""

    class Half(Reader):
        def read(self, images: torch.Tensor) -> torch.Tensor:
            return 0.25 + 0.5 * images[:, :, 0, 0]

    factors = torch.tensor([[0.0, 0.0, 0.5], [1.0, 1.0, 0.5], [0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    half = Half(3, 1, torch.Generator())
    slope, r2 = read_quality(half, factors, factors[:, :, None, None])
    torch.testing.assert_close(slope, torch.full((3,), 0.5))
    torch.testing.assert_close(r2, torch.full((3,), 0.75))


def test_reader_repeats_with_its_seed_and_takes_any_renderer() -> None:
    """Same seed, same reader; members differ; two factors of another scene may be read as well."""

    def flat(factors: torch.Tensor) -> torch.Tensor:
        colours = functional.pad(2 * factors - 1, (0, 1))
        return colours[:, :, None, None].expand(-1, 3, 32, 32).contiguous()

    state = torch.get_rng_state()
    first, again, other = (
        train_reader(render=flat, count=2, images_seen=128, members=2, seed=seed)
        for seed in (0, 0, 1)
    )
    assert torch.equal(state, torch.get_rng_state()), "the global generator is left alone"
    images = flat(torch.rand(5, 2, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(first.read(images), again.read(images))
    assert not torch.equal(first.read(images), other.read(images))
    each = first.read_each(images)
    assert each.shape == (2, 5, 2)
    assert not torch.equal(each[0], each[1])
    torch.testing.assert_close(each.mean(0), first.read(images))
    assert not any(parameter.requires_grad for parameter in first.parameters())


@pytest.mark.slow
def test_full_reader_on_every_kind_of_damage() -> None:
    """The default training: R2 of at least 0.95, slope 0.9 to 1.1, on clean and damaged images."""
    reader = train_reader()
    factors = drawn(1_000, seed=99)
    images = render(factors)
    down = functional.interpolate(functional.avg_pool2d(images, 2), size=32, mode="bilinear")
    noise = 0.08 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    for damaged in (images, gaussian_blur(images, 1.5), down, images + noise):
        slope, r2 = read_quality(reader, factors, damaged)
        assert r2.min() >= 0.95
        assert slope.min() >= 0.9
        assert slope.max() <= 1.1
