"""DiffAugment on known images: what moves where, how far, and that gradients come back."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import draws as draw
from torch import Tensor

from stylex.augment import cut_out, diff_augment, recolour, translate

seeds = st.integers(0, 2**31)


def numbered(n: int = 3, side: int = 16) -> Tensor:
    """Images whose pixels all differ and are above zero."""
    return torch.arange(1, n * side * side + 1).view(n, 1, side, side).float() / (n * side * side)


def moved(image: Tensor, dy: int, dx: int) -> Tensor:
    """What `translate` must give: pixel (y, x) is the old (y + dy, x + dx), zero outside."""
    side, out = image.shape[-1], torch.zeros_like(image)
    for y in range(side):
        for x in range(side):
            if 0 <= y + dy < side and 0 <= x + dx < side:
                out[:, y, x] = image[:, y + dy, x + dx]
    return out


@given(seed=seeds)
def test_translate_is_a_shift_of_at_most_an_eighth(seed):
    """The pixel that lands in the middle names the shift; then every pixel must agree."""
    images = numbered()
    for before, after in zip(images, translate(images, draw(seed)), strict=True):
        y, x = (before[0] == after[0, 8, 8]).nonzero()[0].tolist()
        assert abs(y - 8) <= 2
        assert abs(x - 8) <= 2
        assert torch.equal(after, moved(before, y - 8, x - 8))


def test_translate_reaches_both_ends():
    """All 5 x 5 shifts of a 16 px image come up, so none is favoured by an off-by-one."""
    after = translate(numbered(1).expand(600, -1, -1, -1), draw(0))
    assert len(after[:, 0, 8, 8].unique()) == 25


@given(seed=seeds)
def test_cut_out_zeroes_one_rectangle(seed):
    """At most half the side, exactly that where it lies inside; the rest is as it was."""
    images = numbered(4)
    for before, after in zip(images, cut_out(images, draw(seed)), strict=True):
        gone = after[0] == 0
        rows, columns = gone.any(1), gone.any(0)
        assert torch.equal(gone, rows[:, None] & columns[None])
        assert torch.equal(after[0][~gone], before[0][~gone])
        for line in (rows, columns):
            places = line.nonzero().flatten()
            assert 0 < len(places) <= 8
            assert places[-1] - places[0] == len(places) - 1
            if places[0] > 0 and places[-1] < 15:
                assert len(places) == 8


@given(seed=seeds, value=st.floats(-1, 1))
def test_recolour_of_a_plain_image_is_its_brightness(seed, value):
    """Saturation and contrast have nothing to act on; brightness moves by a quarter at most."""
    images = torch.full((2, 3, 4, 4), value)
    change = recolour(images, draw(seed)) - images
    torch.testing.assert_close(change, change[:, :1, :1, :1].expand_as(change), atol=1e-6, rtol=0)
    assert change.abs().max() <= 0.25 + 1e-6
    assert change[0, 0, 0, 0] != change[1, 0, 0, 0]


@given(seed=seeds)
def test_contrast_scales_a_gray_image_about_its_mean(seed):
    """By one factor between a half and one and a half."""
    images = numbered(1).expand(1, 3, 16, 16)
    after = recolour(images, draw(seed))
    factor = after.std() / images.std()
    assert 0.5 <= factor <= 1.5
    expected = (images - images.mean()) * factor
    torch.testing.assert_close(after - after.mean(), expected, atol=1e-5, rtol=1e-4)


def test_the_same_state_gives_real_and_fake_the_same_change():
    """All parts are affine with random coefficients: differences go through alike."""
    real, fake = numbered(2).expand(2, 3, 16, 16), draw(1).uniform(2, 3, 16, 16)
    zero = torch.zeros_like(real)
    both = diff_augment(real + fake, draw(7)) + diff_augment(zero, draw(7))
    torch.testing.assert_close(both, diff_augment(real, draw(7)) + diff_augment(fake, draw(7)))
    assert torch.equal(diff_augment(real, draw(7)), diff_augment(real, draw(7)))
    assert not torch.equal(diff_augment(real, draw(7)), diff_augment(real, draw(8)))


def test_gradients_reach_what_is_left_of_the_image():
    """One for a kept pixel; nothing for one cut out or pushed over the edge."""
    images = torch.full((8, 3, 16, 16), 0.5).requires_grad_()
    cut_out(translate(images, draw(0)), draw(1)).sum().backward()
    assert set(images.grad.unique().tolist()) == {0.0, 1.0}
    images.grad = None
    diff_augment(images, draw(0)).square().sum().backward()
    assert images.grad.isfinite().all()
    assert (images.grad != 0).any(dim=(1, 2, 3)).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_shape_and_type_stay(channels):
    """Gray images too."""
    images = draw(0).uniform(2, channels, 32, 32)
    after = diff_augment(images, draw(1))
    assert after.shape == images.shape
    assert after.dtype == images.dtype
