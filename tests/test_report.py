"""The report: safe, small, whole, and honest about what is missing."""

import html
import json
import re
import shutil
import subprocess
import sys
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from measured import attribute as honest
from measured import evaluated, smudge
from PIL import Image

from stylex.notes import write_note
from stylex.page import LIMIT_BYTES, Pictures, curves, films, number, percent
from stylex.report import write_report
from stylex.runs import Run, append_line, read_json, write_json

STRENGTHS = [i / 8 for i in range(9)]
EVIL = "<script>alert('x')</script>"
FLOORS = {"mean_w": 0.61, "other_w": 0.6, "swapped_p": 0.48, "mean_p": 0.86, "chance": 0.5}


def picture(row: int, strength: float, side: int) -> Image.Image:
    """A square of flat colour with a patch that grows redder with the strength."""
    image = Image.new("RGB", (side, side), (40 + 30 * row, 120, 60))
    patch = Image.new("RGB", (side // 3, side // 3), (int(255 * strength), 90, 40))
    image.paste(patch, (side // 4, side // 4))
    return image


def sheet(rows: int, columns: int, side: int = 32, draw=picture) -> Image.Image:
    """Rows of pictures whose strength grows from left to right."""
    whole = Image.new("RGB", (columns * side, rows * side))
    for row in range(rows):
        for column in range(columns):
            cell = draw(row, column / max(1, columns - 1), side)
            whole.paste(cell, (column * side, row * side))
    return whole


def save(image: Image.Image, path: Path) -> None:
    """Write a picture where the run has no folder yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def make_log(run: Run) -> None:
    """A training of 40 lines; every tenth is a snapshot with measures."""
    for i in range(1, 41):
        near = 0.9**i
        measures = {"l1": 0.12 + 0.4 * near, "perceptual": 0.1 + 0.5 * near}
        agreement = {("" if k == "chance" else "agreement_") + k: v for k, v in FLOORS.items()}
        says = {"name": "stuck", "says": f"L1 {near:.2f} is near the mean", "advice": "train on"}
        line = {
            "images_seen": 4000 * i,
            "seconds": 40.0 * i,
            "images_per_second": 98.5,
            "losses": {"l1": 0.1 + near, "adversarial": near - 0.2, "encoder": float("nan")},
        }
        if i % 10 == 0:
            line["measures"] = {**measures, "agreement": 0.95, **agreement}
            line["health"] = [says] if i < 30 else []
        append_line(run.log, line)


def make_attribute(
    run: Run, attribute: dict, *, enough: bool = True, draw=picture, side=32
) -> None:
    """One folder of attributes/, with pictures of four examples."""
    folder = run.attributes / f"{attribute['target']}-{attribute['rank']}"
    rises = [(r, [0.1 + 0.6 * s + 0.05 * r for s in STRENGTHS]) for r in range(4)]
    sign = 1 if attribute["target"] else -1
    examples = [
        {
            "name": f"leaf_{r}.jpg",
            "probability": ps,
            "logits": [[sign * (0.5 - p), sign * (p - 0.5)] for p in ps],
        }
        for r, ps in rises
    ]
    says = "" if enough else "Only 2 images rise by 0.1: nothing is shown."
    effects = [-sign * attribute["effect"], sign * attribute["effect"]]
    shown = {"examples": examples, "strengths": STRENGTHS} if enough else {}
    about = {**attribute, "enough": enough, "says": says, "mean_effects": effects, **shown}
    write_json(folder / "attribute.json", about)
    if enough:
        save(sheet(4, 9, side, draw), folder / "frames.png")
        save(picture(0, 1.0, side), folder / "map.png")


def make_search(run: Run, *, draw=picture, side: int = 32) -> None:
    """Two attributes towards each class; the first ones are the two ends of one coordinate."""
    ranked = [(0, 1, 77, 0, 0.9), (0, 2, 12, 1, 0.4), (1, 1, 77, 1, 1.2), (1, 2, 301, 0, 0.3)]
    attributes = [
        {"target": t, "rank": r, "coordinate": j, "direction": d, "effect": e, "share": 0.4}
        | {"layer": 3, "resolution": 16}
        for t, r, j, d, e in ranked
    ]
    made = {"date": "2026-01-02", "machine": "one", "seconds": 60.0, "images": 250, "left_out": 3}
    made |= {"strength": 1.0, "threshold": 1.0, "rule": "notebook"}
    ranks = [{k: v for k, v in a.items() if k != "rank"} for a in attributes]
    found = {"made": made, "classes": ["a", "b"], "logit_std": [1.9, 2.1], "attributes": ranks}
    write_json(run.search, found)
    for attribute in attributes:
        make_attribute(run, attribute, enough=attribute["rank"] == 1, draw=draw, side=side)


def make_explanation(run: Run, image: str, *, draw=picture) -> None:
    """One explained image that flips at its second step."""
    first = {"coordinate": 77, "direction": 1, "rank": 1}
    second = {"coordinate": 301, "direction": 0, "rank": 2}
    steps = {
        "independent": [{**first, "effect": 0.8, "probability": 0.4}],
        "subset": [
            {**first, "probability": 0.4, "flipped": False},
            {**second, "probability": 0.62, "flipped": True},
        ],
    }
    answer = {
        "image": image,
        "created": "2026-01-03T10:00:00+00:00",
        "target": 1,
        "photo_logits": [2.0, -1.0],
        "reconstruction_logits": [0.7, -0.7],
        "l1": 0.13,
        "perceptual": None,
        "why_perceptual": "the run has no perceptual network",
        "warnings": ["The reconstruction is 21 points less healthy than the photo."],
        "agreement_floors": {"own": 0.95, **FLOORS},
        "steps": steps,
        "flipped": True,
        "flipped_at": 2,
    }
    folder = run.explanations / "one"
    write_json(folder / "explanation.json", answer)
    save(sheet(1, 4, 64, draw), folder / "strip.png")
    save(sheet(1, 2, 64, draw), folder / "maps.png")


def make_metrics(run: Run) -> None:
    """Metrics with a floor that could not be had."""
    metrics = {
        "images": 200,
        "split": "test",
        "reconstruction": {"l1": 0.13, "l1_mean_image": 0.29, "l1_pca128": 0.08}
        | {"perceptual": 0.11, "perceptual_mean_image": 0.4, "perceptual_pca128": 0.13}
        | {"perceptual_kind": "lpips-squeeze"},
        "agreement": {"own": 0.95, **FLOORS, "kl": 0.08},
        "sufficiency10": {
            "healthy->sick": {"share": 0.29, "images": 96, "low": 0.2, "high": 0.39}
            | {"random": None, "why_random": "the search was made before"}
        },
        "participation_ratio": 41.7,
        "oracle": None,
        "why_oracle": "no second classifier was given",
        "logit_std": [1.9, 2.1],
    }
    write_json(run.metrics, metrics)


def make_about(run: Run, classes: tuple[str, ...] = ("healthy", "sick")) -> None:
    """The run's own description."""
    about = {
        "version": 1,
        "created": "2026-01-01T08:00:00+00:00",
        "machine": "Linux x86_64, 2 cores",
        "stylex": "0.1.0",
        "seed": 0,
        "resolution": 32,
        "channels": 3,
        "classes": list(classes),
        "classifier": {"source": "leaves.py:classifier", "hash": "0123456789abcdef", "size": 64},
        "data": {"source": "photos", "hash": "fedcba9876543210", "skipped": ["broken.jpg"]}
        | {"counts": {"train": 1600, "search": 200, "test": 200}},
        "settings": {"resolution": 32, "seed": 0, "perceptual": "lpips", "flips": True},
        "images_seen": 160000,
        "hours": 0.45,
        "finished": "2026-01-01T08:27:00+00:00",
    }
    write_json(run.about, about)


def make_run(path: Path, classes: tuple[str, ...] = ("healthy", "sick"), *, draw=picture) -> Run:
    """A whole run directory as the stages leave it."""
    run = Run(path)
    make_about(run, classes)
    make_log(run)
    save(sheet(5, 6, 32, draw), run.sheet(160000))
    make_search(run, draw=draw)
    make_explanation(run, "photo.jpg", draw=draw)
    make_metrics(run)
    return run


def plain(run: Run) -> str:
    """The report with ordinary spaces."""
    return write_report(run.path).read_text("utf-8").replace("\N{NO-BREAK SPACE}", " ")


class Seen(HTMLParser):
    """Collects the tags and the text of a page."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        """Keep a tag."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        """Keep a text."""
        self.text += data

    def all(self, name: str) -> list[dict[str, str | None]]:
        """The attributes of all tags of one name."""
        return [attributes for tag, attributes in self.tags if tag == name]


def scripts(page: str) -> int:
    """How many scripts may run: the bench's data beside them is none."""
    data = '<script type="application/json" id="data">'
    assert page.count(data) == 1
    return page.count("<script") - 1


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    """The report of a whole run."""
    run = make_run(tmp_path_factory.mktemp("run"))
    return plain(run)


def test_nothing_is_loaded_from_outside(page):
    """Every address is a data URI or a place in the page; no style is set in a tag."""
    seen = Seen(page)
    thumbnail = 'url("${url}")'  # the script's, of a picture that stands in the page
    assert page.count(thumbnail) == 1
    assert not re.search(r"https?:|//[a-z]|@import|url\(", page.replace(thumbnail, ""))
    for _, attributes in seen.tags:
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
        assert not any(name.startswith("on") or name == "style" for name in attributes)


def test_policy_allows_just_the_own_style_and_script(page):
    """The hashes of the policy are those of what stands in the page."""
    policy = next(a["content"] for a in Seen(page).all("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; img-src data:;")
    for tag in ("style", "script"):
        inside = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL).group(1)
        digest = b64encode(sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert scripts(page) == page.count("<style") == 1


def test_every_picture_has_words(page):
    """Each img has an alt text and each drawing a label; all links lead somewhere."""
    seen = Seen(page)
    images = seen.all("img")
    # 4 examples in both directions, 1 map, sheet, strip, maps
    assert len(images) == 4 + 4 + 1 + 1 + 2
    assert all(len(image["alt"]) > 10 for image in images)
    assert all(s.get("aria-label") or s.get("aria-hidden") for s in seen.all("svg"))
    ids = [a["id"] for _, a in seen.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in seen.all("a")} <= set(ids)


def test_headings_go_down_one_level_at_a_time(page):
    """A screen reader's outline has no holes and one top."""
    levels = [int(tag[1]) for tag, _ in Seen(page).tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))


def test_every_control_has_a_name(page):
    """Sliders stand in labels, buttons hold words; two more belong to the bench."""
    assert page.count("<label>Strength<input") == len(Seen(page).all("input")) - 2 == 2
    assert page.count(">Before / after</button>") == 2


def test_names_are_escaped(tmp_path):
    """A script in a class name, a file name, a health message, a warning stays text."""
    run = make_run(tmp_path, classes=(EVIL, 'b" onload="x'))
    make_explanation(run, EVIL)
    says = {"name": EVIL, "says": EVIL, "advice": EVIL}
    line = {"images_seen": 170000, "images_per_second": 1.0, "losses": {EVIL: 1.0}}
    append_line(run.log, {**line, "health": [says]})
    about = json.loads(run.about.read_text())
    about["data"]["skipped"] = about["classifier"]["source"] = EVIL
    about["settings"][EVIL] = EVIL
    write_json(run.about, about | {"data": {**about["data"], "source": EVIL, "skipped": [EVIL]}})
    page = write_report(run.path).read_text("utf-8")
    assert scripts(page) == 1
    assert EVIL not in page
    assert html.escape(EVIL) in page
    assert not any("onload" in attributes for _, attributes in Seen(page).tags)


def test_agreement_never_stands_without_its_floors(page):
    """Each table of agreement names every floor, with its value."""
    tables = re.findall(r"<table>.*?</table>", page, re.DOTALL)
    shown = [t for t in tables if "own w, own p" in t]
    assert len(shown) == 2  # metrics and the explanation
    for value in ("95 %", "61 %", "60 %", "48 %", "86 %", "50 %"):
        assert all(f"<td>{value}</td>" in t for t in shown)


def test_a_floor_that_is_missing_is_said(tmp_path):
    """Agreement with nothing beside it still lists its floors, as not measured."""
    run = make_run(tmp_path)
    write_json(run.metrics, {"images": 9, "agreement": {"own": 0.9, "why_mean_w": "no time"}})
    text = Seen(write_report(run.path).read_text("utf-8")).text
    assert "not measured: no time" in text
    assert "another photo's w, own pnot measured" in text


@pytest.mark.parametrize(("mean_w", "mean_p", "doubt"), [(0.95, 0.5, True), (0.95, 0.9, False)])
def test_a_class_that_comes_from_p_alone_is_said_first(tmp_path, mean_w, mean_p, doubt):
    """The caution of method.md 3, trap 11, stands above everything else."""
    run = make_run(tmp_path)
    shares = {"own": 0.95, **FLOORS, "mean_w": mean_w, "mean_p": mean_p}
    write_json(run.metrics, {"images": 9, "agreement": shares})
    text = Seen(write_report(run.path).read_text("utf-8")).text
    at = text.find("The probabilities alone carry the class")
    assert (0 < at < text.find("Begun")) == doubt


def test_a_search_that_its_training_has_outgrown_is_said_first(tmp_path):
    """The page shows what was found before, and says that it is of before."""
    run = make_run(tmp_path)
    seen = json.loads(run.about.read_text())["images_seen"]
    for then, says in ((seen, False), (seen - 40, True)):
        write_json(run.search, {"made": {"images_seen": then}, "attributes": []})
        text = Seen(write_report(run.path).read_text("utf-8")).text
        assert (f"from {seen - 40:,} to {seen:,} images after its search" in text) == says


def make_evaluation(run: Run, **other) -> None:
    """What `evaluate` adds to the metrics: two of the four attributes were tried."""
    tried = [honest(0, 1, 77, 0), smudge(1, 1, 77)]
    metrics = json.loads(run.metrics.read_text())
    write_json(run.metrics, metrics | evaluated(attributes=tried) | other)


def card(page: str, place: str) -> str:
    """The card of one attribute."""
    return re.search(rf'<article[^>]*id="attribute-{place}".*?</article>', page, re.DOTALL).group()


def test_attributes_carry_their_gates(tmp_path):
    """A trusted one, an artefact that is set apart, and two that nobody tried."""
    run = make_run(tmp_path)
    make_evaluation(run)
    page = plain(run)
    good, bad, untried = card(page, "0-1"), card(page, "1-1"), card(page, "0-2")
    assert 'class="card trusted"' in good
    assert "<strong>Trusted</strong>" in good
    assert "<h5>Towards healthy</h5>" in good
    assert "<h5>Towards sick (artefact)</h5>" in good  # the other end of the same coordinate
    assert 'class="card artefact"' in bad
    assert "<strong>Artefact</strong>" in bad
    assert "under a blur it keeps 0.02 of its effect, wanted 0.50" in bad
    assert ".card.artefact" in page  # its look
    assert 'class="card untried"' in untried
    assert "Not evaluated" in untried


def test_a_verdict_stands_above_everything(tmp_path):
    """The name of what is wrong with the model comes before the first chapter."""
    run = make_run(tmp_path)
    bad = {"name": "attributes are adversarial", "passed": False, "says": f"{EVIL} of 20 lose it"}
    make_evaluation(run, verdicts=[bad])
    page = write_report(run.path).read_text("utf-8")
    seen = Seen(page)
    assert seen.text.index("Attributes are adversarial.") < seen.text.index("Begun")
    assert scripts(page) == 1
    levels = [int(tag[1]) for tag, _ in seen.tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(b <= a + 1 for a, b in pairwise(levels))
    assert all(s.get("aria-label") or s.get("aria-hidden") for s in seen.all("svg"))


def test_a_run_that_was_never_evaluated_has_no_marks(page):
    """Old keys only: the cards are as they were, and the page says what is to be done."""
    assert 'class="gates"' not in page
    assert "No attribute was tried yet: stylex evaluate does it." in Seen(page).text


def test_nulls_give_their_reason(page):
    """A value that could not be had says why."""
    text = Seen(page).text
    for why in ("the search was made before", "no second classifier", "the run has no perceptual"):
        assert f"not measured: {why}" in text


def test_both_directions_stand_in_one_card(page):
    """The opposite direction is a second column; its own card points there."""
    cards = re.findall(r"<article.*?</article>", page, re.DOTALL)
    first = next(c for c in cards if 'id="attribute-0-1"' in c)
    again = next(c for c in cards if 'id="attribute-1-1"' in c)
    assert first.count('class="way"') == 2
    assert "<h5>Towards healthy</h5>" in first
    assert "<h5>Towards sick</h5>" in first
    assert 'href="#attribute-0-1"' in again
    assert "<img" not in again


def test_a_move_that_raises_both_classes_says_so(tmp_path, page):
    """Of an exclusive or: neither is the other's opposite, so each card shows its own pictures."""
    says = "The same move also raises {}: what it does depends on the rest of the image."
    assert "The same move also raises" not in page
    run = make_run(tmp_path)
    search = json.loads(run.search.read_text())
    search["attributes"][2]["direction"] = 0
    write_json(run.search, search)
    page = write_report(run.path).read_text("utf-8")
    for place, other in (("0-1", "sick"), ("1-1", "healthy")):
        assert says.format(other) in card(page, place)
        assert "beside the opposite direction" not in card(page, place)
    assert page.count("The same move also raises") == 2


def test_too_few_images_are_said_and_not_shown(page):
    """Method.md 4.4: fewer than three images, nothing is shown."""
    card = re.search(r'<article[^>]*id="attribute-0-2".*?</article>', page, re.DOTALL).group()
    assert "Only 2 images rise by 0.1" in card
    assert "<img" not in card
    assert "<input" not in card


def test_an_example_carries_what_the_slider_shows(page):
    """Probabilities and flips of every frame lie beside the film."""
    example = next(a for _, a in Seen(page).tags if a.get("class") == "example")
    assert json.loads(example["data-probabilities"])[:3] == [0.1, 0.175, 0.25]
    flipped = json.loads(example["data-flipped"])
    assert flipped == [False] * 6 + [True] * 3  # probability 0.55 at the seventh frame


def test_flip_and_warning_of_an_explanation(page):
    """Where it flips, the warning, and the photo's own probability are all there."""
    text = Seen(page).text
    assert "The decision flips after 2 attributes." in text
    assert "21 points less healthy than the photo" in text
    assert "healthy95 %80 %" in text  # softmax of (2, -1) and of (0.7, -0.7)


def test_health_is_said_once_in_its_last_words(page):
    """Two findings of one kind are one line with its span; a finding that went is no caution."""
    text = Seen(page).text
    assert text.count("Stuck. L1 0.12 is near the mean. Train on.") == 1
    assert "2 times, from 40,000 to 80,000 images." in text
    assert "Read with care. Stuck" not in text


def test_the_last_health_check_is_a_caution(tmp_path):
    """Lines between two snapshots hold no health; the last one that does is read."""
    run = make_run(tmp_path)
    line = {"images_seen": 1, "images_per_second": 1.0, "losses": {}}
    found = {"name": "NaN", "says": "a loss is not finite", "advice": "lower the rate"}
    append_line(run.log, line | {"health": [found]})
    append_line(run.log, line)
    text = Seen(plain(run)).text
    assert "Read with care. NaN. A loss is not finite. Lower the rate." in text


def test_agreement_is_drawn_with_its_floors(page):
    """One chart holds them all."""
    chart = next(a for _, a in Seen(page).tags if (a.get("aria-label") or "").startswith("Agree"))
    for name in ("agreement 0.95", "mean w 0.61", "other w", "swapped p", "mean p", "chance 0.5"):
        assert name in chart["aria-label"]


def test_a_run_just_begun_has_a_report(tmp_path):
    """No log, no search, no explanation, no metrics: each is said in words."""
    run = Run(tmp_path)
    make_about(run)
    text = Seen(write_report(tmp_path).read_text("utf-8")).text
    for says in ("searched yet", "explained yet", "measured yet", "logged yet"):
        assert f" {says}" in text


def test_pictures_of_an_earlier_search_are_not_shown(tmp_path):
    """A folder whose coordinate is another one belongs to another search."""
    run = make_run(tmp_path)
    search = json.loads(run.search.read_text())
    for attribute in search["attributes"]:
        attribute["coordinate"] += 1
    write_json(run.search, search)
    page = write_report(run.path).read_text("utf-8")
    assert (
        page.count("No pictures of it were made yet.") == 4
    )  # of 4 attributes, one beside another
    assert 'class="film"' not in page


def test_broken_pictures_are_said(tmp_path):
    """A truncated sprite and a missing strip are words, not errors."""
    run = make_run(tmp_path)
    sprite = run.attributes / "0-1" / "frames.png"
    sprite.write_bytes(sprite.read_bytes()[:100])
    (run.explanations / "one" / "strip.png").unlink()
    text = Seen(write_report(run.path).read_text("utf-8")).text
    assert "Its frames cannot be read" in text
    assert "There is no readable picture here: photo.jpg" in text


@pytest.mark.parametrize("name", ["about", "search", "metrics", "log", "attribute"])
def test_broken_json_gives_one_line(tmp_path, name):
    """The file is named."""
    run = make_run(tmp_path)
    file = run.attributes / "0-1" / "attribute.json" if name == "attribute" else getattr(run, name)
    file.write_text('{"version": 1,,}\n')
    with pytest.raises(ValueError, match="is not readable JSON") as error:
        write_report(run.path)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [("about", '{"version": 1}'), ("search", "{}"), ("log", "3"), ("metrics", '{"agreement": 3}')],
)
def test_json_of_something_else_gives_one_line(tmp_path, name, text):
    """Readable, and not what a run writes."""
    run = make_run(tmp_path)
    getattr(run, name).write_text(text + "\n")
    with pytest.raises(ValueError, match="is not a whole run") as error:
        write_report(run.path)
    assert "\n" not in str(error.value)


def test_an_explanation_points_at_the_attributes_of_today(tmp_path):
    """Searched again since, its step is the third attribute; and then none of them."""
    run = make_run(tmp_path)
    answer = json.loads((run.explanations / "one" / "explanation.json").read_text())
    target, step = answer["target"], answer["steps"]["subset"][0]
    found = json.loads(run.search.read_text())
    other = found["attributes"][0] | {"target": target, "coordinate": 70, "direction": 1}
    move = other | {name: step[name] for name in ("coordinate", "direction")}
    for rows, link in (([other, other, move], f"#attribute-{target}-3"), ([other], None)):
        write_json(run.search, found | {"attributes": rows})
        page, at = write_report(run.path).read_text("utf-8"), f"coordinate {step['coordinate']}"
        links = re.findall(rf'href="(#attribute-\d-\d)">[^<]*</a>[^<]*\({at},', page)
        assert set(links) == ({link} if link else set())


def test_a_directory_that_is_no_run(tmp_path):
    """One line says what was wanted."""
    with pytest.raises(FileNotFoundError, match="is not a run"):
        write_report(tmp_path)


def noise(seed: int, side: int) -> Image.Image:
    """The worst picture for a compressor."""
    return Image.frombytes("RGB", (side, side), Random(seed).randbytes(3 * side * side))


def test_the_room_for_pictures_is_kept():
    """What is beyond the room is named in words; the rest is embedded."""
    pictures = Pictures(room=12_000)
    shown = [pictures.show(noise(i, 48), f"noise {i}") for i in range(3)]
    assert [part.startswith("<img") for part in shown] == [True, False, False]
    assert "Left out to keep this file small: noise 2." in shown[2]
    assert 0 <= pictures.room < 3000


def test_large_runs_stay_below_the_limit(tmp_path, monkeypatch):
    """The newest explanations are shown, pictures as long as there is room, all in 10 MB."""
    monkeypatch.setattr("stylex.report.EXPLANATIONS", 34)
    run = make_run(tmp_path)
    answer = json.loads((run.explanations / "one" / "explanation.json").read_text())
    for i in range(37):
        folder = run.explanations / f"{i}"
        new = {"image": f"{i}.jpg", "created": f"3{i:03}"}
        write_json(folder / "explanation.json", answer | new)
        save(noise(i, 180), folder / "strip.png")
        shutil.copy(folder / "strip.png", folder / "maps.png")
    report = write_report(run.path)
    assert LIMIT_BYTES / 2 < report.stat().st_size < LIMIT_BYTES
    text = Seen(report.read_text("utf-8")).text
    assert "36.jpg towards sick" in text
    assert "4 older ones are in explanations/." in text
    assert "Left out to keep this file small: 36.jpg" not in text
    assert "Left out to keep this file small: 3.jpg: where each step acts" in text


def test_films_are_the_rows_of_the_sprite(tmp_path):
    """Rows of three frames of 256 pixels come out as rows of three frames of 128."""
    save(sheet(2, 3, 256), tmp_path / "frames.png")
    rows = films(tmp_path / "frames.png", 3)
    assert [row.size for row in rows] == [(384, 128)] * 2
    assert rows[1].getpixel((1, 1)) == (70, 120, 60)


def test_a_curve_leaves_out_what_is_not_finite():
    """A loss that was once NaN still has a chart of its other values."""
    values = [1.0, float("nan"), 3.0, float("inf"), 2.0]
    drawn = curves("Loss", {"loss": list(enumerate(values))})
    assert "loss 1 to 2" in drawn
    points = re.search(r'points="([^"]*)"', drawn).group(1)
    assert points == "36.0,76.7 156.0,10.0 276.0,43.3"
    assert "No value yet." in curves("Loss", {"loss": [(1.0, float("nan"))]})


def test_shares_do_not_round_to_certainty():
    """What is not quite sure does not read 100 %."""
    shares = [percent(p)[:-2] for p in (0, 0.002, 0.5, 0.998, 1)]
    assert shares == ["0", "0.2", "50", "99.8", "100"]
    assert [number(x) for x in (999.4, 999.7, 0.12345)] == ["999", "1,000", "0.123"]


def test_no_torch():
    """The report is written where no torch is loaded."""
    code = "import stylex.report, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def data_of(page: str) -> dict:
    """What the page's script knows."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(found[1])


def test_knobs_stand_in_the_order_of_their_names(tmp_path):
    """Ranks first: what is called attribute 1 stands above attribute 2, whichever is stronger."""
    run = make_run(tmp_path)
    search = read_json(run.search)
    found = [(0, 5, 0, 0.9), (0, 6, 0, 0.8), (1, 7, 1, 0.3), (1, 8, 1, 0.2)]
    keys = ("target", "coordinate", "direction", "effect")
    more = {"share": 0.4, "layer": 3, "resolution": 16}
    search["attributes"] = [dict(zip(keys, one, strict=True)) | more for one in found]
    write_json(run.search, search)
    knobs = data_of(plain(run))["run"]["knobs"]
    shown = [(knob["ways"][0]["rank"], knob["coordinate"]) for knob in knobs]
    assert shown == [(1, 5), (1, 7), (2, 6), (2, 8)]


def test_names_stand_in_the_tables_and_leave_as_csv(tmp_path):
    """What somebody called an attribute is beside its rank in the evidence, as text."""
    run = make_run(tmp_path)
    assert data_of(plain(run))["csv"] == ""
    evidence = evaluated(attributes=[honest(1, 1, 77), honest(1, 2, 301, 0)])
    write_json(run.metrics, evidence)
    write_note(run.path, 77, name="=" + EVIL, mark="expected")
    page = plain(run)
    assert "1 towards " in page
    assert page.count(f": ={html.escape(EVIL)} (expected)</th>") == 2  # gates, and what else
    assert f"77,'={EVIL},expected," in data_of(page)["csv"]
