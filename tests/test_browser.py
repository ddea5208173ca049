"""The page in a browser, live over the viewer and offline from disk, as a person uses it."""

import base64
import io
import json
import re
import shutil
import time

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from chromium import WCAG, browsing
from PIL import Image
from playwright.sync_api import expect
from viewing import GATE, contents, encoded, gated, run_of, served, session

from stylex.notes import read_notes, write_note
from stylex.report import write_report

pytestmark = pytest.mark.browser

EVIL = "<img src=x onerror=document.title='owned'>"
FAINT = (1.0, 0.2, 0.6)  # the photos beside their reconstructions


@pytest.fixture(scope="module")
def browser():
    """One browser for all tests."""
    with browsing() as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run in closed form, one of its attributes with a shut gate, with its report."""
    opened = session()
    path = run_of(tmp_path_factory.mktemp("runs") / "quarters", opened, **gated(opened))
    write_report(path)
    return path


@pytest.fixture(scope="module")
def address(folder, tmp_path_factory):
    """The viewer on two runs: the second one's classifier looks at another quarter."""
    other = run_of(tmp_path_factory.mktemp("others") / "fourth", session(quarter=3))
    sessions = [session(photos=FAINT), session(photos=FAINT, quarter=3)]
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


def comes(page, wanted, desk=0, within=0):
    """The changed image becomes this: what a page asks for arrives when it arrives."""
    until = time.monotonic() + 5
    while (now := drawn(page, desk)) != pytest.approx(wanted, abs=within):
        assert time.monotonic() < until, f"{now} stays, {wanted} was to come"
        page.wait_for_timeout(20)


def chosen(page, place):
    """Choose an image of the gallery and wait until its reconstruction is there."""
    was = page.locator("figure.before figcaption").first.inner_text()
    page.locator("#gallery [role=option]").nth(place).click()
    expect(page.locator("figure.before figcaption").first).not_to_have_text(was)


def plain(locator):
    """The text of an element, each white space one blank."""
    return re.sub(r"\s+", " ", locator.inner_text())


def tab_to(page, selector, presses=150):
    """Tab until an element of that kind has the focus."""
    for _ in range(presses):
        page.keyboard.press("Tab")
        if page.evaluate("s => document.activeElement.matches(s)", selector):
            return
    pytest.fail(f"no Tab leads to {selector}")


def brought(page, name="mine.jpg", size=(90, 50)):
    """Choose a black image of one's own from disk."""
    photo = encoded(Image.new("RGB", size, "black"), "JPEG")
    page.get_by_label("Your own image").set_input_files(
        {"name": name, "mimeType": "image/jpeg", "buffer": photo}
    )
    page.get_by_text(f"{name}: error of its reconstruction").wait_for()


def saved(page, kind):
    """The file that a button of the first desk saves, and its name."""
    with page.expect_download() as waiting:
        page.locator(".desk").first.get_by_role("button", name=kind).click()
    return waiting.value.path().read_bytes(), waiting.value.suggested_filename


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
    assert strongest(page).get_attribute("aria-valuetext") == "strength 1.00, yes 71\u00a0%"


def test_the_curve_has_the_values_of_the_api(page, address):
    """Each point stands at its strength and at the probability of the class chosen."""
    run = page.request.get(f"{address}/api/runs").json()["runs"][0]
    asked = {"image": 0, "knobs": [], "coordinate": run["knobs"][0]["coordinate"]}
    told = page.request.post(f"{address}/api/runs/0/curve", data=asked).json()
    line = page.locator(".desk").first.locator(".curve polyline")
    line.wait_for(state="attached")
    points = [tuple(map(float, p.split(","))) for p in line.get_attribute("points").split()]
    expected = [
        (36 + 120 * (x + 1), 110 - 100 * p[1])
        for x, p in zip(told["strengths"], told["probabilities"], strict=True)
    ]
    assert np.allclose(points, expected, atol=0.06)
    assert len({round(y) for _, y in points}) > 5  # it is no flat line


def test_the_photo_is_shown_with_its_own_probability(page):
    """In the gallery and beside its reconstruction, which is seen otherwise."""
    assert plain(page.locator("#gallery [role=option]").nth(1)) == "yes 63 % → yes 94 %"
    chosen(page, 1)
    assert plain(page.locator("figure.photo figcaption").first) == "Photo: yes 63 %"
    assert plain(page.locator("figure.before figcaption").first) == "Reconstruction: yes 94 %"
    assert plain(page.locator("figure.photo figcaption").nth(1)) == "Photo: yes 59 %"


