"""A training step beside a plain one: images a second, operations, share of the measured peak.

    OMP_NUM_THREADS=1 python benchmarks/training_speed.py      # ten minutes of one idle core

The plain step has the same networks, batch and losses, written as reproductions write it: weights
modulated per sample in a grouped convolution, images in NCHW, fp32, the classifier asked again in
each step, fakes drawn once for the generator and again for the discriminator, unfused Adam. Both
take turns in one process, so that a busy machine slows both. `same_losses` leaves out of ours what
the plain step has not: half a batch for D, hybrids, the wish for few coordinates. Ours is timed
in bf16 too where the processor multiplies it natively, and the quicker one counts;
`ratio_same_precision` is that of fp32 and fp32.
Writes training_speed.json after each case.
"""

import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from made import made, write_result
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from stylex import ops, plan
from stylex.classifier import Classifier
from stylex.losses import generator_loss, perceptual_distance, r1_penalty
from stylex.parallel import draw_for, start
from stylex.rounding import quick_bf16
from stylex.scenes import LEAVES
from stylex.smallnet import SmallNet
from stylex.step import Step
from stylex.training import train

CASES = {
    "default": {},
    "same_losses": {
        "judged_share": 1.0,
        "noise_share": 1.0,
        "hybrid_share": 0.0,
        "few_weight": 0.0,
    },
    "alone": {"adversarial_weight": None},
}
ROUNDS, STEPS = 5, 16  # R1 comes once in sixteen steps
NOT_NATIVE = "this processor multiplies no bf16 natively"


