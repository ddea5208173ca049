"""The seam: what goes in and out of it, what it refuses, and what a run keeps of it."""

import json
import sys
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from stylex.classifier import Classifier
from stylex.keeping import load_classifier, recall, remember, save_classifier
from stylex.smallnet import SmallNet
from stylex.sources import one_line


class Linear(nn.Module):
    """Logits that are known by hand: the mean of each channel, times a weight."""

    def __init__(self, channels: int = 3, outputs: int = 2):
        super().__init__()
        weight = torch.arange(1.0, channels * outputs + 1).view(outputs, channels)
        self.weight = nn.Parameter(weight)
        self.register_buffer("shift", torch.zeros(outputs))

    def forward(self, images: Tensor) -> Tensor:
        """Images to logits."""
        return images.mean((2, 3)) @ self.weight.T + self.shift


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Images in [-1, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def small(seed: int = 0, channels: int = 3) -> Classifier:
    """A SmallNet with random weights at 32 px."""
    network = SmallNet(channels, 2, resolution=32, width=16)
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return Classifier(network, ("a", "b"), size=32, channels=channels)


def script(path: Path) -> Path:
    """A TorchScript file whose weights are constants: it has no parameters."""
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    nn.init.normal_(model[0].weight, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.freeze(torch.jit.script(model.eval())).save(path)
    return path


def error_of(kind: type[Exception], call, *args, **kwargs) -> str:
    """The message of an error, which must be one line."""
    with pytest.raises(kind) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_gradients_reach_the_image_and_nothing_else():
    """The image's gradient is the closed form; the parameters are frozen."""
    classifier = Classifier(Linear(), ("a", "b"))
    images = noise(2, 3, 4, 4).requires_grad_()
    classifier(images)[:, 1].sum().backward()
    expected = torch.tensor([4.0, 5.0, 6.0]).view(1, 3, 1, 1).expand(2, 3, 4, 4) / 16
    torch.testing.assert_close(images.grad, expected)
    assert not any(parameter.requires_grad for parameter in classifier.parameters())


def test_eval_stays():
    """Asking for training, even through a parent, changes neither mode nor batch statistics."""
    classifier = small()
    parent = nn.ModuleList([classifier]).train()
    before = classifier.hash
    parent[0](noise(4, 3, 32, 32))
    assert not any(module.training for module in classifier.modules())
    assert classifier.hash == before


@pytest.mark.parametrize("shape", [(-1, 1), (-1,)])
def test_one_logit_becomes_two_of_opposite_sign(shape):
    """One logit l means (-l/2, +l/2): both classes have effects (method.md trap 12)."""
    classifier = Classifier(lambda x: x.mean((1, 2, 3)).view(shape), ("a", "b"), binary=True)
    images = noise(3, 3, 8, 8)
    means = images.mean((1, 2, 3))
    torch.testing.assert_close(classifier(images), torch.stack([-means / 2, means / 2], 1))


def test_resize_and_scale_in_closed_form():
    """2x2 blocks of one colour shrink to that colour inside; then (x - mean) / std on [0, 1]."""
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.4, 0.25)
    classifier = Classifier(Linear(), ("a", "b"), size=4, mean=mean, std=std)
    images = torch.full((1, 3, 8, 8), 0.5)
    prepared = classifier.prepare(images)
    expected = (0.75 - torch.tensor(mean)) / torch.tensor(std)
    torch.testing.assert_close(prepared, expected.view(1, 3, 1, 1).expand(1, 3, 4, 4))


def test_shrinking_is_antialiased():
    """Stripes narrower than the new pixels become gray, not the colour under their centres."""
    stripes = torch.tensor([-1.0, 1.0, 1.0, -1.0]).repeat(4).expand(1, 1, 16, 16)
    prepared = Classifier(Linear(1), ("a", "b"), size=4, channels=1).prepare(stripes)
    assert prepared.abs().max() < 0.3


@given(
    channels=st.sampled_from([1, 3]), wanted=st.sampled_from([1, 3]), size=st.sampled_from([8, 20])
)
def test_any_image_fits(channels, wanted, size):
    """Channels and size come out as the model wants them, within the range, differentiably."""
    classifier = Classifier(Linear(wanted), ("a", "b"), size=12, channels=wanted)
    images = noise(2, channels, size, size).requires_grad_()
    prepared = classifier.prepare(images)
    assert prepared.shape == (2, wanted, 12, 12)
    assert prepared.abs().max() <= 1 + 1e-5
    assert torch.autograd.grad(prepared.square().sum(), images)[0].abs().sum() > 0


def test_luminance_keeps_gray():
    """A gray picture in three channels gives the same gray in one."""
    gray = noise(2, 1, 4, 4)
    classifier = Classifier(Linear(1), ("a", "b"), channels=1)
    torch.testing.assert_close(classifier.prepare(gray.expand(2, 3, 4, 4)), gray)


def test_two_channels_are_refused():
    """Images with two channels get their one line."""
    message = error_of(ValueError, Classifier(Linear(), ("a", "b")), noise(1, 2, 4, 4))
    assert "2 channels" in message


def test_autocast_does_not_reach_the_classifier():
    """Inside bfloat16 autocast, for bfloat16 images too, the logits are the float32 ones."""
    classifier = small()
    images = noise(2, 3, 32, 32).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        inside = classifier(images)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, classifier.model(classifier.prepare(images)))


