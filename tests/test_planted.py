"""The planted grid without a training: what is run, kept, summed up and held against its marks."""

import inspect
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
import made
import planted
import planted_print
import planted_table

from stylex.parts import parts_of
from stylex.plan import check_first
from stylex.planting import recipe
from stylex.runs import VERSION, Run, read_json, write_json
from stylex.training import train

GOOD = dict.fromkeys(planted_table.MEANS, 1.0) | {"false_discovery": 0.0}
RIVAL = GOOD | {"f1": 0.5, "seconds": 2.0, "used": ["spot hue"], "attributes": [{"rank": 1}] * 3}
GRID = {"f1": 0.75, "seconds": 1.0, "attributes": [], "purity": None, "why_purity": "no edit"}
SHAPE = {"resolution": 32, "channels": 3}
NAMES = {"first": "leaf hue", "second": "leaf width"}


class Cells:
    """Stands for `planting.cell`: no training; tables are kept, some fail, what ran is counted."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.plains: list[str] = []
        self.fails: set[str] = set()

    def __call__(
        self, run: str, *, training: Any, base: str | None, plain: str | None, **asked: Any
    ) -> dict:
        """A finished table, read or made."""
        files = Run(run)
        if files.planted.is_file():
            return read_json(files.planted)
        self.ran.append(run)
        if any(run.endswith(name) for name in self.fails):
            raise RuntimeError("the losses were not finite")
        name = NAMES.get(asked["control"])
        row = {"rank": 1, "factor": name, "used": True, "repeats": None, "shut": []}
        row |= {"effect": 1 / 3, "explained": 1.0, "passed": True}
        f1 = 0.8 if training or asked["correlation"] else 1.0
        table = asked | GOOD | {"f1": f1, "used": ["spot hue"], "attributes": [row]}
        table |= {"minutes": 1.0, "core_minutes": 2 / 3, "accuracy": 0.9, "looked_at": 10}
        table |= {"hidden": "spot size" if name else None, "passed": 1, "passed_falsely": 0}
        table |= {"training": training, "begins_after": planted.OF_BASE if base else 0}
        table |= {"settings": recipe(table)}
        table |= {"rivals": {"sefa": RIVAL, "grid": GRID}} if plain else {}
        write_json(files.planted, table)
        return table


@pytest.fixture
def cells(tmp_path: Path, monkeypatch) -> Cells:
    """Nothing is trained, nothing outside of the test's folder is written."""
    cells = Cells()
    monkeypatch.setattr(planted, "cell", cells)
    monkeypatch.setattr(planted, "train_plain", lambda place, **options: cells.plains.append(place))
    planted.plain.cache_clear()
    monkeypatch.setattr(planted, "BASES", tmp_path / "bases")  # none is given away
    monkeypatch.setattr(planted, "made", lambda seeds: {"made": {"seeds": seeds}})
    monkeypatch.setattr(made, "RESULTS", tmp_path)
    monkeypatch.setattr(planted_table, "IMAGES", tmp_path)
    ends = lambda values, seed: (values.min().item(), values.max().item())  # noqa: E731  # at once
    monkeypatch.setattr(planted_table, "bootstrap_interval", ends)
    return cells


def ran(tmp_path: Path, **options: Any) -> dict[str, Any]:
    """The command, and the file that it wrote."""
    planted.main(runs=str(tmp_path / "runs"), **options)
    name = "planted_short" if options.get("short") else "planted"
    return json.loads((tmp_path / f"{name}.json").read_text())


def test_the_grid_from_its_cells_to_its_marks(cells: Cells, tmp_path: Path) -> None:
    """Every cell and control once; the keys that readers rely on; every mark is reached."""
    table = ran(tmp_path)
    assert len(cells.ran) == len(set(cells.ran)) == 26 + 8
    assert (table["cells_missing"], table["failed"], table["ablations"]) == (0, [], {})
    assert (table["f1"], table["f1_correlated"]) == (1, 0.8)
    assert (table["f1_low"], table["f1_high"]) == (1, 1)
    assert len(table["f1_seeds"]) == len(planted_table.at(table["cells"], 0.0))
    for name, f1 in (("sefa", 0.5), ("grid", 0.75)):
        its = table["baselines"][name]
        assert (its["f1"], its["f1_high"], its["f1_correlated"]) == (f1, f1, f1)
        assert its["seconds"] == (2 if name == "sefa" else 1)
        assert its["false_discovery"] is None
        assert its["why_false_discovery"]
    assert table["baselines"]["grid"]["why_purity"]
    assert table["reached"] == dict.fromkeys(table["reached"], True)
    assert len(table["pairs"]) == 2
    svg = (tmp_path / "planted.svg").read_text()
    assert "ours, nuisance at 0.9" in svg
    assert "full: people" not in svg


