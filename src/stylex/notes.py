"""What people call the attributes of a run and think of them: one small JSON file, saved at once.

A name belongs to a coordinate: both of its directions are the same change, forth and back.
"""

import csv
import io
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypedDict, get_args

from stylex.runs import Run, now, read_json, write_json

Mark = Literal["", "expected", "surprising", "artefact", "confounder"]
MARKS: tuple[str, ...] = get_args(Mark)
NAME_LETTERS, NOTE_LETTERS = 60, 1000
_writing = threading.Lock()  # two people name at once: neither name is lost


class Note(TypedDict):
    """What is said of one coordinate; `changed` is a time in UTC."""

    name: str
    note: str
    mark: str
    changed: str


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
    run: str | Path, coordinate: int, *, name: str, note: str = "", mark: str = ""
) -> dict[int, Note]:
    """Save what is said of one coordinate; where nothing is said any more it is forgotten.

    Args:
        run: the run directory.
        coordinate: of the attribute.
        name: up to 60 letters.
        note: up to 1,000 letters.
        mark: one of `MARKS`.

    Returns:
        All notes of the run.
    """
    said = _checked({"name": name, "note": note, "mark": mark, "changed": now()})
    with _writing:
        notes = read_notes(run)
        notes.pop(coordinate, None)
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


def _inert(cell: str) -> str:
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@") else cell


def _checked(said: Mapping[str, str]) -> Note:
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
