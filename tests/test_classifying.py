"""Training a small classifier: it learns, repeats itself, is calibrated, and says what is wrong."""

import json
import zlib
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from stylex.classifier import Classifier
from stylex.classifying import (
    _chances,
    augment,
    calibration_error,
    fit,
    fit_temperature,
    labels_of,
    predict,
    soften,
    train_classifier,
)
from stylex.data import ImageSet
from stylex.judgenet import JudgeNet
from stylex.keeping import load_classifier
from stylex.splits import in_half_a

QUICK = {"total_images": 640, "batch": 32, "width": 16}


def stripes(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Upright (0) and level (1) stripes in noise, as bytes `[n, 3, 32, 32]`, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    phase = torch.rand(count, 1, 1, generator=generator) * 6.3
    wave = (torch.arange(32) * 0.8 + phase).sin().expand(-1, 32, -1)
    wave = torch.where(labels[:, None, None] == 0, wave, wave.mT)
    images = wave[:, None] * 0.5 + 0.2 * torch.randn(count, 3, 32, 32, generator=generator)
    return ((images + 1) * 127.5).clamp(0, 255).byte(), labels


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stripes as train/ search/ test/ folders of two classes."""
    root = tmp_path_factory.mktemp("stripes")
    for seed, (split, count) in enumerate({"train": 60, "search": 20, "test": 40}.items()):
        for number, (pixels, label) in enumerate(zip(*stripes(count, seed), strict=True)):
            path = root / split / ("upright", "level")[label] / f"{number**2}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path)
    return root


def test_it_learns_and_writes_what_it_measured(folder, tmp_path):
    """Above 95 % on test images; what is written loads again as the same classifier."""
    classifier = train_classifier(folder, tmp_path, resolution=32, **QUICK)
    about = json.loads((tmp_path / "classifier.json").read_text())
    assert about["accuracy"] > 0.95
    assert about["classes"] == ["level", "upright"]
    assert about["counts"]["test"] == {"level": 20, "upright": 20}
    assert sum(map(sum, about["confusion"])) == 40
    assert about["size"] == about["resolution"] == 32
    assert load_classifier(tmp_path).hash == classifier.hash == about["hash"]
    assert not any(p.requires_grad for p in classifier.parameters())


def test_the_seed_decides():
    """The same seed gives the same weights bit for bit, another seed others."""
    images, labels = stripes(16)

    def trained(seed: int) -> str:
        torch.rand(seed + 1)  # the global generator has no say
        quick = {"total_images": 20, "batch": 4, "width": 16}
        return fit(images, labels, images, labels, ("a", "b"), seed=seed, **quick).hash

    assert trained(0) == trained(0) != trained(1)


def test_bytes_and_floats_are_the_same_images():
    """Images in memory may be bytes or in [-1, 1]."""
    images, labels = stripes(8)
    quick = {"total_images": 20, "batch": 2, "width": 16}
    floats = images.float() / 127.5 - 1
    first = fit(images, labels, images, labels, ("a", "b"), **quick)
    assert fit(floats, labels, floats, labels, ("a", "b"), **quick).hash == first.hash


def test_another_network_learns_too():
    """Any that ends in a linear `head`; the seed initialises it, and it is calibrated."""
    images, labels = stripes(60)

    def trained() -> Classifier:
        quick = {"total_images": 640, "batch": 32}
        network = JudgeNet(3, 2, resolution=32, width=16)
        return fit(images, labels, *stripes(20, 1), ("a", "b"), network=network, **quick)

    first, again = trained(), trained()
    assert isinstance(first.model, JudgeNet)
    assert first.hash == again.hash
    others, their = stripes(40, 2)
    said = predict(first, others, torch.arange(40)).argmax(1)
    assert (said == their).float().mean() > 0.9


def test_halves_are_those_of_the_names(folder, tmp_path):
    """The parity of the CRC-32 of the file's own name decides; half B is the rest."""
    names = [f"train/a/{n**2}.png" for n in range(50)]
    even = [zlib.crc32(f"{n**2}.png".encode()) % 2 == 0 for n in range(50)]
    assert in_half_a(names).tolist() == even
    files = [path.name for path in folder.glob("train/*/*")]
    in_a = int(in_half_a(files).sum())
    assert in_a not in (0, 30, 60)
    quick = {"resolution": 32, "total_images": 20, "batch": 2, "width": 16}
    for half, expected in {"a": in_a, "b": 60 - in_a}.items():
        about = train_classifier(folder, tmp_path, half=half, **quick).about
        assert sum(about["counts"]["train"].values()) == expected


def test_no_group_stands_in_both_halves():
    """Both eyes go where their patient's number goes; a name without one goes by itself."""
    eyes = [f"train/a/{n}_{side}.png" for n in range(50) for side in ("left", "right")]
    in_a = in_half_a([*eyes, "other.png"], r"(\d+)_")
    patients = [zlib.crc32(str(n).encode()) % 2 == 0 for n in range(50)]
    assert in_a[:-1].reshape(50, 2).T.tolist() == [patients, patients]
    assert bool(in_a[-1]) == (zlib.crc32(b"other.png") % 2 == 0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batch": 0}, "batch is 0; wanted at least 1"),
        ({"total_images": -5}, "total_images is -5; wanted at least 1"),
        ({"width": 0}, "width is 0; wanted at least 1"),
        ({"device": "tpu"}, "device 'tpu' came; this machine has cpu"),
    ],
)
def test_options_without_sense_are_refused(tmp_path, options, says):
    """Before anything is read."""
    with pytest.raises(ValueError, match=says):
        train_classifier(tmp_path / "nothing", tmp_path / "out", resolution=32, **options)


