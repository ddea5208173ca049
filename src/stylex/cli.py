"""The command line: the options of a command are the signature and docstring of one function.

Nothing heavy is imported before a command is chosen, so `stylex --help` answers at once.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import tyro

from stylex import arguments

if TYPE_CHECKING:
    from stylex.losses import Perceptual

COMMANDS = {
    "train": "train a StylEx around a classifier; the same command again resumes",
    "train-classifier": "train a small classifier from labelled folders",
    "search": "AttFind: the style coordinates that move the classifier's decision",
    "explain": "what would have to change in one photo",
    "evaluate": "the evidence: flips, judges, survival, floors and trust gates",
    "report": "one offline HTML page about a run",
    "view": "the same page over the model itself: move, flip, name, compare",
    "study": "forms by which people judge what was found, and their scores",
    "export": "a finished run to give away, with a model card",
    "demo": "all of it on drawn images: no download, no GPU, at most 12 minutes",
    "plant": "a mark planted in your photos: would an explanation find this shortcut?",
}
HOMES = {name: name for name in ("demo", "export", "plant", "study")} | {"view": "viewer"}

ENDED = "a process of this job ended; the same command goes on, with any number of processes"


def main() -> None:
    """Run one command; a user's mistake is one line on stderr and exit code 2."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(overview())
        return
    if name not in COMMANDS:
        sys.exit(_refuse(f"there is no command {name!r}; choose one of {', '.join(COMMANDS)}"))
    try:
        arguments.read(name, command(name), sys.argv[2:])()
    except (NotADirectoryError, FileExistsError) as error:
        sys.exit(_refuse(f"{error.filename}: a file is where a directory is wanted; name another"))
    except (ValueError, OSError) as error:
        sys.exit(_refuse(str(error)))
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's; it need not be imported here
            raise
        less = "lower --batch or --width, of a search --memory, or take --device cpu"
        sys.exit(_refuse(f"that does not fit into the GPU's memory; {less}"))
    except KeyboardInterrupt:
        goes_on = "; the same command goes on from what was saved"
        sys.exit(_refuse("stopped" + goes_on * (name in ("train", "demo", "search", "plant"))))


def overview() -> str:
    """What `stylex --help` prints."""
    lines = [f"  {name:<18}{says}" for name, says in COMMANDS.items()]
    return "\n".join(
        [
            "usage: stylex COMMAND [options]    (stylex COMMAND --help lists the options)",
            "",
            "Explain an image classifier by what it looks at, in pictures.",
            "",
            *lines,
        ]
    )


def command(name: str) -> Callable[..., Any] | dict[str, Callable[..., Any]]:
    """The function behind a command, or behind each of its own; importing torch happens here."""
    if name == "train":
        from stylex.training import train

        return arguments.from_strings(train)
    if name == "train-classifier":
        from stylex.classifying import train_classifier

        return arguments.from_strings(train_classifier)
    if name in HOMES:  # a module's own
        return getattr(import_module(f"stylex.{HOMES[name]}"), name)
    own = {"search": search, "explain": explain, "evaluate": evaluate, "report": report}
    return own[name]


