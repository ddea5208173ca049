"""The report: one self-contained HTML file about a run, made from its finished files only.

It imports no torch and asks no network. What is missing is said in words.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stylex.cards import CLASSES, attributes, described, named, probabilities_of, side_of
from stylex.evidence import Json, agreement, doubts, training
from stylex.exhibits import chapters
from stylex.notes import as_csv, called, name_attributes, name_evidence, name_steps, read_notes
from stylex.page import (
    ROOM_BYTES,
    Html,
    Pictures,
    caution,
    data,
    duration,
    facts,
    few,
    fill,
    folded,
    join,
    known,
    note,
    percent,
    scrolling,
    table,
    tag,
    when,
)
from stylex.runs import (
    EXPLANATION,
    MAPS,
    STRIP,
    Run,
    now,
    outgrown,
    read_json,
    read_lines,
    replacing,
)
from stylex.standing import ranked

EXPLANATIONS, NAMES = 24, 50  # shown of many; the page says how many more


def write_report(run: str | Path) -> Path:
    """Write the report of a run: one HTML file below 10 MB that needs nothing beside it.

    The files of the attributes and their animations get the names that stand in the notes by then.

    Args:
        run: directory that a training wrote; search, explanations and metrics may be missing.

    Returns:
        The file, `report.html` in the run directory.

    Raises:
        FileNotFoundError: the directory is no run.
        ValueError: one of its files cannot be read.
    """
    opened = Run.open(run)
    name_attributes(run)
    with replacing(opened.report) as partial:
        partial.write_text(page_of(opened), encoding="utf-8")
    return opened.report


def page_of(run: Run, live: Json | None = None) -> str:
    """The page about a run: offline over the frames in it, or live over an API.

    Args:
        run: at whatever stage.
        live: what the page's script must know to ask the server; None for a page without one.

    Raises:
        ValueError: what is written in it is not whole.
    """
    try:
        return _page_of(run, live)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        what = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ValueError(f"{run.path} is not a whole run ({what}); write it again") from error


def _page_of(run: Run, live: Json | None) -> str:
    about, log = read_json(run.about), read_lines(run.log)
    metrics = read_json(run.metrics) if run.metrics.is_file() else {}
    name_evidence(metrics, notes := read_notes(run.path))
    classes = [str(name) for name in about["classes"]]
    told = data(live or {"run": described(run, metrics), "csv": as_csv(notes) if notes else ""})
    pictures = Pictures(ROOM_BYTES - len(told.encode()))
    return fill(
        "What decides between " + few(classes, CLASSES, " and "),
        live is not None,
        data=told,
        cautions=join(map(caution, filter(None, [outgrown(run), *doubts(metrics, log)]))),
        about=_about(about),
        training=training(run, log, pictures),  # first: the contact sheet must find room
        attributes=attributes(run, metrics, classes, pictures),
        explanations=_explanations(run, classes, pictures),
        quality=chapters(metrics),
        footer=f"Written {when(now())} about a run of StylEx {about.get('stylex', '')}.",
    )


# What was explained


def _about(about: Json) -> Html:
    classifier, data = about["classifier"], about["data"]
    counts = ", ".join(f"{split} {count:,}" for split, count in data["counts"].items())
    pairs = {
        "Classifier": classifier["source"],
        "Its hash": tag("code", str(classifier["hash"])[:12]),
        "Classes": few(about["classes"], NAMES),
        "Images": data["source"],
        "Their hash": tag("code", str(data["hash"])[:12]),
        "Numbers": counts,
        "Left out": _skipped(data.get("skipped") or []),
        "Generator": f"{about['resolution']} x {about['resolution']} pixels",
        "Begun": when(about["created"]),
        "Finished": when(about.get("finished") or "") or "not yet",
        "Trained": f"{about['images_seen']:,} images seen in {duration(about.get('hours') or 0)}",
        "Machine": about["machine"],
    }
    settings = [(name, json.dumps(value)) for name, value in about["settings"].items()]
    shown = table("Every setting of the training", ("setting", "value"), settings)
    return join((facts(pairs), folded("Settings", shown)))


def _skipped(names: Sequence[str]) -> Any:
    if not names:
        return "no file"
    return folded(f"{len(names)} files that are no readable images", few(names, NAMES))


# Single images


def _explanations(run: Run, classes: Sequence[str], pictures: Pictures) -> Html:
    found = [(read_json(file), file.parent) for file in run.explanations.glob(f"*/{EXPLANATION}")]
    if not found:
        return note("No image was explained yet: ", tag("code", "stylex explain"), " does it.")
    found.sort(key=lambda pair: (pair[0]["created"], pair[1].name), reverse=True)
    notes, now = read_notes(run.path), _ranks(run)
    for answer, _ in found[:EXPLANATIONS]:
        name_steps(answer, notes)  # as they are called now, not when they were explained
        _rank_steps(answer, now)
    parts = [
        _explanation(answer, place, classes, pictures) for answer, place in found[:EXPLANATIONS]
    ]
    if len(found) > EXPLANATIONS:
        parts.append(
            note(f"{len(found) - EXPLANATIONS} older ones are in {run.explanations.name}/.")
        )
    return join(parts)


def _ranks(run: Run) -> dict[tuple[int, int, int], int]:
    """Rank of each move that the run's search lists, by target, coordinate and direction."""
    found = ranked(read_json(run.search)) if run.search.is_file() else ()
    return {(one["target"], one["coordinate"], one["direction"]): rank for rank, one in found}


