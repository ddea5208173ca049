"""`stylex evaluate` on finished runs, and its main numbers side by side.

    python benchmarks/evidence.py runs/leaves runs/faces runs/demo-0   # evaluated ones stay
    python benchmarks/evidence.py --again runs/leaves

Prints a table for docs/evidence.md and writes benchmarks/results/evidence.json.
"""

import sys
from pathlib import Path
from typing import Any

from made import made, write_result

from stylex import cli
from stylex.runs import Run, read_json

HIDDEN = ("mean_w", "other_w", "swapped_p", "mean_p", "chance")  # floors of the agreement
ROWS = {
    "test images": ("images",),
    "seconds": ("seconds",),
    "L1 (PCA-128, PCA-512)": ("l1", "l1_pca128", "l1_pca512"),
    "perceptual (PCA-128, PCA-512)": ("perceptual", "perceptual_pca128", "perceptual_pca512"),
    "KID of reconstructions (PCA-128, photos)": ("kid", "kid_pca128", "kid_photos"),
    "KID of noise samples": ("kid_noise",),
    "agreement (mean w, other w, swapped p, mean p, chance)": ("own", *HIDDEN),
    "panel with classifier on photos (by chance)": ("ceiling", "panel_chance"),
    "panel on reconstructions, share of that": ("panel_share",),
    "flipped by the first ten, artefacts left out (random)": ("flipped", "random"),
    "... confirmed by the panel": ("confirmed",),
    "... flipped at the 2nd to 98th percentile": ("flipped_percentile",),
    "attributes: trusted, artefacts, all": ("trusted", "artefacts", "attributes"),
    "participation ratio of the effects": ("participation_ratio",),
    "rank-biased overlap of resampled searches": ("rank_biased_overlap",),
    "decision gone with the coordinates at their mean (random)": ("gone", "random_gone"),
    "verdicts": ("verdicts",),
}


def main() -> None:
    """Evaluate what is not evaluated, then sum up."""
    again, paths = "--again" in sys.argv, [a for a in sys.argv[1:] if not a.startswith("--")]
    table = {}
    for path in paths:
        if again or "evaluated" not in read_json(Run.open(path).metrics):
            cli.evaluate(run=path)
        table[Path(path).name] = summary(path)
    write_result("evidence", made([0]) | {"runs": table})
    print("| | " + " | ".join(table) + " |\n|---|" + "---|" * len(table))
    for row, keys in ROWS.items():
        cells = (" / ".join(shown(run[key]) for key in keys) for run in table.values())
        print(f"| {row} | " + " | ".join(cells) + " |")


def summary(path: str) -> dict[str, Any]:
    """The main numbers of one run's metrics; flips are means over the ordered pairs of classes."""
    m, about = read_json(Run(path).metrics), read_json(Run(path).about)
    s, kid, panel = m["substrate"], m["substrate"]["kid"] or {}, m["panel"]
    ratios = list(m["participation_ratio"].values())
    return {
        "images_seen": about["images_seen"],
        "images": m["evaluated"]["images"],
        "seconds": m["evaluated"]["seconds"],
        **{f"{k}{end}": s[f"{k}{end}"] for k in ("l1", "perceptual") for end in FLOORS},
        "perceptual_kind": s["perceptual_kind"],
        "features": s["features"],
        "kid": kid.get("reconstruction"),
        "kid_pca128": kid.get("pca128"),
        "kid_photos": kid.get("real_halves"),
        "kid_noise": kid.get("noise"),
        **{k: m["agreement"][k] for k in ("own", *HIDDEN)},
        "ceiling": panel.get("ceiling"),
        "panel_chance": panel.get("chance"),
        "panel_share": panel.get("share"),
        "flipped": last(m["sufficiency"], "flipped"),
        "random": last(m["sufficiency"], "random"),
        "confirmed": last(m["sufficiency"], "confirmed"),
        "flipped_percentile": last(m["sufficiency_percentile"], "flipped"),
        "trusted": sum(a["trusted"] for a in m["attributes"]),
        "artefacts": sum(a["artefact"] for a in m["attributes"]),
        "attributes": len(m["attributes"]),
        "participation_ratio": sum(ratios) / len(ratios),
        "rank_biased_overlap": m["stability"]["rank_biased_overlap"],
        "gone": m["necessity"]["gone"],
        "random_gone": m["necessity"]["random_gone"],
        "verdicts": [v["name"] for v in m["verdicts"]],
    }


FLOORS = ("", "_pca128", "_pca512")


def last(pairs: dict[str, Any], key: str) -> float | None:
    """The value at the largest number of attributes, mean over the pairs that have one."""
    values = [pair[key][-1] for pair in pairs.values() if pair.get(key)]
    values = [value for value in values if value is not None]
    return sum(values) / len(values) if values else None


def shown(value: Any) -> str:
    """A number with what can be told of it."""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 20 else f"{value:.3g}"
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return "not measured" if value is None else str(value)


if __name__ == "__main__":
    main()