def test_an_attribute_in_detail(page):
    """Many images both ways, how the effects lie, where it acts, and the gate with its reason."""
    detail = page.locator(".desk").first.locator(".detail")
    detail.locator(".one-way").nth(1).wait_for()
    assert detail.locator(".one-way").count() == 2
    for way in detail.locator(".one-way").all():
        assert way.locator(".pair canvas").count() == 6  # three images, before and after
        assert bars_of(way) == [50, 50, 50]  # three images with three different effects
    effects = detail.locator(".one-way").last.locator(".pair figcaption").all_inner_texts()
    assert sorted(effects) == ["+0.00", "+0.72", "+1.80"]
    acts = detail.locator(".where canvas").evaluate(
        "c => [8, 24].map(x => c.getContext('2d').getImageData(x, 8, 1, 1).data[0])"
    )
    assert acts == [255, 0]
    assert f"\u2717 survives blur: {GATE['says']}" in detail.locator(".reasons").all_inner_texts()
    assert detail.locator("b").count() == 0
    assert "Coordinate\n0, high end" in detail.locator(".facts").first.inner_text()


def bars_of(way):
    """Heights of the bars of a histogram."""
    heights = [float(bar.get_attribute("height")) for bar in way.locator("svg rect").all()]
    return [height for height in heights if height]


def test_several_knobs_then_reset(page):
    """Live, knobs add up; reset takes back what is not frozen."""
    first, second = page.locator(".desk").first.locator(".knob input[type=range]").all()[:2]
    moved(page, first, 1)
    moved(page, second, 1)
    assert drawn(page) == [255, 255, 0, 0]
    page.locator(".desk").first.get_by_role("checkbox").first.check()
    page.locator(".desk").first.get_by_role("button", name="Reset").click()
    expect(page.locator(".knob output").nth(1)).to_have_text("0")
    comes(page, [255, 0, 0, 0])


def test_flip_and_freeze(page):
    """One attribute is enough; without it the rest does not do it, and the page says so."""
    desk = page.locator(".desk").first
    says = desk.locator(".flip-says")
    desk.get_by_role("button", name="Flip it for me").click()
    expect(says).to_contain_text("Decided as yes with 1 attribute:")
    comes(page, [255, 0, 0, 0])
    moved(page, strongest(page), 0)
    desk.get_by_role("checkbox").first.check()
    desk.get_by_role("button", name="Flip it for me").click()
    expect(says).to_contain_text("It cannot be flipped to yes with what is not frozen")


def test_a_flip_keeps_to_its_image(page):
    """Another one that is chosen while it is looked for gets nothing of it."""
    held = []
    page.route("**/flip", lambda route: held.append(route))
    page.locator(".desk").first.get_by_role("button", name="Flip it for me").click()
    expect(page.locator(".flip-says").first).to_have_text("Looking …")
    chosen(page, 1)
    before = drawn(page)
    with page.expect_response("**/flip") as answer:
        held[0].continue_()
    answer.value.finished()
    page.evaluate("() => new Promise(requestAnimationFrame)")
    assert "Decided" not in page.locator(".flip-says").first.inner_text()
    assert strongest(page).input_value() == "0"
    assert drawn(page) == before
    page.unroute("**/flip")


def test_what_is_frozen_cannot_be_moved(page):
    """Not by hand either, and it stays so where another image is chosen."""
    moved(page, strongest(page), 0.5)
    freeze = page.locator(".desk").first.get_by_role("checkbox").first
    freeze.check()
    expect(strongest(page)).to_be_disabled()
    chosen(page, 1)
    assert freeze.is_checked()
    expect(strongest(page)).to_be_disabled()
    assert strongest(page).input_value() == "0.5"
    freeze.uncheck()
    expect(strongest(page)).to_be_enabled()
    chosen(page, 0)
    assert strongest(page).input_value() == "0"


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
    for red in (0, 255, 0):
        comes(page, [red, 0, 0, 0])