def test_classes_are_drawn_equally_often():
    """Nine of one class, one of another, two left out."""
    labels = torch.tensor([0] * 9 + [1] + [-1] * 2)
    expected = torch.tensor([1 / 9] * 9 + [1.0] + [0.0] * 2)
    torch.testing.assert_close(_chances(labels, 2), expected)


def test_labels_are_the_places_of_the_classes():
    """In the order given; -1 for other folders and for images of none."""
    images, names = stripes(3)[0], ("a/0.png", "b/1.png", "c/2.png")
    named = ImageSet(images, names, labels=("a", "b", "c"))
    assert labels_of(named, ("b", "a")).tolist() == [1, 0, -1]
    assert labels_of(ImageSet(images, names), ("b", "a")).tolist() == [-1, -1, -1]


def test_temperature_in_closed_form():
    """Logits (l, 0) right in three of four cases are calibrated at l / T = log 3."""
    logits = torch.tensor([[4.0, 0.0]]).expand(400, 2)
    labels = (torch.arange(400) % 4 == 0).long()
    temperature, loss = fit_temperature(logits, labels)
    assert temperature == pytest.approx(4 / torch.tensor(3.0).log().item(), rel=0.015)
    assert loss == pytest.approx(0.5623, abs=1e-3)  # entropy of (3/4, 1/4) in nats


def test_temperature_of_perfect_answers_stays_bounded():
    """Without an error the likelihood has no maximum; logits are at most doubled."""
    logits = torch.tensor([[3.0, 0.0], [0.0, 3.0]])
    assert fit_temperature(logits, torch.tensor([0, 1]))[0] == 0.5


def test_calibration_error_in_closed_form():
    """Confidence 0.9 with half of the answers right is off by 0.4; 0.75 with 3 of 4 by nothing."""

    def error(confidence: float, right: int, count: int) -> float:
        odds = torch.tensor(confidence / (1 - confidence)).log()
        logits = torch.stack([odds, torch.tensor(0.0)]).expand(count, 2)
        return calibration_error(logits, (torch.arange(count) >= right).long())

    assert error(0.9, 5, 10) == pytest.approx(0.4, abs=1e-5)
    assert error(0.75, 3, 4) == pytest.approx(0.0, abs=1e-5)


def test_soften_blurs_its_share_only():
    """The first part of a batch loses its finest detail, the rest is left alone."""
    images, _ = stripes(8)
    images = images.float() / 127.5 - 1
    soft = soften(images, torch.Generator().manual_seed(0), share=0.5)

    def roughness(x: Tensor) -> Tensor:
        return x.diff(dim=3).square().mean((1, 2, 3))

    assert (roughness(soft[:4]) < 0.9 * roughness(images[:4])).all()
    assert torch.equal(soft[4:], images[4:])
    assert torch.equal(soften(images, torch.Generator(), share=0.0), images)


def test_augment_stays_in_range_and_repeats():
    """Shape and range hold, each image has its own draw, and the generator decides."""
    images = (stripes(1)[0].float() / 127.5 - 1).expand(6, -1, -1, -1)
    first, again = (augment(images, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == images.shape
    assert first.abs().max() <= 1
    assert (first[1:] != first[:1]).flatten(1).any(1).all()
    gray = torch.zeros(64, 3, 32, 32)
    kept, changed = (
        augment(gray, torch.Generator().manual_seed(3), colours=c) for c in (False, True)
    )
    assert kept.mean((1, 2, 3)).abs().max() < 0.01 < changed.mean((1, 2, 3)).abs().max()


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        (("upright", "slanted"), "no image of slanted in train"),
        (("upright",), "1 class folders"),
    ],
)
def test_missing_classes_get_one_line(folder, tmp_path, classes, says):
    """A class without images is named; one class is not enough."""
    with pytest.raises(ValueError, match=says) as caught:
        train_classifier(folder, tmp_path, resolution=32, classes=classes)
    assert "\n" not in str(caught.value)


def test_unlabelled_images_get_one_line(folder, tmp_path):
    """Images that stand in no class folder cannot be learnt from."""
    images = sorted((folder / "train" / "level").glob("*.png"))
    for number, path in enumerate(images[:6]):
        (tmp_path / f"{number}.png").write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match="folder of its name") as caught:
        train_classifier(tmp_path, tmp_path / "out", resolution=32)
    assert "\n" not in str(caught.value)
