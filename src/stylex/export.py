"""A finished run to give away: half-precision weights, what was found, and a model card.

What comes out is a run itself: `stylex explain` and `stylex report` work on it.
"""

import re
import shutil
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from stylex import runs
from stylex.notes import name_attributes, name_evidence, read_notes
from stylex.page import duration
from stylex.proof import measures
from stylex.runs import Run, read_json, read_lines, read_tensors
from stylex.standing import counted, effect, standing, title

Json = Mapping[str, Any]
SHOWN = 10  # attributes in a card
# of a snapshot, by their names in a card; agreement never without its floors
CURVE = {"images": "images_seen", "L1": "l1", "perceptual": "perceptual"}
CURVE |= {"agreement": "agreement", "mean w": "agreement_mean_w", "other w": "agreement_other_w"}
CURVE |= {"swapped p": "agreement_swapped_p", "mean p": "agreement_mean_p", "chance": "chance"}
CURVE |= {"KID": "kid", "KID from noise": "kid_noise"}
FOLDERS = re.compile(r"(?<![\w:/.])(?:[A-Za-z]:)?[/\\](?:[^\s/\\]+[/\\])+")  # of absolute paths
COPIED = ("search", "search_tensors", "metrics", "log", "attributes", "notes", "classifier")


def export(*, run: str, out: str, images: str, without_classifier: bool = False) -> None:
    """Copy what explaining needs into a directory that can be given away, with a model card.

    Names and notes go along (notes.json): read them first, they may hold personal remarks.

    Args:
        run: directory of a run that has been searched and evaluated.
        out: directory to write; it must be new or empty.
        images: where the images come from and on what terms, one sentence for the card.
        without_classifier: leave the classifier's weights out; whoever explains then gives it by
            --classifier.
    """
    files, to = Run.open(run), Run(out)
    for name in ("model", "search", "metrics"):
        if not getattr(files, name).is_file():
            raise FileNotFoundError(f"{run} is not finished: search and evaluate it first")
    if says := runs.outgrown(files):
        raise ValueError(says)
    if "evaluated" not in read_json(files.metrics):
        raise ValueError(f"{run} was not evaluated: `stylex evaluate --run {run}` does it")
    if to.path.exists() and any(to.path.iterdir()):
        raise ValueError(f"{out} is not empty; give a new directory")
    to.path.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        if not (name == "classifier" and without_classifier):
            _copy(getattr(files, name), getattr(to, name))
    if sheet := files.last_sheet():
        _copy(sheet, to.sheets / sheet.name)
    name_attributes(out)
    for path in (to.metrics, *to.classifier.glob("*.json"), *to.attributes.glob("*/*.json")):
        runs.write_json(path, _without_paths(read_json(path)))
    about, metrics = bare(files, to), read_json(to.metrics)
    name_evidence(metrics, read_notes(out))
    log = read_lines(files.log)
    picture = str((to.sheets / sheet.name).relative_to(to.path)) if sheet else ""
    to.card.write_text(card(about, metrics, log, images=images, sheet=picture), encoding="utf-8")
    size = sum(f.stat().st_size for f in to.path.rglob("*") if f.is_file()) / 1e6
    print(f"written: {out}, {size:.1f} MB; read {to.card}")


def bare(files: Run, to: Run) -> Json:
    """Write the networks alone, in half precision, and what they are, which is returned.

    Another training can begin with them.
    """
    to.path.mkdir(parents=True, exist_ok=True)
    save_file({k: _half(v) for k, v in read_tensors(files.model).items()}, to.model)
    about = _without_paths(read_json(files.about))
    runs.write_json(to.about, about)
    return about


def card(about: Json, metrics: Json, log: list[Any], *, images: str, sheet: str = "") -> str:
    """The model card, in Markdown; every number is the run's own."""
    parts = (_head(about, images, sheet), _evidence(metrics, log), _curve(log), _recipe(about))
    return "\n".join(line for part in parts for line in part)


