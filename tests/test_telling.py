"""What is said on the error stream: how far long work has come, and which files were left out."""

import pytest

from stylex import telling
from stylex.telling import Waiting, left_out


@pytest.fixture
def clock(monkeypatch):
    """The time, as the test sets it."""
    at = [0.0]
    monkeypatch.setattr(telling.time, "monotonic", lambda: at[0])
    return at


def test_short_work_is_silent(clock, capsys):
    """Nobody reads a line of something that is over."""
    tell = Waiting("reading photos", "files")
    clock[0] = telling.PATIENCE - 0.1
    tell(99, 100)
    assert capsys.readouterr() == ("", "")


def test_long_work_says_rate_and_time_left(clock, capsys):
    """Now and then, not at each call; minutes where seconds would be many."""
    tell = Waiting("reading photos", "files")
    for clock[0], done in ((5.0, 1_000), (6.0, 1_200), (10.0, 2_000)):
        tell(done, 3_000)
    assert capsys.readouterr().err.splitlines() == [
        "reading photos: 1,000 of 3,000 files, 200/s, 10 seconds left",
        "reading photos: 2,000 of 3,000 files, 200/s, 5 seconds left",
    ]
    clock[0] = 20.0
    tell(4_000, 124_000)
    assert capsys.readouterr().err.endswith("200/s, 10 minutes left\n")


def test_work_without_any_result_yet(clock, capsys):
    """The first file is slow: no division by zero."""
    tell = Waiting("reading photos", "files")
    clock[0] = 5.0
    tell(0, 10)
    assert "0 of 10 files" in capsys.readouterr().err


def test_a_few_of_the_files_left_out_are_named(capsys):
    """By name, with the reason; the rest are counted."""
    left_out("photos", {})
    assert capsys.readouterr().err == ""
    left_out("photos", {"x.txt": "no image"})
    assert capsys.readouterr().err == "photos: 1 file left out: x.txt (no image)\n"
    left_out("photos", {f"{i}.txt": "no image" for i in (3, 2, 1, 0)})
    told = "photos: 4 files left out: 0.txt (no image), 1.txt (no image), 2.txt (no image), ...\n"
    assert capsys.readouterr().err == told


def test_one_process_of_several_speaks(monkeypatch, capsys):
    """All of them read the same files."""
    monkeypatch.setenv("RANK", "1")
    left_out("photos", {"x.txt": "no image"})
    assert capsys.readouterr().err == ""
