"""How a result was made, and where it is written."""

import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stylex.runs import machine, read_json, write_json

RESULTS = Path(__file__).parent / "results"


def made(seeds: Sequence[int]) -> dict[str, Any]:
    """Command, commit, date, machine and seeds, as every result file carries them."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    command = " ".join(["python", *sys.argv])
    about = {"command": command, "commit": commit, "machine": machine(), "seeds": list(seeds)}
    return {"made": {**about, "date": datetime.now(UTC).date().isoformat()}}


def last_result(name: str) -> dict[str, Any]:
    """What benchmarks/results/NAME.json says, if it is there."""
    file = RESULTS / f"{name}.json"
    return read_json(file) if file.is_file() else {}


def write_result(name: str, result: dict[str, Any]) -> None:
    """Write benchmarks/results/NAME.json and say its numbers."""
    write_json(RESULTS / f"{name}.json", result)
    for key, value in result.items():
        if isinstance(value, int | float):
            print(f"{key:<28}{value:.3f}")