def softmax(images: Tensor) -> Tensor:
    """A classifier with its softmax inside."""
    return images.mean((2, 3)).softmax(1)[:, :2] / images.mean((2, 3)).softmax(1)[:, :2].sum(
        1, keepdim=True
    )


@pytest.mark.parametrize(
    "wrong", [{"size": 0}, {"size": -3}, {"std": float("inf")}, {"mean": float("nan")}]
)
def test_settings_that_no_image_can_have_are_refused(wrong):
    """At once, not at the first image."""
    assert "wanted" in error_of(ValueError, Classifier, Linear(), ("a", "b"), **wrong)


def test_a_sigmoid_is_refused_where_it_shows():
    """As logits its numbers would all mean the second class; of few images it may be chance."""
    judge = Classifier(lambda x: x.mean((1, 2, 3)).sigmoid(), ("a", "b"), binary=True)
    judge(noise(4, 3, 8, 8))
    judge = Classifier(lambda x: x.mean((1, 2, 3)).sigmoid(), ("a", "b"), binary=True)
    assert "remove the sigmoid" in error_of(ValueError, judge, noise(8, 3, 8, 8))


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (lambda x: (x.mean((2, 3)),), "gave tuple"),
        (lambda x: x.mean((2, 3)).argmax(1), "floating-point"),
        (lambda x: x.mean((2, 3)), r"gave shape [4, 3], wanted [4, 2]"),
        (lambda x: x.mean((1, 2, 3)), "binary=True"),
        (lambda x: x.mean((2, 3))[:, :2] / 0, "NaN or infinity"),
        (softmax, "remove the softmax"),
        (lambda x: x @ torch.zeros(5, 5), "failed on images [4, 3, 8, 8]: RuntimeError"),
        (lambda x: x.detach().mean((2, 3))[:, :2], "not differentiable"),
    ],
)
def test_wrong_outputs_get_one_line(model, says):
    """Whatever is wrong with a model's output is said at the first call."""
    images = noise(4, 3, 8, 8).requires_grad_()
    assert says in error_of(ValueError, Classifier(model, ("a", "b")), images)


def test_without_gradients_nothing_is_asked_of_them():
    """Measuring under no_grad is allowed."""
    classifier = Classifier(Linear(), ("a", "b"))
    with torch.no_grad():
        assert classifier(noise(1, 3, 4, 4).requires_grad_()).shape == (1, 2)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"classes": ("a",)}, "two or more"),
        ({"classes": ("a", "a")}, "different names"),
        ({"classes": "ab"}, "two or more different names"),
        ({"classes": ("a", "b", "c"), "binary": True}, "exactly 2"),
        ({"channels": 4}, "channels=4"),
        ({"mean": (0.1, 0.2)}, "one per channel (3)"),
        ({"std": 0.0}, "above 0"),
    ],
)
def test_wrong_settings_get_one_line(settings, says):
    """What makes no sense is refused when the classifier is made."""
    assert says in error_of(ValueError, Classifier, Linear(), **{"classes": ("a", "b")} | settings)


def test_hash_covers_parameters_buffers_and_settings():
    """Every change of state or seam changes the hash; a device or a call does not."""
    classifier = Classifier(Linear(), ("a", "b"))
    first = classifier.hash
    classifier(noise(1, 3, 4, 4))
    assert classifier.hash == first == Classifier(Linear(), ("a", "b")).hash
    classifier.model.shift[0] = 1
    with_buffer = classifier.hash
    classifier.model.weight.data[0, 0] = 9
    others = [
        Classifier(Linear(), ("b", "a")),
        Classifier(Linear(), ("a", "b"), size=8),
        Classifier(Linear(), ("a", "b"), mean=0.4),
        Classifier(Linear().half(), ("a", "b")),
    ]
    assert len({first, with_buffer, classifier.hash, *(other.hash for other in others)}) == 7


