"""Names and notes: saved at once, safe to read, safe in a spreadsheet."""

import csv
import io
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image, ImageSequence

from stylex.notes import BAND, NAME_LETTERS, as_csv, called, entitle, read_notes, write_note
from stylex.runs import Run


def test_a_note_is_kept_changed_and_forgotten(tmp_path):
    """The file holds exactly what stands; an empty note is none."""
    assert read_notes(tmp_path) == {}
    write_note(tmp_path, 7, name="brown spots", mark="expected")
    write_note(tmp_path, 3, name="", note="looks like a shadow", mark="artefact")
    kept = read_notes(tmp_path)
    assert list(kept) == [3, 7]
    assert (kept[7]["name"], kept[7]["mark"]) == ("brown spots", "expected")
    assert write_note(tmp_path, 3, name=" ")[3]["mark"] == "artefact"
    assert list(write_note(tmp_path, 3, note="", mark="")) == [7]
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


def test_a_caption_holds_name_and_mark():
    """Whichever of the two there is; a plain word where there is no name."""
    assert called({"name": "brown", "mark": "expected"}) == "brown (expected)"
    assert called({"name": "brown", "mark": ""}, "attribute 1") == "brown"
    assert called({"name": "", "mark": "artefact"}, "attribute 1") == "attribute 1 (artefact)"
    assert called({"name": "", "mark": ""}) == ""


def film(path):
    """The frames of a GIF, with its comment."""
    with Image.open(path) as opened:
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(opened)]
        assert (opened.info["duration"], opened.info["loop"]) == (600, 0)
        return frames, opened.info.get("comment", b"").decode()


def test_a_title_stands_above_an_animation_and_is_replaced(tmp_path):
    """The pictures below it stay what they are, however often and however long it is."""
    path = tmp_path / "before_after.gif"
    ends = [Image.new("RGB", (420, 40), colour) for colour in ("black", "red")]
    ends[0].save(path, save_all=True, append_images=ends[1:], duration=600, loop=0)
    for title in ("brown (expected)", "w" * NAME_LETTERS + " (surprising)", "gelb, größer"):
        entitle(path, title)
        frames, comment = film(path)
        assert comment == title
        for frame, end in zip(frames, ends, strict=True):
            assert frame.size == (420, 40 + BAND)
            assert frame.crop((0, BAND, 420, 40 + BAND)).tobytes() == end.tobytes()
            band = frame.crop((0, 0, 420, BAND)).convert("L")
            assert band.getextrema()[0] < 128 <= band.getextrema()[1]  # ink on white
            assert band.crop((418, 0, 420, BAND)).getextrema()[0] == 255  # nothing is cut off
    kept = path.read_bytes()
    entitle(path, "gelb, größer")
    assert path.read_bytes() == kept
    entitle(path, "")
    frames, comment = film(path)
    assert comment == ""
    assert [frame.tobytes() for frame in frames] == [end.tobytes() for end in ends]


@pytest.mark.parametrize("kind", ["EPS", "TIFF", "BMP", "PNG"])
def test_only_a_gif_is_opened(tmp_path, monkeypatch, kind):
    """A PostScript program under the name of an animation reaches no interpreter."""
    run, path = [], tmp_path / "before_after.gif"
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given: run.append(given))
    Image.new("RGB", (64, 64)).save(path, kind)
    before = path.read_bytes()
    entitle(path, "brown")
    assert (run, path.read_bytes()) == ([], before)


@pytest.mark.parametrize(
    ("size", "frames", "title"),
    [((7000, 7000), 1, "x"), ((8, 8), 3, "x"), ((20_000, 20_000), 1, "x"), ((4, 9), 2, "brown")],
)
def test_a_film_that_is_none_of_ours_is_left_alone(tmp_path, size, frames, title):
    """Too many pixels, too many frames, or no room for letters."""
    path = tmp_path / "before_after.gif"
    more = [Image.new("1", size, i % 2) for i in range(1, frames)]
    Image.new("1", size).save(path, "GIF", save_all=True, append_images=more, duration=600)
    before = path.read_bytes()
    entitle(path, title)
    assert path.read_bytes() == before


@pytest.mark.parametrize("kept", [20, 60, -6])
def test_a_damaged_animation_is_left_alone(tmp_path, kept):
    """Half a file is no reason to fail, nor to write another half."""
    path = tmp_path / "before_after.gif"
    Image.effect_noise((64, 64), 90).save(path)
    path.write_bytes(path.read_bytes()[:kept])
    before = path.read_bytes()
    entitle(path, "brown")
    assert path.read_bytes() == before
