"""One opened run, in closed form: grays of four quarters, two of which are weighed."""

import asyncio
import base64
import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small import ROWS, Plain, grays, searched
from torch import Tensor, nn
from viewing import encoded, run_of, session

from stylex import pictures
from stylex.classifier import Classifier
from stylex.counterfactual import subset
from stylex.keeping import load_classifier, remember
from stylex.model import StylEx
from stylex.ops import ModulatedConv
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
    drawn = asyncio.run(opened.curve(2, {1: 0.5}, 0))
    for strength, shares in list(zip(drawn["strengths"], drawn["probabilities"], strict=True))[::4]:
        assert shares == opened.edit(2, {1: 0.5, 0: strength})["probabilities"]


def test_a_curve_reaches_as_far_as_the_knob():
    """To the strength of the search, but not to 3: no knob goes so far, and no flip."""
    for strength, end in ((0.5, 1.0), (1.5, 1.5), (3.0, 2.0)):
        model = session().model
        opened = Session(model, searched(model, ROWS, count=3, threshold=2.5, strength=strength))
        assert set(opened.flip(0, {}, 1, [])["moves"].values()) <= {min(strength, 2.0)}
        drawn = asyncio.run(opened.curve(0, {}, 0))
        assert (drawn["strengths"][0], drawn["strengths"][-1]) == (-end, end)
        far = opened.edit(0, {0: end})["probabilities"]
        assert drawn["probabilities"][-1] == far


def test_a_move_does_not_wait_for_a_curve_or_for_examples():
    """Both are drawn a few images at a time, and examples but once."""
    opened, done = session(), []

    async def ask(question: str, *given) -> None:
        await getattr(opened, question)(*given)
        done.append(question)

    async def move() -> None:
        await asyncio.sleep(0)
        done.append(opened.edit(0, {0: 0.5})["probabilities"])

    async def at_once(*asked) -> None:
        await asyncio.gather(ask(*asked), move())

    alone = opened.edit(0, {0: 0.5})["probabilities"]
    asyncio.run(at_once("curve", 0, {}, 0))
    asyncio.run(at_once("examples", 0))
    asyncio.run(at_once("examples", 0))
    assert done == [alone, "curve", alone, "examples", "examples", alone]


def test_a_flip_takes_as_few_attributes_as_it_needs(opened):
    """The strongest alone is enough; a decision that stands already needs none."""
    answer = opened.flip(0, {}, 1, [])
    assert answer["flipped"]
    assert answer["moves"] == {0: 1.0}
    assert answer["steps"] == [
        {"coordinate": 0, "strength": 1.0, "probability": pytest.approx(share(0.9), abs=1e-4)}
    ]
    assert opened.flip(1, {}, 1, []) == {"moves": {}, "steps": [], "flipped": True}


class Pair(nn.Module):
    """Quarter 0 counts 0.6, quarters 1 and 2 count 0.5 each and 0.9 more where both are white."""

    def forward(self, images: Tensor) -> Tensor:
        """Two logits, of which the second leads by what counts, less 1.2."""
        white = (grays(images) + 1) / 2
        both = 0.9 * white[:, 1] * white[:, 2]
        lead = 0.6 * white[:, 0] + 0.5 * (white[:, 1] + white[:, 2]) + both - 1.2
        return torch.stack([-lead / 2, lead / 2], 1)


def test_a_step_that_became_superfluous_is_left_out():
    """Greedy begins with the strongest alone; the two after it flip the decision without it."""
    model = Plain(Classifier(Pair(), ("no", "yes"), size=32))
    rows = [[-1.0] * 4, [1.0, -1.0, -1.0, 1.0], [-1.0, 1.0, -1.0, 1.0], [-1.0, -1.0, 1.0, 1.0]]
    opened = Session(model, searched(model, rows, count=4, threshold=9.0))
    assert {a.coordinate for a in opened.found.towards(1)} == {0, 1, 2}
    greedy = subset(
        model.score, torch.tensor(rows[:1]), opened.found.bounds, opened.found.towards(1), target=1
    )
    assert [(s.attribute.coordinate, s.flipped) for s in greedy] == [
        (0, False),
        (1, False),
        (2, True),
    ]
    answer = opened.flip(0, {}, 1, [])
    assert answer["flipped"]
    assert answer["moves"] == {1: 1.0, 2: 1.0}
    assert [step["probability"] for step in answer["steps"]] == [
        pytest.approx(share(lead), abs=1e-4) for lead in (-0.7, 0.7)
    ]
    held = opened.flip(0, {}, 1, [2])
    assert (held["flipped"], held["moves"]) == (False, {0: 1.0, 1: 1.0})


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
    answer = asyncio.run(opened.examples(0))
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


def test_what_every_visitor_asks_is_made_once(opened):
    """The list of images and their atlas: the same objects each time."""
    assert opened.images is opened.images
    assert opened.atlas("drawn") is opened.atlas("drawn")