def test_a_cell_that_fails_is_named_and_the_others_go_on(
    cells: Cells, tmp_path: Path, capsys
) -> None:
    """It counts as missing, and is tried again by the same command, which runs nothing else."""
    cells.fails = {"cells-sum-2-0-small-1003", "cells-sum-2-0-small-shuffled-1060"}
    table = ran(tmp_path)
    assert len(table["failed"]) == table["cells_missing"] == 2
    assert table["failed"][0]["why"] == "the losses were not finite"
    assert "FAILED " in capsys.readouterr().out
    cells.ran, cells.fails = [], set()
    table = ran(tmp_path)
    assert len(cells.ran) == 2
    assert (table["cells_missing"], table["failed"]) == (0, [])


def test_what_is_finished_is_summed_up(cells: Cells, tmp_path: Path) -> None:
    """Nothing is run for it; with nothing there it says so."""
    with pytest.raises(SystemExit, match="is finished; leave"):
        planted.main(runs=str(tmp_path / "runs"), finished=True)
    planted.main(runs=str(tmp_path / "runs"), share="0/3")
    assert not (tmp_path / "planted.json").exists()
    assert len(cells.ran) == 12
    table = ran(tmp_path, finished=True)
    assert len(cells.ran) == 12
    assert len(table["cells"]) + len(table["controls"]) == 12
    assert table["cells_missing"] == 34 - 12


def test_finished_ablations_are_kept(cells: Cells, tmp_path: Path) -> None:
    """A number for each with its interval, beside the same cells made again with all parts."""
    table = ran(tmp_path, ablations=True)
    assert next(iter(table["ablations"])) == planted.WHOLE
    assert set(table["ablations"]) == set(planted.ABLATIONS)
    assert table["ablations"]["without KL"]["f1"] == pytest.approx(0.8)
    whole = table["ablations"][planted.WHOLE]
    assert (whole["cells"], whole["f1"], whole["f1_correlated"]) == (4, 1, 0.8)
    assert len(cells.ran) == 34 + 4 * len(planted.ABLATIONS)
    assert ran(tmp_path)["ablations"] == table["ablations"]


def test_cells_begin_with_the_bases_given_away(cells: Cells, tmp_path: Path) -> None:
    """None is trained, but rivals go on from them; another length trains its own."""
    for scene in ("leaves", "cells"):
        write_json(Run(tmp_path / "bases" / scene).about, {})
    ran(tmp_path)
    assert {Path(place).name for place in cells.plains} == {"plain-leaves-1000", "plain-cells-1000"}
    jobs = planted.planned(tmp_path, 1000)
    assert {job.base for job in jobs} == {str(tmp_path / "bases" / k) for k in ("leaves", "cells")}
    jobs = planted.planned(tmp_path, 1000, 320)
    assert {Path(job.base or "").name for job in jobs} == {"base-leaves-1000", "base-cells-1000"}


def test_an_ablation_has_the_images_and_classifier_of_the_whole(
    cells: Cells, tmp_path: Path, monkeypatch
) -> None:
    """Copied once that is finished; a copy that was stopped is made again."""

    def drawn(run: str, **asked: Any) -> dict:
        files = Run(run)
        if not files.images.is_file():
            files.planted_classifier.mkdir(parents=True)
            (files.planted_classifier / "weights").write_text(run)
            files.images.write_text(run)
        return cells(run, **asked)

    monkeypatch.setattr(planted, "cell", drawn)
    root = tmp_path / "runs"
    one = planted.ablated(1000)[0].name
    (root / "without-KL" / f"{one}.partial" / "planted-classifier").mkdir(parents=True)
    ran(tmp_path, ablations=True)
    whole = root / "nothing-left-out" / one
    assert {run.name for run in (root / "without-KL").iterdir()} == {
        asked.name for asked in planted.ablated(1000)
    }
    for name in ("without-KL", "p-never-hidden"):
        files = Run(root / name / one)
        assert files.images.read_text() == str(whole)
        assert (files.planted_classifier / "weights").read_text() == str(whole)
    assert Run(root / one).images.read_text() == str(root / one)  # of the grid: its own


