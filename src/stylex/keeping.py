"""Where a classifier is kept: loading it from where a user has it, and again from a run.

Nothing is unpickled. A run remembers which classifier it was trained with, and takes no other.
"""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from stylex.classifier import Classifier
from stylex.runs import Run, read_json, replacing, write_json
from stylex.smallnet import SmallNet
from stylex.sources import call_function, load_script, one_line

ABOUT_FILE = "classifier.json"
WEIGHTS_FILE = "classifier.safetensors"
SCRIPT_FILE = "classifier.ts"


def load_classifier(
    source: str | Path,
    *,
    classes: Sequence[str] | None = None,
    size: int | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    channels: int | None = None,
    binary: bool = False,
) -> Classifier:
    """Load a classifier from where a user keeps it. Nothing is unpickled.

    Args:
        source: `file.py:function` or `package.module:function`, a function without arguments that
            returns a `Classifier`; a directory that `stylex train-classifier` wrote, or a run that
            keeps a copy; or a TorchScript file, to which alone the other arguments belong (see
            `Classifier`).

    Raises:
        FileNotFoundError: there is nothing at `source`.
        ValueError: what is there is no classifier, or the other arguments do not belong to it.
    """
    named = {"classes": classes, "size": size, "mean": mean, "std": std, "channels": channels}
    named |= {"binary": binary or None}
    given = {name: value for name, value in named.items() if value is not None}
    path = Path(source)
    if path.is_file() and path.suffix != ".py":
        return _from_torchscript(path, given)
    if given and (path.exists() or ":" in str(source)):
        raise ValueError(
            f"{source} brings its own {', '.join(given)}; give these only with a TorchScript file"
        )
    if not path.is_dir():
        return _from_python(str(source))
    kept = Run(path).classifier  # where it is a run
    return _from_directory(kept if (kept / ABOUT_FILE).is_file() else path)


def _from_torchscript(path: Path, settings: dict[str, Any]) -> Classifier:
    if "classes" not in settings:
        raise ValueError(f"{path} does not name its classes; add them in order, `--classes a,b`")
    classifier = Classifier(load_script(path), source=str(path.resolve()), **settings)
    classifier.file = path.resolve()
    classifier.file_hash = hashlib.sha256(path.read_bytes()).hexdigest()
    return classifier


def _from_python(source: str) -> Classifier:
    classifier, where = call_function(source)
    if not isinstance(classifier, Classifier):
        came = type(classifier).__name__
        raise ValueError(f"{source} returned {came}, wanted a Classifier; wrap the model in one")
    classifier.source = where
    return classifier.to("cpu")  # whoever uses it says where


def save_classifier(classifier: Classifier, folder: str | Path) -> None:
    """Write a SmallNet or TorchScript classifier as a directory that `load_classifier` reads.

    Raises:
        ValueError: it is of another kind.
    """
    folder = Path(folder)
    network = {}
    if isinstance(model := classifier.model, SmallNet):
        with replacing(folder / WEIGHTS_FILE) as partial:
            save_file({k: v.cpu().contiguous() for k, v in model.state_dict().items()}, partial)
        network = {"width": model.width, "resolution": model.resolution}
    elif classifier.file is not None:
        with replacing(folder / SCRIPT_FILE) as partial:
            shutil.copyfile(classifier.file, partial)
    else:
        raise ValueError(f"{classifier.source} cannot be written to a file; give a TorchScript one")
    # written last: its hash tells whether both files belong together
    about = {"kind": classifier.kind, "hash": classifier.hash, **classifier.settings, **network}
    write_json(folder / ABOUT_FILE, about | classifier.about)


def _from_directory(folder: Path) -> Classifier:
    if not (folder / ABOUT_FILE).is_file():
        raise FileNotFoundError(
            f"{folder} holds no {ABOUT_FILE}; give a directory that `stylex train-classifier` "
            "wrote, or a run that keeps a copy"
        )
    about = read_json(folder / ABOUT_FILE)
    keys = ("classes", "size", "mean", "std", "channels", "binary")  # the seam's
    try:
        settings = {key: about[key] for key in keys}
        if about["kind"] == "torchscript":
            classifier = _from_torchscript(folder / SCRIPT_FILE, settings)
        else:
            shape = {"resolution": about["resolution"], "width": about["width"]}
            network = SmallNet(about["channels"], len(about["classes"]), **shape)
            network.load_state_dict(load_file(folder / WEIGHTS_FILE))
            classifier = Classifier(network, **settings)
    except (KeyError, OSError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{folder} is not whole ({one_line(error)}); write it again") from error
    if classifier.hash != about["hash"]:
        raise ValueError(f"{folder} was changed or half written; write the classifier again")
    classifier.source = str(folder.resolve())
    classifier.about = {k: v for k, v in about.items() if k not in (*keys, "kind", "hash")}
    return classifier


def remember(classifier: Classifier, run_dir: str | Path) -> dict[str, Any]:
    """Keep in a run what later commands need to load its classifier again.

    A SmallNet and a TorchScript file are copied into the run; of a Python source the name is kept,
    of a plain object nothing but the hash. Returned is the record that belongs into `run.json`.
    """
    if classifier.kind in ("smallnet", "torchscript"):
        save_classifier(classifier, Run(run_dir).classifier)
    named = {"source": classifier.source, "hash": classifier.hash, "kind": classifier.kind}
    return named | classifier.settings


def recall(
    record: dict[str, Any], run_dir: str | Path, *, override: Classifier | None = None
) -> Classifier:
    """Load the classifier that a run was trained with.

    Args:
        record: what `remember` returned.
        run_dir: the run.
        override: the classifier itself, needed only where the run keeps no copy or name of it.

    Raises:
        ValueError: it is not available without `override`, or it has changed.
    """
    source = record["source"] if record["kind"] == "python" else Run(run_dir).classifier
    if override is None and record["kind"] != "python" and not source.is_dir():
        raise ValueError(
            f"{run_dir} keeps no copy of its classifier (a {record['kind']}); give it by "
            "--classifier or as an argument in Python"
        )
    # the copy at its place and nowhere deeper: whoever opens a stranger's run looks there only
    read = load_classifier if record["kind"] == "python" else _from_directory
    classifier = override or read(source)
    if (now := classifier.hash) != (then := record["hash"]):
        raise ValueError(
            f"the classifier has changed since this run was trained: hash now {now[:12]}, then "
            f"{then[:12]}; give the one it was trained with by --classifier or train a new run"
        )
    return classifier
