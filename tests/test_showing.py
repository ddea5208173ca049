"""What explaining leaves in the run directory, and what it says."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from small import FLOORS, Quarters, begun, flat, searched, weighing

from stylex import losses, showing
from stylex.attfind import Search
from stylex.explaining import explain
from stylex.notes import write_note
from stylex.photos import to_bytes
from stylex.pictures import to_picture
from stylex.report import write_report
from stylex.runs import Run, read_json, write_json
from stylex.showing import examples, explain_file, illustrate, in_words, not_found
from stylex.stylespace import Attribute

# quarter 0 speaks for "yes" by 2 logits per gray, quarter 1 by 0.5; "no" starts 0.6 ahead
UP = [[0.0, 2.0], [0.0, 0.5], [0.0, 0.25], [0.0, 0.0]]
# quarter 0 of each search image: rows 0 to 4 are "no", row 5 is "yes" and holds the bound
FIRST = [-0.2, -0.5, 0.1, -0.4, 0.2, 0.45]
ROWS = [[gray, -0.3 + 0.1 * i, 0.2, 0.0] for i, gray in enumerate(FIRST)]
NAMES = [f"leaf/{i}.png" for i in range(len(ROWS))]


def quarters(margin: float = 0.6, error: float = 0.0) -> Quarters:
    """The closed-form model of `small`."""
    return Quarters(weighing(UP, [margin, 0.0]), error)


def with_attributes(found: Search, *attributes: Attribute) -> Search:
    """The same search with other attributes."""
    return replace(found, attributes=attributes)


def up(coordinate: int, target: int = 1, effect: float = 1.0) -> Attribute:
    """Towards the high bound."""
    return Attribute(coordinate, 1, target, effect, share=0.5, layer=0, resolution=16)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of the model, with floors of its agreement."""
    return begun(tmp_path / "run", quarters())


# examples (method.md 4.4)


def test_examples_by_hand():
    """Other class, farthest from the bound first, at most four, probability up by 0.1."""
    model = quarters()
    found = searched(model, ROWS)
    assert found.logits.argmax(1).tolist() == [0, 0, 0, 0, 0, 1]
    assert examples(found, up(0)) == [1, 3, 0, 2]  # of five, the nearest is left out
    # quarter 1 reaches from -0.3 to 0.2: at most 0.25 logits, nowhere 0.1 of probability
    assert examples(found, up(1)) == []
    assert examples(found, replace(up(0), direction=0)) == []  # downwards it falls


def test_examples_need_a_rise_of_a_tenth():
    """The farthest and the nearest rise by 0.06 and 0.09 and are left out; the other by 0.24."""
    weights = [[0.0, 2.0], [0.0, 0.0], [0.0, 3.8], [0.0, 0.0]]
    model = Quarters(weighing(weights, [2.5, 0.0]))
    rows = [[-0.45, 0, -0.25, 0], [-0.2, 0, 0.25, 0], [0.3, 0, 0.25, 0], [0.5, 0, 0.25, 0]]
    assert examples(searched(model, rows), up(0)) == [1]


def test_unstable_images_are_no_examples():
    """An image that the search left out is shown nowhere (method.md 4.2)."""
    model = quarters()
    found = searched(model, ROWS)
    effects = found.effects.clone()
    effects[1, 1:] = 99.0
    assert examples(replace(found, effects=effects), up(0)) == [3, 0, 2, 4]


# files of attributes


