"""Studies: balanced forms without the answers in them, a floor in closed form, honest scores."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from html import escape
from pathlib import Path
from random import Random
from shutil import rmtree
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from chromium import WCAG, browsing
from hypothesis import given
from hypothesis import strategies as st
from measured import attribute as tried
from measured import smudge
from PIL import Image
from small import ROWS, Quarters, begun, flat, searched, weighing
from small import grays as grays_of

from stylex import cli, forms, participant, plotting, scoring, study
from stylex.pictures import to_picture
from stylex.runs import Run, read_json, write_json
from stylex.stylespace import Attribute


def grays(count: int) -> list[list[float]]:
    """Images of four independent grays."""
    draw = torch.Generator().manual_seed(0)
    return (torch.rand(count, 4, generator=draw) * 1.6 - 0.8).tolist()


def run_of(path: Path, images: int = 40) -> tuple[Path, Quarters]:
    """A searched run in closed form: two quarters move the decision, the other two do not."""
    weights = [[-0.9, 0.9], [-0.6, 0.6], [0.0, 0.0], [0.0, 0.0]]
    model = Quarters(weighing(weights, [0.0, 0.0]))
    searched(model, grays(images)).save(begun(path, model))
    return path, model


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A study: its folders, its key, and how to make another one."""
    place = tmp_path_factory.mktemp("study")
    run, model = run_of(place / "run")

    def make(name: str, **options) -> SimpleNamespace:
        options = {"count": 2, "repeats": 2, "controls": 2, **options}
        study.make(run=str(run), out=str(place / name), **options)
        key = read_json(place / f"{name}-key.json")
        return SimpleNamespace(
            folder=place / name, panel=place / f"{name}-panel", key=key,
            file=place / f"{name}-key.json", again=make, run=run,
        )  # fmt: skip

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study.StylEx, "load", lambda *_, **__: model)
        yield make("study")


