"""The planted benchmark: what is drawn, both controls, and a tiny cell from end to end."""

import functools
import io
import shutil
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from small import begun, seeing, tiny

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
import made
import planted

from stylex import drawing, planting
from stylex.classifier import Classifier
from stylex.classifying import train_classifier
from stylex.data import read_splits
from stylex.drawing import (
    draw_images,
    drawn,
    judge_classifier,
    random_classifier,
    small_classifier,
    true_factors,
)
from stylex.planting import judge
from stylex.readers import train_reader
from stylex.rivals import Pixels
from stylex.runs import Run, read_json, write_json
from stylex.scenes import CELLS, LEAVES
from stylex.selection import lead
from stylex.synthetic import draw_rule
from stylex.training import train
from stylex.truth import importance

COUNTS = {"train": 48, "search": 24, "test": 16}


@pytest.fixture
def few(monkeypatch) -> None:
    """Few images."""
    monkeypatch.setattr(drawing, "COUNTS", COUNTS)


def again(*given, **options) -> Classifier:
    """Stands where a stage must not run twice."""
    raise AssertionError("a finished stage was done again")


def names_in(files: Run) -> list[str]:
    """The drawn images of a run."""
    with zipfile.ZipFile(files.images) as archive:
        return archive.namelist()


# --- images and classifiers ----------------------------------------------------------------------


def test_images_are_labelled_by_the_rule(few, tmp_path: Path) -> None:
    """Folders of a zip are splits and labels; the same seed gives the same bytes."""
    rule, files = draw_rule(4), Run(tmp_path / "a")
    draw_images(rule, files, seed=4)
    draw = torch.Generator().manual_seed(4)
    names = names_in(files)
    assert len(names) == sum(COUNTS.values())
    for split, count in COUNTS.items():
        labels = rule.labels(LEAVES.sample(count, draw)).tolist()
        expected = {f"{split}/{('no', 'yes')[k]}/{i:05d}.png" for i, k in enumerate(labels)}
        assert {name for name in names if name.startswith(split)} == expected
    with (
        zipfile.ZipFile(files.images) as archive,
        Image.open(io.BytesIO(archive.read(names[0]))) as image,
    ):
        assert (image.size, image.mode) == ((32, 32), "RGB")
    draw_images(rule, Run(tmp_path / "b"), seed=4)
    assert Run(tmp_path / "b").images.read_bytes() == files.images.read_bytes()
    with pytest.raises(ValueError, match="another rule, seed or number"):
        draw_images(draw_rule(5), files, seed=5)
    assert Run(tmp_path / "b").images.read_bytes() == files.images.read_bytes()


@pytest.mark.parametrize("scene", [LEAVES, CELLS])
def test_true_factors_belong_to_their_images(scene, few, tmp_path: Path) -> None:
    """By name, in the order in which the images are read: each file is drawn again from its row."""
    rule, files = draw_rule(3, scene=scene, kind="and"), Run(tmp_path)
    draw_images(rule, files, seed=3)
    for split, images in read_splits(files.images, resolution=32).items():
        factors = true_factors(rule, images.names, split, seed=3)
        again = scene.render(factors)
        assert (again - images.batch(slice(None))).abs().max() < 2 / 255
        assert [("no", "yes")[k] for k in rule.labels(factors)] == list(images.labels or ())


def test_shuffled_labels_are_others_of_the_same_images(few, tmp_path: Path) -> None:
    """The pictures stay, as many are "yes", and about half of them stand in the other folder."""
    rule, plain, mixed = draw_rule(0), Run(tmp_path / "plain"), Run(tmp_path / "mixed")
    draw_images(rule, plain, seed=0)
    draw_images(rule, mixed, seed=0, control="shuffled")
    names, others = names_in(plain), names_in(mixed)
    assert sum("/yes/" in name for name in names) == sum("/yes/" in name for name in others)
    same = sum(name in others for name in names) / len(names)
    assert 0.3 < same < 0.7
    with zipfile.ZipFile(plain.images) as one, zipfile.ZipFile(mixed.images) as other:
        for name, changed in zip(names, others, strict=True):
            assert one.read(name) == other.read(changed)


def test_random_classifier_is_as_wide_and_balanced_as_a_trained_one(few, tmp_path: Path) -> None:
    """Its margin has mean 0 and the spread of `LEAD`; it is kept, and the seed decides it."""
    files = Run(tmp_path / "a")
    draw_images(draw_rule(0), files, seed=0)
    classifier = random_classifier(files, seed=0)
    photos = read_splits(files.images, resolution=32)["search"].batch(slice(None))
    leads = lead(classifier(photos), 1)
    assert leads.mean().item() == pytest.approx(0, abs=1e-3)
    assert leads.std().item() == pytest.approx(drawing.LEAD, rel=1e-3)
    assert random_classifier(files, seed=7).hash == classifier.hash
    other = Run(tmp_path / "b")
    draw_images(draw_rule(0), other, seed=0)
    assert random_classifier(other, seed=7).hash != classifier.hash


