"""The planted benchmark: one cell is a scene, a rule and a seed, from drawn images to a score.

    table = cell("runs/planted/cell", scene="cells", kind="and", seed=1000)
    table = bench("runs/planted/cell").score(mine)  # another method on the same cell

A classifier learns the rule, a StylEx explains the classifier, and what was found is compared with
what the classifier *uses*, measured on it. Controls have nothing to find, or one thing that must
not be found: a classifier of random weights, one that learned shuffled labels, and one from whose
images a deciding factor was taken away.
"""

import inspect
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any, get_args

import torch

from stylex import explaining, rivals
from stylex.attfind import Search
from stylex.chaining import REST_BY
from stylex.classifier import Classifier
from stylex.data import ImageSet, read_splits
from stylex.drawing import (
    HIDDEN,
    SIDE,
    Control,
    Net,
    classifier_of,
    draw_images,
    random_classifier,
    true_factors,
)
from stylex.edits import Bench, of_search
from stylex.looking import spread
from stylex.loop import MAY_CHANGE
from stylex.losses import Perceptual
from stylex.model import StylEx, in_batches
from stylex.readers import Reader, train_reader
from stylex.runs import Run, read_json, read_tensors, write_json
from stylex.scenes import SCENES, SPREAD
from stylex.scrutiny import scrutinise
from stylex.selection import COMES_BACK
from stylex.shapes import Images, Logits
from stylex.subjects import Subjects
from stylex.synthetic import CLASSES, Kind, Rule, draw_rule
from stylex.training import NOT_SETTINGS, train
from stylex.truth import EXPLAINED, importance

SEARCHED = 80  # images, of at most 100 promised
TESTED = 200  # images on which attributes are measured
# of a training: what a cell says itself, or what follows from its images, its length or its base
OWN = {"resolution", "channels", "total_images", "seed", "device"}
OWN |= {"adversarial_from_images", "begin_with"}
# other than a training's defaults: where nothing is there yet
OTHERWISE: dict[str, Any] = {"perceptual": "classifier"}
# of a base, which sees every drawn image two or three times: D has nothing to learn by heart, and
# DiffAugment would keep it asleep (docs/log.md, 2026-11-27)
AWAKE: dict[str, Any] = {"augment": False, "adversarial_weight": 0.5, "discriminator_rate": 0.005}
# where a base is nearly right: a third of the rates
GENTLY: dict[str, Any] = {"rate": 0.002, "encoder_rate": 0.001}
GENTLY |= AWAKE | {"discriminator_rate": 0.0017}
BASE_IMAGES = 60_000  # that are drawn for a base
# how a cell is searched: options of it, and what it asks of its moves
SEARCHING: dict[str, Any] = {"mode": "fast", "rule": "subset"}
ASKING: dict[str, Any] = SEARCHING | {"comes_back": COMES_BACK, "rest_by": REST_BY}


