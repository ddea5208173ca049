"""The table and the plot of AttFind's speed, from what attfind_speed.py has measured.

    python benchmarks/attfind_table.py

Prints the table for docs/attfind.md; parts that were not measured have no row. Draws
docs/images/attfind-speed.svg.
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

from made import RESULTS

from stylex.page import Html, tag
from stylex.plotting import STYLE
from stylex.runs import read_json

IMAGE = Path(__file__).parents[1] / "docs" / "images" / "attfind-speed.svg"
WIDTH, LEFT, RIGHT, LINE, TOP, MOST = 720, 400, 80, 26, 60, 1000
BARS = ".bar{fill:#24598f}@media(prefers-color-scheme:dark){.bar{fill:#8cb8e6}}"
NETWORKS = {
    "64_2464_mobilenet": "64 px, mobilenet_v2",
    "256_config_e_mobilenet": "256 px config-e, mobilenet_v2",
}


class Row(NamedTuple):
    """One line of the table; a ratio where it can be drawn."""

    what: str
    wanted: str
    came: str
    ratio: float = 0.0
    least: float = 0.0


def main() -> None:
    """Table and plot."""
    rows = table(read_json(RESULTS / "attfind_speed.json"))
    print("| | to reach | measured |\n|---|---|---|")
    for row in rows:
        print(f"| {row.what} | {row.wanted} | {row.came} |")
    IMAGE.write_text(plot([row for row in rows if row.ratio]) + "\n", encoding="utf-8")


def table(result: dict[str, Any]) -> list[Row]:
    """What was measured, in the order of the goals."""
    networks = {name: result[name] for name in NETWORKS if name in result}
    models = {n: part for n, part in result.items() if isinstance(part, dict) and "fast_8" in part}
    rows = [of_exact(name, part) for name, part in networks.items()]
    native = {name: part for name, part in networks.items() if part.get("exact_bf16_ratio")}
    rows += [of_bf16(name, part) for name, part in native.items()]
    rows += [of_peak(name, part) for name, part in networks.items()]
    rows += [of_fast(name, part, k) for name, part in models.items() for k in (8, 16)]
    rows += [of_ranked(name, part) for name, part in models.items() if "bf16_8" in part]
    told = {name: part for name, part in networks.items() if "fast_expected_ratio" in part}
    rows += [of_random(name, part) for name, part in told.items()]
    if (same := result.get("same_top8", {"lists": 0}))["lists"]:
        different = same["lists"] - same["identical"]
        said = f"; of the {different} others it said so of {same['different_and_unsure']}"
        came = f"{same['identical']} of {same['lists']}{said if different else ''}"
        what = "identical ordered top 8, resampled images, strengths 1 and 3"
        rows.append(Row(what, "all, or the certificate was not sure", came))
    if "memory" in result:
        m = result["memory"]
        what = f"peak memory, {m['resolution']} px, {m['images']} images"
        rows.append(
            Row(what, "<= 2 GB", f"{m['peak_gb']:.2f} GB ({m['libraries_gb']:.2f} GB libraries)")
        )
    if "two_process_speedup" in result:
        came = f"{result['two_process_speedup']:.2f}x"
        rows.append(Row("two processes over one, one core each", ">= 1.8x", came))
    return rows


def of_exact(name: str, part: dict[str, Any]) -> Row:
    """Beside the reproduction's loop; the plain one in brackets."""
    ratio, least = part["exact_ratio"], {"64": 7.0, "256": 1.8}[name.split("_")[0]]
    what = f"exact, {NETWORKS[name]}, {part['coordinates']:,} coordinates"
    came = f"{ratio:.3g}x (the plain loop {part['exact_ratio_plain']:.3g}x)"
    return Row(what, f">= {least:g}x", came, ratio, least)


def of_bf16(name: str, part: dict[str, Any]) -> Row:
    """Every move in bf16, beside the reproduction's loop in fp32."""
    ratio, least = part["exact_bf16_ratio"], 3.3 * name.startswith("256")
    wanted = f">= {least:g}x" if least else "no goal"
    return Row(f"ranked in bf16, {NETWORKS[name]}", wanted, f"{ratio:.1f}x", ratio, least)


