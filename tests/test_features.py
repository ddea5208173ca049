"""Fixed features: what they are of, under which name, and what is said where they are missing."""

import urllib.error
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from stylex.features import LEAST_SIDE, Features, Trunk, load_features


class ChannelMeans(nn.Module):
    """Mean of each channel: features known by hand."""

    def forward(self, images: Tensor) -> Tensor:
        """Images `[n, 3, h, w]` to `[n, 3]`."""
        return images.mean((2, 3))


class Maps(nn.Module):
    """A network that someone forgot to average over places."""

    def forward(self, images: Tensor) -> Tensor:
        """Images as they are."""
        return images


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Images in [-1, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def script(module: nn.Module, path: Path) -> Path:
    """Write a module as TorchScript."""
    torch.jit.script(module).save(str(path))
    return path


def test_a_script_gives_its_own_features(tmp_path):
    """Images as they are, gray as three equal channels; no gradient, nothing to train."""
    features = load_features(str(script(ChannelMeans(), tmp_path / "means.ts")))
    images, gray = noise(5, 3, 8, 8), noise(4, 1, 8, 8)
    torch.testing.assert_close(features(images), images.mean((2, 3)))
    torch.testing.assert_close(features(gray), gray.mean((2, 3)).expand(-1, 3))
    assert torch.equal(features.every(images), features(images))
    assert not features(images.requires_grad_()).requires_grad
    assert not features.train().training


def test_the_name_tells_two_files_apart(tmp_path):
    """Results carry it: the file's name and what is in the file."""
    (tmp_path / "other").mkdir()
    first = load_features(str(script(ChannelMeans(), tmp_path / "means.ts")))
    other = load_features(str(script(nn.Flatten(), tmp_path / "other" / "means.ts")))
    again = load_features(str(tmp_path / "means.ts"))
    assert first.name == again.name != other.name
    assert first.name.startswith("means.ts (")


def test_the_trunk_in_closed_form():
    """Normalised as ImageNet is, averaged over places; black is minus mean by deviation."""
    trunk = Trunk(nn.Sequential(nn.Identity()))
    black = trunk(torch.full((2, 3, 64, 64), -1.0))
    torch.testing.assert_close(
        black, torch.tensor([[-2.1179, -2.0357, -1.8044]] * 2), atol=1e-4, rtol=0
    )
    gray = Trunk(nn.Sequential(nn.Identity()))(torch.zeros(1, 3, 64, 64))
    expected = (torch.tensor([0.015, 0.044, 0.094]) / torch.tensor([0.229, 0.224, 0.225]))[None]
    torch.testing.assert_close(gray, expected)


def test_a_probe_sees_every_layer():
    """Maps after convolution and pooling are left out; the last one's means stand at the end."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3), nn.ReLU()
    features = Features(Trunk(nn.Sequential(*layers)), "small")
    images = noise(2, 3, 64, 64)
    every, last = features.every(images), features(images)
    assert every.shape == (2, 9)
    torch.testing.assert_close(every[:, 4:], last)
    trunk = features.network
    first = nn.Sequential(*layers[:2])(((images + 1) / 2 - trunk.mean) / trunk.std)
    torch.testing.assert_close(every[:, :4], first.mean((2, 3)))


@pytest.mark.parametrize(("side", "seen"), [(32, 64), (64, 64), (128, 128)])
def test_small_images_are_enlarged(side, seen):
    """The layers see at least 64 px."""
    sides = []

    class Looks(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            sides.append(images.shape[-1])
            return images

    Trunk(nn.Sequential(Looks()))(noise(1, 3, side, side))
    assert sides == [seen]
    assert LEAST_SIDE == 64


@pytest.mark.shared
def test_squeezenet_sees_pictures(shared, monkeypatch):
    """512 numbers, never negative, different for different images, the same for gray as RGB."""
    monkeypatch.setenv("TORCH_HOME", str(shared / "torch"))
    features = load_features()
    assert features.name == "squeezenet1_1"
    images = noise(3, 1, 32, 32)
    found = features(images)
    assert found.shape == (3, 512)
    assert (found >= 0).all()
    assert found.std(0).max() > 0.01
    torch.testing.assert_close(features(images.expand(-1, 3, -1, -1)), found)
    assert features.every(images).shape == (3, 2624)
    assert not any(p.requires_grad for p in features.parameters())


@pytest.mark.parametrize("reason", ["no network", "a page\nin two lines"])
def test_missing_weights_are_one_line(reason, tmp_path, monkeypatch):
    """It names what is missing and the choices that need no download."""

    def refuse(*_given, **_options):
        raise urllib.error.URLError(reason)

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    with pytest.raises(ValueError, match="weights of squeezenet1_1") as caught:
        load_features()
    says = str(caught.value)
    assert "\n" not in says
    assert "--features file.ts" in says
    assert "--features none" in says


def test_broken_weights_are_one_line(tmp_path, monkeypatch):
    """A page of an unhelpful server saved under the weights' name."""
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "squeezenet1_1-b8a52dc0.pth").write_text("<html>please log in</html>")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="--features none") as caught:
        load_features()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [("inception", "features inception: no such file"), ("none", "features none were chosen")],
)
def test_no_features_are_one_line(name, says):
    """A name that is none, and the choice of none."""
    with pytest.raises(ValueError, match=says) as caught:
        load_features(name)
    assert "\n" not in str(caught.value)


def test_another_file_is_no_script(tmp_path):
    """Weights alone are refused: nothing is unpickled."""
    torch.save({"weight": torch.ones(1)}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="is not TorchScript"):
        load_features(str(tmp_path / "weights.pt"))


def test_maps_are_no_vectors():
    """One vector per image is wanted."""
    with pytest.raises(ValueError, match=r"gave \[2, 3, 8, 8\] for 2 images") as caught:
        Features(Maps(), "maps")(noise(2, 3, 8, 8))
    assert "\n" not in str(caught.value)


def test_a_failing_network_is_one_line():
    """The user's network fails in its own words, of which the first line is shown."""
    with pytest.raises(ValueError, match="features odd failed on images") as caught:
        Features(nn.Conv2d(5, 2, 1), "odd")(noise(2, 3, 8, 8))
    assert "\n" not in str(caught.value)
