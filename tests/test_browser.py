"""The page in a browser, live over the viewer and offline from disk, as a person uses it."""

import io
import json
import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from chromium import browsing
from PIL import Image
from playwright.sync_api import expect
from viewing import encoded, run_of, served, session

from stylex.notes import read_notes
from stylex.report import write_report

pytestmark = pytest.mark.browser

EVIL = "<img src=x onerror=document.title='owned'>"
WCAG = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}


@pytest.fixture(scope="module")
def browser():
    """One browser for all tests."""
    with browsing() as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run in closed form, with its report."""
    path = run_of(tmp_path_factory.mktemp("runs") / "quarters", session())
    write_report(path)
    return path


@pytest.fixture(scope="module")
def address(folder, tmp_path_factory):
    """The viewer on two runs: the second one's classifier looks at another quarter."""
    other = run_of(tmp_path_factory.mktemp("others") / "fourth", session(quarter=3))
    sessions = [session(photos=True), session(photos=True, quarter=3)]
    with served([folder, other], sessions) as where:
        yield where


def opened(browser, url, **options):
    """A page that is ready; any error of its script or its policy fails the test."""
    page = browser.new_page(**options)
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("console", lambda said: page.wrong.append(said.text) if said.type == "error" else None)
    page.goto(url)
    page.wait_for_selector("html[data-bench=ready]", timeout=60_000)
    return page


@pytest.fixture
def page(browser, address):
    """The live page."""
    live = opened(browser, address, viewport={"width": 1280, "height": 900})
    yield live
    assert live.wrong == []
    live.close()


def drawn(page, desk=0):
    """The changed image's four quarters, red."""
    return page.evaluate(
        """n => { const c = document.querySelectorAll(".desk .after canvas")[n], s = c.width,
        p = c.getContext("2d"), at = (x, y) => p.getImageData(x * s, y * s, 1, 1).data[0];
        return [at(.25, .25), at(.75, .25), at(.25, .75), at(.75, .75)]; }""",
        desk,
    )


def strongest(page, desk=0):
    """The slider that the desk shows first."""
    return page.locator(".desk").nth(desk).locator(".knob input[type=range]").first


def moved(page, slider, value):
    """Move a slider and wait until the image is there; how long it took in milliseconds."""
    page.evaluate(
        "window.shown = new Promise((done, late) => { setTimeout(late, 5000, 'not drawn');"
        " document.addEventListener('drawn', e => done(e.detail), {once: true}); }); 0"
    )
    slider.fill(str(value))
    return page.evaluate("window.shown")


def test_open_and_move(page):
    """A knob changes the image, its probabilities and the curve."""
    assert page.locator("#gallery [role=option]").count() == 3
    assert drawn(page) == [0, 0, 0, 0]
    moved(page, strongest(page), 1)
    assert drawn(page) == [255, 0, 0, 0]
    bars = page.locator(".desk").first.locator(".share-line").nth(1)
    assert re.sub(r"\s", " ", bars.inner_text().replace("\n", " ")).startswith("yes 71 % was 6 %")
    page.locator(".desk").first.locator(".curve polyline").wait_for(state="attached")


def test_several_knobs_then_reset(page):
    """Live, knobs add up; reset takes back what is not frozen."""
    first, second = page.locator(".desk").first.locator(".knob input[type=range]").all()[:2]
    moved(page, first, 1)
    moved(page, second, 1)
    assert drawn(page) == [255, 255, 0, 0]
    page.locator(".desk").first.get_by_role("checkbox").first.check()
    page.locator(".desk").first.get_by_role("button", name="Reset").click()
    expect(page.locator(".knob output").nth(1)).to_have_text("0")
    page.wait_for_timeout(100)
    assert drawn(page) == [255, 0, 0, 0]


def test_flip_and_freeze(page):
    """One attribute is enough; without it the rest does not do it, and the page says so."""
    desk = page.locator(".desk").first
    says = desk.locator(".flip-says")
    desk.get_by_role("button", name="Flip it for me").click()
    expect(says).to_contain_text("Decided as yes with 1 attribute:")
    page.wait_for_timeout(100)
    assert drawn(page) == [255, 0, 0, 0]
    moved(page, strongest(page), 0)
    desk.get_by_role("checkbox").first.check()
    desk.get_by_role("button", name="Flip it for me").click()
    expect(says).to_contain_text("It cannot be flipped to yes with what is not frozen")


def test_split_difference_and_flicker(browser, address):
    """Three ways to compare; with reduced motion flicker swaps once a press and never by itself."""
    page = opened(browser, address, reduced_motion="reduce")
    moved(page, strongest(page), 1)
    page.get_by_role("button", name="Difference").first.click()
    assert drawn(page) == [255, 128, 128, 128]
    page.get_by_role("button", name="Split").first.click()
    split = page.get_by_role("slider", name="Where").first
    split.fill("100")
    assert drawn(page) == [0, 0, 0, 0]
    split.fill("0")
    assert drawn(page) == [255, 0, 0, 0]
    flicker = page.locator(".desk").first.get_by_role("button", name="Flicker")
    seen = []
    for _ in range(2):
        flicker.click()
        seen.append(drawn(page)[0])
        page.wait_for_timeout(700)
        assert drawn(page)[0] == seen[-1]
    assert sorted(seen) == [0, 255]
    assert page.wrong == []
    page.close()


def test_flicker_swaps_by_itself(page):
    """At 600 ms, where motion is welcome."""
    moved(page, strongest(page), 1)
    page.locator(".desk").first.get_by_role("button", name="Flicker").click()
    assert drawn(page)[0] == 0
    page.wait_for_timeout(750)
    assert drawn(page)[0] == 255