def search(
    *,
    run: str,
    data: str | None = None,
    target: str | None = None,
    source: str | None = None,
    count: int = 10,
    images: int = 250,
    strength: float = 1.0,
    threshold: float | None = None,
    rule: Literal["subset", "cumulative", "single", "share"] = "subset",
    mode: Literal["auto", "exact", "fast", "bf16"] = "auto",
    reuse: bool = False,
    unnoticed: bool = False,
    memory: str = "2GB",
    device: Literal["cpu", "cuda"] = "cpu",
    classifier: str | None = None,
) -> None:
    """Find and rank the style coordinates that move the decision, and picture them.

    Args:
        run: directory of a trained run.
        data: images to search on, never trained or tested on; by default the run's own search
            images.
        target: class whose attributes are wanted; every class by default.
        source: only images predicted as this class are to be explained.
        count: attributes for each class.
        images: most images to search on.
        strength: 1 moves a coordinate to the bound of its range over the images.
        threshold: gain in logits that explains an image; by default 1.0 for two classes, else 0.5.
        rule: subset measures each attribute on top of the ones before; of effects measured alone:
            cumulative (the notebook's), single (the paper's own statement), share (of the images
            that a move changes).
        mode: exact measures every move of every image; fast foretells them and measures what may
            be chosen; bf16 ranks them all in bf16 first (on processors that multiply it quickly);
            auto is exact up to 250,000 moves, fast above.
        reuse: select again from the effects that the last search measured; only subset measures
            its steps anew. Give the data and images that it was given.
        unnoticed: leave out coordinates whose moves the discriminator notices (the notebook's
            filter).
        memory: most memory for each process; a larger table of effects stays in a file.
        device: that measures; pictures are drawn on the CPU.
        classifier: needed only where the run keeps no copy: file.py:function or a TorchScript file.
    """
    from rich.console import Console

    from stylex import choosing, explaining, given, parallel, showing, telling
    from stylex.ledger import Ledger
    from stylex.looking import spread
    from stylex.runs import Run

    if images < 2:
        raise ValueError(f"images is {images}; wanted two or more to search on, raise it")
    parts, fabric = Run.open(run).searching, parallel.start(device=device, precision="fp32")
    first, rank, ranks = fabric.is_global_zero, fabric.global_rank, fabric.world_size
    ledger = Ledger(parts, rank=rank, ranks=ranks, memory=memory)
    console = Console(soft_wrap=True, highlight=False, markup=False, quiet=not first)
    model = given.load(run, classifier)
    cached = {"cache_bytes": ledger.memory // 4}
    splits, why = given.splits(model, run, **cached)
    photos = given.to_search(splits, why, data, model, say=console.print, **cached)
    rows = spread(len(photos), images)
    its = photos.digests
    searched = [its[i] for i in rows.tolist()]
    options = {"target": target, "source": source, "count": count}
    options |= {"threshold": threshold, "rule": rule}
    here = model.to(fabric.device)
    if reuse:
        ledger = Ledger(memory=memory)  # nothing is kept: measured effects are used again
        with telling.progress_bar("choosing", console) as ledger.progress:
            found = given.again(run, here, searched, strength, ledger=ledger, **options)
    else:
        console.print(f"{len(rows)} images, {model.layout.searched} coordinates in both directions")
        together = parallel.one_speaks(fabric, f"stylex: {ENDED}", parts)
        with together, telling.progress_bar("searching", console) as ledger.progress:
            how = {"strength": strength, "mode": mode, "ledger": ledger, "say": console.print}
            found = explaining.search(here, photos.images[rows], **options, **how)
            parallel.wait(fabric)
    model.to("cpu")
    if not first:
        return
    if unnoticed:
        again = Ledger(memory=memory)
        with telling.progress_bar("asking the discriminator", console) as again.progress:
            found = choosing.unnoticed(model, found, ledger=again, **options)
    found = replace(found, made=found.made | {"searched": searched})
    found.save(run)
    ledger.remove()
    showing.illustrate(model, found, [photos.names[i] for i in rows.tolist()], run)
    explaining.add_sufficiency(model, splits.get("test"), found, run, why=why)
    console.print(showing.as_table(found))
    missing = [f"sufficiency was not measured: {why}"] if why else []
    missing += [found.made["certificate"]["says"]] if "certificate" in found.made else []
    for says in showing.not_found(found, target) + missing:
        console.print(says)


def explain(
    photo: str,
    /,
    *,
    run: str,
    target: str,
    count: int = 5,
    strength: float | None = None,
    json: bool = False,
    classifier: str | None = None,
) -> None:
    """What would have to change in one photo for the classifier to decide for the target.

    Args:
        photo: any image file, of any size.
        run: directory of a run that was searched.
        target: class to move to.
        count: most attributes to show alone; twice as many are combined.
        strength: 1 moves a coordinate to its bound; by default that of the search.
        json: print the answer as data instead of words.
        classifier: needed only where the run keeps no copy: file.py:function or a TorchScript file.
    """
    from stylex import given, showing
    from stylex.attfind import Search

    model, found = given.load(run, classifier), Search.load(run)
    options = {"target": target, "count": count, "strength": strength}
    answer, folder = showing.explain_file(model, found, photo, run, **options)
    print(showing.as_text(answer) if json else f"{showing.in_words(answer)}\nwritten: {folder}")


def evaluate(
    *,
    run: str,
    data: str | None = None,
    oracle: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    against: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    features: str = "squeezenet1_1",
    images: int = 500,
    count: int = 10,
    panel_images: int = 50_000,
    seed: int = 0,
    classifier: str | None = None,
) -> None:
    """Measure what speaks for and against a searched run, and write it into its metrics.

    Args:
        run: directory of a run that was searched.
        data: test images, neither trained nor searched on; by default the run's own.
        oracle: a judge of the same classes in the same order, as in --classifier of train; give it
            again for another. By default two are trained on half B of the labelled training images.
        against: searched run of the same classifier and images with another seed: which attributes
            does it find too? Give it again for another.
        features: for distances of image sets: squeezenet1_1, a TorchScript file, or none.
        images: most test images.
        count: attributes of each class.
        panel_images: images that each default judge sees in training.
        seed: of judges, noise, random coordinates and resampling.
        classifier: needed only where the run keeps no copy: file.py:function or a TorchScript file.
    """
    from rich.console import Console

    from stylex import evaluation, given, judging, proof, showing
    from stylex.attfind import Search
    from stylex.features import load_features
    from stylex.looking import FITTED, KINDS, spread
    from stylex.runs import Run, read_json, write_json

    if min(images, count) < 1:
        raise ValueError(f"{images} images and {count} attributes: wanted 1 or more of each")
    console, files = Console(soft_wrap=True, highlight=False, markup=False), Run.open(run)
    found, model = Search.load(run), given.load(run, classifier)
    settings, (splits, why) = read_json(files.about)["settings"], given.splits(model, run)
    if why:
        raise ValueError(f"{why}; evaluating needs the training images for its floors")
    photos = given.to_test(splits, data, model, found, say=console.print)
    tested = photos.batch(spread(len(photos), images))
    evaluation.check(model, tested, found)  # before judges are trained for minutes
    try:
        seen_by = None if features == "none" else load_features(features)
    except ValueError as error:
        console.print(f"no distances of sets, no linear probe: {error}")
        features, seen_by = "none", None
    others = {name: (given.load(name, classifier), Search.load(name)) for name in against}
    judges, why = [given.named(source, classes=model.classes) for source in oracle], ""
    if any(judge.hash == model.classifier.hash for judge in judges):
        raise ValueError("a judge is the explained classifier itself; give others by --oracle")
    if not judges:
        options = {"features": features, "total_images": panel_images, "seed": seed}
        options |= {"folder": files.judges, "group": model.classifier.about.get("group")}
        judges, why = judging.train_panel(splits, model.classes, progress=console.print, **options)
        shared = judging.shared_half(model.classifier, settings["group"])
        why = "; ".join(filter(None, (why, shared)))
    kinds: tuple[Perceptual, ...] = ("lpips", settings["perceptual"])
    every = ((kind, showing.usable_distance(kind, model.classifier)) for kind in kinds)
    perceptual, distance = next((each for each in every if each[1]), ("none", None))
    known = splits["train"]
    measured = evaluation.evaluate(
        model,
        tested,
        found,
        train_images=known.batch(spread(len(known), FITTED)),
        judges=judges,
        features=seen_by,
        features_name=seen_by.name if seen_by else "none",
        distance=distance,
        distance_name=KINDS.get(perceptual) or perceptual,
        count=count,
        seed=seed,
        progress=console.print,
    )
    measured["panel"] |= {"why": why} if why else {}
    measured["stability"]["against"] = {
        name: evaluation.against(model, found, *other, tested, count=count)
        for name, other in others.items()
    }
    for part in proof.as_tables(measured):  # first: where it cannot be written it was seen
        console.print(part)
    write_json(files.metrics, read_json(files.metrics) | measured)
    console.print(f"written: {files.metrics}; `stylex report --run {run}` shows it")


def report(*, run: str) -> None:
    """Write one self-contained HTML page about a run.

    Args:
        run: directory of a run, at whatever stage.
    """
    from stylex.report import write_report

    print(f"written: {write_report(run)}")


def _refuse(says: str) -> int:
    from stylex.telling import first

    if not first():
        time.sleep(10)  # torchrun ends this process where the first one has said the same
    print(f"stylex: {' '.join(says.split())}", file=sys.stderr)
    return 2
