"""The command line. A command's options are the signature of one function, read by tyro.

Nothing heavy is imported before a command is chosen, so `stylex --help` answers at once.
"""

import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from stylex.attfind import Search
    from stylex.data import ImageSet
    from stylex.model import StylEx

COMMANDS = {
    "train": "train a StylEx around a classifier; the same command again resumes",
    "train-classifier": "train a small classifier from labelled folders",
    "search": "AttFind: the style coordinates that move the classifier's decision",
    "explain": "what would have to change in one photo",
    "report": "one offline HTML page about a run",
    "demo": "all of it on drawn images: no download, no GPU, at most 12 minutes",
}


def main() -> None:
    """Run one command; a user's mistake is one line on stderr and exit code 2."""
    name, arguments = (sys.argv[1] if len(sys.argv) > 1 else "--help"), sys.argv[2:]
    if name in ("-h", "--help"):
        print(overview())
        return
    if name not in COMMANDS:
        sys.exit(_refuse(f"there is no command {name!r}; choose one of {', '.join(COMMANDS)}"))
    import tyro

    try:
        tyro.cli(command(name), prog=f"stylex {name}", args=arguments)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(_refuse(str(error)))
    except KeyboardInterrupt:
        sys.exit(_refuse("stopped; the same command goes on from the last checkpoint"))


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


def command(name: str) -> Callable[..., None]:
    """The function behind a command; importing torch happens here."""
    if name == "train":
        return _from_signature(import_module("stylex.training").train, _train)
    if name == "train-classifier":
        return _from_signature(import_module("stylex.classifying").train_classifier, _call)
    if name == "demo":
        return _from_signature(import_module("stylex.demo").demo, _call)
    return {"search": search, "explain": explain, "report": report}[name]


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
    rule: Literal["cumulative", "single"] = "cumulative",
    classifier: str | None = None,
) -> None:
    """Find and rank the style coordinates that move the decision, and picture them.

    Args:
        run: directory of a trained run.
        data: images to search on, never trained on; by default the run's own search images.
        target: class whose attributes are wanted; every class by default.
        source: only images predicted as this class are to be explained.
        count: attributes for each class.
        images: most images to search on.
        strength: 1 moves a coordinate to the bound of its range over the images.
        threshold: gain in logits that explains an image; by default 1.0 for two classes, else 0.5.
        rule: cumulative (the notebook's) or single (the paper's own statement).
        classifier: needed only where the run could not keep it: file.py:function.
    """
    from rich.console import Console
    from rich.progress import track

    from stylex import explaining, showing

    console = Console()
    model = _load(run, classifier)
    photos = _photos(model, run, data, "search")
    rows = _spread(len(photos), images)
    names = [photos.names[i] for i in rows]
    passes = 2 * len(rows) * model.layout.searched
    console.print(f"{len(rows)} images x {model.layout.searched} coordinates: {passes:,} passes")
    ticks = iter(track(range(len(rows)), "searching", console=console))
    found = explaining.search(
        model,
        photos.batch(rows),
        target=target,
        source=source,
        count=count,
        strength=strength,
        threshold=threshold,
        rule=rule,
        progress=lambda _: next(ticks, None),
    )
    next(ticks, None)
    found.save(run)
    showing.illustrate(model, found, names, run)
    explaining.add_sufficiency(model, _photos(model, run, None, "test"), found, run)
    console.print(_table(found))


def explain(
    photo: str,
    /,
    *,
    run: str,
    target: str,
    count: int = 5,
    strength: float = 1.0,
    json: bool = False,
    classifier: str | None = None,
) -> None:
    """What would have to change in one photo for the classifier to decide for the target.

    Args:
        photo: any image file, of any size.
        run: directory of a run that was searched.
        target: class to move to.
        count: most attributes to show alone; twice as many are combined.
        strength: 1 moves a coordinate to its bound.
        json: print the answer as data instead of words.
        classifier: needed only where the run could not keep it: file.py:function.
    """
    from stylex import showing
    from stylex.attfind import Search

    model, found = _load(run, classifier), Search.load(run)
    options = {"target": target, "count": count, "strength": strength}
    answer, folder = showing.explain_file(model, found, photo, run, **options)
    print(showing.as_text(answer) if json else f"{showing.in_words(answer)}\nwritten: {folder}")


