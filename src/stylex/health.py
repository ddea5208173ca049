"""What can go wrong in a training, recognised in its own numbers and said in words.

Each rule reads the measures of one snapshot (and those before it) and speaks only when it is sure
enough to be worth a person's time. The thresholds are ours [O]; none of them changes a result.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from stylex.evidence import FROM_P_ALONE, from_p_alone

Measures = Mapping[str, float]


class Finding(NamedTuple):
    """A short name, what is wrong, and what to try."""

    name: str
    says: str
    advice: str


def stuck_on_mean(now: Measures) -> Finding | None:
    """Trap 5: the reconstruction is hardly closer than the mean image of the data."""
    if now["l1"] < 0.9 * now["l1_mean_image"]:
        return None
    return Finding(
        "stuck on the mean image",
        f"L1 {now['l1']:.3f} is near that of the mean image, {now['l1_mean_image']:.3f}",
        "train on; if it stays, lower --encoder-rate or raise --perceptual-weight",
    )


def class_from_condition(now: Measures) -> Finding | None:
    """Trap 11: the image's own w adds nothing, and the class is lost without the condition."""
    shares = {"mean_w": now["agreement_mean_w"], "mean_p": now["agreement_mean_p"]}
    if not from_p_alone(own=now["agreement"], chance=now["chance"], **shares):
        return None
    return Finding(
        FROM_P_ALONE,
        f"agreement {now['agreement']:.2f}, with the mean w still {now['agreement_mean_w']:.2f}, "
        f"with the mean p only {now['agreement_mean_p']:.2f}",
        "raise --hide-p so that the class must come through w",
    )


def encoder_ignored(now: Measures) -> Finding | None:
    """Another image's w reconstructs the photo as well as its own."""
    if now["l1_other_w"] > 1.1 * now["l1"]:
        return None
    return Finding(
        "encoder ignored",
        f"L1 with another image's w is {now['l1_other_w']:.3f}, with its own {now['l1']:.3f}",
        "train on; if it stays, lower --adversarial-weight or raise --encoder-rate",
    )


def discriminator_won(now: Measures) -> Finding | None:
    """D tells real from fake nearly always: its gradient no longer teaches."""
    if now.get("d_right", 0.0) < 0.98:
        return None
    return Finding(
        "discriminator won",
        f"it is right on {now['d_right']:.0%} of the images",
        "raise --r1-gamma, or lower --discriminator-rate",
    )


def diversity_lost(now: Measures) -> Finding | None:
    """Trap 9: noise samples look alike."""
    if "diversity" not in now or now["diversity"] > 0.4 * now["diversity_photos"]:
        return None
    return Finding(
        "diversity lost",
        f"noise samples differ by {now['diversity']:.3f}, photos by {now['diversity_photos']:.3f}",
        "raise --r1-gamma or --mixing, or lower --adversarial-weight",
    )


RULES: tuple[Callable[[Measures], Finding | None], ...] = (
    stuck_on_mean,
    class_from_condition,
    encoder_ignored,
    discriminator_won,
    diversity_lost,
)


def agreement_falling(history: Sequence[Measures]) -> Finding | None:
    """Agreement is well below what this run had reached."""
    best = max(measures["agreement"] for measures in history)
    now = history[-1]["agreement"]
    if best - now < 0.1:
        return None
    return Finding(
        "agreement falling",
        f"agreement {now:.2f}, it had been {best:.2f}",
        "raise --kl-weight or lower --adversarial-weight",
    )


def check(history: Sequence[Measures]) -> list[Finding]:
    """Every finding about the newest snapshot; `history` is oldest first and not empty."""
    findings = [rule(history[-1]) for rule in RULES] + [agreement_falling(history)]
    return [finding for finding in findings if finding is not None]
