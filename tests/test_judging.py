"""The oracle panel: who judges, what they learnt from, what is kept, and what is missing."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from stylex import judging
from stylex.classifier import Classifier
from stylex.data import ImageSet
from stylex.judgenet import JudgeNet
from stylex.judging import (
    Lessons,
    Probe,
    logistic_regression,
    shared_half,
    train_panel,
)
from stylex.smallnet import SmallNet
from stylex.splits import in_half_a
from stylex.subjects import judged, together

CLASSES = ("upright", "level")
GROUP = r"-(\d)"  # the first digit of an image's number
QUICK = {"total_images": 640, "progress": lambda _line: None}


class Roughness(nn.Module):
    """Mean difference of neighbours across and down: tells upright from level stripes."""

    def forward(self, images: Tensor) -> Tensor:
        """Images `[n, 3, h, w]` to `[n, 2]`."""
        across, down = images.diff(dim=3).abs(), images.diff(dim=2).abs()
        return torch.stack([across.mean((1, 2, 3)), down.mean((1, 2, 3))], 1)


class Says(nn.Module):
    """A judge that gives the same logits to every image."""

    def __init__(self, *logits: float):
        super().__init__()
        self.register_buffer("logits", torch.tensor(logits))

    def forward(self, images: Tensor) -> Tensor:
        """`[n, k]`."""
        return self.logits.expand(len(images), -1)


def stripes(count: int, seed: int) -> ImageSet:
    """Upright and level stripes in noise; the folder's name is the class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    phase = torch.rand(count, 1, 1, generator=generator) * 6.3
    wave = (torch.arange(32) * 0.8 + phase).sin().expand(-1, 32, -1)
    wave = torch.where(labels[:, None, None] == 0, wave, wave.mT)
    images = wave[:, None] * 0.5 + 0.2 * torch.randn(count, 3, 32, 32, generator=generator)
    named = tuple(CLASSES[k] for k in labels.tolist())
    names = tuple(f"{label}/{seed}-{i}.png" for i, label in enumerate(named))
    return ImageSet(((images + 1) * 127.5).clamp(0, 255).byte(), names, labels=named)


@pytest.fixture(scope="module")
def splits() -> dict[str, ImageSet]:
    """Stripes to learn from, to calibrate on and to test on."""
    return {"train": stripes(80, 0), "search": stripes(30, 1), "test": stripes(60, 2)}


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A TorchScript file of features."""
    path = tmp_path_factory.mktemp("features") / "roughness.ts"
    torch.jit.script(Roughness()).save(str(path))
    return str(path)


@pytest.fixture(scope="module")
def panel(splits, features, tmp_path_factory) -> tuple[list[Classifier], Path]:
    """A trained panel and where it is kept."""
    folder = tmp_path_factory.mktemp("panel")
    judges, why = train_panel(splits, CLASSES, folder=folder, features=features, **QUICK)
    assert why == ""
    return judges, folder


def test_two_judges_of_two_makes(panel, splits):
    """A network that is no SmallNet and a probe; both, and the two together, are right."""
    judges, _ = panel
    assert isinstance(judges[0].model, JudgeNet)
    assert isinstance(judges[1].model, Probe)
    assert not any(isinstance(module, SmallNet) for judge in judges for module in judge.modules())
    assert all(judge.about["accuracy"] > 0.95 for judge in judges)
    images = splits["test"].batch(slice(None))
    says = together([judged(judge, images) for judge in judges]).argmax(1)
    assert (says == torch.arange(60) % 2).float().mean() > 0.95


def test_logits_follow_the_order_of_the_classes(splits, features, tmp_path):
    """A run's classes need not be sorted as its folders are."""
    turned = CLASSES[::-1]
    judges, _ = train_panel(splits, turned, folder=tmp_path, features=features, **QUICK)
    images = splits["test"].batch(slice(None))
    says = together([judged(judge, images) for judge in judges]).argmax(1)
    assert (says == 1 - torch.arange(60) % 2).float().mean() > 0.95


