"""What is given away, beside the whole way through the command line in test_cli."""

import pytest
import torch
from measured import attribute
from PIL import Image
from safetensors.torch import save_file
from small import ROWS, Quarters, begun, searched, weighing

from stylex.export import CURVE, _evidence, _without_paths, card, export
from stylex.notes import read_notes, write_note
from stylex.runs import Run, read_json, write_json


def test_names_and_notes_are_given_away(tmp_path):
    """The file of notes goes along, and the animations say what it says."""
    model = Quarters(weighing([[-0.9, 0.9], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]], [0.0, 0.0]))
    run = Run(begun(tmp_path / "run", model))
    searched(model, ROWS).save(run.path)
    write_json(run.metrics, read_json(run.metrics) | {"evaluated": {}})
    save_file({"weight": torch.ones(3)}, run.model)
    write_json(run.attribute(1, 1) / "attribute.json", {"coordinate": 0})
    Image.new("RGB", (100, 40)).save(run.attribute(1, 1) / "before_after.gif", duration=600)
    write_note(run.path, 0, name="brown spots", mark="expected", note="old leaves")
    export(run=str(run.path), out=str(tmp_path / "out"), images="drawn here")
    given = Run(tmp_path / "out")
    assert read_notes(given.path) == read_notes(run.path)
    film = given.attribute(1, 1) / "before_after.gif"
    with Image.open(film) as opened:
        assert opened.info["comment"] == b"brown spots (expected)"


def test_what_is_not_finished_is_not_given_away(tmp_path):
    """Not evaluated, or trained further after its search: one line, and nothing is written."""
    model = Quarters(weighing([[-0.9, 0.9], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]], [0.0, 0.0]))
    run = Run(begun(tmp_path / "run", model))
    found = searched(model, ROWS)
    found.save(run.path)
    then = read_json(run.search)
    write_json(run.search, then | {"made": then["made"] | {"images_seen": 8}})
    save_file({"weight": torch.ones(3)}, run.model)
    options = {"run": str(run.path), "out": str(tmp_path / "out"), "images": "drawn here"}
    seen = read_json(run.about)["images_seen"]
    with pytest.raises(ValueError, match=f"trained from 8 to {seen:,} images after its search"):
        export(**options)
    write_json(run.search, then)
    with pytest.raises(ValueError, match="was not evaluated: `stylex evaluate --run"):
        export(**options)
    assert not (tmp_path / "out").exists()


def test_no_folder_of_the_machine_is_given_away(tmp_path):
    """Wherever a text names one; what is relative, a share or an address stays."""
    model = Quarters(weighing([[-0.9, 0.9], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]], [0.0, 0.0]))
    run = Run(begun(tmp_path / "run", model))
    searched(model, ROWS).save(run.path)
    write_json(run.metrics, read_json(run.metrics) | {"evaluated": {}})
    save_file({"weight": torch.ones(3)}, run.model)
    about = read_json(run.about)
    about["data"] = about["data"] | {"skipped": ["/home/me/a/nope.png: no such file"]}
    write_json(run.about, about)
    stays = "train/a/1.png, 3/4 of https://example.org/a/b, and/or"
    said = {"why_x": "/home/me/runs/x cannot be read: '/home/me/photos/y.png'", "stays": stays}
    write_json(run.metrics, read_json(run.metrics) | said)
    write_json(run.attribute(1, 1) / "attribute.json", {"examples": [{"name": "/home/me/z.png"}]})
    export(run=str(run.path), out=str(tmp_path / "out"), images="drawn here")
    given = Run(tmp_path / "out")
    for path in given.path.rglob("*.json"):
        assert "/home/" not in path.read_text(encoding="utf-8"), path
    assert read_json(given.about)["data"]["skipped"] == ["nope.png: no such file"]
    assert read_json(given.metrics)["why_x"] == "x cannot be read: 'y.png'"
    assert read_json(given.metrics)["stays"] == stays


def test_the_card_says_names():
    """Beside rank and class, and as text: neither a cell nor a tag ends in them."""
    one = attribute(1, 1, 0) | {"called": "<b>brown|spots (expected)"}
    text = "\n".join(_evidence({"attributes": [one]}, []))
    assert "| 1 towards class 1: &lt;b&gt;brown/spots (expected) | trusted |" in text


def test_a_card_shows_the_curve(tmp_path):
    """A line for each snapshot, agreement beside all its floors; what was not measured says so."""
    model = Quarters(weighing([[-0.9, 0.9], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]], [0.0, 0.0]))
    run = Run(begun(tmp_path / "run", model))
    said = {key: i / 8 for i, key in enumerate(CURVE.values()) if key != "images_seen"}
    log = [{"images_seen": 1000, "losses": {}}, {"images_seen": 2000, "measures": said}]
    log.append({"images_seen": 4000, "measures": {k: v for k, v in said.items() if "kid" not in k}})
    text = card(read_json(run.about), read_json(run.metrics), log, images="drawn here")
    rows = text.split("## Training, on search images")[1].splitlines()[2:6]
    assert rows[0].count("|") == rows[1].count("|") == rows[2].count("|") == len(CURVE) + 1
    assert rows[2].startswith("| 2,000 | 0.125 | 0.250 | 0.375 | 0.500 |")
    assert rows[3].startswith("| 4,000 |")
    assert rows[3].endswith("| not measured | not measured |")
    assert "| 1,000 |" not in text


def test_a_card_says_that_a_training_was_stopped(tmp_path):
    """And gives short trainings in minutes."""
    model = Quarters(weighing([[-0.9, 0.9], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]], [0.0, 0.0]))
    run = Run(begun(tmp_path / "run", model))
    about, metrics = read_json(run.about), read_json(run.metrics)
    for seen, stopped in ((300, True), (400, False)):
        about |= {"images_seen": seen, "hours": 0.025}
        about["settings"]["total_images"] = 400
        text = card(about, metrics, [], images="drawn here")
        assert ("Stopped on the way to 400 images" in text) == stopped
        assert "1.5 minutes on " in text


def test_a_card_says_with_whose_networks_a_training_began(tmp_path):
    """How many images they had seen; where they lay is nobody's business."""
    model = Quarters(weighing([[-0.9, 0.9], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]], [0.0, 0.0]))
    run = Run(begun(tmp_path / "run", model))
    searched(model, ROWS).save(run.path)
    write_json(run.metrics, read_json(run.metrics) | {"evaluated": {}})
    model.save(run.path)
    write_json(run.metrics, {"evaluated": {}})
    about = read_json(run.about) | {"begins_after": 40_000}
    about["settings"]["begin_with"] = "/home/somebody/base"
    write_json(run.about, about)
    export(run=str(run.path), out=str(tmp_path / "out"), images="drawn here")
    given = Run(tmp_path / "out")
    assert read_json(given.about)["settings"]["begin_with"] == "base"
    assert "another training had shown 40,000 images" in given.card.read_text()
    assert "somebody" not in given.card.read_text() + given.about.read_text()


def test_the_expression_of_the_groups_stays_whole(tmp_path):
    """It may look like a path; without it nobody could make the same split."""
    assert _without_paths({"group": r"/(p\d+)/"}) == {"group": r"/(p\d+)/"}
