"""The terms of the loss in closed form, and the perceptual distance on its fixed range."""

import math
import urllib.error

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import draws
from torch import Tensor, nn

from stylex.classifier import Classifier
from stylex.losses import (
    apart,
    discriminator_loss,
    feature_distance,
    generator_loss,
    kl,
    mix_cut,
    path_lengths,
    perceptual_distance,
    quieted,
    r1_penalty,
    thinness,
    varying,
)
from stylex.smallnet import SmallNet


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Unit normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def small_classifier(channels: int = 3) -> Classifier:
    """As if trained: a fresh network is blind to contrast, for its features have no offset."""
    torch.manual_seed(0)
    network = SmallNet(channels, 2, resolution=32, width=16)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias)
    return Classifier(network, ("a", "b"), channels=channels)


class LinearJudge(nn.Module):
    """D(x) = p_1 (a . x), whose gradient is p_1 a."""

    def __init__(self, a: Tensor):
        super().__init__()
        self.a = nn.Parameter(a)

    def forward(self, images: Tensor, p: Tensor) -> Tensor:
        """Score of every image."""
        return (images * self.a).sum((1, 2, 3)) * p[:, 1]


def test_adversarial_losses_of_an_undecided_discriminator():
    """log 2 for the generator, log 2 for each side of the discriminator."""
    undecided = torch.zeros(5)
    assert generator_loss(undecided).item() == pytest.approx(math.log(2))
    assert discriminator_loss(undecided, undecided).item() == pytest.approx(2 * math.log(2))


def test_adversarial_losses_pull_in_the_right_direction():
    """The generator wants its fakes high; the discriminator real ones high and fakes low."""
    real, fake = torch.zeros(2, requires_grad=True), torch.zeros(3, requires_grad=True)
    generator_loss(fake).backward()
    torch.testing.assert_close(fake.grad, torch.full((3,), -1 / 6))
    fake.grad = None
    discriminator_loss(real, fake).backward()
    torch.testing.assert_close(real.grad, torch.full((2,), -1 / 4))
    torch.testing.assert_close(fake.grad, torch.full((3,), 1 / 6))


def test_the_generator_still_learns_when_it_loses():
    """Non-saturating: a clear fake gives a gradient of full size."""
    fake = torch.full((1,), -20.0, requires_grad=True)
    generator_loss(fake).backward()
    assert fake.grad.item() == pytest.approx(-1)


def test_r1_of_a_linear_discriminator():
    """Mean of p^2 |a|^2, wherever the images are; its gradient is 2 mean(p^2) a."""
    judge, real = LinearJudge(noise(3, 4, 4)), noise(5, 3, 4, 4, seed=1)
    p = noise(5, 2, seed=2).softmax(1)
    weight = p[:, 1].square().mean()
    penalty = r1_penalty(judge, real, p)
    torch.testing.assert_close(penalty, weight * judge.a.square().sum())
    penalty.backward()
    torch.testing.assert_close(judge.a.grad, 2 * weight * judge.a.detach())
    assert not real.requires_grad


def test_path_length_of_a_linear_generator():
    """|J^T y| where x = A w: the y is the generator's own draw."""
    a = noise(6, 3 * 8 * 8, seed=1).requires_grad_()
    w = noise(4, 6, seed=2).requires_grad_()
    lengths = path_lengths((w @ a).view(4, 3, 8, 8), w, draws(3))
    y = noise(4, 3, 8, 8, seed=3).flatten(1) / 8
    torch.testing.assert_close(lengths, (y @ a.T).norm(dim=1))
    lengths.sum().backward()
    assert a.grad.abs().max() > 0


def test_path_length_does_not_grow_with_the_resolution():
    """y is divided by the root of the number of places: copies of a picture are as long."""
    means = []
    for side in (8, 32):
        w = noise(256, 2).requires_grad_()
        images = w[:, :, None, None].expand(256, 2, side, side) / side
        means.append(path_lengths(images, w, draws(0)).mean().item() * side)
    assert means[0] == pytest.approx(means[1], rel=0.1)


def test_kl_by_hand():
    """From (0.8, 0.2) to a coin; logits are shifted to show that only probabilities count."""
    target = torch.tensor([[0.8, 0.2]]).log() + 5
    expected = 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5)
    torch.testing.assert_close(kl(target, torch.zeros(1, 2)), torch.tensor([expected]))
    other_way = 0.5 * math.log(0.5 / 0.8) + 0.5 * math.log(0.5 / 0.2)
    torch.testing.assert_close(kl(torch.zeros(1, 2), target), torch.tensor([other_way]))


