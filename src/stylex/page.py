"""The page: HTML that escapes by default, embedded pictures, small charts, one file out of all.

It knows nothing of runs. The HTML, CSS and JS files beside it are the page's frame.
"""

import json
import math
import warnings
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from hashlib import sha256
from html import escape
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from string import Template
from typing import Any

from PIL import Image

PAGE = "page.html"
STYLES = ("page.css", "bench.css")
SCRIPTS = ("page.js", "source.js", "draw.js", "desk.js", "bench.js")
LIMIT_BYTES = 10_000_000
ROOM_BYTES = 8_500_000  # of it for pictures, as base64; words take the place of what is beyond
EXACT_BYTES = 100_000  # a picture beyond this is compressed with loss
CELL_PIXELS = 128  # side at which the page shows a frame; larger ones are halved until they fit
MOST_PIXELS, LONGEST = 40_000_000, 16_383  # of a picture taken; a WebP is no longer
POINTS = 120  # of one curve

Number = int | float  # JSON writes 1.0 as 1 where it likes
Curve = Sequence[tuple[Number, Number]]


class Html(str):
    """Text that is HTML already; any other text is escaped when it enters a tag."""


def join(parts: Iterable[Any]) -> Html:
    """Put parts one after the other; what is not `Html` is escaped."""
    return Html("".join(p if isinstance(p, Html) else escape(str(p)) for p in parts))


def tag(name: str, *inside: Any, **attributes: Any) -> Html:
    """One element; `class_` and `aria_label` become class and aria-label."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
    )
    end = "" if name in ("img", "input") else f"</{name}>"
    return Html(f"<{name}{said}>{join(inside)}{end}")


def fill(title: str, live: bool = False, **parts: str) -> str:
    """The whole page; `title` and every part that is not `Html` are escaped.

    Only the page's own style and script may run: they are allowed by their hashes. A live page may
    also ask the server that it came from.
    """
    page, style, script = _frame()
    safe = {name: join([part]) for name, part in {"title": title, **parts}.items()}
    given = {"policy": policy(live), "style": style, "script": script}
    filled = Template(page).substitute(given, **safe)
    assert len(filled.encode()) < LIMIT_BYTES
    return filled


def policy(live: bool) -> str:
    """What a browser may do with the page."""
    _, style, script = _frame()
    asks = "connect-src 'self'; img-src data: blob: 'self'" if live else "img-src data:"
    return (
        f"default-src 'none'; {asks}; style-src '{digest(style)}'; script-src '{digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _frame() -> tuple[str, str, str]:
    """The page's own HTML, style and script."""
    folder = files("stylex")
    page, *rest = ((folder / name).read_text("utf-8") for name in (PAGE, *STYLES, *SCRIPTS))
    styles, scripts = rest[: len(STYLES)], rest[len(STYLES) :]
    return page, "\n".join(styles), "\n".join(scripts)


def digest(text: str) -> str:
    """What a content security policy calls a style or a script."""
    return "sha256-" + b64encode(sha256(text.encode()).digest()).decode()


def inert(values: Any) -> str:
    """JSON that cannot end the element that it stands in."""
    return json.dumps(values, ensure_ascii=False).replace("<", "\\u003c")


def data(values: Any) -> Html:
    """Data for the page's script."""
    return Html(f'<script type="application/json" id="data">{inert(values)}</script>')


def note(*inside: Any) -> Html:
    """A quiet paragraph."""
    return tag("p", *inside, class_="note")


def caution(says: Any) -> Html:
    """A paragraph that must not be overlooked."""
    return tag("p", tag("strong", "Read with care. "), says, class_="caution")


def facts(pairs: Mapping[str, Any]) -> Html:
    """Names and their values."""
    terms = (tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs.items())
    return tag("dl", *terms, class_="facts")


def folded(summary: str, *inside: Any) -> Html:
    """Something to open."""
    return tag("details", tag("summary", summary), *inside)


