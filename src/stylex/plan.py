"""What a run is about, how fast it goes, how long it will be: before it begins, and as it goes."""

import re
import time
from collections.abc import Collection, Mapping
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from lightning.fabric import Fabric
from torch import Tensor

from stylex import runs, telling
from stylex.classifier import Classifier
from stylex.data import ImageSet
from stylex.keeping import remember
from stylex.losses import Distance
from stylex.model import StylEx
from stylex.parallel import mean
from stylex.parts import parts_of
from stylex.replay import WARM
from stylex.runs import Run
from stylex.shapes import Images, Logits
from stylex.step import Losses, Step

REHEARSED = 16  # steps of each kind: R1 and path length come once in as many
RECORDED = REHEARSED * WARM + 2  # steps until all of them are recorded on a GPU
ALONE = 0.4  # share of a training before D begins
SHORT = 200  # steps; so short a training is over before its speed would be known
EXPECTED = Path(__file__).with_name("expected.json")  # benchmarks/training_curve.py wrote it
FREED = ("rgb_styles", "layer_noise")  # options that let parts of the generator vary
UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


class Speeds(NamedTuple):
    """Images a second over all processes, without D and with it."""

    alone: float
    judged: float

    def seconds(self, total: int, begins: int) -> float:
        """What so many images take when D begins there."""
        alone = min(total, begins)
        return alone / self.alone + (total - alone) / self.judged

    def images(self, seconds: float, begins: int | None) -> int:
        """How many fit; without a place where D begins, it does after its share of them."""
        if begins is None:
            return int(seconds / (ALONE / self.alone + (1 - ALONE) / self.judged))
        rest = seconds - begins / self.alone
        return int(begins + rest * self.judged if rest > 0 else seconds * self.alone)


def begun(files: Run) -> dict[str, Any]:
    """What `run.json` says of a run that has saved something; else nothing.

    Raises:
        ValueError: its checkpoints are gone, so that it can neither go on nor begin again unharmed.
    """
    if files.saved():
        return runs.read_json(Run.open(files.path).about)
    if files.model.is_file():
        raise ValueError(
            f"{files.path} holds a model but no checkpoint to go on from; give another --run, with "
            f"--begin-with {files.path} to begin with its networks"
        )
    return {}


def begin(
    files: Run,
    data: str | Path,
    splits: dict[str, ImageSet],
    classifier: Classifier,
    settings: dict[str, Any],
    *,
    may_change: Collection[str] = (),
    writes: bool = True,
) -> dict[str, Any]:
    """Write `run.json`, or check that a run that was begun is going on with the same things.

    A run that has saved nothing yet binds nothing: a wrong first try needs no other directory.
    Several processes come to the same answer; one of them `writes`.

    Returns:
        The settings, with the length that is a share of the training as it was begun.

    Raises:
        ValueError: data, classifier or an option is another than the run was begun with, or a
            split is empty.
    """
    counts = {name: len(split) for name, split in splits.items()}
    if not all(counts.values()):
        raise ValueError(f"{data} splits into {counts}; give at least three images or groups")
    old = begun(files)
    name = "adversarial_from_images"
    if settings[name] is None:
        share = {name: int(ALONE * settings["total_images"])}
        settings = settings | {name: old.get("settings", share)[name]}
    about = {
        "version": runs.VERSION,
        "created": runs.now(),
        "machine": runs.machine() + device_name(settings["device"]),
        "stylex": runs.stylex_version(),
        **{name: settings[name] for name in ("seed", "resolution", "channels")},
        "classes": list(classifier.classes),
        "classifier": {"hash": classifier.hash},
        "data": {
            "source": str(data),
            "hash": splits["train"].hash,
            "counts": counts,
            "skipped": [name for split in splits.values() for name in split.skipped],
        },
        "settings": settings,
        "images_seen": 0,
        "hours": 0.0,
        "finished": None,
    }
    about |= beginning(settings.get("begin_with"))
    if old:
        if (its := about.get("begins_from")) and its == old.get("begins_from"):
            may_change = {*may_change, "begin_with"}  # the same networks lie elsewhere now
        runs.check_same(about, old, files.path, may_change=may_change)
        return settings
    if writes:
        about["classifier"] = remember(classifier, files.path)
        runs.write_json(files.about, about)
    return settings


