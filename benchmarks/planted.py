"""The planted benchmark: which methods name the factors that a classifier truly uses?

    python benchmarks/planted.py                 # the grid: hours; it goes on from its result
    python benchmarks/planted.py --ablations     # then ours with one part of the training left out
    python benchmarks/planted.py --first-seed 0 --result planted_tuning   # seeds to tune on: 0-99
    python benchmarks/planted.py --short         # three cells and two controls, without rivals
    python benchmarks/planted.py --short --total-images 320 --runs /tmp/try --result try
    python benchmarks/planted.py --share 2/8 --device cuda       # every eighth cell, from the third
    python benchmarks/planted.py --finished      # sum up what there is by now

The numbers are summed up after each cell in benchmarks/results/planted.json (planted_short.json),
F1 is drawn in docs/images/planted.svg. A cell that stands there is not done again, on any machine;
another --result leaves it aside. A cell that fails is named and left out, the others go on.
Cells of a scene begin with one generator that never heard of a classifier, after 160,000 images
(benchmarks/bases, by planted_bases.py), and go on around theirs for 12,000; AttFind's rival is that
generator after 12,000 more without. In the short form each cell begins anew, for 40,000. What is
reported has seeds from 1000 on.
Several processes may each take a share (0/8 to 7/8); a last call without one sums them up.
"""

import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import tyro
from made import last_result, made, write_result
from planted_table import baselines, compared, draw, kept, reached, summary, without

from stylex.planting import cell, check_recipe, train_plain
from stylex.runs import Run


class Asked(NamedTuple):
    """One cell."""

    scene: str = "leaves"
    kind: str = "sum"
    count: int = 2
    correlation: float = 0.0
    net: str = "small"
    control: str = ""
    seed: int = 0

    @property
    def name(self) -> str:
        """Of its directory."""
        parts = (f"{part:g}" if isinstance(part, float) else str(part) for part in self)
        return "-".join(filter(None, parts))


class Lengths(NamedTuple):
    """Of trainings, in images seen."""

    cell: int
    base: int


class Job(NamedTuple):
    """A cell, its run, what is left out of its training, and what it begins with."""

    one: Asked
    run: Path
    left_out: str = ""
    base: str | None = None
    plain: str | None = None

    @property
    def training(self) -> dict[str, Any]:
        """Options that are other than the cells'."""
        return ABLATIONS.get(self.left_out, {})

    @property
    def finished(self) -> bool:
        """Whether there is a table that only has to be read."""
        return Run(self.run).planted.is_file()


# each with the number of its seeds
GRID = (
    (Asked("leaves", "sum", 1), 1),
    (Asked("cells", "sum", 1, net="judge"), 1),
    (Asked("leaves", "sum", 2), 3),
    (Asked("cells", "sum", 2), 3),
    (Asked("leaves", "sum", 3, net="judge"), 1),
    (Asked("cells", "sum", 4), 1),
    (Asked("leaves", "and", 2), 3),
    (Asked("cells", "and", 2, net="judge"), 1),
    (Asked("leaves", "and", 3), 1),
    (Asked("leaves", "xor", 2), 3),
    (Asked("cells", "xor", 2), 1),
    (Asked("leaves", "sum", 2, 0.5), 1),
    (Asked("cells", "sum", 2, 0.5, "judge"), 1),
    (Asked("leaves", "sum", 2, 0.9), 1),
    (Asked("cells", "sum", 2, 0.9), 3),
    (Asked("leaves", "and", 2, 0.9, "judge"), 1),
)
# "first" and "second" of one seed are a pair: as accurate, for different causes
CONTROLS = tuple(
    Asked(scene, control=control)
    for scene in ("leaves", "cells")
    for control in ("random", "shuffled", "first", "second")
)
APART = 20  # between the seeds of one line of the grid
OF_CONTROLS = 60  # beyond the first seed
ABLATED = (Asked("leaves"), Asked("cells"), Asked("leaves", "and"), Asked("cells", "sum", 2, 0.9))
WHOLE = "nothing left out"  # the same cells, begun with the same base
ABLATIONS: dict[str, dict[str, Any]] = {
    WHOLE: {},
    "without KL": {"kl_weight": 0.0},
    "without the condition": {"condition": False},
    "without the noise pass": {"noise_share": 0.25, "hybrid_share": 1.0},  # as many hybrids
    "without a perceptual distance": {"perceptual": "none"},
    "without an adversarial loss": {"adversarial_weight": 0.0},
    "without hybrids": {"hybrid_share": 0.0},
    "p never hidden": {"hide_p": 0.0},
    "few not wanted": {"few_weight": 0.0},
    "ToRGB with its own styles": {"rgb_styles": True},
}
ONE_BY_ONE = {"attributes", "reading", "importance"}  # not written down of an ablation
SHORT = (Asked(seed=0), Asked("cells", seed=1), Asked(kind="and", seed=2))
SHORT_CONTROLS = (Asked(control="random"), Asked(control="shuffled"))