def test_an_image_of_ones_own(page):
    """Chosen from disk, encoded at once, ready to be moved."""
    photo = encoded(Image.new("RGB", (90, 50), "black"), "JPEG")
    page.get_by_label("Your own image").set_input_files(
        {"name": "mine.jpg", "mimeType": "image/jpeg", "buffer": photo}
    )
    page.get_by_text("mine.jpg: error of its reconstruction").wait_for()
    assert max(drawn(page)) <= 2
    assert page.locator("figure.photo").first.is_visible()
    page.get_by_label("Your own image").set_input_files(
        {"name": "evil.png", "mimeType": "image/png", "buffer": b"<svg onload=alert(1)>"}
    )
    page.get_by_text("not a readable image").wait_for()
    page.wrong = [line for line in page.wrong if "422" not in line]


def test_a_name_is_saved_and_never_run(page, folder):
    """On the knob, on the card and in the run, as text."""
    title = page.locator(".desk").first.locator(".knob .about").first
    name = page.get_by_label("Name").first
    for text in (EVIL, "brown spots"):
        name.fill(text)
        name.blur()
        expect(title).to_have_text(text)
        expect(page.locator(".its-name", has_text=text).first).to_be_visible()
    page.get_by_label("It is").first.select_option("expected")
    expect(page.locator(".its-mark", has_text="expected").first).to_be_visible()
    kept = list(read_notes(folder).values())
    assert [(note["name"], note["mark"]) for note in kept] == [("brown spots", "expected")]
    assert page.title() != "owned"
    name.fill("")
    name.blur()
    page.get_by_label("It is").first.select_option("")
    expect(page.locator(".its-mark", has_text="expected")).to_have_count(0)


def test_two_runs_side_by_side(page):
    """The same image on both desks, and which attribute only one of them uses."""
    assert page.locator(".desk h3").all_inner_texts() == ["quarters", "fourth"]
    page.locator("#gallery [role=option]").nth(1).click()
    page.wait_for_timeout(300)
    assert drawn(page, 0) == drawn(page, 1) == [255] * 4
    page.get_by_role("button", name="Which attributes does only one").click()
    page.locator("#compared table").nth(1).wait_for()
    assert "only quarters" in page.locator("#compared table").first.inner_text()
    assert "only fourth" in page.locator("#compared table").nth(1).inner_text()


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WebP", "JSON"])
def test_what_is_shown_is_saved(page, kind):
    """As a picture, an animation or data."""
    moved(page, strongest(page), 1)
    with page.expect_download() as waiting:
        page.locator(".desk").first.get_by_role("button", name=kind).click()
    data = waiting.value.path().read_bytes()
    assert waiting.value.suggested_filename.endswith(f".{kind.lower()}")
    if kind == "JSON":
        record = json.loads(data)
        assert record["moves"][0]["strength"] == 1
        assert record["changed"]["yes"] == pytest.approx(0.7109, abs=1e-3)
        return
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.format == kind.upper()
        assert getattr(picture, "n_frames", 1) == (1 if kind == "PNG" else 2)


def test_the_gallery_is_sorted(page):
    """By class: what is redrawn as the first class comes first."""
    page.get_by_label("Sort by").select_option("class")
    names = [o.get_attribute("aria-label") for o in page.locator("#gallery [role=option]").all()]
    assert [name.split("redrawn ")[1].split()[0] for name in names] == ["no", "yes", "yes"]
    page.get_by_label("Sort by").select_option("confidence")
    assert (
        page.locator("#gallery [role=option]").last.get_attribute("aria-label").startswith("c.png")
    )


def test_by_keyboard_alone(page):
    """Tab to the gallery, arrows within it, Enter chooses; tab to a knob, arrows move it."""
    page.locator("#sort").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_timeout(300)
    assert drawn(page) == [255] * 4
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('.knob input[type=range]')"):
            break
    page.keyboard.press("Home")
    page.wait_for_timeout(300)
    assert drawn(page) == [0, 255, 255, 255]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_no_barrier_for_anybody(browser, address, folder, scheme, width):
    """Axe finds nothing against WCAG 2.2 AA, live and offline, and nothing sticks out sideways."""
    for url in (address, (folder / "report.html").as_uri()):
        page = opened(browser, url, color_scheme=scheme, viewport={"width": width, "height": 800})
        page.wait_for_timeout(500)
        found = Axe().run(page, options=WCAG).response["violations"]
        said = [(v["id"], [n["html"][:120] for n in v["nodes"][:3]]) for v in found]
        assert said == []
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0
        page.close()


def test_offline_from_disk(browser, folder):
    """The same page without a server: its frames, one knob at a time, and no request at all."""
    page = browser.new_page()
    asked = []
    page.on(
        "request",
        lambda r: asked.append(r.url) if not r.url.startswith(("data:", "blob:")) else None,
    )
    url = (folder / "report.html").as_uri()
    page.goto(url)
    page.wait_for_selector("html[data-bench=ready]")
    assert [request for request in asked if not request.startswith(("data:", "blob:"))] == [url]
    slider = page.locator(".knob input[type=range]:not([disabled])").first
    end = slider.get_attribute("max")
    before = drawn(page)
    moved(page, slider, end if end != "0" else slider.get_attribute("min"))
    assert drawn(page) != before
    for hidden in ("Your own image", "Name"):
        assert not page.get_by_label(hidden).first.is_visible()
    assert not page.get_by_role("button", name="GIF").is_visible()
    with page.expect_download():
        page.get_by_role("button", name="JSON").click()
    page.close()


def test_without_scripts_the_frames_stand_in_a_row(browser, folder):
    """And nothing is shown that would not work."""
    page = browser.new_page(java_script_enabled=False)
    page.goto((folder / "report.html").as_uri())
    assert not page.locator("#bench").is_visible()
    assert page.locator(".film img").first.is_visible()
    page.close()
