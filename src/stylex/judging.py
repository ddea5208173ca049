"""The oracle panel: judges that neither the explained classifier nor the generator has met.

    judges, why = train_panel(read_splits("leaves.zip", resolution=32), ("healthy", "sick"),
                              folder=Path("runs/leaves/judges"))
    classes = subjects.Drawn(images, classifier(images), tuple(judges)).panel

A picture may flip the classifier by a smudge that only this classifier sees (method.md 6, "later
lessons"). So two others are asked: a network of another make and a linear probe on public
features. They learn from the half of the training images that the classifier has not seen, with
blur, noise and scaling down and up, and are calibrated on the search images.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from stylex.classifier import Classifier
from stylex.classifying import (
    Half,
    Labels,
    augment,
    fit,
    fit_temperature,
    labels_of_half,
    measured,
    predict,
)
from stylex.data import ImageSet
from stylex.features import SQUEEZENET, Features, load_features
from stylex.judgenet import JudgeNet
from stylex.runs import machine, now, read_json, replacing, write_json
from stylex.shapes import Images, Logits
from stylex.sources import one_line

NETWORK, PROBE = "network", "probe"  # folders of the panel's
ABOUT_FILE, WEIGHTS_FILE = "judge.json", "judge.safetensors"
COPIES = 3  # augmented copies of each image that the probe learns from
DECAY = 0.05  # of the probe's weights, for features of unit variance

Says = Callable[[str], object]


@dataclass(frozen=True)
class Lessons:
    """What judges learn from.

    Args:
        splits: train, search (to calibrate) and test.
        labels: of each split, the index of each image's class, -1 for images left out.
        classes: names of the classes.
    """

    splits: dict[str, ImageSet]
    labels: dict[str, Labels]
    classes: tuple[str, ...]

    def rows(self, split: str) -> Int[Tensor, " n"]:
        """Places of a split's labelled images."""
        return (self.labels[split] >= 0).nonzero().flatten()

    def missing(self, split: str) -> list[str]:
        """Classes of which a split has no image."""
        present = self.labels[split].unique().tolist()
        return [name for k, name in enumerate(self.classes) if k not in present]


def train_panel(
    splits: dict[str, ImageSet],
    classes: Sequence[str],
    *,
    folder: Path,
    features: str = SQUEEZENET,
    half: Half = "b",
    group: str | None = None,
    total_images: int = 50_000,
    seed: int = 0,
    device: str = "cpu",
    progress: Says = print,
) -> tuple[list[Classifier], str]:
    """Train the judges of a data set, or load those that were trained for the same before.

    Args:
        splits: train, search and test, as `read_splits` gives them; folders name the classes.
        classes: in the order of the explained classifier's logits.
        folder: where the judges are kept.
        features: see `load_features`; "none" leaves the probe out.
        half: of the training images, the one that the explained classifier has not seen.
        group: by which these halves were made, if any; see `in_half_a`.
        total_images: seen by the network in training, repetitions counted.
        seed: of weights, order and augmentation.
        device: "cpu", "cuda" or another of torch's.
        progress: called with a line of text now and then.

    Returns:
        The judges, with what was measured on test images in their `about`; and why there are
        fewer than two, or nothing.

    Raises:
        ValueError: the files of a judge are damaged.
    """
    lessons = Lessons(splits, labels_of_half(splits, classes, half, group), tuple(classes))
    for split in ("train", "search"):
        if missing := lessons.missing(split):
            return [], f"no judges: {split} has no image to learn {', '.join(missing)} from"
    data = {name: splits[name].hash for name in ("train", "search")}
    made_for = {"data": data, "classes": list(classes), "half": half, "seed": seed}
    made_for |= {"group": group} if group else {}
    options: dict[str, Any] = {"seed": seed, "device": device, "progress": progress}
    network = _kept(
        folder / NETWORK,
        made_for | {"total_images": total_images},
        lambda: train_network(lessons, total_images=total_images, **options),
    )
    try:
        chosen = load_features(features)
    except ValueError as error:
        return [network.to(device)], f"no linear probe: {error}"
    probe = _kept(
        folder / PROBE,
        made_for | {"features": chosen.name, "copies": COPIES, "decay": DECAY},
        lambda: train_probe(lessons, chosen, **options),
        features=chosen,
    )
    return [network.to(device), probe.to(device)], ""


def shared_half(classifier: Classifier, group: str | None = None) -> str:
    """A warning where the classifier may have learned from the judges' images; empty otherwise.

    Args:
        classifier: the explained one; `about` says by what its half was chosen.
        group: what the run keeps together, see `read_splits`.
    """
    if classifier.about.get("half") != "a":
        return (
            "the judges learned from half B of the training images, and whether the classifier saw "
            "it too is not known (`stylex train-classifier --half a` keeps the halves apart)"
        )
    if group and classifier.about.get("group") != group:
        return (
            f"images of one group ({group}) may lie in the classifier's half and in the judges' "
            "(`stylex train-classifier --group` keeps them together)"
        )
    return ""


# The two judges


def train_network(
    lessons: Lessons, *, total_images: int, seed: int, device: str, progress: Says
) -> Classifier:
    """A JudgeNet, trained as `fit` trains a classifier."""
    train, search = lessons.splits["train"], lessons.splits["search"]
    _, channels, resolution, _ = train.images.shape
    judge = fit(
        train.images,
        lessons.labels["train"],
        search.images,
        lessons.labels["search"],
        lessons.classes,
        network=JudgeNet(channels, len(lessons.classes), resolution=resolution),
        total_images=total_images,
        seed=seed,
        device=device,
        progress=lambda line: progress(f"judge network: {line}"),
    )
    judge.about |= _tested(judge, lessons)
    return judge