def test_hash_of_a_callable_is_that_of_its_answers():
    """A plain function has no state: what it answers tells it from another."""

    def answers(factor: float) -> str:
        return Classifier(lambda x: x.std((2, 3))[:, :2] * factor, ("a", "b")).hash

    assert answers(1.0) == answers(1.0) != answers(2.0)


def test_hash_of_torchscript_is_that_of_the_file(tmp_path):
    """Constants hidden in a frozen script count, because the file's bytes do."""
    path = script(tmp_path / "model.ts")
    first = load_classifier(path, classes=("a", "b"))
    assert not list(first.model.parameters())
    copy = tmp_path / "copy.ts"
    copy.write_bytes(path.read_bytes())
    assert load_classifier(copy, classes=("a", "b")).hash == first.hash
    assert load_classifier(copy, classes=("b", "a")).hash != first.hash
    copy.write_bytes(path.read_bytes() + b"\0")
    assert load_classifier(copy, classes=("a", "b")).hash != first.hash


def test_features_are_the_last_convolutions_of_each_size():
    """One map per spatial size, finest first, and the same logits as the plain call."""
    classifier = small()
    images = noise(2, 3, 32, 32).requires_grad_()
    features, logits = classifier.features_and_logits(images)
    assert [f.shape[-1] for f in features] == [32, 16, 8, 4]
    assert torch.equal(logits, classifier(images))
    last = classifier.model.stages[3].second[0]
    assert features[3].shape[1] == last.out_channels
    assert torch.autograd.grad(features[3].sum(), images)[0].abs().sum() > 0
    assert not any(module._forward_hooks for module in classifier.modules())


def test_features_leave_out_single_pixels():
    """A map of one pixel says nothing of where."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AvgPool2d(8), nn.Conv2d(4, 2, 1))
    classifier = Classifier(nn.Sequential(model, nn.Flatten()), ("a", "b"))
    assert [f.shape[-1] for f in classifier.features(noise(1, 3, 8, 8))] == [8]


def test_features_that_cannot_be_seen_get_one_line(tmp_path):
    """Scripts and callables name the other perceptual losses."""
    hidden = load_classifier(script(tmp_path / "model.ts"), classes=("a", "b"))
    for classifier in (hidden, Classifier(Linear(), ("a", "b")), Classifier(softmax, ("a", "b"))):
        message = error_of(ValueError, classifier.features, noise(1, 3, 8, 8))
        assert "--perceptual lpips" in message
        assert "none" in message


SOURCE = """
import torch
from torch import nn
from stylex.classifier import Classifier
from beside import CLASSES

def classifier():
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    nn.init.constant_(model[1].weight, FACTOR)
    nn.init.zeros_(model[1].bias)
    return Classifier(model, CLASSES, size=4)

def other():
    return "a model"

def broken():
    return 1 / 0

number = 3
"""


@pytest.fixture
def python_file(tmp_path: Path) -> Path:
    """A user's file that imports another one beside it."""
    (tmp_path / "beside.py").write_text("CLASSES = ('healthy', 'sick')\n")
    path = tmp_path / "leaves.py"
    path.write_text(SOURCE.replace("FACTOR", "0.5"))
    return path


def test_source_file(python_file):
    """`file.py:function` gives its classifier, remembered by the whole path."""
    classifier = load_classifier(f"{python_file}:classifier")
    assert classifier.classes == ("healthy", "sick")
    assert classifier.source == f"{python_file.resolve()}:classifier"
    assert classifier(torch.ones(1, 3, 4, 4)).tolist() == [[24.0, 24.0]]


def test_source_module(python_file, tmp_path, monkeypatch):
    """`package.module:function` is found from the working directory."""
    package = tmp_path / "mine"
    package.mkdir()
    python_file.rename(package / "plants.py")
    monkeypatch.chdir(tmp_path)
    assert load_classifier("mine.plants:classifier").source == "mine.plants:classifier"


@pytest.mark.parametrize(
    ("source", "kind", "says"),
    [
        ("nothing.ts", FileNotFoundError, "no classifier at"),
        ("leaves.py", FileNotFoundError, "file.py:function"),
        ("nothing.py:classifier", FileNotFoundError, "no file"),
        ("leaves.py:nothing", ValueError, "no function nothing"),
        ("leaves.py:number", ValueError, "no function number"),
        ("leaves.py:other", ValueError, "returned str"),
        ("leaves.py:broken", ValueError, "ZeroDivisionError: division by zero"),
        ("no_such_module:classifier", ValueError, "ModuleNotFoundError"),
    ],
)
def test_wrong_sources_get_one_line(python_file, monkeypatch, source, kind, says):
    """Each way to name a source wrongly has its line."""
    monkeypatch.chdir(python_file.parent)
    assert says in error_of(kind, load_classifier, source)