def test_illustrate_writes_what_the_report_reads(run):
    """Frames, animation, map and numbers of each attribute."""
    model = quarters()
    found = with_attributes(searched(model, ROWS), up(0), up(1, effect=-0.03), up(2, target=0))
    illustrate(model, found, NAMES, run)
    folders = sorted(p.name for p in Run(run).attributes.iterdir())
    assert folders == ["0-1", "1-1", "1-2"]
    about = read_json(Run(run).attribute(1, 1) / "attribute.json")
    assert about["rank"] == 1
    assert (about["target"], about["coordinate"], about["direction"]) == (1, 0, 1)
    assert (about["effect"], about["share"], about["layer"], about["resolution"]) == (1, 0.5, 0, 16)
    assert about["strengths"] == [i / 8 for i in range(9)]
    assert about["enough"] is True
    assert "says" not in about
    assert about["mean_effects"] == pytest.approx(found.effects[:, 0, 1].mean(0).tolist())
    assert [e["name"] for e in about["examples"]] == [NAMES[i] for i in (1, 3, 0, 2)]
    first = about["examples"][0]
    assert len(first["logits"]) == len(first["probability"]) == 9
    for strength, logits in zip(about["strengths"], first["logits"], strict=True):
        gray = -0.5 + strength * (0.45 + 0.5)
        assert logits == pytest.approx([0.6, 2 * gray + 0.5 * -0.2 + 0.25 * 0.2], abs=1e-4)
    expected = torch.tensor(first["logits"]).softmax(1)[:, 1].tolist()
    assert first["probability"] == pytest.approx(expected)


def test_frames_hold_examples_by_strength(run):
    """Row r, column c of the sprite is example r at strength c / 8."""
    model = quarters()
    found = with_attributes(searched(model, ROWS), up(0))
    illustrate(model, found, NAMES, run)
    frames = Image.open(Run(run).attribute(1, 1) / "frames.png").convert("L")
    assert frames.size == (9 * 32, 4 * 32)
    for row, image in enumerate((1, 3, 0, 2)):
        for column in range(9):
            gray = FIRST[image] + column / 8 * (0.45 - FIRST[image])
            pixel = frames.getpixel((column * 32 + 4, row * 32 + 4))
            assert pixel == pytest.approx((gray + 1) * 127.5, abs=1.5)
    with Image.open(Run(run).attribute(1, 1) / "before_after.gif") as flicker:
        assert flicker.n_frames == 2
        assert flicker.info["duration"] == 600
    with Image.open(Run(run).attribute(1, 1) / "map.png") as maps:
        assert maps.size == (4 * 32, 32)
        assert min(maps.getpixel((4, 4))) > 200  # quarter 0 gets brighter
        assert maps.getpixel((20, 4)) == pytest.approx((127, 127, 127), abs=1)  # quarter 1 stays


def test_too_few_examples_are_said_and_not_shown(run):
    """Fewer than three images that change: words, no picture, no example."""
    model = quarters()
    found = with_attributes(searched(model, [*ROWS[:2], ROWS[5]]), up(0))
    illustrate(model, found, NAMES[:2] + NAMES[5:], run)
    folder = Run(run).attribute(1, 1)
    assert [p.name for p in folder.iterdir()] == ["attribute.json"]
    about = read_json(folder / "attribute.json")
    assert about["enough"] is False
    assert about["examples"] == []
    assert about["says"].startswith("Only 2 of the search images that are not yes gain 0.1")


def test_strength_of_the_search_is_that_of_the_film(run):
    """Effects at strength 0.5 are shown by frames up to 0.5."""
    model = quarters()
    found = with_attributes(searched(model, ROWS, strength=0.5), up(0))
    illustrate(model, found, NAMES, run)
    about = read_json(Run(run).attribute(1, 1) / "attribute.json")
    assert about["strengths"][-1] == 0.5
    first = about["examples"][0]
    shift = torch.tensor(first["logits"][-1]) - torch.tensor(first["logits"][0])
    row = NAMES.index(first["name"])
    torch.testing.assert_close(shift, found.effects[row, 0, 1], rtol=0, atol=1e-4)


def test_illustrating_again_leaves_nothing_old(run):
    """Pictures of an earlier search do not stay beside a new one."""
    model = quarters()
    found = searched(model, ROWS)
    illustrate(model, with_attributes(found, up(0), up(1)), NAMES, run)
    illustrate(model, with_attributes(found, up(1)), NAMES, run)
    assert [p.name for p in Run(run).attributes.iterdir()] == ["1-1"]
    illustrate(model, with_attributes(found), NAMES, run)
    assert not Run(run).attributes.exists()


