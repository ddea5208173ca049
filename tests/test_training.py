"""The loop around the step: what is written when, and that neither a kill nor a NaN changes it."""

import inspect
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from shutil import copytree, rmtree
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import stylex.loop
from stylex import data, looking, pictures, plan, runs, step, telling, training
from stylex.classifier import Classifier
from stylex.keeping import load_classifier, save_classifier
from stylex.loop import Training
from stylex.losses import generator_loss, perceptual_distance
from stylex.model import StylEx
from stylex.runs import Run
from stylex.scenes import LEAVES
from stylex.smallnet import SmallNet

SPLITS = {"train": 24, "search": 14, "test": 8}
# 12 steps: the noise pass and D begin with the sixth, a checkpoint stands before it and after
OPTIONS: dict[str, Any] = {
    "resolution": 32,
    "width": 0.0625,
    "total_images": 48,
    "batch": 4,
    "flips": True,
    "judged_share": 1.0,
    "perceptual": "classifier",
    "adversarial_from_images": 20,
    "r1_interval_steps": 2,
    "path_weight": 2.0,
    "path_interval_steps": 3,
    "decay_share": 0.0,  # a longer run is then the same run
    "log_images": 8,
    "snapshot_images": 32,
    "checkpoint_images": 16,
    "device": "cpu",
    "precision": "fp32",
}
QUICK = {"total_images": 8, "adversarial_from_images": 0, "log_images": 4, "checkpoint_images": 4}


def draw_photos(folder: Path, mode: str = "RGB", size: tuple[int, int] = (32, 32)) -> Path:
    """Drawn images as PNG files in folders of the three splits."""
    images = LEAVES.render(LEAVES.sample(sum(SPLITS.values()), torch.Generator().manual_seed(0)))
    sides = [side for side, count in SPLITS.items() for _ in range(count)]
    for number, (side, image) in enumerate(zip(sides, images, strict=True)):
        picture = pictures.to_picture(image).convert(mode).resize(size, Image.Resampling.BICUBIC)
        pictures.save(picture, folder / side / f"{number:02d}.png")
    return folder


def make_classifier(channels: int = 3, classes: str = "ab", seed: int = 0) -> Classifier:
    """A SmallNet of random weights whose logits spread over the drawn images."""
    network = SmallNet(channels, len(classes), resolution=32, width=16)
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    classifier = Classifier(network, tuple(classes), size=32, channels=channels)
    images = LEAVES.render(LEAVES.sample(64, generator))
    with torch.no_grad():
        network.head.weight.mul_(3 / classifier(images)[:, :2].diff().std())
        network.head.bias.sub_(classifier(images).mean(0))
    return classifier


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images that most runs here are trained on."""
    return draw_photos(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Run:
    """A run that nothing disturbed."""
    run = Run(tmp_path_factory.mktemp("straight"))
    training.train(photos, make_classifier(), run=run.path, **OPTIONS)
    return run


def finish(photos: Path, run: Path, **changed: Any) -> StylEx:
    """The same command as that of the straight run, or nearly."""
    return training.train(photos, make_classifier(), run=run, **OPTIONS | changed)


def lines(run: Run) -> list[dict[str, Any]]:
    """The log without what a clock says."""
    found = runs.read_lines(run.log)
    return [{k: v for k, v in x.items() if "second" not in k} for x in found]


def tensors(checkpoint: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint."""
    return load_file(runs.tensors_file(checkpoint))


def different(one: dict[str, Tensor], two: dict[str, Tensor]) -> list[str]:
    """Names of the tensors that are not equal bit for bit."""
    assert one.keys() == two.keys()
    return [name for name in one if not torch.equal(one[name], two[name])]


def assert_same(run: Run, other: Run) -> None:
    """Both directories say the same, bit for bit; only clocks may differ."""
    assert [path.name for path in run.saved()] == [path.name for path in other.saved()]
    for mine, theirs in zip(run.saved(), other.saved(), strict=True):
        assert different(tensors(mine), tensors(theirs)) == []
    assert different(load_file(run.model), load_file(other.model)) == []
    assert lines(run) == lines(other)
    assert runs.read_json(run.metrics) == runs.read_json(other.metrics)
    sheets, others = ({p.name: p.read_bytes() for p in r.sheets.iterdir()} for r in (run, other))
    assert sheets == others


