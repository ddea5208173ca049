"""Train a small classifier on labelled images, at the resolution at which it will be explained.

A classifier of sharp images misjudges the softer ones of a generator (method.md trap 7), so it
learns from images scaled down and up again too; its logits are calibrated on held-out images.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Int64
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

from stylex.augment import recolour, translate
from stylex.classifier import Classifier
from stylex.data import ImageSet, read_splits
from stylex.draws import Draw
from stylex.keeping import save_classifier
from stylex.parallel import check_device
from stylex.photos import OnDemand, as_unit
from stylex.runs import machine, now
from stylex.shapes import Images, Logits
from stylex.smallnet import SmallNet
from stylex.splits import in_half_a
from stylex.telling import how_long

Half = Literal["all", "a", "b"]
Labels = Int64[Tensor, " n"]  # index of the class, -1 for images left out
Pixels = Tensor | OnDemand  # [n, c, h, w], bytes or [-1, 1]

LABEL_SMOOTHING = 0.05
WEIGHT_DECAY = 0.05
CHECKS = 20  # times that the held-out images are looked at


def train_classifier(
    data: str | Path,
    out: str | Path,
    *,
    resolution: int = 64,
    channels: int | None = 3,
    classes: Sequence[str] | None = None,
    group: str | None = None,
    half: Half = "all",
    total_images: int = 60_000,
    batch: int = 64,
    rate: float = 0.004,
    width: int = 128,
    blur: float = 0.5,
    flips: bool = True,
    seed: int = 0,
    device: str = "cpu",
) -> Classifier:
    """Train a classifier from folders named as their classes and write it to a directory.

    Args:
        data: folder, zip or list of images; the folder that holds an image names its class.
        out: directory for `classifier.json` and `classifier.safetensors`.
        resolution: side in pixels; choose the generator's.
        channels: 3 for RGB, 1 for gray, None to look.
        classes: folders to use, in the order of the logits; all, sorted, where left out.
        group: see `read_splits`; images of one group stay on one side, and in one half.
        half: train on half "a" or "b" of the training images, by the parity of the CRC-32 of the
            file's name (or its group's), so that a classifier of the other half can judge
            independently.
        total_images: images seen in training, repetitions counted.
        batch: images per step.
        rate: highest learning rate.
        width: channels of the last stage.
        blur: share of the images scaled down and up again.
        flips: mirror half of the images.
        seed: of weights, order and augmentation.
        device: "cpu", "cuda" or "mps".

    Returns:
        The calibrated classifier; what was measured on the test split is in its `about`.

    Raises:
        FileNotFoundError: there are no such images.
        ValueError: fewer than two classes, a split without images of some class, a count below 1,
            or a device that is not here.
    """
    check_device(device)
    for name, value in {"total_images": total_images, "batch": batch, "width": width}.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; wanted at least 1, raise it")
    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    splits = read_splits(data, resolution=resolution, channels=channels, group=group)
    classes = tuple(classes or splits["train"].classes)
    labels = labels_of_half(splits, classes, half, group)
    _check(data, labels, classes)
    Path(out).mkdir(parents=True, exist_ok=True)  # where it cannot be, say so before the work
    classifier = fit(
        splits["train"].images,
        labels["train"],
        splits["search"].images,
        labels["search"],
        classes,
        total_images=total_images,
        batch=batch,
        rate=rate,
        width=width,
        blur=blur,
        flips=flips,
        seed=seed,
        device=device,
        progress=console.print,
    )
    tested = labels["test"] >= 0
    logits = predict(classifier, splits["test"].images, tested.nonzero().flatten())
    classifier.about |= measured(logits, labels["test"][tested], classifier.about["temperature"])
    classifier.about |= {"half": half, "group": group} | _about_data(data, splits, labels, classes)
    save_classifier(classifier, out)
    classifier.source = str(Path(out).resolve())
    about = classifier.about
    console.print(
        f"test images: accuracy {about['accuracy']:.3f}, balanced {about['balanced_accuracy']:.3f},"
        f" calibration error {about['ece']:.3f} ({about['ece_uncalibrated']:.3f} before); {out}"
    )
    return classifier


def fit(
    train_images: Pixels,
    train_labels: Labels,
    held_images: Pixels,
    held_labels: Int64[Tensor, " m"],
    classes: Sequence[str],
    *,
    total_images: int = 60_000,
    batch: int = 64,
    rate: float = 0.004,
    width: int = 128,
    network: nn.Module | None = None,
    blur: float = 0.5,
    flips: bool = True,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[str], object] | None = None,
) -> Classifier:
    """Train a network on images in memory; classes are drawn equally often.

    The weights kept are those of the lowest calibrated loss on the held-out images, which also
    give the temperature.

    Args:
        train_images: `[n, c, h, w]`, bytes or floats in [-1, 1].
        train_labels: index of each image's class, -1 for one to leave out.
        held_images: others, of the same shape.
        held_labels: theirs.
        classes: names of the classes.
        network: another than a SmallNet of `width`, its last layer a linear one named `head`; it
            is initialised anew.
        progress: called with a line of text now and then.

    Returns:
        The calibrated classifier; the other arguments are those of `train_classifier`.
    """
    start = time.monotonic()
    generator = torch.Generator().manual_seed(seed)
    _, channels, resolution, _ = train_images.shape
    network = network or SmallNet(channels, len(classes), resolution=resolution, width=width)
    head = network.head
    assert isinstance(head, nn.Linear)
    _initialise(network, generator)
    network.to(device).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=WEIGHT_DECAY)
    steps = max(CHECKS, total_images // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    chances = _chances(train_labels, len(classes))
    held = (held_labels >= 0).nonzero().flatten()
    best = _Best(held_labels[held])
    for step in range(1, steps + 1):
        rows = torch.multinomial(chances, batch, replacement=True, generator=generator)
        images = augment(as_unit(train_images[rows]), generator, blur=blur, flips=flips)
        logits = network.train()(images.to(device))
        loss = F.cross_entropy(
            logits, train_labels[rows].to(device), label_smoothing=LABEL_SMOOTHING
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step * CHECKS // steps > (step - 1) * CHECKS // steps:
            accuracy = best.look(network, predict(network.eval(), held_images, held))
            if progress:
                progress(_line(step * batch, steps * batch, accuracy, time.monotonic() - start))
    if not best.state:
        raise ValueError(f"the losses were not finite at the rate {rate:g}; give a lower --rate")
    network.load_state_dict(best.state)
    with torch.no_grad():  # the temperature goes into the last layer: what comes out is calibrated
        head.weight.div_(best.temperature)
        head.bias.div_(best.temperature)
    classifier = Classifier(network, classes, size=resolution, channels=channels).to(device)
    settings = {"total_images": total_images, "batch": batch, "rate": rate, "blur": blur}
    classifier.about = {
        "made": {"date": now(), "machine": machine(), "seconds": round(time.monotonic() - start)},
        "settings": settings | {"flips": flips, "seed": seed},
        "temperature": best.temperature,
    }
    return classifier


class _Best:
    """The state of lowest calibrated loss on the held-out images."""

    def __init__(self, labels: Labels):
        self.labels, self.loss = labels, float("inf")
        self.temperature, self.state = 1.0, {}

    def look(self, network: nn.Module, logits: Logits) -> float:
        """Keep the network's state if it is the best; returns its accuracy."""
        temperature, loss = fit_temperature(logits, self.labels)
        if loss < self.loss:
            self.loss, self.temperature = loss, temperature
            self.state = {name: value.clone() for name, value in network.state_dict().items()}
        return (logits.argmax(1) == self.labels).float().mean().item()


