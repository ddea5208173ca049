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
    another,
    bootstrap_interval,
    diversity,
    frechet,
    interval,
    kid,
    l1,
    latent_gap,
    of_another_class,
    random_attributes,
    rank_biased_overlap,
)

LABELS = torch.tensor([0, 0, 0, 1, 1])


@given(st.integers(2, 60))
def test_another_image_is_never_the_same(count: int):
    """Each is somebody's other one, once."""
    other = another(count)
    assert (other != torch.arange(count)).all()
    assert sorted(other.tolist()) == [*range(count)]


def test_another_image_of_sorted_classes_is_as_often_of_the_other_class():
    """Neighbours in sorted folders nearly never are: as a floor they would be too high."""
    labels = torch.arange(1000) // 500
    same = (labels[another(1000)] == labels).float().mean().item()
    assert same == pytest.approx(0.5, abs=0.05)


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


@pytest.mark.parametrize(("n", "rank"), [(20, 19), (80, 48), (30, 4)])
def test_pca_of_fewer_components_needs_no_new_fit(n, rank):
    """The first k of many components are the k that would have been fitted."""
    images, others = low_rank(n, rank), noise(5, 3, 4, 4, seed=9) / 3
    many = PCA(images, components=40).reconstruct(others, components=3)
    torch.testing.assert_close(many, PCA(images, components=3).reconstruct(others))


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
    """The mean w is of the larger class; another's w agrees where it is of the same."""
    w, p = one_hot(LABELS), 0.6 * one_hot(LABELS) + 0.2
    shares = agreement(w, p, torch.tensor([0.4, 0.6]), LABELS, lambda w, _p: w)
    same = (LABELS[another(5)] == LABELS).double().mean().item()
    expected = dict(zip(FLOORS, (1.0, 0.6, same, 1.0, 1.0, 0.6), strict=True))
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


def gaussian(n: int, mean: Tensor, root: Tensor, seed: int = 0) -> Tensor:
    """`[n, d]` whose sample mean and covariance are *exactly* the mean and root root^T."""
    x = torch.randn(n, len(mean), generator=torch.Generator().manual_seed(seed)).double()
    x = x - x.mean(0)
    white = x @ torch.linalg.inv(torch.linalg.cholesky(x.T.cov())).T
    return mean + white @ root.T


def test_kid_by_hand():
    """Kernel (x . y / 2 + 1)^3 of two points and three; no point is paired with itself."""
    a = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    b = torch.tensor([[2.0, 2.0], [0.0, 0.0], [-2.0, 0.0]])
    # a: both pairs have k = 1. b: (x0, x2) has (-2 + 1)^3 = -1, pairs with zero have 1
    # between: (2+1)^3, 1, (-2+1)^3 of the first; (2+1)^3, 1, 1 of the second
    expected = 1 + (-1 + 1 + 1) / 3 - 2 * (27 + 1 - 1 + 27 + 1 + 1) / 6
    assert kid(a, b) == pytest.approx(expected)


@given(seed=st.integers(0, 1000), n=st.integers(2, 20), m=st.integers(2, 20))
def test_kid_is_symmetric_and_forgets_the_order(seed, n, m):
    """Whichever set is the first and however its images are ordered."""
    a, b = noise(n, 5, seed=seed), noise(m, 5, seed=seed + 1)
    assert kid(a, b) == pytest.approx(kid(b, a), abs=1e-12)
    assert kid(a.flip(0), b) == pytest.approx(kid(a, b), abs=1e-12)


def test_kid_is_unbiased():
    """Over many draws of one distribution its mean is zero; of two it is far from it."""
    same = [kid(noise(8, 3, seed=2 * i), noise(8, 3, seed=2 * i + 1)) for i in range(400)]
    error = torch.tensor(same).std().item() / 20
    assert abs(sum(same) / 400) < 3 * error
    assert kid(noise(50, 3), noise(50, 3, seed=1) + 1) > 20 * error


def test_kid_is_torchmetrics():
    """An independent implementation, for equal numbers."""
    from torchmetrics.image.kid import poly_mmd

    a, b = noise(20, 6), noise(20, 6, seed=1) + 0.3
    assert kid(a, b) == pytest.approx(poly_mmd(a, b).item())


def test_frechet_of_two_gaussians():
    """Along common axes |mean difference|^2 + sum of (difference of deviations)^2."""
    a = gaussian(
        60,
        torch.tensor([1.0, 0.0, 2.0]).double(),
        torch.diag(torch.tensor([1.0, 2.0, 3.0])).double(),
    )
    b = gaussian(
        40,
        torch.tensor([0.0, 0.0, 0.0]).double(),
        torch.diag(torch.tensor([3.0, 2.0, 0.5])).double(),
        1,
    )
    assert frechet(a, b) == pytest.approx(5 + 4 + 0 + 6.25)


def test_frechet_of_covariances_that_do_not_commute():
    """In two dimensions tr (A B)^(1/2) = sqrt(tr(A B) + 2 sqrt(det(A B)))."""
    root_a = torch.tensor([[2.0, 0.0], [0.0, 0.5]]).double()
    root_b = torch.tensor([[1.0, 0.0], [0.9, 0.4]]).double()
    zero = torch.zeros(2).double()
    product = root_a @ root_a.T @ root_b @ root_b.T
    common = (product.trace() + 2 * product.det().sqrt()).sqrt()
    expected = (root_a.square().sum() + root_b.square().sum() - 2 * common).item()
    a, b = gaussian(30, zero, root_a), gaussian(50, zero, root_b, seed=1)
    assert frechet(a, b) == pytest.approx(expected)


