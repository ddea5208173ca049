"""The whole method on drawn images whose truth is known: no download, no GPU.

Two of eight factors, drawn by the seed, decide the label. A small classifier learns it, a StylEx
explains the classifier, and readers measure on the edited images which factor each attribute moves.
"""

import io
import time
import zipfile
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from stylex import explaining, runs, showing
from stylex.attfind import Search
from stylex.classifier import ABOUT_FILE, Classifier, load_classifier
from stylex.classifying import train_classifier
from stylex.data import ImageSet, read_splits
from stylex.looking import spread
from stylex.model import StylEx
from stylex.pictures import to_picture
from stylex.report import write_report
from stylex.runs import Run, read_json, write_json
from stylex.shapes import Images, Styles
from stylex.stylespace import shift
from stylex.synthetic import (
    CLASSES,
    FACTORS,
    Reader,
    Rule,
    draw_factors,
    draw_rule,
    factor_changes,
    render,
    train_reader,
)
from stylex.training import train

COUNTS = {"train": 6000, "search": 300, "test": 400}
CLASSIFIER_IMAGES = 30_000  # seen by the small classifier
SEARCHED = 80  # images, of at most 100 promised
FIRST = 4  # attributes that are compared with the planted rule


def demo(*, run: str = "runs/demo", seed: int = 0, total_images: int = 24_000) -> dict[str, Any]:
    """Draw images, train a classifier and a StylEx, search, explain three images, report.

    Args:
        run: directory to write everything into; the same command goes on where it stopped.
        seed: draws the images, the two factors that decide the label, and all else.
        total_images: length of the StylEx's training in images seen.

    Returns:
        The numbers of `demo.json`: found against planted, and how many minutes this call took;
        `resumed` tells that an earlier call had begun the work.
    """
    console, began = Console(soft_wrap=True, highlight=False), time.monotonic()
    files, rule = Run(run), draw_rule(seed)
    table: dict[str, Any] = {"seed": seed, "rule": str(rule), "resumed": files.images.is_file()}
    console.print(f"planted: {rule} (the label is yes where their sum is above its middle)")
    console.print("this takes about 11 minutes on two cores")
    console.print("\n[bold]1. images and classifier[/bold]")
    draw_images(rule, files, seed=seed)
    classifier = small_classifier(files, seed=seed)
    console.print("\n[bold]2. training[/bold]")
    model = train(
        files.images,
        classifier,
        run=run,
        resolution=32,
        total_images=total_images,
        perceptual="classifier",
        seed=seed,
    )
    console.print("\n[bold]3. search[/bold]")
    splits = read_splits(files.images, resolution=32)
    found = search(model, splits["search"], files, console)
    explaining.add_sufficiency(model, splits["test"], found, run)
    console.print("\n[bold]4. three explanations, the report, and what was found[/bold]")
    explain_three(model, splits["test"], found, files)
    table |= compare(model.synthesize, found, rule, train_reader(seed=seed))
    measured = read_json(files.metrics)
    table |= {name: measured[name] for name in ("agreement", "sufficiency10")}
    table["minutes"] = (time.monotonic() - began) / 60
    write_json(files.planted, table)
    console.print(as_table(table))
    console.print(f"agreement of drawn and photo: {showing.agreement_in_words(table['agreement'])}")
    console.print(f"{table['minutes']:.1f} minutes; look at {write_report(run)}")
    return table


def draw_images(rule: Rule, files: Run, *, seed: int) -> None:
    """Write the images of one rule as a zip of `split/class/number.png`, unless it is there."""
    if files.images.is_file():
        return
    draw = torch.Generator().manual_seed(seed)
    with runs.replacing(files.images) as partial, zipfile.ZipFile(partial, "w") as archive:
        for split, count in COUNTS.items():
            factors = draw_factors(count, draw)
            labels = rule.labels(factors).tolist()
            for number, (image, label) in enumerate(zip(render(factors), labels, strict=True)):
                png = io.BytesIO()
                to_picture(image).save(png, "PNG")
                # a fixed date: the same seed gives the same bytes
                name = zipfile.ZipInfo(f"{split}/{CLASSES[label]}/{number:05d}.png")
                archive.writestr(name, png.getvalue())