def table(
    caption: str, head: Sequence[str], rows: Iterable[Sequence[Any]], marked: int | None = None
) -> Html:
    """A table whose first column names the row; the row `marked` stands out."""
    lines = []
    for i, (name, *cells) in enumerate(rows):
        line = (tag("th", name, scope="row"), *(tag("td", cell) for cell in cells))
        lines.append(tag("tr", *line, class_="marked" if i == marked else "plain"))
    top = tag("tr", *(tag("th", name, scope="col") for name in head))
    whole = tag("table", tag("caption", caption), tag("thead", top), tag("tbody", *lines))
    return scrolling(caption, whole)


def scrolling(label: str, *inside: Any) -> Html:
    """Something wide that scrolls by itself, by keyboard too."""
    return tag("div", *inside, class_="wide", tabindex=0, role="region", aria_label=label)


class Pictures:
    """Turns pictures into data URIs until the room is used up; then words take their place."""

    def __init__(self, room: int = ROOM_BYTES):
        self.room = room

    def show(self, source: Path | Image.Image, alt: str, *, exact: int = EXACT_BYTES) -> Html:
        """An `img`, or a note where there is no readable picture or no room; `exact` in bytes."""
        image = _read(source) if isinstance(source, Path) else source
        if image is None:
            return note(f"There is no readable picture here: {alt}.")
        data = _webp(image, exact)
        if len(data) > self.room:
            return note(f"Left out to keep this file small: {alt}.")
        self.room -= len(data)
        size = {"width": image.width, "height": image.height}
        return tag("img", src=f"data:image/webp;base64,{data}", alt=alt, **size)