def of_peak(name: str, part: dict[str, Any]) -> Row:
    """Of the fastest 3x3 convolution in the same run."""
    wanted = {"64": ">= 75 %", "256": ">= 65 %"}[name.split("_")[0]]
    what = f"share of the convolution peak, {NETWORKS[name]}"
    return Row(what, wanted, f"{part['exact_peak_share']:.0%} of {part['peak_gflops']:.0f} GFLOP/s")


def of_fast(name: str, part: dict[str, Any], count: int) -> Row:
    """A model's quick search beside the loop."""
    fast = part[f"fast_{count}"]
    same = "identical list" if fast["identical"] else "another list"
    what = f"fast, `{name}`, {part['images']} images, k = {count}"
    return Row(what, ">= 100x", f"{fast['ratio']:.0f}x, {same}", fast["ratio"], 100)


def of_ranked(name: str, part: dict[str, Any]) -> Row:
    """A model's search that ranks in bf16, beside the loop."""
    its = part["bf16_8"]
    same = "identical list" if its["identical"] else "another list"
    what = f"all in bf16, then fp32, `{name}`, k = 8"
    return Row(what, "no goal", f"{its['ratio']:.0f}x, {same}", its["ratio"])


def of_random(name: str, part: dict[str, Any]) -> Row:
    """A quick search with random weights; in brackets what it says of more images beforehand."""
    expected, least = part["fast_expected_ratio"], {"64": 200.0, "256": 100.0}[name.split("_")[0]]
    if "fast_ratio" not in part:
        what = f"fast, as it expects, {NETWORKS[name]}"
        return Row(what, f">= {least:g}x", f"{expected:.0f}x", expected, least)
    what = f"fast, {NETWORKS[name]}, {part['fast_images']} images"
    came = f"{part['fast_ratio']:.0f}x (of 250 it expects {expected:.0f}x)"
    return Row(what, f">= {least:g}x", came, part["fast_ratio"], least)


def plot(rows: list[Row]) -> str:
    """How many times as fast as the loop, on a logarithmic scale; dashes stand where it should be.

    Args:
        rows: those with a ratio.
    """
    height = TOP + LINE * len(rows) + 40
    drawn = [
        tag("rect", width=WIDTH, height=height, class_="paper"),
        tag("text", "AttFind: times as fast as the loop", x=12, y=24, font_weight=600),
        tag("text", "dashed: to reach", x=12, y=44, class_="quiet"),
        *(part for i, row in enumerate(rows) for part in bar(row, TOP + LINE * i)),
        tag("line", x1=x(1), x2=x(MOST), y1=height - 32, y2=height - 32, class_="axis"),
        *(
            tag("text", f"{n}x", x=x(n), y=height - 14, class_="quiet", text_anchor="middle")
            for n in (1, 10, 100, MOST)
        ),
    ]
    says = "; ".join(f"{row.what} {row.came}" for row in rows)
    inside = (tag("style", Html(STYLE + BARS)), tag("title", f"AttFind's speed: {says}"), *drawn)
    size = {"viewBox": f"0 0 {WIDTH} {height}", "width": WIDTH, "height": height}
    return tag("svg", *inside, xmlns="http://www.w3.org/2000/svg", role="img", **size)


def bar(row: Row, y: int) -> list[Html]:
    """One row of the plot."""
    name, end = row.what.replace("`", ""), x(row.ratio)
    goal = {"x1": x(row.least), "x2": x(row.least), "y1": y, "y2": y + LINE - 4}
    return [
        tag("text", name if len(name) <= 58 else f"{name[:57]}…", x=12, y=y + 15, font_size=12),
        tag("rect", x=x(1), y=y + 3, width=max(1.0, round(end - x(1), 1)), height=14, class_="bar"),
        *([tag("line", **goal, class_="guide")] if row.least else []),
        tag("text", f"{row.ratio:.3g}x", x=WIDTH - 12, y=y + 15, text_anchor="end"),
    ]


def x(ratio: float) -> float:
    """Where a ratio stands."""
    share = math.log10(min(MOST, max(1.0, ratio))) / math.log10(MOST)
    return round(LEFT + (WIDTH - LEFT - RIGHT) * share, 1)


if __name__ == "__main__":
    main()
