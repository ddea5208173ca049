"""The table of the real domains from what their runs wrote, and their pictures for the docs.

    python benchmarks/real_domains.py [leaves leaves-64 ...]     # after benchmarks/real_domains.sh

Writes benchmarks/results/real_domains.json and docs/images/, prints a table for docs/results.md.
Rows of runs that are not named stay as they are, each with how it was made.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

from evidence import HIDDEN, shown, summary
from made import last_result, made, write_result
from PIL import Image

from stylex.metrics import interval
from stylex.runs import EXPLANATION, SPRITE, STRIP, Run, read_json, read_lines

IMAGES = Path(__file__).parents[1] / "docs" / "images"
DOMAINS = ("leaves", "faces", "retina", "digits")
NO_CONTROL = "no run of the same budget without the classifier lay beside it"
OLD_SHARE = "evaluated before flips were counted on the images that judges can confirm"
ROWS = {
    "images seen": ("images_seen",),
    "hours, and where": ("core_hours", "trained_on"),
    "L1 / PCA-128": ("l1", "l1_pca128"),
    "LPIPS / PCA-128": ("lpips", "lpips_pca128"),
    "panel, share of its ceiling": ("panel_share",),
    "agreement": ("agreement",),
    "... mean w / other w / swapped p / mean p / chance": tuple(f"agreement_{k}" for k in HIDDEN),
    "flipped by ten / random ten": ("sufficiency10", "random"),
    "... at the 2nd to 98th percentile": ("sufficiency10_percentile",),
    "confirmed by the panel, share of the flips": ("confirmed_share",),
    "confirmed, of all": ("confirmed_flips",),
    "... images of all pairs together, 95 % interval": (
        *("confirmed_pooled", "confirmed_pooled_low", "confirmed_pooled_high"),
    ),
    "... without the classifier in training": (
        "confirmed_flips_no_classifier",
        "confirmed_flips_no_classifier_low",
        "confirmed_flips_no_classifier_high",
    ),
    "participation ratio": ("participation_ratio",),
    "trusted / artefacts / all attributes": ("trusted", "artefacts", "attributes"),
    "KID reconstructions / noise / halves of photos": (
        *("kid_reconstruction", "kid_noise", "kid_real_halves"),
    ),
}


def main() -> None:
    """Collect, draw, print."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    names = sys.argv[1:] or [d for d in DOMAINS if Run(Path("runs") / d).metrics.is_file()]
    table = {name: domain(Path("runs") / name) for name in names}
    for name in names:
        copy_pictures(name, Run(Path("runs") / name))
    old = last_result("real_domains")
    rows = {name: row for name, row in old.items() if name not in ("made", *table)}
    kept = {name: {"made": old["made"]} | corrected(row) for name, row in rows.items()}
    write_result("real_domains", made([0]) | kept | table)
    print("| | " + " | ".join(table) + " |\n|---|" + "---|" * len(table))
    for row, keys in ROWS.items():
        cells = (" / ".join(shown(run[key]) for key in keys) for run in table.values())
        print(f"| {row} | " + " | ".join(cells) + " |")


def corrected(row: dict[str, Any]) -> dict[str, Any]:
    """An old row without a share of two shares that were of different images."""
    if "confirmed_share_of" in row or row["confirmed_share"] is None:
        return row
    return row | {"confirmed_share": None, "why_confirmed_share": OLD_SHARE}


def domain(path: Path) -> dict[str, Any]:
    """One run's numbers under the names that outside readers rely on."""
    s, about = summary(str(path)), read_json(Run(path).about)
    curve = [
        {"images_seen": line["images_seen"], **line["measures"]}
        for line in read_lines(Run(path).log)
        if "measures" in line
    ]
    return {
        "resolution": about["resolution"],
        "images_seen": about["images_seen"],
        "core_hours": about["hours"],
        "trained_on": about["machine"],
        "lpips": s["perceptual"],
        "lpips_pca128": s["perceptual_pca128"],
        "l1": s["l1"],
        "l1_pca128": s["l1_pca128"],
        "panel_share": s["panel_share"],
        "agreement": s["own"],
        **{f"agreement_{k}": s[k] for k in HIDDEN},
        "sufficiency10": s["flipped"],
        "sufficiency10_percentile": s["flipped_percentile"],
        "random": s["random"],
        "participation_ratio": s["participation_ratio"],
        **of_flips(read_json(Run(path).metrics)["sufficiency"]),
        "confirmed_flips": s["confirmed"],
        **pooled("confirmed_pooled", path, "no evaluation"),
        **control(path),
        "kid_reconstruction": s["kid"],
        "kid_noise": s["kid_noise"],
        "kid_real_halves": s["kid_photos"],
        **by_pair(read_json(Run(path).metrics)),
        **{k: s[k] for k in ("trusted", "artefacts", "attributes", "verdicts")},
        "settings": about["settings"],
        "curve": curve,
    }


