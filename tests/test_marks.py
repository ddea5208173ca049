"""Marks: what is stamped is read, exactly as a change, on any photo."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stylex.marks import MARKS, ROOM, with_room

every = pytest.mark.parametrize("mark", MARKS.values(), ids=MARKS)


def photos(seed: int, n: int = 5, side: int = 32) -> Tensor:
    """Smooth colourful pictures with some noise."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, 4, 4, generator=draw) * 2 - 1
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    return (smooth + 0.1 * torch.randn(n, 3, side, side, generator=draw)).clamp(-1, 1)


@every
@given(seed=st.integers(0, 999), strength=st.floats(0, 1))
def test_a_stamp_is_read_as_its_strength_on_any_photo(mark, seed: int, strength: float) -> None:
    """As a change, exactly: nothing is clipped where there is room."""
    images = with_room(photos(seed))
    change = mark.read(mark.stamp(images, strength)) - mark.read(images)
    torch.testing.assert_close(change, torch.full((5,), strength), atol=1e-4, rtol=0)


@every
@pytest.mark.parametrize("side", [32, 64, 128])
def test_readings_without_a_mark(mark, side: int) -> None:
    """A gray picture reads nothing, at any size; on it a stamp reads its strength."""
    gray = torch.linspace(-0.7, 0.7, 4).view(4, 1, 1, 1).expand(4, 3, side, side)
    assert mark.read(gray).abs().max() < 1e-4
    strengths = torch.tensor([0.0, 0.5, 1.0, 0.25])
    torch.testing.assert_close(mark.read(mark.stamp(gray, strengths)), strengths, atol=1e-4, rtol=0)


@every
def test_unmarked_photos_read_little_and_marked_ones_lie_apart(mark) -> None:
    """Of 200 pictures, those with the mark and those without hardly overlap."""
    images = with_room(photos(1, 200))
    without, marked = mark.read(images), mark.read(mark.stamp(images, 1.0))
    assert without.mean().abs() < 0.1
    assert without.abs().mean() < 0.75
    assert (marked > 0.5).float().mean() > 0.7


@every
def test_a_mark_is_as_strong_as_the_room(mark) -> None:
    """No pixel moves by more than the room, and every mark moves some."""
    blank = torch.zeros(1, 3, 32, 32)
    change = mark.stamp(blank, 1.0)
    assert change.abs().max().item() == pytest.approx(ROOM)
    assert (with_room(blank + 1) == 1 - ROOM).all()


def test_marks_are_where_they_say() -> None:
    """Watermark: upper left corner; ruler: bottom rows; frame: the edge; tint: everywhere."""
    blank = torch.zeros(1, 3, 32, 32)
    touched = {name: mark.stamp(blank, 1.0)[0].abs().sum(0) > 0 for name, mark in MARKS.items()}
    assert touched["tint"].all()
    assert not touched["watermark"][8:].any()
    assert not touched["watermark"][:, 8:].any()
    assert touched["ruler"][28:].all()
    assert not touched["ruler"][:28].any()
    assert touched["frame"][[0, 1, 30, 31]].all()
    assert not touched["frame"][2:30, 2:30].any()


@every
def test_one_mark_is_not_read_as_another(mark) -> None:
    """On gray, half a mark at most is read by the readers of the others."""
    blank = torch.zeros(1, 3, 32, 32)
    for other in MARKS.values():
        if other is not mark:
            assert other.read(mark.stamp(blank, 1.0)).abs().item() < 0.5, other.name
