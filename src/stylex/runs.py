"""The run directory: the only module that knows what is called how in a run, and the formats.

Everything is JSON, JSON lines, safetensors or a picture; nothing is ever unpickled. Every file is
written beside its place and moved there, so a reader sees the old one or the new one, never half.
"""

import json
import os
import platform
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

if TYPE_CHECKING:
    from torch import Tensor

VERSION = 1  # of the directory's layout
# in the folder of an attribute, and of an explanation
ATTRIBUTE, SPRITE, BEFORE_AFTER, MAP = "attribute.json", "frames.png", "before_after.gif", "map.png"
EXPLANATION, STRIP, MAPS, ANIMATION = "explanation.json", "strip.png", "maps.png", "animation"

# groups of `metrics.json` that `stylex evaluate` writes: they are of one search
EVALUATED = ("evaluated", "verdicts", "substrate", "panel", "sufficiency", "sufficiency_percentile",
             "strength", "subset", "necessity", "participation_ratio", "attributes",
             "stability")  # fmt: skip


class Run:
    """Names of everything that one training writes, below `path`."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.about = self.path / "run.json"  # what was trained, on what, when
        self.log = self.path / "log.jsonl"  # one line per logging interval
        self.model = self.path / "model.safetensors"  # averaged weights: all that explaining needs
        self.checkpoints = self.path / "checkpoints"  # what resuming needs
        self.sheets = self.path / "sheets"
        self.classifier = self.path / "classifier"  # a copy of ours or of a TorchScript file
        self.judges = self.path / "judges"  # the oracle panel, trained on half B
        self.search = self.path / "search.json"
        self.search_tensors = self.path / "search.safetensors"
        self.searching = self.path / "searching"  # finished parts, until the search is written
        self.metrics = self.path / "metrics.json"
        self.attributes = self.path / "attributes"  # one folder per attribute: pictures and JSON
        self.explanations = self.path / "explanations"  # one folder per explained image
        self.images = self.path / "images.zip"  # the demo's drawn images
        self.planted_classifier = self.path / "planted-classifier"  # that learned them
        self.planted = self.path / "demo.json"  # the demo's found against planted
        self.plant = self.path / "plant.json"  # a mark planted in photos, and what became of it
        self.mark = self.path / "mark.png"  # that mark, and the attribute nearest to it
        self.notes = self.path / "notes.json"  # what people call the attributes, and think of them
        self.report = self.path / "report.html"
        self.card = self.path / "README.md"  # the model card of an exported run

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """A run that exists.

        Raises:
            FileNotFoundError: there is no `run.json`.
            ValueError: a newer StylEx wrote it.
        """
        run = cls(path)
        if not run.about.is_file():
            raise FileNotFoundError(
                f"{path} is not a run: it holds no {run.about.name}; give the directory that "
                "`stylex train --run` wrote"
            )
        version = read_json(run.about).get("version")
        if version != VERSION:
            raise ValueError(
                f"{path} has layout version {version}, this StylEx reads {VERSION}; "
                "use the StylEx that wrote it"
            )
        return run

    def sheet(self, images_seen: int) -> Path:
        """The contact sheet of one moment of training."""
        return self.sheets / f"{images_seen:09d}.png"

    def attribute(self, target: int, rank: int) -> Path:
        """The folder of one attribute's pictures; ranks start at 1."""
        return self.attributes / f"{target}-{rank}"

    def explanation(self, name: str) -> Path:
        """The folder of one explanation; whatever is no letter, digit, dot or dash becomes one.

        No name leads out of the run: dots in front are dropped.
        """
        return self.explanations / (re.sub(r"[^\w.-]+", "-", name).lstrip(".") or "-")

    def last_sheet(self) -> Path | None:
        """The newest contact sheet, if any."""
        return max(self.sheets.glob("*.png"), default=None)

    def saved(self) -> list[Path]:
        """Finished checkpoints, oldest first."""
        found = self.checkpoints.glob("[0-9]*")
        return sorted(p for p in found if p.is_dir() and not p.name.endswith(".partial"))

    @contextmanager
    def new_checkpoint(self, images_seen: int, keep: int = 2) -> Iterator[Path]:
        """A directory to fill; it becomes a checkpoint only when the block ends without an error.

        The rename is the moment of truth: a kill before it leaves a `.partial` that the next
        checkpoint removes, a kill after it a complete checkpoint.
        """
        final = self.checkpoints / f"{images_seen:09d}"
        partial = final.with_name(final.name + ".partial")
        for left_over in self.checkpoints.glob("*.partial"):
            shutil.rmtree(left_over)
        partial.mkdir(parents=True)
        yield partial
        for file in partial.iterdir():
            _sync(file)
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
        _sync(self.checkpoints)
        for old in self.saved()[:-keep]:
            shutil.rmtree(old)


