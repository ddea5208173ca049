"""Training: photos and a classifier in, a run directory out. The step itself is in `step`."""

import time
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from lightning.fabric import Fabric
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor

from stylex import health, metrics, pictures, runs
from stylex.classifier import Classifier, remember
from stylex.data import ImageSet, Sampler, read_splits
from stylex.looking import contact_rows, evaluate, measure
from stylex.losses import Perceptual, perceptual_distance
from stylex.model import StylEx, in_batches
from stylex.parallel import Precision, start
from stylex.runs import Run
from stylex.shapes import Images
from stylex.step import Step

MOST_RECOVERIES = 3  # from not-a-number, each from the last checkpoint with other random draws
WATCHED = 256  # search images measured at a snapshot; test images are kept for the end
MAY_CHANGE = {"total_images", "log_images", "snapshot_images", "checkpoint_images", "device"}


def train(
    data: str | Path,
    classifier: Classifier,
    *,
    run: str | Path,
    resolution: int = 64,
    channels: int | None = None,
    width: float = 1.0,
    total_images: int = 500_000,
    batch: int = 32,
    group: str | None = None,
    flips: bool = False,
    hide_p: float = 0.5,
    judged_share: float = 0.5,
    noise_share: float = 0.5,
    mixing: float = 0.5,
    l1_weight: float = 1.0,
    perceptual: Perceptual = "lpips",
    perceptual_weight: float = 1.0,
    w_weight: float = 0.1,
    kl_weight: float = 1.0,
    kl_share: float = 1.0,
    adversarial_weight: float = 0.05,
    adversarial_from_images: int | None = None,
    r1_gamma: float = 0.1,
    r1_interval_steps: int = 16,
    path_weight: float = 0.0,
    path_interval_steps: int = 8,
    augment: bool = True,
    rate: float = 0.002,
    encoder_rate: float = 0.0004,
    discriminator_rate: float = 0.002,
    clip: float = 2.0,
    ema_images: int = 10_000,
    log_images: int = 1_000,
    snapshot_images: int = 20_000,
    checkpoint_images: int = 10_000,
    seed: int = 0,
    device: str = "auto",
    precision: Precision = "auto",
) -> StylEx:
    """Train a StylEx around a classifier; the same call again resumes.

    Args:
        data: folder (recursive), zip or list file of images; labels are not used. `train/ search/
            test/` in it are respected, else images are split 80/10/10 by content.
        classifier: the frozen classifier to explain.
        run: directory to write everything into.
        resolution: side in pixels, a power of two from 32 to 256; decides channels and latents.
        channels: 3 colour, 1 gray; by default what the images are.
        width: factor on the channels of every layer.
        total_images: length of the training in images seen (with repetition).
        batch: images per step, over all processes.
        group: regular expression on names; images with the same match stay in one split.
        flips: also show mirrored images; leave off where left and right mean something.
        hide_p: share of the encoder passes that get the mean p, so that the class comes through w.
        judged_share: share of each batch that D sees: it costs most and learns soonest.
        noise_share: share of the adversarial images drawn from noise; the rest are reconstructions.
        mixing: share of the noise images that change w between two layers.
        l1_weight: weight of |x' - x|.
        perceptual: lpips (squeeze), classifier (features of the explained one) or none.
        perceptual_weight: its weight (the paper's: 0.1 of LPIPS).
        w_weight: weight of |E(x') - E(x)|.
        kl_weight: weight of KL(C(x) || C(x')).
        kl_share: share of each batch whose KL is taken; lower it where the classifier is slow.
        adversarial_weight: weight of the generator's adversarial loss (the paper's: 1).
        adversarial_from_images: images seen before D and the noise pass begin; a fifth by default.
        r1_gamma: R1 weight of D.
        r1_interval_steps: steps between R1 penalties.
        path_weight: weight of path-length regularisation; 0 leaves it out.
        path_interval_steps: steps between path-length penalties.
        augment: DiffAugment on what D sees.
        rate: Adam's rate of the generator.
        encoder_rate: Adam's rate of the encoder (at the generator's rate it spikes: trap 4).
        discriminator_rate: Adam's rate of D.
        clip: largest norm of one network's gradient.
        ema_images: half-life of the weight average in images.
        log_images: images between log lines.
        snapshot_images: images between contact sheets, measures and health.
        checkpoint_images: images between checkpoints.
        seed: of the split, the initial weights and every draw.
        device: auto, cpu, cuda or mps.
        precision: auto is bf16 where the hardware has it, else fp32.

    Returns:
        The averaged networks, ready to explain.

    Raises:
        FileNotFoundError: there is no such data.
        ValueError: no usable image, wrong options, or a run that was begun with others.
    """
    settings = {k: v for k, v in locals().items() if k not in ("data", "classifier", "run")}
    fabric = start(device=device, precision=precision)
    classifier.to(fabric.device)
    splits = read_splits(data, resolution=resolution, channels=channels, group=group, seed=seed)
    settings["channels"] = splits["train"].channels
    if adversarial_from_images is None:
        settings["adversarial_from_images"] = total_images // 5
    files = Run(run)
    begin(files, data, splits, classifier, settings)
    training = Training(fabric, files, classifier, splits, SimpleNamespace(**settings))
    training.resume()
    training.loop()
    return training.finish()


