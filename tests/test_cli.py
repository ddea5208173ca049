"""The command line: help, the whole way on a tiny run, and mistakes in one line."""

import inspect
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
from unittest.mock import patch

import pytest
import torch
import tyro
from PIL import Image
from safetensors.torch import load_file
from torch.testing import assert_close

from stylex import (
    arguments,
    choosing,
    classifying,
    cli,
    data,
    demo,
    explaining,
    runs,
    screening,
    showing,
    training,
)
from stylex.attfind import Search
from stylex.classifier import Classifier
from stylex.keeping import load_classifier, save_classifier
from stylex.pictures import to_picture
from stylex.runs import Run, read_json, read_lines
from stylex.scenes import LEAVES
from stylex.stylespace import Attribute

PARTS = {"train": 48, "search": 8, "test": 8}


class Answer(NamedTuple):
    """What one command left."""

    code: int
    out: str
    err: str


def stylex(*arguments: object) -> Answer:
    """Run one command in this process."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    given = patch.object(sys, "argv", ["stylex", *map(str, arguments)])
    with given, redirect_stdout(out), redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
    return Answer(code, out.getvalue(), err.getvalue())


def refused(*arguments: object) -> str:
    """The one line of a command that must fail."""
    answer = stylex(*arguments)
    assert answer.code == 2, answer.out[-500:]
    assert answer.err.startswith("stylex: ")
    assert answer.err.count("\n") == 1
    assert answer.err.endswith("\n")
    assert "Traceback" not in answer.err + answer.out
    return answer.err


def draw(folder: Path, *, seed: int = 0) -> Path:
    """Labelled images: bright backgrounds are "yes"."""
    generator = torch.Generator().manual_seed(seed)
    for part, count in PARTS.items():
        factors = LEAVES.sample(count, generator)
        for i, image in enumerate(LEAVES.render(factors, supersample=1)):
            place = folder / part / ("yes" if i % 2 else "no")
            place.mkdir(parents=True, exist_ok=True)
            to_picture((image + (0.3 if i % 2 else -0.3)).clamp(-1, 1)).save(place / f"{i:03d}.png")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Drawn images, split and labelled by folders."""
    return draw(tmp_path_factory.mktemp("drawn") / "photos")


@pytest.fixture(scope="module")
def way(photos, tmp_path_factory) -> SimpleNamespace:
    """All commands after each other, with what each printed."""
    folder = tmp_path_factory.mktemp("way")
    classifier, run = folder / "classifier", folder / "not" / "yet" / "run"
    photo = next((photos / "test" / "no").iterdir())
    trained = (
        *("train", "--data", photos, "--classifier", classifier, "--run", run),
        *("--resolution", 32, "--width", 0.0625, "--total-images", 64, "--batch", 16),
        *("--perceptual", "classifier", "--adversarial-from-images", 32, "--device", "cpu"),
        *("--log-images", 16, "--snapshot-images", 32, "--checkpoint-images", 32),
    )
    learnt = stylex(
        *("train-classifier", "--data", photos, "--out", classifier, "--resolution", 32),
        *("--total-images", 1280, "--batch", 32, "--width", 16, "--no-flips"),
    )
    first = stylex(*trained)
    log = read_lines(Run(run).log)
    again = stylex(*trained)
    searched = stylex("search", "--run", run, "--images", 4, "--count", 3)
    explained = stylex("explain", photo, "--run", run, "--target", "yes")
    reported = stylex("report", "--run", run)
    answers = SimpleNamespace(
        learnt=learnt, first=first, again=again, searched=searched, explained=explained
    )
    answers.reported, answers.log, answers.trained = reported, log, trained
    answers.run, answers.photo, answers.classifier = run, photo, classifier
    answers.photos = photos
    return answers


@pytest.fixture
def copied(way, tmp_path) -> Path:
    """The finished run again, to be changed."""
    return Path(shutil.copytree(way.run, tmp_path / "run"))


@pytest.fixture(scope="module")
def evaluated(way, tmp_path_factory) -> SimpleNamespace:
    """The finished run, evaluated with quickly trained judges, and its report."""
    run = Path(shutil.copytree(way.run, tmp_path_factory.mktemp("evaluated") / "run"))
    quick = ("--panel-images", 128, "--features", "none", "--count", 2)
    # the run's eight test images are too few for a rate
    more = draw(tmp_path_factory.mktemp("more"), seed=1) / "train"
    shutil.copy(next((way.photos / "train" / "yes").iterdir()), more / "yes" / "seen.png")
    answer = stylex("evaluate", "--run", run, "--data", more, *quick)
    return SimpleNamespace(run=run, answer=answer, report=stylex("report", "--run", run))


# the whole way