@pytest.mark.parametrize("scene", ["leaves", "cells"])
def test_the_bases_given_away_are_what_their_cards_say(scene: str) -> None:
    """As long as the grid wants them, of a shape that its cells can begin with, small enough."""
    base = Run.open(planted.BASES / scene)
    about = read_json(base.about)
    assert about["images_seen"] == planted.OF_BASE
    assert not about["settings"]["condition"]
    assert base.model.stat().st_size < 10e6
    assert f"{about['images_seen']:,} images seen" in base.card.read_text(encoding="utf-8")
    check_first(base.path, recipe({"training": {}, "begins_after": 1}) | SHAPE)


def test_an_old_cell_ends_the_command_in_one_line(
    cells: Cells, tmp_path: Path, monkeypatch
) -> None:
    """Before anything is trained."""
    ran(tmp_path)
    (tmp_path / "planted.json").unlink()
    cells.plains = []
    planted.plain.cache_clear()

    def stale(run: str, **asked: Any) -> dict:
        raise ValueError(f"{run} was made with hide_p 0.0; give other --runs")

    monkeypatch.setattr(planted, "cell", stale)
    with pytest.raises(SystemExit, match=r"^\S+ was made with hide_p 0.0; give other --runs$"):
        ran(tmp_path)
    assert cells.plains == []


def test_the_short_form_has_the_same_keys(cells: Cells, tmp_path: Path) -> None:
    """Three cells and two controls, no rivals, no correlated cell."""
    table = ran(tmp_path, short=True)
    assert (len(cells.ran), table["cells_missing"], table["f1"]) == (5, 0, 1)
    assert table["f1_correlated"] is None
    assert table["why_f1_correlated"]


# --- going on from the result --------------------------------------------------------------------


def lost(cells: Cells, tmp_path: Path) -> str:
    """Another machine: the runs are gone, the result is there; its text."""
    shutil.rmtree(tmp_path / "runs")
    cells.ran, cells.plains = [], []
    planted.plain.cache_clear()
    return next(tmp_path.glob("planted*.json")).read_text()


def test_the_grid_goes_on_from_its_result_alone(cells: Cells, tmp_path: Path) -> None:
    """Cells, controls and ablations are all taken from it and summed up to the same again."""
    table = ran(tmp_path, ablations=True)
    before = lost(cells, tmp_path)
    write_json(tmp_path / "planted.json", table | {"f1": 0.0, "methods": {}})
    ran(tmp_path)
    assert (cells.ran, cells.plains) == ([], [])
    assert (tmp_path / "planted.json").read_text() == before


def test_only_what_the_result_lacks_is_done(cells: Cells, tmp_path: Path) -> None:
    """A cell with the base and the rival of its scene, a control with the base alone; what was
    stopped and went on is what was done in one go.
    """
    table = ran(tmp_path, ablations=True)
    before = lost(cells, tmp_path)
    del table["cells"][1], table["controls"][2], table["ablated"][-1]
    write_json(tmp_path / "planted.json", table)
    ran(tmp_path, ablations=True)
    assert [Path(run).name for run in cells.ran] == [
        *("cells-sum-1-0-judge-1001", "leaves-sum-2-0-small-first-1060"),
        "cells-sum-2-0.9-small-1014",
    ]
    assert "ToRGB-with-its-own-styles" in cells.ran[-1]
    assert [Path(place).name for place in cells.plains] == [
        *("base-cells-1000", "plain-cells-1000", "base-leaves-1000"),
    ]
    assert (tmp_path / "planted.json").read_text() == before


def test_shares_go_on_from_the_result_and_write_nothing(cells: Cells, tmp_path: Path) -> None:
    """Each takes its own of what is missing; a last call sums up and does nothing else."""
    table = ran(tmp_path)
    before = lost(cells, tmp_path)
    del table["cells"][:3]
    write_json(tmp_path / "planted.json", table)
    for share in ("0/2", "1/2"):
        shrunk = ran(tmp_path, share=share)
        assert shrunk == table
    assert len(cells.ran) == len(set(cells.ran)) == 3
    cells.plains = []
    planted.plain.cache_clear()
    ran(tmp_path)
    assert (len(cells.ran), cells.plains) == (3, [])
    assert (tmp_path / "planted.json").read_text() == before


