"""The demo: what it draws, how it compares found with planted, and a tiny run from end to end."""

import functools
import io
import zipfile

import pytest
import torch
from PIL import Image

from stylex import attfind, cli, demo
from stylex.attfind import Search
from stylex.classifying import train_classifier
from stylex.runs import Run, read_json
from stylex.stylespace import Layout, bounds
from stylex.synthetic import FACTORS, Rule, draw_factors, draw_rule, render, train_reader
from stylex.training import train

COUNTS = {"train": 48, "search": 8, "test": 8}
RULE = Rule(deciding=(5, 2), signs=(1, -1))


@pytest.fixture(scope="module")
def reader():
    """Enough to tell which factor moved."""
    return train_reader(images_seen=3000, members=1)


# found against planted, in closed form: coordinate j of the style is factor j


def found_by_hand(rule: Rule = RULE, count: int = 12) -> Search:
    """AttFind on logits that are the rule itself."""
    signs = torch.zeros(len(FACTORS))
    signs[list(rule.deciding)] = torch.tensor(rule.signs, dtype=torch.float32)

    def score(styles):
        margin = 1.5 * (styles - 0.5) @ signs
        return torch.stack([-margin / 2, margin / 2], 1)

    styles = draw_factors(count, torch.Generator().manual_seed(3))
    ends = bounds(styles)
    measured = attfind.one_by_one(score, styles, ends, coordinates=len(FACTORS))
    layout = Layout((len(FACTORS),), (32,))
    return attfind.find(*measured, layout, classes=("no", "yes"), bounds=ends, styles=styles)


def test_a_right_model_finds_what_was_planted(reader):
    """Both deciding factors, and nothing else."""
    found = found_by_hand()
    assert {a.coordinate for a in found.attributes} == set(RULE.deciding)
    table = demo.compare(render, found, RULE, reader)
    assert table["planted_found"] == 1
    assert table["planted_false"] == 0
    assert table["deciding"] == ["leaf light", "leaf hue"]
    assert {row["factor"] for row in table["attributes"]} == set(table["deciding"])
    for rank, row in enumerate(table["attributes"], start=1):
        coordinate = found.towards(1)[rank - 1].coordinate
        assert (row["rank"], row["factor"], row["decides"]) == (rank, FACTORS[coordinate], True)
        assert set(row["changes"]) == set(FACTORS)
        assert max(row["changes"], key=row["changes"].get) == FACTORS[coordinate]
        moved = demo._moved(found, rank - 1) - found.styles
        truth = moved[:, coordinate].abs().mean().item() * 12**0.5
        assert row["changes"][row["factor"]] == pytest.approx(truth, rel=0.35)


def test_a_wrong_model_finds_nothing(reader):
    """The pictures decide, not the names: here each coordinate draws another factor."""
    found, order = found_by_hand(), torch.tensor([5, 2, 0, 3, 4, 1, 6, 7])
    table = demo.compare(lambda styles: render(styles[:, order]), found, RULE, reader)
    assert table["planted_found"] == 0
    assert table["planted_false"] == len(table["attributes"]) == 2
    assert not any(row["decides"] for row in table["attributes"])


def test_half_a_model_finds_half(reader):
    """One of the deciding factors is drawn by its coordinate, the other is not drawn at all."""
    still = torch.ones(len(FACTORS))
    still[RULE.deciding[0]] = 0
    table = demo.compare(
        lambda styles: render((styles - 0.5) * still + 0.5), found_by_hand(), RULE, reader
    )
    assert table["planted_found"] == 0.5


def test_only_the_first_attributes_count(reader, monkeypatch):
    """What comes later is not compared."""
    monkeypatch.setattr(demo, "FIRST", 1)
    table = demo.compare(render, found_by_hand(), RULE, reader)
    assert [row["rank"] for row in table["attributes"]] == [1]
    assert table["planted_found"] == 0.5


def test_a_search_that_found_nothing(reader):
    """Nothing found is 0 of 2, and no table row."""
    found = found_by_hand()
    empty = Search(**{**vars(found), "attributes": ()})
    table = demo.compare(render, empty, RULE, reader)
    assert (table["planted_found"], table["planted_false"], table["attributes"]) == (0, 0, [])
    assert demo.as_table(table).row_count == 0


def test_each_image_moves_to_the_class_that_it_is_not():
    """Towards "yes" by the first attribute where it is "no", and the other way round."""
    found = found_by_hand()
    yes, no = found.towards(1)[0], found.towards(0)[0]
    assert (yes.coordinate, yes.direction) == (no.coordinate, 1 - no.direction)
    moved, decided = demo._moved(found, 0), found.logits.argmax(1)
    assert set(decided.tolist()) == {0, 1}
    for style, label in zip(moved, decided.tolist(), strict=True):
        attribute = (yes, no)[label]
        assert style[attribute.coordinate] == found.bounds[attribute.direction, yes.coordinate]
    rest = [j for j in range(len(FACTORS)) if j != yes.coordinate]
    assert torch.equal(moved[:, rest], found.styles[:, rest])


