"""Races by hand: means corrected on some images, their margins, and who is still in."""

import pytest
import torch

from stylex.racing import contenders, estimate


def column(*values: float) -> torch.Tensor:
    """One move over some images."""
    return torch.tensor(values)[:, None]


def test_a_mean_is_the_foretold_one_corrected_where_it_was_measured():
    """Off by 1 and by 0 on two of four images: 2.5 + 0.5; Student's t of one degree, 3/4, is 1."""
    known = column(1, 1, 0, 0).bool()
    told, true = column(1.0, 2.0, 3.0, 4.0), column(2.0, 2.0, -99.0, -99.0)
    mean, margin = estimate(told, true, known, risk=0.25)
    assert mean.tolist() == pytest.approx([3.0])
    assert margin.tolist() == pytest.approx([(0.5 * (1 - 2 / 4) / 2) ** 0.5])


def test_what_is_measured_everywhere_has_no_margin_and_what_is_on_one_image_any():
    """However it was foretold."""
    known = torch.tensor([[True, True], [True, False], [True, False]])
    told, true = torch.zeros(3, 2), torch.tensor([[1.0, 5.0], [2.0, 0.0], [6.0, 0.0]])
    mean, margin = estimate(told, true, known, risk=0.01)
    assert mean.tolist() == [3.0, 5.0]
    assert margin.tolist() == [0.0, torch.inf]
    mean, margin = estimate(told[:1], true[:1], known[:1], risk=0.01)  # one image is all
    assert margin.tolist() == [0.0, 0.0]


def test_the_margin_holds_as_often_as_it_says():
    """Four of five times to each side where errors are normal, over 4,000 moves."""
    draw = torch.Generator().manual_seed(0)
    told = torch.rand(60, 4000, generator=draw)
    true = told + 0.3 + 0.2 * torch.randn(60, 4000, generator=draw)
    known = torch.zeros_like(true, dtype=torch.bool)
    known[:16] = True
    mean, margin = estimate(told, true, known, risk=0.2)
    off = mean - true.mean(0)
    for beyond in (off > margin, off < -margin):
        assert float(beyond.double().mean()) == pytest.approx(0.2, abs=0.03)


def test_who_cannot_be_the_best_any_more_is_out():
    """The first is at least 2: 1.9 is out, 2.1 is in; whoever is outside never is."""
    mean, margin = torch.tensor([3.0, 1.5, 1.5, 9.0]), torch.tensor([1.0, 0.4, 0.6, 0.0])
    inside = torch.tensor([True, True, True, False])
    assert contenders(mean, margin, inside).tolist() == [True, False, True, False]
