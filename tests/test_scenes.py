"""The two drawn scenes: what a factor does to a picture, and what it leaves alone."""

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from stylex import scenes
from stylex.scenes import CELLS, LEAVES, SCENES, SPREAD, Scene

both = pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)


def drawn(scene: Scene, n: int, seed: int = 0) -> torch.Tensor:
    """Factors from a seed."""
    return scene.sample(n, torch.Generator().manual_seed(seed))


def put(factors: torch.Tensor, k: int, value: float) -> torch.Tensor:
    """The same factors, one of them set to a value everywhere: do(factor_k = value)."""
    changed = factors.clone()
    changed[:, k] = value
    return changed


def mirrored(scene: Scene, factors: torch.Tensor, name: str) -> torch.Tensor:
    """The same factors, one of them reflected about its middle."""
    changed, k = factors.clone(), scene.factors.index(name)
    changed[:, k] = 1 - changed[:, k]
    return changed


def test_scenes_are_found_by_name() -> None:
    """Two scenes, no factor of which goes by the same name."""
    assert SCENES == {"leaves": LEAVES, "cells": CELLS}
    assert not set(LEAVES.factors) & set(CELLS.factors)


@both
def test_factors_are_uniform_independent_and_seeded(scene: Scene) -> None:
    """Eight columns or more in [0, 1] with the moments of independent uniform draws."""
    factors, count = drawn(scene, 20_000), len(scene.factors)
    assert factors.shape == (20_000, count)
    assert len(set(scene.factors)) == count >= 8
    assert factors.min() >= 0
    assert factors.max() <= 1
    torch.testing.assert_close(factors.mean(0), torch.full((count,), 0.5), atol=0.01, rtol=0)
    torch.testing.assert_close(factors.std(0), torch.full((count,), SPREAD), atol=0.01, rtol=0)
    assert (torch.corrcoef(factors.T) - torch.eye(count)).abs().max() < 0.03
    torch.testing.assert_close(factors, drawn(scene, 20_000), atol=0, rtol=0)
    assert not torch.equal(factors[:10], drawn(scene, 10, seed=1))


@both
def test_pixel_effects_agree_within_a_factor_of_two(scene: Scene) -> None:
    """No factor is much easier to see, or to reconstruct, than another."""
    factors = drawn(scene, 130)
    effects = torch.stack(
        [
            (scene.render(put(factors, k, 0.9)) - scene.render(put(factors, k, 0.1))).abs().mean()
            for k in range(len(scene.factors))
        ]
    )
    assert effects.min() > 0.04, "a mean change of five gray levels can be seen"
    assert effects.max() / effects.min() <= 2


@both
def test_every_factor_shows_in_every_picture(scene: Scene) -> None:
    """No factor hides another: from end to end each changes each picture, by a quarter at least."""
    factors = drawn(scene, 60)
    for k, name in enumerate(scene.factors):
        changes = scene.render(put(factors, k, 1)) - scene.render(put(factors, k, 0))
        sizes = changes.abs().mean((1, 2, 3))
        assert sizes.min() > 0.25 * sizes.mean(), name


@both
@settings(max_examples=8, derandomize=True, deadline=None)
@given(seed=st.integers(0, 10_000), resolution=st.sampled_from([16, 32, 64]))
def test_images_stay_in_range_and_do_not_depend_on_their_batch(
    scene: Scene, seed: int, resolution: int
) -> None:
    """Finite, in [-1, 1], and each image is drawn from its own factors alone."""
    factors = torch.cat([drawn(scene, 3, seed), drawn(scene, 2, seed).round()])
    images = scene.render(factors, resolution=resolution)
    assert images.shape == (len(factors), 3, resolution, resolution)
    assert images.isfinite().all()
    assert images.abs().max() <= 1
    for row, image in zip(factors, images, strict=True):
        torch.testing.assert_close(scene.render(row[None], resolution=resolution)[0], image)