def small_classifier(files: Run, *, seed: int) -> Classifier:
    """The classifier of the drawn images, trained unless it is there."""
    folder = files.path / "planted-classifier"
    if (folder / ABOUT_FILE).is_file():
        return load_classifier(folder)
    return train_classifier(
        files.images,
        folder,
        resolution=32,
        total_images=CLASSIFIER_IMAGES,
        flips=False,
        seed=seed,
    )


def search(model: StylEx, photos: ImageSet, files: Run, console: Console) -> Search:
    """AttFind on some of the search images, saved and pictured."""
    rows = spread(len(photos), SEARCHED)
    with showing.progress_bar("searching", len(rows), console) as progress:
        found = explaining.search(model, photos.batch(rows), progress=progress)
    found.save(files.path)
    showing.illustrate(model, found, [photos.names[i] for i in rows.tolist()], files.path)
    for says in showing.not_found(found):
        console.print(says)
    return found


def explain_three(model: StylEx, photos: ImageSet, found: Search, files: Run) -> None:
    """Explain three test images towards the class that each is not."""
    if not found.attributes:
        return
    floors = read_json(files.metrics)["agreement"]
    for row in (0, len(photos) // 2, len(photos) - 1):
        photo = photos.batch([row]).to(model.mean_p.device)
        target = 1 - int(model.classifier(photo).argmax())
        answer = explaining.explain(model, photo, found, target=target)
        showing.write_explanation(answer, found, photos.names[row], files.path, floors=floors)


@torch.no_grad()
def compare(
    synthesize: Callable[[Styles], Images], found: Search, rule: Rule, reader: Reader
) -> dict[str, Any]:
    """Which factor each of the first attributes moves most, measured on the edited images.

    Args:
        synthesize: draws styles.
        found: attributes of two classes, which share one ranking.
        rule: what was planted.
        reader: measures the factors.

    Returns:
        `attributes` (rank, changes of every factor in standard deviations, the strongest), the
        share of the deciding factors that are the strongest of some attribute, and the number of
        attributes whose strongest factor decides nothing.
    """
    before, rows = synthesize(found.styles).cpu(), []
    for rank in range(min(FIRST, len(found.towards(1)))):
        after = synthesize(_moved(found, rank)).cpu()
        changes = factor_changes(reader, before, after)
        strongest = int(changes.argmax())
        rows.append(
            {
                "rank": rank + 1,
                "factor": FACTORS[strongest],
                "decides": strongest in rule.deciding,
                "changes": dict(zip(FACTORS, changes.tolist(), strict=True)),
            }
        )
    named = {row["factor"] for row in rows}
    deciding = [FACTORS[k] for k in rule.deciding]
    return {
        "deciding": deciding,
        "attributes": rows,
        "planted_found": sum(name in named for name in deciding) / len(deciding),
        "planted_false": sum(not row["decides"] for row in rows),
    }


def _moved(found: Search, rank: int) -> Styles:
    """Styles under one attribute, each image moved towards the class that it is not."""
    ways = [
        shift(found.styles, a.coordinate, a.direction, found.bounds)
        for a in (found.towards(target)[rank] for target in (0, 1))
    ]
    return torch.where(found.logits.argmax(1)[:, None] == 0, ways[1], ways[0])


def as_table(table: dict[str, Any]) -> Table:
    """Found against planted, for a terminal."""
    shown = Table("attribute", "moves most", "by", "next", "by", "planted?")
    for row in table["attributes"]:
        (first, most), (second, less) = sorted(row["changes"].items(), key=lambda x: -x[1])[:2]
        planted = "yes" if row["decides"] else "no"
        shown.add_row(str(row["rank"]), first, f"{most:.2f} sd", second, f"{less:.2f} sd", planted)
    return shown
