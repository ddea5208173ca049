"""`stylex plant`: who gets the mark, what the classifier makes of it, whether it is found."""

import functools
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small import Quarters, searched, weighing
from torch import Tensor, nn

from stylex import drawing
from stylex import plant as planted
from stylex.attfind import Search
from stylex.classifier import Classifier
from stylex.classifying import train_classifier
from stylex.data import read_splits
from stylex.marks import MARKS, Mark, with_room
from stylex.pictures import pack
from stylex.plant import (
    brought,
    chosen,
    correlation,
    in_words,
    look_for,
    onset,
    plant,
    write_photos,
)
from stylex.runs import Run, read_json
from stylex.training import train

COUNTS = {"train": 24, "search": 12, "test": 12}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photos of two classes, in the three splits: noise, brighter for "sick"."""
    draw = torch.Generator().manual_seed(0)

    def named():
        for split, count in COUNTS.items():
            for i in range(count):
                kind = ("healthy", "sick")[i % 2]
                image = torch.rand(3, 32, 32, generator=draw) * 0.4 + 0.3 * (i % 2)
                yield f"{split}/{kind}/{i:03d}.png", image

    pack(named(), tmp_path / "photos.zip")
    return tmp_path / "photos.zip"


def test_a_share_of_one_class_gets_the_mark() -> None:
    """The nearest whole number, none of another class, others by another seed."""
    labels = ["a", "b"] * 10
    for share, count in ((1.0, 10), (0.5, 5), (0.26, 3)):
        gets = chosen(labels, "b", share, torch.Generator().manual_seed(0))
        assert int(gets.sum()) == count
        assert not gets[::2].any()
    one, other = (chosen(labels, "b", 0.5, torch.Generator().manual_seed(s)) for s in (0, 1))
    assert not torch.equal(one, other)


def test_written_photos_keep_split_and_class(folder: Path, tmp_path: Path) -> None:
    """Marked photos read one mark more than their originals, the others nothing more."""
    mark, files = MARKS["frame"], Run(tmp_path / "run")
    photos = read_splits(folder, resolution=32)
    write_photos(photos, mark, "sick", files, share=0.5, seed=0)
    written = read_splits(files.images, resolution=32)
    for split, images in written.items():
        assert len(images) == COUNTS[split]
        for label in ("healthy", "sick"):
            pairs = [
                [row for row, name in enumerate(its.labels or ()) if name == label]
                for its in (photos[split], images)
            ]
            before = mark.read(with_room(photos[split].batch(pairs[0])))
            change = mark.read(images.batch(pairs[1])) - before
            marked = change > 0.5
            assert int(marked.sum()) == (COUNTS[split] // 4 if label == "sick" else 0)
            torch.testing.assert_close(change, marked.float(), atol=0.05, rtol=0)
    with zipfile.ZipFile(files.images) as archive:
        first = archive.read(archive.namelist()[0])
    write_photos(photos, mark, "sick", files, share=0.5, seed=0)  # it is there: left as it is
    with zipfile.ZipFile(files.images) as archive:
        assert archive.read(archive.namelist()[0]) == first


def test_a_share_of_no_photo_is_refused(folder: Path, tmp_path: Path) -> None:
    """Nothing would be marked, and nothing be found."""
    photos, files = read_splits(folder, resolution=32), Run(tmp_path / "run")
    with pytest.raises(ValueError, match="is none; give a larger share"):
        write_photos(photos, MARKS["frame"], "sick", files, share=0.001, seed=0)
    assert not files.plant.exists()


def test_photos_of_another_mark_are_refused(folder: Path, tmp_path: Path) -> None:
    """One line says what the run was begun with: mark, class, share, seed and photos bind."""
    files, photos = Run(tmp_path / "run"), read_splits(folder, resolution=32)
    write_photos(photos, MARKS["frame"], "sick", files, share=0.5, seed=0)
    for name, mark, marked, seed in (
        ("mark frame, now it is tint", "tint", "sick", 0),
        ("class sick, now it is healthy", "frame", "healthy", 0),
        ("seed 0, now it is 1", "frame", "sick", 1),
    ):
        with pytest.raises(
            ValueError, match=rf"begun with {name}; give the same, or another --run$"
        ):
            write_photos(photos, MARKS[mark], marked, files, share=0.5, seed=seed)
    others = {**photos, "train": photos["test"]}
    with pytest.raises(ValueError, match=r"begun with train photos \S+, now it is \S+; give"):
        write_photos(others, MARKS["frame"], "sick", files, share=0.5, seed=0)


def test_correlation_is_that_of_the_two_columns() -> None:
    """By counting: mark and class as columns of zeros and ones."""
    labels = ["a"] * 30 + ["b"] * 20
    for share, count in ((1.0, 20), (0.5, 10), (0.05, 1)):
        marks = torch.tensor([float(30 <= i < 30 + count) for i in range(50)])
        columns = torch.stack([marks, torch.tensor([float(name == "b") for name in labels])])
        expected = torch.corrcoef(columns)[0, 1].item()
        assert correlation(labels, "b", share) == pytest.approx(expected, abs=1e-5)


def test_a_share_counts_from_which_on_all_larger_hold() -> None:
    """Found at 0.2, missed at 0.5, found at 1: it is found from 1 on."""

    def shares(*found: int | None) -> list[dict]:
        return [{"share": s, "found": f} for s, f in zip((0.2, 0.5, 1.0), found, strict=True)]

    assert onset(shares(1, None, 2), "found") == 1.0
    assert onset(shares(None, 3, 2), "found") == 0.5
    assert onset(shares(1, 1, None), "found") is None


# --- looked for, in closed form ------------------------------------------------------------------

QUARTER = Mark("quarter", lambda side: (_first(side), _first(side)))


def _first(side: int) -> Tensor:
    """A mark that is the first quarter itself: what the closed form's first coordinate draws."""
    picture = torch.zeros(3, side, side)
    picture[:, : side // 2, : side // 2] = 0.25
    return picture


def seen(weights: tuple[float, float]) -> tuple[Quarters, Search]:
    """A classifier that weighs the first and the last quarter, and what AttFind finds on it."""
    first, last = weights
    rows = [[-first, first], [0.0, 0.0], [0.0, 0.0], [-last, last]]
    model = Quarters(weighing(rows, [0.0, 0.1]))
    draw = torch.Generator().manual_seed(0)
    return model, searched(model, (torch.rand(12, 4, generator=draw) - 0.5).tolist())


def flat(n: int = 20) -> Tensor:
    """Photos of four grays, with room, decided either way."""
    gray = (torch.rand(n, 1, 2, 2, generator=torch.Generator().manual_seed(1)) - 0.5) * 1.4
    return nn.functional.interpolate(gray, size=(32, 32)).expand(-1, 3, -1, -1)


def test_do_mark_is_measured_on_the_classifier() -> None:
    """A linear classifier: the mark adds 0.25 of gray times twice the weight, on every photo."""
    model, found = seen((3.0, 1.0))
    table = look_for(model, found, QUARTER, flat(), target=1)
    for name in ("effect", "low", "high"):
        assert table[name] == pytest.approx(0.25 * 6, abs=1e-4)
    assert table["used"]
    blind, nothing = seen((0.0, 3.0))
    table = look_for(blind, nothing, QUARTER, flat(), target=1)
    assert table["effect"] == pytest.approx(0, abs=1e-5)
    assert not table["used"]


def test_the_attribute_that_is_the_mark_is_found() -> None:
    """The first quarter's coordinate brings the mark and owes all its effect to it."""
    model, found = seen((3.0, 1.0))
    table = look_for(model, found, QUARTER, flat(), target=1)
    assert found.towards(1)[0].coordinate == 0
    assert table["found"] == 1
    best = table["attributes"][0]
    assert best["brings"] > 1
    assert best["twin_effect"] == pytest.approx(best["effect"], rel=1e-3)
    assert best["explained"] == pytest.approx(1, abs=1e-3)
    assert not table["attributes"][1]["is_mark"]
    assert table["agreement"] == 1
    assert table["together"]["brings"] == pytest.approx(best["brings"], abs=1e-4)
    apart = sum(a["effect"] for a in table["attributes"])
    assert table["together"]["effect"] == pytest.approx(apart, rel=1e-3)
    assert "uses the quarter" in table["says"]
    assert "found it: attribute 1" in table["says"]


def test_together_is_the_stronger_of_both_directions() -> None:
    """A list that holds a coordinate both ways: all together do what the first does alone."""
    model, found = seen((3.0, 1.0))
    first = found.towards(1)[0]
    back = replace(first, direction=1 - first.direction)
    table = look_for(model, replace(found, attributes=(first, back)), QUARTER, flat(), target=1)
    assert len(table["attributes"]) == 2
    assert table["together"]["effect"] == pytest.approx(table["attributes"][0]["effect"], abs=1e-5)


def test_another_cause_is_not_the_mark() -> None:
    """A classifier of the last quarter: its attribute brings nothing of the mark."""
    model, found = seen((0.0, 3.0))
    table = look_for(model, found, QUARTER, flat(), target=1)
    assert table["found"] is None
    assert table["attributes"][0]["brings"] == pytest.approx(0, abs=1e-4)
    assert "did not find it" in table["says"]
    assert "does not use" in table["says"]


def test_a_mark_that_comes_along_is_not_the_mark() -> None:
    """An edit that brings the mark, but has its effect elsewhere: the twin gives it away."""
    model, found = seen((0.2, 3.0))

    class Both(Quarters):
        """The last coordinate draws the first quarter too."""

        def synthesize(self, styles: Tensor) -> Tensor:
            return super().synthesize(torch.cat([styles[:, 3:], styles[:, 1:]], 1))

    both = Both(model.classifier)
    last = next(a for a in found.towards(1) if a.coordinate == 3)
    styles = both.styles(flat())
    given = {"photos": flat(), "styles": styles, "redrawn": both.synthesize(styles)}
    row = brought(both, found, [last], mark=QUARTER, target=1, **given)
    assert row["brings"] > planted.BROUGHT
    assert row["twin_effect"] < 0.5 * row["effect"]
    assert not row["is_mark"]


def test_nothing_found_in_words() -> None:
    """No attribute: it says so."""
    table = {"used": True, "effect": 1.0, "low": 0.9, "high": 1.1, "attributes": [], "found": None}
    assert "There is no attribute towards sick" in in_words(table, MARKS["tint"], "sick")


# --- the whole command ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"share": (0.5, 1.5)}, r"^share is 1.5; wanted .*change it$"),
        ({"share": (0.0,)}, r"^share is 0; wanted .*change it$"),
        ({"marked": "green"}, r"^there is no class 'green'; choose one of healthy, sick$"),
    ],
)
def test_wrong_options_in_one_line(wrong: dict, says: str, folder: Path, tmp_path: Path) -> None:
    """Before anything is trained."""
    with pytest.raises(ValueError, match=says):
        plant(data=str(folder), run=str(tmp_path / "run"), **wrong)
    assert not (tmp_path / "run").exists()