def test_a_script_that_fails_says_why():
    """TorchScript tells its reason last, after its own traceback; others first."""
    script = "The following operation failed in the TorchScript interpreter.\nTraceback ...\n"
    assert one_line(RuntimeError(f"{script}RuntimeError: two devices")).endswith(": two devices")
    assert one_line(RuntimeError("first\nsecond")) == "RuntimeError: first"
    assert one_line(KeyError()) == "KeyError"


def test_source_file_that_does_not_import_gets_one_line(tmp_path):
    """A syntax error is the user's and one line."""
    (tmp_path / "bad.py").write_text("def classifier(:\n")
    assert "SyntaxError" in error_of(ValueError, load_classifier, f"{tmp_path}/bad.py:classifier")


def test_settings_belong_to_torchscript_only(python_file):
    """A Python source brings its own classes."""
    source = f"{python_file}:classifier"
    assert "brings its own classes" in error_of(
        ValueError, load_classifier, source, classes=("a", "b")
    )


def test_torchscript_needs_classes(tmp_path):
    """A TorchScript file cannot name its classes."""
    assert "--classes a,b" in error_of(ValueError, load_classifier, script(tmp_path / "model.ts"))


def test_pickled_files_are_never_opened(tmp_path):
    """What torch.save wrote, new or old, is refused before anything in it runs."""
    ran = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return Path.touch, (ran,)

    for number, new in enumerate((True, False)):
        path = tmp_path / f"{number}.pt"
        torch.save(Trap(), path, _use_new_zipfile_serialization=new)
        message = error_of(ValueError, load_classifier, path, classes=("a", "b"))
        assert "pickled files are never opened" in message
    assert not ran.exists()


def test_broken_torchscript_gets_one_line(tmp_path):
    """A file cut short is refused."""
    path = script(tmp_path / "model.ts")
    path.write_bytes(path.read_bytes()[:-200])
    error_of(ValueError, load_classifier, path, classes=("a", "b"))


def test_saved_directory_loads_again(tmp_path):
    """Logits, settings, hash and what was measured survive."""
    classifier = small(channels=1)
    classifier.about = {"accuracy": 0.5}
    save_classifier(classifier, tmp_path)
    loaded = load_classifier(tmp_path)
    images = noise(2, 1, 32, 32)
    assert torch.equal(loaded(images), classifier(images))
    assert (loaded.hash, loaded.settings) == (classifier.hash, classifier.settings)
    assert loaded.about["accuracy"] == 0.5
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "classifier.json",
        "classifier.safetensors",
    ]


def test_mixed_or_missing_files_get_one_line(tmp_path):
    """Weights of another classifier, no weights, no JSON, half a JSON."""
    save_classifier(small(0), tmp_path / "one")
    save_classifier(small(1), tmp_path / "two")
    weights = tmp_path / "one" / "classifier.safetensors"
    weights.write_bytes((tmp_path / "two" / "classifier.safetensors").read_bytes())
    assert "half written" in error_of(ValueError, load_classifier, tmp_path / "one")
    weights.write_bytes(b"nothing")
    assert "not whole" in error_of(ValueError, load_classifier, tmp_path / "one")
    weights.unlink()
    assert "not whole" in error_of(ValueError, load_classifier, tmp_path / "one")
    (tmp_path / "one" / "classifier.json").write_text("{}")
    assert "not whole" in error_of(ValueError, load_classifier, tmp_path / "one")
    assert "holds no classifier.json" in error_of(FileNotFoundError, load_classifier, tmp_path)


def test_a_run_that_keeps_a_copy_stands_for_it(tmp_path):
    """`--classifier models/leaves` is what its own folder is."""
    ours = small()
    remember(ours, tmp_path)
    assert load_classifier(tmp_path).hash == ours.hash


def test_run_remembers_each_kind(tmp_path, python_file):
    """Copies stand in the run and outlive their source; a Python source is called again."""
    ours, run = small(), tmp_path / "run"
    assert recall(remember(ours, run), run).hash == ours.hash
    path = script(tmp_path / "model.ts")
    scripted = load_classifier(path, classes=("a", "b"), mean=0.4, size=16)
    record = json.loads(json.dumps(remember(scripted, run)))
    path.unlink()
    images = noise(2, 3, 8, 8)
    assert torch.equal(recall(record, run)(images), scripted(images))
    record = remember(load_classifier(f"{python_file}:classifier"), run)
    assert recall(record, run).classes == ("healthy", "sick")
    assert record["classes"] == ["healthy", "sick"]


