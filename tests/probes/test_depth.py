"""What a file's numbers are, whatever Pillow makes of them: every layout is written by hand and read back exactly."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cd_exp import probes
from cd_exp.probes.decoding import DecodeOptions, decode_rgb, read_value_range

TWELVE = (0.0, 4095.0)


def png(numbers: np.ndarray) -> bytes:
    """A PNG of 16 bits; every row is stored with the next of the five filters."""
    bands = 1 if numbers.ndim == 2 else numbers.shape[2]
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[bands]
    height, width = numbers.shape[:2]
    rows = np.frombuffer(numbers.astype(">u2").tobytes(), np.uint8).reshape(height, -1).astype(int)
    step, above, out = 2 * bands, np.zeros(rows.shape[1], int), b""
    for y, row in enumerate(rows):
        left, corner = (np.concatenate([np.zeros(step, int), line[:-step]]) for line in (row, above))
        guess = left + above - corner
        distances = np.abs([guess - left, guess - above, guess - corner])
        paeth = np.array([left, above, corner])[distances.argmin(axis=0), np.arange(len(row))]
        predicted = [0, left, above, (left + above) // 2, paeth][y % 5]
        out += bytes([y % 5]) + ((row - predicted) % 256).astype(np.uint8).tobytes()
        above = row
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))]
    chunks += [(b"IDAT", zlib.compress(out)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def tiff(
    numbers: np.ndarray,
    *,
    order: str = "<",
    deflate: bool = False,
    planar: bool = False,
    extra: int = 0,
    bits: int = 16,
) -> bytes:
    """A TIFF of one strip, or one for each plane."""
    bands = 1 if numbers.ndim == 2 else numbers.shape[2]
    planes = [numbers[..., band] for band in range(bands)] if planar else [numbers]
    width, kind = bits // 8, f"{order}u{max(1, bits // 8)}"
    strips = [plane.astype(kind).tobytes() for plane in planes]
    strips = [zlib.compress(strip) for strip in strips] if deflate else strips
    assert width or bits < 8
    tags = [(256, 4, [numbers.shape[1]]), (257, 4, [numbers.shape[0]]), (258, 3, [bits] * bands)]
    tags += [(259, 3, [8 if deflate else 1]), (262, 3, [2 if bands > 2 else 1]), (273, 4, [0] * len(strips))]
    tags += [(277, 3, [bands]), (278, 4, [numbers.shape[0]]), (279, 4, [len(strip) for strip in strips])]
    tags += [(284, 3, [2 if planar else 1])] + ([(338, 3, [0] * extra)] if extra else [])
    start = 8 + 2 + 12 * len(tags) + 4
    room, entries = b"", b""
    offset = start + sum(len(v) * (2 if t == 3 else 4) for _, t, v in tags if len(v) * (2 if t == 3 else 4) > 4)
    offsets = [offset + sum(map(len, strips[:n])) for n in range(len(strips))]
    for tag, form, given_values in tags:
        listed = offsets if tag == 273 else given_values
        data = struct.pack(order + ("H" if form == 3 else "I") * len(listed), *listed)
        if len(data) > 4:
            cell, room = struct.pack(order + "I", start + len(room)), room + data
        else:
            cell = data.ljust(4, b"\0")
        entries += struct.pack(order + "HHI", tag, form, len(listed)) + cell
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    return head + struct.pack(order + "H", len(tags)) + entries + struct.pack(order + "I", 0) + room + b"".join(strips)


def ppm(numbers: np.ndarray, full: int, *, plain: bool = False) -> bytes:
    """PGM or PPM."""
    colour = numbers.ndim == 3
    kind = {(0, 0): "P5", (1, 0): "P6", (0, 1): "P2", (1, 1): "P3"}[colour, plain]
    head = f"{kind}\n# made by hand\n{numbers.shape[1]} {numbers.shape[0]}\n{full}\n".encode()
    wide = ">u2" if full > 255 else "u1"
    return head + (" ".join(map(str, numbers.ravel())).encode() if plain else numbers.astype(wide).tobytes())


def jpeg2000(numbers: np.ndarray) -> bytes:
    """Lossless, of 16 bits."""
    stream = io.BytesIO()
    Image.fromarray(numbers.astype(np.uint16)).save(stream, "JPEG2000", irreversible=False)
    return stream.getvalue()


GREY = {
    "png": png,
    "tiff": tiff,
    "big-endian tiff": lambda numbers: tiff(numbers, order=">"),
    "deflated tiff": lambda numbers: tiff(numbers, deflate=True),
    "pgm": lambda numbers: ppm(numbers, 65535),
    "pgm of 12 bits": lambda numbers: ppm(numbers, 4095),
    "plain pgm of 12 bits": lambda numbers: ppm(numbers, 4095, plain=True),
    "jpeg 2000": jpeg2000,
}
COLOUR = {
    "png": png,
    "png with transparency": lambda numbers: png(np.dstack([numbers, np.full(numbers.shape[:2], 65535)])),
    "tiff": tiff,
    "big-endian tiff": lambda numbers: tiff(numbers, order=">"),
    "deflated tiff": lambda numbers: tiff(numbers, deflate=True),
    "deflated big-endian tiff": lambda numbers: tiff(numbers, order=">", deflate=True),
    "tiff with a fourth band": lambda numbers: tiff(np.dstack([numbers, numbers[..., 0]]), extra=1),
    "ppm": lambda numbers: ppm(numbers, 65535),
    "ppm of 12 bits": lambda numbers: ppm(numbers, 4095),
    "plain ppm of 12 bits": lambda numbers: ppm(numbers, 4095, plain=True),
}


def expected(numbers: np.ndarray, low: float, high: float) -> np.ndarray:
    """The range, on the numbers that were written."""
    mapped = np.rint(np.clip((numbers - low) / (high - low) * 255, 0, 255)).astype(np.uint8)
    return mapped if numbers.ndim == 3 else np.repeat(mapped[..., None], 3, axis=-1)


@pytest.mark.parametrize(("kind", "bands"), [(k, ()) for k in GREY] + [(k, (3,)) for k in COLOUR])
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_a_range_is_of_the_numbers_that_were_written(kind, bands, data):
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    seed, low, high = data.draw(st.integers(0, 999)), data.draw(st.integers(-9, 900)), data.draw(st.integers(901, 4095))
    numbers = np.random.default_rng(seed).integers(0, 4096, (height, width, *bands))
    if kind == "jpeg 2000":
        numbers = np.kron(numbers, np.ones((32, 32), int))  # the encoder takes no picture smaller than its blocks
    encoded = (COLOUR if bands else GREY)[kind](numbers)
    read = decode_rgb(encoded, where="x", reading=DecodeOptions(range=(float(low), float(high))))
    np.testing.assert_array_equal(np.asarray(read), expected(numbers, low, high))
    seen = read_value_range(encoded, where="x")
    assert (seen.low, seen.high) == (numbers.min(), numbers.max())
    assert seen.full == (4095 if "12 bits" in kind else 65535)


def test_pictures_of_eight_bits_beside_others_are_read_as_they_are():
    numbers = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5
    stream = io.BytesIO()
    Image.fromarray(numbers).save(stream, "PNG")
    reading = DecodeOptions(range=TWELVE)
    for encoded in (stream.getvalue(), tiff(numbers, bits=8), ppm(numbers, 255)):
        np.testing.assert_array_equal(np.asarray(decode_rgb(encoded, where="x", reading=reading)), numbers)
    for mode in ("1", "L", "P", "LA", "RGBA"):
        stream = io.BytesIO()
        Image.fromarray(numbers).convert(mode).save(stream, "PNG")
        plain, ranged = (
            np.asarray(decode_rgb(stream.getvalue(), where="x", reading=r)) for r in (DecodeOptions(), reading)
        )
        np.testing.assert_array_equal(plain, ranged)
    stretched = decode_rgb(tiff(numbers, bits=8), where="x", reading=DecodeOptions(range=(0.0, 51.0)))
    np.testing.assert_array_equal(np.asarray(stretched), expected(numbers, 0, 51))


def test_a_tiff_of_twelve_bits_reaches_its_own_white():
    packed = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in [(0, 4095), (2048, 1)])
    data = bytearray(tiff(np.zeros((2, 2), int)))
    struct.pack_into("<H", data, data.index(struct.pack("<HHI", 258, 3, 1)) + 8, 12)
    encoded = bytes(data[:-8]) + packed
    read = np.asarray(decode_rgb(encoded, where="x", reading=DecodeOptions(range=TWELVE)))[..., 0]
    assert read.tolist() == [[0, 255], [128, 0]]
    seen = read_value_range(encoded, where="x")
    assert (seen.high, seen.full, seen.white) == (4095, 4095, 65535)


@pytest.mark.parametrize("sign", [False, True])
def test_thirty_two_bits_keep_their_sign(sign):
    numbers = np.array([[0, 2**31 - 1, 3_000_000_000]], np.int64) - (2**31 if sign else 0)
    encoded = bytearray(tiff(numbers % 2**32, bits=32))
    if sign:  # an unused tag becomes the sample format
        offset = encoded.index(struct.pack("<HHI", 284, 3, 1))
        encoded[offset : offset + 12] = struct.pack("<HHIHH", 339, 3, 1, 2, 0)
    seen = read_value_range(bytes(encoded), where="x")
    assert (seen.low, seen.high, seen.full) == (numbers.min(), numbers.max(), 2.0 ** (31 if sign else 32) - 1)


def test_what_pillow_has_cut_is_refused_under_a_range_and_the_remedy_works(tmp_path):
    numbers = np.random.default_rng(0).integers(0, 4096, (4, 4, 3))
    planes = tiff(numbers, planar=True, deflate=True)
    with pytest.raises(OSError, match="it holds 16 bits a value, of which only 8 can be read") as refused:
        decode_rgb(planes, where="x", reading=DecodeOptions(range=TWELVE))
    assert "save it as PNG or TIFF of 16 bits" in str(refused.value)
    np.testing.assert_array_equal(np.asarray(decode_rgb(planes, where="x")), (numbers >> 8).astype(np.uint8))
    assert read_value_range(planes, where="x").full == 65535
    for saved in (png(numbers), tiff(numbers)):
        read = decode_rgb(saved, where="x", reading=DecodeOptions(range=TWELVE))
        np.testing.assert_array_equal(np.asarray(read), expected(numbers, *TWELVE))


def test_planes_of_sixteen_bits_that_pillow_reads_wrongly_are_refused():
    numbers = np.random.default_rng(0).integers(0, 65536, (4, 6, 3))
    with pytest.raises(OSError, match="16 bits a value in separate planes; save it with interleaved colours"):
        decode_rgb(tiff(numbers, planar=True), where="x")
    np.testing.assert_array_equal(np.asarray(decode_rgb(tiff(numbers), where="x")), (numbers >> 8).astype(np.uint8))
    np.testing.assert_array_equal(
        np.asarray(decode_rgb(tiff(numbers >> 8, planar=True, bits=8), where="x")), numbers >> 8
    )


def deep_header(kind: str) -> bytes:
    """A picture of 8 bits whose header says 12."""
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), (9, 90, 200)).save(stream, kind)
    data = bytearray(stream.getvalue())
    if kind == "JPEG2000":
        data[data.index(b"\xff\x4f\xff\x51") + 42] = 11
    else:
        offset = data.index(b"pixi") + 9
        data[offset : offset + 3] = b"\x0c\x0c\x0c"
    return bytes(data)


@pytest.mark.parametrize("kind", ["JPEG2000", "AVIF"])
def test_the_depth_of_colour_stands_in_the_header(kind):
    with pytest.raises(OSError, match=r"it holds 12 bits a value|cannot be read as an image"):
        decode_rgb(deep_header(kind), where="x", reading=DecodeOptions(range=TWELVE))
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), (9, 90, 200)).save(stream, kind)
    assert read_value_range(stream.getvalue(), where="x").full == 255


def test_an_orientation_is_followed_under_a_range_too():
    tag = Image.Exif()
    tag[0x0112] = 6
    stream = io.BytesIO()
    x, y = np.meshgrid(np.arange(24), np.arange(16))
    Image.fromarray((x * 10 + y).astype(np.uint8)).save(stream, "PNG", exif=tag)
    for limits in ((0.0, 255.0), TWELVE):
        plain = decode_rgb(stream.getvalue(), where="x", reading=DecodeOptions(orient="exif"))
        both = decode_rgb(stream.getvalue(), where="x", reading=DecodeOptions(range=limits, orient="exif"))
        np.testing.assert_array_equal(np.asarray(both), np.asarray(plain))


def write_all(folder, make, names) -> probes.folder:
    for name in names:
        (folder / name).write_bytes(make(len(name)))
    return probes.folder(root=str(folder))


def test_sixteen_bit_colour_is_noted_and_the_range_of_the_note_maps_it(tmp_path):
    numbers = np.random.default_rng(0).integers(0, 4096, (8, 8, 3))
    numbers[0, 0], numbers[0, 1] = 0, 4095
    probe = write_all(tmp_path, lambda _: png(numbers), ["a.png", "b.png"])
    note, dark = probes.note_pixels(probe)
    assert "2 of 2 sampled images hold more than 8 bits a value, from 0 to 4095, read as if from 0 to 65535" in note
    assert "nearly black" in dark
    limits = [float(number) for number in re.search(r"probe\.range=\[(\S+)\] maps", note)[1].split(",")]
    mapped = probes.with_common_settings(probes.folder, {"root": str(tmp_path), "range": limits})
    assert probes.note_pixels(mapped) == ()
    np.testing.assert_array_equal(np.asarray(mapped[0]), expected(numbers, *TWELVE))


def test_eight_bits_under_a_wider_range_are_noted(tmp_path):
    (tmp_path / "a.png").write_bytes(png(np.arange(48).reshape(4, 4, 3) * 80))
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5).save(tmp_path / "b.png")
    (note,) = probes.note_pixels(
        probes.with_common_settings(probes.folder, {"root": str(tmp_path), "range": [0, 4095]})
    )
    assert "1 of 2 sampled images hold no values above 255: probe.range is not applied to them" in note


def test_frames_bands_and_transparency_that_are_not_read_are_noted(tmp_path):
    bright = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    bright.save(tmp_path / "a.tif", save_all=True, append_images=[bright] * 4)
    bright.save(tmp_path / "b.gif", save_all=True, append_images=[bright.rotate(90)])
    (tmp_path / "c.tif").write_bytes(tiff(np.arange(320).reshape(8, 8, 5) % 256, bits=8, extra=2))
    bright.putalpha(100)
    bright.save(tmp_path / "d.png")
    frames, bands, transparent = probes.note_pixels(probes.folder(root=str(tmp_path)))
    assert "2 of 4 sampled images hold several frames (up to 5), of which the first is read" in frames
    assert "1 of 4 sampled images hold more bands than are read (3 of 5), the first ones" in bands
    assert "1 of 4 sampled images have transparent pixels" in transparent