def begin(
    files: Run,
    data: str | Path,
    splits: dict[str, ImageSet],
    classifier: Classifier,
    settings: dict[str, Any],
) -> None:
    """Write `run.json`, or check that a run that was begun is going on with the same things.

    Raises:
        ValueError: data, classifier or an option is another than the run was begun with.
    """
    about = {
        "version": runs.VERSION,
        "created": runs.now(),
        "machine": runs.machine(),
        "stylex": runs.stylex_version(),
        "seed": settings["seed"],
        "resolution": settings["resolution"],
        "channels": settings["channels"],
        "classes": list(classifier.classes),
        "classifier": {"hash": classifier.hash},
        "data": {
            "source": str(data),
            "hash": splits["train"].hash,
            "counts": {name: len(split) for name, split in splits.items()},
            "skipped": [name for split in splits.values() for name in split.skipped],
        },
        "settings": settings,
        "images_seen": 0,
        "hours": 0.0,
        "finished": None,
    }
    if files.about.is_file():
        _check_same(about, runs.read_json(Run.open(files.path).about), files)
        return
    about["classifier"] = remember(classifier, files.path)
    runs.write_json(files.about, about)


def _check_same(new: dict[str, Any], old: dict[str, Any], files: Run) -> None:
    for part, name in (("classifier", "classifier"), ("data", "training images")):
        if new[part]["hash"] != old[part]["hash"]:
            raise ValueError(
                f"the {name} changed since {files.path} was begun (hash {new[part]['hash'][:12]}, "
                f"was {old[part]['hash'][:12]}); give the same, or another --run"
            )
    fixed = {k: v for k, v in old["settings"].items() if k not in MAY_CHANGE}
    for option, value in fixed.items():
        if new["settings"][option] != value:
            raise ValueError(
                f"{files.path} was begun with {option} {value}, now it is "
                f"{new['settings'][option]}; give the same, or another --run"
            )