def test_run_needs_the_object_again(tmp_path):
    """A plain Python object is not kept: without it one line, with it all is well."""
    classifier = Classifier(Linear(), ("a", "b"))
    record = remember(classifier, tmp_path)
    assert record["kind"] == "object"
    assert "--classifier" in error_of(ValueError, recall, record, tmp_path)
    assert recall(record, tmp_path, override=classifier) is classifier


def test_changed_classifier_is_refused(tmp_path, python_file):
    """Another weight in the user's file, or another override, is not the same classifier."""
    record = remember(load_classifier(f"{python_file}:classifier"), tmp_path)
    python_file.write_text(SOURCE.replace("FACTOR", "0.75"))
    assert "has changed" in error_of(ValueError, recall, record, tmp_path)
    message = error_of(ValueError, recall, record, tmp_path, override=small())
    assert record["hash"][:12] in message


@pytest.mark.parametrize(("resolution", "most"), [(32, 15e6), (64, 40e6)])
def test_smallnet_is_small(resolution, most):
    """Multiplications of one image and number of parameters."""
    network = SmallNet(3, 2, resolution=resolution).eval()
    counted = []

    def count(module: nn.Conv2d, _inputs, output: Tensor) -> None:
        counted.append(module.weight.numel() * output.shape[-1] ** 2)

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    assert network(noise(1, 3, resolution, resolution)).shape == (1, 2)
    assert sum(counted) < most
    assert 2e5 < sum(p.numel() for p in network.parameters()) < 6e5


def test_smallnet_wants_a_power_of_two():
    """48 px gets one line."""
    assert "power of two" in error_of(ValueError, SmallNet, 3, 2, resolution=48)


def test_a_traced_script_makes_its_constants_where_it_now_is(tmp_path):
    """Tracing writes down the place of each constant; the meta device stands for a GPU."""

    def traced(images: torch.Tensor) -> torch.Tensor:
        return torch.ones(len(images), 2, device=torch.device("cpu"))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(traced, noise(2, 3, 4, 4)).save(str(tmp_path / "traced.ts"))
    classifier = load_classifier(tmp_path / "traced.ts", classes=("a", "b"))
    images = noise(5, 3, 8, 8)
    assert classifier.model(images).device == images.device
    assert classifier.to("meta").model(images.to("meta")).is_meta


@pytest.mark.shared
def test_face_gender_goes_through_the_seam(shared):
    """A TorchScript file of others, without parameters, gives gradients and a stable hash."""
    path = shared / "weights" / "face_gender.ts"
    classifier = load_classifier(path, classes=("male", "female"))
    images = noise(2, 3, 64, 64).requires_grad_()
    classifier(images).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert classifier.hash == load_classifier(path, classes=("male", "female")).hash
    resized = Classifier(classifier.model, ("male", "female"), size=64)
    larger = F.interpolate(images.detach(), (128, 128), mode="nearest")
    assert resized(larger).shape == (2, 2)


def test_each_file_has_its_own_helpers(tmp_path):
    """Two folders may call a module by the same name; what one imported is not the other's."""
    for name, factor in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "beside.py").write_text(f"FACTOR = {factor}\n")
        (tmp_path / name / "leaves.py").write_text(
            "from stylex import Classifier\nfrom beside import FACTOR\n"
            "def classifier():\n"
            "    def model(x):\n"
            "        lead = x.mean((1, 2, 3)) * FACTOR\n"
            "        return __import__('torch').stack([lead, -lead], 1)\n"
            "    return Classifier(model, classes=('no', 'yes'))\n"
        )
    ones = torch.ones(1, 3, 4, 4)
    leads = [
        load_classifier(f"{tmp_path / name}/leaves.py:classifier")(ones)[0, 0] for name in "ab"
    ]
    assert leads[1] == 2 * leads[0]
    assert "beside" not in sys.modules


def test_a_copy_is_read_at_its_place_and_nowhere_deeper(tmp_path):
    """A stranger's run may hide a program one folder below the place where it is refused."""
    record = remember(small(), tmp_path)
    kept = tmp_path / "classifier"
    kept.rename(tmp_path / "moved")
    kept.mkdir()
    (tmp_path / "moved").rename(kept / "classifier")
    assert "holds no classifier.json" in error_of(FileNotFoundError, recall, record, tmp_path)