def last_checkpoint(
    run: Run, tell: Callable[[str], object] = print
) -> "tuple[dict[str, Tensor], dict[str, Any]] | None":
    """Tensors and counters of the newest checkpoint that can be read; None where none was saved.

    Raises:
        ValueError: there are some, and all are damaged.
    """
    saved = run.saved()
    for checkpoint in reversed(saved):
        try:
            return read_tensors(tensors_file(checkpoint)), read_json(state_file(checkpoint))
        except (ValueError, FileNotFoundError) as error:
            tell(f"left out: {error}")
    if saved:
        raise ValueError(f"no checkpoint of {run.path} can be read; give another --run")
    return None


def check_same(
    new: Mapping[str, Any], old: Mapping[str, Any], path: Path, *, may_change: Collection[str]
) -> None:
    """Whether a run that was begun goes on with the same classifier, images and settings.

    Args:
        new, old: what `run.json` would say now, and what it says.
        path: of the run, for the message.
        may_change: settings that bind nothing.

    Raises:
        ValueError: something else is given now.
    """
    for part, name in (("classifier", "classifier"), ("data", "training images")):
        if new[part]["hash"] != old[part]["hash"]:
            raise ValueError(
                f"the {name} changed since {path} was begun (hash {new[part]['hash'][:12]}, "
                f"was {old[part]['hash'][:12]}); give the same, or another --run"
            )
    for option, value in old["settings"].items():
        now = new["settings"].get(option)
        if now != value and option not in may_change:
            raise ValueError(
                f"{path} was begun with {option} {value}, now it is {now}; "
                "give the same, or another --run"
            )


def tensors_file(checkpoint: Path) -> Path:
    """Trained and averaged weights and the optimisers' moments."""
    return checkpoint / "tensors.safetensors"


def state_file(checkpoint: Path) -> Path:
    """Counters of the training."""
    return checkpoint / "state.json"


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def stylex_version() -> str:
    """The installed StylEx."""
    return metadata.version("stylex")


def machine() -> str:
    """The machine in a few words, for results."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object.

    Raises:
        ValueError: the file is not JSON, or not an object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not readable JSON ({error}); restore or delete it") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path} holds no JSON object but a {type(data).__name__}; replace it")
    return data


def read_tensors(path: Path, *, advice: str = "restore it") -> "dict[str, Tensor]":
    """All tensors of a file, on the CPU.

    Raises:
        ValueError: the file is damaged; `advice` says what to do.
    """
    from safetensors.torch import load_file  # a report of finished numbers needs no torch

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not readable ({error}); {advice}") from None


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write one JSON object, atomically."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def append_line(path: Path, data: Mapping[str, Any]) -> None:
    """Append one JSON line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(data, ensure_ascii=False) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines; a last line cut short by a kill is left out.

    Raises:
        ValueError: another line is not JSON.
    """
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]  # what no line end follows was cut short
    return [_parse(path, number, line) for number, line in enumerate(lines, start=1)]


def _parse(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        return json.loads(line)
    except ValueError as error:  # no JSON or no UTF-8
        raise ValueError(
            f"{path} line {number} is not readable JSON ({error}); restore or delete it"
        ) from None


def keep_lines(path: Path, images_seen: int) -> None:
    """Drop the lines written after a checkpoint: a resumed run writes them again."""
    lines = [line for line in read_lines(path) if line["images_seen"] <= images_seen]
    with replacing(path) as partial:
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        partial.write_text(text, encoding="utf-8")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to; when the block ends it takes the place of `path` in one move."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # the suffix stays last: Pillow reads the format off it
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        _sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Ask the disk to hold what was written, so that a rename never names an empty file."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def age(run: Run) -> dict[str, int]:
    """How many images the networks of a run have seen; nothing of a directory that is none."""
    about = read_json(run.about) if run.about.is_file() else {}
    return {name: value for name, value in about.items() if name == "images_seen"}


def outgrown(run: Run) -> str:
    """A warning where a run was trained further after its search; empty otherwise."""
    made = read_json(run.search).get("made", {}) if run.search.is_file() else {}
    then = made.get("images_seen")
    now = age(run).get("images_seen", then)
    if then is None or then == now:
        return ""
    return (
        f"{run.path} was trained from {then:,} to {now:,} images after its search; repeat "
        f"`stylex search --run {run.path}`"
    )