def pictures(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its name."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def maps(made: SimpleNamespace, item: str, form: str = "classification") -> list[np.ndarray]:
    """Difference maps of one item's pictures."""
    addresses = participant.contents(made.folder / f"{form}.html")["items"][item]
    return [participant.difference(made.folder / address) for address in addresses]


def quarter(map_: np.ndarray) -> list[bool]:
    """Which quarters of an image change: top left, top right, bottom left, bottom right."""
    halves = [half for band in np.split(map_, 2, axis=0) for half in np.split(band, 2, axis=1)]
    return [bool(np.abs(half).max() > 0) for half in halves]


# Making


def test_every_item_shows_what_the_key_says(made: SimpleNamespace) -> None:
    """The examples and the right candidate move one quarter, the wrong one another, or nothing."""
    assert Counter(item["kind"] for item in made.key["classification"].values()) == {
        "attribute": 4,
        "random": 2,
        "unchanged": 2,
    }
    for name, item in made.key["classification"].items():
        first, second, a, b = (quarter(map_) for map_ in maps(made, name))
        right, wrong = (a, b) if item["right"] == "A" else (b, a)
        if item["kind"] == "unchanged":
            assert not any(first + second + a + b)
            continue
        coordinate, other = (int(item[what].split("-")[0]) for what in ("attribute", "beside"))
        assert first == second == right == [j == coordinate for j in range(4)]
        assert wrong == [j == other for j in range(4)]


def test_images_of_an_item_differ_and_candidates_share_theirs(made: SimpleNamespace) -> None:
    """Nothing but the change tells A from B, and no image of an attribute comes twice."""
    used: Counter[tuple[str, int]] = Counter()
    for item in made.key["classification"].values():
        first, second, a, b = item["images"]
        assert len({first, second, a}) == 3
        assert a == b
        used.update((item.get("attribute", ""), row) for row in (first, second, a))
    assert max(count for (name, _), count in used.items() if name) == 1


def test_images_are_of_another_class(made: SimpleNamespace) -> None:
    """An attribute towards a class is shown on images that are not of that class."""
    rows = torch.tensor(grays(40))
    yes = (rows @ torch.tensor([0.9, 0.6, 0.0, 0.0]) > 0).long()
    for item in made.key["panel"].values():
        target = made.key["attributes"][item["attribute"]]["target"]
        assert all(yes[row] != target for row in item["images"])


def test_changes_are_shown_on_images_that_are_given(made: SimpleNamespace, tmp_path: Path) -> None:
    """A folder of photos takes the place of the search images; too few of them are refused."""
    for i, image in enumerate(flat(*grays(80)[40:])):
        to_picture(image).save(tmp_path / f"{i:02d}.png")
    other = made.again("given", data=str(tmp_path), repeats=1)
    for name, item in other.key["verbal"].items():
        for slot, row in enumerate(item["images"], start=1):
            with Image.open(other.folder / f"pictures/verbal-{name}-{slot}.png") as picture:
                before = np.asarray(picture.crop((0, 0, 32, 32)), dtype=int)
            with Image.open(tmp_path / f"{row:02d}.png") as photo:
                assert np.abs(before - np.asarray(photo, dtype=int)).max() <= 1
    with pytest.raises(ValueError, match="only 40 images to show changes on"):
        made.again("few", data=str(tmp_path), repeats=9)


@given(st.integers(2, 9), st.integers(1, 4), st.integers(0, 5), st.integers(0, 99))
def test_forms_are_balanced(count: int, repeats: int, controls: int, seed: int) -> None:
    """A is right as often as B, in every kind and for every move; each move is wrong as often."""
    asked = [Attribute(j, 0, 1, 0.5) for j in range(count)]
    others = [Attribute(count + j, 0, 0, 0.0) for j in range(controls + (controls == 1))]
    styles = torch.rand(80, 20, generator=torch.Generator().manual_seed(seed))
    low_high = torch.tensor([[0.0], [1.0]]).expand(2, 20)
    pool = study.Pool(styles, low_high, 1.0, torch.full((80,), 2), Random(seed))
    items = study.classification(pool, asked, others, repeats=repeats, controls=controls)
    for kind in ("attribute", "random", "unchanged"):
        rights = Counter(item.right for item in items if item.kind == kind)
        assert abs(rights["A"] - rights["B"]) <= 1
    for move in asked:
        own = [item for item in items if item.moves[0] == move]
        assert len(own) == repeats
        assert abs(sum(1 if item.right == "A" else -1 for item in own)) <= 1
        assert sum(move in item.moves[2:] for item in items) == 2 * repeats


def test_a_seed_makes_the_same_study_again(made: SimpleNamespace) -> None:
    """Everything but the date; another seed draws another one."""
    again, other = made.again("again"), made.again("other", seed=1)
    assert pictures(made.folder) == pictures(again.folder)
    assert {**made.key, "made": ""} == {**again.key, "made": ""}
    assert pictures(made.folder) != pictures(other.folder)
    assert made.key["study"] != other.key["study"]


def test_the_folder_holds_no_right_answer(made: SimpleNamespace) -> None:
    """A page knows its pictures by item and place; all items look the same to its reader."""
    names = set(pictures(made.folder))
    assert {name for name in names if not name.startswith("pictures/")} == {
        "classification.html",
        "verbal.html",
    }
    page = (made.folder / "classification.html").read_text()
    about = participant.contents(made.folder / "classification.html")
    for item, addresses in about["items"].items():
        assert addresses == [f"pictures/classification-{item}-{i}.png" for i in (1, 2, 3, 4)]
    blocks = page.split("<fieldset")[1:]
    readable = "".join(blocks).split("<script>")[0]  # all questions, and what the script is given
    for said in (*made.key["attributes"], "random", "unchanged", "attribute", '"right"'):
        assert said not in readable
    alike = {block.split("</fieldset>")[0].replace(n, "00") for n, block in zip(
        about["items"], blocks, strict=True)}  # fmt: skip
    assert len(alike) == 1
    assert not made.file.is_relative_to(made.folder)


def test_pages_ask_no_network_and_escape(made: SimpleNamespace) -> None:
    """Only the page's own style and script may run; what the user says stays text."""
    evil = "<script>alert(1)</script>"
    page = (made.again("evil", contact=evil).folder / "verbal.html").read_text()
    assert evil not in page
    assert "default-src 'none'" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_the_dossier_says_what_is_known(made: SimpleNamespace) -> None:
    """Effect, probabilities, gates and all five verdicts stand with each attribute."""
    page = (made.panel / "panel.html").read_text()
    for about in made.key["attributes"].values():
        assert f"{about['effect']:+.2f} logits" in page
        assert about["title"] in page
    assert page.count("Its trust gates were not asked.") == 2
    assert all(page.count(f'value="{verdict}"') == 2 for verdict in forms.VERDICTS)


def test_the_dossier_shows_the_gates_with_their_reasons(made: SimpleNamespace) -> None:
    """What `metrics.json` says of an attribute stands with it, of shut gates and of open ones."""
    metrics, known = Run(made.run).metrics, list(made.key["attributes"].values())
    moves = [(one["target"], one["rank"], one["coordinate"], one["direction"]) for one in known]
    before = read_json(metrics)
    evidence = [smudge(*moves[0]), tried(*moves[1])]
    write_json(metrics, before | {"evaluated": {"images": 96}, "attributes": evidence})
    page = (made.again("tried").panel / "panel.html").read_text()
    write_json(metrics, before)
    pages = {part.split("</legend>")[0].split(">")[-1]: part for part in page.split("<fieldset")}
    for one, its, word in zip(known, evidence, ("Artefact", "Trusted"), strict=True):
        assert f"<strong>{word}</strong>" in pages[one["title"]]
        for gate in its["gates"]:
            assert f"<li>{gate['name']}: {escape(gate['says'])}</li>" in pages[one["title"]]
            mark = "passed" if gate["passed"] else "failed"
            assert f'<li>{gate["name"]} <span role="img" aria-label="{mark}"' in pages[one["title"]]
    assert "gates were not asked" not in page


def test_each_change_is_asked_about_in_its_stronger_direction() -> None:
    """Two classes rank the same coordinates: neither of them is always the one that is asked."""
    effects = {(0, 0): 0.4, (1, 0): 0.9, (0, 1): 0.3, (1, 1): 0.2}
    moves = tuple(Attribute(j, t, t, effect) for (t, j), effect in effects.items())
    model = Quarters(weighing([[0.0, 0.0]] * 4, [0.0, 0.0]))
    found = replace(searched(model, grays(4)), attributes=moves)
    asked, _ = study.chosen(found, 4, count=2, controls=0, seed=0)
    assert [(move.coordinate, move.target) for move in asked] == [(0, 1), (1, 0)]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"name": "study"}, "is not empty"),
        ({"controls": 1}, "controls either 0 or from 2"),
        ({"repeats": 0}, "repeats from 1"),
        ({"count": 1}, "a study needs 2"),
        ({"controls": 3}, "lower --controls"),
        ({"repeats": 9}, "give more by --data"),
    ],
)
def test_what_cannot_be_made_is_refused(made: SimpleNamespace, options: dict, says: str) -> None:
    """One line, and nothing half made."""
    name = options.pop("name", "refused")
    with pytest.raises(ValueError, match=says) as error:
        made.again(name, **options)
    assert "\n" not in str(error.value)
    assert name == "study" or not (made.folder.parent / name).exists()