def test_the_judge_is_the_rule() -> None:
    """What it says of rendered images is their label, wherever they are not near the middle."""
    rule, reader = draw_rule(1, kind="and"), train_reader(images_seen=640, members=1)
    factors = LEAVES.sample(200, torch.Generator().manual_seed(0))
    images, clear = LEAVES.render(factors), rule.margin(reader.read(LEAVES.render(factors)))
    says = judge(rule, reader)(images).argmax(1)
    assert torch.equal(says, (clear > 0).long())
    wide = rule.margin(factors).abs() > 0.2
    assert (says == rule.labels(factors))[wide].float().mean() > 0.9


def test_a_hidden_factor_says_nothing_of_the_label(monkeypatch) -> None:
    """Drawn afresh after the labels, which stay: the other one alone goes along with them."""
    monkeypatch.setattr(drawing, "COUNTS", {"train": 3000})
    rule = draw_rule(6)
    plain, labels = drawn(rule, seed=6)["train"]
    for place, control in enumerate(("first", "second")):
        factors, same = drawn(rule, seed=6, control=control)["train"]
        assert torch.equal(labels, same)
        hidden, other = rule.deciding[place], rule.deciding[1 - place]
        assert (factors != plain).any(0).nonzero().flatten().tolist() == [hidden]
        apart = (factors[labels == 1].mean(0) - factors[labels == 0].mean(0)).abs()
        assert apart[hidden] < 0.04
        assert apart[other] > 0.2


def test_two_kinds_of_networks_learn_the_same_images(few, tmp_path: Path, monkeypatch) -> None:
    """A JudgeNet is kept, loads as it was, and can be trained against: its features are seen."""
    monkeypatch.setattr(drawing, "CLASSIFIER_IMAGES", 640)
    files = Run(tmp_path)
    draw_images(draw_rule(0), files, seed=0)
    first = judge_classifier(files, seed=0)
    monkeypatch.setattr(drawing, "fit", again)
    assert judge_classifier(files, seed=1).hash == first.hash
    assert 0 <= first.about["accuracy"] <= 1
    assert len(first.features(torch.zeros(1, 3, 32, 32))) > 2
    assert small_classifier is not judge_classifier


# --- cells ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong", [{"scene": "stars"}, {"control": "none"}, {"kind": "or"}, {"net": "large"}]
)
def test_wrong_cells_are_refused(wrong: dict[str, str], tmp_path: Path) -> None:
    """One line that says what there is, before anything is drawn."""
    given = {"scene": "leaves", "control": "", "kind": "sum"} | wrong
    with pytest.raises(ValueError, match=r"^got .*give .*$"):
        planting.checked(**given)
    assert not list(tmp_path.iterdir())


def test_a_finished_cell_is_kept_and_another_is_refused(tmp_path: Path) -> None:
    """The same command reads the JSON; another needs another directory."""
    asked = {"scene": "cells", "kind": "and", "seed": 2, "control": "", "total_images": 96}
    asked |= {"count": 2, "correlation": 0.0, "net": "small", "training": {}}
    today, told = planting.recipe(asked), asked | {"begins_after": 0}
    write_json(Run(tmp_path).planted, told | {"f1": 0.5, "settings": today})
    assert planting.cell(str(tmp_path), **asked)["f1"] == 0.5
    with pytest.raises(ValueError, match=r"^.* holds another cell than .*; give another"):
        planting.cell(str(tmp_path), **(asked | {"seed": 3}))
    write_json(Run(tmp_path).planted, told | {"settings": today | {"hide_p": 0.0}})
    with pytest.raises(ValueError, match=r"was made with hide_p 0.0, today .* 0.5; give other"):
        planting.cell(str(tmp_path), **asked)
    write_json(Run(tmp_path).planted, told)
    write_json(Run(tmp_path).about, {"settings": today})  # not asked
    with pytest.raises(ValueError, match=r"does not say by which recipe it was made; give other"):
        planting.cell(str(tmp_path), **asked)


def test_a_recipe_is_what_a_cell_does_not_say_itself() -> None:
    """The cells' perceptual distance, or an ablation's, and with a base its rates; neither seed nor
    length nor intervals.
    """
    cold = planting.recipe({"training": {}})
    names = {"rate", "hide_p", "width", "few_weight", "perceptual", "batch", "precision"}
    others = {"seed", "total_images", "device", "resolution", "log_images", "data", "run"}
    assert set(cold) >= names
    assert not set(cold) & others
    assert (cold["perceptual"], cold["rate"]) == ("classifier", 0.006)
    other = planting.recipe({"training": {"perceptual": "none", "rate": 1.0}})
    assert (other["perceptual"], other["rate"]) == ("none", 1.0)
    warm = planting.recipe({"training": {"encoder_rate": 1.0}, "begins_after": 1})
    assert (warm["perceptual"], warm["rate"], warm["encoder_rate"]) == ("lpips", 0.002, 1.0)