def error_of(call: Callable[[], Any]) -> str:
    """The ValueError of a call, which must be one line."""
    with pytest.raises(ValueError, match=r"\S") as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what a run writes ---------------------------------------------------------------------------


def test_a_run_writes_at_its_intervals(straight: Run):
    """Log lines, sheets and checkpoints stand at the images asked for; two checkpoints are kept."""
    log = lines(straight)
    assert [line["images_seen"] for line in log] == [8, 16, 24, 32, 40, 48]
    assert [line["images_seen"] for line in log if "measures" in line] == [32, 48]
    assert sorted(p.name for p in straight.sheets.iterdir()) == ["000000032.png", "000000048.png"]
    assert [path.name for path in straight.saved()] == ["000000032", "000000048"]
    assert [p.name for p in straight.checkpoints.iterdir() if p.name.endswith(".partial")] == []


def test_losses_appear_when_their_part_begins(straight: Run):
    """D and the noise pass begin with the sixth step, reconstruction and KL with the first."""
    log = {line["images_seen"]: line["losses"] for line in lines(straight)}
    first = {"l1", "perceptual", "w", "kl", "few", "tied"}
    assert set(log[16]) == first
    assert set(log[24]) >= first | {"adversarial", "d", "d_right"}
    assert "r1" in log[32]
    assert "path" in log[32]
    assert all(map(lambda value: value == value, log[48].values()))


def test_health_and_measures_are_logged(straight: Run):
    """Health is in words with an advice; agreement stands with every floor."""
    line = next(line for line in lines(straight) if "health" in line)
    names = [finding["name"] for finding in line["health"]]
    assert "stuck on the mean image" in names
    assert all(set(finding) == {"name", "says", "advice"} for finding in line["health"])
    floors = {f"agreement_{name}" for name in ("mean_w", "other_w", "swapped_p", "mean_p")}
    assert floors | {
        "agreement",
        "chance",
        "l1",
        "l1_mean_image",
        "perceptual",
        "diversity",
    } <= set(line["measures"])


def test_run_json_records_what_was_trained(straight: Run, photos: Path):
    """Every keyword of `train`, data with counts and hash, classifier, how far and when done."""
    about = runs.read_json(straight.about)
    keywords = set(training.train.__annotations__) - {*training.NOT_SETTINGS, "return"}
    assert set(about["settings"]) == keywords
    assert {k: about["settings"][k] for k in OPTIONS} == OPTIONS
    assert about["settings"]["channels"] == about["channels"] == 3
    assert about["data"]["counts"] == SPLITS
    assert about["data"]["source"] == str(photos)
    assert about["classifier"]["hash"] == make_classifier().hash
    assert about["classes"] == ["a", "b"]
    assert (about["images_seen"], about["version"]) == (48, runs.VERSION)
    assert about["finished"]
    assert about["hours"] > 0


def test_metrics_are_of_test_images_with_their_floors(straight: Run):
    """The test split, the mean image, PCA of the train split and four floors of agreement."""
    metrics = runs.read_json(straight.metrics)
    assert (metrics["split"], metrics["images"]) == ("test", SPLITS["test"])
    kinds = {f"{m}{of}" for m in ("l1", "perceptual") for of in ("", "_mean_image", "_pca128")}
    assert set(metrics["reconstruction"]) == kinds | {"perceptual_kind"}
    shares = {"own", "mean_w", "other_w", "swapped_p", "mean_p", "chance", "kl"}
    assert set(metrics["agreement"]) == shares
    assert len(metrics["logit_std"]) == 2


def test_no_training_image_is_measured(photos: Path, tmp_path: Path, monkeypatch):
    """Snapshots look at all search images and at no other, the end at the test images."""
    seen: dict[str, list[Tensor]] = {"search": [], "test": []}

    def spy(module: Any, name: str, split: str) -> None:
        real = getattr(module, name)

        def watched(model: StylEx, images: Tensor, *args: Any, **options: Any) -> Any:
            seen[split].append(images)
            return real(model, images, *args, **options)

        monkeypatch.setattr(module, name, watched)

    real_table = stylex.loop.final_table

    def evaluated(*args: Any) -> Any:
        with monkeypatch.context() as inside:
            real = looking.measure
            inside.setattr(
                looking, "measure", lambda m, x, y: (seen["test"].append(x), real(m, x, y))[1]
            )
            return real_table(*args)

    spy(stylex.loop, "watch", "search")
    monkeypatch.setattr(stylex.loop, "final_table", evaluated)
    finish(photos, tmp_path, **QUICK)
    splits = data.read_splits(photos, resolution=32)
    for split, found in seen.items():
        assert len(found) == 1
        assert torch.equal(found[0], splits[split].batch(slice(None)))