def _read(path: Path) -> Image.Image | None:
    """A picture of a run, which may be a stranger's: a PNG as we write it, or none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=["PNG"]) as image:
                if image.width * image.height > MOST_PIXELS or max(image.size) > LONGEST:
                    return None
                return image.convert("RGB")
    except Exception:  # Pillow's readers raise many kinds on a broken file
        return None


def _webp(image: Image.Image, exact: int) -> str:
    """Without loss where that stays below `exact` bytes; hopeless ones are not tried."""
    file = BytesIO()
    if image.width * image.height <= 2 * exact:
        image.save(file, "WEBP", lossless=True, quality=60)
    if not 0 < file.tell() <= exact:
        file = BytesIO()
        image.save(file, "WEBP", quality=88)
    return b64encode(file.getvalue()).decode()


def films(sprite: Path, columns: int) -> list[Image.Image]:
    """One film per row of a sprite: square frames side by side, at most `CELL_PIXELS` high.

    A sprite that is missing or cannot be read has no films.
    """
    image = _read(sprite)
    if image is None or not 0 < columns <= image.width:
        return []
    side = image.width // columns
    rows = [image.crop((0, y, side * columns, y + side)) for y in range(0, image.height, side)]
    return [row.reduce(max(1, side // CELL_PIXELS)) for row in rows]


def curves(
    title: str,
    lines: Mapping[str, Curve],
    *,
    over: str = "images",
    say: Callable[[Number], str] = "{:.3g}".format,
) -> Html:
    """A small line chart from 0 to the largest x; several lines get a legend.

    Args:
        title: what is drawn.
        lines: name of each line and its points; those that are not finite are left out.
        over: unit of x.
        say: a value of y in words.
    """
    lines = {
        name: _thinned([p for p in line if math.isfinite(p[1])]) for name, line in lines.items()
    }
    lines = {name: line for name, line in lines.items() if line}
    if not lines:
        return tag("figure", tag("figcaption", title), note("No value yet."))
    right = max(x for line in lines.values() for x, _ in line) or 1.0
    values = [y for line in lines.values() for _, y in line]
    low, high = min(0.0, *values), max(values)
    span = (high - low) or 1.0
    drawn = [
        tag("polyline", points=_points(line, right, low, span), class_=f"line-{i % 6}")
        for i, line in enumerate(lines.values())
    ]
    end = f"{f'{right:,.0f}' if right == int(right) else number(right)} {over}"
    ends = "; ".join(f"{n} {say(line[0][1])} to {say(line[-1][1])}" for n, line in lines.items())
    says = f"{title}, from the first to the last of {end}: {ends}"
    parts = [*_axes(end, say(low), say(low + span)), *drawn]
    chart = tag("svg", *parts, viewBox="0 0 280 130", role="img", aria_label=says)
    caption = title if len(lines) > 1 else f"{title}: {say(values[-1])}"
    legend = [_legend(list(lines))] if len(lines) > 1 else []
    return tag("figure", tag("figcaption", caption), chart, *legend)


def _thinned(line: Curve) -> Curve:
    step = math.ceil(len(line) / POINTS)
    parts = [line[i : i + step] for i in range(0, len(line), step or 1)]
    return [(part[-1][0], sum(y for _, y in part) / len(part)) for part in parts]


def _points(line: Curve, right: Number, low: Number, span: Number) -> str:
    return " ".join(
        f"{36 + 240 * x / right:.1f},{110 - 100 * (y - low) / span:.1f}" for x, y in line
    )


def _axes(end: str, low: str, high: str) -> list[Html]:
    return [
        tag("line", x1=36, y1=110, x2=276, y2=110, class_="axis"),
        tag("line", x1=36, y1=10, x2=276, y2=10, class_="axis"),
        tag("text", high, x=31, y=14, text_anchor="end"),
        tag("text", low, x=31, y=113, text_anchor="end"),
        tag("text", "0", x=36, y=125),
        tag("text", end, x=276, y=125, text_anchor="end"),
    ]


def _legend(names: Sequence[str]) -> Html:
    key = [
        tag("svg", tag("polyline", points="0,5 22,5", class_=f"line-{i % 6}"), viewBox="0 0 22 10",
            aria_hidden="true")
        for i in range(len(names))
    ]  # fmt: skip
    return tag("ul", *(tag("li", k, n) for k, n in zip(key, names, strict=True)), class_="legend")


def bars(title: str, values: Mapping[str, Number]) -> Html:
    """Signed bars, one per name, from a common zero."""
    most = max((abs(v) for v in values.values()), default=0.0) or 1.0
    drawn = []
    for i, (name, value) in enumerate(values.items()):
        y, width = 26 * i, 110 * abs(value) / most
        drawn += [
            tag("text", name, x=0, y=y + 10, class_="strong"),
            tag("text", f"{value:+.2f}", x=280, y=y + 10, text_anchor="end"),
            tag("rect", x=f"{140 - (width if value < 0 else 0):.1f}", y=y + 14, height=7,
                width=f"{width:.1f}", class_="fall" if value < 0 else "rise"),
        ]  # fmt: skip
    height = 26 * len(values)
    zero = tag("line", x1=140, y1=0, x2=140, y2=height, class_="axis")
    says = f"{title}: " + ", ".join(f"{name} {value:+.2f}" for name, value in values.items())
    chart = tag("svg", zero, *drawn, viewBox=f"0 0 280 {height}", role="img", aria_label=says)
    return tag("figure", tag("figcaption", title), chart, class_="bars")


# Numbers and lists in words


def percent(share: Number) -> str:
    """A share as a percentage; what is not quite 0 or 100 shows it."""
    value = 100 * share
    close = 0 < value < 1 or 99 < value < 100
    return f"{value:.{1 if close else 0}f}\N{NO-BREAK SPACE}%"


def number(value: Any) -> str:
    """A number to three digits, a large one to the unit."""
    if not isinstance(value, float):
        return f"{value}"
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def known(values: Mapping[str, Any], name: str, say: Callable[[Any], str] = number) -> str:
    """A number, or why there is none: `why_<name>` stands beside a null."""
    if values.get(name) is not None:
        return say(values[name])
    why = values.get(f"why_{name}")
    return f"not measured: {why}" if why else "not measured"


def few(names: Sequence[str], most: int, between: str = ", ") -> str:
    """The first names of many, and how many more there are."""
    more = [f"{len(names) - most} more"] if len(names) > most else []
    return between.join([*names[:most], *more])


def duration(hours: float) -> str:
    """Hours, or where they are few, minutes."""
    return f"{hours:.1f} hours" if hours >= 0.5 else f"{60 * hours:.1f} minutes"


def when(iso: str) -> str:
    """A time in UTC to the minute; nothing for nothing."""
    return f"{iso[:10]} {iso[11:16]} UTC" if iso else ""
