"""The one rule by which a picture becomes pixels: in training, test, calibration and prediction.

- It is one of `FORMATS`, a regular file, whole, and of at most `MOST_PIXELS`. Of several pictures
  in a file it is the first.
- It is turned as its EXIF orientation says.
- What is transparent is over white.
- 16 bits become the higher 8 of them; grey of 1, 2 and 4 bits becomes 0 to 255; palettes, CMYK and
  other colours become RGB as Pillow does it.
- Colour becomes grey by the weights of ITU-R 601.

The values of a mask are numbers of classes instead: they stay what they are.
"""

import io
import struct
import threading
import warnings
from typing import Any, Optional
from zlib import crc32

import cv2
import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from ..io.files import PathLike, in_file, read_regular

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # no PostScript, which is a program
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")  # of images in a folder
MOST_PIXELS = 178_956_970  # as Pillow has it: some 180 megapixels
MOST_BYTES = 1 << 30

_ORIENTATION = 0x0112  # in EXIF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PNG = b"\x89PNG\r\n\x1a\n"
_NO_IMAGE = "not an image that can be read"


def read_picture(path: PathLike, channels: int = 3) -> np.ndarray:
    """The picture in a file, uint8 H×W×channels: RGB, or grey.

    Raises
    ------
    ValueError
        It is no picture by the rule of this module; the message names the file.
    OSError
        The file cannot be opened.
    """
    content = read_regular(path, MOST_BYTES)
    with in_file(path):
        return decode(content, channels)


def decode(content: bytes, channels: int = 3) -> np.ndarray:
    """The picture in the content of a file, uint8 H×W×channels.

    Raises
    ------
    ValueError
        It is no picture by the rule of this module; the message is what it is instead.
    """
    pixels = None
    if _is_plain(content):  # OpenCV gives the same pixels as Pillow, in half of the time
        try:
            pixels = cv2.imdecode(
                np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
            )
        except cv2.error:
            pass  # Pillow says what is wrong
    if pixels is None:
        return with_channels(np.asarray(_open(content, _as_colour)), channels)
    return with_channels(pixels[..., ::-1], channels)


def read_mask(path: PathLike) -> np.ndarray:
    """The mask in a PNG of a palette or of greys, H×W: the values that are stored, as integers.

    Raises
    ------
    ValueError
        It is no such mask; the message names the file.
    OSError
        The file cannot be opened.
    """
    content = read_regular(path, MOST_BYTES)
    with in_file(path):
        return _open(content, _as_classes, ("PNG",))


def with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Pixels, uint8 H×W×3 or H×W×1, as H×W×channels."""
    if pixels.shape[2] == channels:
        return pixels
    method = cv2.COLOR_RGB2GRAY if channels == 1 else cv2.COLOR_GRAY2RGB
    return cv2.cvtColor(np.ascontiguousarray(pixels), method).reshape(*pixels.shape[:2], -1)


def stretched(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixels, uint8 H×W×C, scaled to a size."""
    if pixels.shape[:2] == (height, width):
        return pixels
    method = cv2.INTER_AREA if pixels.shape[0] > height else cv2.INTER_LINEAR
    scaled = cv2.resize(np.ascontiguousarray(pixels), (width, height), interpolation=method)
    return scaled.reshape(height, width, -1)


# What is plain: no orientation, no alpha, 8 bits, and an end


def _is_plain(content: bytes) -> bool:
    if content[:2] == b"\xff\xd8":
        return _is_plain_jpeg(content)
    if content[:8] != _PNG or content[12:16] != b"IHDR" or len(content) < 33:
        return False
    width, height, depth, colour = struct.unpack_from(">IIBB", content, 16)
    if depth != 8 or colour not in (0, 2) or width * height > MOST_PIXELS:
        return False
    return _is_whole(memoryview(content))


