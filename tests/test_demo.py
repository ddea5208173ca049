"""The demo: what it draws, how it compares found with planted, and a tiny run from end to end."""

import functools

import pytest
import torch

from stylex import attfind, cli, demo, drawing
from stylex.attfind import Search
from stylex.classifying import train_classifier
from stylex.edits import moved
from stylex.readers import train_reader
from stylex.runs import Run, read_json
from stylex.scenes import LEAVES
from stylex.stylespace import Layout, bounds
from stylex.synthetic import Rule, draw_rule
from stylex.training import train

COUNTS = {"train": 48, "search": 8, "test": 8}
RULE = Rule(LEAVES, deciding=(5, 2), signs=(1, -1))


@pytest.fixture(scope="module")
def reader():
    """Enough to tell which factor moved."""
    return train_reader(images_seen=3000, members=1)


# found against planted, in closed form: coordinate j of the style is factor j


def found_by_hand(rule: Rule = RULE, count: int = 12) -> Search:
    """AttFind on logits that are the rule itself."""
    signs = torch.zeros(len(LEAVES.factors))
    signs[list(rule.deciding)] = torch.tensor(rule.signs, dtype=torch.float32)

    def score(styles):
        margin = 1.5 * (styles - 0.5) @ signs
        return torch.stack([-margin / 2, margin / 2], 1)

    styles = LEAVES.sample(count, torch.Generator().manual_seed(3))
    ends = bounds(styles)
    measured = attfind.one_by_one(score, styles, ends, coordinates=len(LEAVES.factors))
    layout = Layout((len(LEAVES.factors),), (32,))
    return attfind.find(*measured, layout, classes=("no", "yes"), bounds=ends, styles=styles)


def test_a_right_model_finds_what_was_planted(reader):
    """Both deciding factors, and nothing else."""
    found = found_by_hand()
    assert {a.coordinate for a in found.attributes} == set(RULE.deciding)
    table = demo.compare(LEAVES.render, found, RULE, reader)
    assert table["planted_found"] == 1
    assert table["planted_false"] == 0
    assert table["deciding"] == ["leaf light", "leaf hue"]
    assert {row["factor"] for row in table["attributes"]} == set(table["deciding"])
    for rank, row in enumerate(table["attributes"], start=1):
        coordinate = found.towards(1)[rank - 1].coordinate
        assert (row["rank"], row["factor"], row["decides"]) == (
            rank,
            LEAVES.factors[coordinate],
            True,
        )
        assert set(row["changes"]) == set(LEAVES.factors)
        assert max(row["changes"], key=row["changes"].get) == LEAVES.factors[coordinate]
        way = moved(found, rank - 1, found.styles, found.logits.argmax(1)) - found.styles
        truth = way[:, coordinate].abs().mean().item() * 12**0.5
        assert row["changes"][row["factor"]] == pytest.approx(truth, rel=0.35)


def test_a_wrong_model_finds_nothing(reader):
    """The pictures decide, not the names: here each coordinate draws another factor."""
    found, order = found_by_hand(), torch.tensor([5, 2, 0, 3, 4, 1, 6, 7])
    table = demo.compare(lambda styles: LEAVES.render(styles[:, order]), found, RULE, reader)
    assert table["planted_found"] == 0
    assert table["planted_false"] == len(table["attributes"]) == 2
    assert not any(row["decides"] for row in table["attributes"])


def test_half_a_model_finds_half(reader):
    """One of the deciding factors is drawn by its coordinate, the other is not drawn at all."""
    still = torch.ones(len(LEAVES.factors))
    still[RULE.deciding[0]] = 0
    table = demo.compare(
        lambda styles: LEAVES.render((styles - 0.5) * still + 0.5), found_by_hand(), RULE, reader
    )
    assert table["planted_found"] == 0.5


def test_only_the_first_attributes_count(reader, monkeypatch):
    """What comes later is not compared."""
    monkeypatch.setattr(demo, "FIRST", 1)
    table = demo.compare(LEAVES.render, found_by_hand(), RULE, reader)
    assert [row["rank"] for row in table["attributes"]] == [1]
    assert table["planted_found"] == 0.5


def test_a_search_that_found_nothing(reader):
    """Nothing found is 0 of 2, and no table row."""
    found = found_by_hand()
    empty = Search(**{**vars(found), "attributes": ()})
    table = demo.compare(LEAVES.render, empty, RULE, reader)
    assert (table["planted_found"], table["planted_false"], table["attributes"]) == (0, 0, [])
    assert demo.as_table(table).row_count == 0


# end to end


@pytest.fixture
def small(monkeypatch, reader):
    """A demo of seconds: few images, narrow networks, the reader at hand."""
    monkeypatch.setattr(drawing, "COUNTS", COUNTS)
    monkeypatch.setattr(drawing, "CLASSIFIER_IMAGES", 640)
    monkeypatch.setattr(demo, "SEARCHED", 4)
    monkeypatch.setattr(demo, "train_reader", lambda scene, *, seed: reader)
    narrow = functools.partial(train_classifier, width=16)
    monkeypatch.setattr(drawing, "train_classifier", narrow)
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
    assert read_json(files.about)["data"]["counts"] == COUNTS | {"train": 96}
    assert read_json(files.search)["made"]["images"] == 4
    assert len(list(files.explanations.iterdir())) == (3 if table["attributes"] else 0)
    assert "<h1" in files.report.read_text(encoding="utf-8")
    for words in ("minutes on two cores", table["rule"], "floors: mean w", str(files.report)):
        assert words in said
    assert said.index("minutes on two cores") < said.index("1. images")

    def again(*given, **options):
        raise AssertionError("the classifier was trained again")

    monkeypatch.setattr(drawing, "train_classifier", again)
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
    about = read_json(Run(tmp_path / "demo").about)
    assert about["data"]["counts"] == COUNTS  # a short demo draws no fewer images
    said = capsys.readouterr().out
    assert "no attribute towards yes: no coordinate raises its logit" in said
    assert Run(tmp_path / "demo").report.is_file()


def test_the_command_is_the_function():
    """`stylex demo` takes its options from `demo.demo`."""
    assert cli.command("demo") is demo.demo
