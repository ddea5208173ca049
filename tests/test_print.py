"""The report on paper: what only a screen can use is gone, the rest is there, whole."""

import pytest
from chromium import browsing
from measured import evaluated
from test_report import make_run

from stylex.report import write_report
from stylex.runs import write_json

pytestmark = pytest.mark.browser

A4 = {"width": 718, "height": 1047}  # CSS pixels inside margins of 1 cm
SECTIONS = ("about", "attributes", "explanations", "quality", "training", "limits")
CUT = """() => [...document.querySelectorAll("body *")].filter(e => {
  const s = getComputedStyle(e), seen = e.getClientRects().length && s.display !== "inline";
  const clips = [s.overflowX, s.overflowY].some(o => o !== "visible");
  return seen && clips && !e.closest("svg")
    && (e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 1);
}).map(e => `${e.tagName}.${e.className}`)"""
BESIDE = """() => [...document.querySelectorAll("main *")].filter(e =>
  e.getClientRects().length && e.getBoundingClientRect().right > innerWidth + 1
  && !e.closest("svg")).map(e => `${e.tagName}.${e.className}`)"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """The page of a whole, evaluated run with long names, as a printer gets it."""
    run = make_run(tmp_path_factory.mktemp("run"), ("a class with quite a long name", "sick"))
    write_json(run.metrics, evaluated())
    with browsing() as browser:
        page = browser.new_page(viewport=A4)
        page.goto(write_report(run.path).as_uri())
        page.wait_for_selector("html[data-bench=ready]", timeout=60_000)
        assert page.locator("#bench").is_visible()  # on the screen
        page.emulate_media(media="print")
        yield page


def test_the_bench_and_the_links_are_gone(printed):
    """Nobody moves a slider on paper."""
    for gone in ("#bench", "nav", ".skip", ".controls"):
        assert not any(found.is_visible() for found in printed.locator(gone).all()), gone


def test_every_section_is_there(printed):
    """With its heading and what stands below it."""
    for name in SECTIONS:
        section = printed.locator(f"#{name}")
        assert section.is_visible()
        assert section.locator("h2").is_visible()
        assert len(section.inner_text().splitlines()) > 1


def test_nothing_is_cut(printed):
    """Nothing has to be scrolled, and nothing stands beyond the edge of the paper."""
    assert printed.evaluate(CUT) == []
    assert printed.evaluate(BESIDE) == []


def test_the_pictures_are_on_paper(printed):
    """Each with a size."""
    pictures = printed.locator("main section:not(#bench) img").all()
    seen = [picture for picture in pictures if picture.is_visible()]
    assert len(seen) >= 4
    for picture in seen:
        box = picture.bounding_box()
        assert min(box["width"], box["height"]) > 16
