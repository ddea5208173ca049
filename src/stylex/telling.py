"""What a person is told while something takes long, and when it left files out.

Of several processes the first alone speaks; a bar is as quiet as the console it is given.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

PATIENCE = 4.0  # seconds of silence
NAMED = 3  # files, of those left out


class Waiting:
    """How far a work has come, now and then: done, rate, time left; a short one stays silent.

    Args:
        what: the work.
        unit: of what it counts, in the plural.
    """

    def __init__(self, what: str, unit: str):
        self.what, self.unit = what, unit
        self.began = self.told = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Say it where enough time went by since the last time."""
        now = time.monotonic()
        if now - self.told < PATIENCE:
            return
        self.told, rate = now, max(done, 1) / (now - self.began)
        left = how_long((total - done) / rate)
        say(f"{self.what}: {done:,} of {total:,} {self.unit}, {rate:,.0f}/s, {left} left")


@contextmanager
def progress_bar(what: str, console: Console) -> Iterator[Callable[[int, int], None]]:
    """A bar with rate and time left; its callback takes the evaluations done and to do."""
    columns = (BarColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    first: tuple[float, int] | None = None  # what an earlier start did is not this one's speed
    with Progress(TextColumn("{task.description}"), *columns, console=console) as bar:
        task = bar.add_task(what, total=None, rate="")

        def tell(done: int, total: int) -> None:
            nonlocal first
            began, before = first = first or (time.monotonic(), done)
            rate = (done - before) / max(time.monotonic() - began, 1e-9)
            says = f"{done:,} of {total:,}, {rate:,.0f} evaluations/s"
            bar.update(task, completed=done, total=total, rate=says)

        yield tell


def left_out(source: object, skipped: Mapping[str, str]) -> None:
    """Name a few of the files that are not used, each with its reason; nothing where there is none.

    Args:
        source: where the files lie.
        skipped: name to reason.
    """
    if skipped:
        some = [f"{name} ({why})" for name, why in sorted(skipped.items())[:NAMED]]
        some += ["..."] * (len(skipped) > NAMED)
        files = "file" if len(skipped) == 1 else "files"
        say(f"{source}: {len(skipped):,} {files} left out: {', '.join(some)}")


def say(text: str) -> None:
    """A line on the error stream, from one process of several."""
    if first():
        print(text, file=sys.stderr, flush=True)


def how_long(seconds: float) -> str:
    """A time that somebody waits, in words."""
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    minutes = seconds / 60
    return f"{minutes:.0f} minutes" if minutes < 100 else f"{minutes / 60:.1f} hours"


def first() -> bool:
    """Whether this process is the only one, or the first of several."""
    return os.environ.get("RANK", "0") == "0"