def test_an_image_of_ones_own(page):
    """Chosen from disk, encoded at once, ready to be moved; the gallery can still be reached."""
    chosen(page, 1)
    brought(page)
    assert max(drawn(page)) <= 2
    assert plain(page.locator("figure.photo figcaption").first) == "Photo: no 94 %"
    record = json.loads(saved(page, "JSON")[0])
    assert (record["image"], record["photo"]["no"]) == ("mine.jpg", pytest.approx(0.937, abs=1e-3))
    assert page.locator("#gallery [aria-selected=true]").count() == 0
    page.locator("#sort").focus()
    tab_to(page, "#image-0", presses=2)
    page.keyboard.press("Enter")
    expect(page.locator("#image-0")).to_have_attribute("aria-selected", "true")
    page.get_by_label("Your own image").set_input_files(
        {"name": "evil.png", "mimeType": "image/png", "buffer": b"<svg onload=alert(1)>"}
    )
    page.get_by_text("not a readable image").wait_for()
    page.wrong = [line for line in page.wrong if "422" not in line]


def test_the_same_image_can_be_brought_again(page):
    """After another one of the gallery was looked at: the field does not keep it."""
    brought(page)
    chosen(page, 1)
    expect(page.locator("#image-1")).to_have_attribute("aria-selected", "true")
    assert page.get_by_label("Your own image").input_value() == ""
    brought(page)
    expect(page.locator("#image-1")).to_have_attribute("aria-selected", "false")


def test_an_image_is_dropped(page):
    """Anywhere on the page."""
    photo = base64.b64encode(encoded(Image.new("RGB", (40, 40), "black"))).decode()
    dropped = page.evaluate_handle(
        """photo => { const bytes = Uint8Array.from(atob(photo), c => c.charCodeAt(0)),
        all = new DataTransfer();
        all.items.add(new File([bytes], "dropped.png", { type: "image/png" })); return all; }""",
        photo,
    )
    page.dispatch_event("#desks", "drop", {"dataTransfer": dropped})
    page.get_by_text("dropped.png: error of its reconstruction").wait_for()
    assert page.url.endswith("/")


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
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Names as CSV").first.click()
    assert waiting.value.suggested_filename == "notes.csv"
    assert b"brown spots,expected" in waiting.value.path().read_bytes()
    kept = list(read_notes(folder).values())
    assert [(note["name"], note["mark"]) for note in kept] == [("brown spots", "expected")]
    assert page.title() != "owned"
    name.fill("")
    name.blur()
    page.get_by_label("It is").first.select_option("")
    expect(page.locator(".its-mark", has_text="expected")).to_have_count(0)


def test_a_mark_of_an_older_page_takes_no_name_away(browser, page, address, folder):
    """Each field is sent alone; what another person wrote meanwhile stands."""
    older = opened(browser, address)
    page.get_by_label("Name").first.fill("brown spots")
    page.get_by_label("Name").first.blur()
    expect(page.get_by_text("saved", exact=True).first).to_be_visible()
    older.get_by_label("It is").first.select_option("expected")
    title = older.locator(".desk").first.locator(".knob .about").first
    expect(title).to_have_text("brown spots")
    assert [(n["name"], n["mark"]) for n in read_notes(folder).values()] == [
        ("brown spots", "expected")
    ]
    moved(older, strongest(older), 1)
    record = json.loads(saved(older, "JSON")[0])
    assert record["moves"][0]["attribute"] == "brown spots (expected)"
    older.get_by_label("Name").first.fill("")
    older.get_by_label("Name").first.blur()
    older.get_by_label("It is").first.select_option("")
    expect(older.locator(".its-mark", has_text="expected")).to_have_count(0)
    older.close()


def test_three_runs_two_of_one_name(browser, folder, tmp_path):
    """Each is compared with each, and no two are called alike."""
    paths = [folder, *(run_of(tmp_path / i / "same", session(quarter=3)) for i in "ab")]
    sessions = [session(), session(quarter=3), session(quarter=3)]
    with served(paths, sessions) as address:
        page = opened(browser, address)
        page.get_by_role("button", name="Which attributes does only one").click()
        heads = page.locator("#compared thead tr")
        expect(heads).to_have_count(6)
        names = [row.split("\t")[1:3] for row in heads.all_inner_texts()]
        three = ["quarters", "same (2)", "same (3)"]
        assert names == [[a, b] for a in three for b in three if a != b]
        assert page.wrong == []
        page.close()


