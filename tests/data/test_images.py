"""Pictures with untrusted names and contents: they are read correctly or refused with one clear error."""

from __future__ import annotations

import os
import re
import struct
import time
import warnings
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Barrier

import pytest
from PIL import Image, ImageChops, ImageOps, ImageStat

from steer_lit.data import images
from steer_lit.data.formats import read_sft_row
from steer_lit.data.images import PLACE, PictureError, blank, broken_pictures, open_image, original, picture_digest
from steer_lit.errors import SteerError
from steer_lit.types import ImageRef

MINI = ImageRef("mini://knife?colour=red&x=20&y=31&size=60&bg=3")
RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def save(folder: Path, name: str, image: Image.Image, **options: object) -> ImageRef:
    image.save(folder / name, **options)  # type: ignore[arg-type]
    return ImageRef(name)


# Public files that others made. Every file not listed here must load.
BROKEN = {
    "pillow-edge-images": {
        "broken.png",
        "broken_data_stream.png",
        "decompression_bomb.gif",
        "truncated_end_chunk.png",
        "truncated_image.png",
        "truncated_jpeg.jpg",
        "zero_width.gif",
    },
    "skimage-images": {"truncated.jpg"},
    "figstep/images": set(),
}
# Some versions of Pillow read this TIFF layout and others do not.
EITHER = {"multipage_rgb.tif"}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("folder", BROKEN)
def test_public_files_load_or_give_one_clear_error(shared_data: Path, folder: str) -> None:
    errors: dict[str, str] = {}
    files = [path for path in sorted((shared_data / folder).iterdir()) if path.suffix not in (".txt", "")]
    for path in files:
        started = time.monotonic()
        ref = ImageRef(path.name)
        try:
            picture = open_image(ref, path.parent)
        except PictureError as error:
            errors[path.name] = str(error)
        else:
            assert picture.mode == "RGB"
        assert time.monotonic() - started < 5
    assert len(files) >= 15
    assert set(errors) - EITHER == BROKEN[folder]
    for name, message in errors.items():
        assert re.fullmatch(rf"picture '{name}': cannot be decoded \(\w+: [^\n/]+\)", message), message


def test_orientations_of_one_photo_agree(shared_data: Path) -> None:
    folder = shared_data / "pillow-edge-images"
    names = [f"hopper_orientation_{number}.jpg" for number in (2, 3, 6, 8)] + ["hopper_orientation_6.webp"]
    upright = open_image(ImageRef("hopper.jpg"), folder)
    for name in names:
        difference = ImageChops.difference(upright, open_image(ImageRef(name), folder))
        assert max(ImageStat.Stat(difference).mean) < 6, name  # compression only; unrotated it is above 50


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_every_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    image = Image.new("RGB", (3, 2))
    image.putdata([(40 * index, 0, 255 - 40 * index) for index in range(6)])
    exif = Image.Exif()
    exif[0x0112] = orientation
    ref = save(tmp_path, f"turned.{suffix}", image, exif=exif)
    with Image.open(tmp_path / ref.uri) as stored:
        expected = ImageOps.exif_transpose(stored)
    opened = open_image(ref, tmp_path)
    assert opened.tobytes() == expected.tobytes()
    assert opened.size == ((3, 2) if orientation < 5 else (2, 3))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("RGBA", (1, 1), (255, 0, 0, 0)), WHITE),
        (Image.new("RGBA", (1, 1), (0, 0, 0, 128)), (127, 127, 127)),  # 255 * (1 - 128/255)
        (Image.new("LA", (1, 1), (0, 0)), WHITE),
        (Image.new("L", (1, 1), 7), (7, 7, 7)),
        (Image.new("1", (1, 1), 1), WHITE),
        (Image.new("I;16", (1, 1), 0), (0, 0, 0)),
        (Image.new("I;16", (1, 1), 65535), WHITE),
        (Image.new("I;16", (1, 1), 100 * 257), (100, 100, 100)),
        (Image.new("I;16", (1, 1), 0x8000), (128, 128, 128)),  # 127.5, rounded up
    ],
)
def test_every_mode_becomes_rgb(tmp_path: Path, image: Image.Image, expected: tuple[int, int, int]) -> None:
    assert open_image(save(tmp_path, "a.png", image), tmp_path).getpixel((0, 0)) == expected