def test_judges_see_their_half_only(splits, features, tmp_path, monkeypatch):
    """Half B is what `in_half_a` leaves; labels of the other half are hidden from both judges."""
    seen: list[Lessons] = []

    def look(lessons: Lessons, *_given, **_options) -> Classifier:
        seen.append(lessons)
        network = JudgeNet(3, 2, resolution=32, width=16)
        return Classifier(network, CLASSES, size=32)

    monkeypatch.setattr(judging, "train_network", look)
    monkeypatch.setattr(judging, "_load", lambda *_given: Classifier(Says(1, 0), CLASSES))
    train_panel(splits, CLASSES, folder=tmp_path, features="none", **QUICK)
    train_panel(splits, CLASSES, folder=tmp_path, features="none", half="a", **QUICK)
    train_panel(splits, CLASSES, folder=tmp_path, features="none", group=GROUP, **QUICK)
    in_a = in_half_a(splits["train"].names)
    b_rows, a_rows, grouped = (lessons.rows("train") for lessons in seen)
    assert torch.equal(grouped, (~in_half_a(splits["train"].names, GROUP)).nonzero().flatten())
    assert not torch.equal(grouped, b_rows)
    assert torch.equal(b_rows, (~in_a).nonzero().flatten())
    assert torch.equal(a_rows, in_a.nonzero().flatten())
    assert 0 < len(a_rows) < 80


def test_a_kept_panel_is_loaded(panel, splits, features, monkeypatch):
    """The same logits, and nothing is trained again."""
    judges, folder = panel

    def refuse(*_given, **_options):
        raise AssertionError("trained again")

    monkeypatch.setattr(judging, "train_network", refuse)
    monkeypatch.setattr(judging, "train_probe", refuse)
    again, why = train_panel(splits, CLASSES, folder=folder, features=features, **QUICK)
    assert why == ""
    images = splits["test"].batch(slice(0, 8))
    for judge, other in zip(judges, again, strict=True):
        assert judge.hash == other.hash
        assert torch.equal(judge(images), other(images))
        assert other.about["accuracy"] == judge.about["accuracy"]
    with pytest.raises(AssertionError, match="trained again"):
        train_panel(splits, CLASSES, folder=folder, features=features, **QUICK | {"seed": 1})
    other_data = splits | {"train": stripes(40, 5)}
    with pytest.raises(AssertionError, match="trained again"):
        train_panel(other_data, CLASSES, folder=folder, features=features, **QUICK)


def test_the_folder_may_move_and_features_too(panel, splits, features, tmp_path):
    """What a judge was made for counts, not where its features lay."""
    _, folder = panel
    moved = tmp_path / Path(features).name
    moved.write_bytes(Path(features).read_bytes())
    for name in ("network", "probe"):
        (tmp_path / name).mkdir()
        for file in (folder / name).iterdir():
            (tmp_path / name / file.name).write_bytes(file.read_bytes())
    judges, why = train_panel(splits, CLASSES, folder=tmp_path, features=str(moved), **QUICK)
    assert (len(judges), why) == (2, "")


def test_without_features_one_judge_is_left(panel, splits):
    """The reason is told in one line, and the kept network is used."""
    judges, folder = panel
    left, why = train_panel(splits, CLASSES, folder=folder, features="none", **QUICK)
    assert [judge.hash for judge in left] == [judges[0].hash]
    assert why.startswith("no linear probe: features none")
    assert "\n" not in why


@pytest.mark.parametrize(
    ("classes", "split", "says"),
    [
        (("upright", "slanted"), None, "train has no image to learn slanted from"),
        (CLASSES, "train", "train has no image to learn upright, level from"),
        (CLASSES, "search", "search has no image to learn upright, level from"),
    ],
)
def test_without_labels_nobody_judges(splits, tmp_path, classes, split, says):
    """Folders that do not name the classes: no judge, and the reason."""
    if split:
        images = splits[split]
        splits = splits | {split: ImageSet(images.images, images.names)}
    judges, why = train_panel(splits, classes, folder=tmp_path, features="none", **QUICK)
    assert judges == []
    assert says in why
    assert not any(tmp_path.iterdir())


def test_halves_that_may_not_be_apart_are_said(panel):
    """Silent only of a classifier that learned half A."""
    classifier = panel[0][0]
    for half, said in (("a", False), ("all", True), ("b", True)):
        classifier.about["half"] = half
        assert ("--half a" in shared_half(classifier)) == said
    classifier.about |= {"half": "a", "group": r"(\d+)_"}
    assert not shared_half(classifier)
    assert not shared_half(classifier, r"(\d+)_")
    assert "keeps them together" in shared_half(classifier, r"/(\d+)_")
    del classifier.about["half"]
    assert "not known" in shared_half(classifier)