def test_names_of_classes_and_files_are_never_run(browser, tmp_path):
    """A stranger's run may call a class anything, and an image."""
    evil = session(photos=True, names=(EVIL, "b", "c"), classes=(EVIL, "yes"))
    with served([run_of(tmp_path / "run", evil)], [evil]) as address:
        page = opened(browser, address)
        assert EVIL in page.locator("#gallery").inner_text()
        assert EVIL in page.locator("#image-0").get_attribute("aria-label")
        assert EVIL in page.locator("figure.photo figcaption").inner_text()
        moved(page, strongest(page), 1)
        page.locator(".curve polyline").wait_for(state="attached")
        page.locator(".one-way").first.wait_for()
        assert page.locator("img[src=x]").count() == 0
        assert page.title() != "owned"
        assert page.wrong == []
        page.close()


def test_two_runs_side_by_side(page):
    """The same image on both desks, and which attribute only one of them uses."""
    assert page.locator(".desk h3").all_inner_texts() == ["quarters", "fourth"]
    page.locator("#gallery [role=option]").nth(1).click()
    for desk in range(2):
        comes(page, [255] * 4, desk)
    for desk, where in enumerate(("", "/runs/1")):  # each card stands on the page of its run
        link = page.locator(".desk").nth(desk).get_by_role("link", name="its card").first
        there, card = link.get_attribute("href").split("#")
        assert there == where
        assert f'id="{card}"' in page.request.get(page.url + where.strip("/")).text()
    page.get_by_role("button", name="Which attributes does only one").click()
    page.locator("#compared table").nth(1).wait_for()
    assert "only quarters" in page.locator("#compared table").first.inner_text()
    assert "only fourth" in page.locator("#compared table").nth(1).inner_text()


VIEWS = {"Changed": (255, 0), "Split": (0, 0), "Difference": (255, 128)}  # left above, below


@pytest.mark.parametrize("view", VIEWS)
def test_a_picture_of_what_is_shown_is_saved(page, view):
    """Photo, reconstruction and the change in the view chosen: the pixels of the screen."""
    moved(page, strongest(page), 1)
    page.locator(".desk").first.get_by_role("button", name=view).click()
    data, name = saved(page, "PNG")
    assert name.endswith(".png")
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.width == 3 * 256 + 2 * 12
        pixels = np.asarray(picture.convert("L"))
    assert [pixels[64, 268 * i + 64] for i in range(3)] == [0, 0, VIEWS[view][0]]
    assert [pixels[192, 268 * i + 64] for i in range(3)] == [0, 0, VIEWS[view][1]]
    words = pixels[262:, :]
    for i in range(3):
        assert (words[:, 268 * i : 268 * i + 256] < 100).sum() > 50


@pytest.mark.parametrize("kind", ["GIF", "WebP"])
def test_a_film_of_what_is_shown_is_saved(page, kind):
    """With the photo beside: where the difference is shown, most of a quarter of it is gray."""
    moved(page, strongest(page), 1)
    page.locator(".desk").first.get_by_role("button", name="Difference").click()
    data, name = saved(page, kind)
    assert name.endswith(f".{kind.lower()}")
    with Image.open(io.BytesIO(data)) as film:
        assert (film.format, film.n_frames) == (kind.upper(), 2)
        film.seek(1)
        pixels = np.asarray(film.convert("L")).astype(int)[:128]
    assert (abs(pixels - 128) < 20).sum() == pytest.approx(3 * 64**2, rel=0.02)
    assert (pixels < 20).sum() == pytest.approx(128**2, rel=0.02)  # the photo


def test_numbers_of_what_is_shown_are_saved(page):
    """Photo, reconstruction, change, and how it came about."""
    moved(page, strongest(page), 1)
    page.locator(".desk").first.get_by_role("button", name="Split").click()
    data, name = saved(page, "JSON")
    record = json.loads(data)
    assert name.endswith(".json")
    assert record["moves"][0]["strength"] == 1
    assert record["changed"]["yes"] == pytest.approx(0.7109, abs=1e-3)
    assert record["photo"] == record["reconstruction"]  # of a.png, which is not faint
    assert (record["image"], record["view"]) == ("a.png", "split")


def test_the_gallery_is_sorted_by_disagreement(page):
    """What photo and reconstruction differ in most comes first: b by 0.30, c by 0.04."""
    page.get_by_label("Sort by").select_option("disagreement")
    names = [o.get_attribute("aria-label") for o in page.locator("#gallery [role=option]").all()]
    assert [name.split(":")[0] for name in names] == ["b.png", "c.png", "a.png"]


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
    comes(page, [255] * 4)
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('.knob input[type=range]')"):
            break
    page.keyboard.press("Home")
    comes(page, [0, 255, 255, 255])


