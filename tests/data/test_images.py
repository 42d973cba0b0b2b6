"""Reading every kind of image."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from occ_lab.data.files import image_suffixes
from occ_lab.data.headers import header, image_size
from occ_lab.data.images import read_image, read_pixels
from occ_lab.data.mask_reading import read_mask
from occ_lab.utils.errors import ImageError
from tests.data.trees import noise, save


@pytest.mark.parametrize("content", [b"", b"no image", b"II*\0", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_bytes_that_are_no_image_are_refused(content: bytes) -> None:
    with pytest.raises(ImageError, match=r"^image: unreadable \("):
        read_pixels(content)


def test_grey_is_repeated(tmp_path: Path) -> None:
    grey = noise(0)[..., 0]
    read = read_image(save(tmp_path / "grey.png", grey))
    assert np.array_equal(read, np.stack([grey] * 3, axis=-1))


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    deep = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    for name in ("deep.png", "deep.tif"):
        read = read_image(save(tmp_path / name, deep))
        assert read.dtype == np.uint8
        assert np.abs(read[..., 0] - deep / 257.0).max() <= 0.5


def test_alpha_is_dropped(tmp_path: Path) -> None:
    colour = noise(0)
    alpha = np.full((64, 64, 1), 10, np.uint8)
    assert np.array_equal(
        read_image(save(tmp_path / "a.png", np.concatenate([colour, alpha], -1))), colour
    )


@pytest.mark.filterwarnings("error")
def test_palette_becomes_its_colours(tmp_path: Path) -> None:
    palette = Image.fromarray(noise(0)).quantize(16)
    palette.save(tmp_path / "p.png", transparency=3)
    assert np.array_equal(read_image(tmp_path / "p.png"), np.asarray(palette.convert("RGB")))


RAMP = np.tile(np.arange(256, dtype=np.uint32), (64, 1))  # all levels of 8 bits


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("colour", [False, True])
def test_all_levels_of_deep_images_are_kept(
    tmp_path: Path, bits: int, suffix: str, colour: bool
) -> None:
    values = (RAMP << (bits - 8)).astype(np.uint16)
    path = tmp_path / f"deep.{suffix}"
    if colour:
        assert cv2.imwrite(str(path), np.stack([values // 2, values // 4, values], -1))  # BGR
    else:
        save(path, values)
    stored = read_pixels(path)
    assert stored.dtype == np.uint16
    assert np.array_equal(stored[..., 0] if colour else stored, values)
    read = read_image(path)  # by its own bits
    assert len(np.unique(read[..., 0])) >= 255  # 4080 of 4095 is 254
    assert read[..., 0].max() >= 254
    if colour:
        assert np.abs(read[..., 1] - read[..., 0] / 4).max() <= 1
        assert np.abs(read[..., 2] - read[..., 0] / 2).max() <= 1
    full = read_image(path, (0, 65535))
    assert np.abs(full[..., 0] - values / 257).max() <= 0.5


def test_numbers_of_32_and_64_bits(tmp_path: Path) -> None:
    for kind, scale in (
        ("uint32", 16843009),
        ("int32", 1),
        ("int16", 1),
        ("float16", 0.01),
        ("float32", 1e-3),
        ("float64", 3.7),
    ):
        path = tmp_path / f"{kind}.tif"
        tifffile.imwrite(path, (RAMP * scale).astype(kind))
        assert len(np.unique(read_image(path))) == 256, kind
        assert np.array_equal(read_pixels(path.read_bytes()), read_pixels(path)), kind
    colours = np.stack([RAMP, RAMP / 2, RAMP / 4], -1).astype(np.float32)
    tifffile.imwrite(tmp_path / "colours.tif", colours, photometric="rgb")
    read = read_image(tmp_path / "colours.tif", (0, 255))
    assert np.abs(read - colours).max() <= 0.5


def test_rarer_ways_to_store_numbers(tmp_path: Path) -> None:
    deep = (RAMP << 4).astype(np.uint16)
    tifffile.imwrite(tmp_path / "big_endian.tif", deep, byteorder=">")
    tifffile.imwrite(
        tmp_path / "five_channels.tif", np.stack([deep] * 5, -1), planarconfig="contig"
    )
    assert cv2.imwrite(str(tmp_path / "grey.jp2"), deep)
    assert cv2.imwrite(str(tmp_path / "colour.jp2"), np.stack([deep] * 3, -1))
    assert cv2.imwrite(str(tmp_path / "float.pfm"), deep.astype(np.float32))
    content = b"P5\n256 64\n4095\n" + deep.astype(">u2").tobytes()
    (tmp_path / "camera.pgm").write_bytes(content)
    tifffile.imwrite(tmp_path / "signed.tif", (RAMP.astype(int) - 128).astype(np.int8))
    for path in sorted(tmp_path.iterdir()):
        assert header(path).deep, path
        assert len(np.unique(read_image(path))) >= 255, path
        assert np.array_equal(read_pixels(path.read_bytes()), read_pixels(path)), path
        assert (np.diff(read_image(path)[0, :, 0].astype(int)) >= 0).all(), path
    bytes_ = np.stack([RAMP.astype(np.uint8)] * 5, -1)
    tifffile.imwrite(tmp_path / "five_bytes.tif", bytes_, planarconfig="contig")
    assert np.array_equal(read_pixels(tmp_path / "five_bytes.tif"), bytes_[..., :3])
    assert not header(tmp_path / "five_bytes.tif").deep


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    values = RAMP.astype(np.float32)
    values[3, 4] = np.nan
    with pytest.raises(ImageError, match="f.tif: some values are not finite"):
        read_image(save(tmp_path / "f.tif", values), (0, 255))


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "deep.png", "deep.tif"])
def test_images_and_masks_are_read_as_shown(tmp_path: Path, suffix: str, turn: int) -> None:
    """The corner that is bright as stored is found where a viewer shows it."""
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:16, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = turn
    shown = ImageOps.exif_transpose(with_exif(Image.fromarray(pixels), exif))
    path = tmp_path / f"image.{suffix}"
    if suffix == "deep.png":
        content = cv2.imencode(".png", pixels.astype(np.uint16) * 257)[1].tobytes()
        path.write_bytes(with_chunk(content, b"eXIf", exif.tobytes()[6:]))
    elif suffix == "deep.tif":
        deep = pixels.astype(np.uint16) * 257
        tifffile.imwrite(path, deep, photometric="rgb", extratags=[(274, "H", 1, turn, True)])
    elif suffix == "tif":
        Image.fromarray(pixels).save(path, tiffinfo={274: turn})
    else:
        Image.fromarray(pixels).save(path, exif=exif)
    wanted = np.asarray(shown)[..., 0] > 127
    assert np.array_equal(read_image(path)[..., 0] > 127, wanted)
    assert (read_mask(path) == wanted).mean() > 0.98  # a lossy file smears the edge
    assert image_size(path) == wanted.shape


def with_exif(image: Image.Image, exif: Image.Exif) -> Image.Image:
    image.info["exif"] = exif.tobytes()
    return image


def with_chunk(png: bytes, name: bytes, content: bytes) -> bytes:
    """A PNG with a further chunk at its end."""
    body = name + content
    chunk = struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))
    return png[:-12] + chunk + png[-12:]


def test_heic_is_read(tmp_path: Path) -> None:
    assert ".heic" in image_suffixes()
    Image.fromarray(noise(0)[:, :48]).save(tmp_path / "photo.heic", quality=95)
    read = read_image(tmp_path / "photo.heic")
    assert image_size(tmp_path / "photo.heic") == (64, 48)
    assert np.abs(read.astype(int) - noise(0)[:, :48]).mean() < 4
    (tmp_path / "empty.heic").touch()
    with pytest.raises(ImageError, match="empty.heic: unreadable"):
        read_image(tmp_path / "empty.heic")


def test_orientation_that_comes_after_the_pixels_is_followed(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "late.png", noise(0)[:, :32])
    path.write_bytes(with_chunk(path.read_bytes(), b"eXIf", exif.tobytes()[6:]))
    assert image_size(path) == read_image(path).shape[:2] == (32, 64)


def test_of_several_pages_or_frames_the_first_is_read(tmp_path: Path) -> None:
    pages = [Image.fromarray(noise(seed)) for seed in range(3)]
    for suffix in ("tif", "png"):
        path = tmp_path / f"pages.{suffix}"
        pages[0].save(path, save_all=True, append_images=pages[1:])
        assert np.array_equal(read_image(path), noise(0))
        assert header(path).pages == 3
    grey = [page.convert("L") for page in pages]
    grey[0].save(tmp_path / "film.gif", save_all=True, append_images=grey[1:])
    assert np.array_equal(read_image(tmp_path / "film.gif")[..., 0], np.asarray(grey[0]))
    assert header(tmp_path / "film.gif").pages == 3
    assert header(save(tmp_path / "one.png", noise(0))).pages == 1


def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = tmp_path / "huge.png"
    Image.new("1", (400, 300)).save(huge)
    raw = zlib.compress(bytes(64 * 193))
    damaged = png(64, raw[:6] + b"\xff\xff\xff" + raw[9:])  # its checksums are sound
    (tmp_path / "damaged.png").write_bytes(damaged)
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "text.tif").write_text("no image")
    (tmp_path / "empty.bmp").touch()
    save(tmp_path / "cut.tif", noise(0))
    (tmp_path / "cut.tif").write_bytes((tmp_path / "cut.tif").read_bytes()[:5000])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50_000)
    unread = ("huge.png", "damaged.png", "text.png", "text.tif", "empty.bmp", "cut.tif", "none.png")
    for name in unread:
        for read in (read_image, read_mask):
            with pytest.raises(ImageError, match=rf"^{tmp_path / name}: unreadable \("):
                read(tmp_path / name)


def png(side: int, data: bytes) -> bytes:
    """An RGB image whose pixels are ``data``, with sound checksums."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    plain = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0IEND\xaeB`\x82"
    return with_chunk(with_chunk(plain, b"IHDR", header), b"IDAT", data)
