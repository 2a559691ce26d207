"""Finds images and reads their pixels."""

import glob
import io
import os
import pathlib
import sys
import tempfile
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from command_line import UserError
from data.conversion.image_files import EXTENSIONS, MOST_BYTES, encode_for_records, orientation_of
from data.conversion.plan import BadFileError
from data.conversion.reading import list_files

STDIN = "-"


class ImageItem(NamedTuple):
    """One image to read.

    Attributes:
      name: Where it is: its path, or file and number of a record.
      data: The bytes of its file; None if they are to be read from the file `name`.
      label: Class number; None when not known.
      filename: Its name in a record (image/filename); None for files, and for records without one.
      upright: Whether to apply the camera's orientation: for files, as viewers do, but not for records, which hold what
        networks are trained on.
    """

    name: str
    data: bytes | None = None
    label: int | None = None
    filename: str | None = None
    upright: bool = True


def list_images(arguments, stdin=None):
    """Finds the images that a command line names, in its order.

    Args:
      arguments: Paths of files, whatever their ending; folders, for the images at any depth below them, hidden ones
        left out; glob patterns, in which ** crosses folders; "-" for standard input, which holds one image, or paths
        and patterns as text, one per line.
      stdin: A binary stream; sys.stdin's when None.

    Returns:
      A list of ImageItem. A path that does not exist stays in the list: reading it reports that.

    Raises:
      UserError: If a folder holds no image, a pattern matches nothing, or there is nothing on standard input.
    """
    items = []
    for argument in map(str, arguments):
        if argument == STDIN:
            items += _from_stdin((stdin or sys.stdin.buffer).read())
        elif os.path.isdir(argument):
            items += _in_folder(argument)
        elif not os.path.lexists(argument) and glob.has_magic(argument):
            items += _matching(argument)
        else:
            items.append(ImageItem(argument))
    return items


def _in_folder(folder):
    with tempfile.TemporaryDirectory() as scratch:  # Only archives are unpacked into it.
        found = [entry.name for entry in list_files(folder, scratch) if entry.name.lower().endswith(EXTENSIONS)]
    if not found:
        raise UserError(f"folder {folder} holds no image: expected files that end in {', '.join(EXTENSIONS)}")
    return [ImageItem(os.path.join(folder, name)) for name in found]


def _matching(pattern):
    found = sorted(glob.glob(pattern, recursive=True))
    items = [ImageItem(path) for path in found if os.path.isfile(path)]
    if not items:
        raise UserError(f"no file matches {pattern}: give other paths, or put the pattern into quotes")
    return items


def _from_stdin(data):
    if not data.strip():
        raise UserError("nothing on standard input: expected an image, or paths one a line")
    # No path has a zero byte, and almost every image file has one.
    if b"\0" in data or data.startswith((b"\xff\xd8", b"\x89PNG")):
        return [ImageItem(STDIN, data)]
    # File names need not be valid in any encoding.
    lines = [os.fsdecode(line.strip()) for line in data.split(b"\n")]
    return list_images([line for line in lines if line and line != STDIN])


def printable(name):
    """The name of a file as valid UTF-8: bytes that do not decode become \\xNN."""
    return os.fsencode(name).decode(errors="backslashreplace")


def read_pixels(item, channels=3):
    """Reads and decodes an image.

    Every kind of file becomes what it would be in a record: grey is copied to three channels, palettes are looked up,
    CMYK is converted to RGB, alpha is dropped, 16-bit values keep their upper 8 bits, animations their first frame.
    With four channels, alpha is the fourth, 255 if the file has none.

    Args:
      item: An ImageItem.
      channels: 3, 1 for the grey image, or 4.

    Returns:
      uint8 [height, width, channels].

    Raises:
      BadFileError: If it cannot be read or is not a complete image; its text is only the reason.
    """
    data = _bytes_of(item)
    # Even with four channels: this checks that the image is complete and readable.
    encoded = encode_for_records(data).encoded
    if channels == 4:
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image.convert("RGBA"))
    else:
        try:
            pixels = tf.io.decode_image(encoded, channels=channels, expand_animations=False).numpy()
        except tf.errors.InvalidArgumentError as error:
            raise BadFileError(f"TensorFlow does not decode it ({error.message.splitlines()[0]})") from None
    return _upright(pixels, data) if item.upright else pixels


def _bytes_of(item):
    if item.data is not None:
        return item.data
    path = pathlib.Path(item.name)
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise BadFileError(f"{size} bytes are too many for an image, {MOST_BYTES} are allowed")
        return path.read_bytes()
    except OSError as error:
        raise BadFileError(f"it cannot be read ({error.strerror})") from None


def _upright(pixels, data):
    """Turns and mirrors the pixels as the EXIF orientation says."""
    with Image.open(io.BytesIO(data)) as image:
        orientation = orientation_of(image)
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