def by_pair(metrics: dict[str, Any]) -> dict[str, Any]:
    """What is told of single pairs and classes; those without an attribute are left out."""
    pairs = {name: metrics.get(name, {}) for name in ("sufficiency", "subset")}
    flipped = {
        name: {pair: its["flipped"] for pair, its in some.items() if its["flipped"] is not None}
        for name, some in pairs.items()
    }
    effects: dict[str, list[float]] = {}
    for one in metrics.get("attributes", ()):
        effects.setdefault(str(one["target"]), []).append(one["effect"])
    return {
        "flipped_by_number": flipped["sufficiency"],  # of attributes, from one on
        "flipped_by_smallest_set": flipped["subset"],
        "effects": effects,  # in logits on test images, by target and rank
    }


def pooled(name: str, path: Path, why: str) -> dict[str, Any]:
    """Confirmed flips of a run, images of all pairs together, with Wilson's interval.

    A pair without attributes flips nothing: its images count as not confirmed.

    Args:
        name: of the share.
        path: of the run.
        why: there is none.
    """
    file = Run(path).metrics
    found = read_json(file).get("sufficiency", {}) if file.is_file() else {}
    countable = sum(pair["countable"] for pair in found.values())
    if not countable:
        return {**dict.fromkeys((name, f"{name}_low", f"{name}_high")), f"why_{name}": why}
    shares = (
        (pair["countable"], (pair.get("confirmed") or [0])[-1] or 0) for pair in found.values()
    )
    flips = round(sum(count * share for count, share in shares))
    low, high = interval(flips, countable)
    seen = read_json(Run(path).about)["images_seen"]
    table = {name: flips / countable, f"{name}_low": low, f"{name}_high": high}
    return table | {f"{name}_of": countable, f"{name}_images_seen": seen}


def of_flips(pairs: dict[str, Any]) -> dict[str, Any]:
    """Share of the flips that the judges confirm, and of how many: images of all pairs together.

    Of images alone that count for both: judge and classifier agreed on them before the edit.
    """
    ends = [pair for pair in pairs.values() if pair["countable"] and pair["flipped"]]
    if any("flipped_countable" not in pair for pair in ends):
        return {"confirmed_share": None, "why_confirmed_share": OLD_SHARE}
    flips, confirmed = (
        sum(round(pair["countable"] * pair[name][-1]) for pair in ends)
        for name in ("flipped_countable", "confirmed")
    )
    if not flips:
        return {"confirmed_share": None, "why_confirmed_share": "nothing was flipped"}
    return {"confirmed_share": confirmed / flips, "confirmed_share_of": flips}


def control(path: Path) -> dict[str, Any]:
    """Confirmed flips without the classifier in training: of that run, or what was told of it.

    Args:
        path: of the run with the classifier; the other one lies beside it, or lay there once.
    """
    name, blind = "confirmed_flips_no_classifier", path.with_name(f"{path.name}-blind")
    then = last_result("real_domains").get(path.name, {})
    if then.get(name) is not None and not Run(blind).metrics.is_file():
        return {k: v for k, v in then.items() if k.startswith(name)}
    return pooled(name, blind, NO_CONTROL)


def copy_pictures(name: str, files: Run) -> None:
    """The last contact sheet, the explanations, and attributes: two of each class, and theirs."""
    sheet = files.last_sheet()
    assert sheet is not None
    shutil.copy(sheet, IMAGES / f"{name}-sheet.png")
    larger = max(2, 96 // read_json(files.about)["resolution"])
    strips = sorted(files.explanations.glob("*"))
    answers = [read_json(folder / EXPLANATION) for folder in strips]
    places = {f"{a['target']}-{step['rank']}" for a in answers for step in a["steps"]["subset"]}
    places |= {folder.name for folder in files.attributes.glob("*-[12]")}
    for folder in (files.attributes / place for place in sorted(places)):
        if (frames := folder / SPRITE).is_file():
            with Image.open(frames) as picture:
                size = (larger * picture.width, larger * picture.height)
                scaled = picture.resize(size, Image.Resampling.NEAREST)
                scaled.save(IMAGES / f"{name}-{folder.name}.png", optimize=True)
    for folder in strips:
        shutil.copy(folder / STRIP, IMAGES / f"{folder.name}.png")


if __name__ == "__main__":
    main()