def test_last_model_is_what_train_returns(straight: Run, photos: Path):
    """The file explains as the object does."""
    loaded = StylEx.load(straight.path)
    again = finish(photos, straight.path)
    images = data.load_images(photos, resolution=32, split="test")
    assert torch.equal(loaded.reconstruct(images), again.reconstruct(images))
    assert not any(p.requires_grad for p in again.parameters())


def test_a_finished_run_is_left_as_it_is(straight: Run, photos: Path, tmp_path: Path):
    """The same command again changes nothing: what a search added to the metrics stays."""
    run = Run(copytree(straight.path, tmp_path / "run"))
    runs.write_json(run.metrics, runs.read_json(run.metrics) | {"sufficiency10": {"a->b": 1}})
    before = {p: p.read_bytes() for p in run.path.rglob("*") if p.is_file()}
    finish(photos, run.path)
    assert {p: p.read_bytes() for p in run.path.rglob("*") if p.is_file()} == before


def test_a_run_without_checkpoints_is_left_as_it_is(straight: Run, photos: Path, tmp_path: Path):
    """It cannot go on, and is not begun again over its model and its log."""
    run = Run(copytree(straight.path, tmp_path / "run"))
    rmtree(run.checkpoints)
    before = {path: path.read_bytes() for path in (run.model, run.log, run.about)}
    with pytest.raises(ValueError, match="a model but no checkpoint to go on from; give another"):
        finish(photos, run.path)
    assert {path: path.read_bytes() for path in before} == before


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    straight: Run, photos: Path, tmp_path: Path, capsys
):
    """And where none is whole nothing is begun again."""
    run = Run(copytree(straight.path, tmp_path / "run"))
    last = run.saved()[-1]
    cut = runs.tensors_file(last)
    cut.write_bytes(cut.read_bytes()[:100])
    finish(photos, run.path)
    assert f"left out: {cut} is not readable" in capsys.readouterr().out
    assert different(tensors(last), tensors(straight.saved()[-1])) == []
    assert lines(run) == lines(straight)
    for path in run.saved():
        runs.state_file(path).unlink()
    with pytest.raises(ValueError, match=r"no checkpoint of .* can be read; give another --run"):
        finish(photos, run.path)


def test_gray_images_of_odd_sizes_and_three_classes(tmp_path: Path):
    """Channels are found out, sides are cropped and resized, K is the classifier's."""
    photos = draw_photos(tmp_path / "data", "L", (45, 37))
    model = training.train(
        photos, make_classifier(1, "abc"), run=tmp_path / "run", **OPTIONS | QUICK
    )
    assert (model.channels, model.classes) == (1, ("a", "b", "c"))
    assert runs.read_json(Run(tmp_path / "run").about)["settings"]["channels"] == 1
    images = data.load_images(photos, resolution=32, channels=1, split="test")
    drawn = model.reconstruct(images)
    assert drawn.shape == (SPLITS["test"], 1, 32, 32)
    assert drawn.isfinite().all()


# --- resuming ------------------------------------------------------------------------------------


class Stop(Exception):
    """Ends a training from inside."""


def stop_at(monkeypatch, images_seen: int) -> None:
    """Let the step that begins there fail."""
    real = step.Step.__call__

    def call(self: step.Step, *args: Any, **given: Any) -> Any:
        if given["images_seen"] == images_seen:
            raise Stop
        return real(self, *args, **given)

    monkeypatch.setattr(step.Step, "__call__", call)


@pytest.mark.parametrize("images_seen", [20, 44])
def test_a_resumed_run_equals_the_straight_one(
    straight: Run, photos: Path, tmp_path: Path, monkeypatch, images_seen: int
):
    """Bit for bit: across the start of D, and late."""
    with monkeypatch.context() as patched:
        stop_at(patched, images_seen)
        with pytest.raises(Stop):
            finish(photos, tmp_path)
    finish(photos, tmp_path)
    assert_same(Run(tmp_path), straight)


def test_more_images_go_on_from_the_end(straight: Run, photos: Path, tmp_path: Path):
    """`total_images` may grow; the longer run is the straight one."""
    finish(photos, tmp_path, total_images=32)
    finish(photos, tmp_path)
    assert_same(Run(tmp_path), straight)
    assert runs.read_json(Run(tmp_path).about)["settings"]["total_images"] == 48