def test_a_search_by_another_rule_is_not_taken_up(few, tmp_path: Path, monkeypatch) -> None:
    """The same one is read; one by the notebook's rule gives way to a new one."""
    monkeypatch.setattr(planting, "SEARCHED", 6)
    model = tiny(seeing())
    files = Run(begun(tmp_path, model))
    draw_images(draw_rule(0), files, seed=0)
    photos = read_splits(files.images, resolution=planting.SIDE)["search"]
    first = planting.search(model, photos, files)
    assert planting.how(first) == planting.ASKING
    monkeypatch.setattr(planting.explaining, "search", again)
    assert torch.equal(planting.search(model, photos, files).effects, first.effects)
    replace(first, rule="cumulative").save(files.path)
    with pytest.raises(AssertionError, match="done again"):
        planting.search(model, photos, files)


@pytest.fixture
def small(few, monkeypatch) -> None:
    """Cells of seconds: few images, narrow networks, a reader that has seen little."""
    monkeypatch.setattr(drawing, "CLASSIFIER_IMAGES", 640)
    monkeypatch.setattr(planting, "SEARCHED", 6)
    monkeypatch.setattr(planting, "BASE_IMAGES", 70)
    monkeypatch.setattr(drawing, "train_classifier", functools.partial(train_classifier, width=16))
    monkeypatch.setattr(planting, "train", functools.partial(train, width=0.0625))
    brief = functools.partial(train_reader, images_seen=640, members=1)
    monkeypatch.setattr(planting, "train_reader", brief)
    monkeypatch.setattr(planting, "importance", functools.partial(importance, images=30, draws=1))


KEYS = {"f1", "precision", "recall", "average_precision", "spearman", "sign_accuracy", "purity"}
KEYS |= {"twin_slope", "twin_r2", "twin_explained", "false_discovery", "sufficiency10_confirmed"}
KEYS |= {"used", "readable", "importance", "looked_at", "passed", "passed_falsely", "minutes"}
KEYS |= {"core_minutes", "settings"}


@pytest.mark.slow
def test_a_tiny_cell_from_end_to_end(small, tmp_path: Path, monkeypatch) -> None:
    """Every number is there or says why not; a second call does nothing, one without the JSON
    finds the classifier, the model and the search, and scores the same.
    """
    said: list[str] = []
    asked = {"scene": "cells", "kind": "and", "control": "shuffled", "seed": 1, "total_images": 64}
    table = planting.cell(str(tmp_path), **asked, progress=said.append)
    assert set(table) >= KEYS
    for key in KEYS:
        assert table[key] is not None or table[f"why_{key}"], key
    assert read_json(Run(tmp_path).planted) == table
    assert str(draw_rule(1, scene=CELLS, kind="and")) in said[0]
    assert table["rule"] == str(draw_rule(1, scene=CELLS, kind="and"))
    assert table["settings"] == planting.recipe({"training": {}})
    assert table["begins_after"] == 0
    assert table["settings"]["width"] == 0.0625
    assert 0 < table["core_minutes"] < 60
    assert len(table["attributes"]) == table["looked_at"]
    assert table["passed_falsely"] == table["passed"] <= table["looked_at"]
    for rank, row in enumerate(table["attributes"], start=1):
        assert row["rank"] == rank
        assert row["passed"] <= (row["explained"] >= 0.5)
        assert set(row["changes"]) == set(CELLS.factors)

    monkeypatch.setattr(drawing, "train_classifier", again)
    monkeypatch.setattr(planting.explaining, "search", again)
    Run(tmp_path).planted.unlink()
    second = planting.cell(str(tmp_path), **asked)
    clock = {"minutes": 0, "core_minutes": 0}
    assert second | clock == table | clock
    monkeypatch.setattr(planting, "train", again)
    assert planting.cell(str(tmp_path), **asked) == second


@pytest.mark.slow
def test_a_cell_of_a_minute(tmp_path: Path, monkeypatch) -> None:
    """Full networks, readers and truth: what the classifier uses is measured, and a generator that
    is still a blur shows next to nothing of it: no factor is named that cannot be read, and no
    attribute passes falsely.
    """
    monkeypatch.setattr(drawing, "COUNTS", {"train": 3000, "search": 150, "test": 200})
    monkeypatch.setattr(drawing, "CLASSIFIER_IMAGES", 12_000)
    monkeypatch.setattr(planting, "SEARCHED", 12)
    monkeypatch.setattr(planting, "TESTED", 60)
    table = planting.cell(str(tmp_path), scene="cells", seed=1, total_images=640)
    assert table["accuracy"] > 0.85
    assert set(table["used"]) >= set(table["deciding"])
    others = [g[0] for name, g in table["importance"].items() if name not in table["deciding"]]
    assert min(table["importance"][name][0] for name in table["deciding"]) > 2 * max(others)
    assert len(table["readable"]) < len(table["importance"]) / 2
    named = {row["factor"] for row in table["attributes"]} - {None}
    assert named <= set(table["readable"])
    assert table["passed_falsely"] == 0


