"""What each batch is divided into, and which options make sense."""

import math
from types import SimpleNamespace
from typing import NamedTuple

from stylex.ops import group_size

SHARES = ("hide_p", "noise_share", "mixing", "hybrid_share", "decay_share")
PARTS = ("judged_share", "kl_share")  # never nothing: means are taken over them
COUNTS = (
    *("batch", "total_images", "ema_images"),
    *("r1_interval_steps", "path_interval_steps", "thin_interval_steps", "thin_free"),
)
INTERVALS = ("log_images", "snapshot_images", "checkpoint_images")


class Parts(NamedTuple):
    """How many of a batch's images each part takes; it takes the first ones."""

    batch: int
    judged: int  # D sees them
    noise: int  # of those judged: not redrawn, but from noise or hybrids
    hybrids: int  # of the noise, the last ones
    compared: int  # by their KL
    quarter: int
    half: int


def check(options: SimpleNamespace) -> None:
    """Refuse options that make no sense, in one line.

    Raises:
        ValueError: a count below 1, a share that is none, or one image where two are compared.
    """
    for name in (*COUNTS, *INTERVALS):
        if (value := getattr(options, name)) < 1:
            raise ValueError(f"{name} is {value}; wanted at least 1, raise it")
    if options.tied_weight and options.batch < 2:
        raise ValueError(
            "batch is 1; wanted two or more, which tied_weight compares, or a tied_weight of 0"
        )
    if options.thin_weight and options.batch < 2:
        raise ValueError(
            "batch is 1; wanted two or more, whose spread thin_weight needs, or a thin_weight of 0"
        )
    for name in (*SHARES, *PARTS):
        value = getattr(options, name)
        if not 0 <= value <= 1 or (name in PARTS and not value):
            wanted = "above 0 and at most 1" if name in PARTS else "from 0 to 1"
            raise ValueError(f"{name} is {value}; wanted a share {wanted}, change it")


def parts_of(options: SimpleNamespace, *, ranks: int = 1) -> Parts:
    """What one of so many processes takes; together they take what one alone would.

    Raises:
        ValueError: the processes cannot share a part evenly, or not without dividing a group of
            D's minibatch deviation.
    """
    o = options
    judged = math.ceil(o.batch * o.judged_share)
    noise = round(judged * o.noise_share)
    whole = Parts(
        batch=o.batch,
        judged=judged,
        noise=noise,
        hybrids=round(noise * o.hybrid_share),
        compared=math.ceil(o.batch * o.kl_share),
        quarter=math.ceil(o.batch / 4),
        half=max(1, o.batch // 2),
    )
    for name, count in whole._asdict().items():
        wanted = ranks * (group_size(count) if name == "judged" else 1)
        if count % wanted:
            raise ValueError(
                f"{ranks} processes share {count} images ({name}, of a batch of {o.batch}); "
                f"wanted a multiple of {wanted}, change the batch, its shares or the processes"
            )
    return Parts(*(count // ranks for count in whole))
