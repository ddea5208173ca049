"""The layout of StyleSpace, bounds, and the one move in it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stylex.stylespace import Attribute, Layout, bounds, shift, shift_all

LAYOUT = Layout((4, 4, 2), (4, 8, 8), (4, 2))
BOUNDS = torch.tensor([[-1.0, -2.0, -3.0], [1.0, 2.0, 3.0]])

coordinates, directions = st.integers(0, 2), st.integers(0, 1)


def styles(seed: int = 0, n: int = 4) -> Tensor:
    """Style vectors within the bounds."""
    draw = torch.Generator().manual_seed(seed)
    return BOUNDS[0] + torch.rand(n, 3, generator=draw) * (BOUNDS[1] - BOUNDS[0])


def test_layout_counts():
    """ToRGB coordinates are part of the vector, not of the search."""
    assert (LAYOUT.searched, LAYOUT.size) == (10, 16)
    assert [LAYOUT.layer(j) for j in range(10)] == [0] * 4 + [1] * 4 + [2] * 2
    assert [LAYOUT.resolution(j) for j in range(10)] == [4] * 4 + [8] * 6


@pytest.mark.parametrize("coordinate", [-1, 10, 15])
def test_layout_refuses_what_is_not_searched(coordinate):
    """A ToRGB coordinate has no layer in the search."""
    with pytest.raises(ValueError, match=f"^coordinate {coordinate} is not one of the 10"):
        LAYOUT.layer(coordinate)


def test_split_keeps_the_order():
    """Convolutions first, then ToRGB; together they are the vector."""
    vector = torch.arange(32.0).view(2, 16)
    convs, rgbs = LAYOUT.split(vector)
    assert [part.shape[1] for part in convs] == [4, 4, 2]
    assert [part.shape[1] for part in rgbs] == [4, 2]
    assert torch.equal(torch.cat([*convs, *rgbs], dim=1), vector)


def test_bounds_are_the_extremes_of_each_coordinate():
    """Row 0 low, row 1 high: the row is the direction."""
    seen = torch.tensor([[1.0, 5.0], [3.0, -2.0], [2.0, 0.0]])
    assert bounds(seen).tolist() == [[1.0, -2.0], [3.0, 5.0]]


@given(seed=st.integers(0, 999), j=coordinates, d=directions)
def test_strength_one_lands_on_the_bound(seed, j, d):
    """method.md 4.1; one coordinate moves, the others and the argument stay."""
    before = styles(seed)
    kept = before.clone()
    after = shift(before, j, d, BOUNDS)
    torch.testing.assert_close(after[:, j], BOUNDS[d, j].expand(4))
    others = [i for i in range(3) if i != j]
    assert torch.equal(after[:, others], before[:, others])
    assert torch.equal(before, kept)
    assert after.data_ptr() != before.data_ptr()


@given(seed=st.integers(0, 999), j=coordinates, d=directions, strength=st.floats(-1, 3))
def test_the_move_is_a_share_of_the_way(seed, j, d, strength):
    """Above 1 it goes on beyond the bound, at 0 it stays."""
    before = styles(seed)
    after = shift(before, j, d, BOUNDS, strength)
    way = BOUNDS[d, j] - before[:, j]
    torch.testing.assert_close(after[:, j] - before[:, j], strength * way, atol=1e-5, rtol=1e-4)
    if strength > 1.01:
        beyond = (after[:, j] - BOUNDS[d, j]) * (1 if d else -1)
        assert (beyond > 0).all()


def test_shift_gives_a_copy_even_where_nothing_moves():
    """Whoever writes into the answer must not write into the styles of the image."""
    before = styles()
    after = shift(before, 0, 0, BOUNDS, 0.0)
    after += 1
    assert torch.equal(before, styles())


def test_shift_lets_gradients_through():
    """At strength s, 1 - s of the coordinate is left."""
    before = styles().requires_grad_()
    shift(before, 1, 1, BOUNDS, 0.25).sum().backward()
    assert torch.equal(before.grad, torch.tensor([1.0, 0.75, 1.0]).expand(4, 3))


def test_shift_all_is_one_after_the_other():
    """Different coordinates do not meet; the last word on one coordinate counts."""
    up, down = Attribute(0, 1, target=1, effect=0.0), Attribute(0, 0, target=1, effect=0.0)
    other = Attribute(2, 1, target=1, effect=0.0)
    before = styles()
    together = shift_all(before, [up, other], BOUNDS, 0.5)
    assert torch.equal(together, shift(shift(before, 0, 1, BOUNDS, 0.5), 2, 1, BOUNDS, 0.5))
    assert torch.equal(together, shift_all(before, [other, up], BOUNDS, 0.5))
    assert torch.equal(shift_all(before, [up, down], BOUNDS)[:, 0], torch.full((4,), -1.0))
    assert torch.equal(shift_all(before, [], BOUNDS), before)
