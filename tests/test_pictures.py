"""Pictures are read back: sizes, places, colours, frames."""

import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from stylex.pictures import (
    FLICKER_MS,
    animate,
    captioned,
    centred,
    difference_map,
    pack,
    save,
    sheet,
    sprite,
    to_picture,
)


def plain(*values: float, side: int = 4, channels: int = 3) -> Tensor:
    """One plain image per value."""
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, channels, side, side)


def pixels(picture: Image.Image) -> np.ndarray:
    """Bytes `[h, w, 3]`."""
    return np.asarray(picture.convert("RGB"))


def test_to_picture_maps_the_range_and_clamps():
    """-1 is black, 1 is white, beyond is cut off; rows stay rows."""
    image = torch.tensor([-1.0, 0.0, 1.0, -5.0, 5.0, 0.5]).view(1, 2, 3)
    seen = pixels(to_picture(image))
    assert seen[:, :, 0].tolist() == [[0, 128, 255], [0, 255, 191]]
    assert (seen == seen[:, :, :1]).all()


def test_to_picture_keeps_colours_and_enlarges_without_blur():
    """Red stays red; each pixel becomes a square."""
    image = torch.full((3, 2, 2), -1.0)
    image[0, 0, 1] = 1.0
    seen = pixels(to_picture(image, scale=3))
    assert seen.shape == (6, 6, 3)
    assert (seen[:3, 3:] == [255, 0, 0]).all()
    assert seen[:, :3].max() == 0
    assert seen[3:].max() == 0


def test_to_picture_takes_a_tensor_in_training():
    """Half precision and a gradient do not matter."""
    image = torch.zeros(3, 2, 2, dtype=torch.bfloat16, requires_grad=True)
    assert (pixels(to_picture(image)) == 128).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_difference_map_is_gray_where_nothing_changes(channels):
    """Mid-gray elsewhere; what was added or taken keeps its colour."""
    before = torch.rand(channels, 4, 4, generator=torch.Generator().manual_seed(0)) - 0.5
    after = before.clone()
    after[:, 0, 0] += 1.0
    after[0, 3, 3] -= 0.3
    seen = difference_map(before, after)
    assert seen.shape == before.shape
    torch.testing.assert_close(seen[:, 0, 0], torch.ones(channels))
    assert seen[0, 3, 3].item() == pytest.approx(-0.3, abs=1e-6)
    assert not seen[1:, 3, 3].any()
    untouched = torch.ones(4, 4, dtype=torch.bool)
    untouched[0, 0] = untouched[3, 3] = False
    assert not seen[:, untouched].any()


def test_sprite_cells_have_no_gaps():
    """Row r, column c stands at (c * side, r * side): the page cuts frames out by that."""
    values = [[-1.0, -0.5, 0.0], [0.5, 0.75, 1.0]]
    picture = sprite([plain(*row) for row in values])
    assert picture.size == (12, 8)
    for r, row in enumerate(values):
        for c, value in enumerate(row):
            cell = pixels(picture)[4 * r : 4 * r + 4, 4 * c : 4 * c + 4]
            assert (cell == round((value + 1) * 127.5)).all()


def test_sheet_stands_images_beside_their_labels():
    """Two pixels between cells; labels are ink on white, to the left."""
    rows = [plain(-1.0, -1.0, side=16), plain(-1.0, 1.0, side=16)]
    picture = sheet(rows, ["one", "two"], scale=2)
    seen = pixels(picture)
    margin = picture.width - 2 * 34
    assert picture.height == 2 * 34
    assert seen[:32, margin : margin + 32].max() == 0
    assert seen[:32, margin + 34 : margin + 66].max() == 0
    assert seen[34:66, margin : margin + 32].max() == 0
    assert seen[34:66, margin + 34 :].min() == 255
    for top in (0, 34):
        assert seen[top : top + 32, :margin].min() < 128


def test_captioned_writes_below_each_image():
    """As many lines as the longest caption has; the step follows the widest line."""
    picture = captioned(plain(-1.0, -1.0, side=8), ["a", "a much longer caption\nb"], scale=2)
    seen, step = pixels(picture), picture.width // 2
    assert picture.height == 16 + 6 + 2 * 15
    assert step > 16 + 8
    for at in (0, step):
        left = at + (step - 16) // 2
        assert seen[:16, left : left + 16].max() == 0
        assert seen[18:, at : at + step].min() < 128
    assert seen[18 + 16 :, :step].min() == 255  # the first caption has one line only


def test_centred_pads_with_white():
    """Frames of one animation need one width."""
    seen = pixels(centred(to_picture(plain(-1.0)[0]), 10))
    assert seen.shape == (4, 10, 3)
    assert seen[:, 3:7].max() == 0
    assert seen[:, :3].min() == seen[:, 7:].min() == 255


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animation_flickers_for_ever(suffix, tmp_path):
    """method.md 4.4: 600 ms a frame; both frames are there and in order."""
    path = tmp_path / "deep" / f"before_after{suffix}"
    animate([to_picture(image) for image in plain(-1.0, 1.0, side=16)], path)
    with Image.open(path) as film:
        assert film.n_frames == 2
        assert film.info["loop"] == 0
        for frame, level in enumerate((0, 255)):
            film.seek(frame)
            film.load()
            assert film.info["duration"] == FLICKER_MS == 600
            assert abs(pixels(film).astype(int) - level).max() <= 1
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_webp_loses_nothing(tmp_path):
    """Frames are noise; each byte comes back."""
    frames = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    animate([to_picture(frame) for frame in frames], tmp_path / "a.webp", milliseconds=100)
    with Image.open(tmp_path / "a.webp") as film:
        for index, frame in enumerate(frames):
            film.seek(index)
            assert (pixels(film) == pixels(to_picture(frame))).all()


def test_pack_repeats_its_bytes_and_keeps_the_pixels(tmp_path):
    """Packed images come back by name; the same images make the same file."""
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    for name in ("one.zip", "two.zip"):
        pack(((f"a/{i}.png", image) for i, image in enumerate(images)), tmp_path / name)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert archive.namelist() == ["a/0.png", "a/1.png"]
        with Image.open(io.BytesIO(archive.read("a/1.png"))) as picture:
            assert picture.tobytes() == to_picture(images[1]).tobytes()


def test_save_writes_by_suffix_and_leaves_the_old_on_failure(tmp_path):
    """A picture that cannot be written does not cost the one that was there."""
    path = tmp_path / "map.png"
    save(to_picture(plain(0.0)[0]), path)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
    odd = tmp_path / "map.nothing"
    odd.write_text("old")
    with pytest.raises(ValueError, match="nothing"):
        save(to_picture(plain(0.0)[0]), odd)
    assert odd.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["map.nothing", "map.png"]