def report(*, run: str) -> None:
    """Write one self-contained HTML page about a run.

    Args:
        run: directory of a run, at whatever stage.
    """
    from stylex.report import write_report

    print(f"written: {write_report(run)}")


def _load(run: str, classifier: str | None) -> "StylEx":
    from stylex.classifier import load_classifier
    from stylex.model import StylEx

    return StylEx.load(run, classifier=load_classifier(classifier) if classifier else None)


def _photos(model: "StylEx", run: str, data: str | None, split: str) -> "ImageSet":
    """All of the images given, or a split of those that the run was trained on."""
    from stylex.data import read_images, read_splits
    from stylex.runs import Run, read_json

    shape = {"resolution": model.resolution, "channels": model.channels}
    if data is not None:
        return read_images(data, **shape)
    about = read_json(Run.open(run).about)
    same = {name: about["settings"][name] for name in ("group", "seed")}
    return read_splits(about["data"]["source"], **shape, **same)[split]


def _spread(available: int, wanted: int) -> list[int]:
    """Indices over the whole set: folders are sorted by class."""
    wanted = min(available, wanted)
    return [i * available // wanted for i in range(wanted)]


def _table(found: "Search") -> Any:
    from rich.table import Table

    table = Table("towards", "rank", "coordinate", "direction", "at", "effect", "images changed")
    for target, name in enumerate(found.classes):
        for rank, a in enumerate(found.towards(target), start=1):
            way = "high" if a.direction else "low"
            at, effect = f"{a.resolution} px", f"{a.effect:+.2f} logits"
            table.add_row(name, str(rank), str(a.coordinate), way, at, effect, f"{a.share:.0%}")
    return table


def _train(function: Callable[..., Any], given: dict[str, Any]) -> None:
    from stylex.classifier import load_classifier

    classes = given.pop("classes")
    names = None if classes is None else tuple(classes.split(","))
    given["classifier"] = load_classifier(given["classifier"], classes=names)
    function(**given)


def _call(function: Callable[..., Any], given: dict[str, Any]) -> None:
    if isinstance(given.get("classes"), str):
        given["classes"] = tuple(given["classes"].split(","))
    function(**given)


def _from_signature(
    function: Callable[..., Any], call: Callable[[Callable[..., Any], dict[str, Any]], None]
) -> Callable[..., None]:
    """A command with the options, defaults and help of a function of the library.

    What is an object in Python is a string on the command line: `classifier` becomes its source,
    `classes` a list with commas.
    """
    old = inspect.signature(function, eval_str=True).parameters
    kinds: dict[str, Any] = {p.name: p.annotation for p in old.values()}
    strings = {"data": str, "run": str, "out": str, "classifier": str, "classes": str | None}
    kinds |= {
        k: v for k, v in strings.items() if k in old or ("classifier" in old and k == "classes")
    }
    flags = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=kind,
            default=old[name].default if name in old else None,
        )
        for name, kind in kinds.items()
    ]

    def run_it(**given: Any) -> None:
        call(function, given)

    classes = "classes: names with commas between, for a TorchScript file."
    run_it.__doc__ = (
        (function.__doc__ or "").replace("    Args:\n", f"    Args:\n        {classes}\n", 1)
        if "classes" not in old
        else function.__doc__
    )
    run_it.__signature__ = inspect.Signature(flags)  # pyright: ignore[reportFunctionMemberAccess]
    run_it.__annotations__ = kinds
    return run_it


def _refuse(says: str) -> int:
    print(f"stylex: {says}", file=sys.stderr)
    return 2