def test_shares_of_the_training_stay_as_it_was_begun(photos: Path, tmp_path: Path):
    """D begins after two fifths of the images that were asked for at first."""
    options = QUICK | {"adversarial_from_images": None, "width": 0.03}
    for total in (20, 40):
        finish(photos, tmp_path, **options | {"total_images": total})
        about = runs.read_json(Run(tmp_path).about)
        assert about["settings"]["adversarial_from_images"] == 8
        assert about["images_seen"] == total
    begins = [line["images_seen"] for line in lines(Run(tmp_path)) if "d" in line["losses"]]
    assert begins == list(range(12, 41, 4))


KILLS = {
    # moment: the checkpoints that it leaves
    "first": [],
    "step": [16],
    "save_file": [16],
    "rename": [16],
    "model": [16, 32],
}
DRIVER = """
import json, os, pathlib, signal, sys
from safetensors.torch import save_file
from stylex import loop, model, step, training
from stylex.keeping import load_classifier

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

def on_call(number, owner, name, before=lambda *args: None):
    real, calls = getattr(owner, name), []
    def call(*args, **given):
        calls.append(name)
        if len(calls) == number:
            before(*args)
            kill()
        return real(*args, **given)
    setattr(owner, name, call)

def half(tensors, path):
    save_file(tensors, path)
    os.truncate(path, path.stat().st_size // 2)

photos, classifier, options, folder = sys.argv[1:]
moments = {
    "first": (3, step.Step, "reconstruction"),
    "step": (2, step.Step, "judge"),
    "save_file": (2, loop, "save_file", half),
    "rename": (2, pathlib.Path, "rename"),
    "model": (2, model.StylEx, "save"),
}
for moment, where in moments.items():
    child = os.fork()
    if not child:
        on_call(*where)
        run = pathlib.Path(folder, moment)
        training.train(photos, load_classifier(classifier), run=run, **json.loads(options))
        os._exit(0)
    print(moment, os.waitpid(child, 0)[1], flush=True)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """Runs that were killed, each at another moment; one interpreter starts them all."""
    folder = tmp_path_factory.mktemp("killed")
    save_classifier(make_classifier(), folder / "classifier")
    (folder / "driver.py").write_text(DRIVER)
    arguments = [photos, folder / "classifier", json.dumps(OPTIONS), folder]
    answer = subprocess.run(
        [sys.executable, folder / "driver.py", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    told = [line.split() for line in answer.stdout.splitlines()]
    ends = {line[0]: line[1] for line in told if line and line[0] in KILLS}
    assert ends == dict.fromkeys(KILLS, str(signal.SIGKILL.value)), answer.stderr[-2000:]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("moment", KILLS)
def test_a_killed_run_goes_on_as_if_nothing_had_been(
    killed: Path, straight: Run, photos: Path, moment: str
):
    """SIGKILL within a step or a save, before the rename, before the model: it goes on."""
    run = Run(killed / moment)
    assert [int(path.name) for path in run.saved()] == KILLS[moment]
    half_written = list(run.checkpoints.glob("*.partial"))
    assert bool(half_written) == (moment in ("save_file", "rename"))
    classifier = load_classifier(killed / "classifier")
    training.train(photos, classifier, run=run.path, **OPTIONS)
    assert list(run.checkpoints.glob("*.partial")) == []
    assert_same(run, straight)


# --- what a run that was begun refuses -----------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("rate", 0.001),
        ("hide_p", 0.25),
        ("batch", 8),
        ("seed", 1),
        ("width", 0.25),
        ("perceptual", "none"),
        ("adversarial_from_images", 24),
        ("flips", False),
    ],
)
def test_other_options_are_refused(straight: Run, photos: Path, option: str, value: Any):
    """One line names the option, what it was and what it is."""
    message = error_of(lambda: finish(photos, straight.path, **{option: value}))
    assert f"begun with {option} {OPTIONS.get(option, '')}" in message
    assert f"now it is {value}" in message
    assert "--run" in message


def test_another_classifier_is_refused(straight: Run, photos: Path):
    """Weights count, whatever the name."""
    other = make_classifier(seed=1)
    message = error_of(lambda: training.train(photos, other, run=straight.path, **OPTIONS))
    assert "the classifier changed" in message
    assert other.hash[:12] in message


def test_other_images_are_refused(straight: Run, photos: Path, tmp_path: Path):
    """One image less is another training."""
    fewer = copytree(photos, tmp_path / "fewer")
    (fewer / "train" / "00.png").unlink()
    message = error_of(lambda: finish(fewer, straight.path))
    assert "the training images changed" in message


def test_a_run_that_saved_nothing_binds_nothing(photos: Path, tmp_path: Path, monkeypatch):
    """A first try that failed is repeated with better options in the same directory."""
    with monkeypatch.context() as patched:
        stop_at(patched, 0)
        with pytest.raises(Stop):
            finish(photos, tmp_path)
    finish(photos, tmp_path, **QUICK | {"rate": 0.001, "perceptual": "none"})
    settings = runs.read_json(Run(tmp_path).about)["settings"]
    assert (settings["rate"], settings["perceptual"]) == (0.001, "none")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("batch", 0),
        ("batch", 1),
        ("total_images", 0),
        ("log_images", 0),
        ("checkpoint_images", -1),
        ("r1_interval_steps", 0),
        ("hide_p", 1.5),
        ("mixing", -0.1),
        ("judged_share", 0.0),
        ("kl_share", 0.0),
    ],
)
def test_options_without_sense_are_refused(photos: Path, tmp_path: Path, option: str, value: Any):
    """Before anything is read or written."""
    message = error_of(lambda: finish(photos, tmp_path / "run", **{option: value}))
    assert message.startswith(f"{option} is {value}; wanted")
    assert not (tmp_path / "run").exists()


def test_too_few_images_are_refused(photos: Path, tmp_path: Path):
    """Two images cannot fill three splits."""
    for name in ("00.png", "01.png"):
        pictures.save(Image.open(photos / "train" / name), tmp_path / "two" / name)
    message = error_of(lambda: finish(tmp_path / "two", tmp_path / "run"))
    assert "'search': 0" in message
    assert not (tmp_path / "run").exists()


# --- not a number --------------------------------------------------------------------------------

NAN = float("nan")


class Poison:
    """Spoils the generator's loss, or only its gradient, at some steps of some attempts."""

    def __init__(self, monkeypatch, *, gradient: bool = False, when: Callable[[int, int], bool]):
        self.gradient, self.when, self.struck = gradient, when, []
        self.now, self.saves = (0, 0), 0
        real_call = step.Step.__call__

        def call(it: step.Step, *args: Any, **given: Any) -> Any:
            self.now = (given["images_seen"], given["attempt"])
            return real_call(it, *args, **given)

        def save(state: dict[str, Tensor], path: Path) -> None:
            assert all(value.isfinite().all() for value in state.values())
            self.saves += 1
            save_file(state, path)

        monkeypatch.setattr(step.Step, "__call__", call)
        monkeypatch.setattr(step, "generator_loss", self.loss)
        monkeypatch.setattr(stylex.loop, "save_file", save)

    def loss(self, verdict: Tensor) -> Tensor:
        """In place of the adversarial loss."""
        if not self.when(*self.now):
            return generator_loss(verdict)
        self.struck.append(self.now)
        if not self.gradient:
            return generator_loss(verdict) * NAN
        verdict.register_hook(lambda gradient: gradient * NAN)
        return generator_loss(verdict)


