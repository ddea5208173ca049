"""Racing: tell the best of many moves before each was measured on every image.

A move's mean over some images is its foretold mean over all of them, corrected by what measuring
found different on a few: the prediction is the control variate. A move that cannot be the best any
more is not measured further (Maron and Moore, "Hoeffding Races", NIPS 1993; here with Student's t
in place of a bound that holds for any distribution, which would save nothing below thousands of
images). What it promises is therefore asymptotic.
"""

import torch
from jaxtyping import Bool, Float
from scipy.special import stdtrit
from torch import Tensor

FIRST = 8  # images on which every contender is measured


def estimate(
    told: Float[Tensor, "n m"],
    true: Float[Tensor, "n m"],
    known: Bool[Tensor, "n m"],
    *,
    risk: float,
) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
    """Means of moves over all images, and how far off each may be.

    Args:
        told: foretold, on every image.
        true: measured; read where `known` says so.
        known: which ones were measured, of each move on images drawn at random.
        risk: chance that a mean is further off than told, to one side.

    Returns:
        Means, exact where a move is known on all images, and margins: 0 there, infinite where it is
        known on fewer than two.
    """
    count = known.sum(0)
    off = torch.where(known, true - told, 0.0).double()
    mean = told.double().mean(0) + off.sum(0) / count.clamp(min=1)
    spread = torch.where(known, off - off.sum(0) / count.clamp(min=1), 0.0).square().sum(0)
    spread = spread / (count - 1).clamp(min=1)
    rest = 1 - count / len(known)  # drawn without replacement: what is all known has no error
    wide = torch.from_numpy(stdtrit((count - 1).clamp(min=1).cpu().numpy(), 1 - risk)).to(mean)
    margin = wide * (spread * rest / count.clamp(min=1)).sqrt()
    margin[count < 2] = torch.inf
    margin[count == len(known)] = 0.0
    return mean, margin


def contenders(
    mean: Float[Tensor, " m"], margin: Float[Tensor, " m"], inside: Bool[Tensor, " m"]
) -> Bool[Tensor, " m"]:
    """Those of the moves inside that may still have the largest mean."""
    least = (mean - margin)[inside].max()
    return inside & (mean + margin >= least)