@given(seed=st.integers(0, 2**31), k=st.integers(2, 6))
def test_kl_is_zero_for_equals_and_never_below(seed, k):
    """Gibbs' inequality; far apart it stays finite."""
    target, logits = 9 * noise(4, k, seed=seed), 9 * noise(4, k, seed=seed + 1)
    torch.testing.assert_close(kl(target, target + 1), torch.zeros(4), atol=1e-5, rtol=0)
    assert (kl(target, logits) >= -1e-5).all()
    assert kl(1000 * target, 1000 * logits).isfinite().all()


def test_feature_distance_by_hand():
    """Features at right angles are 2 apart, whatever their length; layers count alike."""
    a = torch.tensor([3.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4)
    b = torch.tensor([0.0, 0.5]).view(1, 2, 1, 1).expand(1, 2, 4, 4)
    torch.testing.assert_close(feature_distance([a], [b]), torch.tensor([2.0]))
    torch.testing.assert_close(feature_distance([a, a, a, a], [b, a, a, a]), torch.tensor([0.5]))
    half = torch.cat([a[:, :, :2], b[:, :, 2:]], dim=2)  # the lower half of the places differs
    torch.testing.assert_close(feature_distance([a], [half]), torch.tensor([1.0]))


def test_none_is_zero_and_gives_no_gradient():
    """The same seam without a distance."""
    x = noise(2, 3, 32, 32)
    distance = perceptual_distance("none", small_classifier())
    assert torch.equal(distance(x, -x), torch.zeros(2))


def check_range(distance, channels: int = 3) -> None:
    """Trap 3: a darker and a flatter copy are seen, and an image is at no distance from itself.

    Normalising by minimum and maximum would make both copies equal to the image.
    """
    image = noise(2, channels, 32, 32).clamp(-1, 1) * 0.5
    torch.testing.assert_close(distance(image, image), torch.zeros(2), atol=1e-6, rtol=0)
    assert (distance(image, image - 0.4) > 0.01).all()
    assert (distance(image, 0.2 * image) > 1e-5).all()
    further, nearer = distance(image, image - 0.5), distance(image, image - 0.1)
    assert (further > nearer).all()
    edited = image.clone().requires_grad_()
    distance(image + 0.1, edited).sum().backward()
    assert edited.grad.abs().max() > 0


@pytest.mark.parametrize("channels", [1, 3])
def test_classifier_distance_sees_brightness(channels):
    """The features of the explained classifier, on images as they are."""
    check_range(perceptual_distance("classifier", small_classifier(channels)), channels)


def test_classifier_distance_needs_features():
    """A callable shows none; one line names the other choices."""
    classifier = Classifier(lambda images: images.mean((2, 3))[:, :2], ("a", "b"), source="mine")
    distance = perceptual_distance("classifier", classifier)
    with pytest.raises(ValueError, match=r"^mine shows no Conv2d .*--perceptual lpips") as caught:
        distance(noise(1, 3, 32, 32), noise(1, 3, 32, 32))
    assert "\n" not in str(caught.value)


@pytest.mark.shared
def test_lpips_sees_brightness(shared, monkeypatch):
    """LPIPS on the fixed range, at 32 px; gray is three equal channels."""
    monkeypatch.setenv("TORCH_HOME", str(shared / "torch"))
    distance = perceptual_distance("lpips", small_classifier())
    check_range(distance)
    gray, other = noise(2, 1, 32, 32).clamp(-1, 1), noise(2, 1, 32, 32, seed=1).clamp(-1, 1)
    coloured = [x.expand(-1, 3, -1, -1) for x in (gray, other)]
    torch.testing.assert_close(distance(gray, other), distance(*coloured))


@pytest.mark.parametrize("reason", ["no network", "a page\nin two lines"])
def test_missing_lpips_weights_are_one_line(reason, tmp_path, monkeypatch):
    """It names the choices that need no download."""

    def refuse(*_given, **_options):
        raise urllib.error.URLError(reason)

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    with pytest.raises(ValueError, match="LPIPS weights") as caught:
        perceptual_distance("lpips", small_classifier())
    says = str(caught.value)
    assert "\n" not in says
    assert "--perceptual classifier" in says
    assert "--perceptual none" in says


def test_broken_lpips_weights_are_one_line(tmp_path, monkeypatch):
    """A page of an unhelpful server saved under the weights' name."""
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "squeezenet1_1-b8a52dc0.pth").write_text("<html>please log in</html>")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="LPIPS weights") as caught:
        perceptual_distance("lpips", small_classifier())
    assert "\n" not in str(caught.value)