class Training:
    """One run: draws batches, steps, logs, looks at itself, saves, resumes."""

    def __init__(
        self,
        fabric: Fabric,
        files: Run,
        classifier: Classifier,
        splits: dict[str, ImageSet],
        options: SimpleNamespace,
    ):
        self.fabric, self.files, self.splits, self.options = fabric, files, splits, options
        self.console = Console(quiet=not fabric.is_global_zero, soft_wrap=True, highlight=False)
        self.images_seen, self.attempt, self.seconds = 0, 0, 0.0
        shape = {"channels": options.channels, "width": options.width, "seed": options.seed}
        trained, average = (
            StylEx(classifier, resolution=options.resolution, **shape) for _ in range(2)
        )
        self.distance = perceptual_distance(options.perceptual, classifier)
        self.step = Step(fabric, trained, average, self.distance, options)
        photos = splits["train"]
        self.logits = torch.stack([self._all_logits(photos, flip) for flip in (False, True)])
        for network in (trained, average):
            network.mean_p.copy_(self.logits[0].softmax(1).mean(0))
        self.sampler = Sampler(
            len(photos),
            batch=options.batch,
            seed=options.seed,
            rank=fabric.global_rank,
            ranks=fabric.world_size,
        )
        self.history: list[dict[str, float]] = []

    def loop(self) -> None:
        """Train to the end."""
        o, totals, since = self.options, defaultdict(float), 0
        clock = time.monotonic()
        while self.images_seen < o.total_images:
            photos, logits = self.batch()
            losses = self.step(photos, logits, images_seen=self.images_seen, attempt=self.attempt)
            before, self.images_seen = self.images_seen, self.images_seen + o.batch
            for name, value in losses.items():
                totals[name] = totals[name] + value
            since += 1
            ends = self.images_seen >= o.total_images
            due = {
                name: ends or self.images_seen // every > before // every
                for name, every in vars(o).items()
                if name in ("log_images", "snapshot_images", "checkpoint_images")
            }
            if not any(due.values()):
                continue
            if not self.step.finite:
                self.go_back()
                totals, since, clock = defaultdict(float), 0, time.monotonic()
                continue
            rate = since * o.batch / (time.monotonic() - clock)
            self.seconds += time.monotonic() - clock
            means = {name: float(value) / since for name, value in totals.items()}
            self.log(means, rate, snapshot=due["snapshot_images"])
            if due["checkpoint_images"]:
                self.save()
            totals, since, clock = defaultdict(float), 0, time.monotonic()

    def batch(self) -> tuple[Images, Tensor]:
        """The next photos with the classifier's logits of them, mirrored or not (trap 2)."""
        indices = next(self.sampler)
        photos = self.splits["train"].batch(indices)
        mirrored = torch.zeros(len(indices), dtype=torch.long)
        if self.options.flips:
            draw = torch.Generator().manual_seed(hash((self.options.seed, self.images_seen)))
            mirrored = torch.randint(2, (len(indices),), generator=draw)
            photos = torch.where(mirrored.bool()[:, None, None, None], photos.flip(3), photos)
        logits = self.logits[mirrored, indices]
        return photos.to(self.fabric.device), logits.to(self.fabric.device)

    def log(self, losses: dict[str, float], rate: float, *, snapshot: bool) -> None:
        """One JSON line, one line for a person, and now and then a look at the pictures."""
        line: dict[str, Any] = {
            "images_seen": self.images_seen,
            "seconds": round(self.seconds, 1),
            "images_per_second": round(rate, 1),
            "losses": losses,
        }
        left = (self.options.total_images - self.images_seen) / rate / 60
        text = f"{self.images_seen:>9,} images  {rate:5.0f}/s  {left:4.0f} min left"
        text += "".join(f"  {name} {value:.3f}" for name, value in losses.items())
        self.console.print(text, highlight=False)
        if snapshot:
            line["measures"] = self.look() | {
                name: losses[name] for name in ("d_right",) if name in losses
            }
            self.history.append(line["measures"])
            findings = health.check(self.history)
            line["health"] = [finding._asdict() for finding in findings]
            for finding in findings:
                self.console.print(f"  {finding.name}: {finding.says}; {finding.advice}")
        if self.fabric.is_global_zero:
            runs.append_line(self.files.log, line)

    @torch.no_grad()
    def look(self) -> dict[str, float]:
        """Measure the averaged networks on search images and draw the contact sheet."""
        model, photos = self.step.average, self.splits["search"]
        photos = photos.batch(torch.arange(min(WATCHED, len(photos)))).to(self.fabric.device)
        logits = in_batches(model.classifier, photos)
        measures = measure(model, photos, logits)
        redrawn = in_batches(model.reconstruct, photos)
        measures["perceptual"] = in_batches(self.distance, photos, redrawn).mean().item()
        mean_photo = photos.mean(0, keepdim=True).expand_as(photos)
        measures["l1_mean_image"] = metrics.l1(photos, mean_photo).mean().item()
        rows = contact_rows(model, photos, logits, seed=self.options.seed)
        if self.images_seen > self.options.adversarial_from_images:
            measures["diversity"] = metrics.diversity(rows["noise samples"])
            measures["diversity_photos"] = metrics.diversity(rows["photo"])
        if self.fabric.is_global_zero:
            picture = pictures.sheet(list(rows.values()), list(rows))
            pictures.save(picture, self.files.sheet(self.images_seen))
        return measures

    def save(self) -> None:
        """A checkpoint to resume from, and the model to explain with."""
        if not self.fabric.is_global_zero:
            return
        with self.files.new_checkpoint(self.images_seen) as folder:
            save_file(self.step.state(), runs.tensors_file(folder))
            state = {
                "images_seen": self.images_seen,
                "attempt": self.attempt,
                "seconds": self.seconds,
                "history": self.history,
            }
            runs.write_json(runs.state_file(folder), state)
        self.step.average.save(self.files.path)
        self._tell(finished=None)

    def resume(self) -> None:
        """Go on from the newest checkpoint, if there is one."""
        saved = self.files.saved()
        if not saved:
            self.console.print(f"training {self.files.path}: {self._plan()}", highlight=False)
            return
        state = runs.read_json(runs.state_file(saved[-1]))
        self.step.load_state(load_file(runs.tensors_file(saved[-1])))
        self.images_seen, self.seconds = state["images_seen"], state["seconds"]
        self.attempt, self.history = max(self.attempt, state["attempt"]), state["history"]
        self.sampler.seek(self.images_seen)
        if self.fabric.is_global_zero:
            runs.keep_lines(self.files.log, self.images_seen)
        self.console.print(f"going on at {self.images_seen:,} images: {self._plan()}")

    def go_back(self) -> None:
        """After a not-a-number: the last checkpoint again, with other random draws.

        Raises:
            ValueError: it has happened too often, or before the first checkpoint.
        """
        self.attempt += 1
        if self.attempt > MOST_RECOVERIES or not self.files.saved():
            raise ValueError(
                f"the losses are not numbers after {self.images_seen:,} images, "
                f"for the {self.attempt}. time; lower --rate or --adversarial-weight, or give "
                "--precision fp32"
            )
        self.console.print(
            f"not-a-number at {self.images_seen:,} images: going back ({self.attempt} of "
            f"{MOST_RECOVERIES})"
        )
        self.resume()

    @torch.no_grad()
    def finish(self) -> StylEx:
        """Measure on the test images and hand over the model."""
        model = self.step.average
        if self.fabric.is_global_zero:
            written = evaluate(model, self.splits, self.distance, self.options.perceptual)
            runs.write_json(self.files.metrics, written)
            model.save(self.files.path)
            self._tell(finished=runs.now())
        return model

    def _tell(self, finished: str | None) -> None:
        about = runs.read_json(self.files.about)
        about |= {"images_seen": self.images_seen, "hours": self.seconds / 3600}
        about |= {"finished": finished}
        about["settings"] |= {k: v for k, v in vars(self.options).items() if k in MAY_CHANGE}
        runs.write_json(self.files.about, about)

    def _plan(self) -> str:
        o = self.options
        return (
            f"{len(self.splits['train']):,} images of {o.resolution} px, to {o.total_images:,} "
            f"seen, {self.fabric.device}, {len(self.step.average.layout.widths)} layers, "
            f"{self.step.average.layout.searched} style coordinates"
        )

    @torch.no_grad()
    def _all_logits(self, photos: ImageSet, flip: bool) -> Tensor:
        classifier, device = self.step.trained.classifier, self.fabric.device
        parts = [photos.batch(i).to(device) for i in torch.arange(len(photos)).split(256)]
        return torch.cat([classifier(part.flip(3) if flip else part) for part in parts]).cpu()
