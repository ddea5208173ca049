"""A mark planted in real photos: is it used, and is it found? Leaves and faces.

    TORCH_HOME=../shared/torch python benchmarks/planted_marks.py     # a quarter of an hour a share
    python benchmarks/planted_marks.py --share 0.25 0.5 1 --mark tint
    python benchmarks/planted_marks.py --folders faces --share 1 --total-images 48000

The largest share comes first; finished ones are not done again. Writes planted_marks.json after
each, beside what is there of other marks and lengths, and copies each `mark.png` into docs/images.
"""

import shutil
from pathlib import Path
from typing import Literal

import tyro
from made import last_result, made, write_result

from stylex.plant import plant

IMAGES = Path(__file__).parents[1] / "docs" / "images"
LENGTH = 24_000  # that of `stylex plant`


def main(
    *,
    data: str = "../shared/data",
    mark: Literal["watermark", "tint", "ruler", "frame"] = "watermark",
    share: tuple[float, ...] = (1.0, 0.5),
    folders: tuple[str, ...] = ("leaves", "faces"),
    total_images: int = LENGTH,
) -> None:
    """All folders, one share more at each turn.

    Args:
        data: where leaves64.zip and faces64.zip lie.
        mark: see `stylex plant`.
        share: of the marked class.
        folders: leaves, faces.
        total_images: length of each training.
    """
    shares = sorted(set(share), reverse=True)
    for known in (tuple(shares[: n + 1]) for n in range(len(shares))):
        for folder in folders:
            name = f"{folder}-{mark}" + (f"-{total_images}" if total_images != LENGTH else "")
            run, photos = Path("runs") / f"plant-{name}", Path(data) / f"{folder}64.zip"
            table = plant(
                data=str(photos), run=str(run), mark=mark, share=known, total_images=total_images
            )
            how = made([0]) | {"total_images": total_images}
            others = last_result("planted_marks")  # another process may have written meanwhile
            mine = {name: table | {"data": photos.name} | how}
            write_result("planted_marks", others | made([0]) | mine)
            for part in known:
                picture = run / f"share-{part:g}" / "mark.png"
                shutil.copy(picture, IMAGES / f"mark-{name}-{part:g}.png")


if __name__ == "__main__":
    tyro.cli(main)