class Plain(Step):
    """The same losses, each pass for itself."""

    def __call__(self, photos: Tensor, logits: Tensor, *, images_seen: int, attempt: int = 0):
        """Photos' logits anew, then generator and encoder, then D on fakes drawn again."""
        o, g = self.options, self.trained.generator
        self.seed(images_seen, attempt)
        draw = draw_for(self.fabric, self.generator)
        with torch.no_grad():
            logits = self.trained.classifier(photos)
        p = logits.softmax(1)
        judged = images_seen >= o.adversarial_from_images
        self.trained.discriminator.requires_grad_(False)
        w = self.trained.encoder(photos)
        redrawn = g.synthesis(g.style(w, self.hide(p, draw)), draw)
        losses = self.reconstruction(photos, redrawn, w, logits)
        self._descend(sum(losses.values()), "generator", "encoder")
        if not judged:
            return losses
        fakes = g.synthesis(self.from_noise(p, draw), draw)
        verdict = self.trained.discriminator(self.augment(fakes, draw), p)
        self._descend(o.adversarial_weight * generator_loss(verdict), "generator")
        self.trained.discriminator.requires_grad_(True)
        with torch.no_grad():
            fakes = g.synthesis(self.from_noise(p, draw), draw)
        losses |= self.judge(photos, fakes, p, p, draw)
        if (images_seen // o.batch) % o.r1_interval_steps == 0:
            penalty = r1_penalty(self.trained.discriminator, photos, p)
            losses["r1"] = 0.5 * o.r1_gamma * o.r1_interval_steps * penalty
        self._descend(losses["d"] + losses.get("r1", 0), "discriminator")
        return losses


def grouped(self: ops.ModulatedConv, x: Tensor, style: Tensor, *, gain: float = 1.0) -> Tensor:
    """Per-sample weights in one grouped convolution."""
    n, _, h, width = x.shape
    weight = self.weight[None] * self.scale * style[:, None, :, None, None]
    if self.demodulate:
        weight = weight * (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    weight = (weight * gain).flatten(0, 1)
    padding = self.weight.shape[-1] // 2
    y = F.conv2d(x.reshape(1, -1, h, width), weight, padding=padding, groups=n)
    return y.view(n, -1, h, width)


def main() -> None:
    """Every case, plain and ours by turns."""
    torch.manual_seed(0)
    native = quick_bf16("cpu")
    peaks = {"fp32": convolution_peak(torch.float)}
    peaks |= {"bf16": convolution_peak(torch.bfloat16)} if native else {}
    result: dict[str, Any] = {"threads": torch.get_num_threads()}
    result |= {f"peak_gflops_{name}": peak / 1e9 for name, peak in peaks.items()}
    for name, changed in CASES.items():
        result[name] = case(name, changed, peaks)
        print(name, {k: v for k, v in result[name].items() if k != "parts"})
        write_result("training_speed", made([0]) | result)


def case(name: str, changed: dict[str, Any], peaks: dict[str, float]) -> dict[str, Any]:
    """Images a second of each precision and of the plain step, medians over rounds in turns."""
    steps = {kind: prepared(Step, name, changed, kind)[0] for kind in peaks}
    steps["plain"], photos, logits = prepared(Plain, name, changed, "fp32")
    speeds: dict[str, list[float]] = {kind: [] for kind in steps}
    for turn in range(ROUNDS + 1):
        for kind, step in steps.items():
            with as_plain(kind == "plain"):
                rate = images_per_second(step, photos, logits)
            if turn:  # the first only warms up
                speeds[kind].append(rate)
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = Untracked()
    with counter:
        for number in range(STEPS):
            steps["fp32"](photos, logits, images_seen=number * len(photos))
    flops = counter.get_total_flops() / STEPS / len(photos)
    best = max(peaks, key=lambda kind: statistics.median(speeds[kind]))
    rate, base = (statistics.median(speeds[kind]) for kind in (best, "plain"))
    ratios, same = (
        [a / b for a, b in zip(speeds[kind], speeds["plain"], strict=True)]
        for kind in (best, "fp32")
    )
    shares = {kind: flops * statistics.median(speeds[kind]) / peaks[kind] for kind in peaks}
    bf16 = {"peak_share_bf16": shares.get("bf16")}
    return {
        "precision": best,
        "images_per_second": rate,
        **{f"images_per_second_{kind}": statistics.median(speeds[kind]) for kind in peaks},
        "baseline_images_per_second": base,
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "ratio_same_precision": statistics.median(same),
        "ratio_same_precision_low": min(same),
        "ratio_same_precision_high": max(same),
        "flops_per_image": flops,
        "peak_share": shares["fp32"],
        **(bf16 if "bf16" in shares else bf16 | {"why_peak_share_bf16": NOT_NATIVE}),
        "parts": parts(steps["fp32"], photos, logits),
    }


def prepared(
    kind: type[Step], name: str, changed: dict[str, Any], precision: Any
) -> tuple[Step, Tensor, Tensor]:
    """Untrained networks at 32 px, the defaults of training, a batch of drawn photos."""
    defaults = {k: v for k, v in (train.__kwdefaults__ or {}).items()}
    never = 10**9 if name == "alone" else 0
    settings = defaults | {"resolution": 32, "channels": 3, "adversarial_from_images": never}
    settings |= {k: v for k, v in changed.items() if v is not None}
    fabric = start(device="cpu", precision=precision)
    classifier = Classifier(SmallNet(3, 2, resolution=32).eval(), classes=("no", "yes"), size=32)
    draw = torch.Generator().manual_seed(0)
    photos = LEAVES.render(LEAVES.sample(settings["batch"], draw), resolution=32)
    logits = classifier(photos).detach()
    distance = perceptual_distance("classifier", classifier)
    settings["perceptual"] = "lpips"  # so that KL and distance are two passes, as with LPIPS
    step = plan.first_step(
        fabric, classifier, distance, SimpleNamespace(**settings), logits.softmax(1).mean(0)
    )
    if kind is Plain:
        step.__class__ = Plain
        for network in step.optimisers:
            for group in step.optimisers[network].param_groups:
                group["fused"], group["foreach"] = False, False
    return step, photos, logits


class Untracked:
    """For the counter's tracker of modules, whose hooks do not bear R1's inner gradient."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None:
        """Nothing to begin."""

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""


class as_plain:
    """Grouped convolutions and NCHW while it lasts."""

    def __init__(self, on: bool):
        self.on, self.forward = on, ops.ModulatedConv.forward

    def __enter__(self) -> None:
        """Put the plain convolution in."""
        if self.on:
            ops.ModulatedConv.forward = grouped

    def __exit__(self, *_: object) -> None:
        """Take it out."""
        ops.ModulatedConv.forward = self.forward


def images_per_second(step: Step, photos: Tensor, logits: Tensor) -> float:
    """Over one round."""
    began = time.perf_counter()
    for number in range(STEPS):
        step(photos, logits, images_seen=number * len(photos))
    return STEPS * len(photos) / (time.perf_counter() - began)


def parts(step: Step, photos: Tensor, logits: Tensor) -> dict[str, float]:
    """Seconds of a batch through each part, forward and backward, median of nine."""
    model, p = step.trained, logits.softmax(1)
    g = model.generator
    for network in (model.generator, model.encoder, model.discriminator):
        network.requires_grad_(True)
    styles = g.style(model.encoder(photos), p).detach().requires_grad_()
    images = photos.clone().requires_grad_()
    runs: dict[str, Callable[[], Tensor]] = {
        "encoder": lambda: model.encoder(images),
        "synthesis": lambda: g.synthesis(styles),
        "mapping": lambda: g.mapping(torch.randn(len(p), g.latent)),
        "discriminator": lambda: model.discriminator(images, p),
        "classifier": lambda: model.classifier(images),
        "perceptual": lambda: step.distance(photos, images),
    }
    return {name: _median(lambda run=run: run().sum().backward()) for name, run in runs.items()}


def convolution_peak(dtype: torch.dtype) -> float:
    """Floating-point operations a second of the best dense 3x3 convolution."""
    best = 0.0
    for channels, side in ((64, 32), (128, 16), (128, 32), (256, 16)):
        conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        conv = conv.to(dtype).to(memory_format=torch.channels_last)
        x = torch.randn(16, channels, side, side, dtype=dtype)
        x = x.to(memory_format=torch.channels_last)
        with torch.no_grad():
            seconds = _median(lambda conv=conv, x=x: conv(x))
        best = max(best, 2 * 9 * channels**2 * side**2 * 16 / seconds)
    return best


def _median(run: Callable[[], object]) -> float:
    times = []
    for _ in range(9):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


if __name__ == "__main__":
    main()