# images of a training: four minutes of one core, ten, and an hour
FROM_BASE, FROM_NOTHING, OF_BASE = 12_000, 40_000, 160_000
BASES = Path(__file__).parent / "bases"  # one for each scene, given away
LISTS = ("cells", "controls", "ablated")  # of tables in a result

Tables = Mapping[Job, dict[str, Any]]


def main(
    *,
    short: bool = False,
    ablations: bool = False,
    first_seed: int = 1000,
    total_images: int | None = None,
    base_images: int = OF_BASE,
    runs: str = "runs/planted",
    result: str | None = None,
    share: str = "",
    finished: bool = False,
    device: str = "cpu",
) -> None:
    """Run the cells that are missing; sum up after each.

    Args:
        short: three cells and two controls, without rivals.
        ablations: also train four cells with parts of the training left out.
        first_seed: of the grid: 1000 to report, 0 to tune.
        total_images: length of each StylEx's training in images seen; by default 12,000 beyond the
            base's, of the short form's 40,000.
        base_images: of each scene's base; another number than those given away is trained first,
            the short form has none.
        runs: directory of the cells, one below it for each.
        result: name of the JSON file in benchmarks/results.
        share: i/n for every n-th cell from the i-th; then nothing is summed up.
        finished: only sum up what is there.
        device: that trains.
    """
    root, failed = Path(runs), []
    seeds = sorted({one.seed for one in SHORT}) if short else [first_seed]
    jobs = planned_short(root) if short else planned(root, first_seed, base_images)
    name = result or ("planted_short" if short else "planted")
    lengths = Lengths(total_images or (FROM_NOTHING if short else FROM_BASE), base_images)
    tables = taken(name, jobs, lengths)
    jobs = [job for job in jobs if not job.left_out or ablations or job in tables or job.finished]
    first, apart = map(int, share.split("/")) if share else (0, 1)
    missing = [job for job in jobs[first::apart] if job not in tables]
    if finished:
        missing = [job for job in missing if job.finished]
        if not missing and not tables:
            raise SystemExit(f"no cell of {runs} is finished; leave --finished out to run them")
    for job in sorted(missing, key=lambda job: not job.finished):  # no table shrinks
        try:
            tables[job] = kept(run(job, first_seed, lengths, device))
        except (ValueError, RuntimeError) as error:
            if job.finished:  # an old one, before anything is trained: somebody is still there
                raise SystemExit(str(error)) from None
            print(f"FAILED {job.run}: {error}")
            failed.append({"cell": str(job.run), "why": str(error)})
        if tables and not share:
            sum_up(name, seeds, whole(jobs, tables, short=short) | {"failed": failed})
    if not missing and not share:
        sum_up(name, seeds, whole(jobs, tables, short=short) | {"failed": failed})


def sum_up(name: str, seeds: Sequence[int], summed: dict[str, Any]) -> None:
    """Write the result, and its plot where there are methods to compare."""
    write_result(name, made(seeds) | summed)
    if "methods" in summed:
        draw(name, summed["methods"])


def taken(name: str, jobs: Sequence[Job], lengths: Lengths) -> dict[Job, dict[str, Any]]:
    """The tables of benchmarks/results/NAME.json: nothing of them is done again.

    What else stands there would be lost: it ends the command. Only tables that do not say the
    settings of their training, as the first ones did not, are passed over and give way to new ones:
    they cannot be told from those of another recipe.
    """
    tables, told = {}, last_result(name)
    for table in (table for part in LISTS for table in told.get(part, ()) if "settings" in table):
        its = [job for job in jobs if is_of(table, job, lengths)]
        one = Asked(*(table[field] for field in Asked._fields))
        where = f"{name}.json: {one.name}, {table['total_images']:,} images,"
        if not its:
            raise SystemExit(f"{where} is none of the cells asked for; give another --result")
        try:
            check_recipe(table, where, give="another --result")
        except ValueError as error:
            raise SystemExit(str(error)) from None
        tables[its[0]] = table
    return tables


def is_of(table: dict[str, Any], job: Job, lengths: Lengths) -> bool:
    """Whether this is the table that a job would give."""
    asked = job.one._asdict() | {"total_images": lengths.cell, "training": job.training}
    asked |= {"begins_after": lengths.base if job.base else 0}
    return asked.items() <= table.items() and table.get("left_out", "") == job.left_out


def planned_short(root: Path) -> list[Job]:
    """Three cells and two controls."""
    return [Job(one, root / one.name) for one in (*SHORT, *SHORT_CONTROLS)]


