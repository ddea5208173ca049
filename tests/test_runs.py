"""The run directory: old or new, never half; what a kill leaves is recognised and cleared."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stylex import runs
from stylex.runs import Run

# everything that a name may hold; the file system would refuse nothing of what is left of it
names = st.text(min_size=0, max_size=40)


def files_in(folder: Path) -> list[str]:
    """Names, hidden ones too."""
    return sorted(p.name for p in folder.iterdir())


def checkpoint(run: Run, images_seen: int, text: str = "") -> None:
    """A finished checkpoint."""
    with run.new_checkpoint(images_seen) as folder:
        runs.state_file(folder).write_text(text or str(images_seen))


def one_line(caught: pytest.ExceptionInfo[Exception], *words: str) -> None:
    """An error of the user is one line that names what it must."""
    says = str(caught.value)
    assert "\n" not in says
    assert [word for word in words if word not in says] == []


def test_replacing_shows_the_old_until_the_end(tmp_path):
    """Then the new one, and nothing else is left in the folder."""
    path = tmp_path / "deep" / "a.json"
    with runs.replacing(path) as partial:
        partial.write_text("first")
        assert not path.exists()
    with runs.replacing(path) as partial:
        partial.write_text("second")
        assert path.read_text() == "first"
        assert partial.suffix == ".json"  # Pillow reads the format off it
        assert partial.parent == path.parent  # a move within one file system
    assert path.read_text() == "second"
    assert files_in(path.parent) == ["a.json"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_replacing_keeps_the_old_on_failure(error, tmp_path):
    """Half a file is thrown away, not moved."""
    path = tmp_path / "a.json"
    path.write_text("old")

    def fail() -> None:
        with runs.replacing(path) as partial:
            partial.write_text("ha")
            raise error("disk full")

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert files_in(tmp_path) == ["a.json"]


def test_json_goes_there_and_back(tmp_path):
    """Any letters; readable by a person."""
    data = {"classes": ["gesund", "kränklich", "病"], "share": 0.25, "why": None}
    runs.write_json(tmp_path / "a.json", data)
    assert runs.read_json(tmp_path / "a.json") == data
    assert "kränklich" in (tmp_path / "a.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"not json", b'{"a": "\xff\xfe"}'])
def test_broken_json_is_one_line(content, tmp_path):
    """It names the file and what to do."""
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not readable JSON") as caught:
        runs.read_json(path)
    one_line(caught, str(path), "restore or delete it")


def test_lines_go_there_and_back(tmp_path):
    """Each on its own line, whatever letters they hold; a file that is not there has none."""
    path = tmp_path / "deep" / "log.jsonl"
    assert runs.read_lines(path) == []
    lines = [{"images_seen": n, "says": says} for n, says in enumerate(["ü", "a\nb", "\u2028\x85"])]
    for line in lines:
        runs.append_line(path, line)
    assert runs.read_lines(path) == lines
    assert path.read_bytes().count(b"\n") == 3


@pytest.mark.parametrize("rest", ['{"images_seen": 3, "lo', '{"images_seen": 3}', "{", '{"a": "}'])
def test_a_line_cut_by_a_kill_is_left_out(rest, tmp_path):
    """A line counts when its end was written."""
    path = tmp_path / "log.jsonl"
    path.write_text('{"images_seen": 1}\n{"images_seen": 2}\n' + rest)
    assert runs.read_lines(path) == [{"images_seen": 1}, {"images_seen": 2}]


def test_a_line_cut_inside_a_letter_is_left_out(tmp_path):
    """A kill knows nothing of UTF-8."""
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"images_seen": 1}\n' + '{"says": "ü'.encode()[:-1])
    assert runs.read_lines(path) == [{"images_seen": 1}]


@pytest.mark.parametrize("broken", [b'{"images_seen": 2, "lo', b"[1]]", b'{"a": "\xff"}'])
def test_a_broken_line_before_the_last_is_one_line(broken, tmp_path):
    """No kill leaves that; it names the file and the line."""
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"images_seen": 1}\n' + broken + b'\n{"images_seen": 3}\n')
    with pytest.raises(ValueError, match="line 2 ") as caught:
        runs.read_lines(path)
    one_line(caught, str(path), "restore or delete")


def test_keep_lines_drops_what_a_resumed_run_writes_again(tmp_path):
    """And the line that the kill cut short, so that the next one starts afresh."""
    path = tmp_path / "log.jsonl"
    for seen in (32, 64, 96):
        runs.append_line(path, {"images_seen": seen, "says": "ü"})
    with path.open("a") as file:
        file.write('{"images_seen": 128, "lo')
    runs.keep_lines(path, 64)
    runs.append_line(path, {"images_seen": 96})
    assert [line["images_seen"] for line in runs.read_lines(path)] == [32, 64, 96]
    assert runs.read_lines(path)[1]["says"] == "ü"


def test_checkpoints_appear_whole_and_the_last_two_stay(tmp_path):
    """A checkpoint is one when its block has ended; the oldest goes."""
    run = Run(tmp_path)
    assert run.saved() == []
    for seen in (32, 64, 999_936, 1_000_000):
        with run.new_checkpoint(seen) as folder:
            runs.state_file(folder).write_text(str(seen))
            assert folder not in run.saved()
    assert files_in(run.checkpoints) == ["000999936", "001000000"]
    assert [runs.state_file(p).read_text() for p in run.saved()] == ["999936", "1000000"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_interrupted_checkpoint_is_none(error, tmp_path):
    """The two before it are still there; the next one clears what it left."""
    run = Run(tmp_path)
    checkpoint(run, 32)
    checkpoint(run, 64)

    def fail() -> None:
        with run.new_checkpoint(96) as folder:
            runs.tensors_file(folder).write_text("half")
            raise error("stop")

    with pytest.raises(error):
        fail()
    assert [p.name for p in run.saved()] == ["000000032", "000000064"]
    checkpoint(run, 128)
    assert files_in(run.checkpoints) == ["000000064", "000000128"]


def test_a_checkpoint_may_be_written_again(tmp_path):
    """A run that went back comes by the same place twice."""
    run = Run(tmp_path)
    checkpoint(run, 32, "first")
    checkpoint(run, 32, "second")
    assert [runs.state_file(p).read_text() for p in run.saved()] == ["second"]


def test_open_wants_a_run(tmp_path):
    """One line for a wrong folder, a broken file, another layout."""
    with pytest.raises(FileNotFoundError, match="is not a run") as caught:
        Run.open(tmp_path / "nowhere")
    one_line(caught, str(tmp_path / "nowhere"), "run.json", "stylex train --run")
    about = tmp_path / "run.json"
    about.write_text('{"version": 1')
    with pytest.raises(ValueError, match="not readable JSON") as caught:
        Run.open(tmp_path)
    one_line(caught, str(about))
    about.write_text(json.dumps({"version": 99}))
    with pytest.raises(ValueError, match="layout version 99") as caught:
        Run.open(tmp_path)
    one_line(caught, str(tmp_path), str(runs.VERSION))
    about.write_text(json.dumps({"version": runs.VERSION}))
    assert Run.open(str(tmp_path)).path == tmp_path


def test_names_in_the_run(tmp_path):
    """Sheets sort by age; an attribute's folder names target and rank."""
    run = Run(tmp_path)
    assert run.last_sheet() is None
    run.sheets.mkdir()
    for seen in (96, 1_000, 64):
        run.sheet(seen).touch()
    assert run.last_sheet() == run.sheet(1_000)
    assert run.attribute(1, 3) == tmp_path / "attributes" / "1-3"


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "..", ".", "", "a/b\\c: d", "\x00", "..\n"])
def test_an_explanation_stays_in_its_folder(name, tmp_path):
    """Names come from photos and classes, which may hold anything."""
    run = Run(tmp_path)
    folder = run.explanation(name)
    assert folder.resolve().parent == run.explanations.resolve()
    folder.mkdir(parents=True)


@given(name=names)
def test_an_explanation_is_always_one_folder_further_down(name):
    """Whatever the name."""
    run = Run("run")
    folder = run.explanation(name)
    assert folder.parent == run.explanations
    assert folder.name not in ("", ".", "..")
    assert not set(folder.name) & set("/\\\x00\n ")


def test_a_plain_name_stays_as_it_is(tmp_path):
    """Photos are found again by their names."""
    assert Run(tmp_path).explanation("leaf-07_b.kränklich").name == "leaf-07_b.kränklich"