def test_every_command_succeeds(way):
    """From labelled folders to a report."""
    for name in ("learnt", "first", "again", "searched", "explained", "reported"):
        answer = getattr(way, name)
        assert answer.code == 0, f"{name}: {answer.err}"
        assert "Traceback" not in answer.err


def test_evaluate_writes_what_the_report_shows(evaluated):
    """Every group of the evidence, in the run's metrics, on the terminal and on the page."""
    assert evaluated.answer.code == 0, evaluated.answer.err
    metrics = read_json(Run(evaluated.run).metrics)
    groups = {"substrate", "agreement", "panel", "sufficiency", "attributes", "stability"}
    assert groups <= set(metrics)
    assert metrics["panel"]["judges"] == 1
    assert "no linear probe" in metrics["panel"]["why"]
    assert metrics["substrate"]["features"] == "none"
    assert metrics["evaluated"]["images"] == PARTS["train"]
    assert "1 of 49 images are known to the run: left out" in evaluated.answer.out
    assert metrics["reconstruction"], "what the training measured stays"
    assert "stylex report --run" in evaluated.answer.out
    page = Run(evaluated.run).report.read_text(encoding="utf-8")
    assert "rank-biased overlap" in page.lower()


def test_nothing_is_evaluated_on_what_was_trained_on(way):
    """The run's own folder and its training folder hold nothing new."""
    for folder in (way.photos / "train", way.photos / "search"):
        says = refused("evaluate", "--run", way.run, "--data", folder)
        assert "has only images that the run has seen; give some others" in says