@both
def test_no_colour_is_clipped(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same pictures where nothing is clamped, at the factors' ends too."""
    factors = torch.cat([drawn(scene, 100), drawn(scene, 100).round()])
    images = scene.render(factors)
    monkeypatch.setattr(torch.Tensor, "clamp_", lambda self, low, high: clip(self, low, high))

    def clip(values: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return values if low == -1 else values.clamp(low, high)

    torch.testing.assert_close(scene.render(factors), images, atol=0, rtol=0)


@both
def test_chunks_do_not_show(scene: Scene) -> None:
    """More images than are drawn at once come out as if drawn one by one, always the same."""
    factors = drawn(scene, scenes._CHUNK + 3)
    images = scene.render(factors)
    for n in (0, scenes._CHUNK - 1, scenes._CHUNK, scenes._CHUNK + 2):
        torch.testing.assert_close(scene.render(factors[n : n + 1])[0], images[n])
    assert torch.equal(images, scene.render(factors))
    assert scene.render(factors[:0]).shape == (0, 3, 32, 32)


@both
def test_antialiased(scene: Scene) -> None:
    """64 px averaged down equals 32 px up to the sampling of edges, as do more samples a pixel."""
    factors = drawn(scene, 40)
    images = scene.render(factors)
    halved = functional.avg_pool2d(scene.render(factors, resolution=64), 2)
    assert (halved - images).abs().max() < 0.05
    assert (scene.render(factors, supersample=8) - images).abs().max() < 0.05
    # a pixel counts as between two colours only on edges: the unantialiased picture differs there
    assert (scene.render(factors, supersample=1) - images).abs().max() > 0.05


@both
def test_mirrored(scene: Scene) -> None:
    """One factor of each scene tells left from right; both scenes are symmetric up and down."""
    factors = drawn(scene, 20)
    name = {"leaves": "leaf light", "cells": "nucleus position"}[scene.name]
    images = scene.render(factors)
    turned = scene.render(mirrored(scene, factors, name))
    torch.testing.assert_close(turned, images.flip(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(images, images.flip(2), atol=1e-5, rtol=0)


def test_a_tall_cell_lies_down() -> None:
    """Elongation reflected, with the nucleus in the middle: width and height change places."""
    factors = put(drawn(CELLS, 1), CELLS.factors.index("nucleus position"), 0.5)
    cell, inner, _, nucleus = cell_masks(factors)
    turned, inner_turned, _, nucleus_turned = cell_masks(
        mirrored(CELLS, factors, "cell elongation")
    )
    for mask, other in ((cell, turned), (inner, inner_turned), (nucleus, nucleus_turned)):
        torch.testing.assert_close(mask.mT, other, atol=1e-5, rtol=0)


def test_areas_of_a_leaf_in_closed_form() -> None:
    """The leaf covers 8/3 length width of the 4 square half frames, the spot pi radius^2."""
    middle = torch.full((1, len(LEAVES.factors)), 0.5)
    column = torch.full((1, 1, 1, 1), 0.5)
    leaf, side, spot = scenes._leaf_masks(column, column, column, 64, 4)
    length, width, radius = 0.76, 0.66, 0.30
    assert leaf.mean().item() == pytest.approx(8 / 3 * length * width / 4, rel=5e-3)
    assert spot.mean().item() == pytest.approx(torch.pi * radius**2 / 4, rel=5e-3)
    assert side.mean().item() == pytest.approx(0, abs=1e-6)
    corner = LEAVES.render(middle)[0, :, 0, 0]
    torch.testing.assert_close(corner, torch.tensor([0.495, 0.48, 0.495]))


def cell_masks(factors: torch.Tensor, fine: int = 192) -> tuple[torch.Tensor, ...]:
    """Cell, what its membrane encloses, granules and nucleus."""
    _, size, elongation, _, thickness, _, breadth, position, _ = scenes._columns(factors)
    return scenes._cell_masks(size, elongation, thickness, breadth, position, fine=fine)


def test_areas_of_a_cell_in_closed_form() -> None:
    """Ellipses of area pi a b; six granules; whatever the elongation."""
    factors = put(torch.full((1, len(CELLS.factors)), 0.5), 2, 0.9)
    areas = [4 * mask.mean().item() for mask in cell_masks(factors)]
    circle = torch.pi * 0.835**2
    parts = (1, (1 - 0.11) ** 2, 6 * 0.13**2, 0.37**2)
    assert areas == pytest.approx([circle * part for part in parts], rel=1e-2)
    colours = CELLS.render(factors, resolution=64)[0]
    torch.testing.assert_close(colours[:, 0, 0], torch.tensor([0.78, 0.75, 0.78]))
    torch.testing.assert_close(colours[:, 32, 32], torch.tensor([-0.6, -0.425, 0.075]))
    torch.testing.assert_close(colours[:, 32, 51], torch.tensor([0.6, 0.1, 0.3]))


def test_parts_of_a_cell_stay_apart() -> None:
    """Granules and nucleus never meet, nor the membrane; the cell never meets the frame."""
    for factors in drawn(CELLS, 120).round().split(30):  # the ends, where it is narrowest
        cell, inner, grains, nucleus = cell_masks(factors)
        assert (grains + nucleus - inner).max() < 1e-5
        assert (inner <= cell).all()
        assert cell[..., 0].max() == cell[..., 0, :].max() == 0


@both
def test_wrong_number_of_factors(scene: Scene) -> None:
    """A table with other columns is refused in one line."""
    count = len(scene.factors)
    with pytest.raises(ValueError, match=rf"^got 5 factors per image, need {count}; give .*$"):
        scene.render(torch.zeros(2, 5))


@both
def test_drawing_is_quick(scene: Scene) -> None:
    """10,000 images in under 20 s of one core."""
    factors = drawn(scene, 1_000)
    start = time.process_time()
    scene.render(factors)
    assert time.process_time() - start < 2