def beginning(first: str | Path | None) -> dict[str, Any]:
    """What `run.json` says of the run that another one begins with; nothing where there is none."""
    if first is None:
        return {}
    its = Run(first)
    if not (its.model.is_file() and its.about.is_file()):  # a run that was begun needs it no more
        return {}
    about = runs.read_json(its.about)
    return {
        "begins_after": about["images_seen"] + about.get("begins_after", 0),
        "begins_from": sha256(its.model.read_bytes()).hexdigest()[:12],
    }


def length(
    fabric: Fabric,
    files: Run,
    classifier: Classifier,
    splits: dict[str, ImageSet],
    *,
    distance: Distance,
    settings: dict[str, Any],
    budget: str | None,
) -> tuple[dict[str, Any], str]:
    """The settings with the length that fits the budget, and what to expect, in a sentence.

    A run that was begun keeps its length: its budget was spent on that.

    Raises:
        ValueError: the budget says no time, or not even a batch fits.
    """
    seconds = None if budget is None else seconds_of(budget)
    if old := begun(files):
        if seconds is not None:
            settings = settings | {"total_images": old["settings"]["total_images"]}
        return settings, ""
    if seconds is None and settings["total_images"] < SHORT * settings["batch"]:
        return settings, ""
    share = range(parts_of(SimpleNamespace(**settings), ranks=fabric.world_size).batch)
    photos = splits["train"].batch([i % len(splits["train"]) for i in share])
    speeds = rehearse(fabric, classifier, photos, distance, settings)
    begins = settings["adversarial_from_images"]
    if seconds is not None:
        total = speeds.images(seconds, begins) // settings["batch"] * settings["batch"]
        if not total:
            says = f"{speeds.alone:.1f} images/s: not one batch fits; give more"
            raise ValueError(f"budget {budget} at {says}")
        settings = settings | {"total_images": total}
    total = settings["total_images"]
    says = as_text(speeds, total, int(ALONE * total) if begins is None else begins)
    return settings, f"{says}\n{expected(total, settings['resolution'])}"


def device_name(device: str) -> str:
    """Of the GPU, to stand behind the machine's name; nothing where the CPU was asked for."""
    used = device in ("auto", "cuda") and torch.cuda.is_available()
    return f", {torch.cuda.get_device_name()}" if used else ""


def seconds_of(budget: str) -> float:
    """Seconds of "2h", "90m" or "1h30m".

    Raises:
        ValueError: it says no time.
    """
    if not re.fullmatch(r"(\d+(\.\d+)?[dhms])+", budget):
        raise ValueError(f"budget is {budget!r}; wanted a time like 2h, 90m or 1h30m")
    return sum(float(n) * UNITS[u] for n, u in re.findall(r"([\d.]+)([dhms])", budget))


def first_step(
    fabric: Fabric,
    classifier: Classifier,
    distance: Distance,
    options: SimpleNamespace,
    mean_p: Float[Tensor, " k"],
) -> Step:
    """The step with networks as the seed gives them."""
    shape = {name: getattr(options, name) for name in ("resolution", "channels", "width")}
    trained, average = (StylEx(classifier, seed=options.seed, **shape) for _ in range(2))
    for network in (trained, average):
        if options.condition:
            network.mean_p.copy_(mean_p)
        else:
            network.forget_p()
    if not options.layer_noise:  # its strength begins at zero
        for name, parameter in trained.generator.named_parameters():
            parameter.requires_grad_(not name.endswith("noise_strength"))
    if not options.rgb_styles:
        trained.generator.still_rgb()
        average.generator.still_rgb()
    return Step(fabric, trained, average, distance, options)


def take_over(step: Step, run: str | Path) -> None:
    """Begin with the networks of another training."""
    state = runs.read_tensors(Run(run).model)
    for network in (step.trained, step.average):
        network.begin_with(state)


def check_first(run: str | Path, settings: Mapping[str, Any]) -> None:
    """Whether a training with these settings can begin with another one's networks.

    Raises:
        FileNotFoundError: there is no such run, or it has saved nothing yet.
        ValueError: its networks have another shape.
    """
    files = Run.open(run)
    if not files.model.is_file():
        raise FileNotFoundError(f"{run} has saved no networks yet; let its training reach a save")
    its = runs.read_json(files.about)["settings"]
    for name in ("resolution", "channels", "width", *FREED):
        freed = name in FREED and settings[name]  # what stood still may begin to vary
        if its.get(name) != settings[name] and not freed:
            raise ValueError(
                f"{run} has {name} {its.get(name)}, this training {settings[name]}; "
                "give the same, or another --begin-with"
            )


