"""Charts over other things than images, and pictures that a stranger may have put into a run."""

import re

import pytest
from attacks import BAD
from PIL import EpsImagePlugin, Image

from stylex.page import Pictures, curves, films, percent


def points(chart: str) -> list[str]:
    """Where the first line of a chart goes."""
    return re.search(r'points="([^"]*)"', chart)[1].split()


def test_a_chart_names_what_it_runs_over():
    """The axis and the words for those who do not see it have the unit of x and the words of y."""
    line = [(0, 0.0), (1, 0.25), (2, 0.5)]
    chart = curves("Flips", {"found": line, "floor": [(0, 0.0), (2, 0.1)]}, over="attributes",
                   say=percent)  # fmt: skip
    says = re.search('aria-label="([^"]*)"', chart)[1].replace("\N{NO-BREAK SPACE}", " ")
    assert says == (
        "Flips, from the first to the last of 2 attributes: found 0 % to 50 %; floor 0 % to 10 %"
    )
    assert ">2 attributes</text>" in chart
    assert points(chart) == ["36.0,110.0", "156.0,60.0", "276.0,10.0"]


@pytest.mark.parametrize(("right", "end"), [(160000, "160,000"), (0.1234, "0.123"), (10, "10")])
def test_the_end_of_the_axis_is_readable(right, end):
    """Large numbers are whole, small ones have three digits."""
    assert f">{end} moved</text>" in curves("x", {"x": [(0, 0.0), (right, 1.0)]}, over="moved")


def test_a_line_of_zeros_lies_at_the_bottom_of_a_whole():
    """Nothing flipped: the chart still has a scale, from 0 to all."""
    chart = curves("Flips", {"found": [(0, 0.0), (2, 0.0)]}, say=percent)
    assert points(chart) == ["36.0,110.0", "276.0,110.0"]
    assert ">100\N{NO-BREAK SPACE}%</text>" in chart


def test_only_our_own_format_is_opened(tmp_path, monkeypatch):
    """A PostScript program under the name of a picture reaches no interpreter."""
    run = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given: run.append(given))
    for kind in ("EPS", "TIFF", "BMP"):
        Image.new("RGB", (9, 9)).save(tmp_path / "frames.png", kind)
        assert films(tmp_path / "frames.png", 9) == []
        assert "no readable picture" in Pictures().show(tmp_path / "frames.png", kind)
    assert not run


@pytest.mark.parametrize("size", [(7000, 6000), (17_000, 4)])
def test_a_picture_too_large_is_left_out(tmp_path, size):
    """Nobody waits for millions of pixels, nor for a line that no WebP can hold."""
    Image.new("1", size).save(tmp_path / "map.png")
    assert films(tmp_path / "map.png", 9) == []
    assert "no readable picture" in Pictures().show(tmp_path / "map.png", "a map")


@pytest.mark.parametrize("kind", ["bomb", "half a PNG", "nothing", "postscript", "noise"])
def test_a_broken_picture_is_left_out(tmp_path, kind):
    """Whatever Pillow makes of it."""
    (tmp_path / "map.png").write_bytes(BAD[kind])
    assert films(tmp_path / "map.png", 9) == []


@pytest.mark.parametrize("columns", [0, 91, 10**9])
def test_a_film_has_no_more_frames_than_pixels(tmp_path, columns):
    """Whatever its run says: a picture is never blown up."""
    Image.new("RGB", (90, 20)).save(tmp_path / "frames.png")
    assert films(tmp_path / "frames.png", columns) == []
    assert [film.size for film in films(tmp_path / "frames.png", 9)] == [(90, 10)] * 2