class Probe(nn.Module):
    """A linear layer on fixed features, of all layers where the network shows them."""

    def __init__(self, features: Features, head: nn.Linear):
        super().__init__()
        self.features, self.head = features, head

    def forward(self, images: Images) -> Logits:
        """Logits of images in [-1, 1]; no gradient reaches them."""
        return self.head(self.features.every(images))


def train_probe(
    lessons: Lessons, features: Features, *, seed: int, device: str, progress: Says
) -> Classifier:
    """Logistic regression on features of `COPIES` augmented copies of each image.

    Their colours stay: a linear layer cannot learn to overlook a change of colour, it only loses
    the colours.
    """
    start, generator = time.monotonic(), torch.Generator().manual_seed(seed)
    features = features.to(device)
    train, search = lessons.splits["train"], lessons.splits["search"]
    rows = lessons.rows("train").repeat(COPIES)
    rows = rows[torch.randperm(len(rows), generator=generator)]  # half of each batch is softened
    progress(f"judge probe: {features.name} of {len(rows):,} augmented images")

    def every(images: Images) -> Tensor:
        return features.every(images.to(device)).cpu()

    copies = (augment(train.batch(r), generator, colours=False) for r in rows.split(64))
    seen = torch.cat([every(images) for images in copies])
    head = logistic_regression(seen, lessons.labels["train"][rows], lessons.classes)
    held = lessons.rows("search")
    known = torch.cat([every(search.batch(r)) for r in held.split(64)])
    with torch.no_grad():
        logits = head(known)
        temperature, _ = fit_temperature(logits, lessons.labels["search"][held])
        head.weight.div_(temperature)
        head.bias.div_(temperature)
    _, channels, resolution, _ = train.images.shape
    judge = Classifier(Probe(features, head), lessons.classes, size=resolution, channels=channels)
    judge = judge.to(device)
    judge.about = {
        "made": {"date": now(), "machine": machine(), "seconds": round(time.monotonic() - start)},
        "temperature": temperature,
    } | _tested(judge, lessons)
    return judge


def logistic_regression(
    features: Float[Tensor, "n d"], labels: Labels, classes: Sequence[str], *, decay: float = DECAY
) -> nn.Linear:
    """The linear layer of lowest cross-entropy, every class weighing the same, found by LBFGS.

    Args:
        features: `[n, d]`; they are brought to unit variance, and the layer takes that back.
        labels: all classes occur.
        classes: their names.
        decay: half of it times the squared weights, on unit variance, is added to the loss.
    """
    deviation, mean = torch.std_mean(features, 0)
    deviation = deviation.clamp_min(1e-6)  # a feature that never moves gets no weight
    scaled = (features - mean) / deviation
    head = nn.Linear(features.shape[1], len(classes))
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    balance = 1 / labels.bincount(minlength=len(classes))
    search = torch.optim.LBFGS(head.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        penalty = decay / 2 * head.weight.square().sum()
        value = F.cross_entropy(head(scaled), labels, weight=balance) + penalty
        value.backward()
        return value

    search.step(loss)
    with torch.no_grad():
        head.weight.div_(deviation)
        head.bias.sub_(head.weight @ mean)
    return head


def _tested(judge: Classifier, lessons: Lessons) -> dict[str, Any]:
    """What `measured` says of the test images; nothing where they lack a class."""
    if lessons.missing("test"):
        return {}
    rows = lessons.rows("test")
    logits = predict(judge, lessons.splits["test"].images, rows)
    return measured(logits, lessons.labels["test"][rows], judge.about.get("temperature", 1.0))


# On disk


def _kept(
    place: Path,
    made_for: dict[str, Any],
    train: Callable[[], Classifier],
    *,
    features: Features | None = None,
) -> Classifier:
    """The judge in a folder if it was made for the same; else a new one, written there."""
    about = read_json(place / ABOUT_FILE) if (place / ABOUT_FILE).is_file() else {}
    if about.get("made_for") != made_for:
        _save(train(), place, made_for)
    return _load(place, features)


def _save(judge: Classifier, place: Path, made_for: dict[str, Any]) -> None:
    network = judge.model
    assert isinstance(network, JudgeNet | Probe)
    own = {k: v for k, v in network.state_dict().items() if not k.startswith("features.")}
    with replacing(place / WEIGHTS_FILE) as partial:
        save_file({name: tensor.cpu().contiguous() for name, tensor in own.items()}, partial)
    # written last: its hash tells whether both files belong together
    about = {"hash": judge.hash, "made_for": made_for, **judge.settings}
    write_json(place / ABOUT_FILE, about | judge.about)


def _load(place: Path, features: Features | None = None) -> Classifier:
    """Read a judge; of a probe with its features."""
    about = read_json(place / ABOUT_FILE)
    try:
        settings = {key: about[key] for key in ("classes", "size", "channels")}
        network = _network(load_file(place / WEIGHTS_FILE), features, **settings)
        judge = Classifier(network, source=str(place.resolve()), **settings)
    except (KeyError, OSError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{place} is not whole ({one_line(error)}); delete it") from error
    named = about.get("made_for", {}).get("features")
    if judge.hash != about["hash"] or (features and features.name != named):
        raise ValueError(f"{place} or its features were changed or half written; delete it")
    judge.about = {k: v for k, v in about.items() if k not in ("hash", *judge.settings)}
    return judge


def _network(
    state: dict[str, Tensor],
    features: Features | None,
    *,
    classes: Sequence[str],
    size: int,
    channels: int,
) -> nn.Module:
    if features is None:
        network = JudgeNet(channels, len(classes), resolution=size)
    else:
        network = Probe(features, nn.Linear(state["head.weight"].shape[1], len(classes)))
    network.load_state_dict(state, strict=features is None)
    return network
