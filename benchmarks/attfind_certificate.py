"""One certificate of the fast search, as an example for docs/attfind.md.

    OMP_NUM_THREADS=1 python benchmarks/attfind_certificate.py models/leaves

Noise images of a trained model, eight attributes for each class. Nothing is timed, so the machine
need not be idle. Writes benchmarks/results/attfind_certificate.json.
"""

import sys
from pathlib import Path

from attfind_lists import hastily
from attfind_speed import sampled
from made import made, write_result

from stylex import stylespace
from stylex.model import StylEx

IMAGES, COUNT = 64, 8


def main(path: Path) -> None:
    """Search and keep what is said of it."""
    model = StylEx.load(path)
    styles = sampled(model, IMAGES)
    found = hastily(model, styles, stylespace.bounds(styles), COUNT)
    said = {"run": path.name, "coordinates": model.layout.searched, "images": IMAGES}
    write_result("attfind_certificate", made([0]) | said | found.made)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