def test_damaged_judges_are_one_line(panel, splits, tmp_path):
    """Half a file, and another judge's weights."""
    _, folder = panel
    (tmp_path / "network").mkdir()
    about = (folder / "network" / "judge.json").read_text()
    weights = (folder / "network" / "judge.safetensors").read_bytes()
    (tmp_path / "network" / "judge.json").write_text(about)
    (tmp_path / "network" / "judge.safetensors").write_bytes(weights[: len(weights) // 2])
    alone = {"folder": tmp_path, "features": "none"}
    with pytest.raises(ValueError, match="is not whole"):
        train_panel(splits, CLASSES, **alone, **QUICK)
    (tmp_path / "network" / "judge.safetensors").write_bytes(weights[:-4] + b"\0\0\0\0")
    with pytest.raises(ValueError, match="were changed or half written; delete it") as caught:
        train_panel(splits, CLASSES, **alone, **QUICK)
    assert "\n" not in str(caught.value)


def test_the_panel_says_what_its_mean_probability_says():
    """Two judges at 0.6 for one class are outvoted by one that is sure; batches change nothing."""
    mild, sure = Says(0.405, 0.0), Says(0.0, 3.0)
    judges = [Classifier(judge, CLASSES, source="mine") for judge in (mild, mild, sure)]
    answers = [judged(judge, torch.zeros(150, 3, 8, 8)) for judge in judges]
    expected = torch.tensor([(0.6 + 0.6 + 0.0474) / 3, (0.4 + 0.4 + 0.9526) / 3])
    torch.testing.assert_close(together(answers), expected.expand(150, 2), atol=1e-3, rtol=0)
    assert together(answers[:2]).argmax(1).tolist() == [0] * 150


def points(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features `[n, 4]` of two overlapping classes, three to one, far from zero, and one dead."""
    draw = torch.Generator().manual_seed(seed)
    labels = (torch.arange(count) % 4 == 0).long()
    x = torch.randn(count, 4, generator=draw) * torch.tensor([1.0, 30.0, 0.1, 0.0])
    x[:, 0] += 1.5 * labels
    return x + torch.tensor([5.0, -200.0, 0.0, 3.0]), labels


def test_logistic_regression_is_the_minimum():
    """At the minimum the decay's pull equals the data's: W = -X^T (P - Y) / decay."""
    x, labels = points(400)
    head = logistic_regression(x, labels, CLASSES, decay=0.05)
    deviation = x.std(0).clamp_min(1e-6)
    weight = head.weight.detach() * deviation
    balance = torch.where(labels == 0, 0.5 / 300, 0.5 / 100)
    wrong = (head(x).softmax(1) - torch.eye(2)[labels]) * balance[:, None]
    pull = wrong.T @ ((x - x.mean(0)) / deviation)
    torch.testing.assert_close(0.05 * weight, -pull.detach(), atol=2e-4, rtol=0)
    torch.testing.assert_close(wrong.sum(0), torch.zeros(2), atol=1e-4, rtol=0)
    assert weight[1, 0] > 0.3
    assert weight[:, 3].abs().max() == 0


def test_logistic_regression_weighs_classes_alike():
    """Features that say nothing give a coin, although one class is three times as common."""
    x, labels = torch.ones(400, 2), (torch.arange(400) % 4 == 0).long()
    head = logistic_regression(x, labels, CLASSES)
    torch.testing.assert_close(head(x[:1]).softmax(1), torch.tensor([[0.5, 0.5]]))


@pytest.mark.parametrize(("resolution", "channels"), [(16, 1), (32, 3), (64, 3)])
def test_judge_net_gives_logits(resolution, channels):
    """Any power of two from 16 on, colour or gray; small enough to train in two minutes."""
    network = JudgeNet(channels, 3, resolution=resolution)
    assert network(torch.zeros(2, channels, resolution, resolution)).shape == (2, 3)
    assert 0.1e6 < sum(p.numel() for p in network.parameters()) < 0.5e6


@pytest.mark.parametrize("resolution", [8, 48])
def test_judge_net_refuses_odd_sides(resolution):
    """One line."""
    with pytest.raises(ValueError, match="wanted a power of two from 16 on"):
        JudgeNet(3, 2, resolution=resolution)