def test_photos_without_classes_in_one_line(tmp_path: Path) -> None:
    """One folder is one class: there is nothing to plant a difference in."""
    pack([(f"a/{i}.png", torch.rand(3, 32, 32)) for i in range(4)], tmp_path / "one.zip")
    with pytest.raises(ValueError, match=r"class folders; wanted two or more, put .*name$"):
        plant(data=str(tmp_path / "one.zip"), run=str(tmp_path / "run"))


@pytest.mark.slow
def test_a_tiny_run_from_end_to_end(folder: Path, tmp_path: Path, monkeypatch) -> None:
    """Two shares: numbers, pictures and a verdict for each; a second call trains nothing."""
    monkeypatch.setattr(drawing, "train_classifier", functools.partial(train_classifier, width=16))
    monkeypatch.setattr(planted, "train", functools.partial(train, width=0.0625))
    asked = {"data": str(folder), "run": str(tmp_path / "run"), "mark": "frame"}
    asked |= {"share": (1.0, 0.5), "total_images": 32, "classifier_images": 640}
    table = plant(**asked)
    assert read_json(Run(tmp_path / "run").plant) == table
    assert (table["mark"], table["class"]) == ("frame", "sick")
    assert [row["share"] for row in table["shares"]] == [0.5, 1.0]
    for row in table["shares"]:
        files = Run(tmp_path / "run" / f"share-{row['share']:g}")
        assert files.model.is_file()
        assert files.mark.is_file() == bool(row["attributes"])
        assert row["says"].startswith("The classifier ")

    def again(*given, **options) -> Classifier:
        raise AssertionError("a finished stage was done again")

    monkeypatch.setattr(drawing, "train_classifier", again)
    second = plant(**asked)
    assert second | {"minutes": 0} == table | {"minutes": 0}


@pytest.mark.slow
def test_gray_photos_with_a_gray_mark(tmp_path: Path, monkeypatch) -> None:
    """Written gray, they look like one channel; network, search and mark are of three."""
    monkeypatch.setattr(drawing, "train_classifier", functools.partial(train_classifier, width=16))
    monkeypatch.setattr(planted, "train", functools.partial(train, width=0.0625))
    draw = torch.Generator().manual_seed(0)
    pairs = [
        (f"{'ab'[i % 2]}/{i:02d}.png", torch.rand(1, 32, 32, generator=draw)) for i in range(40)
    ]
    pack(pairs, tmp_path / "gray.zip")
    asked = {"data": str(tmp_path / "gray.zip"), "run": str(tmp_path / "run"), "mark": "frame"}
    table = plant(**asked, total_images=32, classifier_images=640)
    assert read_json(Run(tmp_path / "run" / "share-1").about)["channels"] == 3
    assert table["shares"][0]["correlation"] == 1