def cell(
    run: str,
    *,
    scene: str = "leaves",
    kind: Kind = "sum",
    count: int = 2,
    correlation: float = 0.0,
    net: Net = "small",
    seed: int = 0,
    control: Control = "",
    total_images: int = 40_000,
    training: Mapping[str, Any] | None = None,
    base: str | None = None,
    plain: str | None = None,
    device: str = "cpu",
    progress: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Draw, train, search and score one cell; what is there already is not done again.

    Args:
        run: directory to write everything into.
        scene: leaves or cells.
        kind: of the rule: sum, and, xor.
        count: of deciding factors.
        correlation: of a nuisance with the label, see `synthetic.Rule`.
        net: of the classifier: small (residual) or judge (plain).
        seed: of the rule, the images and all else.
        control: "random" for a classifier of random weights, "shuffled" for shuffled labels;
            "first" or "second" for that deciding factor drawn afresh once the images are labelled,
            so that it says nothing of the label and must not be reported.
        total_images: length of the StylEx's training in images seen.
        training: options of `training.train` that are other than the cells', as in an ablation.
        base: run of `train_plain` whose networks the StylEx begins with, at a third of the rates.
        plain: run of `train_plain`; where given, rivals are scored on the same cell.
        device: that trains the StylEx; all else is done on the CPU.
        progress: told what comes next.

    Returns:
        The settings; what `edits.Bench.score` gives, each attribute with the gates that it shut and
        whether it `passed`; how many were `looked_at`, `passed`, and passed falsely; the `hidden`
        factor of a control; `begins_after`, how many images the base has seen, and `base`, which
        weights it is; `rivals`, a score by name; the `settings` of training and search, see
        `recipe`; `minutes` of the call that finished it, and its `core_minutes` of all threads.

    Raises:
        ValueError: no such scene or control, or the directory holds another cell, or one that was
            trained by another recipe than today's.
    """
    checked(scene=scene, kind=kind, control=control, net=net)
    files, asked = Run(run), {"scene": scene, "kind": kind, "count": count, "net": net}
    asked |= {"correlation": correlation, "seed": seed, "control": control}
    asked |= {"total_images": total_images, "training": dict(training or {})}
    if files.planted.is_file():
        table = read_json(files.planted)
        if not asked.items() <= table.items() or bool(base) != bool(table.get("begins_after")):
            raise ValueError(f"{run} holds another cell than {asked}; give another directory")
        check_recipe(table, run)
        return table
    began, worked = time.monotonic(), time.process_time()
    progress(f"{run}: {_rule(asked)}")
    draw_images(_rule(asked), files, seed=seed, control=control)
    model = train(
        files.images,
        classifier_of(files, net, seed=seed, control=control),
        run=run,
        resolution=SIDE,
        total_images=total_images,
        seed=seed,
        device=device,
        begin_with=base,
        **_otherwise(base) | asked["training"],
    ).to("cpu")
    then = read_json(files.about)
    asked |= {"begins_after": then.get("begins_after", 0), "base": then.get("begins_from")}
    photos = read_splits(files.images, resolution=SIDE)["search"]
    progress(f"{run}: searching")
    found = search(model, photos, files)
    progress(f"{run}: reading, twins, truth")
    stand = _bench(files, asked)
    table = asked | measure(model, found, stand, control=control)
    if plain:
        progress(f"{run}: rivals")
        table["rivals"] = compete(stand, model, found, photos, plain)
    by = then["settings"] | {"search": how(found)}
    table["settings"] = {name: by.get(name) for name in recipe(asked)}
    table["minutes"] = (time.monotonic() - began) / 60
    table["core_minutes"] = (time.process_time() - worked) / 60
    write_json(files.planted, table)
    return table


def recipe(asked: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a cell's training as they are today, less those that each cell says itself.

    `search` beside them is how it would be searched.

    Args:
        asked: what the cell says: `training`, and `begins_after` where it has a base.
    """
    parts = inspect.signature(train).parameters.values()
    today = {part.name: part.default for part in parts if part.default is not part.empty}
    today |= _otherwise(asked.get("begins_after")) | asked["training"] | {"search": ASKING}
    return {k: v for k, v in today.items() if k not in {*OWN, *NOT_SETTINGS, *MAY_CHANGE}}


def check_recipe(table: Mapping[str, Any], place: str, *, give: str = "other --runs") -> None:
    """Whether a finished cell was made as it would be today: old cells are no new result.

    Args:
        table: of `cell`, with the `settings` of its training and search.
        place: where it stands, for the message.
        give: what the user is to give instead.

    Raises:
        ValueError: an option was another one then, or nothing says what it was.
    """
    if "settings" not in table:
        raise ValueError(f"{place} does not say by which recipe it was made; give {give}")
    then = table["settings"]
    for name, now in recipe(table).items():
        if then.get(name) != now:
            raise ValueError(
                f"{place} was made with {name} {then.get(name)}, today it would be {now}; "
                f"give {give}"
            )


def _otherwise(base: object) -> dict[str, Any]:
    return GENTLY if base else OTHERWISE


def bench(run: str) -> Bench:
    """A finished cell, for another method: its classifier, test images, and the truth.

    The images that a method may learn from are train and search of `images.zip` in the run.

    Raises:
        FileNotFoundError: the directory holds no finished cell.
    """
    files = Run(run)
    if not files.planted.is_file():
        raise FileNotFoundError(f"{run} holds no finished cell; make it with planting.cell first")
    return _bench(files, read_json(files.planted))


def _rule(asked: Mapping[str, Any]) -> Rule:
    given = {name: asked[name] for name in ("count", "kind", "correlation")}
    return draw_rule(asked["seed"], scene=SCENES[asked["scene"]], **given)


def _bench(files: Run, asked: Mapping[str, Any]) -> Bench:
    rule, seed, control = _rule(asked), asked["seed"], asked["control"]
    classifier = classifier_of(files, asked["net"], seed=seed, control=control)
    photos = read_splits(files.images, resolution=SIDE)["test"]
    rows = spread(len(photos), TESTED)
    return Bench(
        classifier,
        photos.batch(rows),
        true_factors(rule, photos.names, "test", seed=seed, control=control)[rows],
        train_reader(rule.scene, seed=seed),
        importance(classifier, rule.scene, seed=1, resolution=SIDE),
        None if control == "random" else rule,
        monotone=rule.monotone and control not in ("random", "shuffled"),
    )


def checked(*, scene: str, kind: str, control: str, net: str = "small") -> None:
    """Refuse what there is no cell of.

    Raises:
        ValueError: no such scene, kind, control or net.
    """
    options = {"scene": tuple(SCENES), "kind": get_args(Kind), "control": get_args(Control)}
    options |= {"net": get_args(Net)}
    given = {"scene": scene, "kind": kind, "control": control, "net": net}
    for name, its in given.items():
        if its not in options[name]:
            words = ", ".join(word or "nothing" for word in options[name])
            raise ValueError(f"got the {name} {its!r}; give one of {words}")


def train_plain(
    run: str,
    *,
    scene: str = "leaves",
    seed: int = 0,
    total_images: int = 40_000,
    perceptual: Perceptual = "lpips",
    base: str | None = None,
    device: str = "cpu",
) -> StylEx:
    """The generator that some rivals explain with: the classifier has no part in its training.

    One for all cells of a scene, whose own trainings may begin with it. It is handed a classifier
    of random weights, only to be measured by, and never hears of it. Begun anew it sees 60,000
    drawn images and D is awake (`AWAKE`); with a base as many as the cells, as gently as they.

    Args:
        run: directory to write everything into.
        scene: leaves or cells.
        seed: of images and training.
        total_images: length in images seen: give that of the cells.
        perceptual: lpips or none; the classifier's features would tell it of a classifier.
        base: run of another one that this one goes on from, as the cells do.
        device: that trains it.
    """
    files = Run(run)
    anew: dict[str, Any] = {**AWAKE, "adversarial_from_images": total_images // 4}
    rule, trained = draw_rule(seed, scene=SCENES[scene]), None if base else BASE_IMAGES
    draw_images(rule, files, seed=seed, trained=trained)
    return train(
        files.images,
        random_classifier(files, seed=seed),
        run=run,
        resolution=SIDE,
        total_images=total_images,
        condition=False,
        kl_weight=0.0,
        perceptual=perceptual,
        seed=seed,
        device=device,
        begin_with=base,
        **(GENTLY if base else anew),
    )


def search(model: StylEx, photos: ImageSet, files: Run) -> Search:
    """AttFind on some of the search images, unless it was done so at this point of the training."""
    with suppress(FileNotFoundError, ValueError):  # none yet, or one of before
        if how(found := Search.load(files.path)) == ASKING:
            return found
    images = photos.batch(spread(len(photos), SEARCHED))
    found = explaining.search(model, images, **SEARCHING)
    found.save(files.path)
    return found


def how(found: Search) -> dict[str, Any]:
    """Mode and rule of a search and how its list was chosen, to be compared with `ASKING`."""
    return {"rule": found.rule} | {name: found.made.get(name) for name in ASKING if name != "rule"}


# --- found against true --------------------------------------------------------------------------


def measure(model: StylEx, found: Search, stand: Bench, *, control: Control = "") -> dict[str, Any]:
    """Score a search on test images against the truth measured on the classifier.

    An attribute passes where most of its pixel energy is explained by its twins and no gate of
    `scrutiny` is shut towards one class at least (`shut` names those of both); it does so falsely
    where its main factor is not used, or where the labels were shuffled. `comes_back` is what
    `explained` might be told by without the truth, mean of both classes.

    Args:
        model: trained on images of the rule.
        found: attributes of its search images.
        stand: the cell's.
        control: of the cell.
    """
    score = stand.score(of_search(found, *_ends(model)))
    rule, rows = stand.rule, score["attributes"]
    judges = [judge(rule, stand.reader)] if rule else []
    subjects = Subjects(model, stand.photos, judges=judges)
    evidence = scrutinise(subjects, found, count=max(1, len(rows)))
    for row in rows:
        its = [x for x in evidence if x["rank"] == row["rank"]]
        row["comes_back"] = sum(x["comes_back"] for x in its) / len(its)
        shut = [{gate["name"] for gate in x["gates"] if gate["passed"] is False} for x in its]
        row["shut"] = sorted(set().union(*shut))
        row["passed"] = row["explained"] >= EXPLAINED and any(not names for names in shut)
        row["false"] = row["passed"] and (control == "shuffled" or not row["used"])
    names, g = stand.reader.scene.factors, torch.stack([*stand.true], 1).tolist()
    deciding = [names[k] for k in rule.deciding] if rule else []
    return {
        "rule": str(rule) if rule else "none: random weights",
        "deciding": deciding,
        "hidden": deciding[HIDDEN[control]] if control in HIDDEN else None,
        **score,
        "importance": dict(zip(names, g, strict=True)),
        "accuracy": model.classifier.about.get("accuracy"),
        "looked_at": len(rows),
        "passed": sum(row["passed"] for row in rows),
        "passed_falsely": sum(row["false"] for row in rows),
    }


def compete(
    stand: Bench, model: StylEx, found: Search, photos: ImageSet, plain: str
) -> dict[str, dict[str, Any]]:
    """The rivals' scores on a cell, by name, each with its `seconds` to find and to measure.

    Args:
        stand: the cell's.
        model, found: its StylEx and search.
        photos: its search images.
        plain: run of `train_plain`.
    """
    began, files = time.monotonic(), Run.open(plain)
    width = read_json(files.about)["settings"]["width"]
    generator = StylEx(model.classifier, resolution=SIDE, width=width)
    generator.load_own_state(read_tensors(files.model))
    generator.eval().requires_grad_(False)
    images = photos.batch(spread(len(photos), SEARCHED))
    entrants = chain(
        rivals.on_plain(generator, explaining.search(generator, images, **SEARCHING)),
        rivals.on_generator(model, found, images),
        [("pixels", rivals.Pixels(model.classifier)), ("grid", None)],
    )
    tables: dict[str, dict[str, Any]] = {}
    for name, method in entrants:
        table = stand.score(method) if method else rivals.grid(stand)
        tables[name], began = table | {"seconds": time.monotonic() - began}, time.monotonic()
    return tables


def _ends(model: StylEx) -> tuple[Callable[[Images], Any], Callable[[Any], Images]]:
    """Photos to styles, styles to images."""
    return partial(in_batches, model.styles), partial(in_batches, model.synthesize)


def judge(rule: Rule, reader: Reader) -> Classifier:
    """The planted rule itself on what is read off the image: the judge that knows."""

    def logits(images: Images) -> Logits:
        lead = rule.margin(reader.read(images)) / SPREAD
        return torch.stack([-lead / 2, lead / 2], 1)

    return Classifier(logits, CLASSES, source="the planted rule")
