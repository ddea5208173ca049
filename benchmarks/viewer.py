"""How the viewer answers: a knob in the browser, the first paint, memory, five people, attacks.

python benchmarks/viewer.py        (about 10 minutes; --moves 100 to try it)

The networks are untrained (they cost the same): 64 px, full width, 200 photos of noise. Needs the
packages of the `dev` extra and Chromium.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

import httpx
import torch
from made import made, write_result
from PIL import Image

from stylex import explaining, showing
from stylex.classifier import Classifier
from stylex.keeping import remember
from stylex.model import StylEx
from stylex.runs import Run, append_line, machine, now, read_json, write_json
from stylex.smallnet import SmallNet

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from attacks import attack
from chromium import browsing

SIDE, PHOTOS, PEOPLE = 64, 200, 5
MOVE = """async () => {
  window.turn = (window.turn || 0) + 1;
  const slider = document.querySelectorAll(".knob input[type=range]")[window.turn % 2];
  const drawn = new Promise(done => document.addEventListener(
    "drawn", event => done(event.detail), {once: true}));
  const began = performance.now();
  slider.value = Math.random() * 2 - 1;
  slider.dispatchEvent(new Event("input", {bubbles: true}));
  const took = await drawn;
  await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
  return [took, performance.now() - began];
}"""
# when the pictures of all thumbnails have come and a frame with all of them was painted
GALLERY = """(() => {
  const look = () => {
    const asked = performance.getEntriesByType("resource")
      .filter(one => one.name.includes("/atlas/"));
    const there = document.querySelectorAll("#gallery .thumb").length
      && asked.length >= 2 && asked.every(one => one.responseEnd);
    if (there) requestAnimationFrame(() => requestAnimationFrame(
      () => setTimeout(() => window.hung = performance.now())));
    else requestAnimationFrame(look);
  };
  look();
})()"""
PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


def make_run(folder: Path) -> tuple[Path, Path]:
    """A searched run of untrained networks and a folder of photos."""
    torch.manual_seed(0)
    classifier = Classifier(SmallNet(3, 2, resolution=SIDE).eval(), ("no", "yes"), size=SIDE)
    model = StylEx(classifier, resolution=SIDE).eval().requires_grad_(False)
    run, photos = Run(folder / "run"), folder / "photos"
    about = {"version": 1, "created": now(), "machine": machine(), "stylex": "0", "seed": 0}
    about |= {"resolution": SIDE, "channels": 3, "classes": ["no", "yes"], "images_seen": 0}
    about |= {"classifier": remember(classifier, run.path), "finished": now(), "hours": 0}
    about |= {"data": {"source": "noise", "hash": "0", "counts": {}, "skipped": []}}
    about |= {"settings": {"perceptual": "none", "width": 1.0, "group": None}}
    write_json(run.about, about)
    line = {"images_seen": 0, "seconds": 0.0, "images_per_second": 0.0, "losses": {"l1": 1.0}}
    append_line(run.log, line)
    model.save(run.path)
    noise = torch.rand(8, 3, SIDE, SIDE) * 2 - 1
    found = explaining.search(model, noise, count=10, threshold=50.0, mode="fast")
    found.save(run.path)
    showing.illustrate(model, found, [str(i) for i in range(8)], run.path)
    photos.mkdir()
    for i in range(PHOTOS):
        Image.effect_noise((SIDE, SIDE), 40 + i / 4).convert("RGB").save(photos / f"{i:03d}.png")
    return run.path, photos


def memory(pid: int) -> int:
    """Resident memory of a process in bytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def in_the_browser(address: str, pid: int, moves: int) -> dict:
    """First paint, gallery and readiness, the latency of every move, memory before and after.

    A move counts twice: until its picture is on the canvas, and until the frame with it is painted.
    """
    with browsing() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.add_init_script(GALLERY)
        page.goto(address)
        page.wait_for_selector("html[data-bench=ready]", timeout=60_000)
        ready, paint = page.evaluate("performance.now()"), page.evaluate(PAINT)
        page.wait_for_function("window.hung")
        gallery = page.evaluate("window.hung")
        session = page.context.new_cdp_session(page)

        def heap() -> int:
            session.send("HeapProfiler.collectGarbage")
            return page.evaluate("performance.memory.usedJSHeapSize")

        for _ in range(20):
            page.evaluate(MOVE)
        before = (memory(pid), heap())
        took, shown = zip(*(page.evaluate(MOVE) for _ in range(moves)), strict=True)
        after = (memory(pid), heap())
        page.close()
    return {
        "first_paint_ms": paint,
        "gallery_ms": gallery,
        "ready_ms": ready,
        "moves": moves,
        "knob_ms_median": median(took),
        "knob_ms_p95": quantiles(took, n=20)[-1],
        "knob_ms_most": max(took),
        "knob_ms_shown_median": median(shown),
        "memory_growth_bytes": after[0] - before[0],
        "page_growth_bytes": after[1] - before[1],
    }


async def at_once(address: str, requests: int) -> dict:
    """Five people move knobs as fast as they are answered."""

    async def person(client: httpx.AsyncClient, image: int) -> list[float]:
        about = (await client.get("/api/runs")).json()["runs"][0]
        coordinate, took = about["knobs"][0]["coordinate"], []
        for i in range(requests):
            knobs = [{"coordinate": coordinate, "strength": i / requests}]
            began = time.perf_counter()
            answer = await client.post("/api/runs/0/edit", json={"image": image, "knobs": knobs})
            if answer.is_success:
                took.append(1000 * (time.perf_counter() - began))
        return took

    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        took = await asyncio.gather(*(person(client, i) for i in range(PEOPLE)))
    every = [ms for one in took for ms in one]
    return {
        "visitors": PEOPLE,
        "requests": PEOPLE * requests,
        "failed": PEOPLE * requests - len(every),
        "visitors_ms_median": median(every),
        "visitors_ms_most": max(every),
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moves", type=int, default=10_000)
    parser.add_argument("--requests", type=int, default=100, help="of each person")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run, photos = make_run(Path(folder))
        command = [sys.executable, "-m", "stylex", "view", "--run", str(run), "--port", "0"]
        server = subprocess.Popen(
            [*command, "--data", str(photos)], stdout=subprocess.PIPE, text=True
        )
        try:
            assert server.stdout
            address = next(line.strip() for line in server.stdout if line.startswith("http"))
            answer = in_the_browser(address, server.pid, given.moves)
            answer |= asyncio.run(at_once(address, given.requests)) | attack(address)
        finally:
            server.terminate()
            server.wait()
        knobs = len({a["coordinate"] for a in read_json(Run(run).search)["attributes"]})
    shape = {"side": SIDE, "photos": PHOTOS, "knobs": knobs, "threads": torch.get_num_threads()}
    write_result("viewer", made([0]) | shape | answer)


if __name__ == "__main__":
    main()