def gray_levels(film: Image.Image, frame: int) -> tuple[int, int, int]:
    """How many of the pixels of the pictures, 128 high, are black, mid-gray and white."""
    film.seek(frame)
    rows = np.asarray(film.convert("L"))[:128]
    return tuple(int((abs(rows.astype(int) - level) < 20).sum()) for level in (0, 128, 255))


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
@pytest.mark.parametrize(
    ("how", "black", "gray"),
    [
        ({}, 12288, 0),
        ({"view": "flicker"}, 12288, 0),
        ({"view": "split", "edge": 0.25}, 14336, 0),
        ({"view": "difference"}, 0, 12288),
    ],
    ids=lambda how: str(how),
)
def test_a_film_shows_what_the_page_shows(kind, how, black, gray):
    """Two frames at 600 ms: the reconstruction and what is seen of it, the photo beside both.

    Image and photo are black; one of four quarters of 64 x 64 becomes white.
    """
    data = session(photos=True).animation(0, {0: 1.0}, kind, name="brighter", **how)
    with Image.open(io.BytesIO(data)) as film:
        assert (film.format, film.n_frames) == (kind, 2)
        assert gray_levels(film, 0)[:2] == pytest.approx((2 * 128**2, 0), rel=0.02, abs=99)
        assert gray_levels(film, 1)[:2] == pytest.approx((128**2 + black, gray), rel=0.02, abs=99)
        assert film.info["duration"] == 600


def test_a_film_names_each_frame_s_own_decision(monkeypatch):
    """As the page's captions do: the photo, the reconstruction and the change, each its class."""
    said, draw = [], pictures.captioned
    monkeypatch.setattr(
        pictures, "captioned", lambda images, words: (said.append(words), draw(images, words))[1]
    )
    session(photos=True).animation(0, {0: 1.0}, "GIF", name="brighter")
    assert said == [
        ["photo\nno 94%", "redrawn\nno 94%"], ["photo\nno 94%", "brighter\nyes 71%"],
    ]  # fmt: skip


def test_a_film_without_photos_and_of_an_upload(opened):
    """A run without photos has none beside; an uploaded image has its own."""
    with Image.open(io.BytesIO(opened.animation(0, {}, "GIF"))) as film:
        assert gray_levels(film, 1)[0] == pytest.approx(128**2, rel=0.02)
    pixels = opened.decode(encoded(Image.new("RGB", (32, 32), "black")))
    number = opened.upload(pixels)["image"]
    with Image.open(io.BytesIO(opened.animation(number, {}, "GIF"))) as film:
        assert gray_levels(film, 1)[0] == pytest.approx(2 * 128**2, rel=0.02)


def test_an_attribute_of_one_run_may_be_unused_by_another(opened):
    """Quarter 0 moves the one classifier, the other looks at quarter 3 only."""
    table = asyncio.run(opened.against(session(quarter=3)))
    first = next(row for row in table if (row["coordinate"], row["direction"]) == (0, 1))
    assert first["used"] == [True, False]
    assert first["own"] == pytest.approx((1.8 + 0 + 0.72) / 3)
    assert first["other"] == 0
    assert all(row["used"][0] == row["used"][1] for row in asyncio.run(opened.against(opened)))


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


@pytest.mark.parametrize("kind", ["torchscript", "smallnet", "object"])
def test_no_torchscript_is_run_on_the_word_of_a_run(tmp_path, kind):
    """The file decides, whatever the run calls it; named by hand it is taken."""
    net, script = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32**2, 2)), tmp_path / "model.ts"
    torch.jit.script(net.eval()).save(str(script))
    classifier = load_classifier(script, classes=("no", "yes"), size=32)
    run = run_of(tmp_path / "run", session())
    about = read_json(Run(run).about)
    about["classifier"] = remember(classifier, run) | {"kind": kind}
    write_json(Run(run).about, about)
    Run(run).model.write_bytes(b"")
    with pytest.raises(ValueError, match=r"TorchScript.*--classifier .*classifier$") as caught:
        Session.open(run, classifier=None, data=None, images=5)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="not readable"):  # the weights: the classifier was taken
        Session.open(run, classifier=str(Run(run).classifier), data=None, images=5)


GIVEN_AWAY = Path(__file__).parents[1] / "models"


@pytest.mark.parametrize("name", ["faces-64", "leaves", "leaves-64", "retina"])
def test_the_models_given_away_are_opened_as_a_stranger_s(name):
    """Each brings its classifier as weights; nothing need be named."""
    model = StylEx.load(GIVEN_AWAY / name, strange=True)
    assert model.classifier.kind == "smallnet"


def test_a_model_given_away_without_its_classifier_asks_for_it():
    """That of another's classifier, which is not ours to give."""
    with pytest.raises(ValueError, match=r"keeps no copy of its classifier.*--classifier"):
        StylEx.load(GIVEN_AWAY / "faces", strange=True)


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
    layers = [part for part in opened.model.modules() if isinstance(part, ModulatedConv)]
    assert all(layer.settled is not None for layer in layers)
