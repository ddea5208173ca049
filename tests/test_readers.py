"""The readers: what they measure is what was drawn, also off damaged pictures."""

from functools import partial

import pytest
import torch
from small import draws
from torch.nn import functional

from stylex import readers
from stylex.augment import gaussian_blur, spoil
from stylex.readers import (
    Reader,
    factor_changes,
    read_quality,
    readable,
    train_reader,
)
from stylex.scenes import CELLS, LEAVES, SCENES, SPREAD, Scene

both = pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)


def drawn(scene: Scene, n: int, seed: int = 0) -> torch.Tensor:
    """Factors from a seed."""
    return scene.sample(n, torch.Generator().manual_seed(seed))


def noise(images: torch.Tensor, deviation: float) -> torch.Tensor:
    """The same images and white noise."""
    return images + deviation * torch.randn(
        images.shape, generator=torch.Generator().manual_seed(0)
    )


def down_and_up(images: torch.Tensor) -> torch.Tensor:
    """Half of the resolution, shown at full size."""
    halved = functional.avg_pool2d(images, 2)
    return functional.interpolate(halved, scale_factor=2, mode="bilinear")


DAMAGE = {
    "none": lambda images: images,
    "blur": partial(gaussian_blur, sigma=1.0),
    "noise": partial(noise, deviation=0.05),
    "half": down_and_up,
    "all three": lambda images: noise(down_and_up(gaussian_blur(images, 1.0)), 0.05),
}


def flat(factors: torch.Tensor, resolution: int, supersample: int) -> torch.Tensor:
    """Two factors as two colours."""
    colours = functional.pad(2 * factors - 1, (0, 1))
    return colours[:, :, None, None].expand(-1, 3, resolution, resolution).contiguous()


FLAT = Scene("flat", ("red", "green"), flat)


@pytest.fixture(scope="module")
def trained() -> dict[str, Reader]:
    """A reader of each scene, trained for a few seconds only."""
    return {name: train_reader(s, images_seen=5_000, members=1) for name, s in SCENES.items()}


# --- spoilt images -------------------------------------------------------------------------------


def test_blur_keeps_flat_images_and_spreads_a_point() -> None:
    """A Gaussian: weights sum to one, the variance of a blurred point is sigma^2."""
    grey = torch.full((2, 3, 32, 32), 0.3)
    torch.testing.assert_close(gaussian_blur(grey, 2.0), grey)
    point = torch.zeros(1, 3, 33, 33)
    point[..., 16, 16] = 1
    blurred = gaussian_blur(point, 1.5)[0, 0]
    offsets = (torch.arange(33) - 16.0) ** 2
    assert (blurred.sum(0) * offsets).sum().item() == pytest.approx(1.5**2, rel=0.05)
    torch.testing.assert_close(gaussian_blur(point, 0.0), point)