def test_mix_cut_range():
    """Each inner layer may be the cut; without mixing there is none."""
    draw = draws(0)
    always = mix_cut(2000, 7, 1.0, draw)
    assert always.unique().tolist() == [1, 2, 3, 4, 5, 6]
    assert torch.equal(mix_cut(50, 7, 0.0, draw), torch.full((50,), 7.0))
    assert (mix_cut(2000, 7, 0.3, draw) < 7).float().mean().item() == pytest.approx(0.3, abs=0.05)


@given(loud=st.floats(1e-3, 1e3), longest=st.floats(0.1, 10))
def test_no_gradient_is_louder_than_that_of_l1(loud: float, longest: float):
    """Each image by itself: a loud one is cut to the length, a quiet one is left alone."""
    images = noise(3, 2, 4, 4).requires_grad_()
    (of_l1,) = torch.autograd.grad((images - 50).abs().mean(), images)
    limit = longest * of_l1[0].norm()
    direction = noise(3, 2, 4, 4, seed=1)
    (free,) = torch.autograd.grad((loud * direction * images).sum(), images)
    (held,) = torch.autograd.grad((loud * direction * quieted(images, longest)).sum(), images)
    for was, now in zip(free, held, strict=True):
        expected = was * (limit / was.norm()).clamp(max=1)
        torch.testing.assert_close(now, expected)


def test_quieting_changes_no_value_and_no_other_path():
    """The loss is the same, and what does not go through it keeps its gradient; 0 is no limit."""
    images = noise(2, 1, 4, 4).requires_grad_()
    passed = quieted(images, 1.0)
    assert torch.equal(passed, images)
    (both,) = torch.autograd.grad(1e4 * passed.sum() + 7 * images.sum(), images)
    assert (both - 7).flatten(1).norm(dim=1).tolist() == pytest.approx([0.125, 0.125], rel=1e-4)
    assert quieted(images, 0.0) is images
    assert quieted(images.detach(), 1.0).grad_fn is None


@given(carrying=st.integers(1, 12), free=st.floats(1, 12))
def test_thinness_counts_the_coordinates_that_carry(carrying: int, free: float):
    """As many equal effects as there are, of either sign and any size; none beyond the free."""
    effects = torch.zeros(2, 12)
    effects[0, :carrying] = 3.0
    effects[1, 12 - carrying :] = -0.01
    expected = max(0.0, math.log(carrying / free))
    assert thinness(effects, free).item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_varying_counts_the_coordinates_that_move(scale: float):
    """One for each that swings about zero, a share for one that trembles, none for a still one."""
    swing = torch.tensor([-1.0, 1.0]).repeat(4)
    styles = torch.stack([swing, -swing, torch.full((8,), 3.0), 3 + 0.3 * swing], 1) * scale
    trembling = 0.3 / (9 + 0.09) ** 0.5
    assert varying(styles).item() == pytest.approx(2 + trembling, abs=1e-4)


@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_how_far_two_sets_lie_apart_by_hand(scale: float):
    """Mean distances by hand, in units of the found ones'; nothing where both are one."""
    drawn, found = torch.tensor([[0.0], [2.0]]) * scale, torch.tensor([[5.0], [9.0]]) * scale
    assert apart(drawn, found).item() == pytest.approx((2 * 6 - 2 - 4) / 4)
    draw = torch.Generator().manual_seed(0)
    many = torch.randn(2, 400, 6, generator=draw) * scale
    assert apart(*many).item() == pytest.approx(0, abs=0.01)
    assert apart(2 * many[0], many[1]).item() > 0.1  # another spread
    mixed = many[0] @ torch.linalg.qr(torch.ones(6, 6).triu())[0].T
    narrow = many[1] * torch.tensor([3.0, 1, 1, 1, 1, 1])
    assert apart(narrow.roll(1, 1), narrow).item() > 0.02  # the same moments, another direction
    assert apart(mixed, many[1]).item() == pytest.approx(0, abs=0.01)  # turned, and round


def test_still_coordinates_send_no_bad_gradient():
    """A deviation of zero has no slope; the loss stays finite in training."""
    styles = torch.full((4, 3), 2.0, requires_grad=True)
    varying(styles).backward()
    assert styles.grad is not None
    assert styles.grad.isfinite().all()


def test_one_photo_says_nothing_of_where_photos_lie():
    """The smallest set of photos has one to train on."""
    drawn, found = torch.randn(8, 4), torch.randn(1, 4).expand(2, 4)
    assert apart(drawn, found).item() == 0