# images


def test_images_are_labelled_by_the_rule(tmp_path, monkeypatch):
    """Folders of a zip are splits and labels; the same seed gives the same bytes."""
    monkeypatch.setattr(demo, "COUNTS", COUNTS)
    rule, files = draw_rule(4), Run(tmp_path / "a")
    demo.draw_images(rule, files, seed=4)
    drawn = torch.Generator().manual_seed(4)
    with zipfile.ZipFile(files.images) as archive:
        names = archive.namelist()
        assert len(names) == sum(COUNTS.values())
        for split, count in COUNTS.items():
            labels = rule.labels(draw_factors(count, drawn)).tolist()
            expected = {f"{split}/{('no', 'yes')[k]}/{i:05d}.png" for i, k in enumerate(labels)}
            assert {name for name in names if name.startswith(split)} == expected
        with Image.open(io.BytesIO(archive.read(names[0]))) as image:
            assert (image.size, image.mode) == ((32, 32), "RGB")
    demo.draw_images(rule, Run(tmp_path / "b"), seed=4)
    assert Run(tmp_path / "b").images.read_bytes() == files.images.read_bytes()
    demo.draw_images(draw_rule(5), files, seed=5)  # it is there: left as it is
    assert Run(tmp_path / "b").images.read_bytes() == files.images.read_bytes()


# end to end


@pytest.fixture
def small(monkeypatch, reader):
    """A demo of seconds: few images, narrow networks, the reader at hand."""
    monkeypatch.setattr(demo, "COUNTS", COUNTS)
    monkeypatch.setattr(demo, "CLASSIFIER_IMAGES", 640)
    monkeypatch.setattr(demo, "SEARCHED", 4)
    monkeypatch.setattr(demo, "train_reader", lambda seed: reader)
    narrow = functools.partial(train_classifier, width=16)
    monkeypatch.setattr(demo, "train_classifier", narrow)
    monkeypatch.setattr(demo, "train", functools.partial(train, width=0.0625, device="cpu"))


def test_demo_from_end_to_end(small, tmp_path, capsys, monkeypatch):
    """Everything is written and said; the same command again trains nothing anew."""
    run = str(tmp_path / "demo")
    table = demo.demo(run=run, seed=1, total_images=96)
    files, said = Run(run), capsys.readouterr().out
    assert read_json(files.planted) == table
    assert {"planted_found", "planted_false", "minutes", "seed", "attributes"} <= set(table)
    assert table["rule"] == str(draw_rule(1))
    assert set(table["agreement"]) >= {"own", "mean_w", "other_w", "swapped_p", "mean_p", "chance"}
    assert table["sufficiency10"] == read_json(files.metrics)["sufficiency10"]
    assert table["resumed"] is False
    assert read_json(files.search)["made"]["images"] == 4
    assert len(list(files.explanations.iterdir())) == (3 if table["attributes"] else 0)
    assert "<h1" in files.report.read_text(encoding="utf-8")
    for words in ("minutes on two cores", table["rule"], "floors: mean w", str(files.report)):
        assert words in said
    assert said.index("minutes on two cores") < said.index("1. images")

    def again(*given, **options):
        raise AssertionError("the classifier was trained again")

    monkeypatch.setattr(demo, "train_classifier", again)
    second = demo.demo(run=run, seed=1, total_images=96)
    assert second["resumed"] is True
    assert second["attributes"] == table["attributes"]
    assert "min left" not in capsys.readouterr().out


def test_demo_without_attributes_goes_to_its_end(small, tmp_path, capsys, monkeypatch):
    """A search that finds nothing is told, not a crash after ten minutes."""

    def still(synthesis, classify, styles, bounds, **options):
        n, j = len(styles), synthesis.layout.searched
        return torch.zeros(n, j, 2, 2), torch.eye(2)[torch.arange(n) % 2]

    monkeypatch.setattr(demo.explaining.sweep, "measure", still)
    table = demo.demo(run=str(tmp_path / "demo"), total_images=32)
    assert (table["planted_found"], table["attributes"]) == (0, [])
    said = capsys.readouterr().out
    assert "no attribute towards yes: no coordinate raises its logit" in said
    assert Run(tmp_path / "demo").report.is_file()


def test_the_command_is_the_function():
    """`stylex demo` takes its options from `demo.demo`."""
    assert cli.command("demo") is demo.demo