def _head(about: Json, images: str, sheet: str) -> Iterator[str]:
    classes = ", ".join(about["classes"])
    yield f"# StylEx of a classifier with the classes {classes}\n"
    yield f"{about['resolution']} px, {about['images_seen']:,} images seen, seed {about['seed']}, "
    if before := about.get("begins_after"):
        yield f"begun with networks that another training had shown {before:,} images, "
    total = about["settings"]["total_images"]
    yield f"{duration(about['hours'])} on {about['machine']}, {about['created'][:10]}.\n"
    if about["images_seen"] < total:
        yield f"Stopped on the way to {total:,} images: what the last of them bring is missing.\n"
    yield f"Images: {images}\n"
    yield "An attribute moves *this* classifier's decision. It says nothing about the world:"
    yield "a class is what the classifier perceives, and nothing about a person, a plant or an eye"
    yield "may be concluded from it. The coordinates found are not the only ones.\n"
    if sheet:
        yield f"![Photos, reconstructions and floors]({sheet})\n"


def _evidence(metrics: Json, log: list[Any]) -> Iterator[str]:
    yield "## Evidence, on test images\n"
    for verdict in metrics.get("verdicts") or []:
        yield f"* **{verdict['name']}**: {verdict['says']}"
    last = next((line["health"] for line in reversed(log) if "health" in line), [])
    for finding in last:
        yield f"* **{finding['name']}**: {finding['says']}"
    yield "\n| measure | value | floor |\n|---|---|---|"
    for row in measures(metrics):
        yield f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"
    attributes = metrics.get("attributes") or []
    yield f"\n## Attributes\n\n{counted(attributes)}\n"
    yield "| attribute | standing | effect in logits, 95 % interval |\n|---|---|---|"
    for one in attributes[:SHOWN]:
        name = escape(title(metrics, one)).replace("|", "/")
        yield f"| {name} | {standing(one)} | {effect(one)} |"
    yield ""


def _curve(log: list[Any]) -> Iterator[str]:
    """What the snapshots said while images were seen."""
    yield "## Training, on search images\n"
    yield f"| {' | '.join(CURVE)} |\n|{'---|' * len(CURVE)}"
    for line in (line for line in log if "measures" in line):
        said = {"images_seen": line["images_seen"], **line["measures"]}
        yield f"| {' | '.join(_shown(said.get(key)) for key in CURVE.values())} |"
    yield ""


def _shown(value: int | float | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _recipe(about: Json) -> Iterator[str]:
    yield "## Recipe\n"
    yield f"StylEx {about['stylex']}; data {about['data']['hash'][:12]}, "
    yield f"{about['data']['counts']}; classifier {about['classifier']['hash'][:12]}. Weights in"
    yield "half precision. Settings:\n\n```"
    yield "\n".join(f"{name} = {value}" for name, value in about["settings"].items())
    yield "```"


def _copy(source: Path, to: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, to)
    elif source.is_file():
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, to)


def _half(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.half() if tensor.is_floating_point() else tensor


def _without_paths(told: Any) -> Any:
    """Where things lay on the machine that trained is nobody's business: names only."""
    if isinstance(told, str):
        return FOLDERS.sub("", told)
    if isinstance(told, list):
        return [_without_paths(value) for value in told]
    if not isinstance(told, dict):
        return told
    kept: dict[str, Any] = {}
    for key, value in told.items():
        if key in ("source", "begin_with") and isinstance(value, str):
            kept[key] = Path(value).name
        elif key == "group":  # an expression may look like a path
            kept[key] = value
        elif key == "sources":  # of judges
            kept[key] = [Path(source).name for source in value]
        elif key == "against":  # other runs
            kept[key] = {f"{i} {Path(run).name}": v for i, (run, v) in enumerate(value.items(), 1)}
        else:
            kept[key] = _without_paths(value)
    return kept