def planned(root: Path, first_seed: int, base_images: int = OF_BASE) -> list[Job]:
    """The grid, the controls, and every ablation."""
    controls = (one._replace(seed=first_seed + OF_CONTROLS) for one in CONTROLS)

    def job(one: Asked, left_out: str = "", *, plain: bool = False) -> Job:
        base, rival = (str(root / f"{kind}-{one.scene}-{first_seed}") for kind in ("base", "plain"))
        if base_images == OF_BASE and Run(BASES / one.scene).about.is_file():
            base = str(BASES / one.scene)
        place = root / left_out.replace(" ", "-") / one.name
        return Job(one, place, left_out, base, rival if plain else None)

    return [
        *(job(one, plain=True) for one in grid(first_seed)),
        *(job(one) for one in controls),
        *(job(one, name) for name in ABLATIONS for one in ablated(first_seed)),
    ]


def grid(first_seed: int) -> list[Asked]:
    """All cells of the grid: each line has seeds of its own."""
    return [
        one._replace(seed=first_seed + line + APART * again)
        for line, (one, seeds) in enumerate(GRID)
        for again in range(seeds)
    ]


def ablated(first_seed: int) -> list[Asked]:
    """The cells of the ablations: each is the first one of its line in the grid."""
    lines = [one for one, _ in GRID]
    return [one._replace(seed=first_seed + lines.index(one)) for one in ABLATED]


def run(job: Job, first_seed: int, lengths: Lengths, device: str) -> dict[str, Any]:
    """One cell, and what it found in a few lines."""
    of_scene = {"scene": job.one.scene, "seed": first_seed + APART - 1, "device": device}
    if job.base and not job.finished and Path(job.base).parent != BASES:
        plain(job.base, total_images=lengths.base, **of_scene)
    if job.plain and not job.finished:
        plain(job.plain, total_images=lengths.cell, base=job.base, **of_scene)
    if job.left_out and not job.run.exists():
        copy_beginning(Run(job.run.parents[1] / WHOLE.replace(" ", "-") / job.one.name), job.run)
    table = cell(
        str(job.run),
        **job.one._asdict(),
        total_images=lengths.cell,
        training=job.training,
        base=job.base,
        plain=job.plain,
        device=device,
    )
    show(table)
    return table


def copy_beginning(whole: Run, to: Path) -> None:
    """Images and classifier of the same cell with nothing left out, where it is finished.

    Neither depends on what is left out.
    """
    if all(its.exists() for its in (whole.planted, whole.images, whole.planted_classifier)):
        partial = Run(to.with_name(f"{to.name}.partial"))
        shutil.rmtree(partial.path, ignore_errors=True)
        shutil.copytree(whole.planted_classifier, partial.planted_classifier)
        shutil.copyfile(whole.images, partial.images)
        partial.path.rename(to)


@cache
def plain(place: str, **options: Any) -> None:
    """A generator without a classifier, once for each scene: the first cell in need trains it."""
    try:
        train_plain(place, **options)
    except ValueError as error:  # an old one
        raise SystemExit(str(error)) from None


def show(table: dict[str, Any]) -> None:
    """One finished cell in a few lines."""
    print(f"  uses {', '.join(table['used']) or 'nothing'}; {table['minutes']:.1f} minutes")
    for row in table["attributes"]:
        marks = ("used" * row["used"], "passed" * row["passed"])
        again = f"as {row['repeats']}" if row["repeats"] else ""
        said = ", ".join(filter(None, (*marks, again, *row["shut"])))
        factor = row["factor"] or "no factor"
        shown = f"{row['effect']:6.2f} logits, {row['explained']:4.0%} explained"
        print(f"  {row['rank']:2d} {factor:24s}{shown}  {said}")
    tables = {"ours": table} | table.get("rivals", {})
    told = (f"{k} {v['f1']:.2f}" for k, v in tables.items() if v["f1"] is not None)
    print(f"  F1: {', '.join(told) or 'none'}")


def whole(jobs: Sequence[Job], tables: Tables, *, short: bool = False) -> dict[str, Any]:
    """The whole table, as far as it goes."""
    tables = {job: tables[job] for job in jobs if job in tables}  # always in the same order
    known = [(job, its) for job, its in tables.items() if not job.left_out]
    cells = [table for job, table in known if not job.one.control]
    controls = [table for job, table in known if job.one.control]
    missing = {"cells_missing": sum(not job.left_out for job in jobs) - len(known)}
    found = summary(cells, controls)
    if short:
        return missing | found
    methods = compared(cells)
    said = {"methods": methods, "reached": reached(methods, found), "baselines": baselines(cells)}
    said |= {"ablations": without(left_out(tables))}
    return missing | said | found | {"ablated": ablated_tables(tables)}


def ablated_tables(tables: Tables) -> list[dict[str, Any]]:
    """Those of the ablations with what was left out, as they are written down."""
    return [
        {k: v for k, v in its.items() if k not in ONE_BY_ONE} | {"left_out": job.left_out}
        for job, its in tables.items()
        if job.left_out
    ]


def left_out(tables: Tables) -> dict[str, list[dict[str, Any]]]:
    """Tables by what was left out; the first ones left out nothing."""
    return {
        name: [its for job, its in tables.items() if job.left_out == name] for name in ABLATIONS
    }


if __name__ == "__main__":
    tyro.cli(main)
