"""Plots of shares with their intervals and of votes, as SVG files that stand alone."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from stylex.page import Html, percent, tag

WIDTH, LEFT, RIGHT, LINE, TOP = 720, 290, 60, 24, 76
COLUMN = 118  # of one verdict
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1d1f21}.quiet{fill:#5b6168;font-size:11px}"
    ".paper{fill:#fdfdfc}.axis{stroke:#9aa0a6}.guide{stroke:#9aa0a6;stroke-dasharray:3 3}"
    ".people{stroke:#24598f;fill:#24598f}.simulated{stroke:#b4531a;fill:#fdfdfc}"
    "@media(prefers-color-scheme:dark){text{fill:#e4e6e8}.quiet{fill:#a3a9b0}.paper{fill:#15171a}"
    ".people{stroke:#8cb8e6;fill:#8cb8e6}.simulated{stroke:#ee9a66;fill:#15171a}}"
)


class Point(NamedTuple):
    """One share with its interval; hollow where it is a simulated participant's."""

    name: str
    value: float
    low: float
    high: float
    answers: int
    people: bool


class Votes(NamedTuple):
    """How many of those who judged something gave it one of the verdicts."""

    name: str
    verdict: str
    votes: int
    judged: int
    people: bool


def forest(
    title: str, points: Sequence[Point], lines: Mapping[str, float], *, legend: str = ""
) -> str:
    """A share for each line of text, between 0 and 1.

    Args:
        title: what is shared.
        points: in the order of their lines.
        lines: values to compare with, each by its name.
        legend: what bars and numbers are; by default those of a study.
    """
    height = TOP + LINE * len(points) + 40
    groups = _groups(p.people for p in points)
    legend = legend or f"{groups}; bars: 95 % interval; at the right: answers"
    drawn = [
        tag("rect", width=WIDTH, height=height, class_="paper"),
        tag("text", title, x=12, y=24, font_weight=600),
        tag("text", legend, x=12, y=44, class_="quiet"),
        *_guides(lines, height),
        *(part for i, point in enumerate(points) for part in _drawn(point, TOP + LINE * i + 12)),
        *_axis(height - 32),
    ]
    says = "; ".join(
        f"{p.name}{'' if p.people else ' (simulated)'} {percent(p.value)}" for p in points
    )
    return _svg(WIDTH, height, f"{title}: {says}", drawn)


def grid(title: str, votes: Sequence[Votes], verdicts: Sequence[str]) -> Html:
    """A row for each thing judged and a column for each verdict; larger circles are more votes.

    Args:
        title: what is judged.
        votes: those that were given.
        verdicts: names of the columns.
    """
    rows = list(dict.fromkeys((one.name, one.people) for one in votes))
    width, height = LEFT + COLUMN * len(verdicts), TOP + LINE * len(rows) + 16
    drawn = [
        tag("rect", width=width, height=height, class_="paper"),
        tag("text", title, x=12, y=24, font_weight=600),
        tag("text", _groups(people for _, people in rows), x=12, y=44, class_="quiet"),
        *(_head(verdict, column) for column, verdict in enumerate(verdicts)),
        *(tag("text", _short(n), x=12, y=TOP + LINE * i + 16) for i, (n, _) in enumerate(rows)),
    ]
    for one in votes:
        x = LEFT + COLUMN * verdicts.index(one.verdict) + COLUMN // 2
        y = TOP + LINE * rows.index((one.name, one.people)) + 12
        group, size = "people" if one.people else "simulated", 9 * (one.votes / one.judged) ** 0.5
        drawn.append(tag("circle", cx=x, cy=y, r=round(size, 1), class_=group, stroke_width=2))
        drawn.append(tag("text", f"{one.votes} of {one.judged}", x=x + 14, y=y + 4, class_="quiet"))
    says = "; ".join(f"{v.name} {v.verdict} {v.votes} of {v.judged}" for v in votes)
    return _svg(width, height, f"{title}: {says}", drawn)


def _head(verdict: str, column: int) -> Html:
    x = LEFT + COLUMN * column + COLUMN // 2
    return tag("text", verdict, x=x, y=TOP - 6, class_="quiet", text_anchor="middle")


def _svg(width: int, height: int, says: str, drawn: Sequence[Html]) -> Html:
    inside = (tag("style", Html(STYLE)), tag("title", says), *drawn)
    size = {"viewBox": f"0 0 {width} {height}", "width": width, "height": height}
    return tag("svg", *inside, xmlns="http://www.w3.org/2000/svg", role="img", **size)


def _x(value: float) -> float:
    return round(LEFT + (WIDTH - LEFT - RIGHT) * value, 1)


def _groups(people: Iterable[bool]) -> str:
    groups = set(people)
    names = ["full: people"] * (True in groups)
    names += ["hollow: simulated participants, a floor, not people"] * (False in groups)
    return "; ".join(names)


def _short(name: str) -> str:
    return name if len(name) <= 44 else f"{name[:43]}…"


def _guides(lines: Mapping[str, float], height: int) -> list[Html]:
    """Dashed lines; their names in one line of text, since they lie close together."""
    if not lines:
        return []
    names = ", ".join(f"{name} {value:g}" for name, value in lines.items())
    ends = [
        tag("line", x1=_x(value), x2=_x(value), y1=TOP - 6, y2=height - 32, class_="guide")
        for value in lines.values()
    ]
    return [tag("text", f"dashed: {names}", x=12, y=60, class_="quiet"), *ends]


def _drawn(point: Point, y: int) -> list[Html]:
    group = "people" if point.people else "simulated"
    return [
        tag("text", _short(point.name), x=12, y=y + 4),
        tag("line", x1=_x(point.low), x2=_x(point.high), y1=y, y2=y, class_=group, stroke_width=2),
        tag("circle", cx=_x(point.value), cy=y, r=5, class_=group, stroke_width=2),
        tag("text", point.answers, x=WIDTH - 12, y=y + 4, class_="quiet", text_anchor="end"),
    ]


def _axis(y: int) -> list[Html]:
    ticks = [
        tag("text", percent(share), x=_x(share), y=y + 18, class_="quiet", text_anchor="middle")
        for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    return [tag("line", x1=_x(0.0), x2=_x(1.0), y1=y, y2=y, class_="axis"), *ticks]