def test_what_was_searched_on_is_remembered(copied, way, tmp_path):
    """A search of the user's own images: none of the run's tested ones, no use in evaluating."""
    own, draw = tmp_path / "own", torch.Generator().manual_seed(5)
    own.mkdir()

    def noise(name: str) -> None:
        pixels = torch.randint(0, 256, (32, 32, 3), generator=draw, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(own / name)

    for number in range(6):
        noise(f"{number}.png")
    tested = shutil.copy(next((way.photos / "test").rglob("*.png")), own)
    search = ("search", "--run", copied, "--data", own, "--images", 6, "--count", 1)
    answer = stylex(*search)
    assert answer.code == 0, answer.err
    assert "1 of 7 images are known to the run: left out" in answer.out
    assert len(set(read_json(Run(copied).search)["made"]["searched"])) == 6
    Path(tested).unlink()
    says = refused("evaluate", "--run", copied, "--data", own)
    assert "has only images that the run has seen" in says
    again = (*search, "--reuse", "--rule", "cumulative")
    assert stylex(*again).code == 0
    noise("5.png")
    assert "took other images than these" in refused(*again)


def test_an_exported_run_explains_and_reports(evaluated, way, tmp_path):
    """Half the bytes, no path of this machine, and the commands of a run work on it."""
    out = tmp_path / "models" / "leaves"
    given = ("--run", evaluated.run, "--out", out, "--images", "drawn here, free")
    assert "written" in stylex("export", *given).out
    card = Run(out).card.read_text()
    for said in (
        "drawn here, free",
        "| L1 error |",
        "agreement",
        "Attributes",
        "total_images = 64",
    ):
        assert said in card
    told = [path for kind in ("json", "md") for path in out.rglob(f"*.{kind}")]
    assert Run(out).metrics in told
    assert not [path for path in told if str(tmp_path.parent) in path.read_text("utf-8")]
    assert read_json(Run(out).metrics)["panel"]["sources"]
    assert Run(out).model.stat().st_size < 0.6 * Run(evaluated.run).model.stat().st_size
    explained = stylex("explain", way.photo, "--run", out, "--target", "no", "--json")
    before = stylex("explain", way.photo, "--run", evaluated.run, "--target", "no", "--json")
    now, then = (json.loads(answer.out)["photo_logits"] for answer in (explained, before))
    assert now == pytest.approx(then)
    assert stylex("report", "--run", out).code == 0
    assert "is not empty" in refused("export", *given)
    bare = tmp_path / "bare"
    stylex("export", *given[:3], bare, *given[4:], "--without-classifier")
    assert "keeps no copy" in refused("explain", way.photo, "--run", bare, "--target", "no")
    whole = ("explain", way.photo, "--run", bare, "--target", "no", "--classifier", way.classifier)
    assert stylex(*whole).code == 0


def test_export_needs_a_finished_run(copied, tmp_path):
    """Without evidence there is no card."""
    Run(copied).metrics.unlink()
    given = ("--run", copied, "--out", tmp_path / "out", "--images", "some")
    assert "not finished" in refused("export", *given)
    assert not (tmp_path / "out").exists()


def test_judges_named_by_the_user_are_asked(copied, way, tmp_path):
    """Two that decide as the explained classifier does: the ceiling is 1; not itself."""
    more = draw(tmp_path / "more", seed=1) / "train"
    given = ("--data", more, "--features", "none", "--count", 1)
    judge = load_classifier(way.classifier)
    judge.model.head.weight.data.mul_(2)
    judge.model.head.bias.data.mul_(2)
    save_classifier(judge, tmp_path / "judge")
    judges = ("--oracle", tmp_path / "judge") * 2
    answer = stylex("evaluate", "--run", copied, *given, *judges)
    assert answer.code == 0, answer.err
    panel = read_json(Run(copied).metrics)["panel"]
    assert (panel["ceiling"], panel["judges"]) == (1.0, 2)
    itself = refused("evaluate", "--run", copied, *given, "--oracle", way.classifier)
    assert "is the explained classifier itself" in itself


def test_evaluate_needs_a_search_and_ten_images(copied):
    """One line each."""
    assert "needs 10 or more" in refused("evaluate", "--run", copied, "--features", "none")
    Run(copied).search.unlink()
    assert "run `stylex search" in refused("evaluate", "--run", copied)


def test_train_writes_the_run(way):
    """Into a directory whose parents were not there."""
    about = read_json(Run(way.run).about)
    assert about["images_seen"] == 64
    assert about["finished"]
    assert about["classes"] == ["no", "yes"]
    assert about["data"]["counts"] == PARTS
    assert way.log[-1]["images_seen"] == 64


def test_the_same_command_again_has_nothing_to_do(way):
    """It goes on at the end: no step, no new line, the same finish."""
    assert "going on at 64 images" in way.again.out
    assert "min left" not in way.again.out
    assert read_lines(Run(way.run).log) == way.log


def test_search_says_what_it_found(way):
    """A table towards each class, in logits, and files that the report reads."""
    assert "4 images" in way.searched.out
    saved = read_json(Run(way.run).search)
    assert saved["made"]["images"] == 4
    targets = [a["target"] for a in saved["attributes"]]
    for target in set(targets):
        assert (Run(way.run).attribute(target, 1) / "attribute.json").is_file()
    for a in saved["attributes"]:
        assert f"{a['effect']:+.2f} logits" in way.searched.out
    for name in {"no", "yes"} - {saved["classes"][t] for t in targets}:
        assert f"no attribute towards {name}" in way.searched.out


def test_reuse_selects_again_without_measuring(copied, monkeypatch):
    """Other rules at once; the same as a search with that rule; another set is refused."""
    whole = stylex("search", "--run", copied, "--images", 4, "--count", 2, "--rule", "share")
    wanted = read_json(Run(copied).search)["attributes"]
    stylex("search", "--run", copied, "--images", 4, "--count", 3)
    monkeypatch.setattr(explaining, "search", lambda *_, **__: pytest.fail("measured again"))
    given = ("search", "--run", copied, "--reuse", "--rule", "share", "--count", 2)
    assert stylex(*given, "--images", 4).code == whole.code == 0
    assert read_json(Run(copied).search)["attributes"] == wanted
    assert read_json(Run(copied).search)["made"]["rule"] == "share"
    assert "took 4 images at strength 1" in refused(*given, "--images", 5)


def test_a_fast_search_says_what_is_sure(copied, monkeypatch):
    """Its certificate; and another one once it was chosen again, by --reuse or --unnoticed."""
    monkeypatch.setattr(screening, "AHEAD", 4)
    monkeypatch.setattr(screening, "AUDITED", 4)
    given = ("search", "--run", copied, "--images", 4, "--count", 2, "--threshold", "0.01")
    fast = stylex(*given, "--mode", "fast")
    assert "fast (as asked): about" in fast.out
    made = read_json(Run(copied).search)["made"]
    assert made["certificate"]["says"] in fast.out
    assert isinstance(made["certificate"]["sure"], bool)
    again = f"Chosen again among the {len(made['measured'])} coordinates"
    assert again in stylex(*given, "--reuse", "--count", 1).out
    heard: list[int] = []

    def first_is_noticed(model, found, coordinate, *, target):
        heard.append(coordinate)
        return coordinate == heard[0]

    monkeypatch.setattr(choosing, "noticed", first_is_noticed)
    assert again in stylex(*given, "--mode", "fast", "--unnoticed").out
    saved = read_json(Run(copied).search)
    assert saved["made"]["without"] == heard[:1]
    assert heard[0] not in {a["coordinate"] for a in saved["attributes"]}


def test_metrics_after_a_search(way):
    """Sufficiency stands beside agreement and its floors, of test images."""
    table = read_json(Run(way.run).metrics)
    assert table["split"] == "test"
    assert {"own", "mean_w", "other_w", "swapped_p", "mean_p", "chance"} <= set(table["agreement"])
    rows = table["sufficiency10"]
    assert sum(row["images"] for row in rows.values()) == PARTS["test"]
    assert all({"share", "low", "high", "random"} <= set(row) for row in rows.values())


def test_explain_says_and_writes(way):
    """In words, with agreement and its floors, and where the files are."""
    folder = Run(way.run).explanation(f"{way.photo.stem}-to-yes")
    assert way.photo.name in way.explained.out
    assert "floors: mean w" in way.explained.out
    assert f"written: {folder}" in way.explained.out
    assert (folder / "explanation.json").is_file()


def test_explain_as_json(copied, way):
    """The same data as in the run, and nothing else on stdout."""
    answer = stylex("explain", way.photo, "--run", copied, "--target", "no", "--json")
    given = json.loads(answer.out)
    folder = Run(copied).explanation(f"{way.photo.stem}-to-no")
    assert given == read_json(folder / "explanation.json")


def test_report_is_written(way):
    """One page, with what was trained, found and explained."""
    page = Run(way.run).report
    assert f"written: {page}" in way.reported.out
    text = page.read_text(encoding="utf-8")
    assert way.photo.name in text
    assert "<script src" not in text


# search: several processes

DYING = """
import os, signal
from stylex import sweep
from stylex.keeping import load_classifier
from stylex.folding import Folded

def classifier():
    measure, draw, calls = sweep.measure, Folded.draw, []
    def dying(*args):  # in its second image: each takes two batches
        calls.append(1)
        if os.environ.get("RANK") == "1" and len(calls) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return draw(*args)
    def measuring(*args, **options):
        Folded.draw = dying
        return measure(*args, **options)
    sweep.measure = measuring
    return load_classifier({classifier!r})
"""


def torchrun(*arguments: object, processes: int = 2) -> Answer:
    """Run one command as two processes."""
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes, "-m")
    command = [sys.executable, *map(str, (*launch, "--", "stylex", *arguments))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    given = {"capture_output": True, "text": True, "timeout": 200, "env": environment}
    return Answer(*(lambda a: (a.returncode, a.stdout, a.stderr))(subprocess.run(command, **given)))


@pytest.mark.slow
def test_two_processes_search_as_one_and_one_goes_on(copied, way, tmp_path):
    """One of two dies: one line; alone the same command ends it. Two that live give the same.

    To the last bit, where each is a process that has just begun; this one has done other things.
    """
    wanted = load_file(Run(way.run).search_tensors)
    dying = tmp_path / "dying.py"
    dying.write_text(DYING.format(classifier=str(way.classifier)))
    given = ("search", "--run", copied, "--images", 4, "--count", 3)
    died = torchrun(*given, "--classifier", f"{dying}:classifier")
    assert died.code != 0
    says = "stylex: a process of this job ended; the same command goes on"
    assert died.err.count(says) == 1
    assert list(Run(copied).searching.glob("*/exact"))
    Run(copied).search.unlink()
    alone = torchrun(*given, processes=1)
    assert "done by an earlier start" in alone.out
    resumed = load_file(Run(copied).search_tensors)
    assert_close(resumed, wanted, atol=1e-5, rtol=0)
    assert not Run(copied).searching.exists()
    Run(copied).search.unlink()
    both = torchrun(*given)
    assert both.code == 0, both.err[-3000:]
    assert both.out.count("4 images") == 1
    assert_close(load_file(Run(copied).search_tensors), resumed, atol=0, rtol=0)
    assert not Run(copied).searching.exists()


MISTAKEN = """
from stylex import sweep
from stylex.keeping import load_classifier

def classifier():
    def mistaken(*_, **__):
        raise ValueError("odd")
    sweep.measure = mistaken
    return load_classifier({classifier!r})
"""


@pytest.mark.slow
def test_a_mistake_under_torchrun_is_said_once(copied, way, tmp_path):
    """And nothing else: no process has died."""
    script = tmp_path / "mistaken.py"
    script.write_text(MISTAKEN.format(classifier=str(way.classifier)))
    given = ("search", "--run", copied, "--images", 4, "--mode", "exact")
    answer = torchrun(*given, "--classifier", f"{script}:classifier")
    assert answer.code != 0
    assert [line for line in answer.err.splitlines() if "stylex: " in line] == ["stylex: odd"]


# search: which images


@pytest.fixture
def seen(monkeypatch) -> dict[str, torch.Tensor]:
    """Images that are searched and tested on; the sweep itself is left out."""
    seen: dict[str, torch.Tensor] = {}
    search = explaining.search

    def still(synthesis, classify, styles, bounds, **options):
        n, j = len(styles), synthesis.layout.searched
        return torch.zeros(n, j, 2, 2), torch.tensor([[1.0, 0.0], [0.0, 1.0]])[torch.arange(n) % 2]

    def recording(model, images, **options):
        seen["searched"] = images
        return search(model, images, **options)

    def tested(model, images, found, **options):
        seen["tested"] = images
        return {}

    monkeypatch.setattr(explaining.sweep, "measure", still)
    monkeypatch.setattr(explaining, "search", recording)
    monkeypatch.setattr(explaining, "sufficiency", tested)
    return seen


def test_search_uses_the_runs_own_search_images(copied, photos, seen):
    """Never those of the training; sufficiency is measured on the test images."""
    assert stylex("search", "--run", copied).code == 0
    splits = data.read_splits(photos, resolution=32)
    assert torch.equal(seen["searched"], splits["search"].images)
    assert torch.equal(seen["tested"], splits["test"].batch(slice(None)))


def test_fewer_images_are_spread_over_the_set(copied, photos, seen):
    """Folders are sorted by class: the first four would be of one."""
    assert stylex("search", "--run", copied, "--images", 4).code == 0
    splits = data.read_splits(photos, resolution=32)
    assert torch.equal(seen["searched"], splits["search"].images[::2])


def test_search_without_attributes_says_why(copied, seen):
    """Nothing moves the logits: one line for each class that was sought."""
    both = stylex("search", "--run", copied)
    assert both.code == 0
    assert "no attribute towards no: no coordinate raises its logit" in both.out
    assert "no attribute towards yes: no coordinate raises its logit" in both.out
    one = stylex("search", "--run", copied, "--target", "yes")
    assert "towards no:" not in one.out
    assert "no attributes towards yes" in refused(
        "explain", photo_of(copied), "--run", copied, "--target", "yes"
    )
    assert stylex("report", "--run", copied).code == 0


def test_search_whose_images_are_all_unstable_says_so(copied, seen, monkeypatch):
    """Every effect is huge."""

    def wild(synthesis, classify, styles, bounds, **options):
        return torch.full((len(styles), synthesis.layout.searched, 2, 2), 9.0), torch.eye(2)[
            torch.arange(len(styles)) % 2
        ]

    monkeypatch.setattr(explaining.sweep, "measure", wild)
    answer = stylex("search", "--run", copied)
    assert answer.code == 0
    assert "no attribute: all 8 images were left out as unstable" in answer.out


def photo_of(run: Path) -> Path:
    """Some photo beside the run."""
    path = run.parent / "photo.png"
    Image.new("RGB", (40, 50), "white").save(path)
    return path


def test_images_that_changed_since_the_training(copied, photos, tmp_path, seen):
    """The run's own split is no longer sure: refused, unless other images are given."""
    moved = Path(shutil.copytree(photos, tmp_path / "moved"))
    about = read_json(Run(copied).about)
    about["data"]["source"] = str(moved)
    runs.write_json(Run(copied).about, about)
    assert stylex("search", "--run", copied).code == 0
    shutil.copy(photo_of(copied), moved / "train" / "no" / "new.png")
    assert "has changed since" in refused("search", "--run", copied)
    shutil.rmtree(moved)
    assert "moved does not exist" in refused("search", "--run", copied)
    answer = stylex("search", "--run", copied, "--data", photos / "test")
    assert answer.code == 0
    assert "sufficiency was not measured" in answer.out
    assert len(seen["searched"]) == PARTS["test"]
    table = read_json(Run(copied).metrics)
    assert table["sufficiency10"] is None
    assert "does not exist" in table["why_sufficiency10"]


def test_table_keeps_the_sign():
    """An attribute joined from the other class may lower this one: it is shown as it is."""
    attribute = Attribute(3, 0, 1, effect=-0.25, share=0.125, resolution=8)
    made = {"strength": 1.0, "threshold": 1.0, "rule": "cumulative", "source": None, "made": {}}
    found = Search(
        classes=("no", "yes"),
        bounds=torch.zeros(2, 4),
        effects=torch.zeros(1, 4, 2, 2),
        logits=torch.zeros(1, 2),
        styles=torch.zeros(1, 4),
        attributes=(attribute,),
        **made,
    )
    table = showing.as_table(found)
    cells = [next(iter(column.cells)) for column in table.columns]
    assert cells == ["yes", "1", "3", "low", "8 px", "-0.25 logits", "12%"]


# help


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_every_command(name):
    """It works, names the command, and leaves no option without a word."""
    answer = stylex(name, "--help")
    assert answer.code == 0
    assert f"stylex {name}" in answer.out
    assert any(word in answer.out for word in ("--run", "--out", "subcommands"))


@pytest.mark.parametrize(
    ("name", "units"),
    [
        ("train", ("pixels", "images seen", "images per step", "steps between", "share of")),
        ("train-classifier", ("pixels", "Images seen", "images per step")),
        ("search", ("logits", "of its range")),
        ("explain", ("its bound",)),
        ("demo", ("images seen",)),
    ],
)
def test_help_gives_units(name, units):
    """What a number counts."""
    text = " ".join(re.sub("[│╭╰─╮╯]", " ", stylex(name, "--help").out).split()).lower()
    assert not [unit for unit in units if unit.lower() not in text]


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("train", training.train),
        ("train-classifier", classifying.train_classifier),
        ("demo", demo.demo),
    ],
)
def test_options_are_the_signature(name, function):
    """Each parameter of the function is an option, with its default; no list is kept beside."""
    told = dict(options(stylex(name, "--help").out))
    for parameter in inspect.signature(function).parameters.values():
        text = told[f"--{parameter.name.replace('_', '-')}"]
        if isinstance(parameter.default, int | float | str) and parameter.default not in (0, 1):
            assert text.endswith(f"(default: {parameter.default})")