def first_try_at(place: int) -> Callable[[int, int], bool]:
    """Strikes in the step that begins there, until the run went back once."""
    return lambda images_seen, attempt: images_seen == place and not attempt


@pytest.mark.parametrize(
    ("place", "gradient"),
    [(20, False), (28, True)],
    ids=["loss", "gradient"],
)
def test_not_a_number_goes_back_to_the_last_checkpoint(
    straight: Run, photos: Path, tmp_path: Path, place: int, gradient: bool
):
    """By itself and with other draws; neither a checkpoint nor a log line ever holds a NaN.

    The step that begins at 28 is the last before a checkpoint, and where only the gradient is
    spoilt, the loss says nothing of it.
    """
    with pytest.MonkeyPatch.context() as monkeypatch:
        poison = Poison(monkeypatch, gradient=gradient, when=first_try_at(place))
        finish(photos, tmp_path)
    assert poison.struck == [(place, 0)]
    run = Run(tmp_path)
    assert [line["images_seen"] for line in lines(run)] == [8, 16, 24, 32, 40, 48]
    assert "NaN" not in run.log.read_text()
    kept = place // 16 * 2  # lines up to the checkpoint
    assert lines(run)[:kept] == lines(straight)[:kept]
    assert lines(run)[-1]["losses"] != lines(straight)[-1]["losses"]
    assert different(tensors(run.saved()[-1]), tensors(straight.saved()[-1]))
    told = [f for line in lines(run) for f in line.get("health", ()) if f["name"] == "not a number"]
    assert len(told) == 1
    assert "1 of 3" in told[0]["says"]


