"""Charts over other things than images."""

import re

import pytest

from stylex.page import curves, percent


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