def fit_temperature(logits: Logits, labels: Labels) -> tuple[float, float]:
    """The number that logits are divided by for the lowest cross-entropy (Guo et al. 2017).

    It stays within 1/2 and 8: where all answers are right there is no lowest, and saturated
    logits would leave nothing to explain.

    Returns:
        The temperature and the cross-entropy with it.
    """
    temperatures = torch.logspace(-1, 3, 101, base=2)
    losses = torch.stack([F.cross_entropy(logits / t, labels) for t in temperatures])
    return temperatures[losses.argmin()].item(), losses.min().item()


def calibration_error(logits: Logits, labels: Labels, bins: int = 15) -> float:
    """Expected calibration error of the predicted class, in bins of equal width."""
    confidence, predicted = logits.softmax(1).max(1)
    gaps = (predicted == labels).float() - confidence
    bin_of = (confidence * bins).long().clamp(max=bins - 1)
    return torch.zeros(bins).index_add(0, bin_of, gaps).abs().sum().item() / len(labels)


def augment(
    images: Images,
    generator: torch.Generator,
    *,
    blur: float = 0.5,
    flips: bool = True,
    colours: bool = True,
) -> Images:
    """Mirror, shift, recolour, soften and add noise, each image by its own draw."""
    draws = torch.rand(2, len(images), 1, 1, 1, generator=generator)
    if flips:
        images = torch.where(draws[0] < 0.5, images.flip(3), images)
    if colours:  # half as strong as for a discriminator: they tell classes apart
        images = images.lerp(recolour(images, Draw(generator)), 0.5)
    images = soften(translate(images, Draw(generator)), generator, share=blur)
    noise = torch.randn(images.shape, generator=generator)
    return (images + 0.05 * draws[1] * noise).clamp(-1, 1)


