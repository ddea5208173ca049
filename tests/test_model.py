"""StylEx as one function of styles, and the file that it is opened from."""

import json
from pathlib import Path
from shutil import copytree

import pytest
import torch
from safetensors.torch import load_file, save_file
from small import draws, tiny, weighing
from torch import Tensor, nn

from stylex import runs
from stylex.classifier import Classifier
from stylex.keeping import remember
from stylex.model import StylEx, in_batches
from stylex.networks import Synthesis
from stylex.runs import Run
from stylex.smallnet import SmallNet
from stylex.stylespace import shift

WIDTH = 0.0625


def images(n: int = 3, channels: int = 3) -> Tensor:
    """Noise in [-1, 1]."""
    return torch.rand(n, channels, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def small_classifier(seed: int = 0, channels: int = 3) -> Classifier:
    """A SmallNet with random weights, of which a run keeps a copy."""
    network = SmallNet(channels, 2, resolution=32, width=16)
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return Classifier(network, ("a", "b"), size=32, channels=channels)


def write_run(path: Path, *, save: bool = True, channels: int = 3) -> tuple[StylEx, Run]:
    """A run directory with a model of random weights, as training leaves it."""
    run, classifier = Run(path), small_classifier(channels=channels)
    model = StylEx(classifier, resolution=32, channels=channels, width=WIDTH, seed=7)
    for conv in model.generator.synthesis.convs:
        conv.noise_strength.data.fill_(0.2)
    model.mean_p.copy_(torch.tensor([0.3, 0.7]))
    about = {"version": runs.VERSION, "resolution": 32, "channels": channels}
    about |= {"settings": {"width": WIDTH}, "classifier": remember(classifier, path)}
    runs.write_json(run.about, about)
    if save:
        model.save(path)
    return model.eval().requires_grad_(False), run


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that several tests open or copy."""
    path = tmp_path_factory.mktemp("run")
    write_run(path)
    return path


def error_of(kind: type[Exception], run: Path, **given: Classifier) -> str:
    """The one line with which a run does not open."""
    with pytest.raises(kind) as caught:
        StylEx.load(run, **given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- one function of styles ----------------------------------------------------------------------


def test_reconstruction_is_style_and_synthesis_of_the_photo():
    """G([E(x) ; p]) step by step, and C of it is the score."""
    model = tiny(small_classifier())
    x = images()
    p = model.classifier(x).softmax(1)
    styles = model.generator.affine(torch.cat([model.encoder(x), p], 1))
    torch.testing.assert_close(model.probabilities(x), p)
    torch.testing.assert_close(model.styles(x), styles)
    drawn = model.generator.synthesis(styles).clamp(-1, 1)
    torch.testing.assert_close(model.reconstruct(x), drawn)
    torch.testing.assert_close(model.score(styles), model.classifier(drawn))
    assert styles.shape == (3, model.layout.size)
    assert model.classes == ("a", "b")


def test_noise_is_fixed_while_explaining():
    """Trap 10: the same styles give the same image, whatever the global seed; training's differ."""
    model = tiny(small_classifier())
    styles = model.styles(images())
    torch.manual_seed(1)
    first = model.synthesize(styles)
    torch.manual_seed(2)
    assert torch.equal(model.synthesize(styles), first)
    torch.testing.assert_close(model.synthesize(styles[1:]), first[1:], rtol=0, atol=1e-5)
    assert (model.generator.synthesis(styles, draws()) - first).abs().mean() > 1e-3


def test_an_image_drawn_again_is_the_same_and_cheaper(monkeypatch):
    """Whatever moved since, another image too: only layers from the move on are drawn."""
    model = tiny(small_classifier())
    styles, layer_of = model.styles(images()), model.generator.layer_of
    layers, last, drawn = len(model.generator.synthesis.convs), None, []
    draw = Synthesis.draw
    monkeypatch.setattr(
        Synthesis,
        "draw",
        lambda self, layer, *given: drawn.append(layer) or draw(self, layer, *given),
    )
    random, now = torch.Generator().manual_seed(0), styles[:1]
    for _ in range(12):
        before, place = now, int(torch.randint(len(layer_of), (), generator=random))
        now = now.clone()
        now[0, place] += 1.5
        for one, first in ((before, None), (now, int(layer_of[place])), (now, layers)):
            drawn.clear()
            image, last = model.redraw(one, last)
            assert first is None or drawn == list(range(first, layers))
            assert torch.equal(image, model.synthesize(one))
    other, last = model.redraw(styles[1:2], last)
    assert torch.equal(other, model.synthesize(styles[1:2]))


def test_images_are_clamped():
    """What the classifier is asked about lies in [-1, 1], however far a coordinate is moved."""
    model = tiny(small_classifier())
    styles = model.styles(images())
    bounds = torch.stack([styles.amin(0), styles.amax(0)])
    moved = shift(styles * 100, 0, 1, bounds, strength=50.0)
    drawn = model.synthesize(moved)
    assert drawn.abs().max() == 1


def test_seed_decides_the_weights_and_leaves_the_global_one_alone():
    """Two models of one seed are equal; another seed gives another."""
    classifier = small_classifier()
    before = torch.random.get_rng_state()
    one, same, other = (tiny(classifier, seed=seed).own_state() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["encoder.to_w.weight"], other["encoder.to_w.weight"])


def test_own_state_holds_no_weight_of_the_classifier():
    """A run that is passed on does not pass on the user's model with it."""
    state = tiny(small_classifier()).own_state()
    assert not [name for name in state if "classifier" in name]
    assert {"mean_p", "generator.mapping.mean_w"} <= state.keys()
    assert [name for name in state if name.endswith("fixed_noise")]


def test_in_batches_is_the_function_at_once():
    """Also for what belongs to the images, and with a last batch that is smaller."""
    x, p = torch.arange(10.0)[:, None], torch.arange(10.0, 20)[:, None]
    sizes = []

    def add(a: Tensor, b: Tensor) -> Tensor:
        sizes.append(len(a))
        return a + b

    assert torch.equal(in_batches(add, x, p, batch=4), x + p)
    assert sizes == [4, 4, 2]


# --- saved and opened ----------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [3, 1])
def test_an_opened_run_reconstructs_identically(tmp_path: Path, channels: int):
    """The whole of it: weights, fixed noise, classifier; frozen and in eval mode."""
    model, run = write_run(tmp_path, channels=channels)
    opened = StylEx.load(run.path)
    x = images(channels=channels)
    assert torch.equal(opened.reconstruct(x), model.reconstruct(x))
    assert torch.equal(opened.mean_p, model.mean_p)
    assert opened.classifier.hash == model.classifier.hash
    assert not opened.training
    assert not any(parameter.requires_grad for parameter in opened.parameters())


def test_a_given_classifier_stands_in_for_the_kept_one(written: Path):
    """Where it is the same; nothing is read from the run's copy."""
    classifier = small_classifier()
    assert StylEx.load(written, classifier=classifier).classifier is classifier


def test_no_run(tmp_path: Path):
    """A directory without `run.json`."""
    assert "is not a run" in error_of(FileNotFoundError, tmp_path)
    assert "is not a run" in error_of(FileNotFoundError, tmp_path / "nowhere")


def test_a_run_without_a_model_yet(tmp_path: Path):
    """It was begun and has saved nothing."""
    write_run(tmp_path, save=False)
    assert "no model.safetensors yet" in error_of(FileNotFoundError, tmp_path)


def test_a_changed_classifier(written: Path):
    """Its hash is not the one that the run was trained with."""
    message = error_of(ValueError, written, classifier=small_classifier(seed=1))
    assert "classifier has changed" in message


def test_a_damaged_model(written: Path, tmp_path: Path):
    """Half of a file, copied badly."""
    run = Run(copytree(written, tmp_path / "run"))
    whole = run.model.read_bytes()
    for part in (whole[: len(whole) // 2], b"", b"no tensors at all"):
        run.model.write_bytes(part)
        assert "is not readable" in error_of(ValueError, run.path)


@pytest.mark.parametrize("wrong", ["shape", "missing", "unexpected"])
def test_weights_of_another_network(written: Path, tmp_path: Path, wrong: str):
    """Another width, a tensor less, a tensor more: the first wrong name is told."""
    run = Run(copytree(written, tmp_path / "run"))
    state, name = load_file(run.model), "encoder.to_w.bias"
    if wrong == "missing":
        del state[name]
    else:
        name = name if wrong == "shape" else "encoder.another"
        state[name] = torch.zeros(3)
    save_file(state, run.model)
    message = error_of(ValueError, run.path)
    assert "do not fit" in message
    assert name in message


def test_a_newer_layout(written: Path, tmp_path: Path):
    """A run of a later version is not misread."""
    run = Run(copytree(written, tmp_path / "run"))
    about = json.loads(run.about.read_text())
    runs.write_json(run.about, about | {"version": runs.VERSION + 1})
    assert f"layout version {runs.VERSION + 1}" in error_of(ValueError, run.path)


def test_an_object_is_not_kept(tmp_path: Path):
    """A plain Python classifier has to be given again, and then the run opens."""
    classifier = weighing([[1.0, -1.0]] * 4, [0.0, 0.0])
    model = tiny(classifier)
    model.save(tmp_path)
    about = {"version": runs.VERSION, "resolution": 32, "channels": 3}
    about |= {"settings": {"width": WIDTH}, "classifier": remember(classifier, tmp_path)}
    runs.write_json(Run(tmp_path).about, about)
    assert "give it by --classifier" in error_of(ValueError, tmp_path)
    opened = StylEx.load(tmp_path, classifier=classifier)
    assert torch.equal(opened.reconstruct(images()), model.reconstruct(images()))


def test_saving_replaces_the_file_whole(written: Path, tmp_path: Path, monkeypatch):
    """An error in the middle leaves the old model and nothing beside it."""
    path = copytree(written, tmp_path / "run")
    before = Run(path).model.read_bytes()

    def half(state: dict[str, Tensor], partial: Path) -> None:
        partial.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("stylex.model.save_file", half)
    with pytest.raises(OSError, match="disk full"):
        tiny(small_classifier()).save(path)
    assert Run(path).model.read_bytes() == before
    assert [p.name for p in path.iterdir() if "partial" in p.name] == []