def test_frechet_sees_the_components_of_its_reference():
    """A shift across the widest axis counts, one across the others is not looked at."""
    wide = torch.diag(torch.tensor([5.0, 1.0, 1.0])).double()
    photos = gaussian(50, torch.zeros(3).double(), wide)
    along, across = torch.tensor([2.0, 0.0, 0.0]).double(), torch.tensor([0.0, 2.0, 0.0]).double()
    assert frechet(photos + along, photos, photos, components=1) == pytest.approx(4)
    assert frechet(photos + across, photos, photos, components=1) == pytest.approx(0, abs=1e-9)
    assert frechet(photos + across, photos, photos, components=3) == pytest.approx(4)


@given(seed=st.integers(0, 1000), n=st.integers(2, 30))
def test_frechet_is_symmetric_and_zero_for_equals(seed, n):
    """Also where there are fewer images than features."""
    a, b, reference = (noise(n, 12, seed=seed + i) for i in range(3))
    there, back = frechet(a, b, reference, components=8), frechet(b, a, reference, components=8)
    assert there == pytest.approx(back, abs=1e-9)
    assert there >= -1e-9
    assert frechet(a, a.flip(0)) == pytest.approx(0, abs=1e-9)


def test_frechet_is_torchmetrics():
    """An independent implementation, on all components."""
    from torchmetrics.image.fid import _compute_fid

    a, b = noise(50, 6), noise(40, 6, seed=1) * 2 + 0.3
    expected = _compute_fid(a.mean(0), a.T.cov(), b.mean(0), b.T.cov()).item()
    assert frechet(a, b) == pytest.approx(expected)


def test_latent_gap_in_units_of_the_spread():
    """A shift by the total deviation is 1; half of the spread is a quarter, none is 1."""
    b = gaussian(50, torch.zeros(2).double(), torch.diag(torch.tensor([3.0, 4.0])).double())
    shifted = latent_gap(b + torch.tensor([3.0, 4.0]).double(), b)
    assert shifted == pytest.approx({"mean": 1, "covariance": 0}, abs=1e-9)
    assert latent_gap(b / 2, b) == pytest.approx({"mean": 0, "covariance": 0.25}, abs=1e-9)
    assert latent_gap(b * 0, b) == pytest.approx({"mean": 0, "covariance": 1}, abs=1e-9)


@pytest.mark.parametrize("distance", [kid, frechet, latent_gap])
def test_distances_of_one_image_are_refused(distance):
    """One line that says how many came."""
    for a, b in [(noise(1, 3), noise(5, 3)), (noise(5, 3), noise(1, 3))]:
        with pytest.raises(ValueError, match="asked of 1 images; wanted two or more") as caught:
            distance(a, b)
        assert "\n" not in str(caught.value)


def test_rank_biased_overlap_by_hand():
    """Shares 0, 1, 2/3 at depths 1, 2, 3 under weights 1, p, p^2."""
    expected = (0 + 0.5 * 1 + 0.25 * 2 / 3) / 1.75
    assert rank_biased_overlap("abc", "bad", p=0.5) == pytest.approx(expected)
    # a list that ends early has no more to offer: 1/1, 1/2
    assert rank_biased_overlap("a", "ab", p=0.5) == pytest.approx((1 + 0.25) / 1.5)
    assert rank_biased_overlap("", "") == 1


@given(n=st.integers(1, 12), order=st.randoms(), p=st.floats(0.1, 0.99))
def test_rank_biased_overlap_of_equal_and_disjoint_lists(n, order, p):
    """1 and 0; symmetric; an exchange at the top costs more than one at the end."""
    ranked = list(range(n))
    shuffled = order.sample(ranked, n)
    assert rank_biased_overlap(ranked, ranked, p) == pytest.approx(1)
    assert rank_biased_overlap(ranked, [i + n for i in ranked], p) == 0
    there, back = rank_biased_overlap(ranked, shuffled, p), rank_biased_overlap(shuffled, ranked, p)
    assert there == pytest.approx(back)
    assert 0 < there <= 1 + 1e-12
    if n > 2:
        top, end = [1, 0, *ranked[2:]], [*ranked[:-2], n - 1, n - 2]
        assert rank_biased_overlap(ranked, top, p) < rank_biased_overlap(ranked, end, p)


def test_bootstrap_interval_of_a_share():
    """For many values it is the normal one: mean +- 1.96 deviations of the mean."""
    values = (torch.arange(400) % 4 == 0).double()
    low, high = bootstrap_interval(values, seed=0, draws=4000)
    half = 1.96 * (0.25 * 0.75 / 400) ** 0.5
    assert (low, high) == pytest.approx((0.25 - half, 0.25 + half), abs=0.005)


def test_bootstrap_interval_of_equal_values_is_a_point():
    """The seed decides; without values there is none."""
    assert bootstrap_interval(torch.full((5,), 2.0), seed=0) == (2, 2)
    values = noise(30).flatten()
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)
    with pytest.raises(ValueError, match="asked of 0 values"):
        bootstrap_interval(torch.zeros(0), seed=0)
