"""The one rule for a picture: what each kind of file becomes, and what is refused."""

import io
import os
import struct
import warnings
import zlib

from dsonas_mx.data.picture import decode, read_mask, read_picture, stretched, with_channels

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile, features

RED, BLUE = (200, 30, 10), (20, 40, 220)


def scene(mode="RGB"):
    """6×4 pixels: red, and the upper left quarter blue."""
    pixels = np.full((4, 6, 3), RED, np.uint8)
    pixels[:2, :3] = BLUE
    return Image.fromarray(pixels).convert(mode)


def content(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def corners(pixels):
    """Which corners are blue, row by row."""
    return [bool(pixels[y, x, 2] > pixels[y, x, 0]) for y in (0, -1) for x in (0, -1)]


def assert_about(pixels, expected, most=2):
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - np.asarray(expected)).max() <= most


@pytest.mark.parametrize("kind", ["BMP", "PNG", "PPM", "TIFF", "WEBP"])
def test_formats_without_loss(kind):
    if kind == "WEBP" and not features.check("webp"):
        pytest.skip("this Pillow reads no WebP")
    options = {"lossless": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(decode(content(scene(), kind, **options)), np.asarray(scene()))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_plain_jpegs_are_pillows_pixels(options):
    """However they are decoded."""
    noise = np.random.RandomState(0).randint(0, 256, (37, 50, 3)).astype(np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    for image in (Image.fromarray(smooth), Image.fromarray(smooth).convert("L")):
        data = content(image, "JPEG", **options)
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        np.testing.assert_array_equal(decode(data), expected)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(
    "orientation, expected",
    [
        (1, [1, 0, 0, 0]),
        (2, [0, 1, 0, 0]),
        (3, [0, 0, 0, 1]),
        (4, [0, 0, 1, 0]),
        (5, [1, 0, 0, 0]),
        (6, [0, 1, 0, 0]),
        (7, [0, 0, 0, 1]),
        (8, [0, 0, 1, 0]),
        (99, [1, 0, 0, 0]),
    ],
)
def test_exif_turns_a_picture(kind, orientation, expected):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode(content(scene().resize((60, 40), 0), kind, exif=exif))
    assert pixels.shape == ((60, 40, 3) if 5 <= orientation <= 8 else (40, 60, 3))
    assert corners(pixels) == expected


def test_damaged_exif_turns_nothing():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = content(scene(), "JPEG", exif=exif)
    at = data.index(b"Exif\0\0") + 6
    assert decode(data[:at] + b"\xff" * 8 + data[at + 8 :]).shape == (4, 6, 3)


def test_transparent_is_white():
    over = np.asarray(scene("RGBA")).copy()
    over[0, 0, 3] = 0  # blue that nobody sees
    over[0, 1, 3] = 128
    pixels = decode(content(Image.fromarray(over)))
    assert_about(pixels[0, 0], (255, 255, 255), 0)
    assert_about(pixels[0, 1], [(c + 255) / 2 for c in BLUE])
    assert_about(pixels[1, 0], BLUE, 0)
    grey = Image.fromarray(np.array([[[7, 0], [7, 255]]], np.uint8), "LA")
    assert decode(content(grey))[0, :, 0].tolist() == [255, 7]
    palette = scene().convert("P", palette=Image.Palette.ADAPTIVE)
    hidden = palette.getpixel((0, 0))
    assert_about(decode(content(palette, transparency=hidden))[0, 0], (255, 255, 255), 0)
    assert_about(decode(content(scene(), transparency=BLUE))[0, 0], (255, 255, 255), 0)


def test_sixteen_bits_are_the_higher_eight():
    values = np.array([[0, 255, 256, 0x7FFF, 0x8000, 0xFFFF]], np.uint16)
    expected = [0, 0, 1, 0x7F, 0x80, 0xFF]
    for kind in (".png", ".tif"):
        grey = cv2.imencode(kind, values)[1].tobytes()
        assert decode(grey)[0, :, 1].tolist() == expected
        assert decode(grey, 1)[0, :, 0].tolist() == expected
    colour = np.stack([values] * 3 + [np.full_like(values, 0xFFFF)], 2)
    for channels in (3, 4):
        png = cv2.imencode(".png", colour[..., :channels])[1].tobytes()
        assert decode(png)[0, :, 2].tolist() == expected


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_greys_of_few_bits(bits):
    most = 2**bits - 1
    values = (np.arange(16).reshape(2, 8) % (most + 1)).astype(np.uint8)
    image = png_of_greys(values, bits)
    np.testing.assert_array_equal(decode(image, 1)[..., 0], values * (255 // most))


def png_of_greys(values, bits):
    """A PNG of so many bits, which Pillow does not write."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    height, width = values.shape
    bits_of = (values[..., None] >> np.arange(bits)[::-1]) & 1
    rows = np.packbits(bits_of.reshape(height, -1).astype(np.uint8), axis=1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_palette_and_cmyk():
    assert_about(decode(content(scene().convert("P", palette=Image.Palette.ADAPTIVE))), scene(), 0)
    data = content(scene("CMYK").resize((60, 40), 0), "JPEG", quality=100)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decode(data), expected)
    assert corners(decode(data)) == [1, 0, 0, 0]


def test_one_grey_for_files_and_arrays():
    pixels = np.asarray(scene())
    grey = decode(content(scene()), 1)
    np.testing.assert_array_equal(grey, with_channels(pixels, 1))
    assert_about(grey[0, 0, 0], 0.299 * BLUE[0] + 0.587 * BLUE[1] + 0.114 * BLUE[2], 1)
    assert with_channels(grey, 3).shape == (4, 6, 3)


@pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("accepts", [False, True])
def test_truncated_files_are_refused(kind, accepts, monkeypatch):
    """Whatever Pillow was told before; it is told that again afterwards."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", accepts)
    noise = np.random.RandomState(0).randint(0, 256, (80, 80, 3)).astype(np.uint8)
    data = content(Image.fromarray(noise), kind)
    decode(data)
    with pytest.raises(ValueError, match="truncated or corrupt|not an image"):
        decode(data[: len(data) * 2 // 3])
    assert accepts == ImageFile.LOAD_TRUNCATED_IMAGES


def test_a_damaged_png_is_refused_and_not_read_in_part(capfd):
    """Wherever a byte is another one: OpenCV gives the rows above it, and prints."""
    noise = np.random.RandomState(0).randint(0, 256, (80, 80, 3)).astype(np.uint8)
    data = content(Image.fromarray(noise))
    for at in range(40, len(data) - 12, len(data) // 9):
        damaged = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(ValueError, match="truncated or corrupt|not an image"):
            decode(damaged)
    assert capfd.readouterr() == ("", "")


def test_no_warnings_of_pillow(recwarn):
    """Those of damaged files: they are read, or refused in one line."""
    data = content(scene(), "TIFF")
    for at in range(8, len(data)):
        try:
            decode(data[:at] + b"\xff" + data[at + 1 :])
        except ValueError:
            pass
    assert not recwarn.list
    warnings.warn("of another", UserWarning, stacklevel=1)
    assert len(recwarn.list) == 1


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "not an image that can be read"),
        (b"some text", "not an image that can be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not an image"),
        (b"P6 20000 20000 255\n", "of more than 179 megapixels"),
        (content(Image.new("1", (14_000, 14_000))), "of more than 179 megapixels"),
        (content(Image.new("F", (2, 2)), "TIFF"), "of 32 bits, whose range is not known"),
    ],
)
def test_what_is_refused(data, message, tmp_path):
    with pytest.raises(ValueError, match=f"^{message}"):
        decode(data)
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"picture.png: {message}"):
        read_picture(path)


def test_pipes_devices_and_folders_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", "/dev/zero"):
        with pytest.raises(ValueError, match="no regular file, but a pipe or a device"):
            read_picture(path)
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        read_picture(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_picture(tmp_path / "nothing.png")


def test_masks_keep_their_values(tmp_path):
    path = tmp_path / "mask.png"
    values = np.array([[0, 1, 2], [3, 2, 1]], np.uint8)
    palette = Image.fromarray(values)
    palette.putpalette(list(range(30)))
    for data in (
        content(palette),
        content(palette, bits=2),
        content(Image.fromarray(values)),
        content(Image.fromarray(values.astype(np.uint16))),
        png_of_greys(values, 2),
        png_of_greys(values, 4),
    ):
        path.write_bytes(data)
        np.testing.assert_array_equal(read_mask(path), values)
    path.write_bytes(png_of_greys(values % 2, 1))
    np.testing.assert_array_equal(read_mask(path), values % 2)
    for data, message in (
        (content(scene()), "a mask must be a palette or grey PNG, not RGB"),
        (content(scene("L"), "JPEG"), "not an image that can be read"),
        (content(scene("L"))[:-20], "truncated or corrupt"),
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=f"mask.png: {message}"):
            read_mask(path)


def test_stretched():
    pixels = np.asarray(scene())
    assert stretched(pixels, 4, 6) is pixels
    assert stretched(pixels[..., :1], 8, 8).shape == (8, 8, 1)
    half = stretched(pixels, 2, 3)
    assert_about(half[0, 0], BLUE, 1)


def test_imports_leave_the_process_alone(in_child):
    out = in_child(
        "import os; before = dict(os.environ)\n"
        "from PIL import ImageFile\n"
        "import symbols.segmentation as s\n"
        "names = ('QT_QPA_FONTDIR', 'QT_QPA_PLATFORM_PLUGIN_PATH', 'LD_LIBRARY_PATH')\n"
        "assert all(os.environ.get(n) == before.get(n) for n in names)\n"
        "s.ASPP(8, {}, prefix='a')\n"
        "print(ImageFile.LOAD_TRUNCATED_IMAGES)\n"
    )
    assert out == "False\n"
