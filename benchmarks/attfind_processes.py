"""One search by one process and by two, by turns: how much sooner are two?

    python benchmarks/attfind_processes.py models/leaves

Each process has one thread; run it on an idle machine of two cores. The exact search of noise
images is timed inside the command, from the images to the effects, on a copy of the run.
Writes benchmarks/results/attfind_processes.json, and the ratio into attfind_speed.json.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from made import RESULTS, last_result, made, write_result

from stylex.pictures import to_picture
from stylex.runs import Run, read_json, write_json

ROUNDS, IMAGES = 3, 64  # what comes once counts less than in 24, more than in a usual search of 250


def main(path: str) -> None:
    """Rounds of both, by turns."""
    times: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        run, photos = Path(shutil.copytree(path, Path(folder) / "run")), Path(folder) / "photos"
        about = read_json(Run(run).about)
        draw_noise(photos, about["resolution"], about["channels"])
        for _ in range(ROUNDS):
            for processes, seconds in times.items():
                seconds.append(searched(run, photos, processes))
                print(f"{processes} processes: {seconds[-1]:.1f} s", flush=True)
    one, two = (statistics.median(seconds) for seconds in times.values())
    result = {"run": Path(path).name, "images": IMAGES, "seconds": times, "ratio": one / two}
    write_result("attfind_processes", made([0]) | result)
    others = last_result("attfind_speed")
    write_json(RESULTS / "attfind_speed.json", others | {"two_process_speedup": one / two})
    print(f"two processes are {one / two:.2f} times as fast as one")


def draw_noise(folder: Path, side: int, channels: int) -> None:
    """Images of noise: what is searched does not matter for the time."""
    folder.mkdir()
    draw = torch.Generator().manual_seed(0)
    for n in range(IMAGES):
        image = torch.rand(channels, side, side, generator=draw) * 2 - 1
        to_picture(image).save(folder / f"{n}.png")


def searched(run: Path, photos: Path, processes: int) -> float:
    """Seconds of one exact search."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    given = ["--run", run, "--data", photos, "--images", IMAGES, "--mode", "exact"]
    command = [sys.executable, *launch, "-m", "--", "stylex", "search", *map(str, given)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True)
    if answer.returncode:
        sys.exit(answer.stderr[-2000:])
    return read_json(Run(run).search)["made"]["seconds"]


if __name__ == "__main__":
    main(sys.argv[1])