def soften(images: Images, generator: torch.Generator, *, share: float) -> Images:
    """Scale the first `share` of a batch down, to a third of the side or more, and up again.

    This is what makes a classifier fit for a generator's images (method.md trap 7).
    """
    count, full = round(share * len(images)), images.shape[-1]
    if not count:
        return images
    side = int(torch.randint(max(full // 3, 1), full, (1,), generator=generator))
    small = F.interpolate(images[:count], (side, side), mode="bilinear", antialias=True)
    soft = F.interpolate(small, (full, full), mode="bilinear", antialias=True)
    return torch.cat([soft, images[count:]])


@torch.no_grad()
def predict(network: nn.Module, images: Pixels, rows: Tensor) -> Logits:
    """Logits of some of the images, on the CPU."""
    device = next(network.parameters()).device
    return torch.cat([network(as_unit(images[r]).to(device)).cpu() for r in rows.split(256)])


def _initialise(network: nn.Module, generator: torch.Generator) -> None:
    """He's normal weights for the convolutions, small ones for the last layer."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, generator=generator)
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01, generator=generator)
            nn.init.zeros_(module.bias)


def _chances(labels: Labels, classes: int) -> Tensor:
    """Chance of each image to be drawn: every class has the same in all, -1 has none."""
    counts = (labels[:, None] == torch.arange(classes)).sum(0)
    return torch.where(labels >= 0, 1 / counts[labels], 0)


def _line(seen: int, total: int, accuracy: float, seconds: float) -> str:
    left = how_long(seconds * (total - seen) / seen)
    return (
        f"{seen:,} of {total:,} images, held-out accuracy {accuracy:.3f}, "
        f"{seen / seconds:.0f} images/s, {left} left"
    )


def labels_of(images: ImageSet, classes: Sequence[str]) -> Labels:
    """Index of each image's class; -1 for images of no class."""
    index = {name: k for k, name in enumerate(classes)}
    labels = images.labels or ("",) * len(images)
    return torch.tensor([index.get(label, -1) for label in labels], dtype=torch.long)


def labels_of_half(
    splits: dict[str, ImageSet], classes: Sequence[str], half: Half, group: str | None
) -> dict[str, Labels]:
    """Labels of every split; of the training images outside the half -1, see `in_half_a`."""
    labels = {name: labels_of(images, classes) for name, images in splits.items()}
    if half != "all":
        chosen = in_half_a(splits["train"].names, group) == (half == "a")
        labels["train"] = torch.where(chosen, labels["train"], -1)
    return labels


def _check(data: str | Path, labels: dict[str, Labels], classes: Sequence[str]) -> None:
    if len(classes) < 2:
        raise ValueError(
            f"{data} has images in {len(classes)} class folders ({', '.join(classes) or 'none'}), "
            "wanted two or more; put the images of each class into a folder of its name"
        )
    for split, its in labels.items():
        if missing := [name for k, name in enumerate(classes) if not (its == k).any()]:
            raise ValueError(
                f"{data} has no image of {', '.join(missing)} in {split}; add some or leave the "
                "class out by --classes"
            )


def measured(logits: Logits, labels: Labels, temperature: float) -> dict[str, Any]:
    """Accuracy and calibration; a row of the confusion is a true class."""
    classes = logits.shape[1]
    pairs = labels * classes + logits.argmax(1)
    confusion = torch.bincount(pairs, minlength=classes**2).view(classes, classes)
    recall = confusion.diag() / confusion.sum(1)
    return {
        "accuracy": (confusion.diag().sum() / len(labels)).item(),
        "balanced_accuracy": recall.mean().item(),
        "class_accuracy": recall.tolist(),
        "ece": calibration_error(logits, labels),
        "ece_uncalibrated": calibration_error(logits * temperature, labels),
        "confusion": confusion.tolist(),
    }


def _about_data(
    data: str | Path,
    splits: dict[str, ImageSet],
    labels: dict[str, Labels],
    classes: Sequence[str],
) -> dict[str, Any]:
    counts = {
        split: {name: int((its == k).sum()) for k, name in enumerate(classes)}
        for split, its in labels.items()
    }
    hashes = {split: images.hash for split, images in splits.items()}
    skipped = [line for images in splits.values() for line in images.skipped]
    return {"counts": counts, "data": {"source": str(data), "hash": hashes, "skipped": skipped}}