@pytest.mark.slow
def test_a_tiny_cell_with_rivals_and_another_method(small, tmp_path: Path) -> None:
    """Each rival has its table; a stranger's method is scored on the finished cell as ours was."""
    base, plain = (str(tmp_path / name) for name in ("base", "plain"))
    planting.train_plain(base, total_images=48, perceptual="none")
    planting.train_plain(plain, total_images=32, perceptual="none", base=base)
    run = str(tmp_path / "cell")
    asked = {"correlation": 0.9, "count": 1, "control": "first", "total_images": 32}
    asked |= {"training": {"perceptual": "classifier"}}
    table = planting.cell(run, **asked, base=base, plain=plain)
    assert table["begins_after"] == 48
    assert table["base"] == read_json(Run(run).about)["begins_from"]
    told = [read_json(Run(place).about) for place in (base, plain, run)]
    assert [its["data"]["counts"]["train"] for its in told] == [
        70,
        COUNTS["train"],
        COUNTS["train"],
    ]
    assert [its["settings"]["adversarial_from_images"] for its in told] == [12, 0, 0]
    for its in told:  # D learns what hybrids look like
        assert its["settings"]["augment"] is False
        assert its["settings"]["adversarial_weight"] == 0.5
    assert read_json(Run(run).about)["settings"]["begin_with"] == base
    assert table["hidden"] == table["deciding"][0]
    assert set(table["rivals"]) == {
        *("attfind on plain", "our list on plain", "stylespace on plain", "attfind's list"),
        *("random coordinates", "sefa", "latent gradient", "pixels", "grid"),
    }
    for name, rival in table["rivals"].items():
        assert rival["f1"] is not None or rival["why_f1"], name
        assert rival["used"] == table["used"], name
        assert rival["seconds"] > 0
    stand = planting.bench(run)
    second = stand.score(Pixels(stand.classify))
    assert second == {k: v for k, v in table["rivals"]["pixels"].items() if k != "seconds"}


@pytest.mark.slow
def test_a_tiny_cell_is_taken_from_the_committed_result(small, tmp_path: Path, monkeypatch) -> None:
    """Its run is gone: nothing is drawn or trained, and the file comes out the same; after another
    default of the training it is no longer taken.
    """
    monkeypatch.setattr(made, "RESULTS", tmp_path)
    monkeypatch.setattr(planted, "made", lambda seeds: {"made": {"seeds": seeds}})
    monkeypatch.setattr(planted, "SHORT", (planted.Asked("cells", "and", seed=1),))
    monkeypatch.setattr(planted, "SHORT_CONTROLS", (planted.Asked(control="random"),))
    asked = {"short": True, "total_images": 64, "runs": str(tmp_path / "runs")}
    planted.main(**asked)
    before = (tmp_path / "planted_short.json").read_text()
    table = read_json(tmp_path / "planted_short.json")
    assert (len(table["cells"]), len(table["controls"])) == (1, 1)
    assert (table["cells_missing"], table["failed"]) == (0, [])
    shutil.rmtree(tmp_path / "runs")
    monkeypatch.setattr(planting, "draw_images", again)
    planted.main(**asked)
    assert (tmp_path / "planted_short.json").read_text() == before
    assert not (tmp_path / "runs").exists()
    monkeypatch.setattr(planting, "train", functools.partial(train, width=0.0625, clip=1.0))
    with pytest.raises(SystemExit, match=r"with clip 2.0, today .* 1.0; give another --result$"):
        planted.main(**asked)


def test_a_bench_needs_a_finished_cell(tmp_path: Path) -> None:
    """One line that says what to do."""
    with pytest.raises(
        FileNotFoundError, match=r"holds no finished cell; make it with planting.cell"
    ):
        planting.bench(str(tmp_path))


@pytest.mark.slow
def test_a_tiny_random_control(small, tmp_path: Path, monkeypatch) -> None:
    """No classifier is trained and no judge asked; it has its own used factors."""
    monkeypatch.setattr(drawing, "train_classifier", again)
    table = planting.cell(str(tmp_path), control="random", total_images=32)
    assert table["used"]
    assert table["accuracy"] is None
    assert table["sufficiency10_confirmed"] is None
    assert table["why_sign_accuracy"]
