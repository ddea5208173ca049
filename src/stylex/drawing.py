"""What a planted cell is made of: drawn images of a rule, and a classifier that learned them.

draw_images(rule, files, seed=0)          # images.zip of a run: split/class/number.png
classifier = small_classifier(files, seed=0)
"""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from stylex.classifier import Classifier
from stylex.classifying import Labels, fit, labels_of, predict, train_classifier
from stylex.data import read_splits
from stylex.judgenet import JudgeNet
from stylex.keeping import ABOUT_FILE, WEIGHTS_FILE, load_classifier, save_classifier
from stylex.pictures import pack
from stylex.runs import Run, replacing
from stylex.scenes import Factors
from stylex.selection import lead
from stylex.smallnet import SmallNet
from stylex.synthetic import CLASSES, Rule

Control = Literal["", "random", "shuffled", "first", "second"]
Net = Literal["small", "judge"]  # a SmallNet, a JudgeNet

COUNTS = {"train": 6000, "search": 300, "test": 400}
CLASSIFIER_IMAGES = 30_000  # seen by the classifier
LEAD = 3.0  # logits: spread of the random classifier's margin, about that of a trained one
SIDE = 32  # pixels
HIDDEN = {"first": 0, "second": 1}  # of the deciding factors


def drawn(
    rule: Rule, *, seed: int, control: Control = "", trained: int | None = None
) -> dict[str, tuple[Factors, Labels]]:
    """Factors and labels of every split: shuffled, or without a factor's say, in the controls.

    Arguments as for `draw_images`.
    """
    draw, mix = (torch.Generator().manual_seed(seed) for _ in range(2))
    sides = {}
    counts = COUNTS | ({"train": trained} if trained else {})
    for split, count in counts.items():
        factors = rule.sample(count, draw)
        labels = rule.labels(factors)
        if control == "shuffled":
            labels = labels[torch.randperm(count, generator=mix)]
        if control in HIDDEN:
            factors[:, rule.deciding[HIDDEN[control]]] = torch.rand(count, generator=mix)
        sides[split] = (factors, labels)
    return sides


def draw_images(
    rule: Rule, files: Run, *, seed: int, control: Control = "", trained: int | None = None
) -> None:
    """Write the images of one rule as a zip of `split/class/number.png`, unless they are there.

    Args:
        rule: labels the images.
        files: the run.
        seed: of the factors.
        control: see `cell`.
        trained: how many training images; by default 6,000.

    Raises:
        ValueError: the zip holds others.
    """
    sides = drawn(rule, seed=seed, control=control, trained=trained)
    if files.images.is_file():
        wanted = {
            f"{split}/{CLASSES[label]}/{number:05d}.png"
            for split, (_, labels) in sides.items()
            for number, label in enumerate(labels.tolist())
        }
        with zipfile.ZipFile(files.images) as archive:
            if set(archive.namelist()) != wanted:
                raise ValueError(
                    f"{files.images} holds images of another rule, seed or number than asked for; "
                    "give another --run"
                )
        return

    def named() -> Iterator[tuple[str, Tensor]]:
        for split, (factors, labels) in sides.items():
            images = rule.scene.render(factors, resolution=SIDE)
            for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
                yield f"{split}/{CLASSES[label]}/{number:05d}.png", image

    pack(named(), files.images)


def true_factors(
    rule: Rule, names: Sequence[str], split: str, *, seed: int, control: Control = ""
) -> Factors:
    """The factors of drawn images, by their file names: drawn again from the seed."""
    factors, _ = drawn(rule, seed=seed, control=control)[split]
    return factors[[int(PurePosixPath(name).stem) for name in names]]


def classifier_of(files: Run, net: Net, *, seed: int, control: Control = "") -> Classifier:
    """The classifier of a cell, made unless it is there."""
    if control == "random":
        return random_classifier(files, seed=seed)
    return (judge_classifier if net == "judge" else small_classifier)(files, seed=seed)


def small_classifier(
    files: Run, *, seed: int, resolution: int = SIDE, total_images: int = CLASSIFIER_IMAGES
) -> Classifier:
    """A SmallNet trained on the images that were written into a run, unless it is there."""
    folder = files.planted_classifier
    if (folder / ABOUT_FILE).is_file():
        return load_classifier(folder)
    return train_classifier(
        files.images,
        folder,
        resolution=resolution,
        total_images=total_images,
        flips=False,  # what decides may have its place
        seed=seed,
    )


def judge_classifier(files: Run, *, seed: int) -> Classifier:
    """A JudgeNet trained on the drawn images, unless it is there."""
    weights = files.planted_classifier / WEIGHTS_FILE
    splits = read_splits(files.images, resolution=SIDE)
    network = JudgeNet(3, len(CLASSES), resolution=SIDE)
    labels = {name: labels_of(images, CLASSES) for name, images in splits.items()}
    if not weights.is_file():
        fit(
            splits["train"].images,
            labels["train"],
            splits["search"].images,
            labels["search"],
            CLASSES,
            network=network,
            total_images=CLASSIFIER_IMAGES,
            flips=False,
            seed=seed,
        )
        with replacing(weights) as partial:
            save_file({k: v.contiguous() for k, v in network.state_dict().items()}, partial)
    network.load_state_dict(load_file(weights))
    classifier = Classifier(network, CLASSES, size=SIDE)
    says = predict(network, splits["test"].images, torch.arange(len(splits["test"]))).argmax(1)
    classifier.about["accuracy"] = (says == labels["test"]).float().mean().item()
    return classifier


@torch.no_grad()
def random_classifier(files: Run, *, seed: int) -> Classifier:
    """The same network with random weights, its margin as balanced and as wide as a trained one's.

    Left alone its logits would hardly move, and finding nothing would be no feat.
    """
    folder = files.planted_classifier
    if not (folder / ABOUT_FILE).is_file():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = SmallNet(3, len(CLASSES), resolution=SIDE)
        photos = read_splits(files.images, resolution=SIDE)["search"].batch(slice(None))
        leads = lead(network.eval()(photos), 1)
        network.head.weight.mul_(LEAD / leads.std())
        network.head.bias.mul_(LEAD / leads.std())
        network.head.bias[1] -= leads.mean() * LEAD / leads.std()
        save_classifier(Classifier(network, CLASSES, size=SIDE), folder)
    return load_classifier(folder)