def test_going_back_before_any_checkpoint_begins_anew(photos: Path, tmp_path: Path, monkeypatch):
    """The last good state is then the first one, and the log holds nothing twice."""
    Poison(monkeypatch, when=first_try_at(8))
    finish(photos, tmp_path, adversarial_from_images=0, total_images=20)
    assert [line["images_seen"] for line in lines(Run(tmp_path))] == [8, 16, 20]
    assert runs.read_json(runs.state_file(Run(tmp_path).saved()[-1]))["attempt"] == 1


@pytest.mark.slow
def test_resuming_after_going_back_equals_the_straight_run(
    photos: Path, tmp_path: Path, monkeypatch
):
    """A run that went back, was stopped and resumed is the one that only went back."""
    Poison(monkeypatch, when=first_try_at(24))
    finish(photos, tmp_path / "straight")
    with monkeypatch.context() as patched:
        stop_at(patched, 36)
        with pytest.raises(Stop):
            finish(photos, tmp_path / "resumed")
    finish(photos, tmp_path / "resumed")
    assert_same(Run(tmp_path / "resumed"), Run(tmp_path / "straight"))


def test_it_goes_back_three_times_at_most(photos: Path, tmp_path: Path, monkeypatch):
    """Then one line says what to do; the checkpoint is still the good one."""
    poison = Poison(monkeypatch, when=lambda images_seen, attempt: images_seen >= 20)
    message = error_of(lambda: finish(photos, tmp_path))
    assert "24 images" in message
    assert "3 times" in message
    assert "--rate" in message
    assert [attempt for _, attempt in poison.struck] == [0, 1, 2, 3]
    assert [path.name for path in Run(tmp_path).saved()] == ["000000016"]
    assert poison.saves == 1


def test_without_layer_noise_its_strength_stays_zero(photos: Path, tmp_path: Path):
    """And nothing else stays; with it the strengths learn."""
    for on in (True, False):
        model = training.train(
            photos, make_classifier(), run=tmp_path / str(on), **OPTIONS | QUICK, layer_noise=on
        )
        strengths = [conv.noise_strength.item() for conv in model.generator.synthesis.convs]
        assert all(s != 0 for s in strengths) == on
        assert any(s != 0 for s in strengths) == on
        assert (model.generator.synthesis.convs[-1].bias != 0).any()


def test_without_rgb_styles_images_differ_only_in_what_is_searched(photos: Path, tmp_path: Path):
    """ToRGB's styles are then the same for all images, and still learn; else they differ."""
    for on in (True, False):
        model = training.train(
            photos, make_classifier(), run=tmp_path / str(on), **OPTIONS | QUICK, rgb_styles=on
        )
        p = torch.eye(2).repeat(2, 1)
        styles = model.generator.style(torch.randn(4, model.generator.latent), p)
        searched, rest = styles.tensor_split([model.layout.searched], dim=1)
        assert bool((rest.std(0) > 0).all()) == on
        assert bool((rest.std(0) > 0).any()) == on
        assert (searched.std(0) > 0).all()
        assert (rest != 1).any()


def test_without_the_condition_the_run_is_deaf_to_p(photos: Path, tmp_path: Path):
    """The generator that is saved and loaded draws the same whatever p is."""
    finish(photos, tmp_path, **QUICK | {"condition": False})
    model = StylEx.load(tmp_path, classifier=make_classifier())
    w, p = torch.randn(2, model.generator.latent), torch.eye(2)
    torch.testing.assert_close(model.style(w, p), model.style(w, p.flip(1)), atol=1e-5, rtol=0)
    assert model.mean_p.tolist() == [0.5, 0.5]


def test_some_of_the_adversarial_images_come_from_noise_unless_said_otherwise():
    """Trained on encodings alone, style directions may mean nothing (trap 6)."""
    assert inspect.signature(training.train).parameters["noise_share"].default > 0


# --- batches -------------------------------------------------------------------------------------


