"""What a snapshot and the last table say, against numbers taken by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import Quarters, flat, tiny, weighing
from torch import Tensor, nn

from stylex import looking, metrics
from stylex.data import ImageSet
from stylex.features import Features
from stylex.looking import (
    Likeness,
    contact_rows,
    final_table,
    from_noise,
    likeness,
    measure,
    spread,
    watch,
)
from stylex.metrics import kid
from stylex.model import StylEx
from stylex.photos import to_bytes, to_unit

# the sign of the first quarter's gray decides
GRAYS = [[0.8, 0.2, 0.1, 0.0], [-0.6, 0.4, 0.0, 0.2], [0.4, -0.2, 0.3, 0.0], [-0.2, 0.0, 0.5, 0.1]]


def first_quarter() -> StylEx:
    """A classifier of the first quarter, and untrained networks around it."""
    return tiny(weighing([[-8.0, 8.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]], [0.0, 0.0]))


def photos() -> Tensor:
    """Four photos, two of each class in turn."""
    return torch.cat([flat(gray) for gray in GRAYS])


def split(images: Tensor) -> ImageSet:
    """Images as one side of a split."""
    return ImageSet(to_bytes(images), tuple(f"{i}.png" for i in range(len(images))))


def distance(x: Tensor, y: Tensor) -> Tensor:
    """Squared error in place of a perceptual distance."""
    return (x - y).square().mean((1, 2, 3))


@given(available=st.integers(1, 500), wanted=st.integers(1, 500))
def test_spread_reaches_over_the_whole_set(available: int, wanted: int):
    """As many as wanted, each once, in order, no gap wider than one more than another."""
    indices = spread(available, wanted).tolist()
    assert len(indices) == min(available, wanted)
    assert indices == sorted(set(indices))
    assert indices[0] == 0
    gaps = [b - a for a, b in zip(indices, [*indices[1:], available], strict=True)]
    assert max(gaps) - min(gaps) <= 1


def test_spread_sees_every_class_of_sorted_folders():
    """Half of 600 images are of the second class, and so are half of the 256 watched."""
    second = torch.arange(600) >= 300
    assert second[spread(600, 256)].float().mean().item() == pytest.approx(0.5, abs=0.01)
    assert spread(0, 5).tolist() == []


class Exact(Quarters):
    """A closed form in which w is the image: `style` returns it, p is not looked at."""

    def encode(self, images: Tensor) -> Tensor:
        """Grays of the quarters."""
        return self.styles(images)

    def style(self, w: Tensor, p: Tensor) -> Tensor:
        """Nothing to add."""
        return w


def test_measures_of_a_perfect_model():
    """Reconstruction without error; the class comes through w alone."""
    model, x = Exact(first_quarter().classifier), photos()
    found = measure(model, x, model.classifier(x))
    assert found["l1"] == pytest.approx(0, abs=1e-6)
    assert found["kl"] == pytest.approx(0, abs=1e-6)
    assert found["agreement"] == found["agreement_swapped_p"] == found["agreement_mean_p"] == 1
    others = metrics.another(len(x))
    labels = model.classifier(x).argmax(1)
    share = (labels[others] == labels).float().mean().item()
    assert share < 1
    assert found["agreement_other_w"] == pytest.approx(share)
    assert found["agreement_mean_w"] == found["chance"] == 0.5
    assert found["l1_other_w"] == pytest.approx((x - x[others]).abs().mean().item(), rel=1e-4)


class FromCondition(Exact):
    """Trap 11 in its pure form: w is ignored, the first quarter shows p."""

    def style(self, w: Tensor, p: Tensor) -> Tensor:
        """Light where the second class is likely."""
        return torch.cat([(p[:, 1:] * 2 - 1), torch.zeros(len(p), 3)], 1)


def test_measures_of_a_class_that_comes_from_the_condition():
    """Agreement is perfect, and its floors say that w has no part in it."""
    model, x = FromCondition(first_quarter().classifier), photos()
    found = measure(model, x, model.classifier(x))
    assert found["agreement"] == found["agreement_mean_w"] == found["agreement_other_w"] == 1
    assert found["agreement_swapped_p"] == 0
    assert found["agreement_mean_p"] == 0.5
    assert found["l1_other_w"] == pytest.approx(found["l1"])


def test_contact_sheet_rows_are_what_their_labels_say():
    """Photo, reconstruction, what p alone draws, what w holds against another p, noise."""
    model, x = first_quarter(), photos()
    logits = model.classifier(x)
    rows = contact_rows(model, x, logits, seed=3)
    w, p = model.encode(x), logits.softmax(1)
    mean_w = w.mean(0, keepdim=True).expand_as(w)
    other = p[torch.tensor([1, 2, 3, 0])]  # the next image is of the other class
    z = torch.randn(4, 256, generator=torch.Generator().manual_seed(3))
    wanted = {
        "photo": x,
        "reconstruction": model.reconstruct(x),
        "mean w, own p": model.synthesize(model.style(mean_w, p)),
        "own w, other p": model.synthesize(model.style(w, other)),
        "noise samples": model.synthesize(model.style(model.generator.mapping(z), p)),
    }
    assert list(rows) == list(wanted)
    for name, images in wanted.items():
        torch.testing.assert_close(rows[name], images, rtol=1e-4, atol=1e-4)


def test_contact_sheet_shows_images_of_the_whole_set():
    """Of many photos a few, spread; the mean w is that of all."""
    model = first_quarter()
    x = photos().repeat_interleave(6, 0)
    rows = contact_rows(model, x, model.classifier(x), seed=0, count=4)
    assert torch.equal(rows["photo"], photos())
    p = model.classifier(photos()).softmax(1)
    mean_w = model.encode(x).mean(0, keepdim=True).expand(4, -1)
    wanted = model.synthesize(model.style(mean_w, p))
    torch.testing.assert_close(rows["mean w, own p"], wanted, rtol=1e-4, atol=1e-4)


def test_a_snapshot_holds_measures_and_floors():
    """The mean image's L1 in closed form; perceptual distance of the reconstruction; diversity."""
    model, x = first_quarter(), photos()
    measures, rows = watch(model, x, distance, seed=0)
    wanted = (x - x.mean(0, keepdim=True)).abs().mean().item()
    assert measures["l1_mean_image"] == pytest.approx(wanted, rel=1e-4)
    redrawn = model.reconstruct(x)
    assert measures["perceptual"] == pytest.approx(distance(x, redrawn).mean().item(), rel=1e-4)
    assert measures["l1"] == pytest.approx((x - redrawn).abs().mean().item(), rel=1e-4)
    assert measures["diversity_photos"] == pytest.approx((x - x.roll(1, 0)).abs().mean().item())
    drawn = rows["noise samples"]
    assert measures["diversity"] == pytest.approx((drawn - drawn.roll(1, 0)).abs().mean().item())