def options(text: str) -> list[tuple[str, str]]:
    """Each option of a help text, with what is said of it."""
    below_usage = text.partition("\n\n")[2]
    line = " ".join(re.sub("[│╭╰─╮╯]|-{3,}", " ", below_usage).split())
    return re.findall(r"(--[a-z0-9-]+)[ ,](.*?)(?= --[a-z]|$)", line)


def test_overview_needs_no_torch():
    """`stylex --help` lists every command and loads nothing heavy."""
    code = (
        "import sys; sys.argv = ['stylex', '--help']\n"
        "from stylex.cli import main; main()\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'rich', 'PIL')))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert [name for name in cli.COMMANDS if f"\n  {name} " not in answer.stdout] == []
    assert stylex().out == stylex("-h").out == answer.stdout


# from a function of the library to a command


def worker(
    data: str | Path, classifier: Classifier, *, side: int = 64, names: Sequence[str] | None = None
) -> dict:
    """Do something.

    Args:
        data: where the images lie.
        classifier: an object.
        side: in pixels.
        names: of things.
    """
    worker.got = (data, classifier.classes, side, names)
    return {}


@pytest.fixture(scope="module")
def script(tmp_path_factory) -> Path:
    """A TorchScript classifier of two classes."""
    path = tmp_path_factory.mktemp("script") / "model.ts"
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.AdaptiveAvgPool2d(1))
    torch.jit.script(torch.nn.Sequential(model, torch.nn.Flatten())).save(str(path))
    return path