def begun(photos: Path, run: Path, classifier: Classifier, **changed: Any) -> Training:
    """A training that has made no step yet."""
    splits = data.read_splits(photos, resolution=32)
    keywords = inspect.signature(training.train).parameters
    settings = {k: v.default for k, v in keywords.items() if v.default is not v.empty}
    settings |= OPTIONS | {"channels": 3} | changed
    settings = plan.begin(Run(run), photos, splits, classifier, settings)
    fabric = training.start(device="cpu", precision="fp32")
    distance = perceptual_distance("classifier", classifier)
    options = SimpleNamespace(**settings)
    return Training(fabric, Run(run), classifier, splits, distance=distance, options=options)


def draw_batches(loop: Training, count: int) -> tuple[Tensor, Tensor]:
    """Photos and logits of the first batches."""
    batches = []
    for number in range(count):
        loop.images_seen = number * loop.options.batch
        batches.append(loop.batch())
    photos, logits = zip(*batches, strict=True)
    return torch.cat(photos), torch.cat(logits)


def test_a_slow_classifier_is_told_of(photos: Path, tmp_path: Path, monkeypatch, capsys):
    """It sees every photo before the first step, mirrored ones too."""
    monkeypatch.setattr(telling, "PATIENCE", -1.0)
    loop = begun(photos, tmp_path, make_classifier(), flips=True)
    n = len(loop.splits["train"])
    told = [line for line in capsys.readouterr().err.splitlines() if "classifier" in line]
    assert len(told) == 2
    assert all(f"asking the classifier: {n} of {n} images, " in line for line in told)


def test_a_batch_carries_the_logits_of_these_very_photos(photos: Path, tmp_path: Path):
    """Mirrored or not (trap 2); about half are mirrored."""
    classifier = make_classifier()
    loop = begun(photos, tmp_path, classifier)
    images, logits = draw_batches(loop, 12)
    torch.testing.assert_close(logits, classifier(images), rtol=1e-4, atol=1e-4)
    assert (classifier(images) - classifier(images.flip(3))).abs().max() > 0.01
    known = loop.splits["train"].batch(slice(None))
    as_it_is = [any(torch.equal(image, photo) for photo in known) for image in images]
    mirrored = [any(torch.equal(image.flip(2), photo) for photo in known) for image in images]
    assert all(a or b for a, b in zip(as_it_is, mirrored, strict=True))
    assert 0.25 * len(images) < sum(mirrored) < 0.75 * len(images)


def test_without_flips_nothing_is_mirrored(photos: Path, tmp_path: Path):
    """Left stays left, and the mirrored images are not even classified."""
    classifier, seen = make_classifier(), []
    classifier.register_forward_pre_hook(lambda _module, inputs: seen.append(len(inputs[0])))
    loop = begun(photos, tmp_path, classifier, flips=False)
    assert sum(seen) == SPLITS["train"]
    images, _ = draw_batches(loop, 6)
    known = loop.splits["train"].batch(slice(None))
    assert all(any(torch.equal(image, photo) for photo in known) for image in images)


def test_intervals_need_not_divide_each_other():
    """A batch may run past the end of an interval; at the end of the training all are due."""
    loop = object.__new__(Training)
    intervals = {"log_images": 10, "snapshot_images": 25, "checkpoint_images": 7}
    loop.options = SimpleNamespace(batch=8, total_images=60, **intervals)
    due = {}
    for loop.images_seen in range(8, 65, 8):
        due[loop.images_seen] = {name.removesuffix("_images") for name in loop.due()}
    assert due[8] == {"checkpoint"}
    assert due[16] == {"log", "checkpoint"}
    assert due[24] == {"log", "checkpoint"}
    assert due[32] == {"log", "snapshot", "checkpoint"}
    assert due[48] == {"checkpoint"}
    assert due[56] == {"log", "snapshot", "checkpoint"}
    assert due[64] == {"log", "snapshot", "checkpoint"}


# --- beginning with another run's networks -------------------------------------------------------


def test_another_runs_networks_begin_deaf_to_p(straight: Run, photos: Path, tmp_path: Path):
    """Three classes instead of two: pictures and verdicts are those of the run's mean columns."""
    base = StylEx.load(straight.path, classifier=make_classifier())
    ours = StylEx(make_classifier(classes="abc"), resolution=32, width=0.0625, seed=9)
    ours.begin_with(base.own_state())
    w, images = torch.randn(3, ours.generator.latent), torch.randn(3, 3, 32, 32)
    half, p = torch.full((3, 2), 0.5), torch.eye(3)
    torch.testing.assert_close(ours.style(w, p), base.style(w, half), atol=1e-5, rtol=1e-5)
    judged = [model.discriminator(images, q) for model, q in ((ours, p), (base, half))]
    torch.testing.assert_close(*judged, atol=1e-5, rtol=1e-5)
    assert torch.equal(ours.encode(images), base.encode(images))
    assert ours.mean_p.tolist() == pytest.approx([1 / 3] * 3)


