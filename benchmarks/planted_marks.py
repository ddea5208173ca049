"""A mark planted in real photos: is it used, and is it found? Leaves and faces.

    TORCH_HOME=../shared/torch python benchmarks/planted_marks.py     # a quarter of an hour a share
    python benchmarks/planted_marks.py --share 0.25 0.5 1 --mark tint

The largest share comes first; finished ones are not done again. Writes planted_marks.json after
each and copies each `mark.png` into docs/images.
"""

import shutil
from pathlib import Path
from typing import Literal

import tyro
from made import made, write_result

from stylex.plant import plant

IMAGES = Path(__file__).parents[1] / "docs" / "images"
FOLDERS = ("leaves", "faces")


def main(
    *,
    data: str = "../shared/data",
    mark: Literal["watermark", "tint", "ruler", "frame"] = "watermark",
    share: tuple[float, ...] = (1.0, 0.5),
    total_images: int = 24_000,
) -> None:
    """Both folders, one share more at each turn.

    Args:
        data: where leaves64.zip and faces64.zip lie.
        mark: see `stylex plant`.
        share: of the marked class.
        total_images: length of each training.
    """
    tables = {}
    shares = sorted(set(share), reverse=True)
    for known in (tuple(shares[: n + 1]) for n in range(len(shares))):
        for name in FOLDERS:
            run = Path("runs") / f"plant-{name}-{mark}"
            photos = str(Path(data) / f"{name}64.zip")
            tables[name] = plant(
                data=photos, run=str(run), mark=mark, share=known, total_images=total_images
            )
            tables[name]["data"] = f"{name}64.zip"
            write_result("planted_marks", made([0]) | tables)
            for part in known:
                picture = run / f"share-{part:g}" / "mark.png"
                shutil.copy(picture, IMAGES / f"mark-{name}-{part:g}.png")


if __name__ == "__main__":
    tyro.cli(main)
