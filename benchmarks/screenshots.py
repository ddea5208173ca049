"""Pictures of the page for the documentation: three widths, both themes, live and offline.

python benchmarks/screenshots.py --run RUN --data photos/ --image 1 --knob 2 --out docs/images

Writes `viewer-WIDTH-THEME.png` and `report-WIDTH-THEME.png` (of a phone the first screen), and
`viewer-desk-THEME.png`: pictures, bars, curve and knobs alone. Needs the packages of the `dev`
extra and Chromium.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from stylex.report import write_report

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from chromium import browsing

ALONE = "for (const it of document.querySelectorAll('.desk .detail, .saving')) it.remove()"
SIZES = {390: 844, 1280: 900, 2560: 1440}  # a phone, a laptop, a wall


def shoot(url: str, name: str, out: Path, *, image: int, knob: int, themes: list[str]) -> None:
    """The bench with an image of the gallery, and a knob at its low end."""
    with browsing() as browser:
        for (width, height), theme in ((size, t) for size in SIZES.items() for t in themes):
            view = {"width": width, "height": height}
            page = browser.new_page(viewport=view, color_scheme=theme)
            page.goto(url)
            page.wait_for_selector("html[data-bench=ready]", timeout=60_000)
            page.locator("#gallery [role=option]").nth(image).click()
            page.wait_for_timeout(1000)
            moved = page.locator(".knob input[type=range]:not([disabled])").nth(knob - 1)
            moved.fill(moved.get_attribute("min") or "0")
            page.wait_for_timeout(2500)  # the examples come a moment later
            page.locator("#bench").evaluate("bench => bench.scrollIntoView()")  # nothing sticks yet
            shown = page if width == min(SIZES) else page.locator("#bench")
            shown.screenshot(path=out / f"{name}-{width}-{theme}.png")
            if (name, width) == ("viewer", 1280):
                page.evaluate(ALONE)
                page.locator(".desk").first.screenshot(path=out / f"{name}-desk-{theme}.png")
            page.close()


def main() -> None:
    """Open the run twice, and look."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True)
    parser.add_argument("--data", help="photos; without them the run's own reconstructions")
    parser.add_argument("--image", type=int, default=0, help="its place in the gallery, from 0")
    parser.add_argument("--knob", type=int, default=1, help="which is moved, from 1")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--themes", nargs="+", default=["light", "dark"])
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    report = write_report(given.run).resolve().as_uri()
    shown = {"image": given.image, "knob": given.knob, "themes": given.themes}
    shoot(report, "report", given.out, **shown)
    command = [sys.executable, "-m", "stylex", "view", "--run", given.run, "--port", "0"]
    command += ["--data", given.data] if given.data else []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        address = next(line.strip() for line in server.stdout if line.startswith("http"))
        shoot(address, "viewer", given.out, **shown)
        server.terminate()


if __name__ == "__main__":
    main()