def test_a_run_that_begins_with_another_goes_on_without_it(
    straight: Run, photos: Path, tmp_path: Path
):
    """It starts where that one ended, D at once; after its first save the other is not needed."""
    options = OPTIONS | {"adversarial_from_images": None, "rate": 0.0, "encoder_rate": 0.0}
    base = copytree(straight.path, tmp_path / "base")
    options |= {"begin_with": str(base), "discriminator_rate": 0.0, "total_images": 8}
    options["checkpoint_images"] = 8
    given = photos, make_classifier(seed=5)
    model = training.train(*given, run=tmp_path / "run", **options)
    about = runs.read_json(Run(tmp_path / "run").about)
    assert (about["settings"]["adversarial_from_images"], about["begins_after"]) == (0, 48)
    assert about["begins_from"] == sha256(straight.model.read_bytes()).hexdigest()[:12]
    weights = load_file(straight.model)
    name = "generator.synthesis.constant"
    torch.testing.assert_close(model.own_state()[name], weights[name], atol=1e-6, rtol=0)
    (base / "run.json").unlink()
    longer = training.train(*given, run=tmp_path / "run", **options | {"total_images": 16})
    torch.testing.assert_close(longer.own_state()[name], weights[name], atol=1e-6, rtol=0)
    # what binds is which networks they were, not where they lay
    options |= {"total_images": 24, "begin_with": str(straight.path)}
    longer = training.train(*given, run=tmp_path / "run", **options)
    torch.testing.assert_close(longer.own_state()[name], weights[name], atol=1e-6, rtol=0)
    assert runs.read_json(Run(tmp_path / "run").about)["begins_from"] == about["begins_from"]
    for other in (tmp_path / "run", tmp_path / "gone"):
        options["begin_with"] = str(other)
        says = error_of(lambda: training.train(*given, run=tmp_path / "run", **options))
        assert f"was begun with begin_with {base}, now it is {other};" in says


@pytest.mark.parametrize(
    "case",
    [
        *(("resolution", 64, 32), ("width", 0.125, 0.0625)),
        *(("rgb_styles", False, True), ("layer_noise", False, True)),
    ],
)
def test_networks_of_another_shape_begin_nothing(
    straight: Run, photos: Path, tmp_path: Path, case: tuple[str, Any, Any]
):
    """One line says which option differs; nothing is written. Styles of ToRGB that stood still may
    vary from now on, not the other way round.
    """
    option, value, its = case
    base = Run(copytree(straight.path, tmp_path / "base"))
    about = runs.read_json(base.about)
    about["settings"][option] = its
    runs.write_json(base.about, about)
    given = {"begin_with": str(base.path), option: value}
    message = error_of(lambda: finish(photos, tmp_path / "run", **given))
    assert f"has {option} {its}, this training {value};" in message
    assert not (tmp_path / "run").exists()


def test_a_damaged_file_or_anothers_begins_nothing(straight: Run, photos: Path, tmp_path: Path):
    """One line, where a traceback would be read by nobody."""
    base = Run(copytree(straight.path, tmp_path / "base"))
    base.model.write_bytes(b"no weights")
    message = error_of(lambda: finish(photos, tmp_path / "run", begin_with=str(base.path)))
    assert f"{base.model} is not readable" in message
    save_file({"other": torch.zeros(2)}, base.model)
    message = error_of(lambda: finish(photos, tmp_path / "run", begin_with=str(base.path)))
    assert "the weights do not fit this network" in message


def test_a_run_without_networks_begins_nothing(straight: Run, photos: Path, tmp_path: Path):
    """Nor does a directory that is none."""
    base = copytree(straight.path, tmp_path / "base")
    (base / "model.safetensors").unlink()
    for place, says in ((base, "has saved no networks yet"), (tmp_path / "no", "is not a run")):
        with pytest.raises(FileNotFoundError, match=says):
            finish(photos, tmp_path / "run", begin_with=str(place))
