"""How long `stylex evaluate` takes on 500 test images of a 64 px run, its judges included.

    stylex train --data ../shared/data/leaves64.zip --classifier runs/leaves-classifier-64 \\
        --resolution 64 --total-images 960 --run runs/speed-64
    stylex search --run runs/speed-64 --images 16
    python benchmarks/evaluate_speed.py runs/speed-64     # on an idle machine

The quality of the run does not matter here. Writes benchmarks/results/evaluate_speed.json.
"""

import shutil
import subprocess
import sys
import time

import torch
from made import made, write_result

from stylex.runs import Run, read_json

IMAGES = 500


def main() -> None:
    """Evaluate once, from the shell, as a user would."""
    files = Run(sys.argv[1])
    shutil.rmtree(files.judges, ignore_errors=True)  # they are trained anew, as the first time
    command = [sys.executable, "-m", "stylex", "evaluate", "--run", str(files.path)]
    began = time.monotonic()
    subprocess.run([*command, "--images", str(IMAGES)], check=True)
    seconds = time.monotonic() - began
    metrics = read_json(files.metrics)
    result = {
        "minutes": seconds / 60,
        "minutes_without_judges": metrics["evaluated"]["seconds"] / 60,
        "images": metrics["evaluated"]["images"],
        "resolution": read_json(files.about)["resolution"],
        "attributes": len(read_json(files.search)["attributes"]),
        "threads": torch.get_num_threads(),
    }
    write_result("evaluate_speed", made([0]) | result)
    print(result)


if __name__ == "__main__":
    main()