def _rank_steps(answer: Json, ranks: Mapping[tuple[int, int, int], int]) -> None:
    """The ranks of today: the run may have been searched again since, by which some are gone."""
    for step in (step for steps in answer["steps"].values() for step in steps):
        step["rank"] = ranks.get((answer["target"], step["coordinate"], step["direction"]))


def _explanation(answer: Json, place: Path, classes: Sequence[str], pictures: Pictures) -> Html:
    name = named(classes, answer["target"])
    strip = f"{answer['image']}: photo, reconstruction, and the image after each step"
    maps = f"{answer['image']}: where each step acts; gray is no change"
    parts = [
        tag("h3", f"{answer['image']} towards {name}"),
        *(caution(says) for says in answer["warnings"]),
        tag("p", _decision(answer, name)),
        scrolling(strip, pictures.show(place / STRIP, strip)),
        note("Where each step acts: gray is no change, the colour what was added"),
        scrolling(maps, pictures.show(place / MAPS, maps)),
        tag("div", _start(answer, classes), *_steps(answer, name), class_="tables"),
        note(_errors(answer)),
    ]
    if answer.get("agreement_floors"):
        parts.append(
            folded("Agreement of the model and its floors", agreement(answer["agreement_floors"]))
        )
    return tag("article", *parts, class_="card")


def _decision(answer: Json, name: str) -> str:
    at = answer["flipped_at"]
    if at == 0:
        return f"The reconstruction is decided as {name} already."
    count = len(answer["steps"]["subset"]) if at is None else at
    attributes = f"{count} attribute{'' if count == 1 else 's'}"
    return f"The decision {'does not flip with' if at is None else 'flips after'} {attributes}."


def _start(answer: Json, classes: Sequence[str]) -> Html:
    photo = probabilities_of(answer["photo_logits"])
    drawn = probabilities_of(answer["reconstruction_logits"])
    most = sorted(range(len(photo)), key=lambda k: -max(photo[k], drawn[k]))[:CLASSES]
    rows = [(named(classes, k), percent(photo[k]), percent(drawn[k])) for k in sorted(most)]
    return table("What the classifier says", ("class", "photo", "reconstruction"), rows)


def _steps(answer: Json, name: str) -> list[Html]:
    """Both selections of method.md 5 as tables."""
    alone = [
        (_link(step, answer), f"{step['effect']:+.2f}", percent(step["probability"]))
        for step in answer["steps"]["independent"]
    ]
    together = [
        (
            f"{i}",
            _link(step, answer),
            percent(step["probability"]),
            "yes" if step["flipped"] else "no",
        )
        for i, step in enumerate(answer["steps"]["subset"], start=1)
    ]
    first = next((i for i, row in enumerate(together) if row[-1] == "yes"), None)
    return [
        table(
            "Subset: applied one after the other",
            ("step", "attribute added", name, "flipped"),
            together,
            marked=first,
        ),
        table("Independent: each alone", ("attribute", "effect, logits", name), alone),
    ]


def _link(step: Json, answer: Json) -> Html:
    """The attribute of a step: its card, what it is called, its coordinate."""
    coordinate = f"coordinate {step['coordinate']}, {side_of(step)}"
    said = called({**step, "name": step["name"] and f"“{step['name']}”"})
    if not (rank := step.get("rank")):
        return join((f"{said} {coordinate}".strip(),))
    link = tag("a", f"Attribute {rank}", href=f"#attribute-{answer['target']}-{rank}")
    return join((link, f" {said}" if said else "", f" ({coordinate})"))


def _errors(answer: Json) -> str:
    return (
        f"Error of the reconstruction from which every step starts: L1 {known(answer, 'l1')} "
        f"(pixels from -1 to 1), perceptual {known(answer, 'perceptual')}."
    )