def test_report_reads_all_of_it(run):
    """Search, attributes (one with a negative effect), an explanation: one page."""
    model = quarters()
    found = with_attributes(
        searched(model, ROWS), up(0), replace(up(0, target=0, effect=-0.25), direction=0)
    )
    found.save(run)
    illustrate(model, found, NAMES, run)
    said = {
        (0.6, "yes"): "The decision flips after 1 attribute.",
        (9.0, "yes"): "The decision does not flip with 1 attribute.",
        (0.6, "no"): "The reconstruction is decided as no already.",
    }
    for i, (margin, target) in enumerate(said):
        answer = explain(quarters(margin), flat(ROWS[0]), found, target=target)
        showing.write_explanation(answer, found, f"leaf/{i}.png", run, floors=FLOORS)
    page = write_report(run).read_text(encoding="utf-8")
    for words in ("Towards no", "Towards yes", "-0.25 logits", "+1.00 logits", *said.values()):
        assert words in page


def test_photos_of_one_name_keep_an_explanation_each(run):
    """`sick/1.png` does not take the place of `healthy/1.png`; the same photo again does."""
    model = quarters()
    found = with_attributes(searched(model, ROWS), up(0))
    answers = [explain(model, flat(row), found, target="yes") for row in (ROWS[0], ROWS[1])]
    first, second, again = (
        showing.write_explanation(answers[i], found, "1.png", run, floors=FLOORS) for i in (0, 1, 0)
    )
    assert first.name == "1-to-yes"
    assert second.name.startswith("1-")
    assert second.name.endswith("-to-yes")
    assert (again, len(list(Run(run).explanations.iterdir()))) == (first, 2)


def test_classes_that_a_folder_cannot_tell_apart_keep_an_explanation_each(run):
    """Of "<50" and ">50" the same is left; the same question again takes the place of the first."""
    model, moves = quarters(), [up(0), replace(up(0), target=0, direction=0)]
    found = with_attributes(searched(model, ROWS), *moves)
    below, above, again = (
        showing.write_explanation(
            replace(explain(model, flat(ROWS[0]), found, target=k), classes=("<50", ">50")),
            found, "1.png", run, floors=FLOORS,
        )
        for k in (1, 0, 0)
    )  # fmt: skip
    assert len({below, above, again}) == 2
    assert {read_json(f / "explanation.json")["target"] for f in (below, above)} == {0, 1}


def test_a_photo_of_a_long_name_can_be_explained(run):
    """As long as file names may be: its explanation's folder has a shorter one."""
    model = quarters()
    found = with_attributes(searched(model, ROWS), up(0))
    answer = explain(model, flat(ROWS[0]), found, target="yes")
    name = "é" * 124 + ".jpg"
    folder = showing.write_explanation(answer, found, name, run, floors=FLOORS)
    assert folder.name == "é" * 60 + "-to-yes"
    assert read_json(folder / "explanation.json")["image"] == name


# one image


def photo_file(folder: Path, name: str, image: Image.Image) -> Path:
    """Write one photo."""
    path = folder / name
    image.save(path)
    return path


def gray_photo(*row: float) -> Image.Image:
    """Four quarters as a picture."""
    return to_picture(flat(list(row))[0])


FORMS = {
    "colour.png": lambda image: image,
    "gray.png": lambda image: image.convert("L"),
    "alpha.png": lambda image: image.convert("RGBA"),
    "palette.gif": lambda image: image.convert("P"),
    "large.jpg": lambda image: image.resize((500, 300)),
    "small.bmp": lambda image: image.resize((7, 9)),
    "deep.tiff": lambda image: image.convert("L").convert("I"),
}