def test_from_strings_loads_what_strings_name(script):
    """A classifier by its source, its classes with commas, paths as paths."""
    command = arguments.from_strings(worker)
    given = ["--data", "x/y", "--classifier", str(script), "--classes", "bad,good", "--side", "8"]
    assert tyro.cli(command, args=given) is None
    assert worker.got == (Path("x/y"), ("bad", "good"), 8, None)


def test_from_strings_takes_names_with_commas():
    """For a function that has them itself."""

    def label(out: str | Path, *, classes: Sequence[str] | None = None) -> None:
        """Label.

        Args:
            out: a directory.
            classes: the folders to use.
        """
        label.got = (out, classes)

    tyro.cli(arguments.from_strings(label), args=["--out", "o", "--classes", "a,b c,d"])
    assert label.got == (Path("o"), ("a", "b c", "d"))
    tyro.cli(arguments.from_strings(label), args=["--out", "o"])
    assert label.got == (Path("o"), None)


def test_train_hands_on_what_was_given(script, photos, tmp_path, monkeypatch):
    """`stylex train` is `training.train`, with the classifier loaded."""
    got = {}

    @wraps(training.train)
    def recording(**given):
        got.update(given)

    monkeypatch.setattr(training, "train", recording)
    run = tmp_path / "run"
    answer = stylex(
        *("train", "--data", photos, "--classifier", script, "--classes", "bad,good"),
        *("--run", run, "--hide-p", "0.25", "--flips", "--no-augment", "--group", "^p"),
    )
    assert answer.code == 0
    assert got["classifier"].classes == ("bad", "good")
    assert (got["run"], got["data"]) == (run, photos)
    assert (got["hide_p"], got["flips"], got["augment"], got["group"]) == (0.25, True, False, "^p")
    named = inspect.signature(training.train).parameters
    defaults = {n: p.default for n, p in named.items() if p.default is not p.empty}
    changed = {"hide_p", "flips", "augment", "group"}
    assert {n: got[n] for n in defaults if n not in changed} == {
        n: v for n, v in defaults.items() if n not in changed
    }


