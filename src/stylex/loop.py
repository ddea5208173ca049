"""The loop of a training: draws batches, steps, logs, looks at itself, saves, resumes."""

from types import SimpleNamespace
from typing import Any

import torch
from lightning.fabric import Fabric
from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor

from stylex import health, pictures, plan, runs
from stylex.classifier import Classifier
from stylex.data import ImageSet
from stylex.draws import Sampler
from stylex.looking import final_table, likeness, spread, watch
from stylex.losses import Distance
from stylex.model import StylEx
from stylex.parallel import draw_for, everywhere, wait
from stylex.parts import INTERVALS
from stylex.plan import Tally
from stylex.runs import Run
from stylex.shapes import Images
from stylex.step import Step
from stylex.telling import Waiting

MOST_RECOVERIES = 3  # from not-a-number, each from the last checkpoint with other random draws
STATE = ("images_seen", "attempt", "seconds", "history", "recoveries")  # of a checkpoint
WATCHED = 256  # search images measured at a snapshot; test images are kept for the end
MAY_CHANGE = {"total_images", *INTERVALS, "device"}  # of a run that goes on


class Training:
    """One run: draws batches, steps, logs, looks at itself, saves, resumes."""

    def __init__(
        self,
        fabric: Fabric,
        files: Run,
        classifier: Classifier,
        splits: dict[str, ImageSet],
        *,
        distance: Distance,
        options: SimpleNamespace,
        says: str = "",
    ):
        self.fabric, self.files, self.classifier = fabric, files, classifier
        self.splits, self.distance, self.options, self.says = splits, distance, options, says
        quiet = not fabric.is_global_zero
        self.console = Console(quiet=quiet, soft_wrap=True, highlight=False, markup=False)
        self.images_seen, self.attempt, self.seconds = 0, 0, 0.0
        self.history: list[dict[str, float]] = []
        self.recoveries: list[dict[str, str]] = []  # findings for the next snapshot
        self.photos = photos = splits["train"].on(fabric.device)
        self.likeness = None if quiet else likeness(photos, options.perceptual, fabric.device)
        ways = (False, True) if options.flips else (False,)
        logits = torch.stack([self._all_logits(photos, flip) for flip in ways])
        self.logits = logits.to(fabric.device)
        self.step = self._first_step()
        ranks = {"rank": fabric.global_rank, "ranks": fabric.world_size}
        self.sampler = Sampler(len(photos), batch=options.batch, seed=options.seed, **ranks)

    def loop(self) -> None:
        """Train to the end."""
        tally = Tally()
        while self.images_seen < self.options.total_images:
            photos, logits = self.batch()
            losses = self.step(photos, logits, images_seen=self.images_seen, attempt=self.attempt)
            self.images_seen += self.options.batch
            tally.add(losses)
            if not (due := self.due()):
                continue
            if everywhere(self.fabric, self.step.finite):
                self.write(tally, due)
            else:
                self.go_back()
            tally = Tally()

    def due(self) -> set[str]:
        """The intervals that ended with the last step; all of them at the end."""
        now, before = self.images_seen, self.images_seen - self.options.batch
        ends = now >= self.options.total_images
        lengths = {name: getattr(self.options, name) for name in INTERVALS}
        return {name for name, n in lengths.items() if ends or now // n > before // n}

    def write(self, tally: Tally, due: set[str]) -> None:
        """A log line whatever is due, so that a resumed run takes its means over the same steps.

        All ranks take the means, the first one writes.
        """
        seconds = tally.seconds()
        self.seconds += seconds
        rate = tally.steps * self.options.batch / seconds
        losses = tally.means(self.fabric)
        if not self.fabric.is_global_zero:
            return
        self.log(losses, rate, snapshot="snapshot_images" in due)
        if "checkpoint_images" in due:
            self.save()

    def batch(self) -> tuple[Images, Tensor]:
        """The next photos with the classifier's logits of them, mirrored or not (trap 2)."""
        indices, device = next(self.sampler).to(self.fabric.device), self.fabric.device
        photos = self.photos.batch(indices).to(device)
        mirrored = torch.zeros_like(indices)
        if self.options.flips:
            seed = hash((self.options.seed, self.images_seen))
            draw = draw_for(self.fabric, torch.Generator().manual_seed(seed))
            mirrored = draw.integers(0, 2, len(indices)).to(device)
            photos = torch.where(mirrored.bool()[:, None, None, None], photos.flip(3), photos)
        return photos, self.logits[mirrored, indices]

    def log(self, losses: dict[str, float], rate: float, *, snapshot: bool) -> None:
        """One JSON line, one line for a person, and now and then a look at the pictures."""
        line: dict[str, Any] = {
            "images_seen": self.images_seen,
            "seconds": round(self.seconds, 1),
            "images_per_second": round(rate, 1),
            "losses": losses,
        }
        left = max(0, self.options.total_images - self.images_seen) / rate / 60
        text = f"{self.images_seen:>9,} images  {rate:5.0f}/s  {left:4.0f} min left"
        text += "".join(f"  {name} {value:.3f}" for name, value in losses.items())
        self.console.print(text)
        if snapshot:
            judged = {"d_right": losses["d_right"]} if "d_right" in losses else {}
            line["measures"] = self.look() | judged
            self.history.append(line["measures"])
            alone = len(self.splits["search"]) < 2  # one photo is its own mean image
            findings = [] if alone else [f._asdict() for f in health.check(self.history)]
            line["health"], self.recoveries = self.recoveries + findings, []
            for finding in line["health"]:
                self.console.print("  {name}: {says}; {advice}".format(**finding))
        runs.append_line(self.files.log, line)

    @torch.no_grad()
    def look(self) -> dict[str, float]:
        """Measure the averaged networks on search images and draw the contact sheet."""
        photos = self.splits["search"]
        photos = photos.batch(spread(len(photos), WATCHED)).to(self.fabric.device)
        given = {"seed": self.options.seed, "likeness": self.likeness}
        measures, rows = watch(self.step.average, photos, self.distance, **given)
        if self.images_seen <= self.options.adversarial_from_images:  # noise is not trained yet
            early = ("diversity", "kid_noise")
            measures = {k: v for k, v in measures.items() if not k.startswith(early)}
        picture = pictures.sheet(list(rows.values()), list(rows))
        pictures.save(picture, self.files.sheet(self.images_seen))
        return measures

    def save(self) -> None:
        """A checkpoint to resume from, and the model to explain with."""
        with self.files.new_checkpoint(self.images_seen) as folder:
            save_file(self.step.state(), runs.tensors_file(folder))
            state = {name: getattr(self, name) for name in STATE}
            runs.write_json(runs.state_file(folder), state)
        self.step.average.save(self.files.path)
        self._tell(finished=None)

    def resume(self) -> None:
        """Go on from the newest checkpoint, or from the start."""
        saved, attempt = runs.last_checkpoint(self.files, self.console.print), self.attempt
        if saved:
            self.step.load_state(saved[0])
            vars(self).update(saved[1])
        elif self.images_seen:
            self.step, self.images_seen, self.seconds = self._first_step(), 0, 0.0
            self.history, self.recoveries = [], []
        self.attempt = max(self.attempt, attempt)
        self.sampler.seek(self.images_seen)
        if self.fabric.is_global_zero:
            runs.keep_lines(self.files.log, self.images_seen)
        does = f"going on at {self.images_seen:,} images" if saved else "training"
        self.console.print(f"{does}, {self.files.path}: {self._about()}")
        if self.says and not saved:
            self.console.print(self.says)

    def go_back(self) -> None:
        """After a not-a-number: the last good state again, with other random draws.

        Raises:
            ValueError: it has happened too often.
        """
        advice = "begin another --run with a lower --rate or with --precision fp32"
        at = f"the losses were not finite at {self.images_seen:,} images"
        self.attempt += 1
        if self.attempt > MOST_RECOVERIES:
            raise ValueError(f"{at}, after going back {MOST_RECOVERIES} times; {advice}")
        says = f"{at}, so training went back ({self.attempt} of {MOST_RECOVERIES})"
        self.console.print(f"not a number: {says}")
        self.resume()
        finding = health.Finding("not a number", says, f"if it comes again, {advice}")
        self.recoveries.append(finding._asdict())

    @torch.no_grad()
    def finish(self) -> StylEx:
        """Measure on the test images and hand over the model."""
        model, about = self.step.average, runs.read_json(self.files.about)
        finished = about["finished"] and about["images_seen"] == self.images_seen
        if self.fabric.is_global_zero and not finished:
            written = final_table(model, self.splits, self.distance, self.options.perceptual)
            runs.write_json(self.files.metrics, written)
            model.save(self.files.path)
            self._tell(finished=runs.now())
        wait(self.fabric)
        return model

    def _first_step(self) -> Step:
        mean_p = self.logits[0].softmax(1).mean(0)
        step = plan.first_step(self.fabric, self.classifier, self.distance, self.options, mean_p)
        if self.options.begin_with and not self.files.saved():
            plan.take_over(step, self.options.begin_with)
        return step

    def _tell(self, finished: str | None) -> None:
        about = runs.read_json(self.files.about)
        hours = self.seconds / 3600
        about |= {"images_seen": self.images_seen, "hours": hours, "finished": finished}
        about["settings"] |= {k: v for k, v in vars(self.options).items() if k in MAY_CHANGE}
        runs.write_json(self.files.about, about)

    def _about(self) -> str:
        o = self.options
        layout, colour = self.step.average.layout, "colour" if o.channels == 3 else "gray"
        return (
            f"{len(self.splits['train']):,} {colour} images of {o.resolution} px, to "
            f"{o.total_images:,} seen, {self.fabric.device}, {len(layout.widths)} layers, "
            f"{layout.searched} style coordinates"
        )

    @torch.no_grad()
    def _all_logits(self, photos: ImageSet, flip: bool) -> Tensor:
        tell, parts = Waiting("asking the classifier", "images"), []
        for rows in torch.arange(len(photos)).split(256):
            part = photos.batch(rows).to(self.fabric.device)
            parts.append(self.classifier(part.flip(3) if flip else part).cpu())
            tell(int(rows[-1]) + 1, len(photos))
        return torch.cat(parts)
