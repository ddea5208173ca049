"""One opened run, in closed form: grays of four quarters, two of which are weighed."""

import base64
import io
import math

import pytest
import torch
from PIL import Image
from small import ROWS
from viewing import encoded, run_of, session

from stylex.classifier import Classifier
from stylex.runs import Run, read_json, write_json
from stylex.session import UPLOADS, Session


def share(lead: float) -> float:
    """Probability of the second class, whose logit leads by so much."""
    return 1 / (1 + math.exp(-lead))


def corners(pixels: str) -> list[int]:
    """Red of the four quarters of unpacked pixels."""
    rgb = base64.b64decode(pixels)
    return [rgb[3 * (32 * y + x)] for y, x in ((4, 4), (4, 28), (28, 4), (28, 28))]


@pytest.fixture(scope="module")
def opened() -> Session:
    """Three images of the search, without photos."""
    return session()


def test_several_knobs_move_together(opened):
    """Pixels and probabilities are those of the shifted styles, to the low and to the high end."""
    still = opened.edit(0, {})
    assert corners(still["pixels"]) == [0, 0, 0, 0]
    assert still["probabilities"][1] == pytest.approx(share(-2.7), abs=1e-4)
    moved = opened.edit(0, {0: 1.0, 1: 0.5})
    assert corners(moved["pixels"]) == [255, 128, 0, 0]
    assert moved["probabilities"][1] == pytest.approx(share(1.8), abs=1e-4)
    assert corners(opened.edit(1, {0: -1.0})["pixels"]) == [0, 255, 255, 255]


def test_a_curve_is_the_edit_at_every_strength(opened):
    """Other knobs stay as they are."""
    drawn = opened.curve(2, {1: 0.5}, 0)
    for strength, shares in list(zip(drawn["strengths"], drawn["probabilities"], strict=True))[::4]:
        assert shares == opened.edit(2, {1: 0.5, 0: strength})["probabilities"]


def test_a_flip_takes_as_few_attributes_as_it_needs(opened):
    """The strongest alone is enough; a decision that stands already needs none."""
    answer = opened.flip(0, {}, 1, [])
    assert answer["flipped"]
    assert answer["moves"] == {0: 1.0}
    assert answer["steps"] == [
        {"coordinate": 0, "strength": 1.0, "probability": pytest.approx(share(0.9), abs=1e-4)}
    ]
    assert opened.flip(1, {}, 1, []) == {"moves": {}, "steps": [], "flipped": True}


def test_what_is_frozen_stays_where_it_is(opened):
    """At rest it is not used, moved it is kept, and what is not frozen starts anew."""
    without = opened.flip(0, {}, 1, [0])
    assert not without["flipped"]
    assert without["moves"] == {1: 1.0}
    held = opened.flip(0, {0: 0.5, 1: -1.0}, 1, [0])
    assert held["moves"][0] == 0.5
    assert held["moves"][1] == 1.0
    assert held["steps"][-1]["probability"] == pytest.approx(share(0.9), abs=1e-4)


def test_examples_go_both_ways_strongest_first(opened):
    """Effects are those of the search, and the map is white where the attribute acts."""
    answer = opened.examples(0)
    low, high = answer["ways"]
    assert (low["target"], high["target"]) == (0, 1)
    effects = [example["effect"] for example in high["examples"]]
    assert effects == sorted(effects, reverse=True)
    assert effects[0] == pytest.approx(1.8)
    assert corners(high["examples"][0]["after"])[0] == 255
    assert corners(answer["where"]) == [255, 0, 0, 0]


def test_an_uploaded_image_is_seen_and_forgotten_in_turn(opened):
    """Any size will do; only so many are kept."""
    photo = opened.decode(encoded(Image.new("RGB", (70, 50), "white"), "JPEG"))
    assert photo.shape == (1, 3, 32, 32)
    first = opened.upload(photo)
    assert first["image"] == len(ROWS)
    assert first["l1"] == pytest.approx(0, abs=0.02)
    assert first["photo"][1] == pytest.approx(share(2.7), abs=1e-2)
    for _ in range(UPLOADS):
        last = opened.upload(photo)["image"]
    assert opened.edit(last, {})["probabilities"][1] > 0.9
    with pytest.raises(KeyError, match="add it again"):
        opened.edit(first["image"], {})


def test_gallery_with_and_without_photos(opened):
    """What a run does not keep is said to be missing; an atlas holds all images."""
    assert {(image["photo"], image["l1"]) for image in opened.images} == {(None, None)}
    with pytest.raises(KeyError, match="--data"):
        opened.atlas("photo")
    both = session(photos=True)
    assert [image["name"] for image in both.images] == ["a.png", "b.png", "c.png"]
    assert both.images[1]["photo"] == pytest.approx([share(-2.7), share(2.7)], abs=1e-4)
    with Image.open(io.BytesIO(both.atlas("photo"))) as atlas:
        assert atlas.size == (20 * 32, 32)


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_a_film_flickers_before_and_after(opened, kind):
    """Two frames at 600 ms, of one size."""
    with Image.open(io.BytesIO(opened.animation(0, {0: 1.0}, kind, "brighter"))) as film:
        assert (film.format, film.n_frames) == (kind, 2)
        film.seek(1)
        film.load()
        assert film.info["duration"] == 600


def test_an_attribute_of_one_run_may_be_unused_by_another(opened):
    """Quarter 0 moves the one classifier, the other looks at quarter 3 only."""
    table = opened.against(session(quarter=3))
    first = next(row for row in table if (row["coordinate"], row["direction"]) == (0, 1))
    assert first["used"] == [True, False]
    assert first["own"] == pytest.approx((1.8 + 0 + 0.72) / 3)
    assert first["other"] == 0
    assert all(row["used"][0] == row["used"][1] for row in opened.against(opened))


def test_unknown_coordinates_are_refused(opened):
    """Only what the search found can be moved."""
    with pytest.raises(KeyError, match="none of the attributes found"):
        opened.edit(0, {3: 1.0})


def test_no_python_is_called_on_the_word_of_a_run(tmp_path, monkeypatch):
    """A stranger's run that names code is refused in one line, and the code is not imported."""
    opened, mine = session(), tmp_path / "mine.py"
    run = run_of(tmp_path / "run", opened)
    mine.write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n")
    about = read_json(Run(run).about)
    about["classifier"] |= {"kind": "python", "source": f"{mine}:classifier"}
    write_json(Run(run).about, about)
    Run(run).model.touch()
    with pytest.raises(ValueError, match=r"no code is called on the word of a run.*--classifier"):
        Session.open(run, classifier=None, data=None, images=5)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(ValueError, match="there is no function classifier"):
        Session.open(run, classifier=f"{mine}:classifier", data=None, images=5)
    assert (tmp_path / "ran").exists()


def test_open_takes_photos_where_they_are_given(tmp_path, monkeypatch):
    """Photos are encoded once; without them the search's own styles are shown."""
    opened = session()
    run = run_of(tmp_path / "run", opened)
    monkeypatch.setattr("stylex.session.StylEx.load", lambda *_, **__: opened.model)
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, gray in (("x.png", 255), ("y.png", 0)):
        Image.new("RGB", (40, 40), (gray,) * 3).save(folder / name)
    options = {"classifier": None, "images": 5}
    assert torch.equal(Session.open(run, data=None, **options).styles, opened.found.styles)
    photos = Session.open(run, data=folder, **options)
    assert photos.names == ["x.png", "y.png"]
    assert photos.styles.tolist() == [[1.0] * 4, [-1.0] * 4]
    assert isinstance(photos.model.classifier, Classifier)
