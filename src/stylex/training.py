"""Training: photos and a classifier in, a run directory out; `loop` goes through it."""

from pathlib import Path
from types import SimpleNamespace

from stylex import plan
from stylex.classifier import Classifier
from stylex.data import read_splits
from stylex.loop import MAY_CHANGE, Training
from stylex.losses import Perceptual, perceptual_distance
from stylex.model import StylEx
from stylex.parallel import Precision, start
from stylex.parts import check, parts_of
from stylex.rounding import round_products
from stylex.runs import Run

NOT_SETTINGS = ("data", "classifier", "run", "budget")


def train(
    data: str | Path,
    classifier: Classifier,
    *,
    run: str | Path,
    resolution: int = 64,
    channels: int | None = None,
    width: float = 1.0,
    total_images: int = 500_000,
    budget: str | None = None,
    begin_with: str | Path | None = None,
    batch: int = 16,
    group: str | None = None,
    flips: bool = False,
    condition: bool = True,
    hide_p: float = 0.5,
    judged_share: float = 0.5,
    noise_share: float = 0.5,
    mixing: float = 0.5,
    layer_noise: bool = False,
    rgb_styles: bool = False,
    hybrid_share: float = 0.5,
    l1_weight: float = 3.0,
    perceptual: Perceptual = "lpips",
    perceptual_weight: float = 1.0,
    w_weight: float = 0.1,
    kl_weight: float = 1.0,
    kl_share: float = 1.0,
    loudness: float = 1.0,
    adversarial_weight: float = 0.1,
    adversarial_from_images: int | None = None,
    r1_gamma: float = 0.1,
    r1_interval_steps: int = 16,
    path_weight: float = 0.0,
    path_interval_steps: int = 8,
    few_weight: float = 0.0003,
    tied_weight: float = 1.0,
    thin_weight: float = 0.0,
    thin_free: float = 10.0,
    thin_interval_steps: int = 4,
    thin_spoilt: bool = False,
    augment: bool = True,
    rate: float = 0.006,
    encoder_rate: float = 0.003,
    discriminator_rate: float = 0.01,
    decay_share: float = 0.3,
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
        budget: a time such as 2h or 90m instead: as many images as fit, measured at the start.
        begin_with: a run of the same shape, around any classifier or none, whose networks this one
            begins with instead of random ones.
        batch: images per step, over all processes.
        group: regular expression on names; images with the same match stay in one split.
        flips: also show mirrored images; leave off where left and right mean something.
        condition: tell generator and D the photo's p; off, neither depends on any p. With a KL
            weight of 0 and a perceptual distance other than the classifier's, the classifier then
            has no part in the training.
        hide_p: share of the encoder passes that get the mean p, so that the class comes through w.
        judged_share: share of each batch that D sees: it costs most and learns soonest.
        noise_share: share of the adversarial images drawn from noise; the rest are reconstructions.
        mixing: share of the noise images that change w between two layers.
        layer_noise: noise in every layer (StyleGAN2's); off, where it would show as dots.
        rgb_styles: ToRGB has its own styles for each image (StyleGAN2's). AttFind does not search
            them; off, all that images differ in goes through coordinates that are searched.
        hybrid_share: share of the noise images replaced by hybrids: photos' styles with some
            coordinates of other photos, so that D sees what edits look like; 0 is the paper's.
        l1_weight: weight of |x' - x|.
        perceptual: lpips (squeeze), classifier (features of the explained one) or none.
        perceptual_weight: its weight (the paper's: 0.1 of LPIPS).
        w_weight: weight of |E(x') - E(x)|.
        kl_weight: weight of KL(C(x) || C(x')).
        kl_share: share of each batch whose KL is taken; lower it where the classifier is slow.
        loudness: longest gradient that KL and perceptual distance may send into an image, in
            lengths of |x' - x|'s; without a limit (0) they can hold a run on the mean image.
        adversarial_weight: weight of the generator's adversarial loss (the paper's: 1).
        adversarial_from_images: images before D and the noise pass begin; two fifths by default,
            at once where another run's networks begin.
        r1_gamma: R1 weight of D.
        r1_interval_steps: steps between R1 penalties.
        path_weight: weight of path-length regularisation; 0 leaves it out.
        path_interval_steps: steps between path-length penalties.
        few_weight: weight of the number of coordinates that vary, so that few do and each draws
            much; 0 leaves it out (the paper's).
        tied_weight: weight of the energy distance between M(z) and E(x), so that noise images lie
            where photos do; 0 leaves it out (the paper's).
        thin_weight: weight of the log of how many coordinates carry the class, so that few do; from
            the image where D begins; 0 leaves it out (the paper's).
        thin_free: as many coordinates may carry it for nothing.
        thin_interval_steps: steps between these penalties.
        thin_spoilt: take these effects through blur and noise, which adversarial dust does not
            survive.
        augment: DiffAugment on what D sees.
        rate: Adam's rate of the generator.
        encoder_rate: Adam's rate of the encoder (at the generator's rate it spikes: trap 4).
        discriminator_rate: Adam's rate of D.
        decay_share: share of the training, at its end, in which all rates fall to zero.
        clip: largest norm of one network's gradient.
        ema_images: half-life of the weight average in images.
        log_images: images between log lines.
        snapshot_images: images between contact sheets, measures and health.
        checkpoint_images: images between checkpoints.
        seed: of the initial weights and every draw; the split does not depend on it.
        device: auto, cpu, cuda or mps.
        precision: auto is bf16 where that is quicker, else fp32.

    Returns:
        The averaged networks, ready to explain.

    Raises:
        FileNotFoundError: there is no such data.
        ValueError: too few usable images, wrong options, a run that was begun with others, or
            losses that are not finite again and again.
    """
    settings = {k: v for k, v in locals().items() if k not in NOT_SETTINGS}
    check(SimpleNamespace(**settings))
    fabric = start(device=device, precision=precision)
    parts_of(SimpleNamespace(**settings), ranks=fabric.world_size)  # before anything is read
    classifier.to(fabric.device)
    splits = read_splits(data, resolution=resolution, channels=channels, group=group, seed=seed)
    settings["channels"] = splits["train"].channels
    files = Run(run)
    if begin_with:
        settings["begin_with"] = str(begin_with)
        settings["adversarial_from_images"] = adversarial_from_images or 0
        if not plan.begun(files):
            plan.check_first(begin_with, settings)
    distance = perceptual_distance(perceptual, classifier)
    settings, says = plan.length(
        fabric, files, classifier, splits, distance=distance, settings=settings, budget=budget
    )
    binding = {"may_change": MAY_CHANGE, "writes": fabric.is_global_zero}
    settings = plan.begin(files, data, splits, classifier, settings, **binding)
    given = {"distance": distance, "options": SimpleNamespace(**settings), "says": says}
    training = Training(fabric, files, classifier, splits, **given)
    try:
        training.resume()
        training.loop()
    finally:
        round_products(False)
    return training.finish()
