import contextlib
import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cd_exp import probes
from cd_exp.probes.decoding import DecodeOptions, decode_rgb, read_value_range


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def gradient(mode: str = "RGB") -> Image.Image:
    x, y = np.meshgrid(np.arange(24), np.arange(16))
    return Image.fromarray(np.stack([x * 10, y * 15, 255 - x * 10], axis=-1).astype(np.uint8)).convert(mode)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_kinds_keep_every_pixel(kind):
    read = decode_rgb(encoded(gradient(), kind, **({"lossless": True} if kind == "WEBP" else {})), where="x")
    assert read.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(read), np.asarray(gradient()))


MODES = [("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("P", "GIF")]
MODES += [(mode, "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")]


@pytest.mark.parametrize(("mode", "kind"), MODES)
def test_every_mode_becomes_rgb_as_pillow_converts_it(mode, kind):
    data = encoded(gradient(mode), kind)
    read = decode_rgb(data, where="x")
    assert (read.mode, read.size) == ("RGB", (24, 16))
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(np.asarray(read), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_greys_are_scaled_and_not_cut_off(kind):
    values = np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16)
    read = np.asarray(decode_rgb(encoded(Image.fromarray(values), kind), where="x"))
    np.testing.assert_array_equal(read, np.repeat([[[0], [0], [1], [128], [255]]], 3, axis=-1))


def test_transparency_is_dropped_without_a_warning():
    image = gradient("P")
    image.info["transparency"] = bytes(range(256))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode_rgb(encoded(image, transparency=bytes(range(256))), where="x").mode == "RGB"


def test_a_file_by_its_path(tmp_path):
    path = tmp_path / "büld 寿司.png"
    gradient().save(path)
    assert decode_rgb(path, where=str(path)).size == (24, 16)


def test_no_picture(tmp_path):
    with pytest.raises(OSError, match="here cannot be read as an image: cannot identify image file"):
        decode_rgb(b"not a picture", where="here")
    with pytest.raises(OSError, match=r"nowhere.png cannot be read as an image: .*No such file"):
        decode_rgb(tmp_path / "nowhere.png", where="nowhere.png")


def test_a_truncated_jpeg():
    data = encoded(gradient().resize((400, 300)), "JPEG")
    with pytest.raises(OSError, match="x cannot be read as an image: image file is truncated"):
        decode_rgb(data[: len(data) // 2], where="x")


KINDS = {kind: encoded(gradient(), kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "PPM", "WEBP")}


@given(kind=st.sampled_from(sorted(KINDS)), positions=st.lists(st.floats(0, 0.999), min_size=1, max_size=8),
       byte=st.integers(0, 255), kept=st.floats(0.05, 1))  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_whatever_is_wrong_with_a_file_is_an_oserror(kind, positions, byte, kept):
    data = bytearray(KINDS[kind][: max(1, int(kept * len(KINDS[kind])))])
    for position in positions:
        data[int(position * len(data))] = byte
    with contextlib.suppress(OSError):
        assert decode_rgb(bytes(data), where="x").mode == "RGB"


def damaged(kind: str, **bytes_at: int) -> bytes:
    data = bytearray(encoded(gradient(), kind))
    for offset, byte in bytes_at.items():
        data[int(offset.removeprefix("at"))] = byte
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "raised"),
    [
        (lambda: damaged("PNG", at36=0), SyntaxError),
        (lambda: damaged("PNG", at11=0), ValueError),
        (lambda: b"P6 24 16 25x\n" + bytes(24 * 16 * 3), ValueError),
        (lambda: huge(), Image.DecompressionBombError),
        (lambda: damaged("AVIF", at82=175), RuntimeError),
    ],
)
def test_what_pillow_raises_on_damage_is_always_an_oserror(data, raised):
    with pytest.raises(raised), warnings.catch_warnings(), Image.open(io.BytesIO(data())) as image:
        image.convert("RGB")
    with pytest.raises(OSError, match="x cannot be read as an image"):
        decode_rgb(data(), where="x")


def huge() -> bytes:
    """A picture that says it has 100,000 x 100,000 pixels."""
    png = bytearray(encoded(gradient()))
    png[16:24] = struct.pack(">II", 100_000, 100_000)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    return bytes(png)


def test_a_range_maps_twelve_bits_and_floating_point():
    twelve = encoded(Image.fromarray(np.array([[0, 2048, 4095]], dtype=np.uint16)))
    assert np.asarray(decode_rgb(twelve, where="x"))[0, :, 0].tolist() == [0, 8, 15]  # nearly black
    mapped = decode_rgb(twelve, where="x", reading=DecodeOptions(range=(0.0, 4095.0)))
    assert (np.asarray(mapped)[0, :, 1].tolist(), mapped.mode) == ([0, 128, 255], "RGB")
    floats = encoded(Image.fromarray(np.array([[-1, 0, 0.5, 1, np.nan]], dtype=np.float32)), "TIFF")
    mapped = decode_rgb(floats, where="x", reading=DecodeOptions(range=(0.0, 1.0)))
    assert np.asarray(mapped)[0, :, 2].tolist() == [0, 0, 128, 255, 0]
    eight = np.asarray(decode_rgb(encoded(gradient()), where="x", reading=DecodeOptions(range=(0.0, 255.0))))
    np.testing.assert_array_equal(eight, np.asarray(gradient()))
    seen = read_value_range(twelve, where="x")
    assert (seen.wide, seen.low, seen.high) == (True, 0, 4095)
    assert not read_value_range(encoded(gradient("P")), where="x").wide


def test_orientation_tags_are_followed_only_when_asked():
    tag = Image.Exif()
    tag[0x0112] = 6
    data = encoded(gradient(), "JPEG", exif=tag)
    assert decode_rgb(data, where="x").size == (24, 16)
    assert decode_rgb(data, where="x", reading=DecodeOptions(orient="exif")).size == (16, 24)


def folder(tmp_path, make):
    for number in range(20):
        make(number).save(tmp_path / f"{number:02d}.png")
    return {"root": str(tmp_path)}


def test_settings_reach_the_pictures_and_the_fingerprint(tmp_path):
    where = folder(tmp_path, lambda n: Image.fromarray(np.full((4, 4), 200 * n, np.uint16)))
    plain, mapped, turned = (
        probes.with_common_settings(probes.folder, {**where, **more})
        for more in ({}, {"range": [0, 4095]}, {"orient": "exif"})
    )
    assert len({probe.fingerprint for probe in (plain, mapped, turned)}) == 3
    assert (plain[19].getpixel((0, 0))[0], mapped[19].getpixel((0, 0))[0]) == (14, 237)
    joined = probes.with_common_settings(
        probes.concat, {"probes": [probes.subset(plain, limit=2), probes.shapes(size=1)], "range": [0, 4095]}
    )
    assert joined[1].getpixel((0, 0))[0] == 12


def test_a_probe_that_is_nearly_black_or_wide_is_noted(tmp_path):
    gradient12 = np.arange(16, dtype=np.uint16).reshape(4, 4) * 273
    wide = folder(tmp_path, lambda n: Image.fromarray(gradient12))
    assert probes.note_pixels(probes.folder(**wide)) == (
        "probe folder: 16 of 16 sampled images hold more than 8 bits a value, from 0 to 4095, read as if from 0 to "
        "65535; probe.range=[0,4095] maps these",
        "probe folder: 16 of 16 sampled images are nearly black or of one grey, as the networks see them "
        "(up to 15 of 255); probe.range=[LOW,HIGH] sets what becomes black and white",
    )
    assert probes.note_pixels(probes.with_common_settings(probes.folder, {**wide, "range": [0, 4095]})) == ()
    for make, count in ((lambda n: gradient(), 0), (lambda n: Image.new("L", (4, 4), 200), 1),
                        (lambda n: Image.new("RGB", (4, 4)) if n % 2 else gradient(), 0)):  # fmt: skip
        assert len(probes.note_pixels(probes.subset(probes.folder(**folder(tmp_path, make)), limit=19))) == count
    assert probes.note_pixels(probes.concat(probes=[probes.shapes(size=4)])) == ()
    (tmp_path / "00.png").write_bytes(b"")  # reported elsewhere
    assert probes.note_pixels(probes.folder(**wide)) == ()
