"""Turns an image file of any kind into the bytes of a record."""

import io
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

from data.conversion.plan import BadFileError, Encoded

EXTENSIONS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")
# 2**26 pixels are 200 MB as RGB: with one such image in every worker, memory stays bounded.
MOST_PIXELS = 2**26
MOST_BYTES = 2**28
# TensorFlow's decoder refuses the other kinds of JPEG: 12-bit, arithmetic-coded, lossless.
_JPEG_FRAMES_KEPT = (0xC0, 0xC1, 0xC2)
_JPEG_END = b"\xff\xd9"
_PNG_BIT_DEPTH_AT = 24
_PNG_END = b"IEND\xaeB`\x82"
# In an MPO file, phones append a second picture (a preview or a depth map) to the JPEG that every decoder shows.
_JPEGS = ("JPEG", "MPO")
_ORIENTATION = 0x0112  # The EXIF tag; its values 2 to 8 say how the camera was held.
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Re-encoding a JPEG turned upright changes a photograph by 0.6 of 255, at 1.7 times its size. A PNG takes 7 times.
_QUALITY_OF_TURNED = 95


def encode_for_records(data, other_format="png", upright=False):
    """Keeps a JPEG or plain RGB PNG unchanged; turns any other image into an RGB file.

    Alpha is dropped, not blended, and 16-bit values lose the lower 8 bits. TensorFlow's own decoder does the same, so
    an image looks the same from a record as from its file. Of an animation, only the first picture is kept.

    Args:
      data: The bytes of the file.
      other_format: "png", or "jpeg" as in Slim's ImageNet records (quality 100).
      upright: Whether to turn a picture as its EXIF orientation says, which TensorFlow's decoder ignores; a JPEG that
        has to be turned is re-encoded.
    Returns:
      Encoded; its format is jpg or png.
    Raises:
      BadFileError: If the bytes are not a complete image.
    """
    if not data:
        raise BadFileError("the file is empty")
    try:
        # Warnings about broken EXIF data and the like, which pixels do not depend on, do not name the file.
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as image:
            return _encode_opened(image, data, other_format, upright)
    except UnidentifiedImageError:
        raise BadFileError(f"no image that can be read: {len(data)} bytes that begin with {data[:8]!r}") from None
    except MemoryError:
        raise
    except BadFileError:
        raise
    # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error and more for bad files.
    except Exception as error:
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        raise BadFileError(f"it does not decode ({first_line})") from None


def encode_pixels(pixels):
    """Encodes a uint8 array, [height, width] or [height, width, 3], as an Encoded PNG."""
    return _encode(Image.fromarray(pixels), "png")


def orientation_of(image):
    """The EXIF orientation of an opened image as Pillow loads it; 1 (upright) if none can be read.

    Raises whatever Pillow raises for a TIFF or PNG that does not decode.
    """
    # Loading turns a TIFF and removes the tag. Of a PNG, getexif loads the pixels too: outside of the try, since Pillow
    # tells of what does not decode only once.
    if image.format in ("PNG", "TIFF"):
        image.load()
    try:
        orientation = image.getexif().get(_ORIENTATION)
    # Pillow's parser may raise anything; a broken tag does not spoil the picture.
    except Exception:
        return 1
    return orientation if orientation in _TO_UPRIGHT else 1


def _encode_opened(image, data, other_format, upright):
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise BadFileError(f"{width}x{height} is more than {MOST_PIXELS} pixels: shrink it")
    is_jpeg = image.format in _JPEGS
    orientation = orientation_of(image) if upright else 1
    if orientation != 1:
        turned = _to_rgb(image.transpose(_TO_UPRIGHT[orientation]))
        return _encode(turned, "jpeg" if is_jpeg else other_format, _QUALITY_OF_TURNED)
    if is_jpeg and image.mode in ("RGB", "L") and _is_kept_jpeg(data):
        # Decoding to an eighth of the size still reads every code of the file, in two thirds of the time.
        image.draft(image.mode, (max(1, width // 8), max(1, height // 8)))
        image.load()
        return Encoded(data, "jpg", height, width)
    image.load()
    if image.mode == "RGB" and other_format == "png" and _is_kept_png(image, data):
        return Encoded(data, "png", height, width)
    return _encode(_to_rgb(image), other_format)


def _encode(image, image_format, quality=100):
    buffer = io.BytesIO()
    # The source's settings and profiles do not apply to the new pixels.
    image.info.clear()
    options = {"quality": quality, "subsampling": 0} if image_format == "jpeg" else {}
    image.save(buffer, image_format, **options)
    return Encoded(buffer.getvalue(), "jpg" if image_format == "jpeg" else "png", image.height, image.width)


def _to_rgb(image):
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise BadFileError(f"its pixels are 32-bit numbers of no known range (mode {image.mode}): save it with 8 bits")
    return image.convert("RGB")


def _is_kept_png(image, data):
    """Whether a PNG is plain, and has the end that TensorFlow's decoder insists on and Pillow does not."""
    is_plain = image.format == "PNG" and data[_PNG_BIT_DEPTH_AT] == 8 and getattr(image, "n_frames", 1) == 1
    return is_plain and "transparency" not in image.info and _PNG_END in data


def _is_kept_jpeg(data):
    """Whether TensorFlow decodes a JPEG as Pillow does: by its start-of-frame marker, and the end of its picture."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            is_kept = marker in _JPEG_FRAMES_KEPT and data[at + 4 : at + 5] == b"\x08"
            # The end of a thumbnail stands before this frame.
            return is_kept and _JPEG_END in data[at:]
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False
