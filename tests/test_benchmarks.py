"""What the benchmarks make of finished runs: by hand, without a training."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
import design
import real_domains
import training_curve
import training_steady

from stylex.runs import Run, append_line, write_json

ROOT = Path(__file__).resolve().parents[1]


def evaluated(path: Path, **pairs: dict[str, Any]) -> Path:
    """A run with such flips."""
    write_json(Run(path).metrics, {"sufficiency": pairs})
    write_json(Run(path).about, {"images_seen": 48_000})
    return path


def test_pairs_are_told_apart_from_their_mean() -> None:
    """Flips over the number of attributes and by the smallest sets; effects by class and rank."""
    bare = {"flipped": None, "why_flipped": "no attribute"}
    metrics: dict[str, Any] = {
        "sufficiency": {"a->b": {"flipped": [0.5, 0.75]}, "b->a": bare},
        "subset": {"a->b": {"flipped": 0.9}, "b->a": bare},
        "attributes": [{"target": 1, "effect": 2.0}, {"target": 1, "effect": 0.5}],
    }
    assert real_domains.by_pair(metrics) == {
        "flipped_by_number": {"a->b": [0.5, 0.75]},
        "flipped_by_smallest_set": {"a->b": 0.9},
        "effects": {"1": [2.0, 0.5]},
    }


def test_confirmed_flips_are_pooled_over_the_images(tmp_path: Path) -> None:
    """60 of 100, and 100 of a pair without attributes: 60 of 200, with Wilson's interval."""
    flips = {"countable": 100, "confirmed": [0.2, 0.6]}
    nothing = {"countable": 100, "flipped": None, "why_flipped": "no attribute"}
    run = evaluated(tmp_path / "leaves", one=flips, other=nothing)
    table = real_domains.pooled("share", run, "none")
    assert (table["share"], table["share_of"], table["share_images_seen"]) == (0.3, 200, 48_000)
    assert table["share_low"] == pytest.approx(0.2406, abs=1e-3)
    assert table["share_high"] == pytest.approx(0.3668, abs=1e-3)


def test_the_share_of_flips_is_of_images_that_count_for_both() -> None:
    """60 of 80 flips among 100 countable and 10 of 20 among 50: 70 of 100; not told before."""
    one = {"countable": 100, "flipped": [0.9], "flipped_countable": [0.8], "confirmed": [0.6]}
    other = {"countable": 50, "flipped": [0.5], "flipped_countable": [0.4], "confirmed": [0.2]}
    none = {"countable": 0, "flipped": [1.0], "flipped_countable": [None], "confirmed": [None]}
    pairs = {"a->b": one, "b->a": other, "c->a": none, "a->c": {"countable": 9, "flipped": None}}
    assert real_domains.of_flips(pairs) == {"confirmed_share": 0.7, "confirmed_share_of": 100}
    nothing = {"a->b": one | {"flipped_countable": [0.0], "confirmed": [0.0]}}
    assert "nothing" in real_domains.of_flips(nothing)["why_confirmed_share"]
    del one["flipped_countable"]
    assert real_domains.of_flips(pairs)["confirmed_share"] is None
    assert real_domains.corrected({"confirmed_share": 1.2})["why_confirmed_share"]
    assert real_domains.corrected({"confirmed_share": 0.9, "confirmed_share_of": 3})[
        "confirmed_share"
    ] == pytest.approx(0.9)


def test_a_design_tells_options_apart_that_add_up() -> None:
    """Each option adds its own to one measure, and none to the other; a word is no measure."""
    adds = {name: float(2**n) for n, name in enumerate(design.OPTIONS)}
    table = [
        {
            "sum": sum(x for x, on in zip(adds.values(), row, strict=True) if on),
            "same": 3.0,
            "a": {},
        }
        for row in design.rows()
    ]
    found = design.effects(table)
    noise = found.pop("noise")
    assert {name: its["sum"] for name, its in found.items()} == pytest.approx(adds)
    assert {its["same"] for its in found.values()} == {0.0} == {noise["same"]}
    assert noise["sum"] > 0
    assert "a" not in noise
    assert design.rows()[-1] == [False] * len(adds)  # the defaults
    shown = design.lines({"effects": found | {"noise": noise}})
    assert shown[0] == "| | sum | same |"
    assert shown[2] == "| p hidden in 0.8 of the passes | +1 | +0 |"
    assert len(shown) == 2 + len(adds) + 1