def test_a_result_of_another_recipe_ends_the_command_in_one_line(
    cells: Cells, tmp_path: Path
) -> None:
    """Before anything is done, and without a word of it lost; cells of another length likewise."""
    table = ran(tmp_path)
    table["controls"][0]["settings"]["hide_p"] = 0.0
    write_json(tmp_path / "planted.json", table)
    before = lost(cells, tmp_path)
    told = r"^planted.json: leaves-\S+-random-1060, 12,000 images, was made with hide_p 0.0, "
    with pytest.raises(SystemExit, match=told + r"today it would be 0.5; give another --result$"):
        ran(tmp_path)
    with pytest.raises(SystemExit, match=r"none of the cells asked for; give another --result$"):
        ran(tmp_path, total_images=320)
    with pytest.raises(SystemExit, match=r"none of the cells asked for; give another --result$"):
        ran(tmp_path, base_images=320)
    with pytest.raises(SystemExit, match=r"none of the cells asked for; give another --result$"):
        ran(tmp_path, first_seed=0)
    assert (cells.ran, cells.plains) == ([], [])
    assert (tmp_path / "planted.json").read_text() == before


def test_tables_without_settings_give_way_to_new_ones(cells: Cells, tmp_path: Path) -> None:
    """Nothing tells their recipe: none is taken up, and they stand until there is a new one."""
    table = ran(tmp_path, short=True)
    for old in (*table["cells"], *table["controls"]):
        del old["settings"]
    write_json(tmp_path / "planted_short.json", table)
    lost(cells, tmp_path)
    cells.fails = {one.name for one in (*planted.SHORT, *planted.SHORT_CONTROLS)}
    assert ran(tmp_path, short=True) == table
    cells.ran, cells.fails = [], set()
    new = ran(tmp_path, short=True)
    assert len(cells.ran) == 5
    assert all("settings" in its for its in (*new["cells"], *new["controls"]))


def test_every_ablation_can_begin_with_its_base(tmp_path: Path) -> None:
    """A base has the defaults' shape: no ablation is refused for its own."""
    base = Run(tmp_path)
    write_json(base.about, {"version": VERSION, "settings": recipe({"training": {}}) | SHAPE})
    base.model.touch()
    for training in planted.ABLATIONS.values():
        asked = {"training": training, "begins_after": 1}
        check_first(str(tmp_path), recipe(asked) | SHAPE)


def test_a_result_is_short(cells: Cells, tmp_path: Path) -> None:
    """Four significant digits, and of rivals what is read; the cell's own file is whole."""
    table = ran(tmp_path, ablations=True)
    its = table["cells"][0]
    assert (its["core_minutes"], its["attributes"][0]["effect"]) == (0.6667, 0.3333)
    assert table["core_minutes"] == pytest.approx(0.6667)
    assert set(its["rivals"]["sefa"]) == {*planted_table.MEANS, "seconds", "looked_at"}
    assert its["rivals"]["sefa"]["looked_at"] == 3
    assert its["rivals"]["grid"]["why_purity"] == "no edit"
    assert not planted.ONE_BY_ONE & set(table["ablated"][0])
    whole = read_json(Run(tmp_path / "runs" / "leaves-sum-1-0-small-1000").planted)
    assert whole["core_minutes"] == 2 / 3
    assert whole["rivals"]["sefa"] == RIVAL


def test_short_numbers_by_hand() -> None:
    """Large, small, deep and not at all; what is compared on resuming keeps every digit."""
    told = {
        "a": [123456.7, {"b": 0.000123456}],
        "c": True,
        "d": 12345,
        "e": None,
        "f": (0.1 + 0.2,),
    }
    assert planted_table.short(told) == told | {"a": [123500.0, {"b": 0.0001235}], "f": [0.3]}
    exact = {"correlation": 0.123456, "training": {"rate": 0.123456}, "settings": {"clip": 1.23456}}
    assert planted_table.kept(exact | {"f1": 2 / 3}) == exact | {"f1": 0.6667}


def marks(f1: float, rival: float, **found: Any) -> dict[str, bool | None]:
    """What is reached with such an F1 beside such a rival's upper bound."""
    ours = {name: {"mean": 1.0} for name in planted_table.MEANS} | {"f1": {"mean": f1}}
    group = {"ours": ours, "sefa": {"f1": {"mean": rival, "high": rival}}}
    methods = {"uncorrelated": group, "correlated 0.9": group}
    none = {"false_discovery": None, "hidden_looked_at": 0, "hidden_reported": 0, "pairs": []}
    return planted_table.reached(methods, none | found)


def test_marks_by_hand() -> None:
    """As good as a rival is not above it; controls count, and nothing is known before they ran."""
    assert marks(0.95, 0.95)["f1 above every rival"] is False
    assert marks(0.95, 0.94)["f1 above every rival"] is True
    unknown = marks(1.0, 0.5)
    controls = [
        "false discoveries in controls",
        "hidden factors never reported",
        "explanations of pairs differ",
    ]
    assert [unknown[name] for name in controls] == [None, None, None]
    pairs = [{"differ": True}, {"differ": False}]
    bad = {"false_discovery": 0.06, "hidden_looked_at": 4, "hidden_reported": 1, "pairs": pairs}
    assert [marks(1.0, 0.5, **bad)[name] for name in controls] == [False, False, False]