def _is_whole(content: memoryview) -> bool:
    """Whether a PNG has all its chunks, undamaged, and none that changes what is seen.

    Of a damaged one OpenCV gives the part that it could read.
    """
    at, kind = len(_PNG), b""
    while at + 12 <= len(content) and kind != b"IEND":
        kind = bytes(content[at + 4 : at + 8])
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        checksum = int.from_bytes(content[end - 4 : end], "big")
        if kind in (b"tRNS", b"eXIf", b"acTL") or checksum != crc32(content[at + 4 : end - 4]):
            return False
        at = end
    return kind == b"IEND" and at <= len(content)


def _is_plain_jpeg(content: bytes) -> bool:
    """Whether one with 1 or 3 components, without EXIF and Adobe's own, that is whole."""
    at, is_plain = 2, False
    while at + 10 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xDA:  # decoders fill what is missing behind it with grey
            return is_plain and content.rfind(b"\xff\xd9") > content.rfind(b"\xff\xda")
        if marker in (0xC0, 0xC1, 0xC2):
            depth, height, width, components = struct.unpack_from(">BHHB", content, at + 4)
            is_plain = depth == 8 and components in (1, 3) and height * width <= MOST_PIXELS
        if marker == 0xEE or (marker == 0xE1 and content[at + 4 : at + 8] == b"Exif"):
            return False
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return False


# Everything else


class _Whole:
    """While it is entered, by any thread, Pillow refuses truncated files, whatever was asked of it
    elsewhere in the process, and prints no warnings about others: they are read, or refused.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entered = 0
        self._before = False
        self._silence: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._entered:
                self._before = ImageFile.LOAD_TRUNCATED_IMAGES
                ImageFile.LOAD_TRUNCATED_IMAGES = False
                self._silence = warnings.catch_warnings()
                self._silence.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\b")
            self._entered += 1

    def __exit__(self, *error: Any) -> None:
        with self._lock:
            self._entered -= 1
            if not self._entered:
                ImageFile.LOAD_TRUNCATED_IMAGES = self._before
                self._silence.__exit__(None, None, None)


_whole = _Whole()


def _open(content: bytes, convert: Any, formats: Any = FORMATS) -> Any:
    """What `convert` makes of the image in a content, turned as EXIF says."""
    with _whole:
        try:
            with Image.open(io.BytesIO(content), formats=formats) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise Image.DecompressionBombError
                image.load()
                return convert(image, content)
        except Image.DecompressionBombError:
            raise ValueError(f"of more than {MOST_PIXELS / 1e6:.0f} megapixels") from None
        except UnidentifiedImageError:
            raise ValueError(_NO_IMAGE) from None
        except _Refused as error:
            raise ValueError(str(error)) from None
        except Exception as error:  # damage ends in almost any exception of Pillow's readers
            reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
            raise ValueError(f"truncated or corrupt ({reason[0]})") from None


class _Refused(Exception):
    """The image is whole, but its values say too little."""


def _as_colour(image: Any, content: bytes) -> Any:
    turn = _turn(image)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        image = Image.fromarray((np.asarray(image).astype(np.int32) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise _Refused("of 32 bits, whose range is not known: save it with 8 or 16")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        colours = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, colours)
    image = image.convert("RGB")
    return image if turn is None else image.transpose(turn)


def _as_classes(image: Any, content: bytes) -> np.ndarray:
    turn = _turn(image)
    is_grey = image.mode in ("1", "L", "I") or image.mode.startswith("I;16")
    if image.mode != "P" and not is_grey:
        raise _Refused(f"a mask must be a palette or grey PNG, not {image.mode}")
    if turn is not None:
        image = image.transpose(turn)
    values = np.array(image).astype(np.int32)
    depth = content[24]  # Pillow spreads greys of 2 and 4 bits over 0 to 255
    return values // (255 // (2**depth - 1)) if is_grey and depth in (2, 4) else values


def _turn(image: Any) -> Optional[Image.Transpose]:
    """What Pillow calls the turn that EXIF asks for; damaged EXIF asks for none."""
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION))
    except Exception:  # as many kinds as there are ways to damage it
        return None