# mistakes


def test_a_mistake_of_another_process_is_one_line(tmp_path):
    """Exit code 2 and one line, as a shell sees it."""
    command = [sys.executable, "-m", "stylex", "report", "--run", str(tmp_path / "nowhere")]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert answer.stderr.count("\n") == 1
    assert "nowhere is not a run" in answer.stderr


def test_unknown_command_and_option():
    """In one line: what there is, or what is missing or no such value."""
    line = refused("serch", "--run", "x")
    assert "no command 'serch'" in line
    assert all(name in line for name in cli.COMMANDS)
    help_of = "`stylex report --help` lists the options"
    line = refused("report", "--run", "x", "--rum", "y")
    assert line == f"stylex: Unrecognized options: --rum, y; {help_of}\n"
    line = refused("report")
    assert line.startswith("stylex: Missing from stylex report: --run STR directory of a run")
    assert line.endswith(f"{help_of}\n")
    line = refused("demo", "--seed", "many")
    assert "Error parsing --seed: invalid literal for int() with base 10: 'many'; `stylex" in line
    assert "Unrecognized options: --rum" in refused("study", "make", "--run", "x", "--rum", "y")


def test_the_parsers_box_becomes_a_line(monkeypatch):
    """On a terminal it is red; elsewhere its lines are hyphens."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b" not in refused("report", "--run", "x", "--rum", "y")
    box = ("╭─ Wrong ─╮", "│ \x1b[1mno such\x1b[0m │", "│ thing │", "│ ───── │", "│ more │", "╰──╯")
    said = "\n".join(box)
    assert arguments._first_part(said) == "no such thing"
    assert arguments._first_part("Wrong\n-----\nno such\n--thing\n-----\nmore") == "no such --thing"


@pytest.mark.parametrize("name", ["search", "explain", "report"])
def test_missing_run(name, tmp_path):
    """No such directory, and one that is no run."""
    more = ("photo.png", "--target", "yes") if name == "explain" else ()
    for path in (tmp_path / "nowhere", tmp_path):
        assert "is not a run" in refused(name, *more, "--run", path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"--data": "nowhere"}, "nowhere does not exist; give a folder"),
        ({"--data": "empty"}, "empty holds no file"),
        ({"--data": "broken"}, "none of 1 files is a usable image"),
        ({"--classifier": "gone.ts"}, "no classifier at gone.ts; give file.py:function"),
        ({"--classifier": "gone.py:model"}, "no file gone.py"),
        ({"--classifier": "SCRIPT"}, "does not name its classes; add them in order, `--classes"),
        ({"--classifier": "SCRIPT", "--classes": "a"}, "wanted two or more different names"),
        ({"--classifier": "SCRIPT", "--classes": "a,b,c"}, "gave shape [16, 2], wanted [16, 3]"),
        ({"--classifier": "IMAGE", "--classes": "a,b"}, "gave shape [16, 3, 32, 32], wanted"),
        ({"--classifier": "gone.ts", "--classes": "a,b"}, "no classifier at gone.ts; give file.py"),
        ({"--total-images": "lots"}, "Error parsing --total-images: invalid literal"),
        (
            {"--run": "broken/a.png", "--total-images": 32},
            "broken/a.png/classifier: a file is where a directory is",
        ),
        ({"--classes": "a,b"}, "brings its own classes; give these only with a TorchScript"),
        ({"--resolution": 33}, "resolution is 33; wanted a power of two from 32 to 256"),
    ],
)
def test_mistakes_of_train(way, photos, script, tmp_path, monkeypatch, *, change, says):
    """Each in one line, before anything is written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    given = {"--data": photos, "--classifier": way.classifier, "--run": "run", "--resolution": 32}
    given |= {"--perceptual": "none"}
    torch.jit.script(torch.nn.Identity()).save("image.ts")
    places = {"SCRIPT": script, "IMAGE": "image.ts"}
    given |= {name: places.get(value, value) for name, value in change.items()}
    assert says in refused("train", *(x for pair in given.items() for x in pair))
    assert not (tmp_path / "run").exists()