class Quartered(nn.Module):
    """Features that can be told by hand: the mean of each of sixteen squares, all colours."""

    def forward(self, images: Tensor) -> Tensor:
        """Means of the squares."""
        return nn.functional.avg_pool2d(images, 8).flatten(1)


def test_a_snapshot_compares_sets_where_features_are_known() -> None:
    """KID of reconstructions and of as many noise images, in the unit of the train photos."""
    model, x = first_quarter(), photos()
    train = torch.cat([flat([g + 0.1 for g in gray]) for gray in GRAYS])
    features = Features(Quartered(), "squares")
    near = Likeness(features, train)
    assert near.reference.square().mean().item() == pytest.approx(1)
    measures, _ = watch(model, x, distance, seed=0, likeness=near)
    unit = features(train).square().mean().sqrt()
    wanted = kid(features(model.reconstruct(x)) / unit, features(train) / unit)
    assert measures["kid"] == pytest.approx(wanted, rel=1e-4)
    samples = from_noise(model, model.classifier(x), seed=0)
    assert measures["kid_noise"] == pytest.approx(near.kid(samples), rel=1e-4)
    without, _ = watch(model, x, distance, seed=0)
    assert without == {k: v for k, v in measures.items() if not k.startswith("kid")}
    assert likeness(split(x), "none", torch.device("cpu")) is None


def test_the_last_table_measures_test_images_and_learns_floors_from_others():
    """The mean image and PCA come from training images; nothing comes from search images."""
    model = first_quarter()
    test, train = to_unit(to_bytes(photos())), to_unit(to_bytes(photos().flip(0) * 0.5))
    splits = {"train": split(train), "test": split(test)}  # no search: it would be a KeyError
    table = final_table(model, splits, distance, "classifier")
    assert (table["images"], table["split"]) == (4, "test")
    found = table["reconstruction"]
    assert found["perceptual_kind"] == "classifier"
    mean = train.mean(0, keepdim=True)
    redrawn = model.reconstruct(test)
    assert found["l1"] == pytest.approx((test - redrawn).abs().mean().item(), rel=1e-4)
    assert found["l1_mean_image"] == pytest.approx((test - mean).abs().mean().item(), rel=1e-4)
    assert found["perceptual_mean_image"] == pytest.approx(
        distance(test, mean.expand_as(test)).mean().item(), rel=1e-4
    )
    # four images span three components: what is left of a test image is at right angles to them
    assert 0 < found["l1_pca128"] < found["l1_mean_image"]
    shares = {"own", "mean_w", "other_w", "swapped_p", "mean_p"}
    assert shares | {"chance", "kl"} == set(table["agreement"])
    logits = model.classifier(test)
    torch.testing.assert_close(torch.tensor(table["logit_std"]), logits.std(0, correction=0))


def test_pca_of_the_floor_is_learnt_from_images_of_the_whole_set(monkeypatch):
    """Not from the first folder, which is the first class."""
    learnt = []
    real = looking.metrics.PCA
    monkeypatch.setattr(
        looking.metrics, "PCA", lambda known, **given: learnt.append(known) or real(known, **given)
    )
    monkeypatch.setattr(looking, "spread", lambda available, wanted: spread(available, 4))
    known = photos().repeat_interleave(5, 0)
    splits = {"train": split(known), "test": split(photos())}
    final_table(first_quarter(), splits, distance, "none")
    assert torch.equal(learnt[0], to_unit(to_bytes(photos())))