def test_transparent_palette_colour_shows_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putdata([0, 1])
    opened = open_image(save(tmp_path, "a.png", image, transparency=1), tmp_path)
    assert [opened.getpixel((x, 0)) for x in range(2)] == [RED, WHITE]


def test_cmyk_tiff(tmp_path: Path) -> None:
    ref = save(tmp_path, "a.tiff", Image.new("CMYK", (1, 1), (0, 255, 255, 0)))
    assert open_image(ref, tmp_path).getpixel((0, 0)) == RED


def test_the_first_frame_is_the_picture(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE)]
    ref = save(tmp_path, "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert open_image(ref, tmp_path).getpixel((0, 0)) == RED


def test_pixel_values_without_a_fixed_white_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="no fixed white"):
        open_image(save(tmp_path, "f.tiff", Image.new("F", (1, 1))), tmp_path)
    with pytest.raises(PictureError, match=r"70000\.\.70000 are not 16-bit"):
        open_image(save(tmp_path, "i.tiff", Image.new("I", (1, 1), 70000)), tmp_path)


def test_a_picture_of_just_the_most_pixels_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    assert open_image(save(tmp_path, "a.png", Image.new("RGB", (10, 10))), tmp_path).size == (10, 10)
    with pytest.raises(PictureError, match="claims 101 x 1 pixels, at most 100"):
        open_image(save(tmp_path, "b.png", Image.new("RGB", (101, 1))), tmp_path)


def test_a_size_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 12_000, 12_000, 8, 2, 0, 0, 0)  # 432 MB of pixels in a file of some 60 bytes
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 9**9) + b"IDAT")
    for ref in (ImageRef("bomb.png"), blank(ImageRef("bomb.png"))):
        with pytest.raises(PictureError, match="claims 12000 x 12000 pixels, at most 67108864"):
            open_image(ref, tmp_path)


@pytest.mark.parametrize("large", [True, False])
def test_large_pictures_are_decoded_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool) -> None:
    """Eight at once, as `broken_pictures` opens them, would take twelve gigabytes."""
    ref = save(tmp_path, "a.png", Image.new("RGB", (10, 10)))
    monkeypatch.setattr(images, "_LARGE", 99 if large else 100)
    held: list[bool] = []
    monkeypatch.setattr(images, "_rgb", lambda image: held.append(images._ALONE.locked()) or image)
    assert open_image(ref, tmp_path).size == (10, 10)
    assert held == [large]
    assert not images._ALONE.locked()


def test_strips_the_image_processor_would_refuse(tmp_path: Path) -> None:
    assert open_image(save(tmp_path, "a.png", Image.new("L", (200, 1))), tmp_path).size == (200, 1)
    with pytest.raises(PictureError, match="201 x 1"):
        open_image(save(tmp_path, "b.png", Image.new("L", (201, 1))), tmp_path)


def test_only_plain_picture_formats_are_read(tmp_path: Path) -> None:
    """Pillow gives EPS files to Ghostscript, which executes them."""
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(PictureError, match="cannot identify"):
        open_image(ImageRef("a.png"), tmp_path)


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    """Return a data folder with pictures and links, some of which lead outside."""
    folder = tmp_path / "data"
    (folder / "deep").mkdir(parents=True)
    for place in (folder, folder / "deep", tmp_path):
        Image.new("RGB", (2, 2), RED).save(place / "a.png")
    (folder / "out.png").symlink_to(tmp_path / "a.png")
    (folder / "up").symlink_to(tmp_path)
    (folder / "in.png").symlink_to(folder / "deep" / "a.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    os.mkfifo(folder / "pipe.png")
    return folder


def test_pictures_inside_the_folder_open(inside: Path) -> None:
    for uri in ("a.png", "deep/a.png", "deep/../a.png", "in.png", str(inside / "a.png")):
        assert open_image(ImageRef(uri), inside).size == (2, 2)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("../a.png", "lies outside"),
        ("out.png", "lies outside"),
        ("up/a.png", "lies outside"),
        ("/etc/hostname", "lies outside"),
        ("missing.png", "is not a file in"),
        ("deep", "is not a file in"),
        ("pipe.png", "is not a file in"),  # opening it would wait for a writer for ever
        ("", "is not a file in"),
        ("a\0.png", "is not a file name"),
        ("a" * 5000, "is not a file name"),
        ("loop.png", "is n"),
        ("https://example.org/a.png", "only files and mini://.*; download it and name the file"),
        ("file:///etc/hostname", "are read; write its path alone"),
        ("data:image/png;base64,AAAA", "only files and mini://"),
        ("mini://dragon?colour=red&x=1&y=1&size=60&bg=0", "object must be one of"),
    ],
)
def test_names_outside_the_data_folder_are_refused(inside: Path, uri: str, reason: str) -> None:
    for ref in (ImageRef(uri), blank(ImageRef(uri))):
        with pytest.raises(PictureError, match=reason) as caught:
            open_image(ref, inside)
        assert isinstance(caught.value, SteerError)
        assert len(str(caught.value)) < 600


