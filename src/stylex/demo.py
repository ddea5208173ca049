"""The whole method on drawn images whose truth is known: no download, no GPU.

Two of eight factors, drawn by the seed, decide the label. A small classifier learns it, a StylEx
explains the classifier, and readers measure on the edited images which factor each attribute moves.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from stylex import drawing, explaining, showing, telling
from stylex.attfind import Search
from stylex.data import ImageSet, read_splits
from stylex.drawing import draw_images, small_classifier
from stylex.edits import moved
from stylex.ledger import Ledger
from stylex.looking import spread
from stylex.model import StylEx
from stylex.planting import SEARCHED
from stylex.readers import Reader, factor_changes, train_reader
from stylex.report import write_report
from stylex.runs import Run, read_json, write_json
from stylex.scenes import LEAVES
from stylex.shapes import Images, Styles
from stylex.synthetic import Rule, draw_rule
from stylex.training import train

FIRST = 4  # attributes that are compared with the planted rule


def demo(*, run: str = "runs/demo", seed: int = 0, total_images: int = 50_000) -> dict[str, Any]:
    """Draw images, train a classifier and a StylEx, search, explain three images, report.

    Args:
        run: directory to write everything into; the same command goes on where it stopped.
        seed: draws the images, the two factors that decide the label, and all else.
        total_images: length of the StylEx's training in images seen.

    Returns:
        The numbers of `demo.json`: found against planted, and how many minutes this call took;
        `resumed` tells that an earlier call had begun the work.
    """
    console, began = Console(soft_wrap=True, highlight=False, markup=False), time.monotonic()
    files, rule = Run(run), draw_rule(seed)
    table: dict[str, Any] = {"seed": seed, "rule": str(rule), "resumed": files.images.is_file()}
    console.print(f"planted: {rule} (the label is yes where their sum is above its middle)")
    console.print("this takes about 10 minutes on two cores")
    console.print("\n1. images and classifier", style="bold")
    trained = max(total_images, drawing.COUNTS["train"])  # a classifier needs some, however short
    draw_images(rule, files, seed=seed, trained=trained)
    classifier = small_classifier(files, seed=seed)
    console.print("\n2. training", style="bold")
    model = train(
        files.images,
        classifier,
        run=run,
        resolution=32,
        total_images=total_images,
        adversarial_from_images=total_images * 4 // 5,  # D doubles the time of a step
        perceptual="classifier",
        seed=seed,
    ).to("cpu")
    console.print("\n3. search", style="bold")
    splits = read_splits(files.images, resolution=32)
    found = search(model, splits["search"], files, console)
    explaining.add_sufficiency(model, splits["test"], found, run)
    console.print("\n4. three explanations, the report, and what was found", style="bold")
    explain_three(model, splits["test"], found, files)
    table |= compare(model.synthesize, found, rule, train_reader(LEAVES, seed=seed))
    measured = read_json(files.metrics)
    table |= {name: measured[name] for name in ("agreement", "sufficiency10")}
    table["minutes"] = (time.monotonic() - began) / 60
    write_json(files.planted, table)
    console.print(as_table(table))
    console.print(f"agreement of drawn and photo: {showing.agreement_in_words(table['agreement'])}")
    console.print(f"{table['minutes']:.1f} minutes; look at {write_report(run)}")
    return table


def search(model: StylEx, photos: ImageSet, files: Run, console: Console) -> Search:
    """AttFind on some of the search images, saved and pictured."""
    rows = spread(len(photos), SEARCHED)
    with telling.progress_bar("searching", console) as progress:
        ledger = Ledger(files.searching, progress=progress)
        found = explaining.search(model, photos.batch(rows), ledger=ledger)
    found.save(files.path)
    ledger.remove()
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
    labels = found.logits.argmax(1)
    for rank in range(min(FIRST, len(found.towards(1)))):
        after = synthesize(moved(found, rank, found.styles, labels)).cpu()
        changes = factor_changes(reader, before, after)
        strongest = int(changes.argmax())
        rows.append(
            {
                "rank": rank + 1,
                "factor": LEAVES.factors[strongest],
                "decides": strongest in rule.deciding,
                "changes": dict(zip(LEAVES.factors, changes.tolist(), strict=True)),
            }
        )
    named = {row["factor"] for row in rows}
    deciding = [LEAVES.factors[k] for k in rule.deciding]
    return {
        "deciding": deciding,
        "attributes": rows,
        "planted_found": sum(name in named for name in deciding) / len(deciding),
        "planted_false": sum(not row["decides"] for row in rows),
    }


def as_table(table: dict[str, Any]) -> Table:
    """Found against planted, for a terminal."""
    shown = Table("attribute", "moves most", "by", "next", "by", "planted?")
    for row in table["attributes"]:
        (first, most), (second, less) = sorted(row["changes"].items(), key=lambda x: -x[1])[:2]
        planted = "yes" if row["decides"] else "no"
        shown.add_row(str(row["rank"]), first, f"{most:.2f} sd", second, f"{less:.2f} sd", planted)
    return shown