def test_no_control_says_why(tmp_path: Path) -> None:
    """A run that was not trained, and one without an image that can be counted."""
    for run in (tmp_path / "none", evaluated(tmp_path / "a", one={"countable": 0})):
        table = real_domains.pooled("share", run, "not trained")
        assert table["share"] is table["share_low"] is table["share_high"] is None
        assert table["why_share"] == "not trained"


def test_a_control_that_lay_beside_the_run_is_still_told(tmp_path: Path, monkeypatch) -> None:
    """On a machine without it; one that is there counts, and there may never have been any."""
    name = "confirmed_flips_no_classifier"
    told = {name: 0.9, f"{name}_low": 0.8, "confirmed_flips": 0.95}
    then = {"leaves": told, "faces": {name: None, f"why_{name}": "not trained"}}
    monkeypatch.setattr(real_domains, "last_result", lambda _: then)
    assert real_domains.control(tmp_path / "leaves") == {name: 0.9, f"{name}_low": 0.8}
    assert real_domains.control(tmp_path / "faces")[name] is None
    evaluated(tmp_path / "leaves-blind", one={"countable": 100, "confirmed": [0.6]})
    assert real_domains.control(tmp_path / "leaves")[name] == 0.6


def test_a_curve_has_the_lengths_that_all_runs_have() -> None:
    """Lowest and highest of each."""
    one = {"agreement": 0.8, "chance": 0.5, "perceptual": 0.1}
    other = {"agreement": 0.9, "chance": 0.4, "perceptual": 0.2}
    rows = training_curve.curve([{1000: one, 2000: one}, {2000: other, 3000: other}])
    ends = {"agreement": [0.8, 0.9], "chance": [0.4, 0.5], "perceptual": [0.1, 0.2]}
    assert rows == [{"images_seen": 2000, **ends}]


def seed(path: Path, levels: list[float], *, lpips: float, nan: bool = False) -> Path:
    """A run whose L1 went so, a line each thousand images; the mean image has 0.2."""
    for number, level in enumerate(levels, start=1):
        line: dict[str, Any] = {"images_seen": 1000 * number, "losses": {"l1": 3 * level}}
        if number == len(levels):
            found = [{"name": "not a number", "says": "", "advice": ""}] if nan else []
            line |= {"measures": {"l1_mean_image": 0.2}, "health": found}
        append_line(Run(path).log, line)
    write_json(Run(path).metrics, {"substrate": {"perceptual": lpips}, "panel": {"share": 0.9}})
    write_json(Run(path).about, {"settings": {"l1_weight": 3.0}})
    return path


def test_the_plateau_is_left_where_l1_stays_below(tmp_path: Path) -> None:
    """Nine tenths of the mean image's, for good; a seed that never leaves says so."""
    left = training_steady.one(seed(tmp_path / "a", [0.25, 0.17, 0.19, 0.17, 0.1], lpips=0.1))
    assert (left["left_plateau_at_images"], left["nan_events"]) == (4000, 0)
    never = training_steady.one(seed(tmp_path / "b", [0.25, 0.17, 0.19], lpips=0.3, nan=True))
    assert never["left_plateau_at_images"] is None
    assert never["why_left_plateau_at_images"] == "it never was"
    assert never["nan_events"] == 1
    table = training_steady.together({"0": left, "1": never})
    assert table["left_plateau_at_images_seeds"] == [4000, None]
    assert table["lpips"] == pytest.approx(0.2)
    assert table["lpips_spread"] == pytest.approx(0.1 * 2**0.5)


FAKE = """#!/usr/bin/env python3
import json, sys, zipfile
from pathlib import Path
said = sys.argv[1:]
if said[0] == "-c":
    sys.argv = ["-c", *said[2:]]
    exec(said[1])
else:
    words = said[said.index("stylex") + 1 :]
    Path("said.jsonl").open("a").write(json.dumps(words) + "\\n")
    given = dict(zip(words[1:], words[2:]))
    place = Path(given.get("--out") or given["--run"])
    place.mkdir(parents=True, exist_ok=True)
    name = {"train-classifier": "classifier.json", "search": "search.json"}.get(words[0])
    (place / (name or "metrics.json")).write_text('{"evaluated": 1}')
    if words[0] == "train" and Path("slow").is_file():
        import time
        time.sleep(30)
"""