def test_the_key_of_an_earlier_study_stays(made: SimpleNamespace) -> None:
    """Its folders were handed out and moved away; without the key nobody can score the answers."""
    first = made.again("moved")
    for folder in (first.folder, first.panel):
        rmtree(folder)
    with pytest.raises(ValueError, match="is an earlier study's") as error:
        made.again("moved", seed=2)
    assert "\n" not in str(error.value)
    assert read_json(first.file) == first.key
    assert not first.folder.exists()


def test_changes_are_shown_as_far_as_the_search_went() -> None:
    """Half way to the bound where the search moved half way."""
    model = Quarters(weighing([[0.0, 0.0]] * 4, [0.0, 0.0]))
    found = searched(model, ROWS, strength=0.5)
    pool = study._pool(model, found, None, 0)
    ends = study._ends(model, pool, 2, Attribute(0, 1, 1, 1.0))
    assert grays_of(ends)[1][0] == pytest.approx((ROWS[2][0] + 1.0) / 2, abs=1e-5)


# A simulated participant


def test_a_participant_chooses_the_more_similar_map() -> None:
    """Signs count: the same place brightened is not the same place darkened."""
    up = np.zeros((6, 6, 3))
    up[:2, :2] = 0.5
    assert participant.choose([up, up, up, -up], Random(0)) == "A"
    assert participant.choose([up, up, -up, up], Random(0)) == "B"
    drawn = Counter(participant.choose([up, up, 0 * up, 0 * up], Random(i)) for i in range(400))
    assert 160 < drawn["A"] < 240


def test_a_participant_says_where_and_what() -> None:
    """Of nine places the most changed one, and a colour where light alone does not say it."""
    map_ = np.zeros((9, 9, 3))
    assert participant.describe(map_) == ""
    map_[:3, 6:] = -0.4
    assert participant.describe(map_) == "top right darker"
    map_[3:6, 3:6, 1] = 0.9
    map_[3:6, 3:6, ::2] = -0.5
    assert participant.describe(map_) == "middle greener"