def test_everything_by_keyboard_alone(page):
    """Flip, freeze, save, name and compare: Tab, Enter and Space are enough."""
    page.keyboard.press("Tab")
    tab_to(page, ".flip")
    page.keyboard.press("Enter")
    expect(page.locator(".flip-says").first).to_contain_text("Decided as yes with 1 attribute")
    tab_to(page, ".freeze input")
    page.keyboard.press("Space")
    expect(strongest(page)).to_be_disabled()
    tab_to(page, "[data-save=JSON]")
    with page.expect_download() as waiting:
        page.keyboard.press("Enter")
    assert json.loads(waiting.value.path().read_bytes())["frozen"] == [0]
    title = page.locator(".desk").first.locator(".knob .about").first
    tab_to(page, ".naming input")
    page.keyboard.type("white above")
    page.keyboard.press("Tab")
    expect(title).to_have_text("white above")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Delete")
    page.keyboard.press("Tab")
    expect(title).not_to_have_text("white above")
    tab_to(page, "#compare")
    page.keyboard.press("Space")
    page.locator("#compared table").nth(1).wait_for()


def accessible(page):
    """Axe finds nothing against WCAG 2.2 AA, and nothing sticks out sideways."""
    found = Axe().run(page, options=WCAG).response["violations"]
    assert [(v["id"], [n["html"][:120] for n in v["nodes"][:3]]) for v in found] == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


@pytest.mark.parametrize(
    ("width", "scheme"),
    [(360, "light"), (360, "dark"), (1280, "light"), (1280, "dark"), (2560, "light")],
)
def test_no_barrier_for_anybody(browser, address, folder, scheme, width):
    """Offline, and live with everything in use: an upload, a flip, a split, two runs compared."""
    how = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
    page = opened(browser, (folder / "report.html").as_uri(), **how)
    accessible(page)
    page.close()
    page = opened(browser, address, **how)
    page.locator(".one-way").first.wait_for()
    brought(page, name="an-image-of-ones-own-with-a-long-name.jpg")
    page.locator(".flip").first.click()
    expect(page.locator(".flip-says").first).to_contain_text("Decided as")
    page.locator(".freeze input").first.check()
    page.get_by_role("button", name="Split").first.click()
    page.get_by_role("button", name="Difference").nth(1).click()
    page.locator("#compare").click()
    page.locator("#compared table").nth(1).wait_for()
    accessible(page)
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
    page.locator(".one-way").nth(1).wait_for()
    assert [bars_of(way) for way in page.locator(".one-way").all()] == [[50, 50, 50]] * 2
    for hidden in ("Your own image", "Name"):
        assert not page.get_by_label(hidden).first.is_visible()
    assert not page.get_by_role("button", name="GIF").is_visible()
    with page.expect_download():
        page.get_by_role("button", name="JSON").click()
    page.close()


def test_offline_the_rest_of_the_bench(browser, folder, tmp_path):
    """Split, curve, flip, freeze and reset over the frames, and names as CSV from the page."""
    write_note(folder, 0, name="white above", mark="expected")
    copy = shutil.copytree(folder, tmp_path / "copy")
    write_note(folder, 0, name="", mark="")
    page = opened(browser, write_report(copy).as_uri(), reduced_motion="reduce")
    desk, says = page.locator(".desk"), page.locator(".flip-says")
    start = drawn(page)
    desk.get_by_role("button", name="Flip it for me").click()
    expect(says).to_contain_text("Decided as no with 1 attribute: white above (50")
    expect(desk.locator("figure.after figcaption")).to_contain_text("Changed: no 50")
    assert drawn(page)[0] < start[0] - 100
    assert drawn(page)[1:] == pytest.approx(start[1:], abs=3)
    desk.get_by_role("button", name="Split").click()
    desk.get_by_role("slider", name="Where").fill("100")
    assert drawn(page) == pytest.approx(start, abs=3)
    desk.get_by_role("button", name="Changed").click()
    line = desk.locator(".curve polyline")
    line.wait_for(state="attached")
    heights = [float(point.split(",")[1]) for point in line.get_attribute("points").split()]
    assert len(heights) >= 9
    assert heights == sorted(heights)  # no is the less likely the whiter it is above
    freeze = desk.get_by_role("checkbox", name="Freeze white above")
    freeze.check()
    expect(page.get_by_role("slider", name="white above")).to_be_disabled()
    desk.get_by_role("button", name="Flip it for me").click()
    expect(says).to_contain_text("It is decided as no already")  # by what is frozen
    freeze.uncheck()
    desk.get_by_role("button", name="Reset").click()
    expect(page.locator(".knob output").first).to_have_text("0")
    comes(page, start, within=3)
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Names as CSV").click()
    assert waiting.value.suggested_filename == "notes.csv"
    assert b"0,white above,expected," in waiting.value.path().read_bytes()
    assert page.wrong == []
    page.close()