@pytest.mark.parametrize("name", FORMS)
def test_any_size_and_mode_goes_in(run, tmp_path, name):
    """The answer and its pictures come out, whatever came in."""
    model = quarters()
    found = with_attributes(searched(model, ROWS), up(0), up(1), up(2))
    photo = photo_file(tmp_path, name, FORMS[name](gray_photo(-0.5, -0.3, 0.2, 0.0)))
    answer, folder = explain_file(model, found, photo, run, target="yes")
    assert folder == Run(run).explanation(f"{photo.stem}-to-yes")
    names = {"explanation.json", "strip.png", "animation.gif", "animation.webp", "maps.png"}
    assert {p.name for p in folder.iterdir()} == names
    for picture in names - {"explanation.json"}:
        with Image.open(folder / picture) as image:
            image.load()
            assert image.width > 32
    assert answer["image"] == name
    assert answer["perceptual"] is None  # this run was trained without one
    assert answer == read_json(folder / "explanation.json")
    if name == "colour.png":
        assert answer["photo_logits"] == pytest.approx([0.6, -1.1], abs=0.03)
        assert answer["l1"] < 0.01


def test_pictures_of_an_explanation(run):
    """The strip holds photo, drawing and each step; the animations go from drawn to flipped."""
    model = quarters(margin=2.2)
    found = with_attributes(searched(model, ROWS), up(0), up(1), up(2))
    answer = explain(model, flat([-0.5, -0.3, -0.2, 0.0]), found, target="yes")
    folder = showing.write_explanation(answer, found, "a.png", run, floors={})
    assert len(answer.subset) >= 2
    with Image.open(folder / "strip.png") as strip:
        assert strip.width >= 128 * (2 + len(answer.subset))
    with Image.open(folder / "maps.png") as maps:
        assert maps.width >= 128 * len(answer.independent)
    for name in ("animation.gif", "animation.webp"):
        with Image.open(folder / name) as film:
            assert film.n_frames == 2
            before = film.convert("L").getpixel((film.width // 2 - 40, 20))
            film.seek(1)
            assert film.convert("L").getpixel((film.width // 2 - 40, 20)) > before + 50


def test_explanation_of_an_image_that_is_the_target_already(run):
    """No step: the strip is photo and drawing, and the words say why."""
    model = quarters(margin=-9.0)
    found = with_attributes(searched(quarters(), ROWS), up(0))
    answer = explain(model, flat([0.5] * 4), found, target="yes")
    folder = showing.write_explanation(answer, found, "a.png", run, floors=FLOORS)
    with Image.open(folder / "animation.gif") as film:
        film.load()
    said = in_words(read_json(folder / "explanation.json"))
    assert "the reconstruction is decided as yes already" in said
    assert "together" not in said


def test_keys_of_explanation_json(run):
    """What the report and readers rely on."""
    model = quarters(margin=0.4)
    found = with_attributes(searched(model, ROWS), up(1), up(0))
    answer = explain(model, flat([-0.5, -0.3, 0.2, 0.0]), found, target="yes")
    folder = showing.write_explanation(answer, found, "some photo.png", run, floors=FLOORS)
    assert folder.name == "some-photo-to-yes"
    data = read_json(folder / "explanation.json")
    assert set(data) == {
        *(
            "image",
            "pixels",
            "created",
            "classes",
            "target",
            "photo_logits",
            "reconstruction_logits",
        ),
        *("l1", "perceptual", "why_perceptual", "warnings", "agreement_floors", "steps"),
        *("flipped", "flipped_at"),
    }
    assert data["perceptual"] is None
    assert data["agreement_floors"] == FLOORS
    assert (data["flipped"], data["flipped_at"]) == (True, 1)
    step = data["steps"]["subset"][0]
    assert set(step) == {
        *("coordinate", "direction", "rank", "effect", "probability", "flipped"),
        *("name", "mark", "note"),
    }
    assert step["name"] == step["mark"] == step["note"] == ""
    assert (step["coordinate"], step["direction"], step["rank"]) == (0, 1, 2)
    assert [s["rank"] for s in data["steps"]["independent"]] == [2, 1]


def comment(film):
    """What a GIF says that it shows."""
    with Image.open(film) as opened:
        return opened.info.get("comment")


def test_names_and_marks_go_wherever_an_attribute_is_shown(run, monkeypatch):
    """Into JSON, captions, words and GIFs as they are; into the next report as they are by then."""
    model, captions = quarters(margin=0.4), []
    found = with_attributes(searched(model, ROWS), up(0), up(1))
    found.save(run)
    write_note(run, 0, name="brown spots", mark="expected", note="old leaves")
    write_note(run, 1, name="", mark="artefact")
    illustrate(model, found, NAMES, run)
    film = Run(run).attribute(1, 1) / "before_after.gif"
    assert comment(film) == b"brown spots (expected)"
    draw = showing.pictures.captioned
    monkeypatch.setattr(
        showing.pictures, "captioned", lambda x, says: (captions.extend(says), draw(x, says))[1]
    )
    answer = explain(model, flat([-0.5, -0.3, 0.2, 0.0]), found, target="yes")
    folder = showing.write_explanation(answer, found, "a.png", run, floors={})
    data = read_json(folder / "explanation.json")
    first, second = data["steps"]["independent"]
    assert [first[key] for key in ("name", "mark", "note")] == [
        *("brown spots", "expected", "old leaves"),
    ]
    assert [second[key] for key in ("name", "mark", "note")] == ["", "artefact", ""]
    assert sum("brown spots (expected)\n" in says for says in captions) == 3  # strip, GIF, maps
    assert any(says.startswith("attribute 2 (artefact)\n") for says in captions)
    assert "  brown spots (expected): yes" in in_words(data)

    write_note(run, 0, name="rust", mark="confounder")
    page = write_report(run).read_text(encoding="utf-8")
    assert "Attribute 1</a> “rust” (confounder) (coordinate 0" in page
    assert "Attribute 2</a> (artefact) (coordinate 1" in page
    assert "brown spots" not in page
    assert comment(film) == b"rust (confounder)"
    assert read_json(folder / "explanation.json") == data  # what was said when it was explained
    write_note(run, 0, name="", mark="")
    assert "“rust”" not in write_report(run).read_text(encoding="utf-8")
    assert comment(film) is None


def test_words_and_data_are_one(run, tmp_path):
    """`as_text` is JSON of the same answer; the words hold its numbers and its doubts."""
    model = quarters(margin=0.1, error=0.2)
    found = with_attributes(searched(model, ROWS), up(0), up(1))
    photo = photo_file(tmp_path, "a.png", gray_photo(0.0, 0.0, 0.0, 0.0))
    answer, _ = explain_file(model, found, photo, run, target="yes")
    assert json.loads(showing.as_text(answer)) == answer
    said = in_words(answer)
    assert len(answer["warnings"]) == 2  # other class, and poor beside the run's usual L1 of 0.1
    for warning in answer["warnings"]:
        assert f"careful: {warning}" in said
    assert f"(L1 {answer['l1']:.3f})" in said
    step = answer["steps"]["independent"][0]
    assert f"attribute 1: yes {step['probability']:.0%} ({step['effect']:+.2f})" in said


def test_agreement_never_stands_without_its_floors(run, tmp_path):
    """Trap 11: every floor is in the line; where nothing was measured, there is no line."""
    model = quarters()
    found = with_attributes(searched(model, ROWS), up(0))
    photo = photo_file(tmp_path, "a.png", gray_photo(*ROWS[0]))
    answer, _ = explain_file(model, found, photo, run, target=1)
    (line,) = [line for line in in_words(answer).splitlines() if "agreement" in line]
    wanted = ("90%", "mean w 60%", "another's w 60%", "swapped p 50%", "mean p 80%", "class 50%")
    assert all(words in line for words in wanted)
    assert line.index("floors") < line.index("mean w")
    Run(run).metrics.unlink()
    answer, _ = explain_file(model, found, photo, run, target=1)
    assert "agreement" not in in_words(answer)
    assert answer["warnings"] == []


def test_words_of_a_flip_and_of_none(run):
    """The step at which the decision turns is named; where none is, that is said."""
    for margin, flips in ((0.4, True), (9.0, False)):
        model = quarters(margin)
        found = with_attributes(searched(quarters(), ROWS), up(0), up(1))
        answer = explain(model, flat([-0.5, -0.3, 0.2, 0.0]), found, target="yes")
        folder = showing.write_explanation(answer, found, "a.png", run, floors={})
        said = in_words(read_json(folder / "explanation.json"))
        assert (f"yes {answer.subset[-1].probability:.0%}  the decision flips" in said) == flips
        assert ("the decision does not flip" in said) != flips


def test_perceptual_distance_of_the_training_is_reported(run, tmp_path, monkeypatch):
    """The one that the run was trained with, and null where its weights are gone."""
    model = quarters()
    found = with_attributes(searched(model, ROWS), up(0))
    photo = photo_file(tmp_path, "a.png", gray_photo(*ROWS[0]))
    about = read_json(Run(run).about)
    about["settings"]["perceptual"] = "lpips"
    write_json(Run(run).about, about)
    monkeypatch.setattr(losses, "_lpips", lambda _: lambda x, y: torch.full((len(x),), 0.25))
    assert explain_file(model, found, photo, run, target=1)[0]["perceptual"] == 0.25

    def gone(_):
        raise ValueError("the LPIPS weights could not be loaded")

    monkeypatch.setattr(losses, "_lpips", gone)
    answer, _ = explain_file(model, found, photo, run, target=1)
    assert answer["perceptual"] is None
    assert answer["why_perceptual"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("gone.png", None, "gone.png does not exist; give an image file"),
        ("broken.png", b"\x89PNG\r\n\x1a\nhalf", "broken.png is not a readable image"),
        ("notes.txt", b"hello", "notes.txt is not a readable image"),
    ],
)
def test_errors_of_explain_file_are_one_line(run, tmp_path, name, content, says):
    """A missing, a broken and a foreign file; nothing is written."""
    model = quarters()
    found = with_attributes(searched(model, ROWS), up(0))
    if content is not None:
        (tmp_path / name).write_bytes(content)
    kind = FileNotFoundError if content is None else ValueError
    with pytest.raises(kind, match=says) as error:
        explain_file(model, found, tmp_path / name, run, target=1)
    assert "\n" not in str(error.value)
    assert not Run(run).explanations.exists()


# what a search did not find


def test_a_class_without_attributes_is_named():
    """With the reason: all images are decided so, or nothing raises the logit."""
    found = searched(quarters(), ROWS)
    found = replace(found, made=found.made | {"count": 1})
    assert not_found(with_attributes(found, up(0), up(0, target=0))) == []
    (says,) = not_found(with_attributes(found, up(0)))
    assert says == "no attribute towards no: no coordinate raises its logit"
    assert not_found(with_attributes(found, up(0)), "yes") == []
    decided = replace(found, logits=torch.tensor([[0.0, 1.0]] * 6))
    assert not_found(with_attributes(decided), "yes") == [
        "no attribute towards yes: no search image is decided as another class"
    ]
    one = replace(decided, source=0, attributes=())
    assert not_found(one) == ["no attribute towards yes: no search image is decided as no"]


def test_a_list_shorter_than_wanted_is_named():
    """With how many were wanted, and why there are no more."""
    found = with_attributes(searched(quarters(), ROWS), up(0), up(1))
    found = replace(found, made=found.made | {"count": 3}, rule="subset")
    assert not_found(found, "yes") == [
        "2 attributes towards yes: 3 were wanted, no other move takes its images further"
    ]
    assert not_found(replace(found, made=found.made | {"count": 2}), "yes") == []
    (says,) = not_found(replace(found, attributes=found.attributes[:1], rule="share"), "yes")
    assert says == "1 attribute towards yes: 3 were wanted, no other move changes enough images"


def test_a_search_without_stable_images_says_so():
    """One line for all classes, with what to try."""
    found = replace(searched(quarters(), ROWS), attributes=(), made={"images": 6, "left_out": 6})
    (says,) = not_found(found)
    assert says.startswith("no attribute: all 6 images were left out as unstable")
    assert "try" in says


def test_grays_survive_the_way_through_a_file(tmp_path):
    """The photos of these tests are what they claim to be."""
    path = photo_file(tmp_path, "a.png", gray_photo(-0.5, -0.3, 0.2, 0.0))
    pixels = showing.open_image(path, resolution=32, channels=3)
    assert torch.equal(pixels, to_bytes(flat([-0.5, -0.3, 0.2, 0.0]))[0])