def test_the_floor_in_closed_form(made: SimpleNamespace) -> None:
    """Pixels alone tell any two coordinates apart, and nothing where nothing changes."""
    taken = [
        participant.take(made.folder / f"{form}.html", seed=seed)
        for form in ("classification", "verbal")
        for seed in range(60)
    ]
    write = [{**answers, "file": str(i)} for i, answers in enumerate(taken)]
    results = scoring.scores(write, made.key)
    assert results["people"]["participants"] == {"classification": 0, "verbal": 0, "panel": 0}
    accuracy = {one["item"]: one["value"] for one in results["simulated"]["classification"]}
    assert accuracy["all"] == accuracy["random coordinates"] == 1
    assert 0.35 < accuracy["no change"] < 0.65  # 120 drawn answers
    verbal = {one["kind"]: one for one in results["simulated"]["verbal"]}
    assert verbal["unchanged"]["hard_to_say"] == verbal["unchanged"]["answers"] == 60
    assert verbal["unchanged"]["value"] == 0


# Scoring


def key() -> dict:
    """Two attributes, each asked five times, and one control of each kind."""
    items = {
        f"{i:02d}": {"kind": "attribute", "attribute": "ab"[i % 2], "right": "AB"[i // 5]}
        for i in range(10)
    }
    items |= {"10": {"kind": "random", "attribute": "r", "right": "A"}}
    items |= {"11": {"kind": "unchanged", "right": "B"}}
    verbal = {"01": {"kind": "attribute", "attribute": "b"}, "02": {"kind": "unchanged"}}
    verbal |= {"03": {"kind": "attribute", "attribute": "a"}}
    attributes = {name: {"title": f"Attribute {name}"} for name in "ab"}
    panel = {f"{i:02d}": {"attribute": name} for i, name in enumerate("ab")}
    return {
        "version": forms.VERSION, "study": "s", "attributes": attributes,
        "classification": items, "verbal": verbal, "panel": panel,
    }  # fmt: skip


def answered(form: str, answers: dict, who: str = "p", **more) -> dict:
    """What a form downloads."""
    about = {"study": "s", "form": form, "participant": who, "simulated": False, "file": who}
    return about | {"answers": answers} | more


def test_known_answers_give_known_accuracy() -> None:
    """Eight of ten, each attribute apart, controls apart, Wilson's interval as in a table."""
    wrong = {"00", "01"}
    answers = {
        name: {"choice": {"A": "B", "B": "A"}[i["right"]] if name in wrong else i["right"]}
        for name, i in key()["classification"].items()
        if name != "11"
    }
    shares = scoring.scores([answered("classification", answers)], key())["people"]
    got = {one["item"]: one for one in shares["classification"]}
    assert got["all"]["value"] == 0.8
    assert got["all"]["low"] == pytest.approx(0.4902, abs=1e-4)
    assert got["all"]["high"] == pytest.approx(0.9433, abs=1e-4)
    assert got["Attribute a"]["value"] == got["Attribute b"]["value"] == 0.8
    assert got["random coordinates"] == {
        "kind": "random", "item": "random coordinates", "value": 1.0, "answers": 1,
        "low": pytest.approx(0.2065, abs=1e-4), "high": 1.0,
    }  # fmt: skip
    assert got["no change"]["value"] is None
    assert got["no change"]["why_value"] == "nobody answered"


def test_people_and_simulated_participants_stay_apart() -> None:
    """A program's answers add nothing to people's."""
    files = [
        answered("classification", {"00": {"choice": "A"}}),
        answered("classification", {"00": {"choice": "B"}}, "q", simulated=True),
    ]
    results = scoring.scores(files, key())
    values = [results[group]["classification"][0]["value"] for group in ("people", "simulated")]
    assert values == [1.0, 0.0]


def test_the_commonest_word_counts_people() -> None:
    """A word said twice by one counts once; hard to say counts as an answer without a word."""
    said = [{"words": "The leaves: brown SPOTS, spots"}, {"words": "more spots!"},
            {"words": "yellowing"}, {"hard": "yes"}]  # fmt: skip
    files = [answered("verbal", {"01": each}, str(i)) for i, each in enumerate(said)]
    rows = scoring.scores(files, key())["people"]["verbal"]
    assert [one["kind"] for one in rows] == ["attribute", "attribute", "unchanged"]
    spots = rows[1]
    assert (spots["item"], spots["word"], spots["value"]) == ("Attribute b", "spot", 0.5)
    assert (spots["answers"], spots["hard_to_say"]) == (4, 1)


@given(st.text("abS sSXéßÉ,.-!'1_", max_size=30))
def test_words_do_not_depend_on_case_order_or_marks(text: str) -> None:
    """Normalising what was normalised changes nothing, nor do capitals of plain letters."""
    words = scoring.words_of(text)
    assert scoring.words_of(f"  {text}!? ") == words
    assert all(word.isalpha() for word in words)


def test_words_that_say_nothing_are_left_out() -> None:
    """Articles, "more", "becomes"; a plural is its singular, and glass stays glass."""
    assert scoring.words_of("It becomes MORE yellow") == {"yellow"}
    assert scoring.words_of("the eyes and a glass of iris") == {"eye", "glass", "iris"}
    assert scoring.words_of("it's the leaf's edge, isn\u2019t it?") == {"leaf", "edge"}
    assert scoring.words_of("पत्ती हरी") == {"पत्ती", "हरी"}  # vowel signs are marks


def test_alpha_of_a_textbook_example() -> None:
    """Krippendorff's own nominal data with gaps: 0.691; all agree: 1."""
    gap = np.nan
    members = np.array(
        [
            [gap, gap, gap, gap, gap, 3, 4, 1, 2, 1, 1, 3, 3, gap, 3],
            [1, gap, 2, 1, 3, 3, 4, 3, gap, gap, gap, gap, gap, gap, gap],
            [gap, gap, 2, 1, 3, 4, 4, gap, 2, 1, 1, 3, 3, gap, 4],
        ]
    )
    assert scoring.alpha(members)["alpha"] == pytest.approx(0.691358, abs=1e-6)
    assert scoring.alpha(np.array([[0.0, 1.0], [0.0, 1.0]])) == {"alpha": 1.0}


def test_alpha_that_cannot_be_had_says_why() -> None:
    """One member, or one verdict for everything."""
    assert "two members" in scoring.alpha(np.array([[0.0, 1.0]]))["why_alpha"]
    assert "two members" in scoring.alpha(np.empty((0, 3)))["why_alpha"]
    assert "one verdict" in scoring.alpha(np.array([[2.0, 2.0], [2.0, 2.0]]))["why_alpha"]


def test_the_panel_is_counted() -> None:
    """Verdicts and reasons by attribute; two who disagree about all are below chance."""
    one = {"00": {"verdict": "artefact", "why": "edge"}, "01": {"verdict": "confounder"}}
    two = {"00": {"verdict": "confounder"}, "01": {"verdict": "artefact", "why": "light"}}
    files = [answered("panel", one, "p"), answered("panel", two, "q")]
    panel = scoring.scores(files, key())["people"]["panel"]
    assert panel["alpha"] == pytest.approx(-0.5)  # 1 - 1 / (2/3): observed over expected
    first = panel["attributes"][0]
    assert (first["verdicts"]["artefact"], first["verdicts"]["known sign"]) == (1, 0)
    assert first["why"] == ["edge"]


@pytest.fixture
def files(tmp_path: Path) -> SimpleNamespace:
    """A key and a file of answers on disk."""
    write_json(tmp_path / "key.json", key())
    answers = answered("classification", {"00": {"choice": "A"}, "11": {"choice": "A"}})
    write_json(tmp_path / "p.json", answers)
    return SimpleNamespace(path=tmp_path, key=tmp_path / "key.json", answers=answers)


def test_scores_are_written(files: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    """Tables on the terminal; JSON, CSV and a plot that stands alone."""
    taken = {**files.answers, "simulated": True, "participant": "s"}
    write_json(files.path / "s.json", taken)
    given_files = (str(files.path / "p.json"), str(files.path / "s.json"))
    scoring.score(given_files, key=str(files.key), out=str(files.path / "out"))
    out = capsys.readouterr().out
    assert "People (1): Which shows the same change?" in out
    assert "a floor, not people" in out
    assert "plants 92" in out.replace("\N{NO-BREAK SPACE}", " ")
    assert read_json(files.path / "out/scores.json")["paper"]["plants"] == 0.916
    lines = (files.path / "out/scores.csv").read_text().splitlines()
    assert lines[0].split(",") == list(scoring.COLUMNS)
    assert lines[1].startswith("people,classification,attribute,all,1.0,0.20")
    svg = (files.path / "out/classification.svg").read_text()
    assert svg.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert svg.count("<circle") == 6
    assert svg.count('class="guide"') == 5


def test_votes_and_agreement_of_the_panel_are_written(files: SimpleNamespace) -> None:
    """A circle for each verdict given, larger for more votes; alpha is a line of the table."""
    says = {"p": ("artefact", "confounder"), "q": ("artefact", "artefact")}
    for who, verdicts in says.items():
        answers = {f"{i:02d}": {"verdict": verdict} for i, verdict in enumerate(verdicts)}
        write_json(files.path / f"{who}.json", answered("panel", answers, who))
    given_files = tuple(str(files.path / f"{who}.json") for who in says)
    scoring.score(given_files, key=str(files.key), out=str(files.path / "out"))
    svg = (files.path / "out/panel.svg").read_text()
    assert [part.split('"')[0] for part in svg.split(' r="')[1:]] == ["9.0", "6.4", "6.4"]
    assert "Attribute a artefact 2 of 2; Attribute b confounder 1 of 2" in svg
    places = [part.split(' r="')[0] for part in svg.split("<circle cx=")[1:]]
    assert places[0].split()[0] == places[2].split()[0] != places[1].split()[0]  # one column
    (line,) = (line for line in (files.path / "out/scores.csv").read_text().splitlines()
               if "alpha" in line)  # fmt: skip
    alpha = read_json(files.path / "out/scores.json")["people"]["panel"]["alpha"]
    assert line == f"people,panel,agreement,Krippendorff's alpha,{alpha},,,2,"


def test_agreement_that_cannot_be_had_says_why_in_the_table(files: SimpleNamespace) -> None:
    """One member: the line is there, its number is not."""
    answers = answered("panel", {"00": {"verdict": "artefact"}})
    rows = list(scoring.as_rows(scoring.scores([answers], key())))
    assert rows[-1][:5] == ("people", "panel", "agreement", "Krippendorff's alpha", None)
    assert rows[-1][-1] == "no attribute was judged by two members"


def test_a_plot_puts_shares_where_they_are() -> None:
    """0, one half and 1 lie at the ends and in the middle of the axis; names are escaped."""
    points = [plotting.Point("<b>", x, x, x, 3, True) for x in (0.0, 0.5, 1.0)]
    svg = plotting.forest("Share", points, {})
    assert [part.split('"')[1] for part in svg.split("<circle cx=")[1:]] == [
        "290.0",
        "475.0",
        "660.0",
    ]
    assert "<b>" not in svg


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"study": "other"}, "answers another study"),
        ({"form": "quiz"}, "there are classification, verbal, panel"),
        ({"answers": {"99": {"choice": "A"}}}, "at item '99'"),
        ({"answers": {"00": {"choice": "AB"}}}, "at item '00'"),
        ({"answers": {"00": {"choice": 1}}}, "at item '00'"),
        ({"answers": {"00": ["A"]}}, "at item '00'"),
        ({"answers": {"00": {"words": "x"}}}, "at item '00'"),
        ({"answers": []}, "is no file of answers"),
        ({"participant": None}, "is no file of answers"),
        ({"simulated": "no"}, "is no file of answers"),
    ],
)
def test_foreign_answers_are_one_line(files: SimpleNamespace, change: dict, says: str) -> None:
    """What no form of this study downloads is refused, with the file's name."""
    write_json(files.path / "bad.json", files.answers | change)
    with pytest.raises(ValueError, match=says) as error:
        scoring.read_answers(files.path / "bad.json", key())
    assert "bad.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_same_participant_twice_is_refused(files: SimpleNamespace) -> None:
    """Else one person would count as two."""
    with pytest.raises(ValueError, match="of one participant and form"):
        scoring.scores([files.answers, files.answers], key())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["score", "p.json", "--key", "p.json"], "is no key"),
        (["score", "lost.json", "--key", "key.json"], "lost.json"),
        (["score", "text.json", "--key", "key.json"], "not readable JSON"),
        (["score", "list.json", "--key", "key.json"], "holds no JSON object"),
        (["score", "p.json", "--key", "newer.json"], "use the StylEx that wrote it"),
        (["simulate", "nowhere"], "is missing"),
        (["simulate", "foreign"], "is no form of a study"),
        (["make", "--run", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(
    files: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    """Exit code 2, no traceback."""
    (files.path / "text.json").write_text("hello")
    (files.path / "list.json").write_text("[1]")
    write_json(files.path / "newer.json", key() | {"version": 99})
    (files.path / "foreign").mkdir()
    (files.path / "foreign" / "classification.html").write_text("<p>hello</p>")
    monkeypatch.chdir(files.path)
    monkeypatch.setattr("sys.argv", ["stylex", "study", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert error.startswith("stylex: ")
    assert error.count("\n") == 1
    assert says in error


# In the browser


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """A headless Chromium."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with browsing() as opened:
        yield opened


def begin(page, url: str) -> list[str]:
    """Open a form and agree, by keyboard alone; returns the addresses that the page asks for."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    assert not page.locator("fieldset:not([hidden])").count(), "consent comes first"
    for pressed in ("Tab", "Space", "Tab", "Enter"):
        page.keyboard.press(pressed)
    return asked


def shown(page) -> str:
    """Name of the item on the screen."""
    return page.locator("fieldset:not([hidden])").get_attribute("name")


def fill_in(page, made: SimpleNamespace, form: str, seed: int = 0) -> None:
    """One item by keyboard, as the simulated participant answers it."""
    name = shown(page)
    addresses = participant.contents(made.folder / f"{form}.html")["items"][name]
    answer = participant.answer(made.folder, form, addresses, Random(f"{seed} {name}"))
    page.keyboard.press("Tab")
    if "choice" in answer:
        page.keyboard.press("Space" if answer["choice"] == "A" else "ArrowDown")
    elif "words" in answer:
        page.keyboard.type(answer["words"])
    else:
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
    page.keyboard.press("Enter")


def downloaded(page, folder: Path) -> Path:
    """The file of answers, fetched by keyboard from the last page."""
    with page.expect_download() as waiting:
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
    file = folder / waiting.value.suggested_filename
    waiting.value.save_as(file)
    return file


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("form", ["classification", "verbal"])
def test_a_simulated_participant_takes_a_form_to_the_end(
    browser, made: SimpleNamespace, tmp_path: Path, form: str
) -> None:
    """Keyboard only, interrupted once, from disk; what is downloaded can be scored as a floor."""
    context = browser.new_context()
    page = context.new_page()
    url = (made.folder / f"{form}.html").as_uri()
    asked = begin(page, url + "#simulated")
    count = len(made.key[form])
    for _ in range(count // 2):
        fill_in(page, made, form)
    before = shown(page)
    page.reload()
    assert f"{count // 2} of your {count}" in page.locator("#kept").inner_text()
    for pressed in ("Tab", "Space", "Tab", "Enter"):
        page.keyboard.press(pressed)
    assert shown(page) == before
    for _ in range(count - count // 2):
        fill_in(page, made, form)
    assert f"{count} of {count}" in page.locator("#answered").inner_text()
    file = downloaded(page, tmp_path)
    assert file.name.startswith(f"simulated-{form}-")
    results = scoring.scores([scoring.read_answers(file, made.key)], made.key)
    assert not results["people"]["participants"][form]
    shares = {one["kind"]: one for one in results["simulated"][form]}
    if form == "classification":
        assert results["simulated"][form][0]["value"] == shares["random"]["value"] == 1
    else:
        assert shares["unchanged"]["hard_to_say"] == 1
    assert {address.split(":")[0] for address in asked} <= {"file", "blob"}
    assert context.cookies() == []
    context.close()


@pytest.mark.browser
@pytest.mark.slow
def test_a_saved_file_is_gone_on_from_in_another_browser(
    browser, made: SimpleNamespace, tmp_path: Path
) -> None:
    """By keyboard, where it stopped; then it is one whole file of the same participant."""
    url = (made.folder / "verbal.html").as_uri()
    with browser.new_context() as context:
        page = context.new_page()
        begin(page, url)
        fill_in(page, made, "verbal")
        left = shown(page)
        page.get_by_role("button", name="Stop here").click()
        saved = downloaded(page, tmp_path)
    with browser.new_context() as context:
        page = context.new_page()
        page.on("filechooser", lambda chooser: chooser.set_files(saved))
        page.goto(url)
        for _ in range(3):
            page.keyboard.press("Tab")
        field = page.get_by_label("Go on from a file")
        assert field.evaluate("field => field === document.activeElement")
        page.keyboard.press("Space")
        page.get_by_text(f"The file holds 1 of your {len(made.key['verbal'])} answers").wait_for()
        page.get_by_role("checkbox").check()
        page.get_by_role("button", name="Go on", exact=True).click()
        assert shown(page) == left
        for _ in range(len(made.key["verbal"]) - 1):
            fill_in(page, made, "verbal")
        whole = downloaded(page, tmp_path)
    first, last = (scoring.read_answers(file, made.key) for file in (saved, whole))
    assert first["participant"] == last["participant"]
    assert first["answers"].items() <= last["answers"].items()
    assert len(last["answers"]) == len(made.key["verbal"])


@pytest.mark.browser
@pytest.mark.slow
def test_a_foreign_file_is_refused_in_one_line(
    browser, made: SimpleNamespace, tmp_path: Path
) -> None:
    """Another study, another form, no answers: nothing of it is taken over."""
    about = participant.contents(made.folder / "verbal.html")
    own = answered("verbal", {"01": {"words": "x"}}, "0" * 16, study=about["study"])
    own["version"] = about["version"]
    foreign = [
        {"study": "0"}, {"form": "panel"}, {"version": 0}, {"answers": {"99": {"words": "x"}}},
        {"answers": {"01": {"words": 1}}}, {"answers": {"01": {'a"]': "x"}}}, {"participant": "p"},
        {"answers": None},
    ]  # fmt: skip
    files = [own | change for change in foreign]
    with browser.new_context() as context:
        page = context.new_page()
        page.goto((made.folder / "verbal.html").as_uri())
        for i, content in enumerate([*files, [], None]):
            (tmp_path / f"{i}.json").write_text(json.dumps(content))
            page.locator("#saved").set_input_files(tmp_path / f"{i}.json")
            page.get_by_text(f"“{i}.json” holds no answers to this form").wait_for()
        (tmp_path / "leaf.png").write_bytes(b"\x89PNG")
        page.locator("#saved").set_input_files(tmp_path / "leaf.png")
        page.get_by_text("“leaf.png” holds no answers to this form").wait_for()
        assert page.evaluate("Object.keys(state.answers).length + localStorage.length") == 0
        write_json(tmp_path / "own.json", own)
        page.locator("#saved").set_input_files(tmp_path / "own.json")
        page.get_by_text("The file holds 1 of your").wait_for()


@pytest.mark.browser
@pytest.mark.slow
def test_the_dossier_is_filled_in_and_forgotten(
    browser, made: SimpleNamespace, tmp_path: Path
) -> None:
    """A verdict wants its reason; answers can be taken out early and deleted."""
    context = browser.new_context()
    page = context.new_page()
    begin(page, (made.panel / "panel.html").as_uri())
    name = shown(page)
    page.get_by_label("confounder").locator("visible=true").check()
    page.get_by_role("button", name="Next").click()
    assert shown(page) == name  # no reason yet
    page.locator("textarea:visible").fill("soil & <light>")
    page.get_by_role("button", name="Stop here").click()
    file = downloaded(page, tmp_path)
    answers = scoring.read_answers(file, made.key)
    assert answers["answers"] == {name: {"verdict": "confounder", "why": "soil & <light>"}}
    assert not answers["simulated"]
    page.on("dialog", lambda dialog: dialog.accept())
    page.locator("#end .forget").click()
    page.wait_for_function(
        "localStorage.length === 0 && !document.querySelector('#kept').textContent"
    )
    context.close()


@pytest.mark.browser
@pytest.mark.slow
def test_words_are_at_most_four(browser, made: SimpleNamespace) -> None:
    """A fifth word is refused in place; "hard to say" stands for none."""
    context = browser.new_context()
    page = context.new_page()
    begin(page, (made.folder / "verbal.html").as_uri())
    name = shown(page)
    page.locator("input.words:visible").fill("one two three four five")
    page.get_by_role("button", name="Next").click()
    assert shown(page) == name
    page.get_by_label("Hard to say").locator("visible=true").check()
    page.get_by_role("button", name="Next").click()
    assert shown(page) != name
    context.close()


@pytest.mark.browser
@pytest.mark.slow
def test_reduced_motion_shows_a_still_pair(browser, made: SimpleNamespace) -> None:
    """Both halves side by side and nothing moves; otherwise one half, switching."""
    for motion, moving, halves in (("reduce", "none", 2), ("no-preference", "swap", 1)):
        context = browser.new_context(reduced_motion=motion)
        page = context.new_page()
        begin(page, (made.folder / "verbal.html").as_uri())
        film = page.locator(".pair:visible").first
        name = film.locator("img").evaluate("image => getComputedStyle(image).animationName")
        box = film.bounding_box()
        assert (name, round(box["width"] / box["height"])) == (moving, halves)
        context.close()


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("form", ["classification", "verbal", "panel"])
def test_forms_are_accessible(browser, made: SimpleNamespace, form: str, theme: str) -> None:
    """The checker of WCAG 2.2 AA finds nothing on any page of a form, phone wide."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe is missing"
    ).Axe()
    context = browser.new_context(color_scheme=theme, viewport={"width": 360, "height": 740})
    page = context.new_page()
    page.goto(((made.panel if form == "panel" else made.folder) / f"{form}.html").as_uri())
    found = [axe.run(page, options=WCAG)]
    page.locator("#agreement input").check()
    page.locator("#agreement .main").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    found.append(axe.run(page, options=WCAG))
    page.locator("#stop").click()
    found.append(axe.run(page, options=WCAG))
    assert [report.generate_report() for report in found if report.violations_count] == []
    context.close()
