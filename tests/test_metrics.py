"""Every number beside its floor, for models whose numbers are known by hand."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stylex.metrics import (
    PCA,
    agreement,
    diversity,
    interval,
    l1,
    of_another_class,
    random_attributes,
)

LABELS = torch.tensor([0, 0, 0, 1, 1])
FLOORS = ("own", "mean_w", "other_w", "swapped_p", "mean_p", "chance")


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Numbers in [-1, 1], in double precision."""
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=draw, dtype=torch.float64) * 2 - 1


def low_rank(n: int, rank: int, seed: int = 0) -> Tensor:
    """Images `[n, 3, 4, 4]` inside [-1, 1] around a mean image, of a given rank."""
    spread = noise(n, rank, seed=seed) @ noise(rank, 48, seed=seed + 1) / (4 * rank)
    return (noise(48, seed=seed + 2) / 2 + spread).view(n, 3, 4, 4)


def one_hot(labels: Tensor, k: int = 2) -> Tensor:
    """A class, said with certainty."""
    return torch.eye(k)[labels]


def test_l1_by_hand():
    """Mean over channels and places, one number per image."""
    a, b = torch.zeros(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)
    b[1, 0] = 0.6
    torch.testing.assert_close(l1(a, b), torch.tensor([0.0, 0.2]))


@pytest.mark.parametrize("n", [20, 80])
def test_pca_is_the_exact_svd(n):
    """Fewer images than pixels and more: the same projection as the singular vectors give."""
    images, others = noise(n, 3, 4, 4) / 3, noise(5, 3, 4, 4, seed=9) / 3
    flat, mean = images.flatten(1), images.flatten(1).mean(0)
    basis = torch.linalg.svd(flat - mean, full_matrices=False).Vh[:7].T
    expected = mean + (others.flatten(1) - mean) @ basis @ basis.T
    ours = PCA(images, components=7).reconstruct(others)
    torch.testing.assert_close(ours, expected.view_as(others).clamp(-1, 1))


@pytest.mark.parametrize(("n", "rank"), [(8, 7), (30, 4), (100, 10)])
def test_pca_of_full_rank_makes_no_error(n, rank):
    """Also on images that it has not seen but that lie in the same plane."""
    images = low_rank(2 * n, rank)
    fitted = PCA(images[:n], components=rank)
    for part in (images[:n], images[n:]):
        torch.testing.assert_close(fitted.reconstruct(part), part, atol=1e-6, rtol=0)


@given(seed=st.integers(0, 1000), n=st.sampled_from([10, 90]))
def test_pca_floor_falls_with_every_component(seed, n):
    """The squared error on its own images never grows with k; k = 0 would be the mean image."""
    images = noise(n, 3, 4, 4, seed=seed) / 2
    squares = [(images - images.mean(0)).square().sum().item()]
    for k in (1, 2, 4, 8, 200):
        redrawn = PCA(images, components=k).reconstruct(images)
        squares.append((images - redrawn).square().sum().item())
    assert all(after < before + 1e-9 for before, after in pairwise(squares))
    assert squares[-1] < 1e-9


def test_pca_of_one_image_is_that_image():
    """No component is left, so nothing can be added to the mean."""
    image, other = noise(1, 3, 4, 4), noise(1, 3, 4, 4, seed=1)
    torch.testing.assert_close(PCA(image).reconstruct(other), image)


def test_pca_draws_images():
    """What it gives stays in [-1, 1], as every image does."""
    fitted = PCA(noise(6, 3, 4, 4), components=3)
    assert fitted.reconstruct(5 * noise(2, 3, 4, 4, seed=3)).abs().max() <= 1


def test_agreement_where_only_p_carries_the_class():
    """Trap 11: own w agrees always, and so do the mean w and another photo's."""
    w, p = torch.zeros(5, 2), 0.6 * one_hot(LABELS) + 0.2
    shares = agreement(w, p, torch.tensor([0.4, 0.6]), LABELS, lambda _w, p: p)
    expected = dict(zip(FLOORS, (1.0, 1.0, 1.0, 0.0, 0.4, 0.6), strict=True))
    assert shares == pytest.approx(expected)


def test_agreement_where_only_w_carries_the_class():
    """The mean w is of the larger class; the neighbour's w agrees on three of five."""
    w, p = one_hot(LABELS), 0.6 * one_hot(LABELS) + 0.2
    shares = agreement(w, p, torch.tensor([0.4, 0.6]), LABELS, lambda w, _p: w)
    expected = dict(zip(FLOORS, (1.0, 0.6, 0.6, 1.0, 1.0, 0.6), strict=True))
    assert shares == pytest.approx(expected)


def test_agreement_of_a_model_that_always_says_one_class():
    """Each number is that class's share: own is worth no more than its floors."""
    w, p = one_hot(LABELS), one_hot(LABELS)
    says_one = torch.tensor([0.0, 1.0]).expand(5, 2)
    shares = agreement(w, p, p.mean(0), LABELS, lambda _w, _p: says_one)
    assert [shares[name] for name in FLOORS] == pytest.approx([0.4] * 5 + [0.6])


@given(labels=st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_of_another_class(labels):
    """The next one of another class; the image itself only where there is none."""
    given_labels = torch.tensor(labels)
    n = len(labels)
    for image, other in enumerate(of_another_class(given_labels).tolist()):
        following = [(image + step) % n for step in range(1, n)]
        expected = next((j for j in following if labels[j] != labels[image]), image)
        assert other == expected


def test_of_another_class_stays_on_the_labels_device():
    """On "meta", which like a GPU refuses indices from elsewhere."""
    assert of_another_class(LABELS.to("meta")).device.type == "meta"


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (5, 10, 0.2366, 0.7634),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson_interval(successes, trials, low, high):
    """Published values."""
    assert interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


@given(trials=st.integers(1, 500), share=st.floats(0, 1))
def test_wilson_interval_holds_the_share(trials, share):
    """Inside [0, 1], around the share, the same for failures turned round."""
    successes = round(share * trials)
    low, high = interval(successes, trials)
    assert 0 <= low < high <= 1
    assert low - 1e-12 <= successes / trials <= high + 1e-12
    assert interval(trials - successes, trials) == pytest.approx((1 - high, 1 - low))


def test_diversity_by_hand():
    """Equal images have none; black beside white differ by the whole range."""
    image = torch.ones(1, 3, 4, 4)
    assert diversity(image.expand(3, -1, -1, -1)) == 0
    assert diversity(torch.cat([image, -image])) == pytest.approx(2)


def test_random_attributes_are_a_fair_floor():
    """Different coordinates, both directions, the same for the same seed."""
    chosen = random_attributes(50, coordinates=60, target=1)
    assert len({a.coordinate for a in chosen}) == 50
    assert {a.direction for a in chosen} == {0, 1}
    assert all(0 <= a.coordinate < 60 and a.target == 1 for a in chosen)
    assert chosen == random_attributes(50, coordinates=60, target=1, seed=0)
    assert chosen != random_attributes(50, coordinates=60, target=1, seed=1)
