"""Images: sources, decoding, splits, on-demand sets and the endless sampler."""

import io
import os
import re
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stylex import telling
from stylex.data import ImageSet, load_images, read_images, read_splits
from stylex.draws import Sampler
from stylex.photos import OnDemand, find_images, open_image, to_bytes, to_unit
from stylex.splits import hashed_sides, near_duplicates, thumbnail

SIDES = ("train", "search", "test")


@cache
def photo(seed: int, size: tuple[int, int] = (48, 40), mode: str = "RGB") -> Image.Image:
    """A smooth random picture, unlike that of any other seed."""
    levels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(levels).resize(size, Image.Resampling.BICUBIC).convert(mode)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    """An image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files by name below a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def photos(n: int, start: int = 0) -> dict[str, bytes]:
    """Some named pictures."""
    return {f"{i:04d}.png": _png(i) for i in range(start, start + n)}


@cache
def _png(seed: int) -> bytes:
    return encoded(photo(seed))


def zipped(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    """Write files into a zip."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def sides(splits: dict[str, ImageSet]) -> dict[str, str]:
    """Side of each name."""
    return {name: side for side in splits for name in splits[side].names}


def one_colour(colour: tuple[int, ...] | int, mode: str = "RGB", size=(40, 40)) -> Image.Image:
    """A plain image."""
    return Image.new(mode, size, colour)


# one image


def test_unit_and_bytes_round_trip():
    """Bytes go to [-1, 1] and back unchanged; what lies outside is clamped."""
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    images = to_unit(pixels)
    assert images.min() == -1
    assert images.max() == 1
    assert torch.equal(to_bytes(images), pixels)
    assert to_bytes(torch.tensor([[[[-1.5, 1.5]]]])).flatten().tolist() == [0, 255]


def test_centre_crop_of_a_wide_image():
    """Of 96x32 only the middle third is left, on either orientation."""
    wide = one_colour((255, 0, 0), size=(96, 32))
    wide.paste((0, 255, 0), (32, 0, 64, 32))
    for image in (wide, wide.rotate(90, expand=True)):
        pixels = open_image(encoded(image), resolution=32)
        assert torch.equal(pixels[1], torch.full((32, 32), 255, dtype=torch.uint8))
        assert not pixels[0].any()


def test_resize_is_antialiased():
    """A checkerboard of single pixels becomes gray, not black or white."""
    board = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)
    pixels = open_image(encoded(Image.fromarray(board)), resolution=32)
    assert (pixels.float() - 127.5).abs().max() < 3