def test_picture_files_need_a_folder(inside: Path) -> None:
    with pytest.raises(PictureError, match="no folder was named"):
        open_image(ImageRef(str(inside / "a.png")))


def test_mini_pictures_need_no_folder() -> None:
    assert open_image(MINI).size == (112, 112)
    assert len(open_image(MINI).getcolors() or []) > 2


def test_a_file_named_like_a_blank_picture_is_that_file(tmp_path: Path) -> None:
    """The mark for a blank picture is our own. A row that names such a file must get that file."""
    save(tmp_path, "blank:a.png", Image.new("RGB", (6, 4), RED))
    save(tmp_path, "a.png", Image.new("RGB", (8, 8), WHITE))
    turns = [{"role": "user", "content": "<image>?"}, {"role": "assistant", "content": "Red."}]
    (ref,) = read_sft_row({"messages": turns, "images": ["blank:a.png"]}, "f.jsonl", 1).messages[0].images
    assert open_image(ref, tmp_path).getcolors() == [(24, RED)]
    assert open_image(original(blank(ref)), tmp_path).getcolors() == [(24, RED)]
    assert open_image(blank(ref), tmp_path).getcolors() == [(24, WHITE)]
    assert picture_digest(ref, tmp_path) == picture_digest(blank(ref), tmp_path) != ""


def test_a_blank_picture_keeps_only_the_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    photo = save(tmp_path, "a.jpg", Image.new("RGB", (6, 4), RED), exif=exif)
    for ref, size in ((MINI, (112, 112)), (photo, (4, 6))):
        empty = open_image(blank(ref), tmp_path)
        assert empty.getcolors() == [(size[0] * size[1], WHITE)]
        assert empty.size == size
        assert blank(blank(ref)) == blank(ref)


def test_many_pictures_are_checked_in_parallel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding 100,000 photos one by one took half an hour."""
    refs = [save(tmp_path, "whole.png", Image.new("RGB", (6, 4))), *(ImageRef(f"{number}.png") for number in range(39))]
    both = Barrier(2, timeout=60)

    def open_after_meeting(ref: ImageRef, root: Path | None) -> Image.Image:
        both.wait()
        return open_image(ref, root)

    monkeypatch.setattr(images, "_AT_ONCE", 2)
    monkeypatch.setattr(images, "open_image", open_after_meeting)
    filters = list(warnings.filters)
    broken = broken_pictures(refs, tmp_path)
    assert list(broken) == refs[1:]
    assert str(broken[refs[1]]) == f"picture '0.png': is not a file in {tmp_path} ({PLACE})"
    assert broken[refs[1]].__traceback__ is None  # it would hold on to the picture
    assert warnings.filters == filters


def test_pictures_are_looked_at_without_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process pool's locks need /dev/shm, which some containers lack."""
    monkeypatch.setattr("_multiprocessing.SemLock", None)
    assert broken_pictures([save(tmp_path, "a.png", Image.new("RGB", (3, 2)))], tmp_path) == {}


def test_ctrl_c_leaves_the_rest_of_the_pictures_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is heard: here while the bar is drawn."""
    opened: list[ImageRef] = []

    def slowly(ref: ImageRef, root: Path | None) -> None:
        opened.append(ref)
        time.sleep(0.01)

    def pressed(looked: Iterable[object], *_: object, **__: object) -> Iterator[object]:
        yield next(iter(looked))
        raise KeyboardInterrupt

    monkeypatch.setattr(images, "_AT_ONCE", 1)
    monkeypatch.setattr(images, "open_image", slowly)
    monkeypatch.setattr(images, "track", pressed)
    with pytest.raises(KeyboardInterrupt):
        broken_pictures([ImageRef(str(number)) for number in range(1000)], tmp_path)
    assert len(opened) < 1000