@pytest.mark.parametrize("size", [(390, 844), (1280, 900)])
def test_the_pictures_stay_in_sight(browser, address, size):
    """At the last knob they are still on the screen, and do not lie over it."""
    page = opened(browser, address, viewport=dict(zip(("width", "height"), size, strict=True)))
    desk = page.locator(".desk").first
    last = desk.locator(".knob input[type=range]").last
    desk.locator(".knobs").evaluate("knobs => { knobs.style.paddingTop = '60rem'; }")  # as if many
    last.focus()
    last.evaluate(
        "knob => scrollTo(0, knob.getBoundingClientRect().bottom + scrollY - innerHeight)"
    )
    picture, knob = desk.locator(".after canvas").bounding_box(), last.bounding_box()
    assert picture["y"] >= 0
    assert picture["y"] + picture["height"] <= size[1]
    over = picture["x"] + picture["width"] > knob["x"] and picture["x"] < knob["x"] + knob["width"]
    assert not over or picture["y"] + picture["height"] <= knob["y"]
    page.close()


@pytest.mark.parametrize("size", [(390, 844), (1000, 1000), (1280, 900)])
def test_what_is_said_of_an_attribute_is_not_covered(browser, address, size):
    """Scrolled up to it, its heading lies above the pictures that stay in sight."""
    page = opened(browser, address, viewport=dict(zip(("width", "height"), size, strict=True)))
    heading = page.locator(".desk > .detail h4").first
    seen = heading.evaluate(
        """heading => {
            scrollBy(0, heading.getBoundingClientRect().top - innerHeight / 2)
            const { left, top, height } = heading.getBoundingClientRect()
            return heading.contains(document.elementFromPoint(left + 5, top + height / 2))
        }"""
    )
    assert seen
    page.close()


def elsewhere(browser, body):
    """A page of another site."""
    page = browser.new_page()
    page.route("http://evil.example/", lambda r: r.fulfill(content_type="text/html", body=body))
    page.goto("http://evil.example/")
    return page


def test_a_form_of_another_site_is_refused(browser, address, folder):
    """It needs no leave of this server to be sent; nothing is written."""
    before = contents(folder)
    field = """name='{"coordinate": 0, "name": "' value='"}'"""
    form = f"<form method=post enctype=text/plain action={address}/api/runs/0/notes><input {field}>"
    page = elsewhere(browser, form)
    with page.expect_response("**/notes") as waiting:
        page.evaluate("document.forms[0].submit()")
    assert waiting.value.status == 403
    assert contents(folder) == before
    page.close()


def test_a_link_in_a_letter_opens_the_door(browser, folder):
    """The cookie comes back although another site's page held the link; a form still does not."""
    with served([folder], [session()], token="right") as where:
        form = f"<form method=post enctype=text/plain action={where}/api/runs/0/notes></form>"
        page = elsewhere(browser, f"<a href={where}/?token=right>look</a>{form}")
        page.get_by_text("look").click()
        page.wait_for_selector("html[data-bench=ready]", timeout=60_000)
        page.go_back()
        with page.expect_response("**/notes") as waiting:
            page.evaluate("document.forms[0].submit()")
        assert waiting.value.status == 403
        page.close()


def test_without_scripts_the_frames_stand_in_a_row(browser, folder):
    """And nothing is shown that would not work."""
    page = browser.new_page(java_script_enabled=False)
    page.goto((folder / "report.html").as_uri())
    assert not page.locator("#bench").is_visible()
    assert page.locator(".film img").first.is_visible()
    page.close()