def test_a_pair_differs_where_both_name_something() -> None:
    """Two empty lists, or one, tell nothing apart."""

    def control(control: str, factor: str | None) -> dict[str, Any]:
        rows = [{"factor": factor, "repeats": None}]
        its = {"scene": "leaves", "seed": 0, "control": control, "accuracy": 0.9}
        return its | {"used": ["leaf hue"], "attributes": rows}

    for first, second, differ in (
        ("leaf hue", "leaf width", True),
        ("leaf hue", "leaf hue", False),
        (None, "leaf hue", False),
        (None, None, False),
    ):
        both = [control("first", first), control("second", second)]
        assert planted_table.pairs(both)[0]["differ"] is differ


def test_no_noise_leaves_as_many_hybrids() -> None:
    """Of a batch of the default size: two hybrids each, with two noise images or with none."""
    defaults = {name: its.default for name, its in inspect.signature(train).parameters.items()}
    left = defaults | planted.ABLATIONS["without the noise pass"]
    with_noise, without = (parts_of(SimpleNamespace(**o)) for o in (defaults, left))
    assert with_noise.hybrids == without.hybrids == without.noise == 2
    assert with_noise.noise == 4


# --- printed -------------------------------------------------------------------------------------


def test_the_tables_of_the_docs(cells: Cells, tmp_path: Path, capsys) -> None:
    """A line for each method, mark, cell, control and ablation; what has no number is empty."""
    result = ran(tmp_path, ablations=True)
    capsys.readouterr()
    planted_print.main()
    out = capsys.readouterr().out
    tables = [part.splitlines() for part in out.strip().split("\n\n")]
    sizes = [3, len(result["reached"]), 2, len(result["cells"]), len(result["controls"])]
    assert [len(table) - 2 for table in tables] == [*sizes, len(planted.ABLATIONS)]
    for table in tables:
        assert len({line.count("|") for line in table}) == 1
    assert tables[0][2].startswith("| ours | 1.00 (1.00 to 1.00) | 1.00 |")
    assert tables[0][2].endswith("| 0.80 (0.80 to 0.80) |  |")
    grid = next(line for line in tables[0] if line.startswith("| grid |"))
    assert grid.startswith("| grid | 0.75 (0.75 to 0.75) |  |  |  |")
    assert "| F1 | at least 0.9 | 1.00 | yes |" in tables[1]
    assert tables[2][2] == "| cells | spot hue | 11 | 0 |"
    assert "| leaves sum 1 small 1000 | spot hue | nothing | 1.00 | 1.00 |" in out
    assert any(
        line.startswith("| leaves sum 2 small first 1060 | spot size |") for line in tables[4]
    )


def test_what_comes_back_beside_what_twins_explain(cells: Cells, tmp_path: Path, capsys) -> None:
    """One attribute of four has the wrong side of a half; two that were not asked do not count."""
    result = ran(tmp_path)
    shares = [(0.9, 0.8), (0.7, 0.4), (0.2, 0.1), (0.5, 0.5), (None, 0.0), (None, 1.0)]
    rows = [{"comes_back": back, "explained": told} for back, told in shares]
    result["controls"][0]["attributes"] = [row | {"factor": None, "repeats": None} for row in rows]
    (tmp_path / "asked.json").write_text(json.dumps(result))
    capsys.readouterr()
    planted_print.main("asked")
    out = capsys.readouterr().out
    assert "| half comes back | 2 | 1 | 0.13 |" in out
    assert "| less comes back | 0 | 1 | 0.10 |" in out


def test_two_results_on_the_cells_that_both_have(cells: Cells, tmp_path: Path, capsys) -> None:
    """Before and now in one line each; cells of one alone are left out, so of the means too."""
    before = ran(tmp_path)
    now = before | {"cells": [c | {"f1": 0.5, "purity": None} for c in before["cells"][:3]]}
    (tmp_path / "now.json").write_text(json.dumps(now))
    capsys.readouterr()
    planted_print.main("now", beside="planted")
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 2 + 3 + 1
    assert all("| 1.00 / 0.50 | 1.00 /  | 0.00 / 0.00 |" in line for line in lines[2:])
    assert lines[-1].startswith("| **mean** |")
