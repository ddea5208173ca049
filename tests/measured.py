"""What `stylex evaluate` would write about a made-up run: closed numbers for pages and tables."""

from typing import Any

NO, YES = "healthy", "sick"
KINDS = ("own", "mean_w", "other_w", "swapped_p", "mean_p")
PAIR = f"{NO}->{YES}"
PASSED = {
    "moves the class": "its effect on test images is 0.61 logits at the lower 95 % bound, wanted "
    "0.20",
    "survives noise": "under noise of 0.05 it keeps 0.91 of its effect, wanted 0.50",
    "survives blur": "under a blur it keeps 0.82 of its effect, wanted 0.50",
    "seen by the panel": "in standard deviations of the logits the judges move 0.73 times as far "
    "as the classifier, wanted 0.25",
    "comes through w": "0.14 of its coordinate's range come from the condition p, allowed 0.50",
    "stays in the data": "D finds the edits as real as photos 0.97 times as often as the unedited "
    "images, wanted 0.50",
    "drawn again": "of the edit 0.78 comes back where the model draws the edited image again, "
    "wanted 0.50",
    "found again": "0.86 of the searches on resampled images find it again, wanted 0.50",
}


def attribute(target: int, rank: int, coordinate: int, direction: int = 1, **other) -> dict:
    """The evidence of an attribute that passes every gate, but for what is said otherwise."""
    gates = [{"name": name, "passed": True, "says": says} for name, says in PASSED.items()]
    evidence = {
        "target": target,
        "rank": rank,
        "coordinate": coordinate,
        "direction": direction,
        "effect": 0.83,
        "low": 0.61,
        "high": 1.02,
        "noise": 0.91,
        "blur": 0.82,
        "panel": 0.73,
        "from_p": 0.14,
        "usual": 0.95,
        "usual_before": 0.98,
        "still_usual": 0.97,
        "comes_back": 0.78,
        "returns": 0.86,
        "flipped": 0.07,
        "effects": [-0.44, 0.83],
        "overlap": 0.37,
        "own_return": 0.42,
        "other_return": -0.11,
        "other_coordinate": 301,
        "gates": gates,
        "trusted": True,
        "artefact": False,
    }
    return evidence | other


def smudge(target: int, rank: int, coordinate: int, direction: int = 1) -> dict:
    """The evidence of an attribute that lives on the finest pattern."""
    says = "under a blur it keeps 0.02 of its effect, wanted 0.50"
    gates = [
        {"name": name, "passed": name != "survives blur", "says": text}
        for name, text in (PASSED | {"survives blur": says}).items()
    ]
    verdict = {"gates": gates, "trusted": False, "artefact": True}
    return attribute(target, rank, coordinate, direction, blur=0.02, **verdict)


def flips(*shares: float, **other) -> dict[str, Any]:
    """One pair of classes; random coordinates flip nothing but for the last number."""
    n = len(shares)
    return {
        "images": 96,
        "countable": 88,
        "flipped": list(shares),
        "low": [0.8 * share for share in shares],
        "high": [1.2 * share for share in shares],
        "confirmed": [0.5 * share for share in shares],
        "perceptual": [0.01 * i for i in range(1, n + 1)],
        "usual": [0.96] * n,
        "random": [0.0] * (n - 1) + [0.03],
        "random_confirmed": [0.0] * (n - 1) + [0.01],
        "random_perceptual": [0.02 * i for i in range(1, n + 1)],
    } | other


def evaluated(**other) -> dict[str, Any]:
    """All groups of an evaluation with two judges; some of them otherwise."""
    sets = {"reconstruction": 0.31, "noise": 0.42, "pca128": 0.53, "real_halves": 0.0021}
    substrate = {"l1": 0.13, "l1_pca128": 0.082, "l1_pca512": 0.041, "perceptual": 0.11}
    substrate |= {"perceptual_pca128": 0.129, "perceptual_pca512": 0.058}
    substrate |= {"kid": sets, "frechet64": {name: 10 * its for name, its in sets.items()}}
    substrate |= {"latent_gap": {"mean": 0.25, "covariance": 0.75}}
    substrate |= {"features": "squeezenet1_1", "perceptual_kind": "lpips-squeeze"}
    shares = dict(zip(KINDS, (0.95, 0.61, 0.6, 0.48, 0.86), strict=True))
    agreement = {**shares, "chance": 0.5, "kl": 0.081}
    agreement["kl_of"] = dict(zip(KINDS, (0.081, 0.72, 0.73, 1.94, 0.22), strict=True))
    panel = {"judges": 2, "sources": ["network", "probe"], "accuracies": [0.94, None]}
    panel |= {"ceiling": 0.92, "ceiling_low": 0.88, "ceiling_high": 0.94, "chance": 0.51}
    panel |= {"reconstruction": 0.83, "share": 0.9, "countable": 184}
    necessity = {"coordinates": 17, "gone": 0.35, "flipped": 0.12}
    necessity |= {"random_gone": 0.02, "random_flipped": 0.04}
    strengths = [0.25, 0.5, 1.0, 1.5, 2.0]
    table = {
        "evaluated": {"date": "2026-01-04T09:30:00+00:00", "machine": "one", "seconds": 81.5}
        | {"images": 200, "seed": 0},
        "substrate": substrate,
        "agreement": agreement,
        "panel": panel,
        "sufficiency": {PAIR: flips(0.1, 0.2, 0.29)},
        "sufficiency_percentile": {PAIR: flips(0.05, 0.08, 0.13)},
        "strength": {
            "strengths": strengths,
            "flipped": {PAIR: [0.04, 0.11, 0.29, 0.47, 0.66]},
            "perceptual": {PAIR: [0.01, 0.02, 0.03, 0.05, 0.09]},
        },
        "subset": {PAIR: {"images": 40, "flipped": 0.325, "sizes": [1, 2, 2, 5]}},
        "necessity": necessity,
        "participation_ratio": {NO: 141.2, YES: 97.4},
        "attributes": [attribute(1, 1, 77), smudge(1, 2, 301, 0)],
        "stability": {"rank_biased_overlap": 0.64, "low": 0.41, "high": 0.83, "draws": 40},
        "verdicts": [],
    }
    return table | other