@pytest.fixture
def scripts(tmp_path: Path):
    """The scripts in a tree of their own, with a `stylex` that only notes what was asked."""
    (tmp_path / "benchmarks").mkdir()
    for name in ("real_domains.sh", "real_domains_gpu.sh"):
        text = (ROOT / "benchmarks" / name).read_text()
        (tmp_path / "benchmarks" / name).write_text(text)
    (tmp_path / "python").write_text(FAKE)
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "data").mkdir()
    for name, folders in (
        ("leaves64.zip", ("test/healthy", "test/sick")),
        ("digits_3v8_28.zip", ("3", "8")),
    ):
        with zipfile.ZipFile(tmp_path / "data" / name, "w") as archive:
            for folder in folders:
                for number in range(20):
                    archive.writestr(f"{folder}/{number:02d}.png", f"{folder} {number}")

    def call(script: str, *names: str, **given: str) -> tuple[str, list[list[str]]]:
        environment = {**os.environ, "DATA": str(tmp_path), "PYTHON": str(tmp_path / "python")}
        answer = subprocess.run(
            ["bash", str(tmp_path / "benchmarks" / script), *names],
            env=environment | given,
            capture_output=True,
            text=True,
            check=True,
        )
        said = (tmp_path / "said.jsonl").read_text().splitlines()
        (tmp_path / "said.jsonl").unlink()
        return answer.stdout, [json.loads(line) for line in said]

    return call


def trained(said: list[list[str]]) -> dict[str, str]:
    """Flags of the training."""
    words = next(words for words in said if words[0] == "train")
    return dict(zip(words[1:], [*words[2:], ""], strict=True))


@pytest.mark.slow
def test_runs_say_what_they_are(scripts, tmp_path: Path) -> None:
    """Resolution, seed and control stand in the names; digits have the defaults alone."""
    for given, run, classifier in (
        ({}, "runs/leaves", "runs/leaves-classifier"),
        ({"SEED": "1"}, "runs/leaves-1", "runs/leaves-classifier"),
        ({"RESOLUTION": "64"}, "runs/leaves-64", "runs/leaves-classifier-64"),
        ({"BLIND": "1"}, "runs/leaves-blind", "runs/leaves-classifier"),
    ):
        flags = trained(scripts("real_domains.sh", "leaves", **given)[1])
        assert (flags["--run"], flags["--classifier"]) == (run, classifier)
        assert flags["--resolution"] == given.get("RESOLUTION", "32")
        assert flags["--seed"] == given.get("SEED", "0")
        assert ("--no-condition" in flags) == ("BLIND" in given)
    assert (tmp_path / "runs" / "leaves" / "leaves-sick.png").read_text() == "test/sick 19"
    flags = trained(scripts("real_domains.sh", "leaves", OPTIONS="--batch 64", TAG="-long")[1])
    assert (flags["--run"], flags["--batch"]) == ("runs/leaves-long", "64")
    assert "--kl-share" in trained(scripts("real_domains.sh", "leaves")[1])
    flags = trained(scripts("real_domains.sh", "digits")[1])
    wanted = {"--data", "--classifier", "--resolution", "--total-images", "--seed", "--run"}
    assert {name for name in flags if name.startswith("--")} == wanted


@pytest.mark.slow
def test_what_follows_a_training_may_go_on_beside_the_next(scripts, tmp_path: Path) -> None:
    """All of it is done when the script ends, and its words stand in the run."""
    said = scripts("real_domains.sh", "leaves", "digits", BESIDE="1")[1]
    assert [words[0] for words in said].count("report") == 2
    assert (tmp_path / "runs" / "leaves" / "study.log").is_file()


@pytest.mark.slow
def test_segments_end_and_go_on(scripts, tmp_path: Path) -> None:
    """A segment that is over says so; the next one says that it is done."""
    (tmp_path / "slow").touch()
    out, said = scripts("real_domains_gpu.sh", "leaves", SEGMENT="10")
    assert out.splitlines()[-1].startswith("to be continued")
    assert [words[0] for words in said] == ["train-classifier", "train"]
    (tmp_path / "slow").unlink()
    out, said = scripts("real_domains_gpu.sh", "leaves", SEGMENT="60")
    assert out.splitlines()[-1] == "done"
    assert trained(said)["--resolution"] == "64"
    assert said[-1][0] == "report"
