"""What people call the attributes of a run and think of them: one small JSON file, saved at once.

A name belongs to a coordinate: both of its directions are the same change, forth and back. Here is
also how a name goes into answers and over animations.
"""

import csv
import io
import threading
import warnings
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypedDict, get_args

from PIL import Image, ImageDraw, ImageFont, ImageSequence

from stylex.page import MOST_PIXELS
from stylex.runs import ATTRIBUTE, BEFORE_AFTER, Run, now, read_json, replacing, write_json

Mark = Literal["", "expected", "surprising", "artefact", "confounder"]
MARKS: tuple[str, ...] = get_args(Mark)
NAME_LETTERS, NOTE_LETTERS = 60, 1000
BAND = 22  # pixels above an animation, for the name
FRAMES = 2  # of an animation: before and after
_writing = threading.Lock()  # two people name at once: neither name is lost


class Note(TypedDict):
    """What is said of one coordinate; `changed` is a time in UTC."""

    name: str
    note: str
    mark: str
    changed: str


UNSAID: Note = {"name": "", "note": "", "mark": "", "changed": ""}


def read_notes(run: str | Path) -> dict[int, Note]:
    """The notes of a run by coordinate; none where nobody wrote any.

    Raises:
        ValueError: the file is not one of notes.
    """
    path = Run(run).notes
    if not path.is_file():
        return {}
    try:
        return {int(coordinate): _checked(note) for coordinate, note in read_json(path).items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} holds no notes ({type(error).__name__}); restore or delete it"
        ) from None


def write_note(
    run: str | Path,
    coordinate: int,
    *,
    name: str | None = None,
    note: str | None = None,
    mark: str | None = None,
) -> dict[int, Note]:
    """Save what is said of one coordinate; where nothing is said any more it is forgotten.

    What is not given stays as it stands: somebody else may have said it meanwhile.

    Args:
        run: the run directory.
        coordinate: of the attribute.
        name: up to 60 letters.
        note: up to 1,000 letters.
        mark: one of `MARKS`.

    Returns:
        All notes of the run.
    """
    texts = {"name": name, "note": note, "mark": mark, "changed": now()}
    given = {key: text for key, text in texts.items() if text is not None}
    with _writing:
        notes = read_notes(run)
        said = _checked({**notes.pop(coordinate, UNSAID), **given})
        if said["name"] or said["note"] or said["mark"]:
            notes[coordinate] = said
        write_json(Run(run).notes, {str(key): notes[key] for key in sorted(notes)})
    return notes


def as_csv(notes: Mapping[int, Note]) -> str:
    """The notes as a table; a cell that a spreadsheet would run as a formula is quoted."""
    file = io.StringIO()
    table = csv.writer(file)
    table.writerow(("coordinate", "name", "mark", "note", "changed"))
    for coordinate, said in sorted(notes.items()):
        cells = (said["name"], said["mark"], said["note"], said["changed"])
        table.writerow((coordinate, *(_inert(cell) for cell in cells)))
    return file.getvalue()


def called(said: Mapping[str, Any], plain: str = "") -> str:
    """A name and its mark as captions have them: "brown spots (expected)"; `plain` if unnamed."""
    mark = f"({said['mark']})" if said["mark"] else ""
    return f"{said['name'] or plain} {mark}".strip()


def name_steps(answer: Mapping[str, Any], notes: Mapping[int, Note]) -> None:
    """Write into each step of an explanation what is said of its coordinate now."""
    for step in (step for steps in answer["steps"].values() for step in steps):
        said = notes.get(step["coordinate"], UNSAID)
        step.update(name=said["name"], mark=said["mark"], note=said["note"])


def name_attributes(run: str | Path) -> None:
    """Write what each attribute is called now into its file and above its animation.

    Raises:
        ValueError: a file of the run cannot be read.
    """
    notes = read_notes(run)
    for file in Run(run).attributes.glob(f"*/{ATTRIBUTE}"):
        about, film = read_json(file), file.with_name(BEFORE_AFTER)
        said = notes.get(about.get("coordinate", -1), UNSAID)
        told = {"name": said["name"], "mark": said["mark"], "note": said["note"]}
        if {key: about.get(key, "") for key in told} != told:
            write_json(file, {**about, **told})
        if film.is_file():
            entitle(film, called(said))


def name_evidence(metrics: Mapping[str, Any], notes: Mapping[int, Note]) -> None:
    """Write into the evidence about each attribute what it is called now."""
    for one in metrics.get("attributes") or []:
        one["called"] = called(notes.get(one["coordinate"], UNSAID))


def entitle(path: Path, title: str) -> None:
    """Write a title above a GIF in place of the one that it has; its comment says which that is.

    The file may be a stranger's: what is no GIF as we write it stays as it is.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=["GIF"]) as film:
                had, milliseconds = (
                    film.info.get("comment", b"").decode(),
                    film.info.get("duration"),
                )
                if title == had:
                    return
                frames = [_decoded(f) for f in islice(ImageSequence.Iterator(film), FRAMES + 1)]
        first, *rest = (_under(title, frame, BAND * bool(had)) for frame in frames)
    except Exception:  # Pillow's readers raise many kinds on a broken file
        return
    if len(frames) > FRAMES:
        return
    more = {"append_images": rest, "duration": milliseconds, "comment": title.encode()}
    with replacing(path) as partial:
        first.save(partial, save_all=True, loop=0, **more)


def _decoded(frame: Image.Image) -> Image.Image:
    """One frame in colour; its size is asked before a pixel of it is read."""
    if frame.width * frame.height > MOST_PIXELS:
        raise ValueError("too many pixels")
    return frame.convert("RGB")


def _under(title: str, frame: Image.Image, band: int) -> Image.Image:
    """A frame without the band that it has, and under a new one where there is a title."""
    new = BAND * bool(title)
    canvas = Image.new("RGB", (frame.width, frame.height - band + new), "white")
    canvas.paste(frame.crop((0, band, frame.width, frame.height)), (0, new))
    if title:
        wide = ImageFont.load_default(12).getlength(title)
        font = ImageFont.load_default(12 * min(1.0, (frame.width - 8) / wide))
        ImageDraw.Draw(canvas).text((4, 4), title, fill="black", font=font)
    return canvas


def _inert(cell: str) -> str:
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@") else cell


def _checked(said: Mapping[str, Any]) -> Note:
    """One note without control characters and within its bounds, whoever wrote the file."""
    if said["mark"] not in MARKS:
        raise ValueError(f"the mark {said['mark']!r} is none of {', '.join(MARKS[1:])}")
    return {
        "name": _plain(said["name"])[:NAME_LETTERS],
        "note": _plain(said["note"])[:NOTE_LETTERS],
        "mark": said["mark"],
        "changed": _plain(said["changed"])[:40],
    }


def _plain(text: str) -> str:
    """One line: no control characters, and none of what UTF-8 cannot write."""
    known = text.encode("utf-8", "ignore").decode()
    return " ".join("".join(c if c.isprintable() else " " for c in known).split())