@pytest.mark.parametrize("size", [(28, 28), (1, 1), (33, 97), (500, 300)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_is_resized(size: tuple[int, int], channels: int):
    """Also smaller images and sides that are no power of two."""
    pixels = open_image(encoded(photo(0, size)), resolution=32, channels=channels)
    assert pixels.shape == (channels, 32, 32)
    assert pixels.dtype == torch.uint8


MODES = {
    "palette": (encoded(one_colour((200, 40, 40)).quantize(8)), (200, 40, 40)),
    "cmyk": (encoded(one_colour((0, 255, 255, 0), "CMYK"), "TIFF"), (255, 0, 0)),
    "cmyk jpeg": (encoded(one_colour((0, 255, 255, 0), "CMYK"), "JPEG", quality=98), (255, 0, 0)),
    "gray": (encoded(one_colour(90, "L")), (90, 90, 90)),
    "one bit": (encoded(one_colour(1, "1")), (255, 255, 255)),
    "16 bit": (encoded(Image.fromarray(np.full((40, 40), 25700, np.uint16))), (100, 100, 100)),
    "32 bit": (encoded(one_colour(25700, "I"), "TIFF"), (100, 100, 100)),
    "float": (encoded(one_colour(100, "F"), "TIFF"), (100, 100, 100)),
    "transparent": (encoded(one_colour((9, 9, 9, 0), "RGBA")), (255, 255, 255)),
    "half transparent": (encoded(one_colour((55, 155, 255, 51), "RGBA")), (215, 235, 255)),
    "gray with alpha": (encoded(one_colour((9, 0), "LA")), (255, 255, 255)),
    "transparent palette": (
        encoded(one_colour((200, 40, 40)).quantize(8), transparency=0),
        (255, 255, 255),
    ),
    "transparent colour": (
        encoded(one_colour((9, 9, 9)), transparency=(9, 9, 9)),
        (255, 255, 255),
    ),
    "gif": (encoded(one_colour((200, 40, 40)), "GIF"), (200, 40, 40)),
}


@pytest.mark.parametrize("mode", MODES)
def test_any_mode_is_opened(mode: str):
    """Palette, CMYK, 16 bits, transparency: the colour a viewer shows, over white."""
    content, colour = MODES[mode]
    pixels = open_image(content, resolution=32)
    assert (pixels.int() - torch.tensor(colour)[:, None, None]).abs().max() <= 2
    gray = open_image(content, resolution=32, channels=1)
    luma = np.dot(colour, (0.299, 0.587, 0.114))
    assert (gray - luma).abs().max() <= 3


def test_16_bits_keep_their_range():
    """The ramp 0..65535 is scaled to 0..255, not clipped."""
    ramp = np.linspace(0, 65535, 32).round().astype(np.uint16)[None].repeat(32, 0)
    pixels = open_image(encoded(Image.fromarray(ramp)), resolution=32, channels=1)
    assert pixels[0, 0].tolist() == np.round(ramp[0] / 257).tolist()


def test_8_bits_kept_in_32_are_not_scaled_and_fractions_are():
    """Both would be black otherwise."""
    ramp = np.arange(0, 256, 8)[None].repeat(32, 0)
    file = io.BytesIO()
    Image.fromarray(ramp.astype(np.int32)).save(file, "TIFF")
    assert open_image(file.getvalue(), resolution=32, channels=1)[0, 0].tolist() == ramp[0].tolist()
    file = io.BytesIO()
    Image.fromarray((ramp / 255).astype(np.float32)).save(file, "TIFF")
    assert open_image(file.getvalue(), resolution=32, channels=1)[0, 0].tolist() == ramp[0].tolist()


@pytest.mark.parametrize(("orientation", "upright"), [(3, "ROTATE_180"), (6, "ROTATE_270")])
def test_exif_orientation_is_respected(orientation: int, upright: str):
    """A photo that a camera stored turned is opened upright."""
    image = photo(1, (64, 64))
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = open_image(encoded(image, exif=exif), resolution=32)
    by_hand = image.transpose(Image.Transpose[upright])
    assert torch.equal(turned, open_image(encoded(by_hand), resolution=32))


def test_path_and_bytes_and_large_jpeg_agree(tmp_path: Path):
    """A path opens as its bytes do; a large JPEG is decoded small without showing it."""
    large = photo(2, (1024, 800))
    path = tmp_path / "large.jpg"
    path.write_bytes(encoded(large, "JPEG", quality=95))
    pixels = open_image(path, resolution=32)
    assert torch.equal(pixels, open_image(path.read_bytes(), resolution=32))
    assert torch.equal(pixels, open_image(str(path), resolution=32))
    exact = open_image(encoded(large), resolution=32)
    assert (pixels.int() - exact.int()).abs().float().mean() < 1.5


def test_missing_and_broken_image_in_one_line(tmp_path: Path):
    """The name, what is wrong, what to do."""
    with pytest.raises(FileNotFoundError, match=r"no\.png does not exist; give an image file"):
        open_image(tmp_path / "no.png", resolution=32)
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(ValueError, match=r"a.png is not a readable image \(unknown format\); save"):
        open_image(tmp_path / "a.png", resolution=32)
    with pytest.raises(ValueError, match=r"^not a readable image \(unknown format\)$"):
        open_image(b"", resolution=32)


@pytest.mark.parametrize("resolution", [0, 16, 48, 512, -64])
def test_resolution_must_be_a_power_of_two(resolution: int, tmp_path: Path):
    """From 32 to 256, at each door."""
    told = f"resolution is {resolution}; wanted a power of two from 32 to 256"
    for door in (read_splits, read_images, load_images):
        with pytest.raises(ValueError, match=told):
            door(tmp_path, resolution=resolution)
    with pytest.raises(ValueError, match=told):
        open_image(b"", resolution=resolution)


def test_channels_limit_and_split_are_checked(tmp_path: Path):
    """One line each."""
    fill(tmp_path, photos(3))
    with pytest.raises(ValueError, match="channels is 2; wanted 3 for RGB or 1 for gray"):
        read_splits(tmp_path, resolution=32, channels=2)
    with pytest.raises(ValueError, match="limit is 0; wanted at least 1 image"):
        read_splits(tmp_path, resolution=32, limit=0)
    with pytest.raises(ValueError, match="split is 'val'; wanted train, search or test"):
        load_images(tmp_path, resolution=32, split="val")


# sources


def test_folder_zip_and_list_hold_the_same(tmp_path: Path):
    """Stored or deflated, in whatever order: the same names, pixels, labels, hash."""
    files = {f"{'ab'[i % 2]}/{i}.png": encoded(photo(i)) for i in range(12)}
    folder = fill(tmp_path / "folder", files)
    backwards = dict(reversed(files.items()))
    listed = folder / "list.txt"
    listed.write_text("\n\n".join(backwards) + "\n")
    sources = [
        listed,
        zipped(tmp_path / "stored.zip", backwards),
        zipped(tmp_path / "deflated.ZIP", files, zipfile.ZIP_DEFLATED),
    ]
    whole = read_images(sources[0], resolution=32)
    listed.rename(tmp_path / "list.txt")
    for source in (folder, *sources[1:]):
        other = read_images(source, resolution=32)
        assert other.names == whole.names == tuple(sorted(files))
        assert other.labels == tuple(name[0] for name in sorted(files))
        assert torch.equal(other.images, whole.images)
        assert other.hash == whole.hash


def test_hash_sees_names_and_pixels():
    """A renamed or a changed image changes it."""
    images = torch.zeros(2, 1, 32, 32, dtype=torch.uint8)
    plain = ImageSet(images, ("a", "b")).hash
    assert ImageSet(images.clone(), ("a", "b")).hash == plain
    assert ImageSet(images, ("a", "c")).hash != plain
    images[1, 0, 3, 4] = 1
    assert ImageSet(images, ("a", "b")).hash != plain


def test_entries_skip_folders_and_macosx(tmp_path: Path):
    """A zip's folders and its `__MACOSX` shadows are no files."""
    path = zipped(tmp_path / "a.zip", {"b/": b"", "__MACOSX/b/._1.png": b"x", **photos(2)})
    entries = find_images(path)
    assert [entry.name for entry in entries] == ["0000.png", "0001.png"]
    assert entries[0].read() == photos(1)["0000.png"]
    assert entries == find_images(path)


def test_sources_that_are_none(tmp_path: Path):
    """Missing, a single image, a zip or list that is none, nothing inside: one line each."""
    fill(
        tmp_path, {"photo.png": encoded(photo(0)), "bad.zip": b"PK no", "bad.txt": b"\xff\xfe\xfa"}
    )
    (tmp_path / "empty").mkdir()
    (tmp_path / "none.txt").write_text("\n \n")
    zipped(tmp_path / "none.zip", {})
    with pytest.raises(FileNotFoundError, match="nowhere does not exist; give a folder"):
        find_images(tmp_path / "nowhere")
    for name, told in {
        "photo.png": "is a single file; give a folder, a .zip or a .txt list",
        "bad.zip": "is not a whole zip .*; copy or pack it anew",
        "bad.txt": "is not UTF-8 text; wanted a list with one path per line",
        "empty": "holds no file; wanted images",
        "none.txt": "holds no file; wanted images",
        "none.zip": "holds no file; wanted images",
    }.items():
        with pytest.raises(ValueError, match=told) as caught:
            read_splits(str(tmp_path / name), resolution=32)
        assert "\n" not in str(caught.value)


def test_broken_files_are_skipped_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Truncated, text, empty, damaged, missing, too large: counted, each with its reason."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    whole = encoded(photo(0), "JPEG")
    png = encoded(photo(1))
    damaged = png[:60] + bytes(40) + png[100:]
    bad = {
        "bomb.png": encoded(one_colour(0, "L", (101, 100))),
        "damaged.png": damaged,
        "empty.jpg": b"",
        "larger bomb.png": encoded(one_colour(0, "L", (300, 100))),
        "notes.txt": b"not an image",
        "truncated.jpg": whole[: len(whole) // 2],
        "truncated.png": png[: len(png) // 2],
    }
    folder = fill(tmp_path / "f", {**bad, **photos(4)})
    read = read_images(folder, resolution=32)
    assert len(read) == 4
    assert [line.split(": ")[0] for line in read.skipped] == sorted(bad)
    assert all("not a readable image (" in line and "\n" not in line for line in read.skipped)
    splits = read_splits(folder, resolution=32)
    assert sum((split.skipped for split in splits.values()), ()) == read.skipped
    (folder / "list.txt").write_text("0000.png\ngone.png\n")
    assert read_images(folder / "list.txt", resolution=32).skipped == ("gone.png: no such file",)


def test_damaged_zip_member_is_skipped(tmp_path: Path):
    """A member that fails its checksum is named; the others are read."""
    path = zipped(tmp_path / "a.zip", photos(3))
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 20] ^= 0xFF
    path.write_bytes(content)
    read = read_images(path, resolution=32)
    assert read.names == ("0001.png", "0002.png")
    assert "0000.png: cannot be read (Bad CRC-32" in read.skipped[0]


def test_none_usable_is_an_error(tmp_path: Path):
    """It names the first file and its reason."""
    fill(tmp_path, {"a.txt": b"1", "b.txt": b"2"})
    told = r"none of 2 files is a usable image \(a.txt: not a readable image \(unknown format\)\)"
    for door in (read_splits, read_images, load_images):
        with pytest.raises(ValueError, match=told):
            door(tmp_path, resolution=32)


def test_skipped_line_does_not_depend_on_the_process(tmp_path: Path):
    """Pillow's own line for an unknown format holds a memory address."""
    fill(tmp_path, {"a.txt": b"1", **photos(1)})
    assert read_images(tmp_path, resolution=32).skipped == (
        "a.txt: not a readable image (unknown format)",
    )


# sets


def test_load_images(tmp_path: Path):
    """Floats in [-1, 1], sorted by name; a limit draws by its seed."""
    fill(tmp_path, photos(20))
    images = load_images(tmp_path, resolution=32)
    assert images.shape == (20, 3, 32, 32)
    assert images.dtype == torch.float32
    opened = to_unit(open_image(tmp_path / "0007.png", resolution=32)[None])
    assert torch.equal(images[7:8], opened)
    few = load_images(tmp_path, resolution=32, limit=5)
    assert len(few) == 5
    assert torch.equal(few, load_images(tmp_path, resolution=32, limit=5))
    assert not torch.equal(few, load_images(tmp_path, resolution=32, limit=5, seed=1))
    assert len(load_images(tmp_path, resolution=32, limit=50)) == 20


def test_load_images_of_one_split(tmp_path: Path):
    """The same images that `read_splits` gives."""
    fill(tmp_path, photos(30))
    splits = read_splits(tmp_path, resolution=32)
    for side in SIDES:
        images = load_images(tmp_path, resolution=32, split=side)
        assert torch.equal(images, splits[side].batch(slice(None)))
    assert len(load_images(tmp_path, resolution=32, split="train", limit=2)) == 2
    (tmp_path / "few").mkdir()
    fill(tmp_path / "few", photos(2))
    with pytest.raises(ValueError, match="few has no image in test; give more images or no split"):
        load_images(tmp_path / "few", resolution=32, split="test")


def test_limit_counts_usable_images(tmp_path: Path):
    """Broken files do not use it up."""
    fill(tmp_path, {**photos(10), **{f"{i}.txt": b"no" for i in range(10)}})
    read = read_images(tmp_path, resolution=32, limit=8)
    assert len(read) == 8
    assert list(read.names) == sorted(read.names)


def test_reading_tells_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    """Files tried of files to try; with a limit, of as many as it takes."""
    monkeypatch.setattr(telling, "PATIENCE", -1.0)
    fill(tmp_path, {**photos(10), **{f"{i}.txt": b"no" for i in range(10)}})

    def last(**options: int) -> str:
        read_images(tmp_path, resolution=32, **options)
        return [line for line in capsys.readouterr().err.splitlines() if "/s" in line][-1]

    assert f"reading {tmp_path}: 20 of 20 files, " in last()
    tried, of = re.findall(r": (\d+) of (\d+) files", last(limit=8))[0]
    assert tried == of
    assert 8 <= int(of) < 20


def test_files_left_out_are_told_after_each_read(tmp_path: Path, capsys):
    """Whoever reads: the images alone, or split, by folders too; and nothing where all are used."""
    folder = fill(tmp_path / "f", {**photos(4), "notes.txt": b"no"})
    told = f"{folder}: 1 file left out: notes.txt (not a readable image (unknown format))\n"
    for read in (read_images, read_splits, load_images):
        read(folder, resolution=32)
        assert capsys.readouterr().err == told
    given = {
        f"{side}/{i}.png": encoded(photo(9 * k + i)) for k, side in enumerate(SIDES) for i in (1, 2)
    }
    read_splits(fill(tmp_path / "g", {**given, "y.png": photos(1)["0000.png"]}), resolution=32)
    assert "1 file left out: y.png (outside train/" in capsys.readouterr().err
    read_splits(fill(tmp_path / "h", given), resolution=32)
    assert capsys.readouterr().err == ""


def test_labels_are_the_direct_folder(tmp_path: Path):
    """None where an image lies directly in the source or in a split's folder."""
    files = photos(3)
    nested = {f"x/{'ab'[i % 2]}/{name}": files[name] for i, name in enumerate(files)}
    assert read_images(fill(tmp_path / "n", nested), resolution=32).labels == ("a", "a", "b")
    assert read_images(fill(tmp_path / "p", files), resolution=32).labels is None
    flat = {f"{side}/{name}": files[name] for side, name in zip(SIDES, files, strict=True)}
    splits = read_splits(fill(tmp_path / "s", flat), resolution=32)
    assert [splits[side].labels for side in SIDES] == [None] * 3


def test_a_stray_image_has_no_label(tmp_path: Path):
    """It takes nothing from those that lie in folders."""
    files = photos(3)
    given = {f"{'ab'[i % 2]}/{name}": files[name] for i, name in enumerate(files)}
    images = read_images(
        fill(tmp_path, given | {"cover.png": photos(1)["0000.png"]}), resolution=32
    )
    assert images.names[-1] == "cover.png"
    assert (images.labels, images.classes) == (("a", "a", "b", ""), ("a", "b"))


def test_colour_is_found_between_files_that_are_no_images(tmp_path: Path):
    """Every photo has a text beside it that sorts before it."""
    given = photos(100) | {name.replace(".png", ".json"): b"{}" for name in photos(100)}
    assert read_images(fill(tmp_path, given), resolution=32, channels=None).channels == 3


def test_a_name_that_is_no_text_is_refused(tmp_path: Path):
    """In one line that can be printed; it could not be written down later."""
    folder = fill(tmp_path, photos(3))
    try:
        (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(ValueError, match=r"'caf\\udce9.png' is no text; rename") as error:
        find_images(folder)
    str(error.value).encode()


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_on_demand_equals_cached(tmp_path: Path, kind: str):
    """Past the budget everything is as before, only not held in memory."""
    files = {f"a/{name}": content for name, content in photos(30).items()}
    source = fill(tmp_path / "f", files) if kind == "folder" else zipped(tmp_path / "a.zip", files)
    budget = 30 * 3 * 32 * 32
    cached = read_splits(source, resolution=32, cache_bytes=budget)
    opened = read_splits(source, resolution=32, cache_bytes=budget - 1)
    for side in SIDES:
        here, there = cached[side], opened[side]
        assert isinstance(here.images, torch.Tensor)
        assert isinstance(there.images, OnDemand)
        assert (here.names, here.labels, here.hash) == (there.names, there.labels, there.hash)
        assert there.images.shape == here.images.shape
        assert there.channels == here.channels == 3
        for indices in (torch.tensor([len(here) - 1, 0]), slice(0, 2), slice(0, 0), [0]):
            assert torch.equal(here.batch(indices), there.batch(indices))
    every = read_images(source, resolution=32)
    for mixed, sides in ((every, cached), (cached["train"], cached), (opened["train"], opened)):
        left = mixed.without({*sides["search"].digests, *sides["test"].digests})
        assert left.names == sides["train"].names
        assert left.labels == ("a",) * len(left)
        assert left.hash == sides["train"].hash
        assert not len(left.without(mixed.digests))


def test_gray_is_found_and_colour_too(tmp_path: Path):
    """`channels=None` looks: L, 16 bits, RGB of equal channels are gray; one colour is enough."""
    wide = Image.fromarray(np.arange(1600, dtype=np.uint16).reshape(40, 40) * 40)
    gray = {
        "l.png": encoded(photo(0, mode="L")),
        "rgb.jpg": encoded(photo(1, mode="L").convert("RGB"), "JPEG"),
        "16.png": encoded(wide),
        "broken.png": b"",
    }
    folder = fill(tmp_path, gray)
    assert read_images(folder, resolution=32, channels=None).channels == 1
    assert read_images(folder, resolution=32).channels == 3
    fill(folder, photos(1))
    assert read_images(folder, resolution=32, channels=None).channels == 3


# splits


def test_given_folders_are_respected(tmp_path: Path):
    """In a folder, in a zip, and where one folder wraps all; labels are the folders inside."""
    wanted = {"train": 4, "search": 2, "test": 1}
    files, content = {}, photos(7)
    for side in wanted:
        for _ in range(wanted[side]):
            name = sorted(content)[0]
            files[f"{side}/cat/{name}"] = content.pop(name)
    wrapped = {f"set/{name}": data for name, data in files.items()}
    for source, inside in (
        (fill(tmp_path / "f", files), files),
        (zipped(tmp_path / "a.zip", wrapped), wrapped),
    ):
        splits = read_splits(source, resolution=32)
        assert {side: len(split) for side, split in splits.items()} == wanted
        assert sides(splits) == {name: name.split("/")[-3] for name in inside}
        assert splits["train"].labels == ("cat",) * 4


def test_a_note_beside_a_wrapping_folder_changes_no_split(tmp_path: Path):
    """At the top or inside of it: the given sides stay, the notes are named."""
    files = {f"set/{side}/a/{i}.png": encoded(photo(i)) for i, side in enumerate(SIDES)}
    notes = {"README.txt": b"about", "set/terms.txt": b"ours"}
    splits = read_splits(zipped(tmp_path / "a.zip", {**files, **notes}), resolution=32)
    assert sides(splits) == {name: name.split("/")[1] for name in files}
    assert [said.split(":")[0] for said in splits["train"].skipped] == sorted(notes)


def test_given_folders_stay_even_for_duplicates(tmp_path: Path, capsys):
    """They are somebody's decision, which is told; what lies outside of them is named, not used."""
    same = encoded(photo(0))
    files = {f"{side}/{i}.png": same for side in SIDES for i in range(2)}
    source = fill(tmp_path, {**files, "val/x.png": same, "y.png": same, "search/z.png": b"no"})
    splits = read_splits(source, resolution=32)
    assert [len(splits[side]) for side in SIDES] == [2, 2, 2]
    outside = "outside train/, search/ and test/"
    assert splits["train"].skipped == (f"val/x.png: {outside}", f"y.png: {outside}")
    assert splits["search"].skipped == ("search/z.png: not a readable image (unknown format)",)
    told = capsys.readouterr().err
    assert "2 images of search/ are in train/ too" in told
    assert "2 images of test/ are in train/ too" in told


def test_given_folders_must_be_whole(tmp_path: Path):
    """One missing, one without an image: one line each."""
    source = fill(tmp_path, {"train/a.png": encoded(photo(0)), "test/b.png": encoded(photo(1))})
    with pytest.raises(ValueError, match="some of train/, search/ and test/ but not search; make"):
        read_splits(source, resolution=32)
    fill(source, {"search/c.png": b"no"})
    with pytest.raises(ValueError, match="gave no usable image from search/; add some"):
        read_splits(source, resolution=32)


def test_given_folders_may_not_divide_a_group(tmp_path: Path):
    """Both eyes of a patient in one folder are taken; one in each of two folders are refused."""
    eyes = ("train/7_left.png", "train/7_right.png", "search/8_left.png", "test/17_left.png")
    source = fill(tmp_path, {name: encoded(photo(n)) for n, name in enumerate(eyes)})
    splits = read_splits(source, resolution=32, group=r"(\d+)_")
    assert splits["train"].names == eyes[:2]
    with pytest.raises(ValueError, match="matches none of 4 names"):
        read_splits(source, resolution=32, group="patient")
    fill(tmp_path, {"test/7_third.png": encoded(photo(9))})
    with pytest.raises(ValueError, match=r"7_third\.png and train/7_left\.png are one group"):
        read_splits(source, resolution=32, group=r"(\d+)_")


def test_hashed_split_is_80_10_10(tmp_path: Path):
    """Of 200 images about 20 are held out twice; all images are somewhere, once."""
    source = zipped(tmp_path / "a.zip", photos(200))
    splits = read_splits(source, resolution=32)
    assert sorted(sum((splits[side].names for side in SIDES), ())) == sorted(photos(200))
    assert 8 <= len(splits["search"]) <= 32
    assert 8 <= len(splits["test"]) <= 32


def test_renaming_resolution_and_more_images_move_nothing(tmp_path: Path):
    """The side hangs on the content of the file alone."""
    files = photos(120)
    before = sides(read_splits(fill(tmp_path / "a", files), resolution=32))
    renamed = {f"{i % 7}/{9999 - i}.png": files[name] for i, name in enumerate(files)}
    back = dict(zip(renamed, files, strict=True))
    after = sides(read_splits(fill(tmp_path / "b", renamed), resolution=32, seed=5))
    assert {back[name]: side for name, side in after.items()} == before
    more = sides(read_splits(fill(tmp_path / "a", photos(40, start=500)), resolution=64))
    assert {name: more[name] for name in before} == before
    limited = sides(read_splits(tmp_path / "a", resolution=32, limit=60))
    assert len(limited) == 60
    assert limited.items() <= more.items()


TURNS = [None, *Image.Transpose]


def test_mirrored_and_turned_duplicates_stay_together(tmp_path: Path):
    """All eight turns of a picture, one of them saved as a small JPEG."""
    files = {}
    for i in range(20):
        for turn, how in enumerate(TURNS):
            image = photo(i, (64, 64)) if how is None else photo(i, (64, 64)).transpose(how)
            files[f"{i:02d}-{turn}.png"] = encoded(image)
        small = photo(i, (64, 64)).transpose(Image.Transpose.TRANSVERSE).resize((48, 48))
        files[f"{i:02d}-8.jpg"] = encoded(small, "JPEG", quality=80)
    split = sides(read_splits(zipped(tmp_path / "a.zip", files), resolution=32))
    assert set(split.values()) == set(SIDES)
    for i in range(20):
        assert len({side for name, side in split.items() if name.startswith(f"{i:02d}-")}) == 1


def faint(seed: int, level: int = 128) -> bytes:
    """A plain gray image with a texture of a few gray levels."""
    return encoded(photo(seed, (64, 64)).point(lambda v: level + v // 40))


def test_plain_unrelated_images_are_not_glued():
    """Faint textures differ by a few gray levels only, yet are strangers: no pair."""
    thumbnails = _thumbnails([faint(i) for i in range(40)])
    assert (thumbnails[0] - thumbnails[1]).square().mean().sqrt() < 10
    assert _pairs(thumbnails) == []


def test_like_outlines_at_other_brightness_are_not_glued():
    """One outline, a dark and a bright shot: the gray levels decide."""
    dark, bright = (photo(0, (64, 64)).point(lambda v, k=k: v // 2 + k) for k in (0, 100))
    assert _pairs(_thumbnails([encoded(dark), encoded(bright)])) == []
    near = photo(0, (64, 64)).point(lambda v: v // 2 + 4)
    assert _pairs(_thumbnails([encoded(dark), encoded(near)])) == [(0, 1)]


def test_blank_images_are_duplicates_of_their_own_colour_only():
    """No contrast to compare by: the same blank page is one picture, another colour another."""
    blank = [encoded(one_colour(c)) for c in ((0, 0, 0), (255, 255, 255), (0, 0, 0), (255, 0, 0))]
    assert _pairs(_thumbnails([*blank, faint(0)])) == [(0, 2)]


def test_near_duplicates_equal_the_slow_search():
    """The average over the turns rules out strangers only; chunks miss nothing."""
    torch.manual_seed(0)
    kinds = torch.rand(9, 3, 16, 16) * 255
    rows = [
        kinds[i % 9].rot90(i % 4, (1, 2)) + torch.randn(3, 16, 16) * (i % 5) * 1.5
        for i in range(27)
    ]
    thumbnails = torch.stack([row.flip(2) if i % 5 else row for i, row in enumerate(rows)])
    slow = {
        (a, b)
        for a in range(27)
        for b in range(a + 1, 27)
        if any(_close(thumbnails[a], turned) for turned in _turned(thumbnails[b]))
    }
    assert 3 < len(slow) < 27
    assert set(_pairs(thumbnails, chunk=7)) == slow == set(_pairs(thumbnails))


def _turned(x: torch.Tensor) -> list[torch.Tensor]:
    return [y.rot90(k, (1, 2)) for y in (x, x.flip(2)) for k in range(4)]


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    p, q = ((x - x.mean()) / (x - x.mean()).norm() for x in (a, b))
    return bool((p - q).norm() <= 0.1 and (a - b).square().mean().sqrt() <= 10)


def _thumbnails(files: list[bytes]) -> torch.Tensor:
    return torch.stack([thumbnail(open_image(file, resolution=32)) for file in files])


def _pairs(thumbnails: torch.Tensor, **options) -> list[tuple[int, int]]:
    return list(near_duplicates(thumbnails, **options))


@pytest.mark.parametrize("pattern", [r"p(\d+)_\d+\.png", r"p\d+", r"(?:v\d/)p(\d+)"])
def test_groups_stay_whole(tmp_path: Path, pattern: str):
    """First capture or whole match is the patient; names without one stand alone."""
    files = {f"v{i % 5}/p{i // 4:02d}_{i}.png": encoded(photo(i)) for i in range(120)}
    files |= {f"other{i}.png": encoded(photo(200 + i)) for i in range(60)}
    split = sides(read_splits(zipped(tmp_path / "a.zip", files), resolution=32, group=pattern))
    for i in range(30):
        assert len({side for name, side in split.items() if f"/p{i:02d}_" in name}) == 1
    assert {side for name, side in split.items() if "/p" in name} == set(SIDES)
    assert {side for name, side in split.items() if "other" in name} == set(SIDES)


def test_bad_groups(tmp_path: Path):
    """Invalid, matching nothing, joining everything: one line each."""
    fill(tmp_path, photos(12))
    for group, told in {
        "p(": r"group 'p\(' is no regular expression .*; correct it",
        "patient": "group 'patient' matches none of 12 names such as 0000.png; correct it",
        "png": "group 'png' joins 12 images into 1; wanted 3 groups or more",
    }.items():
        with pytest.raises(ValueError, match=told) as caught:
            read_splits(tmp_path, resolution=32, group=group)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10, 12])
def test_very_small_sets(tmp_path: Path, n: int):
    """From three images on, no side is empty; below, all is train."""
    splits = read_splits(fill(tmp_path, photos(n)), resolution=32)
    counts = [len(splits[side]) for side in SIDES]
    assert sum(counts) == n
    assert min(counts) >= 1 if n >= 3 else counts == [n, 0, 0]


@given(st.lists(st.integers(1, 12), min_size=1, max_size=40), st.integers(0, 9))
def test_splits_partition_the_set(sizes: list[int], salt: int):
    """Any groups: every image on one side, groups whole, no side empty."""
    names = [f"g{g}_{i}" for g, size in enumerate(sizes) for i in range(size)]
    source = torch.Generator().manual_seed(salt)
    thumbnails = torch.rand(len(names), 1, 16, 16, generator=source) * 255
    contents = [f"{x:08x}" for x in torch.randint(2**32, (len(names),), generator=source).tolist()]
    names += [f"alone{i}" for i in range(3)]
    contents += ["00000000", "40000000", "f0000000"]
    thumbnails = torch.cat([thumbnails, torch.rand(3, 1, 16, 16, generator=source) * 255])
    side = hashed_sides(names, contents, thumbnails, re.compile(r"^g(\d+)_"))
    assert set(side) == set(names)
    pattern = re.compile(r"^g(\d+)_")
    assert side == hashed_sides(names[::-1], contents[::-1], thumbnails.flip(0), pattern)
    assert set(side.values()) == set(SIDES)
    for g, size in enumerate(sizes):
        where = {side[f"g{g}_{i}"] for i in range(size)}
        assert len(where) == 1


@pytest.mark.parametrize(("size", "side"), [(10, "test"), (11, "train")])
def test_a_group_above_a_tenth_goes_to_train(size: int, side: str):
    """Ten of a hundred images are held out where their smallest hash says so, eleven are not."""
    names = [f"g_{i}" if i < size else f"{i}" for i in range(100)]
    contents = [f"{(i * 2**32) // 100:08x}" for i in range(100)]
    thumbnails = torch.rand(100, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 255
    dealt = hashed_sides(names, contents, thumbnails, re.compile("g_"))
    assert dealt["g_0"] == side


def test_groups_and_duplicates_connect():
    """A duplicate of one image of a group drags the whole group to its side."""
    contents = ["80000000", "70000000", "00000000", *(f"{i}fffffff" for i in range(2, 9))]
    contents += ["90000000"] * 30
    thumbnails = torch.rand(40, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 255
    thumbnails[2] = thumbnails[1].rot90(1, (1, 2))
    names = ["g_0", "g_1", *(f"{i}" for i in range(2, 40))]
    dealt = hashed_sides(names, contents, thumbnails, re.compile("g_"))
    assert {dealt["g_0"], dealt["g_1"], dealt["2"]} == {"test"}


def test_shares_in_closed_form():
    """Hashes spread evenly over [0, 1): the first tenth is test, the second search."""
    names = [f"{i}" for i in range(100)]
    contents = [f"{(i * 2**32) // 100 + 1:08x}" for i in range(100)]
    thumbnails = torch.rand(100, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 255
    dealt = hashed_sides(names, contents, thumbnails)
    assert list(dealt.values()) == ["test"] * 10 + ["search"] * 10 + ["train"] * 80


# the sampler


@given(
    n=st.integers(1, 40),
    share=st.integers(1, 9),
    ranks=st.integers(1, 4),
    seed=st.integers(0, 2**32),
    skip=st.integers(0, 6),
)
def test_sampler(n: int, share: int, ranks: int, seed: int, skip: int):
    """Each epoch visits each image once; resumed equals straight; ranks together equal one."""
    batch = share * ranks
    steps = -(-3 * n // batch) + skip
    straight = Sampler(n, batch=batch, seed=seed)
    batches = [next(straight) for _ in range(steps)]
    drawn = torch.cat(batches)
    for epoch in range(3):
        assert drawn[epoch * n : (epoch + 1) * n].sort().values.tolist() == list(range(n))
    resumed = Sampler(n, batch=batch, seed=seed).seek(skip * batch)
    for wanted in batches[skip:]:
        assert torch.equal(next(resumed), wanted)
    assert resumed.images_seen == straight.images_seen == steps * batch
    across = [Sampler(n, batch=batch, seed=seed, rank=rank, ranks=ranks) for rank in range(ranks)]
    for wanted in batches:
        slices = [next(one) for one in across]
        assert {len(part) for part in slices} == {share}
        assert torch.equal(torch.stack(slices, 1).flatten(), wanted)


def test_sampler_reshuffles_and_follows_its_seed():
    """Two epochs and two seeds have other orders; nothing else is random."""
    torch.manual_seed(1)
    sampler = Sampler(50, batch=50, seed=3)
    first, second = next(sampler), next(sampler)
    assert not torch.equal(first, second)
    torch.manual_seed(2)
    again = Sampler(50, batch=50, seed=3)
    assert iter(again) is again
    assert torch.equal(next(again), first)
    assert not torch.equal(next(Sampler(50, batch=50, seed=4)), first)
    assert torch.equal(next(sampler.seek(0)), first)


def test_sampler_refuses():
    """No images, or a batch that the ranks do not divide."""
    with pytest.raises(ValueError, match="there are 0 images to draw from; wanted at least 1"):
        Sampler(0, batch=4, seed=0)
    with pytest.raises(ValueError, match="batch is 6 over 4 ranks; wanted a multiple of 4"):
        Sampler(9, batch=6, seed=0, ranks=4)
    with pytest.raises(ValueError, match="batch is 0 over 1 ranks"):
        Sampler(9, batch=0, seed=0)


# real images


@pytest.mark.shared
def test_digits_of_28_pixels(shared: Path):
    """Gray digits of 28 px, enlarged to 32; no two of 400 are taken for one picture."""
    source = shared / "data" / "digits_3v8_28.zip"
    splits = read_splits(source, resolution=32, channels=None, limit=400)
    assert splits["train"].channels == 1
    assert sum(map(len, splits.values())) == 400
    assert set(splits["train"].labels or ()) == {"3", "8"}
    assert 20 <= len(splits["test"]) <= 60


@pytest.mark.shared
@pytest.mark.parametrize("domain", ["leaves64", "faces64"])
def test_strangers_in_real_photographs_stay_apart(shared: Path, domain: str):
    """Cleaned sets: none of 500 leaves or faces is a near-duplicate of another."""
    read = read_images(shared / "data" / f"{domain}.zip", resolution=64, limit=500)
    assert read.skipped == ()
    assert _pairs(torch.stack([thumbnail(image) for image in read.images])) == []


@pytest.mark.skipif(os.name == "nt", reason="folders of links need rights there")
def test_linked_files_are_found(tmp_path: Path):
    """A folder of links to photos is a folder of photos."""
    fill(tmp_path / "there", photos(1))
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "a.png").symlink_to(tmp_path / "there" / "0000.png")
    assert read_images(tmp_path / "here", resolution=32).names == ("a.png",)
