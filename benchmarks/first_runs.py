"""Numbers and pictures of the leaves and faces runs, for the docs. Run by first_runs.sh.

Writes benchmarks/results/first_runs.json and docs/images/.
"""

import shutil
from pathlib import Path

from made import made, write_result

from stylex.runs import Run, read_json

IMAGES = Path(__file__).parents[1] / "docs" / "images"
SHOWN = 2  # attributes for each class


def main() -> None:
    """Collect what the runs wrote."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    result = {}
    for name in ("leaves", "faces"):
        files = Run.open(Path("runs") / name)
        about, search = read_json(files.about), read_json(files.search)
        result[name] = {
            "resolution": about["resolution"],
            "images_seen": about["images_seen"],
            "core_hours": about["hours"],
            "classes": about["classes"],
            "settings": about["settings"],
            **read_json(files.metrics),
            "attributes": search["attributes"],
            "search": search["made"],
        }
        copy_pictures(name, files)
    write_result("first_runs", made([0]) | result)


def copy_pictures(name: str, files: Run) -> None:
    """The last contact sheet, the first attributes of each class, and the explanations."""
    sheet = files.last_sheet()
    assert sheet is not None
    shutil.copy(sheet, IMAGES / f"{name}-sheet.png")
    for target in range(2):
        for rank in range(1, SHOWN + 1):
            gif = files.attribute(target, rank) / "before_after.gif"
            if gif.is_file():
                shutil.copy(gif, IMAGES / f"{name}-{target}-{rank}.gif")
    for folder in sorted(files.explanations.iterdir()):
        shutil.copy(folder / "strip.png", IMAGES / f"{name}-{folder.name}.png")


if __name__ == "__main__":
    main()
