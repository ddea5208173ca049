"""Names and notes: saved at once, safe to read, safe in a spreadsheet."""

import csv
import io
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stylex.notes import NAME_LETTERS, as_csv, read_notes, write_note
from stylex.runs import Run


def test_a_note_is_kept_changed_and_forgotten(tmp_path):
    """The file holds exactly what stands; an empty note is none."""
    assert read_notes(tmp_path) == {}
    write_note(tmp_path, 7, name="brown spots", mark="expected")
    write_note(tmp_path, 3, name="", note="looks like a shadow", mark="artefact")
    kept = read_notes(tmp_path)
    assert list(kept) == [3, 7]
    assert (kept[7]["name"], kept[7]["mark"]) == ("brown spots", "expected")
    assert list(write_note(tmp_path, 3, name=" ")) == [7]
    assert list(read_notes(tmp_path)) == [7]


def test_two_people_lose_no_name(tmp_path):
    """Names that come at the same moment are all kept."""
    hands = [
        threading.Thread(target=write_note, args=(tmp_path, j), kwargs={"name": f"n{j}"})
        for j in range(12)
    ]
    for hand in hands:
        hand.start()
    for hand in hands:
        hand.join()
    assert list(read_notes(tmp_path)) == list(range(12))


@given(st.text(), st.text())
def test_any_text_is_one_plain_line_afterwards(tmp_path_factory, name, note):
    """Control characters, lone surrogates and length do no harm; what was kept is read."""
    folder = tmp_path_factory.mktemp("run")
    written = write_note(folder, 1, name=name, note=note)
    assert read_notes(folder) == written
    for said in written.values():
        assert len(said["name"]) <= NAME_LETTERS
        assert said["name"].isprintable()
        assert said["note"].isprintable()


@given(st.text(min_size=1))
def test_no_cell_of_the_table_is_a_formula(text):
    """And every row comes back as a row."""
    note = {"name": text, "note": "=1+1", "mark": "", "changed": "2026"}
    rows = list(csv.reader(io.StringIO(as_csv({5: note}), newline="")))
    assert len(rows) == 2
    assert not any(cell[:1] in ("=", "+", "-", "@") for cell in rows[1])


@pytest.mark.parametrize("text", ["[]", '{"x": {}}', '{"1": 4}', '{"1": {"name": "a"}}'])
def test_a_foreign_file_of_notes_is_refused_in_one_line(tmp_path, text):
    """Nothing of it is guessed."""
    Run(tmp_path).notes.write_text(text)
    with pytest.raises(ValueError, match=r"holds no notes .*restore or delete it") as caught:
        read_notes(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_unknown_mark_is_refused(tmp_path):
    """The four marks are all there are."""
    with pytest.raises(ValueError, match="none of expected, surprising, artefact, confounder"):
        write_note(tmp_path, 1, name="x", mark="good")