def rehearse(
    fabric: Fabric,
    classifier: Classifier,
    photos: Images,
    distance: Distance,
    settings: dict[str, Any],
) -> Speeds:
    """Time a few steps of networks that are then thrown away.

    Args:
        fabric: device, precision and ranks.
        classifier: the explained classifier.
        photos: this rank's share of one batch.
        distance: the perceptual distance.
        settings: the keyword arguments of `training.train`.
    """
    photos = photos.to(fabric.device)
    with torch.no_grad():
        logits = classifier(photos)
    never = settings["batch"] * (REHEARSED + RECORDED)
    alone, judged = (
        _rate(
            first_step(
                fabric,
                classifier,
                distance,
                SimpleNamespace(**settings | {"adversarial_from_images": begins}),
                logits.softmax(1).mean(0),
            ),
            photos,
            logits,
        )
        for begins in (never, 0)
    )
    # clocks differ, and the ranks have to agree on a length
    return Speeds(*mean(fabric, torch.tensor([alone, judged], dtype=torch.double)).tolist())


def _rate(step: Step, photos: Images, logits: Logits) -> float:
    """Images a second, after steps that only warm up: two, or as many as it takes to record."""
    batch, warm = step.options.batch, RECORDED if step.replay.on else 2
    for number in range(warm):
        step(photos, logits, images_seen=number * batch)
    float(step.finite)
    began = time.monotonic()
    for number in range(warm, warm + REHEARSED):
        step(photos, logits, images_seen=number * batch)
    float(step.finite)  # a GPU is done when this number is here
    rate = REHEARSED * batch / (time.monotonic() - began)
    step.replay.forget()
    del step.replay  # it knows the step, which would outlive its rehearsal
    return rate


def as_text(speeds: Speeds, total: int, adversarial_from: int) -> str:
    """What a person wants to know before waiting."""
    long = telling.how_long(speeds.seconds(total, adversarial_from))
    return (
        f"{speeds.alone:.0f} images/s, {speeds.judged:.0f} with the discriminator, which begins at "
        f"{adversarial_from:,}: {total:,} images take about {long}"
    )


def expected(total: int, resolution: int) -> str:
    """What the published models had come to after as many images, or nearly.

    Args:
        total: images that will be seen.
        resolution: of the training; told of are models of the largest one not above, or the least.
    """
    known = {int(side): rows for side, rows in runs.read_json(EXPECTED)["rows"].items()}
    side = max((side for side in known if side <= resolution), default=min(known))
    fewer = [row for row in known[side] if row["images_seen"] <= total]
    if not fewer:
        first = known[side][0]["images_seen"]
        return f"the published {side} px models were first measured after {first:,} images"
    row = fewer[-1]
    agreement, chance = ("{:.0%} to {:.0%}".format(*row[key]) for key in ("agreement", "chance"))
    low, high = row["perceptual"]
    return (
        f"after {row['images_seen']:,} images the published {side} px models kept the decision of "
        f"{agreement} of the photos (guessing: {chance}), at a perceptual distance of {low:.2f} to "
        f"{high:.2f}"
    )


class Tally:
    """Losses and time since the last log line."""

    def __init__(self) -> None:
        self.totals: dict[str, Tensor] = {}
        self.steps, self.began = 0, time.monotonic()

    def add(self, losses: Losses) -> None:
        """Count one step; nothing is read back from the device yet."""
        self.steps += 1
        for name, value in losses.items():
            self.totals[name] = self.totals[name] + value if name in self.totals else value

    def means(self, fabric: Fabric) -> dict[str, float]:
        """Over steps and ranks; what is not taken in each step counts as zero in the others."""
        totals = mean(fabric, torch.stack([x.float() for x in self.totals.values()]))
        return dict(zip(self.totals, (totals / self.steps).tolist(), strict=True))

    def seconds(self) -> float:
        """Since the last line was done."""
        return time.monotonic() - self.began
