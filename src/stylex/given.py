"""What a command is given: a run, its images, or others that the run has not seen.

    model = load("runs/leaves", None)
    sides, why = splits(model, "runs/leaves")
    photos = to_search(sides, why, "more/", model, say=print)

No image is tested on that was trained or searched on, nor searched on that is for testing.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from stylex import choosing
from stylex.attfind import Search
from stylex.classifier import Classifier
from stylex.data import ImageSet, read_images, read_splits
from stylex.keeping import load_classifier
from stylex.model import StylEx
from stylex.runs import Run, read_json

Splits = dict[str, ImageSet]
OF_SCRIPTS = ("classes", "size", "mean", "std", "channels", "binary")  # of a TorchScript file


def load(run: str | Path, classifier: str | None, *, strange: bool = False) -> StylEx:
    """The model of a run, around the classifier that is named or its own; as `StylEx.load`."""
    if not classifier:
        return StylEx.load(run, strange=strange)
    its = read_json(Run.open(run).about)["classifier"]
    told = {name: its[name] for name in OF_SCRIPTS if name in its}
    return StylEx.load(run, classifier=named(classifier, **told), strange=strange)


def named(source: str, **settings: Any) -> Classifier:
    """A classifier by its source, as `load_classifier`.

    Args:
        source: of the classifier.
        settings: of a TorchScript file, which says none of them itself; others bring their own.
    """
    script = Path(source).is_file() and Path(source).suffix != ".py"
    return load_classifier(source, **settings if script else {})


def splits(model: StylEx, run: str, **options: int) -> tuple[Splits, str]:
    """The images of a run as its training split them; or none, and why.

    Args:
        model: of the run; says the images' size.
        run: its directory.
        options: of `data.read_splits`.
    """
    about = read_json(Run.open(run).about)
    source, group = about["data"]["source"], about["settings"]["group"]
    try:
        sides = read_splits(source, group=group, **model.sizes, **options)
    except (FileNotFoundError, ValueError) as error:
        return {}, f"the images of {run} cannot be read: {error}"
    if sides["train"].hash != about["data"]["hash"]:
        return {}, f"{source} has changed since {run} was trained; give new images by --data"
    return sides, ""


def to_search(sides: Splits, why: str, data: str | None, model: StylEx, **options: Any) -> ImageSet:
    """The run's own search images, or the user's that it neither trains nor tests on.

    Args:
        sides, why: what `splits` gave.
        data: the user's images, if any.
        model: says their size.
        options: `say`, told of what is left out; of `data.read_images`.

    Raises:
        ValueError: the run's own images are gone, or the user's are all known to it.
    """
    if data is not None:
        return _unseen(data, model, _known(sides, "train", "test"), **options)
    if why:
        raise ValueError(why)
    return sides["search"]


def to_test(
    sides: Splits, data: str | None, model: StylEx, found: Search, **options: Any
) -> ImageSet:
    """The run's own test images, or the user's that were neither trained nor searched on.

    Args:
        sides, data, model, options: as for `to_search`.
        found: remembers its images, which may be of another folder.

    Raises:
        ValueError: the user's images are all known to the run.
    """
    if data is None:
        return sides["test"]
    known = _known(sides, "train", "search") | set(found.made.get("searched", ()))
    return _unseen(data, model, known, **options)


def again(run: str, model: StylEx, searched: list[str], strength: float, **options: Any) -> Search:
    """Another selection from the effects of the last search of a run.

    Args:
        run, model: that were searched.
        searched: digests of the images.
        strength: of the moves.
        options: of `choosing.again`.

    Raises:
        ValueError: the last search took other images, or moved them otherwise.
    """
    old = Search.load(run)
    if (len(old.logits), old.strength) != (len(searched), strength):
        raise ValueError(
            f"the last search of {run} took {len(old.logits)} images at strength {old.strength:g}, "
            f"wanted are {len(searched)} at {strength:g}; give those, or search without --reuse"
        )
    if old.made.get("searched", searched) != searched:
        raise ValueError(
            f"the last search of {run} took other images than these; give the --data that it was "
            "given, or search without --reuse"
        )
    return choosing.again(model, old, **options)


def _known(sides: Splits, *names: str) -> set[str]:
    """Digests of the images of some sides, where they can be read."""
    return {digest for name in names if sides for digest in sides[name].digests}


def _unseen(
    data: str, model: StylEx, known: set[str], *, say: Callable[[str], None], **options: int
) -> ImageSet:
    """Images of the user's that are none of those known to the run, by their digests."""
    every = read_images(data, **model.sizes, **options)
    photos = every.without(known)
    if not len(photos):
        raise ValueError(f"{data} has only images that the run has seen; give some others")
    if seen := len(every) - len(photos):
        say(f"{seen:,} of {len(every):,} images are known to the run: left out")
    return photos