def test_spoilt_images_stay_near() -> None:
    """Spoiling repeats with its seed and leaves an image that is still that image."""
    images = LEAVES.render(drawn(LEAVES, 8))
    first, again, other = (spoil(images, draws(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == images.shape
    assert 0 < (first - images).abs().mean() < 0.15


# --- measured in closed form ---------------------------------------------------------------------


def test_a_sharp_leaf_measures_what_was_drawn() -> None:
    """Lengths in half frames, light per half frame, colours of the two hues."""
    factors = drawn(LEAVES, 200)
    truth = dict(zip(LEAVES.factors, factors.T, strict=True))
    measured = readers._measure_leaf(LEAVES.render(factors))
    expected = {
        "leaf length": 0.60 + 0.32 * truth["leaf length"],
        "leaf width": 0.52 + 0.28 * truth["leaf width"],
        "leaf light": truth["leaf light"] - 0.5,
        "background hue": 0.44 * truth["background hue"] - 0.22,
        "spot hue": 1.45 * truth["spot hue"] - 0.65,
    }
    assert set(measured) == {*expected, "background brightness"}
    for name, value in expected.items():
        torch.testing.assert_close(measured[name], value, atol=0.02, rtol=0, msg=name)


def test_a_sharp_cell_measures_what_was_drawn() -> None:
    """Radii, logarithm of the axes, shares and colours."""
    factors = drawn(CELLS, 200)
    truth = dict(zip(CELLS.factors, factors.T, strict=True))
    measured = readers._measure_cell(CELLS.render(factors))
    expected = {
        "background tint": 0.48 * truth["background tint"] - 0.24,
        "cell size": 0.80 + 0.07 * truth["cell size"],
        "cell elongation": 0.13 * truth["cell elongation"] - 0.065,
        "cytoplasm hue": 0.90 * truth["cytoplasm hue"] - 0.15,
        "membrane thickness": 0.03 + 0.16 * truth["membrane thickness"],
        # six granules of radius 0.13; their green against the cell's
        "granule brightness": 6 * 0.13**2 * (1.5 * truth["granule brightness"] - 0.85),
        "nucleus size": 0.26 + 0.22 * truth["nucleus size"],
        "nucleus position": 0.40 * truth["nucleus position"] - 0.20,
        "nucleus darkness": 0.75 - 1.35 * truth["nucleus darkness"],
    }
    assert set(measured) == set(expected) == set(CELLS.factors)
    for name, value in expected.items():
        torch.testing.assert_close(measured[name], value, atol=0.015, rtol=0, msg=name)


@both
def test_at_least_half_of_the_factors_are_analytic(scene: Scene, trained: dict) -> None:
    """And a flag says which."""
    reader = trained[scene.name]
    measured = readers._MEASURES[scene.name](scene.render(drawn(scene, 1)))
    assert reader.scene == scene
    assert reader.analytic == tuple(name in measured for name in scene.factors)
    assert len(scene.factors) / 2 <= sum(reader.analytic)


@both
@pytest.mark.parametrize("damage", DAMAGE)
def test_analytic_readings_of_damaged_images(scene: Scene, damage: str, trained: dict) -> None:
    """Each counts as readable under blur, noise, half the resolution, and all at once."""
    reader, factors = trained[scene.name], drawn(scene, 250, seed=99)
    quality = read_quality(reader, factors, DAMAGE[damage](scene.render(factors)))
    analytic = torch.tensor(reader.analytic)
    assert readable(*quality)[analytic].all(), quality
    assert (quality[2][analytic] == 0).all()


@both
def test_pictures_of_nothing_are_read_as_well(scene: Scene, trained: dict) -> None:
    """Blank images and noise give numbers, never NaN."""
    generator = torch.Generator().manual_seed(0)
    images = torch.cat([torch.full((1, 3, 32, 32), grey) for grey in (-1.0, 0.0, 0.5, 1.0)])
    images = torch.cat([images, torch.randn(4, 3, 32, 32, generator=generator)])
    assert trained[scene.name].read(images).isfinite().all()


# --- reading -------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_reader_reads_new_images(scene: Scene, sigma: float, trained: dict) -> None:
    """Even a short training reads every factor somehow, sharp or blurred, at any resolution."""
    factors = drawn(scene, 150, seed=99)
    for resolution in (32, 64):
        images = scene.render(factors, resolution=resolution)
        images = gaussian_blur(images, sigma * resolution / 32)
        slope, r2, _ = read_quality(trained[scene.name], factors, images)
        assert r2.min() > 0.7, resolution
        assert slope.min() > 0.7
        assert slope.max() < 1.3


@both
def test_changed_factor_is_found(scene: Scene, trained: dict) -> None:
    """Re-rendered pairs, blurred: the changed factor is found, and its size is right."""
    factors = drawn(scene, 100, seed=7)
    before = gaussian_blur(scene.render(factors), 1.0)
    for k, name in enumerate(scene.factors):
        moved = factors.clone()
        moved[:, k] = 1
        changes = factor_changes(
            trained[scene.name], before, gaussian_blur(scene.render(moved), 1.0)
        )
        assert changes.argmax() == k, name
        truth = (moved - factors).abs().mean(0)[k] / SPREAD
        assert changes[k].item() == pytest.approx(truth.item(), rel=0.25), name
        assert torch.cat([changes[:k], changes[k + 1 :]]).max() < 0.35 * changes[k], name


def test_nothing_changed(trained: dict) -> None:
    """The same images before and after: no change at all."""
    images = LEAVES.render(drawn(LEAVES, 5))
    assert factor_changes(trained["leaves"], images, images).tolist() == [0.0] * 8


def test_doubt_is_the_spread_of_the_members() -> None:
    """By hand: two members that read 0.2 and 0.6 doubt by 0.2; what is measured has none."""

    class Says(torch.nn.Module):
        def __init__(self, value: float):
            super().__init__()
            self.value = value

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.full((len(images), 2), self.value)

    analytic = [name for name in LEAVES.factors if name not in ("leaf hue", "spot size")]
    scales = {name: torch.tensor([0.0, float("inf")]) for name in analytic}
    reader = Reader(LEAVES, scales, [Says(0.2), Says(0.6)])
    images = LEAVES.render(drawn(LEAVES, 3), resolution=48)
    row = [0.0, 0.0, 0.2, 0.0, 0.0, 0.0, 0.2, 0.0]
    torch.testing.assert_close(reader.doubt(images), torch.tensor([row] * 3))
    row = [0.0, 0.0, 0.4, 0.0, 0.0, 0.0, 0.4, 0.0]
    torch.testing.assert_close(reader.read(images), torch.tensor([row] * 3))


def test_quality_in_closed_form() -> None:
    """Reading half of every factor: slope 1/2 and the R2 that follows."""

    class Half(Reader):
        def read(self, images: torch.Tensor) -> torch.Tensor:
            return 0.25 + 0.5 * images[:, :, 0, 0]

    factors = torch.tensor([[0.0, 0.0, 0.5], [1.0, 1.0, 0.5], [0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    half = Half(Scene("three", ("a", "b", "c"), flat), {}, [])
    slope, r2, doubt = read_quality(half, factors, factors[:, :, None, None])
    assert doubt.tolist() == [0.0, 0.0, 0.0]
    torch.testing.assert_close(slope, torch.full((3,), 0.5))
    torch.testing.assert_close(r2, torch.full((3,), 0.75))


def test_readable_by_hand() -> None:
    """Slope 0.9 to 1.1, R2 of at least 0.9, and regressors that agree; no number, not readable."""
    slope = torch.tensor([1.0, 0.9, 1.1, 0.89, 1.11, 1.0, float("nan"), 1.0])
    r2 = torch.tensor([1.0, 0.9, 0.95, 1.0, 1.0, 0.89, float("nan"), 1.0])
    doubt = torch.tensor([0.0, 0.1, 0.05, 0.0, 0.0, 0.0, 0.0, 0.11])
    kept = readable(slope, r2, doubt).tolist()
    assert kept == [True, True, True, False, False, False, False, False]


def test_reader_repeats_with_its_seed_and_learns_any_scene() -> None:
    """Same seed, same reader; members differ; a scene without measurements is learned as well."""
    state = torch.get_rng_state()
    first, again, other = (
        train_reader(FLAT, images_seen=128, members=2, seed=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(state, torch.get_rng_state()), "the global generator is left alone"
    images = FLAT.render(drawn(FLAT, 5))
    assert torch.equal(first.read(images), again.read(images))
    assert not torch.equal(first.read(images), other.read(images))
    assert first.analytic == (False, False)
    assert first.doubt(images).min() > 0
    assert not any(parameter.requires_grad for parameter in first.parameters())


@both
@pytest.mark.slow
def test_full_reader_on_every_kind_of_damage(scene: Scene) -> None:
    """The default training: every factor is readable off clean and damaged images."""
    reader, factors = train_reader(scene), drawn(scene, 1_000, seed=99)
    for damage in DAMAGE.values():
        quality = read_quality(reader, factors, damage(scene.render(factors)))
        assert readable(*quality).all(), quality