def test_mistakes_of_train_classifier(photos, tmp_path):
    """One class, an unknown one, no folders."""
    given = ("train-classifier", "--out", tmp_path / "out", "--resolution", 32)
    assert "nowhere does not exist" in refused(*given, "--data", tmp_path / "nowhere")
    line = refused(*given, "--data", photos, "--classes", "no,maybe")
    assert "no image of maybe in train" in line
    line = refused(*given, "--data", photos, "--classes", "no")
    assert "images in 1 class folders (no)" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("--target", "maybe"), "there is no class 'maybe'; choose one of no, yes"),
        (("--source", "maybe"), "there is no class 'maybe'"),
        (("--target", "no", "--source", "no"), "both source and target"),
        (("--images", 1), "images is 1; wanted two or more"),
        (("--images", -3), "images is -3"),
        (("--count", 0), "count is 0; wanted 1 attribute or more"),
        (("--threshold", 0), "threshold 0.0 explains every image"),
        (("--data", "nowhere"), "nowhere does not exist"),
    ],
)
def test_mistakes_of_search(copied, seen, change, says):
    """In one line; the earlier search stays."""
    before = Run(copied).search.read_bytes()
    assert says in refused("search", "--run", copied, *change)
    assert Run(copied).search.read_bytes() == before


def test_mistakes_of_explain(way, copied, tmp_path):
    """A photo that is none, a class that is none, a run that was not searched."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nhalf")
    given = ("explain", "--run", copied, "--target")
    assert "broken.png is not a readable image" in refused(*given, "yes", broken)
    assert "gone.png does not exist; give an image" in refused(*given, "yes", tmp_path / "gone.png")
    assert "is not a readable image" in refused(*given, "yes", tmp_path)
    assert "there is no class 'maybe'" in refused(*given, "maybe", way.photo)
    Run(copied).search.unlink()
    assert "holds no search; run `stylex search --run" in refused(*given, "yes", way.photo)


def test_another_classifier_is_refused(way, copied, script, tmp_path):
    """By its hash: when training goes on, and when a run is opened with it."""
    other = tmp_path / "other.py"
    other.write_text(
        "import torch\nfrom stylex import Classifier\n"
        "def model():\n"
        "    return Classifier(lambda x: x.mean((2, 3))[:, :2], ('no', 'yes'), size=32)\n"
    )
    given = ("search", "--run", copied, "--classifier", f"{other}:model")
    assert "the classifier has changed since this run was trained" in refused(*given)
    changed = [f"{other}:model" if x == way.classifier else x for x in way.trained]
    line = refused(*(copied if x == way.run else x for x in changed))
    assert "the classifier changed since" in line


def test_other_settings_are_refused(way, copied):
    """A run goes on with what it was begun with."""
    line = refused(*(copied if x == way.run else x for x in way.trained), "--hide-p", 0.1)
    assert "was begun with hide_p 0.5, now it is 0.1; give the same, or another --run" in line


def test_what_the_system_refuses_is_one_line(tmp_path):
    """A file where the run should be."""
    (tmp_path / "file").write_text("x")
    assert "file" in refused("report", "--run", tmp_path / "file" / "run")
    assert "file: a file is where a directory is" in refused("demo", "--run", tmp_path / "file")


def test_an_untrained_run_is_not_searched(way, tmp_path):
    """It was begun, and has saved nothing yet."""
    run = tmp_path / "begun"
    run.mkdir()
    shutil.copy(Run(way.run).about, run)
    shutil.copytree(Run(way.run).classifier, run / "classifier")
    assert "holds no model.safetensors yet" in refused("search", "--run", run)


@pytest.mark.parametrize("name", ["train", "train-classifier", "search", "evaluate"])
def test_files_left_out_are_named_on_the_console(name, way, copied, photos, monkeypatch):
    """In one line on stderr, whatever the command does then."""

    def stop(*_given, **_named):
        raise ValueError("far enough")

    monkeypatch.setattr("stylex.plan.length", stop)
    monkeypatch.setattr("stylex.classifying.fit", stop)
    monkeypatch.setattr("stylex.explaining.search", stop)
    monkeypatch.setattr("stylex.evaluation.check", stop)
    folder = shutil.copytree(photos, copied.parent / "photos")
    (folder / "train" / "no" / "notes.txt").write_text("no image")
    given = {
        "train": (
            *("--classifier", way.classifier, "--run", copied / "r", "--resolution", 32),
            *("--perceptual", "none"),
        ),
        "train-classifier": ("--out", copied / "c", "--resolution", 32),
    }
    answer = stylex(name, "--data", folder, *given.get(name, ("--run", copied)))
    left_out, stopped = answer.err.splitlines()
    reason = "train/no/notes.txt (not a readable image (unknown format))"
    assert left_out == f"{folder}: 1 file left out: {reason}"
    assert stopped == "stylex: far enough"


def test_long_messages_and_interruptions_are_one_line(monkeypatch):
    """Whatever a library says; and Ctrl-C tells what goes on."""

    def failing(run: str = "x") -> None:
        """Fail."""
        raise ValueError("first\n  second\n")

    def interrupted(run: str = "x") -> None:
        """Be stopped."""
        raise KeyboardInterrupt

    def too_large(run: str = "x") -> None:
        """The commonest mistake on a GPU."""
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(cli, "command", lambda name: failing)
    assert refused("train") == "stylex: first second\n"
    monkeypatch.setattr(cli, "command", lambda name: interrupted)
    goes_on = "stylex: stopped; the same command goes on from what was saved\n"
    assert refused("train") == refused("search") == goes_on
    assert refused("explain") == "stylex: stopped\n"
    monkeypatch.setattr(cli, "command", lambda name: too_large)
    assert refused("train").startswith("stylex: that does not fit into the GPU's memory; lower ")
